#!/usr/bin/env python3
"""Cuts the power under the real fieldgate while it polls, spools and acknowledges, and looks at what is left.

    tests/disk/powercut.py [--cuts 200] [--seconds 60] [--seed 1]

fieldgate runs on an ext4 whose disk writes down every write and flush (blocklog.py). The uplink's broker comes and goes
meanwhile. Then, for each cut: the file system is made as the cut leaves it, fieldgate starts on it, is killed in the middle
of its new work, and starts once more. Passed is a cut if

- both databases open, none was put aside, and their integrity check says ok after that;
- every read older than `buffer.window` at the cut is at the broker, before the cut or after it;
- so is every message that was acknowledged to the local publisher before the cut;
- no key (epoch, stream, seq) was ever seen with two contents, over the cut and both starts.

FIELDGATE names the binary (target/release/fieldgate). Needs root, /dev/fuse, loop devices, ext4, and the environment of
tests/run --setup. Exit 0: passed, 1: not, 2: skipped, with the reason."""

import argparse
import contextlib
import glob
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "benches")]

from blocklog import Cuts, LoggedDisk, run, usable  # noqa: E402
from judge import Judge  # noqa: E402
from measure.clock import now_ms  # noqa: E402
from measure.sink import Sink  # noqa: E402

PROGRAM = os.environ.get("FIELDGATE", str(ROOT / "target/release/fieldgate"))
PYTHON = os.environ.get("FIELDGATE_PYTHON", str(ROOT / "target/field-venv/bin/python"))
DEVICES, REGISTERS = 5, 50
# The window, the linger, and what an answer takes from the server's log to fieldgate.
WINDOW_MS = 1000 + 50 + 50
AFTER_S = 30
WORKERS = 3


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Gateway:
    """One data directory and the processes that run on it, one after the other."""

    def __init__(self, folder, data, ports, broker):
        self.folder, self.endpoint, self.popen = Path(folder), free_port(), None
        data.mkdir(exist_ok=True)
        text = ["[gateway]", 'id = "cut"', f'data_dir = "{data}"', f'run_dir = "{self.folder}"', "[uplink.cloud]",
                f'url = "mqtt://127.0.0.1:{broker}"', 'reconnect_max = "1s"', "[mqtt]", f'listen = "127.0.0.1:{self.endpoint}"',
                "[mqtt.route.telemetry]", 'topic = "tele/{device}/SENSOR"', 'kind = "telemetry"', 'unknown = "register"']
        for n, port in enumerate(ports):
            text += [f"[device.d{n}]", f'tcp = "127.0.0.1:{port}"', "unit = 1", 'timeout = "5s"', 'poll = "200ms"',
                     f"[device.d{n}.point.c]", 'register = "holding:0"', 'type = "u32"']
            for r in range(2, REGISTERS):
                text += [f"[device.d{n}.point.r{r}]", f'register = "holding:{r}"', 'type = "u16"']
        self.config = self.folder / "fieldgate.toml"
        self.config.write_text("\n".join(text) + "\n")

    def start(self):
        with open(self.folder / "said", "a") as said:
            self.popen = subprocess.Popen([PROGRAM, "run", "--config", str(self.config)], stdout=said, stderr=said)

    def kill(self):
        if self.popen:
            self.popen.kill()
            self.popen.wait()
        self.popen = None

    def assert_runs(self):
        if self.popen.poll() is not None:
            raise Failed(f"fieldgate ended with {self.popen.returncode}: {(self.folder / 'said').read_text()[-1500:]}")


class Failed(Exception):
    pass


