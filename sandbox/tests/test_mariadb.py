# SPDX-License-Identifier: Apache-2.0
"""MySQL instances, looked at with PyMySQL and /proc; MariaDB serves them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pymysql
import pytest
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.mariadb import MariaDb
from gcp_sandbox.backends.servers import SqlServers
from gcp_sandbox.backends.sql import Configuration, Missing, SqlError, Stopped, User
from gcp_sandbox.config import Settings
from gcp_sandbox.store import Store

NAME = "proj:europe-west1:orders"
NOBODY = 65534
PASSWORD = "pässwort 'x' %s"
OPEN = Configuration("MYSQL_8_0", networks=("127.0.0.1/32",))
APP = User("app", "%")

Refusal = pymysql.err.OperationalError

pytestmark = pytest.mark.usefixtures("mariadb")


@pytest.fixture
def server(servers) -> MariaDb:
    server = servers.create(NAME, OPEN, MariaDb.conceal("root's"))
    server.create_user(APP, MariaDb.conceal(PASSWORD))
    server.create_database("shop", "utf8mb4", "utf8mb4_0900_ai_ci")
    return server


def connect(server, user="app", password=PASSWORD, database="shop", **where):
    where = where or {"host": "127.0.0.1", "port": server.port}
    # As bytes: PyMySQL takes text for Latin-1, other clients send UTF-8.
    return pymysql.connect(user=user, password=password.encode(), database=database, autocommit=True, **where)


def ask(connection, statement):
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_what_serves_says_what_it_is(server, mariadb):
    (version,) = ask(connect(server), "SELECT VERSION()")[0]
    assert version == mariadb.version and "MariaDB" in version
    assert server.installed_version == "MARIADB_" + version.split("-")[0].replace(".", "_")


def test_a_server_is_made_when_it_is_needed(servers):
    made = servers.create(NAME, OPEN, MariaDb.conceal("root's"))
    made.create_user(APP, MariaDb.conceal(PASSWORD))
    assert [(user.name, user.host) for user in made.users()] == [("root", "%"), ("app", "%")]
    with pytest.raises(SqlError, match="CREATE USER failed for 'app'@'%'"):
        made.create_user(APP, None)
    made.drop_user("root", "%")
    with pytest.raises(Missing):
        made.drop_user("root", "%")
    assert made.pid is None and made.installed_version == "MYSQL_8_0"
    assert ask(connect(made, database=None), "SELECT 1") == ((1,),), "a connection wakes it"
    assert made.pid and [user.name for user in made.users()] == ["app"]
    with pytest.raises(Refusal, match="Access denied"):
        connect(made, "root", "root's", None)
    assert MariaDb.conceal(PASSWORD) not in str(servers.store.list("sql.server"))


def test_users_come_from_hosts(parts, servers, server, settings):
    server.create_user(User("near", "127.0.0.1"), MariaDb.conceal("x"))
    server.create_user(User("far", "10.1.2.3"), MariaDb.conceal("x"))
    server.create_user(User("here", "localhost"), MariaDb.conceal("x"))
    assert ask(connect(server, "near", "x"), "SELECT USER(), CURRENT_USER()") == (("near@127.0.0.1",) * 2,)
    with pytest.raises(Refusal, match=r"Access denied for user 'far'@'127\.0\.0\.1'"):
        connect(server, "far", "x")
    parts.iam.allowed.add("a@b")
    mount = servers.mount(NAME, settings.runtime / "m", lambda: SimpleNamespace(email="a@b"))
    # Cloud SQL does not see a service's connections come from this machine either.
    for user, words in ("near", r"Access denied for user 'near'@'203\.0\.113\.1'"), ("here", "account is locked"):
        with pytest.raises(Refusal, match=words):
            connect(server, user, "x", unix_socket=str(mount.path))
    server.drop_user("far", "10.1.2.3")
    with pytest.raises(Missing):
        server.drop_user("far", "10.1.2.3")


def test_users_may_do_all_but_reach_around_the_server(server, tmp_path):
    ask(connect(server), "CREATE DATABASE own")
    ask(connect(server), "CREATE USER theirs@'%' IDENTIFIED BY 'secret'")
    ask(connect(server), "GRANT SELECT ON own.* TO theirs@'%'")
    for statement in "SELECT LOAD_FILE('/etc/hostname')", "SELECT 1 INTO OUTFILE '/tmp/x'", "SHUTDOWN":
        with contextlib.suppress(Refusal):
            assert ask(connect(server), statement) == ((None,),)
    assert server.pid and not Path("/tmp/x").exists()
    assert {"shop", "own"} <= {database.name for database in server.databases()}


def test_passwords(server):
    assert connect(server, "root", "root's", None)
    server.update_user(APP, MariaDb.conceal("other"))
    assert connect(server, password="other")
    with pytest.raises(Refusal, match="Access denied"):
        connect(server)
    assert MariaDb.conceal("123456") == "*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9", "what MySQL's PASSWORD() gave"
    server.create_user(User("locked", "%"), None)
    for guess in "", "invalid":
        with pytest.raises(Refusal, match="Access denied"):
            connect(server, "locked", guess)


def test_iam_users_are_of_their_kind_and_have_no_password(server):
    server.create_user(User("sa", "%", "CLOUD_IAM_SERVICE_ACCOUNT"), None)
    server.create_user(User("alice", "%", "CLOUD_IAM_USER"), None)
    kinds = {user.name: (user.kind, user.roles) for user in server.users()}
    assert kinds["sa"] == ("CLOUD_IAM_SERVICE_ACCOUNT", ()) and kinds["alice"] == ("CLOUD_IAM_USER", ())
    with pytest.raises(Refusal, match="Access denied"):
        connect(server, "sa", "")


def test_database_roles(server):
    ask(connect(server), "CREATE ROLE reader")
    ask(connect(server), "CREATE TABLE shop.t (a int)")
    ask(connect(server), "GRANT SELECT ON shop.* TO reader")
    server.create_user(User("r", "%", roles=("reader",)), MariaDb.conceal("x"))
    assert ask(connect(server, "r", "x"), "SELECT * FROM t") == ()
    with pytest.raises(Refusal, match="command denied"):
        ask(connect(server, "r", "x"), "DROP TABLE t")
    assert next(user for user in server.users() if user.name == "r").roles == ("reader",)
    server.update_user(User("r", "%"), None, revoke=True)
    with pytest.raises(Refusal, match="denied"):
        connect(server, "r", "x")
    with pytest.raises(SqlError):
        server.create_user(User("s", "%", roles=("nothing",)), None)
    assert "s" not in {user.name for user in server.users()}, "not half of it"


@pytest.mark.parametrize(("charset", "collation"), [
    ("utf8mb4", "utf8mb4_0900_ai_ci"), ("utf8mb4", "utf8mb4_0900_as_cs"), ("utf8mb4", "utf8mb4_bin"),
    ("utf8", "utf8_general_ci"), ("latin1", "latin1_swedish_ci"), ("utf8mb4", "utf8mb4_de_pb_0900_ai_ci"),
])  # fmt: skip
def test_a_database_is_shown_as_it_was_asked_for(server, charset, collation):
    server.create_database("d", charset, collation)
    shown = next(item for item in server.databases() if item.name == "d")
    assert (shown.charset, shown.collation) == (charset, collation)
    served = ask(connect(server, database="d"), "SELECT @@collation_database")[0][0]
    ignores_case = served.endswith("_ci")
    assert ignores_case == collation.endswith("_ci"), "what serves compares as what was asked for"
    ask(connect(server), "ALTER DATABASE d COLLATE utf8mb4_general_ci")
    assert next(item for item in server.databases() if item.name == "d").collation == "utf8mb4_general_ci"


def test_databases_are_made_changed_and_dropped(server):
    for name in "a`b", "50%", "ä":
        server.create_database(name, "utf8mb4", "utf8mb4_bin")
        assert name in {item.name for item in server.databases()}
        server.drop_database(name)
    with pytest.raises(SqlError, match="Can't create database 'shop'; database exists"):
        server.create_database("shop", "utf8mb4", "utf8mb4_bin")
    with pytest.raises(SqlError, match="Unknown collation"):
        server.create_database("d", "utf8mb4", "utf8mb4_nonsense")
    server.update_database("shop", "utf8mb4", "utf8mb4_bin")
    assert ask(connect(server), "SELECT @@collation_database") == (("utf8mb4_bin",),)
    server.drop_database("shop")
    for change in (server.drop_database, lambda name: server.update_database(name, "utf8mb4", "utf8mb4_bin")):
        with pytest.raises(Missing):
            change("shop")


def test_networks_decide_about_tcp_without_a_restart(server):
    pid = server.pid
    server.configure(Configuration("MYSQL_8_0", networks=("198.51.100.0/24",)))
    with pytest.raises(Refusal, match=r"1130.*Host '127\.0\.0\.1' is not allowed to connect to this MySQL server"):
        connect(server)
    server.configure(Configuration("MYSQL_8_0", networks=("198.51.100.0/24", "0.0.0.0/0")))
    assert connect(server) and server.pid == pid


def test_flags_are_set_and_restart_only_where_they_must(server):
    pid = server.pid
    flags = {"sort_buffer_size": "131072", "cte_max_recursion_depth": "7"}
    server.configure(Configuration("MYSQL_8_0", connections=33, flags=flags, networks=OPEN.networks))
    assert ask(connect(server), "SELECT @@sort_buffer_size, @@max_connections") == ((131072, 33),)
    assert server.pid == pid
    server.configure(Configuration("MYSQL_8_0", flags={"back_log": "77"}, networks=OPEN.networks))
    assert ask(connect(server), "SELECT @@sort_buffer_size = 131072, @@max_connections, @@back_log") == ((0, 100, 77),)
    assert server.pid != pid


def test_a_binary_log_is_written_when_it_is_asked_for(server):
    assert ask(connect(server), "SELECT @@log_bin") == ((0,),)
    server.configure(Configuration("MYSQL_8_0", networks=OPEN.networks, binary_log=True))
    assert ask(connect(server), "SELECT @@log_bin, @@binlog_format") == ((1, "ROW"),)
    ask(connect(server), "CREATE TABLE t (a int)")
    assert ask(connect(server), "SHOW MASTER STATUS")[0][1] > 0


def test_a_configuration_that_does_not_start_is_taken_back(server):
    with pytest.raises(SqlError, match="does not start"):
        server.configure(Configuration("MYSQL_8_0", flags={"default_time_zone": "Mars/Base"}, networks=OPEN.networks))
    assert connect(server), "the one before is in force"


@pytest.mark.parametrize(("name", "value", "fine"), [
    ("max_connections", "400", True), ("max_connections", "lots", False), ("binlog_row_image", "full", True),
    ("binlog_row_image", "half", False), ("cloudsql_iam_authentication", "on", True), ("nonsense", "1", False),
    ("datadir", "/", False), ("skip_grant_tables", "on", False), ("plugin_load_add", "x", False),
    ("sql_mode", "ANSI,TRADITIONAL", True), ("default_time_zone", "+02:00", True), ("slow_query_log", "on", True),
    ("lower_case_table_names", "1", True), ("general_log_file", "/etc/passwd", False),
])  # fmt: skip
def test_flags_are_checked_without_a_server(server, name, value, fine):
    with contextlib.nullcontext() if fine else pytest.raises(SqlError):
        MariaDb.check_flag("MYSQL_8_0", name, value)
    assert (name in MariaDb.flags("MYSQL_8_0")) == (
        name not in ("nonsense", "datadir", "skip_grant_tables", "plugin_load_add", "general_log_file")
    )


def test_stopping_and_starting_an_instance(servers, server):
    server.configure(Configuration("MYSQL_8_0", running=False, networks=OPEN.networks))
    assert server.pid is None
    with pytest.raises(Stopped):
        server.databases()
    with pytest.raises(Refusal, match="Can't connect"):
        connect(server)
    time.sleep(2.5)
    assert server.pid is None, "what its owner has stopped is left alone"
    server.configure(OPEN)
    assert ask(connect(server), "SELECT 1") == ((1,),)


def test_one_that_was_never_needed_can_be_stopped(servers):
    made = servers.create(NAME, Configuration("MYSQL_8_0", running=False), None)
    with pytest.raises(Stopped):
        made.databases()
    with pytest.raises(Stopped):
        made.users()
    made.configure(OPEN)
    made.restart()
    assert made.databases()


def test_a_server_that_dies_is_started_again(server):
    ask(connect(server), "CREATE TABLE t (a int)")
    ask(connect(server), "INSERT INTO t VALUES (7)")
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(pymysql.err.MySQLError):
            assert ask(connect(server), "SELECT a FROM t") == ((7,),)
            return
        time.sleep(0.2)
    pytest.fail("it did not come back")


def test_servers_outlive_the_daemon_and_are_adopted(parts, servers, server):
    pid = server.pid
    servers._stopped.set()  # the daemon is gone, and its doors with it; the server is not
    server._close()
    os.kill(pid, signal.SIGSTOP)  # in the middle of a backup
    second = SqlServers(parts)
    second.start()
    try:
        assert second.server(NAME).pid == pid
        assert ask(connect(second.server(NAME)), "SELECT 1") == ((1,),)
    finally:
        second.stop()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    third = SqlServers(parts)
    third.start()
    assert ask(connect(third.server(NAME)), "SELECT DATABASE()") == (("shop",),)
    third.stop()


def test_a_creation_that_was_cut_short_is_begun_again(parts, servers):
    made = servers.create(NAME, OPEN, MariaDb.conceal("root's"))
    servers.home.folder(made._folder)
    made._data.mkdir()
    (made._data / "half").write_text("")
    assert ask(connect(made, "root", "root's", None), "SELECT 1") == ((1,),)


def test_a_port_that_somebody_has_taken_meanwhile_is_changed(servers, server):
    old = server.port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        server.ensure()
        assert server.port != old
        assert ask(connect(server), "SELECT 1") == ((1,),)
        assert servers.endpoint(NAME)[1] == server.port


def test_destroying_leaves_nothing(parts, servers, server):
    pid, data, port = server.pid, servers.home.data, server.port
    servers.destroy(NAME, OPEN)
    servers.destroy(NAME, OPEN)
    assert not list(data.iterdir()) and not list(servers.home.sockets.iterdir())
    with pytest.raises(SqlError):
        servers.endpoint(NAME)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with contextlib.suppress(FileNotFoundError):
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b""


def test_a_backup_restores_databases_and_users(servers, server):
    ask(connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    folder = servers.backups("b1")
    assert server.backup(folder) > 100_000
    ask(connect(server), "UPDATE t SET a = 8")
    server.create_database("later", "utf8mb4", "utf8mb4_bin")
    server.restore(folder)
    assert ask(connect(server), "SELECT a FROM t") == ((7,),)
    assert "later" not in {database.name for database in server.databases()}
    with pytest.raises(SqlError, match="not there"):
        server.restore(servers.backups("b2"))


def test_a_backup_while_others_write_is_of_one_moment(servers, server):
    """Each transaction moves one from a to b: their sum is the same in whatever moment was kept."""
    ask(connect(server), "CREATE TABLE t (a int, b int)")
    ask(connect(server), "INSERT INTO t VALUES (100000, 0)")
    over = threading.Event()

    def move():
        with connect(server) as connection, connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute("UPDATE t SET a = a - 1, b = b + 1")

    mover = threading.Thread(target=move)
    mover.start()
    time.sleep(0.3)
    server.backup(servers.backups("b1"))
    over.set()
    mover.join(30)
    server.restore(servers.backups("b1"))
    ((a, b),) = ask(connect(server), "SELECT a, b FROM t")
    assert a + b == 100000 and b > 0


def test_a_version_is_upgraded_in_place(server):
    ask(connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    server.configure(Configuration("MYSQL_8_4", networks=OPEN.networks))
    assert ask(connect(server), "SELECT a FROM t") == ((7,),)


def test_what_is_secret_is_nowhere_to_be_seen(servers, server):
    secret = (server._folder / "password").read_text()
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    assert secret not in shown and "pässwort" not in shown
    assert secret not in str(servers.store.list("sql.server"))
    for file in servers.logfile(NAME), server._folder / "password", server._folder / "my.cnf":
        assert file.stat().st_mode & 0o077 == 0, file
    assert "pässwort" not in servers.logfile(NAME).read_text()
    assert server._folder.stat().st_mode & 0o077 == 0 and server.sockets.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="another user is only needed under root")
def test_under_root_the_server_is_somebody_else(servers, server):
    assert Path(f"/proc/{server.pid}").stat().st_uid == servers.home.uid != 0
    assert Path(f"/proc/{server.pid}/exe").resolve().is_relative_to(
        "/var/lib/gcp-sandbox"
    ) or server._build.prefix == Path("/usr")


def plain(place: Path, answers) -> None:
    """Becomes nobody and makes a server, as an ordinary user's daemon would, with a cache of its own."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.environ["GCP_SANDBOX_CACHE"] = str(place / "cache")
    mariadbbuilds.present.cache_clear()
    settings = Settings(state=place / "state")
    settings.folders()
    servers = SqlServers(SimpleNamespace(settings=settings, store=Store(settings.state / "db"), iam=None))
    servers.start()
    try:
        server = servers.create(NAME, OPEN, MariaDb.conceal("root's"))
        found = ask(connect(server, "root", "root's", None), "SELECT VERSION()")
        answers.put((found, Path(f"/proc/{server.pid}").stat().st_uid, servers.home.data))
    except Exception as error:
        answers.put((repr(error), None, None))
    servers.stop()
    shutil.rmtree(settings.runtime)


