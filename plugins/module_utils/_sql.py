# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of Cloud SQL share."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import sql_operation
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
    rules=Rules(
        immutable={
            "region": "Make an instance with another name there and move the data, or set region to where it is.",
            "databaseVersion": "Upgrade it on purpose (gcloud sql instances patch --database-version), after a backup,"
            " then set database_version to what it is.",
        },
        at_least=("settings.dataDiskSizeGb",),
        # An instance that was made without an edition, of a version older than ENTERPRISE_PLUS, tells none.
        normalise={"settings.edition": lambda edition: None if edition == "ENTERPRISE" else edition},
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
        # Flag.requiresRestart of the API; https://cloud.google.com/sql/docs/postgres/flags
        "settings.databaseFlags": "restart of the database if one of these flags needs it",
    },
)

# What databases and users are in.
INSIDE = Inside(INSTANCE, {"project": "project", "name": "instance"}, "instance is not running")


def is_mysql(version):
    """Whether a ``databaseVersion`` such as ``MYSQL_8_0`` is MySQL."""
    return (version or "").startswith("MYSQL")
