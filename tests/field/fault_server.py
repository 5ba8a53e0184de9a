"""Modbus servers that misbehave on purpose, with framing code of their own (no library, so no library's politeness).

    fault_server.py --tcp 3 --pty 2 --timeout-ms 300 --dir DIR

Announces {"servers": [{"name": "tcp0", "port": 40123}, {"name": "pty0", "path": "DIR/pty0"}, ...]}. Register r of every
table holds 10000 + r until it is written, so a value in the wrong place is recognisable; coils hold r mod 2.

stdin: `mode NAME MODE`, `stats NAME`. Both answer {"name", "mode", "requests", "reads", "writes", "faults", "written"}.
Modes:
  ok            answers at once
  always-late   answers 30 ms after the client's timeout, every time
  sometimes-late  1 % of the answers come up to 610 ms after the client's timeout
  wrong-unit, wrong-function, short, long, bad-crc (on TCP: a foreign protocol id), wrong-tid (TCP; on a pty as wrong-unit)
  noise         three bytes of noise, then the right answer;  burst: forty bytes of noise, then the right answer
  echo          the request comes back before the answer, as from an echoing RS-485 adapter
  silent        never answers, writes are not executed
  mute          executes writes, answers nothing
  refuse        exception 2
  slow N        answers right after N ms
"""
import argparse
import os
import pty
import random
import select
import socket
import struct
import threading
import time
import tty

from common import obey, say


