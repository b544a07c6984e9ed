# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VPC networks and subnetworks.

Sources: https://cloud.google.com/compute/docs/naming-resources, https://cloud.google.com/sql/docs/postgres/private-ip,
https://cloud.google.com/run/docs/configuring/vpc-direct-vpc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Rule, like

_NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_PROJECT = r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
_NETWORK = re.compile(rf"({_NAME}|projects/(?P<project>{_PROJECT})/global/networks/{_NAME})")
_SUBNETWORK = re.compile(
    rf"({_NAME}|projects/(?P<project>{_PROJECT})/regions/(?P<region>[a-z0-9-]{{1,63}})/subnetworks/{_NAME})"
)
# They are settings of an address in a network.
_PRIVATE = ("cloudsql_allocated_ip_range", "cloudsql_private_path", "cloudsql_psc_projects")


def check(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what does not go together, where each value is one by itself."""
    if not values.get("cloudsql_private_network"):
        for name in _PRIVATE:
            if values.get(name):
                yield Problem(
                    name,
                    f"{name} is set, and without cloudsql_private_network the instance gets no private address.",
                    f"Set cloudsql_private_network, or remove {name}.",
                )
    yield from _subnetwork(values)


def _subnetwork(values: Mapping[str, Any]) -> Iterator[Problem]:
    network = values.get("mlflow_network") or values.get("cloudsql_private_network") or ""
    for name in ("mlflow_subnetwork", "mlflow_network_egress"):
        if values.get(name) and not network:
            yield Problem(name, f"{name} is set, and no network is.", f"Set mlflow_network, or remove {name}.")
    path = values.get("mlflow_subnetwork") or ""
    found, host = _SUBNETWORK.fullmatch(path), _NETWORK.fullmatch(network)
    if not found or not found["region"] or not host:
        return
    project, region, host = found["project"], found["region"], host["project"] or values.get("gcp_project")
    if project != host:
        yield Problem(
            "mlflow_subnetwork",
            f"mlflow_subnetwork is {path} in the project {project}, and its network is in {host}.",
            "Name a subnetwork of that network.",
        )
    if region != values.get("gcp_region"):
        yield Problem(
            "mlflow_subnetwork",
            f"mlflow_subnetwork is {path} in {region}, and the server and the migration run in"
            f" {values.get('gcp_region')}.",
            "Name a subnetwork in that region.",
        )


RULES: Mapping[str, Rule] = {
    "vpc_network": like(
        _NETWORK.pattern,
        "which is not a VPC network",
        "Set it to the name of a network of the project, or to projects/HOST_PROJECT/global/networks/NAME for one of"
        " a Shared VPC.",
    ),
    "vpc_subnetwork": like(
        _SUBNETWORK.pattern,
        "which is not a subnetwork",
        "Set it to the name of a subnetwork, or to projects/HOST_PROJECT/regions/REGION/subnetworks/NAME.",
    ),
    "ip_range": like(
        _NAME,
        "which is not the name of an allocated range of addresses",
        "`gcloud compute addresses list --global --filter=purpose=VPC_PEERING` lists them.",
    ),
}
