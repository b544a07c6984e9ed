# SPDX-License-Identifier: Apache-2.0
"""Cloud Run Admin API v1 (Knative's shapes): what `gcloud run` lists and describes, and services as it deploys them.

The resources are those of v2, shown in the older form. Services, jobs and executions can be written, too.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.run import from_knative, names, resources, template
from gcp_sandbox.services.run.jobs import EXECUTION_KIND, JOB_KIND, TASK_KIND, Jobs
from gcp_sandbox.services.run.names import Name
from gcp_sandbox.services.run.runtime import REVISION_KIND, SERVICE_KIND
from gcp_sandbox.services.run.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable

    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

SERVING, RUN = "serving.knative.dev/v1", "run.googleapis.com/v1"
STATUS = {resources.SUCCEEDED: "True", resources.FAILED: "False"}
INGRESS = {value: key for key, value in from_knative.INGRESS.items()}
ENVIRONMENT = {value: key for key, value in from_knative.ENVIRONMENT.items()}
EGRESS = {value: key for key, value in from_knative.EGRESS.items()}
SCALING = {value: key for key, value in from_knative.SCALING.items()}
REASONS = {
    "HEALTH_CHECK_CONTAINER_ERROR": "HealthCheckContainerError",
    "CONTAINER_MISSING": "ContainerMissing",
    "SECRETS_ACCESS_CHECK_FAILED": "SecretsAccessCheckFailed",
    "NON_ZERO_EXIT_CODE": "NonZeroExitCode",
    "CANCELLED": "Cancelled",
    "CANCELLING": "Cancelling",
    "WAITING_FOR_OPERATION": "WaitingForOperation",
}
REGION = re.compile(r"(?P<region>[a-z]+-[a-z]+\d+)-run\.googleapis\.com")
SELECTOR = re.compile(r"\s*([\w./-]+)\s*(?:==?\s*([\w.-]*))?\s*")


class Knative(Services, Jobs):
    """namespaces.* and the v1 projects.locations.* of services, configurations, routes, revisions, jobs, executions,
    tasks.
    """

    @method("namespaces.services.get", permission="run.services.get", on=lambda call: _project(call))
    @method(
        "projects.locations.services.get", permission="run.services.get", on=lambda call: _project(call), only=("v1",)
    )
    def knative_service(self, call: Call) -> Json:
        return self.service_v1(self._one(call, SERVICE_KIND))

    @method("namespaces.services.list", permission="run.services.list", on=lambda call: _project(call))
    @method(
        "projects.locations.services.list", permission="run.services.list", on=lambda call: _project(call), only=("v1",)
    )
    def knative_services(self, call: Call) -> Json:
        return self._many(call, SERVICE_KIND, self.service_v1, SERVING, "ServiceList")

    @method("namespaces.services.create", permission="run.services.create", on=lambda call: _project(call))
    def knative_create(self, call: Call) -> Json:
        """Answers at once; the service's conditions show the progress of the deployment."""
        name = self._new_name(call, "services")
        names.check_id("metadata.name", Name.parse(name).id)
        self._create_service(call, name, from_knative.service(call.body))
        return self.service_v1(self.load(SERVICE_KIND, name))

    @method("namespaces.services.replaceService", permission="run.services.update", on=lambda call: _project(call))
    def knative_replace(self, call: Call) -> Json:
        existing = self._one(call, SERVICE_KIND)
        _check_version(call, existing)
        _refuse_dry_run(call)
        wanted = from_knative.service(call.body)
        number = call.project(_project_id(call)).number
        full = template.complete(resources.without_zeros(wanted["template"]), kind="services", number=number)
        if template_v1(full) == template_v1(existing["template"]):
            # Fields that v1 does not show, such as the name of a volume, stay as they are.
            wanted["template"] = existing["template"]
        self._change_service(call, existing, wanted)
        return self.service_v1(self.load(SERVICE_KIND, existing["name"]))

    @method("namespaces.services.delete", permission="run.services.delete", on=lambda call: _project(call))
    def knative_delete(self, call: Call) -> Json:
        _refuse_dry_run(call)
        self._delete_service(call, self._one(call, SERVICE_KIND))
        return {"status": "Success"}

    @method("namespaces.configurations.get", permission="run.configurations.get", on=lambda call: _project(call))
    @method(
        "projects.locations.configurations.get", permission="run.configurations.get", on=lambda call: _project(call)
    )
    def knative_configuration(self, call: Call) -> Json:
        return self.configuration_v1(self._one(call, SERVICE_KIND))

    @method("namespaces.configurations.list", permission="run.configurations.list", on=lambda call: _project(call))
    @method(
        "projects.locations.configurations.list", permission="run.configurations.list", on=lambda call: _project(call)
    )
    def knative_configurations(self, call: Call) -> Json:
        return self._many(call, SERVICE_KIND, self.configuration_v1, SERVING, "ConfigurationList")

    @method("namespaces.routes.get", permission="run.routes.get", on=lambda call: _project(call))
    @method("projects.locations.routes.get", permission="run.routes.get", on=lambda call: _project(call))
    def knative_route(self, call: Call) -> Json:
        return self.route_v1(self._one(call, SERVICE_KIND))

    @method("namespaces.routes.list", permission="run.routes.list", on=lambda call: _project(call))
    @method("projects.locations.routes.list", permission="run.routes.list", on=lambda call: _project(call))
    def knative_routes(self, call: Call) -> Json:
        return self._many(call, SERVICE_KIND, self.route_v1, SERVING, "RouteList")

    @method("namespaces.revisions.get", permission="run.revisions.get", on=lambda call: _project(call))
    @method("projects.locations.revisions.get", permission="run.revisions.get", on=lambda call: _project(call))
    def knative_revision(self, call: Call) -> Json:
        return self.revision_v1(self._one(call, REVISION_KIND))

    @method("namespaces.revisions.list", permission="run.revisions.list", on=lambda call: _project(call))
    @method("projects.locations.revisions.list", permission="run.revisions.list", on=lambda call: _project(call))
    def knative_revisions(self, call: Call) -> Json:
        return self._many(call, REVISION_KIND, self.revision_v1, SERVING, "RevisionList")

    @method("namespaces.jobs.get", permission="run.jobs.get", on=lambda call: _project(call))
    def knative_job(self, call: Call) -> Json:
        return self.job_v1(self._one(call, JOB_KIND))

    @method("namespaces.jobs.list", permission="run.jobs.list", on=lambda call: _project(call))
    def knative_jobs(self, call: Call) -> Json:
        return self._many(call, JOB_KIND, self.job_v1, RUN, "JobList")

    @method("namespaces.jobs.create", permission="run.jobs.create", on=lambda call: _project(call))
    def knative_create_job(self, call: Call) -> Json:
        name = self._new_name(call, "jobs")
        names.check_id("metadata.name", Name.parse(name).id, longest=63, pattern=names.REVISION_ID)
        self._create_job(call, name, from_knative.job(call.body))
        return self.job_v1(self.load(JOB_KIND, name))

    @method("namespaces.jobs.replaceJob", permission="run.jobs.update", on=lambda call: _project(call))
    def knative_replace_job(self, call: Call) -> Json:
        existing = self._one(call, JOB_KIND)
        _check_version(call, existing)
        _refuse_dry_run(call)
        self._change_job(call, existing, from_knative.job(call.body))
        return self.job_v1(self.load(JOB_KIND, existing["name"]))

    @method("namespaces.jobs.delete", permission="run.jobs.delete", on=lambda call: _project(call))
    def knative_delete_job(self, call: Call) -> Json:
        _refuse_dry_run(call)
        self._delete_job(call, self._one(call, JOB_KIND))
        return {"status": "Success"}

    @method("namespaces.jobs.run", permission=None)
    def knative_run_job(self, call: Call) -> Json:
        """Answers at once with the execution; its conditions show the progress."""
        overrides = from_knative.overrides(call.body.get("overrides", {}))
        found = self._rows(call, JOB_KIND, _short(call))
        resource = f"//run.googleapis.com/{found[0]['name']}" if found else _project(call)
        call.require("run.jobs.runWithOverrides" if overrides else "run.jobs.run", resource)
        execution = self._start_execution(call, self._one(call, JOB_KIND), overrides)
        return self.execution_v1(self.load(EXECUTION_KIND, execution["metadata"]["name"]))

    @method(
        "namespaces.executions.cancel",
        permission="run.executions.cancel",
        also=["run.jobs.run"],
        on=lambda call: _project(call),
    )
    def knative_cancel_execution(self, call: Call) -> Json:
        body = self._one(call, EXECUTION_KIND)
        self._cancel_execution(call, body)
        return self.execution_v1(self.load(EXECUTION_KIND, body["name"]))

    @method("namespaces.executions.delete", permission="run.executions.delete", on=lambda call: _project(call))
    def knative_delete_execution(self, call: Call) -> Json:
        self._delete_execution(call, self._one(call, EXECUTION_KIND))
        return {"status": "Success"}

    @method("namespaces.executions.get", permission="run.executions.get", on=lambda call: _project(call))
    def knative_execution(self, call: Call) -> Json:
        return self.execution_v1(self._one(call, EXECUTION_KIND))

    @method("namespaces.executions.list", permission="run.executions.list", on=lambda call: _project(call))
    def knative_executions(self, call: Call) -> Json:
        return self._many(call, EXECUTION_KIND, self.execution_v1, RUN, "ExecutionList")

    @method(
        "namespaces.tasks.get",
        permission="run.tasks.get",
        also=["run.executions.get"],
        on=lambda call: _project(call),
    )
    def knative_task(self, call: Call) -> Json:
        return self.task_v1(self._one(call, TASK_KIND))

    @method(
        "namespaces.tasks.list",
        permission="run.tasks.list",
        also=["run.executions.list"],
        on=lambda call: _project(call),
    )
    def knative_tasks(self, call: Call) -> Json:
        return self._many(call, TASK_KIND, self.task_v1, RUN, "TaskList")

    @method("projects.locations.list", permission="run.locations.list", on="{name}", only=("v1",))
    def list_locations(self, call: Call) -> Json:
        """Return all regions."""
        project = call.project(call.params["name"].split("/")[1])
        found = [
            {
                "name": f"projects/{project.id}/locations/{region}",
                "locationId": region,
                "displayName": region,
                "labels": {"cloud.googleapis.com/region": region},
            }
            for region in sorted(names.regions())
        ]
        return call.page(found, key="locations", default=100, maximum=100)

    # -- finding

    def _new_name(self, call: Call, collection: str) -> str:
        """Return the full name of a resource that is about to be created, in the region of the address."""
        _refuse_dry_run(call)
        region, short = self._region(call), call.body.get("metadata", {}).get("name", "")
        if region is None:
            kind = collection.capitalize()
            raise errors.invalid(f"{kind} are created at the address of a region: https://REGION-run.googleapis.com.")
        name = f"projects/{call.project(_project_id(call)).id}/locations/{region}/{collection}/{short}"
        if not names.NAME.fullmatch(name):
            raise errors.invalid(f"Violation in metadata.name: {short!r} is not a valid name.")
        return name

    def _region(self, call: Call) -> str | None:
        """Return the region that the host or the name gives."""
        located = re.search(r"/locations/([^/]+)", call.path)
        regional = REGION.fullmatch(call.host)
        return located[1] if located else regional["region"] if regional else None

    def _rows(self, call: Call, kind: str, short: str = "") -> list[Json]:
        """Return the project's resources, of one region where one is given, and of one name where one is given."""
        project = call.project(_project_id(call))
        region = self._region(call)
        place = f"projects/{project.id}/locations/{region}/" if region and region != "-" else f"projects/{project.id}/"
        found = [body for _, body in self.store.list(kind, prefix=place)]
        return [body for body in found if short in ("", body["name"].rpartition("/")[2])]

    def _one(self, call: Call, kind: str) -> Json:
        short = _short(call)
        found = self._rows(call, kind, short)
        if not found:
            what = kind.partition(".")[2]
            raise errors.not_found(
                f"Resource '{short}' of kind '{what.upper()}' in project '{_project_id(call)}' does not exist."
            )
        return found[0]

    def _many(self, call: Call, kind: str, show: Callable[[Json], Json], api: str, name: str) -> Json:
        items = [show(body) for body in self._rows(call, kind)]
        selector = call.query.get("labelSelector")
        if selector:
            items = [item for item in items if selected(item["metadata"].get("labels", {}), selector)]
        start = int(call.query.get("continue") or 0)
        size = call.query.get("limit") or len(items) or 1
        answer: Json = {"apiVersion": api, "kind": name, "metadata": {}, "items": items[start : start + size]}
        if start + size < len(items):
            answer["metadata"]["continue"] = str(start + size)
        return answer

    # -- shapes

    def _metadata(self, body: Json, **annotations: str) -> Json:
        name = Name.parse(body["name"])
        project = self.sandbox.projects.get(name.project)
        namespace = project.number if project else name.project
        labels = {**body.get("labels", {}), "cloud.googleapis.com/location": name.region}
        api = SERVING if name.collection == "services" else RUN
        group = api.partition("/")[0]
        given = {
            f"{group}/creator": body.get("creator", ""),
            f"{group}/lastModifier": body.get("lastModifier", body.get("creator", "")),
            **annotations,
            **body.get("annotations", {}),
        }
        return {
            "name": body["name"].rpartition("/")[2],
            "namespace": namespace,
            "selfLink": f"/apis/{api}/namespaces/{namespace}/{name.collection}/{name.id}",
            "uid": body["uid"],
            "resourceVersion": resource_version(body),
            "generation": int(body["generation"]),
            "creationTimestamp": body["createTime"],
            "labels": labels,
            "annotations": {key: value for key, value in given.items() if value},
        }

    def service_v1(self, body: Json) -> Json:
        """Return a v2 service as a Knative service."""
        ingress = INGRESS[body["ingress"]]
        extra = {"run.googleapis.com/ingress": ingress, "run.googleapis.com/ingress-status": ingress}
        if body.get("urls"):
            extra["run.googleapis.com/urls"] = str(body["urls"]).replace("'", '"').replace(", ", ",")
        if body.get("iapEnabled"):
            extra["run.googleapis.com/iap-enabled"] = "true"
        if body.get("invokerIamDisabled"):
            extra["run.googleapis.com/invoker-iam-disabled"] = "true"
        if body.get("defaultUriDisabled"):
            extra["run.googleapis.com/default-url-disabled"] = "true"
        if body.get("description"):
            extra["run.googleapis.com/description"] = body["description"]
        extra |= scaling_annotations(body.get("scaling", {})) | client_annotations(body) | stage_annotation(body)
        status: Json = {
            "observedGeneration": int(body.get("observedGeneration", 0)),
            "conditions": conditions_v1(body),
            "latestCreatedRevisionName": body.get("latestCreatedRevision", "").rpartition("/")[2],
            "latestReadyRevisionName": body.get("latestReadyRevision", "").rpartition("/")[2],
            "traffic": traffic_v1(body.get("trafficStatuses", []), body),
        }
        if body.get("uri"):
            status |= {"url": body["uri"], "address": {"url": body["uri"]}}
        return {
            "apiVersion": SERVING,
            "kind": "Service",
            "metadata": self._metadata(body, **extra),
            "spec": {"template": template_v1(body["template"]), "traffic": traffic_v1(body.get("traffic", []), None)},
            "status": status,
        }

    def configuration_v1(self, body: Json) -> Json:
        """Return the part of a service that makes revisions."""
        full = self.service_v1(body)
        keys = ("observedGeneration", "conditions", "latestCreatedRevisionName", "latestReadyRevisionName")
        return {
            **full,
            "kind": "Configuration",
            "spec": {"template": full["spec"]["template"]},
            "status": {key: full["status"][key] for key in keys},
        }

    def route_v1(self, body: Json) -> Json:
        """Return the part of a service that directs traffic."""
        full = self.service_v1(body)
        keys = ("observedGeneration", "conditions", "traffic", "url", "address")
        return {
            **full,
            "kind": "Route",
            "spec": {"traffic": full["spec"]["traffic"]},
            "status": {key: full["status"][key] for key in keys if key in full["status"]},
        }

    def revision_v1(self, body: Json) -> Json:
        """Return a revision."""
        template = template_v1(body)
        metadata = self._metadata(body, **template["metadata"].get("annotations", {}))
        metadata["labels"] |= {
            "serving.knative.dev/service": body["service"],
            "serving.knative.dev/configuration": body["service"],
        }
        status = {
            "observedGeneration": int(body.get("observedGeneration", 0)),
            "conditions": conditions_v1(body),
            "logUrl": body["logUri"],
        }
        if body.get("containerStatuses"):
            status["imageDigest"] = body["containerStatuses"][0]["imageDigest"]
        return {
            "apiVersion": SERVING,
            "kind": "Revision",
            "metadata": metadata,
            "spec": template["spec"],
            "status": status,
        }

    def job_v1(self, body: Json) -> Json:
        """Return a job."""
        status: Json = {
            "observedGeneration": int(body.get("observedGeneration", 0)),
            "conditions": conditions_v1(body),
            "executionCount": body.get("executionCount", 0),
        }
        if latest := body.get("latestCreatedExecution"):
            status["latestCreatedExecution"] = {
                "name": latest["name"],
                "creationTimestamp": latest["createTime"],
                **({"completionTimestamp": latest["completionTime"]} if "completionTime" in latest else {}),
                "completionStatus": latest["completionStatus"],
            }
        outer, extra = body["template"], client_annotations(body) | stage_annotation(body)
        inner = task_metadata_v1(outer, outer["template"])
        spec = {"template": {"metadata": inner, "spec": execution_spec_v1(outer, outer["template"])}}
        metadata = self._metadata(body, **extra)
        return {"apiVersion": RUN, "kind": "Job", "metadata": metadata, "spec": spec, "status": status}

    def execution_v1(self, body: Json) -> Json:
        """Return an execution."""
        metadata = self._metadata(body, **task_metadata_v1(body, body["template"])["annotations"])
        metadata["labels"]["run.googleapis.com/job"] = body["job"]
        status: Json = {"conditions": conditions_v1(body), "logUri": body["logUri"]}
        for field in ("startTime", "completionTime"):
            if field in body:
                status[field] = body[field]
        for field in ("succeededCount", "failedCount", "cancelledCount", "runningCount", "retriedCount"):
            if body.get(field):
                status[field] = body[field]
        spec = execution_spec_v1(body, body["template"])
        return {"apiVersion": RUN, "kind": "Execution", "metadata": metadata, "spec": spec, "status": status}

    def task_v1(self, body: Json) -> Json:
        """Return a task."""
        metadata = self._metadata(body)
        metadata["labels"] |= {"run.googleapis.com/job": body["job"], "run.googleapis.com/execution": body["execution"]}
        status: Json = {
            "conditions": conditions_v1(body),
            "index": body.get("index", 0),
            "logUri": body["logUri"],
            "startTime": body["startTime"],
        }
        for field in ("completionTime", "retried", "lastAttemptResult"):
            if field in body:
                status[field] = body[field]
        spec = task_spec_v1(body)
        return {"apiVersion": RUN, "kind": "Task", "metadata": metadata, "spec": spec, "status": status}


