# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import preflight_info

USAGE = "https://serviceusage.googleapis.com/v1/projects/p/services:batchGet"
PROJECT = "https://cloudresourcemanager.googleapis.com/v3/projects/p"
BILLING = "https://cloudbilling.googleapis.com/v1/projects/p/billingInfo"
TEST = "https://cloudresourcemanager.googleapis.com/v1/projects/p:testIamPermissions"
BUCKET = "https://storage.googleapis.com/storage/v1/b/bkt"
OURS = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo"}
ACTIVE = {"name": "projects/1", "projectId": "p", "state": "ACTIVE", "parent": "organizations/9"}


def state(service, enabled=True):
    return {"name": f"projects/1/services/{service}", "state": "ENABLED" if enabled else "DISABLED"}


def well(cloud, project=None, services=None, billing=True):
    cloud.expect("GET", USAGE, body={"services": services or [state("serviceusage.googleapis.com")]})
    cloud.expect("GET", PROJECT, body=project or ACTIVE)
    cloud.expect("GET", BILLING, body={"billingEnabled": billing})


def checks(result):
    return [problem["check"] for problem in result["problems"]]


def test_nothing_stands_in_the_way(cloud):
    well(cloud, services=[state("run.googleapis.com")])
    cloud.expect(
        "POST", TEST, sent={"permissions": ["run.services.create"]}, body={"permissions": ["run.services.create"]}
    )
    cloud.expect_error("GET", BUCKET, 404, legacy=True, reason="notFound")
    result = cloud.run(
        preflight_info,
        region="europe-west1",
        services=["run.googleapis.com"],
        permissions=["run.services.create"],
        resources=[{"type": "storage_bucket", "name": "bkt"}],
    )
    assert result["problems"] == []
    assert result["project"] == {"project_id": "p", "number": "1", "state": "ACTIVE", "organization": "organizations/9"}
    assert result["caller"]["member"] == "serviceAccount:me@p.iam.gserviceaccount.com"
    assert result["services"] == {"enabled": ["run.googleapis.com"], "disabled": []}
    assert result["resources"][0]["exists"] is False


def test_all_problems_are_listed_and_not_the_first(cloud):
    well(cloud, project=dict(ACTIVE, parent=""), services=[state("run.googleapis.com", False)], billing=False)
    cloud.expect("POST", TEST, body={"permissions": ["a.b.c"]})
    cloud.expect("GET", BUCKET, body={"name": "bkt", "location": "US", "projectNumber": "1", "labels": {}})
    result = cloud.run(
        preflight_info,
        region="europe-west1",
        services=["run.googleapis.com"],
        permissions=["a.b.c", "d.e.f"],
        resources=[{"type": "storage_bucket", "name": "bkt"}],
        owner_labels=OURS,
        organization_required=True,
    )
    assert checks(result) == ["billing", "services", "permissions", "organization", "taken", "location"]
    assert "d.e.f" in result["problems"][2]["what"]
    assert "a.b.c" not in result["problems"][2]["what"]
    assert all(problem["next"] for problem in result["problems"])


def test_apis_that_are_only_looked_at(cloud):
    names = ["run.googleapis.com", "appengine.googleapis.com", "dns.googleapis.com"]
    well(cloud, services=[state(names[0]), state(names[1]), state(names[2], False)])
    result = cloud.run(preflight_info, services=names[:1], other_services=names[1:])
    assert cloud.requests[0].query == {"names": [f"projects/p/services/{name}" for name in names]}
    assert result["services"] == {"enabled": names[:2], "disabled": []}
    assert result["problems"] == []


@pytest.mark.parametrize(("location", "problems"), [("*", []), ("EU", []), ("us", ["location"])])
def test_where_a_bucket_may_be(cloud, location, problems):
    well(cloud)
    cloud.expect("GET", BUCKET, body={"name": "bkt", "location": "EU", "projectNumber": "1"})
    asked = [{"type": "storage_bucket", "name": "bkt", "location": location}]
    result = cloud.run(preflight_info, region="europe-west1", resources=asked)
    assert checks(result) == problems
    assert result["resources"][0]["location"] == "eu"


def test_a_bucket_that_may_be_anywhere_and_is_not_there(cloud):
    well(cloud)
    cloud.expect_error("GET", BUCKET, 404, legacy=True, reason="notFound")
    asked = [{"type": "storage_bucket", "name": "bkt", "location": "*"}]
    assert cloud.run(preflight_info, region="europe-west1", resources=asked)["resources"][0]["location"] == ""


def test_the_version_of_a_database(cloud):
    well(cloud)
    body = {"region": "europe-west1", "state": "RUNNABLE", "databaseVersion": "MYSQL_8_0", "settings": {}}
    cloud.expect("GET", "https://sqladmin.googleapis.com/v1/projects/p/instances/db", body=body)
    asked = [{"type": "sql_instance", "name": "db"}]
    assert cloud.run(preflight_info, region="europe-west1", resources=asked)["resources"][0]["version"] == "MYSQL_8_0"


