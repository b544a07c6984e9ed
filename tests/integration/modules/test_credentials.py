# SPDX-License-Identifier: Apache-2.0
"""Test each kind of credentials: from options, from the environment of Ansible and from that of a task.

Each task reads a secret with its own name, and the sandbox's log of requests has the caller. The tasks run inside the
controller and as ordinary modules. Nothing else in the environment sets credentials or a project.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from dataclasses import dataclass, field

import pytest
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAM, RUN, SECRETS, Cloud
from google.oauth2 import credentials as user_credentials

ALICE = "alice@example.com"
KEYED, TARGET, MACHINE = "keyed", "target", "machine"
CREDENTIALS = re.compile(r"^(GCP_|GCE_|GOOGLE_|CLOUDSDK_)")


@dataclass(frozen=True)
class Case:
    """A task. Placeholders such as `{key}` in options and environment are filled from `Known`.

    caller   the caller of the request: the email address of a user, or the name of a service account
    """

    name: str
    caller: str
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)


KEY = {"service_account_file": "{key}"}
METADATA = {"GCE_METADATA_HOST": "{metadata}", "GCE_METADATA_IP": "{metadata}"}
CASES = [
    Case(
        "application-from-a-variable", ALICE, {"auth_kind": "application"}, {"GOOGLE_APPLICATION_CREDENTIALS": "{user}"}
    ),
    Case("application-by-default", KEYED, {}, {"GOOGLE_APPLICATION_CREDENTIALS": "{key}"}),
    Case("application-in-gcloud's-folder", ALICE, {}, {"CLOUDSDK_CONFIG": "{folder}/gcloud"}),
    Case("application-of-the-machine", MACHINE, {"auth_kind": "application"}, METADATA),
    Case("key-file", KEYED, {"auth_kind": "serviceaccount", **KEY}),
    Case("key-file-alone", KEYED, KEY),
    Case("key-contents", KEYED, {"auth_kind": "serviceaccount", "service_account_contents": "{contents}"}),
    Case("key-contents-as-a-dictionary", KEYED, {"service_account_contents": "{dictionary}"}),
    Case(
        "key-file-of-google.cloud", KEYED, {}, {"GCP_AUTH_KIND": "serviceaccount", "GCP_SERVICE_ACCOUNT_FILE": "{key}"}
    ),
    Case(
        "key-contents-of-google.cloud",
        KEYED,
        {},
        {"GCP_AUTH_KIND": "serviceaccount", "GCP_SERVICE_ACCOUNT_CONTENTS": "{contents}"},
    ),
    Case(
        "awx",
        KEYED,
        {"project": None},
        {
            "GCE_EMAIL": "{keyed}",
            "GCE_PROJECT": "{project}",
            "GCE_CREDENTIALS_FILE_PATH": "{key}",
            "GCP_SERVICE_ACCOUNT_FILE": "{key}",
            "GCP_AUTH_KIND": "serviceaccount",
            "GCP_PROJECT": "{project}",
            "GCP_ENV_TYPE": "tower",
        },
    ),
    Case(
        "awx-of-old",
        KEYED,
        {"project": None},
        {"GCE_EMAIL": "{keyed}", "GCE_PROJECT": "{project}", "GCE_CREDENTIALS_FILE_PATH": "{key}"},
    ),
    Case("project-of-the-key", KEYED, {"project": None, **KEY}),
    Case("access-token", ALICE, {"auth_kind": "accesstoken", "access_token": "{token}"}),
    Case("access-token-alone", ALICE, {"access_token": "{token}"}),
    Case("access-token-of-google.cloud", ALICE, {}, {"GCP_AUTH_KIND": "accesstoken", "GCP_ACCESS_TOKEN": "{token}"}),
    Case("impersonated-by-a-key", TARGET, {"impersonate_service_account": "{target}", **KEY}),
    Case(
        "impersonated-by-a-token",
        TARGET,
        {"access_token": "{token}"},
        {"GOOGLE_IMPERSONATE_SERVICE_ACCOUNT": "{target}"},
    ),
    Case("machine", MACHINE, {"auth_kind": "machineaccount"}, METADATA),
    Case("machine-of-google.cloud", MACHINE, {}, {"GCP_AUTH_KIND": "machineaccount", **METADATA}),
    # The options of a task have precedence over its environment.
    Case(
        "option-over-environment",
        ALICE,
        {"auth_kind": "accesstoken", "access_token": "{token}"},
        {"GCP_AUTH_KIND": "application"},
    ),
]
REFUSED = {
    "no-credentials": ({}, {"NO_GCE_CHECK": "true"}, "No Google credentials were found"),
    "no-file": ({"service_account_file": "/nowhere.json"}, {}, "Cannot read the credentials file /nowhere.json"),
    "not-a-key": ({"service_account_contents": '{"type": "x"}'}, {}, "Cannot use the given service account contents"),
    "no-key": ({"auth_kind": "serviceaccount"}, {}, "neither service_account_file nor service_account_contents"),
    "no-token": ({"auth_kind": "accesstoken"}, {}, "access_token is not given"),
    "bad-token": ({"access_token": "ya29.nonsense"}, {}, "the given access_token was refused or is expired"),
    "not-granted": ({"impersonate_service_account": "{machine}", **KEY}, {}, "iam.serviceAccounts.getAccessToken"),
}


@dataclass
class Known:
    """Values of the placeholders. Only paths of files and email addresses may be printed."""

    cloud: Cloud
    folder: pathlib.Path
    values: dict

    def fill(self, options: dict) -> dict:
        """Return the options with the values of their placeholders; omit options that are None."""
        return {key: self._filled(value) for key, value in options.items() if value is not None}

    def _filled(self, value):
        if value == "{dictionary}":
            return json.loads(self.values["contents"])
        return re.sub(r"\{(\w+)\}", lambda match: self.values[match[1]], value)


@pytest.fixture(scope="module")
def known(sandbox, make_project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("credentials")
    cloud = Cloud(sandbox, make_project(), folder)
    cloud.enable("cloudresourcemanager", "iam", "iamcredentials", "run", "secretmanager")
    accounts = {name: cloud.make_account(f"{name}-account") for name in (KEYED, TARGET, MACHINE)}
    project = f"https://cloudresourcemanager.googleapis.com/v3/{cloud.home}"
    for member in [f"user:{ALICE}", *(f"serviceAccount:{email}" for email in accounts.values())]:
        cloud.grant(project, "roles/secretmanager.viewer", member)
    for member in (f"user:{ALICE}", f"serviceAccount:{accounts[KEYED]}"):
        target = f"{IAM}/{cloud.home}/serviceAccounts/{accounts[TARGET]}"
        cloud.grant(target, "roles/iam.serviceAccountTokenCreator", member)

    contents = cloud.make_key(accounts[KEYED]).decode()
    cloud.confidential.add(json.loads(contents)["private_key"].splitlines()[1])
    (folder / "key.json").write_text(contents)
    user = pathlib.Path(sandbox.env(ALICE)["GOOGLE_APPLICATION_CREDENTIALS"])
    (folder / "gcloud").mkdir()
    (folder / "gcloud" / "application_default_credentials.json").write_text(user.read_text())
    values = {
        **accounts,
        "folder": str(folder),
        "key": str(folder / "key.json"),
        "contents": contents,
        "user": str(user),
        "token": access_token(sandbox, user),
        "project": cloud.project,
        "metadata": metadata_server(cloud, accounts[MACHINE]),
    }
    cloud.confidential.add(values["token"])
    return Known(cloud, folder, values)


def access_token(sandbox, file):
    """Return an access token of a user, as `gcloud auth print-access-token` prints it."""
    login = user_credentials.Credentials.from_authorized_user_file(file)
    login.refresh(base.transport(sandbox.env()))
    return login.token


def metadata_server(cloud, account):
    """Start a Cloud Run instance and return the address of its metadata server."""
    name = f"machine-{os.getpid()}"
    body = {
        "template": {
            "serviceAccount": account,
            "scaling": {"minInstanceCount": 1},
            "containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}],
        }
    }
    cloud.make(f"{RUN}/{cloud.region}/services", body, base=RUN, serviceId=name)
    return cloud.instance_environment(name)["GCE_METADATA_HOST"]


def secret_of(way, case):
    """Return the name of the secret that a case reads."""
    return re.sub(r"[^a-z-]", "-", f"{way}-{case}")


def anonymous(sandbox):
    """Return the changes to the environment that remove credentials and project."""
    return dict.fromkeys((name for name in {**os.environ, **sandbox.env()} if CREDENTIALS.match(name)), None)


@pytest.fixture(scope="module", params=["controller", "ordinary"])
def play(request, known, playbook, sandbox, tmp_path_factory):
    """Run all cases without credentials in the environment of Ansible."""
    cases = [(case.name, case.options, case.environment) for case in CASES]
    cases += [(name, options, environment) for name, (options, environment, _reported) in REFUSED.items()]
    tasks = [
        {
            "name": name,
            "mlplatform.gcp.secret_info": known.fill(
                {"name": secret_of(request.param, name), "project": known.cloud.project, **options}
            ),
            "environment": known.fill(environment),
            "ignore_errors": True,
        }
        for name, options, environment in cases
    ]
    folder = tmp_path_factory.mktemp(request.param)
    env = anonymous(sandbox) | {"HOME": str(folder)}
    play = playbook(
        sandbox,
        folder,
        [{"hosts": "all", "gather_facts": False, "tasks": tasks}],
        {"gcp_in_controller": request.param == "controller"},
        "-vvv",
        env=env,
    ).check()
    play.way = request.param
    return play


@pytest.fixture(scope="module")
def callers(play, sandbox):
    """Return the caller and the path of the request for each secret, by the name of the secret."""
    entries = sandbox.requests("--service", "secretmanager", "--method", "secrets.get")
    return {entry["path"].rsplit("/", 1)[-1]: (entry["caller"], entry["path"]) for entry in entries}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_request_has_the_expected_caller(case, play, callers, known):
    secret = secret_of(play.way, case.name)
    assert secret in callers, str(play)
    caller, path = callers[secret]
    assert caller == known.values.get(case.caller, case.caller)
    assert f"/projects/{known.cloud.project}/" in path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_missing_is_reported(name, play):
    *_rest, reported = REFUSED[name]
    part = play.output.split(f"TASK [{name}]")[1].split("TASK [")[0]
    assert reported in part, part


def test_no_credentials_are_shown(play, known):
    # Ansible itself prints a task's `environment` in the command that starts a module.
    output = re.sub(r"> EXEC /bin/sh -c .*?&& sleep 0'", "", play.output, flags=re.S)
    for value in known.cloud.confidential:
        assert value not in output
    assert "PRIVATE KEY" not in output


def test_the_lookup_has_the_same_options(known, playbook, sandbox, tmp_path):
    """Set credentials by options, by environment variables, and not at all."""
    cloud = known.cloud
    name = cloud.make_secret("looked-up", "the value\nof the secret")
    for account in (KEYED, TARGET):
        member = f"serviceAccount:{known.values[account]}"
        cloud.grant(f"{SECRETS}/{name}", "roles/secretmanager.secretAccessor", member)
    options = {
        "by-key": "service_account_file=key",
        "by-contents": "auth_kind='serviceaccount', service_account_contents=contents",
        "impersonated": "service_account_file=key, impersonate_service_account=target",
        "bare-name": "service_account_file=key, project=project",
        "environment": "",
    }
    terms = {"bare-name": "looked-up"}
    tasks = [
        {
            "name": title,
            "ansible.builtin.copy": {
                "content": f"{{{{ lookup('mlplatform.gcp.secret', '{terms.get(title, name)}', {arguments}) }}}}",
                "dest": f"{tmp_path}/{title}",
                "mode": "0600",
            },
            "no_log": True,
        }
        for title, arguments in options.items()
    ]
    arguments = "auth_kind='accesstoken', access_token=token"
    refused = {
        "name": "refused",
        "ansible.builtin.debug": {"msg": f"{{{{ lookup('mlplatform.gcp.secret', '{name}', {arguments}) }}}}"},
        "ignore_errors": True,
    }
    env = anonymous(sandbox) | {
        "HOME": str(tmp_path),
        "GCP_AUTH_KIND": "serviceaccount",
        "GCP_SERVICE_ACCOUNT_FILE": known.values["key"],
    }
    play = playbook(
        sandbox,
        tmp_path,
        [{"hosts": "all", "gather_facts": False, "tasks": [*tasks, refused]}],
        {key: known.values[key] for key in ("key", "contents", "target", "project", "token")},
        "-vvv",
        env=env,
    ).check()
    for title in options:
        assert (tmp_path / title).read_text() == "the value\nof the secret", title
    assert "Permission 'secretmanager.versions.access' denied" in play.output
    for value in known.cloud.confidential:
        assert value not in play.output
