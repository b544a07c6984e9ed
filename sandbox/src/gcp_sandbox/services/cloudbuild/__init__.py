# SPDX-License-Identifier: Apache-2.0
"""Cloud Build: builds of container images from a source archive in Cloud Storage.

A step of the Docker builder really builds (backends/images.py); steps of other builders are refused with 501 when the
build is created. A build acts as its service account: reading the source, writing the log and pushing images take that
account's permissions.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from gcp_sandbox.backends.images import BuildError, Image, ImagePusher, Reference, extract
from gcp_sandbox.backends.logs import Source
from gcp_sandbox.config import write_private
from gcp_sandbox.gateway import catalog, errors
from gcp_sandbox.gateway.denials import IamFacts, plain
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.operations import Op, Stopping
from gcp_sandbox.gateway.ports import BucketProvider
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.cloudbuild import filters, substitutions
from gcp_sandbox.services.cloudbuild.docker import BUILDERS, Docker

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.projects import Project

KIND = "cloudbuild.build"
TYPE = "type.googleapis.com/google.devtools.cloudbuild.v1"

# Seconds that building and pushing an image of this size takes in real life.
NOMINAL_SECONDS = 90
DEFAULT_TIMEOUT = "3600s"
FINISHED = {"SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"}
NO_BUCKET_LOGGING = {"CLOUD_LOGGING_ONLY", "STACKDRIVER_ONLY", "NONE"}
# End of the name of Google's bucket for the logs of a project.
GOOGLES_LOGS = ".cloudbuild-logs.googleusercontent.com"
NO_CLOUD_LOGGING = {"GCS_ONLY", "NONE"}
# Seconds between writes of a growing log to its bucket.
LOG_INTERVAL = 2.0

_STORAGE = "//storage.googleapis.com/projects/_/buckets"


class Failed(Exception):
    """A build that ends without success: its status, what to say, and the type of its failureInfo."""

    def __init__(self, detail: str, kind: str = "USER_BUILD_STEP", status: str = "FAILURE") -> None:
        super().__init__(detail)
        self.detail, self.kind, self.status = detail, kind, status


class CloudBuild(LongRunning):
    """Builds, global and regional."""

    name = "cloudbuild"
    iam = IamFacts(denial=plain)
    body_field = "build"

    # --- methods

    @method("projects.builds.create", permission="cloudbuild.builds.create", on="projects/{projectId}")
    def create(self, call: Call) -> dict[str, Any]:
        return self._create(call, call.project(call.params["projectId"]), "global")

    @method("projects.locations.builds.create", permission="cloudbuild.builds.create", on="{parent}")
    def create_regional(self, call: Call) -> dict[str, Any]:
        _, project, _, location = call.params["parent"].split("/")
        return self._create(call, call.project(project), location)

    @method("projects.builds.get", permission="cloudbuild.builds.get", on="projects/{projectId}")
    def get(self, call: Call) -> dict[str, Any]:
        return self._get(call.project(call.params["projectId"]), call.params["id"])

    @method("projects.locations.builds.get", permission="cloudbuild.builds.get", on="{name}")
    def get_regional(self, call: Call) -> dict[str, Any]:
        return self._get(*self._named(call))

    @method("projects.builds.list", permission="cloudbuild.builds.list", on="projects/{projectId}")
    def list(self, call: Call) -> dict[str, Any]:
        return self._list(call, call.project(call.params["projectId"]), "global")

    @method("projects.locations.builds.list", permission="cloudbuild.builds.list", on="{parent}")
    def list_regional(self, call: Call) -> dict[str, Any]:
        _, project, _, location = call.params["parent"].split("/")
        return self._list(call, call.project(project), location)

    @method("projects.builds.cancel", permission="cloudbuild.builds.update", on="projects/{projectId}")
    def cancel(self, call: Call) -> dict[str, Any]:
        return self._cancel(call.project(call.params["projectId"]), call.params["id"])

    @method("projects.locations.builds.cancel", permission="cloudbuild.builds.update", on="{name}")
    def cancel_regional(self, call: Call) -> dict[str, Any]:
        return self._cancel(*self._named(call))

    @method("operations.get", permission=None)
    @method("projects.locations.operations.get", permission=None)
    def get_operation(self, call: Call) -> dict[str, Any]:
        op = self._operation(call)
        call.require("cloudbuild.builds.get", f"//cloudbuild.googleapis.com/projects/{op.project}")
        return self.operation_json(op)

    @method("operations.cancel", permission=None)
    @method("projects.locations.operations.cancel", permission=None)
    def cancel_operation(self, call: Call) -> dict[str, Any]:
        op = self._operation(call)
        call.require("cloudbuild.builds.update", f"//cloudbuild.googleapis.com/projects/{op.project}")
        self._cancel(call.project(op.project), op.target)
        return {}

    def operation_json(self, op: Op) -> dict[str, Any]:
        build = self.store.get(KIND, op.target) or {}
        metadata = {"@type": f"{TYPE}.BuildOperationMetadata", "build": build}
        return {**super().operation_json(op), "metadata": metadata}

    # --- creating

    def _create(self, call: Call, project: Project, location: str) -> dict[str, Any]:
        id = str(uuid4())
        build = self._checked(call, project, location, id)
        self.store.put(KIND, id, build, parent=project.id)
        code = base64.b64encode(id.encode()).decode()
        regional = f"projects/{project.id}/locations/{location}/operations/{code}"
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"operations/build/{project.id}/{code}" if location == "global" else regional,
            seconds=NOMINAL_SECONDS,
            job="cloudbuild.build",
            project=project.id,
            target=id,
        )
        return self.operation_json(op)

    def _checked(self, call: Call, project: Project, location: str, id: str) -> dict[str, Any]:
        """Return the build as it is stored: what was sent, checked, with what the service fills in."""
        known = {"PROJECT_ID": project.id, "PROJECT_NUMBER": project.number, "BUILD_ID": id, "LOCATION": location}
        options = call.body.get("options", {})
        loose = options.get("substitutionOption") == "ALLOW_LOOSE"
        if call.body.get("serviceAccount"):
            known["SERVICE_ACCOUNT"] = call.body["serviceAccount"]
            known["SERVICE_ACCOUNT_EMAIL"] = call.body["serviceAccount"].rpartition("/")[2]
        build = substitutions.apply(call.body, known, loose=loose)
        if not build.get("steps"):
            raise errors.invalid("invalid build: no build steps specified")
        for step in build["steps"]:
            _check_step(step)
        if options.get("workerPool") or options.get("pool"):
            raise errors.unimplemented("private worker pools of Cloud Build")
        timeout = build.setdefault("timeout", DEFAULT_TIMEOUT)
        if not 0 < float(timeout.removesuffix("s")) <= 86400:
            raise errors.invalid('invalid value for "build.timeout": must be greater than 0 and at most 24 hours')
        specified = bool(build.get("serviceAccount"))
        account = self._account(call, project, build)
        if not build.get("logsBucket") and options.get("logging") not in NO_BUCKET_LOGGING:
            self._set_logs_bucket(build, project, location, account, specified=specified)
        self._check_logs_bucket(build, account)
        build["sourceProvenance"] = self._provenance(build, account)
        where = "builds/" if location == "global" else f"builds;region={location}/"
        build.update(
            id=id,
            name=f"projects/{project.number}/locations/{location}/builds/{id}",
            projectId=project.id,
            status="QUEUED",
            createTime=call.now,
            queueTtl=build.get("queueTtl", "3600s"),
            logUrl=f"https://console.cloud.google.com/cloud-build/{where}{id}?project={project.number}",
            substitutions=build.get("substitutions", {}),
        )
        if build.get("images"):
            build["artifacts"] = {**build.get("artifacts", {}), "images": build["images"]}
        elif build.get("artifacts", {}).get("images"):
            build["images"] = build["artifacts"]["images"]
        return {name: value for name, value in build.items() if value not in ({}, [], "")}

    def _account(self, call: Call, project: Project, build: dict[str, Any]) -> Principal:
        """Return the service account that the build acts as; the caller must be allowed to act as it."""
        name = build.get("serviceAccount", "")
        if not name:
            # cloud.google.com/build/docs/cloud-build-service-account-updates: the account comes with Compute Engine.
            email = catalog.default_account("compute.googleapis.com", project)[0]
            if self.sandbox.identities.account(email) is None:
                raise errors.failed_precondition(
                    f"invalid value for 'build.service_account': the default service account {email} does not exist; "
                    "enable compute.googleapis.com, or name an account, projects/PROJECT/serviceAccounts/EMAIL"
                )
            name = build["serviceAccount"] = f"projects/{project.id}/serviceAccounts/{email}"
        found = re.fullmatch(r"projects/([^/]+)/serviceAccounts/([^/]+)", name)
        if not found:
            raise errors.invalid(f"invalid value for 'build.service_account': {name!r}")
        account = self.sandbox.identities.account(found[2])
        resource = f"//iam.googleapis.com/projects/{project.id}/serviceAccounts/{found[2]}"
        if account is None or not self.sandbox.iam.allowed(call.caller, resource, "iam.serviceAccounts.actAs"):
            raise errors.permission_denied(
                f"caller does not have permission to act as service account projects/{project.id}/serviceAccounts/"
                f"{account['uniqueId'] if account else found[2]}"
            )
        if account.get("disabled"):
            raise errors.failed_precondition(f"service account {account['email']} is disabled")
        return self.sandbox.identities.service_account(account["email"])

    def _set_logs_bucket(
        self, build: dict[str, Any], project: Project, location: str, account: Principal, *, specified: bool
    ) -> None:
        """Set the bucket of a build that names none, made at the first build: Google's, or one of the project.

        Google's has no region, and is for builds with the default account
        (cloud.google.com/build/docs/securing-builds/build-log-storage).
        """
        buckets = self.sandbox.ports.get(BucketProvider)
        if build.get("options", {}).get("defaultLogsBucketBehavior") == "REGIONAL_USER_OWNED_BUCKET":
            region = "us-central1" if location == "global" else location
            name = f"{project.number}-{region}-cloudbuild-logs"
            if self.sandbox.objects.bucket(name) is None:
                if not self.sandbox.iam.allowed(account, project.name, "storage.buckets.create"):
                    raise self._no_access(name, account)
                buckets.provide_bucket(project, name, region.upper())
        elif specified:
            raise errors.invalid(
                "if 'build.service_account' is specified, the build must either (a) specify 'build.logs_bucket', (b) "
                "use the REGIONAL_USER_OWNED_BUCKET build.options.default_logs_bucket_behavior option, or (c) use "
                "either CLOUD_LOGGING_ONLY / NONE logging options"
            )
        else:
            name = f"{project.number}{GOOGLES_LOGS}"
            buckets.provide_bucket(project, name, "US")
        build["logsBucket"] = f"gs://{name}"

    @staticmethod
    def _no_access(bucket: str, account: Principal) -> ApiError:
        return errors.invalid(f'invalid bucket "{bucket}"; service account {account.email} does not have access to it')

    def _check_logs_bucket(self, build: dict[str, Any], account: Principal) -> None:
        bucket = build.get("logsBucket", "")
        if not bucket:
            return
        build["logsBucket"] = bucket if bucket.startswith("gs://") else f"gs://{bucket}"
        name = build["logsBucket"].removeprefix("gs://").partition("/")[0]
        if name.endswith(GOOGLES_LOGS):  # Cloud Build itself writes there
            return
        known = self.sandbox.objects.bucket(name)
        if known is None or not self.sandbox.iam.allowed(account, f"{_STORAGE}/{name}", "storage.objects.create"):
            raise self._no_access(name, account)

    def _provenance(self, build: dict[str, Any], account: Principal) -> dict[str, Any]:
        """Return the source's current generation; the object must exist and the build's account may read it."""
        source = build.get("source")
        if not source:
            return {}
        storage = source.get("storageSource")
        if storage is None:
            raise errors.unimplemented(f"builds of a {next(iter(source))}; use a storageSource")
        bucket, name = storage.get("bucket", ""), storage.get("object", "")
        if not bucket or not name:
            raise errors.invalid("invalid value for 'build.source.storage_source': bucket and object are required")
        if not re.search(r"\.(tar\.gz|tgz)$", name):
            if name.endswith(".zip"):
                raise errors.unimplemented("zip archives as the source of a build; use .tar.gz")
            raise errors.invalid(
                'invalid value for "build.source.storage_source": the object must be a .tar.gz archive'
            )
        resource = f"{_STORAGE}/{bucket}/objects/{name}"
        if not self.sandbox.iam.allowed(account, resource, "storage.objects.get"):
            raise errors.invalid(
                f"could not resolve source: googleapi: Error 403: {account.email} does not have storage.objects.get "
                "access to the Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it "
                "may not exist)., forbidden"
            )
        owner = self.sandbox.objects.bucket(bucket)
        row = owner and self.sandbox.objects.get(owner, name, storage.get("generation") or None)
        if not row:
            raise errors.invalid(
                f"could not resolve source: googleapi: Error 404: No such object: {bucket}/{name}, notFound"
            )
        return {"resolvedStorageSource": {"bucket": bucket, "object": name, "generation": row["object"]["generation"]}}

    # --- reading

    def _named(self, call: Call) -> tuple[Project, str]:
        parts = call.params["name"].split("/")
        return call.project(parts[1]), parts[5]

    def _get(self, project: Project, id: str) -> dict[str, Any]:
        build = self.store.get(KIND, id)
        if build is None or build["projectId"] != project.id:
            raise errors.not_found()
        return build

    def _list(self, call: Call, project: Project, location: str) -> dict[str, Any]:
        wanted = filters.compile(call.query.get("filter", ""))
        builds = [build for _, build in self.store.list(KIND, parent=project.id)]
        builds = [b for b in builds if location in ("-", b["name"].split("/")[3]) and wanted(b)]
        builds.sort(key=lambda build: build["createTime"], reverse=True)
        return call.page(builds, key="builds", default=50, maximum=1000)

    def _cancel(self, project: Project, id: str) -> dict[str, Any]:
        build = self._get(project, id)
        if build["status"] in FINISHED:
            raise errors.failed_precondition(f"unable to cancel build: build is {build['status']}")
        self._change(id, status="CANCELLED", finishTime=timestamp())
        for op in self.sandbox.operations.list(self.name, target=id, active=True):
            self.sandbox.operations.cancel(op)
        return self._get(project, id)

    def _change(self, id: str, **fields: Any) -> dict[str, Any]:
        """Set fields of a build, unless it has ended; returns it as it is then."""
        with self.store.transaction():
            build = self.store.get(KIND, id)
            assert build
            if build["status"] not in FINISHED:
                build.update(fields)
                self.store.put(KIND, id, build, parent=build["projectId"])
            return build

    # --- building

    @job("cloudbuild.build", settles=True)
    def _work(self, op: Op) -> dict[str, Any] | None:
        build = self._change(op.target, status="WORKING", startTime=timestamp())
        if build["status"] == "WORKING" and op.fault:
            detail = "Build failed due to an internal error."
            build = self._change(op.target, status="INTERNAL_ERROR", statusDetail=detail, finishTime=timestamp())
        if build["status"] == "WORKING":
            build = self._run(op, build)
        if build["status"] == "SUCCESS":
            return {"@type": f"{TYPE}.Build", **build}
        if build["status"] == "CANCELLED":
            raise ApiError(499, "Build cancelled", status="CANCELLED")
        if build["status"] == "TIMEOUT":
            raise ApiError(504, "Build timed out", status="DEADLINE_EXCEEDED")
        raise ApiError(500, "Build failed; check build logs for details", status="UNKNOWN")

    def _run(self, op: Op, build: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + float(build["timeout"].removesuffix("s"))
        log = BuildLog(self, build)
        run = Run(self, build, log, lambda: self._stopped(op.target) or time.monotonic() > deadline)
        try:
            run.all(op.elapse)
            fields: dict[str, Any] = {"status": "SUCCESS"}
            log("DONE")
        except Stopping:
            log.close()
            raise
        except Failed as failure:
            detail, status = failure.detail, failure.status
            if status == "FAILURE" and time.monotonic() > deadline:
                status, detail = "TIMEOUT", "build exceeded its timeout"
            log(status if status == "TIMEOUT" else "ERROR")
            log(f"{status if status == 'TIMEOUT' else 'ERROR'}: {detail}")
            fields = {"status": status, "statusDetail": detail}
            if status == "FAILURE":
                fields["failureInfo"] = {"type": failure.kind, "detail": detail}
        except Exception:
            # A defect of the sandbox: the build must not look as if it was still running.
            logging.getLogger(__name__).exception("build %s", op.target)
            detail = "the sandbox could not build this; its own log (gcp-sandbox logs) says why"
            log(f"ERROR: {detail}")
            fields = {"status": "INTERNAL_ERROR", "statusDetail": detail}
        # The log is complete in its bucket before the build says that it has ended.
        log.close()
        return self._change(op.target, **fields, **run.fields(), finishTime=timestamp())

    def _stopped(self, id: str) -> bool:
        build = self.store.get(KIND, id)
        return build is None or build["status"] == "CANCELLED"


class Run:
    """One build at work, in the order of its log: source, steps, push."""

    def __init__(self, service: CloudBuild, build: dict[str, Any], log: BuildLog, stopped: Callable[[], bool]) -> None:
        self.service, self.build, self.log, self.stopped = service, build, log, stopped
        self.sandbox = service.sandbox
        named = build["serviceAccount"].rpartition("/")[2]
        known = self.sandbox.identities.account(named)
        self.account = self.sandbox.identities.service_account(known["email"] if known else named)
        self.steps = [dict(step) for step in build["steps"]]
        self.timing: dict[str, dict[str, str]] = {}
        self.images: list[dict[str, Any]] = []

    def fields(self) -> dict[str, Any]:
        """Output-only fields of the build."""
        results = {"buildStepImages": [""] * len(self.steps), "buildStepOutputs": [""] * len(self.steps)}
        if self.images:
            results["images"] = self.images
        return {"steps": self.steps, "timing": self.timing, "results": results}

    def all(self, elapse: Callable[[], None]) -> None:
        """Raises Failed. `elapse` blocks for as long as a build takes: images are pushed only at its end."""
        workspace = Path(tempfile.mkdtemp(prefix="workspace-", dir=self.sandbox.settings.state))
        try:
            self.log(f'starting build "{self.build["id"]}"\n')
            with timed(self.timing, "FETCHSOURCE"):
                self.fetch(workspace)
            docker = Docker(self.sandbox.images, workspace, self.log, self.stopped, self.pull, self.upload)
            with timed(self.timing, "BUILD"):
                for number, step in enumerate(self.steps):
                    self.step(number, step, docker, workspace)
            self.log.prefix = ""
            elapse()
            if self.stopped():
                raise Failed("the build was stopped")
            if self.build.get("images"):
                with timed(self.timing, "PUSH"):
                    self.push(docker)
        finally:
            # The build's own result counts. `reset` removes a leftover with the state folder.
            shutil.rmtree(workspace, ignore_errors=True)

    def fetch(self, workspace: Path) -> None:
        """Unpack the source into the workspace."""
        source = self.build.get("sourceProvenance", {}).get("resolvedStorageSource")
        if not source:
            return
        place = f"gs://{source['bucket']}/{source['object']}#{source['generation']}"
        self.log("FETCHSOURCE")
        self.log(f"Fetching storage object: {place}")
        archive = self.sandbox.objects.read(source["bucket"], source["object"], source["generation"])
        if archive is None:
            raise Failed(f"failed to fetch source: {place} does not exist any more", "FETCH_SOURCE_FAILED")
        try:
            extract(archive, workspace)
        except BuildError as error:
            raise Failed(f"failed to fetch source: {place}: {error}", "FETCH_SOURCE_FAILED") from error

    def step(self, number: int, step: dict[str, Any], docker: Docker, workspace: Path) -> None:
        """Run one step of the Docker builder."""
        if len(self.steps) > 1:
            named = f' - "{step["id"]}"' if step.get("id") else ""
            self.log.prefix = f"Step #{number}{named}: "
        if number == 0:
            self.log("BUILD")
        if len(self.steps) > 1:
            self.log.raw(f"Starting Step #{number}")
        self.log(f"Already have image (with digest): {step['name']}")
        environment = dict(
            item.partition("=")[::2] for item in [*self.build.get("options", {}).get("env", []), *step.get("env", [])]
        )
        folder = _below(workspace, step.get("dir", ""))
        step["status"] = "WORKING"
        try:
            with timed(step, "timing"):
                try:
                    docker.run(step.get("args", []), folder, environment)
                except LookupError as error:
                    raise BuildError(f"An image does not exist locally with the tag: {error.args[0]}") from error
                except ApiError as error:
                    raise BuildError(f"denied: {error.message}") from error
        except BuildError as error:
            if self.stopped():
                step["status"] = "CANCELLED"
                raise Failed("the build was stopped") from error
            step["status"], step["exitCode"] = "FAILURE", 1
            for line in str(error).splitlines():
                self.log(line)
            detail = f'build step {number} "{step["name"]}" failed: step exited with non-zero status: 1'
            if step.get("allowFailure") or 1 in step.get("allowExitCodes", []):
                self.log(detail)
                return
            self.log.prefix = ""
            raise Failed(detail) from error
        step["status"] = "SUCCESS"

    def push(self, docker: Docker) -> None:
        """Push what `images` lists."""
        self.log("PUSH")
        for reference in self.build["images"]:
            started = timestamp()
            try:
                parsed, digest = docker.push(reference)
            except LookupError as error:
                detail = f"failed to find one or more images after execution of build steps: [{reference!r}]"
                raise Failed(detail.replace("'", '"'), "PUSH_IMAGE_NOT_FOUND") from error
            except BuildError as error:
                raise Failed(f"failed to push {reference}: {error}", "PUSH_FAILED") from error
            except ApiError as error:
                self.log(f"denied: {error.message}" if error.code == 403 else f"name unknown: {error.message}")
                kind = "PUSH_NOT_AUTHORIZED" if error.code == 403 else "PUSH_FAILED"
                raise Failed(f"failed to push {reference}: {error.message}", kind) from error
            self.images.append(
                {
                    "name": reference,
                    "digest": digest,
                    "pushTiming": {"startTime": started, "endTime": timestamp()},
                    "artifactRegistryPackage": f"{parsed.resource}/packages/{parsed.image.replace('/', '%2F')}",
                }
            )

    def pull(self, reference: str) -> Image | None:
        """Return the image of a reference, if the build's service account may read it."""
        parsed = Reference.parse(reference)
        if parsed:
            resource = f"//artifactregistry.googleapis.com/{parsed.resource}"
            try:
                self.sandbox.iam.check(self.account, resource, "artifactregistry.repositories.downloadArtifacts")
            except ApiError as error:
                raise BuildError(f"denied: {error.message}") from error
        return self.sandbox.images.resolve(reference)

    def upload(self, reference: Reference, digest: str) -> None:
        """Push one image as the build's service account."""
        self.sandbox.ports.get(ImagePusher).push(self.account, reference, digest)


