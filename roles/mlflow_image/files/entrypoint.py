# SPDX-License-Identifier: Apache-2.0
"""Entrypoint of the MLflow image: `serve` (the default) runs the tracking server, `migrate` brings the database's
schema up to date, once, before a new release serves. `placeholder` answers health checks and nothing else, for a
service that has to be there and has nothing to do. Where a platform passes no arguments (App Engine), IMAGE_COMMAND
names the command.

Everything is configured by the environment. A value marked (s) may be replaced by the name of a secret that holds it,
in the same variable with `_SECRET_NAME` appended: `projects/P/secrets/S`, `projects/P/secrets/S/versions/V`, or `S`
alone, which is then looked for in GCP_PROJECT (or GOOGLE_CLOUD_PROJECT).

Database
    MLFLOW_BACKEND_STORE_URI (s)  the whole address; or its parts:
    DB_USERNAME (s), DB_PASSWORD (s), DB_NAME
    DB_INSTANCE_CONNECTION_NAME   project:region:instance of a Cloud SQL instance whose socket is mounted; or
    DB_HOST, DB_PORT              a server that is reached over TCP (a Cloud SQL Auth Proxy, a database in the cluster)
    DB_TYPE                       postgresql or mysql; without it the mounted socket tells them apart
    CLOUDSQL_SOCKET_DIR           where Cloud SQL's sockets are mounted, /cloudsql
    DB_CONNECT_TIMEOUT            seconds to wait for a database that does not answer yet, 30
    MLFLOW_SQLALCHEMYSTORE_POOL_SIZE, MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW
                                  connections kept and added by a pool, 3 and 2; each worker opens up to four pools

Artifacts
    GCS_BACKEND, or MLFLOW_ARTIFACTS_DESTINATION   gs://BUCKET or gs://BUCKET/FOLDER
    MLFLOW_SERVE_ARTIFACTS        false: clients write to the bucket themselves; true: all goes through the server

Server
    PORT                          8080
    MLFLOW_HOST                   address to listen on, 0.0.0.0
    MLFLOW_WORKERS                1
    MLFLOW_ALLOWED_HOSTS, or MLFLOW_SERVER_ALLOWED_HOSTS
                                  host names that it is reached by, separated by commas; `*` stands for anything; by
                                  default, on App Engine, those of its application
    MLFLOW_CORS_ALLOWED_ORIGINS, or MLFLOW_SERVER_CORS_ALLOWED_ORIGINS
                                  origins of browser requests, by default https:// and each allowed host
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION   false: the job runner's queue is a local file, wrong behind several replicas

MLflow's own login
    MLFLOW_AUTH_ENABLED           true asks for a name and a password
    MLFLOW_AUTH_ADMIN_USERNAME (s), MLFLOW_AUTH_ADMIN_PASSWORD (s)   an administrator; `migrate` makes the account
                                  and gives it this password
    MLFLOW_FLASK_SERVER_SECRET_KEY (s)   signs forms; one value for all replicas
    MLFLOW_AUTH_DEFAULT_PERMISSION       what a user may do where nothing was granted, READ
    MLFLOW_AUTH_DATABASE_URI (s)         where users are kept, by default the database above

Any other MLFLOW_* variable reaches MLflow as it is.
"""

import contextlib
import http.server
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

# The drivers that the image installs. A URI without one means what SQLAlchemy takes it for, which changed in 2.1.
DRIVERS = {"postgresql": "psycopg2", "postgres": "psycopg2", "mysql": "pymysql"}
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
LOCAL_HOSTS = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]
MIGRATION_LOCK = 0x6D6C666C6F77  # any number will do, if all releases use the same: "mlflow" in ASCII


class Refusal(Exception):
    """Why the server does not start, and what to do about it, in one paragraph."""


def log(message):
    print(f"entrypoint: {message}", file=sys.stderr, flush=True)


# --- settings ---------------------------------------------------------------------------------------------------------


