# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What exists: the answers of Google Cloud that a deployment depends on, in the form that preflight reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Location of a resource that may be in any.
ANYWHERE = "*"
#: Relations of a resource in ``mlflow_ownership``.
MANAGED, ADOPTED, USED = "managed", "adopted", "used"


# Checks that must succeed before a deployment starts.
_ESSENTIAL = frozenset(("project", "permissions", "organization", "references"))


@dataclass(frozen=True)
class Existing:
    """Known data of the project.

    known      whether Google Cloud was queried
    number     number of the project, or an empty string
    caller     member of the deployer, or an empty string
    incomplete whether some questions could not be answered because an API is disabled
    enabled    APIs that are enabled
    disabled   APIs that this deployment needs and that are disabled
    resources  (type, name) -> what preflight reports of a resource that exists
    """

    known: bool = False
    incomplete: bool = False
    number: str = ""
    caller: str = ""
    enabled: frozenset[str] = frozenset()
    disabled: tuple[str, ...] = ()
    resources: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_report(cls, report: Mapping[str, Any] | None) -> Existing:
        """Return the part of a report of ``preflight_info`` that decisions depend on."""
        if not report or "resources" not in report:
            return cls()
        services = report.get("services") or {}
        return cls(
            known=True,
            incomplete=not _ESSENTIAL.isdisjoint(report.get("unanswered") or ()),
            number=str((report.get("project") or {}).get("number") or ""),
            caller=str((report.get("caller") or {}).get("member") or ""),
            enabled=frozenset(services.get("enabled") or ()),
            disabled=tuple(services.get("disabled") or ()),
            resources={(item["type"], item["name"]): item for item in report.get("resources") or () if item["exists"]},
        )

    def resource(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Return what exists under a name, or None."""
        return self.resources.get((kind, name))

    def usable_secret(self, name: str) -> str:
        """Return the newest enabled version of a secret with a disabled or destroyed latest one, else the name.

        :param name: full name of a secret or of a version.
        """
        version = name if "/versions/" in name else f"{name}/versions/latest"
        return str((self.resource("secret_version", version) or {}).get("usable") or name)

    def owned(self, kind: str, name: str) -> bool:
        """Whether a resource exists and carries the mark of the deployment."""
        return bool((self.resource(kind, name) or {}).get("owned"))

    def foreign(self, kind: str, name: str) -> bool:
        """Whether a resource exists and does not carry the mark of the deployment."""
        found = self.resource(kind, name)
        return found is not None and not found.get("owned")


@dataclass(frozen=True)
class Made:
    """Resources that a run has created or found before the server starts; empty values are not known yet.

    image            image of the server with its digest
    password_version version of the database password's secret that the database has, a full name
    secret_versions  id of a secret -> full name of its version
    hostname         default host name of the App Engine application
    """

    image: str = ""
    password_version: str = ""
    secret_versions: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""

    @classmethod
    def from_results(cls, made: Mapping[str, Any] | None, user: str) -> Made:
        """Return what the results of modules say.

        :param user: name of MLflow's user in the database.
        """
        made = made or {}
        users = {item.get("name"): item.get("password_version") for item in made.get("users") or ()}
        secrets = {item.get("name"): item.get("version") for item in made.get("secrets") or ()}
        return cls(
            image=str(made.get("image") or ""),
            password_version=str(users.get(user) or ""),
            secret_versions={name: version for name, version in secrets.items() if name and version},
            hostname=str(made.get("hostname") or ""),
        )
