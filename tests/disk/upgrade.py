#!/usr/bin/env python3
"""Installs another version of the package over a gateway at work, as dpkg does it, and has a consumer prove that nothing is lost.

    tests/disk/upgrade.py [OLD.deb NEW.deb]      without them both are packed from FIELDGATE

A Debian boots in a container (booted.py). Ten simulated devices are polled ten times a second, mosquitto stands for the cloud, and
`fieldgate consume` receives from the first message on. One after another:

    upgrade       to the newer package, with the cloud there
    downgrade     back to the older one, which has the same schemas
    away          to the newer one again while the cloud is away for 10 s: what waits on the disk is another version's
    reinstalled   removed, and installed again

FIELDGATE names the binary (target/release/fieldgate). Needs root, systemd-container, mmdebstrap, mosquitto, dpkg-deb. Two minutes.
Exit 0: passed, 1: not, 2: skipped, with the reason."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import booted  # noqa: E402
from booted import Booted, Failed, Unit, must  # noqa: E402

MAIN = HERE.parent.parent
PROGRAM = Path(os.environ.get("FIELDGATE", MAIN / "target/release/fieldgate")).resolve()
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
DEVICES = 10
CONFIG = f"""[gateway]
id = "upgraded"

[uplink.cloud]
url = "mqtt://127.0.0.1:1883"

[line.hall]
tcp = "127.0.0.1:1502"

[group.d]
line = "hall"
each = "1..{DEVICES}"
unit = "{{n}}"
poll = "100ms"

[group.d.point.power]
register = "input:12"
type = "f32"
"""


def pack(folder):
    """Two packages of one program, one newer than the other."""
    machine = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    build = [MAIN / "packaging/build-deb", "--arch", machine, "--binary", PROGRAM, "--out", folder]
    # Man pages and completions are made once: minutes, the first time.
    papers = ["--papers", MAIN / "target/package-build/papers"]
    packed = [subprocess.check_output([*build, "--suffix", suffix, *more], text=True) for suffix, more in (("+1", []), ("+2", papers))]
    return [Path(out.split()[-1]) for out in packed]


class Cloud:
    """mosquitto of this machine, in the network of what is booted."""

    def __init__(self, box, folder):
        self.box, self.config = box, folder / "mosquitto.conf"
        # It keeps its sessions over its own restart: what it forgets, no gateway sends again.
        self.config.write_text(f"listener 1883 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 100000\n"
                               f"persistence true\npersistence_location {folder}/\n")
        self.start()

    def start(self):
        self.process = in_its_network(self.box, MOSQUITTO, "-c", self.config)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def in_its_network(box, *command):
    """A program of this machine, with the addresses of what is booted."""
    return subprocess.Popen(["nsenter", "-t", str(box.leader), "-n", *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Trials:
    def __init__(self, box, unit, cloud, old, new):
        self.box, self.unit, self.cloud, self.old, self.new = box, unit, cloud, old, new

    def install(self, package, *options):
        before = self.unit.pid()
        begun = time.monotonic()
        got = self.box.run("dpkg", *options, "--install", f"/{package.name}", check=False)
        must(got.returncode == 0, f"dpkg: {got.stdout}{got.stderr}")
        must(self.unit.wait_ready(before) is not None, "no other process is ready")
        return time.monotonic() - begun

    def upgrade(self):
        return f"another process is ready {self.install(self.new):.1f} s after dpkg began"

    def downgrade(self):
        return f"the older one is ready after {self.install(self.old):.1f} s"

    def away(self):
        self.cloud.stop()
        time.sleep(5)
        took = self.install(self.new)
        time.sleep(5)
        self.cloud.start()
        return f"ready after {took:.1f} s, without a cloud"

    def reinstalled(self):
        self.box.run("dpkg", "--remove", "fieldgate")
        must(self.unit.pid() == 0, "it runs without its package")
        return f"ready {self.install(self.new):.1f} s after it was installed again"


def report(file):
    got = subprocess.run([PROGRAM, "consume", "report", "--json", file], capture_output=True, text=True)
    try:
        return json.loads(got.stdout)
    except json.JSONDecodeError:
        raise Failed(f"no report: {got.stdout}{got.stderr}") from None


def grown(file, by, within=60):
    """Until the consumer has so many samples more."""
    begun, end = report(file)["samples"], time.monotonic() + within
    while report(file)["samples"] < begun + by:
        must(time.monotonic() < end, f"the cloud had {begun} samples, and within {within} s not {by} more")
        time.sleep(0.5)


def main():
    packages = [Path(argument).resolve() for argument in sys.argv[1:]]
    missing = booted.usable() or ("" if MOSQUITTO else "there is no mosquitto")
    if missing:
        print(f"skipped: {missing}")
        return 2
    failed = 0
    with tempfile.TemporaryDirectory() as folder, Booted() as box, contextlib.ExitStack() as after:
        folder = Path(folder)
        old, new = packages or pack(folder)
        for package in (old, new):
            shutil.copy(package, box.tree)
        box.boot()
        unit, file = Unit(box), folder / "got.db"
        cloud = Cloud(box, folder)
        after.callback(cloud.stop)
        for command in ([PROGRAM, "simulate", "--tcp", "127.0.0.1:1502", "--units", f"1-{DEVICES}"], [PROGRAM, "consume", "--broker", "127.0.0.1", "--to", file]):
            process = in_its_network(box, *command)
            after.callback(process.wait)
            after.callback(process.send_signal, signal.SIGINT)
        box.run("mkdir", "/etc/fieldgate")
        box.inside("/etc/fieldgate/fieldgate.toml").write_text(CONFIG)
        trials = Trials(box, unit, cloud, old, new)
        try:
            trials.install(old, "--force-confold")
            for name in ["upgrade", "downgrade", "away", "reinstalled"]:
                grown(file, 3 * 10 * DEVICES)
                print(f"passed {name}: {getattr(trials, name)()}", flush=True)
            grown(file, 3 * 10 * DEVICES)
            # What waited comes behind what is new.
            begun = time.monotonic()
            while report(file)["missing"] and time.monotonic() - begun < 60:
                time.sleep(0.5)
            unit.do("stop")
            time.sleep(2)
            sums = report(file)
            print({key: sums[key] for key in ("verdict", "messages", "samples", "missing", "conflicting", "resent")})
            must(sums["verdict"] == "complete" and sums["missing"] == 0, f"not complete: {sums}")
        except (Failed, subprocess.SubprocessError) as error:
            failed = 1
            print(f"FAILED: {error}", *unit.journal()[-25:], sep="\n    ", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