def _short(call: Call) -> str:
    return next(iter(call.params.values())).rpartition("/")[2]


def _project_id(call: Call) -> str:
    return next(iter(call.params.values())).split("/")[1]


def _project(call: Call) -> str:
    return f"//cloudresourcemanager.googleapis.com/projects/{_project_id(call)}"


def _refuse_dry_run(call: Call) -> None:
    if call.query.get("dryRun"):
        raise errors.unimplemented("dryRun of Cloud Run's v1 API")


def _check_version(call: Call, existing: Json) -> None:
    given = call.body.get("metadata", {}).get("resourceVersion")
    if given and given != resource_version(existing):
        raise errors.aborted(
            f"Conflict for resource '{Name.parse(existing['name']).id}': version '{given}' was specified but "
            f"current version is '{resource_version(existing)}'."
        )


def resource_version(body: Json) -> str:
    """Return the resource version, which v1 has instead of an etag."""
    return base64.b64encode(body["etag"].encode()).decode()[:11]


def selected(labels: dict[str, str], selector: str) -> bool:
    """Return whether labels match a Kubernetes equality selector ("a=b,c")."""
    for part in selector.split(","):
        found = SELECTOR.fullmatch(part)
        if found is None:
            raise errors.invalid(f"Invalid label selector: {part!r}.")
        key, value = found.groups()
        if key not in labels or (value is not None and labels[key] != value):
            return False
    return True


