"""A headless Chromium that obeys lines of JSON on stdin, by the DevTools protocol over a pipe: no port, no library.

    {"do":"open","url":…,"width":1280,"height":800,"dark":false}   a new tab in a profile of its own; the old one is closed
    {"do":"eval","js":…}     {"value":…} of an expression, promises awaited
    {"do":"type","text":…}   into what has the focus; "key" presses one key instead
    {"do":"axe"}             {"violations":[…]} of axe-core, with the WCAG 2.2 A and AA rules and its best practices
    {"do":"shot","path":…}   a picture of the whole page
    {"do":"said"}            {"said":[…]}: errors in the console, exceptions, and what the page's policy refused

With --pages DIR the files of the pages come from that folder instead of from the program, for whoever changes them.
"""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

WITHIN = 60


class Chromium:
    def __init__(self, program, folder):
        to_them, ours_out = os.pipe()
        ours_in, from_them = os.pipe()
        arguments = [
            program, "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
            "--force-prefers-reduced-motion", "--hide-scrollbars", "--mute-audio", f"--user-data-dir={folder}", "--lang=en",
        ]  # fmt: skip
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")

        def place():
            # The protocol is spoken on 3 and 4. Copies first: one of ours may have that number.
            copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_them, from_them)]
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        self.log = open(pathlib.Path(folder) / "log", "wb")
        self.process = subprocess.Popen(
            [*arguments, "about:blank"], preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        os.close(to_them)
        os.close(from_them)
        self.out, self.inp = ours_out, ours_in
        self.buffer, self.count, self.event = b"", 0, lambda message: None

    def message(self):
        while b"\0" not in self.buffer:
            more = os.read(self.inp, 1 << 16)
            if not more:
                raise RuntimeError("Chromium ended")
            self.buffer += more
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def send(self, method, session=None, **params):
        self.count += 1
        said = {"id": self.count, "method": method, "params": params}
        if session:
            said["sessionId"] = session
        data = json.dumps(said).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        return self.count

    def call(self, method, session=None, **params):
        number, end = self.send(method, session, **params), time.monotonic() + WITHIN
        while time.monotonic() < end:
            message = self.message()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.event(message)
        raise RuntimeError(f"{method}: no answer")


class Tab:
    def __init__(self, chromium, ask, axe, pages):
        self.chromium, self.axe, self.pages = chromium, axe, pages
        self.context = chromium.call("Target.createBrowserContext")["browserContextId"]
        target = chromium.call("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.said = []
        chromium.event = self.event
        for domain in ["Page", "Runtime", "Log"]:
            self.call(f"{domain}.enable")
        if pages:
            self.call("Fetch.enable", patterns=[{"urlPattern": "*/pages/*"}])
        width, height = ask["width"], ask["height"]
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 640)
        theme = "dark" if ask.get("dark") else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=ask["url"])

    def call(self, method, **params):
        return self.chromium.call(method, self.session, **params)

    def event(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.said.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["source"] in ("security", "javascript", "violation", "rendering"):
            self.said.append(params["entry"]["text"])
        elif method == "Fetch.requestPaused":
            self.serve(params)

    def serve(self, params):
        name = params["request"]["url"].split("?")[0].rsplit("/", 1)[1]
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        body = base64.b64encode((self.pages / name).read_bytes()).decode()
        headers = [{"name": "content-type", "value": kind}]
        self.chromium.send(
            "Fetch.fulfillRequest", self.session, requestId=params["requestId"], responseCode=200, responseHeaders=headers, body=body
        )

    def evaluate(self, code):
        got = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, allowUnsafeEvalBlockedByCSP=True)
        if "exceptionDetails" in got:
            raise RuntimeError(got["exceptionDetails"].get("exception", {}).get("description") or got["exceptionDetails"]["text"])
        return got["result"].get("value")

    def press(self, key):
        code = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}.get(key, 0)
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def violations(self):
        if not self.evaluate("typeof axe === 'object'"):
            self.evaluate(self.axe + "\n;0")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]
        found = self.evaluate(f"axe.run({{runOnly: {json.dumps(tags)}}}).then((r) => JSON.stringify(r.violations))")
        return [
            {"id": v["id"], "help": v["help"], "at": [f"{n['html'][:200]}: {n['failureSummary']}" for n in v["nodes"][:4]]}
            for v in json.loads(found)
        ]

    def shot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        self.chromium.call("Target.disposeBrowserContext", browserContextId=self.context)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--axe", required=True, type=pathlib.Path)
    parser.add_argument("--pages", type=pathlib.Path)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if not program:
        sys.exit("there is no chromium here; run tests/run once, it installs what is missing")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        chromium = Chromium(program, folder)
        tab = None
        try:
            version = chromium.call("Browser.getVersion")["product"]
            print(json.dumps({"browser": version}), flush=True)
            for line in sys.stdin:
                ask = json.loads(line)
                try:
                    answer = {}
                    match ask["do"]:
                        case "open":
                            if tab:
                                tab.close()
                            tab = Tab(chromium, ask, options.axe.read_text(), options.pages)
                        case "eval":
                            answer = {"value": tab.evaluate(ask["js"])}
                        case "type" if "key" in ask:
                            tab.press(ask["key"])
                        case "type":
                            tab.call("Input.insertText", text=ask["text"])
                        case "axe":
                            answer = {"violations": tab.violations()}
                        case "shot":
                            tab.shot(ask["path"])
                        case "said":
                            answer = {"said": tab.said}
                except Exception as error:  # whoever asked decides what that means
                    answer = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(answer), flush=True)
        finally:
            chromium.process.kill()
            chromium.process.wait()


main()
