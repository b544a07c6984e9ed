# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL servers, looked at with psycopg2 and /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
from gcp_sandbox.backends import home as homes
from gcp_sandbox.backends import postgres
from gcp_sandbox.backends.home import Home
from gcp_sandbox.backends.pgbuilds import installed, nearest
from gcp_sandbox.backends.postgres import Postgres
from gcp_sandbox.backends.servers import SqlServers
from gcp_sandbox.backends.sql import Configuration, Missing, SqlError, User
from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.store import Store

NAME = "proj:europe-west1:orders"
NOBODY = 65534
OPEN = Configuration("POSTGRES_16", networks=("127.0.0.1/32",))


@pytest.fixture
def server(servers) -> Postgres:
    server = servers.create(NAME, OPEN, Postgres.conceal("root's"))
    server.create_user(User("app"), Postgres.conceal("pässwort 'x' %s"))
    server.create_database("shop", "UTF8", "en_US.UTF8")
    return server


def connect(server, user="app", password="pässwort 'x' %s", database="shop", host="127.0.0.1", port=None):
    return psycopg2.connect(host=host, port=port or server.port, user=user, password=password, dbname=database)


def ask(connection, statement):
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None


def arguments(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


@pytest.mark.parametrize(
    ("version", "major"),
    [("POSTGRES_9_6", 16), ("POSTGRES_15", 16), ("POSTGRES_16", 16), ("POSTGRES_17", 18), ("POSTGRES_18", 18)],
)
def test_a_version_is_served_by_the_nearest(version, major):
    assert nearest(version).major == major


def test_a_user_of_the_api_owns_what_it_makes_in_a_database_of_the_api(server):
    ask(connect(server), "CREATE TABLE t (a int)")
    assert ask(connect(server), "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [("app",)]
    assert ask(connect(server), "SHOW server_version_num")[0][0].startswith("16")
    assert server.installed_version == f"POSTGRES_16_{nearest('POSTGRES_16').minor}"


def test_users_are_cloudsqlsuperusers_and_nobody_is_a_superuser(server):
    rows = dict(ask(connect(server), "SELECT rolname, rolsuper FROM pg_roles WHERE rolcanlogin"))
    assert [name for name, is_super in rows.items() if is_super] == ["cloudsqladmin"]
    assert ask(connect(server), "SELECT pg_has_role('app', 'cloudsqlsuperuser', 'member')") == [(True,)]
    ask(connect(server), "CREATE ROLE reader")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        ask(connect(server), "ALTER ROLE app SUPERUSER")
    assert {user.name for user in server.users()} == {"app", "postgres"}
    assert [database.name for database in server.databases()] == ["postgres", "shop"]


def test_the_superuser_cannot_come_in_by_tcp(server):
    with pytest.raises(psycopg2.OperationalError, match="rejects connection"):
        connect(server, "cloudsqladmin", "guess", "postgres")


def test_passwords(server):
    assert connect(server, "postgres", "root's", "postgres")
    server.update_user(User("app"), Postgres.conceal("other"))
    assert connect(server, password="other")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(server)
    assert Postgres.conceal("other").startswith("SCRAM-SHA-256$") and "other" not in Postgres.conceal("other")


def test_iam_users_are_roles_of_their_kind_and_have_no_password(server):
    server.create_user(User("sa@proj.iam", kind="CLOUD_IAM_SERVICE_ACCOUNT"), None)
    server.create_user(User("alice@example.com", kind="CLOUD_IAM_USER"), None)
    kinds = {user.name: user.kind for user in server.users()}
    assert kinds["sa@proj.iam"] == "CLOUD_IAM_SERVICE_ACCOUNT" and kinds["alice@example.com"] == "CLOUD_IAM_USER"
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        connect(server, "sa@proj.iam", "guess")


def test_what_is_in_use_is_not_dropped(server):
    connection = connect(server)
    with pytest.raises(SqlError, match="is being accessed by other users"):
        server.drop_database("shop")
    connection.close()
    ask(connect(server), "CREATE TABLE t (a int)")
    with pytest.raises(
        SqlError, match="cannot be dropped because some objects depend on it Details: 1 object in database shop"
    ):
        server.drop_user("app", "")
    server.drop_database("shop")
    server.drop_user("app", "")
    with pytest.raises(Missing):
        server.drop_user("app", "")
    with pytest.raises(Missing):
        server.drop_database("cloudsqladmin")


def test_networks_decide_about_tcp_without_a_restart(server):
    pid = server.pid
    server.configure(Configuration("POSTGRES_16", networks=("198.51.100.0/24",)))
    with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
        connect(server)
    server.configure(Configuration("POSTGRES_16", networks=("198.51.100.0/24", "0.0.0.0/0")))
    assert connect(server) and server.pid == pid


def test_flags_are_set_and_restart_only_where_they_must(server):
    pid = server.pid
    server.configure(Configuration("POSTGRES_16", flags={"work_mem": "8192"}, networks=OPEN.networks))
    assert ask(connect(server), "SHOW work_mem") == [("8MB",)] and server.pid == pid
    server.configure(Configuration("POSTGRES_16", connections=33, networks=OPEN.networks))
    assert ask(connect(server), "SHOW max_connections") == [("33",)] and server.pid != pid
    assert ask(connect(server), "SHOW work_mem") == [("4MB",)]


def test_a_configuration_that_does_not_start_is_taken_back(server):
    with pytest.raises(SqlError, match="does not start"):
        server.configure(Configuration("POSTGRES_16", flags={"shared_buffers": "64GB", "max_connections": "200000"}))
    assert connect(server), "the one before is in force"


@pytest.mark.parametrize(("name", "value", "fine"), [
    ("work_mem", "4096", True), ("work_mem", "lots", False), ("log_min_messages", "warning", True),
    ("log_min_messages", "loud", False), ("cloudsql.iam_authentication", "on", True), ("pgaudit.log", "all", True),
    ("nonsense", "1", False), ("listen_addresses", "*", False), ("shared_preload_libraries", "x", False),
    ("archive_command", "rm -rf /", False), ("nonsense.x", "1", False),
])  # fmt: skip
def test_flags_are_checked_without_a_server(name, value, fine):
    with contextlib.nullcontext() if fine else pytest.raises(SqlError):
        Postgres.check_flag("POSTGRES_16", name, value)


def test_stopping_and_starting_an_instance(servers, server):
    server.configure(Configuration("POSTGRES_16", running=False, networks=OPEN.networks))
    assert server.pid is None
    time.sleep(2.5)
    assert server.pid is None, "what its owner has stopped is left alone"
    server.configure(OPEN)
    assert ask(connect(server), "SELECT 1") == [(1,)]


def test_a_server_that_dies_is_started_again(server):
    ask(connect(server), "CREATE TABLE t (a int)")
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg2.OperationalError):
            assert ask(connect(server), "SELECT count(*) FROM t") == [(0,)]
            return
        time.sleep(0.2)
    pytest.fail("it did not come back")


def test_servers_outlive_the_daemon_and_are_adopted(parts, servers, server):
    pid = server.pid
    servers._stopped.set()  # the daemon is gone, the server is not
    second = SqlServers(parts)
    second.start()
    try:
        assert second.server(NAME).pid == pid
        assert ask(connect(second.server(NAME)), "SELECT 1") == [(1,)]
    finally:
        second.stop()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    third = SqlServers(parts)
    third.start()
    assert ask(connect(third.server(NAME)), "SELECT current_database()") == [("shop",)]
    third.stop()


def test_a_creation_that_was_cut_short_is_begun_again(parts, servers):
    servers._register(NAME, OPEN, Postgres)
    folder = servers.home.folder(servers.home.data / parts.store.get("sql.server", NAME)["folder"])
    (folder / "data").mkdir()
    (folder / "data" / "half").write_text("")
    again = servers.create(NAME, OPEN, Postgres.conceal("root's"))
    assert ask(connect(again, "postgres", "root's", "postgres"), "SELECT 1") == [(1,)]


def test_a_port_that_somebody_has_taken_meanwhile_is_changed(servers, server):
    old = server.port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        server.ensure()
        assert server.port != old == taken.getsockname()[1]
        assert ask(connect(server), "SELECT 1") == [(1,)]
        assert servers.endpoint(NAME)[1] == server.port


def test_destroying_leaves_nothing(parts, servers, server):
    pid, data = server.pid, servers.home.data
    assert list(data.iterdir())
    servers.destroy(NAME, OPEN)
    servers.destroy(NAME, OPEN)
    assert not list(data.iterdir()) and not list(servers.home.sockets.iterdir())
    with pytest.raises(SqlError):
        servers.endpoint(NAME)
    assert not Path(f"/proc/{pid}/cmdline").exists() or arguments(pid) == [""]
    servers.stop()
    assert not data.exists() and not (parts.settings.state / "sql").exists()


def test_a_backup_restores_databases_and_users(servers, server):
    ask(connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    folder = servers.backups("b1")
    assert server.backup(folder) > 100_000
    ask(connect(server), "UPDATE t SET a = 8")
    server.create_database("later", "UTF8", "C")
    server.restore(folder)
    assert ask(connect(server), "SELECT a FROM t") == [(7,)]
    assert [database.name for database in server.databases()] == ["postgres", "shop"]


def test_a_major_upgrade_keeps_the_data(server):
    ask(connect(server), "CREATE TABLE t AS SELECT 7 AS a")
    server.configure(Configuration("POSTGRES_18", networks=OPEN.networks))
    assert server.installed_version.startswith("POSTGRES_18_")
    assert ask(connect(server), "SELECT a FROM t") == [(7,)]
    assert ask(connect(server), "SHOW server_version_num")[0][0].startswith("18")


def test_what_is_secret_is_nowhere_to_be_seen(servers, server):
    secret = (servers.home.data / servers.store.get("sql.server", NAME)["folder"] / "password").read_text()
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    assert secret not in shown and "pässwort" not in shown
    assert secret not in str(servers.store.list("sql.server"))
    for file in servers.logfile(NAME), *server._folder.glob("p*"):
        assert file.stat().st_mode & 0o077 == 0, file
    assert "pässwort" not in servers.logfile(NAME).read_text()
    assert server._folder.stat().st_mode & 0o077 == 0 and server.sockets.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="another user is only needed under root")
def test_under_root_the_server_is_somebody_else(servers, server, parts):
    assert Path(f"/proc/{server.pid}").stat().st_uid == servers.home.uid != 0
    assert (parts.settings.state / "sql").resolve() == servers.home.data


@pytest.mark.skipif(os.getuid() != 0, reason="another user is only needed under root")
def test_programs_that_the_other_user_cannot_reach_are_copied(settings, tmp_path, monkeypatch):
    settings.folders()
    home = dataclasses.replace(Home.of(settings), data=tmp_path / "place" / "data")
    monkeypatch.setattr(homes, "_reachable", lambda *_: False)
    home.data.mkdir(parents=True)
    build = installed(home, "POSTGRES_16")
    assert build.bin.is_relative_to(tmp_path / "place") and installed(home, "POSTGRES_16") == build
    done = subprocess.run([build.tool("initdb"), "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("initdb (PostgreSQL) 16."), done.stderr


def plain(place: Path, answers) -> None:
    """Becomes nobody and makes a server, as an ordinary user's daemon would."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    settings = Settings(state=place / "state")
    settings.folders()
    servers = SqlServers(SimpleNamespace(settings=settings, store=Store(settings.state / "db"), iam=None))
    servers.start()
    server = servers.create(NAME, Configuration("POSTGRES_18"), None)
    answers.put((server.installed_version, Path(f"/proc/{server.pid}").stat().st_uid, servers.home.data))
    servers.stop()
    shutil.rmtree(settings.runtime)


@pytest.mark.skipif(os.getuid() != 0, reason="without root all other tests show this")
def test_without_root_everything_is_in_the_state_folder():
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(place, NOBODY, NOBODY)
    fork = multiprocessing.get_context("fork")  # the interpreter may lie where nobody can start it again
    answers = fork.Queue()
    child = fork.Process(target=plain, args=(place, answers))
    child.start()
    try:
        version, uid, data = answers.get(timeout=60)
        child.join(30)
        assert child.exitcode == 0
        assert version.startswith("POSTGRES_18_") and uid == NOBODY and data == place / "state" / "sql"
    finally:
        child.kill()
        shutil.rmtree(place)


class TestMounts:
    @pytest.fixture
    def folder(self, settings):
        return settings.runtime / "m"

    def test_whoever_may_connect_is_let_through(self, parts, servers, server, folder):
        parts.iam.allowed.add("run@proj.iam.gserviceaccount.com")
        mount = servers.mount(NAME, folder, lambda: SimpleNamespace(email="run@proj.iam.gserviceaccount.com"))
        assert mount.path == folder / NAME / ".s.PGSQL.5432"
        through = connect(server, host=str(folder / NAME), port=5432)
        assert len(ask(through, "SELECT repeat('x', 5000000)")[0][0]) == 5_000_000
        assert parts.iam.asked == [
            (
                "run@proj.iam.gserviceaccount.com",
                "//sqladmin.googleapis.com/projects/proj/instances/orders",
                ("cloudsql.instances.connect",),
            )
        ]
        mount.close()
        mount.close()
        with pytest.raises(psycopg2.OperationalError):
            connect(server, host=str(folder / NAME), port=5432)

    def test_each_connection_is_checked_and_a_refusal_is_explained(self, parts, servers, server, folder):
        said: list[str] = []
        member = SimpleNamespace(email="run@proj.iam.gserviceaccount.com")
        servers.mount(NAME, folder, lambda: member, said.append)
        with pytest.raises(psycopg2.OperationalError, match="closed the connection"):
            connect(server, host=str(folder / NAME), port=5432)
        assert "cloudsql.instances.connect" in said[0] and member.email in said[0]
        parts.iam.allowed.add(member.email)
        assert connect(server, host=str(folder / NAME), port=5432)
        parts.iam.allowed.clear()
        with pytest.raises(psycopg2.OperationalError):
            connect(server, host=str(folder / NAME), port=5432)

    def test_an_instance_may_come_later(self, parts, servers, folder):
        said: list[str] = []
        parts.iam.allowed.add("a@b")
        servers.mount(NAME, folder, lambda: SimpleNamespace(email="a@b"), said.append)
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host=str(folder / NAME), user="u", password="p")
        assert "does not exist" in said[0]
        server = servers.create(NAME, OPEN, Postgres.conceal("p"))
        assert connect(server, "postgres", "p", "postgres", host=str(folder / NAME), port=5432)

    def test_many_at_once_and_a_restart_between(self, parts, servers, server, folder):
        parts.iam.allowed.add("a@b")
        servers.mount(NAME, folder, lambda: SimpleNamespace(email="a@b"))
        held = [connect(server, host=str(folder / NAME), port=5432) for _ in range(30)]
        assert len(held) == 30
        server.restart()
        assert ask(connect(server, host=str(folder / NAME), port=5432), "SELECT 1") == [(1,)]

    def test_a_path_that_is_too_long_is_named(self, servers, tmp_path):
        with pytest.raises(ApiError, match="107 bytes"):
            servers.mount(NAME, tmp_path / ("x" * 90), lambda: None)


def test_a_port_that_somebody_takes_in_between_is_replaced(servers, monkeypatch):
    """Two sandboxes can find the same port free and start at the same moment."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        offered = iter([taken])
        free_port = servers.free_port
        monkeypatch.setattr(servers, "free_port", lambda first: next(offered, None) or free_port(first))
        looks = iter([True])
        really_free = postgres.port_is_free
        monkeypatch.setattr(postgres, "port_is_free", lambda port: next(looks, None) or really_free(port))
        server = servers.create(NAME, OPEN, Postgres.conceal("root's"))
        assert server.port != taken
        assert server.pid is not None
