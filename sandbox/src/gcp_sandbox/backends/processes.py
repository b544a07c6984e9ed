# SPDX-License-Identifier: Apache-2.0
"""Containers as processes: one process group an instance, with what Cloud Run gives a container.

What a container finds on Cloud Run and finds here: its environment (secrets included), a metadata server that hands
out tokens of its own service account, PORT, its volumes, a private HOME and temporary folder, a log. Simulated,
because an unprivileged process shares the machine's file system and network:

- PORT is a free port and not the declared one: instances share one network. A Python program that binds to the declared
  port all the same gets the free one.
- Nothing can be mounted at `/cloudsql` or `/secrets`. A volume is a private folder, and where its mount path stands
  in the value of a variable or in an argument, the folder's path is put instead. CLOUDSQL_SOCKET_DIR names the folder
  of the Cloud SQL sockets.
- A Python program that connects to a Cloud SQL socket below its mount path all the same is led to the folder; no other
  program is.
- Python programs that bind to all interfaces are bound to 127.0.0.1 (`GUEST`): a container is alone behind its port,
  a process on a developer's machine is not.
- Memory and CPU limits are not enforced.

Processes outlive the daemon when it is killed. Their records (never their environment) are in the store, and the next
start adopts those that are still alive: same process, same metadata server's port, same sockets.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox import environment
from gcp_sandbox.backends.logs import Source
from gcp_sandbox.backends.metadata import MetadataServer
from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.config import remove_folder, write_private
from gcp_sandbox.gateway.errors import ApiError

if TYPE_CHECKING:
    from gcp_sandbox.backends.logs import Logs
    from gcp_sandbox.backends.servers import SqlServers
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.identity import Identities
    from gcp_sandbox.gateway.projects import Projects
    from gcp_sandbox.store import Store

KIND = "processes.process"

# Below Linux's ephemeral range: no outgoing connection takes a port between its choice and the container's bind.
PORTS = range(20000, 30000)

# Cloud Run sends SIGTERM, and SIGKILL ten seconds later
# (cloud.google.com/run/docs/container-contract#instance-shutdown).
GRACE = 10.0

# Runs the command it is given and leaves its exit code in a file: a daemon that adopts a process that is not its child
# cannot ask the kernel.
SUPERVISOR = 'code=$1; shift; "$@"; echo $? > "$code.part" && mv "$code.part" "$code"'

GUEST = '''\
"""Loaded by every Python interpreter of a container: keeps it off the machine's other interfaces, at its port, and at
its own Cloud SQL sockets."""
import os
import socket

_bind, _connect = socket.socket.bind, socket.socket.connect
_mount, _folder = os.environ.get("GCP_SANDBOX_SQL_MOUNT"), os.environ.get("CLOUDSQL_SOCKET_DIR", "")
_ports = {os.environ.get("GCP_SANDBOX_DECLARED_PORT"): os.environ.get("PORT")}


def bind(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] in ("", "0.0.0.0", "::"):
        port = int(_ports.get(str(address[1])) or address[1])
        host = "127.0.0.1"
        if self.family == socket.AF_INET6:
            only = self.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            host = "::1" if only else "::ffff:127.0.0.1"
        address = (host, port, *address[2:])
    return _bind(self, address)


def connect(self, address):
    if _mount and self.family == socket.AF_UNIX and isinstance(address, str) and address.startswith(_mount + "/"):
        address = _folder + address[len(_mount):]
    return _connect(self, address)


socket.socket.bind, socket.socket.connect = bind, connect
'''


@dataclass(frozen=True)
class Volume:
    """What a container sees at `mount`.

    :param files: content by path below the mount.
    :param sql: connection names of Cloud SQL instances; without them and files, the folder is empty.
    """

    mount: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    sql: Sequence[str] = ()


@dataclass(frozen=True)
class Spec:
    """A container to run.

    :param owner: full name of the resource that it is an instance of; `Processes.of(owner)` finds it again.
    :param log: where its output goes.
    :param argv: command and arguments; nothing is expanded.
    :param env: the container's own environment.
    :param project: project id; :param region: where it runs, for its metadata server.
    :param listens: it gets a PORT to listen on.
    :param declared_port: where the template says that it listens.
    :param keep_exit_code: its exit code survives the daemon.
    :param facts: small JSON values kept with its record.
    """

    owner: str
    log: Source
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    service_account: str
    project: str
    region: str
    volumes: Sequence[Volume] = ()
    listens: bool = True
    declared_port: int | None = None
    keep_exit_code: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""


class Process:
    """A process that was started here or adopted. `returncode` is None while it runs and where it is unknown."""

    def __init__(self, record: dict[str, Any], child: subprocess.Popen[bytes] | None) -> None:
        self.record = record
        self.id: str = record["id"]
        self.owner: str = record["owner"]
        self.pid: int = record["pid"]
        self.port: int | None = record["port"]
        self.folder = Path(record["folder"])
        self.facts: dict[str, Any] = record["facts"]
        self.returncode: int | None = None
        self.exited = threading.Event()
        self._child = child

    def alive(self) -> bool:
        """Return whether the process has not exited."""
        return not self.exited.is_set()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the exit, at most `timeout` seconds; the exit code, negative for a signal."""
        self.exited.wait(timeout)
        return self.returncode

    def stop(self, grace: float = GRACE) -> None:
        """SIGTERM to the process, SIGKILL to the rest of its group when it has ended or after `grace` seconds.

        Only the leader gets SIGTERM: a server's master stops its own workers in order.
        """
        if self.alive():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                for pid in self._leaders():
                    os.kill(pid, signal.SIGTERM)
            self.exited.wait(grace)
        self.kill_group()
        self.exited.wait(5)

    def kill_group(self) -> None:
        """SIGKILL everything in the process group."""
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self.pid, signal.SIGKILL)

    def watch(self) -> None:
        """Wait for the exit and note how the container ended (in a thread of its own)."""
        if self._child is not None:
            self.returncode = self._child.wait()
        else:
            while start_ticks(self.pid) == self.record["ticks"]:
                time.sleep(0.25)
        self.read_exit_code()
        self.exited.set()

    def read_exit_code(self) -> None:
        """Take the exit code that a supervisor left; none was left by what was killed together with it."""
        code = self.folder / "exit-code"
        if code.exists():
            self.returncode = int(code.read_text())

    def _leaders(self) -> list[int]:
        """Return the container's own first process: the supervisor's child where there is a supervisor."""
        if not self.record["supervised"]:
            return [self.pid]
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        found = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        return found or [self.pid]


