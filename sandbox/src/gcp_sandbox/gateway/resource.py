# SPDX-License-Identifier: Apache-2.0
"""Services that only store resources, by declaration: create, get, list, patch and delete from one `Resource` each.

    class CertificateManager(Resources):
        name = "certificatemanager"
        resources = (
            Resource("projects.locations.certificateMaps", id_parameter="certificateMapId", seconds=5),
        )

What a service does beyond storing goes into the hooks `prepare` (before a resource is stored) and `removing`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.discovery import Document
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.masks import merge_mask
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import Handler, MethodSpec, job

# Fields a service sets; taken from the request nowhere.
_OWNED = ("name", "createTime", "updateTime", "uid", "etag")


@dataclass(frozen=True)
class Resource:
    """A stored resource.

    :param collection: discovery id of the collection, "projects.locations.certificateMaps".
    :param id_parameter: query parameter of `create` that names the new one; "" where the body's `name` does.
    :param seconds: real-life duration of changes, which then answer with an operation; None where they answer at once.
    :param permission: stem of the permissions, "certificatemanager.certmaps"; derived from the collection when empty.
    :param id_pattern: what an id must look like.
    :param missing: message of 404; {name} and {id} are filled in.
    :param exists: message of 409.
    """

    collection: str
    id_parameter: str = ""
    seconds: float | None = None
    permission: str = ""
    id_pattern: str = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
    missing: str = "Resource '{name}' was not found"
    exists: str = "Resource '{name}' already exists"

    @property
    def plural(self) -> str:
        """Last part of the collection: the key of lists and the segment of names."""
        return self.collection.rpartition(".")[2]


class Resources(LongRunning):
    """Mixin: serves what `resources` declare, with operations where they take time."""

    resources: tuple[Resource, ...] = ()

    def prepare(self, resource: Resource, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Complete or refuse `body` before it is stored; `old` is None for a new resource."""

    def removing(self, resource: Resource, call: Call, body: dict[str, Any]) -> None:
        """Refuse the deletion of a resource that is in use."""

    def extra_methods(self, ids: frozenset[str]) -> Iterator[tuple[MethodSpec, Handler]]:
        yield from super().extra_methods(ids)
        verbs = {
            "create": ("create", "{parent}", self._create),
            "get": ("get", "{name}", self._get),
            "list": ("list", "{parent}", self._list),
            "patch": ("update", None, self._patch),
            "delete": ("delete", "{name}", self._delete),
        }
        for resource in self.resources:
            stem = resource.permission or f"{self.name}.{resource.plural}"
            for verb, (permission, on, handler) in verbs.items():
                id = f"{resource.collection}.{verb}"
                if id in ids:
                    where = on or (lambda call: next(iter(call.params.values())))
                    spec = MethodSpec(id, f"{stem}.{permission}", where)
                    yield spec, functools.partial(handler, resource)

    def _kind(self, resource: Resource) -> str:
        return f"{self.name}.{resource.collection}"

    def _load(self, resource: Resource, name: str) -> dict[str, Any]:
        body = self.store.get(self._kind(resource), self._canonical(name))
        if body is None:
            raise errors.not_found(resource.missing.format(name=name, id=name.rpartition("/")[2]))
        return body

    def _get(self, resource: Resource, call: Call) -> dict[str, Any]:
        return self._load(resource, call.params["name"])

    def _list(self, resource: Resource, call: Call) -> dict[str, Any]:
        rows = self.store.list(self._kind(resource), parent=self._canonical(call.params["parent"]))
        return call.page([body for _, body in rows], key=resource.plural, default=50, maximum=1000)

    def _create(self, resource: Resource, call: Call) -> dict[str, Any]:
        parent = self._canonical(call.params["parent"])
        given = call.query.get(resource.id_parameter) if resource.id_parameter else None
        id = given or str(call.body.get("name", "")).rpartition("/")[2]
        if not re.fullmatch(resource.id_pattern, id):
            field = resource.id_parameter or "name"
            raise errors.invalid(
                f"Invalid resource field value in the request: {field} '{id}' does not match {resource.id_pattern}."
            )
        name = f"{parent}/{resource.plural}/{id}"
        busy = self.sandbox.operations.list(self.name, target=name, active=True)
        if busy or self.store.get(self._kind(resource), name):
            raise errors.already_exists(resource.exists.format(name=name, id=id))
        body = {key: value for key, value in call.body.items() if key not in _OWNED}
        body = {"name": name, **body}
        self.prepare(resource, call, body, None)
        self._stamp(call, resource, body, created=True)
        return self._change(resource, call, "create", name, body)

    def _patch(self, resource: Resource, call: Call) -> dict[str, Any]:
        old = self._load(resource, next(iter(call.params.values())))
        self._check_etag(call.body.get("etag"), old)
        update = {key: value for key, value in call.body.items() if key not in _OWNED}
        body = merge_mask(old, update, call.query.get("updateMask"))
        body |= {key: old[key] for key in _OWNED if key in old}
        self.prepare(resource, call, body, old)
        self._stamp(call, resource, body, created=False)
        return self._change(resource, call, "update", old["name"], body)

    def _delete(self, resource: Resource, call: Call) -> dict[str, Any]:
        body = self._load(resource, call.params["name"])
        self._check_etag(call.query.get("etag"), body)
        self.removing(resource, call, body)
        return self._change(resource, call, "delete", body["name"], None)

    @staticmethod
    def _check_etag(sent: str | None, body: dict[str, Any]) -> None:
        if sent and sent != body.get("etag", sent):
            raise errors.aborted("The etag provided in the request does not match the resource's. Read it again.")

    def _stamp(self, call: Call, resource: Resource, body: dict[str, Any], *, created: bool) -> None:
        """Set the fields a service owns, as far as the schema has them."""
        known = self._schema(call, resource)
        values = {"updateTime": call.now}
        if created:
            values |= {"createTime": call.now, "uid": str(uuid.uuid4())}
        body |= {key: value for key, value in values.items() if key in known}
        if "etag" in known:
            body.pop("etag", None)
            digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
            body["etag"] = base64.urlsafe_b64encode(digest[:16]).decode()

    def _schema(self, call: Call, resource: Resource) -> dict[str, Any]:
        document: Document = self.sandbox.gateway.document(self.name, call.version)
        ref = document.methods[f"{resource.collection}.get"].response
        return document.schemas[ref or ""].get("properties", {})

    def _change(
        self, resource: Resource, call: Call, verb: str, name: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        if call.query.get("validateOnly"):
            return body or {}
        args = {"kind": self._kind(resource), "name": name, "body": body}
        if resource.seconds is None:
            self._write(args)
            return body or {}
        project = call.project(name.split("/")[1])
        location = "/".join(name.split("/")[:4])
        number = self.sandbox.store.next_id("resource-operation")
        metadata = {"createTime": call.now, "target": name, "verb": verb, "apiVersion": call.version}
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"{location}/operations/operation-{number:012d}",
            seconds=resource.seconds,
            job="resources.write",
            args=args,
            project=project.id,
            target=name,
            body={"metadata": metadata},
        )
        return self.operation_json(op)

    @job("resources.write")
    def _write_later(self, op: Op) -> dict[str, Any] | None:
        op.elapse()
        with self.store.transaction():
            self._write(op.args)
        return op.args["body"]

    def _write(self, args: dict[str, Any]) -> None:
        if args["body"] is None:
            self.store.delete(args["kind"], args["name"])
        else:
            parent = args["name"].rpartition("/")[0].rpartition("/")[0]
            self.store.put(args["kind"], args["name"], args["body"], parent=parent)
