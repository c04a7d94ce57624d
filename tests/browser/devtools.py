"""A browser page driven over Chromium's debugging pipe, with the standard library alone."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Page:
    """One tab.  ``messages`` gathers console errors, exceptions and requests that failed."""

    def __init__(self, width=1280, height=900, dark=False, offline=True):
        self._profile = tempfile.TemporaryDirectory(prefix="fanin-browser-")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads commands at descriptor 3 and writes answers to 4.  Both ends move out of
        # the way first, for they may be 3 and 4 themselves, crosswise.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_browser, from_browser)]
        silent = os.open(os.devnull, os.O_WRONLY)
        self._process = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *SWITCHES, f"--user-data-dir={self._profile.name}", "about:blank"],
            os.environ,
            file_actions=[
                *(
                    (os.POSIX_SPAWN_DUP2, end, place)
                    for end, place in zip(ends, (3, 4), strict=True)
                ),
                *((os.POSIX_SPAWN_DUP2, silent, place) for place in (1, 2)),
            ],
        )
        for end in (to_browser, from_browser, silent, *ends):
            os.close(end)
        self.messages, self.requests = [], []
        self._answers, self._events, self._session, self._number = {}, [], None, 0
        self._arrived = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        self.emulate(dark=dark)
        if offline:
            self.send(
                "Network.emulateNetworkConditions",
                offline=True,
                latency=0,
                downloadThroughput=-1,
                uploadThroughput=-1,
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(BrokenPipeError, TimeoutError):
            self._session = None
            self.send("Browser.close")
        for _ in range(100):
            if os.waitpid(self._process, os.WNOHANG)[0]:
                break
            time.sleep(0.05)
        else:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._write)
        self._profile._ignore_cleanup_errors = True
        self._profile.cleanup()

    def send(self, method, **params):
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with self._arrived:
            if not self._arrived.wait_for(lambda: number in self._answers, timeout=90):
                raise TimeoutError(method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _listen(self):
        buffer = b""
        while piece := os.read(self._read, 1 << 20):
            buffer += piece
            *whole, buffer = buffer.split(b"\0")
            for raw in whole:
                self._receive(json.loads(raw))
        os.close(self._read)

    def _receive(self, message):
        with self._arrived:
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])
            self._arrived.notify_all()

    def _note(self, method, params):
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.messages.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.messages.append(" ".join(str(a.get("value", a)) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.messages.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def resize(self, width, height=900, mobile=False):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def emulate(self, dark=False, media=""):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path):
        self._events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        with self._arrived:
            if not self._arrived.wait_for(
                lambda: "Page.loadEventFired" in self._events, timeout=60
            ):
                raise TimeoutError(f"{path} did not load")

    def run(self, script):
        """The value of a JavaScript expression; promises are awaited."""
        result = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def wait_for(self, script, seconds=30):
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(script)
            time.sleep(0.05)

    def screenshot(self, path, whole=True):
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole))
        Path(path).write_bytes(base64.b64decode(data["data"]))

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        }

    def pdf(self, path):
        data = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        Path(path).write_bytes(base64.b64decode(data["data"]))
