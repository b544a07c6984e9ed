# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests that deploy with the playbooks: a sandbox, the controller, projects, and a small image."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.target._target import IMAGES, Box, Controller, Project

LATENCY = "scaled:60"


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
def get_project(box, controller):
    """Return a function that returns the `Project` of a name."""
    return lambda name: Project(box, name, controller.folder)


@pytest.fixture(scope="session")
def new_project(box, get_project):
    """Return a function that creates a project and returns its `Project`."""
    session = box.session()
    return lambda: get_project(base.new_project(session))


@pytest.fixture
def instant(box):
    box.latency("instant")


@pytest.fixture
def timed(box):
    box.latency(LATENCY)


@pytest.fixture(scope="session")
def small():
    """Return the variables of a deployment with an image that starts immediately."""
    return {"mlflow_image_context": str(IMAGES / "serving")}
