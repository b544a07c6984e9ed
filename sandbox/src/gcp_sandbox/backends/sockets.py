# SPDX-License-Identifier: Apache-2.0
"""Sockets in front of the servers of Cloud SQL: each connection is admitted or refused, and then copied both ways.

A mounted socket is the one that Cloud Run and App Engine offer to a service, admitted by IAM; a listener is a public
address, admitted by its networks, for an engine that has no such list itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.gateway.errors import invalid

SOCKET_PATH_LIMIT = 107  # bytes, sizeof(sockaddr_un.sun_path) - 1 on Linux


@dataclass(frozen=True)
class Upstream:
    """The address of an admitted connection: a socket's path, and bytes that are sent there before the client's."""

    path: str
    opening: bytes = b""


class Refused(SqlError):
    """The reason of a refused connection; `answer` is sent to the client in its own protocol."""

    def __init__(self, message: str, answer: bytes = b"") -> None:
        super().__init__(message)
        self.answer = answer


#: Given the (address, port) that a connection comes from, None for a unix socket: where to connect to; or SqlError.
#: Asked once a connection, in a thread.
Admit = Callable[[tuple[str, int] | None], Upstream]


@dataclass(eq=False)
class Mount:
    """A socket that is being served; `path` is what a client connects to. `name` finds it again."""

    name: str
    path: Path
    _sockets: Sockets
    _admit: Admit
    _report: Callable[[str], None]
    _server: asyncio.Server | None = None

    def close(self) -> None:
        """Take the socket away. Connections that are open stay open."""
        self._sockets.unmount(self)

    def move(self, path: Path) -> None:
        """Offer the socket somewhere else: where another engine's clients look for it."""
        self._sockets.move(self, path)


@dataclass(eq=False)
class Listener:
    """A TCP port of 127.0.0.1 that is being served."""

    port: int
    _sockets: Sockets
    _server: asyncio.Server

    def close(self) -> None:
        """Stop listening. Connections that are open stay open."""
        self._sockets.end(self._server)


class Sockets:
    """Serves mounted sockets on an event loop of its own, in one thread for all."""

    CHUNK = 1 << 16

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._mounts: list[Mount] = []

    def mount(self, name: str, path: Path, admit: Admit, report: Callable[[str], None]) -> Mount:
        """Serve the unix socket `path`; why a connection was not admitted goes to `report`."""
        mount = Mount(name, path, self, admit, report)
        self._bind(mount)
        with self._lock:
            self._mounts.append(mount)
        return mount

    def _bind(self, mount: Mount) -> None:
        path = mount.path
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise invalid(f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes that a unix socket's path may have")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of a daemon that was killed: the socket, or the folder of one that another engine's clients look into.
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        serve = functools.partial(self._serve, mount._admit, mount._report)
        mount._server = self._call(asyncio.start_unix_server(serve, path=str(path))).result()
        path.chmod(0o777)  # its folder controls access

    def mounts(self, name: str) -> list[Mount]:
        """Return the mounts of that name."""
        with self._lock:
            return [mount for mount in self._mounts if mount.name == name]

    def unmount(self, mount: Mount) -> None:
        with self._lock:
            if mount not in self._mounts:
                return
            self._mounts.remove(mount)
        self.end(mount._server)
        mount.path.unlink(missing_ok=True)

    def move(self, mount: Mount, path: Path) -> None:
        with self._lock:
            if mount not in self._mounts:
                return
        self.end(mount._server)
        mount.path.unlink(missing_ok=True)
        if mount.path.parent == path:
            path.rmdir()
        mount.path = path
        self._bind(mount)

    def listen(self, port: int, admit: Admit, report: Callable[[str], None]) -> Listener:
        """Serve a TCP port of 127.0.0.1. OSError when another process has it."""
        serve = functools.partial(self._serve, admit, report)
        return Listener(port, self, self._call(asyncio.start_server(serve, "127.0.0.1", port)).result())

    def end(self, server: asyncio.Server | None) -> None:
        """Stop listening."""

        async def close() -> None:
            if server is not None:
                server.close()

        self._call(close()).result()

    def close(self) -> None:
        """Take all mounted sockets away."""
        for mount in list(self._mounts):
            mount.close()

    def stop(self) -> None:
        self.close()
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _call(self, coroutine: Any) -> Future[Any]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="sql-mounts", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _serve(
        self,
        admit: Admit,
        report: Callable[[str], None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.closing(writer):
            try:
                peer = writer.get_extra_info("peername")
                way = await asyncio.to_thread(admit, peer or None)  # a unix socket's is ""
                upstream, sink = await asyncio.open_unix_connection(way.path)
            except (SqlError, OSError) as error:
                report(str(error))
                if isinstance(error, Refused) and error.answer:
                    writer.write(error.answer)
                    with contextlib.suppress(ConnectionError):  # the client has closed the connection
                        await writer.drain()
                return
            if way.opening:
                sink.write(way.opening)
            with contextlib.closing(sink):
                await asyncio.gather(self._pump(reader, sink), self._pump(upstream, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Copy until the end of `source`, then end `sink` too: PostgreSQL speaks no half-closed connections."""
        try:
            while data := await source.read(self.CHUNK):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return  # either side may hang up at any time
        finally:
            sink.close()
