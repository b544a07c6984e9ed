# SPDX-License-Identifier: Apache-2.0
"""Unmodified clients against a running sandbox: repositories and images by google-cloud-artifact-registry over REST,
the source by google-cloud-storage, the build by google-auth's session."""

import io
import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import google.auth
import pytest
from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud import artifactregistry_v1, storage

BUILD = "https://cloudbuild.googleapis.com/v1"
APIS = ["artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "iam.googleapis.com"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a client of a sandbox with the APIs enabled."""
    command = [str(Path(sys.executable).parent / "gcp-sandbox"), "--state", str(tmp_path_factory.mktemp("s") / "state")]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "up"], **quiet)
    lines = subprocess.run([*command, "env"], check=True, capture_output=True, text=True).stdout.splitlines()
    before = dict(os.environ)
    os.environ.update(shlex.split(line)[-1].split("=", 1) for line in lines if line.startswith("export "))
    yield os.environ
    os.environ.clear()
    os.environ.update(before)
    subprocess.run([*command, "down"], **quiet)


@pytest.fixture(scope="module")
def session(environment):
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = AuthorizedSession(credentials)
    project = environment["GOOGLE_CLOUD_PROJECT"]
    usage = "https://serviceusage.googleapis.com/v1"
    finished(
        session, usage, session.post(f"{usage}/projects/{project}/services:batchEnable", json={"serviceIds": APIS})
    )
    return session


@pytest.fixture(scope="module")
def registry(session):
    return artifactregistry_v1.ArtifactRegistryClient(transport="rest")


@pytest.fixture(scope="module")
def parent(environment):
    return f"projects/{environment['GOOGLE_CLOUD_PROJECT']}/locations/europe-west1"


def finished(session, base, answer, seconds=60):
    """The operation once it is done."""
    assert answer.status_code == 200, answer.text
    operation = answer.json()
    deadline = time.monotonic() + seconds
    while not operation.get("done"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        operation = session.get(f"{base}/{operation['name']}").json()
    return operation


def test_repositories(registry, parent):
    made = registry.create_repository(
        parent=parent, repository_id="one", repository={"format_": "DOCKER", "labels": {"a": "b"}}
    ).result(timeout=30)
    assert made.format_ == artifactregistry_v1.Repository.Format.DOCKER
    with pytest.raises(exceptions.Conflict):
        registry.create_repository(parent=parent, repository_id="one", repository={"format_": "DOCKER"})
    made.description = "images"
    policy = artifactregistry_v1.CleanupPolicy(
        id="keep",
        action=artifactregistry_v1.CleanupPolicy.Action.KEEP,
        most_recent_versions=artifactregistry_v1.CleanupPolicyMostRecentVersions(keep_count=3),
    )
    made.cleanup_policies["keep"] = policy
    registry.update_repository(repository=made, update_mask={"paths": ["description", "cleanup_policies"]})
    got = registry.get_repository(name=made.name)
    assert got.description == "images" and got.cleanup_policies["keep"].most_recent_versions.keep_count == 3
    assert [r.name for r in registry.list_repositories(parent=parent)] == [made.name]
    registry.delete_repository(name=made.name).result(timeout=30)
    with pytest.raises(exceptions.NotFound):
        registry.get_repository(name=made.name)


def test_a_policy(registry, parent):
    name = (
        registry.create_repository(parent=parent, repository_id="two", repository={"format_": "DOCKER"})
        .result(timeout=30)
        .name
    )
    policy = registry.get_iam_policy(request={"resource": name})
    policy.bindings.add(role="roles/artifactregistry.reader", members=["user:alice@example.com"])
    registry.set_iam_policy(request={"resource": name, "policy": policy})
    (binding,) = registry.get_iam_policy(request={"resource": name}).bindings
    assert binding.role == "roles/artifactregistry.reader"


def test_an_image_is_built_and_listed(environment, session, registry, parent):
    project = environment["GOOGLE_CLOUD_PROJECT"]
    made = registry.create_repository(parent=parent, repository_id="built", repository={"format_": "DOCKER"})
    repository = made.result(timeout=30).name
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = session.post(accounts, json={"accountId": "builder-1"}).json()["email"]

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        text = b"FROM python:3-slim\nENV NAME=me\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    bucket = storage.Client().bucket(f"{project}-builds")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.create(location="europe-west1")
    bucket.blob("source.tar.gz").upload_from_string(buffer.getvalue(), "application/gzip")

    image = f"europe-west1-docker.pkg.dev/{project}/built/app:v1"
    build = {
        "source": {"storageSource": {"bucket": bucket.name, "object": "source.tar.gz"}},
        "steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["build", "-t", image, "."]}],
        "images": [image],
        "serviceAccount": f"projects/{project}/serviceAccounts/{email}",
        "logsBucket": f"gs://{bucket.name}/logs",
        "options": {"logging": "GCS_ONLY"},
    }
    url = f"{BUILD}/{parent}/builds"
    refused = session.post(url, json=build)
    assert refused.status_code == 400 and "does not have access to it" in refused.json()["error"]["message"]

    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectAdmin", "members": {f"serviceAccount:{email}"}})
    bucket.set_iam_policy(policy)
    failed = finished(session, BUILD, session.post(url, json=build))["metadata"]["build"]
    assert failed["failureInfo"]["type"] == "PUSH_NOT_AUTHORIZED"

    policy = registry.get_iam_policy(request={"resource": repository})
    policy.bindings.add(role="roles/artifactregistry.writer", members=[f"serviceAccount:{email}"])
    registry.set_iam_policy(request={"resource": repository, "policy": policy})
    built = finished(session, BUILD, session.post(url, json=build))["response"]
    assert built["status"] == "SUCCESS"
    log = bucket.blob(f"logs/log-{built['id']}.txt").download_as_text()
    assert re.search(r"Step 2/2 : ENV NAME=me[\s\S]*DONE", log)

    (listed,) = registry.list_docker_images(parent=repository)
    assert listed.uri == f"{image.removesuffix(':v1')}@{built['results']['images'][0]['digest']}"
    assert list(listed.tags) == ["v1"]
    (package,) = registry.list_packages(parent=repository)
    (tag,) = registry.list_tags(request={"parent": package.name})
    assert tag.version.endswith(built["results"]["images"][0]["digest"])
    (version,) = registry.list_versions(parent=package.name)
    registry.delete_tag(request={"name": tag.name})
    registry.delete_version(name=version.name).result(timeout=30)
    assert list(registry.list_docker_images(parent=repository)) == []
