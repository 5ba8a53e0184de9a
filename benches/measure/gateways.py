"""The programs under measurement: how each gets its configuration and is started on the same work."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .process import Process

HERE = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))


class Work:
    """TCP devices by address, or the units 1 to n of one serial line."""

    def __init__(self, sink, registers, interval_ms, addresses=(), line=None, units=0, baud=0, parity="none",
                 disk=None, disk_max=None):
        # Where the gateway's data goes, if not beside its configuration, and how much of it there may be.
        self.disk, self.disk_max = disk, disk_max
        self.sink, self.registers, self.interval_ms = sink, registers, interval_ms
        self.addresses, self.line, self.units, self.baud, self.parity = addresses, line, units, baud, parity
        self.devices = len(addresses) or units


class Floor:
    """One thread, no store: the cost of the machine itself."""

    name = "floor"
    version = ""

    def build(self):
        self.program = TARGET / "bench/floor"
        source = HERE / "floor/floor.rs"
        if not self.program.exists() or self.program.stat().st_mtime < source.stat().st_mtime:
            self.program.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["rustc", "-O", "--edition", "2024", "-o", self.program, source], check=True)

    def start(self, work, folder):
        return Process(self.name, [self.program, work.sink, work.registers, work.interval_ms, *work.addresses], folder / "log")


class Fieldgate:
    name = "fieldgate"

    def build(self):
        """FIELDGATE names a binary; else the release build of this repository."""
        named = os.environ.get("FIELDGATE")
        if not named:
            subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE.parent, check=True)
        self.program = Path(named or TARGET / "release/fieldgate").resolve()
        self.version = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip()

    def start(self, work, folder):
        out = ["[gateway]", 'id = "bench"', f'data_dir = "{work.disk or folder}/data"', f'run_dir = "{folder}/run"', ""]
        out += ["[uplink.cloud]", f'url = "mqtt://{work.sink}"', 'reconnect_max = "1s"', ""]
        out += ["[buffer]", f'disk_max = "{work.disk_max}"', ""] if work.disk_max else []
        if work.line:
            out += ["[line.bus]", f'serial = {{ path = "{work.line}", baud = {work.baud}, parity = "{work.parity}" }}', ""]
        for n in range(work.devices):
            where = f'line = "bus"\nunit = {n + 1}' if work.line else f'tcp = "{work.addresses[n]}"\nunit = 1'
            out += [f"[device.d{n}]", where, f'poll = "{work.interval_ms}ms"']
            for t in range(work.registers):
                out += [f"[device.d{n}.point.t{t}]", f'register = "holding:{t}"', 'type = "u16"']
            out.append("")
        for place in (Path(work.disk or folder) / "data", folder / "run"):
            place.mkdir()
        (folder / "fieldgate.toml").write_text("\n".join(out))
        return Process(self.name, [self.program, "run", "--config", folder / "fieldgate.toml"], folder / "log")


class ThingsBoard:
    """thingsboard-gateway from the Python package index, with its fastest mapping: one request for all registers."""

    name = "thingsboard"
    version = "thingsboard-gateway 3.8.5"
    # The second is what its Modbus connector would install by itself at its first start.
    packages = ["thingsboard-gateway==3.8.5", "pymodbus==3.9.2", "pyserial", "pyserial-asyncio"]

    def build(self):
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        self.venv = cache / "fieldgate/bench/thingsboard-3.8.5"
        if not (self.venv / "installed").exists():
            print(f"installing {self.version} in {self.venv}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.venv], check=True)
            pip = [self.venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *self.packages], check=True)
            (self.venv / "installed").touch()

    def start(self, work, folder):
        config = folder / "config"
        for name in (config, folder / "logs"):
            name.mkdir()
        host, port = work.sink.split(":")
        server = {
            "host": host, "port": int(port), "security": {"type": "accessToken", "accessToken": "bench"}, "qos": 1,
            "remoteShell": False, "remoteConfiguration": False, "statistics": {"enable": False},
            "minPackSendDelayMS": 50, "minPackSizeToSend": 500, "maxPayloadSizeBytes": 65536,
            "checkConnectorsConfigurationInSeconds": 60, "handleDeviceRenaming": True,
            "checkingDeviceActivity": {"checkDeviceInactivity": False},
        }
        storage = {"type": "memory", "read_records_count": 1000, "max_records_count": 1_000_000}
        if work.disk:
            storage = {"type": "sqlite", "data_file_path": f"{work.disk}/data.db", "messages_ttl_check_in_hours": 1,
                       "messages_ttl_in_days": 7, "max_read_records_count": 1000}
        connectors = [{"name": "bench", "type": "modbus", "configuration": "modbus.json", "logLevel": "ERROR"}]
        write(config / "tb_gateway.json", {"thingsboard": server, "storage": storage, "grpc": {"enabled": False}, "connectors": connectors})
        slaves = [self.slave(work, n) for n in range(work.devices)]
        write(config / "modbus.json", {"master": {"slaves": slaves}, "name": "bench", "logLevel": "ERROR", "enableRemoteLogging": False})
        self.quiet_logs(config, folder / "logs")
        start = "from thingsboard_gateway.tb_gateway import main; main()"
        env = {"TB_GW_CONFIG_DIR": f"{config}/", "TB_GW_LOGS_PATH": f"{folder}/logs"}
        return Process(self.name, [self.venv / "bin/python", "-c", start], folder / "log", cwd=folder, env=env)

    def slave(self, work, n):
        points = {"tag": "t${address}", "type": "16uint", "functionCode": 3, "objectsCount": 1,
                  "address": f"0-{work.registers - 1}", "maxRegistersPerRequest": 125}
        slave = {
            "deviceName": f"d{n}", "deviceType": "default", "timeout": 5, "byteOrder": "BIG", "wordOrder": "BIG",
            "retries": True, "retryOnEmpty": True, "retryOnInvalid": True, "pollPeriod": max(work.interval_ms, 1),
            "connectAttemptTimeMs": 500, "connectAttemptCount": 5, "waitAfterFailedAttemptsMs": 30000,
            "timeseries": [points], "attributes": [], "attributeUpdates": [], "rpc": [],
        }
        if work.line:
            parity = {"none": "N", "even": "E", "odd": "O"}[work.parity]
            return slave | {"type": "serial", "method": "rtu", "port": str(work.line), "unitId": n + 1,
                            "baudrate": work.baud, "parity": parity, "stopbits": 1, "bytesize": 8}
        host, port = work.addresses[n].split(":")
        return slave | {"type": "tcp", "method": "socket", "host": host, "port": int(port), "unitId": 1}

    def quiet_logs(self, config, logs):
        shipped = next(self.venv.glob("lib/python3*/site-packages/thingsboard_gateway/config/logs.json"))
        settings = json.loads(shipped.read_text())
        for logger in settings.get("loggers", {}).values():
            logger["level"] = "WARNING"
        for handler in settings.get("handlers", {}).values():
            if "filename" in handler:
                handler["filename"] = str(logs / Path(handler["filename"]).name)
        write(config / "logs.json", settings)


def write(path, value):
    path.write_text(json.dumps(value, indent=1))


GATEWAYS = {gateway.name: gateway for gateway in (Floor, Fieldgate, ThingsBoard)}
