# SPDX-License-Identifier: Apache-2.0
"""For the sandbox's own tests of App Engine: the requests that make an application and deploy versions.

engine = Deployments(sandbox)
engine.create_application()
engine.deploy("v1", env={"A": "b"})            # the version once its operation is done
engine.get("/env").json()                      # from the default service
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing.web import Workbench

Json = dict[str, Any]

BASE = "https://appengine.googleapis.com/v1"
APIS = ("appengine", "appengineflex", "iap", "iam", "secretmanager", "iamcredentials", "storage", "sqladmin")


# One instance to begin with, and another when it is busy.
AUTOMATIC = {"minTotalInstances": 1, "maxTotalInstances": 2}


class Deployments(Workbench):
    """Deploys versions of a small image."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, APIS)
        self.app = f"apps/{self.project.id}"
        self.host = f"{self.project.id}.ew.r.appspot.com"
        member = f"serviceAccount:{self.account}"
        sandbox.iam.add_binding(self.project.name, "roles/artifactregistry.reader", member)

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Return the answer to a request below the application, whatever it is."""
        return self.api.request(method, f"{BASE}/{self.app}{path}", body, **more)

    def show(self, path: str = "") -> Json:
        """Return a resource below the application."""
        return self.api.ok("GET", f"{BASE}/{self.app}{path}")

    def finish(self, answer: Any) -> Json:
        """Return the operation that a request has started, once it is done."""
        assert answer.status == 200, answer.content
        return self.api.done(answer.json, BASE)

    def done(self, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """Ask, wait, and return the response of the operation, which must not fail."""
        operation = self.finish(self.ask(method, path, body, **more))
        assert "error" not in operation, operation
        return operation["response"]

    def create_application(self, location: str = "europe-west", **fields: Any) -> Json:
        """Make the application of the project."""
        body = {"id": self.project.id, "locationId": location, **fields}
        operation = self.finish(self.api.post(f"{BASE}/apps", body))
        assert "error" not in operation, operation
        return operation["response"]

    def version(self, id: str, *, env: Mapping[str, str] | None = None, **fields: Any) -> Json:
        """Return a version's body: one instance of the small image, healthy when it answers at /health."""
        body = {
            "id": id,
            "env": "flex",
            "runtime": "custom",
            "deployment": {"container": {"image": self.image}},
            "serviceAccount": self.account,
            **({} if "manualScaling" in fields else {"automaticScaling": AUTOMATIC}),
            "readinessCheck": {"path": "/health", "checkInterval": "1s"},
            "livenessCheck": {"path": "/health"},
            **fields,
        }
        return {**body, "envVariables": dict(env)} if env else body

    def create(self, id: str, service: str = "default", **fields: Any) -> Any:
        """Ask for a version; the answer, whatever it is."""
        return self.ask("POST", f"/services/{service}/versions", self.version(id, **fields))

    def deploy(self, id: str, service: str = "default", **fields: Any) -> Json:
        """Return a version that runs."""
        return self.done("POST", f"/services/{service}/versions", self.version(id, **fields))

    def split(self, service: str = "default", shard: str = "", **allocations: float) -> Any:
        """Ask for a traffic split; the answer, whatever it is."""
        split: Json = {"allocations": allocations, **({"shardBy": shard} if shard else {})}
        return self.ask("PATCH", f"/services/{service}?updateMask=split", {"split": split})

    def fetch(self, path: str = "/", host: str = "", **more: Any) -> httpx.Response:
        """Ask the application, at the default service's address or another."""
        return self.web.request("GET", f"https://{host or self.host}{path}", **more)
