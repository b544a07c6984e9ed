# SPDX-License-Identifier: Apache-2.0
"""Test the keys of a deployment: generated once, given to an older deployment on request, and not changed by a run."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY

pytestmark = pytest.mark.usefixtures("instant")
KEYS = ("gateway-key", "webhook-key")
VARIABLES = {"MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"}


@pytest.fixture(scope="module")
def project(new_project):
    return new_project()


@pytest.fixture(scope="module")
def hosts(project, small):
    """`run` is a deployment with the defaults, and `old` one without keys."""
    common = project.variables | {"mlflow_access_members": ["user:alice@example.com"]}
    return {
        "run": common | small,
        "old": common | small | {"mlflow_encryption_keys": False},
    }


def values(project, name):
    """Return the payloads of the keys of a deployment that has them."""
    found = project.owned(name)
    return {key: project.secret(f"{name}-dev-{key}")["versions"] for key in KEYS if f"secret/{name}-dev-{key}" in found}


def variables(project, name):
    (container,) = project.service(f"{name}-dev")["template"]["containers"]
    return {item["name"] for item in container["env"]} & VARIABLES


def test_a_new_deployment_has_keys_that_the_next_run_does_not_change(deployed_resources, project, hosts, controller):
    before = values(project, "run")
    assert set(before) == set(KEYS) and variables(project, "run") == VARIABLES
    assert len({payload for versions in before.values() for _state, payload in versions.values()}) == 2
    run = {"run": hosts["run"]}
    assert controller.run(DEPLOY, hosts=run).check().changed == 0
    assert values(project, "run") == before


def test_a_deployment_without_keys_gets_a_warning_and_changes_only_on_request(
    deployed_resources, project, hosts, controller
):
    assert not values(project, "old") and not variables(project, "old")
    old = {name: value for name, value in hosts["old"].items() if name != "mlflow_encryption_keys"}
    play = controller.run(DEPLOY, hosts={"old": old}).check()
    assert play.changed == 0 and "mlflow_encryption_keys=true" in play.output
    assert not values(project, "old")
    wanted = old | {"mlflow_encryption_keys": True, "mlflow_gateway_key_version": 2}
    assert controller.run(DEPLOY, hosts={"old": wanted}).check().changed > 0
    assert set(values(project, "old")) == set(KEYS) and variables(project, "old") == VARIABLES
    assert controller.run(DEPLOY, hosts={"old": wanted}).check().changed == 0
    # From now on the variable is not needed.
    without = old | {"mlflow_gateway_key_version": 2}
    assert controller.run(DEPLOY, hosts={"old": without}).check().changed == 0


def test_a_removal_keeps_the_keys_with_the_data(deployed_resources, project, hosts, controller):
    run = {"run": hosts["run"]}
    before = values(project, "run")
    controller.run(DESTROY, hosts=run).check()
    assert values(project, "run") == before
    controller.run(DEPLOY, hosts=run).check()
    assert values(project, "run") == before and variables(project, "run") == VARIABLES
