# SPDX-License-Identifier: Apache-2.0
"""Database servers of both engines: what PostgreSQL and MariaDB do alike, observed with drivers and /proc."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pymysql
import pytest
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.local import LocalServer
from gcp_sandbox.backends.mariadb import MariaDb
from gcp_sandbox.backends.postgres import Postgres
from gcp_sandbox.backends.servers import SqlServers
from gcp_sandbox.backends.sql import Configuration, SqlError, Stopped, User
from gcp_sandbox.config import Settings
from gcp_sandbox.store import Store
from gcp_sandbox.testing.sql import ask

NAME = "proj:europe-west1:orders"
PASSWORD = "pässwort 'x' %s"
NETWORKS = ("127.0.0.1/32",)
UNPRIVILEGED = 65534


class PostgresEngine:
    """How the tests use PostgreSQL."""

    cls: type[LocalServer] = Postgres
    version, newer = "POSTGRES_16", "POSTGRES_18"
    root, first_database = "postgres", "postgres"
    host = ""
    charset, collation, other_collation = "UTF8", "en_US.UTF8", "C"
    error: type[Exception] = psycopg2.OperationalError
    wrong_password, closed_network, lost = "password authentication failed", "no pg_hba", "closed the connection"
    current_database = "SELECT current_database()"
    # Flags that take effect at once, and with a restart; what is shown before and with each.
    shown = "SELECT current_setting('work_mem'), current_setting('max_connections')"
    live, live_shown = {"flags": {"work_mem": "8192"}}, ("8MB", "100")
    restarting, restarting_shown = {"connections": 33}, ("4MB", "33")
    bad_flags = {"shared_buffers": "64GB", "max_connections": "200000"}

    @classmethod
    def connect(cls, server, user="app", password=PASSWORD, database="shop", folder: Path | None = None):
        where = {"host": str(folder), "port": 5432} if folder else {"host": "127.0.0.1", "port": server.port}
        connection = psycopg2.connect(user=user, password=password, dbname=database or cls.first_database, **where)
        connection.autocommit = True
        return connection

    @staticmethod
    def mounted(path: Path) -> Path:
        return path / ".s.PGSQL.5432"


class MariaDbEngine:
    """How the tests use MariaDB."""

    cls: type[LocalServer] = MariaDb
    version, newer = "MYSQL_8_0", "MYSQL_8_4"
    root, first_database = "root", None
    host = "%"
    charset, collation, other_collation = "utf8mb4", "utf8mb4_0900_ai_ci", "utf8mb4_bin"
    error: type[Exception] = pymysql.err.OperationalError
    wrong_password, lost = "Access denied", "Lost connection"
    closed_network = r"1130.*Host '127\.0\.0\.1' is not allowed to connect to this MySQL server"
    current_database = "SELECT DATABASE()"
    shown = "SELECT @@sort_buffer_size = 131072, @@max_connections, @@back_log = 77"
    live, live_shown = {"connections": 33, "flags": {"sort_buffer_size": "131072"}}, (1, 33, 0)
    restarting, restarting_shown = {"flags": {"back_log": "77"}}, (0, 100, 1)
    bad_flags = {"default_time_zone": "Mars/Base"}

    @staticmethod
    def connect(server, user="app", password=PASSWORD, database="shop", folder: Path | None = None):
        where = {"unix_socket": str(folder)} if folder else {"host": "127.0.0.1", "port": server.port}
        # As bytes: PyMySQL takes text for Latin-1, other clients send UTF-8.
        return pymysql.connect(user=user, password=password.encode(), database=database, autocommit=True, **where)

    @staticmethod
    def mounted(path: Path) -> Path:
        return path


ENGINES = {"postgres": PostgresEngine, "mariadb": MariaDbEngine}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request) -> Any:
    """Each engine in turn; skipped where this machine has no MariaDB."""
    if request.param == "mariadb":
        request.getfixturevalue("mariadb")
    return ENGINES[request.param]


def opened(engine, **more) -> Configuration:
    return Configuration(engine.version, **{"networks": NETWORKS, **more})


def make(engine, servers) -> LocalServer:
    """A server with a user and a database."""
    server = servers.create(NAME, opened(engine), engine.cls.hash_password("root's"))
    server.create_user(User("app", engine.host), engine.cls.hash_password(PASSWORD))
    server.create_database("shop", engine.charset, engine.collation)
    return server


@pytest.fixture(scope="module")
def running(engine, tmp_path_factory, new_settings, new_iam) -> Iterator[SimpleNamespace]:
    """One server for the tests that leave it as it was: `parts`, `servers` and `server`."""
    with new_settings(tmp_path_factory.mktemp("servers")) as settings, pytest.MonkeyPatch.context() as patch:
        patch.setattr("gcp_sandbox.backends.servers.WATCH_INTERVAL", 0.1)
        settings.folders()
        parts = SimpleNamespace(settings=settings, store=Store(settings.state / "db"), iam=new_iam())
        servers = SqlServers(parts)
        servers.start()
        yield SimpleNamespace(parts=parts, servers=servers, server=make(engine, servers))
        servers.stop()


@pytest.fixture
def shared(engine, running) -> Iterator[SimpleNamespace]:
    """That server; afterwards its settings, users and databases are as before."""
    yield running
    server = running.server
    running.parts.iam.allowed.clear()
    running.parts.iam.asked.clear()
    server.configure(opened(engine))
    if "later" in {database.name for database in server.databases()}:
        server.drop_database("later")
    for user in server.users():
        if user.name not in ("app", engine.root):
            server.drop_user(user.name, user.host)
    server.update_user(User("app", engine.host), engine.cls.hash_password(PASSWORD))
    ask(engine.connect(server), "DROP TABLE IF EXISTS t")


@pytest.fixture
def server(engine, servers) -> LocalServer:
    """A server of the test's own, with a user and a database."""
    return make(engine, servers)