class Settings:
    """The environment, with values that are kept as secrets read where only their name is given.

    `read_secret` takes `projects/P/secrets/S/versions/V` and returns the payload as text.
    """

    def __init__(self, environ, read_secret):
        self.environ, self.read_secret = environ, read_secret

    def get(self, *names, default=None):
        """The first of these variables that is set and not empty."""
        return next((self.environ[name] for name in names if self.environ.get(name)), default)

    def flag(self, name, default=False):
        value = self.environ.get(name, "").strip().lower()
        if value not in TRUE | FALSE:
            raise Refusal(f"The variable {name} is neither true nor false: {value!r}.")
        return value in TRUE if value else default

    def number(self, name, default, least=0):
        value = self.get(name, default=str(default))
        if not re.fullmatch(r"[0-9]+", value) or int(value) < least:
            raise Refusal(f"The variable {name} must be a whole number of at least {least}, not {value!r}.")
        return int(value)

    def secret(self, name, *, purpose, required=True):
        """The variable `name`, or the payload of the secret that `name`_SECRET_NAME names."""
        if self.environ.get(name):
            return self.environ[name]
        variable = f"{name}_SECRET_NAME"
        if reference := self.environ.get(variable):
            value = self.read_secret(self.version(variable, reference))
            if not value:
                raise Refusal(f"The secret {reference}, named by {variable}, is empty: it should hold {purpose}.")
            return value
        if required:
            raise Refusal(
                f"The variable {name} is missing: {purpose}. Set it, or set {variable} to the name of a secret in "
                "Secret Manager that holds it."
            )
        return None

    def version(self, variable, reference):
        """The full name of a secret's version from what `variable` says."""
        match = re.fullmatch(
            r"(?:projects/(?P<project>[^/]+)/secrets/)?(?P<secret>[\w-]+)(?:/versions/(?P<version>[\w-]+))?", reference
        )
        if not match:
            raise Refusal(
                f"The variable {variable} does not name a secret: {reference!r} is neither a secret's id nor "
                "projects/PROJECT/secrets/SECRET, with or without /versions/VERSION."
            )
        project = match["project"] or self.get("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT")
        if not project:
            raise Refusal(
                f"The variable GCP_PROJECT is missing: {variable} is {reference!r}, which leaves the project open. "
                "Set GCP_PROJECT, or give the secret's full name, projects/PROJECT/secrets/SECRET."
            )
        return f"projects/{project}/secrets/{match['secret']}/versions/{match['version'] or 'latest'}"


def read_secret(name):
    """The payload of the secret version `projects/P/secrets/S/versions/V` as text.

    Raises Refusal in words that tell apart: not there, not allowed, switched off, no credentials, no answer.
    """
    # Imported here: a server whose secrets arrive as variables starts most of a second sooner without it.
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud import secretmanager

    log(f"reading the secret {name}")
    secret = name.partition("/versions/")[0]
    try:
        client = secretmanager.SecretManagerServiceClient(transport="rest")
        payload = client.access_secret_version(request={"name": name}, timeout=30).payload
    except api.NotFound as e:
        raise Refusal(f"The secret {name} does not exist. Create it, or add a version to it. ({e.message})") from e
    except (api.Forbidden, api.Unauthorized) as e:
        if getattr(e, "reason", None) == "SERVICE_DISABLED":
            raise Refusal(
                f"The secret {name} cannot be read: the API secretmanager.googleapis.com is not enabled in its "
                "project. Enable it; it takes effect within a few minutes."
            ) from e
        raise Refusal(
            f"The secret {name} cannot be read: permission denied. Grant the service account that this server runs as "
            f"roles/secretmanager.secretAccessor on {secret}. ({e.message})"
        ) from e
    except api.BadRequest as e:
        state = re.search(r"\b(DISABLED|DESTROYED)\b", e.message)
        if not state:
            raise Refusal(f"The secret {name} cannot be read. ({e.message})") from e
        raise Refusal(
            f"The secret {name} cannot be read: that version is {state[0].lower()}. Enable it if that is possible, or "
            f"add a new version and name that one. ({e.message})"
        ) from e
    except auth.GoogleAuthError as e:
        raise Refusal(
            f"The secret {name} cannot be read: there are no usable Google credentials here. On Google Cloud a service "
            f"account must be attached to this server; elsewhere set GOOGLE_APPLICATION_CREDENTIALS. ({one_line(e)})"
        ) from e
    except (api.GoogleAPICallError, api.RetryError, OSError) as e:
        raise Refusal(f"The secret {name} cannot be read: Secret Manager gave no answer. ({one_line(e)})") from e
    # A line break at the end comes from the tool that stored the value and is never part of it.
    return payload.data.decode().rstrip("\r\n")


def one_line(error):
    return " ".join(str(error).split())[:500]


# --- the database -----------------------------------------------------------------------------------------------------


