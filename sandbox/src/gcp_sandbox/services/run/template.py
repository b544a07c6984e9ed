# SPDX-License-Identifier: Apache-2.0
"""Templates of revisions and tasks: checks and defaults. Pure: bodies in, bodies out.

Templates are the JSON of GoogleCloudRunV2RevisionTemplate and GoogleCloudRunV2TaskTemplate, already checked against
the schema.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from gcp_sandbox.backends.pools import Probe
from gcp_sandbox.gateway import errors

Json = dict[str, Any]

# cloud.google.com/run/docs/container-contract#env-vars: set by the platform, refused in a template.
RESERVED_ENV = {
    "services": ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"),
    "jobs": (
        "CLOUD_RUN_JOB",
        "CLOUD_RUN_EXECUTION",
        "CLOUD_RUN_TASK_INDEX",
        "CLOUD_RUN_TASK_ATTEMPT",
        "CLOUD_RUN_TASK_COUNT",
    ),
}
# The v2 discovery document: annotations and labels of these namespaces are not supported.
RESERVED_NAMESPACES = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")

# vCPU -> (least, most) memory in MiB (cloud.google.com/run/docs/configuring/services/memory-limits).
MEMORY_OF_CPU = {1: (128, 4096), 2: (128, 8192), 4: (2048, 16384), 6: (4096, 24576), 8: (4096, 32768)}
UNIT = {"": 1 / 2**20, "k": 1000 / 2**20, "M": 1e6 / 2**20, "G": 1e9 / 2**20, "Ki": 1 / 1024, "Mi": 1, "Gi": 1024}

SERVICE_TIMEOUT = 3600
TASK_TIMEOUT = 168 * 3600
STARTUP_WINDOW = 240


def cpu(text: str) -> float:
    """vCPUs from "1", "1000m" or "0.5"."""
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        raise errors.invalid(f"Invalid value specified for cpu: {text!r}.") from None


def memory(text: str) -> float:
    """MiB from "512Mi", "2Gi", "1G"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(k|M|G|Ki|Mi|Gi)?", text)
    if found is None:
        raise errors.invalid(f"Invalid value specified for container memory: {text!r}.")
    return float(found[1]) * UNIT[found[2] or ""]


def seconds(text: str) -> float:
    """Seconds from a JSON Duration ("300s")."""
    return float(text.removesuffix("s"))


def complete(template: Json, *, kind: str, number: str) -> Json:
    """Return the template with Cloud Run's defaults (seen in recorded traffic where it shows them).

    :param kind: "services" or "jobs".
    :param number: of the project, for its default service account.
    """
    full = copy.deepcopy(template)
    full.setdefault("executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2")
    full.setdefault("serviceAccount", f"{number}-compute@developer.gserviceaccount.com")
    full.setdefault("timeout", "300s" if kind == "services" else "600s")
    for container in full.get("containers", []):
        given = "resources" in container
        resources = container.setdefault("resources", {})
        limits = resources.setdefault("limits", {})
        limits.setdefault("cpu", "1000m")
        limits.setdefault("memory", "512Mi")
        if kind == "services":
            _complete_serving(container, resources, given)
    for volume in full.get("volumes", []):
        secret = volume.get("secret")
        if secret is not None and not secret.get("items"):
            secret["items"] = [{"path": secret.get("secret", "").rpartition("/")[2], "version": "latest"}]
    if kind == "jobs":
        full.setdefault("maxRetries", 3)
        return full
    if not full.get("maxInstanceRequestConcurrency"):
        small = any(cpu(item["resources"]["limits"]["cpu"]) < 1 for item in full.get("containers", []))
        full["maxInstanceRequestConcurrency"] = 1 if small else 80
    scaling = full.setdefault("scaling", {})
    if not scaling.get("maxInstanceCount"):
        scaling["maxInstanceCount"] = max(100, scaling.get("minInstanceCount", 0))
    return full


def _complete_serving(container: Json, resources: Json, given: bool) -> None:
    if not given:
        resources["cpuIdle"] = True
    ports = container.setdefault("ports", [{}])
    for port in ports:
        port.setdefault("name", "http1")
        port.setdefault("containerPort", 8080)
    number = ports[0]["containerPort"] if ports else 8080
    if container.get("startupProbe"):
        _complete_probe(container["startupProbe"], number)
    else:
        container["startupProbe"] = {
            "timeoutSeconds": STARTUP_WINDOW,
            "periodSeconds": STARTUP_WINDOW,
            "failureThreshold": 1,
            "tcpSocket": {"port": number},
        }
    if container.get("livenessProbe"):
        _complete_probe(container["livenessProbe"], number)


