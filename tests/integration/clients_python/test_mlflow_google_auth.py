# SPDX-License-Identifier: Apache-2.0
"""Test mlflow-google-auth with MLflow's own client and servers behind each guard, with a token lifetime of 30 seconds.

One deployment on Cloud Run, two more services with the same image and database, and one deployment on App Engine: the
programs for all guards run at the same time, so the tests wait only once for tokens to expire.
"""

from __future__ import annotations

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
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAP, REGION, RUN
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, VERIFY, Box, Controller, Project

CLIENT_ID = "55-own.apps.googleusercontent.com"
LIFETIME = 30
PROGRAM = str(pathlib.Path(__file__).parent / "log_for.py")
# Longer than two lifetimes, and than a lifetime and the 30 s for which Identity-Aware Proxy accepts expired tokens.
SECONDS = 68
GUARDS = ("managed", "custom", "invoker", "appengine")
each_guard = pytest.mark.parametrize("guard", GUARDS)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    box = Box(tmp_path_factory.mktemp("clients") / "state")
    box.up()
    yield box
    box.run("reset")


@dataclass(frozen=True)
class Server:
    """An MLflow server and the service account with access to it."""

    address: str
    account: str
    project: Project


@dataclass
class Deployed:
    """The MLflow server behind each guard, by name."""

    servers: dict[str, Server]
    hosts: dict[str, dict]
    controller: Controller

    def __getitem__(self, guard: str) -> Server:
        return self.servers[guard]


@pytest.fixture(scope="module")
def deployed(box, tmp_path_factory):
    controller = Controller(box, tmp_path_factory.mktemp("controller"))
    project = Project(box, "mlflow-sandbox", controller.folder)
    other = Project(box, base.new_project(box.session()), controller.folder)
    other.enable("secretmanager")
    hosts = {
        "demo": {"gcp_project": project.project},
        "engine": other.variables
        | {
            "mlflow_target": "appengine",
            "mlflow_oauth_client_id_secret": other.make_secret("oauth-client-id", CLIENT_ID),
            "mlflow_oauth_client_secret_secret": other.make_secret("oauth-client-secret", "GOCSPX-of-the-tests"),
        },
    }
    controller.run(DEPLOY, hosts=hosts).check()
    client = project.email("demo-dev-client")
    servers = {"managed": Server(project.address("demo-dev"), client, project)}
    for name, fields in (("custom", {"iapEnabled": True}), ("invoker", {})):
        servers[name] = Server(_copy(project, f"demo-dev-{name}", fields), client, project)
    _grant_access(project, "demo-dev-invoker", "demo-dev-custom")
    host = other.get(f"https://appengine.googleapis.com/v1/apps/{other.project}")["defaultHostname"]
    servers["appengine"] = Server(f"https://{host}", other.email("engine-dev-client"), other)
    box.options = ("--latency", "instant", "--token-lifetime", f"{LIFETIME}s")
    box.up()
    yield Deployed(servers, hosts, controller)
    controller.watcher.stop()


def _copy(project: Project, name: str, fields: dict) -> str:
    """Create another service like demo-dev and return its address."""
    template = json.dumps(project.service("demo-dev")["template"])
    address = project.address(name)
    template = template.replace(project.address("demo-dev"), address)
    template = template.replace(f"demo-dev-{project.number}.", f"{name}-{project.number}.")
    body = {"template": json.loads(template), **fields}
    project.make(f"{RUN}/{project.region}/services", body, base=RUN, serviceId=name)
    return address


def _grant_access(project: Project, invoked: str, proxied: str) -> None:
    """Grant the deployment's clients access to both services, and set a custom OAuth client for the proxied one."""
    client = f"serviceAccount:{project.email('demo-dev-client')}"
    agent = f"serviceAccount:service-{project.number}@gcp-sa-iap.iam.gserviceaccount.com"
    project.grant(f"{RUN}/{project.region}/services/{invoked}", "roles/run.invoker", client)
    project.grant(f"{RUN}/{project.region}/services/{proxied}", "roles/run.invoker", agent)
    resource = f"projects/{project.number}/iap_web/cloud_run-{REGION}/services/{proxied}"
    project.grant(f"{IAP}/{resource}", "roles/iap.httpsResourceAccessor", client)
    oauth = {"clientId": CLIENT_ID, "clientSecret": "GOCSPX-of-the-tests"}
    project.request("PATCH", f"{IAP}/{resource}:iapSettings", {"accessSettings": {"oauthSettings": oauth}})


