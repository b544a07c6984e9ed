# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role service_accounts."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="service_accounts",
    short_description="Service accounts and their impersonators",
    description=("Creates service accounts without keys. Programs use them by impersonation.",),
    registers=("service_accounts_managed",),
    variables=(
        _shared.state("Whether the accounts should exist.", "service_accounts"),
        Variable(
            "service_accounts_list",
            "list",
            ("The accounts.",),
            required=True,
            elements="dict",
            options=(
                Variable(
                    "account_id",
                    "str",
                    ("The part before the C(@) of the account's address, 6 to 30 characters.",),
                    required=True,
                    rule="account",
                ),
                Variable("display_name", "str", ("Name to show.",)),
                Variable("description", "str", ("Text to show, by default the owner's marks.",)),
                Variable(
                    "impersonators",
                    "list",
                    (
                        "The only members that can act as this account (C(roles/iam.serviceAccountTokenCreator) on"
                        " it).",
                        "Without it that policy is not managed.",
                    ),
                    elements="str",
                    rule="member",
                ),
            ),
        ),
        *_shared.ownership("service_accounts", "the accounts"),
    ),
)
