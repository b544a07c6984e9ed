# SPDX-License-Identifier: Apache-2.0
"""Everything a handler can reach, as `call.sandbox`, and the order in which it starts and stops.

What the gateway asks of the parts that have modules of their own:

    identity.Identities(sandbox)      .authenticate(headers, query) -> Principal
                                      `headers` as in Call, `query` a dict of the query parameters (access_token).
                                      The anonymous principal without credentials; ApiError 401 for bad ones.
    iam.Iam(sandbox)                  .check(principal, resource, permission) -> None, ApiError 403
    enablement.Enablement(sandbox)    .require(project: Project, api: str) -> None, ApiError 403 SERVICE_DISABLED
    backends.*(sandbox)               .start(), .stop()

Each may have start() and stop(), called in the order of `Sandbox.parts`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import pkgutil
from typing import TYPE_CHECKING, Any

import gcp_sandbox.services
from gcp_sandbox.gateway.errors import unimplemented
from gcp_sandbox.gateway.ingress import Ingress
from gcp_sandbox.gateway.latency import Latency
from gcp_sandbox.gateway.operations import Operations
from gcp_sandbox.gateway.pipeline import Gateway
from gcp_sandbox.gateway.projects import Projects
from gcp_sandbox.gateway.requestlog import RequestLog
from gcp_sandbox.gateway.service import Service
from gcp_sandbox.store import Store

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings

log = logging.getLogger(__name__)

# attribute -> (module, class), in the order they start
PARTS = {
    "identities": ("gcp_sandbox.gateway.identity", "Identities"),
    "iam": ("gcp_sandbox.gateway.iam", "Iam"),
    "enablement": ("gcp_sandbox.gateway.enablement", "Enablement"),
    "objects": ("gcp_sandbox.backends.objects", "ObjectStore"),
    "sql": ("gcp_sandbox.backends.servers", "SqlServers"),
    "images": ("gcp_sandbox.backends.images", "ImageStore"),
    "processes": ("gcp_sandbox.backends.processes", "Processes"),
}


class Absent:
    """Stands where a part could not be loaded: using it answers 501, so that the rest of the sandbox works."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise unimplemented(f"{self._name} ({self._reason})")


class Sandbox:
    """One sandbox. `start()` makes it ready to answer; it does not listen anywhere (see daemon.py)."""

    identities: Any
    iam: Any
    enablement: Any
    objects: Any
    sql: Any
    images: Any
    processes: Any

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.folders()
        self.store = Store(settings.state / "state.sqlite3")
        self.latency = Latency(settings.latency)
        self.projects = Projects(self)
        self.requests = RequestLog(settings.state / "requests.sqlite3")
        self.operations = Operations(self)
        self.ingress = Ingress()
        self.services: dict[str, Service] = {}
        #: Service or part -> why it could not be loaded.
        self.broken: dict[str, str] = {}
        self._started: list[tuple[str, Any]] = []
        for attribute, (module, cls) in PARTS.items():
            setattr(self, attribute, self._part(attribute, module, cls))
        self.gateway: Gateway | None = None
        for service in self._load_services():
            self.add(service)

    def start(self) -> None:
        """Start backends, then services, then the operations that a crash interrupted."""
        for name in PARTS:
            self._start(name, getattr(self, name))
        for name, service in list(self.services.items()):
            self._start(name, service)
        self.gateway = Gateway(self)
        self.operations.resume()

    def add(self, service: Service) -> None:
        """Serve one more service; before `start`, which routes to it."""
        self.services[service.name] = service
        for name, fn in service.marked("_jobs"):
            self.operations.register(service.name, name, fn)

    def stop(self) -> None:
        """Stop what was started, in reverse."""
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

    def _part(self, attribute: str, module: str, cls: str) -> Any:
        try:
            return getattr(importlib.import_module(module), cls)(self)
        except Exception as error:
            return Absent(attribute, self.broke(attribute, error))

    def _load_services(self) -> list[Service]:
        found: list[Service] = []
        for info in pkgutil.iter_modules(gcp_sandbox.services.__path__, "gcp_sandbox.services."):
            short = info.name.rpartition(".")[2]
            try:
                module = importlib.import_module(info.name)
                classes = [
                    cls
                    for _, cls in inspect.getmembers(module, inspect.isclass)
                    if issubclass(cls, Service) and cls.name and cls.__module__.startswith(info.name)
                ]
                found += [cls(self) for cls in classes]
            except Exception as error:
                self.broke(short, error)
        return found

    def _start(self, name: str, part: Any) -> None:
        if isinstance(part, Absent):
            return
        self._started.append((name, part))
        if not hasattr(part, "start"):
            return
        try:
            part.start()
        except Exception as error:
            self.broke(name, error)
            self.services.pop(name, None)
            if name in PARTS:
                setattr(self, name, Absent(name, self.broken[name]))

    def broke(self, name: str, error: Exception) -> str:
        """Record that a service or part cannot be used, loudly; requests for it answer 501 and say why."""
        self.broken[name] = f"{type(error).__name__}: {error}"
        log.error("%s could not be loaded and answers 501", name, exc_info=error)
        return self.broken[name]
