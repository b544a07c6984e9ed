# SPDX-License-Identifier: Apache-2.0
"""Resources by declaration: create, get, list, patch and delete from one `Resource` each.

    class CertificateManager(Resources):
        name = "certificatemanager"
        resources = (
            Resource("projects.locations.certificateMaps", id_parameter="certificateMapId", seconds={"create": 5}),
        )

What a service does beyond storing goes into the methods that have no underscore, which do nothing by default.
"""

from __future__ import annotations

import base64
import functools
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gcp_sandbox.gateway import errors, etags
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.discovery import load_document
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.masks import mask_paths, merge_mask
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import Handler, MethodSpec, job

# Fields that a service sets; they are ignored in a request.
_OWNED = frozenset({"name", "createTime", "updateTime", "uid", "etag"})


@dataclass(frozen=True)
class Resource:
    """A stored resource.

    :param collection: discovery id of the collection, "projects.locations.certificateMaps".
    :param id_parameter: query parameter of `create` that names the new one; "" where the body's `name` does.
    :param seconds: duration of "create", "update" and "delete" on Google Cloud, which then answer with an operation;
        those that are not in here answer at once.
    :param permission: stem of the permissions, "certificatemanager.certmaps"; derived from the collection when empty.
    :param kind: kind in the store; derived from the collection when empty.
    :param id_pattern: what an id must look like.
    :param bad_id: message for another one; {id}, {pattern} and {parameter} are filled in.
    :param missing: message of 404; {name} and {id} are filled in.
    :param exists: message of 409; {name} and {id} are filled in.
    :param output_only: fields that are ignored in a request, beyond those that all resources have.
    :param mutable: fields that a patch may change; None for all.
    :param page_sizes: default and largest page of a list.
    """

    collection: str
    id_parameter: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    permission: str = ""
    kind: str = ""
    id_pattern: str = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
    bad_id: str = "Invalid resource field value in the request: {parameter} '{id}' does not match {pattern}."
    missing: str = "Resource '{name}' was not found"
    exists: str = "Resource '{name}' already exists"
    output_only: frozenset[str] = frozenset()
    mutable: frozenset[str] | None = None
    page_sizes: tuple[int, int] = (50, 1000)

    @property
    def plural(self) -> str:
        """Last part of the collection: the key of lists and the segment of names."""
        return self.collection.rpartition(".")[2]

    @property
    def ignored(self) -> frozenset[str]:
        """Fields that are ignored in a request."""
        return _OWNED | self.output_only


