# SPDX-License-Identifier: Apache-2.0
"""Artifact Registry: repositories by the gateway, images by Google's own client."""

from __future__ import annotations

import pytest

API = "https://artifactregistry.googleapis.com/v1"
PARENT = "projects/mlflow-sandbox/locations/europe-west1"


@pytest.fixture(autouse=True)
def enabled(sandbox):
    project = sandbox.projects.get("mlflow-sandbox")
    sandbox.enablement.enable(project, ["artifactregistry.googleapis.com"], at_once=True)


@pytest.fixture
def make(client):
    """Create a repository and wait for it."""

    def create(id="repo", **body):
        op = client.ok("POST", f"{API}/{PARENT}/repositories?repositoryId={id}", {"format": "DOCKER", **body})
        return client.done(op, API)["response"]

    return create


@pytest.fixture
def push(sandbox, make, tmp_path):
    """Build a tiny image and push it under a tag."""
    make()
    (tmp_path / "Dockerfile").write_text("FROM python:3\nARG NAME\nLABEL name=$NAME\n")

    def do(image="europe-west1-docker.pkg.dev/mlflow-sandbox/repo/app:v1", name="a"):
        built = sandbox.images.build(tmp_path, build_args={"NAME": name})
        sandbox.images.tag(image, built.digest)
        return built.digest

    return do


