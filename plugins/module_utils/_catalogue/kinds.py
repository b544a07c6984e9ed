# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All kinds by their type, the word that options and results use."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import (
    accounts,
    appengine,
    project,
    registry,
    run,
    secretmanager,
    sql,
    storage,
)

KINDS = {
    name: kind
    for service in (project, accounts, storage, secretmanager, sql, registry, run, appengine)
    for name, kind in service.KINDS.items()
}
