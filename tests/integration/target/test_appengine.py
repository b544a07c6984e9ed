# SPDX-License-Identifier: Apache-2.0
"""Test the target appengine, with an image that starts immediately: resources, versions, access, failures, removal."""

from __future__ import annotations

import re
import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, IMAGES

APPS = "https://appengine.googleapis.com/v1/apps"
ACCESSOR = "roles/iap.httpsResourceAccessor"
# https://cloud.google.com/appengine/quotas: versions in an application.
MOST_VERSIONS = 210


class Engine:
    """The App Engine application of a project, through its API and its addresses."""

    def __init__(self, project):
        self.project = project

    @property
    def application(self):
        return self.project.get(f"{APPS}/{self.project.project}")

    def versions(self, service="default"):
        """Return the versions by ID."""
        url = f"{APPS}/{self.project.project}/services/{service}/versions"
        return {item["id"]: item for item in self.project.list(url, "versions", view="FULL")}

    def traffic(self, service="default"):
        """Return the ID of the version that receives all requests."""
        split = self.project.get(f"{APPS}/{self.project.project}/services/{service}")["split"]
        ((version, share),) = split["allocations"].items()
        assert share == 1
        return version

    def accessors(self, service="default"):
        web = f"projects/{self.project.number}/iap_web/appengine-{self.project.project}/services/{service}"
        return self.project.bindings(f"{_cloud.IAP}/{web}").get(ACCESSOR, [])

    def page(self, account, service="default"):
        """Request the service with a signed JWT of an account and return status and text."""
        host = ("" if service == "default" else f"{service}-dot-") + self.application["defaultHostname"]
        token = self.project.signed(account, f"https://{host}/*")
        answer = self.project.anonymous.get(f"https://{host}/", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.text


def variables(project, small, **more):
    return small | project.variables | {"mlflow_target": "appengine"} | more


@pytest.fixture(scope="module")
def project(box, new_project):
    box.latency("instant")
    return new_project()


@pytest.fixture(scope="module")
def engine(project):
    return Engine(project)


@pytest.fixture(scope="module")
def hosts(project, small):
    return {"ae": variables(project, small, mlflow_access_members=["user:alice@example.com"])}


@pytest.fixture(scope="module")
def planned(box, controller, hosts):
    before = box.everything()
    play = controller.run(DEPLOY, "--check", "--diff", hosts=hosts, verbosity=4).check()
    assert box.everything() == before
    return play


@pytest.fixture(scope="module")
def first(planned, controller, hosts, project):
    play = controller.run(DEPLOY, hosts=hosts, verbosity=4).check()
    controller.collect(project)
    return play


def test_a_check_of_an_empty_project_shows_the_whole_plan(planned, first):
    assert planned.changed == first.changed


def test_a_second_run_and_its_check_change_nothing(first, controller, hosts):
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
    play = controller.run(DEPLOY, "--check", "--diff", hosts=hosts).check()
    assert play.changed == 0
    assert not re.search(r"^(\+|-|@@)", play.output, re.M), play


def test_the_resources_have_the_settings_of_the_variables(first, project, engine):
    application = engine.application
    assert (application["locationId"], application["iap"]["enabled"]) == ("europe-west", True)
    assert application["featureSettings"]["splitHealthChecks"]
    resources = project.resources()
    instance = resources["instance/ae-dev"]
    assert instance["databaseVersion"] == "MYSQL_8_0"
    settings = instance["settings"]
    assert settings["backupConfiguration"]["enabled"] and settings["backupConfiguration"]["binaryLogEnabled"]
    assert (settings["dataDiskSizeGb"], settings["storageAutoResize"], settings["availabilityType"]) == (
        "10",
        True,
        "ZONAL",
    )
    window = settings["maintenanceWindow"]
    assert (window["day"], window["hour"], window["updateTrack"]) == (7, 3, "stable")
    bucket = resources[f"bucket/{project.project}-ae-dev-artifacts"]
    assert (bucket["location"], bucket["locationType"]) == ("EU", "multi-region")
    assert bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    replication = resources["secret/ae-dev-db-password"]["replication"]
    assert [item["location"] for item in replication["userManaged"]["replicas"]] == ["europe-west1"]
    assert len(project.secret("ae-dev-db-password")["versions"][1][1]) == 32


def test_the_version_has_the_settings_of_the_variables(first, project, engine):
    (version,) = engine.versions().values()
    assert version["runtime"] == "custom" and version["env"] == "flexible"
    assert (version["resources"]["cpu"], version["resources"]["memoryGb"]) == (1, 2)
    scaling = version["automaticScaling"]
    assert (scaling["minTotalInstances"], scaling["maxTotalInstances"]) == (1, 4)
    assert scaling["cpuUtilization"]["targetUtilization"] == 0.75
    assert version["betaSettings"]["cloud_sql_instances"] == f"{project.project}:europe-west1:ae-dev"
    assert version["readinessCheck"]["path"] == version["livenessCheck"]["path"] == "/health"
    environment = version["envVariables"]
    assert environment["GCP_PROJECT"] == project.project
    assert environment["GCS_BACKEND"] == f"gs://{project.project}-ae-dev-artifacts"
    assert environment["DB_INSTANCE_CONNECTION_NAME"] == f"{project.project}:europe-west1:ae-dev"
    assert (environment["DB_USERNAME"], environment["DB_NAME"]) == ("mlflow", "mlflow")
    assert environment["DB_PASSWORD_SECRET_NAME"].endswith("/secrets/ae-dev-db-password/versions/1")
    assert version["serviceAccount"] == project.email("ae-dev-server")


def test_the_server_has_exactly_the_roles_that_it_needs(first, project):
    server = f"serviceAccount:{project.email('ae-dev-server')}"
    roles = {role for role, _, _ in project.project_roles("ae-dev-server")}
    assert roles == {"roles/cloudsql.client", "roles/logging.logWriter", "roles/monitoring.metricWriter"}
    assert project.bindings(f"{_cloud.REGISTRY}/{project.region}/repositories/ae-dev") == {
        "roles/artifactregistry.reader": [server],
        "roles/artifactregistry.writer": [f"serviceAccount:{project.email('ae-dev-build')}"],
    }
    assert project.bindings(f"{_cloud.STORAGE}/b/{project.project}-ae-dev-artifacts")["roles/storage.objectViewer"] == [
        server
    ]
    assert "appspot" not in str(project.policy(f"{_cloud.STORAGE}/b/{project.project}-ae-dev-artifacts"))


def test_only_members_have_access(first, project, engine):
    assert engine.accessors() == sorted([f"serviceAccount:{project.email('ae-dev-client')}", "user:alice@example.com"])
    assert engine.page("ae-dev-client") == (200, engine.traffic())
    outsider = project.make_account("outsider")
    account = f"{_cloud.IAM}/{project.home}/serviceAccounts/{outsider}"
    project.grant(account, "roles/iam.serviceAccountTokenCreator", _cloud.DEPLOYER)
    assert engine.page("outsider")[0] == 403
    answer = project.anonymous.get(f"https://{engine.application['defaultHostname']}/", allow_redirects=False)
    assert answer.status_code == 302 and "accounts.google.com" in answer.headers["Location"]


@pytest.fixture(scope="module")
def three(first, controller, hosts, engine):
    """Deploy three versions; return their IDs, and the status of all versions after the second and the third."""
    ids, seen = [engine.traffic()], []
    for word in ("two", "three"):
        changed = {"ae": hosts["ae"] | {"appengine_mlflow_env": {"WORD": word}}}
        controller.run(DEPLOY, hosts=changed).check()
        ids.append(engine.traffic())
        seen.append({name: version["servingStatus"] for name, version in engine.versions().items()})
    return ids, seen


def test_a_change_creates_a_version_and_stops_the_previous_one(three):
    ids, seen = three
    assert seen[0] == {ids[0]: "STOPPED", ids[1]: "SERVING"}


def test_older_versions_are_deleted(three):
    ids, seen = three
    assert seen[1] == {ids[1]: "STOPPED", ids[2]: "SERVING"}


def test_scaling_is_changed_in_place(three, controller, hosts, engine):
    changed = {"ae": hosts["ae"] | {"appengine_mlflow_env": {"WORD": "three"}, "appengine_mlflow_max_instances": 2}}
    before = engine.versions().keys()
    assert controller.run(DEPLOY, hosts=changed).check().changed == 1
    assert engine.versions().keys() == before
    assert engine.versions()[engine.traffic()]["automaticScaling"]["maxTotalInstances"] == 2


def test_a_version_that_does_not_start_does_not_replace_the_serving_version(three, controller, hosts, engine):
    before = engine.page("ae-dev-client")
    assert before[0] == 200
    broken = {"ae": hosts["ae"] | {"mlflow_image_context": str(IMAGES / "exiting")}}
    play = controller.run(DEPLOY, hosts=broken, verbosity=4)
    assert not play.ok
    message = play.message("ae")
    assert "mlflow-" in message and "gcloud app logs" in message, message
    assert "the frobnicator is not configured" in message
    assert engine.page("ae-dev-client") == before
    again = controller.run(DEPLOY, hosts=broken)
    assert not again.ok, "a version that does not start was reported as deployed"
    assert engine.page("ae-dev-client") == before
    controller.run(DEPLOY, hosts=hosts).check()
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


def test_a_run_after_one_killed_between_version_and_traffic_completes_the_deployment(
    three, box, controller, hosts, engine
):
    before = engine.traffic()
    changed = {"ae": hosts["ae"] | {"appengine_mlflow_env": {"WORD": "killed"}}}
    began = time.time()
    run = controller.start(DEPLOY, hosts=changed)
    box.await_request(began, "versions.create", "", run)
    run.kill()
    assert engine.traffic() == before
    controller.run(DEPLOY, hosts=changed).check()
    assert engine.traffic() != before
    assert controller.run(DEPLOY, hosts=changed).check().changed == 0


def test_a_member_that_does_not_exist_is_reported_and_the_next_run_succeeds(three, controller, hosts, engine):
    before = engine.accessors()
    unknown = {"ae": hosts["ae"] | {"mlflow_access_members": ["user:unknown@example.invalid"]}}
    play = controller.run(DEPLOY, hosts=unknown, verbosity=4)
    assert not play.ok
    assert "There is no user unknown@example.invalid" in play.message("ae")
    assert engine.accessors() == before
    controller.run(DEPLOY, hosts=hosts).check()


def test_too_many_versions_are_reported_before_the_first_change(three, box, project, controller, hosts, engine):
    stopped = next(name for name, version in engine.versions().items() if version["servingStatus"] == "STOPPED")
    with box.copies("appengine.version", f"apps/{project.project}/services/default/versions/{stopped}", MOST_VERSIONS):
        everything = box.everything()
        message = problems(controller, {"ae": hosts["ae"] | {"appengine_mlflow_env": {"WORD": "more"}}})["ae"]
        assert box.everything() == everything
    assert "of 210 allowed" in message and "Delete some" in message


def test_a_custom_oauth_client_accepts_identity_tokens(three, project, controller, hosts, engine):
    client = "123-own.apps.googleusercontent.com"
    own = hosts["ae"] | {
        "mlflow_oauth_client_id_secret": project.make_secret("own-client-id", client),
        "mlflow_oauth_client_secret_secret": project.make_secret("own-client-secret", "first-secret-of-the-client"),
    }
    controller.run(DEPLOY, hosts={"ae": own}, verbosity=4).check()
    assert engine.application["iap"]["oauth2ClientId"] == client
    address = f"https://{engine.application['defaultHostname']}/"
    for audience, status in ((client, 200), (address, 401)):
        token = project.identity_token("ae-dev-client", audience)
        answer = project.anonymous.get(address, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, audience
    assert controller.run(DEPLOY, hosts={"ae": own}).check().changed == 0
    before = engine.application["iap"]["oauth2ClientSecretSha256"]
    project.add_version("own-client-secret", "second-secret-of-the-client")
    assert controller.run(DEPLOY, hosts={"ae": own}, verbosity=4).check().changed == 1
    assert engine.application["iap"]["oauth2ClientSecretSha256"] != before


# Preflight


def problems(controller, hosts):
    """Run deploy.yml, which must fail; return the message of each host."""
    play = controller.run(DEPLOY, hosts=hosts, verbosity=4)
    assert not play.ok
    return {name: play.message(name) for name in hosts}


@pytest.fixture(scope="module")
def unorganized(box, new_project):
    """Create a project without an organization."""
    project = new_project()
    project.enable("cloudresourcemanager")
    box.alter("cloudresourcemanager.project", f"projects/{project.project}", parent="")
    return project


@pytest.fixture(scope="module")
def refused(first, box, controller, project, unorganized, small, hosts):
    project.make_secret("client-id", "123-abc.apps.googleusercontent.com")
    project.make_secret("blank", "\n")
    custom = hosts["ae"] | {"mlflow_oauth_client_id_secret": f"{project.home}/secrets/client-id"}
    secrets = {
        name: custom | {"mlflow_name": "ae", "mlflow_oauth_client_secret_secret": f"{project.home}/secrets/{name}"}
        for name in ("missing", "blank")
    }
    everything = box.everything()
    found = problems(
        controller,
        {
            "elsewhere": hosts["ae"] | {"mlflow_name": "ae", "appengine_mlflow_location": "us-central1"},
            "missing-member": hosts["ae"]
            | {"mlflow_name": "ae", "mlflow_access_members": [f"serviceAccount:{project.email('not-created')}"]},
            "unorganized": variables(unorganized, small),
            "invoker": hosts["ae"] | {"mlflow_name": "ae", "mlflow_access": "iam"},
            "half": custom | {"mlflow_name": "ae"},
            # Another deployment would direct the traffic of `ae` to its own version.
            "other": hosts["ae"],
            **secrets,
        },
    )
    assert box.everything() == everything
    return found


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("elsewhere", "is in europe-west, not in us-central1; it cannot be moved"),
        ("missing-member", "not-created@"),
        ("unorganized", "is in no organization"),
        ("invoker", "App Engine has no invoker role"),
        ("half", "Only one of mlflow_oauth_client_id_secret"),
    ],
)
def test_problems_are_reported_before_the_first_change(refused, host, words):
    assert words in refused[host]
    assert "->" in refused[host]


