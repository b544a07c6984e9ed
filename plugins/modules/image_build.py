#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build a container image and push it to Artifact Registry
version_added: 0.1.0
description:
  - Builds an image from a folder with a Dockerfile and pushes it to Artifact Registry, unless the tag is there already.
  - Cloud Build builds it, or a container engine of the machine that the module runs on.
  - So a tag should name what the image is made of, for example by a hash. The module never moves a tag that is there.
  - With O(wait=false) the task starts the build, and the same task with O(operation) joins it later. A build of the
    same tag that another run has started is joined as well.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  image:
    description: The image with its tag, as C(REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG).
    type: str
    required: true
  context:
    description: Folder with what the Dockerfile copies. It is packed the same way each time, without what its
      C(.dockerignore) names.
    type: path
    required: true
  dockerfile:
    description: Path of the Dockerfile inside the context.
    type: str
    default: Dockerfile
  build_args:
    description: Build arguments. They can be read in the image, so no secret belongs there.
    type: dict
    default: {}
  engine:
    description:
      - What builds the image.
      - With V(docker) and V(podman), the command of that name on the machine that the module runs on. The module then
        always waits, and pushes with the task's own credentials, which need
        C(artifactregistry.repositories.uploadArtifacts) on the repository.
    type: str
    choices: [cloud_build, docker, podman]
    default: cloud_build
  location:
    description: Region of the build. Needed with O(engine=cloud_build).
    type: str
  source_bucket:
    description:
      - Bucket for the packed context (under C(source/)) and for the build's log. Needed with O(engine=cloud_build).
    type: str
  service_account:
    description:
      - E-mail address of the service account that the build runs as. It needs C(roles/artifactregistry.writer) on the
        repository and C(roles/storage.admin) on the bucket. Needed with O(engine=cloud_build).
    type: str
  machine_type:
    description: Machine type, such as V(E2_HIGHCPU_8).
    type: str
  timeout:
    description: Seconds after which the build is given up.
    type: int
    default: 1200
  operation:
    description: RV(operation) of an earlier task that started this build. If that build has failed, so does this task.
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(artifactregistry.tags.get), C(cloudbuild.builds.create), C(cloudbuild.builds.get),
    C(cloudbuild.builds.list), C(storage.objects.create), C(storage.objects.get), and C(iam.serviceAccounts.actAs) on
    the O(service_account).
"""

EXAMPLES = r"""
- name: The image is built
  mlplatform.gcp.image_build:
    project: my-project
    image: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow:3.17.2-0a1b2c
    context: "{{ playbook_dir }}/image"
    location: europe-west1
    source_bucket: my-project-mlflow-build
    service_account: mlflow-build@my-project.iam.gserviceaccount.com
  register: built

- name: What runs is this very image
  ansible.builtin.debug:
    var: built.image
"""

RETURN = r"""
image:
  description: The image with its digest. With O(wait=false), and in check mode, with its tag while there is no digest.
  returned: success
  type: str
  sample: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow@sha256:9f86d081884c7d659a2feaa0c55ad015
build:
  description: Id of the build that this task started or joined.
  returned: when there was one
  type: str
operation:
  description: What to give to a later task as O(operation).
  returned: when O(wait=false) and a build is under way
  type: str
