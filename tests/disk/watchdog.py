#!/usr/bin/env python3
"""What systemd does with the unit when the process is killed, stopped or crashes, and when its disk is slow, hangs or fails.

    tests/disk/watchdog.py [--only TRIAL]…

A Debian boots in a container (booted.py) with systemd/fieldgate.service as it is. The data directory is a file system of its
own; it hangs as `fsfreeze` makes it hang: what writes there waits in the kernel and cannot be killed. fieldgate polls a
simulated device all the time and has no broker, so that it writes every second. Some 12 minutes; one after another:

    kill       two kill -9: ready again within 2 s each
    crashes    killed as soon as it runs, again and again: it waits ever longer, and not for a person who restarts it
    stopped    SIGSTOP: the watchdog replaces the process
    slow       the disk hangs for 5 s, twelve times: nothing happens
    blocked    the disk hangs for 60 s: the watchdog replaces the process
    held       the disk hangs for 4 minutes: processes do not pile up, and it goes on afterwards with its files whole
    failing    every access fails: no watchdog for 2 minutes; killed meanwhile it is not started more often than it may be
    read-only  the same of a file system that went read-only

FIELDGATE names the binary (target/release/fieldgate). Needs root, loop devices, ext4, systemd-container, mmdebstrap.
Exit 0: passed, 1: not, 2: skipped, with the reason."""

import argparse
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import booted  # noqa: E402
from booted import Booted, Failed, Unit, must, run  # noqa: E402

PROGRAM = Path(os.environ.get("FIELDGATE", HERE.parent.parent / "target/release/fieldgate"))
UNITS = sorted((HERE.parent.parent / "systemd").glob("*.service"))
DATA = "/var/lib/fieldgate"
CONFIG = """[gateway]
id = "watchdog"

[buffer]
window = "1s"

[uplink.cloud]
url = "mqtt://127.0.0.1:1883"

[device.d]
tcp = "127.0.0.1:1502"
unit = 1
poll = "200ms"

[device.d.point.power]
register = "input:12"
type = "f32"
"""
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2


