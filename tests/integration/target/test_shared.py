# SPDX-License-Identifier: Apache-2.0
"""Test deployments that share one Cloud SQL instance: the owner's, and two that only use it, on each target.

Each has its own database and user. The instance stays as its owner has it, in a deployment and in a removal.
"""

from __future__ import annotations

import contextlib

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY

pytestmark = pytest.mark.usefixtures("instant")

INSTANCE = "shared-dev"
FLAGS = {"max_connections": "200", "log_min_duration_statement": "500"}
USERS = {"shared": "mlflow", "guest": "mlflow_guest_dev", "engine": "mlflow_engine_dev"}
# The server responds with the name of its revision, which the command replaces.
COMMAND = ["env", "K_REVISION=started-by-the-command", "python", "/app/server.py"]
USES = {"mlflow_ownership": {"database": "used"}, "mlflow_database_instance": INSTANCE}


@pytest.fixture(scope="module")
def project(new_project):
    return new_project()


@pytest.fixture(scope="module")
def hosts(project, small):
    common = small | project.variables | {"mlflow_access_members": ["user:alice@example.com"]}
    engine = {"mlflow_target": "appengine", "mlflow_database_version": "", "appengine_mlflow_location": "europe-west"}
    return {
        "shared": common | {"cloudsql_flags": FLAGS},
        "guest": common | USES | {"cloudrun_mlflow_command": COMMAND, "cloudrun_mlflow_args": ["serve"]},
        "engine": common | USES | engine,
    }


def of_instance(project):
    """Return the instance, its databases and its users, without what changes by itself."""
    home = f"{_cloud.SQL}/{project.home}/instances/{INSTANCE}"
    found = {key: project.list(f"{home}/{key}", "items") for key in ("databases", "users")}
    return {"instance": project.get(home)} | {
        key: {item["name"]: item for item in items} for key, items in found.items()
    }


@pytest.fixture(scope="module")
def owned(project, hosts, box, controller):
    """Deploy the owner of the instance; return what exists then."""
    box.latency("instant")
    controller.run(DEPLOY, hosts={"shared": hosts["shared"]}).check()
    return of_instance(project)


@pytest.fixture(scope="module")
def both(owned, project, hosts, controller):
    """Deploy the deployments that use the instance; return the plan, the run and what exists then."""
    others = {name: hosts[name] for name in ("guest", "engine")}
    plan = controller.run(DEPLOY, "--check", "--diff", hosts=others).check()
    run = controller.run(DEPLOY, hosts=others).check()
    controller.collect(project)
    return plan, run, of_instance(project)


def test_the_instance_does_not_change(owned, both):
    plan, _run, found = both
    assert found["instance"] == owned["instance"]
    flags = {flag["name"]: flag["value"] for flag in found["instance"]["settings"]["databaseFlags"]}
    assert flags == FLAGS
    assert "settings" not in plan.output and "databaseFlags" not in plan.output


def test_each_has_its_own_database_and_user(owned, both):
    found = both[2]
    for key in ("databases", "users"):
        kept = {name: found[key][name] for name in owned[key]}
        assert kept == owned[key]
        assert found[key].keys() - owned[key].keys() == {USERS["guest"], USERS["engine"]}


def password(project, name):
    versions = project.secret(f"{name}-dev-db-password")["versions"]
    return versions[max(versions)][1].decode()


@pytest.mark.parametrize("name", USERS)
def test_a_user_connects_to_its_own_database(both, project, name):
    opened = project.connect(INSTANCE, USERS[name], password(project, name), USERS[name])
    with contextlib.closing(opened) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_mine (value int)")


def test_the_server_runs_the_command_of_the_variables(both, project):
    address = project.address("guest-dev")
    token = project.signed("guest-dev-client", f"{address}/*")
    answer = project.anonymous.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert (answer.status_code, answer.text) == (200, "started-by-the-command")


def test_app_engine_has_no_command(both, project, hosts, controller):
    play = controller.run(DEPLOY, "--check", hosts={"engine": hosts["engine"] | {"cloudrun_mlflow_args": ["serve"]}})
    assert "cloudrun_mlflow_args is set, and App Engine has neither a command nor arguments" in play.message("engine")


def test_a_second_run_changes_nothing(both, hosts, controller):
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


def test_a_removal_keeps_the_instance_and_the_other_deployments(both, project, hosts, controller):
    before = {name: project.owned(name) for name in ("shared", "engine")}
    data = ("-e", "mlflow_destroy_data=true", "-e", "mlflow_destroy_confirm=guest")
    play = controller.run(DESTROY, *data, hosts={"guest": hosts["guest"]}).check()
    assert of_instance(project) == both[2]
    assert {name: project.owned(name) for name in before} == before
    assert project.owned("guest") == {}
    assert f"gcloud sql databases delete {USERS['guest']} --instance {INSTANCE}" in play.output
    assert controller.run(DEPLOY, hosts={name: hosts[name] for name in before}).check().changed == 0