def test_bad_credentials_end_the_questions(cloud):
    cloud.expect_error("GET", USAGE, 401, code="UNAUTHENTICATED", message="Invalid Credentials")
    result = cloud.run(preflight_info)
    assert checks(result) == ["credentials"]
    assert result["project"] is None


@pytest.mark.parametrize("status", [403, 404])
def test_a_project_that_cannot_be_seen_ends_the_questions(cloud, status):
    cloud.expect_error(
        "GET", USAGE, status, code="PERMISSION_DENIED", message="Permission denied on resource project p"
    )
    result = cloud.run(preflight_info)
    assert checks(result) == ["project"]
    assert "does not exist, or me@p.iam.gserviceaccount.com may not see it" in result["problems"][0]["what"]


def test_a_project_that_is_being_deleted_ends_the_questions(cloud):
    cloud.expect("GET", USAGE, body={"services": [state("serviceusage.googleapis.com")]})
    cloud.expect("GET", PROJECT, body=dict(ACTIVE, state="DELETE_REQUESTED"))
    assert checks(cloud.run(preflight_info)) == ["project"]


def test_what_cannot_be_asked_yet_is_said(cloud):
    metadata = {"service": "cloudresourcemanager.googleapis.com", "consumer": "projects/p"}
    disabled = {"code": "PERMISSION_DENIED", "reason": "SERVICE_DISABLED", "metadata": metadata}
    cloud.expect("GET", USAGE, body={"services": [state("run.googleapis.com", False)]})
    for url in (PROJECT, BILLING):
        cloud.expect_error("GET", url, 403, **disabled)
        cloud.expect("GET", "...services/cloudresourcemanager.googleapis.com", body={"state": "DISABLED"})
    result = cloud.run(preflight_info, services=["run.googleapis.com"], organization_required=True)
    assert result["problems"] == []
    assert result["unanswered"] == ["project", "permissions", "organization", "billing"]
    assert result["project"]["number"] == "1"


def test_an_organization_above_folders(cloud):
    well_with_folder = dict(ACTIVE, parent="folders/5")
    cloud.expect("GET", USAGE, body={"services": [state("serviceusage.googleapis.com")]})
    cloud.expect("GET", PROJECT, body=well_with_folder)
    cloud.expect("GET", "https://cloudresourcemanager.googleapis.com/v3/folders/5", body={"parent": "organizations/9"})
    cloud.expect_error("GET", BILLING, 403, code="PERMISSION_DENIED")
    result = cloud.run(preflight_info, organization_required=True)
    assert result["project"]["organization"] == "organizations/9"
    assert result["unanswered"] == ["billing"]
    assert result["problems"] == []


@pytest.mark.parametrize(
    ("kind", "url", "body", "check"),
    [
        ("storage_bucket", BUCKET, {"location": "EUROPE-WEST1", "projectNumber": "2", "labels": OURS}, "taken"),
        ("storage_bucket", BUCKET, {"location": "US", "labels": OURS}, "location"),
        (
            "sql_instance",
            "https://sqladmin.googleapis.com/v1/projects/p/instances/bkt",
            {"region": "europe-west1", "state": "FAILED", "settings": {"userLabels": OURS}},
            "state",
        ),
        (
            "cloud_run_service",
            "https://run.googleapis.com/v2/projects/p/locations/europe-west1/services/bkt",
            {"name": "projects/p/locations/europe-west1/services/bkt", "labels": {"mlflow-deployment": "other"}},
            "taken",
        ),
        (
            "service_account",
            "https://iam.googleapis.com/v1/projects/p/serviceAccounts/bkt@p.iam.gserviceaccount.com",
            {"description": "managed-by=mlplatform-gcp mlflow-deployment=demo", "disabled": True},
            "state",
        ),
    ],
)
def test_what_is_there_already(cloud, kind, url, body, check):
    well(cloud)
    cloud.expect("GET", url, body=body)
    result = cloud.run(
        preflight_info, region="europe-west1", resources=[{"type": kind, "name": "bkt"}], owner_labels=OURS
    )
    assert checks(result) == [check]


def test_adopting_takes_over_what_is_there(cloud):
    well(cloud)
    cloud.expect("GET", BUCKET, body={"location": "EUROPE-WEST1", "labels": {}})
    result = cloud.run(
        preflight_info,
        region="europe-west1",
        resources=[{"type": "storage_bucket", "name": "bkt"}],
        owner_labels=OURS,
        adopt=True,
    )
    assert result["problems"] == []
    assert result["resources"][0]["exists"] is True
    assert result["resources"][0]["owned"] is False


@pytest.mark.parametrize(
    ("kind", "status", "check"),
    [("storage_bucket", 403, "taken"), ("secret", 403, "permissions"), ("secret", 400, "resources")],
)
def test_what_may_not_be_seen(cloud, kind, status, check):
    well(cloud)
    cloud.expect_error("GET", "...bkt", status, code="PERMISSION_DENIED")
    result = cloud.run(preflight_info, resources=[{"type": kind, "name": "bkt"}])
    assert checks(result) == [check]
