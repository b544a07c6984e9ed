# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name; see plugin_utils/controller.py."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.plugin_utils.controller import ActionModule

__all__ = ["ActionModule"]
