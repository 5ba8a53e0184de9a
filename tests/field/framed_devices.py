"""Devices that send text: a scale on a pseudo-terminal and on TCP, and a weather station that speaks by itself.

    framed_devices.py --host 127.0.0.1 --dir DIR

Announces {"servers": [{"name": "scale", "path": ...}, {"name": "weather", "path": ...}, {"name": "box", "port": ...}]}.
The scale and the box answer `SI` by MT-SICS with a weight that counts up from 1, and `Z` by `Z A`, which sets it to 0. The
weather station says an NMEA sentence every 100 ms with a speed that counts up. 666 is said only by what must not be
believed: an answer that comes too late, a sentence whose checksum is wrong.

stdin: `mode NAME MODE`, `stats NAME`. Both answer {"name", "mode", "requests", "writes", "faults"}.
Modes:
  ok       answers at once, in two pieces
  late     weighs 666, and says so 2.4 s after the request; the next request waits until then
  garbled  an answer cut short; the weather station: a wrong checksum on every second sentence, and noise between them
  echo     the request comes back before the answer
  silent   says nothing
  refuse   `S I` and `Z I`
"""
import argparse
import functools
import os
import pty
import select
import socket
import threading
import time
import tty

from common import obey, say

LATE = 2.4  # later than any timeout is raised to by itself


class Device:
    def __init__(self, name):
        self.name, self.mode = name, "ok"
        self.requests = self.writes = self.faults = 0
        self.count = 0
        self.buffer = b""

    def stats(self):
        counters = {"requests": self.requests, "writes": self.writes, "faults": self.faults}
        return {"name": self.name, "mode": self.mode, **counters}

    def hear(self, data, send):
        """Takes what came; calls send with each piece of an answer, in time."""
        self.buffer += data
        while b"\r\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            self.requests += 1
            for after, piece in self.answer(line):
                time.sleep(after)
                send(piece)

    def answer(self, line):
        if self.mode != "ok":
            self.faults += 1
        if self.mode == "silent":
            return []
        echo = [(0, line + b"\r\n")] if self.mode == "echo" else []
        if line == b"Z":
            self.writes += 1
            if self.mode == "refuse":
                return [(0, b"Z I\r\n")]
            self.count = 0
            return echo + [(0, b"Z A\r\n")]
        if line != b"SI":
            return [(0, b"ES\r\n")]
        if self.mode == "refuse":
            return [(0, b"S I\r\n")]
        if self.mode == "late":
            return [(LATE, b"S S     666.00 g\r\n")]
        self.count += 1
        weight = b"S S %10.2f g\r\n" % self.count
        if self.mode == "garbled":
            return [(0, weight[:9])]
        return echo + [(0.01, weight[:7]), (0.01, weight[7:])]


class Weather(Device):
    def speak(self, send):
        while True:
            time.sleep(0.1)
            if self.mode == "silent":
                continue
            self.count += 1
            if self.mode == "garbled":
                self.faults += 1
                send(b"\xfe\x00$WIM" + sentence(666, 1) + b"noise")
            send(sentence(self.count, 0))


def sentence(speed, wrong):
    body = b"WIMWV,39,R,%d.0,M,A" % speed
    checksum = functools.reduce(lambda x, b: x ^ b, body) ^ wrong
    return b"$%s*%02X\r\n" % (body, checksum)


def terminal(path):
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    os.symlink(os.ttyname(slave), path)
    return master, slave  # the slave stays open here, so a client's close is no hang-up


def on_terminal(device, master):
    os.set_blocking(master, False)

    def send(data):
        try:
            os.write(master, data)
        except OSError:
            pass  # nobody reads there and the terminal is full: lost, as on a wire

    if isinstance(device, Weather):
        threading.Thread(target=device.speak, args=(send,), daemon=True).start()
    while True:
        select.select([master], [], [])
        try:
            device.hear(os.read(master, 4096), send)
        except OSError:
            time.sleep(0.05)


def on_tcp(device, listener):
    while True:
        client, _ = listener.accept()
        try:
            while data := client.recv(4096):
                device.hear(data, client.sendall)
        except OSError:
            pass
        client.close()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--dir", required=True)
    o = p.parse_args()
    devices = {"scale": Device("scale"), "weather": Weather("weather"), "box": Device("box")}
    servers, kept = [], []
    for name in ["scale", "weather"]:
        path = os.path.join(o.dir, name)
        ends = terminal(path)
        kept.append(ends)
        servers.append({"name": name, "path": path})
        threading.Thread(target=on_terminal, args=(devices[name], ends[0]), daemon=True).start()
    listener = socket.create_server((o.host, 0))
    servers.append({"name": "box", "port": listener.getsockname()[1]})
    say(servers=servers)

    def handle(words):
        device = devices[words[1]]
        if words[0] == "mode":
            device.mode = words[2]
        elif words[0] != "stats":
            return {"error": f"no command {words[0]}"}
        return device.stats()

    obey(handle)
    on_tcp(devices["box"], listener)
