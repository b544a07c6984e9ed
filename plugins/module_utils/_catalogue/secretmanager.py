# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secret Manager."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import kms
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

BASE = "https://secretmanager.googleapis.com/v1"
# Annotations in which the module secret keeps what it made: the version's number, and a fingerprint of its origin.
MADE_VERSION = "mlplatform-gcp-version"
MADE_OF = "mlplatform-gcp-made-of"

MOVE = "Delete the secret (state: absent) and make it again, or use another name."

SECRET = Resource(
    kind="secret",
    base=BASE,
    path="projects/{project}/secrets/{name}",
    permission="secretmanager.secrets",
    create_id="secretId",
    create_body=lambda names, body: dict({"replication": {"automatic": {}}}, **body),
    version="etag",
    delete_guard="etag",
    mark=Labels(),
    kept=("replication",),
    transient=kms.TRANSIENT,
    rules=Rules(
        immutable={"replication": MOVE},
        # The key of a replica can change. The module checks that the locations do not.
        mutable=("replication.userManaged.replicas", "replication.automatic.customerManagedEncryption.kmsKeyName"),
        keyed={"replication.userManaged.replicas": "location"},
        hidden=(f"annotations.{MADE_OF}",),
    ),
    implies={"delete": "loss of all its versions"},
)

VERSION = Resource(
    kind="secret version",
    base=BASE,
    path="projects/{project}/secrets/{secret}/versions/{version}",
    permission="secretmanager.versions",
    update=None,
)

# https://cloud.google.com/secret-manager/docs/access-control
_READERS = ("roles/secretmanager.secretAccessor", "roles/secretmanager.admin", "roles/owner")


def _version_names(project, name, location):
    """Return the names of a version ``projects/P/secrets/S/versions/V``, where V can be an alias or ``latest``."""
    match = re.fullmatch("projects/(?P<project>[^/]+)/secrets/(?P<secret>[^/]+)/versions/(?P<version>[^/]+)", name)
    if not match:
        raise UserError(
            f"{name} is not the full name of a secret's version.",
            "Write it as projects/PROJECT/secrets/SECRET/versions/VERSION.",
        )
    return match.groupdict()


def locations(body):
    """Return the regions of a secret's payloads; none with automatic replication."""
    replicas = ((body.get("replication") or {}).get("userManaged") or {}).get("replicas") or []
    return [replica["location"] for replica in replicas]


def used_version(body):
    """Return the full name of the version that a deployment uses, of the body of a secret or of a version."""
    if "/versions/" in body["name"]:
        return body["name"]
    return f"{body['name']}/versions/{(body.get('annotations') or {}).get(MADE_VERSION) or 'latest'}"


KINDS = {
    "secret": Kind(
        SECRET,
        items="secrets",
        facts=lambda remote, body: {"locations": locations(body)},
        related={"latest_version": lambda remote, body: f"{remote.url}/versions/latest"},
        policy="//secretmanager.googleapis.com/projects/{project}/secrets/{name}",
    ),
    "secret_version": Kind(
        VERSION,
        names=_version_names,
        state=lambda body: (body.get("state"), body.get("state") != "ENABLED"),
        shared=True,
        governed="//secretmanager.googleapis.com/projects/{project}/secrets/{secret}",
        readers=_READERS,
    ),
}
