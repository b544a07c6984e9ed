# SPDX-License-Identifier: Apache-2.0
"""Uploads: simple, multipart and resumable uploads (cloud.google.com/storage/docs/uploads-downloads)."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gcp_sandbox.backends.objects import UPLOAD_GRANULARITY
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.service import route
from gcp_sandbox.services.storage.common import api, invalid, not_found
from gcp_sandbox.services.storage.objects import Objects, check_object_name

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-(?P<last>\d+|\*)|\*)/(?P<total>\d+|\*)")
CANCELLED = 499
KEPT_OPTIONS = (
    "ifGenerationMatch",
    "ifGenerationNotMatch",
    "ifMetagenerationMatch",
    "ifMetagenerationNotMatch",
    "kmsKeyName",
    "predefinedAcl",
    "projection",
)


class Uploads(Objects):
    """objects.insert and the protocol of resumable sessions."""

    #: Two requests of one session at once would interleave their bytes; sessions share locks by their hash.
    _locks = tuple(threading.Lock() for _ in range(32))

    @api("objects.insert", transaction=False)
    def insert_object(self, call: Call) -> dict | Response:
        bucket, query, media = self.find_bucket(call.params["bucket"]), call.query, call.media
        if media is None:
            raise invalid("Uploads must be sent to the upload URL.", reason="wrongUrlForUpload")
        kind = query.get("uploadType") or "media"
        metadata = dict(media.metadata) if kind != "media" else {}
        if kind != "media" or media.content_type:
            metadata.setdefault("contentType", media.content_type)
        if query.get("contentEncoding"):
            metadata["contentEncoding"] = query["contentEncoding"]
        if not metadata.get("contentType"):
            metadata.pop("contentType", None)
        name = check_object_name(query.get("name") or metadata.get("name"))
        options = {key: query[key] for key in KEPT_OPTIONS if query.get(key) is not None}
        self.before_write(call, bucket, name, metadata, options)
        if kind == "resumable":
            return self._begin(call, bucket, name, metadata, options)
        metadata |= _sent_hashes(call)
        row = self.write(call, bucket, name, self.objects.adopt(media.path), metadata, options)
        return self.render_object(bucket, row, _projection(options, metadata))

    # --- resumable sessions

    def _begin(self, call: Call, bucket: dict, name: str, metadata: dict, options: dict) -> Response:
        length = call.headers.get("x-upload-content-length")
        upload = self.objects.begin_upload(
            {
                "bucket": bucket["name"],
                "name": name,
                "metadata": metadata,
                "options": options,
                "caller": call.caller.email,
                "total": int(length) if length and length.isdigit() else None,
            }
        )
        base = call.path.partition("/b/")[0]
        location = (
            f"https://{call.host}{base}/b/{quote(bucket['name'])}/o"
            f"?uploadType=resumable&name={quote(name, safe='')}&upload_id={upload}"
        )
        return Response(headers={"Location": location, **_identity(upload)}, body=b"")

    @route("PUT", "/upload/storage/v1/b/{bucket}/o", auth="none", spool=True)
    @route("PUT", "/resumable/upload/storage/v1/b/{bucket}/o", auth="none", spool=True)
    def continue_upload(self, call: Call) -> Response:
        """Receive a chunk, the whole, or (`Content-Range: bytes */N`) the question how far it has come.

        A client that knows the session's address may continue it: that address is the credential, as on the service.
        """
        upload, session = self._session(call)
        if "result" in session:
            return Response(headers=_identity(upload), json=session["result"])
        first, last, total = _content_range(call)
        media = call.media
        assert media is not None
        with self._locks[hash(upload) % len(self._locks)]:
            have = self.objects.uploaded(upload)
            if first is None:
                if total is not None and have == total:
                    return self._finish(call, upload, session)
                return _incomplete(upload, have)
            size = media.size
            if last is not None and size != last - first + 1:
                raise _refused(
                    f"There were {size} byte(s) in the request body.  There should have been {last - first + 1} "
                    f"byte(s) (starting at offset {first} and ending at offset {last}) according to the Content-Range "
                    "header."
                )
            if first > have:
                raise _refused(
                    f"According to the Content-Range header, the upload offset is {first} byte(s), which exceeds "
                    f"already uploaded size of {have} byte(s).",
                    503,
                )
            final = total is not None and first + size >= total
            if final and first + size > (total or 0):
                raise _refused(f"The upload has {first + size} byte(s), more than its total size of {total} byte(s).")
            if not final and size < UPLOAD_GRANULARITY:
                raise _refused(
                    "The number of bytes uploaded is required to be equal or greater than 262144, except for the final "
                    "request (it's recommended to be the exact multiple of 262144).  The received request contained "
                    f"{size} bytes, which does not meet this requirement."
                )
            if first + size > have:
                have = self.objects.append(upload, media.path, skip=have - first, whole=final)
            return self._finish(call, upload, session) if final else _incomplete(upload, have)

    @route("DELETE", "/upload/storage/v1/b/{bucket}/o", auth="none", transaction=True)
    @route("DELETE", "/resumable/upload/storage/v1/b/{bucket}/o", auth="none", transaction=True)
    def cancel_upload(self, call: Call) -> Response:
        upload, _ = self._session(call)
        self.objects.end_upload(upload)
        return Response(CANCELLED, {**_identity(upload), "Content-Length": "0"})

    def _session(self, call: Call) -> tuple[str, dict]:
        upload = call.query.get("upload_id", "")
        session = self.objects.get_upload(upload)
        if not session or session.get("bucket", call.params["bucket"]) != call.params["bucket"]:
            raise not_found("No such upload session.")
        return upload, session

    def _finish(self, call: Call, upload: str, session: dict) -> Response:
        metadata, options = {**session["metadata"], **_sent_hashes(call)}, session["options"]
        # The caller that started the session owns the object, not the one that sends the last bytes.
        call.caller = self.sandbox.identities.principal(session["caller"]) or call.caller
        bucket = self.find_bucket(session["bucket"])
        blob = self.objects.take_upload(upload)
        with self.store.transaction():
            row = self.write(call, bucket, session["name"], blob, metadata, options)
            resource = self.render_object(bucket, row, _projection(options, metadata))
            self.objects.finish_upload(upload, resource)
        return Response(headers=_identity(upload), json=resource)


def _projection(options: dict, metadata: dict) -> str:
    return options.get("projection") or ("full" if metadata.get("acl") else "noAcl")


def _identity(upload: str) -> dict[str, str]:
    return {"X-GUploader-UploadID": upload, "Server": "UploadServer"}


def _incomplete(upload: str, have: int) -> Response:
    headers = {**_identity(upload), "Content-Length": "0"}
    if have:
        headers["Range"] = f"bytes=0-{have - 1}"
    return Response(308, headers)


def _refused(why: str, code: int = 400) -> ApiError:
    return ApiError(code, f"Invalid request.  {why}", reason="badRequest" if code == 400 else "backendError")


def _content_range(call: Call) -> tuple[int | None, int | None, int | None]:
    """Return (first, last, total) of Content-Range; first is None for a question, total where it is unknown."""
    header = call.headers.get("content-range")
    size = call.media.size if call.media else 0
    if not header:
        return 0, None, size
    found = CONTENT_RANGE.fullmatch(header.strip())
    if not found:
        raise _refused(f"Failed to parse Content-Range header: {header}")
    total = None if found["total"] == "*" else int(found["total"])
    if found["first"] is None:
        return None, None, total
    last = None if found["last"] == "*" else int(found["last"])
    return int(found["first"]), last, total


def _sent_hashes(call: Call) -> dict[str, Any]:
    """Checksums in the request's headers, as fields of the object: x-goog-hash: crc32c=...,md5=... and Content-MD5."""
    found = {}
    if md5 := call.headers.get("content-md5"):
        found["md5Hash"] = md5
    for entry in call.headers.get("x-goog-hash", "").split(","):
        kind, _, value = entry.strip().partition("=")
        if kind in ("crc32c", "md5"):
            found["crc32c" if kind == "crc32c" else "md5Hash"] = value
    return found
