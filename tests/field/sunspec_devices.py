"""SunSpec devices on Modbus TCP (pymodbus): one per base that is named, each on a port of its own.

    sunspec_devices.py --bases 40000,50000

Announces {"ports": [...]}. A device has the common model, a three-phase inverter (103), two inputs (160), a model that
nobody knows (64999) and a meter (203), encoded from the published models. Outside its chain it answers exception 2.
stdin: `scale N -2` sets the inverter's scale factor of power on device N (the power stays), `become N SERIAL` makes it
another device whose chain lies at 0, `stats` answers {"reads": [[start, count], ...] of each device}.
"""
import argparse
import asyncio

from pymodbus.datastore import ModbusServerContext
from pymodbus.datastore.context import ModbusBaseSlaveContext
from pymodbus.server import ModbusTcpServer

from common import obey, say

NO = {"u16": 0xFFFF, "i16": 0x8000}


def text(what, words):
    data = what.encode().ljust(words * 2, b"\0")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, words * 2, 2)]


def signed(n):
    return n & 0xFFFF


def common(serial):
    return text("Acme", 16) + text("Sun 5", 16) + text("", 8) + text("1.2", 8) + text(serial, 16) + [1, NO["i16"]]


def inverter(watts, scale):
    """Model 103, length 50: current, voltages, power, frequency, energy, temperatures, state."""
    raw = round(watts / 10**scale)
    m = [NO["u16"]] * 50
    m[0:5] = [1002, 334, 334, 334, signed(-2)]
    m[8:12] = [2301, 2302, 2299, signed(-1)]
    m[12:14] = [signed(raw), signed(scale)]
    m[14:16] = [5001, signed(-2)]
    m[16:22] = [NO["i16"]] * 6
    m[22:25] = [0x0001, 0xE240, 0]  # 123456 Wh
    m[31:36] = [412, NO["i16"], NO["i16"], NO["i16"], signed(-1)]
    m[36] = 4
    m[38:50] = [0] * 12
    return m


def inputs():
    """Model 160, length 48: two modules of 20."""
    m = [signed(-2), signed(-1), 0, 0, 0, 0, 2, NO["u16"]]
    for n in (1, 2):
        m += [n] + text(f"PV{n}", 8) + [500 + n, 6100 + n, 3000 + n, 0, 7000 + n, 0, 1, NO["i16"], 4, 0, 0]
    return m


def meter():
    """Model 203, length 105: power and imported energy, the rest not implemented."""
    m = [NO["i16"]] * 105
    m[14:16] = [5000, signed(-2)]
    m[16:21] = [signed(-1234), signed(-400), signed(-400), signed(-434), 0]
    for at in range(36, 52):
        m[at] = 0
    m[44:46] = [0x0010, 0x0000]  # 1048576 Wh imported
    m[52] = 0
    return m


class SunSpec(ModbusBaseSlaveContext):
    """The registers of one device."""

    def __init__(self, base):
        self.base, self.serial, self.watts, self.scale, self.reads = base, f"SN{base}", 2301.2, -1, []

    def reset(self):
        self.reads = []

    def registers(self):
        models = [(1, common(self.serial)), (103, inverter(self.watts, self.scale)), (160, inputs()), (64999, [7] * 5), (203, meter())]
        words = [0x5375, 0x6E53]
        for number, content in models:
            words += [number, len(content)] + content
        return words + [0xFFFF, 0]

    def getValues(self, fc_as_hex, address, count=1):
        self.reads.append([address, count])
        held = self.registers()
        if fc_as_hex != 3 or address < self.base or address + count > self.base + len(held):
            return 2
        return held[address - self.base : address - self.base + count]

    def setValues(self, fc_as_hex, address, values):
        raise ValueError("nobody writes here")


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--bases", required=True)
    o = p.parse_args()
    devices = [SunSpec(int(base)) for base in o.bases.split(",")]
    ports = []
    for device in devices:
        server = ModbusTcpServer(ModbusServerContext(slaves=device, single=True), address=(o.host, 0))
        await server.listen()
        ports.append(server.transport.sockets[0].getsockname()[1])

    def handle(words):
        if words[0] == "scale":
            devices[int(words[1])].scale = int(words[2])
            return {"ok": True}
        if words[0] == "become":
            device = devices[int(words[1])]
            device.serial, device.base = words[2], 0
            return {"ok": True}
        if words[0] == "stats":
            return {"reads": [d.reads for d in devices]}
        raise ValueError(f"no such command: {words[0]}")

    say(ports=ports)
    obey(handle)
    await asyncio.Event().wait()


asyncio.run(main())
