# SPDX-License-Identifier: Apache-2.0
"""The command line and the background process, from outside: start, stop, crash, run programs, list requests."""

import dataclasses
import datetime
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import google.auth.transport.requests
import pytest
import requests
from gcp_sandbox.config import Settings
from google.oauth2 import service_account

COMMAND = [sys.executable, "-m", "gcp_sandbox"]
SECRETS = "https://secretmanager.googleapis.com/v1"
REPOSITORIES = "https://artifactregistry.googleapis.com/v1"


class Sandbox:
    """A state folder and the commands on it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def run(self, *arguments, check=True, **more):
        command = [*COMMAND, "--state", str(self.state), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def status(self):
        return json.loads(self.run("status", "--json", check=False).stdout)

    def kill(self):
        """The power cord."""
        os.kill(self.status()["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while self.status()["running"] and time.monotonic() < deadline:
            time.sleep(0.05)

    def session(self):
        """An authorised session as any program would have it."""
        values = json.loads(self.run("env", "--json").stdout)
        credentials = service_account.Credentials.from_service_account_file(
            values["GOOGLE_APPLICATION_CREDENTIALS"], scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        inner = requests.Session()
        session = google.auth.transport.requests.AuthorizedSession(
            credentials, auth_request=google.auth.transport.requests.Request(inner)
        )
        for one in (inner, session):
            one.trust_env = False
            one.proxies = {"https": values["HTTPS_PROXY"]}
            one.verify = values["REQUESTS_CA_BUNDLE"]
        return session


@pytest.fixture
def box(tmp_path):
    """A state folder that does not exist yet."""
    box = Sandbox(tmp_path / "state")
    yield box
    box.run("reset", check=False)
    shutil.rmtree(Settings(state=box.state).runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One running sandbox for all tests that only read."""
    box = Sandbox(tmp_path_factory.mktemp("running") / "state")
    box.run("up")
    yield box
    box.run("reset")


def test_up_twice_is_fine(box):
    box.run("up")
    first = box.status()
    assert "already" in box.run("up").stdout
    assert box.status()["pid"] == first["pid"]
    assert first["latency"] == "instant"


def test_down_keeps_and_reset_forgets(box):
    box.run("up")
    project = box.status()["project"]
    url = f"{SECRETS}/projects/{project}/secrets"
    enable(box, "secretmanager.googleapis.com")
    assert box.session().post(f"{url}?secretId=kept", json={"replication": {"automatic": {}}}).status_code == 200
    ports = box.status()["ports"]
    box.run("down")
    assert box.status() == {"running": False, "state": str(box.state)}
    assert "not running" in box.run("down").stdout
    box.run("up")
    assert box.status()["ports"] == ports
    assert box.session().get(f"{url}/kept").status_code == 200
    box.run("reset")
    assert not box.state.exists()
    assert not Settings(state=box.state).runtime.exists()