def crc16(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


class Server:
    """One misbehaving device: its registers, its mode and its counters. The transports call `reply`."""

    def __init__(self, name, timeout_ms, seed):
        self.name, self.timeout, self.random = name, timeout_ms / 1000, random.Random(seed)
        self.mode, self.argument = "ok", 0.0
        self.requests = self.reads = self.writes = self.faults = 0
        self.written = {}

    def stats(self):
        written = {str(r) if isinstance(r, int) else f"coil {r[1]}": v for r, v in self.written.items()}
        counters = {"requests": self.requests, "reads": self.reads, "writes": self.writes, "faults": self.faults}
        return {"name": self.name, "mode": self.mode, **counters, "written": written}

    def set_mode(self, words):
        self.mode = words[0]
        self.argument = float(words[1]) if len(words) > 1 else 0.0

    def register(self, r):
        return self.written.get(r, (10000 + r) & 0xFFFF)

    def execute(self, pdu):
        """The honest answer to a request."""
        function = pdu[0]
        if function in (1, 2):
            start, count = struct.unpack(">HH", pdu[1:5])
            self.reads += 1
            bits = bytearray((count + 7) // 8)
            for n in range(count):
                bits[n // 8] |= (self.written.get(("coil", start + n), (start + n) % 2)) << (n % 8)
            return bytes([function, len(bits)]) + bytes(bits)
        if function in (3, 4):
            start, count = struct.unpack(">HH", pdu[1:5])
            self.reads += 1
            return bytes([function, 2 * count]) + b"".join(struct.pack(">H", self.register(start + n)) for n in range(count))
        if self.mode == "silent":
            return b""
        start = struct.unpack(">H", pdu[1:3])[0]
        if function == 5:
            self.writes += 1
            self.written[("coil", start)] = int(pdu[3] == 0xFF)
            return pdu
        if function == 6:
            self.writes += 1
            self.written[start] = struct.unpack(">H", pdu[3:5])[0]
            return pdu
        if function == 16:
            self.writes += 1
            count = struct.unpack(">H", pdu[3:5])[0]
            for n in range(count):
                self.written[start + n] = struct.unpack(">H", pdu[6 + 2 * n : 8 + 2 * n])[0]
            return pdu[:5]
        if function == 15:
            self.writes += 1
            count = struct.unpack(">H", pdu[3:5])[0]
            for n in range(count):
                self.written[("coil", start + n)] = (pdu[6 + n // 8] >> (n % 8)) & 1
            return pdu[:5]
        return bytes([function | 0x80, 1])

    def delay(self):
        if self.mode == "always-late":
            return self.timeout + 0.030
        if self.mode == "sometimes-late" and self.random.random() < 0.01:
            return self.timeout + self.random.random() * 0.610
        if self.mode == "slow":
            return self.argument / 1000
        return 0.0

    def answer(self, unit, pdu):
        """(unit, pdu, seconds to wait) as this mode distorts it; pdu None: no answer."""
        self.requests += 1
        good, wait, mode = self.execute(pdu), self.delay(), self.mode
        if wait or mode not in ("ok", "slow", "sometimes-late"):
            self.faults += 1
        if mode in ("silent", "mute"):
            return unit, None, 0.0
        if mode == "refuse":
            return unit, bytes([pdu[0] | 0x80, 2]), 0.0
        if mode == "wrong-unit":
            return (unit % 247) + 1, good, 0.0
        if mode == "wrong-function":
            other = {1: 2, 2: 1, 3: 4, 4: 3}.get(pdu[0], 3)
            return unit, bytes([other]) + good[1:], 0.0
        if mode == "short" and pdu[0] in (3, 4):
            return unit, bytes([good[0], good[1] - 2]) + good[2:-2], 0.0
        if mode == "long" and pdu[0] in (3, 4):
            return unit, bytes([good[0], good[1] + 2]) + good[2:] + b"\x12\x34", 0.0
        return unit, good, wait


def serve_tcp(server, listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=tcp_client, args=(server, connection), daemon=True).start()


def tcp_client(server, connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer, due = b"", []  # due: answers that wait for their moment, so that a late one overlaps the next request
    connection.setblocking(False)
    while True:
        wait = max(0.0, min(d[0] for d in due) - time.monotonic()) if due else None
        readable = select.select([connection], [], [], wait)[0]
        now = time.monotonic()
        try:
            for at, frame in sorted(due):
                if at <= now:
                    connection.sendall(frame)
            due = [d for d in due if d[0] > now]
            if not readable:
                continue
            data = connection.recv(4096)
        except OSError:
            data = b""
        if not data:
            connection.close()
            return
        buffer += data
        while len(buffer) >= 8:
            tid, _, length, unit = struct.unpack(">HHHB", buffer[:7])
            if len(buffer) < 6 + length:
                break
            pdu, buffer = buffer[7 : 6 + length], buffer[6 + length :]
            unit, reply, delay = server.answer(unit, pdu)
            if reply is None:
                continue
            protocol = 0x4242 if server.mode == "bad-crc" else 0
            tid = (tid + 7) & 0xFFFF if server.mode == "wrong-tid" else tid
            frame = struct.pack(">HHHB", tid, protocol, len(reply) + 1, unit) + reply
            if server.mode in ("noise", "burst"):
                frame = noise(server) + frame
            due.append((time.monotonic() + delay, frame))


def noise(server):
    return bytes(server.random.randrange(1, 256) for _ in range(3 if server.mode == "noise" else 40))


def request_length(buffer):
    """Length of the RTU request at the start of the buffer, or None while that cannot be told."""
    if len(buffer) < 2:
        return None
    if buffer[1] in (1, 2, 3, 4, 5, 6):
        return 8
    if buffer[1] in (15, 16):
        return 9 + buffer[6] if len(buffer) > 6 else None
    return 8


def serve_pty(server, master):
    buffer, due, last = b"", [], 0.0
    while True:
        wait = max(0.0, min(d[0] for d in due) - time.monotonic()) if due else None
        readable = select.select([master], [], [], wait)[0]
        now = time.monotonic()
        for at, frame in sorted(due):
            if at <= now:
                os.write(master, frame)
        due = [d for d in due if d[0] > now]
        if not readable:
            continue
        if now - last > 0.05:
            buffer = b""  # half a request is forgotten after a silence, as every slave does
        last = now
        buffer += os.read(master, 4096)
        while (length := request_length(buffer)) is not None and len(buffer) >= length:
            frame, buffer = buffer[:length], buffer[length:]
            if crc16(frame[:-2]) != frame[-2:]:
                buffer = b""
                break
            mode = server.mode
            unit, reply, delay = server.answer(frame[0], frame[1:-2])
            if reply is None:
                continue
            if mode == "wrong-tid":
                unit = (unit % 247) + 1
            out = bytes([unit]) + reply
            crc = crc16(out)
            out += bytes([crc[0] ^ 0x55, crc[1]]) if mode == "bad-crc" else crc
            if mode in ("noise", "burst"):
                out = noise(server) + out
            if mode == "echo":
                out = frame + out
            due.append((time.monotonic() + delay, out))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--tcp", type=int, default=0)
    p.add_argument("--pty", type=int, default=0)
    p.add_argument("--timeout-ms", type=float, default=300.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--dir", required=True)
    o = p.parse_args()
    servers, announced, keep = {}, [], []
    for n in range(o.tcp):
        server = Server(f"tcp{n}", o.timeout_ms, o.seed + n)
        listener = socket.create_server((o.host, 0))
        threading.Thread(target=serve_tcp, args=(server, listener), daemon=True).start()
        servers[server.name] = server
        announced.append({"name": server.name, "port": listener.getsockname()[1]})
    for n in range(o.pty):
        server = Server(f"pty{n}", o.timeout_ms, o.seed + 1000 + n)
        master, slave = pty.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        keep.append(slave)  # held open, so a client's close is no hang-up
        path = os.path.join(o.dir, server.name)
        os.symlink(os.ttyname(slave), path)
        threading.Thread(target=serve_pty, args=(server, master), daemon=True).start()
        servers[server.name] = server
        announced.append({"name": server.name, "path": path})

    def handle(words):
        server = servers[words[1]]
        if words[0] == "mode":
            server.set_mode(words[2:])
        elif words[0] != "stats":
            raise ValueError(f"no such command: {words[0]}")
        return server.stats()

    say(servers=announced)
    obey(handle)
    threading.Event().wait()


main()
