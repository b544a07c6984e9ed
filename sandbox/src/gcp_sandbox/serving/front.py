# SPDX-License-Identifier: Apache-2.0
"""Requests to deployed applications: authorization, an instance, and the answer.

In the order of Google's front ends: the host has an application (404 otherwise); IAP or IAM decides (302, 401, 403);
the body is within bounds (413); an instance takes it (429, 503) and answers in time (504).
"""

from __future__ import annotations

import asyncio
import html
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from gcp_sandbox.backends.pools import Exhausted, Instance, Pool, StartFailed
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.serving.web import OWN_HEADERS, Granted, WebRequest

if TYPE_CHECKING:
    from gcp_sandbox.backends.logs import Source
    from gcp_sandbox.backends.platform import Platform

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# cloud.google.com/run/quotas and cloud.google.com/appengine/docs/flexible/how-requests-are-handled: HTTP/1 requests.
MAX_BODY = 32 << 20

# How long a request waits for an instance to start, at least: Cloud Run's pending queue
# (cloud.google.com/run/docs/troubleshooting).
MIN_WAIT = 10.0

# How many instances a request is sent to, when some have died unnoticed.
ATTEMPTS = 3

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


@dataclass
class Refusal(Exception):
    """The answer to a request that goes no further."""

    status: int
    title: str
    text: str
    note: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    plain: bool = False

    def response(self) -> Response:
        """As Google's front end writes it."""
        if self.plain:
            return Response(self.status, {"content-type": "text/plain", **self.headers}, self.text.encode())
        phrase = HTTPStatus(self.status).phrase
        body = (
            '\n<html><head>\n<meta http-equiv="content-type" content="text/html;charset=utf-8">\n'
            f"<title>{self.status} {phrase}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n"
            f"<h1>Error: {self.title}</h1>\n<h2>{self.text}</h2>\n<h2></h2>\n</body></html>\n"
        )
        return Response(self.status, {"content-type": "text/html; charset=UTF-8", **self.headers}, body.encode())


def not_found() -> Refusal:
    """404: no such host, or an ingress setting that keeps the request out."""
    return Refusal(404, "Page not found", "The requested URL was not found on this server.")


def unavailable(note: str) -> Refusal:
    """503: there is no instance, or it does not answer."""
    return Refusal(503, "", "Service Unavailable", note, plain=True)


def too_large() -> Refusal:
    """413: the body is over 32 MiB."""
    return Refusal(413, "Request Entity Too Large", "Your client issued a request that was too large.\n")


class Route(Protocol):
    """Where a request leads."""

    def source(self, served: str) -> Source:
        """Return the log that notes the request, of the revision or version that served it ("" where none did)."""

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""

    @property
    def answer_headers(self) -> list[tuple[str, str]]:
        """Headers that the platform adds to the application's answer."""


