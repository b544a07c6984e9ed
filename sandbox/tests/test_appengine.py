# SPDX-License-Identifier: Apache-2.0
"""App Engine's Admin API from outside, and real processes behind versions. Requests: test_appengine_requests.py."""

from __future__ import annotations

import hashlib
import time

import pytest
from gcp_sandbox.gateway.times import epoch
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing.appengine import BASE, Deployments

BOB = "bob@example.com"


@pytest.fixture
def app(engine):
    """With an application."""
    engine.create_application()
    return engine


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(answer, *words, status=400):
    assert answer.status == status, answer.content
    message = answer.json["error"]["message"]
    assert all(word in message for word in words), message
    return answer.json["error"]


# -- the application


def test_an_application_has_what_google_makes_for_it(engine):
    app = engine.create_application()
    assert app["@type"] == "type.googleapis.com/google.appengine.v1.Application"
    shown = engine.show()
    assert shown["name"] == engine.app and shown["id"] == engine.project.id
    assert shown["locationId"] == "europe-west" and shown["servingStatus"] == "SERVING"
    assert shown["defaultHostname"] == f"{engine.project.id}.ew.r.appspot.com"
    assert shown["codeBucket"] == f"staging.{engine.project.id}.appspot.com"
    assert shown["serviceAccount"] == f"{engine.project.id}@appspot.gserviceaccount.com"
    assert shown["featureSettings"]["splitHealthChecks"] is True
    for bucket in (shown["codeBucket"], shown["defaultBucket"]):
        made = engine.api.ok("GET", f"https://storage.googleapis.com/storage/v1/b/{bucket}")
        assert made["location"] == "EU"
    account = f"projects/{engine.project.id}/serviceAccounts/{shown['serviceAccount']}"
    assert engine.api.ok("GET", f"https://iam.googleapis.com/v1/{account}")["email"] == shown["serviceAccount"]


def test_the_operation_says_what_it_does(engine):
    answer = engine.api.ok("POST", f"{BASE}/apps", {"id": engine.project.id, "locationId": "us-central"})
    metadata = answer["metadata"]
    assert metadata["@type"] == "type.googleapis.com/google.appengine.v1.OperationMetadataV1"
    assert metadata["method"] == "google.appengine.v1.Applications.CreateApplication"
    assert metadata["target"] == engine.app and metadata["user"] == engine.api.email
    done = engine.api.done(answer, BASE)
    assert done["metadata"]["endTime"] >= done["metadata"]["insertTime"]
    assert done["response"]["defaultHostname"] == f"{engine.project.id}.uc.r.appspot.com"
    listed = engine.show("/operations?filter=done:true")["operations"]
    assert [item["name"] for item in listed] == [answer["name"]]
    assert engine.show("/operations?filter=done:false") == {}
    refused(engine.ask("GET", "/operations?filter=verb:create"), "filter")


def test_there_is_one_application_a_project(app):
    answer = app.api.post(f"{BASE}/apps", {"id": app.project.id, "locationId": "europe-west"})
    assert refused(answer, "already exists and cannot be re-created", status=409)["status"] == "ALREADY_EXISTS"


def test_an_application_cannot_move_or_go(app):
    refused(app.ask("PATCH", "?updateMask=locationId", {"locationId": "us-central"}), "locationId", "cannot be changed")
    assert app.ask("DELETE", "").status == 404
    assert app.show()["locationId"] == "europe-west"


def test_regions_have_app_engines_own_names(engine):
    answer = engine.api.post(f"{BASE}/apps", {"id": engine.project.id, "locationId": "europe-west1"})
    refused(answer, "'europe-west1' is not an App Engine location", "'europe-west'")
    refused(engine.api.post(f"{BASE}/apps", {"id": engine.project.id, "locationId": "nowhere"}), "'nowhere'")


def test_without_an_application_there_is_404(engine):
    for path in ("", "/services", "/services/default/versions", "/firewall/ingressRules"):
        error = refused(engine.ask("GET", path), f'Could not find Application "{engine.project.id}"', status=404)
        assert error["status"] == "NOT_FOUND"


