# SPDX-License-Identifier: Apache-2.0
"""Secret Manager v1: secrets, their versions and payloads, global and regional.

Payloads are encrypted with a key of this sandbox's own (`<state>/secretmanager.key`, mode 0600), so that neither the
database nor a copy of it shows one.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import google_crc32c
from cryptography.fernet import Fernet

from gcp_sandbox.config import write_private
from gcp_sandbox.gateway import etags, filters, keys
from gcp_sandbox.gateway.core import Core
from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.errors import ApiError, already_exists, bad_request, failed_precondition, invalid, not_found
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.gateway.masks import mask_paths, merge_mask
from gcp_sandbox.gateway.ports import SecretReader
from gcp_sandbox.gateway.service import method
from gcp_sandbox.gateway.times import epoch, timestamp

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.identity import Principal

SECRET = "secretmanager.secret"
VERSION = "secretmanager.version"
PAYLOAD = "secretmanager.payload"

HOST = "//secretmanager.googleapis.com/"
MAX_BYTES = 64 * 1024
PAGE = 25000

MUTABLE = (
    "annotations",
    "customerManagedEncryption",
    "etag",
    "expireTime",
    "labels",
    "rotation",
    "topics",
    "ttl",
    "versionAliases",
    "versionDestroyTtl",
)
FIXED = ("replication", "secretType")
# Maps and lists that the service leaves out where nothing is in them.
NOTHING_WHEN_EMPTY = ("annotations", "customerManagedEncryption", "labels", "rotation", "topics", "versionAliases")

SECRET_ID = re.compile(r"[-\w]{1,255}", re.ASCII)
ALIAS = re.compile(r"[A-Za-z][-\w]{0,62}", re.ASCII)
ANNOTATIONS_SIZE = 16 * 1024
# Limits in seconds, from the reference of Rotation.
NEXT_ROTATION, ROTATION_PERIOD, CENTURY = 300, 3600, 3153600000


def serve(suffix: str, permission: str, on: str, also: Iterable[str] = ()) -> Callable[[Any], Any]:
    """Serve a method of both collections: of the global secrets and of the regional ones."""

    def wrap(handler: Any) -> Any:
        for collection in ("projects.secrets", "projects.locations.secrets"):
            required = {"permission": f"secretmanager.{permission}", "also": [f"secretmanager.{name}" for name in also]}
            handler = method(f"{collection}.{suffix}", on=on, **required)(handler)
        return handler

    return wrap


class SecretManager(IamPolicies):
    """secretmanager.googleapis.com."""

    name = "secretmanager"
    iam = IamFacts(
        denial=worded("Permission '{permission}' denied for resource '{name}' (or it may not exist)."),
        types={"secrets": "Secret", "versions": "SecretVersion"},
        numbered=True,
    )
    versions = ("v1",)
    iam_resources = {"projects.secrets": "secretmanager.secrets", "projects.locations.secrets": "secretmanager.secrets"}

    def __init__(self, sandbox: Core) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(SecretReader, self)

    def start(self) -> None:
        file = self.sandbox.settings.state / "secretmanager.key"
        if not file.exists():
            write_private(file, Fernet.generate_key())
        self._cipher = Fernet(file.read_bytes())

    # --- for other services

    def read_version(self, name: str, caller: Principal) -> bytes:
        """Return the payload of a secret version to a caller that may access it, as Cloud Run when an instance starts.

        :param name: projects/P/secrets/S/versions/V; V may be a number, an alias or "latest".
        :raises ApiError: as secrets.versions.access does.
        """
        self.sandbox.iam.check(caller, HOST + name, "secretmanager.versions.access")
        with self.store.transaction():
            version = self._version(self._canonical(name))
            return self._payload(version["name"])

    # --- secrets

    @serve("create", "secrets.create", "{parent}")
    def create(self, call: Call) -> dict:
        secret_id, body = call.query.get("secretId", ""), call.body
        if not SECRET_ID.fullmatch(secret_id):
            raise invalid(f"The provided Secret ID [{secret_id}] does not match the expected format [[a-zA-Z_0-9]+]")
        parent = self._canonical(call.params["parent"])
        name = f"{parent}/secrets/{secret_id}"
        if self._stored(name):
            raise already_exists(f"Secret [{name}] already exists.")
        resource = {"name": name, "createTime": call.now}
        resource |= {key: body[key] for key in (*FIXED, *MUTABLE) if key in body}
        _check_replication(resource, regional="/locations/" in parent)
        self._check_keys(resource)
        self._settle(resource, call.now, {}, 0)
        self._put({"resource": resource, "versions": 0})
        return resource

    @serve("get", "secrets.get", "{name}")
    def get(self, call: Call) -> dict:
        return self._secret(self._canonical(call.params["name"]))["resource"]

    @serve("list", "secrets.list", "{parent}")
    def list(self, call: Call) -> dict:
        parent = self._canonical(call.params["parent"])
        rows = [row["resource"] for _, row in self.store.list(SECRET, parent=parent) if not self._expired(row)]
        return self._listed(call, rows, "secrets")

    @serve("patch", "secrets.update", "{name}", also=["secrets.get"])
    def patch(self, call: Call) -> dict:
        row = self._secret(self._canonical(call.params["name"]))
        before, body, mask = row["resource"], call.body, call.query.get("updateMask", "")
        _check_etag(body.get("etag"), before)
        paths = {path[0] for path in mask_paths(mask)}
        if not paths:
            raise _field_error("update_mask", "Update mask must be set.")
        if "replication" in paths and _places(body) == _places(before):
            paths.remove("replication")  # only the keys of its versions to come
            self._check_keys(body | {"name": before["name"]})
        if wrong := sorted(paths - set(MUTABLE)):
            kind = "immutable" if wrong[0] in (*FIXED, "name", "createTime") else "invalid"
            raise _field_error("update_mask", f"The update mask contains the {kind} field [{wrong[0]}].")
        resource = merge_mask(before, body, mask)
        if "ttl" in paths and "ttl" not in body and "expireTime" not in paths:
            resource.pop("expireTime", None)
        self._settle(resource, call.now, before, row["versions"])
        row["resource"] = resource
        self._put(row)
        return resource

    @serve("delete", "secrets.delete", "{name}")
    def delete(self, call: Call) -> dict:
        row = self._secret(self._canonical(call.params["name"]))
        _check_etag(call.query.get("etag"), row["resource"])
        self._forget(row["resource"]["name"])
        return {}

    # --- versions

    @serve("addVersion", "versions.add", "{parent}")
    def add_version(self, call: Call) -> dict:
        row = self._secret(self._canonical(call.params["parent"]))
        payload = call.body.get("payload") or {}
        data = base64.b64decode(payload.get("data", ""))
        if not data:
            raise invalid("Secret Payload cannot be empty.")
        if len(data) > MAX_BYTES:
            raise invalid(f"Secret Payload size [{len(data)}] exceeds the maximum of [{MAX_BYTES}] bytes.")
        said = payload.get("dataCrc32c")
        if said is not None and int(said) != google_crc32c.value(data):
            raise invalid("The checksum of the Secret Payload does not match the provided dataCrc32c.")
        secret = row["resource"]
        row["versions"] += 1
        version = {
            "name": f"{secret['name']}/versions/{row['versions']}",
            "createTime": call.now,
            "state": "ENABLED",
            "replicationStatus": self._status(secret),
            "etag": _etag(),
        }
        if "replication" not in secret:
            del version["replicationStatus"]
        if said is not None:
            version["clientSpecifiedPayloadChecksum"] = True
        self.store.put(SECRET, secret["name"], row, parent=_parent(secret["name"]))
        sealed = self._cipher.encrypt(data).decode()
        self.store.put(PAYLOAD, version["name"], {"data": sealed}, parent=secret["name"])
        self._put_version(version)
        return version

    @serve("versions.get", "versions.get", "{name}")
    def get_version(self, call: Call) -> dict:
        return self._version(self._canonical(call.params["name"]))

    @serve("versions.list", "versions.list", "{parent}")
    def list_versions(self, call: Call) -> dict:
        secret = self._secret(self._canonical(call.params["parent"]))["resource"]["name"]
        rows = [self._destroyed_by_now(row) for _, row in self.store.list(VERSION, parent=secret)]
        return self._listed(call, rows, "versions")

    @serve("versions.access", "versions.access", "{name}")
    def access_version(self, call: Call) -> dict:
        version = self._version(self._canonical(call.params["name"]))
        data = self._payload(version["name"])
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(google_crc32c.value(data))}
        return {"name": version["name"], "payload": payload}

    @serve("versions.enable", "versions.enable", "{name}")
    def enable_version(self, call: Call) -> dict:
        return self._set_state(call, "ENABLED")

    @serve("versions.disable", "versions.disable", "{name}")
    def disable_version(self, call: Call) -> dict:
        return self._set_state(call, "DISABLED")

    @serve("versions.destroy", "versions.destroy", "{name}")
    def destroy_version(self, call: Call) -> dict:
        version = self._version_to_change(call)
        secret = self._secret(version["name"].partition("/versions/")[0])["resource"]
        if ttl := secret.get("versionDestroyTtl"):
            version["state"] = "DISABLED"
            version["scheduledDestroyTime"] = timestamp(time.time() + float(ttl.rstrip("s")))
        else:
            self._destroy(version, call.now)
        version["etag"] = _etag()
        self._put_version(version)
        return version

    # --- locations and policies

    @method("projects.locations.list", permission="secretmanager.locations.list", on="{name}")
    def list_locations(self, call: Call) -> dict:
        project = call.project(call.params["name"].partition("/")[2])
        rows = [_location(project.id, location) for location in sorted(REGIONS)]
        return call.page(rows, key="locations", default=1000, maximum=1000)

    @method("projects.locations.get", permission="secretmanager.locations.get", on="{name}")
    def get_location(self, call: Call) -> dict:
        _, project, _, location = call.params["name"].split("/")
        if location not in REGIONS:
            raise not_found(f"Location [{call.params['name']}] not found.")
        return _location(call.project(project).id, location)

    def iam_exists(self, call: Call, resource: str) -> None:
        self._secret(self._canonical(resource.removeprefix(HOST)))

    # --- within

    def _canonical(self, name: str) -> str:
        """Return a name with the project's number, as secrets are stored and answered."""
        _, project, *rest = name.split("/")
        found = self.sandbox.projects.get(project)
        return "/".join(["projects", found.number if found else project, *rest])

    def _use_key(self, secret: str, name: str, place: str, *, decrypt: bool = False) -> str:
        project = self.sandbox.projects.get(secret.split("/")[1])
        try:
            return keys.use(self.sandbox, self.name, project, name, [place], decrypt=decrypt)
        except keys.Unusable as error:
            if error.kind in ("name", "location"):
                raise invalid(str(error)) from error
            raise failed_precondition(
                f"Cloud KMS key [{name}] cannot be used by the service account {error.agent}: {error}"
            ) from error

    def _check_keys(self, secret: dict) -> None:
        """Refuse keys that the service cannot use. Either all replicas have a key, or none."""
        holders = _holders(secret)
        given = {place: _key_of(holder) for place, holder in holders.items()}
        if any(given.values()) and not all(given.values()):
            raise _field_error(
                "secret.replication", "Either all replicas must use customer-managed encryption, or none."
            )
        for place, name in given.items():
            if name:
                self._use_key(secret["name"], name, place)

    def _status(self, secret: dict) -> dict:
        """Return a version's replicationStatus: where it is, with the version of each key that was used."""
        used = {
            place: {"customerManagedEncryption": {"kmsKeyVersionName": self._use_key(secret["name"], name, place)}}
            for place, holder in _holders(secret).items()
            if (name := _key_of(holder))
        }
        if "userManaged" in secret.get("replication", {}):
            places = [{"location": place, **used.get(place, {})} for place in _holders(secret)]
            return {"userManaged": {"replicas": places}}
        return {"automatic": used.get("global", {})}

    def _stored(self, name: str) -> dict | None:
        row = self.store.get(SECRET, name)
        if row and self._expired(row):
            self._forget(name)
            return None
        return row

    def _secret(self, name: str) -> dict:
        row = self._stored(name)
        if row is None:
            raise not_found(f"Secret [{name}] not found.")
        return row

    @staticmethod
    def _expired(row: dict) -> bool:
        expires = row["resource"].get("expireTime")
        return expires is not None and not _is_ahead(expires)

    def _put(self, row: dict) -> None:
        row["resource"]["etag"] = _etag()
        name = row["resource"]["name"]
        self.store.put(SECRET, name, row, parent=_parent(name))

    def _forget(self, name: str) -> None:
        """Delete a secret with everything that is its own."""
        for kind in (VERSION, PAYLOAD):
            for version, _ in self.store.list(kind, parent=name):
                self.store.delete(kind, version)
        self.store.delete(SECRET, name)
        self.sandbox.iam.delete_policy(HOST + name)

    def _settle(self, resource: dict, now: str, before: dict, versions: int) -> None:
        """Check the mutable fields and put them into the form in which they are answered."""
        if ttl := resource.pop("ttl", None):
            resource["expireTime"] = timestamp(epoch(now) + float(ttl.rstrip("s")))
        _check_expiry(resource, before)
        for key in NOTHING_WHEN_EMPTY:
            if not resource.get(key, True):
                del resource[key]
        _check_labels(resource.get("labels", {}))
        annotations = resource.get("annotations", {})
        if sum(len(key) + len(value) for key, value in annotations.items()) > ANNOTATIONS_SIZE:
            raise _field_error("secret.annotations", "The total size of annotations must be at most 16 KiB.")
        _check_rotation(resource, before)
        aliases = resource.get("versionAliases", {})
        for alias, number in aliases.items():
            if not ALIAS.fullmatch(alias) or alias == "latest":
                raise _field_error("secret.version_aliases", f"The version alias [{alias}] is invalid.")
            known = before.get("versionAliases", {}).get(alias) == number
            if not known and not (
                1 <= int(number) <= versions and self._is_alive(f"{resource['name']}/versions/{number}")
            ):
                raise _field_error(
                    "secret.version_aliases",
                    f"The version alias [{alias}] names a version that does not exist: {number}.",
                )

    def _is_alive(self, version: str) -> bool:
        row = self.store.get(VERSION, version)
        return row is not None and row["state"] != "DESTROYED"

    def _version(self, name: str) -> dict:
        """Return a version by number, alias or "latest", the one added last."""
        secret_name, _, wanted = name.partition("/versions/")
        secret = self._secret(secret_name)
        if wanted == "latest":
            if not secret["versions"]:
                raise not_found(f"Secret [{secret_name}] not found or has no versions.")
            wanted = str(secret["versions"])
        number = secret["resource"].get("versionAliases", {}).get(wanted, wanted)
        row = self.store.get(VERSION, f"{secret_name}/versions/{number}")
        if row is None:
            raise not_found(f"Secret Version [{name}] not found.")
        return self._destroyed_by_now(row)

    def _version_to_change(self, call: Call) -> dict:
        version = self._version(self._canonical(call.params["name"]))
        _check_etag(call.body.get("etag"), version)
        if version["state"] == "DESTROYED":
            raise _wrong_state(version)
        return version

    def _set_state(self, call: Call, state: str) -> dict:
        version = self._version_to_change(call)
        if version["state"] != state:
            version["state"] = state
            version.pop("scheduledDestroyTime", None)
            version["etag"] = _etag()
            self._put_version(version)
        return version

    def _put_version(self, version: dict) -> None:
        self.store.put(VERSION, version["name"], version, parent=version["name"].partition("/versions/")[0])

    def _destroy(self, version: dict, when: str) -> None:
        version["state"], version["destroyTime"] = "DESTROYED", when
        version.pop("scheduledDestroyTime", None)
        self.store.delete(PAYLOAD, version["name"])

    def _destroyed_by_now(self, version: dict) -> dict:
        """Carry out a destruction that was put off, once its time has come."""
        due = version.get("scheduledDestroyTime")
        if due and not _is_ahead(due):
            self._destroy(version, due)
            self._put_version(version)
        return version

    def _payload(self, name: str) -> bytes:
        version = self.store.get(VERSION, name) or {}
        if version["state"] != "ENABLED":
            raise _wrong_state(version)
        for place, used in _holders({**version, "replication": version.get("replicationStatus")}).items():
            if key := used.get("customerManagedEncryption", {}).get("kmsKeyVersionName"):
                self._use_key(name, key.partition("/cryptoKeyVersions/")[0], place, decrypt=True)
        sealed = self.store.get(PAYLOAD, name)
        assert sealed is not None
        return self._cipher.decrypt(sealed["data"].encode())

    def _listed(self, call: Call, rows: list[dict], key: str) -> dict:
        """Return a page of resources, newest first."""
        rows.sort(key=lambda row: (row["createTime"], _number(row["name"])), reverse=True)
        expression = call.query.get("filter")
        if expression:
            matches = compile_filter(expression)
            rows = [row for row in rows if matches(row)]
        answer = call.page(rows, key=key, default=PAGE, maximum=PAGE)
        return answer if expression or not rows else {**answer, "totalSize": len(rows)}


