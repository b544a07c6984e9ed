# SPDX-License-Identifier: Apache-2.0
"""The three IAM methods that services share: getIamPolicy, setIamPolicy and testIamPermissions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway.errors import invalid
from gcp_sandbox.gateway.service import Handler, MethodSpec, Service

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call


class IamPolicies(Service):
    """Mixin: serves getIamPolicy, setIamPolicy and testIamPermissions wherever the discovery document has them.

    `iam_resources` names the collections and the first part of their permissions:

        iam_resources = {"projects.secrets": "secretmanager.secrets"}

    Override `iam_resource` where the resource's full name is not //<api>/{resource}, and `iam_exists` to answer 404 for
    what does not exist.
    """

    iam_resources: dict[str, str] = {}
    #: Whether policies may name allUsers and allAuthenticatedUsers.
    iam_public: bool = True

    def iam_resource(self, call: Call) -> str:
        """Full resource name of what the call is about."""
        return f"//{self.api_name}/{call.params['resource']}"

    def iam_exists(self, call: Call, resource: str) -> None:
        """Raise the service's 404 when there is no such resource; called after the permission was checked."""

    def extra_methods(self, ids: frozenset[str]) -> Iterator[tuple[MethodSpec, Handler]]:
        yield from super().extra_methods(ids)
        for collection, prefix in self.iam_resources.items():
            verbs = {
                "getIamPolicy": (self._get_iam_policy, f"{prefix}.getIamPolicy"),
                "setIamPolicy": (self._set_iam_policy, f"{prefix}.setIamPolicy"),
                "testIamPermissions": (self._test_iam_permissions, None),
            }
            for verb, (handler, permission) in verbs.items():
                if f"{collection}.{verb}" in ids:
                    yield MethodSpec(f"{collection}.{verb}", permission, self.iam_resource), handler

    def _get_iam_policy(self, call: Call) -> dict[str, Any]:
        resource = self.iam_resource(call)
        self.iam_exists(call, resource)
        return self.sandbox.iam.get_policy(resource, requested_version=requested_version(call))

    def _set_iam_policy(self, call: Call) -> dict[str, Any]:
        resource = self.iam_resource(call)
        self.iam_exists(call, resource)
        mask = call.body.get("updateMask", "")
        return self.sandbox.iam.set_policy(resource, call.body.get("policy", {}), mask, public=self.iam_public)

    def _test_iam_permissions(self, call: Call) -> dict[str, Any]:
        resource = self.iam_resource(call)
        return test_iam_permissions(call, resource)


def requested_version(call: Call) -> int:
    """`options.requestedPolicyVersion` of a getIamPolicy, from the query (GET) or the body (POST)."""
    return call.query.get("options.requestedPolicyVersion") or call.body.get("options", {}).get(
        "requestedPolicyVersion", 0
    )


def test_iam_permissions(call: Call, resource: str) -> dict[str, Any]:
    """Return the answer of testIamPermissions: the requested permissions that the caller has, in their order."""
    asked = call.body.get("permissions", call.query.get("permissions", []))
    for permission in asked:
        if "*" in permission or not re.fullmatch(r"[\w./-]+", permission):
            raise invalid(f"Permission {permission} is not valid for this resource.")
    granted = call.sandbox.iam.test(call.caller, resource, asked)
    held = [permission for permission in asked if permission in granted]
    return {"permissions": held} if held else {}