def test_nothing_answered_is_lost_by_a_kill(box):
    """State, and an operation in progress: it continues after the next start."""
    box.run("up")
    project = box.status()["project"]
    enable(box, "secretmanager.googleapis.com", "artifactregistry.googleapis.com")
    box.run("up", "--latency", "real")
    session = box.session()
    parent = f"projects/{project}/locations/europe-west1"
    created = session.post(f"{SECRETS}/projects/{project}/secrets?secretId=s", json={"replication": {"automatic": {}}})
    assert created.status_code == 200
    operation = session.post(f"{REPOSITORIES}/{parent}/repositories?repositoryId=r", json={"format": "DOCKER"}).json()
    assert not operation.get("done")
    box.kill()
    assert box.run("status", check=False).returncode == 3
    box.run("up", "--latency", "instant")
    session = box.session()
    assert session.get(f"{SECRETS}/projects/{project}/secrets/s").status_code == 200
    deadline = time.monotonic() + 60
    while not (now := session.get(f"{REPOSITORIES}/{operation['name']}").json()).get("done"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert now["response"]["name"] == f"{parent}/repositories/r"
    assert session.get(f"{REPOSITORIES}/{parent}/repositories/r").status_code == 200


def test_reset_after_a_kill_leaves_nothing(box):
    box.run("up")
    box.kill()
    box.run("reset")
    assert not box.state.exists()


def test_other_settings_restart_it(box):
    box.run("up")
    pid = box.status()["pid"]
    box.run("up", "--latency", "scaled:60", "--rtt", "50ms", "--token-lifetime", "30s")
    status = box.status()
    assert (status["latency"], status["rtt"], status["tokenLifetime"]) == ("scaled:60", 0.05, 30)
    assert status["pid"] != pid
    box.run("down")
    box.run("up")
    assert (box.status()["latency"], box.status()["tokenLifetime"]) == ("scaled:60", 30)


def test_faults_are_set_shown_and_cleared(box, tmp_path):
    """At the start and while it runs; the rules end with the process."""
    rules = tmp_path / "rules.yml"
    rules.write_text("seed: 4\nrules:\n  - {kind: 503, service: secretmanager, first: 1}\n")
    box.run("up", "--faults", str(rules))
    assert box.status()["faults"] == 1
    pid = box.status()["pid"]
    enable(box, "secretmanager.googleapis.com")
    session, url = box.session(), f"{SECRETS}/projects/{box.status()['project']}/secrets"
    assert [session.get(url).status_code for _ in range(2)] == [503, 200]
    shown = json.loads(box.run("faults", "show", "--json").stdout)
    assert (shown["seed"], shown["rules"]) == (
        4,
        [{"rule": {"kind": "503", "service": "secretmanager", "first": 1}, "matched": 2, "applied": 1}],
    )
    assert '2        1  {"kind": "503"' in box.run("faults", "show").stdout
    assert "fault: 503" in box.run("requests", "--service", "secretmanager").stdout

    bad = box.run("faults", "set", '[{"kind": "lost", "methods": "x"}]', check=False)
    assert (bad.returncode, "unknown field 'methods'" in bad.stderr) == (2, True)
    assert "applied" in box.run("faults", "set", '[{"kind": "reset", "service": "secretmanager"}]').stdout
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(url)
    assert "already" in box.run("up", "--faults", str(rules)).stdout
    assert [session.get(url).status_code for _ in range(2)] == [503, 200]
    box.run("faults", "clear")
    assert "no rules" in box.run("faults", "show").stdout
    assert box.status()["pid"] == pid

    assert box.run("up", "--latency", "scaled:60", "--faults", "[{}]", check=False).returncode == 2
    assert (box.status()["latency"], box.status()["pid"]) == ("instant", pid)
    box.run("faults", "set", '[{"kind": "reset"}]')
    box.run("up", "--latency", "scaled:60")
    assert box.status()["faults"] == 0


def test_faults_need_a_sandbox_that_runs(box):
    assert box.run("faults", "set", '[{"kind": "reset"}]', check=False).returncode == 3
    assert box.run("up", "--faults", "nothing.yml", check=False).returncode == 2
    assert not box.state.exists()


def test_requests_take_their_round_trip_and_operations_their_time(box):
    box.run("up")
    enable(box, "sqladmin.googleapis.com")
    box.run("up", "--latency", "scaled:100", "--rtt", "300ms")
    session, project = box.session(), box.status()["project"]
    instances = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    assert session.get(instances).status_code == 200
    began = time.monotonic()
    assert session.get(instances).status_code == 200
    assert time.monotonic() - began >= 0.3
    body = {
        "name": "db",
        "region": "europe-west1",
        "databaseVersion": "POSTGRES_15",
        "settings": {"tier": "db-f1-micro"},
    }
    operation = session.post(instances, json=body).json()
    url = f"https://sqladmin.googleapis.com/v1/projects/{project}/operations/{operation['name']}"
    deadline = time.monotonic() + 60
    while (operation := session.get(url).json())["status"] != "DONE":
        assert time.monotonic() < deadline
    began, ended = (datetime.datetime.fromisoformat(operation[key]) for key in ("insertTime", "endTime"))
    # Google takes at least two minutes for an instance; they are scaled by 100.
    assert ended - began >= datetime.timedelta(seconds=1.2)


def test_two_sandboxes_do_not_meet(running, box):
    box.run("up", "--project", "other-project")
    assert box.status()["project"] == "other-project"
    assert set(box.status()["ports"].values()).isdisjoint(running.status()["ports"].values())
    assert box.run("up", "--project", "third-project", check=False).returncode == 1


def test_wrong_settings_are_refused_in_words(box):
    wrong = (("--latency", "fast"), ("--rtt", "soon"), ("--token-lifetime", "1s"), ("--token-lifetime", "2h"))
    for arguments in wrong:
        done = box.run("up", *arguments, check=False)
        assert done.returncode == 2
        assert arguments[1] in done.stderr
    assert not (box.state / "daemon.lock").exists()


def test_a_taken_port_is_named(box):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = box.run("up", "--port", str(port), check=False)
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr


def test_reset_does_not_remove_what_is_not_a_sandbox(tmp_path):
    (tmp_path / "precious").write_text("x")
    done = Sandbox(tmp_path).run("reset", check=False)
    assert done.returncode == 1
    assert (tmp_path / "precious").exists()


def test_commands_that_need_a_sandbox_say_so(tmp_path):
    box = Sandbox(tmp_path / "none")
    for arguments in (("exec", "--", "true"), ("env",), ("requests",)):
        done = box.run(*arguments, check=False)
        assert done.returncode == 3, arguments
    assert not box.state.exists()


def test_exec_runs_programs_with_their_exit_code(running):
    code = "import os, sys; print(os.environ['GOOGLE_CLOUD_PROJECT'], sys.argv[1:]); sys.exit(7)"
    done = running.run("exec", "--", sys.executable, "-c", code, "--flag", "x y", check=False)
    assert done.returncode == 7
    assert done.stdout == "mlflow-sandbox ['--flag', 'x y']\n"
    assert running.run("exec", "--", "no-such-program", check=False).returncode == 127
    assert running.run("exec", check=False).returncode == 2


def test_exec_acts_for_another_principal(running):
    code = """
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = google.auth.transport.requests.AuthorizedSession(credentials)
print(project, session.get("https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox").status_code)
"""
    bob = running.run("exec", "--as", "bob@example.com", "--", sys.executable, "-c", code)
    owner = running.run("exec", "--", sys.executable, "-c", code)
    assert (bob.stdout.split()[-1], owner.stdout.split()[-1]) == ("403", "200")
    missing = running.run("exec", "--as", "missing@example.com", "--", "true", check=False)
    assert missing.returncode == 1
    assert "missing@example.com" in missing.stderr


def test_env_is_for_a_shell(running):
    command = shlex.join([*COMMAND, "--state", str(running.state), "env"])
    script = f'eval "$({command})" && echo "$GOOGLE_CLOUD_PROJECT $GCP_AUTH_KIND"'
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == (
        "mlflow-sandbox serviceaccount\n"
    )


def test_requests_are_counted_and_filtered(running):
    session = running.session()
    running.run("requests", "--clear")
    assert running.run("requests", "--count").stdout == "0\n"
    for _ in range(3):
        session.get("https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox")
    session.get("https://storage.googleapis.com/storage/v1/b?project=mlflow-sandbox")
    assert running.run("requests", "--count", "--service", "cloudresourcemanager").stdout == "3\n"
    assert running.run("requests", "--count", "--method", "buckets.list").stdout == "1\n"
    assert running.run("requests", "--count", "--since", "1h", "--service", "storage").stdout == "1\n"
    assert running.run("requests", "--count", "--since", str(time.time() + 1)).stdout == "0\n"
    entry = json.loads(running.run("requests", "--json", "--service", "storage").stdout)
    assert entry["method"] == "storage.buckets.list"
    assert entry["caller"] == "deployer@mlflow-sandbox.iam.gserviceaccount.com"
    table = running.run("requests", "--table").stdout.splitlines()
    assert table[0].split()[:2] == ["service", "requests"]
    assert table[-1].split()[0] == "total"


def test_logs_name_what_there_is(running):
    assert "ready after" in running.run("logs").stdout
    missing = running.run("logs", "../config", check=False)
    assert missing.returncode == 1
    assert "daemon" in missing.stderr


def test_no_service_is_broken(running):
    assert running.status()["broken"] == {}


def test_up_fails_when_a_service_is_broken_and_the_others_run(box, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['gcp_sandbox.services.secretmanager'] = None\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for _ in ("at the start", "up already"):
        done = box.run("up", check=False, env=env)
        assert done.returncode == 1
        assert "secretmanager: " in done.stderr and str(box.state / "logs" / "daemon.log") in done.stderr
    status = box.status()
    assert list(status["broken"]) == ["secretmanager"]
    assert "BROKEN     secretmanager" in box.run("status").stdout
    session, project = box.session(), status["project"]
    refused = session.get(f"{SECRETS}/projects/{project}/secrets")
    assert refused.status_code == 501 and "secretmanager" in refused.text
    assert session.get(f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").status_code == 200


def test_a_project_may_be_in_no_organization(box):
    """As a project outside an organization: nothing is inherited, and the deployer still owns it."""
    box.run("up", "--no-organization")
    session, manager = box.session(), "https://cloudresourcemanager.googleapis.com"
    project = session.get(f"{manager}/v1/projects/mlflow-sandbox").json()
    assert "parent" not in project and project["name"] == "mlflow-sandbox"
    asked = ["resourcemanager.projects.setIamPolicy", "resourcemanager.projects.delete", "secretmanager.secrets.create"]
    url = f"{manager}/v1/projects/mlflow-sandbox:testIamPermissions"
    assert session.post(url, json={"permissions": asked}).json()["permissions"] == asked
    box.run("down")
    done = box.run("up", "--no-organization", check=False)
    assert done.returncode == 1 and "exists already" in done.stderr
    box.run("up")
    assert "parent" not in session.get(f"{manager}/v1/projects/mlflow-sandbox").json()


def test_files_are_private(running):
    for path in [running.state, *running.state.rglob("*")]:
        if path.name == "daemon.lock" or "requests" in path.name or path.is_symlink():
            continue
        assert path.stat().st_mode & 0o007 == 0, path


def enable(box, *services):
    """Enable APIs and wait until they answer."""
    session = box.session()
    project = box.status()["project"]
    done = session.post(
        f"https://serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable",
        json={"serviceIds": list(services)},
    )
    assert done.status_code == 200, done.text
    deadline = time.monotonic() + 60
    while not (operation := session.get(f"https://serviceusage.googleapis.com/v1/{done.json()['name']}").json()).get(
        "done"
    ):
        assert time.monotonic() < deadline, operation
        time.sleep(0.1)


def test_a_configuration_of_an_earlier_release_is_read(tmp_path):
    """It names the third port otherwise."""
    document = {"latency": "instant", "rtt": 0, "project": "p-12345", "ports": {"proxy": 1, "tls": 2, "door": 3}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert dataclasses.asdict(Settings.load(tmp_path).ports) == {"proxy": 1, "tls": 2, "browser": 3}