def conditions_v1(body: Json) -> list[Json]:
    """Return all conditions in Knative's words."""
    found = ([body["terminalCondition"]] if "terminalCondition" in body else []) + body.get("conditions", [])
    shown = []
    for item in found:
        one = {
            "type": item["type"],
            "status": STATUS.get(item["state"], "Unknown"),
            "lastTransitionTime": item["lastTransitionTime"],
        }
        reason = item.get("revisionReason") or item.get("reason") or item.get("executionReason")
        if reason:
            one["reason"] = REASONS.get(reason, reason)
        if item.get("message"):
            one["message"] = item["message"]
        shown.append(one)
    return shown


def traffic_v1(targets: list[Json], service: Json | None) -> list[Json]:
    """Traffic targets; of a status also the revision that stands for the latest."""
    shown = []
    for target in targets:
        one: Json = {}
        if target.get("revision"):
            one["revisionName"] = target["revision"]
        else:
            one["latestRevision"] = True
            if service is not None:
                one["revisionName"] = service.get("latestReadyRevision", "").rpartition("/")[2]
        if target.get("percent"):
            one["percent"] = target["percent"]
        if target.get("tag"):
            one["tag"] = target["tag"]
        if target.get("uri"):
            one["url"] = target["uri"]
        shown.append(one)
    return shown