def with_driver(uri, source):
    """`uri` as a SQLAlchemy URL with a driver that the image has."""
    import sqlalchemy

    try:
        url = sqlalchemy.engine.make_url(uri)
    except sqlalchemy.exc.ArgumentError:
        # The error would quote the value, and the value has a password in it.
        raise Refusal(f"{source} is not a database address such as postgresql+psycopg2://USER:PASSWORD@HOST/NAME; "
                      "a password in it must be URL-encoded.") from None  # fmt: skip
    dialect, _plus, driver = url.drivername.partition("+")
    if dialect == "sqlite" or driver:
        return for_driver(url)
    if dialect not in DRIVERS:
        raise Refusal(f"{source} names {dialect!r}, for which this image has no driver: use postgresql or mysql.")
    return for_driver(url.set(drivername=f"{'mysql' if dialect == 'mysql' else 'postgresql'}+{DRIVERS[dialect]}"))


def database_url(settings):
    """Where runs are kept, as a SQLAlchemy URL with an explicit driver."""
    if whole := settings.secret("MLFLOW_BACKEND_STORE_URI", purpose="the address of the database", required=False):
        return with_driver(whole, "MLFLOW_BACKEND_STORE_URI")
    import sqlalchemy

    connection_name, host = settings.get("DB_INSTANCE_CONNECTION_NAME"), settings.get("DB_HOST")
    if not connection_name and not host:
        raise Refusal(
            "The server does not know its database: set MLFLOW_BACKEND_STORE_URI; or DB_INSTANCE_CONNECTION_NAME for a "
            "Cloud SQL instance, or DB_HOST for a server reached over TCP, together with DB_USERNAME, DB_NAME and "
            "DB_PASSWORD_SECRET_NAME."
        )
    name = settings.get("DB_NAME")
    if not name:
        raise Refusal("The variable DB_NAME is missing: the name of MLflow's database on the server.")
    login = {
        "username": settings.secret("DB_USERNAME", purpose="the database user that MLflow logs in as"),
        "password": settings.secret("DB_PASSWORD", purpose="the password of the database user"),
        "database": name,
    }
    kind = settings.get("DB_TYPE")
    if kind is not None and kind not in DRIVERS:
        raise Refusal(f"The variable DB_TYPE is {kind!r}; it must be postgresql or mysql.")
    if not connection_name:
        port = settings.number("DB_PORT", 0) or None
        kind = "mysql" if kind == "mysql" or (kind is None and port == 3306) else "postgresql"
        return for_driver(sqlalchemy.URL.create(f"{kind}+{DRIVERS[kind]}", host=host, port=port, **login))
    if not re.fullmatch(r"[a-z][a-z0-9.:-]*:[a-z0-9-]+:[a-z][a-z0-9-]*", connection_name):
        raise Refusal(
            f"The variable DB_INSTANCE_CONNECTION_NAME is {connection_name!r}; it must be PROJECT:REGION:INSTANCE."
        )
    socket = pathlib.Path(settings.get("CLOUDSQL_SOCKET_DIR", default="/cloudsql")) / connection_name
    if kind is None:
        # Cloud SQL mounts a folder for PostgreSQL and the socket itself for MySQL.
        kind = "mysql" if socket.is_socket() else "postgresql"
    query = {"unix_socket": str(socket)} if kind == "mysql" else {"host": str(socket)}
    drivername = f"{'mysql' if kind == 'mysql' else 'postgresql'}+{DRIVERS[kind]}"
    return for_driver(sqlalchemy.URL.create(drivername, query=query, **login))


def for_driver(url):
    """`url` with what PyMySQL has to be told: four-byte UTF-8 for text, and a password that is UTF-8 as well.

    It encodes a password as Latin-1 (pymysql/connections.py); UTF-8 read as Latin-1 comes out as UTF-8 again.
    """
    if url.drivername != "mysql+pymysql":
        return url
    if not (url.password or "").isascii():
        url = url.set(password=url.password.encode().decode("latin-1"))
    return url if "charset" in url.query else url.update_query_dict({"charset": "utf8mb4"})


def shown(url):
    """The database in words: its name, its kind and where it is; no password."""
    place = url.query.get("host") or url.query.get("unix_socket") or url.host
    place = f"{place}:{url.port}" if url.port else place
    return f"{url.database!r} ({url.get_backend_name()}{f' at {place}' if place else ''})"


def spelled(url):
    return url.render_as_string(hide_password=False)