def environment(box, deployed, guard, *, principal=None, impersonate=True, **more):
    """Return the environment of a user's program, without credentials of the machine that runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GOOGLE_", "GCP_"))}
    values = {
        "MLFLOW_TRACKING_URI": deployed[guard].address,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_GOOGLE_AUTH_TOKEN_LIFETIME": str(LIFETIME),
    }
    if impersonate:
        values["MLFLOW_GOOGLE_AUTH_IMPERSONATE"] = deployed[guard].account
    return kept | box.env(principal) | values | more


def start(env, *arguments) -> subprocess.Popen:
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process) -> tuple[dict, str]:
    """Wait for a program; return its JSON document and its standard error."""
    out, err = process.communicate(timeout=SECONDS * 10)
    assert process.returncode == 0, err
    return json.loads(out.strip().splitlines()[-1]), err


@pytest.fixture(scope="module")
def runs(box, deployed):
    """Run programs that log for longer than the lifetime of tokens, at the same time; return their results by guard.

    `static` is a program without mlflow-google-auth: its token is created before its start, in MLFLOW_TRACKING_TOKEN.
    """
    began = time.time()
    env = {guard: environment(box, deployed, guard) for guard in GUARDS}
    chosen = {guard: env[guard] | {"MLFLOW_TRACKING_AUTH": "google"} for guard in env}
    command = [sys.executable, "-m", "mlflow_google_auth", "--token", deployed["invoker"].address]
    made = subprocess.run(command, env=env["invoker"], check=True, capture_output=True, text=True)
    static = env["invoker"] | {"MLFLOW_TRACKING_TOKEN": made.stdout.strip(), "MLFLOW_GOOGLE_AUTH_MODE": "off"}
    processes = {
        "managed": start(env["managed"], PROGRAM, str(SECONDS), "3"),
        "custom": start(chosen["custom"], PROGRAM, str(SECONDS), "3"),
        "invoker": start(env["invoker"], PROGRAM, str(SECONDS), "3"),
        "appengine": start(env["appengine"], PROGRAM, str(SECONDS), "3"),
        "static": start(static, PROGRAM, str(SECONDS), "1"),
    }
    try:
        found = {name: finished(process) for name, process in processes.items() if name != "static"}
        out, err = processes["static"].communicate(timeout=SECONDS * 10)
        found["static"] = (out, err)
    finally:
        for process in processes.values():
            process.kill()
    return {"began": began, "ended": time.time(), **found}


@each_guard
def test_a_run_is_longer_than_the_lifetime_of_tokens(runs, deployed, guard):
    document, printed = runs[guard]
    assert document["error"] == ""
    assert document["logged"] >= 2 * 3 + 2, "three threads, at the start and at the end, and two forked workers"
    assert "Encountered unexpected error" not in printed


@each_guard
def test_the_server_has_all_logged_values(runs, box, deployed, guard):
    """Read with a signed JWT and without MLflow's client: `invoker` rejects JWTs, and `managed` has its database."""
    server, document = deployed["managed" if guard == "invoker" else guard], runs[guard][0]
    token = server.project.signed(server.account.partition("@")[0], f"{server.address}/*")
    answer = box.anonymous().get(
        f"{server.address}/api/2.0/mlflow/metrics/get-history",
        params={"run_id": document["run"], "metric_key": "loss", "max_results": 10000},
        headers={"Authorization": f"Bearer {token}"},
    )
    metrics = answer.json()["metrics"]
    steps = {int(metric["step"]) for metric in metrics}
    assert len(steps) == document["logged"]
    times = [int(metric["timestamp"]) / 1000 for metric in metrics]
    assert max(times) - min(times) > 2 * LIFETIME
    assert {2_000_000, 2_000_001} <= steps, "the forked workers have logged as well"


def test_a_token_in_a_variable_expires(runs):
    """Tokens expire in this sandbox, so the programs of the tests above have renewed theirs."""
    out, err = runs["static"]
    lines = [line for line in out.splitlines() if line.startswith("{")]
    error = json.loads(lines[-1])["error"] if lines else err
    assert "401" in error


@each_guard
def test_only_the_probe_of_the_guard_is_rejected(runs, box, deployed, guard):
    """The server `invoker` also receives the requests of the program `static`."""
    host = deployed[guard].address.removeprefix("https://")
    received = [r for r in box.requests("--service", "ingress") if r["host"] == host and r["time"] > runs["began"]]
    refused = [(r["verb"], r["path"], r["status"]) for r in received if r["status"] in (302, 401, 403)]
    probes = [entry for entry in refused if entry[:2] == ("GET", "/health")]
    others = [entry for entry in refused if entry not in probes]
    assert len(received) > runs[guard][0]["logged"]
    if guard == "invoker":
        assert 1 <= len(probes) <= 2
        # requests of the program `static` with its expired token; the first one ends the program
        assert all(status == 401 for _, _, status in others) and len(others) <= 4
    else:
        # for a managed client a second probe finds out whether it accepts identity tokens
        assert len(probes) == (2 if guard == "managed" else 1)
        assert others == []


