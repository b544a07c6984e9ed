# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of Secret Manager: the resource, and payloads, which are read where they are needed and never shown."""

from __future__ import annotations

import base64
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

BASE = "https://secretmanager.googleapis.com/v1"
# Annotations in which the module ``secret`` keeps what it made: the version's number, and a fingerprint of its source.
MADE_VERSION = "mlplatform-gcp-version"
MADE_OF = "mlplatform-gcp-made-of"
SECRET = Resource(
    kind="secret",
    base=BASE,
    path="projects/{project}/secrets/{name}",
    permission="secretmanager.secrets",
    create_id="secretId",
    create_body=lambda names, body: dict({"replication": {"automatic": {}}}, **body),
    version="etag",
    delete_guard="etag",
    rules=Rules(
        immutable={"replication": "Delete the secret (state: absent) and make it again, or use another name."},
        unordered=("replication.userManaged.replicas",),
        hidden=(f"annotations.{MADE_OF}",),
    ),
    implies={"delete": "loss of all its versions"},
)
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
    full = version_name(name, lambda: task.project)
    return task.client.get(f"{BASE}/{full}", permission="secretmanager.versions.get")


def read_bytes(task, name):
    """Return the payload of a version as bytes."""
    full = version_name(name, lambda: task.project)
    body = task.client.get(f"{BASE}/{full}:access", permission="secretmanager.versions.access")
    return base64.b64decode((body.get("payload") or {}).get("data") or "")


def read_secret(task, name):
    """Return the payload of a version as text."""
    return read_bytes(task, name).decode()
