#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_user
short_description: Manage users of Cloud SQL instances
version_added: 0.1.0
description:
  - Creates and deletes users of an instance of Cloud SQL, and sets their passwords.
  - The module waits for an instance that is still being created.
  - The module reads a password itself from Secret Manager. It never passes through Ansible.
  - Cloud SQL does not return passwords. An annotation of the secret keeps the number of the version that is the user's
    password, so that a later version of the secret is set exactly once.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  instance:
    description: Name of the instance.
    type: str
    required: true
  name:
    description:
      - Name of the user. With O(type=CLOUD_IAM_SERVICE_ACCOUNT) and O(type=CLOUD_IAM_USER) the e-mail address of the
        account; the module shortens it to the name that Cloud SQL uses. With PostgreSQL the name of a service account
        is its address without C(.gserviceaccount.com), with MySQL the name of any account is the part before C(@).
    type: str
  users:
    description: Several users in one task. The options that an entry lacks hold for all of them.
    type: list
    elements: dict
    version_added: 0.3.0
    suboptions:
      name:
        description: As O(name).
        type: str
        required: true
      host:
        description: As O(host).
        type: str
      type:
        description: As O(type).
        type: str
        choices: [BUILT_IN, CLOUD_IAM_USER, CLOUD_IAM_SERVICE_ACCOUNT]
      password_secret:
        description: As O(password_secret).
        type: str
  host:
    description:
      - With MySQL, the host that the user may connect from, as V(%) for any, V(10.1.0.0/255.255.0.0) or an address.
      - Users of one name with different hosts are different users. The default of the API is V(%).
    type: str
  type:
    description: How the user is authenticated.
    type: str
    choices: [BUILT_IN, CLOUD_IAM_USER, CLOUD_IAM_SERVICE_ACCOUNT]
    default: BUILT_IN
  password_secret:
    description:
      - Secret with the password, as C(projects/p/secrets/s) for the latest version, or
        C(projects/p/secrets/s/versions/3).
      - Required for a new user with O(type=BUILT_IN).
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - A user has no labels. It belongs to O(owner) where its instance does, or where its password was set from
    O(password_secret) before, which an annotation of that secret keeps.
  - An adopted user keeps its password, which must be the one in O(password_secret). Another one is given that password.
  - Needs C(cloudsql.users.get), C(cloudsql.users.create), C(cloudsql.users.update), C(cloudsql.users.delete) and
    C(cloudsql.instances.get), in C(roles/cloudsql.admin).
  - For O(password_secret) it needs C(secretmanager.versions.get), C(secretmanager.versions.access),
    C(secretmanager.secrets.get) and C(secretmanager.secrets.update), for example by C(roles/secretmanager.admin) on the
    secret.
"""

EXAMPLES = r"""
- name: Create MLflow's user with the password from a secret
  mlplatform.gcp.sql_user:
    project: my-project
    instance: mlflow-prod
    name: mlflow
    password_secret: projects/my-project/secrets/mlflow-db-password

- name: Let a service account log in without a password
  mlplatform.gcp.sql_user:
    instance: mlflow-prod
    name: mlflow-server@my-project.iam.gserviceaccount.com
    type: CLOUD_IAM_SERVICE_ACCOUNT

- name: Let a user of MySQL connect from any host
  mlplatform.gcp.sql_user:
    instance: mlflow-mysql
    name: mlflow
    host: "%"
    password_secret: projects/my-project/secrets/mlflow-db-password

- name: Delete the administrator that Google created
  mlplatform.gcp.sql_user:
    instance: mlflow-mysql
    name: root
    host: "%"
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
  description: The user as returned by the API.
  returned: when O(name) is given and O(state=present)
  type: dict
  sample:
    name: mlflow
    instance: mlflow-prod
password_version:
  description: The secret version that is the user's password.
  returned: when O(name) is given and O(password_secret) is set
  type: str
  sample: projects/my-project/secrets/mlflow-db-password/versions/1
results:
  description: For each of O(users), its C(name), and the C(resource) and C(password_version) of a task for it.
  returned: when O(users) is given
  type: list
  elements: dict
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, OWNER, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._sql_users import User

_TYPE = {"type": "str", "choices": ["BUILT_IN", "CLOUD_IAM_USER", "CLOUD_IAM_SERVICE_ACCOUNT"]}
# The options of one user.
_USER = {
    "name": {"type": "str"},
    "host": {"type": "str"},
    "type": _TYPE | {"default": "BUILT_IN"},
    # the name of a secret, not a secret
    "password_secret": {"type": "str", "no_log": False},
}
_ENTRY = _USER | {"name": {"type": "str", "required": True}, "type": _TYPE}

OPTIONS = (
    GCP
    + OWNER
    + STATE
    + WAIT
    + Options(
        _USER
        | {
            "instance": {"type": "str", "required": True},
            "users": {"type": "list", "elements": "dict", "options": _ENTRY},
        },
        mutually_exclusive=(("name", "users"),),
        required_one_of=(("name", "users"),),
    )
)


def run(task):
    return ensure(task) if task.params["users"] is None else task.each("users", ensure)


def ensure(task):
    """Make one user what the options say."""
    user = User(task)
    return user.ensure_absent() if task.params["state"] == "absent" else user.ensure()


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
