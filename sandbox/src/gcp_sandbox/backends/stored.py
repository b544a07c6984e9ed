# SPDX-License-Identifier: Apache-2.0
"""An instance whose engine the sandbox has no server for: MySQL and SQL Server.

The Admin API answers for it as for any other; databases and users are kept in the store. Nothing listens: a connection
through a mounted socket is refused, and the reason is logged.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.sql import Configuration, Database, Flag, Missing, Server, SqlError, User

if TYPE_CHECKING:
    from gcp_sandbox.store import Store

KIND = "sql.stored"

# databaseVersion -> what Cloud SQL installs for it.
INSTALLED = {
    "MYSQL_5_6": "MYSQL_5_6_51",
    "MYSQL_5_7": "MYSQL_5_7_44",
    "MYSQL_8_0": "MYSQL_8_0_41",
    "MYSQL_8_4": "MYSQL_8_4_7",
}


class Stored(Server):
    """Databases and users in the store, under the instance's connection name."""

    def __init__(self, store: Store, name: str, configuration: Configuration) -> None:
        self._store = store
        self._name = name
        self._configuration = configuration

    @property
    def installed_version(self) -> str:
        version = self._configuration.version
        return INSTALLED.get(version, version)

    @staticmethod
    def conceal(password: str) -> str:
        """Nothing: nobody can log in, so no password is kept."""
        return ""

    def create(self, secret: str | None) -> None:
        if self._store.get(KIND, self._name):
            return
        system = [
            {"name": n, "charset": "utf8mb4", "collation": "utf8mb4_0900_ai_ci"} for n in self._system_databases()
        ]
        name, host = ("root", "%") if self._mysql else ("sqlserver", "")
        users = [{"name": name, "host": host, "kind": "BUILT_IN", "roles": []}]
        self._store.put(KIND, self._name, {"databases": system, "users": users})

    @property
    def _mysql(self) -> bool:
        return self._configuration.version.startswith("MYSQL_")

    def _system_databases(self) -> tuple[str, ...]:
        if self._mysql:
            return ("information_schema", "mysql", "performance_schema", "sys")
        return ("master", "model", "msdb", "tempdb")

    def configure(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def restart(self) -> None:
        """There is nothing to restart."""

    def destroy(self) -> None:
        self._store.delete(KIND, self._name)

    def _load(self) -> dict[str, Any]:
        return self._store.get(KIND, self._name) or {"databases": [], "users": []}

    def databases(self) -> list[Database]:
        return [Database(**body) for body in self._load()["databases"]]

    def create_database(self, name: str, charset: str, collation: str) -> None:
        with self._store.transaction():
            body = self._load()
            if any(item["name"] == name for item in body["databases"]):
                raise SqlError(f"Can't create database '{name}'; database exists")
            body["databases"].append({"name": name, "charset": charset, "collation": collation})
            self._store.put(KIND, self._name, body)

    def update_database(self, name: str, charset: str, collation: str) -> None:
        """Change the collation. Cloud SQL for MySQL leaves the character set as it is, whatever was sent (recorded)."""
        with self._store.transaction():
            body = self._load()
            for item in body["databases"]:
                if item["name"] == name:
                    item["collation"] = collation
                    break
            else:
                raise Missing(f"Unknown database '{name}'")
            self._store.put(KIND, self._name, body)

    def drop_database(self, name: str) -> None:
        self._remove(
            "databases", lambda item: item["name"] == name, f"Can't drop database '{name}'; database doesn't exist"
        )

    def users(self) -> list[User]:
        return [User(**{**body, "roles": tuple(body["roles"])}) for body in self._load()["users"]]

    def create_user(self, user: User, secret: str | None) -> None:
        with self._store.transaction():
            body = self._load()
            if any((item["name"], item["host"]) == (user.name, user.host) for item in body["users"]):
                raise SqlError(f"Operation CREATE USER failed for '{user.name}'@'{user.host}'")
            body["users"].append({"name": user.name, "host": user.host, "kind": user.kind, "roles": list(user.roles)})
            self._store.put(KIND, self._name, body)

    def update_user(self, user: User, secret: str | None, *, revoke: bool = False) -> None:
        with self._store.transaction():
            body = self._load()
            for item in body["users"]:
                if (item["name"], item["host"]) == (user.name, user.host):
                    kept = [] if revoke else item["roles"]
                    item["roles"] = sorted({*kept, *user.roles})
                    break
            else:
                raise Missing(f"There is no such user: '{user.name}'@'{user.host}'")
            self._store.put(KIND, self._name, body)

    def drop_user(self, name: str, host: str) -> None:
        self._remove(
            "users",
            lambda item: (item["name"], item["host"]) == (name, host),
            f"Operation DROP USER failed for '{name}'@'{host}'",
        )

    def _remove(self, what: str, chosen: Any, message: str) -> None:
        with self._store.transaction():
            body = self._load()
            kept = [item for item in body[what] if not chosen(item)]
            if len(kept) == len(body[what]):
                raise Missing(message)
            self._store.put(KIND, self._name, {**body, what: kept})

    def backup(self, folder: Path) -> int:
        """There is nothing to keep: the databases hold nothing."""
        return 0

    def restore(self, folder: Path) -> None:
        """There is nothing to restore."""

    @classmethod
    def flags(cls, version: str) -> dict[str, Flag] | None:
        return None

    @classmethod
    def check_flag(cls, version: str, name: str, value: str) -> None:
        """Without a server nobody can tell: every flag is taken."""
