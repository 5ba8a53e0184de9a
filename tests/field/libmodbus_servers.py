"""libmodbus's own unit-test-server, which answers oddly on purpose, as TCP devices and behind paced lines.

    libmodbus_servers.py --server unit-test-server --tcp 5 --rtu 4 --dir DIR

Announces {"servers": [{"name": "tcp0", "port": 40123}, {"name": "rtu0", "path": "DIR/rtu0"}, ...]}. `tests/run` builds the
server (libmodbus_shim.h). It serves one connection and ends with it, so each connection gets a server of its own and is
passed through; on a line (115200 8N1, unit 17) it is started again when it gives up. What it does (version 3.1.6):
  holding 0x170 refuses with exception 6; 0x171 answers in another transaction, or as unit 18; 0x172 answers 500 ms late;
  0x173 (TCP) answers byte by byte, 5 ms apart, with 0, as unit 255, in a transaction below 256;
  a read of 2 registers is answered with one. Everything else is right: it has registers 0x160 to 0x17f, and r holds 10000 + r.
stdin: `stats` answers {"starts": n}, how many servers were started.
"""
import argparse
import os
import socket
import subprocess
import sys
import threading
import time

from common import obey, say

starts = 0


def spawn(server, kind, **environment):
    global starts
    starts += 1
    return subprocess.Popen([server, kind], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port(host):
    with socket.create_server((host, 0)) as listener:
        return listener.getsockname()[1]


def connected(host, port):
    end = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection((host, port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.002)


def pump(source, sink):
    try:
        while data := source.recv(4096):
            sink.sendall(data)
    except OSError:
        pass
    for stream in (source, sink):
        try:
            stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve_tcp(server, host, listener):
    while True:
        client, _ = listener.accept()
        port = free_port(host)
        process = spawn(server, "tcp", SERVER_HOST=host, SERVER_PORT=str(port))
        stream = connected(host, port)
        for end in (client, stream):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(client, stream), daemon=True).start()
        threading.Thread(target=answers, args=(stream, client, process), daemon=True).start()


def answers(stream, client, process):
    pump(stream, client)
    process.kill()
    process.wait()


def serve_rtu(server, path):
    while True:
        spawn(server, "rtu", SERVER_PATH=path).wait()
        time.sleep(0.01)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--server", required=True)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--tcp", type=int, default=0)
    p.add_argument("--rtu", type=int, default=0)
    p.add_argument("--dir", required=True)
    o = p.parse_args()
    here, announced, lines = os.path.dirname(os.path.abspath(__file__)), [], []
    for n in range(o.tcp):
        listener = socket.create_server((o.host, 0))
        threading.Thread(target=serve_tcp, args=(o.server, o.host, listener), daemon=True).start()
        announced.append({"name": f"tcp{n}", "port": listener.getsockname()[1]})
    for n in range(o.rtu):
        master, slave = os.path.join(o.dir, f"rtu{n}"), os.path.join(o.dir, f"slave{n}")
        line = subprocess.Popen(
            [sys.executable, os.path.join(here, "line.py"), "--baud", "115200", master, slave], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        line.stdout.readline()  # both terminals exist now
        lines.append(line)
        threading.Thread(target=serve_rtu, args=(o.server, slave), daemon=True).start()
        announced.append({"name": f"rtu{n}", "path": master})

    def handle(words):
        if words[0] != "stats":
            raise ValueError(f"no such command: {words[0]}")
        return {"starts": starts}

    say(servers=announced)
    obey(handle)
    threading.Event().wait()


main()
