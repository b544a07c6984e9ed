# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed, a sandbox that is killed, and two runs at the same time. Operations take their time."""

from __future__ import annotations

import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY

# Where a run is killed: as soon as this was answered, when what it began goes on in the cloud.
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
def torn(new_project):
    """A project in which every run of the first tests is killed."""
    return new_project()


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_killed_goes_on_from_where_the_last_one_was_killed(phase, torn, box, controller, small):
    method, where, times = PHASES[phase]
    began = time.time()
    run = controller.start(DEPLOY, hosts={"torn": small | torn.variables})
    box.await_request(began, method, where, run, times=times)
    play = run.kill()
    assert play.status == -9
    assert "fatal:" not in play.output, play


@pytest.mark.usefixtures("timed")
def test_the_next_run_finishes_what_was_killed_in_each_phase(torn, controller, small):
    hosts = {"torn": small | torn.variables}
    controller.run(DEPLOY, hosts=hosts).check()
    assert torn.service("torn-dev")["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert torn.list(f"https://cloudbuild.googleapis.com/v1/{torn.region}/builds", "builds", pageSize=10)[1:] == []
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


@pytest.mark.usefixtures("timed")
def test_a_sandbox_that_is_killed_loses_nothing_and_the_run_goes_on(new_project, box, controller, small):
    project = new_project()
    hosts = {"lost": small | project.variables}
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
