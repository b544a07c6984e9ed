# SPDX-License-Identifier: Apache-2.0
"""Kinds of App Engine's resources in the store, and how the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, proto3
from gcp_sandbox.gateway.errors import ApiError

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

APP_KIND = "appengine.application"
SERVICE_KIND = "appengine.service"
VERSION_KIND = "appengine.version"
RULE_KIND = "appengine.firewallRule"

TYPE = "type.googleapis.com/google.appengine."
# How the message of an operation's metadata ends in each version of the API.
METADATA = {"v1": "V1", "v1beta": "V1Beta"}


def on_project(call: Call) -> str:
    """Permissions of App Engine are checked on the project: it has no policies of its own."""
    return f"//cloudresourcemanager.googleapis.com/projects/{call.params['appsId']}"


# Fields that are maps.
MAPS = ("allocations", "betaSettings", "buildEnvVariables", "envVariables", "labels")


def shown(body: Json) -> Json:
    """Return a resource as the API gives it back, without what only the sandbox knows of it."""
    own = {key: value for key, value in body.items() if not key.startswith("_")}
    return proto3.without_zeros(own, maps=MAPS)


def not_served(what: str) -> ApiError:
    """501 for a part of App Engine that the sandbox does not have."""
    return errors.unimplemented(f"{what} of App Engine")
