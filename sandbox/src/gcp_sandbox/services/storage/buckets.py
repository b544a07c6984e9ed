# SPDX-License-Identifier: Apache-2.0
"""Buckets: what they are created with, what the service adds, their IAM policies and their deletion."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.objects import BUCKET, etag, parse_time, timestamp
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.services.storage.acl import (
    PREDEFINED_BUCKET,
    PREDEFINED_OBJECT,
    ROLES_OF_OBJECTS,
    AccessControls,
    bucket_entry,
    default_entry,
    entries_of,
    expand,
)
from gcp_sandbox.services.storage.common import (
    BUCKET_ROLES,
    UNIFORM,
    api,
    bucket_name,
    check_conditions,
    condition_not_met,
    invalid,
    not_found,
    projection_of,
    uniform,
)
from gcp_sandbox.services.storage.locations import MULTI_REGIONS, location_type

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.projects import Project

DELETED = "storage.bucket.softDeleted"

STORAGE_CLASSES = frozenset(
    ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"]
)
CREATE_ONLY = ("customPlacementConfig", "hierarchicalNamespace", "location")
WRITABLE = (
    "autoclass",
    "billing",
    "cors",
    "defaultEventBasedHold",
    "encryption",
    "iamConfiguration",
    "ipFilter",
    "labels",
    "lifecycle",
    "logging",
    "retentionPolicy",
    "rpo",
    "softDeletePolicy",
    "storageClass",
    "versioning",
    "website",
)
# Sent empty, these mean "none" and are not part of the answer.
NOTHING_WHEN_EMPTY = ("billing", "cors", "encryption", "labels", "lifecycle", "logging", "retentionPolicy", "website")
# Fields that PUT keeps where the body does not have them.
KEPT_BY_UPDATE = ("iamConfiguration", "rpo", "softDeletePolicy", "storageClass")
PRIVATE = ("defaultObjectAcl", "owner", "project")
LISTS = ("acl", "defaultObjectAcl")
# Query parameters that change a bucket by themselves.
PREDEFINED = ("predefinedAcl", "predefinedDefaultObjectAcl")

DAY = 24 * 3600
SOFT_DELETE_DEFAULT = 7 * DAY
# Uniform access can be switched off again for this long (cloud.google.com/storage/docs/uniform-bucket-level-access).
UNIFORM_LOCKS_AFTER = timedelta(days=90)
PUBLIC = {"allUsers", "allAuthenticatedUsers"}


def check_bucket_name(name: str) -> None:
    """cloud.google.com/storage/docs/buckets#naming."""
    parts = name.split(".")
    good = (
        re.fullmatch(r"[a-z0-9][-_.a-z0-9]*[a-z0-9]", name)
        and 3 <= len(name) <= (222 if len(parts) > 1 else 63)
        and all(0 < len(part) <= 63 for part in parts)
        and not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name)
        and not name.startswith("goog")
        and not re.search(r"g[o0]{2}g[l1]e", name)
    )
    if not good:
        raise invalid(f"Invalid bucket name: '{name}'")
    if len(parts) > 1:
        # Names with dots are domains, and the sandbox has no way to verify that one belongs to the caller.
        raise ApiError(
            403,
            "The bucket you tried to create is a domain name owned by another user.",
            reason="forbidden",
        )


