# SPDX-License-Identifier: Apache-2.0
"""What the parts of App Engine share: finding things, what they look like from outside, operations."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gcp_sandbox.gateway import errors, filters, masks
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.services.appengine.base import (
    APP_KIND,
    METADATA,
    SERVICE_KIND,
    TYPE,
    VERSION_KIND,
    Json,
    on_project,
    shown,
)

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.services.appengine.runtime import Runtime


class Common(LongRunning):
    """Base of the parts of the App Engine service."""

    runtime: Runtime
    operation_permission = "appengine.operations.{verb}"

    def application(self, call: Call) -> Json:
        """Return the application that the call is about; ApiError 404 when the project has none."""
        project = call.project(call.params["appsId"])
        body = self.store.get(APP_KIND, f"apps/{project.id}")
        if body is None:
            raise errors.not_found(f'Could not find Application "{call.params["appsId"]}".')
        return body

    def service(self, call: Call) -> Json:
        """Return the service that the call is about; ApiError 404."""
        return self._below(self.application(call), SERVICE_KIND, call.params["servicesId"])

    def version(self, call: Call) -> Json:
        """Return the version that the call is about; ApiError 404."""
        return self._below(self.service(call), VERSION_KIND, call.params["versionsId"])

    def _below(self, parent: Json, kind: str, id: str) -> Json:
        plural = {SERVICE_KIND: "services", VERSION_KIND: "versions"}[kind]
        body = self.store.get(kind, f"{parent['name']}/{plural}/{id}")
        if body is None:
            noun, above = ("Service", "Application") if kind == SERVICE_KIND else ("Version", "Service")
            raise errors.not_found(f'Could not find {noun} "{id}" in {above} "{parent["id"]}".')
        return body

    @staticmethod
    def mask_of(call: Call, changeable: Iterable[str], *, ignored: Iterable[str] = ()) -> str:
        """Return the update mask of a patch without `ignored` fields; ApiError 400 where it names a field that
        cannot be changed.
        """
        paths = masks.mask_paths(call.query.get("updateMask"))
        if not paths:
            raise errors.invalid("The update mask must name at least one field.")
        for path in paths:
            if path[0] not in (*changeable, *ignored):
                raise errors.invalid(f"The update mask names '{'.'.join(path)}', which cannot be updated.")
        return ",".join(".".join(path) for path in paths if path[0] not in ignored)

    # -- operations

    def operation(self, call: Call, method: str, target: str, work: str, seconds: float, args: Json) -> Json:
        """Start an operation on the resource `target`, unless one is in progress.

        :param method: as the metadata names it, "Versions.CreateVersion".
        :raises ApiError: 409 ABORTED in Google's words.
        """
        self.check_idle(target)
        app = "/".join(target.split("/")[:2])
        metadata = {
            "@type": f"{TYPE}{call.version}.OperationMetadata{METADATA[call.version]}",
            "method": f"google.appengine.{call.version}.{method}",
            "insertTime": call.now,
            "user": call.caller.email,
            "target": target,
        }
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"{app}/operations/{uuid.uuid4()}",
            seconds=seconds,
            job=work,
            args={**args, "version": call.version},
            project=app.partition("/")[2],
            body={"metadata": metadata},
            target=target,
        )
        return self.operation_json(op)

    def check_idle(self, target: str, *, below: bool = False) -> None:
        """ApiError 409 while an operation on `target` is in progress, or on something `below` it."""
        for op in self.sandbox.operations.list(self.name, project=target.split("/")[1], active=True):
            if op.target == target or (below and op.target.startswith(f"{target}/")):
                raise errors.aborted(
                    f"Cannot operate on {target} because an operation is already in progress for {op.target} by "
                    f"{op.name.rpartition('/')[2]}."
                )

    @staticmethod
    def response(op: Op, kind: str, body: Json) -> Json:
        """Return a resource as the response of an operation."""
        return {"@type": f"{TYPE}{op.args['version']}.{kind}", **shown(body)}

    def operation_json(self, op: Op) -> Json:
        answer = super().operation_json(op)
        if op.ended:
            answer["metadata"] = {**answer["metadata"], "endTime": op.ended}
        return answer

    def operation_name(self, call: Call) -> str:
        return f"{self._app_name(call)}/operations/{call.params['operationsId']}"

    def operation_collection(self, call: Call) -> str:
        return self._app_name(call)

    def operation_parent(self, call: Call) -> str:
        return on_project(call)

    def operation_matches(self, call: Call, op: Op) -> bool:
        """Return whether an operation fits the filter; gcloud sends `done:false`."""
        text = call.query.get("filter", "")
        message = f"Unsupported filter {text!r}: the sandbox understands done:true and done:false."
        return filters.compile(text, _restriction, lambda rest: errors.invalid(message), words=())({"done": op.done})

    def _app_name(self, call: Call) -> str:
        return f"apps/{call.project(call.params['appsId']).id}"


def _restriction(term: Restriction) -> Predicate | None:
    if term.field != "done" or term.operator not in (":", "=") or term.value not in ("true", "false"):
        return None
    return lambda operation: operation["done"] == (term.value == "true")
