# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _survey
from ansible_collections.mlplatform.gcp.plugins.modules import preflight_info

USAGE = "https://serviceusage.googleapis.com/v1/projects/p/services:batchGet"
PROJECT = "https://cloudresourcemanager.googleapis.com/v3/projects/p"
BILLING = "https://cloudbilling.googleapis.com/v1/projects/p/billingInfo"
TEST = "https://cloudresourcemanager.googleapis.com/v1/projects/p:testIamPermissions"
BUCKET = "https://storage.googleapis.com/storage/v1/b/bkt"
OURS = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo"}
ACTIVE = {"name": "projects/1", "projectId": "p", "state": "ACTIVE", "parent": "organizations/9"}


@pytest.fixture(autouse=True)
def _in_order(monkeypatch):
    """Ask one question after another: the script has an order."""
    monkeypatch.setattr(_survey, "SIDE_BY_SIDE", 1)


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


DELETED = [
    {"name": name, "generation": number, "softDeleteTime": f"2026-11-2{number}T00:00:00Z", "hardDeleteTime": "then"}
    for name, number in (("bkt", "1"), ("bkt", "3"), ("bkt", "2"), ("bkt-2", "4"))
]


@pytest.mark.parametrize("deleted", [DELETED, DELETED[3:], [], None])
def test_a_deleted_bucket_that_can_be_restored_is_a_warning(cloud, deleted):
    well(cloud, services=[state("storage.googleapis.com")])
    cloud.expect_error("GET", BUCKET, 404, legacy=True, reason="notFound")
    query = {"project": "p", "softDeleted": "true", "prefix": "bkt"}
    if deleted is None:
        cloud.expect_error("GET", BUCKET.rpartition("/")[0], 403, query=query, legacy=True, reason="forbidden")
    else:
        cloud.expect("GET", BUCKET.rpartition("/")[0], query=query, body={"items": deleted})
    asked = {"type": "storage_bucket", "name": "bkt", "restorable": True}
    result = cloud.run(preflight_info, services=["storage.googleapis.com"], resources=[asked])
    assert result["problems"] == []
    assert result["resources"][0]["exists"] is False
    assert len(cloud.warnings) == (deleted is DELETED)
    assert all("2026-11-23" in text and "'gs://bkt#3'" in text for text in cloud.warnings)


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


def bind(role):
    return (
        "gcloud projects add-iam-policy-binding p --member=serviceAccount:me@p.iam.gserviceaccount.com"
        f" --role={role} --condition=None"
    )


@pytest.mark.parametrize(
    ("wanted", "granted", "commands"),
    [
        (["run.services.get", "run.jobs.get"], ["run.jobs.get"], [bind("roles/run.viewer")]),
        (["run.services.setIamPolicy", "run.jobs.get"], [], [bind("roles/run.admin")]),
        (
            ["run.services.get", "iam.serviceAccounts.actAs"],
            [],
            [bind("roles/iam.serviceAccountUser"), bind("roles/run.viewer")],
        ),
        (
            ["a.b.c"],
            [],
            [
                "gcloud iam roles create mlflowDeployer --project=p '--title=MLflow deployer' --permissions=a.b.c",
                bind("projects/p/roles/mlflowDeployer"),
            ],
        ),
    ],
)
def test_the_commands_for_missing_permissions_are_complete(cloud, wanted, granted, commands):
    well(cloud)
    cloud.expect("POST", TEST, body={"permissions": granted})
    (problem,) = cloud.run(preflight_info, permissions=wanted)["problems"]
    assert problem["check"] == "permissions"
    assert problem["next"].splitlines() == ["Grant the smallest set of roles:", *commands]


OWNER = "resourcemanager.projects.undelete"


@pytest.mark.parametrize(("owner", "found"), [(True, []), (False, ["permissions"])])
def test_an_owner_has_the_permissions_of_buckets_on_each_bucket(cloud, owner, found):
    well(cloud)
    asked = ["storage.buckets.create", "storage.buckets.get"]
    granted = [OWNER, "storage.buckets.create"] if owner else ["storage.buckets.create"]
    cloud.expect("POST", TEST, sent={"permissions": [OWNER, *asked]}, body={"permissions": granted})
    assert checks(cloud.run(preflight_info, permissions=asked)) == found


