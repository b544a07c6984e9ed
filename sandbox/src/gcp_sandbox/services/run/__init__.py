# SPDX-License-Identifier: Apache-2.0
"""Cloud Run: the Admin API v2, what `gcloud run` reads of v1, and the addresses of deployed services."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.services.run.ingress import RunIngress
from gcp_sandbox.services.run.jobs import JOB_KIND
from gcp_sandbox.services.run.knative import Knative
from gcp_sandbox.services.run.runtime import SERVICE_KIND, Runtime

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.call import Call


class Run(Knative, IamPolicies, LongRunning):
    """run.googleapis.com and the regional hosts."""

    name = "run"
    iam = IamFacts(
        denial=worded("Permission '{permission}' denied on resource '{name}' (or resource may not exist)."),
        types={"services": "Service", "jobs": "Job"},
    )
    versions = ("v2", "v1")
    operation_permission = "run.operations.{verb}"
    iam_resources = {"projects.locations.services": "run.services", "projects.locations.jobs": "run.jobs"}

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self.runtime = Runtime(sandbox)
        self.halting = threading.Event()
        self.front = RunIngress(sandbox, self.runtime)

    def start(self) -> None:
        """Bring up what was running, and take requests for *.run.app."""
        self.runtime.start()
        self.sandbox.ingress.register("*.run.app", self.front.handle)
        self.sandbox.ingress.publish(labels=self._labels, locate=self._locate)

    def stop(self) -> None:
        """Stop all instances."""
        self.halting.set()
        self.runtime.stop()

    def iam_exists(self, call: Call, resource: str) -> None:
        kind = JOB_KIND if "/jobs/" in resource else SERVICE_KIND
        self.load(kind, call.params["resource"])

    def _labels(self) -> Iterator[str]:
        """Return the labels of services at the browser port: the plain name, where only one service has it."""
        ids = [route.name.id for route in self.runtime.routes()]
        for route in self.runtime.routes():
            yield route.name.id if ids.count(route.name.id) == 1 else route.host.partition(".")[0]

    def _locate(self, label: str) -> str | None:
        for route in self.runtime.routes():
            if label in (route.name.id, route.host.partition(".")[0]):
                return route.host
        return None
