# SPDX-License-Identifier: Apache-2.0
"""The modules that only look, which share one implementation."""

from __future__ import annotations

import importlib

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import (
    app_engine_application_info,
    iam_policy_info,
    project_info,
)
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

RUN = "https://run.googleapis.com/v2/projects/p/locations/l/services"
REGISTRY = "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories"
APP = "https://appengine.googleapis.com/v1/apps/p/services"
LOOKS = {
    "app_engine_service_info": (APP, "services", {}, None),
    "app_engine_version_info": (f"{APP}/default/versions", "versions", {}, {"view": "FULL"}),
    "sql_instance_info": ("https://sqladmin.googleapis.com/v1/projects/p/instances", "items", {}, None),
    "cloud_run_service_info": (RUN, "services", {"location": "l"}, None),
    "artifact_repository_info": (REGISTRY, "repositories", {"location": "l"}, None),
    "storage_bucket_info": ("https://storage.googleapis.com/storage/v1/b", "items", {}, {"project": "p"}),
    "secret_info": ("https://secretmanager.googleapis.com/v1/projects/p/secrets", "secrets", {}, None),
    "service_account_info": ("https://iam.googleapis.com/v1/projects/p/serviceAccounts", "accounts", {}, None),
}


@pytest.fixture(params=LOOKS)
def look(request):
    module = importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{request.param}")
    return module, *LOOKS[request.param]


def test_one(cloud, look):
    module, url, _items, options, _query = look
    cloud.expect("GET", f"{url}/x", body={"name": "x"})
    assert cloud.run(module, name="x", **options) == {"changed": False, "resources": [{"name": "x"}]}


def test_none_of_that_name(cloud, look):
    module, url, _items, options, _query = look
    cloud.expect_error("GET", f"{url}/x", 404, code="NOT_FOUND")
    assert cloud.run(module, name="x", **options)["resources"] == []


def test_none_as_what_they_would_be_in_is_not_there(cloud, look):
    module, url, _items, options, _query = look
    cloud.expect_error("GET", url, 404, code="NOT_FOUND")
    assert cloud.run(module, **options)["resources"] == []


def test_all_over_pages(cloud, look):
    module, url, items, options, query = look
    cloud.expect("GET", url, query=query or {}, body={items: [{"name": "a"}], "nextPageToken": "t"})
    cloud.expect("GET", url, query=dict(query or {}, pageToken="t"), body={items: [{"name": "b"}]})
    assert cloud.run(module, **options)["resources"] == [{"name": "a"}, {"name": "b"}]


def test_where_the_api_is_not_enabled_there_are_none(cloud, look):
    module, url, _items, options, _query = look
    metadata = {"service": "x.googleapis.com", "consumer": "projects/p"}
    cloud.expect_error("GET", url, 403, code="PERMISSION_DENIED", reason="SERVICE_DISABLED", metadata=metadata)
    cloud.expect("GET", "...services/x.googleapis.com", body={"state": "DISABLED"})
    assert cloud.run(module, **options)["resources"] == []
    assert "is not enabled" in cloud.warnings[0]


def test_application(cloud):
    url = APP.rpartition("/")[0]
    cloud.expect("GET", url, body={"name": "apps/p"})
    assert cloud.run(app_engine_application_info)["resources"] == [{"name": "apps/p"}]
    cloud.expect_error("GET", url, 404, code="NOT_FOUND")
    assert cloud.run(app_engine_application_info)["resources"] == []


def test_project(cloud):
    body = {"name": "projects/123", "projectId": "p", "state": "ACTIVE"}
    cloud.expect("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/p", body=body)
    assert cloud.run(project_info) == {"changed": False, "resource": body, "number": "123"}


def test_policy(cloud):
    policy = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
    cloud.expect("GET", f"{RUN}/s:getIamPolicy", body=policy)
    found = cloud.run(iam_policy_info, resource="//run.googleapis.com/projects/p/locations/l/services/s")
    assert found["policy"]["bindings"] == policy["bindings"]


def test_policy_of_an_unknown_kind(cloud):
    with pytest.raises(Failed, match="pubsub"):
        cloud.run(iam_policy_info, resource="//pubsub.googleapis.com/projects/p/topics/t")
