# SPDX-License-Identifier: Apache-2.0
"""The Admin API, put together.

A PostgreSQL or MySQL instance is a real server (backends/postgres.py, backends/mariadb.py). SQL Server instances answer
as the service does and have no server (backends/stored.py).
"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.backends.sql import Flag
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.core import Core
from gcp_sandbox.gateway.denials import IamFacts
from gcp_sandbox.gateway.ports import ServiceProducer
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.sqladmin import catalog, refusals
from gcp_sandbox.services.sqladmin.backups import Backups
from gcp_sandbox.services.sqladmin.base import (
    ONE,
    PROJECT,
)
from gcp_sandbox.services.sqladmin.databases import Databases
from gcp_sandbox.services.sqladmin.instances import Instances
from gcp_sandbox.services.sqladmin.users import Users


class SqlAdmin(Instances, Databases, Users, Backups):
    """sqladmin.googleapis.com."""

    name = "sqladmin"
    iam = IamFacts(denial=refusals.denied, types={"instances": "Instance"})
    versions = ("v1", "v1beta4")
    error_style = "legacy"
    keep_nulls = True

    def __init__(self, sandbox: Core) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(ServiceProducer, self)

    @method("tiers.list", permission="cloudsql.instances.list", on=PROJECT)
    def list_tiers(self, call: Call) -> dict[str, Any]:
        items = [
            {
                "kind": "sql#tier",
                "DiskQuota": str(item.disk),
                "RAM": str(item.memory),
                "region": ["us-central1", "us-east1", "us-west1", "europe-west1", "europe-west4", "asia-east1"],
                "tier": item.name,
            }
            for item in catalog.predefined()
        ]
        return {"kind": "sql#tiersList", "items": items}

    @method("flags.list", permission=None)
    def list_flags(self, call: Call) -> dict[str, Any]:
        """What the servers here take. MySQL's flags are not known before the first such server was made."""
        version = call.query.get("databaseVersion") or "POSTGRES_16"
        known = list((self.sandbox.sql.engine(version).flags(version) or {}).values())
        if known and catalog.is_postgres(version):
            own = {name: Flag(name, kind, restart) for name, (kind, restart) in catalog.EXTENSION_FLAGS.items()}
            known += [own[name] for name in own.keys() - {flag.name for flag in known}]
        items = []
        for flag in sorted(known, key=lambda flag: flag.name):
            item = {
                "kind": "sql#flag",
                "appliesTo": [version],
                "flagScope": "SQL_FLAG_SCOPE_DATABASE",
                "name": flag.name,
                "requiresRestart": flag.restart,
                "type": flag.type,
            }
            if flag.minimum is not None:
                item |= {"minValue": str(flag.minimum), "maxValue": str(flag.maximum)}
            items.append(item)
        return {"kind": "sql#flagsList", **({"items": items} if items else {})}

    @method("connect.get", permission="cloudsql.instances.get", on=ONE)
    def connect_settings(self, call: Call) -> dict[str, Any]:
        instance = self._load(self._key(call))
        if instance["state"] != "RUNNABLE":
            raise refusals.not_running()
        fields = ("backendType", "connectionName", "databaseVersion", "ipAddresses", "region", "serverCaCert")
        return {"kind": "sql#connectSettings", **{field: instance[field] for field in fields}}

    @method("sslCerts.list", permission="cloudsql.sslCerts.list", on=ONE)
    def list_client_certificates(self, call: Call) -> dict[str, Any]:
        """None: they are made by sslCerts.insert, which there is not, since no server here speaks TLS."""
        self._load(self._key(call))
        return {"kind": "sql#sslCertsList"}

    @method("instances.listServerCas", permission="cloudsql.instances.listServerCas", on=ONE)
    def list_server_cas(self, call: Call) -> dict[str, Any]:
        certificate = self._load(self._key(call)).get("serverCaCert")
        if certificate is None:
            raise refusals.not_running()
        active = certificate["sha1Fingerprint"]
        return {"kind": "sql#instancesListServerCas", "activeVersion": active, "certs": [certificate]}
