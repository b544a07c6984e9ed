# SPDX-License-Identifier: Apache-2.0
"""An instance of an engine that the sandbox has no server for: SQL Server.

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


class Stored(Server):
    """Databases and users in the store, under the instance's connection name."""

    def __init__(self, store: Store, name: str, configuration: Configuration) -> None:
        self._store = store
        self._name = name
        self._configuration = configuration

    @property
    def installed_version(self) -> str:
        return self._configuration.version

    @staticmethod
    def hash_password(password: str) -> str:
        """Return nothing: no login is possible, so no password is kept."""
        return ""

    def create(self, secret: str | None) -> None:
        if self._store.get(KIND, self._name):
            return
        names = ("master", "model", "msdb", "tempdb")
        system = [{"name": name, "charset": "", "collation": "SQL_Latin1_General_CP1_CI_AS"} for name in names]
        users = [{"name": "sqlserver", "host": "", "kind": "BUILT_IN", "roles": []}]
        self._store.put(KIND, self._name, {"databases": system, "users": users})

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
                raise SqlError(f"database {name} exists")
            body["databases"].append({"name": name, "charset": charset, "collation": collation})
            self._store.put(KIND, self._name, body)

    def update_database(self, name: str, charset: str, collation: str) -> None:
        with self._store.transaction():
            body = self._load()
            for item in body["databases"]:
                if item["name"] == name:
                    item["collation"] = collation
                    break
            else:
                raise Missing(f"database {name} does not exist")
            self._store.put(KIND, self._name, body)

    def drop_database(self, name: str) -> None:
        self._remove("databases", lambda item: item["name"] == name, f"database {name} does not exist")

    def users(self) -> list[User]:
        return [User(**{**body, "roles": tuple(body["roles"])}) for body in self._load()["users"]]

    def create_user(self, user: User, secret: str | None) -> None:
        with self._store.transaction():
            body = self._load()
            if any((item["name"], item["host"]) == (user.name, user.host) for item in body["users"]):
                raise SqlError(f"user {user.name} exists")
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
                raise Missing(f"user {user.name} does not exist")
            self._store.put(KIND, self._name, body)

    def drop_user(self, name: str, host: str) -> None:
        self._remove(
            "users",
            lambda item: (item["name"], item["host"]) == (name, host),
            f"user {name} does not exist",
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
        """Accept every flag: only a server could check it."""
