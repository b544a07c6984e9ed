# SPDX-License-Identifier: Apache-2.0
"""Test access without Identity-Aware Proxy, and proxied artifacts: changes the deployment `demo`."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, REGION, VERIFY

PROJECT = {"gcp_project": "mlflow-sandbox", "gcp_region": REGION}
IAM = PROJECT | {
    "mlflow_access": "iam",
    "mlflow_access_members": ["user:alice@example.com"],
    "mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "/ml/flow"},
}
PASSWORD = PROJECT | {
    "mlflow_access": "password",
    "mlflow_access_password_accepted": True,
    "mlflow_artifacts": "proxied",
}
pytestmark = pytest.mark.usefixtures("instant")


@pytest.fixture(scope="module")
def by_token(deployed, controller, box):
    box.latency("instant")
    return controller.run(DEPLOY, hosts={"demo": IAM}).check()


@pytest.fixture(scope="module")
def by_password(by_token, controller):
    return controller.run(DEPLOY, hosts={"demo": PASSWORD}, verbosity=4).check()


def invokers(project):
    return project.bindings(f"{_cloud.RUN}/{project.region}/services/demo-dev").get("roles/run.invoker", [])


def test_changes_to_iam_grants_access_to_the_members_only(by_token, deployed, box, controller):
    assert not deployed.service("demo-dev").get("iapEnabled", False)
    members = ["user:alice@example.com", f"serviceAccount:{deployed.email('demo-dev-client')}"]
    assert invokers(deployed) == sorted(members)
    assert box.anonymous().get(deployed.address("demo-dev")).status_code == 403
    play = controller.run(VERIFY, hosts={"demo": IAM}, verbosity=4).check()
    assert "ok: upload and download of 40 MiB" in play.output, play


def test_with_a_prefix_everything_is_below_it_and_the_verification_follows(by_token, deployed, controller, box):
    address = deployed.address("demo-dev")
    assert f"{address}/ml/flow/" in by_token.output
    token = {"Authorization": f"Bearer {deployed.identity_token('demo-dev-client', address)}"}
    answers = {path: box.anonymous().get(address + path, headers=token) for path in ("/ml/flow/version", "/version")}
    assert [answer.status_code for answer in answers.values()] == [200, 404]
    assert controller.run(DEPLOY, hosts={"demo": IAM}).check().changed == 0


def test_changes_to_a_password_requires_the_login_from_the_internet(by_password, deployed, box):
    assert invokers(deployed) == ["allUsers"]
    url = f"{deployed.address('demo-dev')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    login = [
        deployed.secret(f"demo-dev-tracking-{kind}")["versions"][1][1].decode() for kind in ("username", "password")
    ]
    anonymous = box.anonymous()
    assert anonymous.get(url).status_code == 401
    assert anonymous.get(url, auth=("admin", "password1234")).status_code == 401
    assert anonymous.get(url, auth=tuple(login)).status_code == 200


def test_the_environment_does_not_contain_the_login(by_password, deployed):
    environment = deployed.service("demo-dev")["template"]["containers"][0]["env"]
    hidden = {item["name"] for item in environment if "valueSource" in item}
    assert {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "DB_PASSWORD"} <= hidden
    for secret in ("tracking-password", "session-key", "db-password"):
        (_, payload) = deployed.secret(f"demo-dev-{secret}")["versions"][1]
        assert payload.decode() not in str(environment)


def test_with_artifacts_proxied_the_server_writes_and_clients_do_not(by_password, deployed):
    roles = deployed.bindings(f"{_cloud.STORAGE}/b/mlflow-sandbox-demo-dev-artifacts")
    assert roles["roles/storage.objectUser"] == [f"serviceAccount:{deployed.email('demo-dev-server')}"]
    assert "serviceAccount:" not in str(roles.get("roles/storage.objectViewer", []))


def test_with_artifacts_proxied_40_mib_are_rejected_and_the_limit_is_reported(by_password, controller):
    play = controller.run(VERIFY, hosts={"demo": PASSWORD}, verbosity=4).check()
    assert "ok: upload of 40 MiB through the server rejected (413), as expected" in play.output, play
    assert "at most 32 MiB" in by_password.output


def test_a_second_run_changes_nothing(by_password, controller):
    assert controller.run(DEPLOY, hosts={"demo": PASSWORD}).check().changed == 0
