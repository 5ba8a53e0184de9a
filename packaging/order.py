#!/usr/bin/env python3
"""Writes packaging/order.txt, the functions that a gateway runs in the order in which it comes to them: packaging/order.py PROGRAM

PROGRAM is one with symbols (packaging/build-deb --arch amd64 --keep-symbols prints where it is). Its demo runs under qemu, which
names each function when it first runs; the gateway of the demo counts, and another one that is asked by HTTP, as the demo's
is not. Needs root (the kernel is told for a moment that files ending in .traced are for qemu) and qemu-user 11 or later;
QEMU=DIR says where it is. To be run again when much has changed: what is not in the list is linked behind what is, and a name
that is gone costs nothing.
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

LIST = Path(__file__).resolve().parent / "order.txt"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# What differs from build to build in a name: the crate's number in the v0 mangling, the hash of the older one, LLVM's copies.
CHANGING = re.compile(r"(?<=C)s[0-9A-Za-z]*_(?=\d)|17h[0-9a-f]{16}(?=E)|\.llvm\.\d+")


def plain(name):
    return CHANGING.sub("", name)


def wanted():
    return [line for line in LIST.read_text().splitlines() if line]


@contextlib.contextmanager
def by_qemu(suffix):
    """While it lasts, files that end so are run by qemu."""
    qemu = shutil.which("qemu-x86_64", path=os.environ.get("QEMU")) or sys.exit("order: no qemu-x86_64; say QEMU=DIR")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    rule = f"fieldgate-order-{os.getpid()}"
    (BINFMT / "register").write_text(f":{rule}:E::{suffix}::{qemu}:")
    try:
        yield
    finally:
        (BINFMT / rule).write_text("-1")


def run_with_pages(program, environment, folder):
    """A gateway with a device that does not answer, asked by HTTP for what everybody may know."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        http, nobody = one.getsockname()[1], other.getsockname()[1]
    (folder / "run").mkdir()
    config = folder / "fieldgate.toml"
    config.write_text(f"""
[gateway]
id = "order"
data_dir = "{folder}/data"
run_dir = "{folder}/run"
[api]
listen = "127.0.0.1:{http}"
[line.hall]
tcp = "127.0.0.1:{nobody}"
[device.meter]
line = "hall"
unit = 1
poll = "1s"
[device.meter.point.power]
register = "holding:0"
type = "u16"
[uplink.cloud]
url = "mqtt://127.0.0.1:{nobody}"
""")
    gateway = subprocess.Popen([program, "run", "--config", str(config)], env=environment)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                for path in ["/health", "/", "/api/v1/devices"]:
                    with contextlib.suppress(urllib.error.HTTPError):
                        urllib.request.urlopen(f"http://127.0.0.1:{http}{path}").read()
                break
            except OSError:
                if time.monotonic() > end or gateway.poll() is not None:
                    sys.exit("order: the gateway did not answer by HTTP")
                time.sleep(0.2)
        time.sleep(5)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)


def traced(program, folder):
    """The names of the functions that gateways ran, in the order in which the demo's came to them."""
    copy = folder / "fieldgate.traced"
    shutil.copy(program, copy)

    def names(run):
        """Of the gateway among the processes of this run: the one with a database."""
        logs = folder / run
        logs.mkdir()
        environment = os.environ | {"QEMU_LOG": "in_asm", "QEMU_LOG_FILENAME": f"{logs}/%d.log"}
        with by_qemu("traced"):
            if run == "demo":
                subprocess.run([copy, "demo", "--fast"], env=environment, stdin=subprocess.DEVNULL, check=True)
            else:
                run_with_pages(copy, environment, folder)
        seen = [dict.fromkeys(re.findall(r"^IN: (\S+)", log.read_text(errors="replace"), re.M)) for log in logs.glob("*.log")]
        gateways = [found for found in seen if "sqlite3VdbeExec" in found]
        if len(gateways) != 1:
            sys.exit(f"order: {len(gateways)} of {len(seen)} processes of {run} are a gateway; has the program symbols?")
        return gateways[0]

    return names("demo") | names("pages")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        names = list(dict.fromkeys(map(plain, traced(Path(sys.argv[1]), Path(folder)))))
    LIST.write_text("\n".join(names) + "\n")
    print(f"{LIST.name}: {len(names)} functions")


if __name__ == "__main__":
    main()
