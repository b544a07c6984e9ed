# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables that several building blocks have."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import Variable


def state(description: str, prefix: str) -> Variable:
    """Return the variable that says whether a role's resources exist."""
    return Variable(f"{prefix}_state", "str", (description,), default="present", choices=("present", "absent"))


def ownership(prefix: str, things: str) -> tuple[Variable, Variable]:
    """Return the variables for the owner of a role's resources."""
    return (
        Variable(
            f"{prefix}_owner",
            "dict",
            (
                f"Labels that mark {things} as belonging to one owner. "
                "Resources with other marks are neither changed nor deleted.",
                "Empty sets no marks and checks none.",
            ),
            default={},
            elements="str",
            rule="owner",
        ),
        Variable(
            f"{prefix}_adopt",
            "bool",
            (
                f"Whether to change {things} that exist without the marks of the owner.",
                "They keep their labels, values and the rights of others.",
            ),
            default=False,
        ),
    )


ROLE = Variable("role", "str", ("The role, for example V(roles/storage.objectViewer).",), required=True, rule="role")
MEMBERS = Variable(
    "members", "list", ("The members that have the role.",), elements="str", required=True, rule="policy_member"
)
BINDING = (ROLE, MEMBERS)

NETWORK = (
    Variable("name", "str", ("Name of the network.",), required=True),
    Variable(
        "value", "str", ("The network in CIDR notation, for example V(203.0.113.0/24).",), required=True, rule="network"
    ),
)
