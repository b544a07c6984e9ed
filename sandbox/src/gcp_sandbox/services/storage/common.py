# SPDX-License-Identifier: Apache-2.0
"""What the methods of Cloud Storage share: its errors, finding buckets and objects, and permissions on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.objects import ObjectStore
from gcp_sandbox.gateway import keys
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.identity import ANONYMOUS, Principal
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.service import method

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.projects import Project
    from gcp_sandbox.store import Store

UNIFORM = "https://cloud.google.com/storage/docs/uniform-bucket-level-access"

# ACL role -> the IAM roles that mean the same on a bucket (cloud.google.com/storage/docs/access-control/iam-roles).
BUCKET_ROLES = {
    "OWNER": "roles/storage.legacyBucketOwner",
    "WRITER": "roles/storage.legacyBucketWriter",
    "READER": "roles/storage.legacyBucketReader",
}
# What an entry in an object's ACL lets its holder do.
OBJECT_GRANTS = {
    "READER": {"storage.objects.get"},
    "OWNER": {
        "storage.objects.get",
        "storage.objects.update",
        "storage.objects.getIamPolicy",
        "storage.objects.setIamPolicy",
    },
}
TEAMS = {"owners": "projectOwner", "editors": "projectEditor", "viewers": "projectViewer"}


def api(id: str, *, transaction: bool = True) -> Any:
    """Serve a method that does its own permission check.

    All of this API's do: a bucket that does not exist is 404 before any check of permissions, an anonymous caller
    may reach what is public, and a fine-grained bucket has ACLs besides its IAM policy.
    """
    return method(id, permission=None, transaction=transaction, anonymous=True)


def invalid(message: str = "Invalid argument.", *, location: str | None = None, reason: str = "invalid") -> ApiError:
    return ApiError(400, message, reason=reason, location=location)


def condition_not_met(header: str = "If-Match") -> ApiError:
    return ApiError(
        412,
        "At least one of the pre-conditions you specified did not hold.",
        reason="conditionNotMet",
        location=header,
        location_type="header",
    )


def not_found(message: str) -> ApiError:
    return ApiError(404, message, reason="notFound")


def uniform_refusal(verb: str, what: str) -> ApiError:
    """ACLs do not go with uniform bucket-level access. `verb` and `what` as in "get" ... "object"."""
    if what == "bucket policy":
        text = "Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled."
    else:
        text = f"Cannot {verb} legacy ACL for {what} when uniform bucket-level access is enabled."
    return invalid(f"{text} Read more at {UNIFORM}")


def key_location(bucket: dict) -> str:
    """Return where the key of a bucket must be (cloud.google.com/storage/docs/encryption/customer-managed-keys)."""
    location = bucket["location"].lower()
    return {"eu": "europe"}.get(location, location)


# https://cloud.google.com/storage/docs/json_api/v1/status-codes
_KEYS = {
    "name": (400, "cloudKmsBadKey", "Bad Cloud KMS key."),
    "location": (400, "cloudKmsKeyLocationNotAllowed", "Cloud KMS key location not allowed."),
    "missing": (400, "cloudKmsEncryptionKeyNotFound", "Cloud KMS encryption key not found."),
    "disabled": (400, "cloudKmsDisabledKey", "Cloud KMS key is disabled, destroyed, or scheduled to be destroyed."),
    "denied": (
        403,
        "forbidden",
        "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized "
        "to use this key.",
    ),
}


def bucket_name(name: str) -> str:
    """Full resource name of a bucket."""
    return f"//storage.googleapis.com/projects/_/buckets/{name}"


def projection_of(call: Call, default: str) -> str:
    """Return the part of a resource that the caller asks for: noAcl or full."""
    return call.query.get("projection") or default


def uniform(bucket: dict) -> bool:
    return bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]


def check_conditions(options: dict, current: dict | None, *, kind: str = "", reading: bool = False) -> Response | None:
    """if[Source][Meta]generation[Not]Match against a resource; `kind` is "" or "Source".

    Raises ApiError 412. A reader with a current copy gets the 304 that is returned. An object that does not exist
    has generation 0.
    """
    for what in ("Generation", "Metageneration"):
        have = int((current or {}).get(what.lower(), 0))
        wanted = options.get(f"if{kind}{what}Match")
        if wanted is not None and int(wanted) != have:
            raise condition_not_met()
        unwanted = options.get(f"if{kind}{what}NotMatch")
        if unwanted is not None and int(unwanted) == have:
            if reading:
                return Response(304, headers={"ETag": current["etag"]} if current else {})
            raise condition_not_met("If-None-Match")
    return None


def denied(principal: Principal, host: str, name: str, permission: str) -> ApiError:
    """Return the 403 for a missing permission, the 401 for an anonymous caller."""
    who = "Anonymous caller" if principal == ANONYMOUS else principal.email
    of_object = permission.startswith("storage.objects.") and permission != "storage.objects.list"
    what = "object" if "/objects/" in name or of_object else "bucket"
    if name.startswith("projects/") and not name.startswith("projects/_"):
        what = "project"
    message = (
        f"{who} does not have {permission} access to the Google Cloud {'Storage ' if what != 'project' else ''}{what}. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )
    if principal == ANONYMOUS:
        return ApiError(401, message, reason="required", location="Authorization", location_type="header")
    return ApiError(403, message, reason="forbidden")


class Access:
    """Base of the parts that `Storage` is put together from."""

    sandbox: Platform
    store: Store

    @property
    def objects(self) -> ObjectStore:
        return self.sandbox.objects

    def find_bucket(self, name: str) -> dict:
        bucket = self.objects.bucket(name)
        if bucket is None:
            raise not_found("The specified bucket does not exist.")
        return bucket

    def use_key(self, bucket: dict, name: str, *, decrypt: bool = False) -> str:
        """Return the version of a key that encrypts the bucket's objects; ApiError where it cannot be used."""
        project = self.sandbox.projects.get(bucket["project"])
        try:
            return keys.use(self.sandbox, "storage", project, name, [key_location(bucket)], decrypt=decrypt)
        except keys.Unusable as error:
            code, reason, message = _KEYS[error.kind]
            raise ApiError(code, message, reason=reason) from error

    def check_readable(self, bucket: dict, row: dict) -> None:
        """Raise the error for an object with a key that cannot be used any more."""
        if version := row["object"].get("kmsKeyName"):
            self.use_key(bucket, version.partition("/cryptoKeyVersions/")[0], decrypt=True)

    def find_object(self, call: Call, bucket: dict, name: str, generation: Any = None, *, to: str = "get") -> dict:
        """Return the object's row to a caller with storage.objects.<to>.

        Only callers that may list a bucket get the 404 for a missing object; others get the 403 for an existing one.
        """
        row = self.objects.get(bucket, name, generation)
        if row or uniform(bucket):
            self.allow(call, f"storage.objects.{to}", bucket, name, row)
        if row is None:
            self.allow(call, "storage.objects.list", bucket)
            raise self.no_such_object(bucket, name)
        return row

    @staticmethod
    def no_such_object(bucket: dict, name: str) -> ApiError:
        return not_found(f"No such object: {bucket['name']}/{name}")

    def allow(
        self,
        call: Call,
        permission: str,
        bucket: dict,
        name: str = "",
        row: dict | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Raise 403 (401 for an anonymous caller) without `permission` on the bucket, or on the object `name` in it.

        `row` is the object if it exists: in a fine-grained bucket its own list may grant what the policy does not.
        """
        iam, caller = self.sandbox.iam, call.caller
        resource = bucket_name(bucket["name"]) + (f"/objects/{name}" if name else "")
        if not (caller.anonymous and bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"):
            if iam.test(caller, resource, [permission], attributes=attributes):
                return
            acl = row.get("acl", ()) if row and not uniform(bucket) else ()
            for entry in acl:
                if permission in OBJECT_GRANTS[entry["role"]] and iam.matches(caller, self.member(entry["entity"])):
                    return
        raise iam.denied(caller, resource, permission)

    def allow_project(self, call: Call, permission: str, project_id: str) -> Project:
        """Return the project to a caller with `permission` on it."""
        project = self.sandbox.projects.get(project_id)
        if project is None or not self.sandbox.iam.allowed(call.caller, project.name, permission):
            resource = f"//storage.googleapis.com/projects/{project_id}"
            raise self.sandbox.iam.denied(call.caller, resource, permission)
        return project

    def member(self, entity: str) -> str:
        """Return the IAM member that an ACL's entity is."""
        if entity in ("allUsers", "allAuthenticatedUsers"):
            return entity
        kind, _, value = entity.partition("-")
        if kind == "project":
            team, _, number = value.partition("-")
            project = self.sandbox.projects.get(number)
            if team not in TEAMS or project is None:
                raise invalid("Invalid Value")
            return f"{TEAMS[team]}:{project.id}"
        if kind not in ("user", "group", "domain") or not value:
            raise invalid("Invalid Value")
        if kind == "user" and value.endswith(".gserviceaccount.com"):
            kind = "serviceAccount"
        return f"{kind}:{value}"
