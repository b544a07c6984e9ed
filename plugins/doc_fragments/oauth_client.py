# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # An OAuth client of one's own: the option group OAUTH_CLIENT of module_utils/_oauth_client.py.
    DOCUMENTATION = r"""
options:
  oauth_client_id_secret:
    description:
      - The secret with the id of an OAuth client of one's own, as C(projects/p/secrets/s) or
        C(projects/p/secrets/s/versions/1). The module reads it itself.
    type: str
  oauth_client_secret_secret:
    description:
      - The secret with that client's secret, written in the same way. The module never returns its value. It
        compares the hash that Google returns, so a rotated secret is a change.
    type: str
"""
