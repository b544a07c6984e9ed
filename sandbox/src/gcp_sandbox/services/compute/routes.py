# SPDX-License-Identifier: Apache-2.0
"""routes.*: those that a network has by itself, to the internet and to its subnetworks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.compute import refusals
from gcp_sandbox.services.compute.base import LINK, NETWORK, PARTIAL, PROJECT, Body
from gcp_sandbox.services.compute.networks import Networks

ROUTE = "compute.route"


class Routes(Networks):
    """routes.*; they follow from the networks and are not stored."""

    @method("routes.get", permission="compute.routes.get", on="projects/{project}/global/routes/{route}")
    def get_route(self, call: Call) -> Body:
        project, wanted = call.project(call.params["project"]).id, call.params["route"]
        for route in self._routes(project):
            if wanted in (route["name"], route["id"]):
                return route
        raise refusals.not_found(f"projects/{project}/global/routes/{wanted}")

    @method("routes.list", permission="compute.routes.list", on=PROJECT, ignores=PARTIAL)
    def list_routes(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        return self._listed(call, ROUTE, f"projects/{project}/global/routes", list(self._routes(project)))

    def _routes(self, project: str) -> Iterator[Body]:
        """Yield the routes of a project's networks (cloud.google.com/vpc/docs/routes#types_of_routes)."""
        for path, network in self.store.list(NETWORK, parent=f"projects/{project}/global/networks"):
            gateway = f"{LINK}projects/{project}/global/gateways/default-internet-gateway"
            yield _route(network, "0.0.0.0/0", "Default route to the Internet.", 1000, {"nextHopGateway": gateway})
            for subnetwork in self.subnetworks_of(path):
                block = subnetwork["ipCidrRange"]
                said = f"Default local route to the subnetwork {block}."
                yield _route(network, block, said, 0, {"nextHopNetwork": network["selfLink"]})


def _route(network: Body, block: str, description: str, priority: int, hop: Body) -> Body:
    digest = hashlib.sha256(f"{network['id']} {block}".encode()).hexdigest()
    name = f"default-route-{digest[:16]}"
    return {
        "kind": "compute#route",
        "id": str(10**18 + int(digest[:15], 16)),
        "name": name,
        "creationTimestamp": network["creationTimestamp"],
        "description": description,
        "destRange": block,
        "network": network["selfLink"],
        "priority": priority,
        "selfLink": f"{network['selfLink'].partition('/global/')[0]}/global/routes/{name}",
        **hop,
    }
