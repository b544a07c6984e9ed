# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one description of every role: its variables and entry points, one file a role."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import (
    appengine_mlflow,
    bucket,
    cloudrun_mlflow,
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
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec

# In the order in which the documentation lists them.
ROLES: Mapping[str, RoleSpec] = MappingProxyType(
    {
        module.ROLE.name: module.ROLE
        for module in (
            gcp,
            mlflow,
            cloudrun_mlflow,
            appengine_mlflow,
            gcp_data_plane,
            preflight,
            gcp_apis,
            cloudsql,
            mlflow_image,
            service_accounts,
            bucket,
            secrets,
            iap_brand,
            mlflow_verify,
        )
    }
)
