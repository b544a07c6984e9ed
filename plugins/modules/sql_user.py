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
  - An instance that is still being created is waited for.
  - The module reads a password itself from Secret Manager. It never passes through Ansible.
  - Cloud SQL does not tell a user's password. So the module notes in an annotation of the secret which version of it a
    user has, and a later version of the secret is set exactly once.
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
        account; the module shortens it as Cloud SQL wants it. With PostgreSQL a service account logs in under its
        address without C(.gserviceaccount.com), with MySQL anybody under what is before the C(@).
    type: str
    required: true
  host:
    description:
      - With MySQL, the host that the user may connect from, as V(%) for any, V(10.1.0.0/255.255.0.0) or an address.
      - Users of one name with different hosts are different users. Google takes V(%) if nothing is said.
    type: str
  type:
    description: How the user is authenticated.
    type: str
    choices: [BUILT_IN, CLOUD_IAM_USER, CLOUD_IAM_SERVICE_ACCOUNT]
    default: BUILT_IN
  password_secret:
    description:
      - Where the password is, as C(projects/p/secrets/s) for the latest version, or C(projects/p/secrets/s/versions/3).
      - Needed for a new user with O(type=BUILT_IN).
    type: str
  adopt:
    description:
      - Whether a user that is there and that this module has not given a password yet is taken to have the one of
        O(password_secret). Otherwise it is given that password.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(cloudsql.users.get), C(cloudsql.users.create), C(cloudsql.users.update), C(cloudsql.users.delete) and
    C(cloudsql.instances.get), in C(roles/cloudsql.admin).
  - For O(password_secret) it needs C(secretmanager.versions.get), C(secretmanager.versions.access),
    C(secretmanager.secrets.get) and C(secretmanager.secrets.update), for example by C(roles/secretmanager.admin) on the
    secret.
"""

EXAMPLES = r"""
- name: MLflow's user can log in with the password in the secret
  mlplatform.gcp.sql_user:
    project: my-project
    instance: mlflow-prod
    name: mlflow
    password_secret: projects/my-project/secrets/mlflow-db-password

- name: A service account can log in without a password
  mlplatform.gcp.sql_user:
    instance: mlflow-prod
    name: mlflow-server@my-project.iam.gserviceaccount.com
    type: CLOUD_IAM_SERVICE_ACCOUNT

- name: A user of MySQL may come from anywhere
  mlplatform.gcp.sql_user:
    instance: mlflow-mysql
    name: mlflow
    host: "%"
    password_secret: projects/my-project/secrets/mlflow-db-password

- name: The administrator that Google made is gone
  mlplatform.gcp.sql_user:
    instance: mlflow-mysql
    name: root
    host: "%"
    state: absent
"""

RETURN = r"""
resource:
  description: The user as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: mlflow
    instance: mlflow-prod
password_version:
  description: The secret version that the user's password comes from.
  returned: when O(password_secret) is given
  type: str
  sample: projects/my-project/secrets/mlflow-db-password/versions/1
