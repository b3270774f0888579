"""A headless browser for the tests of pages: Chromium through its debugging pipe, with the standard library alone."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Browser", "Tab", "browser"]

PATIENCE = 60.0
"""Seconds that an answer may take."""

_START = "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
"""The browser reads from file 3 and writes to file 4; whoever starts it may have others there."""


class Browser:
    """A running browser."""

    def __init__(self, profile: Path) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--hide-scrollbars", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen([sys.executable, "-c", _START, *map(str, high), *command], pass_fds=high,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        self.into, self.out_of, self.rest, self.count = ours_out, ours_in, b"", 0
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what is told meanwhile is kept in ``events``."""
        self.count += 1
        wanted = self.count
        message = {"id": wanted, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.into, data):]
        while (found := self._next()).get("id") != wanted:
            self.events.append(found)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        answer: dict[str, Any] = found["result"]
        return answer

    def wait(self, event: str, session: str) -> dict[str, Any]:
        """The first event of this name in a session that nobody has taken."""
        while True:
            for k, found in enumerate(self.events):
                if found.get("method") == event and found.get("sessionId") == session:
                    taken: dict[str, Any] = self.events.pop(k)["params"]
                    return taken
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.out_of], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self.out_of, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError("the browser ended" if ready else f"the browser said nothing for {PATIENCE:.0f} seconds")
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def tab(self, width: int = 1500, height: int = 900, *, dark: bool = False, scripts: bool = True) -> Tab:
        """A new page of this size."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], target)
        for domain in ("Page", "Runtime", "Log"):
            tab.ask(f"{domain}.enable")
        tab.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        tab.look(width, height, dark=dark)
        return tab

    def close(self) -> None:
        """End it, by force where it does not end."""
        with suppress(RuntimeError, OSError):
            self.ask("Browser.close")
        for end in (self.into, self.out_of):
            os.close(end)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Tab:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **parameters)

    def look(self, width: int, height: int = 900, *, dark: bool = False, media: str = "screen", still: bool = False) -> None:
        """The size of the window, the colours of the reader's system, paper or screen, and whether things may move."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def open(self, page: Path) -> None:
        """Go to a file and wait until it is whole."""
        self.ask("Page.navigate", url=page.as_uri())
        self.browser.wait("Page.loadEventFired", self.session)

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"].get("exception", found["exceptionDetails"]).get("description")))
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Press the mouse where an element starts, once it lies still there; no script of the page has to run for that."""
        node = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{node}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        place, seen = None, 0
        while seen < 3:
            time.sleep(0.03)
            before = place
            place = self.run(f"(({{left, top, height}}) => [left + 3, top + height / 2])({node}.getClientRects()[0])")
            seen = seen + 1 if place == before else 0
        x, y = place
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[str]:
        """What the console was told so far."""
        self.run("0")
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(event["params"]["args"]))
        return found

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self.target)
        self.browser.events = [e for e in self.browser.events if e.get("sessionId") != self.session]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that ends with the block."""
    found = Browser(profile)
    try:
        yield found
    finally:
        found.close()
