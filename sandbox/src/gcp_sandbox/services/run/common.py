# SPDX-License-Identifier: Apache-2.0
"""What services and jobs of Cloud Run share: reading, listing, etags, operations."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.service import Service
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.run import resources
from gcp_sandbox.services.run.containers import Failure
from gcp_sandbox.services.run.names import Name

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op

Json = dict[str, Any]

# A deleted resource could be restored for this long (`expireTime` of the answer to a deletion).
RETENTION = timedelta(days=30)


class Common(Service):
    """Base of the parts of the Run service."""

    now = staticmethod(timestamp)

    def canonical(self, name: str) -> str:
        """Return a resource name with the project's id, whichever of id and number was given."""
        prefix = f"//{self.api_name}/"
        return self.sandbox.projects.canonical(prefix + name).removeprefix(prefix)

    def load(self, kind: str, name: str) -> Json:
        """Return the resource; ApiError 404 when there is none."""
        body = self.store.get(kind, self.canonical(name))
        if body is None:
            raise self.missing(kind, name)
        return body

    @staticmethod
    def missing(kind: str, name: str) -> ApiError:
        """404 in the words of recorded traffic."""
        return errors.not_found(f'{kind.partition(".")[2]} "{name}" not found')

    def save(self, kind: str, body: Json, *, parent: str | None = None) -> None:
        """Write a resource, listed under its location unless `parent` says otherwise."""
        self.store.put(kind, body["name"], body, parent=Name.parse(body["name"]).location if parent is None else parent)

    def page_of(self, call: Call, kind: str, key: str) -> Json:
        """Return a page of the resources below the call's parent; location `-` means all of them."""
        parent = self.canonical(call.params["parent"])
        if parent.endswith("/locations/-"):
            rows = self.store.list(kind, prefix=parent.removesuffix("-"))
        else:
            rows = self.store.list(kind, parent=parent)
        return call.page([body for _, body in rows], key=key, default=100, maximum=500)

    def mark_deleted(self, body: Json, call: Call, kind: str, *, parent: str | None = None) -> None:
        """Mark a resource as being deleted."""
        body["deleteTime"] = call.now
        body["expireTime"] = (datetime.now(UTC) + RETENTION).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body["reconciling"] = True
        self.save(kind, body, parent=parent)

    def struck_deletion(self, op: Op, kind: str, name: str, *, parent: str | None = None) -> None:
        """Raise the error of a deletion that fails on request; the resource stays."""
        if op.fault:
            with self.store.transaction():
                body = self.store.get(kind, name)
                if body is not None:
                    for field in ("deleteTime", "expireTime", "reconciling"):
                        body.pop(field, None)
                    self.save(kind, body, parent=parent)
        op.strike()

    @staticmethod
    def struck(op: Op) -> Failure | None:
        """Return the failure of an operation that fails on request, or None."""
        return Failure("INTERNAL", "Internal error encountered.", reason="INTERNAL") if op.fault else None

    def operation(self, call: Call, body: Json, kind: str, work: str, seconds: float, args: Json) -> Json:
        """Start an operation on a resource; its metadata is the resource as it is now."""
        name = Name.parse(body["name"])
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"{name.location}/operations/{uuid.uuid4()}",
            seconds=seconds,
            job=work,
            args=args,
            project=name.project,
            body={"metadata": resources.shown(body, kind)},
            target=body["name"],
        )
        return {"name": op.name, **op.body}

    @staticmethod
    def validated(call: Call, body: Json, kind: str) -> Json:
        """Return the answer to a request with validateOnly: an operation that is over, and nothing changed."""
        location = Name.parse(body["name"]).location
        shown = resources.shown(body, kind)
        return {"name": f"{location}/operations/{uuid.uuid4()}", "metadata": shown, "done": True, "response": shown}
