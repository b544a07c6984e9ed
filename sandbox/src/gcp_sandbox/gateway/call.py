# SPDX-License-Identifier: Apache-2.0
"""What a request is on its way in (`Request`) and what a handler gets (`Call`)."""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.projects import Project
    from gcp_sandbox.gateway.sandbox import Sandbox
    from gcp_sandbox.gateway.service import Service


class Headers(Mapping[str, str]):
    """Request headers; names in any case. Of a repeated header the values are joined by ", "."""

    def __init__(self, pairs: Mapping[str, str] | list[tuple[str, str]] | None = None) -> None:
        self._values: dict[str, str] = {}
        items = pairs.items() if isinstance(pairs, Mapping) else pairs or ()
        for name, value in items:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class Media:
    """An upload, on disk. The file is removed after the call unless the handler has moved it away.

    `size` is in bytes; `metadata` is the JSON part of a multipart upload ({} otherwise).
    """

    path: Path
    size: int
    content_type: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def take(self, target: Path) -> Path:
        """Move the file to `target` (same file system as `settings.spool`) and keep it."""
        return self.path.replace(target)


@dataclass
class Request:
    """An HTTP request as it arrived. `raw_path` is still percent-encoded; the body is in memory or spooled to disk."""

    method: str
    host: str
    raw_path: str
    query_string: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    file: Path | None = None
    size: int = 0
    scheme: str = "https"

    @property
    def url(self) -> str:
        query = f"?{self.query_string}" if self.query_string else ""
        return f"{self.scheme}://{self.host}{self.raw_path}{query}"


@dataclass
class Call:
    """A checked request: parameters typed, body in the schema's camelCase, caller known."""

    sandbox: Sandbox
    service: Service
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
    now: str = field(default_factory=lambda: timestamp())

    def require(self, permission: str, resource: str) -> None:
        """ApiError 403 unless the caller has `permission` on `resource` (a full resource name)."""
        self.sandbox.iam.check(self.caller, self.sandbox.projects.canonical(resource), permission)

    def project(self, id_or_number: str) -> Project:
        """The project (.id, .number); ApiError 403 for one that does not exist, which Google does not tell apart."""
        found = self.sandbox.projects.get(id_or_number)
        if found is None or found.state != "ACTIVE":
            raise self.sandbox.projects.invisible(id_or_number, self.service.api_name or "")
        return found

    def page(self, items: list[Any], *, key: str, default: int, maximum: int) -> dict[str, Any]:
        """The page of `items` that pageSize (or maxResults) and pageToken ask for: {key: [...], "nextPageToken": ...}.

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


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 in UTC with microseconds, as Google writes times; `seconds` since the epoch, now by default."""
    moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text).timestamp()
