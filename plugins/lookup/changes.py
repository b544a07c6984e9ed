# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: changes
short_description: Return what this run has changed so far
version_added: 0.3.0
author: the mlplatform.gcp authors (@mlplatform)
description:
  - Returns the resources that the modules of this collection have created, changed, deleted or adopted on a host in
    this run, or would have in check mode, one entry a resource.
  - An assertion on it makes a run fail when something differs, or when a plan has more than it may have.
options:
  _terms:
    description: Names of hosts. Without a name, the host of the task.
    type: list
    elements: str
  brief:
    description: Return one line of text for each resource instead of its entry.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check that the plan deletes nothing
  ansible.builtin.assert:
    that: query('mlplatform.gcp.changes') | selectattr('action', 'eq', 'delete') == []
    fail_msg: "{{ query('mlplatform.gcp.changes', brief=true) }}"
"""

RETURN = r"""
_list:
  description:
    - An entry for each resource with C(kind), C(name), C(action) (V(create), V(change), V(delete) or V(adopt)),
      C(fields) and C(implies), as the modules return it in C(changes).
    - With O(brief=true) a line of text for each resource.
  type: list
"""

from ansible.plugins.lookup import LookupBase
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import changes


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        hosts = terms or [(variables or {})["inventory_hostname"]]
        entries = [entry for host in hosts for entry in changes.recorded(host)]
        return [changes.brief(entry) for entry in entries] if self.get_option("brief") else entries