def test_making_an_application_wants_the_permission_and_the_api(engine):
    body = {"id": engine.project.id, "locationId": "europe-west"}
    home = {"x-goog-user-project": engine.project.id}
    engine.sandbox.iam.add_binding(engine.project.name, "roles/serviceusage.serviceUsageConsumer", f"user:{BOB}")
    refused(engine.api.post(f"{BASE}/apps", body, as_=BOB, headers=home), "permission", status=403)
    engine.sandbox.iam.add_binding(engine.project.name, "roles/appengine.appAdmin", f"user:{BOB}")
    refused(engine.api.post(f"{BASE}/apps", body, as_=BOB, headers=home), "permission", status=403)
    engine.sandbox.iam.add_binding(engine.project.name, "roles/appengine.appCreator", f"user:{BOB}")
    with engine.sandbox.store.transaction():
        engine.sandbox.enablement.disable(engine.project, ["appengine.googleapis.com"])
    answer = engine.api.post(f"{BASE}/apps", body, as_=BOB, headers=home)
    assert answer.status == 403 and answer.reason == "SERVICE_DISABLED"
    with engine.sandbox.store.transaction():
        engine.sandbox.enablement.enable(engine.project, ["appengine.googleapis.com"], at_once=True)
    assert engine.api.post(f"{BASE}/apps", body, as_=BOB, headers=home).status == 200


def test_the_secret_of_iaps_client_is_never_shown(app):
    client = {"enabled": True, "oauth2ClientId": "c.apps.googleusercontent.com", "oauth2ClientSecret": "hush"}
    digest = hashlib.sha256(b"hush").hexdigest()
    stored = {"enabled": True, "oauth2ClientId": "c.apps.googleusercontent.com", "oauth2ClientSecretSha256": digest}
    assert app.done("PATCH", "?updateMask=iap", {"iap": client})["iap"] == stored
    assert app.show()["iap"] == stored
    assert app.done("PATCH", "?updateMask=iap.enabled", {"iap": {"enabled": False}})["iap"] == {
        name: value for name, value in stored.items() if name != "enabled"
    }
    assert app.done("PATCH", "?updateMask=iap", {"iap": {"enabled": True}})["iap"] == {"enabled": True}
    state = b"".join(path.read_bytes() for path in app.sandbox.settings.state.glob("state.sqlite3*"))
    assert b"hush" not in state and digest.encode() in state


def test_a_client_of_ones_own_needs_both_parts(app):
    refused(app.ask("PATCH", "?updateMask=iap", {"iap": {"enabled": True, "oauth2ClientId": "c"}}), "client_secret")
    refused(app.ask("PATCH", "?updateMask=iap", {"iap": {"enabled": True, "oauth2ClientSecret": "s"}}), "client_id")


def test_a_patch_names_what_it_changes(app):
    refused(app.ask("PATCH", "", {"authDomain": "example.com"}), "update mask")
    refused(app.ask("PATCH", "?updateMask=codeBucket", {}), "codeBucket", "cannot be updated")
    # as Terraform's provider sends it: the location under a mask that leaves it out
    mask = "authDomain,databaseType,servingStatus,featureSettings.splitHealthChecks,iap"
    body = {"id": app.project.id, "locationId": "europe-west", "authDomain": "example.com", "servingStatus": "SERVING"}
    changed = app.done("PATCH", f"?updateMask={mask}", {**body, "featureSettings": {"splitHealthChecks": False}})
    assert changed["authDomain"] == "example.com"
    # false is what an absent field means
    assert changed["featureSettings"] == {"useContainerOptimizedOs": True} == app.show()["featureSettings"]
    assert changed["databaseType"] == "CLOUD_DATASTORE_COMPATIBILITY"


