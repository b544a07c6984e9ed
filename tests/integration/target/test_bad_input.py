# SPDX-License-Identifier: Apache-2.0
"""Test that invalid input is rejected before the first change, with all problems and the next steps.

One run with one host for each case; each test checks the message of its host.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, VERIFY

MANAGER, BILLING = _cloud.MANAGER, "https://cloudbilling.googleapis.com/v1"
TAKEN = "bucket-of-another-owner"
LOGIN = {"mlflow_access": "password", "mlflow_access_password_accepted": True, "mlflow_image_context": ""}


@dataclass(frozen=True)
class Case:
    """A host with invalid input.

    reported    parts of the message: the problem and the next step
    variables   variables of the host, in addition to valid ones
    project     key of the fixture `projects`
    """

    reported: tuple[str, ...]
    variables: dict = field(default_factory=dict)
    project: str = "good"


CASES = {
    "wrong-type": Case(
        ("cloudrun_mlflow_max_instances", "many"),
        {"cloudrun_mlflow_max_instances": "many"},
    ),
    "text": Case(
        ("1. ", "mlflow_database_tier", "db-custom-4-3840", "2. ", "cloudsql_flags", "without hyphens"),
        {
            "mlflow_access_members": "user:alice@example.com\ngroup:ml@example.com",
            "mlflow_labels": "team=ml",
            "mlflow_max_instances": "2",
            "mlflow_adopt": "no",
            "mlflow_database_tier": "db-custom-3-1000",
            "cloudsql_flags": "max-connections=100",
        },
    ),
    "types": Case(
        ("mlflow_workers is [1]", "cloudsql_users is 7", "bucket_storage_class is", "mlflow_server_env", "PORT"),
        {
            "mlflow_workers": [1],
            "cloudsql_users": 7,
            "bucket_storage_class": ["x"],
            "mlflow_server_env": {"PORT": "1"},
        },
    ),
    "no-such-variable": Case(
        ("mlflow_memroy", "Did you mean mlflow_memory?"), {"mlflow_memroy": "4Gi", "mlflow_strict_variables": "yes"}
    ),
    "wrong-value": Case(("mlflow_artifacts", "indirect", "direct or proxied"), {"mlflow_artifacts": "indirect"}),
    "no-target": Case(("mlflow_target", "appengines", "one of cloudrun"), {"mlflow_target": "appengines"}),
    "no-region": Case(("gcp_region", "Set it, for example to"), {"gcp_region": ""}),
    "no-password": Case(
        ("nothing but MLflow's own login", "mlflow_access_password_accepted=true"), {"mlflow_access": "password"}
    ),
    "contradiction": Case(
        (
            "1. ",
            "mlflow_access_members grants access",
            "-> Empty mlflow_access_members",
            "cloudrun_mlflow_min_instances is 9, more than the 3",
            "-> Lower it",
            "Only one of mlflow_oauth_client_id_secret",
            "-> Set both",
        ),
        {
            "mlflow_access": "password",
            "mlflow_access_password_accepted": True,
            "mlflow_access_members": ["user:alice@example.com"],
            "cloudrun_mlflow_min_instances": 9,
            "cloudrun_mlflow_max_instances": 3,
            "mlflow_oauth_client_id_secret": "projects/p/secrets/s",
        },
    ),
    "public": Case(
        ("allUsers", "mlflow_access=password", "mlflow_bucket_readers", "never public"),
        {"mlflow_access_members": ["allUsers"], "mlflow_bucket_readers": ["allAuthenticatedUsers"]},
    ),
    "internet": Case(
        ("opens the database to the whole internet", "VPN"),
        {"mlflow_database_authorized_networks": [{"name": "all", "value": "0.0.0.0/0"}]},
    ),
    "connections": Case(
        ("can open 40 connections", "(db-f1-micro) accepts 25", "mlflow_max_instances to 3"),
        {"mlflow_database_tier": "db-f1-micro"},
    ),
    "too-long": Case(
        ("service account has at most 30", "mlflow_bucket is", "at most 63", "at most 49"), {"mlflow_name": "long" * 15}
    ),
    "own-labels": Case(("mlflow_labels", "Remove managed-by"), {"mlflow_labels": {"managed-by": "me"}}),
    "no-key-file": Case(("/nowhere/key.json",), {"gcp_service_account_file": "/nowhere/key.json"}),
    "bad-key": Case(
        ("Cannot use the given service account contents", "credentials as Google made them"),
        {"gcp_service_account_contents": json.dumps({"type": "service_account"}), "gcp_service_account_file": ""},
    ),
    "no-project": Case(
        ("no-such-project-4711 does not exist, or deployer@", "Check gcp_project"),
        {"gcp_project": "no-such-project-4711", "gcp_quota_project": ""},
    ),
    "no-billing": Case(("Billing is switched off", "Link an active billing account"), project="unpaid"),
    # The API that reports billing is not enabled. Google rejects the request to enable the other APIs.
    "bill-unseen": Case(("Billing must be enabled", "Link an active billing account"), project="unseen"),
    "nowhere": Case(
        ("is in no organization", "OAuth client of your own"), {"gcp_quota_project": ""}, project="unorganized"
    ),
    "viewer": Case(
        (
            "sqladmin.googleapis.com",
            "viewer@",
            "serviceusage.services.enable",
            "gcloud services enable",
            "lacks permissions",
            "cloudsql.instances.create",
            "iam.serviceAccounts.create",
            "run.services.create",
            "secretmanager.secrets.create",
            "storage.buckets.get",
            "--role=roles/secretmanager.admin --condition=None",
        ),
    ),
    # A wrong value does not hide what else would fail.
    "viewer-and-value": Case(("mlflow_artifacts is", "lacks permissions"), {"mlflow_artifacts": "wrong"}),
    "taken": Case((TAKEN, "belongs to another owner", "Choose another name"), {"mlflow_bucket": TAKEN}),
    "foreign": Case(
        ("was not created by this deployment", "mlflow_adopt=true"),
        {"mlflow_bucket": "made-by-hand"},
    ),
    "neighbour": Case(
        ("belongs to the deployment demo", "choose another name"), {"mlflow_bucket": "made-by-a-neighbour"}
    ),
    "lost-label": Case(
        ("carries the name of this deployment, but not the label managed-by=mlplatform-gcp", "mlflow_adopt=true"),
        {"mlflow_bucket": "made-here"},
    ),
    # What the variables refer to.
    "no-secret": Case(
        (
            "mlflow_server_secret_env.TOKEN refers to",
            "no-such-secret/versions/latest, which does not exist",
            "gcloud secrets create no-such-secret",
            "mlflow_server_secret_env.OLD refers to",
            "and this version is DISABLED",
            "gcloud secrets versions enable 1 --secret=disabled",
            "mlflow_oauth_client_id_secret refers to",
            "empty/versions/latest, which does not exist",
        ),
        {
            "mlflow_server_secret_env": {"TOKEN": "no-such-secret", "OLD": "disabled", "GOOD": "enabled"},
            "mlflow_oauth_client_id_secret": "projects/{project}/secrets/empty",
            "mlflow_oauth_client_secret_secret": "projects/{project}/secrets/enabled",
        },
        project="references",
    ),
    "short-login": Case(
        (
            "mlflow_login_password_secret refers to",
            "short/versions/latest, and its value is shorter than 12 characters",
            "gcloud secrets versions add short --project=",
            "or set mlflow_login_password_secret to another secret",
        ),
        LOGIN | {"mlflow_ownership": {"secrets": "used"}, "mlflow_login_password_secret": "short"},
        project="references",
    ),
    "default-login": Case(
        ("The value of secret default is a well-known default", "or set mlflow_login_password_secret to another"),
        LOGIN | {"mlflow_adopt": True, "mlflow_login_password_secret": "default"},
        project="references",
    ),
    "no-image": Case(
        ("mlflow_image refers to", "mlflow:1, which does not exist", "Correct mlflow_image"),
        {"mlflow_image": "europe-west1-docker.pkg.dev/{project}/images/mlflow:1"},
        project="references",
    ),
    "no-flag": Case(
        ("cloudsql_flags has max_conections", "Did you mean max_connections?", "work_mem", "without a unit"),
        {"cloudsql_flags": "max_conections=100\nwork_mem=64MB"},
        project="references",
    ),
    "elsewhere": Case(
        ("is in europe-north1, not in europe-west1", "cannot be moved", "Set its location to europe-north1"),
        {"mlflow_bucket": "made-elsewhere", "mlflow_bucket_location": "europe-west1"},
    ),
}


def labels(deployment):
    return {"managed-by": "mlplatform-gcp", "mlflow-deployment": deployment, "mlflow-env": "dev"}


@pytest.fixture(scope="module")
def projects(box, get_project, new_project):
    """Create `good`, with conflicting buckets, two projects without billing, one without organization, and secrets."""
    box.latency("instant")
    good, unpaid, unseen, references = (new_project() for _ in range(4))
    unpaid.enable("cloudbilling")
    deployer, admin = box.session(), box.session("admin@example.com")
    for project in (unpaid, unseen):
        switched = deployer.put(f"{BILLING}/{project.home}/billingInfo", json={"billingAccountName": ""})
        assert switched.ok, switched.text
    good.enable("storage")
    for name, location, owner in (
        ("made-by-hand", "EUROPE-WEST1", {}),
        ("made-by-a-neighbour", "EUROPE-WEST1", labels("demo")),
        ("made-here", "EUROPE-WEST1", labels("lost-label") | {"managed-by": "me"}),
        ("made-elsewhere", "EUROPE-NORTH1", labels("elsewhere")),
    ):
        _make_bucket(good.api, good.project, name, location=location, labels=owner)
    _make_project(admin, "project-of-another-owner", f"organizations/{get_project('mlflow-sandbox').number}")
    usage = f"{_cloud.USAGE}/v1/projects/project-of-another-owner/services/storage.googleapis.com:enable"
    assert admin.post(usage, json={}).ok
    admin.headers["X-Goog-User-Project"] = "project-of-another-owner"
    _make_bucket(admin, "project-of-another-owner", TAKEN, location="EU")
    _make_project(deployer, "without-organization", None)
    _make_references(references)
    return {
        "good": good,
        "unpaid": unpaid,
        "unseen": unseen,
        "unorganized": get_project("without-organization"),
        "references": references,
    }


def _make_references(project):
    """Create a secret in each state, and a repository without images."""
    project.enable("secretmanager", "artifactregistry", "sqladmin")
    project.make_secret("enabled", "a value that is in use")
    project.make_secret("disabled", "a value that was in use")
    project.make_secret("short", "eleven char")
    project.make_secret("default", "password1234")
    secrets = f"{_cloud.SECRETS}/{project.home}/secrets"
    project.request("POST", f"{secrets}/disabled/versions/1:disable", {})
    project.make(secrets, {"replication": {"automatic": {}}}, secretId="empty")
    project.make_repository("images")


def _filled(value, project):
    """Return a value of variables with the project's id in place of `{project}`."""
    if isinstance(value, dict):
        return {key: _filled(item, project) for key, item in value.items()}
    return value.replace("{project}", project) if isinstance(value, str) else value


