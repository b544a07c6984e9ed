#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_engine_application_info
short_description: Gather information about the App Engine application of a project
version_added: 0.2.0
description:
  - Returns the App Engine application of a project, or an empty list.
author:
  - the mlplatform.gcp authors (@mlplatform)
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(appengine.applications.get).
"""

EXAMPLES = r"""
- name: The application
  mlplatform.gcp.app_engine_application_info:
    project: my-project
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
  sample: [{name: apps/my-project, locationId: europe-west, defaultHostname: my-project.ew.r.appspot.com}]
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import info
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP

OPTIONS = GCP


def run(task):
    return info(task, KINDS["app_engine_application"], project=task.project)


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
