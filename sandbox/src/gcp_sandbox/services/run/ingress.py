# SPDX-License-Identifier: Apache-2.0
"""Requests to deployed services: the revision that a host leads to, and authorization.

The service's ingress setting lets the request in (404 otherwise); IAP or the invoker check decides (302, 401, 403).
The rest is the same for every product (gcp_sandbox.serving.front).
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from gcp_sandbox.gateway import tokens
from gcp_sandbox.gateway.identity import ANONYMOUS, Principal
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.services.run import names
from gcp_sandbox.serving.front import MAX_BODY, FrontEnd, Refusal, not_found
from gcp_sandbox.serving.web import Granted, Protected, WebAuthorizer, WebRequest

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.backends.pools import Pool
    from gcp_sandbox.services.run.runtime import Route, Runtime

UNSIGNED = "SIGNATURE_REMOVED_BY_GOOGLE"

NO_AGENT = (
    "The IAP service account is not provisioned. Please follow the instructions to create service account and "
    "rectify IAP and "
    "Cloud Run setup: https://cloud.google.com/iap/docs/enabling-cloud-run"
)


def forbidden(path: str, note: str) -> Refusal:
    """403 of the invoker check."""
    text = f"Your client does not have permission to get URL <code>{html.escape(path)}</code> from this server."
    return Refusal(403, "Forbidden", text, note)


def unauthorized(path: str, problem: str) -> Refusal:
    """401 of the invoker check: an invalid token."""
    text = f"Your client does not have permission to the requested URL <code>{html.escape(path)}</code>."
    header = f'Bearer error="invalid_token" error_description="{problem}"'
    note = f"The request was not authenticated: {problem}."
    return Refusal(401, "Unauthorized", text, note, {"www-authenticate": header})


class RunIngress(FrontEnd):
    """The ASGI application behind *.run.app."""

    # cloud.google.com/run/quotas: responses that say their length instead of being streamed.
    max_answer = MAX_BODY

    def __init__(self, sandbox: Platform, runtime: Runtime) -> None:
        super().__init__(sandbox)
        self.runtime = runtime

    def find(self, request: WebRequest, client: str) -> Route | None:
        return self.runtime.route(request.host)

    def pool(self, route: Route) -> Pool | None:
        revision = route.choose()
        return self.runtime.pool(revision) if revision else None

    # -- authorization

    def admit(self, route: Route, request: WebRequest) -> Granted | Response:
        """Return IAP's or the invoker check's decision; Refusal or a Response of IAP's for an unauthorized request."""
        service = route.service
        if (
            service.get("deleteTime")
            or service.get("defaultUriDisabled")
            or service["ingress"] != "INGRESS_TRAFFIC_ALL"
        ):
            raise not_found()
        if service.get("iapEnabled"):
            return self._admit_through_iap(route, request)
        if service.get("invokerIamDisabled"):
            return Granted(None)
        resource = f"//run.googleapis.com/{service['name']}"
        header = "x-serverless-authorization" if "x-serverless-authorization" in request.headers else "authorization"
        scheme, _, token = request.headers.get(header, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            # Other schemes are the application's own business on a public service.
            if self.sandbox.iam.allowed(ANONYMOUS, resource, "run.routes.invoke"):
                return Granted(None)
            note = (
                "The request was not authenticated. Either allow unauthenticated invocations or set the proper "
                "Authorization "
                "header. Read more at https://cloud.google.com/run/docs/securing/authenticating"
            )
            raise forbidden(request.path, note)
        principal = self._invoker(route, token.strip())
        if principal is None:
            if self.sandbox.iam.allowed(ANONYMOUS, resource, "run.routes.invoke"):
                return Granted(None)
            raise unauthorized(request.path, "The access token could not be verified")
        if not self.sandbox.iam.allowed(principal, resource, "run.routes.invoke"):
            note = (
                f"The request was authenticated as {principal.email}, which lacks the run.routes.invoke permission "
                "on the "
                "service (roles/run.invoker)."
            )
            raise forbidden(request.path, note)
        return Granted(principal, frozenset({header}), {header: f"Bearer {unsigned(token.strip())}"})

    def _invoker(self, route: Route, token: str) -> Principal | None:
        """Return the owner of an ID token that is meant for this service; None for any other token."""
        name = route.name
        hosts = {route.host, *(names.hosts(name.id, route.number, name.region, route.tag))}
        audiences = {f"https://{host}{slash}" for host in hosts for slash in ("", "/")}
        audiences |= set(route.service.get("customAudiences", ())) | {name.id}
        return self.sandbox.identities.verify_id_token(token, audiences)

    def _admit_through_iap(self, route: Route, request: WebRequest) -> Granted | Response:
        name = route.name
        project = self.sandbox.projects.get(name.project)
        protected = Protected(
            resource=f"projects/{route.number}/iap_web/cloud_run-{name.region}/services/{name.id}",
            audience=f"/projects/{route.number}/locations/{name.region}/services/{name.id}",
            project=project,
        )
        decision = self.sandbox.ports.get(WebAuthorizer).authorize(protected, request)
        if isinstance(decision, Response):
            return decision
        if route.service.get("invokerIamDisabled"):
            return decision
        # Only then does IAP itself need access, as its service agent.
        agent = f"service-{route.number}@gcp-sa-iap.iam.gserviceaccount.com"
        resource = f"//run.googleapis.com/{route.service['name']}"
        known = self.sandbox.identities.account(agent) is not None
        principal = self.sandbox.identities.service_account(agent)
        if not known or not self.sandbox.iam.allowed(principal, resource, "run.routes.invoke"):
            headers = {"X-Goog-IAP-Generated-Response": "true", "content-type": "text/html"}
            return Response(403, headers, NO_AGENT.encode())
        token = self.sandbox.identities.mint_id_token(agent, f"https://{route.host}")
        added = {**decision.headers, "x-serverless-authorization": f"Bearer {unsigned(token)}"}
        return Granted(decision.principal, decision.remove | {"x-serverless-authorization"}, added)


def unsigned(token: str) -> str:
    """Return a JWT as the container sees it: readable, and of no use elsewhere."""
    try:
        tokens.split(token)
    except tokens.InvalidToken:
        return UNSIGNED
    return f"{token.rpartition('.')[0]}.{UNSIGNED}"
