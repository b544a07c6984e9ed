# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a target contributes to the model. Each target is one file beside this one and one entry in the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context, NewResources
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.permissions import Table
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.sizing import POOLS, Sizing
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec

Item = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """The server of a deployment on its target.

    url        its address, with the prefix
    hosts      host names under which it answers
    env        its environment
    secret_env variable -> full name of a secret's version
    options    what only this target has, as its role reads it
    report     lines for the end of a deployment: (title, text)
    grants     roles that only this target grants, as ``grants.grant`` returns them
    unreachable  why a controller in any network cannot reach the address, or an empty string
    prefix     path that it serves everything below, or an empty string
    """

    url: str
    hosts: list[str]
    env: dict[str, Any]
    secret_env: dict[str, str]
    options: dict[str, Any]
    report: list[tuple[str, str]] = field(default_factory=list)
    unreachable: str = ""
    grants: list[Item] = field(default_factory=list)
    prefix: str = ""


@dataclass(frozen=True)
class Removal:
    """The server of a deployment when it is removed.

    exists   whether there is something to remove
    options  what only this target has, as its role reads it
    report   lines for the end of a removal
    """

    exists: bool
    options: dict[str, Any]
    report: list[str] = field(default_factory=list)


def _nothing(context: Context) -> list[Any]:
    return []


@dataclass(frozen=True)
class Target:
    """How MLflow runs.

    spec         its role, with the entry points run, access, verify, status, restart, retire and absent
    title        for people
    api          API without which no server of this target can exist
    services     further APIs that it needs
    permissions  what the deployer needs
    google       whether the database, the bucket and the secrets are Google's
    instances    (minimum, maximum) of servers, where the variables do not say
    new          region -> what is created where no variable says otherwise
    server       (context, artifact URI, sizing) -> the server
    removal      context -> the server when it is removed
    resources    context -> resources to check for existence, as ``preflight_info`` takes them
    check        values -> problems with their combination on the target
    derived      context -> names that the target derives, by the variable that replaces each
    problems     (context, sizing) -> what would fail in view of what exists
    bindings     context -> further roles on the bucket of artifacts
    clients      context -> further members that may connect to the database
    kms_key      variable that names the key of the server; "" on a target without customer-managed keys
    agents       members that place its instances in a network, with ``{number}`` of the project
    pullers      context -> members besides Cloud Run's service agent that pull the image
    mounts_secrets whether the platform passes secrets to the server; otherwise the image reads them by name
    request_mib  largest request that its front end passes on, in MiB; 0 for no limit
    response_mib largest response that its front end passes on, unless it is sent without a length; 0 for no limit
    """

    spec: RoleSpec
    title: str
    api: str
    permissions: Table
    new: Callable[[str], NewResources]
    server: Callable[[Context, str, Sizing], Server]
    removal: Callable[[Context], Removal]
    resources: Callable[[Context], list[Item]]
    check: Callable[[Mapping[str, Any]], Iterable[Problem]]
    derived: Callable[[Context], dict[str, str]]
    problems: Callable[[Context, Sizing], list[Problem]]
    services: tuple[str, ...] = ()
    instances: tuple[int, int] = (1, 1)
    google: bool = True
    kms_key: str = ""
    bindings: Callable[[Context], list[Item]] = _nothing
    clients: Callable[[Context], list[str]] = _nothing
    agents: tuple[str, ...] = ()
    pullers: Callable[[Context], list[str]] = _nothing
    mounts_secrets: bool = True
    request_mib: int = 0
    response_mib: int = 0

    @property
    def name(self) -> str:
        """Return the value of ``mlflow_target``."""
        return self.spec.target

    @property
    def role(self) -> str:
        """Return the full name of the role."""
        return f"mlplatform.gcp.{self.spec.name}"


def closed(context: Context, variable: str, everywhere: str) -> str:
    """Return why a server with an ingress variable cannot be reached from any network, or an empty string."""
    given = context[variable]
    return "" if given == everywhere else f"{variable} is {given}"


def number(value: Any, default: int) -> int:
    """Return a variable that has a default of the target."""
    return default if value is None else int(value)


def not_enough_connections(sizing: Sizing, tier: str, fewer: str) -> list[Problem]:
    """Return the problem that servers can open more connections than the database accepts, if so.

    :param fewer: variable that says how many servers run at most.
    """
    if sizing.fits:
        return []
    pool = sizing.size + sizing.overflow
    fitting = f" to {sizing.fitting_instances}" if sizing.fitting_instances else ""
    one = sizing.workers * POOLS * pool
    advice = (
        f"Choose a larger mlflow_database_tier, raise max_connections in cloudsql_flags, or lower {fewer}{fitting}."
    )
    variable = fewer
    if not sizing.fitting_instances and sizing.workers > 1:
        variable = "mlflow_workers"
        advice = (
            f"One server alone can open {one} connections. Lower mlflow_workers (one a CPU is enough), or choose a"
            " larger mlflow_database_tier."
        )
    return [
        Problem(
            variable,
            f"{sizing.instances} instances with {sizing.workers} workers of {POOLS} pools with {pool} connections can"
            f" open {sizing.needed} connections. The database ({tier}) accepts {sizing.limit}, and keeps"
            f" {sizing.limit - sizing.usable} for itself and for the migration.",
            advice,
        )
    ]


def merged_env(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return environments merged; later ones win."""
    found: dict[str, Any] = {}
    for part in parts:
        found.update(part)
    return found
