# SPDX-License-Identifier: Apache-2.0
"""Where requests to deployed applications go: hosts that belong to no Google API, such as *.run.app.

Cloud Run registers its handler in `start()`:

    self.sandbox.ingress.register("*.run.app", handle)

`handle(scope, receive, send)` is an ASGI application. It is called in the event loop for requests that came through the
proxy, the TLS port or the browser port; `scope["headers"]` carry the real host in each case, and `scope["gcp_sandbox"]`
holds {"sandbox": Sandbox, "host": str, "origin": str | None}: `origin` is the origin that the browser sees
("http://name.localhost:8080") when the request came through the browser port, else None.
The browser port finds a deployed application's host by the first label of the address. Each product publishes them:

    self.sandbox.ingress.publish(labels=lambda: ["mlflow"], locate={"mlflow": "mlflow-abc123-ew.a.run.app"}.get)
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

AsgiApp = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
Labels = Callable[[], Iterable[str]]
Locate = Callable[[str], str | None]


class Ingress:
    """ASGI applications by host pattern."""

    def __init__(self) -> None:
        self._apps: list[tuple[re.Pattern[str], AsgiApp]] = []
        self._published: list[tuple[Labels, Locate]] = []

    def publish(self, *, labels: Labels, locate: Locate) -> None:
        """Let a product say what it has deployed.

        :param labels: labels of its applications at the browser port, for the index page.
        :param locate: from the first label of a `<label>.localhost` address to a real host, or None.
        """
        self._published.append((labels, locate))

    def labels(self) -> list[str]:
        """Labels of all deployed applications, sorted."""
        return sorted({label for labels, _ in self._published for label in labels()})

    def locate(self, label: str) -> str | None:
        """Return the real host behind the first label of a `<label>.localhost` address, or None."""
        return next((found for _, locate in self._published if (found := locate(label))), None)

    def register(self, pattern: str, app: AsgiApp) -> None:
        """Send requests for hosts like `pattern` ("*" stands for one or more characters) to `app`."""
        self._apps.append((host_pattern(pattern), app))

    def find(self, host: str) -> AsgiApp | None:
        """Return the application for a host, or None."""
        return next((app for pattern, app in self._apps if pattern.fullmatch(host)), None)


def host_pattern(text: str) -> re.Pattern[str]:
    """Return a pattern over lower-case host names; "*" stands for one or more characters."""
    return re.compile(".+".join(re.escape(part) for part in text.lower().split("*")))