@dataclass
class Exchange:
    """One request in progress."""

    route: Route
    request: WebRequest
    headers: list[tuple[str, str]]
    client: str
    receive: Receive
    send: Send
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    sent: int = 0
    begun: bool = False
    consumed: bool = False
    served: str = ""

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.begun, self.status = True, status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the answer."""
        self.sent += len(data)
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


class FrontEnd:
    """An ASGI application for the hosts of one product. A product defines where a request leads (`find`),
    whether it is authorized (`admit`) and which instances serve it (`pool`)."""

    #: Bytes of an answer that says its length, where the product has a limit.
    max_answer: int | None = None
    #: Seconds that a request waits for an instance, where that is not what an instance takes to start.
    max_wait: float | None = None

    def __init__(self, sandbox: Platform) -> None:
        self.sandbox = sandbox
        self._client: httpx.AsyncClient | None = None

    def find(self, request: WebRequest, client: str) -> Any:
        """Return the Route of a request from the address `client`, or None. In the event loop: it must not block.

        Abstract, as are `admit` and `pool`: each product implements them.
        """
        raise NotImplementedError

    def admit(self, route: Any, request: WebRequest) -> Granted | Response:
        """Let the request in, or answer it: with a Response, or by raising Refusal. In a thread."""
        raise NotImplementedError

    def pool(self, route: Any) -> Pool | None:
        """Return the instances for one request; None when none can serve."""
        raise NotImplementedError

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        about = scope["gcp_sandbox"]
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        request = WebRequest(
            method=scope["method"],
            host=about["host"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=dict(headers),
            origin=about["origin"],
        )
        client = (scope.get("client") or ["127.0.0.1"])[0]
        route = self.find(request, client)
        if route is None:
            await answer(send, not_found().response(), head=request.method == "HEAD")
            return
        exchange = Exchange(route, request, headers, client, receive, send)
        note = ""
        try:
            await self._serve(exchange)
        except Refusal as refusal:
            note = refusal.note
            await self._refuse(exchange, refusal)
        except ApiError as error:
            await self._refuse(exchange, Refusal(error.code, "Server Error", html.escape(error.message)))
        finally:
            self._log(exchange, note)

    async def _serve(self, exchange: Exchange) -> None:
        route, request = exchange.route, exchange.request
        if request.headers.get("upgrade", "").lower() == "websocket":
            raise Refusal(501, "Not Implemented", "The sandbox does not forward WebSockets.")
        passed = await asyncio.to_thread(self.admit, route, request)
        if isinstance(passed, Response):
            exchange.status = passed.status
            await answer(exchange.send, passed, head=request.method == "HEAD")
            return
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large()
        pool = self.pool(route)
        if pool is None:
            raise unavailable("There is no version that is ready.")
        exchange.served = pool.name
        headers = forwarded_headers(exchange, passed)
        try:
            async with asyncio.timeout(route.timeout):
                await self._forward(exchange, pool, headers)
        except TimeoutError:
            if exchange.begun:
                raise
            raise Refusal(
                504,
                "",
                "upstream request timeout",
                "The request has been terminated because it has reached the maximum request timeout.",
                plain=True,
            ) from None

    # -- to an instance and back

    async def _forward(self, exchange: Exchange, pool: Pool, headers: list[tuple[str, str]]) -> None:
        for _ in range(ATTEMPTS):
            instance = await self._acquire(pool)
            try:
                await self._proxy(exchange, instance, headers)
                return
            except httpx.ConnectError:
                # It died after it was chosen; another one is started.
                pool.discard(instance)
                if exchange.consumed or exchange.begun:
                    break
            finally:
                pool.release(instance)
        raise unavailable("The container closed the connection.")

    async def _acquire(self, pool: Pool) -> Instance:
        future = pool.acquire()
        if future.done() and future.exception() is None:
            return future.result()
        limit = max(MIN_WAIT, pool.window * 3.5) if self.max_wait is None else self.max_wait
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), limit)
        except (TimeoutError, asyncio.CancelledError) as error:
            pool.abandon(future)
            if isinstance(error, asyncio.CancelledError):
                raise
            note = "The request was aborted because there was no available instance."
            if self.max_wait is not None:
                raise unavailable(note) from None
            raise Refusal(429, "", "Rate exceeded.", note, plain=True) from None
        except StartFailed as error:
            raise unavailable(str(error)) from None
        except ApiError as error:
            raise unavailable(error.message) from None
        except Exhausted as error:
            raise unavailable(str(error)) from None

    async def _proxy(self, exchange: Exchange, instance: Instance, headers: list[tuple[str, str]]) -> None:
        request = exchange.request
        query = f"?{request.query}" if request.query else ""
        url = httpx.URL(f"http://127.0.0.1:{instance.process.port}").copy_with(
            raw_path=f"{request.path}{query}".encode()
        )
        bodyless = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
        outgoing = self._http().build_request(
            request.method, url, headers=headers, content=None if bodyless else upload(exchange)
        )
        try:
            incoming = await self._http().send(outgoing, stream=True)
        except httpx.ConnectError:
            raise
        except httpx.HTTPError as error:
            raise unavailable(f"The container's answer could not be read: {type(error).__name__}.") from None
        try:
            length = incoming.headers.get("content-length", "0")
            too_long = self.max_answer is not None and length.isdigit() and int(length) > self.max_answer
            if too_long and request.method != "HEAD":
                note = "Response size was too large. Please consider reducing response size."
                text = "The server encountered an error and could not complete your request."
                raise Refusal(500, "Server Error", text, note)
            await exchange.start(incoming.status_code, answer_headers(incoming, exchange.route))
            if request.method != "HEAD":
                async for piece in incoming.aiter_raw():
                    await exchange.body(piece, more=True)
            await exchange.body(b"", more=False)
        except httpx.HTTPError:
            # The head is sent: only a connection that ends early reports the error to the client.
            log.info("%s: the container broke off its answer", exchange.served)
            raise ConnectionAbortedError("the container broke off its answer") from None
        finally:
            await incoming.aclose()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=5)
            self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False, follow_redirects=False)
        return self._client

    # -- answers of the platform

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        if exchange.begun:
            raise ConnectionAbortedError(refusal.note)
        exchange.status = refusal.status
        await answer(exchange.send, refusal.response(), head=exchange.request.method == "HEAD")

    def _log(self, exchange: Exchange, note: str) -> None:
        """Write the request log, without the query string: it may hold credentials."""
        request = exchange.request
        took = time.monotonic() - exchange.started
        line = f'"{request.method} {request.path}" {exchange.status} {exchange.sent} {took:.3f}s'
        entry = {
            "requestMethod": request.method,
            "requestUrl": f"https://{request.host}{request.path}",
            "status": exchange.status,
            "responseSize": str(exchange.sent),
            "userAgent": request.headers.get("user-agent", ""),
            "remoteIp": exchange.client,
            "latency": f"{took:.6f}s",
            "protocol": "HTTP/1.1",
        }
        severity = "ERROR" if exchange.status >= 500 else "WARNING" if exchange.status >= 400 else "INFO"
        source = exchange.route.source(exchange.served)
        text = f"{line} {note}".rstrip()
        self.sandbox.logs.line(source, text, severity=severity, httpRequest=entry, textPayload=note)


async def upload(exchange: Exchange) -> AsyncIterator[bytes]:
    """Return the request's body as it arrives, up to the limit."""
    exchange.consumed = True
    total = 0
    more = True
    while more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client went away")
        data = message.get("body", b"")
        more = message.get("more_body", False)
        total += len(data)
        if total > MAX_BODY:
            raise too_large()
        if data:
            yield data


