# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that only look share: one resource by its name, or all of a kind."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors


def info(task, kind, **names):
    """``{resources: [...]}``: the one with the given last name, or all; an empty list when none exists.

    ``kind`` is a ``Kind`` of the catalogue. Where the API is not enabled there are none.
    """
    last = list(names)[-1]
    try:
        found = one(task, kind.resource, names) if names[last] else every(task, kind, **names)
    except _errors.NotFound:
        found = []  # not even what they would be in
    except _errors.ApiDisabled as error:
        if not task.check_mode:
            task.warn(f"{error.message}: there are none.")
        found = []
    return {"changed": False, "resources": found}


def one(task, resource, names):
    body = task.remote(resource, **names).read()
    return [] if body is None else [body]


def every(task, kind, **names):
    """Return all resources of a kind; the last of ``names`` is the one that they differ in, and is not used."""
    resource = kind.resource
    remote = task.remote(resource, **dict(names, **{list(names)[-1]: "-"}))
    url, query, found = remote.url.rsplit("/", 1)[0], dict(resource.create_query), []
    query = dict(dict.fromkeys(query, task.project), **resource.read_query)
    while True:
        page = task.client.get(url, query or None, permission=f"{resource.permission}.list")
        found += page.get(kind.items) or []
        if not page.get("nextPageToken"):
            return found
        query["pageToken"] = page["nextPageToken"]
