# SPDX-License-Identifier: Apache-2.0
"""Requests to deployed services: who may come in, and the way to an instance and back.

In Cloud Run's order: the host leads to a service and its ingress setting lets the request in (404 otherwise); IAP or
the invoker check says who it is (302, 401, 403); the body is within bounds (413); an instance takes it (429, 503) and
answers in time (504).
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
from typing import TYPE_CHECKING, Any

import httpx

from gcp_sandbox.backends.pools import Exhausted, Instance, Pool, StartFailed
from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.identity import ANONYMOUS, Principal
from gcp_sandbox.gateway.service import Response
from gcp_sandbox.services.iap.access import OWN_HEADERS, Granted, Protected, WebRequest

if TYPE_CHECKING:
    from gcp_sandbox.gateway.sandbox import Sandbox
    from gcp_sandbox.services.run.runtime import Route, Runtime

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# cloud.google.com/run/quotas: HTTP/1 requests, and responses that say their length instead of being streamed.
MAX_BODY = 32 << 20

# How long a request waits for an instance to start, at least: Cloud Run's pending queue
# (cloud.google.com/run/docs/troubleshooting).
LEAST_WAIT = 10.0

# How many instances a request is offered to, when those that were there have died unnoticed.
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

UNSIGNED = "SIGNATURE_REMOVED_BY_GOOGLE"

NO_AGENT = (
    "The IAP service account is not provisioned. Please follow the instructions to create service account and "
    "rectify IAP and "
    "Cloud Run setup: https://cloud.google.com/iap/docs/enabling-cloud-run"
)


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


def forbidden(path: str, note: str) -> Refusal:
    """403 of the invoker check."""
    text = f"Your client does not have permission to get URL <code>{html.escape(path)}</code> from this server."
    return Refusal(403, "Forbidden", text, note)


def unauthorized(path: str, problem: str) -> Refusal:
    """401 of the invoker check: a token that is there and not good."""
    text = f"Your client does not have permission to the requested URL <code>{html.escape(path)}</code>."
    header = f'Bearer error="invalid_token" error_description="{problem}"'
    note = f"The request was not authenticated: {problem}."
    return Refusal(401, "Unauthorized", text, note, {"www-authenticate": header})


def too_large() -> Refusal:
    """413: the body is over 32 MiB."""
    return Refusal(413, "Request Entity Too Large", "Your client issued a request that was too large.\n")


@dataclass
class Exchange:
    """One request on its way through."""

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

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.begun, self.status = True, status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the answer."""
        self.sent += len(data)
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