@pytest.mark.parametrize(("secret", "words"), [("missing", "does not exist"), ("blank", "empty")])
def test_a_missing_or_empty_secret_of_a_custom_client_is_reported(refused, secret, words):
    assert f"secrets/{secret}" in refused[secret] and words in refused[secret]


def test_checks_that_need_a_disabled_api_run_after_it_is_enabled(box, new_project, controller, small):
    project = new_project()
    box.alter("cloudresourcemanager.project", f"projects/{project.project}", parent="")
    message = problems(controller, {"unknown": variables(project, small)})["unknown"]
    assert message.startswith("APIs were enabled, and nothing else was changed") and "is in no organization" in message
    assert project.resources() == {}


def test_the_traffic_of_another_deployments_service_is_not_changed(refused):
    assert "app_engine_service default" in refused["other"] and "mlflow_adopt=true" in refused["other"]


def test_access_to_other_services_is_not_restricted_by_default(first, project, controller, small, hosts, engine):
    name = project.project
    project.request("PATCH", f"{APPS}/{name}?updateMask=iap", {"iap": {"enabled": False}})
    try:
        second = {"beside": hosts["ae"] | {"appengine_mlflow_service": "mlflow"}}
        assert "default" in problems(controller, second)["beside"]
        assert not engine.application["iap"].get("enabled")
    finally:
        project.request("PATCH", f"{APPS}/{name}?updateMask=iap", {"iap": {"enabled": True}})


