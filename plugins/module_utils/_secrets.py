# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of Secret Manager: the resource, and payloads, which are read where they are needed and never shown."""

from __future__ import annotations

import base64
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError

_NAME = re.compile(
    r"(?:projects/(?P<project>[^/]+)/secrets/)?(?P<secret>[A-Za-z0-9_-]+)(?:/versions/(?P<version>\w+))?"
)


def version_name(text, project=""):
    """Return ``projects/P/secrets/S/versions/V`` for a full name, a name without version (``latest``), or a bare name.

    ``project`` may be a callable; it is called only for a name without a project.
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
    """Return a version's metadata without its payload: ``{name, state, ...}``, where ``name`` has the number."""
    return _call(task, "get", name)


def read_bytes(task, name):
    """Return the payload of a version as bytes."""
    body = _call(task, "access", name)
    return base64.b64decode((body.get("payload") or {}).get("data") or "")


def read_secret(task, name):
    """Return the payload of a version as text."""
    return read_bytes(task, name).decode()


def _call(task, method, name):
    _projects, project, _collection, secret, _versions, version = version_name(name, lambda: task.project).split("/")
    names = {"project": project, "secret": secret, "version": version}
    return _verbs.call(task, f"secretmanager.projects.secrets.versions.{method}", **names)
