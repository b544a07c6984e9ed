# SPDX-License-Identifier: Apache-2.0
"""Test the comparison that the other tests of this folder rely on: equal deployments are equal, each change is seen."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.endurance._state import differences, state
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY

TARGETS = ("cloudrun", pytest.param("appengine", marks=pytest.mark.endurance))


@pytest.fixture(scope="module", params=TARGETS)
def pair(request, box, new_project, controller, small):
    """Deploy a target in two projects and return both."""
    box.latency("instant")
    projects = [new_project(), new_project()]
    for project in projects:
        hosts = {"demo": small | project.variables | {"mlflow_target": request.param}}
        controller.run(DEPLOY, hosts=hosts).check()
    return projects


def test_two_deployments_are_equal(pair):
    assert differences(*map(state, pair)) == []


def test_the_state_covers_what_a_deployment_consists_of(pair):
    found = state(pair[0])
    for text in ("policy", "labels", "versions", "executions", "builds", "images", "login", "schema", "objects"):
        assert any(text in name for name in found), text
    assert found["database of demo-dev login"] == "works"


def test_a_change_is_a_difference(pair):
    one, other = pair
    expected = state(one)
    email = other.email("demo-dev-server")
    changes = {
        "secret/demo-dev-db-password versions": lambda: other.add_version("demo-dev-db-password", "another"),
        "secret/demo-dev-db-username policy": lambda: other.grant(
            f"{_cloud.SECRETS}/{other.home}/secrets/demo-dev-db-username",
            "roles/secretmanager.viewer",
            f"serviceAccount:{email}",
        ),
        "bucket/PROJECT-demo-dev-artifacts.labels.team": lambda: other.request(
            "PATCH", f"{_cloud.STORAGE}/b/{other.project}-demo-dev-artifacts", {"labels": {"team": "ml"}}
        ),
        "instance/demo-dev users": lambda: other.make(
            f"{_cloud.SQL}/{other.home}/instances/demo-dev/users", {"name": "eve", "password": "p" * 16}
        ),
    }
    for change in changes.values():
        change()
    seen = differences(expected, state(other))
    assert [path for path in changes if not any(line.startswith(path) for line in seen)] == []
    # the new version is not the password of the database
    assert any(line.startswith("database of demo-dev login: fails") for line in seen)
    assert len(seen) == len(changes) + 1 + 2, seen
