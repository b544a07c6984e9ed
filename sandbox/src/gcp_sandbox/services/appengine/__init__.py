# SPDX-License-Identifier: Apache-2.0
"""App Engine: the Admin API for the flexible environment, and the addresses of applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.services.appengine.applications import Applications
from gcp_sandbox.services.appengine.firewall import Firewall
from gcp_sandbox.services.appengine.ingress import AppIngress
from gcp_sandbox.services.appengine.runtime import App, Runtime
from gcp_sandbox.services.appengine.services import Services
from gcp_sandbox.services.appengine.versions import Versions

if TYPE_CHECKING:
    from gcp_sandbox.gateway.sandbox import Sandbox


class AppEngine(Applications, Services, Versions, Firewall):
    """appengine.googleapis.com."""

    name = "appengine"
    versions = ("v1", "v1beta")

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self.runtime = Runtime(sandbox)
        self.front = AppIngress(sandbox, self.runtime)

    def start(self) -> None:
        """Bring up what was running, and take requests for *.appspot.com."""
        self.runtime.start()
        self.sandbox.ingress.register("*.appspot.com", self.front.handle)
        self.sandbox.ingress.publish(labels=lambda: self._hosts(), locate=lambda label: self._hosts().get(label))

    def stop(self) -> None:
        """Stop all instances."""
        self.runtime.stop()

    def _hosts(self) -> dict[str, str]:
        """Labels of the browser's front door: <project> for the default service, <service>-dot-<project>."""
        return {
            label: f"{label}{app.body['defaultHostname'].removeprefix(app.body['id'])}"
            for app in self.runtime.apps()
            for label in _labels(app)
        }


def _labels(app: App) -> list[str]:
    return [app.body["id"] if id == "default" else f"{id}-dot-{app.body['id']}" for id in app.services]
