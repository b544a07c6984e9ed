# SPDX-License-Identifier: Apache-2.0
"""What runs: a pool of instances for each revision that gets traffic, and which host name leads to which of them."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.pools import Limits, Pool, Probe, StartFailed
from gcp_sandbox.backends.processes import Process
from gcp_sandbox.services.run import containers, names, resources
from gcp_sandbox.services.run.containers import Failure
from gcp_sandbox.services.run.names import Name
from gcp_sandbox.services.run.template import probe, seconds
from gcp_sandbox.serving.fleet import MIN_WINDOW, Fleet

if TYPE_CHECKING:
    from gcp_sandbox.backends.logs import Source
    from gcp_sandbox.backends.platform import Platform

Json = dict[str, Any]

SERVICE_KIND = "run.service"
REVISION_KIND = "run.revision"

NOT_LISTENING = (
    "The user-provided container failed to start and listen on the port defined provided by the PORT={port} "
    "environment variable "
    "within the allocated timeout. This can happen when the container port is misconfigured or if the timeout is "
    "too short. The "
    "health check timeout can be extended. Logs for this revision might contain more information."
)
NOT_STARTED = (
    "The user-provided container failed the configured startup probe checks. Logs for this revision might contain more "
    "information."
)


@dataclass(frozen=True)
class Route:
    """Where a host name leads: a service, or one of its traffic tags."""

    host: str
    service: Json
    number: str
    tag: str = ""

    @property
    def name(self) -> Name:
        return Name.parse(self.service["name"])

    def source(self, served: str) -> Source:
        """Return the log of a revision, or of the newest one."""
        short = served or self.service.get("latestReadyRevision", "").rpartition("/")[2]
        return containers.log_of(Name.parse(f"{self.service['name']}/revisions/{short or '-'}"))

    @property
    def answer_headers(self) -> list[tuple[str, str]]:
        """What Cloud Run adds to an answer: nothing."""
        return []

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""
        return seconds(self.service["template"]["timeout"])

    def choose(self) -> str | None:
        """Return the revision (full name) for one request: the tag's, or one drawn by percent; None without one."""
        targets = resources.targets(self.service)
        if self.tag:
            short = next((revision for revision, _, tag in targets if tag == self.tag), None)
        else:
            serving = [(revision, percent) for revision, percent, _ in targets if percent]
            short = random.choices(*zip(*serving, strict=True))[0] if serving else None
        return f"{self.service['name']}/revisions/{short}" if short else None


