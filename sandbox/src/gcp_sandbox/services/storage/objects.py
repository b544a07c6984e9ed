# SPDX-License-Identifier: Apache-2.0
"""The methods on objects, except for moving their bytes in (uploads.py) and out (media.py)."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.objects import Blob, parse_time, timestamp
from gcp_sandbox.gateway.errors import ApiError, unimplemented
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.services.storage.acl import (
    PREDEFINED_OBJECT,
    ROLES_OF_OBJECTS,
    entries_of,
    expand,
    object_entry,
)
from gcp_sandbox.services.storage.buckets import PUBLIC, STORAGE_CLASSES, merge
from gcp_sandbox.services.storage.common import (
    Access,
    api,
    check_conditions,
    invalid,
    projection_of,
    uniform,
    uniform_refusal,
)
from gcp_sandbox.services.storage.media import download

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

WRITABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "contexts",
    "customTime",
    "eventBasedHold",
    "metadata",
    "retention",
    "temporaryHold",
)
# What a copy takes from its source unless the request says otherwise.
COPIED = (*WRITABLE[:7], "metadata")
MAX_COMPONENTS = 32
MEBIBYTE = 1 << 20


def check_object_name(name: str | None) -> str:
    """cloud.google.com/storage/docs/objects#naming."""
    if not name:
        raise invalid("Required", reason="required")
    size = len(name.encode())
    if size > 1024:
        raise invalid(f"The maximum object length is 1024 characters, but got a name with {size} characters.")
    if "\n" in name or "\r" in name:
        raise invalid(f"Disallowed unicode characters present in object name '{name}'")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise invalid(f"Invalid object name: '{name}'")
    return name


