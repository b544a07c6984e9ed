# SPDX-License-Identifier: Apache-2.0
"""The composition of a sandbox: its parts, its services, and the order in which they start and stop.

`Sandbox` implements the interfaces that the parts see, `gateway.core.Core` and `backends.platform.Platform`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway.enablement import Enablement
from gcp_sandbox.gateway.errors import unimplemented
from gcp_sandbox.gateway.faults import Faults, known_methods, parse
from gcp_sandbox.gateway.iam import Iam
from gcp_sandbox.gateway.identity import Identities
from gcp_sandbox.gateway.ingress import Ingress
from gcp_sandbox.gateway.latency import Latency
from gcp_sandbox.gateway.operations import Operations
from gcp_sandbox.gateway.pipeline import Gateway
from gcp_sandbox.gateway.ports import Ports
from gcp_sandbox.gateway.projects import Projects
from gcp_sandbox.gateway.requestlog import RequestLog
from gcp_sandbox.gateway.seed import seed
from gcp_sandbox.gateway.service import Service
from gcp_sandbox.services import SERVICES
from gcp_sandbox.store import Store

if TYPE_CHECKING:
    from gcp_sandbox.backends.images import ImageStore
    from gcp_sandbox.backends.logs import Logs
    from gcp_sandbox.backends.objects import ObjectStore
    from gcp_sandbox.backends.processes import Processes
    from gcp_sandbox.backends.servers import SqlServers
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.messages import Request, Response

log = logging.getLogger(__name__)

#: Attribute -> module and class, in the order in which they start. Each may have start() and stop().
BACKENDS = {
    "objects": "gcp_sandbox.backends.objects:ObjectStore",
    "sql": "gcp_sandbox.backends.servers:SqlServers",
    "images": "gcp_sandbox.backends.images:ImageStore",
    "logs": "gcp_sandbox.backends.logs:Logs",
    "processes": "gcp_sandbox.backends.processes:Processes",
}


class Unavailable:
    """Takes the place of a backend that could not be loaded: its use answers 501, and the rest of the sandbox works."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise unimplemented(f"{self._name} ({self._reason})")


class Sandbox:
    """One sandbox. `start()` makes it ready to answer; it does not listen anywhere (see daemon.py).

    :param services: what it serves, as `services.SERVICES`.
    """

    # `Unavailable` where they could not be loaded or started.
    objects: ObjectStore
    sql: SqlServers
    images: ImageStore
    logs: Logs
    processes: Processes

    def __init__(self, settings: Settings, services: Mapping[str, str] = SERVICES) -> None:
        self.settings = settings
        settings.folders()
        self.store = Store(settings.state / "state.sqlite3")
        self.latency = Latency(settings.latency)
        self.projects = Projects(self)
        self.requests = RequestLog(settings.state / "requests.sqlite3")
        self.operations = Operations(self)
        self.faults = Faults()
        self.ingress = Ingress()
        self.ports = Ports()
        self.identities = Identities(self)
        self.iam = Iam(self)
        self.enablement = Enablement(self)
        #: Service or backend -> why it could not be loaded.
        self.broken: dict[str, str] = {}
        self._started: list[tuple[str, Any]] = []
        for name, path in BACKENDS.items():
            setattr(self, name, self._load(name, path) or Unavailable(name, self.broken[name]))
        self.gateway: Gateway | None = None
        self.services: dict[str, Service] = {}
        for name, path in services.items():
            if service := self._load(name, path):
                self.add(service)

    def start(self) -> None:
        """Make what every sandbox has, then start backends, services, and the operations that a crash interrupted."""
        self.identities.start()
        with self.store.transaction():
            seed(self)
        for name in BACKENDS:
            self._start(name, getattr(self, name))
        for name, service in list(self.services.items()):
            self._start(name, service)
        self.gateway = Gateway(self)
        self.operations.resume()

    def add(self, service: Service) -> None:
        """Serve one more service; before `start`, which routes to it."""
        self.services[service.name] = service
        self.iam.register_service(service.name, service.iam)
        for spec, fn in service.marked("_jobs"):
            self.operations.register(service.name, spec.name, fn, settles=spec.settles)

    def stop(self) -> None:
        """Stop what was started, in reverse."""
        self.faults.stop()
        self.operations.stop()
        for name, part in reversed(self._started):
            if stop := inspect.getattr_static(part, "stop", None) and part.stop:
                try:
                    stop()
                except Exception:
                    log.exception("stopping %s failed", name)
        self._started.clear()
        self.requests.close()
        self.store.close()
        with contextlib.suppress(OSError):
            # Only when it is empty: what still runs keeps its sockets.
            self.settings.runtime.rmdir()

    def answer(self, request: Request) -> Response:
        """Return the answer of the services to a request."""
        assert self.gateway is not None
        return self.gateway.answer(request)

    def health(self) -> dict[str, Any]:
        """Return what is served, what could not be loaded, and what is deployed."""
        ready = self.gateway is not None
        return {
            "ready": ready,
            "services": sorted(self.services),
            "broken": self.broken,
            "deployed": {label: f"https://{self.ingress.locate(label)}" for label in self.ingress.labels()},
            "databases": self.sql.endpoints() if ready and "sql" not in self.broken else [],
            "faults": len(self.faults.show()["rules"]),
        }

    def set_faults(self, document: Any) -> None:
        """Apply the rules of a document, see gateway/faults.py; FaultError, and no change, for rules it cannot use."""
        self.faults.set(parse(document, known_methods(self.services.values())))

    def flush(self) -> None:
        """Write the logs as far as they go now."""
        self.requests.flush()
        if "logs" not in self.broken:
            self.logs.flush()

    def mark_broken(self, name: str, error: Exception) -> None:
        """Record that a service or backend cannot be used; requests for it answer 501 with the reason."""
        self.broken[name] = f"{type(error).__name__}: {error}"
        log.error("%s could not be loaded and answers 501", name, exc_info=error)

    def _load(self, name: str, path: str) -> Any:
        """Make what `path` ("module:class") names; None, and a record in `broken`, where that fails."""
        module, _, cls = path.partition(":")
        try:
            return getattr(importlib.import_module(module), cls)(self)
        except Exception as error:
            self.mark_broken(name, error)
            return None

    def _start(self, name: str, part: Any) -> None:
        if isinstance(part, Unavailable):
            return
        self._started.append((name, part))
        if not hasattr(part, "start"):
            return
        try:
            part.start()
        except Exception as error:
            self.mark_broken(name, error)
            self.services.pop(name, None)
            if name in BACKENDS:
                setattr(self, name, Unavailable(name, self.broken[name]))
