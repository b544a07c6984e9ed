# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of complete deployments: one of MLflow on Cloud Run that most tests share, and small ones.

The modules run in the order of the lifecycle of the deployment `demo`; each can also run alone. The name of a test that
changes the deployment contains the change.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._browser import Browser
from ansible_collections.mlplatform.gcp.tests.integration.target._fixtures import (
    box,
    controller,
    get_project,
    instant,
    new_project,
    small,
    timed,
)
from ansible_collections.mlplatform.gcp.tests.integration.target._target import (
    DEPLOY,
    Controller,
    Play,
    Project,
    log_a_run,
    report_plan,
)

# pytest finds fixtures by the names in this module.
__all__ = ["box", "controller", "get_project", "instant", "new_project", "small", "timed"]

ORDER = [
    "test_deploy",
    "test_plan",
    "test_interruption",
    "test_two_runs",
    "test_composition",
    "test_browser",
    "test_changes",
    "test_access",
    "test_destroy",
    "test_variants",
    "test_serving",
    "test_apart",
    "test_keys",
    "test_encryption",
    "test_shared",
    "test_networks",
    "test_oldest",
    "test_adoption",
    "test_bad_input",
    "test_failures",
    "test_permissions",
    "test_appengine",
    "test_switch",
    "test_domain_project",
    "test_secrecy",
]


def pytest_collection_modifyitems(items):
    mine = [item for item in items if item.path.parent.name == "target"]
    ordered = iter(sorted(mine, key=_place))
    items[:] = [next(ordered) if item in mine else item for item in items]


def _place(item):
    """Return the position in ORDER; modules that are not in it run before the last one, the search for secrets."""
    name = item.path.stem
    return ORDER.index(name) if name in ORDER[:-1] else len(ORDER) + (name == ORDER[-1])


@pytest.fixture(scope="session")
def demo(get_project):
    """Return the project of the sandbox's inventory."""
    return get_project("mlflow-sandbox")


@pytest.fixture(scope="session")
def fresh(controller, box, demo):
    """Run the first deployment of `demo` with slow operations; return states, runs and reports."""
    seen = {"before": box.everything(), "resources before": demo.resources(), "roles before": demo.project_roles()}
    planned, applied = (controller.folder / f"first-{name}.json" for name in ("plan", "deployment"))
    seen["plan"] = controller.run(DEPLOY, "--check", "--diff", verbosity=4, env=report_plan(planned))
    seen["after the plan"] = box.everything()
    seen["began"] = time.time()
    seen["deploy"] = controller.run(DEPLOY, verbosity=4, env=report_plan(applied))
    seen["ended"] = time.time()
    reports = (json.loads(path.read_text()) for path in (planned, applied))
    seen["report of the plan"], seen["report of the deployment"] = reports
    return seen


@pytest.fixture(scope="session")
def deployed(fresh, demo, controller):
    """Return the project with the deployment `demo`."""
    fresh["deploy"].check()
    controller.collect(demo)
    return demo


@pytest.fixture(scope="session")
def logged(deployed, box):
    """Log a run to `demo` behind Identity-Aware Proxy; return the IDs of its experiment and of the run."""
    return log_a_run(box, deployed.address("demo-dev"), deployed.email("demo-dev-client"))


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def deployed_resources(project, hosts, box, controller):
    """Deploy the `hosts` of a test module in its `project`; return what exists then."""
    box.latency("instant")
    controller.run(DEPLOY, hosts=hosts).check()
    controller.collect(project)
    return project.resources()


@dataclass
class Variants:
    """Small deployments in one project, with the variables of each; one run can deploy all of them."""

    project: Project
    hosts: dict[str, dict]
    controller: Controller

    def deploy(self, *names: str, verbosity: int = 0, **changes: Any) -> Play:
        """Run deploy.yml for the named deployments, by default all, with `changes` of their variables."""
        hosts = {name: self.hosts[name] | changes for name in names or self.hosts}
        return self.controller.run(DEPLOY, hosts=hosts, verbosity=verbosity)


@pytest.fixture(scope="session")
def variants(box, controller, new_project, small):
    """Deploy `prod` with the settings for production, and `wide` with more instances, members, readers and networks."""
    box.latency("instant")
    project = new_project()
    common = small | project.variables
    hosts = {
        "prod": common | {"mlflow_env": "prod"},
        "wide": common
        | {
            "mlflow_access": "iam",
            "mlflow_access_members": ["user:alice@example.com", "group:mlflow-users@example.com"],
            "mlflow_bucket_readers": ["user:alice@example.com", "group:mlflow-users@example.com"],
            "mlflow_impersonators": ["deployer", "user:alice@example.com"],
            "mlflow_labels": {"team": "ml"},
            "mlflow_database_authorized_networks": [{"name": "office", "value": "127.0.0.0/8"}],
            "mlflow_database_tier": "db-custom-2-7680",
            "cloudrun_mlflow_min_instances": 2,
            "cloudrun_mlflow_max_instances": 24,
            "cloudrun_mlflow_workers": 2,
        },
    }
    found = Variants(project, hosts, controller)
    found.deploy(verbosity=4).check()
    controller.collect(project)
    return found
