#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_engine_service_info
short_description: Gather information about services of App Engine
version_added: 0.2.0
description:
  - Returns one service of App Engine, or all of them, with their traffic split.
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
  - Needs C(appengine.services.get), or C(appengine.services.list) without O(name).
"""

EXAMPLES = r"""
- name: One service
  mlplatform.gcp.app_engine_service_info:
    project: my-project
    name: default
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
  sample: [{name: apps/my-project/services/default, split: {allocations: {v2: 1}}}]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import info
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options

OPTIONS = GCP + Options({"name": {"type": "str"}})


def run(task):
    return info(task, KINDS["app_engine_service"], name=task.params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
