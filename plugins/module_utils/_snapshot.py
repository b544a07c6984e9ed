# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of Google's APIs that one task has read and later tasks of the same play compare with.

The survey of ``preflight_info`` reads everything side by side and keeps the answers in the memory that Ansible's forks
share. A later task that would read the same finds them there. Three rules keep this correct:

- Only plans are made of kept answers. At its first request that changes something a task which has used one starts
  again and reads everything from the services (:class:`Stale`). So does a task that would fail.
- Each request that changes something removes what is kept at, below and above its address, before and after it.
- Data is kept for 300 seconds, only for the same credentials in the same play.

Where forks share no memory nothing is kept.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id, _shared

SECONDS = 300
# POST requests that read.
_READING = (":getIamPolicy", ":testIamPermissions")
# Answers with secrets in them.
_SECRET = (":access",)
# The kept answer about a resource that does not exist.
_MISSING = json.dumps([False, None]).encode()


class Stale(Exception):
    """A task that was planned with kept answers is about to change something."""


def is_read(method, url):
    """Return whether a request changes nothing."""
    return method == "GET" or url.endswith(_READING)


def place(url):
    """Return the address of a resource without scheme, query and custom method."""
    parts = urlsplit(url)
    return parts.netloc + _project_id.without_method(parts.path)


def _outer(url):
    """Return the addresses of the resource that a request concerns and of those that it is inside."""
    scheme, _slashes, path = url.partition("//")
    found = f"{scheme}//{place(url)}" if path else url
    while found.count("/") > 3:
        if found != url:
            yield found
        found = found.rpartition("/")[0]


class Snapshot:
    """Kept answers as one task sees them.

    ``scope`` names the credentials and the play; with ``shared`` there is a play. ``consult`` is off for tasks that
    must see the services themselves. ``keep`` is on in the task that keeps its answers for others.
    """

    def __init__(self, scope="", *, consult=False, shared=False):
        self._scope = scope
        self._shared = shared
        self._heap = _shared.heap()
        self.consult = consult and shared
        self.keep = False
        self.used = False

    def find(self, method, url, query, body):
        """Return ``(found, body)`` of a kept answer, ``body`` None for a resource that did not exist; or None.

        Where a resource did not exist, neither did its policy, nor what would be inside it.
        """
        if not self.consult or self._heap is None or not is_read(method, url):
            return None
        kept = self._heap.get(self._key(method, url, query, body))
        if kept is not None:
            answer = json.loads(kept)
        elif any(self._heap.get(self._key("GET", outer, {}, None)) == _MISSING for outer in _outer(url)):
            answer = [False, None]
        else:
            return None
        self.used = True
        return answer

    def begin(self):
        """Return what :meth:`add` needs to know of the time at which a request was sent."""
        return self._heap.generation if self.keep and self._shared and self._heap is not None else None

    def add(self, method, url, query, body, answer, began):
        """Keep the answer to a reading request; None for a resource that does not exist."""
        if began is None or not is_read(method, url) or url.endswith(_SECRET):
            return
        value = _MISSING if answer is None else json.dumps([True, answer]).encode()
        self._heap.put(self._key(method, url, query, body), place(url), value, SECONDS, began)

    def changing(self, url):
        """Prepare for a change of a resource. Errors: :class:`Stale` where a kept answer was used before."""
        if self.used:
            raise Stale
        self.consult = False
        self.forget(url)

    def forget_all(self):
        """Remove all answers, after a change that can concern any resource."""
        if self._heap is not None:
            self._heap.forget(lambda other: True)

    def forget(self, url):
        """Remove the answers about a resource, what is inside it and what it is inside."""
        if self._heap is None:
            return
        own = place(url)
        self._heap.forget(lambda other: other == own or other.startswith(own + "/") or own.startswith(other + "/"))

    def afresh(self):
        """Let the task start again, without kept answers. Return whether it has used one."""
        used, self.used, self.consult = self.used, False, False
        return used

    def _key(self, method, url, query, body):
        return json.dumps([self._scope, method, url, _texts(query), body], sort_keys=True)


def _texts(query):
    """Return a query as it is sent, so that ``3`` and ``"3"`` are the same."""
    return {key: str(value) for key, value in (query or {}).items()}
