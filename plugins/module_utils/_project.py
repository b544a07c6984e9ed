# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project that a task works in."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.project import PROJECT


def read(task):
    """Return the project as the API returns it."""
    remote = task.remote(PROJECT)
    return task.client.get(remote.url, permission="resourcemanager.projects.get")


def number(project):
    """Return the number of a project that was read."""
    return project["name"].rsplit("/", 1)[-1]
