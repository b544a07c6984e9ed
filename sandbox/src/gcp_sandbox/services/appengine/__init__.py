# SPDX-License-Identifier: Apache-2.0
"""App Engine: the Admin API for the flexible environment, and the addresses of applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.services.appengine import names
from gcp_sandbox.services.appengine.applications import Applications
from gcp_sandbox.services.appengine.firewall import Firewall
from gcp_sandbox.services.appengine.ingress import AppIngress
from gcp_sandbox.services.appengine.runtime import App, Runtime
from gcp_sandbox.services.appengine.services import Services
from gcp_sandbox.services.appengine.versions import Versions

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform


class AppEngine(Applications, Services, Versions, Firewall):
    """appengine.googleapis.com."""

    name = "appengine"
    versions = ("v1", "v1beta")

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self.runtime = Runtime(sandbox)
        self.front = AppIngress(sandbox, self.runtime)

    def start(self) -> None:
        """Bring up what was running, and take requests for *.appspot.com."""
        self.runtime.start()
        self.sandbox.ingress.register("*.appspot.com", self.front.handle)
        self.sandbox.ingress.publish(labels=self._labels, locate=lambda label: self._hosts().get(label))

    def stop(self) -> None:
        """Stop all instances."""
        self.runtime.stop()

    def _hosts(self) -> dict[str, str]:
        """Return hosts by label at the browser port: <project> for the default service, <service>-dot-<project>."""
        return {_label(app, id): names.service_host(app.body, id) for app in self.runtime.apps() for id in app.services}

    def _labels(self) -> list[str]:
        """Return the labels of services that serve; a service with all versions stopped is left out."""
        return sorted({_label(app, id) for app in self.runtime.apps() for id in app.serving()})


def _label(app: App, service: str) -> str:
    return names.service_host(app.body, service).partition(".")[0]
