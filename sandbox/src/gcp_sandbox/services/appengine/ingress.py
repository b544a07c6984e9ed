# SPDX-License-Identifier: Apache-2.0
"""Requests to applications: the version that a host leads to, and authorization.

In App Engine's order: the application serves at all (404 otherwise), its firewall lets the address in (403), the
service's ingress setting does (404), and IAP, where it is on for the application, decides (302, 401, 403). The rest is
the same for every product (gcp_sandbox.serving.front).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.serving.front import FrontEnd, Refusal, not_found
from gcp_sandbox.serving.web import Granted, Protected, WebAuthorizer, WebRequest

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.backends.pools import Pool
    from gcp_sandbox.services.appengine.runtime import Route, Runtime

INSIDE_ONLY = ("INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY", "INGRESS_TRAFFIC_ALLOWED_INTERNAL_AND_LB")


class AppIngress(FrontEnd):
    """The ASGI application behind *.appspot.com."""

    # Google's load balancer does not wait at all; a process that was just restarted gets a moment.
    max_wait = 20.0

    def __init__(self, sandbox: Platform, runtime: Runtime) -> None:
        super().__init__(sandbox)
        self.runtime = runtime

    def find(self, request: WebRequest, client: str) -> Route | None:
        return self.runtime.route(request, client)

    def pool(self, route: Route) -> Pool | None:
        return self.runtime.pool_of(route.version) if route.version else None

    def admit(self, route: Route, request: WebRequest) -> Granted | Response:
        """Return the firewall's and IAP's decision. Refusal, or a Response of IAP's, for an unauthorized request."""
        app = route.app
        if app.body["servingStatus"] != "SERVING":
            raise not_found()
        if not app.allows(route.client):
            raise Refusal(
                403, "Forbidden", "Access is forbidden.", f"The firewall of the application denies {route.client}."
            )
        if route.service.get("networkSettings", {}).get("ingressTrafficAllowed") in INSIDE_ONLY:
            raise not_found()
        # Only App Engine says something under these names.
        own = frozenset(name for name in request.headers if name.startswith("x-appengine-"))
        iap = app.body.get("iap", {})
        if not iap.get("enabled"):
            return Granted(None, own)
        decision = self.sandbox.ports.get(WebAuthorizer).authorize(self._protected(route, iap), request)
        if isinstance(decision, Response):
            return decision
        return Granted(decision.principal, decision.remove | own, decision.headers)

    def _protected(self, route: Route, iap: dict) -> Protected:
        project = self.sandbox.projects.get(route.app.body["id"])
        resource = f"projects/{project.number}/iap_web/appengine-{project.id}/services/{route.service['id']}"
        if route.version:
            resource += f"/versions/{route.version['id']}"
        return Protected(
            resource=resource,
            audience=f"/projects/{project.number}/apps/{project.id}",
            project=project,
            client_id=iap.get("oauth2ClientId", ""),
        )