@contextlib.contextmanager
def timed(target: dict[str, Any], key: str) -> Iterator[None]:
    """Notes when something began and ended: target[key] = {"startTime", "endTime"}."""
    span = target[key] = {"startTime": timestamp()}
    try:
        yield
    finally:
        span["endTime"] = timestamp()


class BuildLog:
    """A build's log: a file of the sandbox (`cloudbuild-ID.log`), log-ID.txt in the logs bucket as it grows, and
    entries of Cloud Logging.
    """

    def __init__(self, service: CloudBuild, build: dict[str, Any]) -> None:
        self.sandbox = service.sandbox
        self.prefix = ""
        self._id = build["id"]
        logging = build.get("options", {}).get("logging")
        bucket, _, folder = build.get("logsBucket", "").removeprefix("gs://").partition("/")
        self._bucket = "" if logging in NO_BUCKET_LOGGING else bucket
        labels = {"build_id": self._id, "build_trigger_id": ""}
        source = Source(f"cloudbuild-{self._id}", build["projectId"], "", "build", labels)
        self._source = None if logging in NO_CLOUD_LOGGING else source
        self._object = f"{folder.rstrip('/')}/log-{self._id}.txt".lstrip("/")
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._written = 0.0

    def __call__(self, text: str) -> None:
        """Add a line with the step's prefix."""
        self.raw(self.prefix + text)

    def raw(self, text: str) -> None:
        """Add a line as it is."""
        with self._lock:
            self._lines.append(text)
        if self._source:
            self.sandbox.logs.entry(self._source, "cloudbuild", textPayload=text, severity="INFO")
        if time.monotonic() - self._written > LOG_INTERVAL:
            self._write()

    def close(self) -> None:
        """Write what is not written yet."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        with self._lock:
            data = "".join(f"{line}\n" for line in self._lines).encode()
        write_private(self.sandbox.settings.logs / f"cloudbuild-{self._id}.log", data)
        # A bucket that was deleted meanwhile takes no log and fails no build.
        if self._bucket and self.sandbox.objects.bucket(self._bucket):
            self.sandbox.objects.write(self._bucket, self._object, data, "text/plain; charset=utf-8")


def _check_step(step: dict[str, Any]) -> None:
    name = step.get("name", "")
    if not name:
        raise errors.invalid('invalid build: invalid build step: field "name" is required')
    bare = re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$", "", name)
    if bare not in BUILDERS:
        raise errors.unimplemented(f"build steps of {name}; the sandbox has gcr.io/cloud-builders/docker")
    if step.get("script") or step.get("entrypoint") not in (None, "", "docker"):
        raise errors.unimplemented("build steps with a script or another entrypoint than docker's")
    if step.get("secretEnv") or step.get("volumes"):
        raise errors.unimplemented("secretEnv and volumes of a build step")


def _below(root: Path, path: str) -> Path:
    """Return a step's `dir` in the workspace; /workspace itself may be written out."""
    path = path.removeprefix("/workspace").strip("/")
    if ".." in path.split("/"):
        raise Failed(f"invalid dir {path!r}")
    return root / path