class Disk:
    """An ext4 at the data directory of what is booted."""

    def __init__(self, box, folder):
        self.box, self.image = box, Path(folder) / "disk"
        self.image.write_bytes(b"")
        os.truncate(self.image, 64 << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        self.loop = run("losetup", "--find", "--show", self.image)
        number = os.stat(self.loop).st_rdev
        box.run("mknod", "/dev/fieldgate-disk", "b", os.major(number), os.minor(number))
        self.mount()

    def mount(self):
        self.box.run("mkdir", "-p", DATA)
        self.box.run("mount", "/dev/fieldgate-disk", DATA)

    def renew(self):
        """As somebody with another card: nobody may use it now."""
        self.box.run("umount", DATA)
        subprocess.run(["fsck.ext4", "-fy", self.loop], capture_output=True)
        self.mount()

    @property
    def here(self):
        return self.box.inside(DATA)

    @contextlib.contextmanager
    def hangs(self):
        run("fsfreeze", "--freeze", self.here)
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", self.here)

    def fails(self):
        folder = os.open(self.here, os.O_RDONLY)
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        os.close(folder)

    def goes_read_only(self):
        self.box.run("mount", "-o", "remount,abort", DATA)

    def close(self):
        subprocess.run(["losetup", "--detach", self.loop], capture_output=True)


class Trials:
    def __init__(self, box, unit, disk):
        self.box, self.unit, self.disk = box, unit, disk

    def kill(self):
        seconds = []
        for _ in range(2):
            old = self.unit.signal(signal.SIGKILL)
            seconds.append(self.unit.wait_ready(old))
            must(seconds[-1] is not None and seconds[-1] < 2, f"ready again after {seconds[-1]} s")
        return "ready again after " + " and ".join(f"{s:.2f} s" for s in seconds)

    def crashes(self):
        seconds = []
        for _ in range(6):
            old = self.unit.signal(signal.SIGKILL)
            seconds.append(self.unit.wait_ready(old, 60))
            must(seconds[-1] is not None, "not started again within a minute")
        told = "ready again after " + ", ".join(f"{s:.1f}" for s in seconds) + " s"
        must(max(seconds[:2]) < 2, f"the first two wait: {told}")
        must(all(s >= wait for s, wait in zip(seconds[2:], (1, 2, 4, 8))), f"not later and later: {told}")
        self.unit.signal(signal.SIGKILL)
        self.until(lambda: "waits" in self.unit.show("StatusText")[0], 10, "its status does not say that it waits")
        said = self.unit.show("StatusText")[0]
        begun = time.monotonic()
        self.unit.do("restart")
        took = time.monotonic() - begun
        must(took < 3, f"a person who restarts it waits {took:.1f} s")
        return f"{told}; status '{said}'; restarted by a person after {took:.1f} s"

    def stopped(self):
        old = self.unit.signal(signal.SIGSTOP)
        took = self.unit.wait_ready(old, 60)
        must(took is not None, "SIGSTOP: still the old process after a minute")
        must(self.watchdogs() == 1, "it was not the watchdog")
        return f"replaced after {took:.1f} s"

    def slow(self):
        pid = self.unit.pid()
        for _ in range(12):
            with self.disk.hangs():
                time.sleep(5)
            time.sleep(1)
        must(self.unit.pid() == pid and self.watchdogs() == 0, "it was replaced")
        return "12 times 5 s: the same process"

    def blocked(self):
        old = self.unit.pid()
        with self.disk.hangs():
            fired = self.until(self.watchdogs, 60, "the watchdog did not notice within 60 s")
            time.sleep(max(0, 60 - fired))
        took = self.unit.wait_ready(old, 30)
        must(took is not None, "not ready within 30 s after the disk answered again")
        return f"watchdog after {fired:.0f} s; ready {took:.1f} s after the disk answered again"

    def held(self):
        old, most = self.unit.pid(), 0
        with self.disk.hangs():
            for _ in range(48):
                time.sleep(5)
                most = max(most, len(self.box.run("pgrep", "-x", "fieldgate", check=False).stdout.split()) - 1)
        took = self.unit.wait_ready(old, 90)
        must(took is not None, "not ready within 90 s after the disk answered again")
        must(most <= 3, f"{most} processes at once")
        put_aside = [path.name for path in self.disk.here.glob("*corrupt*")]
        must(not put_aside, f"put aside: {put_aside}")
        return f"at most {most} processes; {self.restarts()} restarts; ready {took:.1f} s after the disk answered again; files whole"

    def failing(self):
        return self.broken(self.disk.fails)

    def read_only(self):
        return self.broken(self.disk.goes_read_only)

    def broken(self, breaks):
        pid = self.unit.pid()
        breaks()
        try:
            time.sleep(120)
            must(self.watchdogs() == 0 and self.unit.pid() == pid, "it was replaced, which mends no disk")
            told = [line for line in self.box.run("fieldgate", "status", check=False).stdout.splitlines() if ".db" in line]
            must(told, "`status` says nothing of the disk")
            before = self.restarts()
            self.unit.signal(signal.SIGKILL)
            time.sleep(60)
            again = self.restarts() - before
            must(again <= 9, f"{again} starts in a minute")
            must(self.watchdogs() == 0, "the watchdog")
            state = "/".join(self.unit.show("ActiveState", "SubState"))
        finally:
            self.unit.do("stop", check=False)
            self.disk.renew()
        self.unit.do("start")
        return f"the same process for 120 s, '{told[0].strip()}'; killed: {again} starts in a minute, then {state}; runs on a mended disk"

    def watchdogs(self):
        """How often it fired since the trial began."""
        return sum("Watchdog timeout" in line for line in self.unit.journal()[self.mark:])

    def restarts(self):
        return int(self.unit.show("NRestarts")[0])

    def until(self, holds, within, otherwise):
        begun = time.monotonic()
        while not holds():
            must(time.monotonic() - begun < within, otherwise)
            time.sleep(0.1)
        return time.monotonic() - begun

    def one(self, name):
        # Each begins with a run that nothing ended, and none that waits.
        self.unit.do("restart")
        must(self.unit.wait_ready() is not None, "it does not start")
        time.sleep(3)
        self.mark = len(self.unit.journal())
        return getattr(self, name.replace("-", "_"))()


TRIALS = ["kill", "crashes", "stopped", "slow", "blocked", "held", "failing", "read-only"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=TRIALS)
    names = parser.parse_args().only or TRIALS
    missing = booted.usable()
    if missing:
        print(f"skipped: {missing}")
        return 2
    failed = 0
    with tempfile.TemporaryDirectory() as folder, Booted() as box:
        box.install(PROGRAM, UNITS)
        (box.tree / "etc/fieldgate").mkdir()
        (box.tree / "etc/fieldgate/fieldgate.toml").write_text(CONFIG)
        run("chroot", box.tree, "chgrp", "-R", "fieldgate", "/etc/fieldgate")
        (box.tree / "etc/fieldgate").chmod(0o750)
        box.boot()
        disk, unit = Disk(box, folder), Unit(box)
        field = subprocess.Popen(box.enter("fieldgate", "simulate", "--tcp", "127.0.0.1:1502"), stdout=subprocess.DEVNULL)
        try:
            trials = Trials(box, unit, disk)
            for name in names:
                try:
                    print(f"passed {name}: {trials.one(name)}", flush=True)
                except (Failed, subprocess.SubprocessError) as error:
                    failed += 1
                    print(f"FAILED {name}: {error}", *unit.journal()[-25:], sep="\n    ", flush=True)
        finally:
            unit.do("stop", check=False)
            field.terminate()
            field.wait()
            box.run("umount", DATA, check=False)
            disk.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