def test_the_guides_accounts_can_be_granted_something(app):
    agent = f"service-{app.project.number}@gae-api-prod.google.com.iam.gserviceaccount.com"
    members = sorted(f"serviceAccount:{email}" for email in (app.show()["serviceAccount"], agent))
    bucket = f"https://storage.googleapis.com/storage/v1/b/{app.show()['defaultBucket']}/iam"
    policy = {"bindings": [{"role": "roles/storage.objectAdmin", "members": members}]}
    assert app.api.ok("PUT", bucket, policy)["bindings"] == policy["bindings"]
    granted = app.sandbox.iam.holders(app.project.id, "roles/appengineflex.serviceAgent")
    assert granted == {f"serviceAccount:{agent}"}


def test_operations_take_their_time(settings):
    sandbox = Sandbox(settings.changed(latency="scaled:60"))
    sandbox.start()
    try:
        engine = Deployments(sandbox)
        answer = engine.api.ok("POST", f"{BASE}/apps", {"id": engine.project.id})
        assert "done" not in answer and engine.ask("GET", "").status == 404
        metadata = engine.api.done(answer, BASE)["metadata"]
        assert epoch(metadata["endTime"]) - epoch(metadata["insertTime"]) >= 0.9
        assert engine.show()["locationId"] == "us-central"
        engine.close()
    finally:
        sandbox.stop()


def test_repair_makes_again_what_is_missing(app):
    bucket = f"https://storage.googleapis.com/storage/v1/b/{app.show()['codeBucket']}"
    assert app.api.delete(bucket).status == 204
    app.done("POST", ":repair", {})
    assert app.api.get(bucket).status == 200


def test_locations(app):
    locations = {item["locationId"]: item for item in app.show("/locations")["locations"]}
    assert locations["europe-west"]["metadata"]["flexibleEnvironmentAvailable"] is True
    assert "europe-west1" not in locations and app.ask("GET", "/locations/europe-west1").status == 404


def test_what_is_not_here_says_so(app):
    for path in ("/domainMappings", "/authorizedCertificates", "/authorizedDomains", ":listRuntimes"):
        answer = app.ask("GET", path)
        assert answer.status == 501 and "appengine.apps." in answer.json["error"]["message"]


def test_v1beta_speaks_of_itself(app):
    beta = BASE.replace("/v1", "/v1beta")
    assert app.api.ok("GET", f"{beta}/{app.app}")["id"] == app.project.id
    operation = app.api.ok("POST", f"{beta}/{app.app}:repair", {})
    assert operation["metadata"]["@type"].endswith("google.appengine.v1beta.OperationMetadataV1Beta")


# -- versions


def test_the_first_version_gets_all_traffic_and_later_ones_none(app):
    version = app.deploy("v1", env={"A": "one"})
    assert version["name"] == f"{app.app}/services/default/versions/v1"
    assert version["versionUrl"] == f"https://v1-dot-{app.host}"
    assert version["createdBy"] == app.api.email and version["servingStatus"] == "SERVING"
    assert app.show("/services/default")["split"] == {"allocations": {"v1": 1}}
    app.deploy("v2", env={"A": "two"})
    assert app.show("/services/default")["split"] == {"allocations": {"v1": 1}}
    assert app.fetch("/env").json()["A"] == "one"
    assert [item["id"] for item in app.show("/services/default/versions")["versions"]] == ["v1", "v2"]


def test_the_container_knows_where_it_runs(app):
    app.deploy("v1", resources={"cpu": 1, "memoryGb": 2})
    env = app.fetch("/env").json()
    assert env["GAE_SERVICE"] == "default" and env["GAE_VERSION"] == "v1" and env["GAE_MEMORY_MB"] == "2048"
    assert env["GOOGLE_CLOUD_PROJECT"] == app.project.id and env["PORT"].isdigit()
    (instance,) = app.show("/services/default/versions/v1/instances")["instances"]
    assert instance["id"] == env["GAE_INSTANCE"] and instance["vmStatus"] == "RUNNING"
    assert instance["vmLiveness"] == "HEALTHY"


def test_default_is_the_first_service(app):
    error = refused(app.create("v1", service="mlflow"), "must be the 'default' service", "'mlflow'")
    assert error["status"] == "INVALID_ARGUMENT"
    app.deploy("v1")
    assert app.deploy("v1", service="mlflow")["versionUrl"] == f"https://v1-dot-mlflow-dot-{app.host}"
    assert [item["id"] for item in app.show("/services")["services"]] == ["default", "mlflow"]


