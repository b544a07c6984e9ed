# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All kinds by their type, the word that options and results use."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import (
    accounts,
    appengine,
    compute,
    kms,
    project,
    registry,
    run,
    secretmanager,
    sql,
    storage,
)

KINDS = {
    name: kind
    for service in (project, accounts, storage, secretmanager, sql, registry, run, appengine, compute, kms)
    for name, kind in service.KINDS.items()
}


def policy_name(remote):
    """Return the full resource name by which the IAM policy of a resource is found."""
    kind = next(kind for kind in KINDS.values() if kind.policy and kind.resource.path == remote.resource.path)
    return kind.policy_name("policy", remote.names)


def find(task, full_name):
    """Return the ``Remote`` of the resource with a full resource name; None for what the catalogue does not have."""
    for kind in KINDS.values():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(kind.policy))
        match = re.fullmatch(pattern, full_name) if kind.policy else None
        if match:
            return task.remote(kind.resource, **match.groupdict())
    return None
