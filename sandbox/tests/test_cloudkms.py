# SPDX-License-Identifier: Apache-2.0
"""Cloud KMS v1, and what the other services make of a key."""

import base64
import time

import pytest
from gcp_sandbox.sandbox import Sandbox

KMS = "https://cloudkms.googleapis.com/v1"
SECRETS = "https://secretmanager.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com/storage/v1"
SQL = "https://sqladmin.googleapis.com/v1"
REGISTRY = "https://artifactregistry.googleapis.com/v1"
REGION = "europe-west1"
ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
APIS = ("artifactregistry", "cloudkms", "run", "secretmanager", "sqladmin", "storage")
AGENTS = {
    "artifactregistry": "gcp-sa-artifactregistry",
    "secretmanager": "gcp-sa-secretmanager",
    "sqladmin": "gcp-sa-cloud-sql",
    "storage": "gs-project-accounts",
}


@pytest.fixture
def project(sandbox: Sandbox):
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.enable(project, [f"{name}.googleapis.com" for name in APIS], at_once=True)
    return project


@pytest.fixture
def key(client, project):
    """Make a key in a location and return its name."""

    def make(location=REGION):
        ring = f"projects/{project.id}/locations/{location}/keyRings"
        if client.get(f"{KMS}/{ring}/r").status == 404:
            client.ok("POST", f"{KMS}/{ring}?keyRingId=r", {})
        body = {"purpose": "ENCRYPT_DECRYPT"}
        return client.ok("POST", f"{KMS}/{ring}/r/cryptoKeys?cryptoKeyId=k", body)["name"]

    return make


@pytest.fixture
def grant(client, sandbox, project):
    """Let the agents of the services use a key."""

    def grant(name, *services):
        agents = [sandbox.identities.service_agent(project, service)["email"] for service in services]
        members = [f"serviceAccount:{email}" for email in agents]
        policy = {"bindings": [{"role": ROLE, "members": members}]}
        client.ok("POST", f"{KMS}/{name}:setIamPolicy", {"policy": policy})

    return grant


def set_state(client, name, state):
    return client.ok("PATCH", f"{KMS}/{name}/cryptoKeyVersions/1?updateMask=state", {"state": state})