"""

import dataclasses
import hashlib

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    AlreadyExists,
    ApiDisabled,
    Conflict,
    NotFound,
    UserError,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN, Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Result
from ansible_collections.mlplatform.gcp.plugins.module_utils._secrets import BASE as SECRETS
from ansible_collections.mlplatform.gcp.plugins.module_utils._secrets import read_secret, read_version, version_name
from ansible_collections.mlplatform.gcp.plugins.module_utils._sql import BASE, INSIDE, INSTANCE, OPERATION, is_mysql

_CONFLICTS = 6
USER = Resource(
    kind="database user",
    base=BASE,
    path="projects/{project}/instances/{instance}/users/{name}",
    permission="cloudsql.users",
    create_body=lambda names, body: dict(
        body, name=names["name"], instance=names["instance"], project=names["project"]
    ),
    operation=OPERATION,
    inside=INSIDE,
    rules=Rules(
        immutable={
            "type": "Delete the user (state: absent) or use another name.",
            "host": "Delete the user (state: absent) or use another name.",
        },
        write_only=("password",),
    ),
)

OPTIONS = (
    GCP
    + STATE
    + WAIT
    + Options(
        {
            "instance": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "host": {"type": "str"},
            "type": {
                "type": "str",
                "default": "BUILT_IN",
                "choices": ["BUILT_IN", "CLOUD_IAM_USER", "CLOUD_IAM_SERVICE_ACCOUNT"],
            },
            # the name of a secret, not a secret
            "password_secret": {"type": "str", "no_log": False},
            "adopt": {"type": "bool", "default": False},
        }
    )
)


def run(task):
    user = User(task)
    return user.absent() if task.params["state"] == "absent" else user.present()


class User:
    """One user of one instance, and the version of the secret that its password comes from."""

    def __init__(self, task):
        params = task.params
        self.task = task
        name, host = params["name"], params["host"]
        resource = dataclasses.replace(USER, read_query={"host": "{host}"}) if host else USER
        if params["type"] != "BUILT_IN" and self.is_mysql():
            # It is made by its address and goes by what is before the "@":
            # https://cloud.google.com/sql/docs/mysql/add-manage-iam-users#creating-a-database-user
            resource = dataclasses.replace(
                resource, create_body=lambda names, body: dict(USER.create_body(names, body), name=params["name"])
            )
            name = name.partition("@")[0]
        elif params["type"] == "CLOUD_IAM_SERVICE_ACCOUNT":
            # https://cloud.google.com/sql/docs/postgres/add-manage-iam-users#creating-a-database-user
            name = name.removesuffix(".gserviceaccount.com")
        self.remote = task.remote(resource, instance=params["instance"], name=name, host=host)
        self.collection = self.remote.url.rsplit("/", 1)[0]

    def is_mysql(self):
        """Whether the instance is one of MySQL; False where there is none yet."""
        try:
            instance = self.task.remote(INSTANCE, name=self.task.params["instance"]).read()
        except ApiDisabled as error:
            if not self.task.check_mode:
                raise
            self.task.assume_enabled(error)
            instance = None
        return is_mysql((instance or {}).get("databaseVersion"))

    def present(self):
        existing = self.read()
        version = self.version()
        if existing is None:
            try:
                return self.create(version)
            except AlreadyExists:  # another run was faster
                existing = self.read()
        self.remote.plan(self.desired(), existing)  # refuses what cannot be changed
        return self.set_password(existing, version)

    def read(self):
        existing = self.remote.read()
        # Google leaves out the type of an ordinary user.
        return existing and dict(existing, type=existing.get("type") or "BUILT_IN")

    def desired(self, password=None):
        return {"type": self.task.params["type"], "host": self.task.params["host"], "password": password}

    def create(self, version):
        task = self.task
        if task.params["type"] == "BUILT_IN" and not task.params["password_secret"]:
            raise UserError(
                f"{self.remote.title} does not exist, and a new user needs a password.",
                "Set password_secret to the name of a secret that holds one.",
            )
        if task.check_mode:
            plan = self.remote.plan(self.desired(HIDDEN if task.params["password_secret"] else None), None)
            return self.tell(Result(True, plan.diff(self.remote.title, self.remote.path), plan.after), version)
        result = self.remote.apply(self.remote.plan(self.desired(version and read_secret(task, version)), None))
        self.note(version)
        return self.tell(result, version)

    def set_password(self, existing, version):
        """Give an existing user the secret's version, unless it has it."""
        number = version and version.rsplit("/", 1)[-1]
        noted = self.noted(version) if version else None
        if noted == number or (noted is None and self.task.params["adopt"]):
            return self.tell(Result(False, None, existing), version)
        diff = {
            "before": {"password": f"version {noted}" if noted else "not known"},
            "after": {"password": f"version {number}"},
            "before_header": self.remote.title,
            "after_header": self.remote.title,
        }
        if not self.task.check_mode:
            body = {"name": existing["name"], "password": read_secret(self.task, version)}
            self.change("PUT", existing, body, "cloudsql.users.update", "updating")
            self.note(version)
        return self.tell(Result(True, diff, existing), version)

    def absent(self):
        existing = self.remote.read()
        plan = self.remote.plan(None, existing)
        if plan.changed and not self.task.check_mode:
            self.change("DELETE", existing, None, "cloudsql.users.delete", "deleting")
        return Result(plan.changed, plan.diff(self.remote.title))

    def change(self, method, existing, body, permission, verb):
        """Send a change of the collection and wait for it: users are not changed by an address of their own."""
        client = self.task.client
        # With MySQL the name alone does not say who is meant.
        query = {key: existing[key] for key in ("name", "host") if existing.get(key)}
        operation = client.request(method, self.collection, query=query, body=body, permission=permission)
        self.task.waiter.operation(client, OPERATION, operation, what=f"{verb} {self.remote.title}")

    @staticmethod
    def tell(result, version):
        if version:
            result.extra["password_version"] = version
        result.resource = {key: value for key, value in (result.resource or {}).items() if key != "password"}
        return result

    # Which version of the secret the user has

    def version(self):
        """Full name of the secret version that the password shall come from.

        None without ``password_secret``, and in check mode where the secret is not there yet.
        """
        secret = self.task.params["password_secret"]
        if not secret:
            return None
        full, _slash, number = version_name(secret, lambda: self.task.project).rpartition("/")
        try:
            if not number.isdigit():
                number = read_version(self.task, secret)["name"].rsplit("/", 1)[-1]
        except (NotFound, ApiDisabled) as error:
            if not self.task.check_mode:
                raise
            if isinstance(error, ApiDisabled):
                self.task.assume_enabled(error)
            return None
        return f"{full}/{number}"

    @property
    def annotation(self):
        """The annotation of the secret for this user; 63 characters at most, so what identifies it is hashed."""
        names = self.remote.names
        who = f"{names['project']}/{names['instance']}/{names['name']}@{names.get('host', '')}"
        return "mlplatform-gcp.sql-user." + hashlib.sha256(who.encode()).hexdigest()[:16]

    def noted(self, version):
        """Number of the version that this user's password was set from, or None."""
        return (self.secret(version).get("annotations") or {}).get(self.annotation)

    def secret(self, version):
        return self.task.client.get(_secret_url(version), permission="secretmanager.secrets.get")

    def note(self, version):
        """Keep the version in the secret. Without this the next run would set the same password once more."""
        if not version:
            return
        for attempt in range(_CONFLICTS):
            try:
                self.write_note(version)
                return
            except Conflict as error:  # somebody else has changed the secret meanwhile
                failure = error
            self.task.waiter.pause(self.task.client.clock.random() * 2**attempt, version, "changed at the same time")
        raise failure

    def write_note(self, version):
        secret = self.secret(version)
        annotations = dict(secret.get("annotations") or {}, **{self.annotation: version.rsplit("/", 1)[-1]})
        self.task.client.request(
            "PATCH",
            _secret_url(version),
            query={"updateMask": "annotations"},
            body={"annotations": annotations, "etag": secret.get("etag")},
            permission="secretmanager.secrets.update",
        )


def _secret_url(version):
    return f"{SECRETS}/{version.split('/versions/')[0]}"


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
