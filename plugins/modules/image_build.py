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
  - Builds an image from a folder with a Dockerfile and pushes it to Artifact Registry, unless the tag exists already.
  - Cloud Build builds it, or a container engine of the machine that the module runs on.
  - The tag should identify the content of the image, for example with a hash. The module never moves an existing tag.
  - With O(wait=false) the task starts the build, and the same task with O(operation) joins it later. A build of the
    same tag that another run has started is joined as well.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  image:
    description: The image, as C(REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG). The tag can be left out.
    type: str
    required: true
  tag:
    description:
      - Tag of an O(image) without one.
      - By default a hash of the Dockerfile's name, the build arguments, and the files directly in O(context).
    type: str
    version_added: 0.3.0
  context:
    description: Folder with the files that the Dockerfile copies. The same content always results in the same archive.
      The archive leaves out the files that C(.dockerignore) names.
    type: path
    required: true
  dockerfile:
    description: Path of the Dockerfile inside the context.
    type: str
    default: Dockerfile
  build_args:
    description: Build arguments. They can be read in the image, so do not put secrets there.
    type: dict
    default: {}
  engine:
    description:
      - The service or tool that builds the image.
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
    description: Timeout of the build in seconds.
    type: int
    default: 1200
  operation:
    description: RV(operation) of an earlier task that started this build. If that build failed, this task fails.
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
- name: Build the image
  mlplatform.gcp.image_build:
    project: my-project
    image: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow:3.17.2-0a1b2c
    context: "{{ playbook_dir }}/image"
    location: europe-west1
    source_bucket: my-project-mlflow-build
    service_account: mlflow-build@my-project.iam.gserviceaccount.com
  register: built

- name: Show the image with its digest
  ansible.builtin.debug:
    var: built.image
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
image:
  description: The image with its digest. With O(wait=false), and in check mode, with its tag while there is no digest.
  returned: success
  type: str
  sample: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow@sha256:9f86d081884c7d659a2feaa0c55ad015
build:
  description: Id of the build that this task started or joined.
  returned: when a build was started or joined
  type: str
operation:
  description: Value of O(operation) for a later task.
  returned: when O(wait=false) and a build is in progress
  type: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._build_context import content_tag, refuse_missing
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.registry import TAG, image_names
from ansible_collections.mlplatform.gcp.plugins.module_utils._cloud_build import CloudBuild
from ansible_collections.mlplatform.gcp.plugins.module_utils._container_engine import ContainerEngine
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

OPTIONS = (
    GCP
    + WAIT
    + Options(
        {
            "image": {"type": "str", "required": True},
            "tag": {"type": "str"},
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


def run(task):
    task.params["image"] = tagged(task.params)
    tag = task.remote(TAG, **image_names(task.params["image"]))
    found = digest(tag)
    if found:
        return result(task, False, found)
    build = build_in_cloud if task.params["engine"] == "cloud_build" else build_locally
    return build(task, tag)


def tagged(params):
    """Return the image with its tag: that in ``image``, else ``tag``, else a hash of what the image is built from."""
    image = _project_id.image(params["image"])
    if ":" in image.rsplit("/", 1)[-1]:
        return image
    refuse_missing(params["context"], params["dockerfile"])
    tag = params["tag"] or content_tag(params["context"], params["dockerfile"], params["build_args"])
    return f"{image}:{tag}"


def digest(tag):
    """Return the digest of the tag, or None when the tag does not exist."""
    body = tag.read()
    return body and body["version"].rsplit("/", 1)[-1]


def build_in_cloud(task, tag):
    """Start a build with Cloud Build, or join the one that is running."""
    image = task.params["image"]
    builds = CloudBuild(task, image)
    build = builds.find()
    changed = build is None
    if task.check_mode:
        return result(task, True, None)
    if build is None:
        source = builds.upload()
        # The upload takes seconds, in which another run can have built the image.
        build = builds.find()
        found = digest(tag) if build is None else None
        if found:
            return result(task, False, found)
        changed = build is None
        build = build or builds.start(source)
        tag.changed()
    if not task.wait:
        started = result(task, changed, None, build)
        started.operation = build["id"]
        return started
    build = builds.join(build)
    pushed = next((item["digest"] for item in build["results"]["images"] if item["name"] == image), None)
    return result(task, changed, pushed or digest(tag), build)


def build_locally(task, tag):
    """Build and push with a container engine of this machine."""
    params = task.params
    engine = ContainerEngine(params["engine"], params["timeout"], task.keep_lock)
    refuse_missing(params["context"], params["dockerfile"])
    if task.check_mode:
        return result(task, True, None)
    tag.changing()
    with engine:
        engine.build(params["image"], params["context"], params["dockerfile"], params["build_args"])
        engine.push(params["image"], task.access_token())
    return result(task, True, digest(tag))


def result(task, changed, found, build=None):
    """Return the task's :class:`Result`; ``found`` is the digest, where it is known."""
    image = task.params["image"]
    done = Result()
    if changed:
        after = {"context": task.params["context"], "build_args": task.params["build_args"]}
        done = Result.of("image", image, {}, after, action="create", implies=["a build of some minutes"])
    done.extra["image"] = f"{image.rsplit(':', 1)[0]}@{found}" if found else image
    if build:
        done.extra["build"] = build["id"]
    return done


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
