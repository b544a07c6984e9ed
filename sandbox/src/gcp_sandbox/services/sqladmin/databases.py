# SPDX-License-Identifier: Apache-2.0
"""Databases of an instance. The answer to a change is sent when it is done, as the service does it."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.backends.sql import Database, Server
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.services.sqladmin import catalog, refusals
from gcp_sandbox.services.sqladmin.base import (
    ONE,
    Base,
    asked,
    etag,
    refused,
)
from gcp_sandbox.services.sqladmin.refusals import missing

CREATE_DATABASE, DELETE_DATABASE = 3, 2  # seconds on Google Cloud


class Databases(Base):
    """databases.*"""

    @method("databases.list", permission="cloudsql.databases.list", on=ONE, transaction=False)
    def list_databases(self, call: Call) -> dict[str, Any]:
        instance, server = self._running(self._key(call))
        items = [self._database(call, instance, item) for item in asked(server.databases)]
        return {"kind": "sql#databasesList", **({"items": items} if items else {})}

    @method("databases.get", permission="cloudsql.databases.get", on=ONE, transaction=False)
    def get_database(self, call: Call) -> dict[str, Any]:
        instance, server = self._running(self._key(call))
        return self._database(call, instance, self._find_database(server, call.params["database"]))

    @staticmethod
    def _find_database(server: Server, name: str) -> Database:
        found = next((item for item in asked(server.databases) if item.name == name), None)
        if found is None:
            raise refusals.not_found()
        return found

    def _database(self, call: Call, instance: dict[str, Any], database: Database) -> dict[str, Any]:
        key = f"{instance['project']}/{instance['name']}"
        body = {
            "kind": "sql#database",
            "charset": database.charset,
            "collation": database.collation,
            "instance": instance["name"],
            "name": database.name,
            "project": instance["project"],
            "selfLink": f"{self._link(call.version, key)}/databases/{database.name}",
        }
        return body | {"etag": etag(body)}

    @method("databases.insert", permission="cloudsql.databases.create", on=ONE, transaction=False)
    def insert_database(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, _ = self._running(key)
        name = call.body.get("name")
        if not name:
            raise missing("database")
        charset, collation = self._charset(instance, call.body)
        args = {"name": name, "charset": charset, "collation": collation}
        return self._now(call, key, "CREATE_DATABASE", CREATE_DATABASE, "create_database", args)

    @staticmethod
    def _charset(instance: dict[str, Any], body: dict[str, Any], old: Database | None = None) -> tuple[str, str]:
        """Return (charset, collation), with the engine's defaults for what is not said."""
        version = instance["databaseVersion"]
        if catalog.is_postgres(version):
            default = ("UTF8", "en_US.UTF8")
        elif catalog.is_mysql(version) and catalog.number(version) < (8,):
            default = ("utf8", "utf8_general_ci")
        elif catalog.is_mysql(version):
            default = ("utf8mb4", "utf8mb4_0900_ai_ci")
        else:
            default = ("", "SQL_Latin1_General_CP1_CI_AS")
        if old is not None:
            default = (old.charset, old.collation)
        charset = body.get("charset") or default[0]
        # Every MySQL character set's own default is named after it, but for the newest one's.
        own = default[1] if charset == default[0] or not catalog.is_mysql(version) else f"{charset}_general_ci"
        return charset, body.get("collation") or own

    @job("create_database")
    def create_database(self, op: Op) -> None:
        name = op.args["name"]
        instance = self._load(op.target)
        with refused(f"Invalid request: failed to create database {name}. Detail: {_driver(instance)}{{}}."):
            self._server(instance).create_database(name, op.args["charset"], op.args["collation"])

    @method("databases.update", permission="cloudsql.databases.update", on=ONE, transaction=False)
    @method("databases.patch", permission="cloudsql.databases.update", on=ONE, transaction=False)
    def update_database(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, server = self._running(key)
        old = self._find_database(server, call.params["database"])
        charset, collation = self._charset(instance, call.body, old)
        args = {"name": old.name, "charset": charset, "collation": collation}
        return self._now(call, key, "UPDATE_DATABASE", CREATE_DATABASE, "change_database", args)

    @job("change_database")
    def change_database(self, op: Op) -> None:
        name = op.args["name"]
        with refused(f"Invalid request: failed to update database {name}. Detail: {{}}."):
            self._server(self._load(op.target)).update_database(name, op.args["charset"], op.args["collation"])

    @method("databases.delete", permission="cloudsql.databases.delete", on=ONE, transaction=False)
    def delete_database(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        _, server = self._running(key)
        args = {"name": self._find_database(server, call.params["database"]).name}
        return self._now(call, key, "DELETE_DATABASE", DELETE_DATABASE, "drop_database", args)

    @job("drop_database")
    def drop_database(self, op: Op) -> None:
        name = op.args["name"]
        instance = self._load(op.target)
        with refused(f"Invalid request: failed to delete database {name}. Detail: {_driver(instance)}{{}}."):
            self._server(instance).drop_database(name)


def _driver(instance: dict[str, Any]) -> str:
    """What the service's driver for PostgreSQL says before the server's words; that for MySQL gives them alone."""
    return "pq: " if catalog.is_postgres(instance["databaseVersion"]) else ""
