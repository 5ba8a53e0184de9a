"""An independent Modbus RTU server (pymodbus) with many units on one paced pseudo-terminal line.

    pymodbus_rtu.py --units 10 --baud 19200 --dir DIR

Announces {"port": "DIR/master"}, the terminal for the side under test. Unit u holds 1000 * u + r in register r, except
that registers 0 and 1 are a 32-bit counter of the reads of register 0.
stdin: `silence U` and `speak U` take a unit off the bus and put it back; `stats` answers {"reads": {unit: n}, "writes": {unit: n}}.
"""
import argparse
import asyncio
import os
import subprocess
import sys

from pymodbus import FramerType
from pymodbus.datastore import ModbusServerContext
from pymodbus.datastore.context import ModbusBaseSlaveContext
from pymodbus.server import ModbusSerialServer

from common import obey, say


class Unit(ModbusBaseSlaveContext):
    def __init__(self, unit):
        self.unit, self.counter, self.reads, self.writes, self.written = unit, 0, 0, 0, {}

    def reset(self):
        self.counter = 0

    def holds(self, register):
        if register < 2:
            return (self.counter >> 16 if register == 0 else self.counter) & 0xFFFF
        return self.written.get(register, (1000 * self.unit + register) & 0xFFFF)

    def getValues(self, fc_as_hex, address, count=1):
        self.reads += 1
        if address == 0:
            self.counter += 1
        return [self.holds(r) for r in range(address, address + count)]

    def setValues(self, fc_as_hex, address, values):
        self.writes += 1
        for n, value in enumerate(values):
            self.written[address + n] = int(value)


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--units", type=int, default=10)
    p.add_argument("--baud", type=int, default=19200)
    p.add_argument("--dir", required=True)
    o = p.parse_args()
    master, slave = os.path.join(o.dir, "master"), os.path.join(o.dir, "slaves")
    here = os.path.dirname(os.path.abspath(__file__))
    line = subprocess.Popen(
        [sys.executable, os.path.join(here, "line.py"), "--baud", str(o.baud), master, slave], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    line.stdout.readline()  # both terminals exist now
    units = {u: Unit(u) for u in range(1, o.units + 1)}
    context = ModbusServerContext(slaves=dict(units), single=False)
    server = ModbusSerialServer(context, framer=FramerType.RTU, port=slave, baudrate=o.baud, ignore_missing_slaves=True)
    await server.listen()

    def handle(words):
        if words[0] == "silence":
            del context[int(words[1])]
        elif words[0] == "speak":
            context[int(words[1])] = units[int(words[1])]
        elif words[0] != "stats":
            raise ValueError(f"no such command: {words[0]}")
        return {"reads": {str(u): s.reads for u, s in units.items()}, "writes": {str(u): s.writes for u, s in units.items()}}

    say(port=master)
    obey(handle)
    await asyncio.Event().wait()


asyncio.run(main())
