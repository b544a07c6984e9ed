#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_instance
short_description: Manage Cloud SQL instances
version_added: 0.1.0
description:
  - Creates, changes and deletes instances of Cloud SQL.
  - Only what the task sets is compared and changed.
  - Creating an instance takes minutes. With O(wait=false) the task starts it, and the same task with O(wait=true) joins
    it later.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: The instance's name, unique in the project.
    type: str
    required: true
  region:
    description: Where the instance is. Cannot be changed.
    type: str
  database_version:
    description:
      - Engine and version, such as V(POSTGRES_16) or V(MYSQL_8_0). Required for a new instance.
      - The module does not upgrade an existing instance.
    type: str
  edition:
    description:
      - Edition of Cloud SQL. It is always sent, because the default depends on the version, and the edition decides
        which tiers there are.
    type: str
    choices: [ENTERPRISE, ENTERPRISE_PLUS]
    default: ENTERPRISE
  tier:
    description: Machine type, such as V(db-custom-1-3840). Required for a new instance.
    type: str
  availability_type:
    description:
      - Whether there is a standby in another zone. With MySQL V(REGIONAL) needs O(backup.enabled) and O(backup.pitr).
    type: str
    choices: [ZONAL, REGIONAL]
  activation_policy:
    description: Whether the instance runs.
    type: str
    choices: [ALWAYS, NEVER]
  disk_type:
    description: Kind of the disk. It cannot be changed after the creation of the instance.
    type: str
    choices: [PD_SSD, PD_HDD, HYPERDISK_BALANCED]
  disk_size_gb:
    description: Size of the disk in GB. A disk never shrinks, so a larger one satisfies it.
    type: int
  disk_autoresize:
    description: Whether the disk grows by itself.
    type: bool
  disk_autoresize_limit_gb:
    description: How large the disk may grow by itself in GB, V(0) for as large as it has to.
    type: int
  flags:
    description: Database flags. They replace the existing flags.
    type: dict
  backup:
    description: Automated backups.
    type: dict
    suboptions:
      enabled:
        description: Whether they are made.
        type: bool
      pitr:
        description:
          - Whether any point in time can be restored. With MySQL that means binary logs.
          - Needs O(backup.enabled).
        type: bool
      transaction_log_days:
        description: For how many days back that is possible, V(1) to V(7), or V(35) with O(edition=ENTERPRISE_PLUS).
        type: int
      location:
        description: Region or multi-region of the backups, such as V(eu).
        type: str
      start_time:
        description: When, as V(HH:MM) in UTC.
        type: str
      retained:
        description: How many are kept.
        type: int
  maintenance_window:
    description: When Google may restart the instance for maintenance.
    type: dict
    suboptions:
      day:
        description: Day of the week, V(1) is Monday and V(7) is Sunday.
        type: int
      hour:
        description: Hour of the day in UTC.
        type: int
      update_track:
        description: Whether updates come early or late.
        type: str
        choices: [canary, stable, week5]
  ipv4_enabled:
    description:
      - Whether the instance has a public address. Connections to it require a network in
        O(authorized_networks) or a connector of Cloud SQL.
    type: bool
  authorized_networks:
    description: Networks that may connect to the public address directly. They replace the existing networks.
    type: list
    elements: dict
    suboptions:
      name:
        description: What network it is.
        type: str
      value:
        description: The network in CIDR notation.
        type: str
        required: true
  private_network:
    description:
      - A VPC network for a private address, its name or C(projects/p/global/networks/n).
      - It must have private services access. It can be changed, and not removed.
    type: str
  allocated_ip_range:
    description: Name of the range, allocated for private services access, that the private address comes from.
    type: str
  private_path:
    description: Whether other Google services, such as BigQuery, reach the instance at its private address.
    type: bool
  psc_projects:
    description:
      - Projects that can connect through Private Service Connect, which it enables. They replace the existing
        projects.
    type: list
    elements: str
  ssl_mode:
    description: Which connections are accepted.
    type: str
    choices: [ALLOW_UNENCRYPTED_AND_ENCRYPTED, ENCRYPTED_ONLY, TRUSTED_CLIENT_CERTIFICATE_REQUIRED]
  kms_key:
    description:
      - A key of Cloud KMS as C(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), that encrypts the
        instance. It must be in O(region), and cannot be changed.
      - The service's agent needs C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on it.
    type: str
    version_added: 0.3.0
  deletion_protection:
    description:
      - Whether the instance refuses to be deleted.
      - With O(state=absent), V(false) lifts the protection before the instance is deleted; otherwise a protected
        instance is an error.
    type: bool
  final_backup:
    description: With O(state=absent), whether a last backup is taken and kept for O(final_backup_days).
    type: bool
    default: false
  final_backup_days:
    description: For how many days the last backup is kept, at most 365.
    type: int
    default: 30
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
  - mlplatform.gcp.use
notes:
  - Needs C(cloudsql.instances.get), C(cloudsql.instances.create), C(cloudsql.instances.update) and
    C(cloudsql.instances.delete); all are in C(roles/cloudsql.admin).
"""

EXAMPLES = r"""
- name: Start the creation of an instance and do not wait
  mlplatform.gcp.sql_instance:
    project: my-project
    name: mlflow-prod
    region: europe-west1
    database_version: POSTGRES_16
    tier: db-custom-2-7680
    availability_type: REGIONAL
    disk_size_gb: 10
    disk_autoresize: true
    backup:
      enabled: true
      pitr: true
      start_time: "02:00"
    deletion_protection: true
    labels:
      managed-by: mlplatform-gcp
    wait: false

