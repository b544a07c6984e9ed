# SPDX-License-Identifier: Apache-2.0
"""Which APIs a project has enabled, and Google's answer where one is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.gateway import catalog
from gcp_sandbox.gateway.catalog import host_of
from gcp_sandbox.gateway.errors import ApiError, error_info

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Identities
    from gcp_sandbox.gateway.latency import Latency
    from gcp_sandbox.gateway.projects import Project
    from gcp_sandbox.store import Store

KIND = "serviceusage.service"

# APIs that the default project has from the start: Google's defaults for a new project, and those that its owner needs
# to read projects and billing, which Google checks in the caller's own project.
SEED_SERVICES = (*catalog.DEFAULT_SERVICES, "cloudresourcemanager.googleapis.com", "cloudbilling.googleapis.com")


class Host(Protocol):
    """The parts of the sandbox that `Enablement` uses."""

    store: Store
    latency: Latency
    identities: Identities


class Enablement:
    """API enablement by project. Services are named by host: `run.googleapis.com`; a bare `run` is understood too."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        #: Called with a project and the services that it did not have before.
        self.listeners: list[Callable[[Project, list[str]], None]] = []

    def state(self, project: Project, service: str) -> str:
        """ENABLED or DISABLED, as serviceusage reports it: at once, before the change has reached the service."""
        return "ENABLED" if self._record(project, service) else "DISABLED"

    def enabled(self, project: Project) -> list[str]:
        """Host names of the enabled APIs, sorted."""
        rows = self.sandbox.store.list(KIND, parent=f"projects/{project.id}")
        return sorted(body["service"] for _, body in rows)

    def usable(self, project: Project, service: str) -> bool:
        """Return whether the service serves the project: enabled, and the propagation delay has passed."""
        record = self._record(project, service)
        return record is not None and time.time() >= record["usableFrom"]

    def enable(self, project: Project, services: list[str], *, at_once: bool = False) -> list[str]:
        """Enable services and what they depend on; returns those that were not enabled before, sorted.

        :param at_once: without the propagation delay, for what exists since the project does.
        """
        delay = 0.0 if at_once else self.sandbox.latency.propagation("api_enabled")
        added = []
        for service in sorted(catalog.with_dependencies(services)):
            if self._record(project, service) is None:
                record = {"service": service, "usableFrom": time.time() + delay}
                self.sandbox.store.put(KIND, self._name(project, service), record, parent=f"projects/{project.id}")
                added.append(service)
        if added:
            self.sandbox.identities.service_enabled(project, added)
            for listener in self.listeners:
                listener(project, added)
        return added

    def disable(self, project: Project, services: list[str]) -> None:
        """Disable services; service agents stay, as on Google Cloud."""
        for service in services:
            self.sandbox.store.delete(KIND, self._name(project, service))

    def require(self, project: Project, service: str) -> None:
        """403 SERVICE_DISABLED unless the project can use the service."""
        if not self.usable(project, service):
            raise service_disabled(host_of(service), project.number)

    def _record(self, project: Project, service: str) -> dict[str, Any] | None:
        return self.sandbox.store.get(KIND, self._name(project, service))

    @staticmethod
    def _name(project: Project, service: str) -> str:
        return f"projects/{project.id}/services/{host_of(service)}"


def service_disabled(service: str, project_number: str) -> ApiError:
    """403 SERVICE_DISABLED, with the details that clients read: google.rpc.ErrorInfo, LocalizedMessage and Help."""
    title = catalog.title(service)
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project_number}"
    message = (
        f"{title} has not been used in project {project_number} before or it is disabled. Enable it by visiting {url} "
        "then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems "
        "and retry."
    )
    info = error_info(
        "SERVICE_DISABLED",
        service=service,
        consumer=f"projects/{project_number}",
        serviceTitle=title,
        activationUrl=url,
        containerInfo=project_number,
    )
    localized = {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message}
    link = {"description": "Google developers console API activation", "url": url}
    help_links = {"@type": "type.googleapis.com/google.rpc.Help", "links": [link]}
    legacy = {
        "message": message,
        "domain": "usageLimits",
        "reason": "accessNotConfigured",
        "extendedHelp": "https://console.developers.google.com",
    }
    return ApiError(403, message, details=[info, localized, help_links], legacy_errors=[legacy])