# --- filters


def compile_filter(expression: str) -> Predicate:
    """Return the predicate of a filter of list calls (cloud.google.com/secret-manager/docs/filtering).

    Comparisons with = != : < >; a bare word is looked for in the name. ApiError 400 for what cannot be read.
    """
    return filters.compile(expression, _restriction, lambda rest: _bad_filter(expression), or_first=False)


def _restriction(term: Restriction) -> Predicate:
    op, value = term.operator, term.value
    if not term.field:
        return lambda row: value.lower() in _short(row["name"]).lower()
    path = re.sub(r"_([a-z])", lambda found: found[1].upper(), term.field)
    of_map = term.field.partition(".")[0] in ("labels", "annotations")

    def fits(row: Mapping[str, Any]) -> bool:
        if of_map:  # a key may contain dots
            first, _, key = term.field.partition(".")
            have = row.get(first, {}).get(key) if key else row.get(first)
        else:
            have = filters.value_at(row, path)
        if op == "!=":
            return have is None or str(have) != value
        if have is None:
            return False
        if op == ":":
            if value == "*":
                return True
            return value in have if isinstance(have, dict) else value.lower() in str(have).lower()
        text = _short(have) if path == "name" and "/" not in value else str(have)
        if path.endswith("Time"):
            return _compare(epoch(text), op, epoch(value if "T" in value else f"{value}T00:00:00Z"))
        return _compare(text, op, value)

    return fits


