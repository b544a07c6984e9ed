# SPDX-License-Identifier: Apache-2.0
"""For the sandbox's own tests of Cloud Run: the requests that deploy a service.

run = Deployments(sandbox)                     # enables the APIs, makes the service account and the image
service = run.deploy("hello", env={"A": "b"})  # the service once its operation is done
run.get(service["uri"] + "/env").json()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing.web import Workbench

Json = dict[str, Any]

BASE = "https://run.googleapis.com/v2"
LOCATION = "projects/{project}/locations/europe-west1"
APIS = ("run", "iap", "iam", "secretmanager", "artifactregistry", "iamcredentials", "storage", "sqladmin")


class Deployments(Workbench):
    """Deploys services and jobs of a small image."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, APIS)
        self.location = LOCATION.format(project=self.project.id)

    # -- services

    def service(self, *, env: Mapping[str, Any] | None = None, template: Json | None = None, **fields: Json) -> Json:
        """Return a service's body: the small image, open to all callers unless `fields` say otherwise."""
        container: Json = {
            "image": self.image,
            "startupProbe": {"tcpSocket": {}, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 4},
            **(template or {}).pop("container", {}),
        }
        if env:
            container["env"] = [
                {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueSource": value}
                for name, value in env.items()
            ]
        body = {"template": {"containers": [container], "serviceAccount": self.account, **(template or {})}}
        return {**body, "invokerIamDisabled": True, **fields}

    def create(self, name: str, body: Json, **more: Any) -> Any:
        """Ask for a service; the answer, whatever it is."""
        return self.api.post(f"{BASE}/{self.location}/services?serviceId={name}", body, **more)

    def finish(self, operation: Json) -> Json:
        """Return the operation once it is done."""
        return self.api.done(operation, BASE)

    def deploy(self, name: str, **body: Any) -> Json:
        """Create a service, or change all of one; the service once that is done, ready or not."""
        existing = self.api.get(f"{BASE}/{self.location}/services/{name}")
        if existing.status == 404:
            operation = self.create(name, self.service(**body))
        else:
            operation = self.api.patch(f"{BASE}/{self.location}/services/{name}", self.service(**body))
        assert operation.status == 200, operation.content
        self.finish(operation.json)
        return self.show(name)

    def show(self, name: str) -> Json:
        """Return a service as it is now."""
        return self.api.ok("GET", f"{BASE}/{self.location}/services/{name}")
