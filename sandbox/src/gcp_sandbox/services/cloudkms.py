# SPDX-License-Identifier: Apache-2.0
"""Cloud KMS v1: key rings, symmetric keys and their versions, and the use of a key by another service.

Nothing is encrypted with a key here. What depends on one asks whether it could be used (gateway/keys.py).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.core import Core
from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.gateway.ports import Keys
from gcp_sandbox.gateway.resource import Resource, Resources
from gcp_sandbox.gateway.service import Handler, MethodSpec, method
from gcp_sandbox.gateway.times import epoch, timestamp

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.identity import Principal

HOST = "//cloudkms.googleapis.com/"
# cloud.google.com/kms/docs/locations
LOCATIONS = REGIONS | {"global", "asia", "europe", "us", "asia1", "eur3", "eur4", "eur5", "nam3", "nam4"}
ID = r"[a-zA-Z0-9_-]{1,63}"
ALGORITHM = "GOOGLE_SYMMETRIC_ENCRYPTION"
DAY = 24 * 3600

RINGS = Resource(
    "projects.locations.keyRings",
    id_parameter="keyRingId",
    id_pattern=ID,
    bad_id="Invalid {parameter} '{id}'. It must match {pattern}.",
    missing="KeyRing {name} not found.",
    exists="KeyRing {name} already exists.",
)
KEYS = Resource(
    "projects.locations.keyRings.cryptoKeys",
    id_parameter="cryptoKeyId",
    id_pattern=ID,
    bad_id=RINGS.bad_id,
    missing="CryptoKey {name} not found.",
    exists="CryptoKey {name} already exists.",
    output_only=frozenset({"primary"}),
    mutable=frozenset({"labels", "nextRotationTime", "rotationPeriod", "versionTemplate"}),
)
VERSIONS = Resource(
    "projects.locations.keyRings.cryptoKeys.cryptoKeyVersions",
    kind="cloudkms.version",
    missing="CryptoKeyVersion {name} not found.",
    mutable=frozenset({"state"}),
)


class CloudKms(Resources, IamPolicies):
    """cloudkms.googleapis.com."""

    name = "cloudkms"
    iam = IamFacts(
        denial=worded("Permission '{permission}' denied on resource '{name}' (or it may not exist)."),
        types={"keyRings": "KeyRing", "cryptoKeys": "CryptoKey", "cryptoKeyVersions": "CryptoKeyVersion"},
    )
    resources = (RINGS, KEYS, VERSIONS)
    iam_resources = {
        "projects.locations.keyRings": "cloudkms.keyRings",
        "projects.locations.keyRings.cryptoKeys": "cloudkms.cryptoKeys",
    }

    def __init__(self, sandbox: Core) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(Keys, self)

    def extra_methods(self, ids: frozenset[str]) -> Iterator[tuple[MethodSpec, Handler]]:
        """Return the methods without those that delete, their operations, and the creation of a version."""
        for spec, handler in super().extra_methods(ids):
            if ".operations." not in spec.id and not spec.id.endswith((".delete", "cryptoKeyVersions.create")):
                yield spec, handler

    # --- for other services

    def use_key(self, name: str, agent: Principal, *, decrypt: bool = False) -> str:
        """Return the version of a key that encrypts, if the agent may use it."""
        key = self.load(KEYS, name)
        verb = "useToDecrypt" if decrypt else "useToEncrypt"
        self.sandbox.iam.check(agent, HOST + key["name"], f"cloudkms.cryptoKeyVersions.{verb}")
        self.sandbox.enablement.require(self.sandbox.projects.get(key["name"].split("/")[1]), "cloudkms.googleapis.com")
        primary = self.load(VERSIONS, f"{key['name']}/cryptoKeyVersions/{key['primary']}") if "primary" in key else None
        if primary is None or primary["state"] != "ENABLED":
            raise _not_enabled(f"{key['name']}/cryptoKeyVersions/{key.get('primary', '1')}", primary)
        return primary["name"]

    # --- rings and keys

    def iam_exists(self, call: Call, resource: str) -> None:
        name = resource.removeprefix(HOST)
        self.load(KEYS if "/cryptoKeys/" in name else RINGS, name)

    def check_parent(self, resource: Resource, call: Call, parent: str) -> None:
        location = parent.split("/")[3]
        if location not in LOCATIONS:
            raise errors.invalid(f"Location '{location}' is not a valid Cloud KMS location.")
        if resource is KEYS:
            self.load(RINGS, parent)

    def prepare(self, resource: Resource, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        if resource is KEYS and old is None:
            if body.get("purpose") != "ENCRYPT_DECRYPT":
                raise errors.unimplemented(f"keys of Cloud KMS with the purpose {body.get('purpose')}")
            template = {"protectionLevel": "SOFTWARE", "algorithm": ALGORITHM, **body.get("versionTemplate", {})}
            if template["protectionLevel"] != "SOFTWARE" or template["algorithm"] != ALGORITHM:
                raise errors.unimplemented("keys of Cloud KMS outside software, and other algorithms")
            body["versionTemplate"] = template
            body.setdefault("destroyScheduledDuration", f"{30 * DAY}s")
            if not call.query.get("skipInitialVersionCreation"):
                body["primary"] = self._new_version(body, call.now)
        changeable = {"ENABLED", "DISABLED"}
        if resource is VERSIONS and old is not None and not {old["state"], body["state"]} <= changeable:
            raise errors.failed_precondition(
                f"{old['name']} cannot be enabled or disabled; its state is {old['state']}."
            )

    def shown(self, resource: Resource, body: dict[str, Any], verb: str) -> dict[str, Any]:
        if resource is KEYS and "primary" in body:
            return {**body, "primary": self.load(VERSIONS, f"{body['name']}/cryptoKeyVersions/{body['primary']}")}
        return body

    def load(self, resource: Resource, name: str) -> dict[str, Any]:
        body = super().load(resource, name)
        if resource is VERSIONS and body["state"] == "DESTROY_SCHEDULED" and epoch(body["destroyTime"]) <= time.time():
            body |= {"state": "DESTROYED", "destroyEventTime": body.pop("destroyTime")}
        return body

    def _list(self, resource: Resource, call: Call) -> dict[str, Any]:
        answer = super()._list(resource, call)
        total = len(self.store.list(self._kind(resource), parent=self._canonical(call.params["parent"])))
        return {**answer, "totalSize": total} if total else answer

    # --- versions

    def _new_version(self, key: dict[str, Any], now: str) -> str:
        number = str(len(self.store.list(VERSIONS.kind, parent=key["name"])) + 1)
        version = {"name": f"{key['name']}/cryptoKeyVersions/{number}", "state": "ENABLED", **key["versionTemplate"]}
        version |= {"createTime": now, "generateTime": now}
        self.store.put(VERSIONS.kind, version["name"], version, parent=key["name"])
        return number

    @method(f"{VERSIONS.collection}.create", permission="cloudkms.cryptoKeyVersions.create", on="{parent}")
    def create_version(self, call: Call) -> dict[str, Any]:
        """Add a version. It encrypts once it is made the primary one."""
        key = self.load(KEYS, call.params["parent"])
        return self.load(VERSIONS, f"{key['name']}/cryptoKeyVersions/{self._new_version(key, call.now)}")

    @method(f"{KEYS.collection}.updatePrimaryVersion", permission="cloudkms.cryptoKeys.update", on="{name}")
    def update_primary(self, call: Call) -> dict[str, Any]:
        key, wanted = self.load(KEYS, call.params["name"]), call.body.get("cryptoKeyVersionId", "")
        version = self.load(VERSIONS, f"{key['name']}/cryptoKeyVersions/{wanted}")
        if version["state"] != "ENABLED":
            raise _not_enabled(version["name"], version)
        key["primary"] = wanted
        self._write(KEYS, key["name"], key)
        return self.shown(KEYS, key, "get")

    @method(f"{VERSIONS.collection}.destroy", permission="cloudkms.cryptoKeyVersions.destroy", on="{name}")
    def destroy_version(self, call: Call) -> dict[str, Any]:
        """Schedule the destruction of a version: until then it can be restored."""
        version = self.load(VERSIONS, call.params["name"])
        if version["state"] not in ("ENABLED", "DISABLED"):
            raise errors.failed_precondition(f"{version['name']} cannot be destroyed; its state is {version['state']}.")
        key = self.load(KEYS, version["name"].partition("/cryptoKeyVersions/")[0])
        seconds = float(key["destroyScheduledDuration"].rstrip("s"))
        due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        return self._set(version, "DESTROY_SCHEDULED", destroyTime=timestamp(due.timestamp()))

    @method(f"{VERSIONS.collection}.restore", permission="cloudkms.cryptoKeyVersions.restore", on="{name}")
    def restore_version(self, call: Call) -> dict[str, Any]:
        """Take back a scheduled destruction; the version is disabled then."""
        version = self.load(VERSIONS, call.params["name"])
        if version["state"] != "DESTROY_SCHEDULED":
            raise errors.failed_precondition(
                f"{version['name']} is not scheduled for destruction; its state is {version['state']}."
            )
        version.pop("destroyTime")
        return self._set(version, "DISABLED")

    def _set(self, version: dict[str, Any], state: str, **fields: str) -> dict[str, Any]:
        body = {**version, "state": state, **fields}
        self._write(VERSIONS, version["name"], body)
        return body


def _not_enabled(name: str, version: dict[str, Any] | None) -> errors.ApiError:
    state = version["state"] if version else "missing"
    return errors.failed_precondition(f"{name} is not enabled, current state is: {state}.")
