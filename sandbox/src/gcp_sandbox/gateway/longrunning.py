# SPDX-License-Identifier: Apache-2.0
"""The methods of google.longrunning for the operations of a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.service import Handler, MethodSpec, Service

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op


class LongRunning(Service):
    """Mixin: serves get, list, wait, cancel and delete of google.longrunning for every `...operations.*` id there is.

    The operation's `body` holds {"metadata": {...}}. Override `operation_json` for another shape, and
    `operation_permission` where the service checks one ("run.operations.{verb}").
    """

    operation_permission: str | None = None

    def operation_json(self, op: Op) -> dict[str, Any]:
        """google.longrunning.Operation."""
        answer: dict[str, Any] = {"name": op.name, **op.body}
        if op.done:
            answer["done"] = True
            if op.error is not None:
                answer["error"] = op.error
            else:
                answer["response"] = op.response if op.response is not None else {}
        return answer

    def extra_methods(self, ids: frozenset[str]) -> Iterator[tuple[MethodSpec, Handler]]:
        yield from super().extra_methods(ids)
        verbs = {
            "get": self._operation_get,
            "list": self._operation_list,
            "wait": self._operation_wait,
            "cancel": self._operation_cancel,
            "delete": self._operation_delete,
        }
        for id in ids:
            head, _, verb = id.rpartition(".")
            if verb in verbs and head.split(".")[-1] == "operations":
                right = "get" if verb == "wait" else verb
                permission = self.operation_permission and self.operation_permission.format(verb=right)
                spec = MethodSpec(id, permission, self.operation_parent, transaction=verb != "wait")
                yield spec, verbs[verb]

    def operation_parent(self, call: Call) -> str:
        """Return the resource that `operation_permission` is checked on: the operation's project."""
        name = next(iter(call.params.values()), "")
        return f"//cloudresourcemanager.googleapis.com/{'/'.join(name.split('/')[:2])}"

    def _canonical(self, name: str) -> str:
        """Return a relative name with the project's id for its number."""
        return self.sandbox.projects.canonical(f"//{self.name}/{name}").removeprefix(f"//{self.name}/")

    def operation_name(self, call: Call) -> str:
        """Return the name of the operation that a call is about."""
        return call.params["name"]

    def operation_collection(self, call: Call) -> str:
        """What a call lists the operations of, as their names begin."""
        return self._canonical(call.params.get("name", "")).removesuffix("/operations")

    def operation_matches(self, call: Call, op: Op) -> bool:
        """Return whether the call's filter, if the service has one, lets an operation be listed."""
        return True

    def _operation(self, call: Call) -> Op:
        name = self.operation_name(call)
        operations = self.sandbox.operations
        op = operations.get(self.name, name) or operations.get(self.name, self._canonical(name))
        if op is None:
            raise errors.not_found(f"Operation {name} not found.")
        return op

    def _operation_get(self, call: Call) -> dict[str, Any]:
        return self.operation_json(self._operation(call))

    def _operation_list(self, call: Call) -> dict[str, Any]:
        parent = self.operation_collection(call)
        ops = [op for op in self.sandbox.operations.list(self.name) if self.operation_matches(call, op)]
        mine = [
            self.operation_json(op) for op in ops if op.name.startswith(f"{parent}/") or parent in ("", "operations")
        ]
        return call.page(mine, key="operations", default=100, maximum=1000)

    def _operation_wait(self, call: Call) -> dict[str, Any]:
        # Google holds the request for at most its own limit whatever `timeout` asks for.
        text = call.body.get("timeout") or call.query.get("timeout") or "60s"
        op = self.sandbox.operations.wait(self._operation(call), min(float(str(text).removesuffix("s")), 60.0))
        return self.operation_json(op)

    def _operation_cancel(self, call: Call) -> dict[str, Any]:
        self.sandbox.operations.cancel(self._operation(call))
        return {}

    def _operation_delete(self, call: Call) -> dict[str, Any]:
        self.sandbox.operations.delete(self._operation(call))
        return {}
