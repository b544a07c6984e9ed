#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iap_access
short_description: Manage access through Identity-Aware Proxy
version_added: 0.2.0
description:
  - Grants access through Identity-Aware Proxy to an App Engine application, one of its services or versions, or a
    Cloud Run service. Access is the role C(roles/iap.httpsResourceAccessor) on the protected resource.
  - By default exactly the O(members) have the role on this resource. Principals with the role on a resource above it,
    such as the application or the project, have access as well.
  - Warns when the proxy is off, because the members then do not control access.
  - M(mlplatform.gcp.iam_bindings) does the same for any role on any resource, where its full name is known, and changes
    several bindings at once.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  type:
    description: Kind of the protected resource.
    type: str
    choices: [app_engine, cloud_run]
    required: true
  service:
    description:
      - Name of the service. Without it, the whole application of the project is meant. Required with
        O(type=cloud_run).
    type: str
  version:
    description: Name of a version of the App Engine service.
    type: str
  location:
    description: Region of the Cloud Run service.
    type: str
  members:
    description:
      - The principals with access, for example C(user:a@example.com), C(group:EMAIL), C(serviceAccount:EMAIL) or
        C(domain:example.com). With an empty list no principal has the role on this resource.
      - With O(state=absent), the principals that lose access; without it, all of them.
    type: list
    elements: str
  authoritative:
    description: Whether the members become exactly O(members). Otherwise O(members) are added to the existing ones.
    type: bool
    default: true
  condition:
    description: Condition of the access, for example an access level of Access Context Manager.
    type: dict
    suboptions:
      title:
        description: A short name.
        type: str
        required: true
      expression:
        description: An expression in the Common Expression Language.
        type: str
        required: true
      description:
        description: Purpose of the condition.
        type: str
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
notes:
  - Needs C(resourcemanager.projects.get), C(appengine.applications.get) or C(run.services.get), and C(getIamPolicy) and
    C(setIamPolicy) of the protected resource, such as C(iap.webServices.setIamPolicy), in C(roles/iap.admin).
  - The API checks whether a user or a group exists when the policy is written. It then rejects the whole change, and
    the error names the unknown principal.
seealso:
  - module: mlplatform.gcp.iam_bindings
  - module: mlplatform.gcp.iap_settings
"""

EXAMPLES = r"""
- name: Grant access to the application to these principals only
  mlplatform.gcp.iap_access:
    project: my-project
    type: app_engine
    members:
      - group:data-science@example.com
      - serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com

- name: Add a group to those with access to a Cloud Run service
  mlplatform.gcp.iap_access:
    project: my-project
    type: cloud_run
    location: europe-west1
    service: mlflow
    members: ["group:data-science@example.com"]
    authoritative: false
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
  description: The policy of the protected resource.
  returned: success
  type: dict
  sample:
    version: 1
    bindings:
      - role: roles/iap.httpsResourceAccessor
        members: ["group:data-science@example.com"]
protects:
  description: Name of the protected resource in Identity-Aware Proxy, as M(mlplatform.gcp.iap_settings) takes it.
  returned: success
  type: str
  sample: projects/123456789012/iap_web/appengine-my-project
enabled:
  description: Whether the proxy is on for it; null in check mode when the resource does not exist yet.
  returned: success
  type: bool
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _iap, _policy, _project
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import APPLICATION
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import SERVICE as APP_SERVICE
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.run import SERVICE
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import BINDINGS, GCP, OWNER, STATE, Options

OPTIONS = (
    GCP
    + OWNER
    + STATE
    + Options(
        {
            "type": {"type": "str", "choices": ["app_engine", "cloud_run"], "required": True},
            "service": {"type": "str"},
            "version": {"type": "str"},
            "location": {"type": "str"},
            "members": {"type": "list", "elements": "str"},
            "authoritative": {"type": "bool", "default": True},
            "condition": BINDINGS["condition"],
        },
        mutually_exclusive=(("version", "location"),),
        required_by={"version": ("service",)},
        required_if=(("type", "cloud_run", ("service", "location")), ("state", "present", ("members",))),
    )
)


def run(task):
    params, absent = task.params, task.params["state"] == "absent"
    number, service = _project.number(_project.read(task)), params["service"]
    if params["type"] == "app_engine":
        name = _iap.app_engine(number, task.project, service, params["version"])
        target = task.remote(APP_SERVICE, name=service) if service else task.remote(APPLICATION)
        body = task.remote(APPLICATION).read()
        relation = target.owned_relation()
        enabled = None if body is None else bool((body.get("iap") or {}).get("enabled"))
    else:
        name = _iap.cloud_run(number, params["location"], service)
        target = task.remote(SERVICE, location=params["location"], name=service)
        body = target.read()
        relation = target.owned_relation(body)
        enabled = None if body is None else bool(body.get("iapEnabled"))
    if enabled is False and not absent:
        task.warn(f"Identity-Aware Proxy is off for {name}: these members do not control access to it.")
    binding = {"role": _iap.ACCESSOR, "members": params["members"] or [], "condition": params["condition"]}
    result = _policy.ensure(
        task,
        f"//iap.googleapis.com/{name}",
        [binding],
        authoritative=not params["members"] if absent else params["authoritative"],
        absent=absent,
        relation=relation,
    )
    result.extra.update({"protects": name, "enabled": enabled})
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