def connect(url, timeout):
    """A connection to the database; Refusal when there is none after `timeout` seconds of trying, or at once for
    what no waiting heals. The caller closes it."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    deadline = time.monotonic() + timeout
    while True:
        try:
            return engine.connect()
        except sqlalchemy.exc.DBAPIError as e:
            reason = one_line(e.orig)
            hint, final = diagnose(reason, url)
            if final or time.monotonic() >= deadline:
                raise Refusal(f"The database {shown(url)} cannot be reached: {hint} ({reason})") from None
            log(f"the database does not answer yet, trying again for {deadline - time.monotonic():.0f} s: {reason}")
            time.sleep(2)


def diagnose(reason, url):
    """(what to do about a driver's message, whether trying again is pointless)"""
    socket = url.query.get("host") or url.query.get("unix_socket")
    text = reason.lower()
    if "password authentication failed" in text or "access denied for user" in text or "(1045" in text:
        return (
            f"the password was refused for the user {url.username!r}. The secret and the database user disagree: set "
            "the user's password to what the secret holds."
        ), True
    if "unknown database" in text or re.search(r'database ".*" does not exist', text):
        return f"it has no database {url.database!r}. Create it, or correct DB_NAME.", True
    if socket and ("no such file" in text or "errno 2]" in text):
        return (
            f"there is no socket at {socket}. Attach the Cloud SQL instance to this service (its Cloud SQL connections "
            "or volume), and check DB_INSTANCE_CONNECTION_NAME and CLOUDSQL_SOCKET_DIR."
        ), False
    if socket:
        return (
            "Cloud SQL refused or dropped the connection. Check that the instance runs, that the Cloud SQL Admin API "
            "is enabled, and that the service account that this server runs as has roles/cloudsql.client."
        ), False
    return "check the host, the port and the firewall, and that the database server runs.", False


def schema_of(folder):
    """(newest revision, all revisions) of the migrations in `folder`, read without importing MLflow (2 s)."""
    revisions, parents = set(), set()
    for file in pathlib.Path(folder).glob("*.py"):
        text = file.read_text()
        revisions.update(re.findall(r"^revision\s*(?::[^=\n]+)?=\s*[\"'](\w+)[\"']", text, re.M))
        for value in re.findall(r"^down_revision\s*(?::[^=\n]+)?=\s*(.+)$", text, re.M):
            parents.update(re.findall(r"[\"'](\w+)[\"']", value))
    heads = revisions - parents
    if len(heads) != 1:
        raise Refusal(f"This image's MLflow is damaged: {folder} should lead to one schema, not to {sorted(heads)}.")
    return heads.pop(), revisions


def check_schema(connection, url, folder, table="alembic_version", migrating=False):
    """Refusal unless the database has the schema of this image's MLflow, or one that `migrate` can bring there.

    Returns whether it is there already.
    """
    import sqlalchemy

    newest, known = schema_of(folder)
    found = None
    if sqlalchemy.inspect(connection).has_table(table):
        found = connection.execute(sqlalchemy.text(f"SELECT version_num FROM {table}")).scalar()
    if found is not None and found not in known:
        raise Refusal(
            f"The schema of the database {shown(url)} is newer than this image: it is at {found}, which this image's "
            f"MLflow (schema {newest}) does not know. Deploy an image with the newer MLflow, or restore an old backup."
        )
    if found == newest or migrating:
        return found == newest
    if found is None:
        raise Refusal(
            f"The database {shown(url)} holds no MLflow schema yet. Run this image once with the command 'migrate' "
            "before it serves."
        )
    raise Refusal(
        f"The schema of the database {shown(url)} is out of date: it is at {found}, this image's MLflow needs "
        f"{newest}. Back the database up, then run this image once with the command 'migrate'."
    )


def package(*path):
    """A folder in MLflow's package, found without importing it."""
    return pathlib.Path(importlib.util.find_spec("mlflow").origin).parent.joinpath(*path)


TRACKING_MIGRATIONS = ("store", "db_migrations", "versions")
AUTH_MIGRATIONS = ("server", "auth", "db", "migrations", "versions")


@contextlib.contextmanager
def only_one(connection):
    """Holds a lock on the database, so that two migrations started together run one after the other."""
    import sqlalchemy

    lock = MIGRATION_LOCK
    # Locks of PostgreSQL belong to a database, those of MySQL to the server, under a name of up to 64 characters.
    name = f"CONCAT('{lock} ', LEFT(DATABASE(), 48))"
    statements = {
        "postgresql": (f"SELECT pg_try_advisory_lock({lock})", f"SELECT pg_advisory_unlock({lock})"),
        "mysql": (f"SELECT GET_LOCK({name}, 0)", f"SELECT RELEASE_LOCK({name})"),
    }.get(connection.dialect.name)
    if not statements:  # SQLite has one writer anyway
        yield
        return
    acquire, release = map(sqlalchemy.text, statements)
    waited = 0
    while not connection.execute(acquire).scalar():
        if waited % 15 == 0:
            log(f"another migration of this database is running, waiting for it ({waited} s)")
        time.sleep(1)
        waited += 1
    # The lock belongs to the session; an open transaction would keep tables locked while MLflow alters them.
    connection.commit()
    try:
        yield
    finally:
        connection.execute(release)
        connection.commit()


# --- MLflow's own login -----------------------------------------------------------------------------------------------


PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS")


class Login:
    """Settings of MLflow's basic-auth application. `url` is where it keeps its users."""

    def __init__(self, settings, backend):
        self.username = settings.secret(
            "MLFLOW_AUTH_ADMIN_USERNAME", purpose="the administrator's name", required=False
        ) or "admin"  # fmt: skip
        self.password = settings.secret("MLFLOW_AUTH_ADMIN_PASSWORD", purpose="the administrator's password")
        self.key = settings.secret(
            "MLFLOW_FLASK_SERVER_SECRET_KEY", purpose="a random key that all replicas share and that signs forms"
        )
        own = settings.secret("MLFLOW_AUTH_DATABASE_URI", purpose="where users are kept", required=False)
        self.url = with_driver(own, "MLFLOW_AUTH_DATABASE_URI") if own else backend
        # Its migrations give two foreign keys one name, which MySQL refuses half-way:
        # https://github.com/mlflow/mlflow/issues/9642
        if self.url.get_backend_name() == "mysql":
            raise Refusal(
                "MLflow's own login (MLFLOW_AUTH_ENABLED) cannot keep its users in MySQL: MLflow's migration of that "
                "database fails there. Use PostgreSQL, or name a PostgreSQL database in MLFLOW_AUTH_DATABASE_URI."
            )
        self.permission = settings.get("MLFLOW_AUTH_DEFAULT_PERMISSION", default="READ").upper()
        if self.permission not in PERMISSIONS:
            raise Refusal(
                f"The variable MLFLOW_AUTH_DEFAULT_PERMISSION is {self.permission!r}; it must be one of "
                f"{', '.join(PERMISSIONS)}."
            )
        # MLflow checks this too, but in the middle of a trace of calls.
        if len(self.password) < 12:
            raise Refusal("MLFLOW_AUTH_ADMIN_PASSWORD is too short: MLflow asks for at least 12 characters.")

    def environment(self):
        """The variables that MLflow's application reads; the file that one of them names is for this user only."""
        config = pathlib.Path(tempfile.mkdtemp(prefix="mlflow-auth-")) / "basic_auth.ini"
        database = spelled(self.url).replace("%", "%%")  # configparser expands % in values
        text = f"[mlflow]\ndefault_permission = {self.permission}\ndatabase_uri = {database}\n"
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_AUTH_ADMIN_USERNAME": self.username,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.key,
        }


