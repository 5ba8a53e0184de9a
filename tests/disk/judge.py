"""What a consumer of the native dialect may say of what it got: one content under each key, and which reads it holds."""

import hashlib
import json

# Moments, which carry the clock's offset of one sending.
MOMENTS = ("at", "since", "evidence_at", "until")


class Judge:
    def __init__(self):
        self.contents, self.reads, self.published, self.epochs, self.conflicts = {}, set(), set(), set(), []

    def take(self, topic, body):
        if topic.rsplit("/", 1)[-1] not in ("telemetry", "event"):
            return
        message = json.loads(body)
        key = (message["epoch"], message["stream"], message["seq"])
        message.pop("backlog", None)
        offset = message.pop("clock", {}).get("offset_ms", 0)
        content = hashlib.sha256(json.dumps(without(message, offset), sort_keys=True).encode()).digest()
        if self.contents.setdefault(key, content) != content:
            self.conflicts.append(key)
        self.epochs.add(message["epoch"])
        for device, frames in message.get("devices", {}).items():
            for values in (frame["v"] for frame in frames):
                self.reads.update((device, counter) for counter in values.get("c", ()))
                self.published.update(values.get("n", ()))


def without(part, offset):
    """Two sendings of one key are equal once the offset of their clock is taken off."""
    if isinstance(part, dict):
        return {name: value - offset if name in MOMENTS and isinstance(value, int) else without(value, offset)
                for name, value in part.items()}
    if isinstance(part, list):
        return [without(value, offset) for value in part]
    return part
