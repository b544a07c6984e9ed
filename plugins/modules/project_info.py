#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: project_info
short_description: Gather information about a project
version_added: 0.1.0
description:
  - Returns the number of a project, its state, and its parent.
author:
  - the mlplatform.gcp authors (@mlplatform)
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(resourcemanager.projects.get).
"""

EXAMPLES = r"""
- name: Read the project's number
  mlplatform.gcp.project_info:
    project: my-project
  register: found
"""

RETURN = r"""
resource:
  description: The project as returned by the API.
  returned: success
  type: dict
  sample:
    name: projects/123456789012
    projectId: my-project
    state: ACTIVE
number:
  description: The project's number.
  returned: success
  type: str
  sample: "123456789012"
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP

OPTIONS = GCP


def run(task):
    project = _project.read(task)
    return {"changed": False, "resource": project, "number": _project.number(project)}


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
