# SPDX-License-Identifier: Apache-2.0
"""Test killed runs, a killed sandbox, and two runs at the same time, with slow operations."""

from __future__ import annotations

import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY

# A run is killed after the given number of responses to a method; its operation continues in the cloud.
PHASES = {
    "APIs": ("services.batchEnable", "", 1),
    "database": ("sql.instances.insert", "", 1),
    "build": ("builds.create", "", 1),
    "secrets": ("secrets.create", "", 2),
    "user": ("sql.users.insert", "", 1),
    "job": ("jobs.run", "", 1),
    "service": ("services.create", "", 1),
}


@pytest.fixture(scope="module")
def interrupted(new_project):
    """Create the project of the killed runs."""
    return new_project()


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_killed_continues_where_the_previous_one_was_killed(phase, interrupted, box, controller, small):
    method, where, times = PHASES[phase]
    began = time.time()
    run = controller.start(DEPLOY, hosts={"interrupted": small | interrupted.variables})
    box.await_request(began, method, where, run, times=times)
    play = run.kill()
    assert play.status == -9
    assert "fatal:" not in play.output, play


@pytest.mark.usefixtures("timed")
def test_the_next_run_completes_the_deployment(interrupted, controller, small):
    hosts = {"interrupted": small | interrupted.variables}
    controller.run(DEPLOY, hosts=hosts).check()
    assert interrupted.service("interrupted-dev")["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert (
        interrupted.list(f"https://cloudbuild.googleapis.com/v1/{interrupted.region}/builds", "builds", pageSize=10)[1:]
        == []
    )
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


@pytest.mark.usefixtures("timed")
def test_a_run_continues_after_the_sandbox_was_killed(new_project, box, controller, small):
    project = new_project()
    hosts = {"restarted": small | project.variables}
    began = time.time()
    run = controller.start(DEPLOY, hosts=hosts)
    box.await_request(began, "secrets.create", "", run)
    box.kill()
    box.up()
    run.wait().check()
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


@pytest.mark.usefixtures("timed")
def test_a_second_run_joins_the_first(new_project, box, controller, small):
    project = new_project()
    hosts = {"twice": small | project.variables}
    began = time.time()
    first = controller.start(DEPLOY, hosts=hosts)
    box.await_request(began, "sql.instances.insert", "", first)
    second = controller.start(DEPLOY, hosts=hosts)
    first.wait().check()
    second.wait().check()
    created = [job for job in (o.job for o in box.operations(project.project)) if job in ("create", "cloudbuild.build")]
    assert sorted(created) == ["cloudbuild.build", "create"]
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