def _complete_probe(probe: Json, port: int) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("failureThreshold", 3)
    if not any(action in probe for action in ("httpGet", "tcpSocket", "grpc")):
        probe["tcpSocket"] = {}
    for action in ("httpGet", "tcpSocket", "grpc"):
        if action in probe:
            probe[action].setdefault("port", port)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("path", "/")


def check(template: Json, *, kind: str, at: str) -> None:
    """ApiError 400 for a completed template that Cloud Run refuses; 501 for what the sandbox cannot run.

    :param at: how the template is named in messages, e.g. "CreateServiceRequest.service.template".
    """
    for message in _violations(template, kind, at):
        raise errors.invalid(message)
    if any(port["name"] == "h2c" for item in template["containers"] for port in item.get("ports", [])):
        raise errors.unimplemented("HTTP/2 to containers of Cloud Run (port name h2c)")
    if len(template["containers"]) > 1:
        raise errors.unimplemented("more than one container in a Cloud Run template")
    for volume in template.get("volumes", []):
        for source in ("gcs", "nfs", "filestore"):
            if source in volume:
                raise errors.unimplemented(f"Cloud Run volumes of type {source}")


def check_metadata(body: Json, at: str) -> None:
    """ApiError 400 for annotations or labels in the platform's own namespaces."""
    for kind in ("annotations", "labels"):
        for key in body.get(kind) or {}:
            space = key.partition("/")[0] if "/" in key else ""
            if any(space == reserved or space.endswith(f".{reserved}") for reserved in RESERVED_NAMESPACES):
                raise errors.invalid(
                    f"Violation in {at}.{kind}: key '{key}' is reserved for the system; the v2 API has a field of "
                    "its own "
                    "for what it stands for."
                )


def _violations(template: Json, kind: str, at: str) -> Iterator[str]:
    containers = template.get("containers") or []
    if not containers:
        yield f"Violation in {at}.containers: at least one container is required."
    volumes = {volume.get("name") for volume in template.get("volumes", [])}
    if len(volumes) < len(template.get("volumes", [])):
        yield f"Violation in {at}.volumes: names must be unique."
    for index, container in enumerate(containers):
        yield from _container_violations(container, volumes, kind, f"{at}.containers[{index}]", template)
    for volume in template.get("volumes", []):
        for item in volume.get("secret", {}).get("items", []):
            path = item.get("path", "")
            if {"", ".."} & set(path.split("/")):
                yield f"Violation in {at}.volumes: path '{path}' must be relative and must not contain '..'."
    longest = SERVICE_TIMEOUT if kind == "services" else TASK_TIMEOUT
    if not 0 < seconds(template["timeout"]) <= longest:
        yield f"Violation in {at}.timeout: must be between 1s and {longest}s."
    if kind == "jobs":
        if template["maxRetries"] < 0 or template["maxRetries"] > 10:
            yield f"Violation in {at}.max_retries: must be between 0 and 10."
        return
    if not 1 <= template["maxInstanceRequestConcurrency"] <= 1000:
        yield f"Violation in {at}.max_instance_request_concurrency: must be between 1 and 1000."
    scaling = template["scaling"]
    least, most = scaling.get("minInstanceCount", 0), scaling["maxInstanceCount"]
    if least < 0:
        yield f"Violation in {at}.scaling.min_instance_count: must be greater or equal than 0."
    if most < max(1, least):
        yield (
            f"Violation in {at}.scaling.max_instance_count: must be at least 1 and greater or equal than "
            f"min_instance_count, which is {least}."
        )


def _container_violations(
    container: Json, volumes: set[str | None], kind: str, at: str, template: Json
) -> Iterator[str]:
    if not container.get("image"):
        yield f"Violation in {at}.image: must be set."
    names = [item.get("name", "") for item in container.get("env", [])]
    if not all(names):
        yield f"Violation in {at}.env: name must be set."
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        yield f"Violation in {at}.env: the following names are given more than once: {', '.join(repeated)}."
    reserved = [name for name in names if name in RESERVED_ENV[kind]]
    if reserved:
        yield (
            f"{at}.env: The following reserved env names were provided: {', '.join(reserved)}. "
            "These values are automatically set by the system."
        )
    for item in container.get("env", []):
        if "valueSource" in item and item.get("value"):
            yield f"Violation in {at}.env: {item['name']} has both a value and a value source."
    for mount in container.get("volumeMounts", []):
        if mount.get("name") not in volumes:
            yield f"Violation in {at}.volume_mounts: no volume is named '{mount.get('name', '')}'."
        if not mount.get("mountPath", "").startswith("/"):
            yield f"Violation in {at}.volume_mounts: mount_path must be an absolute path."
    if len(container.get("ports", [])) > 1:
        yield f"Violation in {at}.ports: only one port can be specified."
    yield from _resource_violations(container["resources"], kind, at, template)
    for name in ("startupProbe", "livenessProbe"):
        if probe := container.get(name):
            yield from _probe_violations(probe, name, at)


