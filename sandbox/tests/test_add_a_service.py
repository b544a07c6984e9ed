# SPDX-License-Identifier: Apache-2.0
"""A service is one module and one entry in a table: the tests add the module of docs/sandbox.md, "Add a service"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.services import SERVICES
from gcp_sandbox.testing import Client

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"
API = "https://certificatemanager.googleapis.com/v1"
MAPS = "projects/mlflow-sandbox/locations/global/certificateMaps"
BOB = "bob@example.com"


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """The Python blocks of the section: the module, its entry in the table, a test."""
    section = DOCUMENT.read_text().partition("### Add a service\n")[2].partition("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def sandbox(settings, blocks, tmp_path, monkeypatch) -> Iterator[Sandbox]:
    """A sandbox with one more service."""
    module, entry = blocks[:2]
    (tmp_path / "documented_service.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    name, path = re.fullmatch(r'"(\w+)": "([\w.:]+)",\n', entry).groups()
    assert path.partition(":")[0] == f"gcp_sandbox.services.{name}"
    sandbox = Sandbox(settings, {**SERVICES, name: f"documented_service:{path.partition(':')[2]}"})
    sandbox.start()
    assert sandbox.broken == {}
    yield sandbox
    sandbox.stop()


@pytest.fixture
def enabled(client) -> None:
    """The API is enabled in the default project."""
    url = "https://serviceusage.googleapis.com/v1"
    operation = client.ok(
        "POST", f"{url}/projects/mlflow-sandbox/services/certificatemanager.googleapis.com:enable", {}
    )
    client.done(operation, url)


def test_the_table_without_the_entry_does_not_serve_it(settings):
    sandbox = Sandbox(settings)
    sandbox.start()
    assert Client(sandbox).get(f"{API}/{MAPS}").status == 501
    sandbox.stop()


def test_a_module_that_cannot_be_loaded_is_named(settings):
    sandbox = Sandbox(settings, {**SERVICES, "certificatemanager": "gcp_sandbox.services.nowhere:Nothing"})
    sandbox.start()
    answer = Client(sandbox).get(f"{API}/{MAPS}")
    assert answer.status == 501 and "gcp_sandbox.services.nowhere" in answer.json["error"]["message"]
    assert Client(sandbox).get("https://serviceusage.googleapis.com/v1/projects/mlflow-sandbox/services").status == 200
    sandbox.stop()


def test_its_api_must_be_enabled(client):
    assert client.get(f"{API}/{MAPS}").reason == "SERVICE_DISABLED"


def test_it_serves_what_it_declares(client, enabled):
    operation = client.ok("POST", f"{API}/{MAPS}?certificateMapId=m1", {"labels": {"a": "b"}})
    assert client.done(operation, API)["response"]["labels"] == {"a": "b"}
    changed = client.ok("PATCH", f"{API}/{MAPS}/m1?updateMask=description", {"description": "in use"})
    assert changed["description"] == "in use"  # at once: only creation has a duration
    assert client.delete(f"{API}/{MAPS}/m1").status == 400
    client.ok("PATCH", f"{API}/{MAPS}/m1?updateMask=description", {})
    assert client.ok("DELETE", f"{API}/{MAPS}/m1") == {}
    assert client.ok("GET", f"{API}/{MAPS}") == {}


def test_a_body_that_does_not_fit_its_document_is_refused(client, enabled):
    answer = client.post(f"{API}/{MAPS}?certificateMapId=m1", {"nonsense": 1})
    assert answer.status == 400 and "nonsense" in answer.json["error"]["message"]


def test_its_methods_and_jobs_run(client, enabled):
    location = MAPS.rpartition("/")[0]
    assert client.ok("GET", f"{API}/{location}")["locationId"] == "global"
    done = client.done(client.ok("DELETE", f"{API}/{location}/certificateIssuanceConfigs/c"), API)
    assert done["response"] == {}


def test_its_roles_can_be_granted(client, enabled):
    url = f"{API}/{MAPS}"
    assert client.get(url, as_=BOB).status == 403
    project = "https://cloudresourcemanager.googleapis.com/v3/projects/mlflow-sandbox"
    policy = client.ok("POST", f"{project}:getIamPolicy", {})
    policy["bindings"].append({"role": "roles/certificatemanager.viewer", "members": [f"user:{BOB}"]})
    client.ok("POST", f"{project}:setIamPolicy", {"policy": policy})
    assert client.get(url, as_=BOB).status == 200
    assert client.post(f"{url}?certificateMapId=m1", {}, as_=BOB).status == 403


def test_the_documented_test_passes(blocks, sandbox, client):
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.enable(project, ["secretmanager.googleapis.com"], at_once=True)
    names: dict = {}
    exec(blocks[2], names)
    names["test_a_secret_is_created_once"](client)
