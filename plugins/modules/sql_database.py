#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_database
short_description: Manage databases of Cloud SQL instances
version_added: 0.1.0
description:
  - Creates and deletes databases in an instance of Cloud SQL.
  - If the instance is being created, the module waits until it is ready.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  instance:
    description: Name of the instance.
    type: str
    required: true
  name:
    description: Name of the database.
    type: str
  databases:
    description: Several databases in one task. The options that an entry lacks hold for all of them.
    type: list
    elements: dict
    version_added: 0.3.0
    suboptions:
      name:
        description: As O(name).
        type: str
        required: true
      charset:
        description: As O(charset).
        type: str
      collation:
        description: As O(collation).
        type: str
  charset:
    description: Character set, such as V(UTF8) or V(utf8mb4). Cannot be changed.
    type: str
  collation:
    description: Collation, such as V(en_US.UTF8) or V(utf8mb4_0900_ai_ci). Cannot be changed.
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - A database has no labels. It belongs to O(owner) where its instance does. In an instance of another owner a database
    can be created and used; to delete it there, leave O(owner) out.
  - Needs C(cloudsql.databases.get), C(cloudsql.databases.create) and C(cloudsql.databases.delete), and
    C(cloudsql.instances.get) to wait; all are in C(roles/cloudsql.admin).
  - With O(state=absent) the database goes with everything in it.
"""

EXAMPLES = r"""
- name: The database exists
  mlplatform.gcp.sql_database:
    project: my-project
    instance: mlflow-prod
    name: mlflow

- name: A database of MySQL that can hold any text exists
  mlplatform.gcp.sql_database:
    instance: mlflow-mysql
    name: mlflow
    charset: utf8mb4
    collation: utf8mb4_0900_ai_ci
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
  description: The database as Google describes it.
  returned: when O(name) is given and O(state=present)
  type: dict
  sample:
    name: mlflow
    charset: UTF8
operation:
  description: Name of the operation in progress.
  returned: when O(name) is given, O(wait=false), and an operation was started
  type: str
results:
  description: For each of O(databases), its C(name), and the C(resource) and C(operation) of a task for it.
  returned: when O(databases) is given
  type: list
  elements: dict
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.sql import DATABASE
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, OWNER, STATE, WAIT, Options

# The options of one database.
_DATABASE = {"name": {"type": "str"}, "charset": {"type": "str"}, "collation": {"type": "str"}}
_ENTRY = _DATABASE | {"name": {"type": "str", "required": True}}

OPTIONS = (
    GCP
    + OWNER
    + STATE
    + WAIT
    + Options(
        _DATABASE
        | {
            "instance": {"type": "str", "required": True},
            "databases": {"type": "list", "elements": "dict", "options": _ENTRY},
        },
        mutually_exclusive=(("name", "databases"),),
        required_one_of=(("name", "databases"),),
    )
)


def run(task):
    return ensure(task) if task.params["databases"] is None else task.each("databases", ensure)


def ensure(task):
    """Make one database what the options say."""
    params = task.params
    desired = {"charset": params["charset"] or None, "collation": params["collation"] or None}
    return task.ensure(DATABASE, desired, instance=params["instance"], name=params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
