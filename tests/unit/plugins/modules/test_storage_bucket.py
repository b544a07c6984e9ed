# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import storage_bucket
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BASE = "https://storage.googleapis.com/storage/v1/b"
URL = f"{BASE}/x"
BUCKET = {
    "kind": "storage#bucket",
    "name": "x",
    "location": "EUROPE-WEST1",
    "storageClass": "STANDARD",
    "metageneration": "3",
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True, "lockedTime": "2026-01-01T00:00:00.000Z"},
        "publicAccessPrevention": "enforced",
    },
    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
    "labels": {"team": "a"},
    "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
}
OPTIONS = {
    "name": "x",
    "location": "europe-west1",
    "uniform_bucket_level_access": True,
    "public_access_prevention": "enforced",
    "soft_delete_seconds": 604800,
    "versioning": False,
    "labels": {"team": "a"},
    "lifecycle_rules": [{"action": {"type": "Delete"}, "condition": {"age": 30}}],
}


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=BUCKET)
    result = cloud.run(storage_bucket, **OPTIONS)
    assert result["changed"] is False
    assert result["resource"]["location"] == "EUROPE-WEST1"
    assert result["diff"] == {"before": {}, "after": {}}


@pytest.mark.parametrize("there", ["STANDARD", "REGIONAL", "MULTI_REGIONAL"])
@pytest.mark.parametrize("wanted", ["STANDARD", "REGIONAL", "MULTI_REGIONAL"])
def test_older_names_of_a_class_are_no_change(cloud, there, wanted):
    cloud.expect("GET", URL, body=dict(BUCKET, location="EU", storageClass=there))
    assert not cloud.run(storage_bucket, name="x", location="eu", storage_class=wanted)["changed"]


@pytest.mark.parametrize("there", ["NEARLINE", "DURABLE_REDUCED_AVAILABILITY"])
def test_other_classes_are(cloud, there):
    cloud.expect("GET", URL, body=dict(BUCKET, storageClass=there))
    assert cloud.run(storage_bucket, True, name="x", storage_class="MULTI_REGIONAL")["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_create(cloud, check_mode):
    cloud.expect_error("GET", URL, 404, reason="notFound", legacy=True)
    body = {
        "name": "x",
        "location": "europe-west1",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        "versioning": {"enabled": False},
        "labels": {"team": "a"},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
    }
    if not check_mode:
        cloud.expect("POST", BASE, query={"project": "p"}, sent=body, body=BUCKET)
    result = cloud.run(storage_bucket, check_mode, **OPTIONS)
    assert result["changed"] is True
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"] == body
    assert result["resource"]["name"] == "x"


@pytest.mark.parametrize("check_mode", [True, False])
def test_change_sends_only_what_differs(cloud, check_mode):
    cloud.expect("GET", URL, body=BUCKET)
    if not check_mode:
        cloud.expect(
            "PATCH",
            URL,
            query={"ifMetagenerationMatch": "3"},
            sent={"versioning": {"enabled": True}, "labels": {"owner": "b"}},
            body=dict(BUCKET, versioning={"enabled": True}),
        )
    result = cloud.run(storage_bucket, check_mode, name="x", versioning=True, labels={"owner": "b"})
    assert result["diff"] == {
        "before": {"name": "x", "labels": {}},
        "after": {"name": "x", "labels": {"owner": "b"}, "versioning": {"enabled": True}},
        "before_header": "bucket b/x",
        "after_header": "bucket b/x",
    }


def test_location_cannot_change(cloud):
    cloud.expect("GET", URL, body=BUCKET)
    with pytest.raises(Failed, match=r'location cannot be changed from "EUROPE-WEST1" to "US"') as failed:
        cloud.run(storage_bucket, name="x", location="US")
    assert "another name" in failed.value.result["msg"]
    assert failed.value.result["fields"] == ["location"]


def test_lost_race_reads_again(cloud):
    cloud.expect("GET", URL, body=BUCKET)
    cloud.expect_error("PATCH", URL, 412, reason="conditionNotMet", legacy=True)
    cloud.expect("GET", URL, body=dict(BUCKET, metageneration="4"))
    cloud.expect("PATCH", URL, query={"ifMetagenerationMatch": "4"}, body=BUCKET)
    assert cloud.run(storage_bucket, name="x", versioning=True)["changed"]


@pytest.mark.parametrize("rules", [[], [{"action": {"type": "Delete"}, "condition": {"age": 7}}]])
def test_the_rules_of_an_adopted_bucket_are_replaced(cloud, rules):
    cloud.expect("GET", URL, body=BUCKET)
    query = {"ifMetagenerationMatch": "3"}
    cloud.expect("PATCH", URL, query=query, sent={"lifecycle": {"rule": rules}}, body=BUCKET)
    owner = {"mlflow-deployment": "demo"}
    result = cloud.run(storage_bucket, name="x", lifecycle_rules=rules, labels={"a": "b"}, owner=owner, adopt=True)
    assert result["changed"] is True


def test_taken_by_another_owner(cloud):
    cloud.expect_error("GET", URL, 404, legacy=True)
    cloud.expect_error(
        "POST", BASE, 409, reason="conflict", legacy=True, message="The requested bucket name is not available."
    )
    cloud.expect_error("GET", URL, 403, reason="forbidden", legacy=True)
    with pytest.raises(Failed, match="the name is taken by another owner"):
        cloud.run(storage_bucket, name="x")


def test_permission_denied_names_it(cloud):
    cloud.expect_error(
        "GET",
        URL,
        403,
        reason="forbidden",
        legacy=True,
        message="me@p does not have storage.buckets.get access to the Google Cloud Storage bucket.",
    )
    with pytest.raises(
        Failed, match=r"lacks the permission storage\.buckets\.get.*add-iam-policy-binding p "
    ) as failed:
        cloud.run(storage_bucket, name="x")
    assert failed.value.result["permission"] == "storage.buckets.get"


def test_absent(cloud):
    cloud.expect_error("GET", URL, 404, legacy=True)
    assert not cloud.run(storage_bucket, name="x", state="absent")["changed"]


def test_delete_empty(cloud):
    cloud.expect("GET", URL, body=BUCKET)
    cloud.expect("GET", f"{URL}/o", body={})
    cloud.expect("DELETE", URL, query={"ifMetagenerationMatch": "3"}, status=204)
    result = cloud.run(storage_bucket, name="x", state="absent")
    assert result["changed"]
    assert result["diff"]["after"] == {}
    assert "resource" not in result


@pytest.mark.parametrize("check_mode", [True, False])
def test_delete_with_objects_needs_force(cloud, check_mode):
    cloud.expect("GET", URL, body=BUCKET)
    cloud.expect("GET", f"{URL}/o", body={"items": [{"name": "a/b", "generation": "1"}]})
    with pytest.raises(Failed, match="holds objects"):
        cloud.run(storage_bucket, check_mode, name="x", state="absent")


def test_delete_by_force(cloud):
    cloud.expect("GET", URL, body=BUCKET)
    cloud.expect("GET", f"{URL}/o", body={"items": [{"name": "a/b", "generation": "1"}]})
    cloud.expect("DELETE", f"{URL}/o/a%2Fb", query={"generation": "1"}, status=204)
    cloud.expect("GET", f"{URL}/o", body={})
    cloud.expect("DELETE", URL, status=204)
    assert cloud.run(storage_bucket, name="x", state="absent", force=True)["changed"]
