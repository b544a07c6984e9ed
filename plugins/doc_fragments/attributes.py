# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What every state-changing module of the collection supports.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns what changes, before and after. Secret values are not shown.
    support: full
  idempotent:
    description: When run twice in a row without other changes, the second run changes nothing.
    support: full
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details: The module changes nothing.
  diff_mode:
    description: Returns what changes, before and after. Secret values are not shown.
    support: N/A
    details: The module changes nothing.
  idempotent:
    description: When run twice in a row without other changes, the second run changes nothing.
    support: full
    details: The module changes nothing.
"""