def _make_bucket(session, project, name, **settings):
    made = session.post(f"{_cloud.STORAGE}/b?project={project}", json={"name": name} | settings)
    assert made.ok, made.text


def _make_project(session, name, parent):
    body = {"projectId": name} | ({"parent": parent} if parent else {})
    made = session.post(f"{MANAGER}/v3/projects", json=body)
    assert made.ok, made.text
    billing = {"billingAccountName": "billingAccounts/01B2C3-D4E5F6-A7B8C9"}
    paid = session.put(f"{BILLING}/projects/{name}/billingInfo", json=billing)
    assert paid.ok, paid.text


@pytest.fixture(scope="module")
def refused(projects, controller, box, tmp_path_factory):
    """Run all cases; return the run and the state of the sandbox before and after it."""
    good = projects["good"]
    key = tmp_path_factory.mktemp("viewer") / "key.json"
    key.write_bytes(_viewer(good))
    key.chmod(0o600)
    hosts = {
        name: projects[case.project].variables | _filled(case.variables, projects[case.project].project)
        for name, case in CASES.items()
    }
    for name in ("viewer", "viewer-and-value"):
        hosts[name] |= {"gcp_service_account_file": str(key), "gcp_quota_project": ""}
    before = box.everything()
    play = controller.run(DEPLOY, hosts=hosts, verbosity=4)
    return {"play": play, "before": before, "after": box.everything()}


