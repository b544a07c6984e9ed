# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smallest set of predefined roles that holds given permissions, and the commands that grant it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment._predefined_roles import ROLES

CUSTOM_ROLE = "mlflowDeployer"
Offers = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class RoleSet:
    """Roles that hold permissions.

    roles      names of predefined roles, sorted
    uncovered  permissions that no predefined role holds, sorted: they need a custom role
    excess     number of permissions that the roles hold and that are not needed, counted once for each role
    """

    roles: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    excess: int = 0


def smallest(permissions: Iterable[str], granted: Iterable[str] = (), *, offers: Offers | None = None) -> RoleSet:
    """Return the fewest roles that hold the permissions; of these the ones with the least excess, then by name.

    :param granted: permissions that need no role any more.
    :param offers: role -> (number of its permissions, those that matter, separated by spaces); by default
        those of ``ROLES`` that belong to a service with a wanted permission.
    """
    wanted = frozenset(permissions) - frozenset(granted)
    if offers is None:
        services = {_service(permission) for permission in wanted}
        offers = {name: offer for name, offer in ROLES.items() if _service(name.removeprefix("roles/")) in services}
    useful = {}
    for name, (size, held) in sorted(offers.items()):
        covers = wanted & frozenset(held.split())
        if covers:
            useful[name] = (covers, size - len(covers))
    covered = frozenset().union(*(covers for covers, _excess in useful.values()))
    best = _Search(useful).run(covered)
    return RoleSet(best[2], tuple(sorted(wanted - covered)), best[1])


def _service(name: str) -> str:
    """Return the service of a permission, or of a role without ``roles/``."""
    return name.partition(".")[0]


class _Search:
    """Branch and bound: each step takes one role for the permission that the fewest roles hold."""

    def __init__(self, useful: Mapping[str, tuple[frozenset[str], int]]) -> None:
        self._useful = useful
        self._best: tuple[int, int, tuple[str, ...]] | None = None

    def run(self, wanted: frozenset[str]) -> tuple[int, int, tuple[str, ...]]:
        """Return (number of roles, excess, roles)."""
        self._extend(wanted, (), 0)
        # Without roles to choose from nothing is covered.
        return self._best or (0, 0, ())

    def _extend(self, left: frozenset[str], chosen: tuple[str, ...], excess: int) -> None:
        if not left:
            found = (len(chosen), excess, tuple(sorted(chosen)))
            if self._best is None or found < self._best:
                self._best = found
            return
        holders: dict[str, list[str]] = {permission: [] for permission in left}
        for name, (covers, _excess) in self._useful.items():
            for permission in covers & left:
                holders[permission].append(name)
        largest = max(len(covers & left) for covers, _excess in self._useful.values())
        at_least = len(chosen) + -(-len(left) // largest)
        if self._best is not None and (at_least, excess) > self._best[:2]:
            return
        rarest = min(left, key=lambda permission: (len(holders[permission]), permission))
        # The role that covers the most comes first: a good first answer prunes the rest.
        for name in sorted(holders[rarest], key=lambda name: (-len(self._useful[name][0] & left), name)):
            covers, more = self._useful[name]
            self._extend(left - covers, (*chosen, name), excess + more)


def member(email: str | None) -> str:
    """Return a caller as IAM policies name it; ``MEMBER`` where its address is not known."""
    if not email:
        return "MEMBER"
    return f"{'serviceAccount' if email.endswith('.gserviceaccount.com') else 'user'}:{email}"


def commands(project: str, member: str, role_set: RoleSet) -> list[str]:
    """Return the commands that grant the roles to a member of IAM policies, such as ``serviceAccount:EMAIL``."""
    lines = [_bind(project, member, role) for role in role_set.roles]
    if role_set.uncovered:
        lines += [
            shlex.join(
                [
                    *("gcloud", "iam", "roles", "create", CUSTOM_ROLE, f"--project={project}"),
                    "--title=MLflow deployer",
                    f"--permissions={','.join(role_set.uncovered)}",
                ]
            ),
            _bind(project, member, f"projects/{project}/roles/{CUSTOM_ROLE}"),
        ]
    return lines


def _bind(project: str, member: str, role: str) -> str:
    # Without a condition gcloud asks for one where the policy has conditions.
    command = ("gcloud", "projects", "add-iam-policy-binding", project)
    return shlex.join([*command, f"--member={member}", f"--role={role}", "--condition=None"])
