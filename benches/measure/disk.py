"""A file system of its own on a loop device, and the bytes that reached that device.

Only there is everything counted that wears a card: the journal, the metadata, and what /proc/PID/io leaves out. Needs root."""

import subprocess
from pathlib import Path


class LoopDisk:
    def __init__(self, folder, mebibytes):
        self.image, self.mount = Path(folder) / "disk.img", Path(folder) / "disk"
        self.mount.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(mebibytes << 20)
        # Without the lazy parts, which the kernel would write in the middle of a measurement.
        said("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        self.device = said("losetup", "--find", "--show", self.image)
        try:
            said("mount", "-t", "ext4", self.device, self.mount)
        except subprocess.CalledProcessError:
            said("losetup", "--detach", self.device)
            raise

    def counted(self):
        """(bytes, writes, flushes) since the device was made, with all that the cache still held."""
        said("sync", "--file-system", self.mount)
        name = Path(self.device).name
        numbers = next(line.split() for line in open("/proc/diskstats") if line.split()[2] == name)
        return int(numbers[9]) * 512, int(numbers[7]), int(numbers[18])

    def close(self):
        said("umount", self.mount)
        said("losetup", "--detach", self.device)
        self.image.unlink()


def said(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.strip()
