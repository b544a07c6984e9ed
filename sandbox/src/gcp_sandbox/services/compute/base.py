# SPDX-License-Identifier: Apache-2.0
"""What the parts of Compute Engine share: paths and links, stored resources, and operations."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gcp_sandbox.gateway import etags, filters
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import invalid as bad_filter
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import Service, job, method
from gcp_sandbox.services.compute import refusals

Body = dict[str, Any]

LINK = "https://www.googleapis.com/compute/v1/"
HOST = "//compute.googleapis.com/"

NETWORK, SUBNETWORK, ADDRESS = "compute.network", "compute.subnetwork", "compute.globalAddress"

#: Resources that permissions are checked on.
PROJECT = "projects/{project}"
NETWORK_PATH = "projects/{project}/global/networks/{network}"

NAME = r"(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
# A parameter that clients send with lists of every kind; the document has it for some.
PARTIAL = ("returnPartialSuccess",)
# The longest that `wait` holds a request.
WAIT_SECONDS = 120.0


class Base(Service):
    """Resources by path: "projects/p/global/networks/n". The API shows them as they are stored."""

    # --- paths and resources

    def path(self, reference: str, project: str = "") -> str:
        """Return the path of a resource that is named by a link, a path, or a path within a project."""
        found = re.sub(r"^(https?:)?//[^/]+/(compute/[^/]+/)?", "", reference).strip("/")
        if not found.startswith("projects/"):
            found = f"projects/{project}/{found}"
        return self.sandbox.projects.canonical(HOST + found).removeprefix(HOST)

    def _region(self, call: Call) -> str:
        """Return the region of a call; 400 for one that does not exist."""
        region = call.params["region"]
        if region not in REGIONS:
            raise refusals.invalid("region", region, "Unknown region.")
        return region

    def load(self, kind: str, path: str) -> Body:
        """Return the resource with this path, which may end in its number; ApiError 404."""
        found = self.store.get(kind, path)
        parent, _, last = path.rpartition("/")
        if found is None and last.isdigit():
            rows = self.store.list(kind, parent=parent)
            found = next((body for _, body in rows if body["id"] == last), None)
        if found is None:
            raise refusals.not_found(path)
        return found

    def _new(self, call: Call, kind: str, path: str) -> Body:
        """Return the fields of a new resource that a client cannot set; 400 for a bad name, 409 for one that exists."""
        name = path.rpartition("/")[2]
        if not name:
            raise refusals.required("resource.name")
        if not re.fullmatch(NAME, name):
            raise refusals.invalid("resource.name", name, f"Must be a match of regex '{NAME}'")
        if self.store.get(kind, path) or self.sandbox.operations.list(self.name, target=path, active=True):
            raise refusals.exists(path)
        return {"kind": kind_of(kind), **identity(call.now, path)}

    def _listed(self, call: Call, kind: str, parent: str, bodies: list[Body]) -> Body:
        """Return the answer of a list method."""
        wanted = matching(call.query.get("filter", ""))
        page = call.page([body for body in bodies if wanted(body)], key="items", default=500, maximum=500)
        return {"kind": f"{kind_of(kind)}List", "id": parent, **page, "selfLink": LINK + parent}

    # --- operations

    def begin(
        self,
        call: Call,
        verb: str,
        target: Body,
        seconds: float,
        writes: list[tuple[str, str, Body | None]],
        failure: dict[str, str] | None = None,
    ) -> Body:
        """Start an operation and return it as an answer. To be called in a transaction.

        :param target: the resource it works on, with its `selfLink` and `id`.
        :param seconds: how long it takes on Google Cloud; 0 for one that is done when it is answered.
        :param writes: kind, path and body of what changes when it ends; no body for what is deleted.
        :param failure: `code` and `message` of the error that it ends with instead.
        """
        path = target["selfLink"].removeprefix(LINK)
        if self.sandbox.operations.list(self.name, target=path, active=True):
            raise refusals.not_ready(path)
        scope = path.rsplit("/", 2)[0]
        now = int(time.time() * 1000)
        name = f"operation-{now}-{secrets.token_hex(6)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        body = {"id": number(), "operationType": verb, "user": call.caller.email, "targetId": target["id"]}
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"{scope}/operations/{name}",
            seconds=seconds,
            job="compute.write" if seconds else None,
            args={"writes": [list(write) for write in writes], "failure": failure},
            project=scope.split("/")[1],
            body=body | {"targetLink": target["selfLink"]},
            target=path,
        )
        if not seconds:
            self._apply(writes)
            op.done, op.ended = True, op.created
        return self.shown(op)

    @job("compute.write")
    def _write(self, op: Op) -> None:
        op.elapse()
        if op.args["failure"]:
            raise refusals.failed(**op.args["failure"])
        with self.store.transaction():
            self._apply(op.args["writes"])

    def _apply(self, writes: Iterable[Sequence[Any]]) -> None:
        for kind, path, body in writes:
            self.put(kind, path, body)

    def put(self, kind: str, path: str, body: Body | None) -> None:
        """Store a resource, or delete it."""
        if body is None:
            self.store.delete(kind, path)
        else:
            self.store.put(kind, path, body, parent=path.rpartition("/")[0])

    @staticmethod
    def shown(op: Op) -> Body:
        """Return an operation as the API shows it."""
        scope, _, name = op.name.rpartition("/operations/")
        answer = {
            "kind": "compute#operation",
            "name": name,
            "insertTime": op.created,
            "startTime": op.created,
            "status": "DONE" if op.done else "RUNNING",
            "progress": 100 if op.done else 0,
            "selfLink": LINK + op.name,
            **op.body,
        }
        if "/regions/" in scope:
            answer["region"] = LINK + scope
        if op.done:
            answer["endTime"] = op.ended
        if op.error is not None:
            entries = op.error.get("errors") or [{"code": "INTERNAL_ERROR", "message": op.error["message"]}]
            status = (400, "BAD REQUEST") if op.error.get("errors") else (503, "SERVICE UNAVAILABLE")
            answer |= {"error": {"errors": entries}, "httpErrorStatusCode": status[0], "httpErrorMessage": status[1]}
        return answer

    def _scope(self, call: Call) -> str:
        project = call.project(call.params["project"]).id
        return (
            f"projects/{project}/regions/{self._region(call)}"
            if "region" in call.params
            else f"projects/{project}/global"
        )

    def _operation(self, call: Call) -> Op:
        scope, wanted = self._scope(call), call.params["operation"]
        found = self.sandbox.operations.get(self.name, f"{scope}/operations/{wanted}")
        if found is None and wanted.isdigit():
            ops = self.sandbox.operations.list(self.name, scope.split("/")[1])
            found = next((op for op in ops if op.body["id"] == wanted and op.name.startswith(f"{scope}/")), None)
        if found is None:
            raise refusals.not_found(f"{scope}/operations/{wanted}")
        return found

    @method("globalOperations.get", permission="compute.globalOperations.get", on=PROJECT)
    @method("regionOperations.get", permission="compute.regionOperations.get", on=PROJECT)
    def get_operation(self, call: Call) -> Body:
        return self.shown(self._operation(call))

    @method("globalOperations.wait", permission="compute.globalOperations.get", on=PROJECT, transaction=False)
    @method("regionOperations.wait", permission="compute.regionOperations.get", on=PROJECT, transaction=False)
    def wait_operation(self, call: Call) -> Body:
        return self.shown(self.sandbox.operations.wait(self._operation(call), WAIT_SECONDS))

    @method("globalOperations.list", permission="compute.globalOperations.list", on=PROJECT, ignores=PARTIAL)
    @method("regionOperations.list", permission="compute.regionOperations.list", on=PROJECT, ignores=PARTIAL)
    def list_operations(self, call: Call) -> Body:
        scope = self._scope(call)
        ops = self.sandbox.operations.list(self.name, scope.split("/")[1])
        mine = [self.shown(op) for op in reversed(ops) if op.name.startswith(f"{scope}/operations/")]
        return self._listed(call, "compute.operation", f"{scope}/operations", mine)

    @method("globalOperations.delete", permission="compute.globalOperations.delete", on=PROJECT)
    @method("regionOperations.delete", permission="compute.regionOperations.delete", on=PROJECT)
    def delete_operation(self, call: Call) -> None:
        self.sandbox.operations.delete(self._operation(call))


def kind_of(kind: str) -> str:
    """`compute.globalAddress` -> `compute#address`, as `kind` fields have it."""
    return "compute#" + {ADDRESS: "address"}.get(kind, kind.partition(".")[2])


def number() -> str:
    """Return a new number of a resource, 19 digits."""
    return str(10**18 + secrets.randbelow(9 * 10**18))


def identity(now: str, path: str) -> Body:
    """Return the fields that every new resource has."""
    fields = {"id": number(), "name": path.rpartition("/")[2], "creationTimestamp": now}
    return fields | {"selfLink": LINK + path}


def fingerprint(body: Any) -> str:
    """Return a fingerprint as Compute Engine writes them: eight bytes in base64."""
    return base64.b64encode(etags.digest(body)[:8]).decode()


# The older form of a filter has words for operators, and regular expressions for values.
_TOKEN = filters.tokens(operators=rf"{filters.OPERATORS}|eq\b|ne\b")


def matching(text: str) -> Predicate:
    """Return the predicate of a list's `filter`; 400 for what is not served.

    `name = default`, `name != default`, `name : def*`, and `name eq "regular expression"`.
    """
    refused = bad_filter(f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.")
    return filters.compile(text, _restriction, lambda rest: refused, token=_TOKEN)


def _restriction(term: Restriction) -> Predicate | None:
    if term.operator not in ("=", "!=", ":", "eq", "ne"):
        return None
    try:
        pattern = re.compile(term.value) if term.operator in ("eq", "ne") else filters.wildcard(term.value)
    except re.error:
        return None

    def fits(body: Mapping[str, Any]) -> bool:
        found = filters.value_at(body, term.field)
        text = str(found).lower() if isinstance(found, bool) else str(found)
        equal = found is not None and pattern.fullmatch(text) is not None
        return equal != (term.operator in ("!=", "ne"))

    return fits
