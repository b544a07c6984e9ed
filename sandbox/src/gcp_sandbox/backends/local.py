# SPDX-License-Identifier: Apache-2.0
"""A database server that is a process of this machine, whatever its engine.

It outlives the daemon when that is killed: the next start adopts the ones that still run and starts those that should.
"""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from gcp_sandbox.backends.sockets import Upstream
from gcp_sandbox.backends.sql import Configuration, Server, SqlError
from gcp_sandbox.config import remove_folder

if TYPE_CHECKING:
    from gcp_sandbox.backends.home import Home
    from gcp_sandbox.backends.sockets import Sockets
    from gcp_sandbox.store import Store

KIND = "sql.server"  # by connection name

START_TIMEOUT = 60.0
# How often a server that finds its port taken tries another one; sandboxes that start side by side race for them.
PORT_ATTEMPTS = 5
STOP_TIMEOUT = 30.0


class PortTaken(SqlError):
    """Another process took the server's port between the check and the start."""


class Servers(Protocol):
    """The parts of `servers.SqlServers` that a server uses."""

    store: Store
    home: Home
    sockets: Sockets

    def logfile(self, name: str) -> Path:
        """Return the path of a server's log."""

    def free_port(self, first: int) -> int:
        """Return the first port from `first` on that no server has."""

    def record_problem(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Record the SqlError or OSError of the block as the server's problem, until a block succeeds."""


class LocalServer(Server):
    """One server: a folder with its data and the superuser's password, a process, a socket and a port."""

    #: The port that a new server asks for first.
    first_port: ClassVar[int]
    #: Where in the server's folder it writes its process id.
    pidfile: ClassVar[str]
    #: Signals that end it, in the order they are tried; the second and later ones when it takes too long.
    endings: ClassVar[tuple[signal.Signals, ...]]
    #: Signal that ends it at once, when its data are not needed any more.
    abort: ClassVar[signal.Signals]

    def __init__(self, servers: Servers, name: str, record: dict[str, Any]) -> None:
        self._servers = servers
        self._home = servers.home
        self._name = name
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._folder = self._home.data / record["folder"]
        self._data = self._folder / "data"

    @classmethod
    @abc.abstractmethod
    def facts(cls, version: str) -> dict[str, Any]:
        """Return fields of the record of a new server of a databaseVersion, beyond those that all engines have."""

    @classmethod
    @abc.abstractmethod
    def mounted(cls, path: Path) -> Path:
        """Return the socket that a service connects to when the instance is mounted as `path`."""

    @abc.abstractmethod
    def upstream(self, peer: tuple[str, int] | None = None) -> Upstream:
        """Return the server's address for an admitted connection; `peer` is the client's (address, port) over TCP."""

    # Properties.

    @property
    def configuration(self) -> Configuration:
        return Configuration.from_dict(self._record["configuration"])

    @property
    def port(self) -> int:
        return self._record["port"]

    @property
    def sockets(self) -> Path:
        """Folder of the unix socket."""
        return self._home.sockets / self._record["folder"]

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it does not run."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        return running_in(self._folder, self.pidfile)

    @property
    def up(self) -> bool:
        """Whether a connection finds it."""
        return self.pid is not None

    @property
    def wanted(self) -> bool:
        """Whether its creation came to its end."""
        return self._record["ready"]

    def _save(self, **changes: Any) -> None:
        self._record.update(changes)
        self._servers.store.put(KIND, self._name, self._record)

    # Life.

    def create(self, secret: str | None) -> None:
        with self._lock:
            if self._record["ready"]:
                return self.ensure()
            self._halt()  # a crash can have left a server that was never finished
            remove_folder(self._folder)
            self._home.folder(self._folder)
            self._make(secret)
            self._save(ready=True)
            if not self.configuration.running:
                self._halt()

    @abc.abstractmethod
    def _make(self, secret: str | None) -> None:
        """Make the data in an empty folder, start the server, and make what every instance has."""

    def ensure(self) -> None:
        """Start the server if it should run and does not; adopt the one that does."""
        with self._lock:
            if not self._record["ready"] or not self.configuration.running:
                return
            if self.pid is None:
                self._launch()

    def restart(self) -> None:
        with self._lock:
            self._halt()
            self._launch()

    def stop(self) -> None:
        with self._lock:
            self._halt()

    def destroy(self) -> None:
        with self._lock:
            self._record["ready"] = False  # so that it is not started again
            self._halt(self.abort)
            remove_folder(self._folder)
            remove_folder(self.sockets)

    def _launch(self) -> None:
        """Start the process and wait until it answers; on another port when this one is taken meanwhile."""
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._launch_once()
                return
            except PortTaken:
                if attempt == PORT_ATTEMPTS - 1:
                    raise

    @abc.abstractmethod
    def _launch_once(self) -> None:
        """Errors: PortTaken, SqlError."""

    def _start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        answers: Callable[[], bool],
        failure: Callable[[str], SqlError],
    ) -> None:
        """Start the server's process and wait until `answers`; `failure` makes an error of what it said instead."""
        self._home.folder(self.sockets)
        logfile = self._servers.logfile(self._name)
        start = logfile.stat().st_size if logfile.exists() else 0
        descriptor = os.open(logfile, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._data,
                env=environment,
                start_new_session=True,
                **self._home.identity,
            )
        finally:
            os.close(descriptor)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise failure(logfile.read_bytes()[start:].decode(errors="replace"))
            if answers():
                return
            time.sleep(0.02)
        self._halt()
        raise SqlError(f"the server did not answer within {START_TIMEOUT:.0f} s; see {logfile}")

    def _halt(self, first: signal.Signals | None = None) -> None:
        """Shut down, by `first` or the engine's orderly way; more roughly when that takes too long."""
        pid = self.pid
        if pid is None:
            return
        for number in (first or self.endings[0], *self.endings[1:]):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)
            # Its file may go before it does.
            deadline = time.monotonic() + STOP_TIMEOUT
            while time.monotonic() < deadline:
                if self._ended(pid):
                    return
                time.sleep(0.02)

    def _ended(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is not None
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> None:
        """Run a program as the servers' user; SqlError with what it said when it fails."""
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd or self._folder,
            env=environment,
            **self._home.identity,
        )
        if done.returncode:
            name = Path(arguments[0]).name
            raise SqlError(f"{name} failed: {(done.stderr.strip() or done.stdout.strip())[-1000:]}")


def environment(**more: str) -> dict[str, str]:
    """Return a server's environment: nothing of the daemon's."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", **more}


def running_in(folder: Path, pidfile: str) -> int | None:
    """Return the process id of the server with its data in `folder`; None when it does not run.

    The file's number can be another process's by now, so the process has to name the folder.
    """
    try:
        pid = int((folder / pidfile).read_text().split()[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if os.fsencode(folder) + b"/" in arguments else None


def port_is_free(port: int) -> bool:
    """Return whether a server could listen there; like servers, this does not mind connections that have just ended."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
