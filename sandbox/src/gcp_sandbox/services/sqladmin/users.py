# SPDX-License-Identifier: Apache-2.0
"""Users of an instance: roles of its server. The answer to a change is sent when it is done."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.backends.sql import Server, User
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.gateway.times import epoch, timestamp
from gcp_sandbox.services.sqladmin import catalog, refusals
from gcp_sandbox.services.sqladmin import settings as rules
from gcp_sandbox.services.sqladmin.base import (
    ONE,
    USER,
    Base,
    asked,
    etag,
    refused,
)
from gcp_sandbox.services.sqladmin.refusals import invalid, missing

CHANGE_USER = 2  # seconds on Google Cloud

SERVICE_ACCOUNT_SUFFIX = ".gserviceaccount.com"


class Users(Base):
    """users.*"""

    # gcp_sql_user of the google.cloud collection looks for its user with the parameters of a deletion
    # (github.com/ansible/ansible/issues/64056: it gets the list).
    @method("users.list", permission="cloudsql.users.list", on=ONE, transaction=False, ignores=("name", "host"))
    def list_users(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, server = self._running(key)
        items = [self._user(instance, user) for user in asked(server.users)]
        return {"kind": "sql#usersList", **({"items": items} if items else {})}

    @method("users.get", permission="cloudsql.users.get", on=ONE, transaction=False)
    def get_user(self, call: Call) -> dict[str, Any]:
        instance, server = self._running(self._key(call))
        return self._user(instance, self._find_user(call, instance, server, call.params["name"]))

    def _find_user(self, call: Call, instance: dict[str, Any], server: Server, name: str) -> User:
        """Return the user of that name; the host counts on MySQL only, where any host is "%"."""
        host = self._host(instance, call.query.get("host"))
        found = next((user for user in asked(server.users) if (user.name, user.host) == (name, host)), None)
        if found is None:
            raise refusals.not_found()
        return found

    def _user_to_change(self, call: Call, instance: dict[str, Any], server: Server, name: str) -> User:
        """Return the user that an update or a deletion names.

        An unknown host does not matter where the name alone identifies the user (recorded).
        """
        host = self._host(instance, call.query.get("host"))
        found = [user for user in asked(server.users) if user.name == name]
        user = next((user for user in found if user.host == host), found[0] if len(found) == 1 else None)
        if user is None:
            raise refusals.not_found()
        return user

    @staticmethod
    def _host(instance: dict[str, Any], host: str | None) -> str:
        return (host or "%") if catalog.is_mysql(instance["databaseVersion"]) else ""

    def _user(self, instance: dict[str, Any], user: User) -> dict[str, Any]:
        key = f"{instance['project']}/{instance['name']}"
        kept = self.store.get(USER, f"{key}/{user.host}/{user.name}") or {}
        body: dict[str, Any] = {
            "kind": "sql#user",
            "host": user.host,
            "iamStatus": "IAM_STATUS_UNSPECIFIED",
            "instance": instance["name"],
            "name": user.name,
            "passwordPolicy": _policy(kept),
            "project": instance["project"],
        }
        if user.roles:
            body["databaseRoles"] = list(user.roles)
        if user.kind != "BUILT_IN":
            body |= {"type": user.kind, "iamStatus": "ACTIVE", "iamEmail": kept.get("iamEmail") or _iam_email(user)}
            body.pop("passwordPolicy")
        return body | {"etag": etag(body)}

    @method("users.insert", permission="cloudsql.users.create", on=ONE, transaction=False)
    def insert_user(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, server = self._running(key)
        body = rules.without_nulls(call.body)
        name, kind = body.get("name"), body.get("type", "BUILT_IN")
        if not name:
            raise missing("user")
        kept = _kept(call, body)
        if kind != "BUILT_IN":
            name, kept["iamEmail"] = self._iam_name(instance, name, kind)
            if "password" in body:
                raise invalid("Invalid request: Password is not allowed for a Cloud IAM user.")
        secret = server.hash_password(body["password"]) if "password" in body else None
        args = {
            "user": {"name": name, "host": self._host(instance, body.get("host")), "kind": kind},
            "roles": body.get("databaseRoles", []),
            "secret": secret,
            "kept": kept,
        }
        return self._now(call, key, "CREATE_USER", CHANGE_USER, "create_user", args)

    @staticmethod
    def _iam_name(instance: dict[str, Any], name: str, kind: str) -> tuple[str, str]:
        """Return (name in the database, e-mail address) of an IAM user: MySQL's names end before the "@"."""
        if "@" not in name:
            raise invalid(f"Invalid request: {name} is not the e-mail address of a Cloud IAM user or service account.")
        if catalog.is_mysql(instance["databaseVersion"]):
            return name.partition("@")[0], name
        if kind == "CLOUD_IAM_SERVICE_ACCOUNT":
            if name.endswith(SERVICE_ACCOUNT_SUFFIX):
                raise invalid(
                    "Invalid request: Database username for Cloud IAM service account should be created without "
                    f'"{SERVICE_ACCOUNT_SUFFIX}" suffix.'
                )
            return name, name + SERVICE_ACCOUNT_SUFFIX
        return name, name

    @job("create_user")
    def create_user(self, op: Op) -> None:
        user = User(**op.args["user"], roles=tuple(op.args["roles"]))
        with refused(f"Invalid request: failed to create user {user.name}: . {{}}"):
            self._server(self._load(op.target)).create_user(user, op.args["secret"])
        self._keep(op.target, user, op.args["kept"])

    def _keep(self, key: str, user: User, kept: dict[str, Any]) -> None:
        name = f"{key}/{user.host}/{user.name}"
        if kept:
            self.store.put(USER, name, (self.store.get(USER, name) or {}) | kept, parent=key)

    @method("users.update", permission="cloudsql.users.update", on=ONE, transaction=False)
    def update_user(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, server = self._running(key)
        name = call.query.get("name")
        if not name:
            raise missing("user")
        user = self._user_to_change(call, instance, server, name)
        body = rules.without_nulls(call.body)
        args = {
            "user": {"name": user.name, "host": user.host, "kind": user.kind},
            "roles": call.query.get("databaseRoles") or body.get("databaseRoles", []),
            "revoke": call.query.get("revokeExistingRoles", False),
            "secret": server.hash_password(body["password"]) if "password" in body else None,
            "kept": _kept(call, body),
        }
        return self._now(call, key, "UPDATE_USER", CHANGE_USER, "change_user", args)

    @job("change_user")
    def change_user(self, op: Op) -> None:
        user = User(**op.args["user"], roles=tuple(op.args["roles"]))
        with refused(f"Invalid request: failed to update user {user.name}: . {{}}"):
            self._server(self._load(op.target)).update_user(user, op.args["secret"], revoke=op.args["revoke"])
        self._keep(op.target, user, op.args["kept"])

    @method("users.delete", permission="cloudsql.users.delete", on=ONE, transaction=False)
    def delete_user(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, server = self._running(key)
        if not call.query.get("name"):
            raise missing("user")
        user = self._user_to_change(call, instance, server, call.query["name"])
        args = {"name": user.name, "host": user.host}
        return self._now(call, key, "DELETE_USER", CHANGE_USER, "drop_user", args)

    @job("drop_user")
    def drop_user(self, op: Op) -> None:
        name, host = op.args["name"], op.args["host"]
        with refused(f"Invalid request: failed to delete user {name}: . {{}}."):
            self._server(self._load(op.target)).drop_user(name, host)
        self.store.delete(USER, f"{op.target}/{host}/{name}")


def _kept(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Return what a request sets that the database server does not keep: the policy, and the time of the password."""
    policy = {"passwordPolicy": body["passwordPolicy"]} if "passwordPolicy" in body else {}
    return policy | ({"passwordTime": call.now} if "password" in body else {})


def _policy(kept: dict[str, Any]) -> dict[str, Any]:
    """Return a user's password policy with its status: when the password expires, if the policy sets a duration."""
    policy = kept.get("passwordPolicy", {})
    status = {}
    if "passwordExpirationDuration" in policy and "passwordTime" in kept:
        end = epoch(kept["passwordTime"]) + float(policy["passwordExpirationDuration"].rstrip("s"))
        status["passwordExpirationTime"] = timestamp(end)
    return {**policy, "status": status}


def _iam_email(user: User) -> str:
    service = user.kind == "CLOUD_IAM_SERVICE_ACCOUNT" and not user.name.endswith(SERVICE_ACCOUNT_SUFFIX)
    return user.name + (SERVICE_ACCOUNT_SUFFIX if service else "")