class RunIngress:
    """The ASGI application behind *.run.app."""

    def __init__(self, sandbox: Sandbox, runtime: Runtime) -> None:
        self.sandbox = sandbox
        self.runtime = runtime
        self._client: httpx.AsyncClient | None = None

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
            door=about["door"],
        )
        route = self.runtime.route(about["host"])
        client = (scope.get("client") or ["127.0.0.1"])[0]
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
        service = route.service
        if (
            service.get("deleteTime")
            or service.get("defaultUriDisabled")
            or service["ingress"] != "INGRESS_TRAFFIC_ALL"
        ):
            raise not_found()
        if request.headers.get("upgrade", "").lower() == "websocket":
            raise Refusal(501, "Not Implemented", "The sandbox does not forward WebSockets.")
        passed = await asyncio.to_thread(self._admit, route, request)
        if isinstance(passed, Response):
            exchange.status = passed.status
            await answer(exchange.send, passed, head=request.method == "HEAD")
            return
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large()
        revision = route.choose()
        pool = self.runtime.pool(revision) if revision else None
        if pool is None:
            raise self._unavailable("The service has no revision that is ready.")
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

    # -- who may come in

    def _admit(self, route: Route, request: WebRequest) -> Granted | Response:
        """IAP's or the invoker check's decision. Refusal, or a Response of IAP's, for who stays outside."""
        service = route.service
        if service.get("iapEnabled"):
            return self._admit_through_iap(route, request)
        if service.get("invokerIamDisabled"):
            return Granted(None)
        resource = f"//run.googleapis.com/{service['name']}"
        header = "x-serverless-authorization" if "x-serverless-authorization" in request.headers else "authorization"
        scheme, _, token = request.headers.get(header, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            # Other schemes are the application's own business on a public service.
            if self.sandbox.iam.allowed(ANONYMOUS, resource, "run.routes.invoke"):
                return Granted(None)
            note = (
                "The request was not authenticated. Either allow unauthenticated invocations or set the proper "
                "Authorization "
                "header. Read more at https://cloud.google.com/run/docs/securing/authenticating"
            )
            raise forbidden(request.path, note)
        principal = self._invoker(route, token.strip())
        if principal is None:
            if self.sandbox.iam.allowed(ANONYMOUS, resource, "run.routes.invoke"):
                return Granted(None)
            raise unauthorized(request.path, "The access token could not be verified")
        if not self.sandbox.iam.allowed(principal, resource, "run.routes.invoke"):
            note = (
                f"The request was authenticated as {principal.email}, which lacks the run.routes.invoke permission "
                "on the "
                "service (roles/run.invoker)."
            )
            raise forbidden(request.path, note)
        return Granted(principal, frozenset({header}), {header: f"Bearer {unsigned(token.strip())}"})

    def _invoker(self, route: Route, token: str) -> Principal | None:
        """The owner of an ID token that is meant for this service; None for any other token."""
        name = route.name
        hosts = {route.host, *(f"{host}" for host in all_hosts(route))}
        audiences = {f"https://{host}{slash}" for host in hosts for slash in ("", "/")}
        audiences |= set(route.service.get("customAudiences", ())) | {name.id}
        return self.sandbox.identities.verify_id_token(token, audiences)

    def _admit_through_iap(self, route: Route, request: WebRequest) -> Granted | Response:
        name = route.name
        project = self.sandbox.projects.get(name.project)
        protected = Protected(
            resource=f"projects/{route.number}/iap_web/cloud_run-{name.region}/services/{name.id}",
            audience=f"/projects/{route.number}/locations/{name.region}/services/{name.id}",
            project=project,
        )
        decision = self.sandbox.services["iap"].access.authorize(protected, request)
        if isinstance(decision, Response):
            return decision
        if route.service.get("invokerIamDisabled"):
            return decision
        # Only then does IAP itself have to be let in, as its service agent.
        agent = f"service-{route.number}@gcp-sa-iap.iam.gserviceaccount.com"
        resource = f"//run.googleapis.com/{route.service['name']}"
        known = self.sandbox.identities.account(agent) is not None
        principal = self.sandbox.identities.service_account(agent)
        if not known or not self.sandbox.iam.allowed(principal, resource, "run.routes.invoke"):
            headers = {"X-Goog-IAP-Generated-Response": "true", "content-type": "text/html"}
            return Response(403, headers, NO_AGENT.encode())
        token = self.sandbox.identities.mint_id_token(agent, f"https://{route.host}")
        added = {**decision.headers, "x-serverless-authorization": f"Bearer {unsigned(token)}"}
        return Granted(decision.principal, decision.remove | {"x-serverless-authorization"}, added)

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
        raise self._unavailable("The container closed the connection.")

    async def _acquire(self, pool: Pool) -> Instance:
        future = pool.acquire()
        if future.done() and future.exception() is None:
            return future.result()
        limit = max(LEAST_WAIT, pool.window * 3.5)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), limit)
        except (TimeoutError, asyncio.CancelledError) as error:
            pool.abandon(future)
            if isinstance(error, asyncio.CancelledError):
                raise
            note = "The request was aborted because there was no available instance."
            raise Refusal(429, "", "Rate exceeded.", note, plain=True) from None
        except StartFailed as error:
            raise self._unavailable(str(error)) from None
        except ApiError as error:
            raise self._unavailable(error.message) from None
        except Exhausted as error:
            raise self._unavailable(str(error)) from None

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
            raise self._unavailable(f"The container's answer could not be read: {type(error).__name__}.") from None
        try:
            length = incoming.headers.get("content-length", "0")
            if length.isdigit() and int(length) > MAX_BODY and request.method != "HEAD":
                note = "Response size was too large. Please consider reducing response size."
                text = "The server encountered an error and could not complete your request."
                raise Refusal(500, "Server Error", text, note)
            await exchange.start(incoming.status_code, answer_headers(incoming))
            if request.method != "HEAD":
                async for piece in incoming.aiter_raw():
                    await exchange.body(piece, more=True)
            await exchange.body(b"", more=False)
        except httpx.HTTPError:
            # The head is out: the client can only be told by a connection that ends early.
            log.info("%s: the container broke off its answer", exchange.route.name.id)
            raise ConnectionAbortedError("the container broke off its answer") from None
        finally:
            await incoming.aclose()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=5)
            self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False, follow_redirects=False)
        return self._client

    # -- answers of the platform

    @staticmethod
    def _unavailable(note: str) -> Refusal:
        return Refusal(503, "", "Service Unavailable", note, plain=True)

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        if exchange.begun:
            raise ConnectionAbortedError(refusal.note)
        exchange.status = refusal.status
        await answer(exchange.send, refusal.response(), head=exchange.request.method == "HEAD")

    def _log(self, exchange: Exchange, note: str) -> None:
        """The request log. No query string: it may hold credentials."""
        request = exchange.request
        took = time.monotonic() - exchange.started
        line = f'"{request.method} {request.path}" {exchange.status} {exchange.sent} {took:.3f}s'
        self.sandbox.processes.log(exchange.route.name.id, f"{line} {note}".rstrip())


async def upload(exchange: Exchange) -> AsyncIterator[bytes]:
    """The request's body as it arrives, up to the limit."""
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
    """What the container gets: the client's headers and those that Google's front end adds."""
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


def answer_headers(incoming: httpx.Response) -> list[tuple[bytes, bytes]]:
    """The container's headers without those of its own connection."""
    kept = [(name.lower(), value) for name, value in incoming.headers.raw if name.lower().decode() not in HOP_BY_HOP]
    return [(name, value) for name, value in kept if name not in (b"server", b"date")] + [
        (b"server", b"Google Frontend")
    ]


async def answer(send: Send, response: Response, *, head: bool) -> None:
    """Write an answer that is complete in memory."""
    body = httpx.Response(200, json=response.json).content if response.json is not None else response.body
    headers = {"content-type": "application/json"} if response.json is not None else {}
    headers |= {name.lower(): value for name, value in response.headers.items()}
    headers |= {"content-length": str(len(body)), "server": "Google Frontend"}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if head else body})


def all_hosts(route: Route) -> list[str]:
    """Every host of the service, whichever of them was used."""
    from gcp_sandbox.services.run import names

    return names.hosts(route.name.id, route.number, route.name.region, route.tag)


def unsigned(token: str) -> str:
    """A JWT as the container sees it: readable, and of no use elsewhere."""
    try:
        tokens.split(token)
    except tokens.InvalidToken:
        return UNSIGNED
    return f"{token.rpartition('.')[0]}.{UNSIGNED}"
