# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # A resource that is only used: the option group USE of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  use:
    description:
      - Whether the resource is only used. It must exist, and its settings are neither compared nor changed. It is never
        deleted, and no member loses a role on it.
    type: bool
    default: false
    version_added: 0.3.0
"""
