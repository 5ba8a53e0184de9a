"""A disk whose every write and flush is written down, and what is left of it when the power goes at any moment.

The disk is one file that is served here through FUSE, without a library, and given to the kernel as a loop device. What a
cut leaves is everything before the last flush, and of what came after it any part: nothing, some, all, blocks torn in two.
Needs root, /dev/fuse and loop devices."""

import ctypes
import errno
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

# One entry of the log: a write or a flush, where, how long, where its bytes are, when (CLOCK_BOOTTIME, microseconds).
ENTRY = struct.Struct("<cQIQQ")
REQUEST = struct.Struct("<IIQQIIII")
SECTOR = 512
LARGEST = 1 << 20


def usable():
    """Why it cannot be done here, or nothing."""
    if os.geteuid() != 0:
        return "it needs root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return f"there is no {path}"
    return ""


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()


class LoggedDisk:
    def __init__(self, folder, mebibytes):
        self.folder, self.size = Path(folder), mebibytes << 20
        self.image, self.before, self.disk = self.folder / "image", self.folder / "before", self.folder / "disk"
        self.log, self.data, self.mount = self.folder / "log", self.folder / "data", self.folder / "mount"
        with open(self.image, "wb") as image:
            image.truncate(self.size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        run("cp", "--sparse=always", self.image, self.before)
        for empty in (self.disk, self.log, self.data):
            empty.touch()
        self.mount.mkdir()
        self.device = None
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=100000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"blocklog", str(self.disk).encode(), b"fuse", ctypes.c_ulong(0), options):
            raise OSError(ctypes.get_errno(), "cannot mount a FUSE file")
        self.server = os.fork()
        if self.server == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                Server(fuse, self).serve()
            finally:
                os._exit(0)
        os.close(fuse)
        self.device = run("losetup", "--find", "--show", self.disk)
        run("mount", "-t", "ext4", self.device, self.mount)

    def close(self):
        for command in (("umount", self.mount), ("losetup", "--detach", self.device), ("umount", "--lazy", self.disk)):
            subprocess.run([str(part) for part in command], check=False, stderr=subprocess.DEVNULL)
        try:
            os.kill(self.server, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.server, 0)

    def entries(self):
        log = self.log.read_bytes()
        return [ENTRY.unpack_from(log, at) for at in range(0, len(log) - len(log) % ENTRY.size, ENTRY.size)]


class Server:
    """One file of a fixed size. The numbers are those of the kernel's FUSE protocol, version 7.31."""

    def __init__(self, fuse, disk):
        self.fuse, self.size = fuse, disk.size
        self.image = os.open(disk.image, os.O_RDWR)
        self.log = os.open(disk.log, os.O_WRONLY | os.O_APPEND)
        self.data = os.open(disk.data, os.O_WRONLY | os.O_APPEND)
        self.written = 0
        attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, self.size, self.size // SECTOR, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)
        self.attributes = struct.pack("<QII", 3600, 0, 0) + attributes
        self.calls = {3: self.attributes_of, 4: self.attributes_of, 14: self.open, 15: self.read, 16: self.write, 17: self.statfs,
                      18: self.nothing, 20: self.flush, 25: self.nothing, 26: self.init, 38: self.nothing}

    def serve(self):
        while True:
            try:
                message = os.read(self.fuse, LARGEST + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, call, number, *_ = REQUEST.unpack_from(message)
            if call in (2, 36, 42):  # forget, interrupt, batch forget: no answer is expected
                continue
            handle = self.calls.get(call)
            answer, failed = (handle(message[REQUEST.size:]), 0) if handle else (b"", errno.ENOSYS)
            try:
                os.write(self.fuse, struct.pack("<IiQ", 16 + len(answer), -failed, number) + answer)
            except FileNotFoundError:
                pass  # who asked was interrupted

    def note(self, kind, offset=0, length=0):
        at = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        os.write(self.log, ENTRY.pack(kind, offset, length, self.written, at))

    def init(self, body):
        ahead = struct.unpack_from("<III", body)[2]
        big_writes, max_pages = 1 << 5, 1 << 22
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, ahead, big_writes | max_pages, 16, 12, LARGEST, 1, LARGEST // 4096, 0, 0)

    def attributes_of(self, _):
        return self.attributes

    def open(self, _):
        return struct.pack("<QII", 1, 2, 0)

    def read(self, body):
        _, offset, length = struct.unpack_from("<QQI", body)
        return os.pread(self.image, max(0, min(length, self.size - offset)), offset)

    def write(self, body):
        _, offset, length = struct.unpack_from("<QQI", body)
        data = body[40:40 + length]
        os.pwrite(self.image, data, offset)
        os.write(self.data, data)
        self.note(b"W", offset, length)
        self.written += length
        return struct.pack("<II", length, 0)

    def flush(self, _):
        self.note(b"F")
        return b""

    def statfs(self, _):
        return struct.pack("<QQQQQIIII24x", self.size // 4096, 0, 0, 0, 0, 4096, 255, 4096, 0)

    def nothing(self, _):
        return b""


class Cuts:
    """Images of the disk as cuts leave it, in the order of their moments."""

    def __init__(self, disk, dice):
        self.disk, self.dice, self.entries, self.done = disk, dice, disk.entries(), 0
        self.base, self.data = os.open(disk.before, os.O_RDWR), os.open(disk.data, os.O_RDONLY)

    def at(self, moment, image):
        """Writes the image of a cut just before entry number `moment`; says what became of the writes since the last flush."""
        flushed = max((n for n in range(self.done, moment) if self.entries[n][0] == b"F"), default=self.done - 1)
        for entry in self.entries[self.done:flushed + 1]:
            self.apply(self.base, entry)
        self.done = max(self.done, flushed + 1)
        run("cp", "--sparse=always", self.disk.before, image)
        fate = self.dice.choice(("none", "some", "torn", "all"))
        late = [entry for entry in self.entries[self.done:moment] if entry[0] == b"W"]
        cut = os.open(image, os.O_RDWR)
        for entry in late:
            if fate == "none" or (fate != "all" and self.dice.random() < 0.5):
                continue
            whole = entry[2] // SECTOR
            self.apply(cut, entry, self.dice.randrange(1, whole) * SECTOR if fate == "torn" and whole > 1 else None)
        os.close(cut)
        return f"{fate} of {len(late)} writes since the last flush"

    def apply(self, image, entry, length=None):
        kind, offset, whole, at, _ = entry
        if kind == b"W":
            os.pwrite(image, os.pread(self.data, length or whole, at), offset)
