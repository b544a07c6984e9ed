# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users of Cloud SQL instances, and which version of a secret their password is.

Cloud SQL does not return passwords. An annotation of the secret keeps the number of the version that a user's password
was set from, so that a later version is set exactly once.
"""

from __future__ import annotations

import dataclasses
import hashlib

from ansible_collections.mlplatform.gcp.plugins.module_utils import _secrets, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import sql
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.secretmanager import SECRET
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.sql import USER
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    AlreadyExists,
    ApiDisabled,
    NotFound,
    UserError,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import ADOPTED, MANAGED, Ownership
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result


class User:
    """One user of one instance. The task has the options of the module ``sql_user``."""

    def __init__(self, task):
        params = task.params
        self.task = task
        # Empty text counts as not given.
        name, host = params["name"], params["host"] or None
        self.host = host
        resource = sql.user(host)
        if params["type"] != "BUILT_IN" and self._is_mysql():
            # It is created by its address, and its name is the part before the "@":
            # https://cloud.google.com/sql/docs/mysql/add-manage-iam-users#creating-a-database-user
            resource = dataclasses.replace(
                resource, create_body=lambda names, body: dict(USER.create_body(names, body), name=params["name"])
            )
            name = name.partition("@")[0]
        elif params["type"] == "CLOUD_IAM_SERVICE_ACCOUNT":
            # https://cloud.google.com/sql/docs/postgres/add-manage-iam-users#creating-a-database-user
            name = name.removesuffix(".gserviceaccount.com")
        self.remote = task.remote(resource, instance=params["instance"], name=name, host=host)
        self.password = PasswordVersion(task, self.remote.names) if params["password_secret"] else None

    def _is_mysql(self):
        """Return whether the instance is one of MySQL; False when it does not exist yet."""
        try:
            instance = self.task.remote(sql.INSTANCE, name=self.task.params["instance"]).read()
        except ApiDisabled as error:
            if not self.task.check_mode:
                raise
            self.task.assume_enabled(error)
            instance = None
        return sql.is_mysql((instance or {}).get("databaseVersion"))

    def ensure(self):
        """Create the user, or set its password where it has another; return a :class:`Result`."""
        existing = self._read()
        version = self.password and self.password.wanted()
        if existing is None:
            try:
                return self._create(version)
            except AlreadyExists:  # a concurrent run was faster
                existing = self._read()
        self.remote.plan(self._desired(), existing)  # refuses a change of an immutable field
        return self._set_password(existing, version)

    def _read(self):
        existing = self.remote.read()
        # The API leaves out the type of a built-in user.
        return existing and dict(existing, type=existing.get("type") or "BUILT_IN")

    def _desired(self, password=None):
        return {"type": self.task.params["type"], "host": self.host, "password": password}

    def _create(self, version):
        task, remote = self.task, self.remote
        if task.params["type"] == "BUILT_IN" and not self.password:
            raise UserError(
                f"{remote.title} does not exist, and a new user needs a password.",
                "Set password_secret to the name of a secret that holds one.",
            )
        self._relate(None, None)
        if task.check_mode:
            plan = remote.plan(self._desired(HIDDEN if self.password else None), None)
            return _with_version(remote.result(plan, plan.after), version)
        plan = remote.plan(self._desired(version and _secrets.read_typed(task, version)), None)
        try:
            result = remote.apply(plan)
        except AlreadyExists as error:
            if not error.repeated:
                raise
            result = remote.result(plan, self._read())  # the request without an answer has created it
        if version:
            self.password.record(version)
        return _with_version(result, version)

    def _set_password(self, existing, version):
        """Set the password to the secret's version, unless it was set from this version."""
        number = version and _number(version)
        recorded = self.password.recorded(version) if version else None
        relation = self._relate(existing, recorded)
        if recorded == number or (recorded is None and self.remote.ownership.keeps(relation)):
            return _with_version(Result(False, None, existing, extra=self._extra()), version)
        if relation is None:
            self.remote.ownership.refuse(self.remote, existing)
        result = Result.of(
            USER.kind,
            self.remote.path,
            {"password": f"version {recorded}" if recorded else "not known"},
            {"password": f"version {number}"},
        )
        result.resource = existing
        result.extra = self._extra()
        if not self.task.check_mode:
            body = {"name": existing["name"], "password": _secrets.read_typed(self.task, version)}
            self._change("sql.users.update", existing, body, "updating")
            self.password.record(version)
        return _with_version(result, version)

    def _relate(self, existing, recorded):
        """Return what the user is to the task's owner: its own too where its password was set from the secret."""
        relation = self.remote.ownership.relation(self.remote, existing)
        self.remote.relation = MANAGED if relation != "" and recorded is not None else relation
        return self.remote.relation

    def _extra(self):
        return {"relation": self.remote.relation} if self.remote.relation else {}

    def ensure_absent(self):
        """Delete the user where it exists; return a :class:`Result`."""
        existing = self.remote.read()
        self.remote.removing = True
        if existing is not None:
            relation = self._relate(existing, self.password and self.password.recorded(self.password.secret()))
            if relation is None:
                self.remote.ownership.refuse(self.remote, existing)
        plan = self.remote.plan({} if self.remote.relation == ADOPTED else None, existing)
        if plan.changed and not self.task.check_mode:
            self._change("sql.users.delete", existing, None, "deleting")
        return self.remote.result(plan)

    def _change(self, method, existing, body, verb):
        """Change or delete the user. The API has these methods on the collection of users, with the name as a query."""
        names = {"project": self.remote.names["project"], "instance": self.remote.names["instance"]}
        # With MySQL a user is identified by name and host.
        query = {key: existing[key] for key in ("name", "host") if existing.get(key)}
        operation = _verbs.call(self.task, method, body, query=query, **names)
        _verbs.finish(self.task, method, operation, f"{verb} {self.remote.title}")


