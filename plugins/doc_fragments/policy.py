# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Besides the fragment bindings, what the option group POLICY of module_utils/_options.py has.
    DOCUMENTATION = r"""
options:
  bindings_authoritative:
    description:
      - Whether the members of each role in O(bindings) become exactly those given. By default they are added. Other
        roles do not change.
      - On a resource of another owner no member loses a role.
    type: bool
    default: false
    version_added: 0.3.0
notes:
  - O(bindings) need C(getIamPolicy) and C(setIamPolicy) of the kind of resource. The policy is read once and written at
    most once, after the resource itself.
"""