# --- commands ---------------------------------------------------------------------------------------------------------


def listed(value):
    return [item.strip() for item in (value or "").split(",") if item.strip()]


def named_hosts(settings):
    """Host names that the server is reached by. App Engine's can be told from its project alone, but for the region's
    code (https://cloud.google.com/appengine/docs/flexible/how-requests-are-routed)."""
    hosts = listed(settings.get("MLFLOW_ALLOWED_HOSTS", "MLFLOW_SERVER_ALLOWED_HOSTS"))
    project = settings.get("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT")
    if hosts or not settings.get("GAE_SERVICE") or not project:
        return hosts
    return [f"{project}.*.r.appspot.com", f"*-dot-{project}.*.r.appspot.com"]


def allowed_hosts(settings):
    """What MLflow compares a Host header with. It matches exactly, port included, and knows no default port."""
    hosts = named_hosts(settings)
    if not hosts:
        if settings.get("K_SERVICE", "GAE_SERVICE"):
            raise Refusal(
                "The variable MLFLOW_ALLOWED_HOSTS is missing: MLflow would answer 403 to every request that arrives "
                "under this service's own host name. Set it to the host names, separated by commas."
            )
        log("MLFLOW_ALLOWED_HOSTS is not set: only requests to localhost and private addresses are answered")
        return []
    bad = [host for host in hosts if "/" in host]
    if bad:
        raise Refusal(f"The variable MLFLOW_ALLOWED_HOSTS lists host names, not addresses: {', '.join(bad)}.")
    if "*" in hosts:
        return ["*"]
    return list(dict.fromkeys(
        [form for host in hosts for form in ([host] if ":" in host else [host, f"{host}:443"])] + LOCAL_HOSTS
    ))  # fmt: skip


