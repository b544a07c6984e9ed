# SPDX-License-Identifier: Apache-2.0
"""The Admin API's refusals, in its own words.

Reasons are the codes of cloud.google.com/sql/docs/postgres/admin-api-error-messages in camelCase, without "ERROR_".
Most answers have the old shape without a status; the two that were recorded otherwise have classes of their own.
"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.identity import Principal
from gcp_sandbox.gateway.keys import Unusable


class WithStatus(ApiError):
    """The old shape plus the canonical status, as a database that does not exist is answered (recorded)."""

    def render(self, style: str = "rpc") -> dict[str, Any]:
        body = super().render(style)
        body["error"]["status"] = self.status
        return body


class Bare(ApiError):
    """Code and message and nothing else, as an update to a tier that the edition lacks is answered (recorded)."""

    def render(self, style: str = "rpc") -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}


def invalid(message: str) -> ApiError:
    """400, reason `invalid`: what is wrong with a request's content."""
    return ApiError(400, message, reason="invalid")


def unusable_key(error: Unusable) -> ApiError:
    """400 for a key of Cloud KMS that an instance cannot be made with."""
    text = {
        "name": "The KMS key name is invalid.",
        "location": "The KMS key must be in the same region as the instance.",
        "denied": f"The Cloud SQL service account {error.agent} does not have permission to use the Cloud KMS key.",
    }.get(error.kind, "The Cloud KMS key cannot be used.")
    return invalid(f"Invalid request: {text} {error}")


def networking(instance: dict[str, Any], reason: str) -> ApiError:
    """400 for a private network that an instance cannot be placed in."""
    name = f"{instance['project']}:{instance['name']}"
    return invalid(f"Invalid request: Incorrect Service Networking config for instance: {name}:{reason}.")


def missing(parameter: str) -> ApiError:
    return ApiError(400, f"Missing parameter: {parameter}.", reason="required")


def no_instance() -> ApiError:
    return ApiError(404, "The Cloud SQL instance does not exist.", reason="instanceDoesNotExist")


def instance_exists() -> ApiError:
    return ApiError(409, "The Cloud SQL instance already exists.", reason="instanceAlreadyExists")


def no_operation() -> ApiError:
    return ApiError(404, "The Cloud SQL instance operation does not exist.", reason="operationDoesNotExist")


def no_backup() -> ApiError:
    return ApiError(404, "The backup run does not exist.", reason="backupRunDoesNotExist")


def not_found() -> ApiError:
    """Return the error for a database or user that does not exist."""
    return WithStatus(404, "Not Found", reason="notFound")


def busy() -> ApiError:
    message = "Operation failed because another operation was already in progress."
    return ApiError(409, message, reason="operationInProgress")


def wrong_state() -> ApiError:
    message = "The instance or operation is not in an appropriate state to handle the request."
    return ApiError(409, message, reason="invalidState")


def not_running() -> ApiError:
    return invalid("Invalid request: Invalid request since instance is not running.")


def stale() -> ApiError:
    return ApiError(412, "Condition does not match.", reason="staleData", location="If-Match", location_type="header")


def protected() -> ApiError:
    message = (
        "The instance is protected. Please disable the deletion protection and try again. To disable deletion "
        "protection, update the instance settings with deletionProtectionEnabled set to false."
    )
    return ApiError(400, message, reason="protectedInstanceDeletionFailure")


def flag_name(name: str) -> ApiError:
    message = f"The requested flag ({name}) is either misspelled or unsupported by Cloud SQL."
    return ApiError(400, message, reason="invalidFlagName")


def flag_value(said: str) -> ApiError:
    return ApiError(400, f"Value requested is not valid. {said}", reason="invalidFlagValue")


def denied(principal: Principal, host: str, name: str, permission: str) -> ApiError:
    """Return the 403 for a missing permission."""
    return ApiError(403, "The client is not authorized to make this request.", reason="notAuthorized")
