# SPDX-License-Identifier: Apache-2.0
"""What runs: a pool of instances for each version that serves, and which host name leads to which of them.

A deployment has a name of its own (VERSION@SERIAL): when a version is deployed over, the old one serves until the new
one is ready.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import dataclass, field, replace
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.logs import Source
from gcp_sandbox.backends.pools import Limits, Pool, StartFailed
from gcp_sandbox.backends.processes import Process, Spec
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.appengine import names, template
from gcp_sandbox.services.appengine.base import APP_KIND, RULE_KIND, SERVICE_KIND, VERSION_KIND
from gcp_sandbox.serving import vpc
from gcp_sandbox.serving.access import PULL, guarded, may_pull
from gcp_sandbox.serving.fleet import MIN_WINDOW, Fleet

if TYPE_CHECKING:
    from gcp_sandbox.backends.images import Image
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.serving.web import WebRequest

Json = dict[str, Any]

# cloud.google.com/appengine/docs/flexible/how-requests-are-handled.
TIMEOUT = 3600.0
# Instances that are shut down get 30 s (cloud.google.com/appengine/docs/flexible/how-instances-are-managed).
DRAIN = 30.0

COOKIE = "GOOGAPPUID"
SHARDS = 1000

# Errors of Google's operations when a version does not become healthy: after the start timeout; when there is no image
# (https://github.com/GoogleCloudPlatform/magic-modules/pull/6391); when the container ends by itself, with the end of
# its log behind.
NOT_HEALTHY = (
    "Your deployment has failed to become healthy in the allotted time and therefore was rolled back. If you believe "
    "this was an error, try adjusting the 'app_start_timeout_sec' setting in the 'readiness_check' section."
)
NOT_PULLED = (
    "There was an error while pulling the application's docker image: the image does not exist, one of the image "
    "layers is missing or the default service account does not have permission to pull the image. Please check if the "
    "image exists. Also check if the default service account has the role Artifact Registry Reader "
    "(roles/artifactregistry.reader) to pull images from Artifact Registry."
)
NOT_STARTED = "An internal error occurred while processing task /app-engine-flex/flex_await_healthy/flex_await_healthy"
NOT_CREATED = (
    "An internal error occurred while processing task /app-engine-flex/insert_flex_deployment/flex_create_resources"
)
LOG_LINES, LOG_CHARACTERS = 20, 2000


def deployment_of(version: Json) -> str:
    """Return the name of a version's deployment."""
    return f"{version['name']}@{version['_serial']}"


@dataclass(frozen=True)
class App:
    """An application with all that decides about requests, as of the last change."""

    body: Json
    services: dict[str, Json]
    versions: dict[tuple[str, str], Json]
    rules: list[Json]

    @property
    def code(self) -> str:
        """The region's two letters in the application's address, before .r.appspot.com."""
        return self.body["defaultHostname"].split(".")[-4]

    def serving(self) -> set[str]:
        """Ids of the services that have a version which runs."""
        running = self.body["servingStatus"] == "SERVING"
        return {service for (service, _), version in self.versions.items() if running and _serves(version)}

    def allows(self, client: str) -> bool:
        """Return whether the firewall admits an address: the first rule that matches decides, and no rule
        admits all addresses."""
        found = next((rule for rule in self.rules if matches(rule, client)), None)
        return found is None or found["action"] == "ALLOW"


@dataclass(frozen=True)
class Route:
    """Where a request leads; `version` is None where the service has none to serve it."""

    host: str
    app: App
    client: str
    service: Json
    version: Json | None
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    timeout: float = TIMEOUT

    def source(self, served: str) -> Source:
        """Return the log of a version, or of the one that the request is for."""
        name = f"{self.service['name']}/versions/{served or (self.version or {}).get('id', '')}"
        return log_of(name, self.app.body["locationId"])