def test_passwords(engine, shared):
    server = shared.server
    assert engine.connect(server, engine.root, "root's", engine.first_database)
    server.update_user(User("app", engine.host), engine.cls.hash_password("other"))
    assert engine.connect(server, password="other")
    with pytest.raises(engine.error, match=engine.wrong_password):
        engine.connect(server)


def test_iam_users_are_of_their_kind_and_have_no_password(engine, shared):
    server = shared.server
    kinds = {"sa": "CLOUD_IAM_SERVICE_ACCOUNT", "alice": "CLOUD_IAM_USER"}
    for name, kind in kinds.items():
        server.create_user(User(name, engine.host, kind), None)
    assert {user.name: user.kind for user in server.users() if user.name in kinds} == kinds
    for guess in ("", "guess"):
        with pytest.raises(engine.error):
            engine.connect(server, "sa", guess)


def test_networks_decide_about_tcp_without_a_restart(engine, shared):
    server, pid = shared.server, shared.server.pid
    server.configure(opened(engine, networks=("198.51.100.0/24",)))
    with pytest.raises(engine.error, match=engine.closed_network):
        engine.connect(server)
    server.configure(opened(engine, networks=("198.51.100.0/24", "0.0.0.0/0")))
    assert engine.connect(server) and server.pid == pid


def test_flags_are_set_and_restart_only_where_they_must(engine, shared):
    server, pid = shared.server, shared.server.pid
    server.configure(opened(engine, **engine.live))
    assert ask(engine.connect(server), engine.shown) == [engine.live_shown] and server.pid == pid
    server.configure(opened(engine, **engine.restarting))
    assert ask(engine.connect(server), engine.shown) == [engine.restarting_shown] and server.pid != pid


def test_a_configuration_that_does_not_start_is_taken_back(engine, shared):
    with pytest.raises(SqlError, match="does not start"):
        shared.server.configure(opened(engine, flags=engine.bad_flags))
    assert engine.connect(shared.server), "the one before is in force"