def _viewer(project):
    """Create an account that can only read, and return its key."""
    project.enable("iam", "cloudresourcemanager")
    email = project.make_account("viewer")
    project.grant(f"{MANAGER}/v3/{project.home}", "roles/viewer", f"serviceAccount:{email}")
    return project.make_key(email)


@pytest.mark.inputs
@pytest.mark.parametrize("name", CASES)
def test_the_problem_and_the_next_step_are_reported(refused, name):
    message = refused["play"].message(name)
    assert refused["play"].failed(name), name
    missing = [words for words in CASES[name].reported if words not in message]
    assert not missing, f"{missing} not in:\n{message}"


def test_nothing_is_changed(refused):
    assert refused["after"] == refused["before"]
    assert all(refused["play"].changes(name) == 0 for name in CASES)


def test_missing_credentials_are_reported_with_the_command_that_creates_them(projects, controller):
    anonymous = {
        "GOOGLE_APPLICATION_CREDENTIALS": None,
        "GCP_SERVICE_ACCOUNT_FILE": None,
        "GCP_AUTH_KIND": None,
        # do not wait for a metadata server, which does not exist
        "NO_GCE_CHECK": "true",
    }
    for playbook in (DEPLOY, DESTROY, VERIFY):
        play = controller.run(playbook, hosts={"anonymous": projects["good"].variables}, env=anonymous)
        assert not play.ok
        message = play.message("anonymous")
        assert "credentials" in message.lower(), message
        assert "gcloud auth application-default login" in message, message


def test_verification_reports_a_missing_deployment(projects, controller):
    projects["good"].enable("run")
    play = controller.run(VERIFY, hosts={"nothing": projects["good"].variables})
    assert "has no service nothing-dev in europe-west1" in play.message("nothing")
    assert "playbooks/deploy.yml" in play.message("nothing")
