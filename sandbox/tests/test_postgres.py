# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL servers, observed with psycopg2 and /proc."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess

import psycopg2
import pytest
from gcp_sandbox.backends import home as homes
from gcp_sandbox.backends import postgres
from gcp_sandbox.backends.home import Home
from gcp_sandbox.backends.pgbuilds import installed, nearest
from gcp_sandbox.backends.postgres import Postgres
from gcp_sandbox.backends.sql import Configuration, Missing, SqlError, User
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.testing.sql import ask

NAME = "proj:europe-west1:orders"
UNPRIVILEGED = 65534
OPEN = Configuration("POSTGRES_16", networks=("127.0.0.1/32",))


@pytest.fixture
def server(servers) -> Postgres:
    server = servers.create(NAME, OPEN, Postgres.hash_password("root's"))
    server.create_user(User("app"), Postgres.hash_password("pässwort 'x' %s"))
    server.create_database("shop", "UTF8", "en_US.UTF8")
    return server


def connect(server, user="app", password="pässwort 'x' %s", database="shop", host="127.0.0.1", port=None):
    return psycopg2.connect(host=host, port=port or server.port, user=user, password=password, dbname=database)


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


def test_users_are_cloudsqlsuperusers_and_no_superusers(server):
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


def test_a_port_that_is_taken_in_between_is_replaced(servers, monkeypatch):
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
        server = servers.create(NAME, OPEN, Postgres.hash_password("root's"))
        assert server.port != taken
        assert server.pid is not None


def test_passwords_are_kept_as_verifiers():
    concealed = Postgres.hash_password("other")
    assert concealed.startswith("SCRAM-SHA-256$") and "other" not in concealed


def test_each_server_has_a_superuser_password_of_its_own(servers, server):
    """Both begin with the same files, which initdb made once."""
    other = servers.create("proj:europe-west1:other", OPEN, Postgres.hash_password("root's"))
    passwords = {(one._folder / "password").read_text() for one in (server, other)}
    assert len(passwords) == 2
    where = {"host": str(server.sockets), "port": server.port, "dbname": "postgres"}
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        psycopg2.connect(user="cloudsqladmin", password=(server._template() / "password").read_text(), **where)


def test_a_path_that_is_too_long_is_named(servers, tmp_path):
    with pytest.raises(ApiError, match="107 bytes"):
        servers.mount(NAME, tmp_path / ("x" * 90), lambda: None)
