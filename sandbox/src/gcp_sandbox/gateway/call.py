# SPDX-License-Identifier: Apache-2.0
"""A checked request, as a handler receives it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.messages import Headers, Media, Request
from gcp_sandbox.gateway.times import timestamp

if TYPE_CHECKING:
    from gcp_sandbox.gateway.core import Core
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.projects import Project


class ServiceFacts(Protocol):
    """The facts of a service that a call uses (`service.Service`)."""

    name: str

    @property
    def api_name(self) -> str | None:
        """Host name under which the API is enabled."""


@dataclass
class Call:
    """A checked request: parameters typed, body in the schema's camelCase, caller known."""

    sandbox: Core
    service: ServiceFacts
    method_id: str
    http_method: str
    host: str
    path: str
    url: str
    params: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]
    headers: Headers
    caller: Principal
    version: str = ""
    media: Media | None = None
    raw: bytes = b""
    #: The request as it arrived; `raw` and `media` are what most handlers want of it.
    request: Request | None = None
    now: str = field(default_factory=timestamp)

    def require(self, permission: str, resource: str) -> None:
        """ApiError 403 unless the caller has `permission` on `resource` (a full resource name)."""
        self.sandbox.iam.check(self.caller, self.sandbox.projects.canonical(resource), permission)

    def project(self, id_or_number: str) -> Project:
        """Return the project (.id, .number); ApiError 403 for one that does not exist, as for a forbidden one."""
        found = self.sandbox.projects.get(id_or_number)
        if found is None or found.state != "ACTIVE":
            raise self.sandbox.projects.invisible(id_or_number, self.service.api_name or "")
        return found

    def page(self, items: list[Any], *, key: str, default: int, maximum: int) -> dict[str, Any]:
        """Return the page of `items` for pageSize (or maxResults) and pageToken: {key: [...], "nextPageToken": ...}.

        An empty page has no key, as Google leaves empty lists out. Negative sizes and foreign tokens are 400.
        """
        asked = self.query.get("pageSize", self.query.get("maxResults")) or 0
        if asked < 0:
            raise errors.invalid("Page size must not be negative.")
        size = min(asked or default, maximum)
        start = self._page_start()
        answer: dict[str, Any] = {}
        if page := items[start : start + size]:
            answer[key] = page
        if start + size < len(items):
            answer["nextPageToken"] = base64.urlsafe_b64encode(f"offset:{start + size}".encode()).decode()
        return answer

    def _page_start(self) -> int:
        token = self.query.get("pageToken")
        if not token:
            return 0
        try:
            kind, _, value = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
            if kind != "offset":
                raise ValueError(kind)
            return int(value)
        except ValueError as error:
            raise errors.invalid("Invalid page token.") from error
