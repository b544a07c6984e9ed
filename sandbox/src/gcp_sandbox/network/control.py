# SPDX-License-Identifier: Apache-2.0
"""How the command line talks to the daemon: HTTP on a unix socket in a folder that only the user can enter."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qs

from gcp_sandbox.gateway.faults import FaultError, Faults
from gcp_sandbox.gateway.identity import Identities
from gcp_sandbox.network.app import Receive, Scope, Send


class Host(Protocol):
    """The parts of the sandbox that `Control` uses."""

    identities: Identities
    faults: Faults

    def set_faults(self, document: Any) -> None:
        """Apply the rules of a document; FaultError for rules that cannot be used."""

    def flush(self) -> None:
        """Write the logs."""

    def health(self) -> dict[str, Any]:
        """Return what is served, what could not be loaded, and what is deployed."""


class Control:
    """ASGI application: GET /health, GET /credentials?email=, GET, PUT and DELETE /faults, POST /flush, POST /stop."""

    def __init__(self, sandbox: Host, stop: Callable[[], None]) -> None:
        self._sandbox = sandbox
        self._stop = stop
        self._started = time.time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        status, answer = 404, {"error": "no such command"}
        match scope["method"], scope["path"]:
            case "GET", "/health":
                status, answer = 200, await asyncio.to_thread(self._health)
            case "GET", "/credentials":
                status, answer = await asyncio.to_thread(self._credentials, query.get("email", ""))
            case "GET", "/faults":
                status, answer = 200, self._sandbox.faults.show()
            case "PUT", "/faults":
                status, answer = await asyncio.to_thread(self._set_faults, await _body(receive))
            case "DELETE", "/faults":
                self._sandbox.faults.clear()
                status, answer = 200, {}
            case "POST", "/flush":
                await asyncio.to_thread(self._sandbox.flush)
                status, answer = 200, {}
            case "POST", "/stop":
                self._stop()
                status, answer = 200, {}
        body = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _health(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "started": self._started, **self._sandbox.health()}

    def _set_faults(self, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            self._sandbox.set_faults(json.loads(body))
        except FaultError as error:
            return 400, {"error": str(error)}
        return 200, self._sandbox.faults.show()

    def _credentials(self, email: str) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self._sandbox.identities.adc(email)
        except KeyError:
            return 404, {"error": f"the sandbox has no user or service account {email!r}"}


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
