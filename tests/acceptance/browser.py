"""A real browser, driven over its debugging pipe: opens pages, presses keys, takes pictures."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.acceptance.x11 import program

LIMIT = 60.0
"""Seconds that anything may take; a busy machine needs some of them."""
_BEGIN = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowUp": 38,
}  # fmt: skip


class Browser:
    """Chromium without a window. `close` ends it."""

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        theirs, self._out = os.pipe()
        read, their_out = os.pipe()
        self._in = os.fdopen(read, "rb")
        self.child = subprocess.Popen(
            [
                *(sys.executable, "-c", _BEGIN, str(theirs), str(their_out)),
                *(program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={home}"),
                *options,
                "about:blank",
            ],
            pass_fds=(theirs, their_out),
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(their_out)
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        """All that was told unasked."""
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End it."""
        self.child.terminate()
        try:
            self.child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self._reader.join(LIMIT)
        os.close(self._out)
        self._in.close()

    def ask(self, method: str, session: str = "", **params: object) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self._number += 1
        number = self._number
        command = {"id": number, "method": method, "params": params}
        if session:
            command["sessionId"] = session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        with self._news:
            if not self._news.wait_for(lambda: number in self._answers or self._over, LIMIT):
                raise AssertionError(f"the browser gives no answer to {method}")
            answer = self._answers.pop(number, {"error": "the browser has ended"})
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def page(self, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """A new tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, width, height, dark)

    def _read(self) -> None:
        rest = b""
        while piece := os.read(self._in.fileno(), 1 << 16):
            *whole, rest = (rest + piece).split(b"\0")
            with self._news:
                for one in whole:
                    message = json.loads(one)
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self.events.append(message)
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, width: int, height: int, dark: bool) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.look(width, height, dark)

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """See `Browser.ask`."""
        return self._browser.ask(method, self._session, **params)

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Its size in pixels, and what its reader likes."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.ask("Emulation.setScrollbarsHidden", hidden=True)
        self.ask("Page.bringToFront")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there."""
        self.ask("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise's, once it has one."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, (script, answer)
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + LIMIT
        condition = (
            f"new Promise(done => {{ const look = () => {{ const value = ({script});"
            " value ? done(value) : setTimeout(look, 20) }; look();"
            " setTimeout(() => done(null), 2000) })"
        )
        while True:
            if value := self.run(condition):
                return value
            assert time.monotonic() < deadline, f"{script} is not true\n{self.text()}"

    def text(self) -> str:
        """What can be read in it."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait_for_text(self, text: str) -> None:
        """Wait until it can be read there."""
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    def press(self, key: str) -> None:
        """One key."""
        code = KEYS.get(key, ord(key[0].upper()))
        typed = "\r" if key == "Enter" else key if len(key) == 1 else ""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=typed, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.ask("Input.insertText", text=text)

    def tab_to(self, label: str) -> None:
        """Press Tab until the button or field of that name has the focus."""
        name = (
            "(e => e.getAttribute('aria-label') || (e.labels && e.labels[0]?.innerText)"
            " || e.innerText || '')(document.activeElement).trim()"
        )
        seen: list[str] = []
        for _ in range(100):
            self.press("Tab")
            seen.append(str(self.run(name)))
            if seen[-1] == label:
                return
        raise AssertionError(f"no way by Tab to {label!r}: {seen}")

    def picture(self, file: Path, whole: bool = True) -> None:
        """A PNG of it."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """What its console says is wrong: errors, exceptions, what its policy has stopped."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found
