# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role gcp_apis."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="gcp_apis",
    short_description="Enable the APIs of a project",
    description=("Enables the listed APIs, all in one request, and waits until they can be used.",),
    registers=("gcp_apis_managed",),
    variables=(
        _shared.state(
            "V(absent) disables the listed APIs. Other users of the project lose them too, so no other role of this"
            " collection disables one.",
            "gcp_apis",
        ),
        Variable(
            "gcp_apis_services",
            "list",
            ("Names of APIs, for example V(run.googleapis.com).",),
            default=[],
            elements="str",
            rule="api",
        ),
    ),
)
