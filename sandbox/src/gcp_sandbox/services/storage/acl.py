# SPDX-License-Identifier: Apache-2.0
"""Access control lists of buckets and objects.

A bucket's list has no storage of its own: its entries are the legacy bucket roles of the bucket's IAM policy, as on the
service, so that either API shows what the other changed. Lists of objects are stored with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.services.storage.common import (
    BUCKET_ROLES,
    TEAMS,
    Access,
    api,
    bucket_name,
    invalid,
    not_found,
    uniform,
    uniform_refusal,
)

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

ROLES_OF_OBJECTS = ("OWNER", "READER")
SELF = "https://www.googleapis.com/storage/v1"

_PROJECT = (("project-owners", "OWNER"), ("project-editors", "OWNER"), ("project-viewers", "READER"))
# Lists by name (cloud.google.com/storage/docs/access-control/lists#predefined-acl); "creator" is the caller.
PREDEFINED_BUCKET = {
    "private": (("creator", "OWNER"),),
    "projectPrivate": _PROJECT,
    "authenticatedRead": (*_PROJECT[:2], ("allAuthenticatedUsers", "READER")),
    "publicRead": (*_PROJECT[:2], ("allUsers", "READER")),
    "publicReadWrite": (*_PROJECT[:2], ("allUsers", "WRITER")),
}
PREDEFINED_OBJECT = {
    "private": (("creator", "OWNER"),),
    "projectPrivate": (*_PROJECT, ("creator", "OWNER")),
    "bucketOwnerRead": (("project-owners", "READER"), ("creator", "OWNER")),
    "bucketOwnerFullControl": (("project-owners", "OWNER"), ("creator", "OWNER")),
    "authenticatedRead": (("allAuthenticatedUsers", "READER"), ("creator", "OWNER")),
    "publicRead": (("allUsers", "READER"), ("creator", "OWNER")),
}


def expand(entries: Any, number: str, creator: str) -> list[dict]:
    """Entries of a predefined list, for a project number and a creator's address ("" leaves the creator out)."""
    found: dict[str, str] = {}
    for entity, role in entries:
        if entity == "creator":
            if not creator:
                continue
            entity = f"user-{creator}"
        elif entity.startswith("project-"):
            entity = f"{entity}-{number}"
        found[entity] = role
    return [{"entity": entity, "role": role} for entity, role in found.items()]


def entries_of(body: list[dict], roles: Any) -> list[dict]:
    """Return the caller's own entries, checked; of several for one entity the last wins."""
    found: dict[str, str] = {}
    for entry in body:
        entity, role = entry.get("entity"), entry.get("role")
        if not entity or not role:
            raise invalid("Required", reason="required")
        if role not in roles:
            raise invalid("Invalid Value")
        found[entity] = role
    return [{"entity": entity, "role": role} for entity, role in found.items()]


def _rank(entry: dict) -> tuple[int, str]:
    teams = ("project-owners-", "project-editors-", "project-viewers-")
    return next((i for i, team in enumerate(teams) if entry["entity"].startswith(team)), 3), entry["entity"]


def _about(entity: str) -> dict[str, Any]:
    """What an entry says about its entity besides the name."""
    kind, _, value = entity.partition("-")
    if kind in ("user", "group"):
        return {"email": value}
    if kind == "domain":
        return {"domain": value}
    if kind == "project":
        team, _, number = value.partition("-")
        return {"projectTeam": {"projectNumber": number, "team": team}}
    return {}


def bucket_entry(bucket: dict, entry: dict) -> dict:
    name, entity = bucket["name"], entry["entity"]
    return {
        "kind": "storage#bucketAccessControl",
        "id": f"{name}/{entity}",
        "selfLink": f"{SELF}/b/{name}/acl/{entity}",
        "bucket": name,
        **entry,
        **_about(entity),
        "etag": bucket["etag"],
    }


def default_entry(bucket: dict, entry: dict) -> dict:
    return {
        "kind": "storage#objectAccessControl",
        **entry,
        **_about(entry["entity"]),
        "etag": bucket["etag"],
    }


