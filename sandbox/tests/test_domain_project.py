# SPDX-License-Identifier: Apache-2.0
"""A legacy project of a domain, example.com:my-project: how its id is spelled in addresses, hosts and images."""

from __future__ import annotations

import pytest
from gcp_sandbox.config import ConfigError, parse_project
from gcp_sandbox.gateway.iam import MEMBER
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.services.appengine.names import Address
from gcp_sandbox.testing import Client

PROJECT = "example.com:my-project"
DEPLOYER = "deployer@my-project.example.com.iam.gserviceaccount.com"
MANAGER = "https://cloudresourcemanager.googleapis.com"
REGISTRY = "https://artifactregistry.googleapis.com/v1"


@pytest.fixture(scope="module")
def client(new_settings, tmp_path_factory):
    with new_settings(tmp_path_factory.mktemp("domain"), project=PROJECT) as settings:
        sandbox = Sandbox(settings)
        sandbox.start()
        yield Client(sandbox)
        sandbox.stop()


def test_the_deployer_of_the_project(client):
    assert client.email == DEPLOYER
    assert client.sandbox.identities.project_of(DEPLOYER).id == PROJECT
    assert client.sandbox.identities.project_of("my-project.example.com@appspot.gserviceaccount.com").id == PROJECT
    assert client.sandbox.identities.project_of("x@my-project.iam.gserviceaccount.com") is None


def test_methods_of_the_project_itself(client):
    assert client.ok("GET", f"{MANAGER}/v3/projects/{PROJECT}")["projectId"] == PROJECT
    assert client.ok("POST", f"{MANAGER}/v1/projects/{PROJECT}:getIamPolicy")["bindings"]
    assert client.ok("GET", f"{MANAGER}/v1/projects/example.com%3Amy-project")["projectId"] == PROJECT


def test_accounts(client):
    base = "https://iam.googleapis.com/v1/projects"
    client.sandbox.enablement.enable(client.sandbox.projects.get(PROJECT), ["iam.googleapis.com"], at_once=True)
    made = client.ok("POST", f"{base}/{PROJECT}/serviceAccounts", {"accountId": "server"})
    assert made["email"] == "server@my-project.example.com.iam.gserviceaccount.com"
    assert client.ok("GET", f"{base}/-/serviceAccounts/{made['email']}")["projectId"] == PROJECT
    assert client.get(f"{base}/{PROJECT}/serviceAccounts/server@{PROJECT}.iam.gserviceaccount.com").status == 404


def test_repositories_and_who_pulls_from_them(client):
    client.sandbox.enablement.enable(
        client.sandbox.projects.get(PROJECT), ["artifactregistry.googleapis.com"], at_once=True
    )
    parent = f"projects/{PROJECT}/locations/europe-west1"
    operation = client.ok("POST", f"{REGISTRY}/{parent}/repositories?repositoryId=r", {"format": "DOCKER"})
    made = client.done(operation, REGISTRY)["response"]
    assert made["name"] == f"{parent}/repositories/r"
    uri = client.ok("GET", f"{REGISTRY}/{made['name']}")["registryUri"]
    assert uri == "europe-west1-docker.pkg.dev/example.com/my-project/r"


@pytest.mark.parametrize(
    ("host", "project", "code", "labels"),
    [
        ("my-project.example.com.ew.r.appspot.com", PROJECT, "ew", ()),
        ("v1-dot-s-dot-my-project.example.com.ew.r.appspot.com", PROJECT, "ew", ("v1", "s")),
        ("my-project.example.com.appspot.com", PROJECT, "", ()),
        ("my-project.a.example.com.appspot.com", "a.example.com:my-project", "", ()),
        ("s-dot-p.ew.r.appspot.com", "p", "ew", ("s",)),
    ],
)
def test_hosts(host, project, code, labels):
    assert Address.parse(host) == Address(project, code, labels)


@pytest.mark.parametrize(
    ("member", "valid"),
    [
        (f"projectEditor:{PROJECT}", True),
        ("projectOwner:my-project", True),
        (f"user:example.com:{DEPLOYER}", False),
        (f"serviceAccount:x@{PROJECT}.iam.gserviceaccount.com", False),
    ],
)
def test_members(member, valid):
    assert bool(MEMBER.fullmatch(member)) == valid


@pytest.mark.parametrize("text", ["my-project", PROJECT, "a.example.com:my-project"])
def test_ids_that_can_be(text):
    assert parse_project(text) == text


@pytest.mark.parametrize(
    "text", ["", "short", "Project-1", "example:my-project", "example.com:x", "a.b:c.d:my-project"]
)
def test_ids_that_cannot_be(text):
    with pytest.raises(ConfigError, match="is not the id of a project"):
        parse_project(text)
