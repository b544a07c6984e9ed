# SPDX-License-Identifier: Apache-2.0
"""Artifact Registry: repositories, and the images in those of format DOCKER (backends/images.py keeps them).

A repository of another format is stored and has no contents here. Docker's own protocol on *-docker.pkg.dev answers
the part that answers an unmodified client that images come from Cloud Build here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from gcp_sandbox.backends.images import ImagePusher, Reference, Version
from gcp_sandbox.backends.platform import Platform
from gcp_sandbox.gateway import errors, filters, keys
from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.gateway.messages import Response
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.resource import Resource, Resources
from gcp_sandbox.gateway.service import job, method, route

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.identity import Principal

KIND = "artifactregistry.repository"
TYPE = "type.googleapis.com/google.devtools.artifactregistry.v1"
LOCATIONS = REGIONS | {"asia", "europe", "us"}

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MUTABLE = frozenset(
    {
        *("cleanupPolicies", "cleanupPolicyDryRun", "description", "dockerConfig", "labels", "platformLogsConfig"),
        *("remoteRepositoryConfig", "virtualRepositoryConfig", "vulnerabilityScanningConfig"),
    }
)
# Fields that only `get` and `list` show.
GET_ONLY = {"registryUri", "sizeBytes"}

REPOSITORIES = Resource(
    "projects.locations.repositories",
    id_parameter="repositoryId",
    seconds={"create": 8, "delete": 6},
    kind=KIND,
    id_pattern=r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
    bad_id='invalid repository id "{id}": must start with a lowercase letter, contain only lowercase letters, numbers '
    "and hyphens, end in a letter or number, and be at most 63 characters long.",
    missing="Requested entity was not found.",
    exists="the repository already exists",
    output_only=frozenset({"registryUri", "satisfiesPzi", "satisfiesPzs", "sizeBytes"}),
    mutable=MUTABLE,
    page_sizes=(100, 1000),
)


class ArtifactRegistry(Resources, IamPolicies):
    """Repositories and Docker images."""

    name = "artifactregistry"
    iam = IamFacts(
        denial=worded('Permission "{permission}" denied on resource "{name}" (or it may not exist)'),
        types={"repositories": "Repository"},
    )
    # gcloud asks v1beta2 for locations.
    versions = ("v1", "v1beta2")
    resources = (REPOSITORIES,)
    iam_resources = {"projects.locations.repositories": "artifactregistry.repositories"}

    sandbox: Platform

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(ImagePusher, self)

    def iam_exists(self, call: Call, resource: str) -> None:
        self.load(REPOSITORIES, call.params["resource"])

    # --- locations

    @method("projects.locations.list", permission="artifactregistry.locations.list", on="{name}")
    def list_locations(self, call: Call) -> dict[str, Any]:
        project = call.project(call.params["name"].split("/")[1])
        found = [_location(project.id, location) for location in sorted(LOCATIONS)]
        return call.page(found, key="locations", default=100, maximum=500)

    @method("projects.locations.get", permission="artifactregistry.locations.get", on="{name}")
    def get_location(self, call: Call) -> dict[str, Any]:
        _, project, _, location = call.params["name"].split("/")
        if location not in LOCATIONS:
            raise errors.not_found()
        return _location(call.project(project).id, location)

    # --- repositories

    def check_parent(self, resource: Resource, call: Call, parent: str) -> None:
        location = parent.rpartition("/")[2]
        if location not in LOCATIONS:
            raise errors.permission_denied(f"Permission denied on 'locations/{location}' (or it may not exist).")

    def prepare(self, resource: Resource, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        if body.get("format", "FORMAT_UNSPECIFIED") == "FORMAT_UNSPECIFIED":
            raise errors.invalid("repository format must be specified.")
        if body.get("mode", "MODE_UNSPECIFIED") == "MODE_UNSPECIFIED":
            body["mode"] = "STANDARD_REPOSITORY"
        _check(body)
        if body.get("kmsKeyName") and old is None:
            self._use_key(body)

    def _use_key(self, repository: dict[str, Any]) -> None:
        """Raise the error for a repository with a key that cannot be used."""
        _, project, _, location, *_ = repository["name"].split("/")
        try:
            keys.use(self.sandbox, self.name, self.sandbox.projects.get(project), repository["kmsKeyName"], [location])
        except keys.Unusable as error:
            if error.kind == "denied":
                raise errors.permission_denied(
                    f"{error} Grant roles/cloudkms.cryptoKeyEncrypterDecrypter to the Artifact Registry Service Agent "
                    f"{error.agent}."
                ) from error
            raise errors.failed_precondition(f"The Cloud KMS key of the repository cannot be used: {error}") from error

    def removed(self, resource: Resource, name: str) -> None:
        repository, images = _uri(name), self.sandbox.images
        for image in images.names(repository):
            for version in images.versions(f"{repository}/{image}"):
                images.delete(f"{repository}/{image}", version.digest)
        self.sandbox.iam.delete_policy(f"//artifactregistry.googleapis.com/{name}")

    def selected(self, resource: Resource, call: Call, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _filtered(call, bodies)

    def metadata(self, call: Call, verb: str, name: str) -> dict[str, Any]:
        return {"@type": f"{TYPE}.OperationMetadata"}

    def result(self, resource: Resource, verb: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if body is None:
            return {"@type": "type.googleapis.com/google.protobuf.Empty"}
        shown = self.shown(resource, body, verb)
        if verb == "update":
            return shown
        return {"@type": f"{TYPE}.Repository", **_without(shown, {"createTime", "updateTime"})}

    # --- images, as Docker images and as packages with versions and tags

    @method(
        "projects.locations.repositories.dockerImages.list",
        permission="artifactregistry.dockerImages.list",
        on="{parent}",
    )
    def list_docker_images(self, call: Call) -> dict[str, Any]:
        name, repository = self._docker(call.params["parent"])
        found = [
            _docker_image(name, repository, image, version)
            for image in self.sandbox.images.names(repository)
            for version in self.sandbox.images.versions(f"{repository}/{image}")
        ]
        return call.page(_ordered(call, found), key="dockerImages", default=100, maximum=1000)

    @method(
        "projects.locations.repositories.dockerImages.get",
        permission="artifactregistry.dockerImages.get",
        on=lambda call: call.params["name"].partition("/dockerImages/")[0],
    )
    def get_docker_image(self, call: Call) -> dict[str, Any]:
        parent, _, wanted = call.params["name"].partition("/dockerImages/")
        name, repository = self._docker(parent)
        image, _, reference = unquote(wanted).partition("@")
        if not reference:  # IMAGE:TAG is accepted too
            image, _, tag = image.partition(":")
            reference = dict(self.sandbox.images.tags(f"{repository}/{image}")).get(tag or "latest", "")
        return _docker_image(name, repository, image, self._version(f"{repository}/{image}", reference))

    @method("projects.locations.repositories.packages.list", permission="artifactregistry.packages.list", on="{parent}")
    def list_packages(self, call: Call) -> dict[str, Any]:
        name, repository = self._docker(call.params["parent"])
        found = [self._package(name, repository, image) for image in self.sandbox.images.names(repository)]
        return call.page(_ordered(call, _filtered(call, found)), key="packages", default=100, maximum=1000)

    @method(
        "projects.locations.repositories.packages.get",
        permission="artifactregistry.packages.get",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def get_package(self, call: Call) -> dict[str, Any]:
        name, repository, image = self._image(call.params["name"])
        return self._package(name, repository, image)

    @method(
        "projects.locations.repositories.packages.delete",
        permission="artifactregistry.packages.delete",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def delete_package(self, call: Call) -> dict[str, Any]:
        name, repository, image = self._image(call.params["name"])
        self._package(name, repository, image)
        digests = [version.digest for version in self.sandbox.images.versions(f"{repository}/{image}")]
        return self._delete_versions(call, f"{repository}/{image}", digests)

    @method(
        "projects.locations.repositories.packages.versions.list",
        permission="artifactregistry.versions.list",
        on=lambda call: _repository_of(call.params["parent"]),
    )
    def list_versions(self, call: Call) -> dict[str, Any]:
        name, repository, image = self._image(call.params["parent"])
        full = call.query.get("view") == "FULL"
        versions = self.sandbox.images.versions(f"{repository}/{image}")
        found = [_version(name, image, version, full) for version in versions]
        return call.page(_ordered(call, found), key="versions", default=100, maximum=1000)

    @method(
        "projects.locations.repositories.packages.versions.get",
        permission="artifactregistry.versions.get",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def get_version(self, call: Call) -> dict[str, Any]:
        parent, _, digest = call.params["name"].partition("/versions/")
        name, repository, image = self._image(parent)
        version = self._version(f"{repository}/{image}", digest)
        return _version(name, image, version, call.query.get("view") == "FULL")

    @method(
        "projects.locations.repositories.packages.versions.delete",
        permission="artifactregistry.versions.delete",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def delete_version(self, call: Call) -> dict[str, Any]:
        parent, _, digest = call.params["name"].partition("/versions/")
        _, repository, image = self._image(parent)
        version = self._version(f"{repository}/{image}", digest)
        if version.tags and not call.query.get("force"):
            raise errors.failed_precondition(
                f"version {digest!r} has tags {', '.join(version.tags)}; delete them first or use force."
            )
        return self._delete_versions(call, f"{repository}/{image}", [digest])

    @method(
        "projects.locations.repositories.packages.versions.batchDelete",
        permission="artifactregistry.versions.delete",
        on=lambda call: _repository_of(call.params["parent"]),
    )
    def batch_delete_versions(self, call: Call) -> dict[str, Any]:
        _, repository, image = self._image(call.params["parent"])
        digests = [name.partition("/versions/")[2] for name in call.body.get("names", [])]
        for digest in digests:
            self._version(f"{repository}/{image}", digest)
        return self._delete_versions(call, f"{repository}/{image}", [] if call.body.get("validateOnly") else digests)

    @job("artifactregistry.deleteVersions")
    def _delete_versions_job(self, op: Op) -> dict[str, Any]:
        op.elapse()
        for digest in op.args["digests"]:
            self.sandbox.images.delete(op.args["image"], digest)
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    @method(
        "projects.locations.repositories.packages.tags.list",
        permission="artifactregistry.tags.list",
        on=lambda call: _repository_of(call.params["parent"]),
    )
    def list_tags(self, call: Call) -> dict[str, Any]:
        name, repository, image = self._image(call.params["parent"])
        tags = self.sandbox.images.tags(f"{repository}/{image}")
        found = [_tag(name, image, tag, digest) for tag, digest in tags]
        return call.page(_filtered(call, found), key="tags", default=100, maximum=1000)

    @method(
        "projects.locations.repositories.packages.tags.get",
        permission="artifactregistry.tags.get",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def get_tag(self, call: Call) -> dict[str, Any]:
        name, _, image, tag, digest = self._tagged(call)
        return _tag(name, image, tag, digest)

    @method(
        "projects.locations.repositories.packages.tags.create",
        permission="artifactregistry.tags.create",
        on=lambda call: _repository_of(call.params["parent"]),
    )
    def create_tag(self, call: Call) -> dict[str, Any]:
        name, repository, image = self._image(call.params["parent"])
        tag = call.query.get("tagId") or call.body.get("name", "").rpartition("/")[2]
        if dict(self.sandbox.images.tags(f"{repository}/{image}")).get(tag):
            raise errors.already_exists("the tag already exists")
        return self._set_tag(name, repository, image, tag, call)

    @method(
        "projects.locations.repositories.packages.tags.patch",
        permission="artifactregistry.tags.update",
        also=["artifactregistry.tags.get"],
        on=lambda call: _repository_of(call.params["name"]),
    )
    def patch_tag(self, call: Call) -> dict[str, Any]:
        name, repository, image, tag, _ = self._tagged(call)
        self._check_mutable(name)
        return self._set_tag(name, repository, image, tag, call)

    @method(
        "projects.locations.repositories.packages.tags.delete",
        permission="artifactregistry.tags.delete",
        on=lambda call: _repository_of(call.params["name"]),
    )
    def delete_tag(self, call: Call) -> dict[str, Any]:
        name, repository, image, tag, _ = self._tagged(call)
        self._check_mutable(name)
        self.sandbox.images.untag(Reference(repository, image, tag))
        return {}

    # --- for other services

    def push(self, caller: Principal, reference: Reference, digest: str) -> None:
        """Point a reference at an image, as `docker push` does for `caller`.

        ApiError: 403 without artifactregistry.repositories.uploadArtifacts, 404 for no such repository, 400 for a
        repository of another format or a tag that must not move.
        """
        name, permission = self._canonical(reference.resource), "artifactregistry.repositories.uploadArtifacts"
        self.sandbox.iam.check(caller, f"//artifactregistry.googleapis.com/{name}", permission)
        repository = self.store.get(KIND, name)
        if repository is None:
            raise errors.not_found(f'Repository "{name.rpartition("/")[2]}" not found')
        if repository["format"] != "DOCKER":
            raise errors.failed_precondition(
                f"The repository {name} has the format {repository['format']}, not DOCKER."
            )
        if repository.get("kmsKeyName"):
            self._use_key(repository)
        canonical = Reference(_uri(name), reference.image, reference.tag, reference.digest)
        current = dict(self.sandbox.images.tags(canonical.name)).get(reference.tag)
        if current and current != digest:
            self._check_mutable(name)
        self.sandbox.images.tag(str(canonical), digest)

    # --- Docker's protocol

    @route("*", "/v2/{rest+}", hosts=("*-docker.pkg.dev",), auth="none")
    def registry(self, call: Call) -> Response:
        """Docker's registry protocol (distribution.github.io/distribution/spec/api)."""
        error = {
            "code": "UNSUPPORTED",
            "message": "gcp-sandbox does not implement pushing and pulling by Docker's registry protocol; build the "
            "image with Cloud Build (gcloud builds submit); Cloud Run here can run its images.",
        }
        return Response(501, {"Docker-Distribution-Api-Version": "registry/2.0"}, json={"errors": [error]})

    # --- private

    def _docker(self, name: str) -> tuple[str, str]:
        """Return (resource name, "LOCATION-docker.pkg.dev/P/R") of a repository that exists."""
        name = self.load(REPOSITORIES, name)["name"]
        return name, _uri(name)

    def _image(self, name: str) -> tuple[str, str, str]:
        """Return (repository's resource name, its address, image) from a name that goes at least to the package."""
        parent, _, rest = name.partition("/packages/")
        return (*self._docker(parent), unquote(rest.partition("/")[0]))

    def _tagged(self, call: Call) -> tuple[str, str, str, str, str]:
        """Return the repository's name, the repository, the image, the tag and its digest; ApiError 404 for no tag."""
        name, repository, image = self._image(call.params["name"])
        tag = call.params["name"].partition("/tags/")[2]
        digest = dict(self.sandbox.images.tags(f"{repository}/{image}")).get(tag)
        if not digest:
            raise errors.not_found()
        return name, repository, image, tag, digest

    def _set_tag(self, name: str, repository: str, image: str, tag: str, call: Call) -> dict[str, Any]:
        digest = call.body.get("version", "").rpartition("/")[2]
        self._version(f"{repository}/{image}", digest)
        reference = f"{repository}/{image}:{tag}"
        if Reference.parse(reference) is None:
            raise errors.invalid(f"invalid tag {tag!r}")
        self.sandbox.images.tag(reference, digest)
        return _tag(name, image, tag, digest)

    def _check_mutable(self, name: str) -> None:
        repository = self.store.get(KIND, name) or {}
        if repository.get("dockerConfig", {}).get("immutableTags"):
            raise errors.failed_precondition(
                "The repository has enabled tag immutability; tags cannot be moved or deleted."
            )

    def _version(self, image: str, digest: str) -> Version:
        found = next((v for v in self.sandbox.images.versions(image) if v.digest == digest), None)
        if found is None:
            raise errors.not_found()
        return found

    def _package(self, name: str, repository: str, image: str) -> dict[str, Any]:
        versions = self.sandbox.images.versions(f"{repository}/{image}")
        if not versions:
            raise errors.not_found()
        return {
            "name": f"{name}/packages/{quote(image, safe='')}",
            "createTime": min(version.uploaded for version in versions),
            "updateTime": max(version.updated for version in versions),
        }

    def _delete_versions(self, call: Call, image: str, digests: list[str]) -> dict[str, Any]:
        repository = _repository_of(next(iter(call.params.values())))
        args = {"image": image, "digests": digests}
        return self.begin(
            call, "deleteVersions", self._canonical(repository), 2, "artifactregistry.deleteVersions", args
        )

    def shown(self, resource: Resource, body: dict[str, Any], verb: str) -> dict[str, Any]:
        name = body["name"]
        repository = {key: value for key, value in body.items() if value not in ("", {}, [], False, None)}
        scanning = dict(body.get("vulnerabilityScanningConfig") or {})
        if body["format"] == "DOCKER":
            scanning.update(self._scanning(name.split("/")[1], scanning, body["mode"], body.get("createTime", "")))
            repository["vulnerabilityScanningConfig"] = scanning
            repository["registryUri"] = _uri(name)
        else:
            format = body["format"].lower()
            repository["registryUri"] = _uri(name).replace("-docker.", f"-{format}.", 1)
        repository["satisfiesPzi"] = True
        images = self.sandbox.images
        sizes = [v.size for image in images.names(_uri(name)) for v in images.versions(f"{_uri(name)}/{image}")]
        if sizes:
            repository["sizeBytes"] = str(sum(sizes))
        return repository if verb in ("get", "list") else _without(repository, GET_ONLY)

    def _scanning(self, project: str, config: dict[str, Any], mode: str, since: str) -> dict[str, Any]:
        api = "containerscanning.googleapis.com"
        if mode == "VIRTUAL_REPOSITORY":
            # Images are scanned where they are: in the upstream repositories.
            return {
                "enablementState": "SCANNING_UNSUPPORTED",
                "enablementStateReason": "Vulnerability scanning is not supported for virtual repositories.",
                "lastEnableTime": since,
            }
        if config.get("enablementConfig") == "DISABLED":
            return {
                "enablementState": "SCANNING_DISABLED",
                "enablementStateReason": "Scanning is disabled for this repository.",
                "lastEnableTime": since,
            }
        found = self.sandbox.projects.get(project)
        if found is None or not self.sandbox.enablement.usable(found, api):
            return {
                "enablementState": "SCANNING_DISABLED",
                "enablementStateReason": f"API {api} is not enabled.",
                "lastEnableTime": since,
            }
        return {"enablementState": "SCANNING_ACTIVE", "lastEnableTime": since}


