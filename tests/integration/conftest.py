# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of modules and roles: a sandbox, projects in it, and runs of playbooks.

Nothing here uses the code under test. The tests read the APIs with a session of google-auth, databases with a driver,
and MLflow with its client.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import secrets
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import requests
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
BASE_ENV = {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)


@dataclass
class Play:
    """One finished run of ansible-playbook."""

    status: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        return sum(int(m[2]) for m in RECAP.findall(self.output))

    @property
    def ok(self) -> bool:
        return self.status == 0

    def check(self) -> Play:
        """Return this run; fail if its exit status is not 0."""
        assert self.ok, str(self)
        return self

    def __str__(self) -> str:
        return f"exit status {self.status} after {self.seconds:.1f} s\n{self.output}"


class Sandbox:
    """A sandbox with its own state folder, controlled by its command line."""

    def __init__(self, state: pathlib.Path, *options: str):
        self.state = state
        self.command = [str(BIN / "gcp-sandbox"), "--state", str(state)]
        self.options = options or ("--latency", "instant")

    def run(self, *args: str, check: bool = True, **kw) -> subprocess.CompletedProcess:
        return subprocess.run([*self.command, *args], check=check, capture_output=True, text=True, **kw)

    def up(self) -> None:
        # the daemon must not hold the pipes of this process
        subprocess.run([*self.command, "up", *self.options], check=True, stdout=subprocess.DEVNULL)

    def down(self) -> None:
        subprocess.run([*self.command, "down"], check=True, stdout=subprocess.DEVNULL)

    def env(self, principal: str | None = None) -> dict[str, str]:
        text = self.run("env", *(["--as", principal] if principal else [])).stdout
        pairs = (shlex.split(line)[-1] for line in text.splitlines() if line.startswith("export "))
        return dict(pair.split("=", 1) for pair in pairs)

    def requests(self, *filters: str) -> list[dict]:
        """Return the log of requests, filtered by options of the command."""
        return [json.loads(line) for line in self.run("requests", "--json", *filters).stdout.splitlines()]

    def session(self, principal: str | None = None) -> requests.Session:
        """Return a session with the credentials of `principal`, by default of the deployer."""
        import google.auth.transport.requests
        from google.oauth2 import credentials as user_credentials
        from google.oauth2 import service_account

        env = self.env(principal)
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        path = env["GOOGLE_APPLICATION_CREDENTIALS"]
        kind = json.loads(pathlib.Path(path).read_text())["type"]
        if kind == "service_account":
            found = service_account.Credentials.from_service_account_file(path, scopes=scopes)
        else:
            found = user_credentials.Credentials.from_authorized_user_file(path, scopes=scopes)
        session = google.auth.transport.requests.AuthorizedSession(found, auth_request=transport(env))
        use_proxy(session, env)
        return session

    def anonymous(self) -> requests.Session:
        session = requests.Session()
        use_proxy(session, self.env())
        return session


def use_proxy(session: requests.Session, env: dict[str, str]) -> None:
    """Send the requests of a session to the sandbox of an environment."""
    session.proxies = {"https": env["HTTPS_PROXY"]}
    session.verify = env["REQUESTS_CA_BUNDLE"]
    session.trust_env = False


def transport(env: dict[str, str]):
    """Return the transport with which google-auth requests tokens from the sandbox of an environment."""
    import google.auth.transport.requests

    inner = requests.Session()
    use_proxy(inner, env)
    return google.auth.transport.requests.Request(inner)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    box = Sandbox(tmp_path_factory.mktemp("sandbox") / "state")
    box.up()
    yield box
    box.down()


@pytest.fixture(scope="module")
def another_sandbox(tmp_path_factory):
    """Return a function that starts a sandbox with other options, for example `("--latency", "scaled:20")`.

    The sandbox stops after the last test of the module.
    """
    boxes = []

    def start(*options: str) -> Sandbox:
        box = Sandbox(tmp_path_factory.mktemp("sandbox") / "state", *options)
        boxes.append(box)
        box.up()
        return box

    yield start
    for box in boxes:
        box.down()


@pytest.fixture(scope="session")
def api(sandbox) -> requests.Session:
    return sandbox.session()


def is_done(operation: dict) -> bool:
    """Return whether an operation has ended: one of google.longrunning, or one of Cloud SQL."""
    return operation.get("done", False) or operation.get("status") == "DONE"


def wait_for(session: requests.Session, url: str, *, seconds: float = 3000) -> dict:
    """Poll an operation until it is done and return it; fail if it has an error."""
    deadline = time.monotonic() + seconds
    while True:
        answer = session.get(url)
        answer.raise_for_status()
        operation = answer.json()
        if is_done(operation):
            assert not operation.get("error"), operation
            return operation
        assert time.monotonic() < deadline, f"still running after {seconds} s: {operation}"
        time.sleep(0.1)


def new_project(api: requests.Session) -> str:
    """Create a project with billing in the organization and return its ID; only the default APIs are enabled."""
    name = f"test-{secrets.token_hex(4)}"
    crm = "https://cloudresourcemanager.googleapis.com"
    made = api.post(f"{crm}/v3/projects", json={"projectId": name, "parent": organization(api)})
    made.raise_for_status()
    wait_for(api, f"{crm}/v3/{made.json()['name']}")
    billing = "https://cloudbilling.googleapis.com/v1"
    account = api.get(f"{billing}/billingAccounts").json()["billingAccounts"][0]["name"]
    api.put(f"{billing}/projects/{name}/billingInfo", json={"billingAccountName": account}).raise_for_status()
    return name


@pytest.fixture(scope="session")
def make_project(api):
    """Return a function that creates a project; see `new_project`."""
    return lambda: new_project(api)


@pytest.fixture
def project(api) -> str:
    """Create a project for one test; see `new_project`."""
    return new_project(api)


def organization(api: requests.Session) -> str:
    answer = api.get("https://cloudresourcemanager.googleapis.com/v3/organizations:search")
    answer.raise_for_status()
    return answer.json()["organizations"][0]["name"]


def play(
    sandbox: Sandbox,
    folder: pathlib.Path,
    playbook,
    variables: dict | None = None,
    *options: str,
    host: str = "demo",
    env: dict[str, str | None] | None = None,
    principal: str | None = None,
    timeout: float = 1800,
) -> Play:
    """Run a playbook, given as a file or as plays, with the environment of the sandbox.

    :param folder: folder for the playbook and the inventory; no other run may use it at the same time.
    :param variables: variables of the single host in the inventory.
    :param options: more arguments of ansible-playbook.
    :param env: changes to the environment; None removes a variable.
    :param principal: the principal of the credentials in the environment; by default the deployer.
    """
    if not isinstance(playbook, (str, pathlib.Path)):
        path = folder / "playbook.yml"
        path.write_text(yaml.safe_dump(playbook, sort_keys=False))
        playbook = path
    hosts = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **(variables or {})}
    inventory = folder / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {host: hosts}}}))
    environment = os.environ | BASE_ENV | sandbox.env(principal) | (env or {})
    started = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), str(playbook), *options],
        cwd=ROOT,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return Play(done.returncode, done.stdout, time.monotonic() - started)


@pytest.fixture(scope="session")
def playbook():
    """Return the function `play`, for runs that several tests share or that use another sandbox."""
    return play


@pytest.fixture
def run_play(sandbox, tmp_path):
    """Return `play` for the shared sandbox and the folder of the test."""
    return functools.partial(play, sandbox, tmp_path)
