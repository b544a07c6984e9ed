# SPDX-License-Identifier: Apache-2.0
"""Steps for storage_bucket and storage_bucket_info."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import STORAGE
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

NAME = "{{ project }}-artifacts"
UPLOAD = STORAGE.replace("/storage/v1", "/upload/storage/v1")


def url(cloud):
    return f"{STORAGE}/b/{cloud.project}-artifacts"


def bucket(cloud):
    """Return the bucket and the names of its objects, including all versions."""
    found = cloud.get(url(cloud))
    if found is None:
        return None
    objects = cloud.get(f"{url(cloud)}/o", versions="true").get("items", [])
    return {"bucket": found, "objects": [(item["name"], item["generation"]) for item in objects]}


def _bucket(title, expect=None, *, prepare=None, fails="", **options):
    return Step(title, "storage_bucket", {"name": NAME, **options}, bucket, expect, prepare=prepare, fails=fails)


def created(seen, result, cloud):
    seen = seen["bucket"]
    assert (seen["location"], seen["storageClass"]) == ("EUROPE-WEST1", "NEARLINE")
    assert seen["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert seen["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert seen["versioning"] == {"enabled": True}
    assert seen["lifecycle"]["rule"] == [{"action": {"type": "Delete"}, "condition": {"age": 30}}]
    assert seen["softDeletePolicy"]["retentionDurationSeconds"] == "0"
    assert seen["cors"] == [{"origin": ["https://a.example"], "method": ["GET"], "maxAgeSeconds": 60}]
    assert seen["labels"] == {"managed-by": "mlplatform-gcp", "team": "ml"}
    assert result["resource"] == seen


def changed(seen, result, cloud):
    seen = seen["bucket"]
    assert seen["storageClass"] == "STANDARD"
    assert seen["versioning"] == {"enabled": False}
    types = {rule["action"]["type"] for rule in seen["lifecycle"]["rule"]}
    assert types == {"AbortIncompleteMultipartUpload", "Delete"}
    assert seen["labels"] == {"managed-by": "mlplatform-gcp", "team": "platform"}
    # not an option of the task: unchanged
    assert seen["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert seen["cors"] == [{"origin": ["https://a.example"], "method": ["GET"], "maxAgeSeconds": 60}]


def without(seen, result, cloud):
    seen = seen["bucket"]
    assert not seen.get("lifecycle", {}).get("rule") and not seen.get("cors")
    assert seen["versioning"] == {"enabled": False}


def versioned_by_hand(cloud):
    cloud.request("PATCH", url(cloud), {"versioning": {"enabled": True}})


def fill(cloud):
    for text in (b"one", b"two"):
        answer = cloud.api.post(
            f"{UPLOAD}/b/{cloud.project}-artifacts/o", params={"uploadType": "media", "name": "a/ä b"}, data=text
        )
        assert answer.ok, answer.text


DELETE_OLD = {"action": {"type": "Delete"}, "condition": {"age": 30}}
ABORT = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}

STEPS = [
    both(
        _bucket(
            "A bucket is created",
            created,
            location="europe-west1",
            storage_class="NEARLINE",
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning=True,
            lifecycle_rules=[DELETE_OLD],
            soft_delete_seconds=0,
            cors=[{"origin": ["https://a.example"], "method": ["GET"], "maxAgeSeconds": 60}],
            labels={"managed-by": "mlplatform-gcp", "team": "ml"},
        )
    ),
    both(
        _bucket(
            "A bucket is changed",
            changed,
            location="EUROPE-WEST1",
            storage_class="STANDARD",
            versioning=False,
            lifecycle_rules=[ABORT, DELETE_OLD],
            labels={"team": "platform"},
        )
    ),
    _bucket(
        "Rules are removed from a bucket, and a change by hand is reverted",
        without,
        prepare=versioned_by_hand,
        versioning=False,
        lifecycle_rules=[],
        cors=[],
    ),
    both(
        information("A bucket is found", "storage_bucket_info", {"name": NAME}, lambda cloud: [cloud.get(url(cloud))])
    ),
    information(
        "All buckets are found",
        "storage_bucket_info",
        {},
        lambda cloud: cloud.get(f"{STORAGE}/b", project=cloud.project)["items"],
    ),
    _bucket("A bucket does not move", fails="location cannot be changed", location="US"),
    _bucket("A bucket with objects is not deleted", prepare=fill, fails="holds objects", state="absent"),
    both(
        _bucket(
            "A bucket is deleted with its objects",
            lambda seen, result, cloud: same(seen, None),
            state="absent",
            force=True,
        )
    ),
    information("No bucket is found", "storage_bucket_info", {"name": NAME}, lambda cloud: []),
]