def template_v1(template: Json) -> Json:
    """Return a revision template (or a revision) in v1's shape."""
    scaling = template.get("scaling", {})
    container = template["containers"][0]
    annotations = {"autoscaling.knative.dev/maxScale": str(scaling.get("maxInstanceCount", 100))}
    if scaling.get("minInstanceCount"):
        annotations["autoscaling.knative.dev/minScale"] = str(scaling["minInstanceCount"])
    if container["resources"].get("startupCpuBoost"):
        annotations["run.googleapis.com/startup-cpu-boost"] = "true"
    if not container["resources"].get("cpuIdle"):
        annotations["run.googleapis.com/cpu-throttling"] = "false"
    if template.get("sessionAffinity"):
        annotations["run.googleapis.com/sessionAffinity"] = "true"
    annotations |= workload_annotations(template) | client_annotations(template) | template.get("annotations", {})
    metadata: Json = {"annotations": annotations}
    if template.get("labels"):
        metadata["labels"] = template["labels"]
    if template.get("revision"):
        metadata["name"] = template["revision"]
    spec: Json = {
        "containerConcurrency": template["maxInstanceRequestConcurrency"],
        "timeoutSeconds": int(float(template["timeout"].removesuffix("s"))),
        "serviceAccountName": template["serviceAccount"],
        "containers": containers_v1(template),
    }
    if volumes := volumes_v1(template):
        spec["volumes"] = volumes
    return {"metadata": metadata, "spec": spec}


