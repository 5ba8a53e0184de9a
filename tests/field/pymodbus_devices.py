"""N independent Modbus TCP servers (pymodbus) in one process, which write down what they held at every read.

    pymodbus_devices.py --devices 50 --log reads.jsonl

Announces {"ports": [...]}. Holding and input registers are the same: 0 and 1 are a 32-bit counter (high word first)
that grows by one per read of register 0, and register r of device d holds (d * 7919 + r * 31 + counter * 17) mod 65536,
so every read has other values and a value of the wrong device, register or read is recognisable. Each read of
register 0 is a line {"device", "counter", "start", "values", "at_ms"} in the log. Written registers keep what was written.
stdin: `stats` answers {"reads", "writes", "written": {device: {register: value}}}; `journal` answers {"journal": [{"device",
"function", "address", "values", "at_ms"}, …]}, every write in order; `part DEVICE` closes the connections of a device.
"""
import argparse
import asyncio
import json
import time

from pymodbus.datastore import ModbusServerContext
from pymodbus.datastore.context import ModbusBaseSlaveContext
from pymodbus.server import ModbusTcpServer

from common import obey, say


class Registers(ModbusBaseSlaveContext):
    """The registers of one device."""

    def __init__(self, device, log):
        self.device, self.log = device, log
        self.counter, self.reads, self.writes, self.written = 0, 0, 0, {}
        self.journal = []

    def reset(self):
        self.counter = 0

    def holds(self, register):
        if register in self.written:
            return self.written[register]
        if register < 2:
            return (self.counter >> 16 if register == 0 else self.counter) & 0xFFFF
        return (self.device * 7919 + register * 31 + self.counter * 17) & 0xFFFF

    def getValues(self, fc_as_hex, address, count=1):
        if address == 0:
            self.counter += 1
        self.reads += 1
        values = [self.holds(r) for r in range(address, address + count)]
        if fc_as_hex in (1, 2):
            return [bool(v & 1) for v in values]
        if address == 0:
            entry = {"device": self.device, "counter": self.counter, "start": address, "values": values, "at_ms": int(time.time() * 1000)}
            self.log.write(json.dumps(entry) + "\n")
        return values

    def setValues(self, fc_as_hex, address, values):
        self.writes += 1
        entry = {"device": self.device, "function": fc_as_hex, "address": address, "values": [int(v) for v in values]}
        self.journal.append({**entry, "at_ms": int(time.time() * 1000)})
        for n, value in enumerate(values):
            self.written[address + n] = int(value)


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--devices", type=int, default=1)
    p.add_argument("--log", required=True)
    o = p.parse_args()
    log = open(o.log, "w", buffering=1)
    devices = [Registers(d, log) for d in range(o.devices)]
    ports, servers = [], []
    for device in devices:
        server = ModbusTcpServer(ModbusServerContext(slaves=device, single=True), address=(o.host, 0))
        await server.listen()
        servers.append(server)
        ports.append(server.transport.sockets[0].getsockname()[1])

    loop = asyncio.get_running_loop()

    def handle(words):
        if words[0] == "stats":
            return {
                "reads": sum(d.reads for d in devices),
                "writes": sum(d.writes for d in devices),
                "written": {str(d.device): {str(r): v for r, v in d.written.items()} for d in devices if d.written},
            }
        if words[0] == "journal":
            return {"journal": sorted((e for d in devices for e in d.journal), key=lambda e: e["at_ms"])}
        if words[0] == "part":
            for connection in list(servers[int(words[1])].active_connections.values()):
                loop.call_soon_threadsafe(connection.close)  # closed from this thread, the loop would sleep on and send no FIN
            return {}
        raise ValueError(f"no such command: {words[0]}")

    say(ports=ports)
    obey(handle)
    await asyncio.Event().wait()


asyncio.run(main())
