# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifact Registry."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, from_name
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

BASE = "https://artifactregistry.googleapis.com/v1"
_REPOSITORIES = "projects/{project}/locations/{location}/repositories"
_IMAGE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/(?P<name>[^:@]+):(?P<tag>[\w.-]+)"
)

REPOSITORY = Resource(
    kind="repository",
    base=BASE,
    path=_REPOSITORIES + "/{name}",
    permission="artifactregistry.repositories",
    create_id="repositoryId",
    operation=long_running(BASE),
    mark=Labels(),
    # Other owners keep other images in it.
    kept=("description", "cleanupPolicies"),
    rules=Rules(
        immutable={"format": "Delete the repository (state: absent) or use another name."},
        whole=("cleanupPolicies",),
    ),
    direct=("update",),
)

TAG = Resource(
    kind="image tag",
    base=BASE,
    path=_REPOSITORIES + "/{repository}/packages/{package}/tags/{tag}",
    permission="artifactregistry.tags",
    update=None,
)


def image_names(image):
    """Return the names of the :data:`TAG` of an image such as ``REGION-docker.pkg.dev/P/REPOSITORY/NAME:TAG``.

    Errors: :class:`UserError` when it is not an image of Artifact Registry with a tag.
    """
    match = _IMAGE.fullmatch(image)
    if not match:
        raise UserError(
            f"image is {image}, which is not an image of Artifact Registry with a tag.",
            "Write it as REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG.",
        )
    parts = match.groupdict()
    return dict(parts, package=parts.pop("name"))


KINDS = {
    "artifact_repository": Kind(
        REPOSITORY,
        items="repositories",
        location=from_name,
        policy="//artifactregistry.googleapis.com/projects/{project}/locations/{location}/repositories/{name}",
    ),
    "image_tag": Kind(TAG, names=lambda project, name, location: image_names(name), shared=True),
}