def test_a_bucket_is_not_taken_because_of_a_missing_permission(cloud):
    well(cloud)
    cloud.expect("POST", TEST, body={})
    cloud.expect_error("GET", BUCKET, 403, legacy=True, reason="forbidden")
    result = cloud.run(
        preflight_info,
        region="europe-west1",
        permissions=["storage.buckets.get"],
        resources=[{"type": "storage_bucket", "name": "bkt"}],
    )
    assert checks(result) == ["permissions"]
    assert "roles/storage" in result["problems"][0]["next"]


def test_apis_are_enabled_by_someone_or_with_a_role(cloud):
    names = ["run.googleapis.com", "iap.googleapis.com"]
    well(cloud, services=[state(name, False) for name in names])
    cloud.expect("POST", TEST, body={"permissions": ["run.jobs.get"]})
    (problem,) = cloud.run(preflight_info, services=names, permissions=["run.jobs.get"])["problems"]
    assert problem["next"].splitlines() == [
        "Have them enabled: gcloud services enable run.googleapis.com iap.googleapis.com --project=p",
        "Or grant the smallest set of roles:",
        bind("roles/serviceusage.serviceUsageAdmin"),
    ]


def test_what_is_needed_besides_enabling_apis_is_missing_on_its_own(cloud):
    well(cloud, services=[state("iap.googleapis.com", False)])
    cloud.expect("POST", TEST, body={})
    wanted = ["serviceusage.services.enable", "run.jobs.get"]
    services, permissions = cloud.run(preflight_info, services=["iap.googleapis.com"], permissions=wanted)["problems"]
    assert services["check"] == "services"
    assert "p: run.jobs.get, serviceusage.services.enable." in permissions["what"]
    assert "serviceusage.services.list" not in permissions["what"]


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


def test_facts_about_a_database(cloud):
    well(cloud)
    settings = {"tier": "db-f1-micro", "databaseFlags": [{"name": "max_connections", "value": "50"}]}
    settings["backupConfiguration"] = {"binaryLogEnabled": True}
    body = {"region": "europe-west1", "state": "RUNNABLE", "databaseVersion": "MYSQL_8_0", "settings": settings}
    body["connectionName"] = "p:europe-west1:db"
    cloud.expect("GET", "https://sqladmin.googleapis.com/v1/projects/p/instances/db", body=body)
    found = cloud.run(preflight_info, region="europe-west1", resources=[{"type": "sql_instance", "name": "db"}])
    expected = {"version": "MYSQL_8_0", "tier": "db-f1-micro", "flags": {"max_connections": "50"}}
    expected["binary_log"] = True
    expected["connection_name"] = "p:europe-west1:db"
    assert expected.items() <= found["resources"][0].items()


@pytest.mark.parametrize(
    ("labels", "adopt", "relation"),
    [(OURS, True, "managed"), ({}, True, "adopted"), ({}, False, "foreign"), (None, False, "created")],
)
def test_what_a_resource_is_to_the_owner(cloud, labels, adopt, relation):
    well(cloud)
    if labels is None:
        cloud.expect_error("GET", BUCKET, 404, legacy=True, reason="notFound")
    else:
        cloud.expect("GET", BUCKET, body={"location": "EU", "labels": labels})
    asked = [{"type": "storage_bucket", "name": "bkt", "location": "*"}]
    result = cloud.run(preflight_info, resources=asked, owner_labels=OURS, adopt=adopt)
    assert result["resources"][0]["relation"] == relation


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
    result = cloud.run(preflight_info, permissions=["run.services.setIamPolicy"])
    assert checks(result) == ["project"]
    assert "does not exist, or me@p.iam.gserviceaccount.com may not see it" in result["problems"][0]["what"]
    lines = result["problems"][0]["next"].splitlines()
    assert lines[1:] == [bind("roles/run.admin"), bind("roles/serviceusage.serviceUsageViewer")]


