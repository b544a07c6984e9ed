# SPDX-License-Identifier: Apache-2.0
"""Instances: made, changed, restarted, deleted, each as an operation that is polled for."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import uuid
from collections.abc import Callable
from typing import Any

from gcp_sandbox.backends.sql import Server, SqlError
from gcp_sandbox.config import remove_folder
from gcp_sandbox.gateway import keys
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import ApiError, unimplemented
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.ports import PrivateServices, Vpc
from gcp_sandbox.gateway.projects import Project
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.sqladmin import catalog, refusals
from gcp_sandbox.services.sqladmin import settings as rules
from gcp_sandbox.services.sqladmin.base import (
    BACKUP,
    BACKUP_RUN,
    INSTANCE,
    ONE,
    PROJECT,
    USER,
    Base,
    matching,
)
from gcp_sandbox.services.sqladmin.certificates import server_ca
from gcp_sandbox.services.sqladmin.refusals import invalid, missing

# Seconds that operations take on Google Cloud.
CREATE, DELETE, RESTART, UPGRADE = 300, 30, 45, 600
PATCH_RESTARTING, PATCH_LIVE = 60, 5

NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
NAME_LIMIT = 98  # of "project:instance" (cloud.google.com/sql/docs/postgres/instance-settings#instance-id-2ndgen)
DEFAULT_VERSION = "MYSQL_8_0"
DEFAULT_REGION = "us-central1"
FINAL_BACKUP_DAYS = 30
NETWORKING = "servicenetworking.googleapis.com"
# How many private addresses of a range are tried.
MOST_INSTANCES = 4096


class Instances(Base):
    """instances.*"""

    @method("instances.get", permission="cloudsql.instances.get", on=ONE)
    def get_instance(self, call: Call) -> dict[str, Any]:
        return self._show(call, self._load(self._key(call)))

    @method("instances.list", permission="cloudsql.instances.list", on=PROJECT)
    def list_instances(self, call: Call) -> dict[str, Any]:
        wanted = matching(call.query.get("filter", ""))
        found = self.store.list(INSTANCE, parent=call.project(call.params["project"]).id)
        items = [self._show(call, body) for _, body in found if wanted(body)]
        return {"kind": "sql#instancesList", **call.page(items, key="items", default=500, maximum=500)}

    @method("instances.insert", permission="cloudsql.instances.create", on=PROJECT)
    def insert_instance(self, call: Call) -> dict[str, Any]:
        project = call.project(call.params["project"])
        body = rules.without_nulls(call.body)
        name = body.get("name") or ""
        if not NAME.fullmatch(name) or len(f"{project.id}:{name}") > NAME_LIMIT:
            raise invalid(f"Invalid request: instance name ({name}).")
        if "settings" not in body or not body["settings"].get("tier"):
            raise missing("tier")
        if body.get("instanceType", "CLOUD_SQL_INSTANCE") != "CLOUD_SQL_INSTANCE" or body.get("masterInstanceName"):
            raise unimplemented("read replicas and external primaries of Cloud SQL (instances.insert)")
        key = f"{project.id}/{name}"
        if self.store.get(INSTANCE, key):
            raise refusals.instance_exists()
        version = body.get("databaseVersion", DEFAULT_VERSION)
        region = body.get("region", DEFAULT_REGION)
        if region not in REGIONS:
            raise invalid(f"Invalid request: Invalid region ({region}).")
        asked = body["settings"]
        asked.pop("settingsVersion", None)
        connection_name = f"{project.id}:{region}:{name}"
        settings = rules.fresh(asked, version, rules.Place.of(connection_name, region))
        rules.check(settings, version, region)
        self._check_flags(settings, version)
        instance = {
            **self._encryption(project, body, region),
            "kind": "sql#instance",
            "backendType": "SECOND_GEN",
            "connectionName": connection_name,
            "createTime": call.now,
            "databaseVersion": version,
            "instanceType": "CLOUD_SQL_INSTANCE",
            "name": name,
            "project": project.id,
            "region": region,
            "settings": settings | {"settingsVersion": "1"},
            "state": "PENDING_CREATE",
        }
        self._check_network(instance)
        secret = None
        if "rootPassword" in body:
            secret = self.sandbox.sql.engine(version).hash_password(body["rootPassword"])
        self._save(key, instance)
        op = self._begin(call, key, "CREATE", CREATE, "create", {"secret": secret})
        return self._operation(call, op, accepted=True)

    def _check_network(self, instance: dict[str, Any]) -> None:
        """400 unless the network of a private address exists and is connected to Google's services.

        Reasons are the ones that Google's users report, but for the network that does not exist.
        """
        path = self.network_path(instance)
        if not path:
            return
        host = self.sandbox.projects.get(path.split("/")[1])
        if host is None or self.sandbox.enablement.state(host, NETWORKING) != "ENABLED":
            raise refusals.networking(instance, "SERVICE_NETWORKING_NOT_ENABLED")
        if self.sandbox.ports.get(Vpc).network(path) is None:
            raise refusals.networking(instance, "NETWORK_NOT_FOUND")
        ranges = self.sandbox.ports.get(PrivateServices).ranges(path)
        if ranges is None:
            raise refusals.networking(instance, "NETWORK_NOT_PEERED")
        wanted = instance["settings"]["ipConfiguration"].get("allocatedIpRange")
        if wanted and wanted not in ranges:
            raise invalid(f"Invalid request: Allocated IP range '{wanted}' not found in network.")

    def uses_network(self, path: str) -> bool:
        """Return whether an instance has a private address in a network."""
        return any(self.network_path(instance) == path for _, instance in self.store.list(INSTANCE))

    def _encryption(self, project: Project, body: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the fields about the key of a new instance."""
        name = (body.get("diskEncryptionConfiguration") or {}).get("kmsKeyName")
        if not name:
            return {}
        try:
            version = keys.use(self.sandbox, self.name, project, name, [region])
        except keys.Unusable as error:
            raise refusals.unusable_key(error) from error
        return {
            "diskEncryptionConfiguration": {"kind": "sql#diskEncryptionConfiguration", "kmsKeyName": name},
            "diskEncryptionStatus": {"kind": "sql#diskEncryptionStatus", "kmsKeyVersionName": version},
        }

    @job("create", settles=True)
    def create(self, op: Op) -> None:
        instance = self._load(op.target)
        name = instance["connectionName"]
        try:
            op.strike()
            server = self.sandbox.sql.create(name, self._configuration(instance), op.args["secret"])
            op.elapse()
        except (SqlError, ApiError) as error:
            with self.store.transaction():
                self._save(op.target, self._load(op.target) | {"state": "FAILED"})
            if isinstance(error, ApiError):
                raise
            raise ApiError(500, f"The server could not be made: {error}") from error
        try:
            with self.store.transaction():
                instance = self._load(op.target)
                instance |= self._made(instance) | self._versions(instance, server)
                self._save(op.target, instance | {"state": "RUNNABLE"})
        except ApiError:  # there is no private address left
            with self.store.transaction():
                self._save(op.target, self._load(op.target) | {"state": "FAILED"})
            raise

    def _made(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that an instance has once it exists."""
        version, region = instance["databaseVersion"], instance["region"]
        project = self.sandbox.projects.get(instance["project"])
        digest = hashlib.sha256(instance["connectionName"].encode()).hexdigest()
        gemini = {"activeQueryEnabled": False, "entitled": False, "indexAdvisorEnabled": False}
        if catalog.is_postgres(version):
            gemini |= {"googleVacuumMgmtEnabled": False, "oomSessionCancelEnabled": False}
        elif catalog.is_mysql(version):
            gemini |= {"flagRecommenderEnabled": True}
        return {
            **rules.zones(instance["settings"], region),
            "geminiConfig": gemini,
            "ipAddresses": self._addresses(instance),
            **private_service_connect(instance),
            "satisfiesPzi": True,
            "serverCaCert": self._certificate(instance),
            "serviceAccountEmailAddress": f"p{project.number}-{digest[:6]}@gcp-sa-cloud-sql.iam.gserviceaccount.com",
            "sqlNetworkArchitecture": "NEW_NETWORK_ARCHITECTURE",
        }

    def _addresses(self, instance: dict[str, Any]) -> list[dict[str, str]]:
        """TCP is on 127.0.0.1, at the port that `gcp-sandbox status` prints; the other addresses are for show."""
        network = instance["settings"]["ipConfiguration"]
        digest = hashlib.sha256(instance["connectionName"].encode()).digest()
        found = []
        if network["ipv4Enabled"]:
            found.append({"ipAddress": "127.0.0.1", "type": "PRIMARY"})
            if catalog.is_postgres(instance["databaseVersion"]):
                found.append({"ipAddress": f"203.0.113.{digest[0] % 254 + 1}", "type": "OUTGOING"})
        if path := self.network_path(instance):
            found.append({"ipAddress": self._private_address(instance, path), "type": "PRIVATE"})
        return found

    def _private_address(self, instance: dict[str, Any], path: str) -> str:
        """Return an address in a range of the network's connection: the instance's own, or one that no other has."""
        ranges = self.sandbox.ports.get(PrivateServices).ranges(path) or {}
        wanted = instance["settings"]["ipConfiguration"].get("allocatedIpRange")
        blocks = [block for name, block in ranges.items() if wanted in (None, "", name)]
        own = private_address(instance)
        if own and (not blocks or any(ipaddress.ip_address(own) in block for block in blocks)):
            return own
        taken = {private_address(other) for _, other in self.store.list(INSTANCE)}
        for block in blocks:
            # The first and the last addresses of a subnetwork are Google's.
            first, usable = int(block.network_address) + 3, block.num_addresses - 5
            for number in range(first, first + min(usable, MOST_INSTANCES)):
                if (address := str(ipaddress.ip_address(number))) not in taken:
                    return address
        raise ApiError(400, "Failed to create subnetwork. Couldn't find free blocks in allocated IP ranges.")

    @staticmethod
    def _certificate(instance: dict[str, Any]) -> dict[str, str]:
        """Return the server's CA."""
        fields = server_ca(instance["connectionName"], instance["createTime"])
        return {"kind": "sql#sslCert", "instance": instance["name"], **fields}

    @staticmethod
    def _versions(
        instance: dict[str, Any], server: Server, before: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        """What runs and what could. An upgrade of MySQL adds the targets of the new version to the list (recorded)."""
        version = instance["databaseVersion"]
        served = server.installed_version
        fields: dict[str, Any] = {
            "databaseInstalledVersion": catalog.installed(version, served),
            "maintenanceVersion": catalog.release(version, served),
        }
        if upgrades := catalog.upgrades(version):
            kept = [] if catalog.is_postgres(version) else before or []
            fields["upgradableDatabaseVersions"] = [*kept, *upgrades]
        return fields

    def _check_flags(self, settings: dict[str, Any], version: str) -> None:
        engine = self.sandbox.sql.engine(version)
        known = engine.flags(version)
        for name, value in rules.flags(settings).items():
            if known is not None and name not in known and "." not in name:
                raise refusals.flag_name(name)
            try:
                engine.check_flag(version, name, value)
            except SqlError as error:
                raise refusals.flag_value(f"Failed to set {name}: {error}") from error

    @method("instances.patch", permission="cloudsql.instances.update", on=ONE)
    def patch_instance(self, call: Call) -> dict[str, Any]:
        return self._change(call, rules.patched)

    @method("instances.update", permission="cloudsql.instances.update", on=ONE)
    def update_instance(self, call: Call) -> dict[str, Any]:
        def updated(old: Any, asked: Any, version: str, was: str) -> rules.Settings:
            return rules.updated(old, rules.without_nulls(asked), version)

        return self._change(call, updated)

    def _change(self, call: Call, compute: Callable[..., rules.Settings]) -> dict[str, Any]:
        key = self._key(call)
        instance = self._load(key)
        body = call.body
        for field in ("name", "region", "instanceType"):
            if body.get(field) is not None and body[field] != instance[field]:
                raise invalid(f"Invalid request: {field} cannot be changed ({instance[field]} to {body[field]}).")
        key_name = (body.get("diskEncryptionConfiguration") or {}).get("kmsKeyName")
        if key_name and key_name != instance.get("diskEncryptionConfiguration", {}).get("kmsKeyName"):
            raise invalid("Invalid request: The customer-managed encryption key of an instance cannot be changed.")
        if instance["state"] == "FAILED" or self._suspension(instance):
            raise refusals.wrong_state()
        was = instance["databaseVersion"]
        version = body.get("databaseVersion") or was
        self._check_upgrade(was, version)
        old = instance["settings"]
        asked = dict(body.get("settings") or {})
        sent = asked.pop("settingsVersion", None)
        # Versions only count up: a lower one was read before the last change, and a higher one cannot have been read.
        if sent is not None and int(sent) < int(old["settingsVersion"]):
            raise refusals.stale()
        new = compute(old, asked, version, was)
        rules.check(new, version, instance["region"], old, asked)
        self._check_flags(new, version)
        before = self.network_path(instance)
        instance["settings"] = new | {"settingsVersion": str(int(old["settingsVersion"]) + 1)}
        if before != self.network_path(instance):
            if not self.network_path(instance):
                raise invalid("Invalid request: The private network of an instance cannot be removed.")
            self._check_network(instance)
        instance["databaseVersion"] = version
        seconds = UPGRADE if version != was else PATCH_RESTARTING if self._restarts(old, new, version) else PATCH_LIVE
        op = self._begin(call, key, "UPDATE", seconds, "change", {"settings": instance["settings"], "version": version})
        return self._operation(call, op, accepted=True)

    @staticmethod
    def _check_upgrade(was: str, version: str) -> None:
        if version == was:
            return
        if catalog.is_postgres(was) != catalog.is_postgres(version) or catalog.is_mysql(was) != catalog.is_mysql(
            version
        ):
            raise invalid(f"Invalid request: The database engine cannot be changed from {was} to {version}.")
        if catalog.number(version) < catalog.number(was):
            raise invalid(f"Invalid request: The database version cannot be lowered from {was} to {version}.")

    def _restarts(self, old: rules.Settings, new: rules.Settings, version: str) -> bool:
        if any(old.get(field) != new.get(field) for field in rules.RESTARTING):
            return True
        if old["ipConfiguration"].get("privateNetwork") != new["ipConfiguration"].get("privateNetwork"):
            return True
        known = self.sandbox.sql.engine(version).flags(version) or {}
        changed = dict(rules.flags(old).items() ^ rules.flags(new).items())
        return any(name in known and known[name].restart for name in changed)

    @job("change")
    def change(self, op: Op) -> None:
        instance = self._load(op.target)
        before = (
            instance.get("upgradableDatabaseVersions") if op.args["version"] != instance["databaseVersion"] else None
        )
        same = op.args["version"] == instance["databaseVersion"]
        instance["databaseVersion"], instance["settings"] = op.args["version"], op.args["settings"]
        server = self._server(instance)
        try:
            server.configure(self._configuration(instance))
        except SqlError as error:
            raise ApiError(500, f"The server refuses the change: {error}") from error
        op.elapse()
        instance["ipAddresses"] = self._addresses(instance)
        for field in ("secondaryGceZone", "dnsName", "pscServiceAttachmentLink"):
            instance.pop(field, None)
        instance |= private_service_connect(instance)
        instance |= rules.zones(instance["settings"], instance["region"])
        if not same:
            instance.pop("upgradableDatabaseVersions", None)
            instance |= self._versions(instance, server, before)
        with self.store.transaction():
            self._save(op.target, instance)

    @method("instances.restart", permission="cloudsql.instances.restart", on=ONE)
    def restart_instance(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        self._running(key)
        return self._operation(call, self._begin(call, key, "RESTART", RESTART, "restart"), accepted=True)

    @job("restart")
    def restart(self, op: Op) -> None:
        try:
            self._server(self._load(op.target)).restart()
        except SqlError as error:
            raise ApiError(500, f"The server does not start again: {error}") from error

    @method("instances.delete", permission="cloudsql.instances.delete", on=ONE)
    def delete_instance(self, call: Call) -> dict[str, Any]:
        key = self._key(call)
        instance = self._load(key)
        settings = instance["settings"]
        if settings["deletionProtectionEnabled"]:
            raise refusals.protected()
        op = self._begin(call, key, "DELETE", DELETE, "delete", {"final": self._final_backup(call, instance)})
        return self._operation(call, op, accepted=True)

    def _final_backup(self, call: Call, instance: dict[str, Any]) -> dict[str, Any] | None:
        """Return the backup that the request or the instance's settings want kept, or None."""
        config = instance["settings"].get("finalBackupConfig", {})
        if not call.query.get("enableFinalBackup", config.get("enabled", False)):
            return None
        if instance["state"] != "RUNNABLE":
            raise refusals.wrong_state()
        if "finalBackupTtlDays" in call.query and "finalBackupExpiryTime" in call.query:
            raise invalid("Invalid request: Only one of finalBackupTtlDays and finalBackupExpiryTime can be set.")
        days = int(call.query.get("finalBackupTtlDays") or config.get("retentionDays") or FINAL_BACKUP_DAYS)
        if not 1 <= days <= 365:
            raise invalid("Invalid request: The final backup must be kept for 1 to 365 days.")
        now = datetime.datetime.now(datetime.UTC)
        expiry = call.query.get("finalBackupExpiryTime") or timestamp((now + datetime.timedelta(days=days)).timestamp())
        body = {
            "kind": "sql#backup",
            "backupKind": "SNAPSHOT",
            "databaseVersion": instance["databaseVersion"],
            "description": call.query.get("finalBackupDescription", ""),
            "expiryTime": expiry,
            "instance": instance["name"],
            "location": instance["settings"]["backupConfiguration"].get("location", "us"),
            "name": f"projects/{instance['project']}/backups/{uuid.uuid4()}",
            "type": "FINAL",
        }
        return {key: value for key, value in body.items() if value}

    @job("delete")
    def delete(self, op: Op) -> None:
        instance = self.store.get(INSTANCE, op.target)
        if instance is None:  # all was done but the operation's own end
            return
        final = op.args["final"]
        if final and self.store.get(BACKUP, final["name"]) is None:
            size = self._back_up(instance, final["name"].rpartition("/")[2])
            done = {
                "backupInterval": {"startTime": op.created, "endTime": timestamp()},
                "instanceDeletionTime": timestamp(),
                "instanceSettings": {k: v for k, v in instance.items() if k not in ("serverCaCert", "ipAddresses")},
                "maxChargeableBytes": str(size),
                "state": "SUCCESSFUL",
            }
            self.store.put(BACKUP, final["name"], final | done, parent=instance["project"])
        op.elapse()
        self.sandbox.sql.destroy(instance["connectionName"], self._configuration(instance))
        with self.store.transaction():
            for kind in (BACKUP_RUN, USER):
                for name, body in self.store.list(kind, parent=op.target):
                    self.store.delete(kind, name)
                    if kind == BACKUP_RUN:
                        remove_folder(self.sandbox.sql.backups(body["id"]))
            self.store.delete(INSTANCE, op.target)


def private_address(instance: dict[str, Any]) -> str | None:
    """Return the private address of an instance, or None."""
    found = (entry["ipAddress"] for entry in instance.get("ipAddresses", ()) if entry["type"] == "PRIVATE")
    return next(found, None)


def private_service_connect(instance: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an instance with Private Service Connect (cloud.google.com/sql/docs/postgres/about-psc)."""
    if not instance["settings"]["ipConfiguration"].get("pscConfig", {}).get("pscEnabled"):
        return {}
    digest, region = hashlib.sha256(instance["connectionName"].encode()).hexdigest(), instance["region"]
    attachment = f"projects/{digest[:17]}p-tp/regions/{region}/serviceAttachments"
    return {
        "dnsName": f"{digest[:12]}.{digest[12:24]}.{region}.sql.goog.",
        "pscServiceAttachmentLink": f"{attachment}/a-{digest[:12]}-psc-service-attachment-{digest[12:28]}",
    }