def test_a_key_has_an_enabled_primary_version(client, key):
    name = key()
    found = client.ok("GET", f"{KMS}/{name}")
    assert found["primary"]["name"] == f"{name}/cryptoKeyVersions/1" and found["primary"]["state"] == "ENABLED"
    assert found["versionTemplate"] == {"protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}
    assert [item["name"] for item in client.ok("GET", f"{KMS}/{name.rpartition('/')[0]}")["cryptoKeys"]] == [name]
    assert client.post(f"{KMS}/{name.rpartition('/')[0]}?cryptoKeyId=k", {"purpose": "ENCRYPT_DECRYPT"}).status == 409
    missing = client.get(f"{KMS}/{name}x")
    assert missing.status == 404 and missing.json["error"]["message"] == f"CryptoKey {name}x not found."


def test_versions_are_disabled_destroyed_and_restored(client, key):
    name = key()
    version = f"{KMS}/{name}/cryptoKeyVersions/1"
    assert set_state(client, name, "DISABLED")["state"] == "DISABLED"
    assert client.ok("GET", f"{KMS}/{name}")["primary"]["state"] == "DISABLED"
    scheduled = client.ok("POST", f"{version}:destroy", {})
    assert scheduled["state"] == "DESTROY_SCHEDULED" and scheduled["destroyTime"]
    assert client.patch(f"{version}?updateMask=state", {"state": "ENABLED"}).status == 400
    assert client.ok("POST", f"{version}:restore", {})["state"] == "DISABLED"
    second = client.ok("POST", f"{KMS}/{name}/cryptoKeyVersions", {})
    assert second["name"] == f"{name}/cryptoKeyVersions/2"
    primary = client.ok("POST", f"{KMS}/{name}:updatePrimaryVersion", {"cryptoKeyVersionId": "2"})["primary"]
    assert primary["name"] == second["name"]


def test_a_location_must_exist(client, project):
    assert client.post(f"{KMS}/projects/{project.id}/locations/mars/keyRings?keyRingId=r", {}).status == 400


def encrypted(client, project, service, name):
    """Ask a service for a resource in REGION that is encrypted with a key, and return the answer."""
    if service == "storage":
        body = {"name": "kept", "location": REGION, "encryption": {"defaultKmsKeyName": name}}
        return client.post(f"{STORAGE}/b?project={project.id}", body)
    if service == "secretmanager":
        replica = {"location": REGION, "customerManagedEncryption": {"kmsKeyName": name}}
        body = {"replication": {"userManaged": {"replicas": [replica]}}}
        return client.post(f"{SECRETS}/projects/{project.id}/secrets?secretId=s", body)
    if service == "sqladmin":
        body = {
            "name": "db",
            "region": REGION,
            "databaseVersion": "POSTGRES_16",
            "settings": {"tier": "db-f1-micro", "edition": "ENTERPRISE"},
        }
        body["diskEncryptionConfiguration"] = {"kmsKeyName": name}
        return client.post(f"{SQL}/projects/{project.id}/instances", body)
    parent = f"{REGISTRY}/projects/{project.id}/locations/{REGION}/repositories"
    return client.post(f"{parent}?repositoryId=r", {"format": "DOCKER", "kmsKeyName": name})


@pytest.mark.parametrize("service", AGENTS)
def test_services_refuse_keys_that_they_cannot_use(client, project, key, grant, service):
    name, elsewhere = key(), key("us-east1")
    grant(elsewhere, service)
    denied = encrypted(client, project, service, name)
    assert denied.status in (400, 403)
    if service != "storage":
        assert f"{AGENTS[service]}.iam.gserviceaccount.com" in denied.json["error"]["message"]
    assert encrypted(client, project, service, elsewhere).status == 400
    assert encrypted(client, project, service, f"{name}x").status == 400
    grant(name, service)
    set_state(client, name, "DISABLED")
    assert encrypted(client, project, service, name).status == 400
    set_state(client, name, "ENABLED")
    made = encrypted(client, project, service, name)
    assert made.status == 200, made.json


def test_what_a_disabled_key_encrypts_is_not_readable(client, project, key, grant):
    name = key()
    grant(name, "storage", "secretmanager")
    encrypted(client, project, "storage", name)
    encrypted(client, project, "secretmanager", name)
    upload = "https://storage.googleapis.com/upload/storage/v1/b/kept/o?uploadType=media&name=x"
    assert client.ok("POST", upload, b"data")["kmsKeyName"] == f"{name}/cryptoKeyVersions/1"
    secret = f"{SECRETS}/projects/{project.id}/secrets/s"
    added = client.ok("POST", f"{secret}:addVersion", {"payload": {"data": base64.b64encode(b"x").decode()}})
    used = {"customerManagedEncryption": {"kmsKeyVersionName": f"{name}/cryptoKeyVersions/1"}}
    assert added["replicationStatus"] == {"userManaged": {"replicas": [{"location": REGION, **used}]}}
    read = (f"{STORAGE}/b/kept/o/x?alt=media", f"{secret}/versions/1:access")
    assert [client.get(url).status for url in read] == [200, 200]
    set_state(client, name, "DISABLED")
    answers = [client.get(url) for url in read]
    assert [answer.status for answer in answers] == [400, 400]
    assert answers[0].reason == "cloudKmsDisabledKey"
    assert client.get(f"{STORAGE}/b/kept/o/x").status == 200  # metadata are not encrypted
    set_state(client, name, "ENABLED")
    assert [client.get(url).status for url in read] == [200, 200]


def test_the_key_of_new_versions_of_a_secret_can_change(client, project, key, grant):
    first = key("global")
    grant(first, "secretmanager")
    secret = f"{SECRETS}/projects/{project.id}/secrets"
    client.ok("POST", f"{secret}?secretId=s", {"replication": {"automatic": {}}})
    wanted = {"automatic": {"customerManagedEncryption": {"kmsKeyName": first}}}
    assert client.ok("PATCH", f"{secret}/s?updateMask=replication", {"replication": wanted})["replication"] == wanted
    moved = {"userManaged": {"replicas": [{"location": REGION}]}}
    assert client.patch(f"{secret}/s?updateMask=replication", {"replication": moved}).status == 400


def test_an_instance_whose_key_is_disabled_is_suspended(client, project, key, grant):
    name = key()
    grant(name, "sqladmin")
    operation = encrypted(client, project, "sqladmin", name).json
    url = f"{SQL}/projects/{project.id}/operations/{operation['name']}"
    while client.ok("GET", url)["status"] != "DONE":
        time.sleep(0.02)
    instance = f"{SQL}/projects/{project.id}/instances/db"
    assert client.ok("GET", instance)["diskEncryptionStatus"]["kmsKeyVersionName"] == f"{name}/cryptoKeyVersions/1"
    other = client.patch(instance, {"diskEncryptionConfiguration": {"kmsKeyName": f"{name}2"}})
    assert other.status == 400
    set_state(client, name, "DISABLED")
    assert client.ok("GET", instance)["state"] == "SUSPENDED"
    assert client.get(f"{instance}/databases").status == 400
    set_state(client, name, "ENABLED")
    assert client.ok("GET", instance)["state"] == "RUNNABLE"