def object_entry(resource: dict, entry: dict) -> dict:
    entity, bucket, name = entry["entity"], resource["bucket"], resource["name"]
    return {
        "kind": "storage#objectAccessControl",
        "id": f"{bucket}/{name}/{resource['generation']}/{entity}",
        "selfLink": f"{SELF}/b/{bucket}/o/{quote(name, safe='')}/acl/{entity}",
        "bucket": bucket,
        "object": name,
        "generation": resource["generation"],
        **entry,
        **_about(entity),
        "etag": resource["etag"],
    }


class AccessControls(Access):
    """bucketAccessControls, defaultObjectAccessControls and objectAccessControls."""

    # --- a bucket's list, kept in its IAM policy

    def bucket_acl(self, bucket: dict) -> list[dict]:
        """Return the entries that a bucket's IAM policy amounts to."""
        policy = self.sandbox.iam.get_policy(bucket_name(bucket["name"]))
        return self._acl_of(policy)

    def set_bucket_acl(self, bucket: dict, entries: list[dict]) -> None:
        """Make the policy's legacy bucket roles say what the entries say."""
        resource = bucket_name(bucket["name"])
        policy = self.sandbox.iam.get_policy(resource, requested_version=3)
        legacy = set(BUCKET_ROLES.values())
        bindings = [b for b in policy.get("bindings", ()) if b["role"] not in legacy or b.get("condition")]
        for acl_role, iam_role in BUCKET_ROLES.items():
            members = [self.member(entry["entity"]) for entry in entries if entry["role"] == acl_role]
            if members:
                bindings.append({"role": iam_role, "members": members})
        self.sandbox.iam.set_policy(resource, {**policy, "bindings": bindings})

    def _acl_of(self, policy: dict) -> list[dict]:
        roles = {iam_role: acl_role for acl_role, iam_role in BUCKET_ROLES.items()}
        strongest = tuple(BUCKET_ROLES)
        found: dict[str, str] = {}
        for binding in policy.get("bindings", ()):
            role = roles.get(binding["role"])
            if role is None or binding.get("condition"):
                continue
            for member in binding["members"]:
                entity = self._entity(member)
                if entity:
                    found[entity] = min(role, found.get(entity, role), key=strongest.index)
        return sorted(({"entity": e, "role": r} for e, r in found.items()), key=_rank)

    def _entity(self, member: str) -> str | None:
        """IAM member -> ACL entity; None for members that lists cannot name."""
        kind, _, value = member.partition(":")
        if not value:
            return member
        teams = {iam: team for team, iam in TEAMS.items()}
        if kind in teams:
            project = self.sandbox.projects.get(value)
            return f"project-{teams[kind]}-{project.number}" if project else None
        names = {"user": "user", "serviceAccount": "user", "group": "group", "domain": "domain"}
        return f"{names[kind]}-{value}" if kind in names else None

    def _bucket_for_acl(self, call: Call, permission: str, verb: str, what: str) -> dict:
        bucket = self.find_bucket(call.params["bucket"])
        self.allow(call, permission, bucket)
        if uniform(bucket):
            raise uniform_refusal(verb, what)
        return bucket

    def _touch(self, bucket: dict) -> None:
        """Note that a bucket was changed. `Buckets`, which this is mixed into, does it."""
        raise NotImplementedError

    @api("bucketAccessControls.list")
    def list_bucket_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.getIamPolicy", "get", "a bucket")
        entries = [bucket_entry(bucket, entry) for entry in self.bucket_acl(bucket)]
        return {"kind": "storage#bucketAccessControls", **({"items": entries} if entries else {})}

    @api("bucketAccessControls.get")
    def get_bucket_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.getIamPolicy", "get", "a bucket")
        return bucket_entry(bucket, _pick(self.bucket_acl(bucket), call.params["entity"]))

    @api("bucketAccessControls.insert")
    @api("bucketAccessControls.update")
    @api("bucketAccessControls.patch")
    def put_bucket_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.setIamPolicy", "update", "a bucket")
        acl = self.bucket_acl(bucket)
        entry = _put(acl, call, tuple(BUCKET_ROLES))
        self.set_bucket_acl(bucket, acl)
        self._touch(bucket)
        return bucket_entry(bucket, entry)

    @api("bucketAccessControls.delete")
    def delete_bucket_acl(self, call: Call) -> Response:
        bucket = self._bucket_for_acl(call, "storage.buckets.setIamPolicy", "delete", "a bucket")
        acl = self.bucket_acl(bucket)
        acl.remove(_pick(acl, call.params["entity"]))
        self.set_bucket_acl(bucket, acl)
        self._touch(bucket)
        return Response(204)

    # --- the list that new objects get

    @api("defaultObjectAccessControls.list")
    def list_default_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.get", "get", "a default object")
        entries = [default_entry(bucket, entry) for entry in bucket["defaultObjectAcl"]]
        return {"kind": "storage#objectAccessControls", **({"items": entries} if entries else {})}

    @api("defaultObjectAccessControls.get")
    def get_default_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.get", "get", "a default object")
        return default_entry(bucket, _pick(bucket["defaultObjectAcl"], call.params["entity"]))

    @api("defaultObjectAccessControls.insert")
    @api("defaultObjectAccessControls.update")
    @api("defaultObjectAccessControls.patch")
    def put_default_acl(self, call: Call) -> dict:
        bucket = self._bucket_for_acl(call, "storage.buckets.update", "update", "a default object")
        entry = _put(bucket["defaultObjectAcl"], call, ROLES_OF_OBJECTS)
        self._touch(bucket)
        return default_entry(bucket, entry)

    @api("defaultObjectAccessControls.delete")
    def delete_default_acl(self, call: Call) -> Response:
        bucket = self._bucket_for_acl(call, "storage.buckets.update", "delete", "a default object")
        bucket["defaultObjectAcl"].remove(_pick(bucket["defaultObjectAcl"], call.params["entity"]))
        self._touch(bucket)
        return Response(204)

    # --- an object's own list

    def _object_for_acl(self, call: Call, permission: str, verb: str) -> tuple[dict, dict]:
        bucket, name = self.find_bucket(call.params["bucket"]), call.params["object"]
        row = self.find_object(call, bucket, name, call.query.get("generation"), to=permission)
        if uniform(bucket):
            raise uniform_refusal(verb, "an object")
        return bucket, row

    @api("objectAccessControls.list")
    def list_object_acl(self, call: Call) -> dict:
        _, row = self._object_for_acl(call, "getIamPolicy", "get")
        entries = [object_entry(row["object"], entry) for entry in row["acl"]]
        return {"kind": "storage#objectAccessControls", **({"items": entries} if entries else {})}

    @api("objectAccessControls.get")
    def get_object_acl(self, call: Call) -> dict:
        _, row = self._object_for_acl(call, "getIamPolicy", "get")
        return object_entry(row["object"], _pick(row["acl"], call.params["entity"]))

    @api("objectAccessControls.insert")
    @api("objectAccessControls.update")
    @api("objectAccessControls.patch")
    def put_object_acl(self, call: Call) -> dict:
        bucket, row = self._object_for_acl(call, "setIamPolicy", "update")
        entry = _put(row["acl"], call, ROLES_OF_OBJECTS)
        self.objects.update(bucket, row)
        return object_entry(row["object"], entry)

    @api("objectAccessControls.delete")
    def delete_object_acl(self, call: Call) -> Response:
        bucket, row = self._object_for_acl(call, "setIamPolicy", "delete")
        row["acl"].remove(_pick(row["acl"], call.params["entity"]))
        self.objects.update(bucket, row)
        return Response(204)


def _pick(acl: list[dict], entity: str) -> dict:
    for entry in acl:
        if entry["entity"] == entity:
            return entry
    raise not_found("Not Found")


def _put(acl: list[dict], call: Call, roles: tuple[str, ...]) -> dict:
    """Add or change the entry that the call is about, in place."""
    entity = call.params.get("entity") or call.body.get("entity")
    new = entries_of([{**call.body, "entity": entity}], roles)[0]
    for entry in acl:
        if entry["entity"] == entity:
            entry.update(new)
            return entry
    acl.append(new)
    return new
