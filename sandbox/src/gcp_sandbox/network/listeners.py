# SPDX-License-Identifier: Apache-2.0
"""All sockets of a sandbox, on 127.0.0.1 and in its private folder."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gcp_sandbox.config import HOST, ConfigError, Ports, Settings
from gcp_sandbox.network import app, control
from gcp_sandbox.network.app import App
from gcp_sandbox.network.ca import Authority
from gcp_sandbox.network.control import Control
from gcp_sandbox.network.localhost import LocalhostProxy
from gcp_sandbox.network.proxy import Proxy

# Longer than clients keep an idle connection in their pools, so that the clients close it.
_KEEP_ALIVE = 620
# Ports that the reverse proxy for browsers tries first: users type them.
BROWSER_PORTS = range(8080, 8180)
# Linux only, and for the moment only: the kernel forgets it with the next answer.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class _Http(H11Protocol):
    """uvicorn's HTTP/1.1, which also passes the connection to the application, which may drop it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope["gcp_sandbox.transport"] = transport
            await app(scope, receive, send)

        self.app = with_transport

    def data_received(self, data: bytes) -> None:
        # urllib3 leaves Nagle's algorithm on where there is a proxy: a client holds a body back until its headers are
        # acknowledged, which the kernel would put off for 40 ms.
        connection = self.transport.get_extra_info("socket")
        if _QUICKACK is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        super().data_received(data)


def bind(settings: Settings, proxy: int | None = None) -> tuple[Settings, dict[str, socket.socket]]:
    """Listening sockets for a sandbox, by the names of `Ports`, and the settings with their ports.

    Ports of an earlier run are kept where they are free and replaced where they are not; `proxy` is a must.
    They listen from here on, because a free port that is only looked up may be in use a moment later.
    """
    old = settings.ports
    wanted = {
        "proxy": [proxy] if proxy else [old.proxy, 0],
        "tls": [old.tls, 0],
        "browser": [*([old.browser] if old.browser else BROWSER_PORTS), 0],
    }
    sockets = {name: _listen(ports) for name, ports in wanted.items()}
    ports = Ports(**{name: bound.getsockname()[1] for name, bound in sockets.items()})
    return dataclasses.replace(settings, ports=ports), sockets


def _listen(ports: Iterable[int]) -> socket.socket:
    """Return a socket on the first free one of `ports`; 0 is any."""
    taken = ""
    for port in dict.fromkeys(ports):
        # asyncio switches Nagle's algorithm off only where the protocol is named.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            taken = f"port {port} is in use"
    raise ConfigError(taken)


class Host(app.Host, control.Host, Protocol):
    """The parts of the sandbox that the listeners use."""


class Listeners:
    """Serves on the sandbox's sockets, as `bind` gives them."""

    def __init__(self, sandbox: Host, sockets: dict[str, socket.socket], stop: Callable[[], None]) -> None:
        self._sandbox = sandbox
        self._sockets = sockets
        self._authority = Authority(sandbox.settings)
        self._app = App(sandbox)
        self._control = Control(sandbox, stop)
        self._states: list[ServerState] = []
        self._servers: list[asyncio.Server] = []
        self._tunnels: set[asyncio.Task] = set()

    @property
    def control_socket(self) -> Path:
        return control_socket(self._sandbox.settings.runtime)

    async def start(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        context = self._authority.server_context()
        http = self._http(self._app)
        self._servers = [
            await loop.create_server(http, sock=self._sockets["tls"], ssl=context),
            await loop.create_server(lambda: Proxy(http, context, self._tunnels), sock=self._sockets["proxy"]),
            await loop.create_server(
                self._http(LocalhostProxy(self._sandbox, self._app)), sock=self._sockets["browser"]
            ),
        ]
        self.control_socket.unlink(missing_ok=True)
        self._servers.append(await loop.create_unix_server(self._http(self._control), str(self.control_socket)))

    async def stop(self, grace: float = 3.0) -> None:
        """Stop listening; requests in progress have `grace` seconds."""
        for server in self._servers:
            server.close()
        for state in self._states:
            for connection in list(state.connections):
                connection.shutdown()
        tasks = [task for state in self._states for task in state.tasks] + list(self._tunnels)
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        self.control_socket.unlink(missing_ok=True)
        self._app.close()

    def _http(self, app: Any) -> Callable[[], asyncio.Protocol]:
        config = uvicorn.Config(
            app,
            http=_Http,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        config.load()
        state = ServerState()
        self._states.append(state)
        return lambda: _Http(config=config, server_state=state, app_state={})


def control_socket(runtime: Path) -> Path:
    """Return where the daemon takes orders from the command line."""
    return runtime / "control.sock"
