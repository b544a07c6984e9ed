# SPDX-License-Identifier: Apache-2.0
"""Services and jobs as `gcloud run` writes them (Knative's shapes, v1), in v2's shape. Pure: bodies in, bodies out.

What v2 has a field for is an annotation in v1
(https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services#ObjectMeta). An annotation of Cloud Run's own
that is not known here answers 501, so that nothing is dropped without a word.
"""

from __future__ import annotations

import json
from typing import Any

from gcp_sandbox.gateway import errors

Json = dict[str, Any]

CLOUDSQL = "cloudsql"
INGRESS = {
    "all": "INGRESS_TRAFFIC_ALL",
    "internal": "INGRESS_TRAFFIC_INTERNAL_ONLY",
    "internal-and-cloud-load-balancing": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    "none": "INGRESS_TRAFFIC_NONE",
}
ENVIRONMENT = {"gen1": "EXECUTION_ENVIRONMENT_GEN1", "gen2": "EXECUTION_ENVIRONMENT_GEN2"}
EGRESS = {
    "all": "ALL_TRAFFIC",
    "all-traffic": "ALL_TRAFFIC",
    "private-ranges-only": "PRIVATE_RANGES_ONLY",
}
SCALING = {"automatic": "AUTOMATIC", "manual": "MANUAL"}
OWN = ("run.googleapis.com/", "serving.knative.dev/", "autoscaling.knative.dev/", "cloud.googleapis.com/")
# Annotations of Cloud Run's own, which a client sends back as it has read them.
OUTPUT_ONLY = (
    "run.googleapis.com/creator",
    "run.googleapis.com/ingress-status",
    "run.googleapis.com/lastModifier",
    "run.googleapis.com/operation-id",
    "run.googleapis.com/urls",
    "serving.knative.dev/creator",
    "serving.knative.dev/lastModifier",
)


class Annotations:
    """Annotations of one object, of which Cloud Run's own are taken one by one."""

    def __init__(self, given: Json | None) -> None:
        self._left = {key: value for key, value in (given or {}).items() if key not in OUTPUT_ONLY}

    def take(self, name: str) -> str | None:
        """Return the value of `run.googleapis.com/NAME`, or of NAME if it has a prefix already."""
        return self._left.pop(name if "/" in name else f"run.googleapis.com/{name}", None)

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and value.lower() not in ("true", "false"):
            raise errors.invalid(f"Invalid value for annotation run.googleapis.com/{name}: '{value}'.")
        return None if value is None else value.lower() == "true"

    def number(self, name: str) -> int | None:
        value = self.take(name)
        if value is not None and not value.isdigit():
            raise errors.invalid(f"Invalid value for annotation {name}: '{value}'.")
        return None if value is None else int(value)

    def choice(self, name: str, choices: dict[str, str]) -> str | None:
        value = self.take(name)
        if value is not None and value not in choices:
            raise errors.invalid(
                f"Invalid value for annotation run.googleapis.com/{name}: '{value}'. Expected one of: "
                f"{', '.join(choices)}."
            )
        return None if value is None else choices[value]

    def rest(self) -> Json | None:
        """Return the user's own keys. ApiError 501 for keys of Cloud Run that were not used."""
        for key in self._left:
            if key.startswith(OWN):
                raise errors.unimplemented(f"the annotation {key} of Cloud Run's v1 API")
        return self._left or None


def service(body: Json) -> Json:
    """Return a Knative service as the body of a v2 service."""
    metadata, spec = body.get("metadata", {}), body.get("spec", {})
    notes = Annotations(metadata.get("annotations"))
    return _given(
        client=notes.take("client-name"),
        clientVersion=notes.take("client-version"),
        description=notes.take("description"),
        launchStage=notes.take("launch-stage"),
        ingress=notes.choice("ingress", INGRESS),
        iapEnabled=notes.flag("iap-enabled"),
        invokerIamDisabled=notes.flag("invoker-iam-disabled"),
        defaultUriDisabled=notes.flag("default-url-disabled"),
        scaling=_given(
            minInstanceCount=notes.number("run.googleapis.com/minScale"),
            maxInstanceCount=notes.number("run.googleapis.com/maxScale"),
            scalingMode=notes.choice("scalingMode", SCALING),
            manualInstanceCount=notes.number("run.googleapis.com/manualInstanceCount"),
        )
        or None,
        annotations=notes.rest(),
        labels=_labels(metadata),
        template=template(spec.get("template", {})),
        traffic=[_target(item) for item in spec.get("traffic") or []] or None,
    )


def template(body: Json) -> Json:
    """Return a Knative revision template as one of v2."""
    metadata, spec = body.get("metadata", {}), body.get("spec", {})
    notes = Annotations(metadata.get("annotations"))
    cpu = {
        "cpuIdle": notes.flag("cpu-throttling") is not False,
        **_given(startupCpuBoost=notes.flag("startup-cpu-boost")),
    }
    scaling = _given(
        minInstanceCount=notes.number("autoscaling.knative.dev/minScale"),
        maxInstanceCount=notes.number("autoscaling.knative.dev/maxScale"),
    )
    workload = _workload(spec, notes, cpu)
    return _given(
        revision=metadata.get("name") or None,
        client=notes.take("client-name"),
        clientVersion=notes.take("client-version"),
        sessionAffinity=notes.flag("sessionAffinity"),
        annotations=notes.rest(),
        labels=_labels(metadata),
        scaling=scaling or None,
        maxInstanceRequestConcurrency=spec.get("containerConcurrency"),
        **workload,
    )


