# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of all roles: what is known about a name."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import (
    bucket,
    cloudsql,
    gcp,
    gcp_apis,
    gcp_data_plane,
    iap_brand,
    mlflow,
    mlflow_image,
    mlflow_verify,
    preflight,
    secrets,
    service_accounts,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS

__all__ = [
    "ROLES",
    "RoleSpec",
    "Variable",
    "all_variables",
    "describe",
    "nearest",
    "prefixes",
    "replaced",
    "target_of",
    "unknown",
]

# In the order in which the documentation lists them.
ROLES: Mapping[str, RoleSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            gcp.ROLE,
            mlflow.ROLE,
            *(target.spec for target in TARGETS.values()),
            gcp_data_plane.ROLE,
            preflight.ROLE,
            gcp_apis.ROLE,
            cloudsql.ROLE,
            mlflow_image.ROLE,
            service_accounts.ROLE,
            bucket.ROLE,
            secrets.ROLE,
            iap_brand.ROLE,
            mlflow_verify.ROLE,
        )
    }
)
# Names that begin like ours and belong to the collection google.cloud; its users may have set them.
_FOREIGN = ("gcp_zone", "gcp_scopes", "gcp_env_type")
# The action plugin of the modules reads it; see plugins/plugin_utils/controller.py.
_OF_MODULES = ("gcp_in_controller",)


@functools.cache
def all_variables() -> Mapping[str, Variable]:
    """Return every variable of every role by name."""
    return MappingProxyType({variable.name: variable for role in ROLES.values() for variable in role.variables})


def describe(name: str) -> Variable | None:
    """Return the description of a variable; None for a name that no role knows."""
    return all_variables().get(name)


@functools.cache
def replaced() -> Mapping[str, Variable]:
    """Return the variables that replace an older name, by that name."""
    return MappingProxyType({old: variable for variable in all_variables().values() for old in variable.replaces})


def target_of(name: str) -> str:
    """Return the target that a name belongs to by its prefix; "" for one that all targets share."""
    return next((role.target for role in ROLES.values() if role.target and name.startswith(f"{role.name}_")), "")


@functools.cache
def prefixes() -> tuple[str, ...]:
    """Return the prefixes of the variables, one a role."""
    return tuple(f"{name}_" for name in ROLES)


@functools.cache
def _names() -> frozenset[str]:
    registered = (name for role in ROLES.values() for name in role.registers)
    return frozenset((*all_variables(), *replaced(), *registered, *_FOREIGN, *_OF_MODULES))


def nearest(name: str) -> str | None:
    """Return the known name that is most like this one; None if none is alike."""
    known = (*all_variables(), *replaced(), *_OF_MODULES)
    return next(iter(difflib.get_close_matches(str(name), known, n=1, cutoff=0.75)), None)


def unknown(names: Iterable[object]) -> list[Problem]:
    """Return a problem for each name that has one of our prefixes and that no role knows."""
    found = []
    for name in sorted({str(name) for name in names if isinstance(name, str)}):
        if not name.startswith(prefixes()) or name in _names():
            continue
        like = nearest(name)
        found.append(
            Problem(
                name,
                f"{name} is set, and no role of the collection has a variable of this name.",
                f"Did you mean {like}? Otherwise remove it." if like else "Remove it; docs/variables.md lists all.",
            )
        )
    return found
