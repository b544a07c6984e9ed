# SPDX-License-Identifier: Apache-2.0
"""MySQL instances, observed with PyMySQL and /proc; MariaDB serves them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pymysql
import pytest
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.mariadb import MariaDb
from gcp_sandbox.backends.sql import Configuration, Missing, SqlError, Stopped, User
from gcp_sandbox.testing.sql import ask

NAME = "proj:europe-west1:orders"
UNPRIVILEGED = 65534
PASSWORD = "pässwort 'x' %s"
OPEN = Configuration("MYSQL_8_0", networks=("127.0.0.1/32",))
APP = User("app", "%")

Refusal = pymysql.err.OperationalError

pytestmark = pytest.mark.usefixtures("mariadb")


@pytest.fixture
def server(servers) -> MariaDb:
    server = servers.create(NAME, OPEN, MariaDb.hash_password("root's"))
    server.create_user(APP, MariaDb.hash_password(PASSWORD))
    server.create_database("shop", "utf8mb4", "utf8mb4_0900_ai_ci")
    return server


def connect(server, user="app", password=PASSWORD, database="shop", **where):
    where = where or {"host": "127.0.0.1", "port": server.port}
    # As bytes: PyMySQL takes text for Latin-1, other clients send UTF-8.
    return pymysql.connect(user=user, password=password.encode(), database=database, autocommit=True, **where)


def test_what_serves_says_what_it_is(server, mariadb):
    (version,) = ask(connect(server), "SELECT VERSION()")[0]
    assert version == mariadb.version and "MariaDB" in version
    assert server.installed_version == "MARIADB_" + version.split("-")[0].replace(".", "_")


def test_a_server_is_made_when_it_is_needed(servers):
    made = servers.create(NAME, OPEN, MariaDb.hash_password("root's"))
    made.create_user(APP, MariaDb.hash_password(PASSWORD))
    assert [(user.name, user.host) for user in made.users()] == [("root", "%"), ("app", "%")]
    with pytest.raises(SqlError, match="CREATE USER failed for 'app'@'%'"):
        made.create_user(APP, None)
    made.drop_user("root", "%")
    with pytest.raises(Missing):
        made.drop_user("root", "%")
    assert made.pid is None and made.installed_version == "MYSQL_8_0"
    assert ask(connect(made, database=None), "SELECT 1") == [(1,)], "a connection wakes it"
    assert made.pid and [user.name for user in made.users()] == ["app"]
    with pytest.raises(Refusal, match="Access denied"):
        connect(made, "root", "root's", None)
    assert MariaDb.hash_password(PASSWORD) not in str(servers.store.list("sql.server"))


def test_users_come_from_hosts(parts, servers, server, settings):
    server.create_user(User("near", "127.0.0.1"), MariaDb.hash_password("x"))
    server.create_user(User("far", "10.1.2.3"), MariaDb.hash_password("x"))
    server.create_user(User("here", "localhost"), MariaDb.hash_password("x"))
    assert ask(connect(server, "near", "x"), "SELECT USER(), CURRENT_USER()") == [("near@127.0.0.1",) * 2]
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


def test_users_may_do_all_but_reach_around_the_server(server):
    ask(connect(server), "CREATE DATABASE own")
    ask(connect(server), "CREATE USER theirs@'%' IDENTIFIED BY 'secret'")
    ask(connect(server), "GRANT SELECT ON own.* TO theirs@'%'")
    # A folder that the account of the server may write to, and a name that no other program uses.
    out = Path(tempfile.gettempdir(), f"outfile-{uuid.uuid4().hex}")
    for statement in "SELECT LOAD_FILE('/etc/hostname')", f"SELECT 1 INTO OUTFILE '{out}'", "SHUTDOWN":
        with contextlib.suppress(Refusal):
            assert ask(connect(server), statement) == [(None,)]
    assert server.pid and not out.exists()
    assert {"shop", "own"} <= {database.name for database in server.databases()}


def test_passwords(server):
    assert connect(server, "root", "root's", None)
    server.update_user(APP, MariaDb.hash_password("other"))
    assert connect(server, password="other")
    with pytest.raises(Refusal, match="Access denied"):
        connect(server)
    assert MariaDb.hash_password("123456") == "*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9", (
        "what MySQL's PASSWORD() gave"
    )
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
    server.create_user(User("r", "%", roles=("reader",)), MariaDb.hash_password("x"))
    assert ask(connect(server, "r", "x"), "SELECT * FROM t") == []
    with pytest.raises(Refusal, match="command denied"):
        ask(connect(server, "r", "x"), "DROP TABLE t")
    assert next(user for user in server.users() if user.name == "r").roles == ("reader",)
    server.update_user(User("r", "%"), None, revoke=True)
    with pytest.raises(Refusal, match="denied"):
        connect(server, "r", "x")
    with pytest.raises(SqlError):
        server.create_user(User("s", "%", roles=("nothing",)), None)
    assert "s" not in {user.name for user in server.users()}, "not half of it"


COLLATIONS = (
    ("utf8mb4", "utf8mb4_0900_ai_ci"), ("utf8mb4", "utf8mb4_0900_as_cs"), ("utf8mb4", "utf8mb4_bin"),
    ("utf8", "utf8_general_ci"), ("latin1", "latin1_swedish_ci"), ("utf8mb4", "utf8mb4_de_pb_0900_ai_ci"),
)  # fmt: skip


def test_a_database_is_shown_as_it_was_asked_for(server):
    for number, (charset, collation) in enumerate(COLLATIONS):
        name = f"d{number}"
        server.create_database(name, charset, collation)
        shown = next(item for item in server.databases() if item.name == name)
        assert (shown.charset, shown.collation) == (charset, collation)
        served = ask(connect(server, database=name), "SELECT @@collation_database")[0][0]
        assert served.endswith("_ci") == collation.endswith("_ci"), (
            f"the counterpart of {collation} compares differently"
        )
        ask(connect(server), f"ALTER DATABASE {name} COLLATE utf8mb4_general_ci")
        assert next(item for item in server.databases() if item.name == name).collation == "utf8mb4_general_ci"


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
    assert ask(connect(server), "SELECT @@collation_database") == [("utf8mb4_bin",)]
    server.drop_database("shop")
    for change in (server.drop_database, lambda name: server.update_database(name, "utf8mb4", "utf8mb4_bin")):
        with pytest.raises(Missing):
            change("shop")


def test_a_binary_log_is_written_when_it_is_asked_for(server):
    assert ask(connect(server), "SELECT @@log_bin") == [(0,)]
    server.configure(Configuration("MYSQL_8_0", networks=OPEN.networks, binary_log=True))
    assert ask(connect(server), "SELECT @@log_bin, @@binlog_format") == [(1, "ROW")]
    ask(connect(server), "CREATE TABLE t (a int)")
    assert ask(connect(server), "SHOW MASTER STATUS")[0][1] > 0


def test_one_that_was_never_needed_can_be_stopped(servers):
    made = servers.create(NAME, Configuration("MYSQL_8_0", running=False), None)
    with pytest.raises(Stopped):
        made.databases()
    with pytest.raises(Stopped):
        made.users()
    made.configure(OPEN)
    made.restart()
    assert made.databases()


def test_a_backup_while_others_write_is_of_one_moment(servers, server):
    """Each transaction moves one from a to b: their sum is the same in whatever moment was kept."""
    ask(connect(server), "CREATE TABLE t (a int, b int)")
    ask(connect(server), "INSERT INTO t VALUES (100000, 0)")
    begun, over = threading.Event(), threading.Event()

    def move():
        with connect(server) as connection, connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute("UPDATE t SET a = a - 1, b = b + 1")
                begun.set()

    mover = threading.Thread(target=move)
    mover.start()
    assert begun.wait(60)
    server.backup(servers.backups("b1"))
    over.set()
    mover.join(60)
    server.restore(servers.backups("b1"))
    ((a, b),) = ask(connect(server), "SELECT a, b FROM t")
    assert a + b == 100000 and b > 0


class TestBuilds:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch):
        """Nothing is found by looking, unless a test says so."""
        monkeypatch.setattr(mariadbbuilds, "_system", lambda: None)
        mariadbbuilds.present.cache_clear()
        yield
        mariadbbuilds.present.cache_clear()

    def test_a_machine_without_packages_gets_an_instruction(self, monkeypatch, tmp_path):
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
