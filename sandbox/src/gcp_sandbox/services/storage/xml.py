# SPDX-License-Identifier: Apache-2.0
"""The part of Cloud Storage's XML API that links to objects use: GET and HEAD of https://storage.googleapis.com/B/O."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from gcp_sandbox.gateway.errors import ApiError, unimplemented
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.pipeline import not_found_page
from gcp_sandbox.gateway.service import Service, route
from gcp_sandbox.services.storage.common import Access
from gcp_sandbox.services.storage.media import download

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

# Cloud Storage's XML error codes (cloud.google.com/storage/docs/xml-api/reference-status) by HTTP status.
CODES = {
    400: "InvalidArgument",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    416: "InvalidRange",
    501: "NotImplemented",
}
MESSAGES = {
    401: "Access denied.",
    403: "Access denied.",
    404: "The specified key does not exist.",
    412: "At least one of the pre-conditions you specified did not hold.",
    416: "The requested range cannot be satisfied.",
}


# First parts of the JSON API's own paths.
JSON_PATHS = frozenset({"batch", "download", "resumable", "storage", "upload"})


class StorageXml(Access, Service):
    """A service beside `Storage`, and after it: its routes match any path that the JSON API does not have."""

    name = "storage_xml"
    versions = ()
    api = None
    error_style = "legacy"

    @route("GET", "/{bucket}/{object+}", hosts=("storage.googleapis.com",), auth="optional")
    def get_by_path(self, call: Call) -> Response:
        return self._get(call, call.params["bucket"])

    @route("GET", "/{object+}", hosts=("*.storage.googleapis.com",), auth="optional")
    def get_by_host(self, call: Call) -> Response:
        return self._get(call, call.host.removesuffix(".storage.googleapis.com"))

    @route("*", "/{bucket}", hosts=("storage.googleapis.com",), auth="optional")
    @route("*", "/{bucket}/{object+}", hosts=("storage.googleapis.com",), auth="optional")
    @route("*", "/{object+}", hosts=("*.storage.googleapis.com",), auth="optional")
    def others(self, call: Call) -> Response:
        """Everything else of the XML API says that it is missing; paths of the JSON API that do not exist are 404."""
        assert call.request
        if call.params.get("bucket") in JSON_PATHS:
            return not_found_page(call.request)
        error = unimplemented(f"{call.http_method} of Cloud Storage's XML API")
        return _error(error.code, CODES[error.code], error.message, "")

    def _get(self, call: Call, name: str) -> Response:
        assert call.request
        if name in JSON_PATHS:
            return not_found_page(call.request)
        try:
            if {key.lower() for key in call.query} & {"x-goog-signature", "signature"}:
                raise unimplemented("signed URLs of Cloud Storage")
            bucket = self.objects.bucket(name)
            if bucket is None:
                return _error(404, "NoSuchBucket", "The specified bucket does not exist.", "")
            row = self.find_object(call, bucket, call.params["object"], call.query.get("generation"))
            self.check_readable(bucket, row)
            return download(call, row, self.objects.path(row))
        except ApiError as error:
            message = MESSAGES.get(error.code, error.message)
            return _error(error.code, CODES.get(error.code, "InternalError"), message, error.message)


def _error(status: int, code: str, message: str, details: str) -> Response:
    detail = f"<Details>{escape(details)}</Details>" if details and details != message else ""
    text = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{detail}</Error>"
    )
    return Response(status, {"Content-Type": "application/xml; charset=UTF-8"}, body=text.encode())