# Another service than `default`, in another project


@pytest.fixture(scope="module")
def beside(box, new_project, small):
    box.latency("instant")
    project = new_project()
    return project, {"ae": variables(project, small, appengine_mlflow_service="mlflow")}


def test_a_service_without_the_service_default_is_rejected_by_default(beside, controller):
    message = problems(controller, beside[1])["ae"]
    assert "appengine_mlflow_service=default" in message and "appengine_mlflow_make_default=true" in message


def test_a_minimal_service_default_is_created_and_stopped(beside, controller):
    project, hosts = beside
    hosts["ae"] |= {"appengine_mlflow_make_default": True}
    controller.run(DEPLOY, hosts=hosts).check()
    engine = Engine(project)
    assert [version["servingStatus"] for version in engine.versions().values()] == ["STOPPED"]
    assert engine.page("ae-dev-client", "mlflow") == (200, engine.traffic("mlflow"))
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


def test_a_service_other_than_default_is_deleted(beside, controller):
    project, hosts = beside
    options = ("-e", "mlflow_destroy_data=true", "-e", "mlflow_destroy_confirm=ae")
    controller.run(DESTROY, *options, hosts=hosts).check()
    engine = Engine(project)
    assert [item["id"] for item in project.list(f"{APPS}/{project.project}/services", "services")] == ["default"]
    assert all(version["servingStatus"] == "STOPPED" for version in engine.versions().values())
    assert project.owned("ae") == {}
    assert project.project_roles("ae-dev-") == set()


# Removal


def test_destroy_disables_and_reports_what_cannot_be_deleted(refused, three, project, engine, controller, hosts):
    check = controller.run(DESTROY, "--check", "--diff", hosts=hosts).check()
    assert engine.accessors()
    play = controller.run(DESTROY, hosts=hosts).check()
    assert check.changed == play.changed > 0
    assert "App Engine keeps the application" in play.output and "it cannot be removed" in play.output
    ((_, version),) = engine.versions().items()
    assert version["servingStatus"] == "STOPPED"
    assert engine.accessors() == []
    assert project.project_roles("ae-dev-") == set()
    kept = {name.split("/")[0] for name in project.owned("ae")}
    assert kept == {"instance", "bucket", "secret"}
    assert controller.run(DESTROY, hosts=hosts).check().changed == 0


def test_a_deployment_after_destroy_succeeds(project, engine, controller, hosts):
    controller.run(DEPLOY, hosts=hosts).check()
    assert engine.page("ae-dev-client") == (200, engine.traffic())
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
