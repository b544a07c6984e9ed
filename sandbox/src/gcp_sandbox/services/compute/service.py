# SPDX-License-Identifier: Apache-2.0
"""Compute Engine, put together: networks, their routes, subnetworks, global addresses, and the operations on them."""

from __future__ import annotations

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.core import Core
from gcp_sandbox.gateway.denials import IamFacts
from gcp_sandbox.gateway.iam_methods import test_iam_permissions
from gcp_sandbox.gateway.ports import Vpc
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.compute import refusals
from gcp_sandbox.services.compute.addresses import Addresses
from gcp_sandbox.services.compute.base import HOST, Body
from gcp_sandbox.services.compute.networks import API
from gcp_sandbox.services.compute.routes import Routes
from gcp_sandbox.services.compute.subnetworks import Subnetworks


class Compute(Routes, Subnetworks, Addresses):
    """compute.googleapis.com."""

    name = "compute"
    iam = IamFacts(
        denial=refusals.denied,
        types={"networks": "Network", "subnetworks": "Subnetwork", "addresses": "GlobalAddress"},
    )
    error_style = "legacy"

    def __init__(self, sandbox: Core) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(Vpc, self)
        sandbox.enablement.listeners.append(self.api_enabled)

    @method("globalAddresses.testIamPermissions", permission=None)
    @method("routes.testIamPermissions", permission=None)
    @method("subnetworks.testIamPermissions", permission=None)
    def test_permissions(self, call: Call) -> Body:
        kind = call.method_id.split(".")[1].replace("globalAddresses", "addresses")
        return test_iam_permissions(call, f"{HOST}{self._scope(call)}/{kind}/{call.params['resource']}")

    def start(self) -> None:
        """Give the network `default` to projects that have had Compute Engine since an earlier release."""
        with self.store.transaction():
            for project in self.sandbox.projects.all():
                if self.sandbox.enablement.state(project, API) == "ENABLED":
                    self.api_enabled(project, [API])