class Runtime(Fleet):
    """Pools of instances by revision."""

    fact = "revision"

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self._routes: dict[str, Route] = {}

    def start(self) -> None:
        """Adopt instances that still run, stop those that are not wanted any more, and start the regular checks."""
        self.refresh()
        services = [service for _, service in self.sandbox.store.list(SERVICE_KIND)]
        self.adopt({name: limits for service in services for name, limits in self._limits(service).items()})
        for service in services:
            self.activate(service)
        self.begin()

    # -- addresses

    def refresh(self) -> None:
        """Learn again which hosts there are; after every change of a service."""
        routes = {}
        for _, service in self.sandbox.store.list(SERVICE_KIND):
            name = Name.parse(service["name"])
            project = self.sandbox.projects.get(name.project)
            if project is None:
                continue
            tags = {"", *(target["tag"] for target in service.get("traffic", []) if target.get("tag"))}
            for tag in tags:
                for host in names.hosts(name.id, project.number, name.region, tag):
                    routes[host] = Route(host, service, project.number, tag)
        self._routes = routes

    def route(self, host: str) -> Route | None:
        """Return where a host leads, or None."""
        return self._routes.get(host)

    def routes(self) -> list[Route]:
        """Of each service the route of its main address."""
        return [route for host, route in self._routes.items() if not route.tag and host.endswith(".a.run.app")]

    # -- instances

    def deploy(self, revision: Json) -> None:
        """Start the revision's first instance. Failure says why it does not serve."""
        name = Name.parse(revision["name"])
        with self.deploying(revision["name"]) as pool:
            if pool is None:
                raise Failure("ABORTED", f"Revision '{name.child}' was deleted.")
            # A deletion or a newer revision is recorded first and cancels deployments in progress afterwards; here the
            # order is the opposite, so that one of the two sees the other.
            if self._outdated(revision):
                raise Failure("ABORTED", f"Revision '{name.child}' was given up before it started.")
            if not pool.instances:
                try:
                    pool.start_one()
                except StartFailed as error:
                    self.sandbox.logs.line(containers.log_of(name), f"{name.child}: {error}", severity="ERROR")
                    raise self._why(revision, error) from error

    def _outdated(self, revision: Json) -> bool:
        """Return whether a revision is not wanted any more before its first instance was started."""
        name = revision["name"].partition("/revisions/")[0]
        service = self.sandbox.store.get(SERVICE_KIND, name)
        return service is None or "deleteTime" in service or service.get("latestCreatedRevision") != revision["name"]

    def activate(self, service: Json) -> None:
        """Give the revisions that have traffic their limits, and stop the others when their requests have ended."""
        drain = seconds(service["template"]["timeout"])
        self.settle(f"{service['name']}/revisions/", self._limits(service), drain=drain)
        self.refresh()

    def new_pool(self, name: str, limits: Limits | None) -> Pool | None:
        revision = self.sandbox.store.get(REVISION_KIND, name)
        return self._new_pool(revision, limits) if revision else None

    def _new_pool(self, revision: Json, limits: Limits | None) -> Pool:
        name = Name.parse(revision["name"])
        container = revision["containers"][0]
        serving = container["ports"][0]["containerPort"]
        startup = probe(container["startupProbe"], serving) or Probe()
        return Pool(
            name.child,
            lambda: self._launch(revision),
            startup=startup,
            liveness=probe(container.get("livenessProbe"), serving),
            limits=limits
            or Limits(revision["maxInstanceRequestConcurrency"], 0, revision["scaling"]["maxInstanceCount"]),
            note=lambda line: self.sandbox.logs.line(containers.log_of(name), line),
            window=max(self.sandbox.latency.seconds(startup.window), min(startup.window, MIN_WINDOW)),
            delay=self.sandbox.latency.seconds(startup.initial_delay),
        )

    def _launch(self, revision: Json) -> Process:
        name = Name.parse(revision["name"])
        self.sandbox.logs.line(containers.log_of(name), f"{name.child}: starting new instance", severity="INFO")
        return self.sandbox.processes.run(
            containers.spec(
                self.sandbox,
                name,
                revision,
                owner=revision["name"],
                variables={"K_SERVICE": name.id, "K_REVISION": name.child, "K_CONFIGURATION": name.id},
                listens=True,
                facts={"revision": revision["name"]},
            )
        )

    @staticmethod
    def _why(revision: Json, error: StartFailed) -> Failure:
        if error.reason == "closed":
            return Failure("ABORTED", str(error))
        container = revision["containers"][0]
        port = container["ports"][0]["containerPort"]
        custom = "httpGet" in container["startupProbe"] or "grpc" in container["startupProbe"]
        text = NOT_STARTED if custom and error.reason == "probe" else NOT_LISTENING.format(port=port)
        message = (
            f"{text}\n\nLogs URL: {revision['logUri']} \nFor more troubleshooting guidance, see "
            "https://cloud.google.com/run/docs/troubleshooting#container-failed-to-start"
        )
        return Failure("FAILED_PRECONDITION", message, revisionReason="HEALTH_CHECK_CONTAINER_ERROR")

    def _limits(self, service: Json) -> dict[str, Limits]:
        """Limits of each revision (full name) that has traffic or a tag."""
        found: dict[str, Limits] = {}
        shares: defaultdict[str, int] = defaultdict(int)
        for revision, percent, _ in resources.targets(service):
            shares[f"{service['name']}/revisions/{revision}"] += percent
        scaling = service.get("scaling", {})
        for name, percent in shares.items():
            revision = self.sandbox.store.get(REVISION_KIND, name)
            if revision is not None:
                found[name] = revision_limits(revision, scaling, percent)
        return found


def revision_limits(revision: Json, scaling: Json, percent: int) -> Limits:
    """Return how a revision may scale: its own settings, and its share (in percent of the traffic) of the service's."""

    def share(field: str) -> int:
        return math.ceil(scaling.get(field, 0) * percent / 100)

    own = revision["scaling"]
    concurrency = revision["maxInstanceRequestConcurrency"]
    if scaling.get("scalingMode") == "MANUAL":
        return Limits(concurrency, share("manualInstanceCount"), share("manualInstanceCount"))
    most = own["maxInstanceCount"]
    if scaling.get("maxInstanceCount"):
        most = min(most, max(1, share("maxInstanceCount")))
    return Limits(concurrency, min(max(own.get("minInstanceCount", 0), share("minInstanceCount")), most), most)
