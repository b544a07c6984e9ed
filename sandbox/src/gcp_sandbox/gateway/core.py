# SPDX-License-Identifier: Apache-2.0
"""The interface of a sandbox that its services see: what the gateway's own parts offer.

`backends.platform.Platform` adds the backends. `gcp_sandbox.sandbox.Sandbox` implements both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.gateway.enablement import Enablement
    from gcp_sandbox.gateway.faults import Faults
    from gcp_sandbox.gateway.iam import Iam
    from gcp_sandbox.gateway.identity import Identities
    from gcp_sandbox.gateway.ingress import Ingress
    from gcp_sandbox.gateway.latency import Latency
    from gcp_sandbox.gateway.messages import Request, Response
    from gcp_sandbox.gateway.operations import Operations
    from gcp_sandbox.gateway.ports import Ports
    from gcp_sandbox.gateway.projects import Projects
    from gcp_sandbox.gateway.requestlog import RequestLog
    from gcp_sandbox.store import Store


class Core(Protocol):
    """A sandbox without its backends, `call.sandbox` of a handler."""

    settings: Settings
    store: Store
    latency: Latency
    projects: Projects
    identities: Identities
    iam: Iam
    enablement: Enablement
    operations: Operations
    faults: Faults
    ingress: Ingress
    requests: RequestLog
    ports: Ports

    def answer(self, request: Request) -> Response:
        """Return the answer of the sandbox's services to a request."""
