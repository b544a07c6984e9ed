# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Executions of Cloud Run jobs: start one, join one, and find out whether the latest one ran the wanted job."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils import _logs, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.run import rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import NotFound, OperationFailed
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import plan
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

_JOBS = "run.projects.locations.jobs"
# Stands for an operation's name where the execution was found, and no operation is known.
_FOUND = "execution"
# How an execution's copy of the job's template is compared.
_EXECUTED = rules("template")


class Executions:
    """The executions of one job; ``job`` is its :class:`Remote`."""

    def __init__(self, task, job):
        self.task = task
        self.job = job

    def ensure(self, wanted, result):
        """Execute the job as the task asks, and add the execution to ``result``."""
        task = self.task
        latest = None if task.params["execute"] == "always" else self._latest(result.resource)
        if latest is not None and self._matches(wanted, latest):
            if not latest.get("completionTime"):
                self._join(latest, result)
                return
            if _succeeded(latest):
                return
        job = self.job
        result.add(
            Result.of(
                job.resource.kind,
                job.path,
                {},
                {"execution": "started"},
                title=f"execution of {job.title}",
                implies=["execution of the job"],
            )
        )
        if not task.check_mode:
            self._start(wanted, result)

    def _latest(self, job):
        """Return the newest execution, or None."""
        name = _newest(job)
        return self._get(name) if name else None

    def _get(self, name):
        try:
            return _verbs.call(
                self.task, f"{_JOBS}.executions.get", execution=name.rsplit("/", 1)[-1], **self.job.names
            )
        except NotFound:  # deleted since
            return None

    @staticmethod
    def _matches(wanted, execution):
        """Return whether an execution ran the job that the task describes."""
        template = wanted["template"]["template"]
        return not plan({"template": template}, execution, _EXECUTED).changed

    def _start(self, wanted, result):
        before = _newest(result.resource)

        def made():
            """Return the execution that a request without an answer has started, or that of another run."""
            job = self.job.read()
            found = self._latest(job) if _newest(job) != before else None
            return {_FOUND: found} if found is not None and self._matches(wanted, found) else None

        operation = _verbs.call(self.task, f"{_JOBS}.run", made=made, **self.job.names)
        if _FOUND in operation:
            self._join(operation[_FOUND], result)
            return
        name = (operation.get("metadata") or {}).get("name") or ""
        result.extra["execution"] = name
        if not self.task.wait:
            result.operation = operation["name"]
            return
        what = f"executing {self.job.title}"
        try:
            _last, execution = _verbs.finish(self.task, f"{_JOBS}.run", operation, what)
        except OperationFailed as error:
            raise OperationFailed(error.message, self._hint(name), **error.facts) from error
        self._refuse_failed(execution or self._get(name))

    def _join(self, execution, result):
        """Wait for an execution of another run."""
        name = execution["name"]
        result.extra["execution"] = name
        if not self.task.wait or self.task.check_mode:
            return

        def poll():
            body = self._get(name) or {"completionTime": "deleted"}
            return body, "" if body.get("completionTime") else "running"

        self._refuse_failed(self.task.waiter.until(poll, what=f"execution {name}"))

    def _refuse_failed(self, execution):
        """Raise :class:`OperationFailed` for an execution that did not succeed."""
        if _succeeded(execution):
            return
        conditions = [item for item in execution.get("conditions") or [] if item.get("state") == "CONDITION_FAILED"]
        why = conditions[0].get("message") if conditions else "no task succeeded"
        name = execution.get("name", "")
        raise OperationFailed(f"Execution {name} of {self.job.title} failed: {why}", self._hint(name))

    def _hint(self, execution):
        """Return the end of what an execution's tasks wrote."""
        short = execution.rsplit("/", 1)[-1]
        condition = f'resource.type="cloud_run_job" labels."run.googleapis.com/execution_name"="{short}"'
        command = f"gcloud logging read '{condition}' --project={self.job.names['project']} --order=asc"
        return _logs.of_container(self.task, "run.googleapis.com", condition, command)


def _newest(job):
    """Return the name of a job's newest execution, or None."""
    return ((job or {}).get("latestCreatedExecution") or {}).get("name")


def _succeeded(execution):
    return bool(execution.get("succeededCount")) and not (
        execution.get("failedCount") or execution.get("cancelledCount")
    )