def test_default_stays_and_other_services_go(app):
    app.deploy("v1")
    app.deploy("v1", service="mlflow")
    refused(app.ask("DELETE", "/services/default"), "may not be deleted")
    assert app.fetch("/pid", host=f"mlflow-dot-{app.host}").status_code == 200
    app.done("DELETE", "/services/mlflow")
    assert app.ask("GET", "/services/mlflow").status == 404
    until(lambda: len(app.sandbox.processes.all()) == 1)


def test_a_version_with_traffic_stays_and_others_go(app):
    app.deploy("v1")
    app.deploy("v2")
    refused(app.ask("DELETE", "/services/default/versions/v1"), "non-zero traffic allocation")
    app.done("DELETE", "/services/default/versions/v2")
    assert app.ask("GET", "/services/default/versions/v2").status == 404
    until(lambda: len(app.sandbox.processes.all()) == 1)


def test_an_application_has_only_so_many_versions(app):
    app.sandbox.services["appengine"].max_versions = 2
    app.deploy("v1")
    app.deploy("v2")
    refused(app.create("v3"), "Your app may not have more than 2 versions. Please delete one of the existing versions")
    app.deploy("v2")  # over an existing one


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": "default"}, "Invalid version id 'default'"),
        ({"id": "ah-x"}, "Invalid version id"),
        ({"id": "V1"}, "Invalid version id"),
        ({"runtime": ""}, "runtime"),
        ({"deployment": {"container": {"image": "eu.gcr.io/p/image"}}}, "include a tag or digest"),
        ({"resources": {"cpu": 3}}, "resources.cpu: 3"),
        ({"resources": {"cpu": 1, "memoryGb": 8}}, "between 0.6 and 6.1"),
        ({"manualScaling": {"instances": 1}}, "one kind of scaling"),
        ({"basicScaling": {"maxInstances": 1}}, "one kind of scaling"),
        ({"automaticScaling": {"minTotalInstances": 3, "maxTotalInstances": 2}}, "min_num_instances"),
        ({"automaticScaling": {"cpuUtilization": {"targetUtilization": 75}}}, "target_utilization"),
        ({"readinessCheck": {"path": "health"}}, "must begin with '/'"),
        ({"readinessCheck": {"appStartTimeout": "3600s"}}, "appStartTimeout must be between 1 and 1800"),
        ({"livenessCheck": {"failureThreshold": 20}}, "failureThreshold"),
        ({"healthCheck": {"timeout": "4s"}}, "liveness_check"),
        ({"envVariables": {"PORT": "80"}}, "PORT"),
        ({"betaSettings": {"cloud_sql_instances": "db"}}, "'db' is not a connection name"),
    ],
)
def test_what_app_engine_refuses_is_refused(app, fields, words):
    refused(app.ask("POST", "/services/default/versions", {**app.version("v1"), **fields}), words)
    assert app.show("/services") == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"env": "standard"}, "standard environment"),
        ({"env": ""}, "standard environment"),
        ({"deployment": {"zip": {"sourceUrl": "https://storage.googleapis.com/b/o"}}}, "build the image first"),
        ({"betaSettings": {"cloud_sql_instances": "p-1:europe-west1:db=tcp:3306"}}, "TCP"),
    ],
)
def test_what_the_sandbox_does_not_run_is_501(app, fields, words):
    refused(app.ask("POST", "/services/default/versions", {**app.version("v1"), **fields}), words, status=501)


def test_an_unknown_field_is_refused_by_the_schema(app):
    refused(app.create("v1", livenessProbe={}), "livenessProbe")


def test_the_flexible_environments_api_must_be_enabled(app):
    with app.sandbox.store.transaction():
        app.sandbox.enablement.disable(app.project, ["appengineflex.googleapis.com"])
    answer = app.create("v1")
    assert answer.status == 403 and answer.reason == "SERVICE_DISABLED"
    assert "App Engine Flexible Environment" in answer.json["error"]["message"]


