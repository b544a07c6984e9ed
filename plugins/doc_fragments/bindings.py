# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Bindings of an IAM policy: BINDINGS of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  bindings:
    description: Roles and their members.
    type: list
    elements: dict
    suboptions:
      role:
        description: A predefined role, such as C(roles/run.invoker), or the name of a custom one.
        type: str
        required: true
      members:
        description:
          - Principals with the role, for example C(user:a@example.com), C(serviceAccount:EMAIL), C(group:EMAIL),
            C(domain:example.com) or C(allUsers).
        type: list
        elements: str
        default: []
      condition:
        description:
          - When the role holds. The same role with another condition is another binding.
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
            description: What it is for.
            type: str
"""
