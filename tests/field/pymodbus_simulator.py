"""pymodbus's simulator as a Modbus TCP device with addresses that it refuses.

    pymodbus_simulator.py --registers 200 --invalid 20-29,50,100-119

Announces {"port": n}. Holding register r holds 10000 + r; a read that touches an invalid one is refused with exception 2.
stdin: `stats` answers {"requests": n, "refused": n}.
"""
import argparse
import asyncio

from pymodbus.datastore import ModbusServerContext, ModbusSimulatorContext
from pymodbus.server import ModbusTcpServer

from common import obey, say


class Counting(ModbusSimulatorContext):
    requests = refused = 0

    def validate(self, func_code, address, count=1):
        valid = super().validate(func_code, address, count)
        self.requests += 1
        self.refused += not valid
        return valid


def ranges(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield int(first), int(last or first)


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--registers", type=int, default=200)
    p.add_argument("--invalid", type=ranges, default=())
    o = p.parse_args()
    invalid = [list(r) for r in o.invalid]
    defaults = {"value": {"bits": 0, "uint16": 0, "uint32": 0, "float32": 0.0, "string": " "},
                "action": {"bits": None, "uint16": None, "uint32": None, "float32": None, "string": None}}
    setup = {"co size": o.registers, "di size": o.registers, "hr size": o.registers, "ir size": o.registers, "shared blocks": True,
             "type exception": False, "defaults": defaults}
    bad = {r for first, last in invalid for r in range(first, last + 1)}
    valid = [{"addr": r, "value": 10000 + r} for r in range(o.registers) if r not in bad]
    device = Counting({"setup": setup, "invalid": invalid, "write": [], "bits": [], "uint16": valid, "uint32": [], "float32": [],
                       "string": [], "repeat": []}, None)
    server = ModbusTcpServer(ModbusServerContext(slaves=device, single=True), address=(o.host, 0))
    await server.listen()

    def handle(words):
        if words[0] != "stats":
            raise ValueError(f"no such command: {words[0]}")
        return {"requests": device.requests, "refused": device.refused}

    say(port=server.transport.sockets[0].getsockname()[1])
    obey(handle)
    await asyncio.Event().wait()


asyncio.run(main())
