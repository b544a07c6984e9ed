# SPDX-License-Identifier: Apache-2.0
"""App Engine over the network: google-auth's session, requests, the browser port, the command line, kill -9."""

from __future__ import annotations

import os
import time
from pathlib import Path

import google.auth
import pytest
import requests
from google.auth.transport.requests import AuthorizedSession

BASE = "https://appengine.googleapis.com/v1"
APIS = [f"{api}.googleapis.com" for api in ("appengine", "appengineflex", "iap", "iam", "storage")]
HELLO = "us-docker.pkg.dev/cloudrun/container/hello:latest"
CHECK = {"path": "/health", "checkInterval": "1s"}


@pytest.fixture(scope="module")
def project(cloud):
    return os.environ["GOOGLE_CLOUD_PROJECT"]


@pytest.fixture(scope="module")
def api(cloud, project):
    """A session of the deployer, and an application that serves."""
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = AuthorizedSession(credentials)
    usage = f"https://serviceusage.googleapis.com/v1/projects/{project}"
    session.post(f"{usage}/services:batchEnable", json={"serviceIds": APIS}).raise_for_status()
    done(session, session.post(f"{BASE}/apps", json={"id": project, "locationId": "europe-west"}))
    deploy(session, project, "default")
    deploy(session, project, "mlflow")
    return session


def done(session, answer):
    answer.raise_for_status()
    operation = answer.json()
    deadline = time.monotonic() + 60
    while not operation.get("done"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        operation = session.get(f"{BASE}/{operation['name']}").json()
    assert "error" not in operation, operation


def deploy(session, project, service):
    body = {
        "id": "v1",
        "env": "flex",
        "runtime": "custom",
        "deployment": {"container": {"image": HELLO}},
        "automaticScaling": {"minTotalInstances": 1, "maxTotalInstances": 2},
        "readinessCheck": CHECK,
        "livenessCheck": CHECK,
    }
    done(session, session.post(f"{BASE}/apps/{project}/services/{service}/versions", json=body))


def containers(cloud):
    """(process id, when it started) of everything that this sandbox runs for App Engine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            started = (folder / "stat").read_text().rpartition(")")[2].split()[19]
        except OSError:
            continue
        if b"GAE_SERVICE=" in environment and os.environ["HTTPS_PROXY"].encode() in environment:
            found.add((folder.name, started))
    return found


def test_an_application_is_at_its_real_address(api, project):
    host = api.get(f"{BASE}/apps/{project}").json()["defaultHostname"]
    assert host == f"{project}.ew.r.appspot.com"
    page = requests.get(f"https://{host}/", timeout=30)
    assert page.status_code == 200 and "<code>v1</code> of the service <code>default</code>" in page.text
    assert api.get(f"{BASE}/apps/{project}/services/nothing").status_code == 404


def test_the_browser_port_and_the_command_line(api, project, cloud):
    status = cloud.status
    assert {project, f"mlflow-dot-{project}"} <= set(status["deployed"])
    port = status["ports"]["browser"]
    index = requests.get(f"http://127.0.0.1:{port}/", timeout=30).text
    assert f'href="http://{project}.localhost:{port}/"' in index
    for label, service in ((project, "default"), (f"mlflow-dot-{project}", "mlflow")):
        headers = {"Host": f"{label}.localhost:{port}"}
        page = requests.get(f"http://127.0.0.1:{port}/", headers=headers, timeout=30)
        assert f"of the service <code>{service}</code>" in page.text
    assert '"GET /" 200' in cloud.run("logs", "default")


def test_versions_outlive_the_daemon_and_are_taken_over(api, project, cloud):
    url = f"https://{project}.ew.r.appspot.com/"
    assert requests.get(url, timeout=30).status_code == 200
    before = containers(cloud)
    assert len(before) == 2
    cloud.kill()
    assert containers(cloud) == before
    cloud.up()
    assert requests.get(url, timeout=30).status_code == 200
    assert containers(cloud) == before
    assert api.get(f"{BASE}/apps/{project}/services/default").json()["split"] == {"allocations": {"v1": 1}}


def test_versions_run_again_after_the_sandbox_was_stopped(api, project, cloud):
    cloud.run("down")
    assert not containers(cloud)
    cloud.up()
    os.environ.update(cloud.env())
    page = requests.get(f"https://{project}.ew.r.appspot.com/", timeout=60)
    assert page.status_code == 200 and "default" in page.text
