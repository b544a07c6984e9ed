# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Call methods of Google's APIs beyond reading, creating, changing and deleting a resource.

They are custom methods such as ``:addVersion`` or ``:run``, and reads and lists that no :class:`Resource` describes. A
method is named by its id in Google's discovery documents, such as ``run.projects.locations.jobs.run``; the table is
``_catalogue/verbs.py``.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.verbs import VERBS


def call(task, method, body=None, *, query=None, made=None, send=None, **names):
    """Send a request and return its JSON. ``project`` is the task's unless it is among the ``names``.

    A method that must not be sent twice has a function ``made``, which returns what a request without an answer has
    made, in the form of an answer, or None. ``send`` replaces the request of the task's client.

    Errors: the types of ``_errors``.
    """
    verb = VERBS[method]
    if "{project}" in verb.path:
        names.setdefault("project", task.project)
    options = {} if send else {"locks": verb.locks}
    return (send or task.client.request)(
        verb.method,
        address(method, **names),
        query=query,
        body={} if body is None and verb.method == "POST" else body,
        safe=verb.repeatable or verb.method != "POST",
        made=made,
        permission=_fill(verb.permission, names),
        **options,
    )


def address(method, **names):
    """Return the address of a method."""
    verb = VERBS[method]
    return f"{verb.base}/{_fill(verb.path, names)}"


def pages(task, method, *, query=None, **names):
    """Yield the elements of a list, page by page."""
    query = dict(query or {})
    while True:
        page = call(task, method, query=query or None, **names)
        yield from page.get(VERBS[method].items) or []
        if not page.get("nextPageToken"):
            return
        query["pageToken"] = page["nextPageToken"]


def finish(task, method, operation, what):
    """Wait for the operation that a method has returned. Return its last body, and the result that it carries or None.

    Errors: :class:`OperationFailed`, :class:`OperationTimeout`.
    """
    kind = VERBS[method].operation
    last = task.waiter.operation(task.client, kind, operation, what=what)
    return last, kind.result(last)


def _fill(template, names):
    def value(match):
        return quote(str(names[match.group(2)]), safe="/@:" if match.group(1) else "@:")

    return re.sub(r"\{(\+?)(\w+)\}", value, template)
