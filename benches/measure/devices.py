"""The devices: `fieldgate simulate`, its clock, and the values that it must have answered with."""

import json
import math
import os
import socket
import subprocess
from pathlib import Path

from .clock import now_ms
from .process import Process

SEED = 7
MASK = (1 << 64) - 1


class Devices:
    """Modbus TCP: one listener each, unit 1. Modbus RTU: one line with units 1 to n."""

    def __init__(self, program, folder, tcp=0, units=1, baud=None, parity=None):
        argv = [program, "simulate", "--json", "--seed", SEED, "--units", f"1-{units}"]
        # A serial line has a TCP listener beside it, only to read the clock.
        argv += ["--tcp", f"{own_host()}:0"] * (tcp or 1)
        self.line = Path(folder) / "line"
        if baud:
            argv += ["--rtu", self.line, "--baud", baud, "--parity", parity]
        self.process = Process("fieldgate simulate", argv, Path(folder) / "devices.log", output=subprocess.PIPE,
                               prepare=on_time if baud else None)
        started = self.process.popen.stdout.readline()
        if not started:
            self.process.assert_runs()
        self.addresses = json.loads(started)["tcp"]
        self.start_ms = max(clock(address) for address in (self.addresses[0], self.addresses[-1]))

    def stop(self):
        """How often the read counter of each unit of each line was read, as {address: {unit: count}}."""
        said = self.process.popen.stdout
        self.process.stop()
        counters = said.read().strip()
        if not counters:
            return {}
        lines = json.loads(counters)["lines"]
        return {line["address"]: line for line in lines}


def own_host():
    """An address of this run alone: a gateway of somebody else that goes on asking for a port that it once had would
    make reads of its own, and these would look like lost ones."""
    return f"127.{os.getpid() >> 16 & 63 | 64}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"


def on_time():
    """A bus keeps its own time: where that is permitted, the simulated one is not kept waiting by the gateway."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except PermissionError:
        pass


def clock(address):
    """When a device started, in milliseconds of our clock, to 0.2 ms or so: its holding 0 and 1 count from there."""
    host, port = address.rsplit(":", 1)
    latest, earliest = math.inf, -math.inf
    with socket.create_connection((host, int(port)), 5) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(100):
            asked = now_ms()
            stream.sendall(bytes((0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2)))
            reply = stream.recv(64)
            answered = now_ms()
            ms = int.from_bytes(reply[9:11], "big") | int.from_bytes(reply[11:13], "big") << 16
            # The device's clock showed ms somewhere between the two, and not yet ms + 1.
            latest, earliest = min(latest, answered - ms), max(earliest, asked - ms - 1)
    return (latest + earliest) / 2


def waves(unit, registers, ms):
    """Holding 4 on, as they are at a time: see src/cli/simulate/unit.rs."""
    seed = mixed(SEED ^ unit << 56)
    values = []
    for address in range(4, registers):
        phase = math.tau * (mixed((seed + address) & MASK) >> 11) / (1 << 53)
        values.append(int(32768 + 32000 * math.sin(math.tau * ms / 1000 / (60 + address) + phase)))
    return values


def mixed(seed):
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31
