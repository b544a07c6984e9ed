# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Payloads of secrets: read where they are needed, made in one place, never shown."""

from __future__ import annotations

import base64
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError

BASE = "https://secretmanager.googleapis.com/v1"
_NAME = re.compile(
    r"(?:projects/(?P<project>[^/]+)/secrets/)?(?P<secret>[A-Za-z0-9_-]+)(?:/versions/(?P<version>\w+))?"
)


def version_name(text, project=""):
    """``projects/P/secrets/S/versions/V`` of a full name, a name without a version (``latest``), or a bare name.

    ``project`` may be a callable, asked only when the name holds no project.
    Errors: :class:`UserError` for anything else.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise UserError(
            f"{text!r} does not name a secret.", "The form is projects/PROJECT/secrets/SECRET/versions/VERSION."
        )
    project = match.group("project") or (project() if callable(project) else project)
    return f"projects/{project}/secrets/{match.group('secret')}/versions/{match.group('version') or 'latest'}"


def read_version(task, name):
    """A version's metadata, without its payload: ``{name, state, ...}``; ``latest`` becomes a number in ``name``."""
    full = version_name(name, lambda: task.project)
    return task.client.get(f"{BASE}/{full}", permission="secretmanager.versions.get")


def read_bytes(task, name):
    """The payload of a version as bytes."""
    full = version_name(name, lambda: task.project)
    body = task.client.get(f"{BASE}/{full}:access", permission="secretmanager.versions.access")
    return base64.b64decode((body.get("payload") or {}).get("data") or "")


def read_secret(task, name):
    """The payload of a version as text."""
    return read_bytes(task, name).decode()