@pytest.mark.skipif(os.getuid() != 0, reason="without root all other tests show this")
def test_without_root_all_of_it_is_in_the_folders_of_the_user(mariadb):
    """That includes getting the packages, which this user's cache does not have yet."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(place, NOBODY, NOBODY)
    fork = multiprocessing.get_context("fork")  # the interpreter may lie where nobody can start it again
    answers = fork.Queue()
    child = fork.Process(target=plain, args=(place, answers))
    child.start()
    try:
        found, uid, data = answers.get(timeout=100)
        child.join(30)
        assert child.exitcode == 0
        assert found == ((mariadb.version,),) and uid == NOBODY and data == place / "state" / "sql"
    finally:
        child.kill()
        shutil.rmtree(place)


class TestMounts:
    @pytest.fixture
    def folder(self, settings):
        return settings.runtime / "m"

    def test_whoever_may_connect_is_let_through_a_socket_file(self, parts, servers, server, folder):
        parts.iam.allowed.add("run@proj.iam.gserviceaccount.com")
        mount = servers.mount(NAME, folder, lambda: SimpleNamespace(email="run@proj.iam.gserviceaccount.com"))
        assert mount.path == folder / NAME and mount.path.is_socket()
        through = connect(server, unix_socket=str(folder / NAME))
        assert len(ask(through, "SELECT REPEAT('x', 5000000)")[0][0]) == 5_000_000
        mount.close()
        with pytest.raises(Refusal):
            connect(server, unix_socket=str(folder / NAME))

    def test_each_connection_is_checked_and_a_refusal_is_explained(self, parts, servers, server, folder):
        said: list[str] = []
        member = SimpleNamespace(email="run@proj.iam.gserviceaccount.com")
        servers.mount(NAME, folder, lambda: member, said.append)
        with pytest.raises(Refusal, match="Lost connection"):
            connect(server, unix_socket=str(folder / NAME))
        assert "cloudsql.instances.connect" in said[0] and member.email in said[0]
        parts.iam.allowed.add(member.email)
        assert connect(server, unix_socket=str(folder / NAME))

    def test_an_instance_may_come_later_and_its_engine_with_it(self, parts, servers, folder):
        parts.iam.allowed.add("a@b")
        mount = servers.mount(NAME, folder, lambda: SimpleNamespace(email="a@b"), lambda line: None)
        assert mount.path == folder / NAME / ".s.PGSQL.5432", "nobody knows better yet"
        server = servers.create(NAME, OPEN, MariaDb.conceal("p"))
        assert connect(server, "root", "p", None, unix_socket=str(folder / NAME))
        mount.close()
        assert not (folder / NAME).exists()

    def test_many_at_once_and_a_restart_between(self, parts, servers, server, folder):
        parts.iam.allowed.add("a@b")
        servers.mount(NAME, folder, lambda: SimpleNamespace(email="a@b"))
        held = [connect(server, unix_socket=str(folder / NAME)) for _ in range(30)]
        assert len(held) == 30
        server.restart()
        assert ask(connect(server, unix_socket=str(folder / NAME)), "SELECT 1") == ((1,),)


class TestBuilds:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch):
        """Nothing is found by looking, unless a test says so."""
        monkeypatch.setattr(mariadbbuilds, "_system", lambda: None)
        mariadbbuilds.present.cache_clear()
        yield
        mariadbbuilds.present.cache_clear()

    def test_a_machine_without_packages_is_told_what_to_install(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GCP_SANDBOX_CACHE", str(tmp_path))
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(SqlError, match=r"no apt-get .* install MariaDB 10\.5 or newer"):
            mariadbbuilds.fetched()
        assert mariadbbuilds.flags() is None

    def test_packages_that_cannot_be_reached_are_an_error_and_leave_nothing(self, monkeypatch, tmp_path):
        if shutil.which("apt-get") is None:
            pytest.skip("there is no apt-get")
        monkeypatch.setenv("GCP_SANDBOX_CACHE", str(tmp_path))
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setattr(
            mariadbbuilds, "APT_OPTIONS", {"Acquire::Retries": 0, "Acquire::http::Proxy": "http://127.0.0.1:9"}
        )
        with pytest.raises(SqlError, match=r"packages cannot be fetched.*Install mariadb-server"):
            mariadbbuilds.fetched()
        assert [path.suffix for path in (tmp_path / "mariadb").iterdir()] == [".lock"]

    def test_mysqld_of_another_maker_is_not_taken(self, monkeypatch, tmp_path):
        monkeypatch.undo()
        monkeypatch.setenv("PATH", str(tmp_path))
        program = tmp_path / "mysqld"
        program.write_text("#!/bin/sh\necho 'mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)'\n")
        program.chmod(0o755)
        monkeypatch.setattr(mariadbbuilds, "PLACES", str(tmp_path))
        assert mariadbbuilds._system() is None

    def test_two_that_fetch_at_once_fetch_once(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GCP_SANDBOX_CACHE", str(tmp_path))
        calls = []

        def fetch(apt):
            calls.append(apt)
            time.sleep(0.3)
            root = apt.folder / "root" / "usr" / "sbin"
            root.mkdir(parents=True)
            (root / "mariadbd").write_text("#!/bin/sh\necho 'mariadbd  Ver 10.11.6-MariaDB for Linux'\n")
            (root / "mariadbd").chmod(0o755)
            return apt.folder / "root"

        if not Path("/var/lib/dpkg/status").exists() or shutil.which("apt-config") is None:
            pytest.skip("there is no apt")
        monkeypatch.setattr(mariadbbuilds.Apt, "unpacked", fetch)
        threads = [threading.Thread(target=mariadbbuilds._fetch, args=(mariadbbuilds._place(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(calls) == 1 and mariadbbuilds.fetched().numbers == (10, 11, 6)
