# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import cloud_run_job
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

LOGS = "https://logging.googleapis.com/v2/entries:list"
V2 = "https://run.googleapis.com/v2"
NAME = "projects/p/locations/europe-west1/jobs/j"
URL = f"{V2}/{NAME}"
EXECUTION = f"{NAME}/executions/j-abc"
OPERATION = {"name": "projects/p/locations/europe-west1/operations/1"}
TASK = {"containers": [{"image": "i@sha256:1", "args": ["migrate"]}], "maxRetries": 0, "timeout": "600s"}
JOB = {"name": NAME, "etag": '"e"', "template": {"taskCount": 1, "template": TASK}}
RAN = dict(JOB, latestCreatedExecution={"name": EXECUTION, "completionStatus": "EXECUTION_SUCCEEDED"})
SUCCEEDED = {"name": EXECUTION, "template": TASK, "succeededCount": 1, "completionTime": "2026-01-01T00:00:00Z"}
FAILED = {
    "name": EXECUTION,
    "template": TASK,
    "failedCount": 1,
    "completionTime": "2026-01-01T00:00:00Z",
    "conditions": [{"type": "Completed", "state": "CONDITION_FAILED", "message": "Task j-abc-task0 failed"}],
}
OPTIONS = {
    "name": "j",
    "location": "europe-west1",
    "image": "i@sha256:1",
    "args": ["migrate"],
    "max_retries": 0,
    "execute": "on_change",
}


def started(cloud, execution):
    cloud.expect("POST", f"{URL}:run", sent={}, body=dict(OPERATION, metadata={"name": EXECUTION}))
    cloud.expect("GET", f"{V2}/{OPERATION['name']}", body=dict(OPERATION, done=True, response=execution))


def test_a_job_that_has_succeeded_as_it_is_does_not_run_again(cloud):
    cloud.expect("GET", URL, body=RAN)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=SUCCEEDED)
    assert not cloud.run(cloud_run_job, **OPTIONS)["changed"]


def test_a_new_job_runs(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", URL.rsplit("/", 1)[0], query={"jobId": "j"}, body=dict(OPERATION, done=True, response=JOB))
    started(cloud, SUCCEEDED)
    result = cloud.run(cloud_run_job, **OPTIONS)
    assert result["execution"] == EXECUTION
    assert len(result["diff"]) == 2


def test_a_new_image_runs_once(cloud):
    cloud.expect("GET", URL, body=RAN)
    changed = dict(RAN, template={"template": dict(TASK, containers=[dict(TASK["containers"][0], image="i@sha256:2")])})
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=changed))
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=SUCCEEDED)
    started(cloud, SUCCEEDED)
    assert cloud.run(cloud_run_job, **dict(OPTIONS, image="i@sha256:2"))["changed"]


def test_a_run_that_was_interrupted_before_the_execution_is_finished(cloud):
    """The job is as it should be, but what ran last was the old image."""
    old = dict(SUCCEEDED, template=dict(TASK, containers=[dict(TASK["containers"][0], image="i@sha256:0")]))
    cloud.expect("GET", URL, body=RAN)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=old)
    started(cloud, SUCCEEDED)
    assert cloud.run(cloud_run_job, **OPTIONS)["changed"]


def test_an_execution_that_failed_is_tried_again(cloud):
    cloud.expect("GET", URL, body=RAN)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=FAILED)
    started(cloud, SUCCEEDED)
    assert cloud.run(cloud_run_job, **OPTIONS)["changed"]


def test_a_job_that_is_not_ready_is_changed_again_before_it_runs(cloud):
    failed = dict(RAN, terminalCondition={"state": "CONDITION_FAILED", "message": "Internal error encountered."})
    cloud.expect("GET", URL, body=failed)
    cloud.expect("GET", URL, body=failed)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=RAN))
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=SUCCEEDED)
    assert cloud.run(cloud_run_job, **OPTIONS)["changed"]
    (patch,) = [request for request in cloud.requests if request.method == "PATCH"]
    assert patch.body["template"]["labels"].keys() == {"client.knative.dev/nonce"}
    assert patch.body["template"]["template"] == TASK


def test_a_failing_execution_fails_the_task(cloud):
    cloud.expect("GET", URL, body=JOB)
    cloud.expect("POST", f"{URL}:run", body=dict(OPERATION, metadata={"name": EXECUTION}))
    error = {"code": 9, "message": "Task j-abc-task0 failed with exit code 1"}
    cloud.expect("GET", f"{V2}/{OPERATION['name']}", body=dict(OPERATION, done=True, error=error))
    cloud.expect("POST", LOGS, body={"entries": [{"textPayload": "KeyError: 7"}]})
    words = r"exit code 1. The end of its output:\nKeyError: 7\nAll of its output: gcloud logging read .*j-abc"
    with pytest.raises(Failed, match=words):
        cloud.run(cloud_run_job, **OPTIONS)
    assert 'labels."run.googleapis.com/execution_name"="j-abc"' in cloud.requests[-1].body["filter"]


def test_an_execution_without_success_fails_the_task(cloud):
    cloud.expect("GET", URL, body=JOB)
    started(cloud, FAILED)
    cloud.expect_error("POST", LOGS, 403, code="PERMISSION_DENIED")
    with pytest.raises(Failed, match=r"Task j-abc-task0 failed.*Its output: gcloud logging read .*j-abc"):
        cloud.run(cloud_run_job, **OPTIONS)


def test_an_execution_under_way_is_joined(cloud):
    going = {"name": EXECUTION, "template": TASK, "runningCount": 1}
    cloud.expect("GET", URL, body=RAN)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=going)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=going)
    cloud.expect("GET", f"{V2}/{EXECUTION}", body=SUCCEEDED)
    result = cloud.run(cloud_run_job, **OPTIONS)
    assert not result["changed"]
    assert result["execution"] == EXECUTION


def test_a_deleted_execution_does_not_count(cloud):
    cloud.expect("GET", URL, body=RAN)
    cloud.expect_error("GET", f"{V2}/{EXECUTION}", 404, code="NOT_FOUND")
    started(cloud, SUCCEEDED)
    assert cloud.run(cloud_run_job, **OPTIONS)["changed"]


def test_check_mode_tells_that_it_would_run(cloud):
    cloud.expect("GET", URL, body=JOB)
    result = cloud.run(cloud_run_job, True, **OPTIONS)
    assert result["changed"]
    assert result["diff"]["after"] == {"execution": "started"}


def test_always_and_never(cloud):
    cloud.expect("GET", URL, body=RAN)
    started(cloud, SUCCEEDED)
    assert cloud.run(cloud_run_job, **dict(OPTIONS, execute="always"))["changed"]
    cloud.expect("GET", URL, body=JOB)
    assert not cloud.run(cloud_run_job, **dict(OPTIONS, execute="never"))["changed"]


def test_not_waiting(cloud):
    cloud.expect("GET", URL, body=JOB)
    cloud.expect("POST", f"{URL}:run", body=dict(OPERATION, metadata={"name": EXECUTION}))
    assert cloud.run(cloud_run_job, wait=False, **OPTIONS)["operation"] == OPERATION["name"]


def test_absent(cloud):
    cloud.expect("GET", URL, body=JOB)
    cloud.expect("DELETE", URL, body=dict(OPERATION, done=True))
    assert cloud.run(cloud_run_job, name="j", location="europe-west1", state="absent")["changed"]
