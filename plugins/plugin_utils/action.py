# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of every module; the files in plugins/action are links to this one.

Ansible loads each link as a plugin of the module's name, in its parent process. The class is imported, so that all of
them are one class and the preparation in ``controller`` runs once.
"""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.plugin_utils.controller import ActionModule, load

load(__name__.rpartition(".")[2])

__all__ = ["ActionModule"]
