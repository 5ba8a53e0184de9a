"""The work to measure, and the figures of one gateway on it."""

import shutil
import time

from .clock import now_ms
from .devices import Devices
from .gateways import TARGET, Work
from .process import difference
from .rows import Judge, is_telemetry
from .sink import Sink

FIRST_ROW_S = 60
# What is still under way when a window closes arrives in this time, and is not taken for lost.
AFTER_S = 2


def w1(gateway, simulator, options):
    """Modbus TCP devices of n registers, polled every interval, into MQTT."""
    folder = fresh(gateway.name)
    devices = Devices(simulator, folder, tcp=options.devices)
    sink = Sink()
    work = Work(sink.address, options.registers, options.interval, addresses=devices.addresses)
    figures = measure(gateway, work, devices, sink, folder, options, registers=options.registers, unit_of=lambda device: 1)
    for window in figures["windows"]:
        window["on_time"] = window["rows"] * options.interval / 1000 / options.devices / window["seconds"]
    return figures


def w2(gateway, simulator, options):
    """One Modbus TCP device, asked as fast as it answers, into MQTT."""
    folder = fresh(gateway.name)
    devices = Devices(simulator, folder, tcp=1)
    sink = Sink()
    work = Work(sink.address, options.registers, 0, addresses=devices.addresses)
    figures = measure(gateway, work, devices, sink, folder, options, registers=options.registers, unit_of=lambda device: 1)
    for window in figures["windows"]:
        window["rows_per_s"] = window["rows"] / window["seconds"]
        window["cpu_us_per_row"] = window["cpu"] / window["rows"] * 1e6 if window["rows"] else None
    return figures


def w3(gateway, simulator, options):
    """Units on one serial line, asked as fast as the line goes."""
    folder = fresh(gateway.name)
    units = options.units
    devices = Devices(simulator, folder, units=units, baud=options.baud, parity=options.parity)
    sink = Sink()
    work = Work(sink.address, options.unit_registers, 0, line=devices.line, units=units, baud=options.baud, parity=options.parity)
    figures = measure(gateway, work, devices, sink, folder, options, registers=options.unit_registers, unit_of=lambda device: device + 1)
    ideal = read_ms(options.baud, options.parity, options.unit_registers)
    for window in figures["windows"]:
        window["line_used"] = window["rows"] * ideal / 1000 / window["seconds"]
    return figures | {"baud": options.baud, "read_ms": round(ideal, 3)}


def read_ms(baud, parity, registers):
    """The least time of one read: request, silence, answer, silence (Modbus over serial line 1.02, 2.5.1.1)."""
    character = (10 if parity == "none" else 11) * 1000 / baud
    silence = 1.75 if baud > 19_200 else 3.5 * character
    return (8 + 5 + 2 * registers) * character + 2 * silence


def measure(gateway, work, devices, sink, folder, options, registers, unit_of):
    process = None
    try:
        started = now_ms()
        process = gateway.start(work, folder)
        first = until_first_row(process, sink) - started
        time.sleep(options.settle)
        spans = []
        for _ in range(options.runs):
            before, begin = process.cost(), now_ms()
            time.sleep(options.seconds)
            process.assert_runs()
            spans.append((begin, now_ms(), difference(before, process.cost())))
        time.sleep(AFTER_S)
        peak = process.cost()["peak_kb"]
        process.stop()
        # What a gateway sends while it ends arrives before its connection closes; this is for the sink's thread.
        time.sleep(0.2)
    finally:
        if process:
            process.stop()
        served = devices.stop()
        sink.close()
    judge = Judge(sink.messages, registers, devices.start_ms, unit_of)
    windows = []
    for begin, end, spent in spans:
        window = judge.window(begin, end, work.devices)
        seconds = (end - begin) / 1000
        spent["cpu_s_per_million"] = spent["cpu"] / window["samples"] * 1e6 if window["samples"] else None
        windows.append({"seconds": round(seconds, 3), **window, **spent})
    reads = sum(unit["counter"] for line in served.values() for unit in line["units"].values())
    wires = [line["wire"] for line in served.values() if "wire" in line]
    return {
        "gateway": gateway.name, "version": gateway.version, "devices": work.devices, "registers": registers,
        "interval_ms": work.interval_ms, "first_row_ms": round(first), "peak_kb": peak,
        # Over the whole life: reads that the devices answered, and different ones of them that arrived.
        "reads_answered": reads, "reads_arrived": sum(len(numbers) for numbers in judge.reads.values()),
        "values_checked": judge.checked, "values_wrong": judge.wrong, "unreadable": judge.unreadable,
        **({"short_gaps": wires[0]["short_gaps"], "collisions": wires[0]["collisions"]} if wires else {}),
        "windows": windows,
    }


def until_first_row(process, sink):
    end = now_ms() + FIRST_ROW_S * 1000
    while now_ms() < end:
        process.assert_runs()
        for arrived, topic, _ in list(sink.messages):
            if is_telemetry(topic):
                return arrived
        time.sleep(0.05)
    raise RuntimeError(f"{process.name}: no telemetry within {FIRST_ROW_S} s; see {process.log}")


def fresh(name):
    """On the disk of the repository, because a memory file system would count no written bytes."""
    folder = (TARGET / "bench/state" / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


WORKS = {"W1": w1, "W2": w2, "W3": w3}
