# SPDX-License-Identifier: Apache-2.0
"""Cloud Run Admin API v2: jobs, their executions and tasks."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from gcp_sandbox.backends.processes import Process
from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.operations import Stopping
from gcp_sandbox.gateway.service import Service, job, method
from gcp_sandbox.gateway.times import epoch
from gcp_sandbox.services.run import containers, names, resources, template
from gcp_sandbox.services.run.common import Common
from gcp_sandbox.services.run.containers import Failure
from gcp_sandbox.services.run.names import Name

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op
    from gcp_sandbox.gateway.projects import Project

Json = dict[str, Any]

JOB_KIND, EXECUTION_KIND, TASK_KIND = "run.job", "run.execution", "run.task"

CREATE_SECONDS, DELETE_SECONDS, CANCEL_SECONDS = 5.0, 5.0, 3.0
# How long Google takes to start an execution, before any of its own time.
START_SECONDS = 10.0
# Tasks that run side by side here; `parallelism` of an execution is honoured below this.
MAX_PARALLEL = 4

EXECUTION_CONDITIONS = ("Completed", "ResourcesAvailable", "Started", "ContainerReady")


class Jobs(Common, Service):
    """projects.locations.jobs, executions and tasks."""

    #: Set when the sandbox stops: tasks that end from now on were stopped with it and run again at the next start.
    halting: threading.Event

    # -- jobs

    @method("projects.locations.jobs.create", permission="run.jobs.create", on="{parent}", only=("v2",))
    def create_job(self, call: Call) -> Json:
        location = self.canonical(call.params["parent"])
        job_id = call.query.get("jobId", "")
        names.check_id("CreateJobRequest.job_id", job_id, longest=63, pattern=names.REVISION_ID)
        return self._create_job(call, f"{location}/jobs/{job_id}", call.body)

    @method("projects.locations.jobs.get", permission="run.jobs.get", on="{name}", only=("v2",))
    def get_job(self, call: Call) -> Json:
        return self.load(JOB_KIND, call.params["name"])

    @method("projects.locations.jobs.list", permission="run.jobs.list", on="{parent}", only=("v2",))
    def list_jobs(self, call: Call) -> Json:
        return self.page_of(call, JOB_KIND, "jobs")

    @method("projects.locations.jobs.patch", permission=None, only=("v2",))
    def patch_job(self, call: Call) -> Json:
        name = self.canonical(call.params["name"])
        existing = self.store.get(JOB_KIND, name)
        if existing is None and call.query.get("allowMissing"):
            call.require("run.jobs.create", f"//run.googleapis.com/{Name.parse(name).location}")
            return self._create_job(call, name, call.body)
        for verb in ("update", "get"):
            call.require(f"run.jobs.{verb}", f"//run.googleapis.com/{name}")
        if existing is None or existing.get("deleteTime"):
            raise self.missing(JOB_KIND, name)
        resources.check_etag(call.body.get("etag"), existing)
        return self._change_job(call, existing, call.body)

    def _change_job(self, call: Call, existing: Json, wanted: Json) -> Json:
        asked = resources.merge({}, wanted, "", resources.JOB_FIELDS)
        spec = self._job_spec(call, existing["name"], asked, "UpdateJobRequest.job")
        body = {key: value for key, value in existing.items() if key not in resources.JOB_FIELDS} | spec
        if any(existing.get(key) != spec.get(key) for key in resources.JOB_FIELDS):
            body["generation"] = str(int(existing["generation"]) + 1)
        return self._save_job(call, body, "update")

    @method("projects.locations.jobs.delete", permission="run.jobs.delete", on="{name}", only=("v2",))
    def delete_job(self, call: Call) -> Json:
        return self._delete_job(call, self.load(JOB_KIND, call.params["name"]))

    def _delete_job(self, call: Call, body: Json) -> Json:
        resources.check_etag(call.query.get("etag"), body)
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Job")
        self.mark_deleted(body, call, JOB_KIND)
        return self.operation(call, body, "Job", "run.jobs.delete", DELETE_SECONDS, {"job": body["name"]})

    @method("projects.locations.jobs.run", permission=None, only=("v2",))
    def run_job(self, call: Call) -> Json:
        """Start an execution. Overrides want a permission of their own."""
        name = self.canonical(call.params["name"])
        overrides = call.body.get("overrides")
        call.require("run.jobs.runWithOverrides" if overrides else "run.jobs.run", f"//run.googleapis.com/{name}")
        body = self.load(JOB_KIND, name)
        resources.check_etag(call.body.get("etag"), body)
        return self._start_execution(call, body, overrides or {})

    def _start_execution(self, call: Call, body: Json, overrides: Json) -> Json:
        execution = self._new_execution(body, overrides, call)
        if call.body.get("validateOnly"):
            return self.validated(call, execution, "Execution")
        self.save(EXECUTION_KIND, execution, parent=body["name"])
        body["executionCount"] = body.get("executionCount", 0) + 1
        self._refer(body, execution)
        return self.operation(
            call, execution, "Execution", "run.jobs.run", START_SECONDS, {"execution": execution["name"]}
        )

    def _create_job(self, call: Call, name: str, wanted: Json) -> Json:
        names.check_region(Name.parse(name).region)
        if self.store.get(JOB_KIND, name) is not None:
            raise errors.already_exists(f"Resource '{Name.parse(name).id}' already exists.")
        asked = resources.merge({}, wanted, "", resources.JOB_FIELDS)
        spec = self._job_spec(call, name, asked, "CreateJobRequest.job")
        body = {
            "name": name,
            "uid": resources.uid(),
            "generation": "1",
            "createTime": call.now,
            "creator": call.caller.email,
            **spec,
        }
        return self._save_job(call, body, "create")

    def _job_spec(self, call: Call, name: str, asked: Json, at: str) -> Json:
        """Return the user's fields, checked and completed with defaults."""
        project: Project = call.project(Name.parse(name).project)
        spec = resources.without_zeros(asked)
        spec.setdefault("launchStage", "GA")
        outer = spec.setdefault("template", {})
        outer.setdefault("taskCount", 1)
        template.check_metadata(spec, at)
        template.check_metadata(outer, f"{at}.template")
        outer["template"] = template.complete(outer.get("template", {}), kind="jobs", number=project.number)
        template.check(outer["template"], kind="jobs", at=f"{at}.template.template")
        if not 1 <= outer["taskCount"] <= 10000:
            raise errors.invalid(f"Violation in {at}.template.task_count: must be between 1 and 10000.")
        if outer.get("parallelism", 0) > outer["taskCount"]:
            raise errors.invalid(f"Violation in {at}.template.parallelism: must be at most task_count.")
        containers.check_access(self.sandbox, call.caller, Name.parse(name), outer["template"])
        return spec

    def _save_job(self, call: Call, body: Json, verb: str) -> Json:
        resources.touch(body, now=call.now, modifier=call.caller.email)
        resources.settle(body, ("Ready",), resources.RECONCILING, call.now)
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Job")
        self.save(JOB_KIND, body)
        args = {"job": body["name"], "generation": body["generation"]}
        return self.operation(call, body, "Job", f"run.jobs.{verb}", CREATE_SECONDS, args)

    @job("run.jobs.create", settles=True)
    @job("run.jobs.update", settles=True)
    def settle_job(self, op: Op) -> Json:
        """Make a job ready once its service account can read its image and its secrets."""
        op.elapse()
        body = self.store.get(JOB_KIND, op.args["job"])
        if body is None:
            raise errors.aborted(f"Job '{Name.parse(op.args['job']).id}' was deleted.")
        name, task = Name.parse(body["name"]), body["template"]["template"]
        failure = None
        try:
            if struck := self.struck(op):
                raise struck
            containers.spec(self.sandbox, name, task, owner=body["name"], variables={}, listens=False)
        except Failure as error:
            failure = error
        with self.store.transaction():
            body = self.store.get(JOB_KIND, op.args["job"]) or body
            if body["generation"] == op.args["generation"] and not body.get("deleteTime"):
                if failure is None:
                    resources.settle(body, ("Ready",), resources.SUCCEEDED, self.now())
                else:
                    resources.settle(
                        body, ("Ready",), resources.FAILED, self.now(), message=failure.message, **failure.cause
                    )
                self.save(JOB_KIND, body)
        if failure is not None:
            raise failure
        return resources.shown(body, "Job")

    @job("run.jobs.delete", settles=True)
    def remove_job(self, op: Op) -> Json:
        """Stop a job's executions and forget it and them."""
        name = op.args["job"]
        self.struck_deletion(op, JOB_KIND, name)
        op.elapse()
        body = self.store.get(JOB_KIND, name)
        if body is None:
            return op.body["metadata"]
        executions = [execution for execution, _ in self.store.list(EXECUTION_KIND, parent=name)]
        with self.store.transaction():
            for execution in executions:
                self._forget_execution(execution)
            self.store.delete(JOB_KIND, name)
            self.sandbox.iam.delete_policy(f"//run.googleapis.com/{name}")
        for execution in executions:
            self._stop_tasks(execution)
        return resources.shown(body, "Job")

    # -- executions

    def _new_execution(self, body: Json, overrides: Json, call: Call) -> Json:
        outer = copy.deepcopy(body["template"])
        task = outer["template"]
        for override in overrides.get("containerOverrides", []):
            container = task["containers"][0]
            if override.get("name") and override["name"] != container.get("name"):
                raise errors.invalid(f"Container '{override['name']}' of the overrides does not exist.")
            if override.get("args") or override.get("clearArgs"):
                container["args"] = override.get("args", [])
            given = {item["name"]: item for item in container.get("env", [])}
            given |= {item["name"]: item for item in override.get("env", [])}
            if given:
                container["env"] = list(given.values())
        if "timeout" in overrides:
            task["timeout"] = overrides["timeout"]
        count = overrides.get("taskCount") or outer["taskCount"]
        parent = Name.parse(body["name"])
        short = f"{parent.id}-{names.suffix(5)}"
        execution = {
            "name": f"{body['name']}/executions/{short}",
            "uid": resources.uid(),
            "creator": call.caller.email,
            "generation": "1",
            **{key: outer[key] for key in ("labels", "annotations", "client", "clientVersion") if key in outer},
            "createTime": call.now,
            "updateTime": call.now,
            "launchStage": body["launchStage"],
            "job": parent.id,
            "parallelism": min(outer.get("parallelism") or count, count),
            "taskCount": count,
            "template": task,
            "logUri": log_uri(parent, short),
        }
        execution["etag"] = resources.etag(execution)
        self._settle_execution(execution, resources.RECONCILING, call.now)
        return execution

    @staticmethod
    def _settle_execution(execution: Json, state: str, now: str, **more: str) -> None:
        """Executions have no terminal condition field: "Completed" is the first of the list."""
        resources.settle(execution, EXECUTION_CONDITIONS, state, now, **more)
        completed, *others = [execution.pop("terminalCondition"), *execution["conditions"]]
        if state == resources.FAILED:
            others = [resources.condition(item["type"], resources.SUCCEEDED, now) for item in others]
        execution["conditions"] = [completed, *others]
        execution["updateTime"] = now

    @method("projects.locations.jobs.executions.get", permission="run.executions.get", on="{name}", only=("v2",))
    def get_execution(self, call: Call) -> Json:
        return self.load(EXECUTION_KIND, call.params["name"])

    @method("projects.locations.jobs.executions.list", permission="run.executions.list", on="{parent}", only=("v2",))
    def list_executions(self, call: Call) -> Json:
        """Newest first; `-` stands for all jobs of the location."""
        parent = self.canonical(call.params["parent"])
        if parent.endswith("/jobs/-"):
            rows = self.store.list(EXECUTION_KIND, prefix=parent.removesuffix("-"))
        else:
            rows = self.store.list(EXECUTION_KIND, parent=parent)
        newest = sorted((body for _, body in rows), key=lambda body: body["createTime"], reverse=True)
        return call.page(newest, key="executions", default=100, maximum=500)

    @method("projects.locations.jobs.executions.cancel", permission="run.executions.cancel", on="{name}", only=("v2",))
    def cancel_execution(self, call: Call) -> Json:
        return self._cancel_execution(call, self.load(EXECUTION_KIND, call.params["name"]))

    def _cancel_execution(self, call: Call, body: Json) -> Json:
        resources.check_etag(call.body.get("etag"), body)
        if body.get("completionTime"):
            raise errors.failed_precondition(f"Execution '{Name.parse(body['name']).child}' is already complete.")
        if call.body.get("validateOnly"):
            return self.validated(call, body, "Execution")
        body["conditions"][0] |= {"executionReason": "CANCELLING"}
        self.save(EXECUTION_KIND, body, parent=Name.parse(body["name"]).parent)
        args = {"execution": body["name"]}
        return self.operation(call, body, "Execution", "run.executions.cancel", CANCEL_SECONDS, args)

    @method("projects.locations.jobs.executions.delete", permission="run.executions.delete", on="{name}", only=("v2",))
    def delete_execution(self, call: Call) -> Json:
        return self._delete_execution(call, self.load(EXECUTION_KIND, call.params["name"]))

    def _delete_execution(self, call: Call, body: Json) -> Json:
        resources.check_etag(call.query.get("etag"), body)
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Execution")
        self.mark_deleted(body, call, EXECUTION_KIND, parent=Name.parse(body["name"]).parent)
        args = {"execution": body["name"]}
        return self.operation(call, body, "Execution", "run.executions.delete", DELETE_SECONDS, args)

    @job("run.executions.delete", settles=True)
    def remove_execution(self, op: Op) -> Json:
        """Stop an execution's tasks and forget it."""
        name = op.args["execution"]
        self.struck_deletion(op, EXECUTION_KIND, name, parent=Name.parse(name).parent)
        op.elapse()
        body = self.store.get(EXECUTION_KIND, op.args["execution"])
        with self.store.transaction():
            self._forget_execution(op.args["execution"])
        self._stop_tasks(op.args["execution"])
        return resources.shown(body, "Execution") if body else op.body["metadata"]

    def _forget_execution(self, name: str) -> None:
        for task, _ in self.store.list(TASK_KIND, parent=name):
            self.store.delete(TASK_KIND, task)
        self.store.delete(EXECUTION_KIND, name)

    def _stop_tasks(self, execution: str) -> None:
        mine = [process for process in self.sandbox.processes.all() if process.owner.startswith(f"{execution}/tasks/")]
        self.sandbox.processes.stop_all(mine)

    @job("run.executions.cancel")
    def stop_execution(self, op: Op) -> Json:
        """Stop an execution's tasks; the job that runs it notes the end."""
        self._stop_tasks(op.args["execution"])
        op.elapse()
        body = self.store.get(EXECUTION_KIND, op.args["execution"])
        return resources.shown(body, "Execution") if body else op.body["metadata"]

    # -- tasks

    @method("projects.locations.jobs.executions.tasks.get", permission="run.tasks.get", on="{name}", only=("v2",))
    def get_task(self, call: Call) -> Json:
        return self.load(TASK_KIND, call.params["name"])

    @method("projects.locations.jobs.executions.tasks.list", permission="run.tasks.list", on="{parent}", only=("v2",))
    def list_tasks(self, call: Call) -> Json:
        rows = self.store.list(TASK_KIND, parent=self.canonical(call.params["parent"]))
        by_index = sorted((body for _, body in rows), key=lambda body: body.get("index", 0))
        return call.page(by_index, key="tasks", default=100, maximum=500)

    @job("run.jobs.run", settles=True)
    def execute(self, op: Op) -> Json:
        """Run an execution's tasks to their end. Continued after a crash: tasks that still run are awaited."""
        op.elapse()
        name = op.args["execution"]
        body = self.store.get(EXECUTION_KIND, name)
        if body is None:
            raise errors.aborted(f"Execution '{Name.parse(name).child}' was deleted.")
        if struck := self.struck(op):
            body["completionTime"] = now = self.now()
            self._settle_execution(body, resources.FAILED, now, message=struck.message, **struck.cause)
            self._save_execution(body)
            raise struck
        body.setdefault("startTime", self.now())
        self._save_execution(body)
        lock = threading.Lock()
        with ThreadPoolExecutor(min(body["parallelism"], MAX_PARALLEL)) as pool:
            outcomes = list(pool.map(lambda index: self._run_task(body, index, lock), range(body["taskCount"])))
        failed = next((message for message in outcomes if message), None)
        current = self.store.get(EXECUTION_KIND, name)
        if current is None:
            raise errors.aborted(f"Execution '{Name.parse(name).child}' was deleted.")
        now = self.now()
        current["completionTime"] = now
        current.pop("runningCount", None)
        if failed is None:
            self._settle_execution(current, resources.SUCCEEDED, now)
        else:
            reason = "CANCELLED" if current.get("cancelledCount") else "NON_ZERO_EXIT_CODE"
            self._settle_execution(current, resources.FAILED, now, message=failed, executionReason=reason)
        self._save_execution(current)
        if failed is not None:
            raise ApiError(400, failed, status="CANCELLED" if current.get("cancelledCount") else "FAILED_PRECONDITION")
        return resources.shown(current, "Execution")

    def _save_execution(self, body: Json) -> None:
        """Write an execution, and what its job says of it."""
        with self.store.transaction():
            if self.store.get(EXECUTION_KIND, body["name"]) is None:
                return
            parent = Name.parse(body["name"]).parent
            self.save(EXECUTION_KIND, body, parent=parent)
            owner = self.store.get(JOB_KIND, parent)
            latest = owner and owner.get("latestCreatedExecution", {}).get("name")
            if latest == Name.parse(body["name"]).child:
                self._refer(owner, body)

    def _refer(self, owner: Json, execution: Json) -> None:
        """Set the job's `latestCreatedExecution`."""
        completed = execution["conditions"][0]
        status = {
            resources.SUCCEEDED: "EXECUTION_SUCCEEDED",
            resources.FAILED: "EXECUTION_CANCELLED" if execution.get("cancelledCount") else "EXECUTION_FAILED",
        }.get(completed["state"], "EXECUTION_RUNNING" if execution.get("startTime") else "EXECUTION_PENDING")
        reference = {
            "name": Name.parse(execution["name"]).child,
            "createTime": execution["createTime"],
            "completionStatus": status,
        }
        if execution.get("completionTime"):
            reference["completionTime"] = execution["completionTime"]
        owner["latestCreatedExecution"] = reference
        self.save(JOB_KIND, owner)

    def _run_task(self, execution: Json, index: int, lock: threading.Lock) -> str | None:
        """Run one task with its retries; what went wrong, or None."""
        short = Name.parse(execution["name"]).child
        name = f"{execution['name']}/tasks/{short}-task{index}"
        task = self.store.get(TASK_KIND, name) or self._new_task(execution, name, index)
        if task.get("completionTime"):
            return task["conditions"][0].get("message")
        self._count(execution["name"], lock, runningCount=1)
        message = None
        while True:
            attempt = task.get("retried", 0)
            code, problem = self._attempt(execution, task, attempt)
            if self._cancelled(execution["name"]):
                message = f"Task {short}-task{index} was cancelled."
                break
            task["lastAttemptResult"] = {"status": {"code": 0 if code == 0 else 2}, "exitCode": code or 0}
            if code == 0:
                break
            message = f"Task {short}-task{index} failed with message: {problem}"
            if attempt >= task["maxRetries"]:
                break
            task["retried"] = attempt + 1
            if attempt == 0:
                self._count(execution["name"], lock, retriedCount=1)
            self.save(TASK_KIND, task, parent=execution["name"])
            message = None
        now = self.now()
        task["completionTime"] = now
        cancelled = self._cancelled(execution["name"])
        state = resources.FAILED if message else resources.SUCCEEDED
        more = {"message": message} if message else {}
        resources.settle(task, ("Completed", "Started"), state, now, **more)
        resources.revision_conditions(task)
        if self.store.get(TASK_KIND, name) is not None:
            self.save(TASK_KIND, task, parent=execution["name"])
        field = "cancelledCount" if cancelled else "failedCount" if message else "succeededCount"
        self._count(execution["name"], lock, runningCount=-1, **{field: 1})
        return message

    def _cancelled(self, execution: str) -> bool:
        body = self.store.get(EXECUTION_KIND, execution)
        return body is None or body["conditions"][0].get("executionReason") == "CANCELLING"

    def _count(self, execution: str, lock: threading.Lock, **changes: int) -> None:
        with lock, self.store.transaction():
            body = self.store.get(EXECUTION_KIND, execution)
            if body is None:
                return
            for field, change in changes.items():
                body[field] = max(0, body.get(field, 0) + change)
                if not body[field]:
                    del body[field]
            self._save_execution(body)

    def _new_task(self, execution: Json, name: str, index: int) -> Json:
        now, inner = self.now(), execution["template"]
        fields = (
            "containers",
            "volumes",
            "maxRetries",
            "timeout",
            "serviceAccount",
            "executionEnvironment",
            "vpcAccess",
        )
        task = {
            "name": name,
            "uid": resources.uid(),
            "generation": "1",
            "createTime": now,
            "scheduledTime": now,
            "startTime": now,
            "updateTime": now,
            "job": execution["job"],
            "execution": Name.parse(execution["name"]).child,
            **{key: copy.deepcopy(inner[key]) for key in fields if key in inner},
            "logUri": execution["logUri"],
        }
        if index:
            task["index"] = index
        task["etag"] = resources.etag(task)
        resources.settle(task, ("Completed", "Started"), resources.RECONCILING, now)
        resources.revision_conditions(task)
        self.save(TASK_KIND, task, parent=execution["name"])
        return task

    def _attempt(self, execution: Json, task: Json, attempt: int) -> tuple[int | None, str]:
        """Run a task once, or wait for a run that a crash interrupted; (exit code, what went wrong)."""
        owner = f"{task['name']}/attempts/{attempt}"
        process = self.sandbox.processes.kept(owner)
        if process is not None and not process.alive() and process.returncode is None:
            # It ended together with the sandbox: its result is unknown.
            self.sandbox.processes.discard(process)
            process = None
        try:
            process = process or self._start(execution, task, attempt, owner)
        except Failure as failure:
            return None, failure.message
        except OSError as error:
            return None, f"The container's command cannot be run: {error.strerror}."
        limit = epoch(process.facts["started"]) + template.seconds(task["timeout"]) - epoch(self.now())
        code = process.wait(max(limit, 0))
        if self.halting.is_set():
            raise Stopping
        timed_out = process.alive()
        if timed_out:
            process.stop()
        self.sandbox.processes.discard(process)
        if timed_out:
            return None, "The configured timeout was reached."
        return code, "" if code == 0 else "The container exited with an error."

    def _start(self, execution: Json, task: Json, attempt: int, owner: str) -> Process:
        name = Name.parse(task["name"])
        variables = {
            "CLOUD_RUN_JOB": name.id,
            "CLOUD_RUN_EXECUTION": name.child,
            "CLOUD_RUN_TASK_INDEX": str(task.get("index", 0)),
            "CLOUD_RUN_TASK_ATTEMPT": str(attempt),
            "CLOUD_RUN_TASK_COUNT": str(execution["taskCount"]),
        }
        spec = containers.spec(
            self.sandbox,
            name,
            task,
            owner=owner,
            variables=variables,
            listens=False,
            keep_exit_code=True,
            facts={"started": self.now()},
        )
        return self.sandbox.processes.run(spec)


def log_uri(parent: Name, execution: str) -> str:
    """Return where the console would show the execution's log."""
    return (
        f"https://console.cloud.google.com/logs/viewer?project={parent.project}&advancedFilter="
        f"resource.type%3D%22cloud_run_job%22%0Aresource.labels.job_name%3D%22{parent.id}%22%0A"
        f"labels.%22run.googleapis.com/execution_name%22%3D%22{execution}%22"
    )