def _compare(a: Any, op: str, b: Any) -> bool:
    return {"=": a == b, "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[op]


def _bad_filter(expression: str) -> ApiError:
    return invalid(f"The provided filter [{expression}] is invalid.")


# --- pieces


def _parent(name: str) -> str:
    return name.partition("/secrets/")[0]


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _number(name: str) -> int:
    last = _short(name)
    return int(last) if last.isdigit() else 0


def _etag() -> str:
    """Return a quoted time in hexadecimal microseconds, as the service writes them."""
    return f'"{time.time_ns() // 1000:x}"'


def _is_ahead(moment: str | None) -> bool:
    return moment is not None and epoch(moment) > time.time()


def _location(project: str, location: str) -> dict:
    return {"name": f"projects/{project}/locations/{location}", "locationId": location}


def _field_error(field: str, description: str) -> ApiError:
    return invalid(description, details=[bad_request((field, description))])


def _check_etag(sent: str | None, resource: dict) -> None:
    if not etags.matches(sent, resource["etag"]):
        raise failed_precondition(
            f"The provided etag [{sent}] does not match the latest etag [{resource['etag']}] of [{resource['name']}]."
        )


def _wrong_state(version: dict) -> ApiError:
    return failed_precondition(f"Secret Version [{version['name']}] is in {version['state']} state.")


def _check_replication(resource: dict, *, regional: bool) -> None:
    replication = resource.get("replication") or {}
    if regional:
        if replication:
            raise _field_error("secret.replication", "Replication must not be set for a regional secret.")
        resource.pop("replication", None)
        return
    if len(replication) != 1:
        raise _field_error("secret.replication", "Replication must be set to either automatic or user managed.")
    if "userManaged" in replication:
        replicas = replication["userManaged"].get("replicas") or []
        places = [replica.get("location", "") for replica in replicas]
        if not places:
            raise _field_error("secret.replication.user_managed.replicas", "At least one replica must be specified.")
        for place in places:
            if place not in REGIONS:
                raise _field_error("secret.replication.user_managed.replicas", f"Location [{place}] is invalid.")
        if len(set(places)) < len(places):
            raise _field_error("secret.replication.user_managed.replicas", "Replica locations must be unique.")


def _holders(secret: dict) -> dict[str, dict]:
    """Return where the payloads of a secret are -> what may name the key for that place."""
    replication = secret.get("replication") or {}
    if "userManaged" in replication:
        return {replica["location"]: replica for replica in replication["userManaged"].get("replicas") or []}
    if "automatic" in replication:
        return {"global": replication["automatic"]}
    return {secret["name"].split("/")[3]: secret} if "/locations/" in secret.get("name", "") else {}


def _places(secret: dict) -> list[str]:
    return sorted(_holders({"replication": secret.get("replication")}))


def _key_of(holder: dict) -> str:
    return holder.get("customerManagedEncryption", {}).get("kmsKeyName", "")


def _check_expiry(resource: dict, before: dict) -> None:
    expires = resource.get("expireTime")
    if expires and expires != before.get("expireTime") and not _is_ahead(expires):
        raise _field_error("secret.expire_time", f"The expire time [{expires}] must be in the future.")


def _check_rotation(resource: dict, before: dict) -> None:
    rotation = resource.get("rotation", {})
    period, due = rotation.get("rotationPeriod"), rotation.get("nextRotationTime")
    # A rotation that is due stays as it is while other fields change: no notification is sent here that moves it on.
    if due and due != before.get("rotation", {}).get("nextRotationTime"):
        ahead = epoch(due) - time.time()
        if not NEXT_ROTATION <= ahead <= CENTURY:
            raise _field_error(
                "secret.rotation.next_rotation_time",
                f"The next rotation time [{due}] must be from {NEXT_ROTATION}s to {CENTURY}s in the future.",
            )
    if period and "nextRotationTime" not in rotation:
        raise _field_error(
            "secret.rotation.next_rotation_time", "Next rotation time must be set if rotation period is set."
        )
    if period and not ROTATION_PERIOD <= float(period.rstrip("s")) <= CENTURY:
        raise _field_error(
            "secret.rotation.rotation_period", f"Rotation period must be from {ROTATION_PERIOD}s to {CENTURY}s."
        )
    if rotation and not resource.get("topics"):
        raise _field_error("secret.topics", "At least one topic must be set if rotation is set.")


def _check_labels(labels: dict[str, str]) -> None:
    """Lower-case letters of any script, digits, - and _; keys start with a letter; at most 64 of them."""
    if len(labels) > 64:
        raise _field_error("secret.labels", "At most 64 labels can be assigned to a secret.")
    for key, value in labels.items():
        if not re.fullmatch(r"[^\W\d_][-\w]{0,62}", key) or key != key.lower():
            raise _field_error("secret.labels", f"The label key [{key}] is invalid.")
        if not re.fullmatch(r"[-\w]{0,63}", value) or value != value.lower():
            raise _field_error("secret.labels", f"The label value [{value}] is invalid.")
