"""A paced serial line: two pseudo-terminals joined by a wire on which every byte takes its honest time.

    line.py --baud 9600 --bits-per-char 10 A B        (A and B become symlinks to the two terminals)

Announces {"a": A, "b": B}. A pseudo-terminal has no speed of its own: without this a test of serial timing would test
a memory copy. Bytes are delivered one by one when their last bit would have left the wire; both directions share the
wire's speed but not its time (no collisions here). Ends with stdin or SIGTERM.
"""
import argparse
import heapq
import os
import pty
import select
import time
import tty

from common import obey, say


def open_end(link):
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    os.set_blocking(master, False)
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(os.ttyname(slave), link)
    return master, slave  # the slave stays open here, so a client's close is no hang-up


def run(a, b, baud, bits_per_char):
    char = bits_per_char / baud
    ends = [open_end(a)[0], open_end(b)[0]]
    free = [0.0, 0.0]  # when each direction's wire is free again
    wire, order = [], 0
    say(a=a, b=b)
    while True:
        now = time.monotonic()
        while wire and wire[0][0] <= now:
            _, _, to, byte = heapq.heappop(wire)
            try:
                os.write(ends[to], byte)
            except OSError:
                pass  # nobody reads there and the terminal is full: the byte is lost, as on a wire
        wait = max(0.0, wire[0][0] - time.monotonic()) if wire else 1.0
        for fd in select.select(ends, [], [], wait)[0]:
            source = ends.index(fd)
            try:
                data = os.read(fd, 4096)
            except OSError:
                continue
            at = max(time.monotonic(), free[source])
            for byte in data:
                at += char
                order += 1
                heapq.heappush(wire, (at, order, 1 - source, bytes([byte])))
            free[source] = at


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--baud", type=int, default=9600)
    p.add_argument("--bits-per-char", type=int, default=10)
    p.add_argument("a")
    p.add_argument("b")
    o = p.parse_args()
    obey(lambda words: {"error": "the line takes no commands"})
    run(o.a, o.b, o.baud, o.bits_per_char)
