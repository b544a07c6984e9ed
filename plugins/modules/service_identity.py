#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_identity
short_description: Create the service agent of a Google service in a project
version_added: 0.1.0
description:
  - Many Google services act through an account of their own in a project, the service agent, which is created on first
    use. This module creates it beforehand, so that it can be granted roles.
  - The API does not report whether the account existed before, so the module never reports a change.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  service:
    description: The service, such as C(iap.googleapis.com). It must be enabled.
    type: str
    required: true
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(serviceusage.services.enable), which is in C(roles/serviceusage.serviceUsageAdmin); in check mode
    C(resourcemanager.projects.get).
  - For C(storage.googleapis.com) it needs C(resourcemanager.projects.get) instead.
  - In check mode the address is composed from the project's number for the services that the module knows.
"""

EXAMPLES = r"""
- name: Create the service agent of Identity-Aware Proxy
  mlplatform.gcp.service_identity:
    project: my-project
    service: iap.googleapis.com
  register: iap
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
email:
  description: The address of the service's account.
  returned: success
  type: str
  sample: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com
member:
  description: The account as a member of IAM policies.
  returned: success
  type: str
  sample: serviceAccount:service-123456789012@gcp-sa-iap.iam.gserviceaccount.com
resource:
  description: The account as returned by the API.
  returned: success
  type: dict
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _agents, _project, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ApiError
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

GENERATE = "serviceusage.services.generateServiceIdentity"
OPTIONS = GCP + WAIT + Options({"service": {"type": "str", "required": True}})


def expected(task):
    """Return the account that the service would have, for check mode."""
    try:
        number = _project.number(_project.read(task))
    except ApiError as error:
        task.warn(f"The number of the project {task.project} could not be read: {error}")
        number = "PROJECT_NUMBER"
    return {"email": _agents.address(task.params["service"], number)}


def run(task):
    service = task.params["service"]
    if task.check_mode:
        identity = expected(task)
    elif service == _agents.STORAGE:
        # Cloud Storage has a method of its own, which creates the agent.
        identity = {"email": _verbs.call(task, "storage.projects.serviceAccount.get")["email_address"]}
    else:
        operation = _verbs.call(task, GENERATE, name=service)
        _last, identity = _verbs.finish(task, GENERATE, operation, f"identity of {service} in {task.project}")
        # Some services have no account: their operation ends without one.
        identity = identity or {}
    result = Result(resource=identity)
    email = identity.get("email") or ""
    result.extra = {"email": email, "member": f"serviceAccount:{email}" if email else ""}
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
