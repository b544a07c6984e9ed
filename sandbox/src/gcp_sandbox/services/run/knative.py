# SPDX-License-Identifier: Apache-2.0
"""Cloud Run Admin API v1 (Knative's shapes): what `gcloud run` lists and describes, and services as it deploys them.

The resources are those of v2, shown in the older form. Writing anything but services answers 501.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.service import Service, method
from gcp_sandbox.services.run import from_knative, names, resources
from gcp_sandbox.services.run.common import Common
from gcp_sandbox.services.run.jobs import EXECUTION_KIND, JOB_KIND, TASK_KIND
from gcp_sandbox.services.run.names import Name
from gcp_sandbox.services.run.runtime import REVISION_KIND, SERVICE_KIND

if TYPE_CHECKING:
    from collections.abc import Callable

    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

SERVING, RUN = "serving.knative.dev/v1", "run.googleapis.com/v1"
STATUS = {resources.SUCCEEDED: "True", resources.FAILED: "False"}
INGRESS = {value: key for key, value in from_knative.INGRESS.items()}
ENVIRONMENT = {value: key for key, value in from_knative.ENVIRONMENT.items()}
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


class Knative(Common, Service):
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
        _refuse_dry_run(call)
        region, short = self._region(call), call.body.get("metadata", {}).get("name", "")
        if region is None:
            raise errors.invalid("Services are created at the address of a region: https://REGION-run.googleapis.com.")
        names.check_id("metadata.name", short)
        name = f"projects/{call.project(_project_id(call)).id}/locations/{region}/services/{short}"
        self._create_service(call, name, from_knative.service(call.body))
        return self.service_v1(self.load(SERVICE_KIND, name))

    @method("namespaces.services.replaceService", permission="run.services.update", on=lambda call: _project(call))
    def knative_replace(self, call: Call) -> Json:
        existing = self._one(call, SERVICE_KIND)
        given = call.body.get("metadata", {}).get("resourceVersion")
        if given and given != resource_version(existing):
            raise errors.aborted(
                f"Conflict for resource '{Name.parse(existing['name']).id}': version '{given}' was specified but "
                f"current version is '{resource_version(existing)}'."
            )
        _refuse_dry_run(call)
        self._change_service(call, existing, from_knative.service(call.body))
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

    def _region(self, call: Call) -> str | None:
        """Return the region that the host or the name gives."""
        located = re.search(r"/locations/([^/]+)", call.path)
        regional = REGION.fullmatch(call.host)
        return located[1] if located else regional["region"] if regional else None

    def _rows(self, call: Call, kind: str) -> list[Json]:
        """Return the project's resources, of one region where one is given."""
        project = call.project(_project_id(call))
        region = self._region(call)
        place = f"projects/{project.id}/locations/{region}/" if region and region != "-" else f"projects/{project.id}/"
        return [body for _, body in self.store.list(kind, prefix=place)]

    def _one(self, call: Call, kind: str) -> Json:
        short = next(iter(call.params.values())).rpartition("/")[2]
        found = [body for body in self._rows(call, kind) if body["name"].rpartition("/")[2] == short]
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
        given = {
            "serving.knative.dev/creator": body.get("creator", ""),
            "serving.knative.dev/lastModifier": body.get("lastModifier", body.get("creator", "")),
            **annotations,
            **body.get("annotations", {}),
        }
        return {
            "name": body["name"].rpartition("/")[2],
            "namespace": namespace,
            "selfLink": f"/apis/{SERVING}/namespaces/{namespace}/{name.collection}/{name.id}",
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
        if body.get("client"):
            extra["run.googleapis.com/client-name"] = body["client"]
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
        spec = {"template": {"metadata": {}, "spec": execution_spec_v1(body["template"], body["template"]["template"])}}
        return {"apiVersion": RUN, "kind": "Job", "metadata": self._metadata(body), "spec": spec, "status": status}

    def execution_v1(self, body: Json) -> Json:
        """Return an execution."""
        metadata = self._metadata(body)
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


def _project_id(call: Call) -> str:
    return next(iter(call.params.values())).split("/")[1]


def _project(call: Call) -> str:
    return f"//cloudresourcemanager.googleapis.com/projects/{_project_id(call)}"


def _refuse_dry_run(call: Call) -> None:
    if call.query.get("dryRun"):
        raise errors.unimplemented("dryRun of Cloud Run's v1 API")


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
    annotations["run.googleapis.com/execution-environment"] = ENVIRONMENT.get(template["executionEnvironment"], "gen2")
    annotations |= template.get("annotations", {})
    annotations |= cloudsql_annotation(template)
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
