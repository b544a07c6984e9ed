# SPDX-License-Identifier: Apache-2.0
"""HTTP messages: a request as it arrives, an upload on disk, and a response before it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
class Response:
    """An answer that is not plain JSON with status 200.

    Exactly one of `json`, `body`, `path` and `stream` is the content; `start` and `length` cut a range out of `path`.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    json: Any = None
    path: Path | None = None
    start: int = 0
    length: int | None = None
    stream: Iterable[bytes] | None = None


def chunks(response: Response, size: int = 1 << 20) -> Iterator[bytes]:
    """Return the content of a response, piece by piece."""
    if response.path is not None:
        remaining = response.length if response.length is not None else response.path.stat().st_size - response.start
        with response.path.open("rb") as file:
            file.seek(response.start)
            while remaining > 0 and (data := file.read(min(size, remaining))):
                remaining -= len(data)
                yield data
    elif response.stream is not None:
        yield from response.stream
    elif response.body:
        yield response.body
