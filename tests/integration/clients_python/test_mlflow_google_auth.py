# SPDX-License-Identifier: Apache-2.0
"""mlflow-google-auth with MLflow's own client, against MLflow servers behind each guard, with tokens of 30 seconds.

One deployment of MLflow; two more services run the same image on the same database, so that all three guards are there
at once and what takes a minute takes it once.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.conftest import ROOT
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAM, IAP, REGION, RUN
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, VERIFY, Box, Controller, Project

CLIENT_ID = "55-own.apps.googleusercontent.com"
LIFETIME = 30
PROGRAM = str(pathlib.Path(__file__).parent / "log_for.py")
# Longer than two lives, and than the 30 s of grace that Identity-Aware Proxy gives.
SECONDS = 75


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    box = Box(tmp_path_factory.mktemp("clients") / "state")
    box.up()
    yield box
    box.run("reset")


@dataclass
class Deployed:
    """MLflow behind three guards: addresses by the guard's name."""

    project: Project
    controller: Controller
    addresses: dict[str, str]

    @property
    def account(self) -> str:
        return self.project.email("demo-dev-client")


@pytest.fixture(scope="module")
def deployed(box, tmp_path_factory):
    controller = Controller(box, tmp_path_factory.mktemp("controller"))
    controller.run(DEPLOY).check()
    project = Project(box, "mlflow-sandbox", controller.folder)
    addresses = {"managed": project.address("demo-dev")}
    for name, fields in (("custom", {"iapEnabled": True}), ("invoker", {})):
        addresses[name] = _copy(project, f"demo-dev-{name}", fields)
    _let_in(project, "demo-dev-invoker", "demo-dev-custom")
    box.options = ("--latency", "instant", "--token-lifetime", f"{LIFETIME}s")
    box.up()
    yield Deployed(project, controller, addresses)
    controller.watcher.stop()


def _copy(project: Project, name: str, fields: dict) -> str:
    """Another service like demo-dev; its address."""
    template = json.dumps(project.service("demo-dev")["template"])
    address = project.address(name)
    template = template.replace(project.address("demo-dev"), address)
    template = template.replace(f"demo-dev-{project.number}.", f"{name}-{project.number}.")
    body = {"template": json.loads(template), **fields}
    project.make(f"{RUN}/{project.region}/services", body, base=RUN, serviceId=name)
    return address


def _let_in(project: Project, invoked: str, proxied: str) -> None:
    """The deployment's clients into both, and a custom OAuth client in front of one."""
    client = f"serviceAccount:{project.email('demo-dev-client')}"
    agent = f"serviceAccount:service-{project.number}@gcp-sa-iap.iam.gserviceaccount.com"
    project.grant(f"{RUN}/{project.region}/services/{invoked}", "roles/run.invoker", client)
    project.grant(f"{RUN}/{project.region}/services/{proxied}", "roles/run.invoker", agent)
    resource = f"projects/{project.number}/iap_web/cloud_run-{REGION}/services/{proxied}"
    project.grant(f"{IAP}/{resource}", "roles/iap.httpsResourceAccessor", client)
    oauth = {"clientId": CLIENT_ID, "clientSecret": "GOCSPX-of-the-tests"}
    project.ask("PATCH", f"{IAP}/{resource}:iapSettings", {"accessSettings": {"oauthSettings": oauth}})