def publish(port, acknowledged, stop):
    """A local publisher at QoS 1, ten messages at a time; each acknowledgement with its moment."""
    number = 0
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        stream.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04plug")
        stream.recv(4)
        while not stop.is_set():
            first = number + 1
            for number in range(first, first + 10):
                topic, body = b"tele/plug-1/SENSOR", b'{"n":%d}' % number
                packet = len(topic).to_bytes(2, "big") + topic + (number - first + 1).to_bytes(2, "big") + body
                stream.sendall(bytes((0x32, len(packet))) + packet)
            waiting, buffer = 10, b""
            while waiting:
                buffer += stream.recv(4096)
                while len(buffer) >= 4:
                    acknowledged.append((now_ms(), first + int.from_bytes(buffer[2:4], "big") - 1))
                    buffer, waiting = buffer[4:], waiting - 1
            time.sleep(0.02)


def field_servers(folder):
    log = folder / "reads.jsonl"
    argv = [PYTHON, str(ROOT / "tests/field/pymodbus_devices.py"), "--devices", str(DEVICES), "--log", str(log)]
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server, json.loads(server.stdout.readline())["ports"], log


def work(gateway, seconds, broker):
    """The life whose power is cut. Gives what the broker got, and what the publisher was promised."""
    messages, acknowledged, stop = [], [], threading.Event()
    sink = Sink(port=broker)
    gateway.start()
    wait(lambda: any(topic.endswith("/telemetry") for _, topic, _ in sink.messages), gateway, "no telemetry")
    publisher = threading.Thread(target=publish, args=(gateway.endpoint, acknowledged, stop), daemon=True)
    publisher.start()
    end, up = time.time() + seconds, True
    while time.time() < end:
        time.sleep(min(4 if up else 6, max(0, end - time.time())))
        if up:
            sink.close()
            messages += sink.messages
        else:
            sink = Sink(port=broker)
        up = not up
    gateway.assert_runs()
    stop.set()
    publisher.join()
    gateway.kill()
    if up:
        sink.close()
        messages += sink.messages
    return messages, acknowledged


def wait(condition, gateway, otherwise, seconds=AFTER_S):
    end = time.time() + seconds
    while not condition():
        gateway.assert_runs()
        if time.time() > end:
            raise Failed(f"{otherwise() if callable(otherwise) else otherwise} within {seconds} s")
        time.sleep(0.03)


