#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_bindings
short_description: Manage IAM bindings of a resource
version_added: 0.1.0
description:
  - Adds members to roles in the IAM policy of a resource, or removes them.
  - The task reads the policy once and writes it at most once. It detects concurrent changes of the policy.
    O(bindings) must be given.
  - Waits for service accounts that were just made and that policies do not know yet. A member that Google does not
    know is named in the error.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  resource:
    description:
      - Full resource name, see U(https://cloud.google.com/iam/docs/full-resource-names).
      - "C(//cloudresourcemanager.googleapis.com/projects/PROJECT), also C(folders/F) and C(organizations/O)."
      - C(//iam.googleapis.com/projects/PROJECT/serviceAccounts/EMAIL).
      - C(//secretmanager.googleapis.com/projects/PROJECT/secrets/SECRET).
      - C(//storage.googleapis.com/projects/_/buckets/BUCKET).
      - C(//artifactregistry.googleapis.com/projects/PROJECT/locations/LOCATION/repositories/REPOSITORY).
      - "C(//run.googleapis.com/projects/PROJECT/locations/LOCATION/services/SERVICE), also C(jobs/JOB)."
      - "C(//iap.googleapis.com/projects/NUMBER/iap_web/cloud_run-LOCATION/services/SERVICE),
        C(//iap.googleapis.com/projects/NUMBER/iap_web/appengine-APP), also with C(/services/SERVICE) and
        C(/versions/VERSION), and the other resources of Identity-Aware Proxy. M(mlplatform.gcp.iap_access) makes these
        names itself."
    type: str
    required: true
  authoritative:
    description:
      - Whether the members of each role in O(bindings) become exactly those given.
      - By default they are added, or with O(state=absent) removed. Other roles do not change.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.bindings
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
notes:
  - Needs C(getIamPolicy) and C(setIamPolicy) of the kind of resource, for example C(storage.buckets.getIamPolicy) and
    C(storage.buckets.setIamPolicy), and C(resourcemanager.projects.setIamPolicy) for a project.
"""

EXAMPLES = r"""
- name: The server reads its database password
  mlplatform.gcp.iam_bindings:
    resource: //secretmanager.googleapis.com/projects/my-project/secrets/mlflow-db-password
    bindings:
      - role: roles/secretmanager.secretAccessor
        members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]

- name: Grant access through the proxy only to these members
  mlplatform.gcp.iam_bindings:
    resource: //iap.googleapis.com/projects/123456789012/iap_web/cloud_run-europe-west1/services/mlflow
    authoritative: true
    bindings:
      - role: roles/iap.httpsResourceAccessor
        members: ["group:data-science@example.com"]

- name: This account gets through to all of an App Engine application
  mlplatform.gcp.iam_bindings:
    resource: //iap.googleapis.com/projects/123456789012/iap_web/appengine-my-project
    bindings:
      - role: roles/iap.httpsResourceAccessor
        members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]

- name: Access until the end of the year
  mlplatform.gcp.iam_bindings:
    resource: //cloudresourcemanager.googleapis.com/projects/my-project
    bindings:
      - role: roles/run.viewer
        members: ["user:auditor@example.com"]
        condition:
          title: until 2027
          expression: request.time < timestamp("2027-01-01T00:00:00Z")
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
  description: The policy of the resource.
  returned: success
  type: dict
  sample:
    version: 1
    bindings:
      - role: roles/secretmanager.secretAccessor
        members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import find
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import BINDINGS, GCP, OWNER, STATE, Options

OPTIONS = (
    GCP
    + OWNER
    + STATE
    + Options(
        {
            "resource": {"type": "str", "required": True},
            "bindings": {"type": "list", "elements": "dict", "options": BINDINGS},
            "authoritative": {"type": "bool", "default": False},
        },
        # Not "required", for the option's documentation is shared with modules where it is not.
        required_if=tuple(("state", state, ("bindings",)) for state in ("present", "absent")),
    )
)


def run(task):
    params = task.params
    target = find(task, params["resource"])
    return _policy.ensure(
        task,
        params["resource"],
        params["bindings"],
        authoritative=params["authoritative"],
        absent=params["state"] == "absent",
        relation=target.owned_relation() if target else "",
    )


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
