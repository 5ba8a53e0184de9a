"""A Debian with its own systemd in a container, and one unit of ours in it.

Boots by systemd-nspawn on an overlay in memory, so that nothing stays. The system below it is made once by mmdebstrap in
${FIELDGATE_BOOT_ROOT:-~/.cache/fieldgate/boot-root}. Needs root, systemd-container, mmdebstrap."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(os.environ.get("FIELDGATE_BOOT_ROOT") or Path.home() / ".cache/fieldgate/boot-root")
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Failed(Exception):
    pass


def must(that, what):
    if not that:
        raise Failed(what)


def usable():
    """Why it cannot be done here, or nothing."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in ("systemd-nspawn", "nsenter") if not shutil.which(tool)]
    if not ROOT.is_dir() and not shutil.which("mmdebstrap"):
        missing.append("mmdebstrap")
    return f"there is no {', '.join(missing)} (apt install systemd-container mmdebstrap)" if missing else ""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options).stdout.strip()


def make_root():
    if ROOT.is_dir():
        return
    part = ROOT.with_name(ROOT.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    run("mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,adduser,tzdata,ca-certificates", "bookworm", part)
    part.rename(ROOT)


class Booted:
    """A context: booted on entering, gone on leaving."""

    def __enter__(self):
        make_root()
        self.folder = Path(tempfile.mkdtemp(prefix="booted-"))
        memory, self.tree = self.folder / "memory", self.folder / "tree"
        for path in (memory, self.tree):
            path.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1g", "none", memory)
        for name in ("upper", "work"):
            (memory / name).mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={ROOT},upperdir={memory}/upper,workdir={memory}/work", self.tree)
        (self.tree / "var/log/journal").mkdir(parents=True, exist_ok=True)
        self.groups, self.nspawn, self.leader = [], None, None
        return self

    def __exit__(self, *_):
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.terminate()
            try:
                self.nspawn.wait(20)
            except subprocess.TimeoutExpired:
                if self.leader:
                    os.kill(self.leader, signal.SIGKILL)
                self.nspawn.kill()
                self.nspawn.wait()
        time.sleep(0.3)
        for path in (self.tree, self.folder / "memory"):
            subprocess.run(["umount", "-l", path], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        for group in self.groups:
            for path, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    pass

    def install(self, program, units):
        """The program and its units as a package has them, with its user."""
        shutil.copy(program, self.tree / "usr/bin/fieldgate")
        (self.tree / "usr/bin/fieldgate").chmod(0o755)
        for unit in units:
            shutil.copy(unit, self.tree / "lib/systemd/system")
        run("chroot", self.tree, "adduser", "--quiet", "--system", "--group", "--home", "/var/lib/fieldgate", "--no-create-home", "fieldgate")

    def boot(self):
        # A group of its own in each hierarchy: what boots must not take over this machine's.
        name = f"booted-{os.getpid()}"
        for hierarchy in ("systemd", "unified", "."):
            top = Path("/sys/fs/cgroup") / hierarchy
            if (top / "cgroup.procs").exists():
                group = top / name
                group.mkdir()
                self.groups.append(group)

        def enter():
            for group in self.groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))
            os.setsid()

        legacy = [] if Path("/sys/fs/cgroup/cgroup.controllers").exists() else ["systemd.unified_cgroup_hierarchy=0"]
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "-D", self.tree, "--register=no", "--keep-unit", "--private-network", "--boot", "--console=pipe",
             f"--machine={name}", "--kill-signal=SIGRTMIN+3", *legacy],
            stdin=subprocess.DEVNULL, stdout=open(self.folder / "console", "w"), stderr=subprocess.STDOUT, preexec_fn=enter)
        for _ in range(600):
            time.sleep(0.1)
            self.leader = self.leader or self.find_leader()
            if self.leader and self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                return
            if self.nspawn.poll() is not None:
                break
        raise RuntimeError("it did not boot: " + (self.folder / "console").read_text()[-500:])

    def find_leader(self):
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children")
        for child in children.read_text().split() if children.exists() else []:
            if Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "init"):
                return int(child)
        return None

    def enter(self, *command):
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "env", "-i", PATH, "LC_ALL=C",
                *map(str, command)]

    def run(self, *command, check=True, **options):
        return subprocess.run(self.enter(*command), check=check, capture_output=True, text=True, timeout=120, **options)

    def inside(self, path):
        """A path of the running system, seen from here."""
        return Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")


class Unit:
    def __init__(self, booted, name="fieldgate.service"):
        self.booted, self.name = booted, name

    def do(self, verb, check=True):
        return self.booted.run("systemctl", verb, self.name, check=check)

    def show(self, *properties):
        out = self.booted.run("systemctl", "show", "-p", ",".join(properties), self.name).stdout
        found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return [found.get(name, "") for name in properties]

    def pid(self):
        """Of the process that is ready, or 0."""
        state, pid = self.show("ActiveState", "MainPID")
        return int(pid) if state == "active" else 0

    def wait_ready(self, not_this=0, within=30):
        """Seconds until another process than this one is ready; None if there is none within the time."""
        begun = time.monotonic()
        while time.monotonic() - begun < within:
            if self.pid() not in (0, not_this):
                return time.monotonic() - begun
            time.sleep(0.02)
        return None

    def signal(self, number):
        """To the process itself, as the kernel would; nothing if there is none. Says which it was."""
        pid = int(self.show("MainPID")[0])
        if pid > 1:
            # By the shell: a small Debian has no program of that name.
            self.booted.run("sh", "-c", f"kill -{int(number)} {pid}")
        return pid

    def journal(self):
        return self.booted.run("journalctl", "-u", self.name, "-o", "cat", "--no-pager").stdout.splitlines()
