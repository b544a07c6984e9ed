# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifact Registry."""

from __future__ import annotations

import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import kms
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, from_name
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ApiError, NotFound, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource

BASE = "https://artifactregistry.googleapis.com/v1"
_STANDARD = "STANDARD_REPOSITORY"
_REPOSITORIES = "projects/{project}/locations/{location}/repositories"
_IMAGE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>([^/]*\.[^/]*/)?[^/]+)/(?P<repository>[^/]+)"
    r"/(?P<name>[^:@]+)(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[a-f0-9]{64}))?"
)
# https://cloud.google.com/artifact-registry/docs/access-control#roles
_READERS = (
    *(f"roles/artifactregistry.{name}" for name in ("reader", "viewer", "writer", "repoAdmin", "admin")),
    *("roles/run.serviceAgent", "roles/viewer", "roles/editor", "roles/owner"),
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
    kept=("description", "cleanupPolicies", "kmsKeyName"),
    transient=kms.TRANSIENT,
    rules=Rules(
        immutable=dict.fromkeys(("format", "kmsKeyName"), "Delete the repository (state: absent) or use another name."),
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

DIGEST = Resource(
    kind="image",
    base=BASE,
    path=_REPOSITORIES + "/{repository}/packages/{package}/versions/{digest}",
    permission="artifactregistry.versions",
    update=None,
)


def image_names(image):
    """Return the names of the :data:`TAG` of an image such as ``REGION-docker.pkg.dev/P/REPOSITORY/NAME:TAG``.

    Errors: :class:`UserError` when it is not an image of Artifact Registry with a tag.
    """
    return _names(image, "tag", ":TAG")


def _digest_names(image):
    """Return the names of the :data:`DIGEST` of an image with a digest."""
    return _names(image, "digest", "@sha256:DIGEST")


def _names(image, needed, form):
    match = _IMAGE.fullmatch(image)
    if not match or not match[needed] or (needed == "tag" and match["digest"]):
        raise UserError(
            f"image is {image}, which is not an image of Artifact Registry with a {needed}.",
            f"Write it as REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME{form}.",
        )
    names = {key: match[key] for key in ("location", "repository", needed)}
    return names | {"project": _project_id.of_image(match["project"]), "package": match["name"]}


def _unlisted(remote):
    """A repository that takes its images from others lists those that were pulled before.

    https://cloud.google.com/artifact-registry/docs/repositories#mode
    """
    names = {key: remote.names[key] for key in ("project", "location")}
    parent = remote.task.remote(REPOSITORY, name=remote.names["repository"], **names)
    try:
        repository = remote.task.client.get(parent.url)
    except NotFound:
        return ""
    except ApiError as error:
        return f"its repository is not readable: {error.text}"
    mode = repository.get("mode") or _STANDARD
    return "" if mode == _STANDARD else f"its repository is a {mode}, which lists only images that were pulled before"


def _tag_facts(remote, body):
    """Return the digest that a tag stands for now."""
    return {"digest": (body.get("version") or "").rsplit("/", 1)[-1]}


def _image_kind(resource, names, **more):
    return Kind(
        resource,
        names=names,
        shared=True,
        granted="artifactregistry.repositories.setIamPolicy",
        **more,
        governed="//artifactregistry.googleapis.com/projects/{project}/locations/{location}/repositories/{repository}",
        readers=_READERS,
        unlisted=_unlisted,
    )


KINDS = {
    "artifact_repository": Kind(
        REPOSITORY,
        items="repositories",
        location=from_name,
        facts=lambda remote, body: {"kms_key": body.get("kmsKeyName") or ""},
        policy="//artifactregistry.googleapis.com/projects/{project}/locations/{location}/repositories/{name}",
    ),
    "image_tag": _image_kind(TAG, lambda project, name, location: image_names(name), facts=_tag_facts),
    "docker_image": _image_kind(DIGEST, lambda project, name, location: _digest_names(name)),
}