def environment(box, deployed, guard, *, principal=None, impersonate=True, **more):
    """Of a user's program. Nothing of this machine's own logins is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GOOGLE_", "GCP_"))}
    values = {
        "MLFLOW_TRACKING_URI": deployed.addresses[guard],
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_GOOGLE_AUTH_TOKEN_LIFETIME": str(LIFETIME),
    }
    if impersonate:
        values["MLFLOW_GOOGLE_AUTH_IMPERSONATE"] = deployed.account
    return kept | box.env(principal) | values | more


def start(env, *arguments) -> subprocess.Popen:
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process) -> tuple[dict, str]:
    """What the program says, and what it prints besides."""
    out, err = process.communicate(timeout=SECONDS * 3)
    assert process.returncode == 0, err
    return json.loads(out.strip().splitlines()[-1]), err


@pytest.fixture(scope="module")
def runs(box, deployed):
    """Programs that log for longer than tokens live, all at once: by guard and entry point. `static` is a program as
    it was before: with a token in MLFLOW_TRACKING_TOKEN, made at its start.
    """
    began = time.time()
    env = {guard: environment(box, deployed, guard) for guard in deployed.addresses}
    chosen = {guard: env[guard] | {"MLFLOW_TRACKING_AUTH": "google"} for guard in env}
    command = [sys.executable, "-m", "mlflow_google_auth", "--token", deployed.addresses["invoker"]]
    made = subprocess.run(command, env=env["invoker"], check=True, capture_output=True, text=True)
    static = env["invoker"] | {"MLFLOW_TRACKING_TOKEN": made.stdout.strip(), "MLFLOW_GOOGLE_AUTH_MODE": "off"}
    processes = {
        "managed": start(env["managed"], PROGRAM, str(SECONDS), "3"),
        "custom": start(chosen["custom"], PROGRAM, str(SECONDS), "3"),
        "invoker": start(env["invoker"], PROGRAM, str(SECONDS), "3"),
        "static": start(static, PROGRAM, str(SECONDS), "1"),
    }
    try:
        found = {name: finished(process) for name, process in processes.items() if name != "static"}
        out, err = processes["static"].communicate(timeout=SECONDS)
        found["static"] = (out, err)
    finally:
        for process in processes.values():
            process.kill()
    return {"began": began, **found}


@pytest.mark.parametrize("guard", ["managed", "custom", "invoker"])
def test_a_run_outlives_its_tokens(runs, deployed, guard):
    said, printed = runs[guard]
    assert said["error"] == ""
    assert said["logged"] > SECONDS, "three threads and two forked workers have logged all the time"
    assert "Encountered unexpected error" not in printed


@pytest.mark.parametrize("guard", ["managed", "custom", "invoker"])
def test_everything_that_was_logged_has_arrived(runs, box, deployed, guard):
    """Read through another server, with another client, by another way in: all three have the same database."""
    project, said = deployed.project, runs[guard][0]
    token = project.signed("demo-dev-client", f"{deployed.addresses['managed']}/*")
    answer = box.anonymous().get(
        f"{deployed.addresses['managed']}/api/2.0/mlflow/metrics/get-history",
        params={"run_id": said["run"], "metric_key": "loss", "max_results": 10000},
        headers={"Authorization": f"Bearer {token}"},
    )
    steps = {int(metric["step"]) for metric in answer.json()["metrics"]}
    assert len(steps) == said["logged"]
    assert {2_000_000, 2_000_001} <= steps, "the forked workers have logged as well"


def test_a_token_in_a_variable_does_not_outlive_itself(runs):
    """So tokens do expire here: what the tests above show is that they were renewed."""
    out, err = runs["static"]
    lines = [line for line in out.splitlines() if line.startswith("{")]
    error = json.loads(lines[-1])["error"] if lines else err
    assert "401" in error


@pytest.mark.parametrize("guard", ["managed", "custom", "invoker"])
def test_no_request_was_refused_but_the_look_at_the_guard(runs, box, deployed, guard):
    """The static program's requests to `invoker` aside, which have no place here."""
    host = deployed.addresses[guard].removeprefix("https://")
    asked = [r for r in box.requests("--service", "ingress") if r["host"] == host and r["time"] > runs["began"]]
    refused = [(r["verb"], r["path"], r["status"]) for r in asked if r["status"] in (302, 401, 403)]
    probes = [entry for entry in refused if entry[:2] == ("GET", "/health")]
    others = [entry for entry in refused if entry not in probes]
    assert len(asked) > SECONDS
    if guard == "invoker":
        assert 1 <= len(probes) <= 2
        # only the static program's, whose token has expired; it ends with the first
        assert all(status == 401 for _, _, status in others) and len(others) <= 4
    else:
        # with the managed client there is one more: whether it takes identity tokens
        assert len(probes) == {"managed": 2, "custom": 1}[guard]
        assert others == []


def test_tokens_are_made_when_they_are_due_and_not_at_each_request(runs, box):
    """One every 24 s by each program; `managed` tries an identity token first, and `static` has had one."""
    methods = {"signJwt": [], "generateIdToken": []}
    for request in box.requests("--service", "iamcredentials"):
        name = request["method"].rpartition(".")[2]
        if name in methods and request["time"] > runs["began"] and request["agent"].startswith("python-requests"):
            methods[name].append(request["time"])
    due = SECONDS // (LIFETIME * 0.8)
    assert due <= len(methods["signJwt"]) <= due + 4, "one program, and a reader or two"
    assert 2 * due <= len(methods["generateIdToken"]) <= 2 * (due + 2) + 2, "two programs, one trial, one static"


# -- other credentials, in a few seconds each


def ask(box, deployed, guard, *arguments, **more):
    command = [sys.executable, "-m", "mlflow_google_auth", deployed.addresses[guard], *arguments]
    env = environment(box, deployed, guard, **more)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def key_file(deployed, tmp_path_factory):
    answer = deployed.project.ask("POST", f"{IAM}/{deployed.project.home}/serviceAccounts/{deployed.account}/keys", {})
    file = tmp_path_factory.mktemp("key") / "key.json"
    file.write_bytes(base64.b64decode(answer["privateKeyData"]))
    return str(file)