class Runtime(Fleet):
    """Pools of instances by deployment."""

    fact = "deployment"

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self._apps: dict[str, App] = {}
        self._candidates: dict[str, Json] = {}

    def start(self) -> None:
        """Adopt instances that still run, stop those that are not wanted any more, and start the regular checks."""
        self.refresh()
        versions = [body for _, body in self.sandbox.store.list(VERSION_KIND)]
        self.adopt({deployment_of(body): template.limits(body) for body in versions if _serves(body)})
        for body in versions:
            self.activate(body)
        self.begin()

    # -- addresses

    def refresh(self) -> None:
        """Learn again which applications there are and what decides about their requests; after every change."""
        store = self.sandbox.store
        apps = {}
        for name, body in store.list(APP_KIND):
            services = {service["id"]: service for _, service in store.list(SERVICE_KIND, parent=name)}
            versions = {
                (id, version["id"]): version
                for id, service in services.items()
                for _, version in store.list(VERSION_KIND, parent=service["name"])
            }
            rules = [rule for _, rule in store.list(RULE_KIND, parent=name)]
            apps[body["id"]] = App(body, services, versions, rules)
        self._apps = apps

    def apps(self) -> list[App]:
        """Return all applications."""
        return list(self._apps.values())

    def route(self, request: WebRequest, client: str) -> Route | None:
        """Return where a request leads, or None: there is no such application, or nothing is deployed to it."""
        address = names.Address.parse(request.host)
        app = self._apps.get(address.project) if address else None
        if address is None or app is None or address.code not in ("", app.code):
            return None
        service, version = self._target(app, address, request)
        if service is None:
            return None
        if version is not None:
            return Route(request.host, app, client, service, version)
        id, added = choose(service, client, request.headers.get("cookie", ""))
        return Route(request.host, app, client, service, app.versions.get((service["id"], id)), added)

    @staticmethod
    def _target(app: App, address: names.Address, request: WebRequest) -> tuple[Json | None, Json | None]:
        """Return (service, version) that an address names. A name that does not exist leads to the default service
        (cloud.google.com/appengine/docs/flexible/how-requests-are-routed); the dispatch rules decide where none does.
        """
        default = app.services.get("default")
        match address.labels:
            case (version, service) if service in app.services:
                return app.services[service], app.versions.get((service, version))
            case (name,) if name in app.services:
                return app.services[name], None
            case (name,):
                return default, app.versions.get(("default", name))
            case ():
                return app.services.get(dispatched(app.body.get("dispatchRules", []), request)) or default, None
        return default, None

    # -- instances

    def deploy(self, version: Json) -> None:
        """Start the first instance of a version that is about to be. ApiError says why it does not serve, as the
        operation does.
        """
        name = deployment_of(version)
        self._network(version)
        self._candidates[name] = version
        source = self._log_of(version)
        before = self.sandbox.logs.file(source.name).stat().st_size
        try:
            with self.deploying(name) as pool:
                if pool is not None and not pool.instances:
                    pool.start_one()
        except StartFailed as error:
            self.sandbox.logs.line(source, f"{version['id']}: {error}", severity="ERROR")
            if error.reason == "probe":
                raise ApiError(504, NOT_HEALTHY) from error
            with self.sandbox.logs.file(source.name).open(errors="replace") as file:
                file.seek(before)
                tail = "".join(file.readlines()[-LOG_LINES:])[-LOG_CHARACTERS:]
            raise _not_started(tail) from error
        finally:
            del self._candidates[name]

    def activate(self, version: Json) -> None:
        """Give a version as many instances as it may have, and stop those of an earlier deployment of it."""
        wanted = {deployment_of(version): template.limits(version)} if _serves(version) else {}
        self.settle(f"{version['name']}@", wanted, drain=DRAIN)

    def forget(self, version: Json) -> None:
        """Stop the instances of a deleted version."""
        self.settle(f"{version['name']}@", {}, drain=0)

    def pool_of(self, version: Json) -> Pool | None:
        """Return the instances that serve a version; None while it is stopped."""
        return self.pool(deployment_of(version), template.limits(version)) if _serves(version) else None

    def liveness(self, version: Json, process: Process) -> str:
        """What the liveness checks of an instance say: UNKNOWN until it was ready for the first time."""
        pool = self.pool_of(version)
        for instance in pool.instances if pool else ():
            if instance.process is process:
                return "UNHEALTHY" if instance.failures else "HEALTHY"
        return "UNKNOWN"

    def new_pool(self, name: str, limits: Limits | None) -> Pool | None:
        version = self._candidates.get(name) or self.sandbox.store.get(VERSION_KIND, name.rpartition("@")[0])
        if version is None or deployment_of(version) != name:
            return None
        readiness = template.readiness(version)
        window = template.start_timeout(version)
        source = self._log_of(version)
        return Pool(
            version["id"],
            lambda: self._launch(version),
            startup=readiness,
            liveness=template.liveness(version),
            readiness=readiness,
            limits=limits or template.limits(version),
            note=lambda line: self.sandbox.logs.line(source, line),
            window=max(self.sandbox.latency.seconds(window), min(window, MIN_WINDOW)),
        )

    def image(self, version: Json) -> Image:
        """Return the image of a version, pulled as its service account; ApiError FAILED_PRECONDITION."""
        ref, email = version["deployment"]["container"]["image"], version["serviceAccount"]
        found = self.sandbox.images.get(version["_digest"]) if version.get("_digest") else None
        found = found or self.sandbox.images.resolve(ref)
        if found is not None and may_pull(self.sandbox, self.sandbox.identities.service_account(email), ref):
            return found
        # Google does not say which it is; the log does.
        why = "no such image" if found is None else f'{email} lacks "{PULL}" on {guarded(self.sandbox, ref)}'
        self.sandbox.logs.line(self._log_of(version), f"{version['id']}: cannot pull {ref}: {why}", severity="ERROR")
        raise _not_started(NOT_PULLED)

    def _network(self, version: Json) -> str:
        """Return the path of the network of a version's machines; ApiError NOT_FOUND for one that does not exist.

        A network in auto mode needs no name of a subnetwork, another one does.
        """
        project = version["name"].split("/")[1]
        app = self.sandbox.store.get(APP_KIND, f"apps/{project}")
        asked, region = version.get("network", {}), names.region_of(app["locationId"])
        name, subnetwork = asked.get("name") or "default", asked.get("subnetworkName", "")
        try:
            return vpc.find(self.sandbox, project, region, name, subnetwork, service="appengineflex").network
        except vpc.Missing as error:
            message = f"{NOT_CREATED}>{timestamp()}: {error}"
            self.sandbox.logs.line(self._log_of(version), f"{version['id']}: {error}", severity="ERROR")
            raise ApiError(404, message, status="NOT_FOUND") from error

    def _log_of(self, version: Json) -> Source:
        project = version["name"].split("/")[1]
        return log_of(version["name"], self.sandbox.store.get(APP_KIND, f"apps/{project}")["locationId"])

    def _launch(self, version: Json) -> Process:
        _, project, _, service, _, id = version["name"].split("/")
        app = self.sandbox.store.get(APP_KIND, f"apps/{project}")
        image = self.image(version)
        instance = f"aef-{service}-{id}-{secrets.token_hex(2)}"
        source = self._log_of(version)
        self.sandbox.logs.line(source, f"{id}: starting new instance {instance}", severity="INFO")
        try:
            entrypoint = version.get("entrypoint", {}).get("shell", "")
            argv = ["/bin/sh", "-c", f"exec {entrypoint}"] if entrypoint else image.argv()
        except ValueError as error:
            raise _not_started(f"The container cannot be started: {error}.") from error
        platform = {
            "GAE_INSTANCE": instance,
            "GAE_MEMORY_MB": str(template.memory_mb(version)),
            "GAE_SERVICE": service,
            "GAE_VERSION": id,
            "GOOGLE_CLOUD_PROJECT": project,
        }
        return self.sandbox.processes.run(
            Spec(
                owner=version["name"],
                log=replace(source, labels={"appengine.googleapis.com/instance_name": instance}),
                argv=argv,
                cwd=image.workdir,
                env={**image.env, **version.get("envVariables", {}), **platform},
                service_account=version["serviceAccount"],
                project=project,
                region=names.region_of(app["locationId"]),
                volumes=template.volumes(version),
                listens=True,
                declared_port=8080,
                network=self._network(version),
                facts={"deployment": deployment_of(version), "instance": instance, "startTime": timestamp()},
            )
        )


