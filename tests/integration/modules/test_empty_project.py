# SPDX-License-Identifier: Apache-2.0
"""Test the plan of all modules in a project without enabled APIs and without resources."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import REGION, Cloud

SERVER = "server@{{ project }}.iam.gserviceaccount.com"
IMAGE = f"{REGION}-docker.pkg.dev/{{{{ project }}}}/images/app:v1"
SECRET = "projects/{{ project }}/secrets"
TASKS = {
    "project_services": {
        "services": [
            f"{name}.googleapis.com"
            for name in ("artifactregistry", "cloudbuild", "iam", "iap", "run", "secretmanager", "sqladmin")
        ]
        + ["cloudresourcemanager.googleapis.com"]
    },
    "service_account": {"account_id": "server", "disabled": False},
    "secret": {"name": "password", "generate": {}, "bindings": [{"role": "roles/x", "members": ["allUsers"]}]},
    "secret ": {"name": "url", "template": "{a}", "template_secrets": {"a": f"{SECRET}/password"}},
    "storage_bucket": {"name": "{{ project }}-new", "location": REGION},
    "sql_instance": {
        "name": "db",
        "region": REGION,
        "database_version": "POSTGRES_16",
        "tier": "db-custom-1-3840",
        "wait": False,
    },
    "sql_database": {"instance": "db", "name": "mlflow"},
    "sql_user": {"instance": "db", "name": "mlflow", "password_secret": f"{SECRET}/password"},
    "artifact_repository": {"name": "images", "location": REGION},
    "image_build": {
        "image": IMAGE,
        "context": "{{ files }}",
        "location": REGION,
        "source_bucket": "{{ project }}-new",
        "service_account": SERVER,
    },
    "cloud_run_job": {"name": "job", "location": REGION, "image": IMAGE, "execute": "on_change"},
    "cloud_run_service": {
        "name": "app",
        "location": REGION,
        "image": IMAGE,
        "secret_env": {"PASSWORD": f"{SECRET}/password"},
        "iap_enabled": True,
    },
    "iap_settings": {
        "resource": f"projects/{{{{ number }}}}/iap_web/cloud_run-{REGION}/services/app",
        "oauth_client_id_secret": f"{SECRET}/client-id",
        "oauth_client_secret_secret": f"{SECRET}/client-secret",
    },
    "iam_bindings": {
        "resource": f"//run.googleapis.com/projects/{{{{ project }}}}/locations/{REGION}/services/app",
        "bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{SERVER}"]}],
    },
}


@pytest.fixture
def cloud(sandbox, project, tmp_path):
    return Cloud(sandbox, project, tmp_path)


def test_a_plan_of_an_empty_project_succeeds_and_changes_nothing(cloud, run_play, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:3-slim\n")
    before = cloud.enabled()
    play = run_play(
        [
            {
                "hosts": "all",
                "gather_facts": False,
                "module_defaults": {
                    "group/mlplatform.gcp.gcp": {"project": "{{ project }}", "quota_project": "{{ project }}"}
                },
                "tasks": [{"name": name, f"mlplatform.gcp.{name.strip()}": options} for name, options in TASKS.items()],
            }
        ],
        {"project": cloud.project, "number": cloud.number, "files": str(tmp_path)},
        "--check",
        "--diff",
    )
    play.check()
    assert play.changed == len(TASKS), str(play)
    # An API that this run would enable causes no warning.
    assert "WARNING" not in play.output, str(play)
    plan = re.findall(r"^\+\+\+ after: (.*)$", play.output, re.M)
    assert len(plan) >= len(TASKS), plan
    assert cloud.enabled() == before
