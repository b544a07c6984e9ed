# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build an image with Cloud Build: upload the context, start a build or join a running one, read its log."""

from __future__ import annotations

import hashlib
import uuid

from ansible_collections.mlplatform.gcp.plugins.module_utils import _logs, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._build_context import pack
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import (
    INTERNAL,
    Conflict,
    GcpError,
    NotFound,
    OperationFailed,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._objects import STORAGE, create_object

# The methods of builds in the table of _catalogue/verbs.py.
_BUILDS = "cloudbuild.projects.locations.builds"
_RUNNING = ("PENDING", "QUEUED", "WORKING", "STATUS_UNKNOWN")
# Refusals of a build while the roles of its service account, granted a moment ago, are not in effect everywhere.
_TRANSIENT = (
    r"does not have access to",
    r"does not have storage\.objects\.get access",
    r"service account .* not found",
)


class CloudBuild:
    """The builds of one image. The task has the options of the module ``image_build``."""

    def __init__(self, task, image):
        self.task = task
        self.image = image
        self.location = task.params["location"]
        # The tag of a build by which later runs find it. Cloud Build's tags do not allow all characters of an image.
        self.mark = "image-" + hashlib.sha256(image.encode()).hexdigest()[:32]

    def find(self):
        """Return the build of an earlier task (option ``operation``), or a running build of the image, or None."""
        build_id = self.task.params["operation"]
        if build_id:
            return self._get(build_id)
        if self.task.check_mode:
            return None
        running = " OR ".join(f'status="{status}"' for status in _RUNNING[:3])
        return self._first(f'tags="{self.mark}" AND ({running})')

    def _first(self, condition):
        """Return the newest build that a filter matches, or None."""
        query = {"filter": condition}
        return next(_verbs.pages(self.task, f"{_BUILDS}.list", query=query, location=self.location), None)

    def _get(self, build_id):
        return _verbs.call(self.task, f"{_BUILDS}.get", location=self.location, build=build_id)

    def upload(self):
        """Upload the packed context and return its address, a ``storageSource``."""
        return self._upload(pack(self.task.params["context"], self.task.params["dockerfile"]))

    def start(self, source):
        """Start a build of a ``storageSource`` and return it."""
        params = self.task.params
        arguments = ["build", "-t", self.image, "-f", params["dockerfile"]]
        for name, value in sorted(params["build_args"].items()):
            arguments += ["--build-arg", f"{name}={value}"]
        # The tag of this one build, by which it is found when the answer to the request is lost.
        own = f"request-{uuid.uuid4().hex}"
        body = {
            "source": {"storageSource": source},
            "steps": [{"name": "gcr.io/cloud-builders/docker", "args": [*arguments, "."]}],
            "images": [self.image],
            "serviceAccount": f"projects/{self.task.project}/serviceAccounts/{params['service_account']}",
            "logsBucket": f"gs://{params['source_bucket']}",
            "options": {"logging": "GCS_ONLY"},
            "timeout": f"{params['timeout']}s",
            "tags": ["mlplatform-gcp", self.mark, own],
        }
        if params["machine_type"]:
            body["options"]["machineType"] = params["machine_type"]

        def made():
            build = self._first(f'tags="{own}"')
            return build and {"metadata": {"build": build}}

        operation = self.task.waiter.tolerate(
            lambda: _verbs.call(self.task, f"{_BUILDS}.create", body, made=made, location=self.location),
            _TRANSIENT,
            what=f"building {self.image}",
        )
        return operation["metadata"]["build"]

    def _upload(self, archive):
        """Upload the context under a name that is the hash of its content, and return a ``storageSource``."""
        bucket = self.task.params["source_bucket"]
        name = f"source/{hashlib.sha256(archive).hexdigest()}.tar.gz"
        try:
            # An upload has another address than its API, and its body is not JSON.
            found = create_object(self.task.client.request, bucket, name, archive, "application/gzip")
        except Conflict:  # an object of this name, and so of this content, exists
            found = _verbs.call(self.task, "storage.objects.get", bucket=bucket, object=name)
        return {"bucket": bucket, "object": name, "generation": found["generation"]}

    def join(self, build):
        """Wait for a build and return its last body.

        Errors: :class:`OperationFailed` with the last lines of the build's log.
        """

        def poll():
            body = self._get(build["id"])
            return body, body["status"] if body["status"] in _RUNNING else ""

        build = self.task.waiter.until(poll, what=f"building {self.image}", operation=build["id"])
        if build["status"] != "SUCCESS":
            hint = f"{INTERNAL} " if build["status"] == "INTERNAL_ERROR" else ""
            raise OperationFailed(self._failure(build), f"{hint}{self._log(build)}", build=build["id"])
        return build

    def _failure(self, build):
        detail = (build.get("failureInfo") or {}).get("detail") or build.get("statusDetail") or "no reason given"
        return f"Build {build['id']} of {self.image} ended with {build['status']}: {detail}"

    def _log(self, build):
        """Return the last lines of the log, or its address when it does not exist."""
        bucket, name = (build.get("logsBucket") or "").removeprefix("gs://"), f"log-{build['id']}.txt"
        where = f"gs://{bucket}/{name}"
        try:
            # The log is text, and not JSON.
            response = self.task.client.request(
                "GET",
                f"{STORAGE}/storage/v1/b/{bucket}/o/{name}",
                query={"alt": "media"},
                raw=True,
                permission="storage.objects.get",
            )
        except NotFound:
            return f"Its log {where} does not exist."
        except GcpError:  # the failure of the build counts
            return f"Its log: gcloud storage cat {where}"
        return "\n".join([f"The end of its log ({where}):", *_logs.end(response.text.rstrip().splitlines())])
