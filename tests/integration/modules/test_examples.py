# SPDX-License-Identifier: Apache-2.0
"""Run the examples of the modules' documentation, unchanged, in a project with the name that they use."""

from __future__ import annotations

import importlib
import json
import pathlib

import pytest
import yaml
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import (
    APP_ENGINE,
    MANAGER,
    REGISTRY,
    STORAGE,
    Cloud,
)

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Order of the examples: resources that others need come first, examples that delete a resource last. `MODULE:NUMBER`
# is one example of a module; without a number it is all of them.
ORDER = [
    "project_services project_info preflight_info service_account service_account_info service_identity secret",
    "secret_info storage_bucket:0 storage_bucket_info sql_instance:0 sql_instance:1",
    "sql_database sql_user sql_instance_info",
    "artifact_repository:0 artifact_repository_info image_build cloud_run_service:0 cloud_run_service_info",
    "app_engine_application:0 app_engine_application:1 app_engine_application_info app_engine_version:0",
    "app_engine_service:0 app_engine_version:1 app_engine_version_info app_engine_service:1 app_engine_service_info",
    "cloud_run_job iam_bindings iam_bindings_info iam_policy_info iap_access iap_settings deployment",
]
LAST = "storage_bucket:1 sql_instance:2 cloud_run_service:1 artifact_repository:1"
LAST += " app_engine_version:2 app_engine_service:2 app_engine_application:2"
# It needs a server of MLflow. The tests in target/ run the module.
ELSEWHERE = {"mlflow_server_info"}
# Values that depend on the sandbox.
REPLACEMENTS = {"123456789012": "{number}", "auditor@example.com": "alice@example.com"}
APP = """
import http.server, os, sys
if "migrate" in sys.argv:
    sys.exit()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""


def examples(order):
    """Return the tasks of the examples; tasks that only read the result of an example belong to it."""
    found = []
    for entry in order.split():
        name, _colon, number = entry.partition(":")
        text = importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{name}").EXAMPLES
        groups = []
        for task in yaml.safe_load(text):
            if any(key.startswith("mlplatform.gcp.") for key in task):
                groups.append([])
            groups[-1].append(task)
        found += groups[int(number)] if number else [task for group in groups for task in group]
    return found


@pytest.fixture(scope="module")
def cloud(another_sandbox, tmp_path_factory):
    """Create the resources that the examples need."""
    sandbox = another_sandbox("--project", "my-project")
    folder = tmp_path_factory.mktemp("examples")
    cloud = Cloud(sandbox, "my-project", folder)
    apis = "artifactregistry cloudbuild cloudresourcemanager iam iamcredentials iap run secretmanager sqladmin"
    cloud.enable("appengine", "appengineflex", *apis.split())
    (folder / "image").mkdir()
    (folder / "image" / "app.py").write_text(APP)
    text = 'FROM python:3-slim\nCOPY app.py /app.py\nENTRYPOINT ["python", "/app.py"]\n'
    (folder / "image" / "Dockerfile").write_text(text)
    builder = f"serviceAccount:{cloud.make_account('mlflow-build')}"
    cloud.make_bucket("my-project-mlflow-build")
    cloud.grant(f"{STORAGE}/b/my-project-mlflow-build", "roles/storage.admin", builder)
    # on the project, because the repository does not exist yet
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/artifactregistry.writer", builder)
    server = f"serviceAccount:{cloud.make_account('mlflow-server')}"
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/artifactregistry.reader", server)
    cloud.make_secret("iap-client-id", "1-a.apps.googleusercontent.com")
    cloud.make_secret("iap-client-secret", "GOCSPX-not-to-be-seen")
    cloud.make(f"{APP_ENGINE}/apps", {"id": "my-project", "locationId": "europe-west"}, base=APP_ENGINE)
    for service, version in (("default", "v1"), ("mlflow", "v1"), ("mlflow", "v2")):
        body = {"id": version, "env": "flex", "runtime": "custom", "manualScaling": {"instances": 1}}
        body["deployment"] = {"container": {"image": "us-docker.pkg.dev/cloudrun/container/hello:latest"}}
        cloud.make(f"{APP_ENGINE}/apps/my-project/services/{service}/versions", body, base=APP_ENGINE)
    return cloud


def run(cloud, playbook, *orders):
    tasks = [task for order in orders for task in examples(order)]
    text = json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
    for word, replacement in REPLACEMENTS.items():
        text = text.replace(word, replacement.format(number=cloud.number))
    return playbook(cloud.sandbox, cloud.folder, json.loads(text)).check()


def test_examples_run_and_are_idempotent(cloud, playbook):
    assert run(cloud, playbook, *ORDER).changed > 12
    assert cloud.get(f"{REGISTRY}/{cloud.region}/repositories/mlflow/dockerImages")["dockerImages"]
    again = run(cloud, playbook, *ORDER)
    assert again.changed == 0, str(again)
    assert run(cloud, playbook, LAST).changed == 6  # one example deletes mlflow-dev, which does not exist


def test_every_example_is_run():
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")} - ELSEWHERE
    ran = examples(" ".join([*ORDER, LAST]))
    assert len(ran) == len([task for name in modules for task in examples(name)])
