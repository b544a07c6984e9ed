# SPDX-License-Identifier: Apache-2.0
"""What Cloud SQL asks of a database server, whatever its engine.

`Server` is the interface: one object an instance. backends/postgres.py serves PostgreSQL, backends/mariadb.py MySQL;
backends/stored.py stands in for SQL Server, which the sandbox has no server for: its databases and users are kept, and
there is nothing to connect to.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SqlError(Exception):
    """A server refused a request, or cannot be reached. The message is the server's own and is safe to show."""


class Missing(SqlError):
    """The database or user does not exist."""


class Stopped(SqlError):
    """The server is stopped: the instance's owner asked for that."""


@dataclass(frozen=True)
class Configuration:
    """How a server is to run.

    :param version: the Admin API's databaseVersion, e.g. "POSTGRES_16".
    :param connections: max_connections, unless the flags say otherwise.
    :param flags: database flags as the user set them.
    :param networks: CIDR ranges from which TCP connections are admitted; () refuses all of them.
    :param running: False for an instance that its owner has stopped.
    :param binary_log: whether a MySQL server writes its binary log.
    :param public: whether it has a public address.
    :param private_network: path of the network in which it has a private address, or "".
    """

    version: str
    connections: int = 100
    flags: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    running: bool = True
    binary_log: bool = False
    public: bool = True
    private_network: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "connections": self.connections,
            "flags": dict(self.flags),
            "networks": list(self.networks),
            "running": self.running,
            "binary_log": self.binary_log,
            "public": self.public,
            "private_network": self.private_network,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Configuration:
        return cls(**{**body, "networks": tuple(body["networks"])})


@dataclass(frozen=True)
class Database:
    """A database as the Admin API shows it."""

    name: str
    charset: str
    collation: str


@dataclass(frozen=True)
class User:
    """A database user. `kind` is the Admin API's user type; `roles` are the database roles it was given by name."""

    name: str
    host: str = ""
    kind: str = "BUILT_IN"
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """A database flag that an engine knows; `type` is the Admin API's SqlFlagType, bounds are inclusive."""

    name: str
    type: str
    restart: bool
    minimum: int | None = None
    maximum: int | None = None


class Server(abc.ABC):
    """The database server of one instance. Methods block until the work is done, and may be repeated after a crash."""

    @property
    @abc.abstractmethod
    def installed_version(self) -> str:
        """What really serves, in the Admin API's words, e.g. "POSTGRES_16_14"."""

    @staticmethod
    @abc.abstractmethod
    def hash_password(password: str) -> str:
        """Return the verifier of a password, which is stored in its place."""

    @abc.abstractmethod
    def create(self, secret: str | None) -> None:
        """Make and start the server; `secret` is the administrator's, concealed. Does nothing when that was done."""

    @abc.abstractmethod
    def configure(self, configuration: Configuration) -> None:
        """Apply a configuration; restarts only where a change needs it. On SqlError the previous one is in force."""

    @abc.abstractmethod
    def restart(self) -> None: ...

    @abc.abstractmethod
    def destroy(self) -> None:
        """Stop the server and remove its data."""

    @abc.abstractmethod
    def databases(self) -> list[Database]: ...

    @abc.abstractmethod
    def create_database(self, name: str, charset: str, collation: str) -> None: ...

    @abc.abstractmethod
    def update_database(self, name: str, charset: str, collation: str) -> None: ...

    @abc.abstractmethod
    def drop_database(self, name: str) -> None: ...

    @abc.abstractmethod
    def users(self) -> list[User]: ...

    @abc.abstractmethod
    def create_user(self, user: User, secret: str | None) -> None:
        """Make a user; without a (concealed) `secret` it cannot log in by password."""

    @abc.abstractmethod
    def update_user(self, user: User, secret: str | None, *, revoke: bool = False) -> None:
        """Set the password where a `secret` is given and grant `user.roles`; `revoke` takes all other roles away."""

    @abc.abstractmethod
    def drop_user(self, name: str, host: str) -> None: ...

    @abc.abstractmethod
    def backup(self, folder: Path) -> int:
        """Write a backup into `folder`, which this makes, and return its size in bytes."""

    @abc.abstractmethod
    def restore(self, folder: Path) -> None:
        """Replace all data by those of a backup."""

    @classmethod
    @abc.abstractmethod
    def flags(cls, version: str) -> dict[str, Flag] | None:
        """Return the flags this engine knows, by name; None when they are unknown."""

    @classmethod
    @abc.abstractmethod
    def check_flag(cls, version: str, name: str, value: str) -> None:
        """SqlError when the engine would not take the value."""
