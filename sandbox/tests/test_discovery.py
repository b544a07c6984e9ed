# SPDX-License-Identifier: Apache-2.0
"""Which request is which method: every method of every document that the sandbox serves is found again."""

import re

import pytest
from gcp_sandbox.gateway.discovery import Document, known_apis

DOCUMENTS = [
    ("artifactregistry", "v1"),
    ("cloudbuild", "v1"),
    ("cloudresourcemanager", "v1"),
    ("cloudresourcemanager", "v3"),
    ("iam", "v1"),
    ("iamcredentials", "v1"),
    ("iap", "v1"),
    ("run", "v1"),
    ("run", "v2"),
    ("secretmanager", "v1"),
    ("serviceusage", "v1"),
    ("sqladmin", "v1"),
    ("sqladmin", "v1beta4"),
    ("storage", "v1"),
]


def _example(pattern: str) -> str:
    """A text that a path parameter's pattern matches."""
    text = pattern.removeprefix("^").removesuffix("$")
    return text.replace("[^/]+", "x1").replace(".*", "y/z") if text else "x1"


def _methods(node):
    yield from node.get("methods", {}).values()
    for child in node.get("resources", {}).values():
        yield from _methods(child)


@pytest.mark.parametrize("name,version", DOCUMENTS)
def test_every_method_is_routed_to_itself(name, version):
    document = Document(name, version)
    wrong = []
    for raw in _methods(document._raw):
        path = "/" + document._raw["servicePath"] + raw["path"]
        url = path
        for reserved, parameter in re.findall(r"\{(\+?)(\w+)\}", path):
            example = _example(raw["parameters"][parameter].get("pattern", "")) if reserved else "x1"
            url = url.replace(f"{{{reserved}{parameter}}}", example)
        found = document.match(raw["httpMethod"], url)
        # Some documents list one path under two ids; either will do.
        if found is None or (found.method.full_id != raw["id"] and found.method.response != raw["response"]["$ref"]):
            wrong.append((raw["id"], url, found and found.method.full_id))
    assert wrong == []


def test_a_custom_verb_wins_over_a_plain_get():
    document = Document("secretmanager", "v1")
    path = "/v1/projects/p/secrets/s"
    assert document.match("GET", path).method.id == "projects.secrets.get"
    assert document.match("GET", f"{path}:getIamPolicy").method.id == "projects.secrets.getIamPolicy"
    assert document.match("GET", f"{path}/versions/latest:access").params == {
        "name": "projects/p/secrets/s/versions/latest"
    }
    assert document.match("PUT", path) is None


def test_encoded_slashes_stay_inside_one_parameter():
    storage = Document("storage", "v1")
    found = storage.match("GET", "/storage/v1/b/bucket/o/a%2Fb%20c")
    assert found.method.id == "objects.get"
    assert found.params == {"bucket": "bucket", "object": "a/b c"}
    assert storage.match("POST", "/upload/storage/v1/b/bucket/o").kind == "upload"
    assert storage.match("GET", "/download/storage/v1/b/bucket/o/x").kind == "download"


def test_hosts_are_global_regional_and_mtls():
    hosts = Document("run", "v2").hosts()
    assert {"run.googleapis.com", "run.mtls.googleapis.com", "*-run.googleapis.com"} <= hosts


def test_apis_without_a_module_are_known_by_name():
    assert {"compute", "dns", "container"} <= known_apis()


def test_a_document_that_does_not_exist_is_named():
    with pytest.raises(LookupError, match=r"run\.v9"):
        Document("run", "v9")
