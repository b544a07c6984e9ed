# SPDX-License-Identifier: Apache-2.0
"""Predefined roles and what they permit, read from roles.toml (which says where that comes from)."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("roles.toml")

#: What methods ask for -> the name of the same permission in roles.
SYNONYMS = {
    f"artifactregistry.dockerImages.{verb}": f"artifactregistry.dockerimages.{verb}" for verb in ("get", "list")
}

#: Roles that conditions cannot be set on.
BASIC = ("roles/owner", "roles/editor", "roles/viewer")


@dataclass(frozen=True)
class Role:
    """A predefined role; `permissions` are those that the sandbox knows."""

    name: str
    title: str
    permissions: frozenset[str]


class Roles:
    """All roles of the data file, by name ("roles/run.invoker")."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._services: dict[str, dict[str, Any]] = document["services"]
        self._elsewhere = frozenset(document["elsewhere"].split())
        self._definitions: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        for service in self._services.values():
            self._definitions |= service.get("groups", {})
            self._define(service.get("roles", {}))
        self._define(document["basic"])
        self._expanded: dict[str, frozenset[str]] = {}

    @classmethod
    def load(cls) -> Roles:
        """Return the roles of roles.toml."""
        with FILE.open("rb") as file:
            return cls(tomllib.load(file))

    def extended(self, service: str, permissions: str, roles: Mapping[str, tuple[str, str]]) -> Roles:
        """Return these roles and those of one more service, with permissions and roles as in roles.toml."""
        section = {"permissions": permissions, "roles": {name: list(role) for name, role in roles.items()}}
        return Roles({**self._document, "services": {**self._services, service: section}})

    @cached_property
    def all_permissions(self) -> frozenset[str]:
        """Every permission that the sandbox knows."""
        found = set()
        for name, service in self._services.items():
            for line in service["permissions"].strip().splitlines():
                resource, _, verbs = line.partition(":")
                found |= {f"{name}.{resource}.{verb}" for verb in verbs.split()}
        return frozenset(found)

    def names(self) -> list[str]:
        """Return the names of all roles with permissions, sorted."""
        return sorted(f"roles/{name}" for name in self._titles)

    def get(self, name: str) -> Role | None:
        """Return the role, or None where the sandbox does not know its permissions."""
        short = name.removeprefix("roles/")
        if short not in self._titles or not name.startswith("roles/"):
            return None
        return Role(name, self._titles[short], self._expand(short))

    def permissions(self, name: str) -> frozenset[str]:
        """What a role permits; nothing for a role that the sandbox does not know."""
        role = self.get(name)
        return role.permissions if role else frozenset()

    def exists(self, name: str) -> bool:
        """Return whether Google has such a predefined role.

        For services that roles.toml covers in full this is certain; of a service that it covers in part or names alone,
        every role is taken to exist.
        """
        if not name.startswith("roles/"):
            return False  # custom roles: none can be made here
        short = name.removeprefix("roles/")
        if short in self._titles:
            return True
        service, _, rest = short.partition(".")
        if not rest:
            return False
        known = self._services.get(service)
        if known is None:
            return service in self._elsewhere
        return known.get("partial", False) or rest in known.get("other", "").split()

    def _define(self, roles: dict[str, list[str]]) -> None:
        for name, (title, permissions) in roles.items():
            self._titles[name] = title
            self._definitions[name] = permissions

    def _expand(self, name: str) -> frozenset[str]:
        """Terms apply from left to right, so that a permission can be added again after it was removed."""
        if name not in self._expanded:
            found: set[str] = set()
            for term in self._definitions[name].split():
                if term.startswith("@"):
                    found |= self._expand(term[1:])
                elif term.startswith("-"):
                    found -= self._match(term[1:])
                else:
                    found |= self._match(term)
            self._expanded[name] = frozenset(found)
        return self._expanded[name]

    def _match(self, pattern: str) -> set[str]:
        if "*" not in pattern:
            return {pattern} & self.all_permissions
        regex = re.compile(fnmatch.translate(pattern))
        return {permission for permission in self.all_permissions if regex.match(permission)}


ROLES = Roles.load()
