#!/usr/bin/env python3
"""Sets the clock of this machine under the real fieldgate, while it polls and judges.

    tests/disk/clockstep.py [--seconds 8]

1. The clock is synchronised (the kernel is told so), then steps by a year, forth and back and right again: no device
   changes its state, no read is lost, every message carries an offset within 100 ms of the truth.
2. A machine without a battery: the clock says 2016 and nobody synchronised it when fieldgate starts; then it is set. No device
   changes its state but once to online, no read is lost, and with the offset that the clock event tells every row lies
   within 100 ms of the truth.

THE WHOLE MACHINE HAS A WRONG CLOCK FOR A MINUTE. It is put right at the end by the clock that nobody sets. Set FIELDGATE_MAY_SET_CLOCK=1
to allow it. FIELDGATE names the binary (target/release/fieldgate). Needs root and the environment of tests/run --setup.
Exit 0: passed, 1: not, 2: skipped, with the reason."""

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "benches")]

from judge import Judge  # noqa: E402
from measure.clock import now_ms  # noqa: E402
from measure.sink import Sink  # noqa: E402
from powercut import DEVICES, Failed, Gateway, field_servers, wait  # noqa: E402

YEAR_S, CLOSE_MS = 365 * 86_400, 100
STA_UNSYNC, ADJ_MAXERROR, ADJ_ESTERROR, ADJ_STATUS = 0x40, 0x4, 0x8, 0x10


class Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is set here."""
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
                ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long), ("rest", ctypes.c_char * 256)]


def adjtimex(modes, status):
    state = Timex(modes=modes, status=status, maxerror=1000, esterror=500)
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")


def offset_ms():
    return time.time() * 1000 - now_ms()


class Clock:
    """The machine's, with what it was when this began."""

    def __init__(self):
        self.truth = offset_ms()

    def synchronised(self):
        adjtimex(ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR, 0)

    def shifted(self, seconds):
        """Nobody vouches for a clock that was set."""
        time.clock_settime(time.CLOCK_REALTIME, (self.truth + now_ms()) / 1000 + seconds)
        adjtimex(ADJ_STATUS, STA_UNSYNC)

    def right(self):
        self.shifted(0)
        self.synchronised()


class Stage:
    """One data directory, its gateway, and what the cloud got."""

    def __init__(self, folder, ports):
        folder.mkdir()
        self.sink = Sink()
        self.gateway = Gateway(folder, folder / "data", ports, self.sink.port)
        self.gateway.start()

    def messages(self):
        for arrived, topic, body in list(self.sink.messages):
            if topic.rsplit("/", 1)[-1] in ("telemetry", "event"):
                yield arrived, json.loads(body)

    def events(self, kind):
        return [event for _, message in self.messages() for event in message.get("events", ()) if event["type"] == kind]

    def until_all_online(self):
        online = lambda: {e["device"] for e in self.events("status") if e["state"] == "online"}  # noqa: E731
        wait(lambda: len(online()) == DEVICES, self.gateway, lambda: f"only {online()} came online")

    def run_for(self, seconds):
        end = now_ms() + seconds * 1000
        while now_ms() < end:
            self.gateway.assert_runs()
            time.sleep(0.1)

    def end(self):
        self.gateway.popen.terminate()
        self.gateway.popen.wait()
        self.sink.close()


def lost(messages, log, since_ms):
    """Reads of the servers' log that the cloud does not have: all but those of the last second are to be there."""
    judge = Judge()
    for _, topic, body in messages:
        judge.take(topic, body)
    reads = [json.loads(line) for line in log.read_text().splitlines()]
    newest = {d: max((c for device, c in judge.reads if device == f"d{d}"), default=0) for d in range(DEVICES)}
    oldest = {d: min((c for device, c in judge.reads if device == f"d{d}"), default=0) for d in range(DEVICES)}
    expected = {(f"d{r['device']}", r["counter"]) for r in reads if oldest[r["device"]] <= r["counter"] <= newest[r["device"]]}
    if not expected or min(newest.values()) < since_ms:
        raise Failed(f"too few reads arrived: {newest}")
    return len(expected), expected - judge.reads


def stepped(clock, folder, ports, log, seconds):
    clock.right()
    stage = Stage(folder, ports)
    try:
        stage.until_all_online()
        before = len(stage.events("status"))
        for shift in (YEAR_S, -YEAR_S, 0):
            clock.shifted(shift)
            stage.run_for(seconds)
        clock.right()
        stage.run_for(seconds)
        stage.end()
        after = stage.events("status")[before:]
        off = [m["clock"]["offset_ms"] - clock.truth for _, m in stage.messages()]
        total, missing = lost(stage.sink.messages, log, 3 * seconds)
    finally:
        clock.right()
        stage.gateway.kill()
    print(f"a year forth and back: {total} reads, {len(missing)} lost; {len(after)} changes of state; "
          f"offsets {min(off):.0f} to {max(off):.0f} ms from the truth in {len(off)} messages", flush=True)
    return not missing and not after and max(map(abs, off)) <= CLOSE_MS


def without_battery(clock, folder, ports, log, seconds):
    clock.shifted(time.mktime((2016, 1, 1, 0, 0, 0, 0, 0, 0)) - time.time())
    stage = None
    try:
        stage = Stage(folder, ports)
        stage.until_all_online()
        stage.run_for(seconds)
        guessed = [m["clock"] for _, m in stage.messages()]
        clock.right()
        stage.run_for(seconds)
        stage.end()
        changes = [e for e in stage.events("status") if e["state"] != "online"]
        told = [e for e in stage.events("clock")][-1:]
        last = [m["clock"] for _, m in stage.messages()][-1]
        total, missing = lost(stage.sink.messages, log, 2 * seconds)
    finally:
        clock.right()
        if stage:
            stage.gateway.kill()
    off = last["offset_ms"] - clock.truth
    print(f"2016 at the start: {total} reads, {len(missing)} lost; {len(changes)} changes beside coming online; first said "
          f"{guessed[0]['quality']}, then {last['quality']}, {off:.0f} ms from the truth; told by {told}", flush=True)
    never = all(g["quality"] != "synchronised" for g in guessed)
    return never and not missing and not changes and told and last["quality"] == "synchronised" and abs(off) <= CLOSE_MS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    if os.geteuid() != 0 or os.environ.get("FIELDGATE_MAY_SET_CLOCK") != "1":
        print("clockstep: skipped: it sets the clock of the machine; needs root and FIELDGATE_MAY_SET_CLOCK=1")
        return 2
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        server, ports, log = field_servers(Path(folder))
        try:
            good = [stage(clock, Path(folder) / stage.__name__, ports, log, options.seconds) for stage in (stepped, without_battery)]
        except Failed as error:
            print(f"clockstep: {error}")
            good = [False]
        finally:
            clock.right()
            server.kill()
            server.wait()
    print(f"clock steps: {'PASS' if all(good) else 'FAIL'}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