def task_metadata_v1(outer: Json, task: Json) -> Json:
    """Return the metadata of an execution template; in v1 it has what v2 has in the task's template."""
    notes = workload_annotations(task) | client_annotations(outer) | outer.get("annotations", {})
    return {"annotations": notes, **({"labels": outer["labels"]} if outer.get("labels") else {})}


def client_annotations(body: Json) -> Json:
    """Return the annotations for the client that wrote a resource last."""
    fields = {"client-name": "client", "client-version": "clientVersion"}
    return {f"run.googleapis.com/{name}": body[field] for name, field in fields.items() if body.get(field)}


def stage_annotation(body: Json) -> Json:
    """Return the annotation for the launch stage, which GA does without."""
    stage = body.get("launchStage", "GA")
    return {} if stage == "GA" else {"run.googleapis.com/launch-stage": stage}


def scaling_annotations(scaling: Json) -> Json:
    """Return the annotations for a service's own scaling."""
    fields = {
        "minScale": "minInstanceCount",
        "maxScale": "maxInstanceCount",
        "manualInstanceCount": "manualInstanceCount",
    }
    found = {f"run.googleapis.com/{name}": str(scaling[field]) for name, field in fields.items() if field in scaling}
    if mode := SCALING.get(scaling.get("scalingMode", "")):
        found["run.googleapis.com/scalingMode"] = mode
    return found


