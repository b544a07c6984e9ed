# SPDX-License-Identifier: Apache-2.0
"""Cloud Run Admin API v2: services and their revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.service import Service, job, method
from gcp_sandbox.services.run import containers, names, resources, template
from gcp_sandbox.services.run.common import Common
from gcp_sandbox.services.run.containers import Failure
from gcp_sandbox.services.run.names import Name
from gcp_sandbox.services.run.runtime import REVISION_KIND, SERVICE_KIND, Runtime

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op
    from gcp_sandbox.gateway.projects import Project

Json = dict[str, Any]

# How long Google takes for a deployment, for a change without a new revision, and for a deletion.
DEPLOY_SECONDS, UPDATE_SECONDS, DELETE_SECONDS = 20.0, 5.0, 5.0

INGRESS = "INGRESS_TRAFFIC_ALL"


class Services(Common, Service):
    """projects.locations.services and its revisions."""

    runtime: Runtime

    # -- services

    @method("projects.locations.services.create", permission="run.services.create", on="{parent}", only=("v2",))
    def create_service(self, call: Call) -> Json:
        location = self.canonical(call.params["parent"])
        service_id = call.query.get("serviceId", "")
        names.check_id("CreateServiceRequest.service_id", service_id)
        return self._create_service(call, f"{location}/services/{service_id}", call.body)

    @method("projects.locations.services.get", permission="run.services.get", on="{name}", only=("v2",))
    def get_service(self, call: Call) -> Json:
        return self.load(SERVICE_KIND, call.params["name"])

    @method("projects.locations.services.list", permission="run.services.list", on="{parent}", only=("v2",))
    def list_services(self, call: Call) -> Json:
        return self.page_of(call, SERVICE_KIND, "services")

    @method("projects.locations.services.patch", permission=None, only=("v2",))
    def patch_service(self, call: Call) -> Json:
        name = self.canonical(call.params["name"])
        existing = self.store.get(SERVICE_KIND, name)
        if existing is None and call.query.get("allowMissing"):
            call.require("run.services.create", f"//run.googleapis.com/{Name.parse(name).location}")
            names.check_id("UpdateServiceRequest.service.name", Name.parse(name).id)
            return self._create_service(call, name, call.body)
        for verb in ("update", "get"):
            call.require(f"run.services.{verb}", f"//run.googleapis.com/{name}")
        if existing is None or existing.get("deleteTime"):
            raise self.missing(SERVICE_KIND, name)
        resources.check_etag(call.body.get("etag"), existing)
        return self._change_service(call, existing, call.body)

    def _change_service(self, call: Call, existing: Json, wanted: Json) -> Json:
        name = existing["name"]
        project = call.project(Name.parse(name).project)
        asked = resources.merge(existing, wanted, call.query.get("updateMask", ""), resources.SERVICE_FIELDS)
        spec = self._service_spec(asked, project, "UpdateServiceRequest.service")
        self._check(call, name, spec, "UpdateServiceRequest.service")
        modifier = call.caller.email
        body = resources.changed_service(existing, spec, project.number, now=call.now, modifier=modifier)
        made = resources.same_template(existing["template"], spec["template"])
        anew = call.query.get("forceNewRevision") or not (made or self._has_revision(name, spec["template"]))
        return self._deploy(call, body, new_revision=bool(anew), verb="update")

    @method("projects.locations.services.delete", permission="run.services.delete", on="{name}", only=("v2",))
    def delete_service(self, call: Call) -> Json:
        return self._delete_service(call, self.load(SERVICE_KIND, call.params["name"]))

    def _delete_service(self, call: Call, body: Json) -> Json:
        resources.check_etag(call.query.get("etag"), body)
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Service")
        self.mark_deleted(body, call, SERVICE_KIND)
        resources.settle(body, resources.SERVICE_CONDITIONS, resources.RECONCILING, call.now)
        self.save(SERVICE_KIND, body)
        self.store.after_commit(lambda: self.runtime.cancel_deployments(f"{body['name']}/revisions/"))
        self.store.after_commit(self.runtime.refresh)
        return self.operation(call, body, "Service", "run.services.delete", DELETE_SECONDS, {"service": body["name"]})

    def _create_service(self, call: Call, name: str, wanted: Json) -> Json:
        project = call.project(Name.parse(name).project)
        names.check_region(Name.parse(name).region)
        if self.store.get(SERVICE_KIND, name) is not None:
            raise errors.already_exists(f"Resource '{Name.parse(name).id}' already exists.")
        asked = resources.merge({}, wanted, "", resources.SERVICE_FIELDS)
        spec = self._service_spec(asked, project, "CreateServiceRequest.service")
        self._check(call, name, spec, "CreateServiceRequest.service")
        creator = call.caller.email
        body = resources.new_service(Name.parse(name), project.number, spec, now=call.now, creator=creator)
        return self._deploy(call, body, new_revision=True, verb="create")

    def _service_spec(self, asked: Json, project: Project, at: str) -> Json:
        """Return the user's fields, checked against the limits and completed with defaults."""
        spec = resources.without_zeros(asked)
        spec.setdefault("launchStage", "GA")
        spec.setdefault("ingress", INGRESS)
        spec.setdefault("traffic", [{"type": resources.LATEST, "percent": 100}])
        for target in spec["traffic"]:
            target.setdefault("type", resources.REVISION if target.get("revision") else resources.LATEST)
        template.check_metadata(spec, at)
        template.check_metadata(spec.get("template", {}), f"{at}.template")
        spec["template"] = template.complete(spec.get("template", {}), kind="services", number=project.number)
        template.check(spec["template"], kind="services", at=f"{at}.template")
        scaling = spec.get("scaling", {})
        if scaling.get("scalingMode") == "MANUAL" and "manualInstanceCount" not in scaling:
            raise errors.invalid(
                f"Violation in {at}.scaling: manual_instance_count must be set in manual scaling mode."
            )
        return spec

    def _check(self, call: Call, name: str, spec: Json, at: str) -> None:
        """What depends on other resources: revisions named, the service account, the image."""
        revisions = [Name.parse(revision).child for revision, _ in self.store.list(REVISION_KIND, parent=name)]
        wanted = spec["template"].get("revision")
        if wanted is not None:
            short = Name.parse(name).id
            if not names.REVISION_ID.fullmatch(wanted) or not wanted.startswith(f"{short}-"):
                raise errors.invalid(
                    f"Violation in {at}.template.revision: '{wanted}' must be prefixed with the service's name and a "
                    f"hyphen ('{short}-') and have at most 63 lowercase letters, digits and hyphens."
                )
        resources.check_traffic(spec["traffic"], revisions + ([wanted] if wanted else []))
        if spec.get("invokerIamDisabled"):
            # A caller that opens a service to all users must be allowed to
            # (cloud.google.com/run/docs/securing/managing-access).
            call.require("run.services.setIamPolicy", f"//run.googleapis.com/{name}")
        containers.check_access(self.sandbox, call.caller, Name.parse(name), spec["template"])

    def _has_revision(self, service: str, wanted: Json) -> bool:
        """Return whether the revision that a template names exists, with the template's settings."""
        revision = self.store.get(REVISION_KIND, f"{service}/revisions/{wanted.get('revision')}")
        return revision is not None and resources.of_template(revision, wanted)

    def _deploy(self, call: Call, body: Json, *, new_revision: bool, verb: str) -> Json:
        """Store the service, with a new revision or without, and start the operation that brings it up."""
        args: Json = {"service": body["name"], "generation": body["generation"]}
        revision = resources.new_revision(body, now=call.now) if new_revision else None
        if revision is not None and self.store.get(REVISION_KIND, revision["name"]) is not None:
            raise errors.already_exists(
                f"Revision named '{Name.parse(revision['name']).child}' with different configuration already exists."
            )
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Service")
        if body.get("iapEnabled"):
            # IAP's agent comes into being with the first service that IAP protects.
            self.sandbox.identities.service_agent(call.project(Name.parse(body["name"]).project), "iap")
        if revision is not None:
            body["latestCreatedRevision"] = args["revision"] = revision["name"]
            self.save(REVISION_KIND, revision, parent=body["name"])
            self.store.after_commit(
                lambda: self.runtime.cancel_deployments(f"{body['name']}/revisions/", keep=[revision["name"]])
            )
        self.save(SERVICE_KIND, body)
        self.store.after_commit(self.runtime.refresh)
        seconds = DEPLOY_SECONDS if new_revision else UPDATE_SECONDS
        return self.operation(call, body, "Service", f"run.services.{verb}", seconds, args)

    @job("run.services.create", settles=True)
    @job("run.services.update", settles=True)
    def deploy(self, op: Op) -> Json:
        """Bring a service to what its latest generation asks for; the operation's response is the service."""
        service, revision = op.args["service"], op.args.get("revision")
        with self.runtime.lock(service):
            failure = self._start_revision(revision, self.struck(op)) if revision else self.struck(op)
            op.elapse()
            with self.store.transaction():
                body = self._settle_service(service, op.args["generation"], None if revision else failure)
            if body is not None:
                self.runtime.activate(body)
        if failure is not None:
            message = _not_ready(revision, failure.message) if revision else failure.message
            raise ApiError(failure.code, message, status=failure.status)
        if body is None:
            raise errors.aborted(f"Service '{Name.parse(service).id}' was deleted.")
        if earlier := self._failure_of(body):
            raise earlier
        return resources.shown(body, "Service")

    def _start_revision(self, name: str, struck: Failure | None) -> Failure | None:
        """Start the revision's first instance and note the outcome in its conditions; what went wrong, or None.

        With `struck` it is not started, and that is what went wrong.
        """
        body = self.store.get(REVISION_KIND, name)
        if body is None:
            return Failure("ABORTED", f"Revision '{Name.parse(name).child}' was deleted.")
        failure = None
        try:
            if struck is not None:
                raise struck
            found = containers.image(self.sandbox, body["containers"][0]["image"])
            self.runtime.deploy(body)
            repository = containers.without_tag(body["containers"][0]["image"])
            body["containerStatuses"] = [{"imageDigest": f"{repository}@{found.digest}"}]
        except Failure as error:
            failure = error
        now = self.now()
        if failure is None:
            resources.settle(body, ("Ready", "ContainerHealthy"), resources.SUCCEEDED, now)
        else:
            resources.settle(
                body, ("Ready", "ContainerHealthy"), resources.FAILED, now, message=failure.message, **failure.cause
            )
        resources.revision_conditions(body)
        body["updateTime"] = now
        if self.store.get(REVISION_KIND, name) is not None:
            self.save(REVISION_KIND, body, parent=name.partition("/revisions/")[0])
        return failure

    def _settle_service(self, name: str, generation: str, struck: Failure | None = None) -> Json | None:
        """Write a deployment's outcome into the service and return it; None where a later change has replaced it."""
        body = self.store.get(SERVICE_KIND, name)
        if body is None or body.get("deleteTime"):
            return None
        ready = self._latest_ready(body)
        if ready:
            body["latestReadyRevision"] = ready
        if body["generation"] == generation:
            number = self.sandbox.projects.get(Name.parse(name).project).number
            failure = struck or self._failure_of(body)
            kinds, now = resources.SERVICE_CONDITIONS, self.now()
            if failure is None:
                body["trafficStatuses"] = resources.traffic_statuses(body, number)
                resources.settle(body, kinds, resources.SUCCEEDED, now)
            else:
                resources.settle(body, kinds, resources.FAILED, now, message=failure.message, **failure.cause)
        self.save(SERVICE_KIND, body)
        return body

    def _failure_of(self, service: Json) -> Failure | None:
        """Why the newest revision is not ready, in the service's words; None when it is.

        A service stays failed until a new revision is ready: a change that makes no revision does not mend it.
        """
        revision = self.store.get(REVISION_KIND, service["latestCreatedRevision"])
        condition = revision["conditions"][0] if revision else None
        if condition is None or condition["state"] != resources.FAILED:
            return None
        message = _not_ready(service["latestCreatedRevision"], condition["message"])
        cause = {key: condition[key] for key in ("reason", "revisionReason") if key in condition}
        missing = {"CONTAINER_MISSING": "NOT_FOUND", "SECRETS_ACCESS_CHECK_FAILED": "PERMISSION_DENIED"}
        return Failure(missing.get(cause.get("reason", ""), "FAILED_PRECONDITION"), message, **cause)

    def _latest_ready(self, service: Json) -> str | None:
        """Return the newest revision that became ready."""
        ready = [
            (body["createTime"], name)
            for name, body in self.store.list(REVISION_KIND, parent=service["name"])
            if body["conditions"][0]["state"] == resources.SUCCEEDED
        ]
        return max(ready)[1] if ready else None

    @job("run.services.delete", settles=True)
    def remove_service(self, op: Op) -> Json:
        """Stop a service's instances and forget it and its revisions."""
        name = op.args["service"]
        with self.runtime.lock(name):
            self.struck_deletion(op, SERVICE_KIND, name)
            op.elapse()
            body = self.store.get(SERVICE_KIND, name)
            if body is None:
                return op.body["metadata"]
            with self.store.transaction():
                revisions = [revision for revision, _ in self.store.list(REVISION_KIND, parent=name)]
                for revision in revisions:
                    self.store.delete(REVISION_KIND, revision)
                self.store.delete(SERVICE_KIND, name)
                self.sandbox.iam.delete_policy(f"//run.googleapis.com/{name}")
            for revision in revisions:
                self.runtime.retire(revision)
            self.runtime.refresh()
        resources.settle(body, resources.SERVICE_CONDITIONS, resources.SUCCEEDED, self.now())
        return resources.shown(body, "Service")

    # -- revisions

    @method("projects.locations.services.revisions.get", permission="run.revisions.get", on="{name}", only=("v2",))
    def get_revision(self, call: Call) -> Json:
        return self.load(REVISION_KIND, call.params["name"])

    @method("projects.locations.services.revisions.list", permission="run.revisions.list", on="{parent}", only=("v2",))
    def list_revisions(self, call: Call) -> Json:
        """Newest first; `-` stands for all services of the location."""
        parent = self.canonical(call.params["parent"])
        if parent.endswith("/services/-"):
            rows = self.store.list(REVISION_KIND, prefix=parent.removesuffix("-"))
        else:
            rows = self.store.list(REVISION_KIND, parent=parent)
        newest = sorted((body for _, body in rows), key=lambda body: body["createTime"], reverse=True)
        return call.page(newest, key="revisions", default=100, maximum=500)

    @method(
        "projects.locations.services.revisions.delete", permission="run.revisions.delete", on="{name}", only=("v2",)
    )
    def delete_revision(self, call: Call) -> Json:
        body = self.load(REVISION_KIND, call.params["name"])
        resources.check_etag(call.query.get("etag"), body)
        name = Name.parse(body["name"])
        service = self.store.get(SERVICE_KIND, name.parent)
        used = {revision for revision, _, _ in resources.targets(service)} if service else set()
        latest = service and service.get("latestCreatedRevision") == body["name"]
        if name.child in used or latest:
            raise errors.failed_precondition(
                f"Revision '{name.child}' cannot be deleted: it is the service's latest revision or has traffic or "
                "a tag."
            )
        if call.query.get("validateOnly"):
            return self.validated(call, body, "Revision")
        self.mark_deleted(body, call, REVISION_KIND, parent=name.parent)
        args = {"revision": body["name"]}
        return self.operation(call, body, "Revision", "run.revisions.delete", DELETE_SECONDS, args)

    @job("run.revisions.delete", settles=True)
    def remove_revision(self, op: Op) -> Json:
        """Forget a revision."""
        name = op.args["revision"]
        self.struck_deletion(op, REVISION_KIND, name, parent=Name.parse(name).parent)
        op.elapse()
        body = self.store.get(REVISION_KIND, name)
        self.store.delete(REVISION_KIND, name)
        self.runtime.retire(name)
        return resources.shown(body, "Revision") if body else op.body["metadata"]


def _not_ready(revision: str, why: str) -> str:
    return f"Revision '{Name.parse(revision).child}' is not ready and cannot serve traffic. {why}"
