# SPDX-License-Identifier: Apache-2.0
"""Test deployments while requests fail, answers are late or lost, and operations end with errors.

The run succeeds, or fails with a readable error and the next undisturbed run succeeds. The deployment is then what an
undisturbed run makes of it. `make test` tries one kind of fault and loses each answer once, `make endurance` tries all.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.mlplatform.gcp.tests.endurance._state import differences, state
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import (
    DEPLOY,
    SEED,
    Box,
    Controller,
    Play,
    Project,
)

NAME = "demo"
TARGETS = ("cloudrun", "appengine")
#: The kinds of faults that a fifth of the requests meets.
KINDS = {
    "429": {"kind": 429},
    "429 with Retry-After": {"kind": 429, "retry_after": 1},
    "500": {"kind": 500},
    "503": {"kind": 503},
    "reset": {"kind": "reset"},
    "stall": {"kind": "stall", "seconds": 2},
    "lost": {"kind": "lost", "writes_only": True},
}
SHARE = 0.2
SEEDS = (SEED, SEED + 1)
SAMPLE = (random.Random(SEED).choice(list(KINDS)), "cloudrun", SEED)
#: Lists in which an attempt that has failed stays.
ATTEMPTS = (
    "builds.INTERNAL_ERROR",
    f"job/{NAME}-dev-migrate executions.CONDITION_FAILED",
    f"job/{NAME}-dev-migrate.executionCount",
    f"job/{NAME}-dev-migrate.template.labels",
    f"service/{NAME}-dev revisions",
    f"service/{NAME}-dev.template.labels",
)
#: More runs than a deployment has operations.
MOST_RUNS = 25


@dataclass
class Trial:
    """Deployments of one target, each in a project of its own, in runs with one host for each."""

    box: Box
    controller: Controller
    target: str
    projects: Sequence[Project]
    small: Mapping[str, Any]

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        more = {"mlflow_name": NAME, "mlflow_target": self.target}
        return {f"h{n}": {**self.small, **one.variables, **more} for n, one in enumerate(self.projects)}

    def run(self) -> Play:
        """Deploy without faults."""
        return self.checked(self.controller.run(DEPLOY, hosts=self.hosts))

    def checked(self, play: Play) -> Play:
        """Check that the output of a run can be read and has no secrets, and return the run."""
        for project in self.projects:
            self.controller.collect(project)
        assert "Traceback" not in play.output, play.output
        assert [name for name, value in self.controller.confidential.items() if value.decode() in play.output] == []
        for host in self.hosts:
            assert not play.failed(host) or play.message(host), play.output
        return play

    def disturbed(self, rules: Sequence[Mapping[str, Any]], seed: int = SEED) -> tuple[Play, int]:
        """Deploy while requests meet faults; return the run, and the number of faults."""
        self.box.run("faults", "set", json.dumps({"seed": seed, "rules": rules}))
        try:
            play = self.controller.run(DEPLOY, hosts=self.hosts)
            met = json.loads(self.box.run("faults", "show", "--json").stdout)["rules"]
        finally:
            self.box.run("faults", "clear")
        return self.checked(play), sum(rule["applied"] for rule in met)

    def delete_failed_instances(self) -> None:
        """Do what the error asks for: an instance of Cloud SQL that could not be created has to be deleted."""
        for project in self.projects:
            url = f"{_cloud.SQL}/{project.home}/instances/{NAME}-dev"
            instance = project.get(url) if "sqladmin" in project.enabled() else None
            while instance and instance["state"] == "FAILED":
                _wait(project, project.request("DELETE", url))
                instance = project.get(url)

    def differing(self, expected: Mapping[str, str]) -> list[str]:
        """Return a line for each difference from an undisturbed deployment."""
        return [line for project in self.projects for line in differences(expected, state(project))]


@pytest.fixture(scope="module")
def trial(box, controller, new_project, small) -> Callable[..., Trial]:
    """Return a function that prepares projects for deployments of a target."""
    box.latency("instant")
    return lambda target, number=1: Trial(box, controller, target, [new_project() for _index in range(number)], small)


@pytest.fixture(scope="module")
def undisturbed(trial) -> Callable[[str], dict[str, str]]:
    """Return a function that returns the state that an undisturbed deployment of a target has."""

    @functools.cache
    def deployed(target: str) -> dict[str, str]:
        one = trial(target)
        one.run().check()
        return state(one.projects[0])

    return deployed


def _wait(project: Project, operation: dict[str, Any]) -> None:
    while operation["status"] != "DONE":
        time.sleep(0.1)
        operation = project.request("GET", f"{project.sql_operations}/{operation['name']}")


def cases() -> Iterator[Any]:
    for kind in KINDS:
        for target in TARGETS:
            for seed in SEEDS:
                marks = () if (kind, target, seed) == SAMPLE else pytest.mark.endurance
                yield pytest.param(kind, target, seed, marks=marks, id=f"{kind}-{target}-{seed}")


def completed(one: Trial, play: Play) -> bool:
    """Return whether the disturbed run has deployed; complete the deployment if it has not."""
    if not play.ok:
        print("".join(f"\n    {host}: {play.message(host)}" for host in one.hosts if play.failed(host)), end="")
        one.run().check()
    return play.ok


@pytest.mark.parametrize(("kind", "target", "seed"), cases())
def test_a_fifth_of_the_requests_meets_a_fault(kind, target, seed, trial, undisturbed, record_property):
    expected = undisturbed(target)
    one = trial(target, 1 if (kind, target, seed) == SAMPLE else 2)
    play, met = one.disturbed([{**KINDS[kind], "share": SHARE}], seed)
    print(f"\n    seed {seed}: {met} faults {kind}", end="")
    record_property("faults", met)
    completed(one, play)
    assert met > 0
    assert one.differing(expected) == []
    record_property("faults survived", met)


@pytest.mark.endurance
@pytest.mark.parametrize("target", TARGETS)
def test_the_answer_to_each_write_is_lost_once(target, trial, undisturbed, record_property):
    expected = undisturbed(target)
    one = trial(target)
    play, met = one.disturbed([{"kind": "lost", "writes_only": True, "first": 1}])
    print(f"\n    {met} answers lost", end="")
    record_property("faults", met)
    completed(one, play)
    assert met > 10
    assert one.differing(expected) == []
    record_property("faults survived", met)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_each_operation_fails_once(target, trial, undisturbed, record_property):
    """Each run gets past the operations that have failed in the runs before."""
    expected = undisturbed(target)
    one = trial(target)
    one.box.run("faults", "set", json.dumps([{"kind": "operation", "first": 1}]))
    try:
        for number in range(MOST_RUNS):
            play = one.run()
            print(f"\n    run {number + 1}: {play.message('h0') if play.failed('h0') else 'succeeds'}", end="")
            if play.ok:
                break
            if "is FAILED" in play.message("h0"):
                one.delete_failed_instances()
        met = json.loads(one.box.run("faults", "show", "--json").stdout)["rules"][0]["applied"]
    finally:
        one.box.run("faults", "clear")
    record_property("faults", met)
    assert one.run().check().changed == 0
    assert met > 5
    assert [line for line in one.differing(expected) if not line.startswith(ATTEMPTS)] == []
    record_property("faults survived", met)


@pytest.mark.endurance
@pytest.mark.parametrize("method", ["*.builds.create", "*.secrets.addVersion", "*.jobs.run"])
def test_a_write_that_stalls_is_not_repeated(method, trial, undisturbed, record_property):
    """The product waits for 90 seconds for an answer, and looks 10 seconds later for what the request has made."""
    expected = undisturbed(TARGETS[0])
    one = trial(TARGETS[0])
    play, met = one.disturbed([{"kind": "stall", "seconds": 110, "method": method, "first": 1}])
    record_property("faults", met)
    assert met == 1
    assert not play.ok
    assert "run the task again" in play.message("h0")
    time.sleep(20)  # until the service has processed the request
    one.run().check()
    assert one.differing(expected) == []
    record_property("faults survived", met)
