# SPDX-License-Identifier: Apache-2.0
"""Test unmodified Terraform with Google's provider: it creates the guides' resources and removes them from state.

The development environment contains neither. Terraform must be on the PATH, and $TERRAFORM_PLUGIN_DIR must be a folder
with the provider, created by `terraform providers mirror FOLDER` in a folder of terraform/. Tested with the releases
4.85.0 and 7.45.0 of the provider.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import DEPLOYER, MANAGER, STORAGE, Cloud
from ansible_collections.mlplatform.gcp.tests.integration.target import _guides
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, IMAGES

TERRAFORM = shutil.which("terraform")
PLUGINS = os.environ.get("TERRAFORM_PLUGIN_DIR", "")
pytestmark = [
    pytest.mark.skipif(not TERRAFORM, reason="Terraform is not installed on this machine"),
    pytest.mark.skipif(not PLUGINS, reason="TERRAFORM_PLUGIN_DIR is not set to a folder with Google's provider"),
]
HERE = pathlib.Path(__file__).parent / "terraform"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello:latest"
APIS = "cloudbilling cloudresourcemanager iam iamcredentials secretmanager sqladmin storage"


class Terraform:
    """A configuration that is applied to one project."""

    def __init__(self, sandbox, folder: pathlib.Path, name: str, **variables: str) -> None:
        self.folder = folder
        shutil.copy(HERE / name / "main.tf", folder)
        self.env = {**os.environ, **sandbox.env(), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        self.env |= {f"TF_VAR_{name}": value for name, value in variables.items()}
        self.run("init", "-input=false", f"-plugin-dir={PLUGINS}")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [TERRAFORM, *arguments, "-no-color"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"terraform {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def apply(self) -> None:
        self.run("apply", "-input=false", "-auto-approve")

    def changes(self) -> dict[str, list[str]]:
        """Create a plan and return the actions of each resource that differs, by address."""
        self.run("plan", "-input=false", "-out=plan")
        plan = json.loads(self.run("show", "-json", "plan"))
        changed = {item["address"]: item["change"]["actions"] for item in plan.get("resource_changes", [])}
        return {address: actions for address, actions in changed.items() if actions not in (["no-op"], ["read"])}

    def remove_all_from_state(self) -> None:
        addresses = [line for line in self.run("state", "list").split() if not line.startswith("data.")]
        self.run("state", "rm", *addresses)


@pytest.fixture(scope="module")
def make(sandbox, make_project, tmp_path_factory):
    """Return a function that creates a project and enables APIs."""

    def make(name: str, *apis: str) -> Cloud:
        cloud = Cloud(sandbox, make_project(), tmp_path_factory.mktemp(name))
        cloud.enable(*APIS.split(), *apis)
        return cloud

    return make


@pytest.fixture(scope="module")
def cloudrun(make, sandbox):
    """Create all resources of the Cloud Run guide; return the project and Terraform."""
    cloud = make("cloudrun", "artifactregistry", "run")
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/storage.admin", DEPLOYER)
    variables = {"project_name": cloud.project, "region": "europe-west1", "image": HELLO}
    terraform = Terraform(sandbox, cloud.folder, "cloudrun", db_password=_guides.PASSWORD, **variables)
    terraform.apply()
    return cloud, terraform


@pytest.fixture(scope="module")
def appengine(make, sandbox):
    """Create all resources of the App Engine guide; return the project and Terraform."""
    cloud = make("appengine", "appengine", "appengineflex", "iap")
    variables = {"project": cloud.project, "docker_image": HELLO, "db_password": _guides.ALPHANUMERIC}
    for name in _guides.OAUTH_CLIENT:
        secret = cloud.make_secret(name, f"{name}-of-the-guide")
        variables[f"secret_for_{name.replace('-', '_')}"] = secret
    terraform = Terraform(sandbox, cloud.folder, "appengine", **variables)
    terraform.apply()
    return cloud, terraform


@pytest.mark.parametrize("guide", ["cloudrun", "appengine"])
def test_a_second_plan_has_no_changes(guide, request):
    _cloud, terraform = request.getfixturevalue(guide)
    assert terraform.changes() == {}


def test_owners_lose_their_rights_on_the_bucket_of_the_cloud_run_guide(cloudrun):
    """docs/adopting.md warns of this: Terraform replaces the whole policy."""
    cloud, _terraform = cloudrun
    bindings = cloud.bindings(f"{STORAGE}/b/{cloud.project}-mlflow-prod-europe-west1")
    assert set(bindings) == {"roles/storage.objectCreator", "roles/storage.objectViewer"}


@pytest.mark.parametrize(
    ("guide", "heading", "differs"),
    [
        ("cloudrun", "The Cloud Run guide", {"google_cloud_run_v2_service.mlflow_on_cloudrun": ["update"]}),
        # its version still exists, and no resource of Terraform manages the traffic
        ("appengine", "The App Engine guide", {}),
    ],
)
def test_terraform_finds_no_change_after_the_collection_has_adopted_the_resources(
    guide, heading, differs, request, sandbox, playbook, tmp_path
):
    cloud, terraform = request.getfixturevalue(guide)
    variables = _guides.documented(heading, cloud.project)
    variables |= {"gcp_project": cloud.project, "gcp_quota_project": cloud.project}
    variables |= {"mlflow_image_context": str(IMAGES / "serving")}
    playbook(sandbox, tmp_path, DEPLOY, variables, host="taken").check()
    assert terraform.changes() == differs


@pytest.mark.parametrize("guide", ["cloudrun", "appengine"])
def test_terraform_does_not_destroy_resources_removed_from_its_state(guide, request):
    """The last test: docs/adopting.md recommends it, so that only one tool manages the resources."""
    cloud, terraform = request.getfixturevalue(guide)
    kept = set(re.findall(r"^[\w.-]+", terraform.run("state", "list"), re.M))
    assert len(kept) > 10
    terraform.remove_all_from_state()
    assert "0 destroyed" in terraform.run("destroy", "-input=false", "-auto-approve")
    buckets = cloud.get(f"{STORAGE}/b", project=cloud.project)["items"]
    assert any("mlflow" in bucket["name"] for bucket in buckets)
