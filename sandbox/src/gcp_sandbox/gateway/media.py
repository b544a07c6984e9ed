# SPDX-License-Identifier: Apache-2.0
"""Uploads: the metadata and the file out of a spooled multipart/related body."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.messages import Media

_CHUNK = 1 << 20
# The JSON part and both headers stand before the file; Google limits metadata far below this.
_HEAD = 4 << 20


def simple(path: Path, size: int, content_type: str | None) -> Media:
    """Return an upload that consists of the file only."""
    return Media(path, size, content_type)


def multipart(path: Path, content_type: str, spool: Path) -> Media:
    """Split a multipart/related body: first part JSON, second the file, which is copied out of `path`.

    Boundaries may stand in double quotes, or in single quotes as gcloud writes them.
    """
    found = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", content_type, re.IGNORECASE)
    if not found:
        raise errors.invalid("Missing boundary in multipart body.", reason="badContent")
    if found[2]:
        # The single quotes belong to the boundary in the strict reading; look which of the two stands in the body.
        with path.open("rb") as file:
            quoted = file.read(_HEAD).find(b"--'" + found[2].encode() + b"'") >= 0
        boundary = f"'{found[2]}'" if quoted else found[2]
    else:
        boundary = found[1] or found[3]
    return _split(path, b"--" + boundary.encode(), spool)


def _split(path: Path, delimiter: bytes, spool: Path) -> Media:
    bad = errors.invalid("Malformed multipart body.", reason="badContent")
    with path.open("rb") as file:
        head = file.read(_HEAD)
        start = head.find(delimiter)
        middle = head.find(b"\r\n" + delimiter, start + len(delimiter))
        newline = b"\r\n"
        if middle < 0:
            newline = b"\n"
            middle = head.find(b"\n" + delimiter, start + len(delimiter))
        if start < 0 or middle < 0:
            raise bad
        _, metadata_text = _part(head[start + len(delimiter) : middle], newline)
        second = middle + len(newline) + len(delimiter)
        head_end = head.find(newline * 2, second)
        if head_end < 0:
            raise bad
        headers = _headers(head[second:head_end])
        body_start = head_end + 2 * len(newline)
        body_end = _last(path, newline + delimiter, body_start)
        if body_end is None:
            raise bad
        with tempfile.NamedTemporaryFile(dir=spool, prefix="part-", delete=False) as out:
            file.seek(body_start)
            _copy(file, out, body_end - body_start)
    try:
        metadata: Any = json.loads(metadata_text) if metadata_text.strip() else {}
    except ValueError as error:
        Path(out.name).unlink()
        raise errors.invalid("Parse Error", reason="parseError") from error
    return Media(Path(out.name), body_end - body_start, headers.get("content-type"), metadata)


def _part(text: bytes, newline: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = text.partition(newline * 2)
    return _headers(head), body


def _headers(text: bytes) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in text.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}


def _last(path: Path, needle: bytes, start: int) -> int | None:
    """Offset of the last occurrence behind `start`, which stands near the end of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = max(start - len(needle), size - 4096, 0)
        file.seek(begin)
        at = file.read().rfind(needle)
    return begin + at if at >= 0 else None


def _copy(source: Any, target: Any, length: int) -> None:
    if length <= 0:
        return
    while length > 0:
        chunk = source.read(min(_CHUNK, length))
        if not chunk:
            return
        target.write(chunk)
        length -= len(chunk)


def free_spool(spool: Path) -> None:
    """Remove what an earlier run left half uploaded."""
    for entry in spool.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