def allowed_origins(settings):
    """Origins whose pages may change something: the server's own, unless others are named."""
    named = listed(settings.get("MLFLOW_CORS_ALLOWED_ORIGINS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"))
    if named:
        return named
    hosts = named_hosts(settings)
    return list(dict.fromkeys(f"https://{host.removesuffix(':443')}" for host in hosts if host != "*"))


def server_arguments(settings):
    """Arguments of `mlflow server`. Nothing secret is among them: anybody on the machine can list arguments."""
    bucket = settings.get("GCS_BACKEND", "MLFLOW_ARTIFACTS_DESTINATION")
    if not bucket:
        raise Refusal(
            "The variable GCS_BACKEND is missing: where artifacts are kept, gs://BUCKET or gs://BUCKET/FOLDER "
            "(MLFLOW_ARTIFACTS_DESTINATION is read too)."
        )
    arguments = ["--host", settings.get("MLFLOW_HOST", default="0.0.0.0")]
    arguments += ["--port", str(settings.number("PORT", 8080, least=1))]
    arguments += ["--workers", str(settings.number("MLFLOW_WORKERS", 1, least=1))]
    if settings.flag("MLFLOW_SERVE_ARTIFACTS"):
        arguments += ["--serve-artifacts", "--artifacts-destination", bucket]
    else:
        arguments += ["--no-serve-artifacts", "--default-artifact-root", bucket]
    if hosts := allowed_hosts(settings):
        arguments += ["--allowed-hosts", ",".join(hosts)]
    if origins := allowed_origins(settings):
        arguments += ["--cors-allowed-origins", ",".join(origins)]
    return arguments


DEFAULTS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "3",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Read above and passed on as arguments. MLflow and click would read them a second time, each by rules of its own.
CONSUMED = {
    "DB_PASSWORD",
    "MLFLOW_ALLOWED_HOSTS",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_AUTH_DATABASE_URI",
    "MLFLOW_AUTH_ENABLED",
    "MLFLOW_CORS_ALLOWED_ORIGINS",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_HOST",
    "MLFLOW_PORT",
    "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "MLFLOW_SERVE_ARTIFACTS",
    "MLFLOW_WORKERS",
}


class Databases:
    """The database of the runs and, with MLflow's own login, the one of its users (`login` is None without)."""

    def __init__(self, settings):
        self.timeout = settings.number("DB_CONNECT_TIMEOUT", 30)
        self.url = database_url(settings)
        self.login = Login(settings, self.url) if settings.flag("MLFLOW_AUTH_ENABLED") else None

    def connect(self, url=None):
        return contextlib.closing(connect(url or self.url, self.timeout))

    def check(self, migrating=False):
        """Refusal unless all of it can be reached and has the right schema; see check_schema."""
        with self.connect() as connection:
            current = check_schema(connection, self.url, package(*TRACKING_MIGRATIONS), migrating=migrating)
        if self.login:
            with self.connect(self.login.url) as connection:
                table, folder = "alembic_version_auth", package(*AUTH_MIGRATIONS)
                current &= check_schema(connection, self.login.url, folder, table, migrating=migrating)
        return current


def serve(settings):
    """Becomes `mlflow server`: the process is replaced, so that signals reach MLflow."""
    arguments = server_arguments(settings)  # before anything is asked of the network
    databases = Databases(settings)
    databases.check()
    environment = {name: value for name, value in settings.environ.items() if name not in CONSUMED}
    environment = DEFAULTS | environment | {"MLFLOW_BACKEND_STORE_URI": spelled(databases.url)}
    if databases.login:
        environment |= databases.login.environment()
        arguments += ["--app-name", "basic-auth"]
    log(f"starting MLflow on {shown(databases.url)}: mlflow server {' '.join(arguments)}")
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments], environment)