def test_create_get_list_patch_delete(client, make):
    name = f"{PARENT}/repositories/repo"
    made = make(labels={"managed-by": "mlplatform-gcp"})
    assert made["name"] == name and made["mode"] == "STANDARD_REPOSITORY"
    assert client.post(f"{API}/{PARENT}/repositories?repositoryId=repo", {"format": "DOCKER"}).status == 409

    got = client.ok("GET", f"{API}/{name}")
    assert got["registryUri"] == "europe-west1-docker.pkg.dev/mlflow-sandbox/repo"
    assert got["vulnerabilityScanningConfig"]["enablementState"] == "SCANNING_DISABLED"
    assert [r["name"] for r in client.ok("GET", f"{API}/{PARENT}/repositories")["repositories"]] == [name]
    everywhere = PARENT.replace("europe-west1", "-")
    assert len(client.ok("GET", f"{API}/{everywhere}/repositories")["repositories"]) == 1

    policy = {"id": "keep", "action": "KEEP", "mostRecentVersions": {"keepCount": 5}}
    body = {"description": "images", "cleanupPolicies": {"keep": policy}, "labels": {}}
    patched = client.ok("PATCH", f"{API}/{name}?updateMask=description,cleanup_policies", body)
    assert patched["description"] == "images" and patched["cleanupPolicies"] == {"keep": policy}
    assert patched["labels"] == {"managed-by": "mlplatform-gcp"}  # not in the mask

    op = client.done(client.ok("DELETE", f"{API}/{name}"), API)
    assert op["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert client.get(f"{API}/{name}").status == 404


def test_virtual_repositories_are_not_scanned(client, make):
    name = make()["name"]
    policy = {"id": "first", "repository": name, "priority": 1}
    body = {
        "format": "DOCKER",
        "mode": "VIRTUAL_REPOSITORY",
        "virtualRepositoryConfig": {"upstreamPolicies": [policy]},
    }
    client.done(client.ok("POST", f"{API}/{PARENT}/repositories?repositoryId=virtual", body), API)
    scanning = client.ok("GET", f"{API}/{PARENT}/repositories/virtual")["vulnerabilityScanningConfig"]
    assert scanning["enablementState"] == "SCANNING_UNSUPPORTED"


@pytest.mark.parametrize(
    "query,body,status",
    [
        ("repositoryId=Repo", {"format": "DOCKER"}, 400),
        ("repositoryId=repo", {}, 400),
        ("", {"format": "DOCKER"}, 400),
        ("repositoryId=repo", {"format": "DOCKER", "labels": {"Bad Key": "x"}}, 400),
        ("repositoryId=repo", {"format": "DOCKER", "mode": "REMOTE_REPOSITORY"}, 400),
        ("repositoryId=repo", {"format": "DOCKER", "cleanupPolicies": {"a": {"action": "DELETE"}}}, 400),
        ("repositoryId=repo", {"format": "DOCKER", "nonsense": 1}, 400),
    ],
)
def test_bad_repositories(client, query, body, status):
    assert client.post(f"{API}/{PARENT}/repositories?{query}", body).status == status


def test_a_location_that_does_not_exist(client):
    answer = client.post(f"{API}/projects/mlflow-sandbox/locations/atlantis/repositories?repositoryId=r", {})
    assert answer.status == 403 and "atlantis" in answer.json["error"]["message"]


def test_immutable_fields(client, make):
    make()
    answer = client.patch(f"{API}/{PARENT}/repositories/repo?updateMask=format", {"format": "NPM"})
    assert answer.status == 400 and "format" in answer.json["error"]["message"]


def test_who_may(client, make):
    make()
    name = f"{PARENT}/repositories/repo"
    denied = client.get(f"{API}/{name}", as_="bob@example.com")
    assert denied.status == 403
    assert "artifactregistry.repositories.get" in denied.json["error"]["message"]
    policy = {"bindings": [{"role": "roles/artifactregistry.reader", "members": ["user:bob@example.com"]}]}
    client.ok("POST", f"{API}/{name}:setIamPolicy", {"policy": policy})
    assert client.get(f"{API}/{name}", as_="bob@example.com").status == 200
    assert client.delete(f"{API}/{name}", as_="bob@example.com").status == 403


def test_a_policy_goes_with_its_repository(client, make):
    make()
    name = f"{PARENT}/repositories/repo"
    policy = {"bindings": [{"role": "roles/artifactregistry.reader", "members": ["user:bob@example.com"]}]}
    client.ok("POST", f"{API}/{name}:setIamPolicy", {"policy": policy})
    client.done(client.ok("DELETE", f"{API}/{name}"), API)
    make()
    assert "bindings" not in client.ok("GET", f"{API}/{name}:getIamPolicy")


def test_images(client, push):
    digest = push()
    repository = f"{API}/{PARENT}/repositories/repo"
    (image,) = client.ok("GET", f"{repository}/dockerImages")["dockerImages"]
    assert image["uri"] == f"europe-west1-docker.pkg.dev/mlflow-sandbox/repo/app@{digest}"
    assert image["tags"] == ["v1"]
    assert client.ok("GET", f"{API}/{image['name']}") == image
    (package,) = client.ok("GET", f"{repository}/packages")["packages"]
    (version,) = client.ok("GET", f"{API}/{package['name']}/versions?view=FULL")["versions"]
    assert version["name"].endswith(f"/versions/{digest}")
    (tag,) = client.ok("GET", f"{API}/{package['name']}/tags")["tags"]
    assert tag["version"] == version["name"]
    assert version["relatedTags"] == [tag]


def test_a_tag_and_a_version_are_read_with_their_permissions(client, push):
    digest = push()
    repository = f"{API}/{PARENT}/repositories/repo"
    package, bob = f"{repository}/packages/app", "bob@example.com"
    denied = {"tags/v1": "artifactregistry.tags.get", f"versions/{digest}": "artifactregistry.versions.get"}
    for path, permission in denied.items():
        answer = client.get(f"{package}/{path}", as_=bob)
        assert answer.status == 403 and permission in answer.json["error"]["message"]
    policy = {"bindings": [{"role": "roles/artifactregistry.reader", "members": [f"user:{bob}"]}]}
    client.ok("POST", f"{repository}:setIamPolicy", {"policy": policy})
    assert [client.get(f"{package}/{path}", as_=bob).status for path in denied] == [200, 200]
    for missing in ("tags/v2", f"versions/sha256:{'0' * 64}"):
        assert client.get(f"{package}/{missing}", as_=bob).status == 404


def test_tags_move_unless_the_repository_says_otherwise(client, push):
    old = push()
    new = push(image="europe-west1-docker.pkg.dev/mlflow-sandbox/repo/app:v2", name="b")
    package = f"{API}/{PARENT}/repositories/repo/packages/app"
    versions = f"{PARENT}/repositories/repo/packages/app/versions"
    moved = client.ok("PATCH", f"{package}/tags/v1?updateMask=version", {"version": f"{versions}/{new}"})
    assert moved["version"].endswith(new)
    client.ok(
        "PATCH", f"{API}/{PARENT}/repositories/repo?updateMask=dockerConfig", {"dockerConfig": {"immutableTags": True}}
    )
    answer = client.patch(f"{package}/tags/v1?updateMask=version", {"version": f"{versions}/{old}"})
    assert answer.status == 400 and "immutab" in answer.json["error"]["message"]
    assert client.delete(f"{package}/tags/v1").status == 400


def test_deleting_versions(client, push):
    digest = push()
    package = f"{API}/{PARENT}/repositories/repo/packages/app"
    refused = client.delete(f"{package}/versions/{digest}")
    assert refused.status == 400 and "v1" in refused.json["error"]["message"]
    client.done(client.ok("DELETE", f"{package}/versions/{digest}?force=true"), API)
    assert client.get(package).status == 404
    assert client.ok("GET", f"{API}/{PARENT}/repositories/repo/dockerImages") == {}


def test_locations(client):
    found = client.ok("GET", f"{API}/projects/mlflow-sandbox/locations?pageSize=500")["locations"]
    assert {"europe-west1", "us"} <= {location["locationId"] for location in found}


def test_dockers_protocol_says_that_it_is_missing(client):
    answer = client.get("https://europe-west1-docker.pkg.dev/v2/", as_=None)
    assert answer.status == 501 and "Cloud Build" in answer.json["errors"][0]["message"]