def test_deploying_wants_the_permission_and_the_account(app):
    app.deploy("v1")
    body = app.version("v2")
    path = "/services/default/versions"
    refused(app.ask("POST", path, body, as_=BOB), "permission", status=403)
    app.sandbox.iam.add_binding(app.project.name, "roles/appengine.deployer", f"user:{BOB}")
    refused(app.ask("POST", path, body, as_=BOB), f"permission to act as '{app.account}'", status=403)
    app.sandbox.iam.add_binding(app.project.name, "roles/iam.serviceAccountUser", f"user:{BOB}")
    assert app.ask("POST", path, body, as_=BOB).status == 200
    refused(app.ask("PATCH", "/services/default?updateMask=split", {}, as_=BOB), "permission", status=403)
    missing = app.version("v3", serviceAccount=f"missing@{app.project.id}.iam.gserviceaccount.com")
    refused(app.ask("POST", path, missing), "permission to act as", status=403)


def test_the_image_is_pulled_by_the_versions_account(app):
    reader = f"reader@{app.project.id}.iam.gserviceaccount.com"
    app.sandbox.identities.create_account(app.project, reader)
    error = app.finish(app.create("v1", serviceAccount=reader))["error"]
    assert error["code"] == 9 and "roles/artifactregistry.reader" in error["message"]
    log = app.sandbox.logs.file("default").read_text()
    assert f'{reader} lacks "artifactregistry.repositories.downloadArtifacts"' in log
    app.sandbox.iam.add_binding(app.project.name, "roles/artifactregistry.reader", f"serviceAccount:{reader}")
    app.deploy("v1", serviceAccount=reader)


def test_without_an_account_a_version_is_the_applications(app):
    email = app.show()["serviceAccount"]
    app.sandbox.iam.add_binding(app.project.name, "roles/artifactregistry.reader", f"serviceAccount:{email}")
    assert app.deploy("v1", serviceAccount="")["serviceAccount"] == email


def test_a_missing_image_fails_the_operation(app):
    error = app.finish(app.create("v1", deployment={"container": {"image": app.image.replace(":1", ":2")}}))["error"]
    assert error["code"] == 9 and "the image does not exist" in error["message"]
    assert "no such image" in app.sandbox.logs.file("default").read_text()
    (entry,) = [entry for _, entry in app.sandbox.logs.entries(app.project.id)]
    assert "no such image" in entry["textPayload"] and entry["resource"]["type"] == "gae_app"
    assert entry["resource"]["labels"].items() >= {"module_id": "default", "version_id": "v1"}.items()
    assert app.show("/services") == {}


def test_a_container_that_exits_fails_the_operation_with_its_log_and_the_others_serve_on(app):
    app.deploy("v1", env={"A": "good"})
    error = app.finish(app.create("v2", env={"EXIT": "1"}))["error"]
    assert error["code"] == 9
    assert "/app-engine-flex/flex_await_healthy/flex_await_healthy>" in error["message"]
    assert "exiting" in error["message"]
    assert app.ask("GET", "/services/default/versions/v2").status == 404
    assert app.fetch("/env").json()["A"] == "good"
    assert len(app.sandbox.processes.all()) == 1


def test_a_version_that_is_never_ready_is_rolled_back(app):
    check = {"path": "/health", "checkInterval": "1s", "appStartTimeout": "2s"}
    error = app.finish(app.create("v1", env={"UNHEALTHY": "1"}, readinessCheck=check))["error"]
    assert error["code"] == 4 and "failed to become healthy in the allotted time" in error["message"]
    assert app.show("/services") == {} and app.fetch("/").status_code == 404
    until(lambda: not app.sandbox.processes.all())


def test_deploying_over_a_version_replaces_it_once_the_new_one_is_healthy(app):
    app.deploy("v1", env={"A": "old"})
    before = app.fetch("/pid").text
    assert "error" in app.finish(app.create("v1", env={"EXIT": "1"}))
    assert app.fetch("/pid").text == before
    app.deploy("v1", env={"A": "new"})
    assert app.fetch("/env").json()["A"] == "new"
    until(lambda: [str(process.pid) for process in app.sandbox.processes.all()] == [app.fetch("/pid").text])


