# SPDX-License-Identifier: Apache-2.0
"""Test two runs of a playbook at the same time: the deployment is what one undisturbed run makes of it."""

from __future__ import annotations

import functools
import random
import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, SEED, Project

HOST = "pair"
OFFSETS = (0, 0.3, 1, 2, 10)
#: The offsets of `make test`; the others are for `make endurance`.
SAMPLE = random.Random(SEED).sample(OFFSETS[:-1], 2)
WITH_DATA = ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={HOST}")


def offsets(*sample: float) -> list:
    """Return all offsets as parameters; those that are not in the sample have the mark of `make endurance`."""
    return [item if item in sample else pytest.param(item, marks=pytest.mark.endurance) for item in OFFSETS]


class Pair:
    """The deployment of one project, changed by two runs that start shortly after each other."""

    def __init__(self, project: Project, controller, small):
        self.project, self.controller = project, controller
        self.hosts = {HOST: small | project.variables}

    def run(self, playbook, offset, *options):
        """Run the playbook twice."""
        first = self.controller.start(playbook, *options, hosts=self.hosts)
        time.sleep(offset)
        second = self.controller.start(playbook, *options, hosts=self.hosts)
        first.wait().check()
        second.wait().check()

    def state(self):
        """Return what two runs could double or leave out, without what differs between projects."""
        project = self.project
        found = dict.fromkeys(project.resources(), "")
        for name in list(found):
            kind, _, short = name.partition("/")
            if kind == "secret":
                secret = project.secret(short)
                found[name] = f"{len(secret['versions'])} version {secret['bindings']}"
            elif kind == "bucket":
                found[name] = str(project.bindings(f"{_cloud.STORAGE}/b/{short}"))
        builds = project.list(f"{_cloud.BUILD}/{project.region}/builds", "builds", pageSize=100)
        found["builds"] = str([build["status"] for build in builds])
        job = f"{_cloud.RUN}/{project.region}/jobs/{HOST}-dev-migrate"
        if f"job/{HOST}-dev-migrate" in found:
            found["migrations"] = str(len(project.list(f"{job}/executions", "executions", pageSize=100)))
        found["project"] = str(sorted(project.project_roles(HOST)))
        changing = {project.project: "PROJECT", project.number: "NUMBER"}
        return {_replaced(name, changing): _replaced(value, changing) for name, value in found.items()}


def _replaced(text: str, changing: dict[str, str]) -> str:
    for value, word in changing.items():
        text = text.replace(value, word)
    return text


@pytest.fixture(scope="module")
def make_pair(box, new_project, controller, small):
    box.latency("instant")
    return lambda: Pair(new_project(), controller, small)


@pytest.fixture(scope="module")
def undisturbed(make_pair, controller):
    """Return the state after one run."""
    pair = make_pair()
    controller.run(DEPLOY, hosts=pair.hosts).check()
    return pair.state()


@pytest.fixture(scope="module")
def deployed_by_two(make_pair):
    """Return a function that deploys with two runs, once for each offset, and returns the `Pair`."""

    @functools.cache
    def deploy(offset):
        pair = make_pair()
        pair.run(DEPLOY, offset)
        return pair

    return deploy


@pytest.mark.parametrize("offset", offsets(*SAMPLE))
def test_two_deployments_are_one(offset, deployed_by_two, undisturbed, record_property):
    record_property("pairs of simultaneous runs", 1)
    assert deployed_by_two(offset).state() == undisturbed
    record_property("pairs that are one run", 1)


@pytest.mark.parametrize("offset", offsets(SAMPLE[0]))
def test_two_changes_of_the_target_are_one(offset, deployed_by_two, undisturbed, controller, record_property):
    record_property("pairs of simultaneous runs", 1)
    pair = deployed_by_two(offset)
    pair.hosts[HOST]["mlflow_target"] = "appengine"
    pair.run(DEPLOY, offset)
    url = f"{_cloud.APP_ENGINE}/apps/{pair.project.project}/services/default/versions"
    assert [item["servingStatus"] for item in pair.project.list(url, "versions")] == ["SERVING"]
    state = pair.state()
    assert f"service/{HOST}-dev" not in state and f"service/{HOST}-dev" in undisturbed
    assert [name for name in undisturbed if name.startswith("secret/") and "1 version" not in state[name]] == []
    assert state["builds"] == undisturbed["builds"]
    assert controller.run(DEPLOY, hosts=pair.hosts).check().changed == 0
    record_property("pairs that are one run", 1)


@pytest.mark.parametrize("offset", offsets(SAMPLE[1]))
def test_two_removals_are_one(offset, deployed_by_two, record_property):
    record_property("pairs of simultaneous runs", 1)
    pair = deployed_by_two(offset)
    pair.run(DESTROY, offset, *WITH_DATA)
    assert pair.project.owned(HOST) == {}
    assert pair.state()["project"] == "[]"
    record_property("pairs that are one run", 1)