@pytest.mark.parametrize(
    ("guard", "kind"),
    [("managed", "JWT signed by"), ("custom", f"ID token for {CLIENT_ID}"), ("invoker", "ID token for https://")],
)
def test_with_a_key_file(box, deployed, key_file, guard, kind):
    done = ask(box, deployed, guard, impersonate=False, GOOGLE_APPLICATION_CREDENTIALS=key_file)
    assert done.returncode == 0, done.stderr
    assert kind in done.stdout and deployed.account in done.stdout


@pytest.mark.parametrize("guard", ["managed", "custom", "invoker"])
def test_with_gclouds_login_that_impersonates(box, deployed, guard, tmp_path):
    """The file that `gcloud auth application-default login --impersonate-service-account` writes."""
    account = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{deployed.account}"
    source = json.loads(pathlib.Path(box.env(_deployer(deployed))["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    assert source["type"] == "authorized_user"
    file = tmp_path / "adc.json"
    document = {"type": "impersonated_service_account", "delegates": [], "source_credentials": source}
    document["service_account_impersonation_url"] = f"{account}:generateAccessToken"
    file.write_text(json.dumps(document))
    done = ask(box, deployed, guard, impersonate=False, GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert done.returncode == 0, done.stderr
    assert deployed.account in done.stdout


def _deployer(deployed):
    return deployed.project.email("deployer")


@pytest.mark.parametrize("guard", ["managed", "custom", "invoker"])
def test_who_may_not_act_for_the_account_is_told_so(box, deployed, guard):
    done = ask(box, deployed, guard, principal="alice@example.com")
    assert done.returncode == 1
    assert "roles/iam.serviceAccountTokenCreator" in done.stderr and deployed.account in done.stderr


@pytest.mark.parametrize(
    ("guard", "role"), [("managed", "roles/iap.httpsResourceAccessor"), ("custom", "roles/iap.httpsResourceAccessor")]
)
def test_an_account_without_the_role_is_told_so(box, deployed, guard, role):
    """The deployer's own account, which owns the project and has no business in MLflow."""
    done = ask(box, deployed, guard, impersonate=False)
    assert done.returncode == 1
    assert role in done.stderr and _deployer(deployed) in done.stderr


def test_a_logins_own_identity_is_not_enough(box, deployed):
    done = ask(box, deployed, "managed", principal="alice@example.com", impersonate=False)
    assert done.returncode == 1
    assert "MLFLOW_GOOGLE_AUTH_IMPERSONATE" in done.stderr


def documented() -> list[str]:
    """The commands of docs/clients.md that make a token by hand."""
    text = (ROOT / "docs" / "clients.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text[text.index("## Programs: by hand") :], re.M | re.S)
    found = [block for block in blocks if "TOKEN=$(" in block and "export MLFLOW_TRACKING_TOKEN" not in block]
    # the sandbox is no machine with a metadata server of its own
    return [block for block in found if "metadata.google.internal" not in block]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
@pytest.mark.parametrize("number", range(len(documented())))
def test_the_documented_commands_get_in(box, deployed, key_file, tmp_path, number):
    """Behind a custom client, which takes all of them."""
    commands = documented()
    made_before = commands[0] if "claims.json" in commands[number] and number else ""
    shutil.copy(key_file, tmp_path / "key.json")
    own = {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), "URL": deployed.addresses["custom"], "AUDIENCE": CLIENT_ID}
    env = environment(box, deployed, "custom", ACCOUNT=deployed.account, **own)
    if "activate-service-account" in commands[number]:
        del env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"]  # the sandbox's, which goes before gcloud's own login
    else:
        made_before = f"ACCESS_TOKEN=$(gcloud auth print-access-token)\n{made_before}"
    knock = 'curl -s -o /dev/null -w "%{http_code}" -H "Authorization: Bearer $TOKEN" $URL/version'
    script = "\n".join(["set -e", made_before, "TOKEN=", commands[number], knock])
    done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("200"), f"{commands[number]}\n{done.stdout}\n{done.stderr}"


def test_the_example_logs_a_run(box, deployed):
    env = environment(box, deployed, "managed", impersonate=False)
    command = [sys.executable, "examples/log_a_run.py", deployed.addresses["managed"], deployed.account]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{deployed.addresses['managed']}/#/experiments/" in done.stdout


def test_the_verification_proves_the_ways_in(deployed, key_file):
    play = deployed.controller.run(VERIFY, "-e", f"mlflow_verify_key_file={key_file}").check()
    for line in ("way in: JWT for the address, signed with a key file: 200", "with the package mlflow-google-auth"):
        assert f"{line}" in play.output
    assert "not taken here: identity token with a key file: 401" in play.output
