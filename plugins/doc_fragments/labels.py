# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Labels: the option group LABELS of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  labels:
    description:
      - Labels of the resource. Other labels do not change.
    type: dict
"""