def test_tokens_are_created_shortly_before_expiry_and_not_for_each_request(runs, box):
    """Each program creates a token every 24 s, and each of its two forked workers may create one."""
    counts = {"signJwt": 0, "generateIdToken": 0}
    for request in box.requests("--service", "iamcredentials"):
        name = request["method"].rpartition(".")[2]
        if name in counts and runs["began"] < request["time"] < runs["ended"]:
            counts[name] += 1
    every = LIFETIME * 0.8
    least, most = SECONDS // every, (runs["ended"] - runs["began"]) // every + 1 + 2
    assert least <= counts["signJwt"] <= most, "managed"
    # and one to find out that the managed client accepts none, and one for the program `static`
    assert 3 * least <= counts["generateIdToken"] <= 3 * most + 2, "custom, invoker, appengine"


# Other credentials


def run_package(box, deployed, guard, *arguments, **more):
    command = [sys.executable, "-m", "mlflow_google_auth", deployed[guard].address, *arguments]
    env = environment(box, deployed, guard, **more)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def key_files(deployed, tmp_path_factory):
    """Return a key of the account with access to each server, by guard."""
    folder, files = tmp_path_factory.mktemp("keys"), {}
    for server in {server.account: server for server in deployed.servers.values()}.values():
        project = server.project
        files[server.account] = folder / f"{server.account}.json"
        files[server.account].write_bytes(project.make_key(server.account))
    return {guard: str(files[server.account]) for guard, server in deployed.servers.items()}


@pytest.mark.parametrize(
    ("guard", "kind"),
    [
        ("managed", "JWT signed by"),
        ("custom", f"ID token for {CLIENT_ID}"),
        ("invoker", "ID token for https://"),
        ("appengine", f"ID token for {CLIENT_ID}"),
    ],
)
def test_with_a_key_file(box, deployed, key_files, guard, kind):
    done = run_package(box, deployed, guard, impersonate=False, GOOGLE_APPLICATION_CREDENTIALS=key_files[guard])
    assert done.returncode == 0, done.stderr
    assert kind in done.stdout and deployed[guard].account in done.stdout


@pytest.fixture(scope="module")
def machine(box, deployed, verified):
    """Grant the server's account access; return its email address and the metadata variables of its instance.

    The verification rejects a member that no variable names, so it comes first.
    """
    project = deployed["managed"].project
    email = project.email("demo-dev-server")
    resource = f"projects/{project.number}/iap_web/cloud_run-{REGION}/services"
    for service in ("demo-dev", "demo-dev-custom"):
        project.grant(f"{IAP}/{resource}/{service}", "roles/iap.httpsResourceAccessor", f"serviceAccount:{email}")
    project.grant(f"{RUN}/{project.region}/services/demo-dev-invoker", "roles/run.invoker", f"serviceAccount:{email}")
    found = project.instance_environment("demo-dev")
    return email, {name: value for name, value in found.items() if name.startswith("GCE_METADATA_")}


@pytest.mark.parametrize("guard", ["custom", "invoker"])
def test_with_the_account_of_the_machine(box, deployed, machine, guard):
    """The metadata server creates identity tokens; the account needs no role on itself."""
    email, metadata = machine
    env = environment(box, deployed, guard, impersonate=False, **metadata)
    del env["GOOGLE_APPLICATION_CREDENTIALS"]
    command = [sys.executable, "-m", "mlflow_google_auth", deployed[guard].address]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert email in done.stdout and "ID token" in done.stdout


def test_a_machine_that_may_not_sign_for_itself_is_reported(box, deployed, machine):
    """The managed OAuth client accepts only signed JWTs, which the metadata server cannot create."""
    email, metadata = machine
    env = environment(box, deployed, "managed", impersonate=False, **metadata)
    del env["GOOGLE_APPLICATION_CREDENTIALS"]
    command = [sys.executable, "-m", "mlflow_google_auth", deployed["managed"].address]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert f"roles/iam.serviceAccountTokenCreator on {email}" in done.stderr