class Objects(Access):
    """The methods on objects."""

    @api("objects.get")
    def get_object(self, call: Call) -> dict | Response:
        bucket, name, query = self.find_bucket(call.params["bucket"]), call.params["object"], call.query
        if query.get("softDeleted"):
            return self.render_object(bucket, self._soft_deleted(call, bucket), projection_of(call, "noAcl"))
        row = self.find_object(call, bucket, name, query.get("generation"))
        if query.get("projection") == "full":
            self.allow(call, "storage.objects.getIamPolicy", bucket, name, row)
        unchanged = check_conditions(query, row["object"], reading=True)
        if unchanged:
            return unchanged
        if query.get("alt") == "media":
            self.check_readable(bucket, row)
            return download(call, row, self.objects.path(row))
        return self.render_object(bucket, row, projection_of(call, "noAcl"))

    @api("objects.list")
    def list_objects(self, call: Call) -> dict:
        bucket, query = self.find_bucket(call.params["bucket"]), call.query
        if query.get("filter"):
            raise unimplemented("the option filter of storage.objects.list")
        prefix = query.get("prefix", "")
        listed = {"storage.googleapis.com/objectListPrefix": prefix}
        self.allow(call, "storage.objects.list", bucket, attributes=listed)
        if query.get("softDeleted") and query.get("versions"):
            raise invalid("Cannot list both soft-deleted objects and versions.")
        try:
            page = self.objects.list(
                bucket,
                prefix=prefix,
                delimiter=query.get("delimiter", ""),
                trailing=query.get("includeTrailingDelimiter", False),
                start=query.get("startOffset", ""),
                end=query.get("endOffset", ""),
                glob=query.get("matchGlob", ""),
                versions=query.get("versions", False),
                soft_deleted=query.get("softDeleted", False),
                after=_decode_token(query.get("pageToken", "")),
                limit=min(query.get("maxResults") or 1000, 1000),
            )
        except ValueError as error:
            raise invalid(f"Invalid match glob: {error}") from error
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.next:
            answer["nextPageToken"] = base64.urlsafe_b64encode(page.next.encode()).decode()
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.items:
            projection = projection_of(call, "noAcl")
            answer["items"] = [self.render_object(bucket, row, projection) for row in page.items]
        return answer

    @api("objects.patch")
    def patch_object(self, call: Call) -> dict:
        return self._change_object(call, replace=False)

    @api("objects.update")
    def update_object(self, call: Call) -> dict:
        return self._change_object(call, replace=True)

    @api("objects.delete")
    def delete_object(self, call: Call) -> Response:
        bucket, query = self.find_bucket(call.params["bucket"]), call.query
        row = self.find_object(call, bucket, call.params["object"], query.get("generation"), to="delete")
        check_conditions(query, row["object"])
        self._refuse_held(bucket, row)
        self.objects.remove(bucket, row, permanently=query.get("generation") is not None)
        return Response(204)

    @api("objects.compose", transaction=False)
    def compose_objects(self, call: Call) -> dict:
        bucket, name = self.find_bucket(call.params["destinationBucket"]), call.params["destinationObject"]
        sources = call.body.get("sourceObjects") or []
        if not sources:
            raise invalid("You must provide at least one source component.", reason="required")
        if len(sources) > MAX_COMPONENTS:
            raise invalid(
                f"The number of source components provided ({len(sources)}) exceeds the maximum ({MAX_COMPONENTS})"
            )
        rows = []
        for source in sources:
            row = self.find_object(call, bucket, source.get("name", ""), source.get("generation"))
            check_conditions(source.get("objectPreconditions") or {}, row["object"])
            rows.append(row)
        destination = call.body.get("destination") or {}
        self.before_write(call, bucket, name, destination, call.query)
        blob = self.objects.concatenate(rows)
        components = sum(row["object"].get("componentCount", 1) for row in rows)
        options = {**call.query, "predefinedAcl": call.query.get("destinationPredefinedAcl")}
        row = self.write(call, bucket, name, blob, destination, options, {"componentCount": components})
        if call.body.get("deleteSourceObjects"):
            self._delete_sources(call, bucket, rows, name)
        return self.render_object(bucket, row, "full")

    @api("objects.copy")
    def copy_object(self, call: Call) -> dict:
        row, bucket = self._copy(call)
        return self.render_object(bucket, row, projection_of(call, "full" if call.body.get("acl") else "noAcl"))

    @api("objects.rewrite")
    def rewrite_object(self, call: Call) -> dict:
        source_bucket, source = self._source(call)
        destination = self.find_bucket(call.params["destinationBucket"])
        size = int(source["object"]["size"])
        done = self._rewritten(call, source_bucket, source, destination)
        answer = {"kind": "storage#rewriteResponse", "objectSize": str(size)}
        if done < size:
            token = f"{source['object']['generation']}:{done}"
            answer |= {"totalBytesRewritten": str(done), "done": False}
            answer["rewriteToken"] = base64.urlsafe_b64encode(token.encode()).decode()
            return answer
        row, bucket = self._copy(call)
        projection = projection_of(call, "full" if call.body.get("acl") else "noAcl")
        resource = self.render_object(bucket, row, projection)
        return {**answer, "totalBytesRewritten": str(size), "done": True, "resource": resource}

    @api("objects.move")
    def move_object(self, call: Call) -> dict:
        params = call.params
        params["sourceBucket"] = params["destinationBucket"] = params["bucket"]
        bucket, source = self._source(call)
        self.allow(call, "storage.objects.delete", bucket, params["sourceObject"], source)
        self._refuse_held(bucket, source)
        row, _ = self._copy(call)
        self.objects.remove(bucket, source, permanently=False)
        return self.render_object(bucket, row, projection_of(call, "noAcl"))

    @api("objects.restore")
    def restore_object(self, call: Call) -> dict:
        bucket, name = self.find_bucket(call.params["bucket"]), call.params["object"]
        self.allow(call, "storage.objects.create", bucket, name)
        row = self._soft_deleted(call, bucket, to="restore")
        current = self.objects.get(bucket, name)
        check_conditions(call.query, current and current["object"])
        if not call.query.get("copySourceAcl"):
            row["acl"] = self._acl(call, bucket, {}, {})
        return self.render_object(bucket, self.objects.restore(bucket, row), projection_of(call, "full"))

    @api("objects.testIamPermissions")
    def test_object_permissions(self, call: Call) -> dict:
        bucket, name = self.find_bucket(call.params["bucket"]), call.params["object"]
        resource = f"//storage.googleapis.com/projects/_/buckets/{bucket['name']}/objects/{name}"
        asked = call.query.get("permissions") or []
        held = self.sandbox.iam.test(call.caller, resource, asked)
        answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        if held:
            answer["permissions"] = [permission for permission in asked if permission in held]
        return answer

    # --- writing

    def before_write(self, call: Call, bucket: dict, name: str, metadata: dict, options: dict) -> None:
        """Check everything that can refuse a new generation before its bytes arrive."""
        check_object_name(name)
        if "x-goog-encryption-key" in call.headers:
            raise unimplemented("customer-supplied encryption keys of Cloud Storage")
        if metadata.get("storageClass", "STANDARD") not in STORAGE_CLASSES:
            raise invalid(f"Invalid storage class: {metadata['storageClass']}")
        self.allow(call, "storage.objects.create", bucket, name)
        current = self.objects.get(bucket, name)
        check_conditions(options, current and current["object"])
        if current:
            # To overwrite is to delete: cloud.google.com/storage/docs/access-control/iam-permissions.
            self.allow(call, "storage.objects.delete", bucket, name, current)
            self._refuse_held(bucket, current)
        self._acl(call, bucket, metadata, options)

    def write(
        self,
        call: Call,
        bucket: dict,
        name: str,
        blob: Blob,
        metadata: dict,
        options: dict,
        more: dict[str, Any] | None = None,
    ) -> dict:
        """Check what the request says about the bytes, and make them the object's live generation.

        `before_write` has been called, perhaps long ago: preconditions are checked again in the same transaction.
        """
        try:
            with self.store.transaction():
                bucket = self.find_bucket(bucket["name"])
                _check_hashes(metadata, blob)
                current = self.objects.get(bucket, name)
                check_conditions(options, current and current["object"])
                resource: dict[str, Any] = {}
                merge(resource, {key: metadata[key] for key in (*WRITABLE, "storageClass") if key in metadata})
                if "customTime" in resource:
                    resource["customTime"] = timestamp(parse_time(resource["customTime"]))
                key_name = options.get("kmsKeyName") or bucket.get("encryption", {}).get("defaultKmsKeyName")
                if key_name:
                    resource["kmsKeyName"] = self.use_key(bucket, key_name)
                if bucket.get("defaultEventBasedHold"):
                    resource.setdefault("eventBasedHold", True)
                extra = {"acl": self._acl(call, bucket, metadata, options), "owner": _owner(call)}
                return self.objects.insert(bucket, name, blob, {**resource, **(more or {})}, **extra)
        except BaseException:
            self.objects.discard(blob)
            raise

    def _acl(self, call: Call, bucket: dict, metadata: dict, options: dict) -> list[dict]:
        """Return the list of a new object: the request's, or the bucket's default with its creator as owner.

        With uniform access the list has no effect until that is switched off.
        """
        predefined, own = options.get("predefinedAcl"), metadata.get("acl")
        if uniform(bucket) and (predefined or own):
            raise uniform_refusal("insert", "an object")
        creator = call.caller.email
        if predefined:
            entries = expand(PREDEFINED_OBJECT[predefined], bucket["projectNumber"], creator)
        elif own:
            entries = entries_of(own, ROLES_OF_OBJECTS)
        else:
            owner = [{"entity": f"user-{creator}", "role": "OWNER"}] if creator else []
            entries = [*bucket["defaultObjectAcl"], *owner]
        enforced = not uniform(bucket) and bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"
        if enforced and any(entry["entity"] in PUBLIC for entry in entries):
            raise ApiError(
                412, "Public access prevention is enforced on the bucket of this object.", reason="conditionNotMet"
            )
        return entries

    def _change_object(self, call: Call, *, replace: bool) -> dict:
        bucket, name, query, body = (
            self.find_bucket(call.params["bucket"]),
            call.params["object"],
            call.query,
            call.body,
        )
        row = self.find_object(call, bucket, name, query.get("generation"), to="update")
        resource = row["object"]
        check_conditions(query, resource)
        if replace:
            for key in COPIED:
                resource.pop(key, None)
        merge(resource, {key: body[key] for key in WRITABLE if key in body})
        if not resource.get("metadata", True):
            del resource["metadata"]
        if "acl" in body or query.get("predefinedAcl"):
            self.allow(call, "storage.objects.setIamPolicy", bucket, name, row)
            if uniform(bucket) and (query.get("predefinedAcl") or not replace):
                raise uniform_refusal("update", "an object")
            if not uniform(bucket):
                row["acl"] = self._acl(call, bucket, body, query)
        self.objects.update(bucket, row)
        return self.render_object(bucket, row, projection_of(call, "full"))

    def _delete_sources(self, call: Call, bucket: dict, rows: list[dict], kept: str) -> None:
        with self.store.transaction():
            for row in rows:
                if row["object"]["name"] != kept and self.objects.get(bucket, row["object"]["name"]):
                    self.allow(call, "storage.objects.delete", bucket, row["object"]["name"], row)
                    self.objects.remove(bucket, row, permanently=False)

    # --- copying

    def _source(self, call: Call) -> tuple[dict, dict]:
        bucket = self.find_bucket(call.params["sourceBucket"])
        row = self.find_object(call, bucket, call.params["sourceObject"], call.query.get("sourceGeneration"))
        check_conditions(call.query, row["object"], kind="Source")
        return bucket, row

    def _copy(self, call: Call) -> tuple[dict, dict]:
        """Copy within one transaction: (the new row, its bucket). A body replaces the source's metadata as a whole."""
        _, source = self._source(call)
        bucket, name = self.find_bucket(call.params["destinationBucket"]), call.params["destinationObject"]
        options = {
            **call.query,
            "predefinedAcl": call.query.get("destinationPredefinedAcl"),
            "kmsKeyName": call.query.get("destinationKmsKeyName"),
        }
        given = {key: value for key, value in call.body.items() if key in (*WRITABLE, "storageClass", "acl")}
        metadata = given if given.keys() & set(COPIED) else {**self._copied_metadata(source), **given}
        self.before_write(call, bucket, name, metadata, options)
        same = {key: source["object"][key] for key in ("componentCount",) if key in source["object"]}
        return self.write(call, bucket, name, self.objects.duplicate(source), metadata, options, same), bucket

    @staticmethod
    def _copied_metadata(source: dict) -> dict:
        return {key: source["object"][key] for key in COPIED if key in source["object"]}

    def _rewritten(self, call: Call, source_bucket: dict, source: dict, destination: dict) -> int:
        """Return how many bytes this call brings the copy to.

        Between the same places and classes only metadata is copied, in one call; otherwise a call may be limited, and
        carries on from where the token says the last one stopped.
        """
        size, resource = int(source["object"]["size"]), source["object"]
        limit = call.query.get("maxBytesRewrittenPerCall")
        if limit is not None and (int(limit) <= 0 or int(limit) % MEBIBYTE):
            raise invalid(f"maxBytesRewrittenPerCall must be an integral multiple of 1 MiB: {limit}")
        wanted = call.body.get("storageClass") or destination["storageClass"]
        moved = source_bucket["location"] != destination["location"] or wanted != resource["storageClass"]
        if limit is None or not moved:
            return size
        start, token = 0, call.query.get("rewriteToken")
        if token:
            generation, _, offset = _decode_token(token).partition(":")
            if generation != resource["generation"] or not offset.isdigit():
                raise invalid("Invalid rewrite token.", location="rewriteToken")
            start = int(offset)
        return min(size, start + int(limit))

    # --- keeping

    def _refuse_held(self, bucket: dict, row: dict) -> None:
        """403 for an object that must not go yet."""
        resource = row["object"]
        path = f"{bucket['name']}/{resource['name']}"
        for key, kind in (("temporaryHold", "Temporary hold"), ("eventBasedHold", "Event-Based hold")):
            if resource.get(key):
                raise ApiError(
                    403,
                    f"Object '{path}' is under active {kind} and cannot be deleted, overwritten or archived until hold "
                    "is removed.",
                    reason="forbidden",
                )
        until = self._retained_until(bucket, resource)
        if until and until > datetime.now(UTC):
            raise ApiError(
                403,
                f"Object '{path}' is subject to bucket's retention policy or object retention and cannot be deleted or "
                f"overwritten until {timestamp(until)}",
                reason="retentionPolicyNotMet",
            )

    @staticmethod
    def _retained_until(bucket: dict, resource: dict) -> datetime | None:
        ends = []
        if policy := bucket.get("retentionPolicy"):
            ends.append(parse_time(resource["timeCreated"]) + timedelta(seconds=int(policy["retentionPeriod"])))
        if retain := resource.get("retention", {}).get("retainUntilTime"):
            ends.append(parse_time(retain))
        return max(ends, default=None)

    def _soft_deleted(self, call: Call, bucket: dict, *, to: str = "get") -> dict:
        name, generation = call.params["object"], call.query.get("generation")
        if generation is None:
            raise invalid("Required parameter: generation", location="generation", reason="required")
        self.allow(call, f"storage.objects.{to}", bucket, name)
        row = self.objects.get_soft_deleted(bucket, name, generation)
        if row is None:
            raise self.no_such_object(bucket, name)
        return row

    # --- answers

    def render_object(self, bucket: dict, row: dict, projection: str) -> dict:
        """Return the object resource."""
        out = dict(row["object"])
        if "retentionPolicy" in bucket and (until := self._retained_until(bucket, out)):
            out["retentionExpirationTime"] = timestamp(until)
        if projection == "full" and not uniform(bucket):
            if row.get("owner"):
                out["owner"] = {"entity": row["owner"]}
            if row.get("acl"):
                out["acl"] = [object_entry(out, entry) for entry in row["acl"]]
        return out


def _owner(call: Call) -> str:
    return "" if call.caller.anonymous else f"user-{call.caller.email}"


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid("Invalid page token.", location="pageToken") from error


def _check_hashes(metadata: dict, blob: Blob) -> None:
    """400 where the caller said which checksum the bytes would have, and they have another."""
    for key, name, have in (("crc32c", "CRC32C", blob.crc32c), ("md5Hash", "MD5 hash", blob.md5)):
        said = metadata.get(key)
        if said and have and said != have:
            raise invalid(f'Provided {name} "{said}" doesn\'t match calculated {name} "{have}".')
