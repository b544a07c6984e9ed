#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment
short_description: Compute an MLflow deployment from its variables
version_added: 0.3.0
description:
  - Returns everything that follows from the variables of a deployment and from what exists, as names, labels, members,
    requirements, sizes, the server's environment, and problems.
  - It changes nothing but the lock of the deployment. The roles of this collection carry out what it returns.
  - With O(survey), where it is certain that something will be created or removed, it takes the lock; after it had to
    wait for another run, it reads again.
  - The action plugin of the same name takes the variables from the host that the task runs for.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  variables:
    description:
      - The variables by name. Those that no role of this collection knows are ignored or reported.
      - By default the variables of the host, without those that hold credentials.
    type: dict
  action:
    description: What the deployment is computed for.
    type: str
    choices:
      deploy: Create and change resources.
      destroy: Remove resources.
      read: Read resources only.
    default: deploy
  survey:
    description:
      - Whether to read what exists, as M(mlplatform.gcp.preflight_info) does, and to compute the deployment from it.
      - Later tasks of the play compare with what was read, and read again before they change anything.
    type: bool
    default: false
  existing:
    description: What an earlier task returned under this name, in place of O(survey).
    type: dict
  made:
    description: What the run has created so far.
    type: dict
    suboptions:
      image:
        description: The image with its digest.
        type: str
      hostname:
        description: Default host name of the App Engine application.
        type: str
      users:
        description: The C(results) of M(mlplatform.gcp.sql_user).
        type: list
        elements: dict
      secrets:
        description: The C(results) of M(mlplatform.gcp.secret).
        type: list
        elements: dict
  image_context:
    description: Folder of the default build context. Its contents become part of the image's tag.
    type: path
  secret_image_context:
    description:
      - Folder of the build context of an image that reads all its secrets by name, for a target that passes none to
        the server.
    type: path
  changed:
    description: What was changed before the task, for the error.
    type: str
    default: Nothing was changed
  problems:
    description: Whether problems make the task fail.
    type: str
    choices:
      fail: All problems are listed in the error.
      report: Problems are returned.
    default: fail
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs no permissions without O(survey), and with it those of M(mlplatform.gcp.preflight_info).
  - Of the variables, those that hold credentials are not read.
"""

EXAMPLES = r"""
- name: Compute a deployment from variables and from what exists
  mlplatform.gcp.deployment:
    project: my-project
    variables:
      gcp_project: my-project
      gcp_region: europe-west1
      mlflow_name: demo
      mlflow_access_members: [group:ml-team@example.com]
    survey: true
    problems: report
  register: deployment

- name: Print the name of its bucket
  ansible.builtin.debug:
    msg: "{{ deployment.bucket.name }}"
"""

RETURN = r"""
problems:
  description: What would fail, each with C(variable), C(what) and C(next).
  returned: always
  type: list
  elements: dict
variables:
  description: The O(variables), for a task that computes the deployment again from what has been created since.
  returned: always
  type: dict
askable:
  description: Whether the variables name a project and resources that can be read from Google Cloud.
  returned: always
  type: bool
name:
  description: Name of the deployment.
  returned: when O(variables) name a target
  type: str
target:
  description: Name, role and title of the target.
  returned: when O(variables) name a target
  type: dict
  sample: {name: cloudrun, role: mlplatform.gcp.cloudrun_mlflow, title: Cloud Run}
bucket:
  description: The bucket of artifacts, with C(name), C(uri), C(location), C(bindings) and its settings.
  returned: when O(variables) name a target
  type: dict
database:
  description: The Cloud SQL instance, with C(instance), C(connection), C(version), C(tier) and its settings.
  returned: when O(variables) name a target
  type: dict
server:
  description: The server, with C(url), C(hosts), C(env), C(secret_env), C(image) and the target's own C(options).
  returned: when O(variables) name a target
  type: dict
lock:
  description: Value of the option O(lock) of this collection's modules; null without a lock.
  returned: when O(variables) name a target
  type: dict
requirements:
  description: Options for M(mlplatform.gcp.preflight_info).
  returned: when O(variables) name a target
  type: dict
