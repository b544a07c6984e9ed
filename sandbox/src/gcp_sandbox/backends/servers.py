# SPDX-License-Identifier: Apache-2.0
"""All instances' servers and what is mounted of them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.backends.home import Home
from gcp_sandbox.backends.local import KIND, LocalServer, port_is_free, running_in
from gcp_sandbox.backends.mariadb import MariaDb
from gcp_sandbox.backends.postgres import Postgres
from gcp_sandbox.backends.sockets import Mount, Sockets, Upstream
from gcp_sandbox.backends.sql import Configuration, Server, SqlError
from gcp_sandbox.backends.stored import Stored

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.iam import Iam
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.store import Store

log = logging.getLogger(__name__)

BACKUPS = "backups"
#: Stands for a network that is not known, behind a connector of Serverless VPC Access.
ANY_NETWORK = "*"
#: Seconds between two checks whether the servers run.
WATCH_INTERVAL = 2.0
#: By the first word of a databaseVersion.
ENGINES: dict[str, type[LocalServer]] = {"POSTGRES": Postgres, "MYSQL": MariaDb}


class Host(Protocol):
    """The parts of the sandbox that `SqlServers` uses."""

    settings: Settings
    store: Store
    iam: Iam


class SqlServers:
    """All instances' servers, by connection name (`project:region:instance`), and the sockets that are mounted."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self.store: Store = sandbox.store
        self.home = Home.of(sandbox.settings)
        self._servers: dict[str, Server] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self.sockets = Sockets()

    def start(self) -> None:
        """Adopt servers that outlived the last daemon, start those that should run, remove folders without a record."""
        self._stopped.clear()
        known = {body["folder"] for _, body in self.store.list(KIND)}
        for place in (self.home.data, self.home.sockets):
            for folder in place.iterdir() if place.is_dir() else ():
                if folder.name not in known and folder.name != BACKUPS:
                    self._sweep(folder)
        self.restart_dead()
        threading.Thread(target=self._watch, name="sql-watch", daemon=True).start()

    def _sweep(self, folder: Path) -> None:
        """Remove a folder that belongs to no instance; a server can still run in it if its creation was cut short."""
        for engine in ENGINES.values():
            if pid := running_in(folder, engine.pidfile):
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, engine.abort)
                time.sleep(0.5)
        shutil.rmtree(folder, ignore_errors=True)  # a leftover only takes space

    def stop(self) -> None:
        """Stop all servers and mounts. The records keep which should run."""
        self._stopped.set()
        self.sockets.close()
        for name, _ in self.store.list(KIND):
            self.server(name).stop()
        self.sockets.stop()
        self.home.remove_empty(self.sandbox.settings)

    def _watch(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            self.restart_dead()

    def restart_dead(self) -> None:
        """Start the servers that should run and do not, as Cloud SQL restarts a server that dies."""
        for name, _ in self.store.list(KIND):
            self._ensure(name)

    def _ensure(self, name: str) -> None:
        """Have a server run that should. One that cannot must not keep the others from it."""
        server = self.server(name)
        try:
            # An instance with a failed creation has nothing to start, and keeps its problem.
            with self.record_problem(name) if server.wanted else contextlib.nullcontext():
                server.ensure()
        except (SqlError, OSError) as error:
            log.error("Cloud SQL instance %s: %s", name, error)

    @contextlib.contextmanager
    def record_problem(self, name: str) -> Iterator[None]:
        """Keep why a server could not be made or started, for `gcp-sandbox status`, until it could."""
        try:
            yield
        except (SqlError, OSError) as error:
            self._problems[name] = str(error)
            raise
        self._problems.pop(name, None)

    def logfile(self, name: str) -> Path:
        """Return a server's log; the instance's name is in the file's, since `gcp-sandbox logs` goes by it."""
        self.sandbox.settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.sandbox.settings.logs / f"sql-{name.split(':')[-1]}.log"

    @staticmethod
    def engine(version: str) -> type[Server]:
        """Return the engine of a databaseVersion."""
        return ENGINES.get(version.partition("_")[0], Stored)

    def create(self, name: str, configuration: Configuration, secret: str | None) -> Server:
        """Make the server of an instance, or finish making it."""
        with self._lock:
            engine = self.engine(configuration.version)
            if issubclass(engine, LocalServer) and self.store.get(KIND, name) is None:
                self._register(name, configuration, engine)
            server = self.server(name, configuration)
        with self.record_problem(name):
            server.create(secret)
        self._settle(name)
        return server

    def _register(self, name: str, configuration: Configuration, engine: type[LocalServer]) -> None:
        self.home.prepare(self.sandbox.settings)
        instance = name.split(":")[-1]
        record = {
            "folder": f"{instance[:40]}-{secrets.token_hex(3)}",
            "port": self.free_port(engine.first_port),
            "configuration": configuration.as_dict(),
            "ready": False,
            **engine.facts(configuration.version),
        }
        self.store.put(KIND, name, record)

    def free_port(self, first: int) -> int:
        """Return a free port from `first` on that no server of the sandbox has, running or not."""
        taken = {body["port"] for _, body in self.store.list(KIND)}
        return next(port for port in range(first, 65536) if port not in taken and port_is_free(port))

    def server(self, name: str, configuration: Configuration | None = None) -> Any:
        """Return the server of an instance; `configuration` is needed where the engine keeps none (see Stored)."""
        with self._lock:
            if name not in self._servers:
                record = self.store.get(KIND, name)
                if record is not None:
                    version = record["configuration"]["version"]
                    self._servers[name] = ENGINES[version.partition("_")[0]](self, name, record)
                elif configuration is not None and self.engine(configuration.version) is Stored:
                    return Stored(self.store, name, configuration)
                else:
                    raise SqlError(f"{name} does not exist, or its engine (SQL Server) has no server here")
            return self._servers[name]

    def destroy(self, name: str, configuration: Configuration) -> None:
        """Remove an instance's server; does nothing when that was done."""
        try:
            server = self.server(name, configuration)
        except SqlError:
            return
        server.destroy()
        with self._lock:
            self._servers.pop(name, None)
            self._problems.pop(name, None)
            self.store.delete(KIND, name)

    def backups(self, name: str) -> Path:
        """Return where the backup of that name is kept."""
        return self.home.data / BACKUPS / name

    def endpoint(self, connection_name: str) -> tuple[Path, int]:
        """Return (the server's unix socket, port on 127.0.0.1 for TCP)"""
        server = self.server(connection_name)
        return Path(server.upstream().path), server.port

    def endpoints(self) -> list[dict[str, Any]]:
        """Return all servers for `gcp-sandbox status`: connection name, port on 127.0.0.1, whether it runs, problem."""
        return [
            {
                "connection": name,
                "port": body["port"],
                "running": self.server(name).up,
                "problem": self._problems.get(name),
            }
            for name, body in self.store.list(KIND)
        ]

    def mount(
        self,
        connection_name: str,
        folder: Path,
        member: Callable[[], Principal],
        report: Callable[[str], None] | None = None,
        network: str = "",
    ) -> Mount:
        """Offer an instance as Cloud Run does: `<folder>/<connection name>`, a socket for MySQL and a folder with the
        socket `.s.PGSQL.5432` for PostgreSQL.

        A connection is let through if `member()` may connect to the instance at that moment. One that may not is
        closed, as Cloud Run's proxy does it, and `report` gets a line with the reason (by default the sandbox's own
        log). The instance need not exist yet: until it does, its engine is unknown, and it is taken for PostgreSQL.

        An instance without a public address is reached from its own network alone.

        :param network: path of the container's network; `ANY_NETWORK` where it cannot be known.

        :raises ApiError: the socket's path would be longer than unix sockets allow.
        """

        def admit(peer: tuple[str, int] | None) -> Upstream:
            if refusal := self.refusal(connection_name, member()) or self._unreachable(connection_name, network):
                raise SqlError(refusal)
            return self.server(connection_name).upstream()

        path = folder / connection_name
        return self.sockets.mount(connection_name, self._mounted(connection_name, path), admit, report or log.warning)

    def _unreachable(self, connection_name: str, network: str) -> str | None:
        """Return why no address of an instance can be reached from a network; None where one can.

        The proxy behind a socket uses the private address where there is no public one
        (cloud.google.com/sql/docs/postgres/connect-run).
        """
        body = (self.store.get(KIND, connection_name) or {}).get("configuration", {})
        if body.get("public", True) or network in (ANY_NETWORK, body["private_network"]):
            return None
        return (
            f'Cloud SQL connection failed. "{connection_name}" has no public address, and its private one is in the '
            f"network {body['private_network'] or '(none)'}, while the container is "
            f"{f'in {network}' if network else 'in no network'}: dial tcp: i/o timeout"
        )

    def _mounted(self, connection_name: str, path: Path) -> Path:
        record = self.store.get(KIND, connection_name)
        engine = self.engine(record["configuration"]["version"]) if record else Postgres
        return engine.mounted(path)

    def _settle(self, connection_name: str) -> None:
        """Offer what is mounted already in the form of the engine that the instance turned out to have."""
        for mount in self.sockets.mounts(connection_name):
            base = mount.path if mount.path.name == connection_name else mount.path.parent
            path = self._mounted(connection_name, base)
            if path != mount.path:
                mount.move(path)

    def refusal(self, connection_name: str, principal: Principal) -> str | None:
        """Why a connection may not be made, in the words of Cloud Run's log; None when it may."""
        parts = connection_name.rsplit(":", 2)
        said = f'Cloud SQL connection failed. Ensure that the account has access to "{connection_name}"'
        if len(parts) != 3:
            return f'{said}: that is not a connection name, which is "project:region:instance"'
        project, _, instance = parts
        resource = f"//sqladmin.googleapis.com/projects/{project}/instances/{instance}"
        if not self.sandbox.iam.test(principal, resource, ["cloudsql.instances.connect"]):
            return (
                f"{said} (and make sure there's no typo in that name). googleapi: Error 403: boss::NOT_AUTHORIZED: "
                f"Not authorized to access resource. Possibly missing permission cloudsql.instances.connect "
                f"on resource instances/{instance} for {principal.email}."
            )
        return None
