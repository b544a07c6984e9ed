# SPDX-License-Identifier: Apache-2.0
"""The ASGI application behind every listener: reads a request, lets a thread answer it, writes the answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.faults import Drop
from gcp_sandbox.gateway.ingress import Ingress
from gcp_sandbox.gateway.messages import Headers, Request, Response, chunks
from gcp_sandbox.gateway.pipeline import Gateway, Target
from gcp_sandbox.gateway.requestlog import Entry, RequestLog

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# JSON requests larger than this are refused, as Google's API front end does; uploads have no limit.
MAX_JSON = 64 << 20
# Long polls (operations.wait) and slow handlers each hold a thread.
_THREADS = 64

_serial = itertools.count()


class Host(Protocol):
    """The parts of the sandbox that `App` uses; `gateway` is None until the sandbox has started."""

    settings: Settings
    ingress: Ingress
    requests: RequestLog
    gateway: Gateway | None


class App:
    """The sandbox's services and what is deployed to them, by host."""

    def __init__(self, sandbox: Host) -> None:
        self._sandbox = sandbox
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")

    def close(self) -> None:
        """Stop at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._sandbox.settings.rtt:
            await asyncio.sleep(self._sandbox.settings.rtt)
        headers = Headers([(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]])
        host = headers.get("host", "").partition(":")[0].lower()
        deployed = self._sandbox.ingress.find(host)
        if deployed:
            await self._deployed(deployed, host, headers, scope, receive, send)
        else:
            await self._api(host, headers, scope, receive, send)

    async def _deployed(
        self, app: Callable, host: str, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started, status = time.time(), 0

        async def watch(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["gcp_sandbox"] = {"sandbox": self._sandbox, "host": host, "origin": scope.get("gcp_sandbox.origin")}
        try:
            await app(scope, receive, watch)
        finally:
            self._sandbox.requests.add(
                Entry(
                    time=started,
                    service="ingress",
                    method=host,
                    verb=scope["method"],
                    host=host,
                    path=scope["path"],
                    status=status,
                    ms=(time.time() - started) * 1000,
                    caller="",
                    agent=headers.get("user-agent", "")[:200],
                )
            )

    async def _api(self, host: str, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        gateway = self._sandbox.gateway
        if gateway is None:
            await self._write(Response(503, {"Retry-After": "1"}, b"gcp-sandbox is starting.\n"), send, head=False)
            return
        method = scope["method"]
        if method == "POST":
            method = headers.get("x-http-method-override", method).upper()
        request = Request(
            method=method,
            host=host,
            raw_path=scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"].decode("latin-1"),
            headers=headers,
            scheme=scope["scheme"],
        )
        target: Target | None = None
        try:
            # An unserved host fails again, with its error, once the body is read.
            with contextlib.suppress(ApiError):
                target = gateway.route(request.method, host, request.raw_path)
            await self._read(request, receive, spool=target is not None and target.spool)
            response = await loop.run_in_executor(self._threads, gateway.answer, request, target)
            await self._write(response, send, head=method == "HEAD")
        except _TooLarge:
            error = ApiError(413, "Request payload size exceeds the limit: 67108864 bytes.", status="INVALID_ARGUMENT")
            response = gateway.error(error, target.service if target else None)
            await self._write(response, send, head=False, close=True)
        except (_Disconnected, Drop):
            await _abort(scope, receive)
        finally:
            if request.file:
                request.file.unlink(missing_ok=True)

    async def _read(self, request: Request, receive: Receive, *, spool: bool) -> None:
        parts: list[bytes] = []
        descriptor = None
        if spool:
            request.file = self._sandbox.settings.spool / f"upload-{os.getpid()}-{next(_serial)}"
            descriptor = os.open(request.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                data = message.get("body", b"")
                more = message.get("more_body", False)
                request.size += len(data)
                if descriptor is not None:
                    # To the page cache: far shorter than handing every piece to a thread.
                    os.write(descriptor, data)
                else:
                    if request.size > MAX_JSON:
                        raise _TooLarge
                    parts.append(data)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        request.body = b"".join(parts)

    async def _write(self, response: Response, send: Send, *, head: bool, close: bool = False) -> None:
        headers = {k.lower(): str(v) for k, v in response.headers.items()}
        if response.stream is None:
            headers.setdefault("content-length", str(_length(response)))
        if close:
            headers["connection"] = "close"
        encoded = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        if not head and (response.path is not None or response.stream is not None):
            loop = asyncio.get_running_loop()
            pieces: Iterator[bytes] = iter(chunks(response))
            while data := await loop.run_in_executor(self._threads, next, pieces, b""):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": b"" if head else response.body})


def _length(response: Response) -> int:
    if response.path is None:
        return len(response.body)
    if response.length is not None:
        return response.length
    return Path(response.path).stat().st_size - response.start


async def _abort(scope: Scope, receive: Receive) -> None:
    """Close the connection unanswered, and return once the HTTP server knows, which would send a 500 otherwise."""
    scope["gcp_sandbox.transport"].abort()
    while (await receive())["type"] != "http.disconnect":
        continue


class _Disconnected(Exception):
    """The client went away before its request was complete."""


class _TooLarge(Exception):
    """The body is over the limit."""
