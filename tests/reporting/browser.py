"""A headless Chromium, driven through chromedriver's HTTP interface: enough of it for one page, and no dependency."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Browser:
    """One session."""

    def __init__(self, address: str) -> None:
        self._address = f"{address}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a webcam
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = self._call("", {"capabilities": {"alwaysMatch": wanted}})
        self._address += "/" + answer["sessionId"]

    def _call(self, path: str, body: dict | None = None, method: str = "POST"):
        data = None if method == "DELETE" else json.dumps(body or {}).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        self._call("", method="DELETE")

    def devtools(self, command: str, **parameters):
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show(self, page: Path | str, *, width: int, scheme: str) -> None:
        """Opens a file or an address as a screen of this width and a system of this colour scheme would."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def run(self, script: str, *arguments):
        """What a script returns."""
        return self._call("/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.1)

    def result(self, promise: str):
        """What a promise gives."""
        return self._call("/execute/async", {"script": f"({promise}).then(arguments[0])", "args": []})

    def choose(self, selector: str, path: Path) -> None:
        """Gives a file to an input."""
        (element,) = self._call("/element", {"using": "css selector", "value": selector}).values()
        self._call(f"/element/{element}/value", {"text": str(path)})

    def point(self, selector: str, right: float = 0.0, *, drag_to: float | None = None) -> None:
        """Scrolls to an element, moves the mouse to its middle plus `right` pixels, and drags from there if told to."""
        # The browser itself finds the middle when it moves: a page may still shift after it was scrolled.
        element = self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "return e",
            selector,
        )
        move = {"type": "pointerMove", "duration": 0, "origin": element, "x": round(right), "y": 0}
        steps = [move]
        if drag_to is not None:
            target = {**move, "duration": 50, "x": round(drag_to)}
            steps += [{"type": "pointerDown", "button": 0}, target, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._call("/actions", {"actions": [mouse]})

    def click(self, selector: str) -> None:
        self.point(selector, drag_to=0)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def complaints(self) -> list[str]:
        """What the console said since the last time."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """The addresses asked for since the last time."""
        messages = [json.loads(entry["message"])["message"] for entry in self._call("/se/log", {"type": "performance"})]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser():
    """A session, within the block."""
    assert DRIVER
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        try:
            assert driver.stdout
            lines = iter(driver.stdout.readline, "")
            port = next(line.rsplit("port ", 1)[1].strip(" .\n") for line in lines if "successfully on port" in line)
            session = _connect(f"http://127.0.0.1:{port}")
            try:
                yield session
            finally:
                session.close()
        finally:
            driver.terminate()


def _connect(address: str) -> Browser:
    for attempt in range(3):
        try:
            return Browser(address)
        except OSError:
            if attempt == 2:
                raise
            time.sleep(1)
    raise AssertionError
