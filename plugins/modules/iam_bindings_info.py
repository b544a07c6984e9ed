#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_bindings_info
short_description: Gather information about what differs from IAM bindings
version_added: 0.3.0
description:
  - Compares the IAM policies of several resources with bindings, and returns what differs. It changes nothing.
  - A policy that is not readable is a warning.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  grants:
    description: The bindings by resource.
    type: list
    elements: dict
    required: true
    suboptions:
      resource:
        description: Full name of the resource, as M(mlplatform.gcp.iam_bindings) takes it.
        type: str
        required: true
      bindings:
        description: Bindings that the policy must have.
        type: list
        elements: dict
        required: true
        suboptions:
          role:
            description: The role.
            type: str
            required: true
          members:
            description: Its members.
            type: list
            elements: str
            default: []
          condition:
            description: Condition of the binding.
            type: dict
            suboptions:
              title:
                description: Title.
                type: str
                required: true
              expression:
                description: Expression of the Common Expression Language.
                type: str
                required: true
              description:
                description: Description.
                type: str
      exact:
        description: Whether no other member may have the roles.
        type: bool
        default: false
      above:
        description: Full names of resources above it. A member that has the role on one of them does not lack it.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs the C(getIamPolicy) permission of each kind of resource, such as C(run.services.getIamPolicy).
"""

EXAMPLES = r"""
- name: Compare the policies of a secret and of Identity-Aware Proxy
  mlplatform.gcp.iam_bindings_info:
    grants:
      - resource: //secretmanager.googleapis.com/projects/my-project/secrets/mlflow-db-password
        bindings:
          - role: roles/secretmanager.secretAccessor
            members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]
      - resource: //iap.googleapis.com/projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow
        bindings:
          - role: roles/iap.httpsResourceAccessor
            members: ["group:data-science@example.com"]
        exact: true
  register: found

- name: Require that nothing differs
  ansible.builtin.assert:
    that: found.differences == []
    fail_msg: "{{ found.differences | join('\\n') }}"
"""

RETURN = r"""
differences:
  description: What differs, one line of text for each member of a role.
  returned: success
  type: list
  elements: str
  sample:
    - "roles/storage.objectViewer is missing on bucket b/my-bucket: user:ada@example.com"
unreadable:
  description: Full names of the resources with a policy that is not readable.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import BINDINGS, GCP, Options

OPTIONS = GCP + Options(
    {
        "grants": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "resource": {"type": "str", "required": True},
                "bindings": {"type": "list", "elements": "dict", "required": True, "options": BINDINGS},
                "exact": {"type": "bool", "default": False},
                "above": {"type": "list", "elements": "str", "default": []},
            },
        }
    }
)


def run(task):
    differences, unreadable = _policy.differences(task, task.params["grants"])
    return {"changed": False, "differences": differences, "unreadable": unreadable}


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