def log_of(version: str, location: str) -> Source:
    """Return the log of a version, by its name and the application's location."""
    _, project, _, service, _, id = version.split("/")
    labels = {"module_id": service, "version_id": id, "zone": f"{names.region_of(location)}-b"}
    return Source(service, project, "appengine.googleapis.com", "gae_app", labels)


def _serves(version: Json) -> bool:
    return version["servingStatus"] == "SERVING"


def _not_started(text: str) -> ApiError:
    return ApiError(400, f"{NOT_STARTED}>{timestamp()}: {text}", status="FAILED_PRECONDITION")


def matches(rule: Json, client: str) -> bool:
    """Return whether a firewall rule is about an address."""
    return rule["sourceRange"] == "*" or ip_address(client) in ip_network(rule["sourceRange"])


def dispatched(rules: list[Json], request: WebRequest) -> str:
    """Return the service that the dispatch rules send a request to; "" where none matches."""
    for rule in rules:
        domain, path = rule["domain"], rule["path"]
        host = domain == "*" or request.host == domain or (domain[:2] == "*." and request.host.endswith(domain[1:]))
        if host and (request.path == path or (path.endswith("*") and request.path.startswith(path[:-1]))):
            return rule["service"]
    return ""


def choose(service: Json, client: str, cookie: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the version for a request that names none, by the service's split; and headers that make it stay there."""
    split = service["split"]
    allocations = sorted(split["allocations"].items())
    if len(allocations) == 1:
        return allocations[0][0], []
    added = []
    match split.get("shardBy"):
        case "RANDOM":
            place = random.random()
        case "COOKIE":
            found = _cookie(cookie)
            if found is None:
                found = random.randrange(SHARDS)
                added = [("set-cookie", f"{COOKIE}={found}; path=/")]
            place = found / SHARDS
        case _:
            place = int.from_bytes(hashlib.sha256(client.encode()).digest()[:4], "big") / 2**32
    total = 0.0
    for version, share in allocations:
        total += share
        if place < total - 1e-9:
            return version, added
    return allocations[-1][0], added


def _cookie(header: str) -> int | None:
    """Return the number in the cookie that splits go by, 0 to 999; None without one."""
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return int(morsel.value) if morsel and morsel.value.isdigit() and int(morsel.value) < SHARDS else None