def _without(body: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in names}


def _uri(name: str) -> str:
    """ "LOCATION-docker.pkg.dev/P/R" of projects/P/locations/LOCATION/repositories/R."""
    _, project, _, location, _, repository = name.split("/")
    return f"{location}-docker.pkg.dev/{project.replace(':', '/')}/{repository}"


def _repository_of(name: str) -> str:
    return "/".join(name.split("/")[:6])


def _location(project: str, location: str) -> dict[str, Any]:
    return {
        "name": f"projects/{project}/locations/{location}",
        "locationId": location,
        "labels": {"cloud.googleapis.com/region": location},
    }


def _docker_image(name: str, repository: str, image: str, version: Version) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": f"{name}/dockerImages/{quote(image, safe='')}@{version.digest}",
        "uri": f"{repository}/{image}@{version.digest}",
        "imageSizeBytes": str(version.size),
        "uploadTime": version.uploaded,
        "mediaType": MANIFEST,
        "buildTime": version.built,
        "updateTime": version.updated,
    }
    if version.tags:
        answer["tags"] = version.tags
    return answer


def _version(name: str, image: str, version: Version, full: bool) -> dict[str, Any]:
    package = f"{name}/packages/{quote(image, safe='')}"
    answer: dict[str, Any] = {
        "name": f"{package}/versions/{version.digest}",
        "createTime": version.uploaded,
        "updateTime": version.updated,
        "metadata": {
            "name": f"{name}/dockerImages/{quote(image, safe='')}@{version.digest}",
            "buildTime": version.built,
            "imageSizeBytes": str(version.size),
            "mediaType": MANIFEST,
        },
    }
    if full and version.tags:
        answer["relatedTags"] = [_tag(name, image, tag, version.digest) for tag in version.tags]
    return answer