def job(body: Json) -> Json:
    """Return a v1 job as the body of a v2 job. The annotations of its execution template are about its tasks."""
    metadata, execution = body.get("metadata", {}), body.get("spec", {}).get("template", {})
    notes = Annotations(metadata.get("annotations"))
    inner = Annotations(execution.get("metadata", {}).get("annotations"))
    spec = execution.get("spec", {})
    task = spec.get("template", {}).get("spec", {})
    workload = _workload(task, inner, None)
    return _given(
        client=notes.take("client-name"),
        clientVersion=notes.take("client-version"),
        launchStage=notes.take("launch-stage"),
        annotations=notes.rest(),
        labels=_labels(metadata),
        template=_given(
            client=inner.take("client-name"),
            clientVersion=inner.take("client-version"),
            annotations=inner.rest(),
            labels=_labels(execution.get("metadata", {})),
            parallelism=spec.get("parallelism") or None,
            taskCount=spec.get("taskCount"),
            template={**workload, **_given(maxRetries=task.get("maxRetries"))},
        ),
    )


def overrides(body: Json) -> Json:
    """Return the overrides of a v1 execution as v2's."""
    if body.get("delayExecution"):
        raise errors.unimplemented("delayExecution of Cloud Run jobs")
    seconds = body.get("timeoutSeconds")
    return _given(
        containerOverrides=[
            {**item, **_given(env=[_variable(one) for one in item.get("env") or []] or None)}
            for item in body.get("containerOverrides") or []
        ]
        or None,
        taskCount=body.get("taskCount"),
        timeout=None if seconds is None else f"{seconds}s",
    )


def _workload(spec: Json, notes: Annotations, cpu: Json | None) -> Json:
    """Return what revisions and tasks have in common: containers, volumes, account, network.

    :param cpu: resources of each container that v1 has as annotations; None for tasks, which have none.
    """
    connections = notes.take("cloudsql-instances")
    volumes = [_volume(item) for item in spec.get("volumes") or []]
    if connections:
        volumes.append({"name": CLOUDSQL, "cloudSqlInstance": {"instances": connections.split(",")}})
    if spec.get("nodeSelector"):
        raise errors.unimplemented("node selectors of Cloud Run")
    timeout = spec.get("timeoutSeconds")
    return _given(
        executionEnvironment=notes.choice("execution-environment", ENVIRONMENT),
        encryptionKey=notes.take("encryption-key"),
        timeout=None if timeout is None else f"{timeout}s",
        serviceAccount=spec.get("serviceAccountName") or None,
        containers=[_container(item, cpu, bool(connections)) for item in spec.get("containers") or []],
        volumes=volumes or None,
        vpcAccess=_vpc_access(notes),
    )


def _vpc_access(notes: Annotations) -> Json | None:
    interfaces = notes.take("network-interfaces")
    try:
        parsed = None if interfaces is None else json.loads(interfaces)
    except ValueError:
        raise errors.invalid(
            f"Invalid value for annotation run.googleapis.com/network-interfaces: '{interfaces}'."
        ) from None
    return (
        _given(
            connector=notes.take("vpc-access-connector"),
            egress=notes.choice("vpc-access-egress", EGRESS),
            networkInterfaces=parsed,
        )
        or None
    )


def _given(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _labels(metadata: Json) -> Json | None:
    return {key: value for key, value in (metadata.get("labels") or {}).items() if not key.startswith(OWN)} or None


def _container(body: Json, cpu: Json | None, connected: bool) -> Json:
    keys = ("name", "image", "command", "args", "workingDir", "ports", "startupProbe", "livenessProbe")
    mounts = body.get("volumeMounts") or []
    if connected:
        mounts = [*mounts, {"name": CLOUDSQL, "mountPath": "/cloudsql"}]
    limits = (body.get("resources") or {}).get("limits")
    return {
        **{key: body[key] for key in keys if body.get(key)},
        **_given(
            env=[_variable(item) for item in body.get("env") or []] or None,
            volumeMounts=mounts or None,
            resources={**(cpu or {}), **_given(limits=limits or None)} or None,
        ),
    }


def _variable(item: Json) -> Json:
    """Return an environment variable; of a secret the name is its id, or the number and id of another project's."""
    reference = (item.get("valueFrom") or {}).get("secretKeyRef")
    if reference is None:
        return {"name": item.get("name", ""), "value": item.get("value", "")}
    source = {"secret": reference.get("name", ""), "version": reference.get("key", "")}
    return {"name": item.get("name", ""), "valueSource": {"secretKeyRef": source}}


def _volume(body: Json) -> Json:
    name = body.get("name", "")
    if "secret" in body:
        secret = body["secret"]
        items = [{"path": item.get("path", ""), "version": item.get("key", "")} for item in secret.get("items") or []]
        return {"name": name, "secret": _given(secret=secret.get("secretName"), items=items or None)}
    if "emptyDir" in body:
        return {"name": name, "emptyDir": body["emptyDir"]}
    raise errors.unimplemented(f"Cloud Run volumes of type {next((key for key in body if key != 'name'), 'none')}")


def _target(body: Json) -> Json:
    revision = body.get("revisionName") if not body.get("latestRevision") else None
    kind = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION" if revision else "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    return _given(type=kind, revision=revision, percent=body.get("percent"), tag=body.get("tag") or None)