removal:
  description: What a removal does.
  returned: when O(variables) name a target
  type: dict
"""

from dataclasses import asdict

from ansible_collections.mlplatform.gcp.plugins.module_utils._build_context import content_tag
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import data, values
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.model import ACTIONS, Observed, compute
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, listed
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._lock import IDENTITY
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._preflight import Preflight

# Defaults of the suboptions of preflight_info's resources.
_RESOURCE = {"location": None, "read": [], "host": None, "adopt": False, "referenced_by": None, "readers": []}
_RESULTS = {"type": "list", "elements": "dict"}
OPTIONS = GCP + Options(
    {
        "variables": {"type": "dict"},
        "action": {"type": "str", "choices": list(ACTIONS), "default": "deploy"},
        "survey": {"type": "bool", "default": False},
        "existing": {"type": "dict"},
        "made": {
            "type": "dict",
            "options": {
                "image": {"type": "str"},
                "hostname": {"type": "str"},
                "users": _RESULTS,
                "secrets": dict(_RESULTS, no_log=False),
            },
        },
        "image_context": {"type": "path"},
        "secret_image_context": {"type": "path"},
        "changed": {"type": "str", "default": "Nothing was changed"},
        "problems": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
    },
    mutually_exclusive=(("survey", "existing"),),
)


def run(task):
    params = task.params
    given = params["variables"] or {}
    contexts = [params[name] or "" for name in ("image_context", "secret_image_context")]
    built = [part for context in contexts for part in (_content_tag(given, context), context)]

    def computed(existing):
        observed = Observed(existing, params["made"], task.check_mode, *built)
        return compute(given, observed, action=params["action"])

    existing = params["existing"]
    outcome = computed(existing)
    if params["survey"] and outcome.askable and outcome.deployment.google:
        existing, outcome = _read(task, outcome, computed)
    for text in outcome.warnings:
        task.warn(text)
    problems = [*outcome.problems, *_found(existing, params["action"])]
    if problems and params["problems"] == "fail":
        raise UserError(listed(problems, f"{params['changed']}: {_title(given)} would fail."))
    found = outcome.as_dict()
    if found.get("lock"):
        found["lock"] |= IDENTITY
    result = dict(found, problems=[asdict(problem) for problem in problems], variables=given, changed=False)
    return result if existing is None else dict(result, existing=existing)


def _read(task, outcome, computed):
    """Read what exists and return it with the outcome that follows. A run that will change it takes the lock."""
    while True:
        began = task.client.clock.now()
        existing = Preflight(task, _questions(outcome.deployment)).result()
        found = computed(existing)
        options = found.deployment.lock
        if options is None or found.problems or existing["problems"] or task.check_mode:
            return existing, found
        lock = task.lock(asdict(options) | IDENTITY)
        lock.surveyed(began)
        if not (options.certain and lock.hold(plans=False)):
            return existing, found


def _questions(deployment):
    """Return the requirements of a deployment as the options of ``preflight_info``."""
    asked = asdict(deployment.requirements)
    asked["organization_required"] = asked.pop("organization")
    asked["resources"] = [_RESOURCE | item for item in asked["resources"]]
    return asked | {"region": deployment.region, "owner_labels": deployment.owner, "adopt": False}


def _found(existing, action):
    """Return the problems that Google Cloud reported. A removal needs credentials and the project alone."""
    reported = (existing or {}).get("problems") or []
    if action != "deploy":
        reported = [item for item in reported if item["check"] in ("credentials", "project")]
    return [Problem("", item["what"], item["next"]) for item in reported]


def _title(given):
    return f"the deployment {given.get('mlflow_name')} ({given.get('mlflow_env', 'dev')})"


def _content_tag(given, default):
    """Return the hash of the build context; empty where there is none, which the build reports."""
    read, _problems, _deprecated = values.read(given)
    folder = read["mlflow_image_context"] or default
    if read["mlflow_image"] or read["mlflow_image_tag"] or not folder:
        return ""
    return content_tag(folder, read["mlflow_image_dockerfile"], data.build_args(read))


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
