"""The cloud's end: an MQTT broker that acknowledges at once and keeps what it got with the time of arrival.

It speaks 3.1.1 and as much of 5 as the peers need. Nothing is read out of a message while a measurement runs: that
would take CPU time from the gateway. `rows.py` does it afterwards.
"""

import selectors
import socket
import threading

from .clock import now_ms

# Without this answer ThingsBoard's gateway stores for ever and sends nothing.
SESSION_LIMITS = (b'{"maxPayloadSize":65536,"maxInflightMessages":100,'
                  b'"rateLimits":{"messages":"","telemetryMessages":"","telemetryDataPoints":""},'
                  b'"gatewayRateLimits":{"messages":"","telemetryMessages":"","telemetryDataPoints":""}}')
ANSWERS = {b"v1/devices/me/rpc/request/": (b"v1/devices/me/rpc/response/", SESSION_LIMITS),
           b"v1/devices/me/attributes/request/": (b"v1/devices/me/attributes/response/", b"{}")}


class Sink:
    def __init__(self, port=0):
        self.messages = []  # (arrival in ms, topic, body), appended by the thread alone
        self.bytes_in = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.address = "%s:%d" % self._listener.getsockname()
        self.port = self._listener.getsockname()[1]
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        """As a broker that dies: whoever is connected is cut off."""
        self._end.close()
        self._thread.join()
        self._listener.close()

    def _serve(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, None)
            selector.register(self._ended, selectors.EVENT_READ, None)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._ended:
                        streams = [each.fileobj for each in selector.get_map().values() if isinstance(each.data, Connection)]
                        for stream in streams:
                            stream.close()
                        return
                    if key.fileobj is self._listener:
                        stream, _ = self._listener.accept()
                        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        selector.register(stream, selectors.EVENT_READ, Connection(self, stream))
                    elif not key.data.readable():
                        selector.unregister(key.fileobj)
                        key.fileobj.close()


class Connection:
    def __init__(self, sink, stream):
        self.sink, self.stream, self.buffer, self.five = sink, stream, b"", False

    def readable(self):
        """False ends the connection."""
        try:
            received = self.stream.recv(1 << 20)
        except OSError:
            return False
        arrived = now_ms()
        self.sink.bytes_in += len(received)
        self.buffer += received
        answers = bytearray()
        at = 0
        while (packet := whole(self.buffer, at)) is not None:
            first, start, end = packet
            if first >> 4 == 14 or not self.packet(arrived, first, self.buffer[start:end], answers):
                received = b""
                break
            at = end
        self.buffer = self.buffer[at:]
        try:
            if answers:
                self.stream.sendall(answers)
        except OSError:
            return False
        return bool(received)

    def packet(self, arrived, first, body, out):
        kind = first >> 4
        if kind == 1:
            self.five = body[6] == 5
            out += b"\x20\x03\0\0\0" if self.five else b"\x20\x02\0\0"
        elif kind == 3:
            self.publish(arrived, first, body, out)
        elif kind == 6:
            out += b"\x70\x02" + body[:2]
        elif kind == 8:
            granted = self.filters(body, with_options=True)
            out += b"\x90" + length(2 + self.five + len(granted)) + body[:2] + b"\0" * self.five + bytes(granted)
        elif kind == 10:
            reasons = b"\0" * len(self.filters(body, with_options=False)) if self.five else b""
            out += b"\xb0" + length(2 + self.five + len(reasons)) + body[:2] + b"\0" * self.five + reasons
        elif kind == 12:
            out += b"\xd0\0"
        return True

    def publish(self, arrived, first, body, out):
        topic_end = 2 + int.from_bytes(body[:2], "big")
        topic, at, qos = body[2:topic_end], topic_end, first >> 1 & 3
        if qos:
            out += (b"\x40\x02" if qos == 1 else b"\x50\x02") + body[at:at + 2]
            at += 2
        if self.five:
            size, used = varint(body, at)
            at += size + used
        self.sink.messages.append((arrived, topic.decode(errors="replace"), body[at:]))
        for asked, (answered, answer) in ANSWERS.items():
            if topic.startswith(asked):
                topic = answered + topic[len(asked):]
                rest = len(topic).to_bytes(2, "big") + topic + b"\0" * self.five + answer
                out += b"\x30" + length(len(rest)) + rest

    def filters(self, body, with_options):
        at, options = 2, []
        if self.five:
            size, used = varint(body, at)
            at += size + used
        while at + 2 <= len(body):
            at += 2 + int.from_bytes(body[at:at + 2], "big")
            options.append(body[at] & 3 if with_options else 0)
            at += with_options
        return options


def whole(buffer, at):
    """First byte, start and end of what follows the length of the packet at `at`, if all of it is there."""
    if len(buffer) < at + 2:
        return None
    size = varint(buffer, at + 1)
    if size is None or len(buffer) < at + 1 + sum(size):
        return None
    start = at + 1 + size[1]
    return buffer[at], start, start + size[0]


def varint(buffer, at):
    """A length and how many bytes it takes."""
    value = 0
    for used in range(4):
        if at + used >= len(buffer):
            return None
        value |= (buffer[at + used] & 0x7F) << 7 * used
        if buffer[at + used] < 0x80:
            return value, used + 1
    raise ValueError("no MQTT")


def length(value):
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