POSTGRES_FLAGS = (
    ("work_mem", "4096", True), ("work_mem", "lots", False), ("log_min_messages", "warning", True),
    ("log_min_messages", "loud", False), ("cloudsql.iam_authentication", "on", True), ("pgaudit.log", "all", True),
    ("nonsense", "1", False), ("listen_addresses", "*", False), ("shared_preload_libraries", "x", False),
    ("archive_command", "rm -rf /", False), ("nonsense.x", "1", False),
)  # fmt: skip
MYSQL_FLAGS = (
    ("max_connections", "400", True), ("max_connections", "lots", False), ("binlog_row_image", "full", True),
    ("binlog_row_image", "half", False), ("cloudsql_iam_authentication", "on", True), ("nonsense", "1", False),
    ("datadir", "/", False), ("skip_grant_tables", "on", False), ("plugin_load_add", "x", False),
    ("sql_mode", "ANSI,TRADITIONAL", True), ("default_time_zone", "+02:00", True), ("slow_query_log", "on", True),
    ("lower_case_table_names", "1", True), ("general_log_file", "/etc/passwd", False),
)  # fmt: skip


def test_flags_are_checked_without_a_server(engine, running):
    """MariaDB's are known once a server was made on this machine."""
    for name, value, fine in POSTGRES_FLAGS if engine is PostgresEngine else MYSQL_FLAGS:
        with contextlib.nullcontext() if fine else pytest.raises(SqlError):
            engine.cls.check_flag(engine.version, name, value)
        if engine is MariaDbEngine:
            hidden = ("nonsense", "datadir", "skip_grant_tables", "plugin_load_add", "general_log_file")
            assert (name in MariaDb.flags("MYSQL_8_0")) == (name not in hidden)


def test_stopping_and_starting_an_instance(engine, shared):
    server = shared.server
    server.configure(opened(engine, running=False))
    assert server.pid is None
    with pytest.raises(Stopped):
        server.databases()
    with pytest.raises(engine.error):
        engine.connect(server)
    shared.servers.restart_dead()
    assert server.pid is None, "a server that its owner has stopped is left alone"
    server.configure(opened(engine))
    assert ask(engine.connect(server), "SELECT 1") == [(1,)]


def test_a_server_that_dies_is_started_again(engine, shared):
    server = shared.server
    ask(engine.connect(server), "CREATE TABLE t (a int)")
    ask(engine.connect(server), "INSERT INTO t VALUES (7)")
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(engine.error, psycopg2.Error, pymysql.err.MySQLError):
            assert ask(engine.connect(server), "SELECT a FROM t") == [(7,)]
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_backup_restores_databases_and_users(engine, shared):
    server = shared.server
    ask(engine.connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    folder = shared.servers.backups("b1")
    assert server.backup(folder) > 100_000
    ask(engine.connect(server), "UPDATE t SET a = 8")
    server.create_database("later", engine.charset, engine.other_collation)
    server.restore(folder)
    assert ask(engine.connect(server), "SELECT a FROM t") == [(7,)]
    names = {database.name for database in server.databases()}
    assert "shop" in names and "later" not in names
    with pytest.raises(SqlError, match="does not exist"):
        server.restore(shared.servers.backups("b2"))


def test_what_is_secret_is_nowhere_to_be_seen(engine, shared):
    server, servers = shared.server, shared.servers
    secret = (server._folder / "password").read_text()
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    assert secret not in shown and "pässwort" not in shown
    assert secret not in str(servers.store.list("sql.server"))
    private = [path for path in server._folder.iterdir() if path.name in ("password", "pgpass", "my.cnf")]
    assert len(private) == 2
    for file in servers.logfile(NAME), *private:
        assert file.stat().st_mode & 0o077 == 0, file
    assert "pässwort" not in servers.logfile(NAME).read_text()
    assert server._folder.stat().st_mode & 0o077 == 0 and server.sockets.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="another user is only needed under root")