class Cut:
    def __init__(self, number, at_ms, image, fate, facts):
        self.number, self.at_ms, self.image, self.fate, self.facts = number, at_ms, image, fate, facts

    def judge(self):
        """An empty text, or what is wrong."""
        folder = self.image.parent
        mount = folder / "mount"
        mount.mkdir()
        gateway = sink = None
        try:
            self.mount(mount)
            sink = Sink()
            gateway = Gateway(folder, mount / "data", self.facts["ports"], sink.port)
            self.look(gateway, sink)
            gateway.kill()
            self.look_at_files(mount / "data")
            return ""
        except (Failed, subprocess.CalledProcessError, sqlite3.Error) as error:
            return f"{error} {getattr(error, 'stderr', '') or ''}"
        finally:
            if gateway:
                gateway.kill()
            if sink:
                sink.close()
            subprocess.run(["umount", str(mount)], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(folder, ignore_errors=True)

    def mount(self, where):
        """A file system that its own torn metadata made unmountable is repaired first, as every Debian does at boot."""
        try:
            run("mount", "-o", "loop", self.image, where)
        except subprocess.CalledProcessError:
            subprocess.run(["e2fsck", "-fy", str(self.image)], check=False, capture_output=True)
            run("mount", "-o", "loop", self.image, where)
            print(f"  cut {self.number} ({self.fate}): ext4 needed e2fsck before its mount", flush=True)

    def look(self, gateway, sink):
        facts, judge = self.facts, Judge()
        for arrived, topic, body in facts["messages"]:
            if arrived < self.at_ms:
                judge.take(topic, body)
        reads = {read for read, at in facts["reads"].items() if at < self.at_ms - WINDOW_MS}
        published = {number for at, number in facts["acknowledged"] if at < self.at_ms}
        taken = 0

        def listen():
            nonlocal taken
            new = sink.messages[taken:]
            taken += len(new)
            for _, topic, body in new:
                judge.take(topic, body)

        def is_complete():
            listen()
            return reads <= judge.reads and published <= judge.published

        def lacks():
            lost, late = sorted(reads - judge.reads), sorted(published - judge.published)
            ages = sorted(self.at_ms - facts["reads"][read] for read in lost)
            return f"{len(lost)} reads {lost[:5]} (ms before the cut: {ages[:5]}) and {len(late)} acknowledged messages {late[:5]} did not come"

        gateway.start()
        wait(is_complete, gateway, lacks)
        for _ in range(2):
            # New work under new numbers, then a kill in the middle of it, and a second start on the same disk.
            known = set(judge.epochs)
            before = len(judge.reads)
            wait(lambda: listen() or len(judge.reads) >= before + 2 * DEVICES, gateway, "no new telemetry")
            gateway.kill()
            gateway.start()
            wait(lambda: listen() or judge.epochs - known, gateway, "no new epoch")
        listen()
        if judge.conflicts:
            raise Failed(f"two contents under {judge.conflicts[:5]}")

    def look_at_files(self, data):
        aside = glob.glob(str(data / "*damaged*"))
        if aside:
            raise Failed(f"put aside: {aside}")
        for name in ("spool.db", "state.db"):
            with contextlib.closing(sqlite3.connect(data / name)) as db:
                said = db.execute("PRAGMA integrity_check").fetchone()[0]
            if said != "ok":
                raise Failed(f"{name}: {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if why := usable():
        print(f"skipped: power cuts, because {why}")
        return 2
    dice, begun = random.Random(options.seed), time.time()
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="powercut.", dir=where))
    server = disk = gateway = None
    try:
        server, ports, log = field_servers(folder)
        broker = free_port()
        disk = LoggedDisk(folder, 128)
        (folder / "run").mkdir()
        gateway = Gateway(folder / "run", disk.mount / "data", ports, broker)
        messages, acknowledged = work(gateway, options.seconds, broker)
        offset = now_ms() - time.time() * 1000
        reads = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        disk.close()
        facts = {"ports": ports, "messages": messages, "acknowledged": acknowledged,
                 "reads": {(f"d{read['device']}", read["counter"]): read["at_ms"] + offset for read in reads}}
        cuts = Cuts(disk, dice)
        writes = sum(entry[0] == b"W" for entry in cuts.entries)
        print(f"{len(reads)} reads, {len(acknowledged)} messages acknowledged, {writes} writes and {len(cuts.entries) - writes} flushes seen", flush=True)
        # Not in the making of the file system, and not before there is anything to lose.
        first = next(n for n, entry in enumerate(cuts.entries) if entry[4] / 1000 > acknowledged[0][0])
        moments = sorted(dice.sample(range(first, len(cuts.entries)), min(options.cuts, len(cuts.entries) - first)))
        failed = judge_all(cuts, moments, folder, facts)
        print(f"{len(moments)} power cuts, {failed} failed, {time.time() - begun:.0f} s, seed {options.seed}: {'FAIL' if failed else 'PASS'}")
        return 1 if failed else 0
    finally:
        if gateway:
            gateway.kill()
        if server:
            server.send_signal(signal.SIGKILL)
            server.wait()
        if disk:
            with contextlib.suppress(ChildProcessError):
                disk.close()
        shutil.rmtree(folder, ignore_errors=True)


def judge_all(cuts, moments, folder, facts):
    failed, room = 0, threading.Semaphore(WORKERS)

    def one(cut):
        try:
            return cut, cut.judge()
        finally:
            room.release()

    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = []
        for number, moment in enumerate(moments):
            room.acquire()
            image = folder / f"cut-{number}" / "image"
            image.parent.mkdir()
            fate = cuts.at(moment, image)
            waiting.append(pool.submit(one, Cut(number, cuts.entries[moment][4] / 1000, image, fate, facts)))
        for cut, wrong in (done.result() for done in waiting):
            if wrong:
                failed += 1
                print(f"  cut {cut.number} ({cut.fate}): {wrong}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
