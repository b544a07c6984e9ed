# SPDX-License-Identifier: Apache-2.0
"""Test a deployment that is encrypted with the user's own keys, and keys that cannot be used."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, VERIFY

pytestmark = pytest.mark.usefixtures("instant")

KMS = "https://cloudkms.googleapis.com/v1"
ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
AGENTS = (
    "gcp-sa-artifactregistry",
    "gcp-sa-cloud-sql",
    "gcp-sa-secretmanager",
    "gs-project-accounts",
    "serverless-robot-prod",
)


@pytest.fixture(scope="module")
def project(new_project):
    project = new_project()
    enable = f"{_cloud.USAGE}/v1/{project.home}/services/cloudkms.googleapis.com:enable"
    project.request("POST", enable, {})
    return project


@pytest.fixture(scope="module")
def key(project, box):
    box.latency("instant")
    rings = f"{KMS}/{project.region}/keyRings"
    project.request("POST", f"{rings}?keyRingId=mlflow", {})
    return project.request("POST", f"{rings}/mlflow/cryptoKeys?cryptoKeyId=data", {"purpose": "ENCRYPT_DECRYPT"})[
        "name"
    ]


@pytest.fixture(scope="module")
def hosts(project, small, key):
    return {"sealed": small | project.variables | {"mlflow_kms_key": key, "mlflow_access": "iam"}}


def members(project, key):
    policy = project.request("GET", f"{KMS}/{key}:getIamPolicy")
    return {
        member for binding in policy.get("bindings", []) if binding["role"] == ROLE for member in binding["members"]
    }


def test_everything_is_encrypted_with_the_key(deployed_resources, project, key):
    instance = deployed_resources["instance/sealed-dev"]
    assert instance["diskEncryptionConfiguration"]["kmsKeyName"] == key
    buckets = [body for name, body in deployed_resources.items() if name.startswith("bucket/")]
    assert len(buckets) == 2 and all(bucket["encryption"]["defaultKmsKeyName"] == key for bucket in buckets)
    secrets = [body for name, body in deployed_resources.items() if name.startswith("secret/")]
    replicas = [item for secret in secrets for item in secret["replication"]["userManaged"]["replicas"]]
    assert replicas and all(item["customerManagedEncryption"]["kmsKeyName"] == key for item in replicas)
    assert deployed_resources["repository/sealed-dev"]["kmsKeyName"] == key
    assert project.service("sealed-dev")["template"]["encryptionKey"] == key
    assert deployed_resources["job/sealed-dev-migrate"]["template"]["template"]["encryptionKey"] == key


def test_the_agents_of_the_services_may_use_the_key(deployed_resources, project, key):
    expected = {f"serviceAccount:service-{project.number}@{name}.iam.gserviceaccount.com" for name in AGENTS}
    assert members(project, key) == expected


def test_a_second_run_changes_nothing_and_grants_nothing(deployed_resources, hosts, controller):
    play = controller.run(DEPLOY, hosts=hosts).check()
    assert play.changed == 0
    assert "Allow the service agents to use the key" not in play.output


@pytest.mark.parametrize("agent", ["gcp-sa-cloud-sql", "serverless-robot-prod"])
def test_the_verification_names_an_agent_that_lost_its_right(
    deployed_resources, project, hosts, controller, key, agent
):
    url = f"{KMS}/{key}"
    policy = project.request("GET", f"{url}:getIamPolicy")
    lost = f"serviceAccount:service-{project.number}@{agent}.iam.gserviceaccount.com"
    bindings = [
        dict(binding, members=[text for text in binding["members"] if text != lost]) for binding in policy["bindings"]
    ]
    project.request("POST", f"{url}:setIamPolicy", {"policy": policy | {"bindings": bindings}})
    try:
        message = controller.run(VERIFY, hosts=hosts).message("sealed")
    finally:
        etag = project.request("GET", f"{url}:getIamPolicy")["etag"]
        project.request("POST", f"{url}:setIamPolicy", {"policy": policy | {"etag": etag}})
    assert message.splitlines() == [f"{ROLE} is missing on key {key}: {lost}"]


def test_a_disabled_key_is_a_problem_before_anything_changes(deployed_resources, project, hosts, controller, key):
    version = f"{KMS}/{key}/cryptoKeyVersions/1?updateMask=state"
    project.request("PATCH", version, {"state": "DISABLED"})
    try:
        play = controller.run(DEPLOY, hosts=hosts)
        message = play.message("sealed")
        assert play.failed("sealed") and "its primary version is DISABLED" in message
        assert "gcloud kms keys versions enable 1 --key=data --keyring=mlflow" in message
        assert "is SUSPENDED" in message
    finally:
        project.request("PATCH", version, {"state": "ENABLED"})


def test_a_key_for_an_instance_without_one_is_refused(project, small, controller, key):
    plain = {"plain": small | project.variables | {"mlflow_access": "iam"}}
    controller.run(DEPLOY, hosts=plain).check()
    before = project.resources()
    play = controller.run(DEPLOY, hosts={"plain": plain["plain"] | {"mlflow_kms_key": key}})
    assert "exists with a key of Google's, which cannot be changed" in play.message("plain")
    assert project.resources() == before


def test_a_removal_keeps_the_rights_on_the_key(deployed_resources, project, hosts, controller, key):
    before = members(project, key)
    play = controller.run(DESTROY, hosts=hosts).check()
    assert members(project, key) == before
    assert f"Service agents keep the use of {key}" in play.output
