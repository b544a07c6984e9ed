# SPDX-License-Identifier: Apache-2.0
"""The reverse proxy for browsers: deployed services at `http://<service>.localhost:<port>/`, without a CONNECT proxy.

Browsers resolve every name below localhost to this machine (RFC 6761). It puts the service's real host where the
application and its checks (IAP, allowed hosts, CORS) expect it, and rewrites addresses in the answer. Any host that
the sandbox serves is reachable by its whole name too: `http://accounts.google.com.localhost:<port>/`; redirects to such
hosts are turned into these addresses.
"""

from __future__ import annotations

import html
import re
from typing import Any, Protocol

from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.ingress import Ingress
from gcp_sandbox.network.app import App, Receive, Scope, Send
from gcp_sandbox.network.proxy import is_google

_SUFFIX = ".localhost"


class Host(Protocol):
    """The parts of the sandbox that `LocalhostProxy` uses."""

    settings: Settings
    ingress: Ingress


class LocalhostProxy:
    """ASGI application in front of `App`."""

    def __init__(self, sandbox: Host, app: App) -> None:
        self._sandbox = sandbox
        self._app = app
        self._port = sandbox.settings.ports.browser

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        asked = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "").lower()
        name = asked.partition(":")[0]
        if name in ("localhost", "127.0.0.1"):
            await _page(send, 200, self._index())
            return
        real = self._real(name.removesuffix(_SUFFIX)) if name.endswith(_SUFFIX) else None
        if real is None:
            await _page(send, 404, f"<p>Nothing is deployed as <b>{html.escape(name)}</b>.</p>{self._index()}")
            return
        origin = f"http://{asked}"
        inner = dict(scope)
        inner["scheme"] = "https"
        inner["gcp_sandbox.origin"] = origin
        inner["headers"] = [self._inward(k, v, origin, real) for k, v in scope["headers"]]

        async def outward(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [self._outward(k, v, origin, real) for k, v in message["headers"]]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(inner, receive, outward)

    def _real(self, label: str) -> str | None:
        if "." in label:
            return label if is_google(label) else None
        return self._sandbox.ingress.locate(label)

    def _inward(self, name: bytes, value: bytes, origin: str, real: str) -> tuple[bytes, bytes]:
        if name == b"host":
            return name, real.encode()
        if name in (b"origin", b"referer"):
            text = value.decode("latin-1")
            if text == origin or text.startswith(f"{origin}/"):
                return name, f"https://{real}{text.removeprefix(origin)}".encode("latin-1")
        if name == b"cookie":
            return name, re.sub(rb"\blocalhost-(Secure|Host)-", rb"__\1-", value)
        return name, value

    def _outward(self, name: bytes, value: bytes, origin: str, real: str) -> tuple[bytes, bytes]:
        key = name.lower()
        if key == b"location":
            return name, self._address(value.decode("latin-1"), origin, real).encode("latin-1")
        if key == b"access-control-allow-origin" and value.decode("latin-1") == f"https://{real}":
            return name, origin.encode("latin-1")
        if key == b"set-cookie":
            # The browser speaks plain HTTP to localhost: a Domain of the real host or Secure would make it drop the
            # cookie, SameSite=None is only taken together with Secure, and so are the two prefixes of names.
            text = re.sub(r";\s*(?:domain=[^;]*|secure|samesite=none)(?=;|$)", "", value.decode("latin-1"), flags=re.I)
            text = re.sub(r"^__(Secure|Host)-", r"localhost-\1-", text)
            return name, text.encode("latin-1")
        return name, value

    def _address(self, url: str, origin: str, real: str) -> str:
        found = re.match(r"https?://([^/:?#]+)(?::443)?(?=[/?#]|$)", url)
        if not found:
            return url
        host, rest = found[1].lower(), url[found.end() :]
        if host == real:
            return origin + rest
        return f"http://{host}{_SUFFIX}:{self._port}{rest}" if is_google(host) else url

    def _index(self) -> str:
        labels = self._sandbox.ingress.labels()
        links = "".join(
            f'<li><a href="http://{html.escape(label)}{_SUFFIX}:{self._port}/">{html.escape(label)}</a>'
            for label in labels
        )
        return f"<ul>{links}</ul>" if links else "<p>No service is deployed yet.</p>"


async def _page(send: Send, status: int, content: str) -> None:
    body = (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>gcp-sandbox</title>"
        "<style>body{font:16px system-ui;margin:3em auto;max-width:40em}</style>"
        f"<h1>gcp-sandbox</h1><p>Services deployed to this local sandbox:</p>{content}"
    ).encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
