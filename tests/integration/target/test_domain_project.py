# SPDX-License-Identifier: Apache-2.0
"""Test a deployment in a legacy project of a domain on both targets. The id of the project has a colon."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import (
    DEPLOY,
    DESTROY,
    REGION,
    VERIFY,
    Box,
    Controller,
    Project,
)

PROJECT = "example.com:mlplatform"
ACCOUNTS = "mlplatform.example.com.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def domain_controller(tmp_path_factory):
    box = Box(tmp_path_factory.mktemp("domain") / "state")
    box.options = ("--latency", "instant", "--project", PROJECT)
    box.up()
    controller = Controller(box, tmp_path_factory.mktemp("domain-controller"))
    yield controller
    controller.watcher.stop()
    box.run("reset")


@pytest.fixture(scope="module")
def project(domain_controller):
    return Project(domain_controller.box, PROJECT, domain_controller.folder)


def run(controller, playbook, *options, target="cloudrun", **more):
    host = {"gcp_project": PROJECT, "mlflow_target": target, "mlflow_access_members": ["user:alice@example.com"]}
    return controller.run(playbook, *options, hosts={"demo": host | more}).check()


@pytest.fixture(scope="module")
def on_cloud_run(domain_controller, project):
    run(domain_controller, DEPLOY)
    return project.resources()


@pytest.fixture(scope="module")
def on_app_engine(on_cloud_run, domain_controller):
    run(domain_controller, DEPLOY, target="appengine")
    return domain_controller.box.session().get(f"https://appengine.googleapis.com/v1/apps/{PROJECT}").json()


def test_names_on_cloud_run(on_cloud_run, project):
    assert on_cloud_run["account/demo-dev-server"]["email"] == f"demo-dev-server@{ACCOUNTS}"
    assert on_cloud_run["instance/demo-dev"]["connectionName"] == f"{PROJECT}:{REGION}:demo-dev"
    assert "bucket/example_com_mlplatform-demo-dev-artifacts" in on_cloud_run
    template = project.service("demo-dev")["template"]
    registry = f"{REGION}-docker.pkg.dev/example.com/mlplatform/demo-dev/mlflow"
    assert template["containers"][0]["image"].startswith(f"{registry}@sha256:")
    assert template["volumes"][0]["cloudSqlInstance"]["instances"] == [f"{PROJECT}:{REGION}:demo-dev"]
    policy = project.policy(f"{_cloud.REGISTRY}/{project.home}/locations/{REGION}/repositories/demo-dev")
    writers = [item["members"] for item in policy["bindings"] if item["role"] == "roles/artifactregistry.writer"]
    assert writers == [[f"serviceAccount:demo-dev-build@{ACCOUNTS}"]]


def test_a_second_run_on_cloud_run_changes_nothing(on_cloud_run, domain_controller):
    assert run(domain_controller, DEPLOY).changed == 0
    assert run(domain_controller, DEPLOY, "--check", "--diff").changed == 0


def test_the_verification_passes_on_cloud_run(on_cloud_run, domain_controller):
    assert "download of 40 MiB" in run(domain_controller, VERIFY).output


def test_names_on_app_engine(on_app_engine, project):
    assert on_app_engine["defaultHostname"] == "mlplatform.example.com.ew.r.appspot.com"
    assert on_app_engine["name"] == f"apps/{PROJECT}"
    web = f"projects/{project.number}/iap_web/appengine-{PROJECT}/services/default"
    members = project.bindings(f"{_cloud.IAP}/{web}")["roles/iap.httpsResourceAccessor"]
    assert "user:alice@example.com" in members


def test_a_second_run_on_app_engine_changes_nothing(on_app_engine, domain_controller):
    assert run(domain_controller, DEPLOY, target="appengine").changed == 0


def test_the_verification_passes_on_app_engine(on_app_engine, domain_controller):
    run(domain_controller, VERIFY, target="appengine")


def test_the_removal_leaves_nothing(on_app_engine, domain_controller, project):
    removal = {"mlflow_destroy_data": True, "mlflow_destroy_confirm": "demo"}
    run(domain_controller, DESTROY, target="appengine", **removal)
    assert project.owned("demo") == {}