def forwarded_headers(exchange: Exchange, granted: Granted) -> list[tuple[str, str]]:
    """Return the headers for the container: the client's and those that Google's front end adds."""
    request = exchange.request
    named = {part.strip().lower() for part in request.headers.get("connection", "").split(",")}
    drop = HOP_BY_HOP | named | granted.remove | set(OWN_HEADERS)
    # Set below from what is known here; a client cannot make them up.
    drop |= {"x-forwarded-proto", "forwarded", "x-cloud-trace-context", "traceparent"}
    kept = [(name, value) for name, value in exchange.headers if name not in drop and name != "x-forwarded-for"]
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    before = request.headers.get("x-forwarded-for")
    return [
        *kept,
        ("x-forwarded-for", f"{before}, {exchange.client}" if before else exchange.client),
        ("x-forwarded-proto", "https"),
        ("forwarded", f'for="{exchange.client}";proto=https'),
        ("x-cloud-trace-context", f"{trace}/{int(span, 16)};o=1"),
        ("traceparent", f"00-{trace}-{span}-01"),
        *granted.headers.items(),
    ]


def answer_headers(incoming: httpx.Response, route: Route) -> list[tuple[bytes, bytes]]:
    """Return the container's headers without those of its own connection, and the platform's."""
    kept = [(name.lower(), value) for name, value in incoming.headers.raw if name.lower().decode() not in HOP_BY_HOP]
    added = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in route.answer_headers]
    kept = [(name, value) for name, value in kept if name not in (b"server", b"date")]
    return [*kept, *added, (b"server", b"Google Frontend")]


async def answer(send: Send, response: Response, *, head: bool) -> None:
    """Write an answer that is complete in memory."""
    body = httpx.Response(200, json=response.json).content if response.json is not None else response.body
    headers = {"content-type": "application/json"} if response.json is not None else {}
    headers |= {name.lower(): value for name, value in response.headers.items()}
    headers |= {"content-length": str(len(body)), "server": "Google Frontend"}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if head else body})