def test_a_project_that_is_being_deleted_ends_the_questions(cloud):
    cloud.expect("GET", USAGE, body={"services": [state("serviceusage.googleapis.com")]})
    cloud.expect("GET", PROJECT, body=dict(ACTIVE, state="DELETE_REQUESTED"))
    cloud.expect("GET", BILLING, body={})
    assert checks(cloud.run(preflight_info)) == ["project"]


def test_what_cannot_be_asked_yet_is_said(cloud):
    metadata = {"service": "cloudresourcemanager.googleapis.com", "consumer": "projects/p"}
    disabled = {"code": "PERMISSION_DENIED", "reason": "SERVICE_DISABLED", "metadata": metadata}
    cloud.expect("GET", USAGE, body={"services": [state("run.googleapis.com", False)]})
    for method, url in (("GET", PROJECT), ("GET", BILLING), ("POST", TEST)):
        cloud.expect_error(method, url, 403, **disabled)
        cloud.expect("GET", "...services/cloudresourcemanager.googleapis.com", body={"state": "DISABLED"})
    result = cloud.run(preflight_info, services=["run.googleapis.com"], organization_required=True)
    assert result["problems"] == []
    assert result["unanswered"] == ["project", "permissions", "organization", "billing"]
    assert result["project"]["number"] == "1"


def test_resources_of_a_disabled_api_are_not_asked_for(cloud):
    """The Resource Manager is: requests are counted to the quota project, where its API can be enabled."""
    names = ["cloudresourcemanager.googleapis.com", "storage.googleapis.com"]
    cloud.expect("GET", USAGE, body={"services": [state(name, False) for name in names]})
    cloud.expect("GET", PROJECT, body=ACTIVE)
    cloud.expect("GET", BILLING, body={"billingEnabled": True})
    cloud.expect("POST", TEST, body={"permissions": ["serviceusage.services.enable"]})
    result = cloud.run(preflight_info, services=names, resources=[{"type": "storage_bucket", "name": "bkt"}])
    assert result["unanswered"] == []
    assert result["resources"][0]["exists"] is False


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


APP = "https://appengine.googleapis.com/v1/apps/p"
VERSIONS = f"{APP}/services/default/versions"
APPLICATION = {"name": "apps/p", "locationId": "europe-west", "servingStatus": "SERVING", "iap": {"enabled": True}}


def application(cloud, count=1, **body):
    cloud.expect("POST", TEST, sent={"permissions": ["appengine.applications.create"]}, body={})
    cloud.expect("GET", APP, body=dict(APPLICATION, **body))
    cloud.expect("GET", f"{APP}/services", body={"services": [{"id": "default"}, {"id": "mlflow"}]})
    versions = [{"id": f"v{number}"} for number in range(count)]
    cloud.expect("GET", VERSIONS, query={}, body={"versions": versions[:1], "nextPageToken": "t"})
    cloud.expect("GET", VERSIONS, query={"pageToken": "t"}, body={"versions": versions[1:]})
    cloud.expect("GET", f"{APP}/services/mlflow/versions", query={}, body={})


def ask_application(cloud, *others, region="europe-west1", **options):
    resources = [{"type": "app_engine_application", "name": "p"}, *others]
    return cloud.run(preflight_info, region=region, owner_labels=OURS, resources=resources, **options)


def test_an_application_belongs_to_everybody(cloud):
    well(cloud)
    application(cloud, count=2)
    result = ask_application(cloud)
    assert result["problems"] == []
    found = result["resources"][0]
    assert (found["exists"], found["location"], found["state"]) == (True, "europe-west", "SERVING")
    assert (found["services"], found["versions"], found["iap_enabled"]) == (["default", "mlflow"], 2, True)


def test_an_application_in_another_place(cloud):
    well(cloud)
    application(cloud)
    result = ask_application(cloud, region="us-central1")
    assert checks(result) == ["location"]
    assert result["problems"][0]["next"] == (
        "Set its location to europe-west, or use another project, for an application cannot be deleted either."
    )


