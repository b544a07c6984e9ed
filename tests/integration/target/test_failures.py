# SPDX-License-Identifier: Apache-2.0
"""Test failures in the cloud during a run: the run reports the cause, and a later run completes the deployment."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, IMAGES

INSTANCE = "sqladmin.instance"
# https://cloud.google.com/iam/quotas: service accounts in a project.
MOST_ACCOUNTS = 100


@pytest.fixture(scope="module")
def full(new_project):
    """Create a project with the maximum number of service accounts."""
    project = new_project()
    project.enable("iam")
    for number in range(MOST_ACCOUNTS - len(project.list(f"{_cloud.IAM}/{project.home}/serviceAccounts", "accounts"))):
        project.make_account(f"others-{number:03}")
    return project


@pytest.fixture(scope="module")
def failing(variants, full, new_project, controller, small):
    """Run three hosts, each with another failure; return the run, and the served page before and after it."""
    builds = new_project()
    hosts = {
        "accounts": small | full.variables,
        "context": builds.variables | {"mlflow_image_context": str(IMAGES / "invalid")},
        "wide": variants.hosts["wide"] | {"mlflow_image_context": str(IMAGES / "exiting")},
    }
    before = _page(variants.project)
    play = controller.run(DEPLOY, hosts=hosts, verbosity=4)
    return {"play": play, "before": before, "after": _page(variants.project), "builds": builds}


def _page(project):
    """Request `wide` with an identity token for its address and return status and text."""
    token = project.identity_token("wide-dev-client", project.address("wide-dev"))
    answer = project.anonymous.get(project.address("wide-dev"), headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.text


def test_an_image_that_does_not_start_does_not_replace_the_serving_revision(failing):
    assert failing["before"][0] == 200
    assert failing["after"] == failing["before"]


def test_an_image_that_does_not_start_is_reported_with_the_end_of_its_log(failing, box):
    message = failing["play"].message("wide")
    assert re.search(r"Revision 'wide-dev-\d+-\w+' is not ready", message)
    assert "failed to start" in message
    assert "The revision that served before, if any, still does" in message
    assert "the frobnicator is not configured" in message
    command = re.search(r"gcloud run services logs read (\S+)", message)
    log = box.run("logs", command[1]).stdout
    assert "the frobnicator is not configured" in log


def test_an_image_that_does_not_start_is_not_deployed_by_the_next_run(failing, variants):
    play = variants.deploy("wide", mlflow_image_context=str(IMAGES / "exiting"))
    assert "failed to start" in play.message("wide")
    assert _page(variants.project) == failing["before"]


def test_the_previous_variables_change_nothing_that_is_served(failing, variants):
    variants.deploy("wide").check()
    assert _page(variants.project)[0] == 200
    assert variants.deploy("wide").check().changes("wide") == 0


def test_a_build_that_fails_shows_its_log(failing):
    message = failing["play"].message("context")
    assert "context-dev/mlflow" in message
    assert "no-such-file.txt" in message


def test_the_run_after_a_corrected_build_completes_the_deployment(failing, controller, small):
    hosts = {"context": small | failing["builds"].variables}
    controller.run(DEPLOY, hosts=hosts).check()
    assert failing["builds"].service("context-dev")["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"


def test_an_exceeded_quota_is_reported_with_the_resource_and_the_next_step(failing):
    message = failing["play"].message("accounts")
    assert "accounts-dev-" in message
    assert "Maximum number of service accounts" in message
    assert "quota" in message.lower()


def test_a_failed_instance_is_reported_before_the_first_change(variants, box):
    name = f"{variants.project.project}/wide-dev"
    box.alter(INSTANCE, name, state="FAILED")
    try:
        before = box.everything()
        play = variants.deploy("wide")
        assert box.everything() == before
    finally:
        box.alter(INSTANCE, name, state="RUNNABLE")
    message = play.message("wide")
    assert "sql_instance wide-dev is FAILED" in message
    assert "restore" in message.lower()
    variants.deploy("wide").check()
