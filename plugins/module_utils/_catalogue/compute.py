# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compute Engine: networks and subnetworks, which are only read."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

BASE = "https://compute.googleapis.com/compute/v1"
# The peering that private services access makes: https://cloud.google.com/vpc/docs/private-services-access
_PRIVATE_SERVICES = "servicenetworking-googleapis-com"

NETWORK = Resource(
    kind="VPC network",
    base=BASE,
    path="projects/{project}/global/networks/{name}",
    permission="compute.networks",
    update=None,
)

SUBNETWORK = Resource(
    kind="subnetwork",
    base=BASE,
    path="projects/{project}/regions/{location}/subnetworks/{name}",
    permission="compute.subnetworks",
    update=None,
)


def relative(link):
    """Return the path in a link to a resource: what follows the version of the API, without a slash."""
    return None if link is None else link.rpartition("/compute/v1/")[2].lstrip("/")


def _network_names(project, name, location):
    _projects, host, _global, _networks, last = name.split("/")
    return {"project": host, "name": last}


def _subnetwork_names(project, name, location):
    _projects, host, _regions, region, _subnetworks, last = name.split("/")
    return {"project": host, "location": region, "name": last}


def _network_facts(remote, body):
    peerings = {item["name"]: item.get("state") for item in body.get("peerings") or []}
    return {"private_services": peerings.get(_PRIVATE_SERVICES) == "ACTIVE"}


def _subnetwork_facts(remote, body):
    access = body.get("privateIpGoogleAccess", False)
    return {"network": relative(body.get("network")), "private_google_access": access}


KINDS = {
    "network": Kind(NETWORK, names=_network_names, facts=_network_facts, shared=True),
    "subnetwork": Kind(
        SUBNETWORK,
        names=_subnetwork_names,
        facts=_subnetwork_facts,
        shared=True,
        governed="//compute.googleapis.com/projects/{project}/regions/{location}/subnetworks/{name}",
        readers=(
            *(f"roles/compute.{name}" for name in ("networkUser", "networkAdmin", "admin")),
            *("roles/editor", "roles/owner"),
        ),
    ),
}
