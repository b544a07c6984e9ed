# SPDX-License-Identifier: Apache-2.0
"""Several calls in one request (cloud.google.com/storage/docs/batch): multipart/mixed, an HTTP request in each part."""

from __future__ import annotations

import email.parser
import email.policy
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gcp_sandbox.gateway.messages import Headers, Request, Response
from gcp_sandbox.gateway.service import route
from gcp_sandbox.services.storage.common import Access, invalid

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

MAX_CALLS = 100
PREFIX = "/storage/v1/"


@dataclass(frozen=True)
class Part:
    """One call of a batch; `error` says why it cannot be made."""

    id: str
    request: Request | None = None
    error: str = ""


class Batch(Access):
    """The batch endpoint. The gateway answers each call as if it had come alone, with the batch's credentials."""

    @route("POST", "/batch/storage/v1", auth="optional")
    @route("POST", "/batch", auth="optional")
    def batch(self, call: Call) -> Response:
        parts = _parse(call)
        if not parts:
            raise invalid("The batch request contains no calls.", reason="badRequest")
        if len(parts) > MAX_CALLS:
            raise invalid(
                f"The batch request contains {len(parts)} calls which exceeds the limit of {MAX_CALLS}.",
                reason="badRequest",
            )
        boundary = f"batch_{secrets.token_urlsafe(18)}"
        body = b"".join(_encode(part, self._answer(part), boundary) for part in parts) + f"--{boundary}--\r\n".encode()
        return Response(headers={"Content-Type": f"multipart/mixed; boundary={boundary}"}, body=body)

    def _answer(self, part: Part) -> Response:
        if part.request is None:
            error = invalid(part.error, reason="badRequest")
            return Response(error.code, json=error.render("legacy"))
        return self.sandbox.answer(part.request)


def _parse(call: Call) -> list[Part]:
    content_type = call.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/mixed"):
        raise invalid("The content type of a batch must be multipart/mixed.", reason="badRequest")
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + call.raw)
    if not message.is_multipart():
        raise invalid("Failed to parse the batch request.", reason="badRequest")
    inherited = {
        name: value for name, value in call.headers.items() if name in ("authorization", "x-goog-user-project")
    }
    return [_part(part, inherited, call.host) for part in message.iter_parts()]


def _part(message: email.message.Message, inherited: dict[str, str], host: str) -> Part:
    id = message.get("Content-ID", "")
    payload = message.get_payload(decode=True) or b""
    text, _, rest = payload.lstrip(b"\r\n").partition(b"\n")
    words = text.decode("latin-1").split()
    if len(words) < 2:
        return Part(id, error="Failed to parse the call's request line.")
    verb, url = words[0].upper(), urlsplit(words[1])
    if not url.path.startswith(PREFIX) or "alt=media" in url.query:
        return Part(id, error="Media and other APIs cannot be called in a batch.")
    head, _, body = rest.replace(b"\r\n", b"\n").partition(b"\n\n")
    if rest.startswith((b"\r\n", b"\n")):
        head, body = b"", rest.lstrip(b"\r\n")
    lines = (line.decode("latin-1").partition(":") for line in head.split(b"\n") if line.strip())
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    length = headers.get("content-length", "")
    body = body[: int(length)] if length.isdigit() else body.rstrip(b"\n")
    request = Request(
        method=verb,
        host=host,
        raw_path=url.path,
        query_string=url.query,
        headers=Headers({**inherited, **headers}),
        body=body,
        size=len(body),
    )
    return Part(id, request)


def _encode(part: Part, response: Response, boundary: str) -> bytes:
    reply = f"<response-{part.id[1:-1]}>" if part.id.startswith("<") else f"response-{part.id}"
    reason = HTTPStatus(response.status).phrase
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    head = [
        f"--{boundary}",
        "Content-Type: application/http",
        f"Content-ID: {reply}",
        "",
        f"HTTP/1.1 {response.status} {reason}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(head).encode() + response.body + b"\r\n"