def _tag(name: str, image: str, tag: str, digest: str) -> dict[str, Any]:
    package = f"{name}/packages/{quote(image, safe='')}"
    return {"name": f"{package}/tags/{tag}", "version": f"{package}/versions/{digest}"}


def _check(repository: dict[str, Any]) -> None:
    """Check the rules that the schema does not have, and fill in fields as the service does."""
    mode = repository["mode"]
    if mode == "REMOTE_REPOSITORY" and not repository.get("remoteRepositoryConfig"):
        raise errors.invalid("remote_repository_config is required for a remote repository.")
    if mode == "VIRTUAL_REPOSITORY" and not repository.get("virtualRepositoryConfig"):
        raise errors.invalid("virtual_repository_config is required for a virtual repository.")
    for key, value in (repository.get("labels") or {}).items():
        if not re.fullmatch(r"[\w-]{1,63}", key) or not key[0].isalpha() or key != key.lower():
            raise errors.invalid(f"invalid label key {key!r}")
        if not re.fullmatch(r"[\w-]{0,63}", value) or value != value.lower():
            raise errors.invalid(f"invalid label value {value!r} of {key!r}")
    for id, policy in (repository.get("cleanupPolicies") or {}).items():
        if policy.setdefault("id", id) != id:
            raise errors.invalid(f"the id of the cleanup policy {id!r} is {policy['id']!r}")
        if policy.get("action", "ACTION_UNSPECIFIED") == "ACTION_UNSPECIFIED":
            raise errors.invalid(f"the cleanup policy {id!r} has no action")
        if ("condition" in policy) == ("mostRecentVersions" in policy):
            raise errors.invalid(f"the cleanup policy {id!r} needs either a condition or most_recent_versions")


