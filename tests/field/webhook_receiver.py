"""A receiver of webhooks that checks signatures as Standard Webhooks says, with nothing of fieldgate's code.

usage: webhook_receiver.py HOST PORT SECRET [ANSWER ...]
Answers with the given statuses in turn, then with 204. Prints one line of JSON for each request.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

host, port, secret, *answers = sys.argv[1:]
key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
answers = [int(a) for a in answers]


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        ident, sent = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = f"{ident}.{sent}.".encode() + body
        want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        good = want in self.headers["webhook-signature"].split(" ") and abs(time.time() - int(sent)) < 300
        status = answers.pop(0) if answers else 204
        line = {"id": ident, "good": good, "status": status, "path": self.path, "body": json.loads(body)}
        line["type"] = self.headers["content-type"]
        print(json.dumps(line), flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer((host, int(port)), Receiver)
print("ready", flush=True)
server.serve_forever()
