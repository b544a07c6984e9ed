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
  - With O(execute=on_change) the job is executed until this version of it has succeeded once. A step such as a schema
    migration then runs once for each new image, also after an interrupted run of Ansible.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  tasks:
    description: Number of tasks of an execution.
    type: int
  max_retries:
    description: Number of retries of a failed task.
    type: int
  execute:
    description:
      - Whether the job is executed.
      - With V(on_change), if it has not yet succeeded as the task describes it. An execution in progress is joined.
    type: str
    choices: [never, on_change, always]
    default: never
extends_documentation_fragment:
  - mlplatform.gcp.owner
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
  - With C(logging.logEntries.list), in C(roles/logging.viewer), the error of an execution that failed has the end of
    its output.
"""

EXAMPLES = r"""
- name: Migrate the schema of the database
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
  description: The job as returned by the API.
  returned: when O(state=present)
  type: dict
  sample:
    name: projects/my-project/locations/europe-west1/jobs/mlflow-migrate
execution:
  description: Name of the execution that this task started or joined.
  returned: when an execution was started or joined
  type: str
operation:
  description: Name of the operation that is in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _run, _values
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.run import JOB
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, LABELS, OWNER, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._run_executions import Executions

OPTIONS = (
    GCP
    + _run.CONTAINER
    + LABELS
    + OWNER
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
    """Return the job that the options describe, in the API's fields."""
    return {
        "labels": params["labels"],
        "annotations": params["annotations"],
        "template": {
            "taskCount": params["tasks"],
            "template": {
                "containers": [_run.container(params)],
                "volumes": _run.volumes(params),
                "serviceAccount": params["service_account"],
                "encryptionKey": params["kms_key"],
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
    result = _run.ensure_again(remote, wanted, result)
    if params["execute"] != "never" and not result.operation:
        Executions(task, remote).ensure(wanted, result)
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