def workload_annotations(template: Json) -> Json:
    """Return the annotations that revisions and executions have for what v2 has as fields of their template."""
    found = {
        "run.googleapis.com/execution-environment": ENVIRONMENT.get(template["executionEnvironment"], "gen2"),
        **cloudsql_annotation(template),
    }
    if template.get("encryptionKey"):
        found["run.googleapis.com/encryption-key"] = template["encryptionKey"]
    network = template.get("vpcAccess", {})
    if network.get("connector"):
        found["run.googleapis.com/vpc-access-connector"] = network["connector"]
    if egress := EGRESS.get(network.get("egress", "")):
        found["run.googleapis.com/vpc-access-egress"] = egress
    if network.get("networkInterfaces"):
        interfaces = json.dumps(network["networkInterfaces"], separators=(",", ":"))
        found["run.googleapis.com/network-interfaces"] = interfaces
    return found


def cloudsql_annotation(template: Json) -> Json:
    """v1 has no Cloud SQL volume: the connections are an annotation."""
    connections = [
        connection
        for volume in template.get("volumes", [])
        for connection in volume.get("cloudSqlInstance", {}).get("instances", [])
    ]
    return {"run.googleapis.com/cloudsql-instances": ",".join(connections)} if connections else {}


def containers_v1(template: Json) -> list[Json]:
    """Return all containers of a template."""
    hidden = {volume["name"] for volume in template.get("volumes", []) if "cloudSqlInstance" in volume}
    return [container_v1(item, hidden) for item in template["containers"]]


