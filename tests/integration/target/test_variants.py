# SPDX-License-Identifier: Apache-2.0
"""Test two deployments in one project, deployed by one run: one for production, one with more instances and members."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY

pytestmark = pytest.mark.usefixtures("instant")


@pytest.fixture(scope="module")
def resources(variants):
    return variants.project.resources()


def test_in_production_the_database_has_recovery_and_deletion_protection(variants, resources):
    settings = resources["instance/prod-prod"]["settings"]
    assert settings["backupConfiguration"]["pointInTimeRecoveryEnabled"]
    assert settings["deletionProtectionEnabled"]
    answer = variants.project.api.delete(f"{_cloud.SQL}/{variants.project.home}/instances/prod-prod")
    assert answer.status_code == 400
    assert "deletion protection" in answer.text.lower()


def test_authorized_networks_connect_to_the_database_with_the_password(variants, resources):
    networks = resources["instance/wide-dev"]["settings"]["ipConfiguration"]["authorizedNetworks"]
    assert [(item["name"], item["value"]) for item in networks] == [("office", "127.0.0.0/8")]
    versions = variants.project.secret("wide-dev-db-password")["versions"]
    variants.project.login("wide-dev", "mlflow", versions[1][1].decode(), "mlflow").close()


def test_more_replicas_share_the_connections_of_the_database(variants, resources, box):
    template = resources["service/wide-dev"]["template"]
    assert (template["scaling"]["minInstanceCount"], template["scaling"]["maxInstanceCount"]) == (2, 24)
    environment = {item["name"]: item.get("value") for item in template["containers"][0]["env"]}
    # 400 connections of the tier, 10 of them kept, for 24 instances with 2 workers of four pools.
    assert environment["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "2"
    assert environment["MLFLOW_WORKERS"] == "2"
    deadline = time.monotonic() + 120
    while (running := _instances(box, "wide-dev")) != 2:
        assert time.monotonic() < deadline, f"{running} instances run"
        time.sleep(0.2)


def _instances(box, service):
    rows = (json.loads(body) for (kind, _), body in box.everything().items() if kind == "processes.process")
    return sum(service in str(row) and "migrate" not in str(row.get("spec", row)) for row in rows)


def test_only_the_configured_readers_members_and_impersonators_have_roles(variants):
    project = variants.project
    both = ["group:mlflow-users@example.com", "user:alice@example.com"]
    server, client = (f"serviceAccount:{project.email(f'wide-dev-{name}')}" for name in ("server", "client"))
    bucket = project.bindings(f"{_cloud.STORAGE}/b/{project.project}-wide-dev-artifacts")
    assert bucket["roles/storage.objectViewer"] == sorted([*both, server])
    assert project.bindings(f"{_cloud.RUN}/{project.region}/services/wide-dev") == {
        "roles/run.invoker": sorted([*both, client])
    }
    account = project.bindings(f"{_cloud.IAM}/{project.home}/serviceAccounts/{project.email('wide-dev-client')}")
    assert account == {"roles/iam.serviceAccountTokenCreator": sorted([_cloud.DEPLOYER, "user:alice@example.com"])}


def test_all_resources_have_the_labels_of_the_variables(variants, resources):
    labelled = {name: body["labels"] for name, body in resources.items() if name.split("/")[1].startswith("wide-dev")}
    assert len(labelled) >= 8
    assert all(body.get("team") == "ml" for name, body in labelled.items() if not name.startswith("account/"))


def test_a_custom_image_runs_without_a_build(variants, controller):
    project = variants.project
    (image,) = project.list(f"{_cloud.REGISTRY}/{project.region}/repositories/wide-dev/dockerImages", "dockerImages")
    reference = f"{image['uri'].split('@')[0]}:{image['tags'][0]}"
    secret = project.make_secret("own-token", "a token that only this test has")
    own = project.variables | {"mlflow_image": reference, "mlflow_server_secret_env": {"TOKEN": "own-token"}}
    controller.run(DEPLOY, hosts={"own": own}).check()
    assert project.service("own-dev")["template"]["containers"][0]["image"].startswith(reference.split(":")[0])
    made = project.owned("own")
    assert not {name for name in made if "build" in name or name.startswith("repository/")}
    token = project.signed("own-dev-client", f"{project.address('own-dev')}/*")
    page = project.anonymous.get(project.address("own-dev"), headers={"Authorization": f"Bearer {token}"})
    assert page.text.startswith("own-dev-0000")
    assert controller.run(DEPLOY, hosts={"own": own}).check().changed == 0
    server = f"serviceAccount:{project.email('own-dev-server')}"
    readers = {"roles/secretmanager.secretAccessor": [server]}
    assert project.bindings(f"{_cloud.SECRETS}/{secret}") == readers
    controller.run(DESTROY, hosts={"own": own}).check()
    assert project.bindings(f"{_cloud.SECRETS}/{secret}") == {}


def test_production_is_destroyed_with_a_final_backup_after_confirmation(variants, controller):
    """A secret of another owner with a name like the deployment's own secrets is not deleted."""
    project, hosts = variants.project, {"prod": variants.hosts["prod"]}
    foreign = project.make_secret("prod-prod-session-key", "payload-outside-the-deployment")
    options = ("-e", "mlflow_destroy_data=true", "-e", "mlflow_destroy_confirm=prod")
    play = controller.run(DESTROY, *options, hosts=hosts).check()
    assert project.owned("prod") == {}
    assert project.secret(foreign.split("/")[-1])["versions"][1] == ("ENABLED", b"payload-outside-the-deployment")
    assert "secret/prod-prod-session-key" in next(line for line in play.output.splitlines() if "Left alone" in line)
    backups = project.list(f"{_cloud.SQL}/{project.home}/backups", "backups")
    assert [backup["instance"].split("/")[-1] for backup in backups] == ["prod-prod"]
    assert project.owned("wide")
    variants.hosts.pop("prod")
