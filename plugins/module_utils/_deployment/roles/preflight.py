# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role preflight."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable

ROLE = RoleSpec(
    name="preflight",
    short_description="Report in one pass, before any change, what would fail later",
    description=(
        "Queries Google Cloud, changes nothing, and lists all problems with the remedy of each.",
        "Registers C(preflight_report), the result of M(mlplatform.gcp.preflight_info).",
    ),
    registers=("preflight_report",),
    variables=(
        Variable(
            "preflight_services",
            "list",
            ("APIs to be enabled.",),
            default=[],
            elements="str",
            rule="api",
        ),
        Variable(
            "preflight_other_services",
            "list",
            ("APIs to report that are not required.",),
            default=[],
            elements="str",
            rule="api",
        ),
        Variable(
            "preflight_permissions",
            "list",
            ("Permissions on the project that are required.",),
            default=[],
            elements="str",
            rule="permission",
        ),
        Variable(
            "preflight_resources",
            "list",
            ("Resources to be created, which may exist.",),
            default=[],
            elements="dict",
            options=(
                Variable(
                    "type",
                    "str",
                    ("One of the types that M(mlplatform.gcp.preflight_info) knows.",),
                    required=True,
                ),
                Variable("name", "str", ("Name of the resource.",), required=True),
                Variable("location", "str", ("Location that the resource must have.",)),
                Variable("adopt", "bool", ("Whether it may belong to another owner.",)),
                Variable("read", "list", ("What to read of it besides, such as its V(policy).",), elements="str"),
                Variable("host", "str", ("The host of a database user of MySQL.",)),
                Variable("referenced_by", "str", ("The variable that refers to it, so that it must exist.",)),
                Variable("readers", "list", ("Members that must be able to read it then.",), elements="str"),
            ),
        ),
        Variable(
            "preflight_principals",
            "list",
            ("Service accounts, as members of policies, that must exist.",),
            default=[],
            elements="str",
            rule="member",
        ),
        Variable(
            "preflight_organization",
            "bool",
            ("Whether the project must belong to an organization, which Google's managed OAuth client requires.",),
            default=False,
        ),
        *_shared.ownership("preflight", "the resources"),
    ),
    entry_points=(
        EntryPoint(
            "ask",
            "Gather information without judging it",
            (
                "Registers C(preflight_report), the result of M(mlplatform.gcp.preflight_info), and leaves its problems"
                " to the caller.",
            ),
        ),
    ),
)
