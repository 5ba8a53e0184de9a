"""A started program, and what it and its children have cost so far."""

import os
import signal
import subprocess
import time

STOP_GRACE_S = 10


class Process:
    def __init__(self, name, argv, log, cwd=None, env=None, output=None, prepare=None):
        self.name, self.log = name, log
        with open(log, "ab") as said:
            self.popen = subprocess.Popen(
                [str(arg) for arg in argv], cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                stdout=output or said, stderr=said, start_new_session=True, preexec_fn=prepare)
        self.pid = self.popen.pid

    def assert_runs(self):
        status = self.popen.poll()
        if status is not None:
            tail = open(self.log, errors="replace").read()[-2000:]
            raise RuntimeError(f"{self.name} ended with {status}; {self.log} ends with\n{tail}")

    def pids(self):
        """This process and its descendants."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = open(f"/proc/{entry}/stat").read()
                except OSError:
                    continue
                children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def cost(self):
        """CPU seconds since the start, by thread name as well; bytes written to the disk; kilobytes of memory."""
        cost = {"cpu": 0.0, "write_bytes": 0, "switches": 0, "rss_kb": 0, "peak_kb": 0, "threads": {}}
        for pid in self.pids():
            try:
                # The CPU clock of a process, in nanoseconds: with all its threads, those that have ended too.
                cost["cpu"] += time.clock_gettime((~pid << 3) | 2)
                cost["write_bytes"] += field(f"/proc/{pid}/io", "write_bytes")
                cost["rss_kb"] += field(f"/proc/{pid}/status", "VmRSS")
                cost["peak_kb"] += field(f"/proc/{pid}/status", "VmHWM")
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for task in tasks:
                path = f"/proc/{pid}/task/{task}"
                try:
                    name = open(f"{path}/comm").read().strip()
                    ns = int(open(f"{path}/schedstat").read().split()[0])
                    cost["switches"] += field(f"{path}/status", "voluntary_ctxt_switches")
                except OSError:
                    continue
                cost["threads"][name] = cost["threads"].get(name, 0.0) + ns / 1e9
        return cost

    def stop(self):
        """SIGTERM to the program itself, so that its own order of ending is kept; SIGKILL to what is left of it."""
        pids = self.pids()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                pass
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.popen.wait()


def field(path, name):
    for line in open(path):
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def difference(before, after):
    """What was spent between two costs; memory as it was at the second."""
    names = after["threads"].keys() | before["threads"].keys()
    threads = {name: after["threads"].get(name, 0.0) - before["threads"].get(name, 0.0) for name in names}
    spent = {key: after[key] - before[key] for key in ("cpu", "write_bytes", "switches")}
    return spent | {"rss_kb": after["rss_kb"], "peak_kb": after["peak_kb"], "threads": threads}