# PostgreSQL takes a step of a migration back that fails, MySQL does not.
AFTERWARDS = {
    "postgresql": "A later run of 'migrate' resumes.",
    "mysql": "A later run of 'migrate' resumes only after that: MySQL keeps half a step.",
}


def refuse_half_a_migration(connection, url):
    """Refusal where MySQL would stop in the middle of it, since there is no way back from there but a backup.

    With binary logs nobody but an administrator may make a trigger, which MLflow's schema has, unless a flag is set:
    https://dev.mysql.com/doc/refman/8.0/en/stored-programs-logging.html (error 1419)
    """
    import sqlalchemy

    if url.get_backend_name() != "mysql":
        return
    query = sqlalchemy.text("SELECT @@GLOBAL.log_bin, @@GLOBAL.log_bin_trust_function_creators")
    logs, trusted = connection.execute(query).one()
    if int(logs) and not int(trusted):
        raise Refusal(
            f"The server of {shown(url)} writes binary logs and lets nobody make triggers, which the schema has (error "
            "1419). Set the database flag log_bin_trust_function_creators of the instance to on, which needs no "
            "restart, and run 'migrate' again. Nothing was changed."
        )


def migrate(settings):
    """Brings the schema of the database, and that of the login, to what this image's MLflow needs."""
    import sqlalchemy

    databases = Databases(settings)
    if databases.check(migrating=True) and not databases.login:
        log(f"the schema of {shown(databases.url)} is up to date already")
        return
    os.environ.update({name: value for name, value in DEFAULTS.items() if name not in settings.environ})
    url, login = databases.url, databases.login
    with databases.connect() as connection, only_one(connection):
        refuse_half_a_migration(connection, url)
        log(f"bringing the schema of {shown(url)} to {schema_of(package(*TRACKING_MIGRATIONS))[0]}")
        started = time.monotonic()
        try:
            # MLflow's commands in this process: as programs of their own they want the password as an argument.
            from mlflow import db

            db.commands.main(["upgrade", spelled(url)], standalone_mode=False)
            if login:
                log(f"bringing the schema of the login in {shown(login.url)} up to date")
                os.environ.update(private := login.environment())
                from mlflow.server import auth
                from mlflow.server.auth.db import cli

                cli.commands.main(["upgrade", "--url", spelled(login.url)], standalone_mode=False)
                # Here and not in the replicas, which would race for it at their first start.
                auth.bootstrap_admin_user()
                # MLflow never looks at the password again once the account exists; a rotated secret takes effect here.
                if not auth.store.authenticate_user(login.username, login.password, use_primary=True):
                    log(f"the password of {login.username!r} is replaced by the one that is configured")
                    auth.store.update_user(login.username, password=login.password)
                shutil.rmtree(pathlib.Path(private["MLFLOW_AUTH_CONFIG_PATH"]).parent)
        except sqlalchemy.exc.DBAPIError as e:
            raise Refusal(
                f"The migration of {shown(url)} failed half-way: {one_line(e.orig)}. The old release may go on serving "
                f"if nothing was changed; otherwise restore the backup. {AFTERWARDS[url.get_backend_name()]}"
            ) from e
        databases.check()
        log(f"the schema is up to date ({time.monotonic() - started:.1f} s)")


class Placeholder(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        healthy = self.path == "/health"
        self.send_response(200 if healthy else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"OK\n" if healthy else b"There is nothing here.\n")


def placeholder(settings):
    """Serves until the process is stopped."""
    address = (settings.get("MLFLOW_HOST", default="0.0.0.0"), settings.number("PORT", 8080, least=1))
    log(f"answering health checks, and nothing else, on port {address[1]}")
    # The first process of a container gets no default handlers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.ThreadingHTTPServer(address, Placeholder).serve_forever()


COMMANDS = {"serve": serve, "migrate": migrate, "placeholder": placeholder}


def main(arguments, environ):
    command = arguments[0] if arguments else "serve"
    if command == "serve":
        command = environ.get("IMAGE_COMMAND") or command
    if command not in COMMANDS or len(arguments) > 1:
        given = " ".join([command, *arguments[1:]])
        log(f"{given!r} is not a command of this image; there are: {', '.join(COMMANDS)}")
        return 2
    try:
        COMMANDS[command](Settings(environ, read_secret))
    except Refusal as refusal:
        log(f"{command} is not possible. {refusal}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
