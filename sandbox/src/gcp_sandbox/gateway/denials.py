# SPDX-License-Identifier: Apache-2.0
"""The error for a missing permission, which differs by service, and other facts that IAM needs about a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway.errors import ApiError, error_info

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Principal

#: (principal, host of the API, relative name of the resource, permission) -> the error.
Denial = Callable[["Principal", str, str, str], ApiError]


def generic(principal: Principal, host: str, name: str, permission: str) -> ApiError:
    """Return the 403 of most services."""
    message = f"Permission '{permission}' denied on resource '//{host}/{name}' (or it may not exist)."
    return ApiError(403, message, details=[_info(host, name, permission)])


def plain(principal: Principal, host: str, name: str, permission: str) -> ApiError:
    """Return the 403 that names neither permission nor resource."""
    return ApiError(403, "The caller does not have permission")


def worded(text: str) -> Denial:
    """Return 403s with a text of the service's own; {permission} and {name} are filled in."""

    def build(principal: Principal, host: str, name: str, permission: str) -> ApiError:
        message = text.format(permission=permission, name=name)
        return ApiError(403, message, details=[_info(host, name, permission)])

    return build


def _info(host: str, name: str, permission: str) -> dict[str, Any]:
    return error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", permission=permission, resource=name)


@dataclass(frozen=True)
class IamFacts:
    """Facts about the resources of a service that IAM uses.

    :param denial: returns the error for a missing permission.
    :param types: collection -> `resource.type` in conditions, "buckets" -> "Bucket".
    :param numbered: `resource.name` in conditions has the project's number (conditions-attribute-reference).
    :param permissions: permissions that roles.toml does not list, "maps: create get list" a line.
    :param roles: predefined roles that it does not list, as there: "x.admin" -> ("X Admin", "x.*").
    """

    denial: Denial = generic
    types: Mapping[str, str] = field(default_factory=dict)
    numbered: bool = False
    permissions: str = ""
    roles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
