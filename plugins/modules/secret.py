#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret
short_description: Manage secrets and their values
version_added: 0.1.0
description:
  - Creates, changes and deletes secrets of Secret Manager, and gives them values.
  - A value can be given, read from a file on the machine that the module runs on, generated, or composed of other
    secrets. A generated or composed value exists only inside the module and in Secret Manager. No value is returned.
  - The module remembers in annotations of the secret which version it made of what, as a salted slow hash. To see that
    nothing has changed it reads neither a value nor a version.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: The secret's name.
    type: str
    required: true
  replication_locations:
    description:
      - Regions that hold the secret. By default Google chooses. They cannot be changed.
    type: list
    elements: str
  annotations:
    description: Annotations that the secret shall have. Others are left alone.
    type: dict
  payload:
    description: The value. A new version is made when it differs from the last.
    type: str
  payload_file:
    description: Path of a file with the value, byte for byte.
    type: path
  generate:
    description:
      - Generate a random value once. Changing these suboptions does not generate it again; delete the secret for that.
      - A version that is there already, whoever made it, is kept.
    type: dict
    suboptions:
      length:
        description: How many characters.
        type: int
        default: 32
      alphabet:
        description: The characters to choose from, by default letters and digits.
        type: str
  template:
    description:
      - Text with placeholders for other secrets. C({name}) becomes the value of the secret named in
        O(template_secrets), C({name:url}) the value quoted for a URL.
      - A new version is made when the text or a version of one of the secrets changes.
    type: str
  template_secrets:
    description:
      - The secret for each placeholder, as C(projects/PROJECT/secrets/SECRET/versions/VERSION).
      - Without a version the newest is used, which costs a request to look it up; without a project, a secret in
        O(project).
    type: dict
  old_versions:
    description: What happens to old versions when a new one is made.
    type: str
    choices: [keep, disable, destroy]
    default: keep
  keep_versions:
    description: How many of the newest versions O(old_versions) leaves alone, the new one included.
    type: int
    default: 2
  verify:
    description:
      - Whether to look up the version that was made, which costs a request, and to make another if it was disabled or
        destroyed since.
    type: bool
    default: false
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.bindings
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
notes:
  - An adopted secret keeps its value; a warning says when it is not the wanted one. A value that differs from
    O(template) only in that it is not quoted for a URL counts as the wanted one.
  - A secret that is not adopted gets the wanted value where it has another; one that is only generated is kept in any
    case.
  - Needs C(secretmanager.secrets.get), C(secretmanager.secrets.create), C(secretmanager.secrets.update) and
    C(secretmanager.secrets.delete); to make versions C(secretmanager.versions.add), C(secretmanager.versions.get),
    C(secretmanager.versions.list), C(secretmanager.versions.disable) and C(secretmanager.versions.destroy); to compose
    them C(secretmanager.versions.access); for O(bindings) C(secretmanager.secrets.getIamPolicy) and
    C(secretmanager.secrets.setIamPolicy). All are in C(roles/secretmanager.admin).
  - O(bindings) are added to the secret's policy; use M(mlplatform.gcp.iam_bindings) for more.
"""

EXAMPLES = r"""
- name: The database has a password that nobody knows
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-db-password
    generate: {length: 40}
    bindings:
      - role: roles/secretmanager.secretAccessor
        members: ["serviceAccount:mlflow-server@my-project.iam.gserviceaccount.com"]
  register: password

- name: The database's address holds the password
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-database-url
    template: postgresql+psycopg2://mlflow:{password:url}@/mlflow?host=/cloudsql/my-project:europe-west1:mlflow-prod
    template_secrets:
      password: "{{ password.version }}"

- name: A given value
  mlplatform.gcp.secret:
    project: my-project
    name: mlflow-login
    payload: admin
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
  description: The secret as Google describes it, without a value.
  returned: when O(state=present)
  type: dict
secret:
  description: The secret's name in full.
  returned: success
  type: str
  sample: projects/my-project/secrets/mlflow-db-password
version:
  description:
    - The name in full of the version that the module made or keeps.
    - In check mode a version that is still to be made is called V(latest).
  returned: when O(state=present) and a value was asked for
  type: str
  sample: projects/my-project/secrets/mlflow-db-password/versions/1
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.secretmanager import MADE_OF, SECRET
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import (
    BINDINGS,
    GCP,
    LABELS,
    OWNER,
    STATE,
    Options,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._secret_sources import source_of
from ansible_collections.mlplatform.gcp.plugins.module_utils._secret_versions import ensure_value

OPTIONS = (
    GCP
    + LABELS
    + OWNER
    + STATE
    + Options(
        {
            "name": {"type": "str", "required": True},
            "replication_locations": {"type": "list", "elements": "str"},
            "annotations": {"type": "dict"},
            "payload": {"type": "str", "no_log": True},
            "payload_file": {"type": "path"},
            "generate": {
                "type": "dict",
                "options": {"length": {"type": "int", "default": 32}, "alphabet": {"type": "str"}},
            },
            "template": {"type": "str"},
            "template_secrets": {"type": "dict", "no_log": False},
            "old_versions": {"type": "str", "choices": ["keep", "disable", "destroy"], "default": "keep"},
            "keep_versions": {"type": "int", "default": 2},
            "verify": {"type": "bool", "default": False},
            "bindings": {"type": "list", "elements": "dict", "options": BINDINGS},
        },
        mutually_exclusive=(("payload", "payload_file", "generate", "template"),),
        required_together=(("template", "template_secrets"),),
    )
)


def desired(params):
    locations = params["replication_locations"]
    replicas = [{"location": location} for location in locations or []]
    return {
        "replication": {"userManaged": {"replicas": replicas}} if replicas else None,
        "labels": params["labels"],
        "annotations": params["annotations"],
    }


def run(task):
    params = task.params
    remote = task.remote(SECRET, name=params["name"])
    if params["state"] == "absent":
        result = remote.ensure_absent()
        result.extra["secret"] = remote.path
        return result
    source = source_of(task)
    result = remote.ensure(desired(params))
    result.extra["secret"] = remote.path
    if source:
        created = result.changed and result.diff["before"] == {}
        value = ensure_value(task, remote, result.resource, source, fresh=created)
        result.resource = value.resource or result.resource
        result.add(value)
    if params["bindings"]:
        full = f"//secretmanager.googleapis.com/{remote.path}"
        result.add(_policy.ensure(task, full, params["bindings"], relation=remote.relation))
    # Results are logged, and even a slow hash of a weak password must not be.
    annotations = result.resource.get("annotations") or {}
    kept = {name: value for name, value in annotations.items() if name != MADE_OF}
    result.resource = dict(result.resource, annotations=kept) if annotations else result.resource
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
