# SPDX-License-Identifier: Apache-2.0
"""Test that the roles of docs/permissions.md are sufficient, and that preflight prints the commands that grant them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import permissions
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.deployer_roles import smallest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, VERIFY, Project

COMMAND = re.compile(
    r"^gcloud projects add-iam-policy-binding (?P<project>\S+) --member=(?P<member>\S+) --role=(?P<role>\S+)"
    r" --condition=None$",
    re.M,
)
CHOICES = {"cloudrun": {"iap": True}, "appengine": {"iap": True, "creates_application": True}}
DEPLOYERS = {
    name: smallest(permissions.needed("deploy", target.permissions, **CHOICES[name])).roles
    for name, target in TARGETS.items()
}


@dataclass
class Deployer:
    """A service account, its project, and the variables of a host that is deployed with its key."""

    project: Project
    email: str
    variables: dict[str, Any]

    @classmethod
    def make(cls, project: Project, account: str, folder: Path, variables: dict[str, Any]) -> Deployer:
        """Create the account and its key."""
        email = project.make_account(account)
        path = folder / f"{project.project}-{account}.json"
        path.write_bytes(project.make_key(email))
        path.chmod(0o600)
        own = {"gcp_service_account_file": str(path), "gcp_quota_project": ""}
        return cls(project, email, project.variables | variables | own)

    def set_roles(self, roles: tuple[str, ...]) -> None:
        """Grant the account these roles on the project and revoke all others."""
        url, member = f"{_cloud.MANAGER}/v3/{self.project.home}", f"serviceAccount:{self.email}"
        policy = self.project.policy(url)
        for binding in policy["bindings"]:
            binding["members"] = [one for one in binding["members"] if one != member]
        policy["bindings"] = [binding for binding in policy["bindings"] if binding["members"]]
        policy["bindings"] += [{"role": role, "members": [member]} for role in roles]
        self.project.request("POST", f"{url}:setIamPolicy", {"policy": policy})

    def printed(self, message: str) -> list[str]:
        """Return the roles of the commands in a message, which must be for this account and this project."""
        found = [match.groupdict() for match in COMMAND.finditer(message)]
        assert len(found) == message.count("gcloud projects"), message
        assert {(item["project"], item["member"]) for item in found} <= {
            (self.project.project, f"serviceAccount:{self.email}")
        }
        return [item["role"] for item in found]


@pytest.fixture(scope="module")
def deployers(box, new_project, small, tmp_path_factory) -> dict[str, Deployer]:
    """Create a deployer without roles for each target, in a project with only the APIs for accounts and policies."""
    box.latency("instant")
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for target in TARGETS:
        project = new_project()
        project.enable("iam", "cloudresourcemanager")
        variables = {"mlflow_target": target, "mlflow_access_members": ["user:alice@example.com"]}
        # The verification on Cloud Run needs a real MLflow server.
        variables |= {} if target == "cloudrun" else small | {"mlflow_verify_timeout": 60}
        found[target] = Deployer.make(project, "limited", folder, variables)
    return found


@pytest.fixture(scope="module")
def lacking(deployers, tmp_path_factory) -> dict[str, Deployer]:
    """Create a deployer on Cloud Run for each role, with all roles but this one."""
    project, folder = deployers["cloudrun"].project, tmp_path_factory.mktemp("lacking")
    found = {}
    for number, role in enumerate(DEPLOYERS["cloudrun"]):
        variables = {"mlflow_target": "cloudrun", "mlflow_name": f"lacks-{number}"}
        found[role] = Deployer.make(project, f"lacks-{number}", folder, variables)
        found[role].set_roles(tuple(other for other in DEPLOYERS["cloudrun"] if other != role))
    return found


@pytest.fixture(scope="module")
def refused(deployers, lacking, controller, box):
    """Run deploy.yml for the deployers without roles and for the deployers with one missing role."""
    hosts = {target: deployer.variables for target, deployer in deployers.items()}
    hosts |= {deployer.variables["mlflow_name"]: deployer.variables for deployer in lacking.values()}
    before = box.everything()
    play = controller.run(DEPLOY, "--forks", "4", hosts=hosts, verbosity=4)
    assert box.everything() == before
    return play


@pytest.mark.parametrize("target", TARGETS)
def test_preflight_prints_the_smallest_set_for_a_deployer_without_roles(refused, deployers, target):
    message = refused.message(target)
    assert set(deployers[target].printed(message)) == set(DEPLOYERS[target]), message


@pytest.mark.parametrize("role", DEPLOYERS["cloudrun"])
def test_preflight_prints_the_command_for_the_one_role_that_is_missing(refused, lacking, role):
    deployer = lacking[role]
    message = refused.message(deployer.variables["mlflow_name"])
    assert set(deployer.printed(message)) == {role}, message


@pytest.fixture(scope="module")
def deployed_with_roles(deployers, controller):
    """Deploy with the roles that preflight prints."""
    for target, deployer in deployers.items():
        deployer.set_roles(DEPLOYERS[target])
    hosts = {target: deployer.variables for target, deployer in deployers.items()}
    play = controller.run(DEPLOY, hosts=hosts, verbosity=4).check()
    for deployer in deployers.values():
        controller.collect(deployer.project)
    return play


def run_with_roles(controller, deployers, playbook, action, *options):
    """Run a playbook with exactly the roles of an action."""
    for target, deployer in deployers.items():
        deployer.set_roles(smallest(permissions.needed(action, TARGETS[target].permissions, iap=True)).roles)
    hosts = {target: deployer.variables for target, deployer in deployers.items()}
    return controller.run(playbook, *options, hosts=hosts, verbosity=4)


def test_deploys_with_exactly_these_roles(deployed_with_roles, deployers):
    assert "service/cloudrun-dev" in deployers["cloudrun"].project.owned("cloudrun")
    for target, deployer in deployers.items():
        assert f"instance/{target}-dev" in deployer.project.owned(target)


@pytest.fixture(scope="module")
def again(deployed_with_roles, controller, deployers):
    return run_with_roles(controller, deployers, DEPLOY, "deploy").check()


def test_a_later_deployment_needs_no_role_to_create_the_application(again):
    assert again.changed == 0


@pytest.fixture(scope="module")
def verified(again, controller, deployers):
    return run_with_roles(controller, deployers, VERIFY, "verify")


def test_verifies_with_exactly_these_roles(verified):
    assert not verified.failed("cloudrun"), verified.message("cloudrun")
    # The image of the other target is not MLflow: only the checks that need permissions succeed.
    assert re.search(r"^ok: client of \S+ accepted", verified.message("appengine"), re.M)
    assert "PERMISSION_DENIED" not in verified.message("appengine")


@pytest.fixture(scope="module")
def destroyed(verified, controller, deployers):
    return run_with_roles(controller, deployers, DESTROY, "destroy").check()


@pytest.mark.parametrize("target", TARGETS)
def test_destroys_with_exactly_these_roles_and_keeps_the_data(destroyed, deployers, target):
    left = {name.split("/")[0] for name in deployers[target].project.owned(target)}
    assert left == {"instance", "bucket", "secret"}
    assert f"bucket/{deployers[target].project.project}-{target}-dev-build" not in deployers[target].project.owned(
        target
    )


@pytest.mark.parametrize("target", TARGETS)
def test_destroys_the_data_with_exactly_these_roles(destroyed, deployers, controller, target):
    options = ("-e", json.dumps({"mlflow_destroy_data": True, "mlflow_destroy_confirm": target}), "--limit", target)
    run_with_roles(controller, deployers, DESTROY, "destroy_data", *options).check()
    assert deployers[target].project.owned(target) == {}
