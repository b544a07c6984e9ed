# SPDX-License-Identifier: Apache-2.0
"""Cloud SQL's sockets as Cloud Run mounts them: each connection is admitted by IAM and then copied, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.gateway.errors import invalid

SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107  # bytes, sizeof(sockaddr_un.sun_path) - 1 on Linux

#: Says where to connect to (a socket's path) or raises SqlError; asked once a connection, in a thread.
Admit = Callable[[], str]


@dataclass
class Mount:
    """A socket that is being served; `path` is what a client connects to."""

    path: Path
    _sockets: Sockets
    _server: asyncio.Server

    def close(self) -> None:
        """Take the socket away. Connections that are open stay open."""
        self._sockets.unmount(self)


class Sockets:
    """Serves mounted sockets on an event loop of its own, in one thread for all."""

    CHUNK = 1 << 16

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._mounts: list[Mount] = []

    def mount(self, folder: Path, admit: Admit, report: Callable[[str], None]) -> Mount:
        """Serve `<folder>/.s.PGSQL.5432`; why a connection was not admitted goes to `report`."""
        path = folder / SOCKET
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise invalid(f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes that a unix socket's path may have")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a daemon that was killed

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(admit, report, reader, writer)

        server = self._call(asyncio.start_unix_server(serve, path=str(path))).result()
        path.chmod(0o777)  # its folder says who may
        mount = Mount(path, self, server)
        with self._lock:
            self._mounts.append(mount)
        return mount

    def unmount(self, mount: Mount) -> None:
        with self._lock:
            if mount not in self._mounts:
                return
            self._mounts.remove(mount)

        async def close() -> None:
            mount._server.close()

        self._call(close()).result()
        mount.path.unlink(missing_ok=True)

    def stop(self) -> None:
        for mount in list(self._mounts):
            mount.close()
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
                path = await asyncio.to_thread(admit)
                upstream, sink = await asyncio.open_unix_connection(path)
            except (SqlError, OSError) as error:
                report(str(error))
                return
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