- name: Create a MySQL instance with binary logs and maintenance on Sundays at 03:00
  mlplatform.gcp.sql_instance:
    project: my-project
    name: mlflow-mysql
    region: europe-west1
    database_version: MYSQL_8_0
    tier: db-n1-standard-1
    availability_type: ZONAL
    disk_size_gb: 10
    disk_autoresize: true
    disk_autoresize_limit_gb: 100
    backup:
      enabled: true
      pitr: true
    maintenance_window:
      day: 7
      hour: 3
      update_track: stable

- name: Delete the instance and keep a final backup for 90 days
  mlplatform.gcp.sql_instance:
    name: mlflow-dev
    deletion_protection: false
    final_backup: true
    final_backup_days: 90
    state: absent
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
resource:
  description: The instance as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: mlflow-prod
    connectionName: my-project:europe-west1:mlflow-prod
    state: RUNNABLE
operation:
  description: Name of the operation in progress.
  returned: when O(wait=false) and an operation is in progress
  type: str
"""

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils import _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.sql import INSTANCE
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import (
    GCP,
    LABELS,
    OWNER,
    STATE,
    USE,
    WAIT,
    Options,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._sql_instances import desired, refuse

OPTIONS = (
    GCP
    + LABELS
    + OWNER
    + STATE
    + USE
    + WAIT
    + Options(
        {
            "name": {"type": "str", "required": True},
            "region": {"type": "str"},
            "database_version": {"type": "str"},
            "edition": {"type": "str", "choices": ["ENTERPRISE", "ENTERPRISE_PLUS"], "default": "ENTERPRISE"},
            "tier": {"type": "str"},
            "availability_type": {"type": "str", "choices": ["ZONAL", "REGIONAL"]},
            "activation_policy": {"type": "str", "choices": ["ALWAYS", "NEVER"]},
            "disk_type": {"type": "str", "choices": ["PD_SSD", "PD_HDD", "HYPERDISK_BALANCED"]},
            "disk_size_gb": {"type": "int"},
            "disk_autoresize": {"type": "bool"},
            "disk_autoresize_limit_gb": {"type": "int"},
            "flags": {"type": "dict"},
            "backup": {
                "type": "dict",
                "options": {
                    "enabled": {"type": "bool"},
                    "pitr": {"type": "bool"},
                    "transaction_log_days": {"type": "int"},
                    "location": {"type": "str"},
                    "start_time": {"type": "str"},
                    "retained": {"type": "int"},
                },
            },
            "maintenance_window": {
                "type": "dict",
                "options": {
                    "day": {"type": "int"},
                    "hour": {"type": "int"},
                    "update_track": {"type": "str", "choices": ["canary", "stable", "week5"]},
                },
            },
            "ipv4_enabled": {"type": "bool"},
            "authorized_networks": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {"type": "str"}, "value": {"type": "str", "required": True}},
            },
            "private_network": {"type": "str"},
            "allocated_ip_range": {"type": "str"},
            "private_path": {"type": "bool"},
            "psc_projects": {"type": "list", "elements": "str"},
            "ssl_mode": {
                "type": "str",
                "choices": [
                    "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
                    "ENCRYPTED_ONLY",
                    "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
                ],
            },
            "kms_key": {"type": "str", "no_log": False},
            "deletion_protection": {"type": "bool"},
            "final_backup": {"type": "bool", "default": False},
            "final_backup_days": {"type": "int", "default": 30},
        }
    )
)


def run(task):
    if task.params["state"] == "absent":
        return absent(task)
    remote = task.remote(INSTANCE, name=task.params["name"])
    version = task.params["database_version"]
    if version is None and task.params["backup"]:  # the fields of backup depend on the engine
        version = (remote.read() or {}).get("databaseVersion")
    result = remote.ensure(desired(task.params, version, task.project), guard=lambda plan: refuse(task, plan))
    if not task.wait and not result.operation and remote.is_pending(result.resource) and not task.check_mode:
        # Another run started it: return its operation, so that a later task can join it.
        result.operation = running_operation(task)
    return result


def running_operation(task):
    query = {"instance": task.params["name"], "maxResults": 1}
    latest = next(_verbs.pages(task, "sql.operations.list", query=query), {"status": "DONE"})
    return None if latest.get("status") == "DONE" else latest["name"]


def absent(task):
    """Delete the instance, with the last backup that the task asks for, after lifting its protection if it may."""
    params = task.params
    query = {"enableFinalBackup": "true", "finalBackupTtlDays": str(params["final_backup_days"])}
    resource = dataclasses.replace(INSTANCE, delete_query=query if params["final_backup"] else {})
    return task.remote(resource, name=params["name"]).ensure_absent(guard=lambda plan: unprotect(task, plan))


def unprotect(task, plan):
    if not (plan.existing.get("settings") or {}).get("deletionProtectionEnabled"):
        return
    remote = task.remote(INSTANCE, name=task.params["name"])
    if task.params["deletion_protection"] is not False:
        raise UserError(
            f"{remote.title} is protected against deletion.",
            "To delete it with all its data, set deletion_protection: false.",
        )
    if not task.check_mode:
        remote.ensure({"settings": {"deletionProtectionEnabled": False}})


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
