# SPDX-License-Identifier: Apache-2.0
"""Real MySQL behind Cloud SQL, served by MariaDB.

Like a Cloud SQL server: `cloudsqladmin` is for the service itself and the only user with all privileges; users that
the Admin API makes have all but those that reach around the server (SUPER, FILE); passwords are kept as hashes of
mysql_native_password. A server listens on a unix socket only. TCP goes through a listener of the sandbox, which knows
the authorized networks and passes the client's address to the server, so that `user`@`host` is matched as on Cloud SQL.

What differs: it is MariaDB, and says so; all versions of MySQL are served by the same one. Its collations are others: a
database of utf8mb4_0900_ai_ci gets the nearest one, under the name in the request. Flags that MariaDB
does not know are kept without an effect. There is no TLS, so an instance that insists on it takes no TCP connections.

A server is made when it is first needed, by a database, a backup or a connection: many instances are only made, read
and deleted. Users are kept until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import os
import re
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from gcp_sandbox.backends import mariadbbuilds as builds
from gcp_sandbox.backends.local import PORT_ATTEMPTS, LocalServer, Servers
from gcp_sandbox.backends.sockets import Listener, Refused, Upstream
from gcp_sandbox.backends.sql import Configuration, Database, Flag, Missing, SqlError, Stopped, User
from gcp_sandbox.config import remove_folder

log = logging.getLogger(__name__)

SUPERUSER = "cloudsqladmin"
OWNER = "cloudsqlsuperuser"
# The role that an IAM user has says what kind of user it is, as with PostgreSQL.
IAM_ROLES = {
    "CLOUD_IAM_USER": "cloudsqliamuser",
    "CLOUD_IAM_SERVICE_ACCOUNT": "cloudsqliamserviceaccount",
    "CLOUD_IAM_GROUP": "cloudsqliamgroup",
}
INTERNAL_USERS = (SUPERUSER, "mariadb.sys")
# Privileges of cloudsqlsuperuser on Cloud SQL, as far as MariaDB has them: all but SUPER, FILE and SHUTDOWN.
# (cloud.google.com/sql/docs/mysql/users#cloudsqlsuperuser)
PRIVILEGES = (
    "ALTER, ALTER ROUTINE, CREATE, CREATE ROUTINE, CREATE TEMPORARY TABLES, CREATE USER, CREATE VIEW, DELETE, DROP, "
    "EVENT, EXECUTE, INDEX, INSERT, LOCK TABLES, PROCESS, REFERENCES, RELOAD, REPLICATION CLIENT, REPLICATION SLAVE, "
    "SELECT, SHOW DATABASES, SHOW VIEW, TRIGGER, UPDATE"
)
NO_PASSWORD = "invalid"  # mysql_native_password's word for a hash that no password has

# MySQL 8's, but for ONLY_FULL_GROUP_BY: MariaDB does not see which columns follow from the grouped ones, and would
# refuse queries that MySQL takes.
SQL_MODE = "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

# Where connections come from that Cloud Run and App Engine make: an address for documentation (RFC 5737).
OUTSIDE = "203.0.113.1"

UNKNOWN_COLLATION, HOST_NOT_PRIVILEGED = 1273, 1130
NO_SUCH_DATABASE = (1008, 1049)
FAILED_FOR_USER = 1396


class MariaDb(LocalServer):
    """One server. Until it is needed its record keeps the users, with their concealed passwords."""

    first_port = 3306
    pidfile = "mariadbd.pid"
    endings = (signal.SIGTERM, signal.SIGKILL)
    abort = signal.SIGKILL

    def __init__(self, servers: Servers, name: str, record: dict[str, Any]) -> None:
        super().__init__(servers, name, record)
        self._listener: Listener | None = None
        self._making = False

    @classmethod
    def facts(cls, version: str) -> dict[str, Any]:
        return {"wanted": False, "users": [], "databases": {}}

    @classmethod
    def mounted(cls, path: Path) -> Path:
        return path

    # Properties.

    @property
    def installed_version(self) -> str:
        """Return the version of the server; the databaseVersion where the server is not made yet."""
        if not self._record["ready"]:
            return self.configuration.version
        return self._build.label

    @property
    def _build(self) -> builds.Build:
        return builds.build(self._home)

    @property
    def _socket(self) -> Path:
        return self.sockets / "mysqld.sock"

    @property
    def up(self) -> bool:
        return self.pid is not None or self._listener is not None

    @property
    def wanted(self) -> bool:
        return self._record["ready"] or self._record["wanted"]

    def upstream(self, peer: tuple[str, int] | None = None) -> Upstream:
        self._wake()
        address, port = peer or (OUTSIDE, self.port)
        return Upstream(str(self._socket), f"PROXY TCP4 {address} 127.0.0.1 {port} {self.port}\r\n".encode())

    @staticmethod
    def hash_password(password: str) -> str:
        """Return the hash of mysql_native_password, which MariaDB takes in place of a password."""
        return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()

    # Life.

    def create(self, secret: str | None) -> None:
        """Prepare a server. The server itself is made when it is first needed."""
        with self._lock:
            if self.wanted:
                return self.ensure()
            found = self._build
            builds.template(self._home, found)
            self._save(wanted=True, users=[_kept(User("root", "%"), secret)])
            log.info("Cloud SQL instance %s: %s, on 127.0.0.1:%s", self._name, found.label, self.port)
            self.ensure()

    def _wake(self) -> None:
        """Make the server if this is its first use."""
        with self._lock:
            if self._making or self._record["ready"] or not (self._record["wanted"] and self.configuration.running):
                return
            self._making = True
            try:
                with self._servers.record_problem(self._name):
                    super().create(None)
                self._save(users=[])
            finally:
                self._making = False

    def _make(self, secret: str | None) -> None:
        self._home.copy(builds.template(self._home, self._build) / "data", self._data)
        self._home.folder(self._folder / "tmp")
        self._home.write(self._folder / "password", secrets.token_urlsafe(24))
        self._configure_files(self.configuration)
        self._run_server(user="root", password="")
        with self._session(user="root", password="") as cursor:
            self._bootstrap(cursor)
        for body in self._record["users"]:
            self._create_user(*_user(body))
        self._open()

    def _bootstrap(self, cursor: pymysql.cursors.Cursor) -> None:
        """Users and roles that every Cloud SQL instance has, and none of those that MariaDB comes with."""
        cursor.execute(
            "CREATE USER %s@localhost IDENTIFIED VIA mysql_native_password USING %s",
            (SUPERUSER, self.hash_password((self._folder / "password").read_text())),
        )
        cursor.execute("GRANT ALL ON *.* TO %s@localhost WITH GRANT OPTION", (SUPERUSER,))
        for role in (OWNER, *IAM_ROLES.values()):
            cursor.execute(f"CREATE ROLE {role} WITH ADMIN %s@localhost", (SUPERUSER,))
        cursor.execute(f"GRANT {PRIVILEGES} ON *.* TO {OWNER} WITH GRANT OPTION")
        cursor.execute("SELECT User, Host FROM mysql.user WHERE is_role = 'N' AND User NOT IN %s", (INTERNAL_USERS,))
        for user, host in cursor.fetchall():
            cursor.execute("DROP USER %s@%s", (user, host))

    def _settings(self, configuration: Configuration) -> dict[str, Any]:
        """Return the server's options, flags included."""
        build = self._build
        old = configuration.version.startswith("MYSQL_5")  # their default was the three-byte UTF-8
        settings: dict[str, Any] = {
            "basedir": build.prefix,
            "lc_messages_dir": build.messages,
            "datadir": self._data,
            "tmpdir": self._folder / "tmp",
            "socket": self._socket,
            "pid_file": self._folder / self.pidfile,
            "skip_networking": "ON",
            "skip_name_resolve": "ON",
            "proxy_protocol_networks": "localhost",
            # Committed changes survive `kill -9` of everything without waiting for the disk; only a power cut may
            # lose them.
            "loose_innodb_flush_method": "nosync",
            "innodb_flush_log_at_trx_commit": 2,
            "sync_binlog": 0,
            "innodb_use_native_aio": "OFF",
            "innodb_log_file_size": "16M",
            "innodb_buffer_pool_size": "32M",
            "key_buffer_size": "1M",
            "aria_pagecache_buffer_size": "2M",
            "performance_schema": "OFF",
            "max_allowed_packet": "64M",
            "max_connections": configuration.connections,
            "character_set_server": "utf8mb3" if old else builds.CHARSET,
            "collation_server": "utf8mb3_general_ci" if old else build.collation,
            "default_time_zone": "+00:00",
            "sql_mode": SQL_MODE,
            "server_id": 1,
        }
        if configuration.binary_log:
            settings |= {"log_bin": self._data / "mysql-bin", "binlog_format": "ROW", "expire_logs_days": 7}
        return settings | configuration.flags

    def _configure_files(self, configuration: Configuration) -> None:
        flags = configuration.flags
        lines = [
            # MariaDB does not know all flags of MySQL.
            f"{'loose_' if name in flags else ''}{name} = {_quote(value)}"
            for name, value in self._settings(configuration).items()
        ]
        self._home.write(self._folder / "my.cnf", "\n".join(["[mariadbd]", *lines]) + "\n")

    def configure(self, configuration: Configuration) -> None:
        with self._lock:
            before = self.configuration
            if not self._record["ready"]:  # its files are written when it is made
                self._save(configuration=configuration.as_dict())
                return self.ensure() if configuration.running else self._close()
            try:
                self._apply(before, configuration)
            except SqlError:
                self._apply(configuration, before)
                raise
            self._save(configuration=configuration.as_dict())
            if configuration.running:
                self._open()

    def _apply(self, before: Configuration, configuration: Configuration) -> None:
        self._configure_files(configuration)
        if not configuration.running:
            return self._halt()
        if self.pid is None:
            return self._launch()
        old, new = self._settings(before), self._settings(configuration)
        changed = {name: new.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        statements = [_set_global(name, value) for name, value in changed.items() if name not in builds.MYSQL_ONLY]
        if None in statements:
            return self.restart()
        with self._session() as cursor:
            for statement, values in statements:
                cursor.execute(statement, values)

    def ensure(self) -> None:
        with self._lock:
            if not self.configuration.running or not self.wanted:
                return
            if self._record["ready"]:
                if (pid := self.pid) is None:
                    self._launch()
                    return
                os.kill(pid, signal.SIGCONT)  # a backup can have been cut short
            self._open()

    def restart(self) -> None:
        if self._record["ready"]:
            super().restart()

    def destroy(self) -> None:
        with self._lock:
            self._record["wanted"] = False
            super().destroy()

    def _launch_once(self) -> None:
        self._run_server()
        self._open()

    def _run_server(self, user: str = SUPERUSER, password: str | None = None) -> None:
        if self.pid is None:
            (self._folder / self.pidfile).unlink(missing_ok=True)

        def answers() -> bool:
            try:
                self._connect(user, password).close()
                return True
            except pymysql.err.OperationalError:
                return False

        def failure(text: str) -> SqlError:
            return SqlError(f"the server does not start: {_complaints(text)}")

        build = self._build
        arguments = [str(build.daemon), f"--defaults-file={self._folder / 'my.cnf'}"]
        self._start(arguments, build.environment, answers, failure)

    def _halt(self, first: signal.Signals | None = None) -> None:
        self._close()
        super()._halt(first)

    # The listener for TCP.

    def _open(self) -> None:
        """Listen for TCP connections; on another port when this one is taken."""
        for attempt in range(PORT_ATTEMPTS):
            if self._listener is not None:
                return
            try:
                self._listener = self._servers.sockets.listen(self.port, self._admit, log.warning)
            except OSError as error:
                if attempt == PORT_ATTEMPTS - 1:
                    raise SqlError(f"port {self.port} cannot be listened on: {error}") from error
                self._save(port=self._servers.free_port(self.first_port))

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _admit(self, peer: tuple[str, int] | None) -> Upstream:
        assert peer is not None
        address = ipaddress.ip_address(peer[0])
        if not any(address in ipaddress.ip_network(network) for network in self.configuration.networks):
            said = f"Host '{address}' is not allowed to connect to this MySQL server"
            body = b"\xff" + struct.pack("<H", HOST_NOT_PRIVILEGED) + said.encode()
            raise Refused(
                f"{self._name}: {said}: it is in none of the instance's authorized networks",
                struct.pack("<I", len(body))[:3] + b"\0" + body,
            )
        return self.upstream(peer)

    # Sessions.

    def _connect(self, user: str = SUPERUSER, password: str | None = None) -> pymysql.connections.Connection:
        return pymysql.connect(
            unix_socket=str(self._socket),
            user=user,
            password=(self._folder / "password").read_text() if password is None else password,
            charset=builds.CHARSET,
            autocommit=True,
            connect_timeout=10,
            program_name="cloudsqladmin",
        )

    @contextlib.contextmanager
    def _session(self, user: str = SUPERUSER, password: str | None = None) -> Iterator[pymysql.cursors.Cursor]:
        """Open a cursor with all privileges; the server's errors become SqlError."""
        self._must_run()
        if password is None:
            self._wake()
        try:
            connection = self._connect(user, password)
        except (pymysql.err.OperationalError, OSError) as error:
            raise SqlError(f"the server cannot be reached: {error.args[-1]}") from error
        try:
            with connection.cursor() as cursor:
                yield cursor
        except pymysql.err.MySQLError as error:
            code, text, *_ = (*error.args, "", "")
            kind = Missing if code in NO_SUCH_DATABASE else SqlError
            raise kind(text or str(error)) from error
        finally:
            connection.close()

    def _must_run(self) -> None:
        if not self.configuration.running and self.pid is None:
            raise Stopped("the instance is stopped")

    # Databases.

    def databases(self) -> list[Database]:
        with self._session() as cursor:
            cursor.execute(
                "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
                " FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME"
            )
            return [self._shown(*row) for row in cursor.fetchall()]

    def _shown(self, name: str, charset: str, collation: str) -> Database:
        """Return a database under the names of its request, as long as it still has the collation that they led to."""
        asked = self._record["databases"].get(name)
        if asked and asked["served"] == collation:
            return Database(name, asked["charset"], asked["collation"])
        return Database(name, charset, "utf8mb4_0900_ai_ci" if collation == self._build.collation else collation)

    def create_database(self, name: str, charset: str, collation: str) -> None:
        with self._session() as cursor:
            statement = f"CREATE DATABASE {_identifier(name)} CHARACTER SET %s COLLATE %s"
            self._collate(cursor, statement, charset, collation)
        self._remember(name, charset, collation)

    def update_database(self, name: str, charset: str, collation: str) -> None:
        """Change the collation, and with it the character set. The API goes on showing the old one (recorded)."""
        current = next((item for item in self.databases() if item.name == name), None)
        if current is None:
            raise Missing(f"Unknown database '{name}'")
        with self._session() as cursor:
            self._collate(cursor, f"ALTER DATABASE {_identifier(name)} COLLATE %s", collation)
        self._remember(name, current.charset, collation)

    def _collate(self, cursor: pymysql.cursors.Cursor, statement: str, *values: str) -> None:
        """Execute a statement with a collation as its last value, or the nearest one that MariaDB has."""
        *others, collation = values
        try:
            cursor.execute(statement, values)
        except pymysql.err.OperationalError as error:
            nearest = self._nearest(collation)
            if error.args[0] != UNKNOWN_COLLATION or nearest is None:
                raise
            log.info("%s: MariaDB has no collation %s; %s serves instead", self._name, collation, nearest)
            cursor.execute(statement, (*others, nearest))

    def _nearest(self, collation: str) -> str | None:
        """Return MariaDB's counterpart of a collation of MySQL 8 (utf8mb4_0900_as_cs, utf8mb4_de_pb_0900_ai_ci)."""
        found = re.fullmatch(r"utf8mb4_(?:\w+_)?0900_(ai_ci|as_ci|as_cs|bin)", collation)
        if found is None:
            return None
        if found[1] == "bin":
            return "utf8mb4_nopad_bin"
        own = self._build.collation
        return own.replace("ai_ci", found[1]) if "uca1400" in own else own

    def _remember(self, name: str, charset: str, collation: str) -> None:
        with self._session() as cursor:
            cursor.execute(
                "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", (name,)
            )
            (served,) = cursor.fetchone()
        asked = {"charset": charset, "collation": collation, "served": served}
        self._save(databases={**self._record["databases"], name: asked})

    def drop_database(self, name: str) -> None:
        with self._session() as cursor:
            cursor.execute(f"DROP DATABASE {_identifier(name)}", ())
        self._save(databases={key: value for key, value in self._record["databases"].items() if key != name})

    # Users.

    @property
    def _not_made(self) -> bool:
        """Return whether the server is not made yet; its users are then in the record."""
        return not self._record["ready"] and not self._making

    def users(self) -> list[User]:
        with self._lock:
            if self._not_made:
                self._must_run()
                return [_user(body)[0] for body in self._record["users"]]
        with self._session() as cursor:
            cursor.execute(
                "SELECT u.User, u.Host, GROUP_CONCAT(m.Role ORDER BY m.Role SEPARATOR '\\n') FROM mysql.user u"
                " LEFT JOIN mysql.roles_mapping m ON m.User = u.User AND m.Host = u.Host"
                " WHERE u.is_role = 'N' AND u.User NOT IN %s GROUP BY 1, 2 ORDER BY u.User <> 'root', 1, 2",
                (INTERNAL_USERS,),
            )
            rows = cursor.fetchall()
        kinds = {role: kind for kind, role in IAM_ROLES.items()}
        found = []
        for name, host, text in rows:
            roles = text.split("\n") if text else []
            kind = next((kinds[role] for role in roles if role in kinds), "BUILT_IN")
            found.append(User(name, host, kind, tuple(role for role in roles if role not in kinds)))
        return found

    def create_user(self, user: User, secret: str | None) -> None:
        with self._lock:
            if self._not_made and not user.roles:
                if any((item.name, item.host) == (user.name, user.host) for item in self.users()):
                    raise SqlError(f"Operation CREATE USER failed for '{user.name}'@'{user.host}'")
                return self._save(users=[*self._record["users"], _kept(user, secret)])
        self._create_user(user, secret)

    def _create_user(self, user: User, secret: str | None) -> None:
        who = (user.name, user.host)
        with self._session() as cursor:
            cursor.execute(
                # Cloud SQL has no connections from localhost; here a mounted socket would be one.
                "CREATE USER %s@%s IDENTIFIED VIA mysql_native_password USING %s ACCOUNT "
                + ("LOCK" if user.host == "localhost" else "UNLOCK"),
                (*who, secret or NO_PASSWORD),
            )
            try:
                if user.kind in IAM_ROLES:
                    cursor.execute(f"GRANT {IAM_ROLES[user.kind]} TO %s@%s", who)
                elif not user.roles:
                    # Not by the role: MariaDB has users choose one at a time.
                    cursor.execute(f"GRANT {PRIVILEGES} ON *.* TO %s@%s WITH GRANT OPTION", who)
                self._grant(cursor, user)
            except pymysql.err.MySQLError:
                cursor.execute("DROP USER %s@%s", who)
                raise

    @staticmethod
    def _grant(cursor: pymysql.cursors.Cursor, user: User) -> None:
        for role in user.roles:
            # Only an administrator of a role may grant it: the user that made it by SQL, and no other.
            added = cursor.execute(
                "INSERT IGNORE INTO mysql.roles_mapping (Host, User, Role, Admin_option)"
                " SELECT 'localhost', %s, User, 'Y' FROM mysql.user WHERE is_role = 'Y' AND User = %s",
                (SUPERUSER, role),
            )
            if added:
                cursor.execute("FLUSH PRIVILEGES")
            cursor.execute(f"GRANT {_identifier(role)} TO %s@%s", (user.name, user.host))
        if user.roles:
            cursor.execute(f"SET DEFAULT ROLE {_identifier(user.roles[0])} FOR %s@%s", (user.name, user.host))

    def update_user(self, user: User, secret: str | None, *, revoke: bool = False) -> None:
        who = (user.name, user.host)
        current = next((item for item in self.users() if (item.name, item.host) == who), None)
        if current is None:
            raise Missing(f"There is no such user: '{user.name}'@'{user.host}'")
        with self._session() as cursor:
            if secret is not None:
                cursor.execute("ALTER USER %s@%s IDENTIFIED VIA mysql_native_password USING %s", (*who, secret))
            if revoke:
                for role in current.roles:
                    if role not in user.roles:
                        cursor.execute(f"REVOKE {_identifier(role)} FROM %s@%s", who)
                cursor.execute("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@%s", who)
            self._grant(cursor, user)

    def drop_user(self, name: str, host: str) -> None:
        if (name, host) not in {(item.name, item.host) for item in self.users()}:
            raise Missing(f"Operation DROP USER failed for '{name}'@'{host}'")
        with self._lock:
            if self._not_made:
                kept = [body for body in self._record["users"] if (body["name"], body["host"]) != (name, host)]
                return self._save(users=kept)
        with self._session() as cursor:
            cursor.execute("DROP USER %s@%s", (name, host))

    # Backups.

    def backup(self, folder: Path) -> int:
        """Return a snapshot of the disk, as Cloud SQL takes it: files of one moment, from which a server recovers.

        The server is halted for that moment, some tens of milliseconds; connections stay.
        """
        remove_folder(folder)
        self._home.folder(folder.parent)
        with self._lock:
            with self._session() as cursor:
                cursor.execute("FLUSH TABLES")
            pid = self.pid
            if pid is None:
                raise SqlError("the server does not run")
            os.kill(pid, signal.SIGSTOP)
            try:
                self._home.folder(folder)
                shutil.copytree(self._data, folder / "data", ignore=shutil.ignore_patterns("ibtmp*"))
            finally:
                os.kill(pid, signal.SIGCONT)
            shutil.copy(self._folder / "password", folder / "password")
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def restore(self, folder: Path) -> None:
        if not (folder / "data" / "mysql").is_dir():
            raise SqlError("the backup does not exist, or is not one of MySQL")
        with self._lock:
            self._wake()
            fresh = self._folder / "data.restored"
            remove_folder(fresh)
            shutil.copytree(folder / "data", fresh)
            for path in (fresh, *fresh.rglob("*")):
                self._home.own(path)
            self._halt()
            shutil.rmtree(self._data)
            fresh.rename(self._data)
            # Users came with the data, cloudsqladmin among them.
            self._home.write(self._folder / "password", (folder / "password").read_text())
            self._launch()

    # Flags.

    @classmethod
    def flags(cls, version: str) -> dict[str, Flag] | None:
        return builds.flags()

    @classmethod
    def check_flag(cls, version: str, name: str, value: str) -> None:
        """Check a flag with the server's program, which reads options without data; accept any before one exists."""
        known, build = builds.flags(), builds.present()
        if builds.WITHHELD.fullmatch(name) or (known is not None and name not in known):
            raise SqlError(f"unknown variable '{name}'")
        if known is None or build is None or name in builds.MYSQL_ONLY:
            return
        done = subprocess.run(
            [build.daemon, "--no-defaults", f"--{name.replace('_', '-')}={value}", "--help", "--verbose"],
            capture_output=True, text=True, env=build.environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise SqlError(_complaints(done.stderr))


def _kept(user: User, secret: str | None) -> dict[str, Any]:
    """Return a user in the record of a server that is not made yet."""
    return {"name": user.name, "host": user.host, "kind": user.kind, "secret": secret}


def _user(body: dict[str, Any]) -> tuple[User, str | None]:
    return User(body["name"], body["host"], body["kind"]), body["secret"]


def _set_global(name: str, value: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return a statement that gives a running server an option, and its values; None for one that takes a restart."""
    flag = (builds.flags() or {}).get(name)
    if flag is None or flag.restart:
        return None
    if value is None:
        return f"SET GLOBAL {_identifier(name)} = DEFAULT", ()
    if flag.type in ("INTEGER", "FLOAT"):
        try:
            value = float(value) if flag.type == "FLOAT" else int(value)
        except ValueError:  # 64M: only a file may have it so
            return None
    return f"SET GLOBAL {_identifier(name)} = %s", (value,)


def _identifier(name: str) -> str:
    """Return a name in a statement. Percent signs are doubled, since parameters are filled in by them."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def _quote(value: Any) -> str:
    """Return a value in an option file (mariadb.com/kb/en/configuring-mariadb-with-option-files)."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _complaints(text: str) -> str:
    """Return the errors in a server's log."""
    found = re.findall(r"\[ERROR\]\s+(?:\S*mariadbd: )?(.*)", text) or re.findall(r"mariadbd: (.*)", text)
    return " ".join(found[-3:]) or text.strip()[-300:] or "it says nothing"
