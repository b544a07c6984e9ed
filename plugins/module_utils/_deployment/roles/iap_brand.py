# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role iap_brand."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable

ROLE = RoleSpec(
    name="iap_brand",
    short_description="Identity-Aware Proxy in front of a service",
    description=(
        "Creates the service agent of Identity-Aware Proxy, sets the OAuth client that signs users in, and grants"
        " access.",
        "Without a custom client, Google's managed one is used. It serves members of the project's organization, and"
        " browsers only.",
        "Since March 2026 no API creates brands and clients. A custom client is made once in the console, and two"
        " secrets keep its id and its secret.",
    ),
    registers=("iap_brand_agent",),
    variables=(
        _shared.state(
            "V(absent) revokes all access to O(iap_brand_resource). The service agent is Google's and stays.",
            "iap_brand",
        ),
        Variable(
            "iap_brand_resource",
            "str",
            (
                "The protected resource in Identity-Aware Proxy's format, for example"
                " C(projects/123456789012/iap_web/cloud_run-europe-west1/services/demo-dev).",
                "If it is empty, only the service agent is managed.",
            ),
            default="",
            rule="iap_resource",
        ),
        Variable(
            "iap_brand_members",
            "list",
            ("The only members that have access.",),
            default=[],
            elements="str",
            rule="member",
        ),
        Variable(
            "iap_brand_client_id_secret",
            "str",
            ("Secret that holds the id of a custom OAuth client, C(projects/P/secrets/S).",),
            default="",
            no_log=False,
            rule="secret",
        ),
        Variable(
            "iap_brand_client_secret_secret",
            "str",
            ("Secret that holds the secret of that client.",),
            default="",
            no_log=False,
            rule="secret",
        ),
    ),
    entry_points=(
        EntryPoint(
            "identity",
            "Create the service agent alone",
            ("Creates the service agent of Identity-Aware Proxy and registers C(iap_brand_agent) with its C(email).",),
        ),
        EntryPoint(
            "access",
            "Manage access with an existing service agent",
            ("Sets the OAuth client and the members that have access to C(iap_brand_resource).",),
        ),
    ),
)
