"""What the messages say: reads that never came, reads that came twice, wrong values, and how old each row was.

Devices are called d0, d1, … and point n of a device is tn, register holding n. So every row carries the device's
millisecond (t0, t1), the number of the read as the device counted it (t2) and its unit (t3).
"""

import json
from collections import defaultdict

from .devices import waves

# One row of this many is compared value by value.
CHECKED = 8
# A device works a wave out a little later than its millisecond, which it cuts off: no wave moves more than this in 2 ms.
TOLERANCE = 8
WRAP = 1 << 16


class Row:
    __slots__ = ("arrived", "device", "read", "age_ms")

    def __init__(self, arrived, device, read, age_ms):
        self.arrived, self.device, self.read, self.age_ms = arrived, device, read, age_ms


def is_telemetry(topic):
    """ThingsBoard's gateway also reports on itself, below `v1/devices/me`."""
    return topic.endswith("/telemetry") and not topic.startswith("v1/devices/me/")


def tables(body):
    """(device, {point: value}) for every row, of fieldgate's own dialect and of ThingsBoard's."""
    message = json.loads(body)
    if "devices" in message:
        for device, frames in message["devices"].items():
            for frame in frames:
                for n in range(len(frame["dt"])):
                    yield device, {point: column[n] for point, column in frame["v"].items()}
    else:
        for device, rows in message.items():
            for row in rows:
                yield device, row["values"]


class Judge:
    """Everything that arrived in the life of one gateway."""

    def __init__(self, messages, registers, start_ms, unit_of):
        self.rows, self.wrong, self.checked, self.unreadable = [], 0, 0, 0
        self.samples = []  # (arrival, how many)
        self.bodies = []  # (arrival, bytes of telemetry)
        for arrived, topic, body in messages:
            if not is_telemetry(topic):
                continue
            self.bodies.append((arrived, len(body)))
            try:
                rows = list(tables(body))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.unreadable += 1
                continue
            for name, values in rows:
                self.samples.append((arrived, sum(value is not None for value in values.values())))
                if values.get("t2") is None:
                    continue
                device, ms = int(name[1:]), int(values["t0"]) | int(values["t1"]) << 16
                self.rows.append(Row(arrived, device, int(values["t2"]), arrived - start_ms - ms))
                if len(self.rows) % CHECKED == 0:
                    self.check(values, registers, ms, unit_of(device))
        self.count_on()
        self.reads = defaultdict(lambda: defaultdict(int))
        for row in self.rows:
            self.reads[row.device][row.read] += 1

    def count_on(self):
        """Sixteen bits on the wire, any number of reads in a run: in the order in which they were read, not in which they
        came, because at full speed the counter is round in two seconds and a row from the disk may be older than that."""
        last = {}
        for row in sorted(self.rows, key=lambda row: row.arrived - row.age_ms):
            before = last.get(row.device, row.read)
            row.read = before + (row.read - before + WRAP // 2) % WRAP - WRAP // 2
            last[row.device] = max(before, row.read)

    def check(self, values, registers, ms, unit):
        self.checked += registers
        self.wrong += values["t3"] != unit
        for n, want in enumerate(waves(unit, registers, ms), start=4):
            got = values.get(f"t{n}")
            self.wrong += got is None or abs(got - want) > TOLERANCE

    def window(self, begin, end, devices):
        """Figures of what arrived from begin to end. A read counts as lost when it never came, in the window or later."""
        rows = [row for row in self.rows if begin <= row.arrived < end]
        ranges = defaultdict(list)
        for row in rows:
            ranges[row.device].append(row.read)
        expected = got = twice = 0
        for device, reads in ranges.items():
            low, high = min(reads), max(reads)
            expected += high - low + 1
            seen = [self.reads[device][read] for read in range(low, high + 1) if read in self.reads[device]]
            got += len(seen)
            twice += sum(times - 1 for times in seen)
        # A device from which nothing came at all has no range.
        silent = devices - len(ranges)
        ages = sorted(row.age_ms for row in rows)
        samples = sum(count for at, count in self.samples if begin <= at < end)
        bodies = [size for at, size in self.bodies if begin <= at < end]
        return {
            "rows": len(rows), "samples": samples, "messages": len(bodies), "silent_devices": silent,
            "lost_reads": expected - got, "duplicate_reads": twice,
            "complete": 0.0 if silent or not expected else got / expected,
            "age_ms": {name: quantile(ages, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
            "bytes_per_sample": sum(bodies) / samples if samples else None,
        }


def quantile(ordered, share):
    if not ordered:
        return None
    # A clock that is read to 0.2 ms may make a young row younger than nothing.
    return max(0.0, round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1))
