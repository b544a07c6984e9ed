# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of resources, and labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import (
    Fault,
    Rule,
    like,
    name_rule,
)

_PLAIN = "lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
# By these a deployment recognizes what is its own.
OWNER_LABELS = ("managed-by", "mlflow-deployment", "mlflow-env")


# The domain of a legacy project comes before a colon (example.com:my-project).
_PROJECT = re.compile(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")


def project(value: Any) -> Fault | None:
    """https://cloud.google.com/resource-manager/docs/creating-managing-projects: ids of 6 to 30 characters."""
    if _PROJECT.fullmatch(value):
        return None
    if not value:
        return "and resources need a project", "Set it to the project's id, or set GCP_PROJECT in the environment."
    what = "which is a project's number" if value.isdigit() else "which is not the id of a project"
    return (
        what,
        "Set it to the project's id, not its name or number: 6 to 30 lower-case letters, digits and hyphens. "
        "`gcloud projects list` shows it.",
    )


_BUCKET_PART = r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?"


def _bucket(value: Any) -> Fault | None:
    """https://cloud.google.com/storage/docs/buckets#naming. A new bucket with dots needs a verified domain."""
    longest = max(map(len, value.split(".")))
    if longest > 63 or len(value) > 222:
        return (
            f"which has {max(longest, len(value))} characters, and the name of a bucket has at most 63, or with dots"
            " 222 in parts of at most 63",
            "Use at most 63 characters.",
        )
    if value.startswith("goog") or re.search(r"g[o0]{2}g[l1]e", value):
        return 'and no bucket\'s name can begin with "goog" or have "google" in it', "Use another name."
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", value):
        return "which is an IP address, and no bucket can have its form", "Use another name."
    if len(value) >= 3 and re.fullmatch(rf"{_BUCKET_PART}(\.{_BUCKET_PART})*", value):
        return None
    return (
        "which cannot be the name of a bucket",
        "Use 3 to 63 lower-case letters, digits, hyphens and underscores, beginning and ending with a letter or a "
        "digit. Dots separate the parts of a domain that you own.",
    )


def _labels(value: Any) -> Fault | None:
    """https://cloud.google.com/resource-manager/docs/labels-overview#requirements"""
    reserved = [key for key in value if key in OWNER_LABELS]
    if reserved:
        return (
            f"and {reserved[0]} is one of the labels by which a deployment recognizes its own resources",
            f"Remove {reserved[0]}.",
        )
    return _wrong_labels(value)


# Letters without upper case, and those of alphabets that have none.
_LETTERS = ("Ll", "Lo")


def _of_label(text: str) -> bool:
    """Whether text can be the value of a label: at most 63 characters and, in UTF-8, 128 bytes."""
    return (
        len(text) <= 63
        and len(text.encode()) <= 128
        and all(char in "-_" or unicodedata.category(char) in (*_LETTERS, "Nd", "Nl", "No") for char in text)
    )


def _wrong_labels(value: Any) -> Fault | None:
    for key, text in value.items():
        if not (key and _of_label(key) and unicodedata.category(key[0]) in _LETTERS):
            return (
                f"and {shown(key)} cannot be the key of a label",
                "Use at most 63 lower-case letters of any alphabet, digits, - and _ in a key, beginning with a letter.",
            )
        if not _of_label(text):
            return (
                f"and {shown(text)} cannot be the value of a label",
                "Use at most 63 lower-case letters of any alphabet, digits, - and _ in a value.",
            )
    if len(value) > 60:
        return f"which are {len(value)} labels, and a resource has at most 64", "Remove some."
    return None


def _folder(value: Any) -> Fault | None:
    parts = value.split("/")
    if len(value) <= 512 and all(re.fullmatch(r"[A-Za-z0-9._-]+", part) and part.strip(".") for part in parts):
        return None
    return (
        "which cannot be a folder of a bucket",
        "Use letters, digits, -, _ and . with / between folders, and no / at the beginning or the end.",
    )


def _version_name(value: Any) -> Fault | None:
    """https://cloud.google.com/appengine/docs/flexible/reference/app-yaml: some words mean something in addresses."""
    if value in ("default", "latest") or value.startswith("ah-"):
        return "which App Engine reserves", "Use another name."
    return _VERSION(value)


_VERSION = name_rule(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", 63, 1, "a version", _PLAIN)

RULES: Mapping[str, Rule] = {
    "project": project,
    "quota_project": project,
    # It is the value of a label as well. Names that are derived from it have limits of their own.
    "name": name_rule(r"[a-z]([a-z0-9-]*[a-z0-9])?", 63, 1, "a deployment", _PLAIN),
    "environment": name_rule(
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        40,
        1,
        "an environment",
        "lower-case letters, digits and hyphens, not beginning or ending with a hyphen",
    ),
    "bucket": _bucket,
    # https://cloud.google.com/iam/docs/service-accounts-create
    "account": name_rule(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", 30, 6, "a service account", _PLAIN),
    # https://cloud.google.com/sql/docs/postgres/instance-settings: 98 together with the project and a colon.
    "instance": name_rule(r"[a-z]([a-z0-9-]*[a-z0-9])?", 97, 1, "a Cloud SQL instance", _PLAIN),
    # https://cloud.google.com/run/docs/deploying
    "run_service": name_rule(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", 49, 1, "a Cloud Run service", _PLAIN),
    "run_job": name_rule(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", 49, 1, "a Cloud Run job", _PLAIN),
    "appengine_service": name_rule(
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", 63, 1, "an App Engine service", "lower-case letters, digits and hyphens"
    ),
    "appengine_version": _version_name,
    # https://cloud.google.com/artifact-registry/docs/repositories/create-repos
    "repository": name_rule(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", 63, 1, "a repository", _PLAIN),
    # https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create
    "secret_id": like(
        r"[A-Za-z0-9_-]{1,255}",
        "which cannot be the name of a secret",
        "Use at most 255 letters, digits, - and _, without the project.",
    ),
    # The name is part of a URL without quoting, and PostgreSQL cuts names at 63 bytes.
    "database_name": like(
        r"[A-Za-z_][A-Za-z0-9_-]{0,62}",
        "which cannot be the name of a database",
        "Use at most 63 letters, digits, - and _, beginning with a letter.",
    ),
    # MySQL takes 32 characters.
    "database_user": like(
        r"[A-Za-z_][A-Za-z0-9_-]{0,31}",
        "which cannot be the name of a database user",
        "Use at most 32 letters, digits, - and _, beginning with a letter.",
    ),
    "folder": _folder,
}
MAPPINGS: Mapping[str, Rule] = {"labels": _labels, "owner": _wrong_labels}