def container_v1(container: Json, hidden: set[str]) -> Json:
    """Return a container, without the mounts of the volumes that v1 does not show."""
    keys = ("name", "image", "command", "args", "workingDir", "ports", "startupProbe", "livenessProbe")
    shown = {key: container[key] for key in keys if key in container}
    if mounts := [mount for mount in container.get("volumeMounts", []) if mount["name"] not in hidden]:
        shown["volumeMounts"] = mounts
    shown["resources"] = {"limits": container["resources"]["limits"]}
    if container.get("env"):
        shown["env"] = [env_v1(item) for item in container["env"]]
    return shown


def env_v1(item: Json) -> Json:
    """Return a variable; a secret's id is the name and its version the key."""
    reference = item.get("valueSource", {}).get("secretKeyRef")
    if reference is None:
        return {"name": item["name"], "value": item.get("value", "")}
    key = {"name": reference["secret"].rpartition("/")[2], "key": reference.get("version", "latest")}
    return {"name": item["name"], "valueFrom": {"secretKeyRef": key}}


def volumes_v1(template: Json) -> list[Json]:
    """Volumes other than Cloud SQL's."""
    shown = []
    for volume in template.get("volumes", []):
        if "secret" in volume:
            items = [{"key": item.get("version", "latest"), "path": item["path"]} for item in volume["secret"]["items"]]
            secret = {"secretName": volume["secret"]["secret"].rpartition("/")[2], "items": items}
            shown.append({"name": volume["name"], "secret": secret})
        elif "emptyDir" in volume:
            shown.append({"name": volume["name"], "emptyDir": volume["emptyDir"]})
    return shown


def execution_spec_v1(outer: Json, task: Json) -> Json:
    """Return the specification of a job's or an execution's tasks."""
    spec: Json = {"taskCount": outer["taskCount"], "template": {"spec": task_spec_v1(task)}}
    if outer.get("parallelism"):
        spec["parallelism"] = outer["parallelism"]
    return spec


def task_spec_v1(task: Json) -> Json:
    """What a task runs."""
    spec: Json = {
        "containers": containers_v1(task),
        "maxRetries": task["maxRetries"],
        "timeoutSeconds": task["timeout"].removesuffix("s"),
        "serviceAccountName": task["serviceAccount"],
    }
    if volumes := volumes_v1(task):
        spec["volumes"] = volumes
    return spec