def _filtered(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what `filter` selects: FIELD="VALUE", where the value may begin or end with *."""
    text = call.query.get("filter", "")
    refused = errors.unimplemented(f"the filter {text.strip()!r} in {call.method_id}")
    wanted = filters.compile(text, _restriction, lambda rest: refused, words=())
    return [item for item in items if wanted(item)]


def _restriction(term: Restriction) -> Predicate | None:
    field, _, label = term.field.partition(".")
    known = field == "labels" if label else field in ("name", "version", "annotations")
    if not known or term.operator != "=" or not term.quoted:
        return None
    pattern = filters.wildcard(term.value)
    return lambda item: pattern.fullmatch(item.get("labels", {}).get(label, "") if label else item.get(field, ""))


def _ordered(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By `orderBy`: a field in snake or camel case, with asc or desc; by name otherwise."""
    field, _, direction = call.query.get("orderBy", "").strip().partition(" ")
    if not field:
        return items
    camel = re.sub(r"_(\w)", lambda found: found[1].upper(), field)
    if direction not in ("", "asc", "desc") or camel not in ("name", "createTime", "updateTime", "uploadTime"):
        raise errors.invalid(f"invalid order_by {call.query['orderBy']!r}")
    return sorted(items, key=lambda item: item.get(camel, ""), reverse=direction == "desc")
