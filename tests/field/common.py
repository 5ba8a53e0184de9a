"""What the field servers share: announce themselves in one JSON line, obey lines on stdin, end when stdin ends.

A server that outlives its test would hold ports and pseudo-terminals, so the end of stdin is the end of the server:
the operating system closes the pipe even when the test is killed.
"""
import json
import os
import sys
import threading


def say(**fields):
    """One JSON object on stdout: the first is the announcement, each later one answers a line on stdin."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def obey(handle):
    """Calls handle(words) for each line of stdin in a thread of its own and says what it returns; leaves at the end of stdin."""

    def loop():
        for line in sys.stdin:
            words = line.split()
            if words:
                try:
                    say(**handle(words))
                except Exception as error:  # a typo in a test must show up in the test, not hang it
                    say(error=f"{type(error).__name__}: {error}")
        os._exit(0)

    threading.Thread(target=loop, daemon=True).start()