def test_under_root_the_server_runs_as_another_user(engine, shared):
    home, parts, pid = shared.servers.home, shared.parts, shared.server.pid
    assert Path(f"/proc/{pid}").stat().st_uid == home.uid != 0
    assert (parts.settings.state / "sql").resolve() == home.data


def test_servers_outlive_the_daemon_and_are_adopted(engine, parts, servers, server):
    pid = server.pid
    servers._stopped.set()  # the daemon has ended, and its listeners with it; the server has not
    if engine is MariaDbEngine:
        server._close()
        os.kill(pid, signal.SIGSTOP)  # in the middle of a backup
    second = SqlServers(parts)
    second.start()
    try:
        assert second.server(NAME).pid == pid
        assert ask(engine.connect(second.server(NAME)), "SELECT 1") == [(1,)]
    finally:
        second.stop()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    third = SqlServers(parts)
    third.start()
    assert ask(engine.connect(third.server(NAME)), engine.current_database) == [("shop",)]
    third.stop()


def test_a_creation_that_was_cut_short_is_begun_again(engine, parts, servers):
    servers._register(NAME, opened(engine), engine.cls)
    folder = servers.home.folder(servers.home.data / parts.store.get("sql.server", NAME)["folder"])
    (folder / "data").mkdir()
    (folder / "data" / "half").write_text("")
    again = servers.create(NAME, opened(engine), engine.cls.hash_password("root's"))
    connection = engine.connect(again, engine.root, "root's", engine.first_database)
    assert ask(connection, "SELECT 1") == [(1,)]


def test_a_port_that_is_taken_meanwhile_is_changed(engine, shared):
    server, old = shared.server, shared.server.port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        server.ensure()
        assert server.port != old == taken.getsockname()[1]
        assert ask(engine.connect(server), "SELECT 1") == [(1,)]
        assert shared.servers.endpoint(NAME)[1] == server.port


def test_destroying_leaves_nothing(engine, parts, servers, server):
    pid, data, port = server.pid, servers.home.data, server.port
    assert list(data.iterdir())
    servers.destroy(NAME, opened(engine))
    servers.destroy(NAME, opened(engine))
    assert not list(data.iterdir()) and not list(servers.home.sockets.iterdir())
    with pytest.raises(SqlError):
        servers.endpoint(NAME)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with contextlib.suppress(FileNotFoundError):
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    servers.stop()
    assert not data.exists() and not (parts.settings.state / "sql").exists()