class PasswordVersion:
    """The version of the secret that is the password of one user; ``names`` are the user's."""

    def __init__(self, task, names):
        self.task = task
        # An annotation's name has at most 63 characters, so what identifies the user is hashed.
        user = f"{names['project']}/{names['instance']}/{names['name']}@{names.get('host', '')}"
        self.annotation = "mlplatform-gcp.sql-user." + hashlib.sha256(user.encode()).hexdigest()[:16]

    def secret(self):
        """Return the full name of the version that the option names, which may be ``latest``."""
        return _secrets.version_name(self.task.params["password_secret"], lambda: self.task.project)

    def wanted(self):
        """Return the full name of the version that the task sets, or None in check mode where it does not exist yet."""
        secret = self.secret()
        full, _slash, number = secret.rpartition("/")
        try:
            if not number.isdigit():
                number = _number(_secrets.read_version(self.task, secret)["name"])
        except (NotFound, ApiDisabled) as error:
            if not self.task.check_mode:
                raise
            if isinstance(error, ApiDisabled):
                self.task.assume_enabled(error)
            return None
        return f"{full}/{number}"

    def recorded(self, version):
        """Return the number of the version that the user's password was set from, or None."""
        return ((self._secret(version).read() or {}).get("annotations") or {}).get(self.annotation)

    def record(self, version):
        """Keep the version's number in the secret. Without it the next run would set the same password again."""
        self._secret(version).ensure({"annotations": {self.annotation: _number(version)}})

    def _secret(self, version):
        _projects, project, _collection, name, *_rest = version.split("/")
        secret = self.task.remote(SECRET, project=project, name=name)
        # The annotation belongs to the user, independent of the owner of the secret.
        secret.ownership = Ownership()
        return secret


def _number(version):
    return version.rsplit("/", 1)[-1]


def _with_version(result, version):
    """Return the result with the version's name and without the password."""
    if version:
        result.extra["password_version"] = version
    result.resource = {key: value for key, value in (result.resource or {}).items() if key != "password"}
    return result
