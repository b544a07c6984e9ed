# SPDX-License-Identifier: Apache-2.0
"""Test the removal of the deployment `demo`: first without its data, which the next deployment uses, then with it."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, find_run

DATA = {
    "instance/demo-dev",
    "bucket/mlflow-sandbox-demo-dev-artifacts",
    "secret/demo-dev-db-username",
    "secret/demo-dev-db-password",
    "secret/demo-dev-database-url",
    "secret/demo-dev-artifact-url",
    "secret/demo-dev-gateway-key",
    "secret/demo-dev-webhook-key",
}
LOGIN = {f"secret/demo-dev-{name}" for name in ("tracking-username", "tracking-password", "session-key")}
WITH_DATA = ("-e", "mlflow_destroy_data=true")
CONFIRMED = (*WITH_DATA, "-e", "mlflow_destroy_confirm=demo")
UNRELATED = "bucket/unrelated-bucket"


@pytest.fixture(scope="module")
def before(logged, deployed, box, controller):
    """Create a resource that the deployment does not own, and return all resources."""
    box.latency("instant")
    controller.collect(deployed)
    deployed.make_bucket("unrelated-bucket")
    return deployed.resources()


@pytest.fixture(scope="module")
def without_data(before, controller):
    check = controller.run(DESTROY, "--check", "--diff").check()
    return check, controller.run(DESTROY).check()


@pytest.fixture(scope="module")
def deployed_again(without_data, controller):
    return controller.run(DEPLOY).check()


@pytest.fixture(scope="module")
def with_data(deployed_again, controller):
    return controller.run(DESTROY, *CONFIRMED).check()


def test_without_the_data_flag_only_the_data_remains(before, without_data, deployed):
    assert deployed.owned("demo").keys() - LOGIN == DATA


def test_the_kept_data_is_reported(without_data):
    for play in without_data:
        kept = next(line for line in play.output.splitlines() if '"Kept: ' in line)
        for name in ("demo-dev", "mlflow-sandbox-demo-dev-artifacts", "demo-dev-db-password"):
            assert name in kept, kept


def test_a_check_reports_the_same_number_of_changes(without_data):
    check, run = without_data
    assert check.changed == run.changed > 0


def test_no_policy_contains_a_deleted_account(without_data, deployed):
    assert deployed.project_roles("demo-dev-") == set()
    for url in (
        f"{_cloud.STORAGE}/b/mlflow-sandbox-demo-dev-artifacts",
        f"{_cloud.SECRETS}/{deployed.home}/secrets/demo-dev-db-password",
    ):
        assert "demo-dev-" not in str(deployed.policy(url).get("bindings", []))


def test_a_deployment_after_that_has_the_runs(logged, deployed_again, deployed, box):
    run_id = logged[1]
    run = find_run(deployed, deployed.address("demo-dev"), "demo-dev-client", run_id)
    assert {item["key"]: item["value"] for item in run["data"]["metrics"]} == {"loss": 0.1}
    bucket = run["info"]["artifact_uri"].removeprefix("gs://").split("/")[0]
    objects = deployed.list(f"{_cloud.STORAGE}/b/{bucket}/o", "items")
    assert any(run_id in item["name"] and item["name"].endswith("note.txt") for item in objects)


def test_data_is_destroyed_only_after_confirmation_with_the_name(deployed_again, deployed, controller):
    existing = deployed.owned("demo")
    for options in (WITH_DATA, (*WITH_DATA, "-e", "mlflow_destroy_confirm=demo-dev")):
        play = controller.run(DESTROY, *options)
        assert not play.ok
        assert "mlflow_destroy_confirm=demo" in play.message("demo")
        assert "Nothing was changed" in play.message("demo")
    assert deployed.owned("demo") == existing


def test_with_the_data_nothing_remains(with_data, deployed):
    assert deployed.owned("demo") == {}
    assert not [name for name in deployed.resources() if "demo-dev" in name]
    assert deployed.project_roles("demo-dev-") == set()
    assert "no data" in with_data.output


def test_a_resource_of_another_owner_is_not_changed(before, with_data, deployed):
    assert deployed.resources()[UNRELATED] == before[UNRELATED]


def test_a_second_run_changes_nothing(with_data, controller):
    play = controller.run(DESTROY, *CONFIRMED).check()
    assert play.changed == 0
    assert "nothing" in play.output