def _resource_violations(resources: Json, kind: str, at: str, template: Json) -> Iterator[str]:
    cpus, amount = cpu(resources["limits"]["cpu"]), memory(resources["limits"]["memory"])
    bad_cpu = f"{at}.resources.limits.cpu: Invalid value specified for cpu."
    bad_memory = f"{at}.resources.limits.memory: Invalid value specified for container memory."
    if (cpus >= 1 and cpus not in MEMORY_OF_CPU) or cpus < 0.08:
        yield f"{bad_cpu} Expected 1, 2, 4, 6, 8 or a value from 0.08 to 1."
        return
    least, most = memory_of(cpus)
    if not least <= amount <= most:
        limits = f"between {_mib(least)} and {_mib(most)}"
        yield f"{bad_memory} For {cpus:.1f} CPU, memory must be {limits} inclusive."
    if kind == "services":
        always = not resources.get("cpuIdle", False)
        if cpus < 1 and template.get("maxInstanceRequestConcurrency", 1) > 1:
            yield f"{bad_cpu} Total cpu < 1 is not supported with concurrency > 1."
        if cpus < 1 and always:
            yield f"{bad_cpu} Total cpu < 1 is not supported with cpu always allocated."
        if amount < 512 and always:
            yield f"{bad_memory} Total memory < 512 Mi is not supported with cpu always allocated."
    elif amount < 512:
        yield f"{bad_memory} Total memory < 512 Mi is not supported with gen2 execution environment."


def memory_of(cpus: float) -> tuple[int, int]:
    """Least and most memory in MiB for a number of vCPUs."""
    if cpus < 1:
        return (128, 512) if cpus < 0.5 else (128, 1024)
    return MEMORY_OF_CPU[int(cpus)]


def _mib(amount: float) -> str:
    return f"{amount // 1024:.0f}Gi" if amount >= 1024 else f"{amount:.0f}Mi"


def _probe_violations(probe: Json, name: str, at: str) -> Iterator[str]:
    place = f"{at}.{'startup_probe' if name == 'startupProbe' else 'liveness_probe'}"
    actions = [action for action in ("httpGet", "tcpSocket", "grpc") if action in probe]
    if len(actions) != 1:
        yield f"Violation in {place}: exactly one of http_get, tcp_socket or grpc must be specified."
    if name == "livenessProbe" and "tcpSocket" in probe:
        yield f"Violation in {place}.tcp_socket: liveness probes support http_get and grpc only."
    longest = STARTUP_WINDOW if name == "startupProbe" else 3600
    for field, least in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 1),
        ("failureThreshold", 1),
        ("initialDelaySeconds", 0),
    ):
        value = probe.get(field, least)
        snake = re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), field)
        if value < least or (field != "failureThreshold" and value > longest):
            yield f"Violation in {place}.{snake}: must be between {least} and {longest}."
    if probe["timeoutSeconds"] > probe["periodSeconds"]:
        yield f"Violation in {place}: timeout_seconds must be less than or equal to period_seconds."
    if name == "startupProbe" and probe["failureThreshold"] * probe["periodSeconds"] > STARTUP_WINDOW:
        yield f"Violation in {place}: failure_threshold * period_seconds must not exceed {STARTUP_WINDOW} seconds."


def probe(body: Json | None, serving: int) -> Probe | None:
    """Return the probe to run for a completed probe of a container that serves on port `serving`.

    A gRPC probe only connects: no gRPC client is at hand.
    """
    if not body:
        return None
    http = body.get("httpGet")
    action = http or body.get("tcpSocket") or body.get("grpc") or {}
    return Probe(
        path=http["path"] if http else None,
        headers={item["name"]: item.get("value", "") for item in (http or {}).get("httpHeaders", [])},
        port=None if action.get("port") == serving else action.get("port"),
        initial_delay=body.get("initialDelaySeconds", 0),
        period=body["periodSeconds"],
        timeout=body["timeoutSeconds"],
        failures=body["failureThreshold"],
    )
