# SPDX-License-Identifier: Apache-2.0
"""Requests to deployed applications and the decision about them, as Identity-Aware Proxy and its callers share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.messages import Response
    from gcp_sandbox.gateway.projects import Project

# What IAP itself adds; whatever a client sends under these names does not reach the application.
OWN_HEADERS = ("x-goog-iap-jwt-assertion", "x-goog-authenticated-user-email", "x-goog-authenticated-user-id")


@dataclass(frozen=True)
class Protected:
    """An application behind IAP.

    :param resource: IAP's name of it, projects/NUMBER/iap_web/cloud_run-REGION/services/SERVICE.
    :param audience: of the assertion that it gets, /projects/NUMBER/locations/REGION/services/SERVICE.
    :param client_id: of the custom OAuth client that the application itself names, where a product has such a field;
        IapSettings go before it.
    """

    resource: str
    audience: str
    project: Project
    client_id: str = ""


@dataclass(frozen=True)
class WebRequest:
    """The parts of a request that IAP reads; header names in lower case.

    :param origin: origin that the browser sees, where it is not the application's.
    """

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]
    origin: str | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """The address that a browser shows."""
        return f"{self.origin}{self.path}" if self.origin else self.url

    @property
    def browser(self) -> bool:
        """Whether the client can be sent to a sign-in page: it follows redirects and shows HTML
        (cloud.google.com/iap/docs/faq).
        """
        accepted = self.headers.get("accept", "")
        ajax = self.headers.get("x-requested-with", "").lower() == "xmlhttprequest"
        return self.method in ("GET", "HEAD") and not ajax and ("text/html" in accepted or "*/*" in accepted)


@dataclass(frozen=True)
class Granted:
    """An authorized request: its principal (None for an anonymous one), headers to remove and to add."""

    principal: Principal | None
    remove: frozenset[str] = frozenset(OWN_HEADERS)
    headers: Mapping[str, str] = field(default_factory=dict)


class WebAuthorizer(Protocol):
    """A port (`gateway.ports`): decides about requests to applications that are protected by IAP."""

    def authorize(self, protected: Protected, request: WebRequest) -> Granted | Response:
        """Let a request through, or answer it."""
