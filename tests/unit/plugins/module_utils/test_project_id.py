# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test what follows from the id of a project with a domain, in each function and in a whole deployment."""

from __future__ import annotations

import dataclasses
import re

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy, _project_id, _snapshot
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.registry import image_names
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d

PLAIN, DOMAIN = "my-project", "example.com:my-project"
REGISTRY = "europe-west1-docker.pkg.dev"


@pytest.mark.parametrize(
    ("function", "plain", "domain"),
    [
        (_project_id.dotted, "my-project", "my-project.example.com"),
        (
            lambda project: _project_id.account_email("server", project),
            "server@my-project.iam.gserviceaccount.com",
            "server@my-project.example.com.iam.gserviceaccount.com",
        ),
        (
            _project_id.app_engine_account,
            "my-project@appspot.gserviceaccount.com",
            "my-project.example.com@appspot.gserviceaccount.com",
        ),
        (_project_id.app_engine_host, "my-project.appspot.com", "my-project.example.com.appspot.com"),
        (_project_id.bucket_prefix, "my-project", "example_com_my-project"),
        (_project_id.in_image, "my-project", "example.com/my-project"),
        (
            lambda project: _project_id.connection_name(project, "europe-west1", "db"),
            "my-project:europe-west1:db",
            "example.com:my-project:europe-west1:db",
        ),
    ],
)
def test_values(function, plain, domain):
    assert (function(PLAIN), function(DOMAIN)) == (plain, domain)


@pytest.mark.parametrize("project", [PLAIN, DOMAIN, "a.b.example.com:my-project"])
def test_a_part_of_an_image_is_an_id_again(project):
    assert _project_id.of_image(_project_id.in_image(project)) == project
    names = image_names(f"{REGISTRY}/{_project_id.in_image(project)}/r/folder/image:1")
    assert (names["project"], names["repository"], names["package"]) == (project, "r", "folder/image")


def test_no_bucket_has_google_in_its_name():
    assert _project_id.bucket_prefix("google.com:my-project") == "elgoog_com_my-project"


@pytest.mark.parametrize(
    ("given", "image"),
    [
        (f"{REGISTRY}/{DOMAIN}/r/image:1", f"{REGISTRY}/example.com/my-project/r/image:1"),
        (f"{REGISTRY}/{DOMAIN}/r/image", f"{REGISTRY}/example.com/my-project/r/image"),
        (f"{REGISTRY}/example.com/my-project/r/image:1", f"{REGISTRY}/example.com/my-project/r/image:1"),
        (f"{REGISTRY}/p/r/image:1", f"{REGISTRY}/p/r/image:1"),
        ("docker.io/library/python:3", "docker.io/library/python:3"),
    ],
)
def test_images_with_a_colon_in_the_project(given, image):
    assert _project_id.image(given) == image


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/v3/projects/p:setIamPolicy", "/v3/projects/p"),
        ("/v3/projects/example.com:my-project", "/v3/projects/example.com:my-project"),
        ("/v3/projects/example.com:my-project:setIamPolicy", "/v3/projects/example.com:my-project"),
        ("/v1/apps/example.com:my-project:repair", "/v1/apps/example.com:my-project"),
        ("/v1/projects/example.com:my-project/secrets/s:addVersion", "/v1/projects/example.com:my-project/secrets/s"),
        ("/v1/projects/example.com:my-project/secrets", "/v1/projects/example.com:my-project/secrets"),
        ("/v1/a.b:list", "/v1/a.b"),
    ],
)
def test_paths_without_a_custom_method(path, resource):
    assert _project_id.without_method(path) == resource
    assert _snapshot.place(f"https://x.googleapis.com{path}") == f"x.googleapis.com{resource}"


def test_policies_of_the_project_and_of_what_is_in_it():
    for service, inside in (
        ("cloudresourcemanager", ""),
        ("secretmanager", "/secrets/s"),
        ("artifactregistry", "/locations/europe-west1/repositories/r"),
        ("run", "/locations/europe-west1/services/s"),
        ("iam", f"/serviceAccounts/{_project_id.account_email('server', DOMAIN)}"),
    ):
        address = _policy.PolicyAddress(f"//{service}.googleapis.com/projects/{DOMAIN}{inside}")
        assert f"/projects/{DOMAIN}{inside}" in address._url


def _texts(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_every_text_of_a_deployment_in_a_project_of_a_domain(target):
    variables = {"mlflow_target": target, "gcp_project": DOMAIN, "appengine_mlflow_guide_accounts": True}
    texts = set(_texts(dataclasses.asdict(d.deployed(variables, found=d.report()))))
    wrong = [text for text in texts if re.search(r"@example\.com:|@[^ ]*:my-project\.|pkg\.dev/example\.com:", text)]
    assert wrong == []
    ours = {text.rpartition("serviceAccount:")[2] for text in texts if text.endswith(".iam.gserviceaccount.com")}
    accounts = {text for text in ours if text.startswith("demo-dev-")}
    assert accounts, "the model names no account"
    assert all(text.endswith("@my-project.example.com.iam.gserviceaccount.com") for text in accounts)
    assert any(text.startswith(f"{REGISTRY}/example.com/my-project/") for text in texts)
    assert any("example_com_my-project-demo-dev-artifacts" in text for text in texts)
    assert f"{DOMAIN}:europe-west1:demo-dev" in texts
    default = "serviceAccount:my-project.example.com@appspot.gserviceaccount.com"
    host = "my-project.example.com.appspot.com"
    assert [item in texts for item in (default, f"https://{host}")] == [target == "appengine"] * 2