def test_one_operation_at_a_time_on_one_version(app):
    slow = {"path": "/health", "checkInterval": "1s", "appStartTimeout": "60s"}
    first = app.create("v1", env={"DELAY": "3"}, readinessCheck=slow)
    error = refused(app.create("v1"), "because an operation is already in progress for", status=409)
    assert error["status"] == "ABORTED"
    app.finish(first)
    assert app.create("v1").status == 200


def test_what_does_not_change_and_what_does(app):
    app.deploy("v1")
    path = "/services/default/versions/v1"
    refused(app.ask("PATCH", f"{path}?updateMask=envVariables", {"envVariables": {}}), "envVariables", "cannot be")
    refused(app.ask("PATCH", path, {"servingStatus": "STOPPED"}), "update mask")
    refused(app.ask("PATCH", f"{path}?updateMask=manualScaling.instances", {"manualScaling": {"instances": 1}}))
    scaling = {"automaticScaling": {"minTotalInstances": 2}}
    changed = app.done("PATCH", f"{path}?updateMask=automaticScaling.minTotalInstances", scaling)
    assert changed["automaticScaling"] == {"minTotalInstances": 2, "maxTotalInstances": 2}
    until(lambda: len(app.show(f"{path}/instances")["instances"]) == 2)


def test_a_stopped_version_does_not_serve_until_it_is_started(app):
    app.deploy("v1")
    path = "/services/default/versions/v1?updateMask=servingStatus"
    assert app.done("PATCH", path, {"servingStatus": "STOPPED"})["servingStatus"] == "STOPPED"
    until(lambda: not app.sandbox.processes.all())
    assert app.fetch("/").status_code == 503
    app.done("PATCH", path, {"servingStatus": "SERVING"})
    assert app.fetch("/").status_code == 200


def test_false_and_empty_are_what_is_absent(app):
    nothing = {"network": {"sessionAffinity": False}, "inboundServices": [], "entrypoint": {"shell": ""}}
    app.deploy("v1", env={"EMPTY": ""}, **nothing)
    full = app.show("/services/default/versions/v1?view=FULL")
    assert full["network"] == full["entrypoint"] == {} and "inboundServices" not in full
    assert full["envVariables"] == {"EMPTY": ""}
    assert app.fetch("/env").json()["EMPTY"] == ""


def test_views(app):
    app.deploy("v1", env={"A": "b"}, betaSettings={"cloud_sql_instances": f"{app.project.id}:europe-west1:db"})
    path = "/services/default/versions/v1"
    basic, full = app.show(path), app.show(f"{path}?view=FULL")
    assert "envVariables" not in basic and "deployment" not in basic and basic["env"] == "flexible"
    assert full["envVariables"] == {"A": "b"} and full["deployment"]["container"]["image"] == app.image
    assert full["readinessCheck"] == {
        "path": "/health",
        "checkInterval": "1s",
        "timeout": "4s",
        "failureThreshold": 2,
        "successThreshold": 2,
        "appStartTimeout": "300s",
    }
    assert full["livenessCheck"]["initialDelay"] == "300s" and full["livenessCheck"]["checkInterval"] == "30s"
    assert "_serial" not in full and "resources" not in full
    (listed,) = app.show("/services/default/versions?view=FULL")["versions"]
    assert listed == full


def test_manual_scaling(app):
    app.deploy("v1", manualScaling={"instances": 2})
    path = "/services/default/versions/v1/instances"
    until(lambda: len(app.show(path)["instances"]) == 2)


# -- instances


def test_an_instance_that_is_deleted_is_replaced(app):
    app.deploy("v1")
    path = "/services/default/versions/v1/instances"
    (first,) = app.show(path)["instances"]
    assert app.show(f"{path}/{first['id']}")["name"] == first["name"]
    app.done("DELETE", f"{path}/{first['id']}")
    assert app.ask("GET", f"{path}/{first['id']}").status == 404
    until(lambda: app.show(path).get("instances", [first])[0]["id"] != first["id"])
    assert app.ask("POST", f"{path}/x:debug", {}).status == 501


