#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_bucket_info
short_description: Gather information about buckets of Cloud Storage
version_added: 0.1.0
description:
  - Returns one bucket, or all of them in the project.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: Name. If it is not set, all are returned.
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(storage.buckets.get), or C(storage.buckets.list) without O(name).
"""

EXAMPLES = r"""
- name: One bucket
  mlplatform.gcp.storage_bucket_info:
    project: my-project
    name: my-project-mlflow-artifacts
  register: found

- name: Check that it exists
  ansible.builtin.assert:
    that: found.resources | length == 1
"""

RETURN = r"""
resources:
  description: What was found, as Google describes it. Empty if there is nothing.
  returned: always
  type: list
  elements: dict
  sample: [{name: my-project-mlflow}]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.storage import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import info
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options

OPTIONS = GCP + Options({"name": {"type": "str"}})


def run(task):
    return info(task, KINDS["storage_bucket"], name=task.params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
