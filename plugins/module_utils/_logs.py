# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the end of what a container wrote from Cloud Logging, for the error of a job, revision or version that failed.

Reading needs ``logging.logEntries.list``, which no playbook requires: without it, an error has the command that shows
the log.
"""

from __future__ import annotations

import json

from ansible_collections.mlplatform.gcp.plugins.module_utils import _redaction, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import GcpError

_LINES, _LONGEST = 30, 500
# The logs of a container: what it wrote, and what the service reports about it, such as too little memory.
_OUTPUT = ("stdout", "stderr", "varlog/system")
# An entry can be read some seconds after its line was written.
_LATE = 3.0


def of_container(task, api, condition, command):
    """Return the last lines that a container wrote, and the command that shows all of them.

    ``api`` is the host of the service that runs the container, ``condition`` the filter of Cloud Logging that finds its
    entries. Where they cannot be read, or none exist, it is the command only.
    """
    names = " OR ".join(f'log_id("{api}/{name}")' for name in _OUTPUT)
    lines = _read(task, f"{condition} ({names})")
    if not lines:
        return f"Its output: {command}"
    return "\n".join(["The end of its output:", *end(lines), f"All of its output: {command}"])


def end(lines):
    """Return the last lines of a log without secrets."""
    return [line[:_LONGEST] for line in _redaction.text("\n".join(lines)).splitlines()[-_LINES:]]


def _read(task, condition):
    body = {
        "resourceNames": [f"projects/{task.project}"],
        "filter": condition,
        "orderBy": "timestamp desc",
        "pageSize": _LINES,
    }
    try:
        entries = _entries(task, body)
        if not entries and task.waiter.left > _LATE:
            task.waiter.pause(_LATE, "reading the output", "no entries yet")
            entries = _entries(task, body)
    except GcpError:  # the error that it is read for counts
        return []
    return [line for entry in reversed(entries) for line in _text(entry).splitlines()]


def _entries(task, body):
    return _verbs.call(task, "logging.entries.list", body).get("entries") or []


def _text(entry):
    """Return the text of an entry. A line of JSON is a structured entry, with its text in ``message``."""
    payload = entry.get("jsonPayload")
    if payload is None:
        return entry.get("textPayload") or ""
    message = payload.get("message")
    return message if isinstance(message, str) else json.dumps(payload)
