# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Waiting: the option group WAIT of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until what was started is finished.
      - With V(false) the task returns at once with RV(ignore:operation). A later task for the same resource joins it.
    type: bool
    default: true
  wait_timeout:
    description:
      - How many seconds the task waits, for everything together.
      - When they are over the task fails and says what the last status was; the operation goes on in the cloud.
    type: int
    default: 1800
"""
