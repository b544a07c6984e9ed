# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import service_identity
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

URL = "https://serviceusage.googleapis.com/v1beta1/projects/p/services/iap.googleapis.com:generateServiceIdentity"
EMAIL = "service-7@gcp-sa-iap.iam.gserviceaccount.com"


def test_returns_the_account(cloud):
    response = {"@type": "x", "email": EMAIL, "uniqueId": "1"}
    cloud.expect("POST", URL, body={"name": "operations/1", "done": True, "response": response})
    result = cloud.run(service_identity, service="iap.googleapis.com")
    assert result["email"] == EMAIL and result["member"] == f"serviceAccount:{EMAIL}"
    assert not result["changed"]


def test_waits(cloud):
    cloud.expect("POST", URL, body={"name": "operations/1"})
    done = {"name": "operations/1", "done": True}
    cloud.expect("GET", "https://serviceusage.googleapis.com/v1beta1/operations/1", body=done)
    assert cloud.run(service_identity, service="iap.googleapis.com")["member"] == ""


def test_check_mode_composes_the_address(cloud):
    cloud.expect("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/p", body={"name": "projects/7"})
    assert cloud.run(service_identity, True, service="iap.googleapis.com")["email"] == EMAIL
    cloud.expect("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/p", body={"name": "projects/7"})
    other = cloud.run(service_identity, True, service="pubsub.googleapis.com")
    assert other["email"] == "service-7@gcp-sa-pubsub.iam.gserviceaccount.com"


def test_check_mode_without_the_number(cloud):
    cloud.expect_error("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/p", 403)
    result = cloud.run(service_identity, True, service="iap.googleapis.com")
    assert result["email"].startswith("service-PROJECT_NUMBER@")
    assert len(cloud.warnings) == 1


def test_failure(cloud):
    cloud.expect("POST", URL, body={"name": "o", "done": True, "error": {"message": "not enabled"}})
    with pytest.raises(Failed, match=r"identity of iap\.googleapis\.com in p failed: not enabled"):
        cloud.run(service_identity, service="iap.googleapis.com")


def test_cloud_storage_has_a_method_of_its_own(cloud):
    email = "service-7@gs-project-accounts.iam.gserviceaccount.com"
    url = "https://storage.googleapis.com/storage/v1/projects/p/serviceAccount"
    cloud.expect("GET", url, body={"kind": "storage#serviceAccount", "email_address": email})
    assert cloud.run(service_identity, service="storage.googleapis.com")["email"] == email
