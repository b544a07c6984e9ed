# SPDX-License-Identifier: Apache-2.0
"""Compute Engine's refusals, in its own words.

Answers have the old shape without a status. An operation's error has a code in capitals instead of a reason
(cloud.google.com/compute/docs/reference/rest/v1/globalOperations).
"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.identity import Principal


def not_found(path: str) -> ApiError:
    return ApiError(404, f"The resource '{path}' was not found", reason="notFound")


def exists(path: str) -> ApiError:
    return ApiError(409, f"The resource '{path}' already exists", reason="alreadyExists")


def not_ready(path: str) -> ApiError:
    """Return the error for a change while another one is in progress."""
    return ApiError(400, f"The resource '{path}' is not ready", reason="resourceNotReady")


def in_use(kind: str, path: str, user: str) -> ApiError:
    """Return the error for the deletion of what another resource uses."""
    message = f"The {kind} resource '{path}' is already being used by '{user}'"
    return ApiError(400, message, reason="resourceInUseByAnotherResource")


def usage(message: str) -> ApiError:
    """Return the error for what a resource of this kind cannot do."""
    return ApiError(400, f"Invalid resource usage: '{message}'.", reason="invalidResourceUsage")


def required(field: str) -> ApiError:
    return ApiError(400, f"Required field '{field}' not specified", reason="required")


def invalid(field: str, value: Any, said: str) -> ApiError:
    return ApiError(400, f"Invalid value for field '{field}': '{value}'. {said}", reason="invalid")


def stale(message: str = "Invalid fingerprint.") -> ApiError:
    """412 for a fingerprint that is not the resource's."""
    return ApiError(412, message, reason="conditionNotMet", location="If-Match", location_type="header")


def failed(code: str, message: str) -> ApiError:
    """Return the error of an operation."""
    return ApiError(400, message, errors=[{"code": code, "message": message}])


def denied(principal: Principal, host: str, name: str, permission: str) -> ApiError:
    """Return the 403 for a missing permission."""
    return ApiError(403, f"Required '{permission}' permission for '{name}'", reason="forbidden")
