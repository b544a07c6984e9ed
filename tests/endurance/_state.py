# SPDX-License-Identifier: Apache-2.0
"""The state of a project as the public APIs and its databases return it, so that two deployments can be compared.

`state(project)` returns one flat dictionary. Its keys are paths such as `secret/demo-dev-db-password versions`, its
values are texts. Values that differ between any two deployments are replaced or left out: the project's ID and number,
times, etags, generated IDs, zones and addresses. `differences` compares two of them.

Read with Google's APIs and database drivers only, never with the code under test.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import pymysql
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import Project
from gcp_sandbox.backends.home import Home
from gcp_sandbox.config import Settings

APPS = f"{_cloud.APP_ENGINE}/apps"

#: Fields that count changes or are random, so that two equal deployments differ in them.
VOLATILE = {
    *("etag", "uid", "uniqueId", "generation", "metageneration", "observedGeneration", "settingsVersion"),
    *("id", "ipAddresses", "gceZone", "locationPreference", "serverCaCert", "serviceAccountEmailAddress"),
    *("latestCreatedRevision", "latestReadyRevision", "latestCreatedExecution", "lastModifier", "oauth2ClientId"),
    # The second address of a service has a hash of the project.
    *("uri", "urls", "sizeBytes"),
    # They appear with the first connection to a database of MySQL.
    *("databaseInstalledVersion", "maintenanceVersion", "upgradableDatabaseVersions"),
}
REPLACED = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "HASH"),
    (re.compile(r"-\d{5}-[a-z0-9]{3}\b"), "-REVISION"),
    # the ID of a version of App Engine ends in a hash of its configuration
    (re.compile(r"\bmlflow-[\d-]+-[0-9a-f]{10}\b"), "VERSION"),
    (re.compile(r"\bsql-user\.[0-9a-f]{16}\b"), "sql-user.HASH"),
)


def state(project: Project) -> dict[str, str]:
    """Return the state of a project: APIs, resources, policies, labels, versions of secrets, builds, executions,
    passwords of the databases and the version of their schema.
    """
    found: dict[str, Any] = {"apis": sorted(project.enabled()), "project policy": _bindings(project, _home(project))}
    resources = project.resources()
    for name, body in resources.items():
        kind, _slash, short = name.partition("/")
        found[name] = body
        if url := _policy_url(project, kind, short):
            found[f"{name} policy"] = _bindings(project, url)
        found |= {f"{name} {part}": value for part, value in _PARTS.get(kind, _nothing)(project, short).items()}
    found |= dict(_app_engine(project))
    builds = project.list(f"{_cloud.BUILD}/{project.region}/builds", "builds", pageSize=100)
    found["builds"] = Counter(f"{build['status']} of {build.get('images')}" for build in builds)
    found |= dict(_databases(project, [name.split("/")[1] for name in resources if name.startswith("secret/")]))
    return {name: text for key, value in found.items() for name, text in _flat(key, value, _words(project))}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return a line for each path with different values; empty if the deployments are equal."""
    return [
        f"{name}: {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


# Names and addresses


def _home(project: Project) -> str:
    return f"{_cloud.MANAGER}/v3/{project.home}"


def _words(project: Project) -> list[tuple[re.Pattern[str], str]]:
    own = ((re.compile(re.escape(project.project)), "PROJECT"), (re.compile(project.number), "NUMBER"))
    return [*own, *REPLACED]


def _policy_url(project: Project, kind: str, name: str) -> str:
    """Return the address of a resource with a policy of its own; empty for other kinds."""
    return {
        "bucket": f"{_cloud.STORAGE}/b/{name}",
        "secret": f"{_cloud.SECRETS}/{project.home}/secrets/{name}",
        "repository": f"{_cloud.REGISTRY}/{project.region}/repositories/{name}",
        "service": f"{_cloud.RUN}/{project.region}/services/{name}",
        "job": f"{_cloud.RUN}/{project.region}/jobs/{name}",
        "account": f"{_cloud.IAM}/{project.home}/serviceAccounts/{project.email(name)}",
    }.get(kind, "")


# Parts of a resource that have methods of their own


def _bindings(project: Project, url: str) -> dict[str, list[str]]:
    """Return the sorted members of each role; a role with a condition has its expression in the key."""
    found: dict[str, list[str]] = {}
    for binding in project.policy(url).get("bindings", []):
        condition = binding.get("condition", {}).get("expression")
        found.setdefault(binding["role"] + (f" if {condition}" if condition else ""), []).extend(binding["members"])
    return {role: sorted(members) for role, members in found.items()}


def _nothing(project: Project, name: str) -> dict[str, Any]:
    return {}


def _secret(project: Project, name: str) -> dict[str, Any]:
    versions = project.secret(name)["versions"]
    return {"versions": [state for _number, (state, _payload) in sorted(versions.items())]}


def _bucket(project: Project, name: str) -> dict[str, Any]:
    """Return the objects; logs of builds have random names."""
    objects = project.list(f"{_cloud.STORAGE}/b/{name}/o", "items")
    names = [re.sub(r"^log-.*\.txt$", "log", item["name"]) for item in objects]
    return {"objects": sorted(names)}


def _instance(project: Project, name: str) -> dict[str, Any]:
    url = f"{_cloud.SQL}/{project.home}/instances/{name}"
    users = project.list(f"{url}/users", "items")
    return {
        "databases": sorted(item["name"] for item in project.list(f"{url}/databases", "items")),
        "users": sorted(f"{item['name']}@{item.get('host', '')} {item.get('type', '')}" for item in users),
    }


def _repository(project: Project, name: str) -> dict[str, Any]:
    url = f"{_cloud.REGISTRY}/{project.region}/repositories/{name}"
    images = project.list(f"{url}/dockerImages", "dockerImages", pageSize=100)
    return {"images": sorted(f"{item['name']} {item.get('tags')}" for item in images)}


def _service(project: Project, name: str) -> dict[str, Any]:
    url = f"{_cloud.RUN}/{project.region}/services/{name}"
    web = f"{_cloud.IAP}/projects/{project.number}/iap_web/cloud_run-{_cloud.REGION}/services/{name}"
    revisions = project.list(f"{url}/revisions", "revisions", pageSize=100)
    return {"revisions": len(revisions), "access policy": _bindings(project, web)}


def _job(project: Project, name: str) -> dict[str, Any]:
    url = f"{_cloud.RUN}/{project.region}/jobs/{name}/executions"
    executions = project.list(url, "executions", pageSize=100)
    return {"executions": Counter(_outcome(item) for item in executions)}


def _outcome(execution: Mapping[str, Any]) -> str:
    return next((item["state"] for item in execution.get("conditions", []) if item["type"] == "Completed"), "unknown")


_PARTS = {
    "secret": _secret,
    "bucket": _bucket,
    "instance": _instance,
    "repository": _repository,
    "service": _service,
    "job": _job,
}


def _app_engine(project: Project) -> Iterator[tuple[str, Any]]:
    url = f"{APPS}/{project.project}"
    if "appengine" not in project.enabled() or (application := project.get(url)) is None:
        return
    yield "application", application
    for service in project.list(f"{url}/services", "services"):
        name = f"application service/{service['id']}"
        web = f"{_cloud.IAP}/projects/{project.number}/iap_web/appengine-{project.project}/services/{service['id']}"
        yield name, service
        yield f"{name} access policy", _bindings(project, web)
        yield f"{name} versions", project.list(f"{url}/services/{service['id']}/versions", "versions", view="FULL")


# Databases


def _databases(project: Project, secrets: list[str]) -> Iterator[tuple[str, Any]]:
    """Log in with each password of a database, and read the version of MLflow's schema."""
    passwords = {name.removesuffix("-db-password"): name for name in secrets if name.endswith("-db-password")}
    for instance in project.list(f"{_cloud.SQL}/{project.home}/instances", "items"):
        name = passwords.get(instance["name"])
        if name is None:
            continue
        ((_state, payload),) = [project.secret(name)["versions"][max(project.secret(name)["versions"])]]
        key = f"database of {instance['name']}"
        try:
            connection = _connect(project, instance, (payload or b"").decode())
        except (psycopg2.OperationalError, pymysql.err.OperationalError) as error:
            yield f"{key} login", f"fails: {type(error).__name__}"
            continue
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield f"{key} login", "works"
            yield f"{key} schema", _schema(cursor)


def _connect(project: Project, instance: Mapping[str, Any], password: str):
    """Connect as MLflow does, with the socket of the server: no network has to be authorized, no service has to run."""
    connection = instance["connectionName"]
    body = project.sandbox.document("sql.server", connection)
    folder = Home.of(Settings.load(project.sandbox.state)).sockets / body["folder"]
    if instance["databaseVersion"].startswith("MYSQL"):
        socket = str(folder / "mysqld.sock")
        return pymysql.connect(unix_socket=socket, user="mlflow", password=password, database="mlflow")
    (socket,) = folder.glob(".s.PGSQL.*[0-9]")
    port = int(socket.suffix.removeprefix("."))
    return psycopg2.connect(host=str(folder), port=port, user="mlflow", password=password, dbname="mlflow")


def _schema(cursor) -> dict[str, str]:
    """Return the version of each schema, by the table of Alembic that has it, and the number of tables."""
    cursor.execute(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema NOT IN ('information_schema', 'pg_catalog', 'mysql', 'performance_schema', 'sys')"
    )
    tables = sorted(name for (name,) in cursor.fetchall())
    found = {"tables": str(len(tables))}
    for table in tables:
        if table.startswith("alembic_version"):
            cursor.execute(f"SELECT version_num FROM {table}")
            found[table] = str(sorted(number for (number,) in cursor.fetchall()))
    return found


# Normalization


def _flat(key: str, value: Any, words: list[tuple[re.Pattern[str], str]]) -> Iterator[tuple[str, str]]:
    """Yield a line for each value in a document, without what differs between two equal deployments."""
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            if name not in VOLATILE:
                yield from _flat(f"{key}.{name}", below, words)
        return
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, below in enumerate(_sorted(value)):
            yield from _flat(f"{key}[{number}]", below, words)
        return
    yield _replaced(key, words), _replaced(value if isinstance(value, str) else json.dumps(value), words)


def _sorted(items: list[Any]) -> list[Any]:
    """Return named items by their name, for example variables of a container; others in their order."""
    if all(isinstance(item, Mapping) and "name" in item for item in items):
        return sorted(items, key=lambda item: item["name"])
    return items


def _replaced(text: str, words: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, word in words:
        text = pattern.sub(word, text)
    return text
