# SPDX-License-Identifier: Apache-2.0
"""Errors in Google's two shapes: google.rpc.Status, and the older list of `errors` with domain and reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# HTTP status -> canonical google.rpc.Code name (google/rpc/code.proto).
CANONICAL = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# Canonical name -> numeric google.rpc.Code, which is what `error.code` of a long-running operation holds.
RPC_CODE = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}

# The reason that the legacy shape gives where the service does not name one.
LEGACY_REASON = {
    400: "badRequest",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    413: "uploadTooLarge",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    500: "backendError",
    501: "notImplemented",
    503: "backendError",
}


class ApiError(Exception):
    """An answer other than success. Raised anywhere below the gateway, rendered in the service's error style.

    :param code: HTTP status.
    :param message: what a client shows its user; in Google's own words where they are known.
    :param status: canonical code; derived from the HTTP status unless given.
    :param reason: `reason` of the legacy shape's first error.
    :param details: google.rpc error details, each with its "@type".
    :param errors: the list of errors in both shapes, where one entry is not enough.
    :param legacy_errors: the legacy shape's list, for an error that has none in the other.
    :param location: what the error is about in the legacy shape, e.g. "ifGenerationMatch" or "Authorization".
    :param headers: extra response headers, e.g. Retry-After.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str | None = None,
        reason: str | None = None,
        domain: str = "global",
        details: Iterable[Mapping[str, Any]] = (),
        errors: list[dict[str, Any]] | None = None,
        legacy_errors: list[dict[str, Any]] | None = None,
        location: str | None = None,
        location_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or CANONICAL.get(code, "UNKNOWN")
        self.reason = reason
        self.domain = domain
        self.details = [dict(item) for item in details]
        self.errors = errors
        self.legacy_errors = legacy_errors
        self.location = location
        self.location_type = location_type
        self.headers = dict(headers or {})

    @property
    def rpc_code(self) -> int:
        """The google.rpc.Code of this error."""
        return RPC_CODE.get(self.status, 2)

    def as_status(self) -> dict[str, Any]:
        """google.rpc.Status as it stands in a long-running operation's `error`."""
        status: dict[str, Any] = {"code": self.rpc_code, "message": self.message}
        if self.details:
            status["details"] = self.details
        return status

    def render(self, style: str = "rpc") -> dict[str, Any]:
        """Return the response body: `style` is "rpc" or "legacy" (see `Service.error_style`)."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if style == "legacy":
            error["errors"] = self.legacy_errors or self.errors or [self._legacy_error()]
            # Services that moved from the legacy stack to the new one (sqladmin) send both for checked requests.
            if self.details:
                error["status"] = self.status
                error["details"] = self.details
        else:
            if self.errors or self.reason:
                error["errors"] = self.errors or [self._legacy_error()]
            error["status"] = self.status
            if self.details:
                error["details"] = self.details
        return {"error": error}

    def _legacy_error(self) -> dict[str, Any]:
        entry = {
            "message": self.message,
            "domain": self.domain,
            "reason": self.reason or LEGACY_REASON.get(self.code, "invalid"),
        }
        if self.location:
            entry["location"] = self.location
            entry["locationType"] = self.location_type or (
                "header" if self.location == "Authorization" else "parameter"
            )
        return entry


def bad_request(*violations: tuple[str, str]) -> dict[str, Any]:
    """google.rpc.BadRequest from (field, description) pairs; an empty field is left out, as Google does."""
    return {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [
            {"field": field, "description": text} if field else {"description": text} for field, text in violations
        ],
    }


def error_info(reason: str, domain: str = "googleapis.com", **metadata: str) -> dict[str, Any]:
    """google.rpc.ErrorInfo."""
    info: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain}
    if metadata:
        info["metadata"] = metadata
    return info


def invalid(message: str = "Request contains an invalid argument.", **more: Any) -> ApiError:
    """400 INVALID_ARGUMENT."""
    return ApiError(400, message, **more)


def failed_precondition(message: str, **more: Any) -> ApiError:
    """400 FAILED_PRECONDITION."""
    return ApiError(400, message, **{"status": "FAILED_PRECONDITION", **more})


def out_of_range(message: str, **more: Any) -> ApiError:
    """400 OUT_OF_RANGE."""
    return ApiError(400, message, **{"status": "OUT_OF_RANGE", **more})


def unauthenticated(message: str, **more: Any) -> ApiError:
    """401 UNAUTHENTICATED."""
    return ApiError(401, message, **more)


def permission_denied(message: str = "The caller does not have permission", **more: Any) -> ApiError:
    """403 PERMISSION_DENIED."""
    return ApiError(403, message, **more)


def not_found(message: str = "Requested entity was not found.", **more: Any) -> ApiError:
    """404 NOT_FOUND."""
    return ApiError(404, message, **more)


def already_exists(message: str = "Requested entity already exists", **more: Any) -> ApiError:
    """409 ALREADY_EXISTS."""
    return ApiError(409, message, **more)


def aborted(message: str, **more: Any) -> ApiError:
    """409 ABORTED: an etag or another concurrency check failed; read again and retry."""
    return ApiError(409, message, **{"status": "ABORTED", **more})


def precondition_failed(message: str, **more: Any) -> ApiError:
    """412, the legacy stack's answer to If-Match and friends."""
    return ApiError(412, message, **more)


def resource_exhausted(message: str, **more: Any) -> ApiError:
    """429 RESOURCE_EXHAUSTED: quota or rate."""
    return ApiError(429, message, **more)


def unavailable(message: str = "The service is currently unavailable.", **more: Any) -> ApiError:
    """503 UNAVAILABLE."""
    return ApiError(503, message, **more)


def unimplemented(what: str) -> ApiError:
    """501 for what Google has and the sandbox does not: `what` is a method, service or option, named in the answer."""
    return ApiError(501, f"gcp-sandbox does not implement {what}.", reason="notImplemented")
