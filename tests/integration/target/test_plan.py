# SPDX-License-Identifier: Apache-2.0
"""Test the plan of an empty project, of a deployed one, and of one that was changed outside Ansible."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import PLAN, report_plan

BUCKET = f"{_cloud.STORAGE}/b/mlflow-sandbox-demo-dev-artifacts"


@pytest.fixture
def plan(controller, tmp_path):
    """Return a function that runs plan.yml and returns the run and its report."""

    def plan(**more):
        path = controller.folder / "plan.json"
        path.unlink(missing_ok=True)
        play = controller.run(PLAN, env=report_plan(path), **more)
        return play, json.loads(path.read_text())

    return plan


def test_the_first_run_creates_what_its_plan_lists(fresh, deployed):
    planned, applied = fresh["report of the plan"], fresh["report of the deployment"]
    assert planned["hosts"]["demo"]["status"] == applied["hosts"]["demo"]["status"] == "changes"
    assert planned["applied"]["create"] == applied["planned"]["create"] == 0
    assert planned["planned"] == applied["applied"]
    made = [name.split("/")[1] for name in deployed.owned("demo")]
    listed = [item["name"] for item in planned["hosts"]["demo"]["changes"] if item["action"] == "create"]
    assert not [name for name in made if not any(name in path for path in listed)]
    # The method `owned` lists neither databases and their users nor images.
    others = [path for path in listed if "/databases/" in path or "/users/" in path or "docker.pkg.dev" in path]
    assert len(listed) == len(made) + len(others)


def test_the_first_run_prints_its_plan(fresh):
    counts = fresh["report of the plan"]["planned"]
    line = "{create} to create, {change} to change, {delete} to delete".format(**counts)
    assert fresh["plan"].output.rstrip().endswith(f"Plan: {line}")
    line = "{create} created, {change} changed, {delete} deleted".format(**counts)
    assert fresh["deploy"].output.rstrip().endswith(f"Applied: {line}")


def test_a_plan_of_an_empty_project_changes_nothing_and_an_error_is_reported_per_host(plan, box, small, new_project):
    variables = small | new_project().variables
    before = box.everything()
    play, report = plan(hosts={"empty": variables, "wrong": variables | {"mlflow_target": "nowhere"}})
    assert box.everything() == before
    assert play.status == 2, play
    assert report["hosts"]["empty"]["status"] == "changes" and report["hosts"]["empty"]["errors"] == []
    assert report["hosts"]["wrong"]["status"] == "failed" and "nowhere" in str(report["hosts"]["wrong"]["errors"])
    created = report["hosts"]["empty"]["planned"]["create"]
    assert created >= 12
    assert f"Plan: {created} to create, " in play.output.splitlines()[-1]


def test_a_plan_of_a_deployed_project_is_empty(plan, deployed):
    play, report = plan()
    assert play.status == 0, play
    assert play.output.rstrip().endswith("Plan: 0 to create, 0 to change, 0 to delete")
    assert report["hosts"]["demo"]["status"] == "unchanged" and report["hosts"]["demo"]["changes"] == []


def test_a_change_outside_ansible_is_status_2_and_listed(plan, deployed, box):
    deployed.request("PATCH", BUCKET, {"versioning": {"enabled": True}})
    before = box.everything()
    play, report = plan()
    assert play.status == 2, play
    assert box.everything() == before
    lines = play.output.splitlines()
    heading = lines.index("~ bucket mlflow-sandbox-demo-dev-artifacts")
    assert lines[heading + 1].split() == ["versioning.enabled", "true", "->", "false"]
    assert lines[-1] == "Plan: 0 to create, 1 to change, 0 to delete"
    (change,) = report["hosts"]["demo"]["changes"]
    assert change["fields"] == [{"path": "versioning.enabled", "before": True, "after": False}]

    deployed.request("PATCH", BUCKET, {"versioning": {"enabled": False}})
    assert plan()[0].status == 0
