#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: project_services
short_description: Enable or disable APIs of a project
version_added: 0.1.0
description:
  - Enables a list of APIs at once, 20 in a request, after it has read which ones are enabled.
  - An API that was just enabled can reject requests for a while. The collection's other modules retry until it accepts
    them.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  services:
    description: Names of the services, such as C(run.googleapis.com).
    type: list
    elements: str
    required: true
  disable_dependents:
    description: With O(state=absent), whether services that depend on one of O(services) are disabled with it.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(serviceusage.services.list), C(serviceusage.services.enable) and C(serviceusage.services.disable), which are
    in C(roles/serviceusage.serviceUsageAdmin).
"""

EXAMPLES = r"""
- name: Enable the APIs that MLflow on Cloud Run needs
  mlplatform.gcp.project_services:
    project: my-project
    services:
      - run.googleapis.com
      - sqladmin.googleapis.com
      - secretmanager.googleapis.com
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
  description: The project and the services of the task that are enabled in it.
  returned: success
  type: dict
  sample:
    project: my-project
    services: [run.googleapis.com, sqladmin.googleapis.com]
operation:
  description: Names of the operations that were started.
  returned: with O(wait=false), when something was started
  type: list
  elements: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import OperationFailed
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

# https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable
BATCH = 20

OPTIONS = (
    GCP
    + STATE
    + WAIT
    + Options(
        {
            "services": {"type": "list", "elements": "str", "required": True},
            "disable_dependents": {"type": "bool", "default": False},
        }
    )
)


def enabled(task):
    """Return the names of all services that are enabled in the project."""
    query = {"filter": "state:ENABLED", "pageSize": 200, "fields": "services/name,nextPageToken"}
    return {item["name"].rsplit("/", 1)[-1] for item in _verbs.pages(task, "serviceusage.services.list", query=query)}


def enable(task, names):
    """Start enabling and return the operations."""
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    return [_verbs.call(task, "serviceusage.services.batchEnable", {"serviceIds": batch}) for batch in batches]


def disable(task, names):
    """Start disabling and return the operations."""
    body = {"disableDependentServices": task.params["disable_dependents"]}
    return [_verbs.call(task, "serviceusage.services.disable", body, name=name) for name in names]


def finish(task, operations, verb):
    """Wait for the operations. Errors: :class:`OperationFailed` with the services that failed and their reasons."""
    for operation in operations:
        last, _result = _verbs.finish(
            task, "serviceusage.services.batchEnable", operation, f"{verb} APIs in {task.project}"
        )
        failures = (last.get("response") or {}).get("failures") or []
        if failures:
            reasons = "; ".join(f"{item.get('serviceId')}: {item.get('errorMessage')}" for item in failures)
            raise OperationFailed(f"Not all APIs could be enabled in {task.project}: {reasons}", failures=failures)


def run(task):
    asked = sorted(set(task.params["services"]))
    present = task.params["state"] == "present"
    now = enabled(task) & set(asked)
    todo = [name for name in asked if (name in now) != present]
    after = asked if present else []
    title = f"APIs of project {task.project}"
    result = Result.of(
        "project", f"projects/{task.project}", {"services": sorted(now)}, {"services": after}, title=title
    )
    result.resource = {"project": task.project, "services": after}
    if task.check_mode:
        for name in todo if present else ():
            task.will_enable(name, task.project)
        return result
    operations = (enable if present else disable)(task, todo)
    if task.wait:
        finish(task, operations, "enabling" if present else "disabling")
    else:
        result.operation = [operation.get("name") for operation in operations]
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
