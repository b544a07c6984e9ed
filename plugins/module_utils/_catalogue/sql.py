# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud SQL: instances, and the databases and users in them."""

from __future__ import annotations

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import kms
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.compute import relative
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, inside
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import sql_operation
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels, Parent
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import (
    FAILED,
    PENDING,
    READY,
    Inside,
    Resource,
    Update,
)

BASE = "https://sqladmin.googleapis.com/v1"
OPERATION = sql_operation(BASE)

_PENDING = ("PENDING_CREATE", "PENDING_DELETE", "MAINTENANCE", "ONLINE_MAINTENANCE", "REPAIRING")
# A suspended instance has a problem with billing or its key; a failed one was never made.
_FAILED = ("FAILED", "SUSPENDED")


def instance_state(body):
    """``Resource.state`` of an instance, see https://cloud.google.com/sql/docs/postgres/instance-info."""
    state = body.get("state") or ""
    return (PENDING if state in _PENDING else FAILED if state in _FAILED else READY), state


INSTANCE = Resource(
    kind="Cloud SQL instance",
    base=BASE,
    path="projects/{project}/instances/{name}",
    permission="cloudsql.instances",
    create_body=lambda names, body: dict(body, name=names["name"]),
    update=Update(style="merge", depth=2),
    operation=OPERATION,
    version="settings.settingsVersion",
    state=instance_state,
    mark=Labels("settings.userLabels"),
    kept=("diskEncryptionConfiguration",),
    transient=kms.TRANSIENT,
    rules=Rules(
        immutable={
            "region": "Make an instance with another name there and move the data, or set region to where it is.",
            "databaseVersion": "Upgrade it on purpose (gcloud sql instances patch --database-version), after a backup,"
            " then set database_version to what it is.",
            "diskEncryptionConfiguration": "Create an instance with another name and this key, and move the data.",
        },
        at_least=("settings.dataDiskSizeGb",),
        # An instance that was created without an edition, before ENTERPRISE_PLUS existed, returns none.
        normalise={
            "settings.edition": lambda edition: None if edition == "ENTERPRISE" else edition,
            "settings.ipConfiguration.privateNetwork": relative,
        },
        unordered=("settings.ipConfiguration.pscConfig.allowedConsumerProjects",),
        keyed={
            "settings.databaseFlags": "name",
            "settings.ipConfiguration.authorizedNetworks": "value",
        },
    ),
    implies={
        "create": "some minutes until the instance runs",
        "delete": "loss of its databases",
        # "Changing this restarts the instance": Settings in the reference of the API.
        "settings.tier": "restart of the database",
        # https://cloud.google.com/sql/docs/postgres/upgrade-cloud-sql-instance-to-enterprise-plus-in-place
        "settings.edition": "restart of the database",
        "settings.activationPolicy": "start or stop of the database",
        # https://cloud.google.com/sql/docs/postgres/configure-private-ip#existing-private-instance
        "settings.ipConfiguration.privateNetwork": "restart of the database",
        # Flag.requiresRestart of the API; https://cloud.google.com/sql/docs/postgres/flags
        "settings.databaseFlags": "restart of the database if one of these flags needs it",
    },
)

# The instance that contains databases and users.
INSIDE = Inside(INSTANCE, {"project": "project", "name": "instance"}, "instance is not running")


_WAY_OUT = "Change it in the database itself, or dump, delete and restore the database."


def _name(value):
    """A character set or collation: case does not matter, and what MySQL calls ``utf8`` is ``utf8mb3`` from 8.0 on."""
    return value and value.lower().replace("utf8mb3", "utf8")


def _create_body(names, body):
    return dict(body, name=names["name"], instance=names["instance"], project=names["project"])


DATABASE = Resource(
    kind="database",
    base=BASE,
    path="projects/{project}/instances/{instance}/databases/{name}",
    permission="cloudsql.databases",
    create_body=_create_body,
    update=None,
    operation=OPERATION,
    inside=INSIDE,
    mark=Parent(),
    kept=("charset", "collation"),
    rules=Rules(
        immutable={"charset": _WAY_OUT, "collation": _WAY_OUT},
        normalise={"charset": _name, "collation": _name},
    ),
    implies={"delete": "loss of its data"},
)

USER = Resource(
    kind="database user",
    base=BASE,
    path="projects/{project}/instances/{instance}/users/{name}",
    permission="cloudsql.users",
    create_body=_create_body,
    # A second create sets the password again.
    unique=False,
    operation=OPERATION,
    inside=INSIDE,
    mark=Parent(),
    rules=Rules(
        immutable={
            "type": "Delete the user (state: absent) or use another name.",
            "host": "Delete the user (state: absent) or use another name.",
        },
        write_only=("password",),
    ),
)


# All flags that a version has: https://cloud.google.com/sql/docs/mysql/admin-api/rest/v1/flags/list
FLAGS = Resource(
    kind="list of database flags",
    base=BASE,
    path="flags",
    read_query={"databaseVersion": "{version}"},
    update=None,
)


def user(host):
    """Return the resource of a user. In MySQL a user belongs to one host."""
    return dataclasses.replace(USER, read_query={"host": "{host}"}) if host else USER


def is_mysql(version):
    """Whether a ``databaseVersion`` such as ``MYSQL_8_0`` is MySQL."""
    return (version or "").startswith("MYSQL")


def _instance_problem(body):
    state = body.get("state")
    return state, state in ("FAILED", "SUSPENDED", "PENDING_DELETE")


def _instance_facts(remote, body):
    settings = body.get("settings") or {}
    network = settings.get("ipConfiguration") or {}
    facts = {
        "version": body.get("databaseVersion"),
        "tier": settings.get("tier"),
        "edition": settings.get("edition"),
        "public_address": network.get("ipv4Enabled", False),
        "private_network": relative(network.get("privateNetwork")),
        "activation_policy": settings.get("activationPolicy"),
        "connection_name": body.get("connectionName"),
        "kms_key": (body.get("diskEncryptionConfiguration") or {}).get("kmsKeyName"),
        "binary_log": (settings.get("backupConfiguration") or {}).get("binaryLogEnabled"),
        "flags": {flag["name"]: flag.get("value") for flag in settings.get("databaseFlags") or []},
    }
    return {name: value for name, value in facts.items() if value is not None}


def _flags(remote, body):
    """Return name -> what is known of a flag: its type, and its values where they are limited."""
    return {"flags": {flag["name"]: {key: flag.get(key) for key in _OF_FLAGS} for flag in body.get("items") or []}}


_OF_FLAGS = ("type", "minValue", "maxValue", "allowedStringValues", "allowedIntValues")

KINDS = {
    "sql_instance": Kind(
        INSTANCE,
        items="items",
        location=lambda body: body["region"],
        state=_instance_problem,
        facts=_instance_facts,
    ),
    "sql_database": Kind(DATABASE, items="items", names=inside("instance")),
    "sql_user": Kind(USER, items="items", names=inside("instance")),
    "sql_flags": Kind(FLAGS, names=lambda project, name, location: {"version": name}, facts=_flags, shared=True),
}
