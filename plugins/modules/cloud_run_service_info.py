#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_service_info
short_description: Gather information about Cloud Run services
version_added: 0.1.0
description:
  - Returns one Cloud Run service, or all of them in a region.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: Name. If it is not set, all are returned.
    type: str
  location:
    description: Region to look in.
    type: str
    required: true
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(run.services.get), or C(run.services.list) without O(name).
"""

EXAMPLES = r"""
- name: One Cloud Run service
  mlplatform.gcp.cloud_run_service_info:
    project: my-project
    name: mlflow
    location: europe-west1
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
  sample: [{name: projects/my-project/locations/europe-west1/services/mlflow}]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.run import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import info
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options

OPTIONS = GCP + Options({"name": {"type": "str"}, "location": {"type": "str", "required": True}})


def run(task):
    return info(task, KINDS["cloud_run_service"], location=task.params["location"], name=task.params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
