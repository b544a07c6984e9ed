# SPDX-License-Identifier: Apache-2.0
"""The CONNECT proxy: tunnels to Google's hosts end in this process, all others go where they are meant to.

A tunnel to a Google host is not copied to another port: TLS starts on the client's own connection and the HTTP server
continues with it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import ssl
import urllib.request
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

# Hosts that the sandbox answers for: Google's APIs and what is deployed to Google Cloud.
GOOGLE = re.compile(
    r"(?:.+\.)?(?:googleapis\.com|google\.com|run\.app|appspot\.com|pkg\.dev|google\.internal|googleusercontent\.com"
    r"|cloudfunctions\.net|gcr\.io|gstatic\.com|goog)"
)
_MAX_HEAD = 64 * 1024


def is_google(host: str) -> bool:
    """Return whether a host is served here."""
    return GOOGLE.fullmatch(host.lower()) is not None


class _Pending(asyncio.Protocol):
    """Holds what arrives between the end of the TLS handshake and the start of the HTTP server on the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Proxy(asyncio.Protocol):
    """One client's connection to the proxy."""

    def __init__(self, http: Callable[[], asyncio.Protocol], context: ssl.SSLContext, tasks: set[asyncio.Task]) -> None:
        self._http = http
        self._context = context
        self._tasks = tasks
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport
        self._head += data
        if len(self._head) > _MAX_HEAD:
            self._refuse(431, "Request Header Fields Too Large", "The request's head is too large.")
            return
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3:
            self._refuse(400, "Bad Request", "This is not HTTP.")
        elif words[0] != "CONNECT":
            self._plain(words[0], words[1])
        else:
            self._connect(words[1], rest)

    def _connect(self, target: str, rest: bytes) -> None:
        assert self._transport
        host, _, port = target.rpartition(":")
        host = host.strip("[]").lower()
        if not host or not port.isdigit():
            self._refuse(400, "Bad Request", f"{target} is not host:port.")
            return
        # Nothing may be read until the next protocol is in place.
        self._transport.pause_reading()
        work = self._serve(rest) if is_google(host) and port == "443" else self._tunnel(host, int(port), rest)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _plain(self, method: str, url: str) -> None:
        found = re.match(r"http://([^/:]+)(?::80)?(/.*)?$", url)
        if found and is_google(found[1]) and method in ("GET", "HEAD"):
            # As Google's front ends do for a browser that was given no scheme.
            self._refuse(302, "Found", "Use HTTPS.", f"Location: https://{found[1]}{found[2] or '/'}\r\n")
        else:
            text = "The sandbox's proxy tunnels HTTPS (CONNECT). Set HTTPS_PROXY and leave HTTP_PROXY unset."
            self._refuse(501, "Not Implemented", text)

    async def _serve(self, rest: bytes) -> None:
        """TLS on this connection, then the sandbox's HTTP server."""
        transport = self._transport
        assert transport
        if rest:
            # start_tls cannot be given what was read already, and no client sends before it has its 200.
            transport.resume_reading()
            self._refuse(400, "Bad Request", "Data before the tunnel was open.")
            return
        transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        pending = _Pending()
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(transport, pending, self._context, server_side=True)
        except (OSError, ssl.SSLError) as error:
            log.info("TLS handshake failed: %s", error)
            transport.abort()
            return
        if secure is None or pending.lost:
            return
        http = self._http()
        secure.set_protocol(http)
        http.connection_made(secure)
        if pending.data:
            http.data_received(pending.data)

    async def _tunnel(self, host: str, port: int, rest: bytes) -> None:
        """Copy bytes both ways between the client and a server outside."""
        transport = self._transport
        assert transport
        try:
            async with asyncio.timeout(30):
                out_reader, out_writer = await _reach(host, port)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            transport.resume_reading()
            self._refuse(502, "Bad Gateway", f"{host}:{port} cannot be reached: {error}")
            return
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=256 * 1024, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if rest:
            out_writer.write(rest)
        transport.resume_reading()
        try:
            await asyncio.gather(_copy(reader, out_writer), _copy(out_reader, writer))
        finally:
            writer.close()
            out_writer.close()

    def _refuse(self, status: int, phrase: str, text: str, headers: str = "") -> None:
        assert self._transport
        body = f"gcp-sandbox: {text}\n".encode()
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n{headers}"
        self._transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self._transport.close()


async def _reach(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to a server outside, through the machine's own proxy where its environment names one."""
    url = urllib.request.getproxies_environment().get("https")
    if not url or urllib.request.proxy_bypass_environment(f"{host}:{port}"):
        return await asyncio.open_connection(host, port)
    upstream = urlsplit(url if "://" in url else f"http://{url}")
    secure = upstream.scheme == "https" or None
    default = 443 if secure else 80
    reader, writer = await asyncio.open_connection(upstream.hostname, upstream.port or default, ssl=secure)
    head = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    if upstream.username:
        pair = f"{unquote(upstream.username)}:{unquote(upstream.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    writer.write(f"{head}\r\n".encode())
    status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
    if not re.match(r"HTTP/1\.[01] 200\b", status):
        writer.close()
        raise ConnectionRefusedError(f"the proxy {upstream.hostname} answers {status!r}")
    return reader, writer


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):
        writer.close()
