# SPDX-License-Identifier: Apache-2.0
"""What the parts of the Admin API share: instances as they are kept, and operations, one at a time for an instance."""

from __future__ import annotations

import contextlib
import datetime
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from gcp_sandbox.backends.sql import Configuration, Missing, Server, SqlError, Stopped
from gcp_sandbox.gateway import etags, filters, keys
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import Service, method
from gcp_sandbox.services.sqladmin import catalog, refusals
from gcp_sandbox.services.sqladmin import settings as rules
from gcp_sandbox.services.sqladmin.refusals import invalid

INSTANCE = "sqladmin.instance"
BACKUP_RUN = "sqladmin.backupRun"
BACKUP = "sqladmin.backup"
USER = "sqladmin.user"  # fields of a user that the server does not keep: its password policy

PROJECT = "//cloudresourcemanager.googleapis.com/projects/{project}"
ONE = "projects/{project}/instances/{instance}"

# A request for a database or user is answered when its work is done; this bounds the work, in real seconds.
WORK_TIMEOUT = 300.0


class Base(Service):
    """Instances by "project/name": what the API shows of each but its selfLink, which depends on the API's version."""

    def _key(self, call: Call) -> str:
        return f"{call.project(call.params['project']).id}/{call.params['instance']}"

    def _load(self, key: str) -> dict[str, Any]:
        """Return the API's instance; 404 when there is none."""
        found = self.store.get(INSTANCE, key)
        if found is None:
            raise refusals.no_instance()
        return found

    def _save(self, key: str, instance: dict[str, Any]) -> None:
        instance["etag"] = etag({field: value for field, value in instance.items() if field != "etag"})
        self.store.put(INSTANCE, key, instance, parent=key.split("/")[0])

    def _show(self, call: Call, instance: dict[str, Any]) -> dict[str, Any]:
        key = f"{instance['project']}/{instance['name']}"
        shown = instance | {"selfLink": self._link(call.version, key)} | self._suspension(instance)
        if "databaseInstalledVersion" in instance:
            # A server that was made since then says what it is. Where none can be had, the catalogue's version stays.
            with contextlib.suppress(SqlError):
                served = self._server(instance).installed_version
                shown["databaseInstalledVersion"] = catalog.installed(instance["databaseVersion"], served)
        return shown

    @staticmethod
    def _link(version: str, key: str, kind: str = "instances") -> str:
        project, _, name = key.partition("/")
        path = "v1" if version == "v1" else "sql/v1beta4"
        return f"https://sqladmin.googleapis.com/{path}/projects/{project}/{kind}/{name}"

    def _suspension(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an instance that is suspended because its key cannot be used; none where it can."""
        name = instance.get("diskEncryptionConfiguration", {}).get("kmsKeyName")
        if name and instance["state"] == "RUNNABLE":
            project = self.sandbox.projects.get(instance["project"])
            try:
                keys.use(self.sandbox, self.name, project, name, decrypt=True)
            except keys.Unusable:
                return {"state": "SUSPENDED", "suspensionReason": ["KMS_KEY_ISSUE"]}
        return {}

    def _configuration(self, instance: dict[str, Any]) -> Configuration:
        settings = instance["settings"]
        version = instance["databaseVersion"]
        return Configuration(
            version=version,
            connections=catalog.max_connections(settings["tier"], version),
            flags=rules.flags(settings),
            networks=rules.tcp_networks(settings, datetime.datetime.now(datetime.UTC)),
            running=settings.get("activationPolicy") != "NEVER",
            binary_log=settings["backupConfiguration"].get("binaryLogEnabled", False),
            public=settings["ipConfiguration"]["ipv4Enabled"],
            private_network=self.network_path(instance),
        )

    def network_path(self, instance: dict[str, Any]) -> str:
        """Return the path of the network of an instance's private address, or ""."""
        name = instance["settings"]["ipConfiguration"].get("privateNetwork", "")
        path = re.sub(r"^https://[^/]+/compute/[^/]+/", "", name).strip("/")
        host = "//compute.googleapis.com/"
        return self.sandbox.projects.canonical(host + path).removeprefix(host) if path else ""

    def _server(self, instance: dict[str, Any]) -> Server:
        return self.sandbox.sql.server(instance["connectionName"], self._configuration(instance))

    def _running(self, key: str) -> tuple[dict[str, Any], Server]:
        """Return an instance with a server that can list its databases and users, and the server."""
        instance = self._load(key)
        stopped = instance["settings"].get("activationPolicy") == "NEVER"
        if instance["state"] not in ("RUNNABLE", "MAINTENANCE") or stopped or self._suspension(instance):
            raise refusals.not_running()
        try:
            return instance, self._server(instance)
        except SqlError as error:
            raise refusals.not_running() from error

    def _begin(
        self,
        call: Call,
        key: str,
        kind: str,
        seconds: float,
        job: str,
        args: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Op:
        """Start an operation on an instance; 409 when there is one already. To be called in a transaction."""
        operations = self.sandbox.operations
        project = key.split("/")[0]
        if operations.list(self.name, project, target=key, active=True):
            raise refusals.busy()
        body = {"operationType": kind, "user": call.caller.email, **(body or {})}
        return operations.start(
            service=self.name,
            name=str(uuid.uuid4()),
            seconds=seconds,
            job=job,
            args=args or {},
            project=project,
            body=body,
            target=key,
        )

    def _operation(self, call: Call, op: Op, *, accepted: bool = False) -> dict[str, Any]:
        """Return an operation as the API shows it; `accepted` is the answer to the request that started it."""
        answer = {
            "kind": "sql#operation",
            "insertTime": op.created,
            "name": op.name,
            "selfLink": self._link(call.version, f"{op.project}/{op.name}", "operations"),
            "status": "DONE" if op.done else "PENDING" if accepted else "RUNNING",
            "targetId": op.target.partition("/")[2],
            "targetLink": self._link(call.version, op.target),
            "targetProject": op.project,
            **op.body,
        }
        if op.done or not accepted:
            answer["startTime"] = op.created
        if op.done:
            answer["endTime"] = op.ended
        if op.error is not None:
            entry = {"kind": "sql#operationError", "code": op.error.get("reason", "INTERNAL_ERROR")}
            entry["message"] = op.error["message"]
            answer["error"] = {"kind": "sql#operationErrors", "errors": [entry]}
        return answer

    def _now(self, call: Call, key: str, kind: str, seconds: float, job: str, args: dict[str, Any]) -> dict[str, Any]:
        """Start an operation and answer when it is done; what failed in it is the request's own error."""
        with self.store.transaction():
            op = self._begin(call, key, kind, seconds, job, args)
        op = self.sandbox.operations.wait(op, WORK_TIMEOUT)
        if op.error is not None and not op.fault:
            reason = (op.error.get("errors") or [{}])[0].get("reason")
            raise refusals.not_found() if reason == "notFound" else invalid(op.error["message"])
        return self._operation(call, op)

    @method("operations.get", permission="cloudsql.instances.get", on=PROJECT)
    def get_operation(self, call: Call) -> dict[str, Any]:
        return self._operation(call, self._find_operation(call))

    def _find_operation(self, call: Call) -> Op:
        op = self.sandbox.operations.get(self.name, call.params["operation"])
        if op is None or op.project != call.project(call.params["project"]).id:
            raise refusals.no_operation()
        return op

    @method("operations.list", permission="cloudsql.instances.get", on=PROJECT)
    def list_operations(self, call: Call) -> dict[str, Any]:
        project = call.project(call.params["project"]).id
        instance = call.query.get("instance")
        found = self.sandbox.operations.list(self.name, project, target=f"{project}/{instance}" if instance else "")
        items = [self._operation(call, op) for op in reversed(found)]
        return {"kind": "sql#operationsList", **call.page(items, key="items", default=500, maximum=500)}

    @method("operations.cancel", permission="cloudsql.instances.update", on=PROJECT)
    def cancel_operation(self, call: Call) -> dict[str, Any]:
        """Cloud SQL can only cancel imports and exports, which there are none of here."""
        op = self._find_operation(call)
        raise invalid(f"Invalid request: Operation of type {op.body['operationType']} cannot be cancelled.")


class refused:
    """Turns a server's refusal into the API's words; `template` takes what the server said."""

    def __init__(self, template: str) -> None:
        self.template = template

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Missing):
            entry = {"domain": "global", "reason": "notFound", "message": "Not Found"}
            raise ApiError(404, "Not Found", errors=[entry]) from error
        if isinstance(error, SqlError):
            raise invalid(self.template.replace("{}", str(error))) from error


def asked(question: Callable[[], list[Any]]) -> list[Any]:
    """What a server answers; 400 when it does not run."""
    try:
        return question()
    except Stopped as error:
        raise refusals.not_running() from error
    except SqlError as error:
        raise ApiError(503, "Service temporarily unavailable.", reason="serverException") from error


def etag(body: dict[str, Any]) -> str:
    """Return an etag as Cloud SQL writes them: 64 hexadecimal digits."""
    return etags.digest(body).hex()


def matching(text: str) -> Predicate:
    """Return the predicate of a `filter`: restrictions with `:`, `=` or `!=` on any field, all of which must hold.

    `state`, `name`, `settings.userLabels.team` and any other path; the value `*` alone is anything.
    """
    return filters.compile(
        text, _restriction, lambda rest: invalid(f"Invalid request: Invalid filter: {text}."), words=("AND",)
    )


def _restriction(term: Restriction) -> Predicate | None:
    if term.operator not in (":", "=", "!="):
        return None

    def fits(body: Mapping[str, Any]) -> bool:
        value = filters.value_at(body, term.field)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        equal = value is not None and term.value in ("*", text)
        return equal != (term.operator == "!=")

    return fits
