#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_job
short_description: Manage and execute Cloud Run jobs
version_added: 0.1.0
description:
  - Creates, changes, deletes and executes jobs of Cloud Run.
  - Only what the task sets is compared and changed.
  - With O(execute=on_change) a job is executed until it has succeeded once as it is now. That makes a step such as a
    schema migration run once for each new image, also when a run of Ansible was interrupted in between.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  tasks:
    description: How many tasks an execution has.
    type: int
  max_retries:
    description: How often a failed task is tried again.
    type: int
  execute:
    description:
      - Whether the job is executed.
      - With V(on_change), if it has not yet succeeded as the task describes it. One that is under way is joined.
    type: str
    choices: [never, on_change, always]
    default: never
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.container
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(run.jobs.get), C(run.jobs.create), C(run.jobs.update), C(run.jobs.delete), C(run.jobs.run),
    C(run.executions.get) and C(run.operations.get), in C(roles/run.admin), and C(iam.serviceAccounts.actAs) on the
    O(service_account).
"""

EXAMPLES = r"""
- name: The schema of the database is that of the image
  mlplatform.gcp.cloud_run_job:
    project: my-project
    name: mlflow-migrate
    location: europe-west1
    image: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow:3.17.2-0a1b2c
    args: [migrate]
    service_account: mlflow-server@my-project.iam.gserviceaccount.com
    cloudsql_instances: [my-project:europe-west1:mlflow-prod]
    max_retries: 0
    execute: on_change
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
resource:
  description: The job as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: projects/my-project/locations/europe-west1/jobs/mlflow-migrate
execution:
  description: Name of the execution that this task started or joined.
  returned: when there was one
  type: str
operation:
  description: Name of the operation that is under way.
  returned: when O(wait=false) and something was started
  type: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _run, _values
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import NotFound, OperationFailed
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, LABELS, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import plan
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Result, Update

JOB = Resource(
    kind="Cloud Run job",
    base=_run.BASE,
    path="projects/{project}/locations/{location}/jobs/{name}",
    permission="run.jobs",
    create_id="jobId",
    # A job's PATCH takes no mask: it replaces the whole.
    update=Update(style="put", method="PATCH"),
    operation=_run.OPERATION,
    version="etag",
    state=_run.state,
    transient=_run.TRANSIENT,
    rules=_run.rules("template.template"),
)
# What an execution keeps of the job that it was started from.
_EXECUTED = _run.rules("template")

OPTIONS = (
    GCP
    + _run.CONTAINER
    + LABELS
    + STATE
    + WAIT
    + Options(
        {
            "tasks": {"type": "int"},
            "max_retries": {"type": "int"},
            "execute": {"type": "str", "choices": ["never", "on_change", "always"], "default": "never"},
        }
    )
)


def desired(params):
    """The job that the options describe, as the API's fields."""
    return {
        "labels": params["labels"],
        "annotations": params["annotations"],
        "template": {
            "taskCount": params["tasks"],
            "template": {
                "containers": [_run.container(params)],
                "volumes": _run.volumes(params),
                "serviceAccount": params["service_account"],
                "timeout": _values.seconds(params["timeout"]),
                "maxRetries": params["max_retries"],
                "vpcAccess": _run.vpc_access(params),
            },
        },
    }


def run(task):
    params = task.params
    names = {"location": params["location"], "name": params["name"]}
    if params["state"] == "absent":
        return task.ensure(JOB, None, **names)
    remote = task.remote(JOB, **names)
    wanted = desired(params)
    result = remote.ensure(wanted, guard=lambda plan: _run.require_image(params, plan, remote.title))
    if params["execute"] != "never" and not result.operation:
        Executions(task, remote).ensure(wanted, result)
    return result


class Executions:
    """The executions of one job."""

    def __init__(self, task, job):
        self.task = task
        self.job = job

    def ensure(self, wanted, result):
        """See to it that the job has been executed as the task asks, and take note in ``result``."""
        task = self.task
        latest = None if task.params["execute"] == "always" else self.latest(result.resource)
        if latest is not None and self.matches(wanted, latest):
            if not latest.get("completionTime"):
                self.join(latest, result)
                return
            if succeeded(latest):
                return
        title = f"execution of {self.job.title}"
        result.add(
            Result.of(
                JOB.kind, self.job.path, {}, {"execution": "started"}, title=title, implies=["execution of the job"]
            )
        )
        if not task.check_mode:
            self.start(result)

    def latest(self, job):
        """The newest execution, or None."""
        reference = (job or {}).get("latestCreatedExecution") or {}
        if not reference.get("name"):
            return None
        name = reference["name"]
        if "/" not in name:
            name = f"{self.job.path}/executions/{name}"
        return self.get(name)

    def get(self, name):
        try:
            return self.task.client.get(f"{_run.BASE}/{name}", permission="run.executions.get")
        except NotFound:  # deleted since
            return None

    @staticmethod
    def matches(wanted, execution):
        """Whether an execution ran what the task describes."""
        template = wanted["template"]["template"]
        return not plan({"template": template}, execution, _EXECUTED).changed

    def start(self, result):
        operation = self.task.client.post(f"{self.job.url}:run", {}, permission="run.jobs.run")
        name = (operation.get("metadata") or {}).get("name") or ""
        result.extra["execution"] = name
        if not self.task.wait:
            result.operation = operation["name"]
            return
        what = f"executing {self.job.title}"
        try:
            last = self.task.waiter.operation(self.task.client, _run.OPERATION, operation, what=what)
        except OperationFailed as error:
            raise OperationFailed(error.message, self.hint(name), **error.facts) from error
        self.refuse_failed(_run.OPERATION.result(last) or self.get(name))

    def join(self, execution, result):
        """Wait for an execution that somebody else started."""
        name = execution["name"]
        result.extra["execution"] = name
        if not self.task.wait or self.task.check_mode:
            return

        def poll():
            body = self.get(name) or {"completionTime": "deleted"}
            return body, "" if body.get("completionTime") else "running"

        self.refuse_failed(self.task.waiter.until(poll, what=f"execution {name}"))

    def refuse_failed(self, execution):
        if succeeded(execution):
            return
        conditions = [item for item in execution.get("conditions") or [] if item.get("state") == "CONDITION_FAILED"]
        why = conditions[0].get("message") if conditions else "no task succeeded"
        name = execution.get("name", "")
        raise OperationFailed(f"Execution {name} of {self.job.title} failed: {why}", self.hint(name))

    def hint(self, execution):
        names, short = self.job.names, execution.rsplit("/", 1)[-1]
        return (
            "What it printed: gcloud logging read"
            f' \'resource.type="cloud_run_job" labels."run.googleapis.com/execution_name"="{short}"\''
            f" --project={names['project']} --order=asc"
        )


def succeeded(execution):
    return bool(execution.get("succeededCount")) and not (
        execution.get("failedCount") or execution.get("cancelledCount")
    )


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
