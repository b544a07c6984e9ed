# SPDX-License-Identifier: Apache-2.0
"""Test the first deployment, a run without changes, and the verification with MLflow's own client."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlplatform.gcp.scripts import measure
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, ROOT, VERIFY


def test_a_check_of_an_empty_project_changes_nothing(fresh):
    assert fresh["plan"].ok, fresh["plan"]
    assert fresh["after the plan"] == fresh["before"]


def test_a_check_of_an_empty_project_shows_the_whole_plan(fresh, deployed):
    plan = fresh["plan"]
    assert plan.changed == fresh["deploy"].changed
    made = {name.split("/")[1] for name in deployed.resources().keys() - fresh["resources before"].keys()}
    assert len(made) >= 12
    missing = [name for name in made if not re.search(rf"^\+.*{re.escape(name)}", plan.output, re.M)]
    assert not missing, f"{missing} not in the plan: {plan}"


@pytest.mark.parametrize("waits_for", ["sql.operations.get", "builds.get"])
def test_waiting_starts_after_all_other_resources_are_created(fresh, deployed, box, waits_for):
    """The database and the build are polled only after that, also on a slow machine."""
    polls = box.requests_since(fresh["began"], waits_for)
    first = min((time for time, *_ in polls), default=fresh["ended"])
    for made in ("sql.instances.insert", "builds.create", "serviceAccounts.create", "buckets.insert", "secrets.create"):
        times = [time for time, *_ in box.requests_since(fresh["began"], made)]
        assert times, made
        assert max(times) < first, f"{waits_for} before {made}"


def test_the_database_is_created_first_and_the_build_before_the_secrets(fresh, deployed, box):
    # The bucket comes before the build: the lock of the deployment is in it.
    order = ("sql.instances.insert", "buckets.insert", "builds.create", "secrets.create")
    began = [box.requests_since(fresh["began"], method)[0][0] for method in order]
    assert began == sorted(began)


def test_a_check_after_the_deployment_shows_nothing(deployed, controller):
    play = controller.run(DEPLOY, "--check", "--diff").check()
    assert play.changed == 0, play
    assert not re.search(r"^(\+|-|@@)", play.output, re.M), play


def test_a_second_run_changes_nothing_within_its_budget_of_requests(deployed, box):
    measured = measure.Sandbox(ROOT, box.state)
    run = measured.playbook(measure.DEMONSTRATION)
    print(f"\n{run}", end="")
    assert measure.problems([run], measured.resources()) == []


def test_the_verification_passes(deployed, controller):
    play = controller.run(VERIFY, verbosity=4).check()
    for check in ("download of 1 MiB", "download of 40 MiB", "registered model", "metrics"):
        assert re.search(rf"ok: .*{check}", play.output), play
    assert len(re.findall(r"ok: .* rejected \(\d+", play.output)) >= 3


def test_a_run_is_logged_as_the_readme_says(logged):
    assert re.fullmatch(r"[0-9a-f]{32}", logged[1])
