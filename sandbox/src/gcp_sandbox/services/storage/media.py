# SPDX-License-Identifier: Apache-2.0
"""Downloads: ranges, checksums and the headers that describe them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gcp_sandbox.backends.objects import CHUNK, parse_time
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Response

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

RANGE = re.compile(r"bytes=(\d*)-(\d*)")
NOT_CACHED = "no-cache, no-store, max-age=0, must-revalidate"


def content_headers(resource: dict) -> dict[str, str]:
    """Return the headers that describe an object's content, whatever part of it is sent."""
    hashes = [f"crc32c={resource['crc32c']}"]
    if resource.get("md5Hash"):
        hashes.append(f"md5={resource['md5Hash']}")
    headers = {
        "Content-Type": resource.get("contentType") or "application/octet-stream",
        "Cache-Control": resource.get("cacheControl") or NOT_CACHED,
        "ETag": resource["etag"],
        "Last-Modified": format_datetime(parse_time(resource["updated"]), usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": resource["generation"],
        "X-Goog-Metageneration": resource["metageneration"],
        "X-Goog-Hash": ",".join(hashes),
        "X-Goog-Storage-Class": resource["storageClass"],
        "X-Goog-Stored-Content-Encoding": resource.get("contentEncoding") or "identity",
        "X-Goog-Stored-Content-Length": resource["size"],
        "Server": "UploadServer",
    }
    for key, name in (
        ("contentDisposition", "Content-Disposition"),
        ("contentEncoding", "Content-Encoding"),
        ("contentLanguage", "Content-Language"),
    ):
        if resource.get(key):
            headers[name] = resource[key]
    return headers


def download(call: Call, row: dict, path: Path) -> Response:
    """Return the bytes of a generation, or the range that the request asks for."""
    resource = row["object"]
    headers, size = content_headers(resource), int(resource["size"])
    if resource.get("contentEncoding") == "gzip" and "gzip" not in call.headers.get("accept-encoding", ""):
        # Decompressive transcoding: cloud.google.com/storage/docs/transcoding. Ranges are ignored then.
        del headers["Content-Encoding"]
        headers["Warning"] = "214 UploadServer gunzipped"
        return Response(headers=headers, stream=_gunzip(path))
    part = _range(call.headers.get("range", ""), size)
    if part is None:
        headers["Content-Length"] = str(size)
        return Response(headers=headers, path=path, length=size)
    start, end = part
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    headers["Content-Length"] = str(end - start + 1)
    return Response(206, headers, path=path, start=start, length=end - start + 1)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Return (first, last) of a range request; None for the whole, as for all but one plain range of bytes."""
    found = RANGE.fullmatch(header.replace(" ", ""))
    if not found or found[1] == found[2] == "":
        return None
    if found[1] == "":
        length = int(found[2])
        start, end = max(size - length, 0), size - 1
        unsatisfiable = length == 0 or size == 0
    else:
        start = int(found[1])
        end = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < start:
            return None
        unsatisfiable = start >= size
    if unsatisfiable:
        raise ApiError(
            416,
            "Request range not satisfiable",
            reason="requestedRangeNotSatisfiable",
            location="Range",
            location_type="header",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _gunzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        while piece := file.read(CHUNK):
            yield piece