class Host(Protocol):
    """The parts of the sandbox that `Processes` uses."""

    settings: Settings
    store: Store
    logs: Logs
    projects: Projects
    identities: Identities
    sql: SqlServers


class Processes:
    """Starts, finds and stops containers."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self._lock = threading.Lock()
        self._running: dict[str, Process] = {}
        self._attached: dict[str, contextlib.ExitStack] = {}
        self._watchers: dict[str, threading.Thread] = {}
        self._guest: Path = sandbox.settings.runtime / "guest"
        self._guest_lock = threading.Lock()

    def start(self) -> None:
        """Adopt what an earlier daemon left running, and clear away what has ended since."""
        for _, record in self.sandbox.store.list(KIND):
            if isinstance(record["log"], str):  # of an older release: its containers write the text file
                record["log"] = asdict(Source(record["log"], record["project"], "", "", {}))
            self._follow(record)
            if record["boot"] == boot_id() and start_ticks(record["pid"]) == record["ticks"] is not None:
                try:
                    self._adopt(record)
                    continue
                except OSError:
                    # The metadata server's port was taken meanwhile: without it the container has no identity.
                    with contextlib.suppress(ProcessLookupError):  # it has just ended
                        os.killpg(record["pid"], signal.SIGKILL)
            self.sandbox.logs.finish(record["id"])
            self._ended(Process(record, None))

    def stop(self) -> None:
        """Stop every container, side by side, and wait until nothing of them is left."""
        with self._lock:
            watchers = list(self._watchers.values())
        self.stop_all(self.all())
        for watcher in watchers:
            watcher.join(GRACE)

    def stop_all(self, processes: Iterable[Process], grace: float = GRACE) -> None:
        """Stop some containers, side by side."""
        threads = [threading.Thread(target=process.stop, args=(grace,)) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def of(self, owner: str) -> list[Process]:
        """Return the live containers of a resource."""
        with self._lock:
            return [process for process in self._running.values() if process.owner == owner]

    def all(self) -> list[Process]:
        """Return all live containers."""
        with self._lock:
            return list(self._running.values())

    def kept(self, owner: str) -> Process | None:
        """Return the container of a resource that was run with `keep_exit_code`, live or ended, until `discard`."""
        for _, record in self.sandbox.store.list(KIND, parent=owner):
            if live := self._running.get(record["id"]):
                return live
            ended = Process(record, None)
            ended.read_exit_code()
            ended.exited.set()
            return ended
        return None

    def discard(self, process: Process) -> None:
        """Remove the record of an ended container, once its exit code has been read."""
        self.sandbox.logs.finish(process.id)
        self.sandbox.store.delete(KIND, process.id)
        remove_folder(process.folder)

    def run(self, spec: Spec) -> Process:
        """Start a container. OSError when the command cannot be executed."""
        number = self.sandbox.store.next_id(KIND)
        folder = self.sandbox.settings.runtime / "i" / str(number)  # short: Unix socket paths end at 107 bytes
        for name in ("home", "tmp"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        record: dict[str, Any] = {
            "id": str(number),
            "owner": spec.owner,
            "log": asdict(spec.log),
            "folder": str(folder),
            "service_account": spec.service_account,
            "project": spec.project,
            "network": spec.network,
            "region": spec.region,
            "sql": {str(self._sql_folder(folder, index)): list(v.sql) for index, v in enumerate(spec.volumes) if v.sql},
            "port": free_port() if spec.listens else None,
            "metadata_port": 0,
            "instance": secrets.token_hex(48),
            "supervised": spec.keep_exit_code,
            "facts": dict(spec.facts),
            "boot": boot_id(),
        }
        attached = self._attach(record)
        try:
            mounts = self._fill(folder, spec.volumes)
            env = self._environment(spec, record, folder, mounts)
            argv = [replace_mounts(argument, mounts) for argument in spec.argv]
            if spec.keep_exit_code:
                argv = ["/bin/sh", "-c", SUPERVISOR, "sh", str(folder / "exit-code"), *argv]
            with contextlib.ExitStack() as stack:
                stdout, stderr = (stack.enter_context(file.open("ab")) for file in self._follow(record).values())
                child = subprocess.Popen(
                    argv,
                    cwd=spec.cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                    umask=0o077,
                )
        except BaseException:
            attached.close()
            self.sandbox.logs.finish(record["id"])
            shutil.rmtree(folder, ignore_errors=True)  # the first error counts
            raise
        record["pid"] = child.pid
        record["ticks"] = start_ticks(child.pid)
        self.sandbox.store.put(KIND, record["id"], record, parent=spec.owner)
        return self._track(Process(record, child), attached)

    # -- one container's surroundings

    def _follow(self, record: Mapping[str, Any]) -> dict[str, Path]:
        """Have the output of a container logged, and return the files that it writes."""
        files = {name: Path(record["folder"]) / name for name in ("stdout", "stderr")}
        self.sandbox.logs.follow(record["id"], Source(**record["log"]), files)
        return files

    def _environment(
        self, spec: Spec, record: Mapping[str, Any], folder: Path, mounts: Mapping[str, str]
    ) -> dict[str, str]:
        guest = str(self._write_guest())
        metadata = f"127.0.0.1:{record['metadata_port']}"
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            **{name: replace_mounts(value, mounts) for name, value in spec.env.items()},
            **environment.network(self.sandbox.settings),
            "GCE_METADATA_HOST": metadata,
            "GCE_METADATA_IP": metadata,
            "GCE_METADATA_ROOT": metadata,
        }
        env["PYTHONPATH"] = os.pathsep.join(part for part in (guest, spec.env.get("PYTHONPATH", "")) if part)
        if record["port"] is not None:
            env["PORT"] = str(record["port"])
            if spec.declared_port is not None:
                env["GCP_SANDBOX_DECLARED_PORT"] = str(spec.declared_port)
        if record["sql"]:
            sql = next(iter(record["sql"]))
            env["GCP_SANDBOX_SQL_MOUNT"] = next(mount for mount, target in mounts.items() if target == sql)
            env.setdefault("CLOUDSQL_SOCKET_DIR", sql)
        return env

    def _fill(self, folder: Path, volumes: Sequence[Volume]) -> dict[str, str]:
        """Make the volumes' folders and files; mount path -> folder."""
        mounts = {}
        for index, volume in enumerate(volumes):
            target = self._sql_folder(folder, index) if volume.sql else folder / f"v{index}"
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            mounts[volume.mount.rstrip("/")] = str(target)
            for name, content in volume.files.items():
                path = target / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
                path.write_bytes(content)
        return mounts

    @staticmethod
    def _sql_folder(folder: Path, index: int) -> Path:
        return folder / f"q{index}"

    def _write_guest(self) -> Path:
        path = self._guest / "sitecustomize.py"
        with self._guest_lock:  # instances start side by side
            if not path.exists() or path.read_text() != GUEST:
                self._guest.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, GUEST)
        return self._guest

    def _attach(self, record: dict[str, Any]) -> contextlib.ExitStack:
        """Open what the daemon serves to one container: its metadata server and its Cloud SQL sockets."""
        stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.push(stack)
            server = MetadataServer(
                self.sandbox,
                email=record["service_account"],
                project=record["project"],
                region=record["region"],
                port=record["metadata_port"],
                instance_id=record["instance"],
            )
            server.start()
            stack.callback(server.stop)
            record["metadata_port"] = server.port
            for folder, connections in record["sql"].items():
                for connection in connections:
                    self._mount_sql(stack, record, Path(folder), connection)
            undo.pop_all()
        return stack

    def _mount_sql(self, stack: contextlib.ExitStack, record: Mapping[str, Any], folder: Path, connection: str) -> None:
        """Offer a Cloud SQL connection. One that cannot be had does not keep a container from starting on Cloud Run."""

        def report(line: str) -> None:
            self.sandbox.logs.line(Source(**record["log"]), line)

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = record["service_account"]
        try:
            mount = self.sandbox.sql.mount(
                connection,
                folder,
                lambda: self.sandbox.identities.service_account(account),
                report,
                record.get("network", ""),
            )
        except (ApiError, SqlError) as error:
            report(f'Cloud SQL connection "{connection}" failed: {error}')
            return
        stack.callback(mount.close)

    def _adopt(self, record: dict[str, Any]) -> None:
        self._track(Process(record, None), self._attach(record))

    def _track(self, process: Process, attached: contextlib.ExitStack) -> Process:
        with self._lock:
            self._running[process.id] = process
            self._attached[process.id] = attached
        watcher = threading.Thread(target=self._watch, args=(process,), name=f"watch-{process.id}", daemon=True)
        with self._lock:
            self._watchers[process.id] = watcher
        watcher.start()
        return process

    def _watch(self, process: Process) -> None:
        process.watch()
        process.kill_group()  # workers that outlived their master
        self.sandbox.logs.finish(process.id)
        with self._lock:
            self._running.pop(process.id, None)
            attached = self._attached.pop(process.id)
        attached.close()
        self._ended(process)
        with self._lock:
            self._watchers.pop(process.id, None)

    def _ended(self, process: Process) -> None:
        if not process.record["supervised"]:
            self.discard(process)


def replace_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Put folders where their mount paths stand, as whole prefixes: `/cloudsql/p:r:i` but not `/var/cloudsql`."""
    if not mounts:
        return text
    longest_first = sorted(mounts, key=len, reverse=True)
    pattern = rf"(?<![\w./-])({'|'.join(map(re.escape, longest_first))})(?![\w.-])"
    return re.sub(pattern, lambda found: mounts[found[1]], text)


_taken: set[int] = set()
_taken_lock = threading.Lock()


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1 that was not returned in the last few thousand calls."""
    with _taken_lock:
        if len(_taken) > len(PORTS) // 2:
            _taken.clear()
        # From anywhere in the range: another sandbox on this machine looks for ports at the same time.
        first = secrets.randbelow(len(PORTS))
        for port in (*PORTS[first:], *PORTS[:first]):
            if port in _taken:
                continue
            _taken.add(port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            return port
    raise OSError("no free port is left for a container")


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


def boot_id() -> str:
    """Changes with every boot of the machine: process ids and start times begin again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""
