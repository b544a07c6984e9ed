# SPDX-License-Identifier: Apache-2.0
"""Cloud Run jobs: executions are real processes that end, fail, are retried, overridden and cancelled."""

from __future__ import annotations

import json
import time

from gcp_sandbox.testing.run import BASE


def job(run, env=None, *, tasks=1, **template):
    container = {"image": run.image, "args": ["task"]}
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in env.items()]
    task = {"containers": [container], "serviceAccount": run.account, "maxRetries": 0, **template}
    return {"template": {"taskCount": tasks, "template": task}}


def create(run, body, name="migrate"):
    answer = run.api.post(f"{BASE}/{run.location}/jobs?jobId={name}", body)
    assert answer.status == 200, answer.content
    return run.finish(answer.json)


def start(run, overrides=None, name="migrate"):
    body = {"overrides": overrides} if overrides else {}
    return run.api.ok("POST", f"{BASE}/{run.location}/jobs/{name}:run", body)


def show(run, name="migrate"):
    return run.api.ok("GET", f"{BASE}/{run.location}/jobs/{name}")


def lines(run, name="migrate"):
    text = run.sandbox.logs.file(name).read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_job_runs_to_its_end(run):
    create(run, job(run, {"A": "b"}))
    assert show(run)["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    operation = start(run)
    assert operation["metadata"]["@type"].endswith(".Execution")
    execution = run.finish(operation)["response"]
    assert execution["succeededCount"] == 1 and "runningCount" not in execution
    assert execution["conditions"][0]["type"] == "Completed"
    assert execution["conditions"][0]["state"] == "CONDITION_SUCCEEDED"
    (seen,) = lines(run)
    assert seen["args"] == ["task"]
    wanted = {"A": "b", "CLOUD_RUN_JOB": "migrate", "CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "1"}
    assert wanted.items() <= seen["env"].items()
    assert seen["env"]["CLOUD_RUN_EXECUTION"] == execution["name"].rpartition("/")[2]
    reference = show(run)["latestCreatedExecution"]
    assert reference["completionStatus"] == "EXECUTION_SUCCEEDED"
    assert reference["name"] == execution["name"].rpartition("/")[2] and "completionTime" in reference
    assert show(run)["executionCount"] == 1


def test_every_task_has_its_index(run):
    create(run, job(run, tasks=3))
    execution = run.finish(start(run))["response"]
    assert execution["succeededCount"] == 3
    assert sorted(item["env"]["CLOUD_RUN_TASK_INDEX"] for item in lines(run)) == ["0", "1", "2"]
    tasks = run.api.ok("GET", f"{BASE}/{execution['name']}/tasks")["tasks"]
    assert [task.get("index", 0) for task in tasks] == [0, 1, 2]
    assert tasks[0]["lastAttemptResult"]["exitCode"] == 0
    assert run.api.ok("GET", f"{BASE}/{tasks[1]['name']}") == tasks[1]


def test_a_task_is_retried_until_it_succeeds(run):
    create(run, job(run, {"FAIL_UNTIL": "2"}, maxRetries=2))
    execution = run.finish(start(run))["response"]
    assert execution["succeededCount"] == 1 and execution["retriedCount"] == 1
    (task,) = run.api.ok("GET", f"{BASE}/{execution['name']}/tasks")["tasks"]
    assert task["retried"] == 2


def test_a_failing_task_fails_the_execution(run):
    create(run, job(run, {"FAIL_UNTIL": "9"}))
    operation = run.finish(start(run))
    assert "failed with message: The container exited with an error." in operation["error"]["message"]
    reference = show(run)["latestCreatedExecution"]
    assert reference["completionStatus"] == "EXECUTION_FAILED"
    execution = run.api.ok("GET", f"{BASE}/{run.location}/jobs/migrate/executions/{reference['name']}")
    assert execution["failedCount"] == 1
    assert execution["conditions"][0]["executionReason"] == "NON_ZERO_EXIT_CODE"


def test_a_task_has_a_time_limit(run):
    create(run, job(run, {"SLEEP": "30"}, timeout="1s"))
    operation = run.finish(start(run))
    assert "timeout" in operation["error"]["message"]
    assert not run.sandbox.processes.all()


def test_overrides_apply_to_one_execution(run):
    create(run, job(run, {"A": "b", "C": "d"}))
    override = {"args": ["task", "now"], "env": [{"name": "A", "value": "changed"}]}
    run.finish(start(run, {"containerOverrides": [override], "taskCount": 2}))
    for seen in lines(run):
        assert seen["args"] == ["task", "now"]
        assert (seen["env"]["A"], seen["env"]["C"]) == ("changed", "d")
    assert show(run)["template"]["taskCount"] == 1


def test_running_wants_a_permission_and_overriding_another(run):
    create(run, job(run))
    url = f"{BASE}/{run.location}/jobs/migrate:run"
    assert run.api.post(url, as_="bob@example.com").status == 403
    run.sandbox.iam.add_binding(
        f"//run.googleapis.com/{run.location}/jobs/migrate", "roles/run.jobsExecutor", "user:bob@example.com"
    )
    assert run.api.post(url, {"overrides": {"taskCount": 2}}, as_="bob@example.com").status == 403
    assert run.api.post(url, as_="bob@example.com").status == 200


def test_an_execution_can_be_cancelled(run):
    create(run, job(run, {"SLEEP": "60"}))
    operation = start(run)
    name = operation["metadata"]["name"]
    deadline = time.monotonic() + 60
    while not run.sandbox.processes.all():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.finish(run.api.ok("POST", f"{BASE}/{name}:cancel"))
    assert "error" in run.finish(operation)
    execution = run.api.ok("GET", f"{BASE}/{name}")
    assert execution["cancelledCount"] == 1
    assert show(run)["latestCreatedExecution"]["completionStatus"] == "EXECUTION_CANCELLED"
    assert run.api.post(f"{BASE}/{name}:cancel").status == 400


def test_a_job_with_a_missing_secret_is_not_ready(run):
    body = job(run)
    reference = {"secretKeyRef": {"secret": "nothing", "version": "latest"}}
    body["template"]["template"]["containers"][0]["env"] = [{"name": "S", "valueSource": reference}]
    assert "error" in create(run, body)
    assert show(run)["terminalCondition"]["state"] == "CONDITION_FAILED"


def test_a_job_is_changed_and_deleted(run):
    create(run, job(run))
    run.finish(run.api.patch(f"{BASE}/{run.location}/jobs/migrate", job(run, {"X": "y"})).json)
    changed = show(run)
    assert changed["generation"] == "2"
    execution = run.finish(start(run))["response"]["name"]
    run.finish(run.api.ok("DELETE", f"{BASE}/{execution}"))
    assert run.api.get(f"{BASE}/{execution}").status == 404
    run.finish(run.api.ok("DELETE", f"{BASE}/{run.location}/jobs/migrate"))
    assert run.api.get(f"{BASE}/{run.location}/jobs/migrate").status == 404


def test_a_task_is_waited_for_after_a_restart(run, sandbox):
    """The daemon died while a task ran: the operation is taken up again and finds the same process."""
    create(run, job(run, {"SLEEP": "2"}))
    operation = start(run)
    deadline = time.monotonic() + 60
    while not sandbox.processes.all():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    op = sandbox.operations.get("run", operation["name"])
    assert sandbox.services["run"].execute(op)["succeededCount"] >= 1
    run.finish(operation)
    assert len(lines(run)) == 1


def test_gcloud_reads_jobs_in_the_older_shape(run):
    create(run, job(run))
    run.finish(start(run))
    root = f"https://europe-west1-run.googleapis.com/apis/run.googleapis.com/v1/namespaces/{run.project.id}"
    shown = run.api.ok("GET", f"{root}/jobs/migrate")
    assert shown["status"]["latestCreatedExecution"]["completionStatus"] == "EXECUTION_SUCCEEDED"
    (execution,) = run.api.ok("GET", f"{root}/executions?labelSelector=run.googleapis.com%2Fjob%3Dmigrate")["items"]
    assert execution["status"]["succeededCount"] == 1
    assert run.api.ok("GET", f"{root}/executions?labelSelector=run.googleapis.com%2Fjob%3Dother")["items"] == []
    (task,) = run.api.ok("GET", f"{root}/tasks")["items"]
    assert task["status"]["index"] == 0


def test_gcloud_creates_runs_and_deletes_jobs(run):
    """The requests of `gcloud run jobs create`, `update`, `execute` and `delete`."""
    root = f"https://europe-west1-run.googleapis.com/apis/run.googleapis.com/v1/namespaces/{run.project.id}"
    notes = {"run.googleapis.com/client-name": "gcloud", "run.googleapis.com/client-version": "528.0.0"}
    sockets = {"run.googleapis.com/cloudsql-instances": f"{run.project.id}:europe-west1:db"}
    container = {"image": run.image, "args": ["task"], "env": [{"name": "A", "value": "b"}]}
    task = {"containers": [container], "serviceAccountName": run.account, "maxRetries": 0, "timeoutSeconds": "300"}
    execution = {"metadata": {"annotations": {**notes, **sockets}}, "spec": {"template": {"spec": task}}}
    body = {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": "migrate", "namespace": run.project.id, "annotations": notes, "labels": {"team": "ml"}},
        "spec": {"template": execution},
    }
    assert run.api.post(f"{root.replace('europe-west1-', '')}/jobs", body).status == 400
    run.api.ok("POST", f"{root}/jobs", body)
    assert run.api.post(f"{root}/jobs", body).status == 409
    shown = ready(run, f"{root}/jobs/migrate", "Ready")
    assert sockets.items() <= shown["spec"]["template"]["metadata"]["annotations"].items()
    made = show(run)
    assert (made["client"], made["template"]["client"], made["labels"]) == ("gcloud", "gcloud", {"team": "ml"})
    assert made["template"]["template"]["timeout"] == "300s"
    assert made["template"]["template"]["volumes"][0]["cloudSqlInstance"]["instances"]

    run.api.ok("PUT", f"{root}/jobs/migrate", shown)
    ready(run, f"{root}/jobs/migrate", "Ready")
    again = show(run)
    assert again["template"] == made["template"] and again["generation"] == made["generation"]
    assert run.api.put(f"{root}/jobs/migrate", shown).status == 409

    overrides = {"containerOverrides": [{"env": [{"name": "A", "value": "c"}]}], "taskCount": 2, "timeoutSeconds": 60}
    started = run.api.ok("POST", f"{root}/jobs/migrate:run", {"overrides": overrides})
    assert started["kind"] == "Execution" and started["spec"]["taskCount"] == 2
    name = started["metadata"]["name"]
    assert ready(run, f"{root}/executions/{name}", "Completed")["status"]["succeededCount"] == 2
    assert [line["env"]["A"] for line in lines(run)] == ["c", "c"]
    assert run.api.post(f"{root}/executions/{name}:cancel").status == 400
    run.api.ok("DELETE", f"{root}/executions/{name}")
    gone(run, f"{root}/executions/{name}")
    run.api.ok("DELETE", f"{root}/jobs/migrate")
    gone(run, f"{root}/jobs/migrate")


def test_who_may_run_a_job_runs_it_in_the_older_shape(run):
    create(run, job(run))
    job_policy = f"{BASE}/{run.location}/jobs/migrate:setIamPolicy"
    address = f"https://europe-west1-run.googleapis.com/apis/run.googleapis.com/v1/namespaces/{run.project.id}/jobs"
    assert run.api.post(f"{address}/migrate:run", {}, as_="bob@example.com").status == 403
    bindings = [{"role": "roles/run.invoker", "members": ["user:bob@example.com"]}]
    run.api.ok("POST", job_policy, {"policy": {"bindings": bindings}})
    overridden = {"overrides": {"taskCount": 2}}
    assert run.api.post(f"{address}/migrate:run", overridden, as_="bob@example.com").status == 403
    assert run.api.post(f"{address}/migrate:run", {}, as_="bob@example.com").status == 200


def ready(run, address, kind):
    """Return a resource of v1 once a condition is true."""
    deadline = time.monotonic() + 60
    while True:
        shown = run.api.ok("GET", address)
        condition = next(item for item in shown["status"]["conditions"] if item["type"] == kind)
        if condition["status"] == "True":
            return shown
        assert condition["status"] == "Unknown" and time.monotonic() < deadline, condition
        time.sleep(0.05)


def gone(run, address):
    """Wait until a resource of v1 does not exist."""
    deadline = time.monotonic() + 60
    while run.api.get(address).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)