class Resources(LongRunning):
    """Mixin: serves what `resources` declare, with operations where they take time."""

    resources: tuple[Resource, ...] = ()

    # -- what a service may add

    def check_parent(self, resource: Resource, call: Call, parent: str) -> None:
        """Refuse to create a resource in `parent`."""

    def prepare(self, resource: Resource, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Complete or refuse `body` before it is stored; `old` is None for a new resource."""

    def removing(self, resource: Resource, call: Call, body: dict[str, Any]) -> None:
        """Refuse the deletion of a resource that is in use."""

    def removed(self, resource: Resource, name: str) -> None:
        """Remove what belongs to a resource, in the transaction that deletes it; possibly twice, after a crash."""

    def shown(self, resource: Resource, body: dict[str, Any], verb: str) -> dict[str, Any]:
        """Return a stored resource as `verb` ("create", "get", "list", "update") answers it."""
        return body

    def selected(self, resource: Resource, call: Call, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what a list's filter and order leave of the resources."""
        return bodies

    def metadata(self, call: Call, verb: str, name: str) -> dict[str, Any]:
        """Return the metadata of an operation."""
        return {"createTime": call.now, "target": name, "verb": verb, "apiVersion": call.version}

    def result(self, resource: Resource, verb: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the response of an operation, from the resource as stored; `body` is None for a deletion."""
        return {} if body is None else self.shown(resource, body, verb)

    def load(self, resource: Resource, name: str) -> dict[str, Any]:
        """Return a stored resource; ApiError 404."""
        body = self.store.get(self._kind(resource), self._canonical(name))
        if body is None:
            raise errors.not_found(resource.missing.format(name=name, id=name.rpartition("/")[2]))
        return body

    # -- the methods

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
                    also = (f"{stem}.get",) if verb == "patch" else ()
                    spec = MethodSpec(id, f"{stem}.{permission}", where, also=also)
                    yield spec, functools.partial(handler, resource)

    def _kind(self, resource: Resource) -> str:
        return resource.kind or f"{self.name}.{resource.collection}"

    def _get(self, resource: Resource, call: Call) -> dict[str, Any]:
        return self.shown(resource, self.load(resource, call.params["name"]), "get")

    def _list(self, resource: Resource, call: Call) -> dict[str, Any]:
        parent = self._canonical(call.params["parent"])
        # "-" stands for all collections of one level (google.aip.dev/159).
        prefix, wildcard, _ = parent.partition("/-")
        if wildcard:
            wanted = re.compile(re.escape(parent).replace(r"/\-", "/[^/]+") + f"/{resource.plural}/[^/]+")
            rows = [
                row for row in self.store.list(self._kind(resource), prefix=f"{prefix}/") if wanted.fullmatch(row[0])
            ]
        else:
            rows = self.store.list(self._kind(resource), parent=parent)
        bodies = [self.shown(resource, body, "list") for _, body in rows]
        default, maximum = resource.page_sizes
        return call.page(self.selected(resource, call, bodies), key=resource.plural, default=default, maximum=maximum)

    def _create(self, resource: Resource, call: Call) -> dict[str, Any]:
        parent = self._canonical(call.params["parent"])
        self.check_parent(resource, call, parent)
        given = call.query.get(resource.id_parameter, "") if resource.id_parameter else None
        id = str(call.body.get("name", "")).rpartition("/")[2] if given is None else given
        if not re.fullmatch(resource.id_pattern, id):
            parameter = resource.id_parameter or "name"
            raise errors.invalid(resource.bad_id.format(parameter=parameter, id=id, pattern=resource.id_pattern))
        name = f"{parent}/{resource.plural}/{id}"
        body = {"name": name, **{key: value for key, value in call.body.items() if key not in resource.ignored}}
        self.prepare(resource, call, body, None)
        busy = self.sandbox.operations.list(self.name, target=name, active=True)
        if busy or self.store.get(self._kind(resource), name):
            raise errors.already_exists(resource.exists.format(name=name, id=id))
        self._stamp(call, resource, body, created=True)
        return self._change(resource, call, "create", name, body)

    def _patch(self, resource: Resource, call: Call) -> dict[str, Any]:
        old = self.load(resource, next(iter(call.params.values())))
        self._check_etag(call.body.get("etag"), old)
        update = {key: value for key, value in call.body.items() if key not in resource.ignored}
        mask = call.query.get("updateMask")
        if resource.mutable is not None:
            update, mask = self._restricted(resource.mutable, update, mask)
        body = merge_mask(old, update, mask)
        body |= {key: old[key] for key in _OWNED if key in old}
        self.prepare(resource, call, body, old)
        self._stamp(call, resource, body, created=False)
        return self._change(resource, call, "update", old["name"], body)

    @staticmethod
    def _restricted(
        mutable: Collection[str], update: dict[str, Any], mask: str | None
    ) -> tuple[dict[str, Any], str | None]:
        """Return a patch's body and mask for `mutable` fields only; ApiError 400 where the mask names another one."""
        paths = mask_paths(mask)
        if not paths or paths == [["*"]]:
            return {key: value for key, value in update.items() if key in mutable}, None
        for path in paths:
            if path[0] not in mutable:
                raise errors.invalid(f"field {path[0]!r} in the update mask cannot be updated.")
        return update, mask

    def _delete(self, resource: Resource, call: Call) -> dict[str, Any]:
        body = self.load(resource, call.params["name"])
        self._check_etag(call.query.get("etag"), body)
        self.removing(resource, call, body)
        return self._change(resource, call, "delete", body["name"], None)

    @staticmethod
    def _check_etag(sent: str | None, body: dict[str, Any]) -> None:
        if "etag" in body and not etags.matches(sent, body["etag"]):
            raise errors.aborted("The etag provided in the request does not match the resource's. Read it again.")

    def _stamp(self, call: Call, resource: Resource, body: dict[str, Any], *, created: bool) -> None:
        """Set the fields that a service sets, as far as the schema has them."""
        known = self._schema(call, resource)
        values = {"updateTime": call.now}
        if created:
            values |= {"createTime": call.now, "uid": str(uuid.uuid4())}
        body |= {key: value for key, value in values.items() if key in known}
        if "etag" in known:
            body.pop("etag", None)
            body["etag"] = base64.urlsafe_b64encode(etags.digest(body)[:16]).decode()

    def _schema(self, call: Call, resource: Resource) -> dict[str, Any]:
        document = load_document(self.name, call.version)
        ref = document.methods[f"{resource.collection}.get"].response
        return document.schemas[ref or ""].get("properties", {})

    def _change(
        self, resource: Resource, call: Call, verb: str, name: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        if call.query.get("validateOnly"):
            return self.result(resource, verb, body)
        args = {"collection": resource.collection, "verb": verb, "name": name, "body": body}
        if verb not in resource.seconds:
            self._write(resource, name, body)
            return self.result(resource, verb, body)
        return self.begin(call, verb, name, resource.seconds[verb], "resources.write", args)

    def begin(
        self, call: Call, verb: str, target: str, seconds: float, job: str, args: dict[str, Any]
    ) -> dict[str, Any]:
        """Start an operation on a resource and return it as an answer."""
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"{'/'.join(target.split('/')[:4])}/operations/{uuid.uuid4()}",
            seconds=seconds,
            job=job,
            args=args,
            project=call.project(target.split("/")[1]).id,
            target=target,
            body={"metadata": self.metadata(call, verb, target)},
        )
        return self.operation_json(op)

    @job("resources.write")
    def _write_later(self, op: Op) -> dict[str, Any] | None:
        op.elapse()
        resource = next(one for one in self.resources if one.collection == op.args["collection"])
        with self.store.transaction():
            self._write(resource, op.args["name"], op.args["body"])
        return self.result(resource, op.args["verb"], op.args["body"])

    def _write(self, resource: Resource, name: str, body: dict[str, Any] | None) -> None:
        if body is None:
            self.removed(resource, name)
            self.store.delete(self._kind(resource), name)
        else:
            self.store.put(self._kind(resource), name, body, parent=name.rsplit("/", 2)[0])
