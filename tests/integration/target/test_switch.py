# SPDX-License-Identifier: Apache-2.0
"""Test a deployment of MLflow that moves from App Engine to Cloud Run and back, and keeps its runs."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._browser import (
    ALICE,
    CHROMIUM,
    assert_picture,
    sign_in,
)
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, VERIFY, find_run, log_a_run
from gcp_sandbox.config import Settings

APPS = "https://appengine.googleapis.com/v1/apps"
CLIENT = "moves-dev-client"
OAUTH_CLIENT = "827594110180-own.apps.googleusercontent.com"


class Moving:
    """The deployment `moves`, on either target."""

    def __init__(self, project, box, controller):
        self.project, self.box, self.controller = project, box, controller

    def hosts(self, target):
        secrets = f"{self.project.home}/secrets"
        oauth = {f"mlflow_oauth_client_{part}_secret": f"{secrets}/oauth-{part}" for part in ("id", "secret")}
        common = {"mlflow_target": target, "mlflow_access_members": [f"user:{ALICE}"]}
        return {"moves": self.project.variables | common | oauth}

    def to(self, target):
        return self.controller.run(DEPLOY, hosts=self.hosts(target)).check()

    @property
    def engine(self):
        return f"https://{self.project.get(f'{APPS}/{self.project.project}')['defaultHostname']}"

    @property
    def run(self):
        return self.project.address("moves-dev")

    def versions(self):
        """Return the serving status of each version on App Engine."""
        url = f"{APPS}/{self.project.project}/services/default/versions"
        return [item["servingStatus"] for item in self.project.list(url, "versions")]

    def data(self):
        """Return the properties of instance, bucket and secrets that change if they are created again."""
        resources = self.project.resources()
        instance, bucket = (
            resources["instance/moves-dev"],
            resources[f"bucket/{self.project.project}-moves-dev-artifacts"],
        )
        names = [name.split("/")[1] for name in resources if name.startswith("secret/moves-")]
        payloads = {name: self.project.secret(name)["versions"] for name in names}
        return (instance["createTime"], instance["databaseVersion"]), (bucket["id"], bucket["timeCreated"]), payloads


@pytest.fixture(scope="module")
def moving(box, new_project, controller):
    box.latency("instant")
    project = new_project()
    project.enable("secretmanager")
    project.make_secret("oauth-id", OAUTH_CLIENT)
    project.make_secret("oauth-secret", "a-secret-of-the-OAuth-client")
    return Moving(project, box, controller)


@pytest.fixture(scope="module")
def on_app_engine(moving, box):
    """Deploy on App Engine and log a run there."""
    moving.to("appengine")
    moving.controller.collect(moving.project)
    experiment, run = log_a_run(box, moving.engine, moving.project.email(CLIENT))
    return {"experiment": experiment, "run": run, "data": moving.data()}


@pytest.fixture(scope="module")
def moved(on_app_engine, moving):
    moving.to("cloudrun")
    return on_app_engine


@pytest.fixture(scope="module")
def back(moved, moving):
    moving.to("appengine")
    return moved


def metrics(run):
    return {item["key"]: item["value"] for item in run["data"]["metrics"]}


@pytest.fixture(scope="module")
def key_file(on_app_engine, moving, tmp_path_factory):
    """Create a key of the account for clients and return its path."""
    path = tmp_path_factory.mktemp("key") / "key.json"
    path.touch(mode=0o600)
    path.write_bytes(moving.project.make_key(moving.project.email(CLIENT)))
    return path


def test_with_a_custom_oauth_client_every_token_source_is_verified(key_file, moving):
    hosts = {"moves": moving.hosts("appengine")["moves"] | {"mlflow_verify_key_file": str(key_file)}}
    play = moving.controller.run(VERIFY, hosts=hosts, verbosity=4).check()
    reported = [line.strip(' ",') for line in play.output.splitlines() if re.match(r' *"(ok|skipped|failed):', line)]
    assert len(reported) > 15 and all(line.startswith("ok:") for line in reported), "\n".join(reported)
    for source in (
        "JWT for the address, signed by signJwt",
        "JWT for the address, signed with a key file",
        "ID token from generateIdToken",
        "ID token by impersonation with google-auth",
        "ID token from google-cloud-iam's IAMCredentialsClient",
        "ID token from a key file",
        "MLflow's client with MLFLOW_TRACKING_TOKEN",
        "MLflow's client with the package mlflow-google-auth",
    ):
        assert any(f"ok: {source} " in line and "accepted" in line for line in reported), source
    for name in ("without credentials", "another address", "forged", "expired", "not a member"):
        assert any(line for line in reported if "rejected (" in line and name in line), name


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_a_member_signs_in_and_the_page_shows_the_run(on_app_engine, moving, browser, box, tmp_path):
    server_url = f"http://{moving.project.project}.localhost:{Settings.load(box.state).ports.browser}/"
    sign_in(browser, server_url, ALICE)
    browser.wait("MLflow")
    browser.open(f"{server_url}#/experiments/{on_app_engine['experiment']}/runs")
    assert "Something went wrong" not in browser.wait("first-steps", "hello")
    assert_picture(browser.picture(tmp_path / "runs.png"))


def test_cloud_run_has_the_runs_and_the_same_data(moved, moving):
    assert metrics(find_run(moving.project, moving.run, CLIENT, moved["run"])) == {"loss": 0.1}
    assert moving.data() == moved["data"]


def test_the_version_on_app_engine_is_stopped(moved, moving):
    assert moving.versions() == ["STOPPED"]
    web = f"projects/{moving.project.number}/iap_web/appengine-{moving.project.project}/services/default"
    assert moving.project.bindings(f"{_cloud.IAP}/{web}") == {}
    # A role that stays would be left when the account is deleted.
    assert {role for role, *_more in moving.project.project_roles("moves-dev-server")} == {"roles/cloudsql.client"}
    assert moving.to("cloudrun").changed == 0


def test_app_engine_has_the_runs_and_the_same_data_again(back, moving):
    assert metrics(find_run(moving.project, moving.engine, CLIENT, back["run"])) == {"loss": 0.1}
    assert moving.data() == back["data"]
    assert moving.versions() == ["SERVING"]


def test_the_service_on_cloud_run_is_deleted(back, moving):
    assert not [name for name in moving.project.resources() if name.startswith("service/")]
    assert moving.to("appengine").changed == 0
