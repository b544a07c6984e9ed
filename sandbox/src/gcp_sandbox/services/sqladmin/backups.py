# SPDX-License-Identifier: Apache-2.0
"""Backups: real ones on disk, of an instance (backup runs) and those that outlive it (final backups)."""

from __future__ import annotations

import datetime
from typing import Any

from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.config import remove_folder
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.sqladmin import refusals
from gcp_sandbox.services.sqladmin.base import (
    BACKUP,
    BACKUP_RUN,
    ONE,
    Base,
    matching,
)
from gcp_sandbox.services.sqladmin.refusals import missing

BACKING_UP, RESTORE, DELETE = 60, 120, 30  # seconds on Google Cloud


class Backups(Base):
    """backupRuns.*, backups.*, instances.restoreBackup"""

    @method("backupRuns.list", permission="cloudsql.backupRuns.list", on=ONE)
    def list_backup_runs(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        self._load(key)
        found = [self._backup_run(call, key, body) for _, body in reversed(self.store.list(BACKUP_RUN, parent=key))]
        return {"kind": "sql#backupRunsList", **call.page(found, key="items", default=500, maximum=500)}

    def _backup_run(self, call: Call, key: str, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"selfLink": f"{self._link(call.version, key)}/backupRuns/{body['id']}"}

    def _find_backup_run(self, call: Call) -> tuple[str, dict[str, Any]]:
        key = self._key(call)
        self._load(key)
        found = self.store.get(BACKUP_RUN, f"{key}/{call.params['id']}")
        if found is None:
            raise refusals.no_backup()
        return key, found

    @method("backupRuns.get", permission="cloudsql.backupRuns.get", on=ONE)
    def get_backup_run(self, call: Call) -> dict[str, Any]:
        return self._backup_run(call, *self._find_backup_run(call))

    @method("backupRuns.insert", permission="cloudsql.backupRuns.create", on=ONE)
    def insert_backup_run(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance, _ = self._running(key)
        # Ids are times in milliseconds, as Cloud SQL's are; the counter keeps two of one millisecond apart.
        id = str(int(datetime.datetime.now(datetime.UTC).timestamp() * 1000) + self.store.next_id("sqladmin.backupRun"))
        body = {
            "kind": "sql#backupRun",
            "backupKind": "SNAPSHOT",
            "databaseVersion": instance["databaseVersion"],
            "description": call.body.get("description"),
            "enqueuedTime": call.now,
            "id": id,
            "instance": instance["name"],
            "location": call.body.get("location") or instance["settings"]["backupConfiguration"].get("location", "us"),
            "startTime": call.now,
            "status": "RUNNING",
            "type": "ON_DEMAND",
            "windowStartTime": call.now,
        }
        context = {"backupContext": {"kind": "sql#backupContext", "backupId": id}}
        op = self._begin(call, key, "BACKUP_VOLUME", BACKING_UP, "backup", {"id": id}, context)
        self.store.put(BACKUP_RUN, f"{key}/{id}", {k: v for k, v in body.items() if v}, parent=key)
        return self._operation(call, op, accepted=True)

    def _back_up(self, instance: dict[str, Any], name: str) -> int:
        try:
            return self._server(instance).backup(self.sandbox.sql.backups(name))
        except SqlError as error:
            raise ApiError(500, f"The backup failed: {error}") from error

    @job("backup", settles=True)
    def backup(self, op: Op) -> None:
        name = f"{op.target}/{op.args['id']}"
        body = self.store.get(BACKUP_RUN, name)
        try:
            op.strike()
            size = self._back_up(self._load(op.target), op.args["id"])
        except ApiError as error:
            failure = {"kind": "sql#operationError", "code": "INTERNAL_ERROR", "message": error.message}
            self.store.put(BACKUP_RUN, name, body | {"status": "FAILED", "error": failure}, parent=op.target)
            raise
        op.elapse()
        done = {"status": "SUCCESSFUL", "endTime": timestamp(), "maxChargeableBytes": str(size)}
        self.store.put(BACKUP_RUN, name, body | done, parent=op.target)

    @method("backupRuns.delete", permission="cloudsql.backupRuns.delete", on=ONE)
    def delete_backup_run(self, call: Call) -> dict[str, Any]:
        key, body = self._find_backup_run(call)
        op = self._begin(call, key, "DELETE_BACKUP", DELETE, "delete_backup", {"id": body["id"]})
        return self._operation(call, op, accepted=True)

    @job("delete_backup")
    def delete_backup(self, op: Op) -> None:
        op.elapse()
        self.store.delete(BACKUP_RUN, f"{op.target}/{op.args['id']}")
        remove_folder(self.sandbox.sql.backups(op.args["id"]))

    @method("instances.restoreBackup", permission="cloudsql.instances.restoreBackup", on=ONE)
    def restore_backup(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        self._running(key)
        context = call.body.get("restoreBackupContext")
        if call.body.get("backup"):
            name, backup = call.body["backup"], self.store.get(BACKUP, call.body["backup"])
        elif context:
            source = (
                f"{context.get('project') or key.split('/')[0]}/{context.get('instanceId') or call.params['instance']}"
            )
            name, backup = context["backupRunId"], self.store.get(BACKUP_RUN, f"{source}/{context['backupRunId']}")
        else:
            raise missing("restoreBackupContext")
        if backup is None or backup.get("status", backup.get("state")) != "SUCCESSFUL":
            raise refusals.no_backup()
        op = self._begin(call, key, "RESTORE_VOLUME", RESTORE, "restore", {"backup": str(name).rpartition("/")[2]})
        return self._operation(call, op, accepted=True)

    @job("restore")
    def restore(self, op: Op) -> None:
        try:
            self._server(self._load(op.target)).restore(self.sandbox.sql.backups(op.args["backup"]))
        except SqlError as error:
            raise ApiError(500, f"The backup cannot be restored: {error}") from error

    # Backups that outlive their instance. Discovery ids differ in case between the versions.

    @method(
        "backups.listBackups",
        permission="cloudsql.backupRuns.list",
        on="//cloudresourcemanager.googleapis.com/{parent}",
    )
    @method(
        "Backups.ListBackups",
        permission="cloudsql.backupRuns.list",
        on="//cloudresourcemanager.googleapis.com/{parent}",
    )
    def list_backups(self, call: Call) -> dict[str, Any]:
        wanted = matching(call.query.get("filter", ""))
        project = call.project(call.params["parent"].partition("/")[2]).id
        found = [body for _, body in self.store.list(BACKUP, parent=project) if wanted(body)]
        return call.page(found, key="backups", default=500, maximum=500)

    def _find_backup(self, call: Call) -> dict[str, Any]:
        found = self.store.get(BACKUP, call.params["name"])
        if found is None:
            raise refusals.no_backup()
        return found

    @method("backups.getBackup", permission="cloudsql.backupRuns.get", on=lambda call: _project(call.params["name"]))
    @method("Backups.GetBackup", permission="cloudsql.backupRuns.get", on=lambda call: _project(call.params["name"]))
    def get_backup(self, call: Call) -> dict[str, Any]:
        return self._find_backup(call)

    @method(
        "backups.deleteBackup", permission="cloudsql.backupRuns.delete", on=lambda call: _project(call.params["name"])
    )
    @method(
        "Backups.DeleteBackup", permission="cloudsql.backupRuns.delete", on=lambda call: _project(call.params["name"])
    )
    def delete_final_backup(self, call: Call) -> dict[str, Any]:
        body = self._find_backup(call)
        project = body["name"].split("/")[1]
        op = self._begin(
            call, f"{project}/{body['instance']}", "DELETE_BACKUP", DELETE, "drop_backup", {"name": body["name"]}
        )
        return self._operation(call, op, accepted=True)

    @job("drop_backup")
    def drop_backup(self, op: Op) -> None:
        op.elapse()
        self.store.delete(BACKUP, op.args["name"])
        remove_folder(self.sandbox.sql.backups(op.args["name"].rpartition("/")[2]))


def _project(name: str) -> str:
    return f"//cloudresourcemanager.googleapis.com/{'/'.join(name.split('/')[:2])}"
