# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of Secret Manager: the resource, and payloads, which are read where they are needed and never shown."""

from __future__ import annotations

import contextlib
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _secret_text, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import PermissionDenied, UserError

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


def newest_enabled(task, project, secret):
    """Return the number of the newest version that is enabled, or None for none and where versions are not listable."""
    query = {"pageSize": 1000, "filter": "state:ENABLED"}
    with contextlib.suppress(PermissionDenied):  # not every caller may list versions
        found = _verbs.pages(
            task, "secretmanager.projects.secrets.versions.list", query=query, project=project, secret=secret
        )
        numbers = [int(item["name"].rsplit("/", 1)[-1]) for item in found if item.get("state") == "ENABLED"]
        return str(max(numbers)) if numbers else None
    return None


def read_bytes(task, name):
    """Return the payload of a version as bytes."""
    return _secret_text.payload_of(_call(task, "access", name))


def read_secret(task, name):
    """Return the value of a version, by the rule of :mod:`_secret_text`.

    Errors: :class:`UserError` for a payload that is not text, or empty.
    """
    return text(read_bytes(task, name), name)


def text(payload, name):
    """Return the value that the payload of a version stands for. Errors: those of :func:`read_secret`."""
    try:
        return _secret_text.value(payload)
    except _secret_text.NoValue as error:
        raise UserError(f"The secret {name} {error}.", "Add a version with the value to it.") from None


def is_one_word(value):
    """Return whether a value is printable and without white space, as the id and the secret of an OAuth client are."""
    return value.isprintable() and " " not in value


def read_typed(task, name):
    """Return a value that programs and people use as it is stored, such as the password of a database.

    Cloud Run passes the payload to the server unchanged (https://cloud.google.com/run/docs/configuring/services/secrets),
    so a payload with a line break at its end would be another value there.
    Errors: :class:`UserError` for it, and those of :func:`read_secret`.
    """
    payload = read_bytes(task, name)
    if payload.endswith((b"\r", b"\n")):
        raise UserError(
            f"The secret {name} ends in a line break, with which Cloud Run passes it to the server.",
            "Add a version without it: printf %s VALUE | gcloud secrets versions add SECRET --data-file=-",
        )
    return text(payload, name)


def _call(task, method, name):
    _projects, project, _collection, secret, _versions, version = version_name(name, lambda: task.project).split("/")
    names = {"project": project, "secret": secret, "version": version}
    return _verbs.call(task, f"secretmanager.projects.secrets.versions.{method}", **names)
