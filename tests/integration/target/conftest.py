# SPDX-License-Identifier: Apache-2.0
"""The target cloudrun, whole: one deployment of MLflow that most tests share, and small ones for the rest.

The order of the modules is that of the life of the deployment `demo`; each can be run alone. A test that changes the
deployment says so in its name.
"""

from __future__ import annotations

import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.target._target import (
    DEPLOY,
    IMAGES,
    Box,
    Controller,
    Project,
)

ORDER = [
    "test_deploy",
    "test_interruption",
    "test_composition",
    "test_changes",
    "test_access",
    "test_destroy",
    "test_variants",
    "test_bad_input",
    "test_failures",
    "test_secrecy",
]
LATENCY = "scaled:60"


def pytest_collection_modifyitems(items):
    mine = [item for item in items if item.path.parent.name == "target"]
    ordered = iter(sorted(mine, key=lambda item: ORDER.index(item.path.stem)))
    items[:] = [next(ordered) if item in mine else item for item in items]


@pytest.fixture(scope="session")
def box(tmp_path_factory):
    box = Box(tmp_path_factory.mktemp("target") / "state")
    box.options = ("--latency", LATENCY)
    box.up()
    yield box
    box.run("reset")


@pytest.fixture(scope="session")
def controller(box, tmp_path_factory):
    controller = Controller(box, tmp_path_factory.mktemp("controller"))
    yield controller
    controller.watcher.stop()


@pytest.fixture(scope="session")
def see(box, controller):
    """A function that gives the view of a project from outside."""
    return lambda name: Project(box, name, controller.folder)


@pytest.fixture(scope="session")
def demo(see):
    """The project that the inventory of the sandbox deploys into."""
    return see("mlflow-sandbox")


@pytest.fixture(scope="session")
def fresh(controller, box, demo):
    """What was seen before, during and after the first deployment of `demo`, while operations take their time."""
    seen = {"before": box.everything(), "resources before": demo.resources(), "roles before": demo.project_roles()}
    seen["plan"] = controller.run(DEPLOY, "--check", "--diff")
    seen["after the plan"] = box.everything()
    seen["began"] = time.time()
    seen["deploy"] = controller.run(DEPLOY)
    seen["ended"] = time.time()
    seen["operations"] = box.operations(demo.project)
    return seen


@pytest.fixture(scope="session")
def deployed(fresh, demo):
    """The project with the deployment `demo` in it."""
    fresh["deploy"].check()
    return demo


@pytest.fixture
def instant(box):
    box.latency("instant")


@pytest.fixture
def timed(box):
    box.latency(LATENCY)


@pytest.fixture(scope="session")
def new_project(box, see):
    """A function that makes a project and gives the view of it from outside."""
    session = box.session()
    return lambda: see(base.new_project(session))


@pytest.fixture(scope="session")
def small():
    """Variables of a deployment whose image starts at once."""
    return {"mlflow_image_context": str(IMAGES / "serving")}