def test_an_upgrade_keeps_the_data(engine, server):
    ask(engine.connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    server.configure(Configuration(engine.newer, networks=NETWORKS))
    assert ask(engine.connect(server), "SELECT a FROM t") == [(7,)]
    if engine is PostgresEngine:
        assert server.installed_version.startswith("POSTGRES_18_")
        assert ask(engine.connect(server), "SHOW server_version_num")[0][0].startswith("18")


def as_unprivileged(engine, place: Path, answers) -> None:
    """Make a server as an unprivileged user, as an ordinary user's daemon would, with a cache of its own."""
    os.setgroups([])
    os.setgid(UNPRIVILEGED)
    os.setuid(UNPRIVILEGED)
    os.environ["GCP_SANDBOX_CACHE"] = str(place / "cache")
    mariadbbuilds.present.cache_clear()
    settings = Settings(state=place / "state")
    settings.folders()
    servers = SqlServers(SimpleNamespace(settings=settings, store=Store(settings.state / "db"), iam=None))
    servers.start()
    try:
        server = servers.create(NAME, opened(engine), engine.cls.hash_password("root's"))
        connection = engine.connect(server, engine.root, "root's", engine.first_database)
        found = ask(connection, "SELECT VERSION()")
        answers.put((found, Path(f"/proc/{server.pid}").stat().st_uid, servers.home.data))
    except Exception as error:
        answers.put((repr(error), None, None))
    servers.stop()
    shutil.rmtree(settings.runtime)


@pytest.mark.skipif(os.getuid() != 0, reason="without root all other tests show this")
def test_without_root_everything_is_in_the_folders_of_the_user(engine, running):
    """That includes getting MariaDB's packages, which this user's cache does not have yet."""
    version = ask(engine.connect(running.server), "SELECT VERSION()")
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(place, UNPRIVILEGED, UNPRIVILEGED)
    fork = multiprocessing.get_context("fork")  # the interpreter may lie where that user cannot start it again
    answers = fork.Queue()
    child = fork.Process(target=as_unprivileged, args=(engine, place, answers))
    child.start()
    try:
        found, uid, data = answers.get(timeout=100)
        child.join(60)
        assert child.exitcode == 0
        assert found == version and uid == UNPRIVILEGED and data == place / "state" / "sql"
    finally:
        child.kill()
        shutil.rmtree(place)


class TestMounts:
    MEMBER = SimpleNamespace(email="run@proj.iam.gserviceaccount.com")

    @pytest.fixture
    def folder(self, shared):
        return shared.parts.settings.runtime / "m"

    @pytest.fixture
    def mount(self, shared, folder):
        """Mount the instance below `folder`; unmounted after the test."""
        made = []

        def mount(report=None):
            made.append(shared.servers.mount(NAME, folder, lambda: self.MEMBER, report))
            return made[-1]

        yield mount
        for one in made:
            one.close()

    def test_an_allowed_principal_connects(self, engine, shared, folder, mount):
        shared.parts.iam.allowed.add(self.MEMBER.email)
        mounted = mount()
        assert mounted.path == engine.mounted(folder / NAME) and mounted.path.is_socket()
        through = engine.connect(shared.server, folder=folder / NAME)
        assert len(ask(through, "SELECT REPEAT('x', 5000000)")[0][0]) == 5_000_000
        resource = "//sqladmin.googleapis.com/projects/proj/instances/orders"
        assert shared.parts.iam.asked == [(self.MEMBER.email, resource, ("cloudsql.instances.connect",))]
        mounted.close()
        mounted.close()
        with pytest.raises(engine.error):
            engine.connect(shared.server, folder=folder / NAME)

    def test_each_connection_is_checked_and_a_refusal_is_explained(self, engine, shared, folder, mount):
        said: list[str] = []
        mount(said.append)
        with pytest.raises(engine.error, match=engine.lost):
            engine.connect(shared.server, folder=folder / NAME)
        assert "cloudsql.instances.connect" in said[0] and self.MEMBER.email in said[0]
        shared.parts.iam.allowed.add(self.MEMBER.email)
        assert engine.connect(shared.server, folder=folder / NAME)
        shared.parts.iam.allowed.clear()
        with pytest.raises(engine.error):
            engine.connect(shared.server, folder=folder / NAME)

    def test_many_at_once_and_a_restart_between(self, engine, shared, folder, mount):
        shared.parts.iam.allowed.add(self.MEMBER.email)
        mount()
        held = [engine.connect(shared.server, folder=folder / NAME) for _ in range(30)]
        assert len(held) == 30
        shared.server.restart()
        assert ask(engine.connect(shared.server, folder=folder / NAME), "SELECT 1") == [(1,)]

    def test_an_instance_may_come_later_and_its_engine_with_it(self, engine, parts, servers, settings):
        folder, said = settings.runtime / "m", []
        parts.iam.allowed.add("a@b")
        mount = servers.mount(NAME, folder, lambda: SimpleNamespace(email="a@b"), said.append)
        assert mount.path == PostgresEngine.mounted(folder / NAME), "the engine is not known yet"
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host=str(folder / NAME), user="u", password="p")
        assert "does not exist" in said[0]
        server = servers.create(NAME, opened(engine), engine.cls.hash_password("p"))
        assert engine.connect(server, engine.root, "p", engine.first_database, folder=folder / NAME)
        mount.close()
        assert not (folder / NAME).exists() or engine is PostgresEngine