@each_guard
def test_with_an_impersonated_login_of_gcloud(box, deployed, guard, tmp_path):
    """Use the file that `gcloud auth application-default login --impersonate-service-account` writes."""
    account = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{deployed[guard].account}"
    source = json.loads(pathlib.Path(box.env(_deployer(deployed))["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    assert source["type"] == "authorized_user"
    file = tmp_path / "adc.json"
    document = {"type": "impersonated_service_account", "delegates": [], "source_credentials": source}
    document["service_account_impersonation_url"] = f"{account}:generateAccessToken"
    file.write_text(json.dumps(document))
    done = run_package(box, deployed, guard, impersonate=False, GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert done.returncode == 0, done.stderr
    assert deployed[guard].account in done.stdout


def _deployer(deployed):
    return deployed["managed"].project.email("deployer")


@each_guard
def test_a_missing_right_to_impersonate_is_reported(box, deployed, guard):
    done = run_package(box, deployed, guard, principal="alice@example.com")
    assert done.returncode == 1
    assert "roles/iam.serviceAccountTokenCreator" in done.stderr and deployed[guard].account in done.stderr


@pytest.mark.parametrize(
    ("guard", "role"), [("managed", "roles/iap.httpsResourceAccessor"), ("custom", "roles/iap.httpsResourceAccessor")]
)
def test_an_account_without_the_role_is_reported(box, deployed, guard, role):
    """The deployer's own account owns the project and has no access to MLflow."""
    done = run_package(box, deployed, guard, impersonate=False)
    assert done.returncode == 1
    assert role in done.stderr and _deployer(deployed) in done.stderr


def test_a_user_login_without_impersonation_is_reported(box, deployed):
    done = run_package(box, deployed, "managed", principal="alice@example.com", impersonate=False)
    assert done.returncode == 1
    assert "MLFLOW_GOOGLE_AUTH_IMPERSONATE" in done.stderr


def documented() -> list[str]:
    """Return the commands of docs/clients.md that create a token by hand."""
    text = (base.ROOT / "docs" / "clients.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text[text.index("## Programs: by hand") :], re.M | re.S)
    found = [block for block in blocks if "TOKEN=$(" in block and "export MLFLOW_TRACKING_TOKEN" not in block]
    # the machine of the tests has no metadata server
    return [block for block in found if "metadata.google.internal" not in block]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
@pytest.mark.parametrize("number", range(len(documented())))
def test_the_documented_commands_have_access(box, deployed, key_files, tmp_path, number):
    """Use a custom OAuth client, which accepts all kinds of tokens."""
    commands = documented()
    made_before = commands[0] if "claims.json" in commands[number] and number else ""
    shutil.copy(key_files["custom"], tmp_path / "key.json")
    own = {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), "URL": deployed["custom"].address, "AUDIENCE": CLIENT_ID}
    env = environment(box, deployed, "custom", ACCOUNT=deployed["custom"].account, **own)
    if "activate-service-account" in commands[number]:
        del env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"]  # it has precedence over gcloud's own login
    else:
        made_before = f"ACCESS_TOKEN=$(gcloud auth print-access-token)\n{made_before}"
    request = 'curl -s -o /dev/null -w "%{http_code}" -H "Authorization: Bearer $TOKEN" $URL/version'
    script = "\n".join(["set -e", made_before, "TOKEN=", commands[number], request])
    done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("200"), f"{commands[number]}\n{done.stdout}\n{done.stderr}"


def test_the_example_logs_a_run(box, deployed):
    server = deployed["managed"]
    env = environment(box, deployed, "managed", impersonate=False)
    command = [sys.executable, "examples/log_a_run.py", server.address, server.account]
    done = subprocess.run(command, env=env, cwd=base.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{server.address}/#/experiments/" in done.stdout


@pytest.fixture(scope="module")
def verified(deployed, key_files):
    """Run verify.yml for both deployments, each with a key file."""
    keys = {"demo": key_files["managed"], "engine": key_files["appengine"]}
    hosts = {name: values | {"mlflow_verify_key_file": keys[name]} for name, values in deployed.hosts.items()}
    return {name: deployed.controller.run(VERIFY, hosts={name: hosts[name]}).check().output for name in hosts}


WITH_ID_TOKEN = (
    "ID token from generateIdToken",
    "ID token by impersonation with google-auth",
    "ID token from google-cloud-iam's IAMCredentialsClient",
    "ID token from a key file",
)
ALWAYS = (
    "JWT for the address, signed by signJwt accepted (200)",
    "JWT for the address, signed with a key file accepted (200)",
    "MLflow's client with MLFLOW_TRACKING_TOKEN accepted",
    "MLflow's client with the package mlflow-google-auth ",
)
REJECTED = (
    "request without credentials",
    "token for another address",
    "token with a forged signature",
    "expired token",
    "token of a service account that is not a member",
)


def test_the_verification_proves_that_a_managed_client_accepts_only_signed_jwts(verified):
    for source in WITH_ID_TOKEN:
        assert f"ok: {source} rejected (401), as expected" in verified["demo"]
    for source in ALWAYS:
        assert f"ok: {source}" in verified["demo"]


def test_the_verification_proves_that_a_custom_client_accepts_every_token(verified):
    for source in WITH_ID_TOKEN:
        assert f"ok: {source} accepted (200)" in verified["engine"]
    for source in ALWAYS:
        assert f"ok: {source}" in verified["engine"]


@pytest.mark.parametrize("host", ["demo", "engine"])
def test_the_verification_proves_which_requests_are_rejected(verified, host):
    for name in REJECTED:
        assert re.search(rf"ok: {name} rejected \((302|401|403)", verified[host]), name
