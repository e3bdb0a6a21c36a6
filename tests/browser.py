"""A headless Chromium for tests, driven by the DevTools protocol over two pipes: no driver, no port, nothing to install but it.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root, as in a container, cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
)


class BrowserError(Exception):
    """The browser says that what it was asked for is wrong, or what a page was asked has raised."""


class Tab:
    """A page, and what has happened to it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.events: list[dict[str, Any]] = []
        """What the page has said on its console, thrown, asked the network for, or been refused."""
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something by the protocol, and return the answer."""
        return self._browser.call(method, params, self._session)

    def open(
        self,
        path: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        media: str = "screen",
        scripts: bool = True,
    ) -> None:
        """Show a file, and wait until it is loaded."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[theme])
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        load = {"name": "load", "loaderId": self.call("Page.navigate", url=path.as_uri())["loaderId"]}
        self._browser.wait(lambda: any(load.items() <= event["params"].items() for event in self.events))
        if scripts:
            self.settle()

    def run(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to in the page; of a promise what it is kept with."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait until the page has been drawn, and all that was under way has been done."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        """Press a key, as a person would."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(key, 0)
        what = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text or key != "Tab" else "rawKeyDown", text=text, **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)
        self.settle()

    def type(self, text: str) -> None:
        """Type a text into what has the keyboard."""
        self.call("Input.insertText", text=text)
        self.settle()

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[Any]:
        """Return errors, messages and breaches of the page's policy."""
        methods = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded")
        return [event["params"] for event in self.events if event["method"] in methods]


class Browser:
    """A browser that was started for tests; see `browser`."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._rest = b""
        self._number = 0
        self._answered: dict[int, dict[str, Any]] = {}
        self._tabs: dict[str, Tab] = {}

    def tab(self) -> Tab:
        """Return a new page."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        return tab

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Ask for something by the protocol, and return the answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        self.wait(lambda: number in self._answered)
        answer = self._answered.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, is_there: Callable[[], bool]) -> None:
        """Take in what the browser says until something is so."""
        while not is_there():
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise BrowserError("the browser has ended")
            *messages, self._rest = (self._rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answered[message["id"]] = message
                elif message.get("sessionId") in self._tabs:
                    self._tabs[message["sessionId"]].events.append(message)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    assert CHROMIUM is not None
    requests_read, requests = os.pipe()
    answers, answers_write = os.pipe()
    # It reads from 3 and writes to 4, whatever numbers we have got: bash puts them there (other shells know one digit alone).
    command = [
        "bash",
        "-c",
        f'exec "$@" 3<&{requests_read} 4>&{answers_write}',
        "sh",
        CHROMIUM,
        *_SWITCHES,
        f"--user-data-dir={profile}",
    ]
    with subprocess.Popen(
        [*command, "about:blank"], pass_fds=(requests_read, answers_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        os.close(requests_read)
        os.close(answers_write)
        try:
            found = Browser(requests, answers)
            yield found
            found.call("Browser.close", {})
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(requests)
            os.close(answers)