"""

import fnmatch
import gzip
import hashlib
import io
import os
import re
import tarfile
from urllib.parse import quote

from ansible_collections.mlplatform.gcp.plugins.module_utils._container_engine import ContainerEngine
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    ApiDisabled,
    Conflict,
    NotFound,
    OperationFailed,
    UserError,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

BUILDS = "https://cloudbuild.googleapis.com/v1"
REGISTRY = "https://artifactregistry.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com"

OPTIONS = (
    GCP
    + WAIT
    + Options(
        {
            "image": {"type": "str", "required": True},
            "context": {"type": "path", "required": True},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "build_args": {"type": "dict", "default": {}},
            "engine": {"type": "str", "choices": ["cloud_build", "docker", "podman"], "default": "cloud_build"},
            "location": {"type": "str"},
            "source_bucket": {"type": "str"},
            "service_account": {"type": "str"},
            "machine_type": {"type": "str"},
            "timeout": {"type": "int", "default": 1200},
            "operation": {"type": "str"},
        },
        required_if=(("engine", "cloud_build", ("location", "source_bucket", "service_account")),),
    )
)

_IMAGE = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/(?P<name>[^:@]+):(?P<tag>[\w.-]+)"
)
_GOING = ("PENDING", "QUEUED", "WORKING", "STATUS_UNKNOWN")
_LOG_LINES = 30
# What a build is refused for while the roles of its service account, granted a moment ago, are not known everywhere.
_TRANSIENT = (
    r"does not have access to",
    r"does not have storage\.objects\.get access",
    r"service account .* not found",
)


def run(task):
    return Build(task).present()


class Build:
    """One image, and the build that makes it."""

    def __init__(self, task):
        self.task = task
        self.image = task.params["image"]
        match = _IMAGE.fullmatch(self.image)
        if not match:
            raise UserError(
                f"image is {self.image}, which is not an image of Artifact Registry with a tag.",
                "Write it as REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG.",
            )
        self.parts = match.groupdict()
        self.builds = f"{BUILDS}/projects/{task.project}/locations/{task.params['location']}/builds"
        # Cloud Build's own tags find a build again; they may not hold all characters that an image may.
        self.mark = "image-" + hashlib.sha256(self.image.encode()).hexdigest()[:32]

    def present(self):
        task = self.task
        digest = self.digest()
        if digest:
            return self.result(False, digest)
        if task.params["engine"] != "cloud_build":
            return self.built_here()
        build = self.started() or self.under_way()
        changed = build is None
        if task.check_mode:
            return self.result(True, None)
        if build is None:
            build = self.start()
        if not task.wait:
            result = self.result(changed, None, build)
            result.operation = build["id"]
            return result
        build = self.join(build)
        digest = next((item["digest"] for item in build["results"]["images"] if item["name"] == self.image), None)
        return self.result(changed, digest or self.digest(), build)

    def built_here(self):
        """Build and push with an engine of this machine."""
        task, params = self.task, self.task.params
        engine = ContainerEngine(params["engine"], params["timeout"])
        refuse_missing(params["context"], params["dockerfile"])
        if task.check_mode:
            return self.result(True, None)
        with engine:
            engine.build(self.image, params["context"], params["dockerfile"], params["build_args"])
            engine.push(self.image, task.access_token())
        return self.result(True, self.digest())

    def result(self, changed, digest, build=None):
        image = f"{self.image.rsplit(':', 1)[0]}@{digest}" if digest else self.image
        result = Result(changed)
        if changed:
            title = f"image {self.image}"
            after = {"context": self.task.params["context"], "build_args": self.task.params["build_args"]}
            result.diff = {"before": {}, "after": after, "before_header": title, "after_header": title}
        result.extra["image"] = image
        if build:
            result.extra["build"] = build["id"]
        return result

    # What is there

    def digest(self):
        """Digest of the tag, or None when it is not there."""
        package = quote(self.parts["name"], safe="")
        url = (
            f"{REGISTRY}/projects/{self.parts['project']}/locations/{self.parts['location']}"
            f"/repositories/{self.parts['repository']}/packages/{package}/tags/{self.parts['tag']}"
        )
        try:
            tag = self.task.client.get(url, permission="artifactregistry.tags.get")
        except NotFound:
            return None
        except ApiDisabled as error:
            if not self.task.check_mode:
                raise
            self.task.assume_enabled(error)
            return None
        return tag["version"].rsplit("/", 1)[-1]

    def started(self):
        """The build of an earlier task, whatever became of it."""
        build_id = self.task.params["operation"]
        return self.get(build_id) if build_id else None

    def under_way(self):
        """A build of the same image that another run has started and that is not over."""
        if self.task.check_mode:
            return None
        going = " OR ".join(f'status="{status}"' for status in _GOING[:3])
        found = self.task.client.get(
            self.builds, {"filter": f'tags="{self.mark}" AND ({going})'}, permission="cloudbuild.builds.list"
        )
        return next(iter(found.get("builds") or []), None)

    def get(self, build_id):
        return self.task.client.get(f"{self.builds}/{build_id}", permission="cloudbuild.builds.get")

    # Making it

    def start(self):
        params = self.task.params
        source = self.upload(pack(params["context"], params["dockerfile"]))
        arguments = ["build", "-t", self.image, "-f", params["dockerfile"]]
        for name, value in sorted(params["build_args"].items()):
            arguments += ["--build-arg", f"{name}={value}"]
        body = {
            "source": {"storageSource": source},
            "steps": [{"name": "gcr.io/cloud-builders/docker", "args": [*arguments, "."]}],
            "images": [self.image],
            "serviceAccount": f"projects/{self.task.project}/serviceAccounts/{params['service_account']}",
            "logsBucket": f"gs://{params['source_bucket']}",
            "options": {"logging": "GCS_ONLY"},
            "timeout": f"{params['timeout']}s",
            "tags": ["mlplatform-gcp", self.mark],
        }
        if params["machine_type"]:
            body["options"]["machineType"] = params["machine_type"]
        operation = self.task.waiter.tolerate(
            lambda: self.task.client.post(self.builds, body, permission="cloudbuild.builds.create"),
            _TRANSIENT,
            what=f"building {self.image}",
        )
        return operation["metadata"]["build"]

    def upload(self, archive):
        """Put the context into the bucket under a name of its content, and return a ``storageSource``."""
        client, bucket = self.task.client, self.task.params["source_bucket"]
        name = f"source/{hashlib.sha256(archive).hexdigest()}.tar.gz"
        try:
            found = client.request(
                "POST",
                f"{STORAGE}/upload/storage/v1/b/{bucket}/o",
                query={"uploadType": "media", "name": name, "ifGenerationMatch": "0"},
                data=archive,
                headers={"Content-Type": "application/gzip"},
                safe=True,
                permission="storage.objects.create",
            )
        except Conflict:  # it is there
            found = client.get(
                f"{STORAGE}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", permission="storage.objects.get"
            )
        return {"bucket": bucket, "object": name, "generation": found["generation"]}

    def join(self, build):
        """Wait for a build and return it as it is then.

        Errors: :class:`OperationFailed` with the end of the build's log.
        """

        def poll():
            body = self.get(build["id"])
            return body, body["status"] if body["status"] in _GOING else ""

        build = self.task.waiter.until(poll, what=f"building {self.image}", operation=build["id"])
        if build["status"] != "SUCCESS":
            raise OperationFailed(self.failure(build), self.log(build), build=build["id"])
        return build

    def failure(self, build):
        detail = (build.get("failureInfo") or {}).get("detail") or build.get("statusDetail") or "no reason given"
        return f"Build {build['id']} of {self.image} ended with {build['status']}: {detail}"

    def log(self, build):
        """The last lines of the log, or where it is when it cannot be read."""
        bucket, name = (build.get("logsBucket") or "").removeprefix("gs://"), f"log-{build['id']}.txt"
        where = f"gs://{bucket}/{name}"
        try:
            response = self.task.client.request(
                "GET",
                f"{STORAGE}/storage/v1/b/{bucket}/o/{name}",
                query={"alt": "media"},
                raw=True,
                permission="storage.objects.get",
            )
        except NotFound:
            return f"Its log would be {where}, but is not there."
        lines = response.text.rstrip().splitlines()[-_LOG_LINES:]
        return "\n".join([f"The end of its log ({where}):", *lines])


def refuse_missing(folder, dockerfile):
    """Errors: :class:`UserError` when the folder or the Dockerfile is not there."""
    if not os.path.isdir(folder):
        raise UserError(f"The build context {folder} is not a folder.", "Set context to the folder of the Dockerfile.")
    if not os.path.isfile(os.path.join(folder, dockerfile)):
        raise UserError(
            f"The build context {folder} has no {dockerfile}.", "Set dockerfile to its path inside context."
        )


def pack(folder, dockerfile):
    """The folder as a gzipped tar whose bytes depend on names, modes and contents only.

    Errors: those of :func:`refuse_missing`.
    """
    refuse_missing(folder, dockerfile)
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files(folder, ignored(folder))):
            path = os.path.join(folder, name)
            info = tarfile.TarInfo(name)
            info.size = os.path.getsize(path)
            info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with open(path, "rb") as file:
                tar.addfile(info, file)
    return buffer.getvalue()


def ignored(folder):
    """The patterns of ``.dockerignore``, which is read by Docker as well: here it only keeps the upload small."""
    path = os.path.join(folder, ".dockerignore")
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [line.strip().strip("/") for line in file]
    # With an exception among them only Docker can tell what is left: everything is sent.
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [] if any(line.startswith("!") for line in patterns) else patterns


def files(folder, patterns):
    """Paths of the regular files below a folder, relative to it, without those that match a pattern."""
    for place, folders, names in os.walk(folder):
        inside = os.path.relpath(place, folder)
        folders[:] = [name for name in folders if not matches(os.path.normpath(os.path.join(inside, name)), patterns)]
        for name in names:
            path = os.path.normpath(os.path.join(inside, name))
            if not matches(path, patterns) and os.path.isfile(os.path.join(folder, path)):
                yield path


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, pattern.removeprefix("**/")) for pattern in patterns)


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
