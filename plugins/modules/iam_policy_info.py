#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_policy_info
short_description: Gather information about the IAM policy of a resource
version_added: 0.1.0
description:
  - Returns the bindings of a resource with their roles, members and conditions.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  resource:
    description: Full name of the resource, as M(mlplatform.gcp.iam_bindings) takes it.
    type: str
    required: true
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs the C(getIamPolicy) permission of the kind of resource, such as C(run.services.getIamPolicy).
"""

EXAMPLES = r"""
- name: Read the policy of a service
  mlplatform.gcp.iam_policy_info:
    resource: //run.googleapis.com/projects/my-project/locations/europe-west1/services/mlflow
  register: found
"""

RETURN = r"""
policy:
  description: The policy as Google describes it.
  returned: success
  type: dict
  sample:
    bindings:
      - role: roles/run.invoker
        members: ["user:alice@example.com"]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._policy import PolicyAddress

OPTIONS = GCP + Options({"resource": {"type": "str", "required": True}})


def run(task):
    # Where a policy is read differs from service to service; the table of _policy has it.
    return {"changed": False, "policy": PolicyAddress(task.params["resource"]).read(task.client)}


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