def test_an_instance_whose_liveness_fails_is_replaced(app):
    check = {"path": "/health", "checkInterval": "1s", "failureThreshold": 3, "initialDelay": "0s"}
    ready = {"path": "/", "checkInterval": "1s"}
    app.deploy("v1", livenessCheck=check, readinessCheck=ready)
    before = app.fetch("/pid").text
    app.fetch("/sick")
    path = "/services/default/versions/v1/instances"
    until(lambda: app.show(path)["instances"][0]["vmLiveness"] == "UNHEALTHY")
    until(lambda: app.fetch("/pid").text not in (before, "Service Unavailable"), 30)
    assert "LIVENESS" in app.sandbox.logs.file("default").read_text()


def test_an_instance_that_is_not_ready_gets_no_requests(app):
    ready = {"path": "/health", "checkInterval": "1s", "failureThreshold": 1}
    scaling = {"minTotalInstances": 2, "maxTotalInstances": 2}
    app.deploy("v1", readinessCheck=ready, livenessCheck={"path": "/"}, automaticScaling=scaling)
    until(lambda: len(app.sandbox.processes.all()) == 2)
    sick = app.fetch("/pid").text
    app.fetch("/sick")
    until(lambda: app.fetch("/pid").text != sick)
    assert {app.fetch("/pid").text for _ in range(5)} != {sick}
    assert sick in {str(process.pid) for process in app.sandbox.processes.all()}


# -- Cloud SQL


def make_instance(app, version):
    """A Cloud SQL instance; its connection name."""
    root = f"https://sqladmin.googleapis.com/v1/projects/{app.project.id}"
    settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
    instance = {"name": "db", "region": "europe-west1", "databaseVersion": version, "settings": settings}
    operation = app.api.ok("POST", f"{root}/instances", {**instance, "rootPassword": "correct horse"})["name"]
    until(lambda: app.api.ok("GET", f"{root}/operations/{operation}")["status"] == "DONE", 120)
    return f"{app.project.id}:europe-west1:db"


def test_postgresql_is_at_its_socket_for_whom_iam_admits(app):
    connection = make_instance(app, "POSTGRES_16")
    app.deploy("v1", betaSettings={"cloud_sql_instances": connection})
    # as the program would say it on App Engine
    folder = {"folder": f"/cloudsql/{connection}"}
    assert app.fetch("/postgres", params=folder).content == b""
    app.sandbox.iam.add_binding(app.project.name, "roles/cloudsql.client", f"serviceAccount:{app.account}")
    assert app.fetch("/postgres", params=folder).content in (b"N", b"S")
    assert "cloudsql.instances.connect" in app.sandbox.logs.file("default").read_text()


def test_mysql_is_at_its_socket_for_whom_iam_admits(app):
    connection = make_instance(app, "MYSQL_8_0")
    app.deploy("v1", betaSettings={"cloud_sql_instances": connection})
    path = {"path": f"/cloudsql/{connection}"}
    assert b"mysql_native_password" not in app.fetch("/greeting", params=path).content
    app.sandbox.iam.add_binding(app.project.name, "roles/cloudsql.client", f"serviceAccount:{app.account}")
    assert b"mysql_native_password" in app.fetch("/greeting", params=path).content


# -- a restart


def test_a_killed_daemons_instances_are_adopted(app, sandbox):
    from gcp_sandbox.services.appengine.runtime import Runtime
    from gcp_sandbox.serving.web import WebRequest

    app.deploy("v1")
    app.deploy("v2")
    pid = int(app.fetch("/pid").text)
    later = Runtime(sandbox)
    later.start()
    route = later.route(WebRequest("GET", app.host, "/", "", {}), "127.0.0.1")
    assert [instance.process.pid for instance in later.pool_of(route.version).instances] == [pid]
    later.stop()
