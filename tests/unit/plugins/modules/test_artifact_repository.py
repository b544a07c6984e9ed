# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import artifact_repository
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BASE = "https://artifactregistry.googleapis.com/v1/projects/p/locations/europe-west1"
URL = f"{BASE}/repositories/r"
OPERATION = "projects/p/locations/europe-west1/operations/1"
POLICIES = [
    {"id": "recent", "action": "KEEP", "most_recent_versions": {"keep_count": 10}},
    {"id": "old", "action": "DELETE", "condition": {"older_than": "2592000s"}},
]
SENT = {
    "recent": {"id": "recent", "action": "KEEP", "mostRecentVersions": {"keepCount": 10}},
    "old": {"id": "old", "action": "DELETE", "condition": {"olderThan": "2592000s"}},
}
REPOSITORY = {
    "name": "projects/p/locations/europe-west1/repositories/r",
    "format": "DOCKER",
    "description": "images",
    "cleanupPolicies": SENT,
    "satisfiesPzi": True,
}
NAMES = {"name": "r", "location": "europe-west1"}


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=REPOSITORY)
    result = cloud.run(artifact_repository, description="images", cleanup_policies=POLICIES, **NAMES)
    assert not result["changed"]


def test_create_waits_for_the_operation(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect(
        "POST",
        f"{BASE}/repositories",
        query={"repositoryId": "r"},
        sent={"format": "DOCKER", "description": "images", "cleanupPolicies": SENT},
        body={"name": OPERATION},
    )
    cloud.expect("GET", f"https://artifactregistry.googleapis.com/v1/{OPERATION}", body={"name": OPERATION})
    cloud.expect(
        "GET",
        f"https://artifactregistry.googleapis.com/v1/{OPERATION}",
        body={"name": OPERATION, "done": True, "response": {"@type": "x", **REPOSITORY}},
    )
    result = cloud.run(artifact_repository, description="images", cleanup_policies=POLICIES, **NAMES)
    assert result["changed"]
    assert result["resource"] == REPOSITORY


def test_update_answers_with_the_repository(cloud):
    cloud.expect("GET", URL, body=REPOSITORY)
    changed = dict(REPOSITORY, description="other")
    cloud.expect("PATCH", URL, query={"updateMask": "description"}, sent={"description": "other"}, body=changed)
    result = cloud.run(artifact_repository, description="other", **NAMES)
    assert result["resource"] == changed


def test_a_policy_that_is_not_named_is_removed(cloud):
    cloud.expect("GET", URL, body=REPOSITORY)
    cloud.expect(
        "PATCH", URL, query={"updateMask": "cleanupPolicies"}, sent={"cleanupPolicies": {"old": SENT["old"]}}, body={}
    )
    assert cloud.run(artifact_repository, cleanup_policies=POLICIES[1:], **NAMES)["changed"]


def test_the_format_cannot_change(cloud):
    cloud.expect("GET", URL, body=REPOSITORY)
    with pytest.raises(Failed, match=r'format cannot be changed from "DOCKER" to "PYTHON"'):
        cloud.run(artifact_repository, format="PYTHON", **NAMES)


def test_absent(cloud):
    cloud.expect("GET", URL, body=REPOSITORY)
    cloud.expect("DELETE", URL, body={"name": OPERATION, "done": True, "response": {}})
    assert cloud.run(artifact_repository, state="absent", **NAMES)["changed"]


def test_absent_already(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    assert not cloud.run(artifact_repository, state="absent", **NAMES)["changed"]