@pytest.mark.parametrize(("state", "found"), [("USER_DISABLED", []), ("SYSTEM_DISABLED", ["state"])])
def test_an_application_that_is_disabled(cloud, state, found):
    well(cloud)
    application(cloud, servingStatus=state)
    result = ask_application(cloud)
    assert checks(result) == found and result["resources"][0]["state"] == state


@pytest.mark.parametrize(
    ("kind", "body", "command"),
    [
        ("service_account", {"disabled": True}, "gcloud iam service-accounts enable thing-a@p.iam.gserviceaccount.com"),
        ("sql_instance", {"region": "europe-west1", "state": "SUSPENDED"}, "gcloud sql instances describe thing-a "),
        ("sql_instance", {"region": "europe-west1", "state": "FAILED"}, "gcloud sql instances delete thing-a "),
        (
            "sql_instance",
            {"region": "europe-west1", "state": "PENDING_DELETE"},
            "gcloud sql instances describe thing-a ",
        ),
    ],
)
def test_what_is_not_usable_is_reported_with_the_command(cloud, kind, body, command):
    well(cloud)
    name = "thing-a@p.iam.gserviceaccount.com" if kind == "service_account" else "thing-a"
    cloud.expect("GET", f".../{name}", body=body)
    asked = [{"type": kind, "name": "thing-a", "adopt": True}]
    result = cloud.run(preflight_info, region="europe-west1", resources=asked)
    assert checks(result) == ["state"]
    assert command in result["problems"][0]["next"]


@pytest.mark.parametrize(("granted", "found"), [([], ["permissions"]), (["appengine.applications.create"], [])])
def test_a_new_application_needs_a_permission(cloud, granted, found):
    well(cloud)
    asked = {"permissions": ["appengine.applications.create"]}
    cloud.expect("POST", TEST, sent=asked, body={"permissions": granted})
    cloud.expect_error("GET", APP, 404, code="NOT_FOUND")
    result = ask_application(cloud)
    assert checks(result) == found
    assert "services" not in result["resources"][0]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_application_of_another_target_is_not_created(cloud, enabled):
    app_engine = "appengine.googleapis.com"
    well(cloud, services=[state("run.googleapis.com"), state(app_engine, enabled)])
    cloud.expect("POST", TEST, sent={"permissions": ["run.jobs.get"]}, body={"permissions": ["run.jobs.get"]})
    if enabled:
        cloud.expect_error("GET", APP, 404, code="NOT_FOUND")
    result = cloud.run(
        preflight_info,
        region="europe-west1",
        services=["run.googleapis.com"],
        other_services=[app_engine],
        permissions=["run.jobs.get"],
        resources=[{"type": "app_engine_application", "name": "p"}],
    )
    assert result["problems"] == []


@pytest.mark.parametrize("enabled", [True, False])
def test_app_engine_is_not_enabled_yet(cloud, enabled):
    well(cloud)
    cloud.expect("POST", TEST, body={"permissions": ["appengine.applications.create"]})
    metadata = {"service": "appengine.googleapis.com", "consumer": "projects/p"}
    cloud.expect_error("GET", APP, 403, code="PERMISSION_DENIED", reason="SERVICE_DISABLED", metadata=metadata)
    cloud.expect("GET", "...services/appengine.googleapis.com", body={"state": "DISABLED"})
    resources = [{"type": "app_engine_application", "name": "p"}]
    result = cloud.run(preflight_info, enabled, region="europe-west1", resources=resources)
    assert result["problems"] == [] and cloud.warnings == []


@pytest.mark.parametrize(("there", "found"), [(None, ["quota"]), (False, ["quota"]), (True, [])])
def test_no_more_versions_are_allowed(cloud, there, found, monkeypatch):
    well(cloud)
    application(cloud, count=210)
    others = []
    if there is not None:
        others = [{"type": "app_engine_version", "name": "default/v9"}]
        if there:
            body = {"name": "v9", "envVariables": {"MLFLOW_DEPLOYMENT": "demo"}}
            cloud.expect("GET", f"{VERSIONS}/v9", query={"view": "FULL"}, body=body)
        else:
            cloud.expect_error("GET", f"{VERSIONS}/v9", 404, code="NOT_FOUND")
    result = ask_application(cloud, *others)
    assert checks(result) == found


