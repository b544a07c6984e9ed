# SPDX-License-Identifier: Apache-2.0
"""For the sandbox's own tests: networks, subnetworks, reserved ranges and their connection to Google's services.

vpc = Networks(client)                         # enables the APIs in the default project
vpc.make("ml")                                 # a network in custom mode with the subnetwork "ml-run"
vpc.connect("ml")                              # private services access with the range "ml-services"
"""

from __future__ import annotations

import time
from typing import Any

from gcp_sandbox.gateway.projects import Project
from gcp_sandbox.testing import Client

Json = dict[str, Any]

COMPUTE = "https://compute.googleapis.com/compute/v1"
LINK = "https://www.googleapis.com/compute/v1"
CONNECTIONS = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
REGION = "europe-west1"


class Networks:
    """Makes networks in a project, by default the default one."""

    def __init__(self, client: Client, project: Project | None = None) -> None:
        sandbox = client.sandbox
        self.client = client
        self.project = project or sandbox.projects.get(sandbox.settings.project)
        apis = ["compute.googleapis.com", "servicenetworking.googleapis.com"]
        sandbox.enablement.enable(self.project, apis, at_once=True)
        self.base = f"{COMPUTE}/projects/{self.project.id}"

    def act(self, method: str, url: str, body: Any = None, **more: Any) -> Json:
        """Send a request to Compute Engine and return its operation once it is done."""
        operation = self.client.ok(method, url, body, **more)
        deadline = time.monotonic() + 60
        while operation["status"] != "DONE":
            assert time.monotonic() < deadline, operation
            operation = self.client.ok("GET", operation["selfLink"].replace(LINK, COMPUTE))
        return operation

    def make(self, name: str, block: str = "10.8.0.0/26") -> str:
        """Make a network in custom mode, with the subnetwork NAME-run, and return its path."""
        self.act("POST", f"{self.base}/global/networks", {"name": name, "autoCreateSubnetworks": False})
        body = {"name": f"{name}-run", "network": f"global/networks/{name}", "ipCidrRange": block}
        self.act("POST", f"{self.base}/regions/{REGION}/subnetworks", body)
        return f"projects/{self.project.id}/global/networks/{name}"

    def reserve(self, network: str, name: str = "") -> str:
        """Reserve a range of a network for services, by default NETWORK-services, and return its name."""
        body = {"name": name or f"{network}-services", "addressType": "INTERNAL", "purpose": "VPC_PEERING"}
        body |= {"network": f"global/networks/{network}"}
        self.act("POST", f"{self.base}/global/addresses", {**body, "prefixLength": 24})
        return body["name"]

    def numbered(self, network: str) -> str:
        """Return the path of a network with the project's number, as Service Networking has it."""
        return f"projects/{self.project.number}/global/networks/{network}"

    def connected(self, method: str, url: str, body: Json) -> Json:
        """Send a request to Service Networking and return its operation once it is done."""
        return self.client.done(self.client.ok(method, url, body), "https://servicenetworking.googleapis.com/v1")

    def connect(self, network: str, *ranges: str) -> Json:
        """Connect a network to Google's services with ranges, or with a new one; the finished operation."""
        names = list(ranges) or [self.reserve(network)]
        return self.connected("POST", CONNECTIONS, {"network": self.numbered(network), "reservedPeeringRanges": names})