def merge(target: dict, patch: dict) -> None:
    """JSON merge patch (RFC 7386), as PATCH works in this API."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        elif isinstance(value, dict):
            target[key] = {}
            merge(target[key], value)
        else:
            target[key] = value


class Buckets(AccessControls):
    """The methods on buckets."""

    # --- methods

    @api("buckets.insert")
    def insert_bucket(self, call: Call) -> dict:
        body, query = call.body, call.query
        project = self.allow_project(call, "storage.buckets.create", query["project"])
        name = body.get("name")
        if not name:
            raise invalid("Required", reason="required")
        check_bucket_name(name)
        existing = self.objects.bucket(name)
        if existing:
            raise ApiError(409, _taken(existing["project"] == project.id), reason="conflict")
        if not project.billing_account:
            text = "The billing account for the owning project is disabled in state absent"
            raise ApiError(403, text, reason="accountDisabled", location="Authorization", location_type="header")
        bucket = self._make(project, name, query.get("enableObjectRetention", False), body)
        # An empty list in a creation is one that is not given.
        call.body = {key: value for key, value in body.items() if key not in LISTS or value}
        self._lists(call, bucket)
        return self._render(
            bucket, projection_of(call, "full" if "acl" in body or "defaultObjectAcl" in body else "noAcl")
        )

    def provide_bucket(self, project: Project, name: str, location: str) -> None:
        """Make a bucket of a Google service for a project, with a name that a user could not take; once."""
        if self.objects.bucket(name) is None:
            self._make(project, name, False, {"location": location})

    def _make(self, project: Project, name: str, retention: bool, body: dict) -> dict:
        """Store a new bucket with the first policy; `body` is the request's."""
        generation, now = self.objects.next_generation(), timestamp()
        bucket = {
            "kind": "storage#bucket",
            "id": name,
            "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
            "name": name,
            "project": project.id,
            "projectNumber": project.number,
            "generation": str(generation),
            "metageneration": "0",
            "timeCreated": now,
            "owner": {"entity": f"project-owners-{project.number}"},
            "defaultObjectAcl": expand(PREDEFINED_OBJECT["projectPrivate"], project.number, ""),
            "location": "US",
            "storageClass": "STANDARD",
            "softDeletePolicy": {"retentionDurationSeconds": str(SOFT_DELETE_DEFAULT)},
        }
        if retention:
            bucket["objectRetention"] = {"mode": "Enabled"}
        merge(bucket, {key: body[key] for key in (*WRITABLE, *CREATE_ONLY) if key in body})
        self._settle(bucket, {}, now)
        self._save(bucket, now)
        self.sandbox.iam.set_policy(bucket_name(name), {"bindings": self._first_bindings(bucket)}, at_once=True)
        return bucket

    @api("buckets.get")
    def get_bucket(self, call: Call) -> dict | Response:
        if call.query.get("softDeleted"):
            return self._get_deleted(call)
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.get", bucket)
        projection = projection_of(call, "noAcl")
        if projection == "full":
            self.allow(call, "storage.buckets.getIamPolicy", bucket)
        generation = call.query.get("generation")
        if generation is not None and str(generation) != bucket["generation"]:
            raise not_found("The specified bucket does not exist.")
        return check_conditions(call.query, bucket, reading=True) or self._render(bucket, projection, reading=True)

    @api("buckets.list")
    def list_buckets(self, call: Call) -> dict:
        project = self.allow_project(call, "storage.buckets.list", call.query["project"])
        kind = DELETED if call.query.get("softDeleted") else BUCKET
        prefix, projection = call.query.get("prefix", ""), projection_of(call, "noAcl")
        rows = [b for _, b in self.store.list(kind, parent=project.number, prefix=prefix) if not _expired(b)]
        # Buckets of Google's own belong to no project of a user.
        rows = [bucket for bucket in rows if not bucket["name"].endswith(".googleusercontent.com")]
        page = call.page(rows, key="items", default=1000, maximum=1000)
        if "items" in page:
            page["items"] = [self._render(bucket, projection, reading=True) for bucket in page["items"]]
        return {"kind": "storage#buckets", **page}

    @api("buckets.patch")
    def patch_bucket(self, call: Call) -> dict:
        bucket = self._bucket_to_change(call)
        if not call.body.keys() & {*WRITABLE, *LISTS, *CREATE_ONLY} and not any(map(call.query.get, PREDEFINED)):
            return self._render(bucket, projection_of(call, "full"))  # nothing is changed: no new metageneration
        return self._change_bucket(call, bucket, copy.deepcopy(bucket))

    @api("buckets.update")
    def update_bucket(self, call: Call) -> dict:
        bucket = self._bucket_to_change(call)
        bare = {key: value for key, value in bucket.items() if key not in WRITABLE or key in KEPT_BY_UPDATE}
        return self._change_bucket(call, bucket, copy.deepcopy(bare))

    @api("buckets.delete")
    def delete_bucket(self, call: Call) -> Response:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.delete", bucket)
        check_conditions(call.query, bucket)
        if not self.objects.is_empty(bucket):
            raise ApiError(409, "The bucket you tried to delete is not empty.", reason="conflict")
        name, seconds = bucket["name"], int(bucket["softDeletePolicy"]["retentionDurationSeconds"])
        self.store.delete(BUCKET, name)
        if seconds:
            now = datetime.now(UTC)
            bucket["softDeleteTime"] = timestamp(now)
            bucket["hardDeleteTime"] = timestamp(now + timedelta(seconds=seconds))
            bucket["policy"] = self.sandbox.iam.get_policy(bucket_name(name), requested_version=3)
            self.store.put(DELETED, f"{name}/{bucket['generation']}", bucket, parent=bucket["projectNumber"])
        else:
            self.objects.purge(bucket)
        self.sandbox.iam.delete_policy(bucket_name(name))
        return Response(204)

    @api("buckets.restore")
    def restore_bucket(self, call: Call) -> dict:
        name = call.params["bucket"]
        bucket = self._deleted(name, call.query["generation"])
        self.allow_project(call, "storage.buckets.restore", bucket["project"])
        if self.objects.bucket(name):
            raise ApiError(409, _taken(True), reason="conflict")
        self.store.delete(DELETED, f"{name}/{bucket['generation']}")
        policy = bucket.pop("policy")
        del bucket["softDeleteTime"], bucket["hardDeleteTime"]
        self._save(bucket, timestamp())
        self.sandbox.iam.set_policy(bucket_name(name), {"bindings": policy.get("bindings", [])})
        return self._render(bucket, projection_of(call, "full"))

    @api("buckets.lockRetentionPolicy")
    def lock_retention_policy(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.update", bucket)
        check_conditions(call.query, bucket)
        if "retentionPolicy" not in bucket:
            raise invalid("The bucket has no retention policy to lock.")
        bucket["retentionPolicy"]["isLocked"] = True
        self._touch(bucket)
        return self._render(bucket, "full")

    @api("buckets.getStorageLayout")
    def get_storage_layout(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.objects.list", bucket)
        layout = {key: bucket[key] for key in ("location", "locationType")}
        if "customPlacementConfig" in bucket:
            layout["customPlacementConfig"] = bucket["customPlacementConfig"]
        enabled = bucket.get("hierarchicalNamespace", {}).get("enabled", False)
        return {
            "kind": "storage#storageLayout",
            "bucket": bucket["name"],
            **layout,
            "hierarchicalNamespace": {"enabled": enabled},
        }

    @api("managedFolders.list")
    def list_managed_folders(self, call: Call) -> dict:
        """Return no managed folder: none can be made."""
        return self._none(call, "managedFolders")

    @api("anywhereCaches.list")
    def list_caches(self, call: Call) -> dict:
        """Return no Anywhere Cache: none can be made."""
        return self._none(call, "anywhereCaches")

    def _none(self, call: Call, collection: str) -> dict:
        self.allow(call, f"storage.{collection}.list", self.find_bucket(call.params["bucket"]))
        return {"kind": f"storage#{collection}"}

    @api("projects.serviceAccount.get")
    def get_service_account(self, call: Call) -> dict:
        project = self.allow_project(call, "resourcemanager.projects.get", call.params["projectId"])
        # The agent exists after the first request for it.
        self.sandbox.identities.service_agent(project, "storage")
        return {
            "kind": "storage#serviceAccount",
            "email_address": f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com",
        }

    @api("buckets.getIamPolicy")
    def get_bucket_policy(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.getIamPolicy", bucket)
        version = call.query.get("optionsRequestedPolicyVersion") or 1
        return self._policy(bucket, self.sandbox.iam.get_policy(bucket_name(bucket["name"]), requested_version=version))

    @api("buckets.setIamPolicy")
    def set_bucket_policy(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.setIamPolicy", bucket)
        policy = {key: value for key, value in call.body.items() if key not in ("kind", "resourceId")}
        bindings = policy.get("bindings") or []
        self._refuse_public(bucket, {member for binding in bindings for member in binding.get("members", ())})
        if any(binding.get("condition") for binding in bindings) and not uniform(bucket):
            raise invalid(
                "Conditional IAM policies can only be set on buckets with uniform bucket-level access enabled. "
                f"Read more at {UNIFORM}"
            )
        try:
            saved = self.sandbox.iam.set_policy(bucket_name(bucket["name"]), policy)
        except ApiError as error:
            if error.code == 400:
                error.reason = error.reason or "invalid"
            raise
        self._touch(bucket)
        return self._policy(bucket, saved)

    @api("buckets.testIamPermissions")
    def test_bucket_permissions(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        asked = call.query.get("permissions") or []
        for permission in asked:
            if not re.fullmatch(r"storage\.[a-zA-Z]+\.[a-zA-Z]+", permission):
                raise invalid(f"Invalid argument: permission {permission}")
        held = self.sandbox.iam.test(call.caller, bucket_name(bucket["name"]), asked)
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        if held:
            answer["permissions"] = [permission for permission in asked if permission in held]
        return answer

    # --- changes

    def _bucket_to_change(self, call: Call) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, "storage.buckets.update", bucket)
        check_conditions(call.query, bucket)
        return bucket

    def _change_bucket(self, call: Call, before: dict, bucket: dict) -> dict:
        """Merge the body into `bucket` and save it; `before` is what is stored."""
        body = call.body
        for key in CREATE_ONLY:
            if body.get(key) is not None and _canonical(body[key]) != _canonical(before.get(key)):
                raise invalid(f"The {key} of a bucket cannot be changed.")
        _check_lock(before, bucket | body)
        merge(bucket, {key: body[key] for key in WRITABLE if key in body})
        now = timestamp()
        self._settle(bucket, before, now)
        self._save(bucket, now)
        self._lists(call, bucket)
        return self._render(bucket, projection_of(call, "full"))

    def _touch(self, bucket: dict) -> None:
        self._save(bucket, timestamp())

    def _save(self, bucket: dict, now: str) -> None:
        metageneration = int(bucket["metageneration"]) + 1
        bucket.update(metageneration=str(metageneration), etag=etag(metageneration), updated=now)
        self.store.put(BUCKET, bucket["name"], bucket, parent=bucket["projectNumber"])

    def _lists(self, call: Call, bucket: dict) -> None:
        """Apply acl, defaultObjectAcl and their predefined forms from the request."""
        body, query, creator = call.body, call.query, call.caller.email
        asked = [query.get(name) for name in PREDEFINED]
        if uniform(bucket):
            # Only PUT may repeat the lists: clients send back the whole of what they read.
            given = call.http_method != "PUT" and (body.get("acl") or body.get("defaultObjectAcl"))
            if any(asked) or given:
                raise invalid(
                    "Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled. "
                    f"Read more at {UNIFORM}"
                )
            return
        lists: dict[str, list[dict]] = {}
        for key, predefined, name, roles in (
            ("acl", PREDEFINED_BUCKET, asked[0], tuple(BUCKET_ROLES)),
            ("defaultObjectAcl", PREDEFINED_OBJECT, asked[1], ROLES_OF_OBJECTS),
        ):
            if name:
                lists[key] = expand(predefined[name], bucket["projectNumber"], creator if key == "acl" else "")
            elif body.get(key) is not None:
                lists[key] = entries_of(body[key], roles)
        self._refuse_public(bucket, {entry["entity"] for entries in lists.values() for entry in entries})
        if "acl" in lists:
            self.set_bucket_acl(bucket, lists["acl"])
        if "defaultObjectAcl" in lists:
            bucket["defaultObjectAcl"] = lists["defaultObjectAcl"]
            self.store.put(BUCKET, bucket["name"], bucket, parent=bucket["projectNumber"])

    @staticmethod
    def _refuse_public(bucket: dict, members: set[str]) -> None:
        if bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced" and members & PUBLIC:
            raise ApiError(
                412,
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access prevention "
                "is enforced.",
                reason="conditionNotMet",
            )

    # --- what the service makes of a bucket's fields

    def _settle(self, bucket: dict, before: dict, now: str) -> None:
        """Check the fields of the request, and fill in those that follow from them."""
        for key in NOTHING_WHEN_EMPTY:
            if bucket.get(key) in ({}, [], {"rule": []}):
                del bucket[key]
        self._settle_place(bucket)
        key_name = bucket.get("encryption", {}).get("defaultKmsKeyName")
        if key_name and key_name != before.get("encryption", {}).get("defaultKmsKeyName"):
            self.use_key(bucket, key_name)
        self._settle_access(bucket, before, now)
        self._settle_autoclass(bucket, before, now)
        self._settle_soft_delete(bucket, before, now)
        retention = bucket.get("retentionPolicy")
        if retention:
            if int(retention.get("retentionPeriod", 0)) <= 0:
                raise invalid("Retention period must be greater than zero.")
            if retention["retentionPeriod"] != before.get("retentionPolicy", {}).get("retentionPeriod"):
                retention["effectiveTime"] = now
        for rule in bucket.get("lifecycle", {}).get("rule", ()):
            _check_rule(rule)
        _check_labels(bucket.get("labels", {}))
        if bucket.get("hierarchicalNamespace", {}).get("enabled") and not uniform(bucket):
            raise invalid(
                "Hierarchical namespace can only be enabled on buckets with uniform bucket-level access enabled."
            )

    @staticmethod
    def _settle_place(bucket: dict) -> None:
        location = bucket["location"] = bucket["location"].upper()
        placement = bucket.get("customPlacementConfig", {}).get("dataLocations")
        kind = location_type(location, placement)
        if kind is None:
            raise invalid("The specified location constraint is not valid.")
        bucket["locationType"] = kind
        if bucket["storageClass"] not in STORAGE_CLASSES:
            raise invalid(f"Invalid storage class: {bucket['storageClass']}")
        if placement:
            bucket["customPlacementConfig"]["dataLocations"] = [place.upper() for place in placement]
        if kind == "region":
            if bucket.pop("rpo", "DEFAULT") != "DEFAULT":
                raise invalid("Turbo replication is available in dual-regions only.")
            # Zone isolation holds for regional buckets made since 2024.
            bucket["satisfiesPZI"] = True
            return
        rpo = bucket.setdefault("rpo", "DEFAULT")
        if rpo not in ("DEFAULT", "ASYNC_TURBO") or (
            rpo == "ASYNC_TURBO" and location in MULTI_REGIONS and not placement
        ):
            raise invalid("Turbo replication is available in dual-regions only.")

    @staticmethod
    def _settle_access(bucket: dict, before: dict, now: str) -> None:
        wanted = bucket.get("iamConfiguration", {})
        had = before.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {"enabled": False})
        new = wanted.get("uniformBucketLevelAccess", {}).get("enabled", had["enabled"])
        # The field's old name; a client that sends only that one means the same.
        alias = wanted.get("bucketPolicyOnly", {}).get("enabled", had["enabled"])
        enabled = new if new != had["enabled"] else alias
        state: dict[str, Any] = {"enabled": bool(enabled)}
        if enabled:
            state["lockedTime"] = had.get("lockedTime") or timestamp(parse_time(now) + UNIFORM_LOCKS_AFTER)
        elif had["enabled"] and parse_time(had["lockedTime"]) <= parse_time(now):
            raise condition_not_met()
        prevention = wanted.get("publicAccessPrevention", "inherited")
        if prevention not in ("inherited", "enforced", "unspecified"):
            raise invalid(f"Invalid public access prevention: {prevention}")
        bucket["iamConfiguration"] = {
            "bucketPolicyOnly": dict(state),
            "uniformBucketLevelAccess": state,
            "publicAccessPrevention": "enforced" if prevention == "enforced" else "inherited",
        }

    @staticmethod
    def _settle_autoclass(bucket: dict, before: dict, now: str) -> None:
        autoclass, had = bucket.get("autoclass"), before.get("autoclass", {})
        if not autoclass:
            bucket.pop("autoclass", None)
            return
        enabled = bool(autoclass.get("enabled"))
        if not enabled and not had:
            del bucket["autoclass"]
            return
        toggled = enabled != had.get("enabled")
        settled = {"enabled": enabled, "toggleTime": now if toggled else had["toggleTime"]}
        if enabled:
            terminal = autoclass.get("terminalStorageClass") or "NEARLINE"
            if terminal not in ("NEARLINE", "ARCHIVE"):
                raise invalid(f"Invalid terminal storage class: {terminal}")
            kept = not toggled and terminal == had.get("terminalStorageClass")
            settled["terminalStorageClass"] = terminal
            settled["terminalStorageClassUpdateTime"] = had["terminalStorageClassUpdateTime"] if kept else now
        bucket["autoclass"] = settled

    @staticmethod
    def _settle_soft_delete(bucket: dict, before: dict, now: str) -> None:
        policy, had = bucket.get("softDeletePolicy") or {}, before.get("softDeletePolicy", {})
        seconds = int(policy.get("retentionDurationSeconds", 0))
        if seconds and not 7 * DAY <= seconds <= 90 * DAY:
            raise invalid("Soft delete policy retention duration must be 0 or between 7 and 90 days.")
        settled = {"retentionDurationSeconds": str(seconds)}
        if seconds:
            same = had.get("retentionDurationSeconds") == str(seconds)
            settled["effectiveTime"] = had["effectiveTime"] if same else now
        bucket["softDeletePolicy"] = settled

    def _first_bindings(self, bucket: dict) -> list[dict]:
        """Return the policy of a new bucket: the project's basic roles as Cloud Storage translates them."""
        project = bucket["project"]
        writers, readers = [f"projectEditor:{project}", f"projectOwner:{project}"], [f"projectViewer:{project}"]
        bindings = [
            {"role": "roles/storage.legacyBucketOwner", "members": writers},
            {"role": "roles/storage.legacyBucketReader", "members": readers},
        ]
        if uniform(bucket):
            bindings += [
                {"role": "roles/storage.legacyObjectOwner", "members": writers},
                {"role": "roles/storage.legacyObjectReader", "members": readers},
            ]
        return bindings

    # --- answers

    def _render(self, bucket: dict, projection: str, *, reading: bool = False) -> dict:
        """Return the bucket resource.

        :param reading: with uniform access, a read has no lists, while the recorded answer to a change has those that
            applied before.
        """
        out = {key: value for key, value in bucket.items() if key not in (*PRIVATE, "policy")}
        if projection == "full" and not (reading and uniform(bucket)) and "hardDeleteTime" not in bucket:
            out["owner"] = bucket["owner"]
            if acl := [bucket_entry(bucket, entry) for entry in self.bucket_acl(bucket)]:
                out["acl"] = acl
            if default := [default_entry(bucket, entry) for entry in bucket["defaultObjectAcl"]]:
                out["defaultObjectAcl"] = default
        return out

    @staticmethod
    def _policy(bucket: dict, policy: dict) -> dict:
        resource = f"projects/_/buckets/{bucket['name']}"
        return {"kind": "storage#policy", "resourceId": resource, "version": 1, **policy}

    # --- soft-deleted buckets

    def _deleted(self, name: str, generation: Any) -> dict:
        bucket = self.store.get(DELETED, f"{name}/{generation}")
        if bucket is None or _expired(bucket):
            raise not_found("The specified bucket does not exist.")
        return bucket

    def _get_deleted(self, call: Call) -> dict:
        generation = call.query.get("generation")
        if generation is None:
            raise invalid("Required parameter: generation", location="generation", reason="required")
        bucket = self._deleted(call.params["bucket"], generation)
        self.allow_project(call, "storage.buckets.get", bucket["project"])
        return self._render(bucket, "noAcl")

    def purge_deleted_buckets(self) -> None:
        """Remove buckets that cannot be restored any more."""
        with self.store.transaction():
            for key, bucket in self.store.list(DELETED):
                if _expired(bucket):
                    self.objects.purge(bucket)
                    self.store.delete(DELETED, key)


def _taken(by_caller: bool) -> str:
    if by_caller:
        return "Your previous request to create the named bucket succeeded and you already own it."
    return (
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again."
    )


def _expired(bucket: dict) -> bool:
    return "hardDeleteTime" in bucket and parse_time(bucket["hardDeleteTime"]) <= datetime.now(UTC)


def _canonical(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _check_lock(before: dict, wanted: dict) -> None:
    """Refuse to shorten a locked retention policy."""
    policy = before.get("retentionPolicy", {})
    period = (wanted.get("retentionPolicy") or {}).get("retentionPeriod", 0)
    if policy.get("isLocked") and int(period) < int(policy["retentionPeriod"]):
        raise ApiError(
            403,
            f"Cannot reduce retention duration of a locked Retention Policy for bucket '{before['name']}'.",
            reason="forbidden",
        )


def _check_rule(rule: dict) -> None:
    action, condition = rule.get("action", {}), rule.get("condition", {})
    kind = action.get("type")
    if kind not in ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"):
        raise invalid(f"Invalid lifecycle action: {kind}")
    if not condition:
        raise invalid("A lifecycle management rule must have at least one condition.")
    if kind == "SetStorageClass" and action.get("storageClass") not in STORAGE_CLASSES:
        raise invalid(f"Invalid storage class: {action.get('storageClass')}")


def _check_labels(labels: dict[str, str]) -> None:
    """cloud.google.com/storage/docs/tags-and-labels: lower case, digits, - and _, letters of any script; at most 64."""
    if len(labels) > 64:
        raise invalid("A bucket can have at most 64 labels.")
    for key, value in labels.items():
        if not re.fullmatch(r"[^\W\d_][-\w]{0,62}", key) or key != key.lower():
            raise invalid(f"Invalid label key: {key}")
        if not re.fullmatch(r"[-\w]{0,63}", value) or value != value.lower():
            raise invalid(f"Invalid label value: {value}")