@pytest.mark.parametrize(
    ("mark", "found", "words"),
    [
        ("demo", [], ""),
        ("demo-dev", [], ""),
        ("demo-two-dev", ["taken"], "belongs to the deployment demo-two"),
        ("other", ["taken"], "belongs to the deployment other"),
        (None, ["taken"], "exists, and was not created by this deployment"),
    ],
)
@pytest.mark.parametrize("kind", ["app_engine_service", "app_engine_version"])
def test_whose_a_service_or_version_is(cloud, kind, mark, found, words):
    well(cloud)
    variables = {"MLFLOW_DEPLOYMENT": mark} if mark else {}
    version = {"id": "v1", "name": "apps/p/services/default/versions/v1", "envVariables": variables}
    if kind == "app_engine_service":
        body = {"name": "apps/p/services/default", "split": {"allocations": {"v1": 1}}}
        cloud.expect("GET", f"{APP}/services/default", body=body)
        old = {"id": "v0", "envVariables": {"MLFLOW_DEPLOYMENT": "another"}}
        cloud.expect("GET", VERSIONS, query={"view": "FULL"}, body={"versions": [old, version]})
        name = "default"
    else:
        cloud.expect("GET", f"{VERSIONS}/v1", query={"view": "FULL"}, body=version)
        name = "default/v1"
    resources = [{"type": kind, "name": name}]
    result = cloud.run(preflight_info, region="europe-west1", resources=resources, owner_labels=OURS)
    assert checks(result) == found
    assert result["resources"][0]["owned"] is not bool(found)
    assert words in "".join(problem["what"] for problem in result["problems"])


def test_principals(cloud):
    well(cloud)
    accounts = "https://iam.googleapis.com/v1/projects/-/serviceAccounts"
    cloud.expect(
        "GET", "https://iam.googleapis.com/v1/projects/p/serviceAccounts/new@p.iam.gserviceaccount.com", body={}
    )
    cloud.expect("GET", f"{accounts}/old@p.iam.gserviceaccount.com", body={})
    cloud.expect_error("GET", f"{accounts}/gone@q.iam.gserviceaccount.com", 404, code="NOT_FOUND")
    cloud.expect_error("GET", f"{accounts}/unseen@q.iam.gserviceaccount.com", 403, code="PERMISSION_DENIED")
    names = ["new@p", "old@p", "gone@q", "unseen@q"]
    result = cloud.run(
        preflight_info,
        resources=[{"type": "service_account", "name": "new"}],
        principals=["a@x.com", "user:a@x.com"]
        + [f"serviceAccount:{name}.iam.gserviceaccount.com" for name in names]
        + ["serviceAccount:service-1@gcp-sa-iap.iam.gserviceaccount.com"],
    )
    assert [problem["what"] for problem in result["problems"]] == [
        "'a@x.com' is not a member of an IAM policy.",
        "The service account gone@q.iam.gserviceaccount.com does not exist.",
    ]
    assert checks(result) == ["principals", "principals"]


def test_what_cannot_be_a_name_is_for_the_task_that_uses_it(cloud):
    well(cloud)
    cloud.expect("GET", BUCKET, body={"location": "EU", "labels": OURS})
    resources = [{"type": "image_tag", "name": "docker.io/mlflow"}, {"type": "storage_bucket", "name": "bkt"}]
    result = cloud.run(preflight_info, resources=resources, owner_labels=OURS)
    assert [item["name"] for item in result["resources"]] == ["bkt"] and result["problems"] == []


@pytest.mark.parametrize(("status", "message"), [(400, "The instance is not running"), (403, "not authorized")])
def test_what_is_in_an_instance_that_does_not_answer_is_no_problem(cloud, status, message):
    well(cloud)
    cloud.expect_error("GET", "...instances/db/databases/mlflow", status, message=message, legacy=True)
    result = cloud.run(preflight_info, resources=[{"type": "sql_database", "name": "db/mlflow"}], owner_labels=OURS)
    assert result["problems"] == [] and result["resources"][0]["exists"] is False
