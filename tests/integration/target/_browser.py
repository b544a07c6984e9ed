# SPDX-License-Identifier: Apache-2.0
"""A browser for tests: a headless Chromium.

The tests control it by the DevTools protocol over a pair of pipes (chromedevtools.github.io/devtools-protocol), because
the sign-in page needs a click on a button.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZE = (1400, 900)
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root and containers may have no user namespaces
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
ALICE, BOB = "alice@example.com", "bob@example.com"


class Browser:
    """A headless Chromium with its own profile and one page."""

    def __init__(self, profile: Path):
        # Chromium reads commands from descriptor 3 and writes to 4. Descriptors above 9 do not conflict in the shell.
        commands, self._write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self._read, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        shell = ("bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "browser")
        with (profile.parent / f"{profile.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*shell, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
                env=clean | {"HOME": str(profile)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(commands, answers),
                start_new_session=True,
            )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = SIZE
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str) -> None:
        """Navigate to a URL."""
        failed = self._call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"

    def press(self, selector: str) -> None:
        """Click the button or link that matches a CSS selector."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def wait(self, *words: str, seconds: float = 300) -> str:
        """Wait until the page contains all the words; return its visible text."""
        deadline = time.monotonic() + seconds
        while not all(word in (text := self.text) for word in words):
            assert time.monotonic() < deadline, f"{self.url} does not show {words}, but:\n{text}"
            time.sleep(0.2)
        return text

    @property
    def text(self) -> str:
        # The document has no body while a page loads.
        return self.evaluate("document.body?.innerText ?? ''")

    @property
    def url(self) -> str:
        return self.evaluate("location.href")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression} at {self.url}: {answer}"
        return answer["result"].get("value")

    def picture(self, file: Path) -> bytes:
        """Take a screenshot, write it to `file` and return the PNG."""
        image = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        file.write_bytes(image)
        return image

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message(method))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _message(self, method: str, seconds: float = 300) -> bytes:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, *_ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            assert data, f"the browser does not respond to {method}"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return message


def sign_in(browser: Browser, server_url: str, email: str) -> None:
    """Open the deployment and sign in as a user."""
    browser.open(server_url)
    text = browser.wait("Choose an account", ALICE, BOB)
    assert "not Google" in text and server_url.rstrip("/") in text
    browser.press(f'button[value="{email}"]')


def assert_picture(image: bytes) -> None:
    """Assert that the image is a PNG of the whole window and not of an empty page, which has less than 10 kB."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", image[16:24]) == SIZE
    assert len(image) > 20_000
