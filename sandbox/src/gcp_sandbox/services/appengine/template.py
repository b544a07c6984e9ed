# SPDX-License-Identifier: Apache-2.0
"""Bodies of versions: what a user may set, what App Engine adds, and what follows for the instances. Pure.

Limits and defaults: cloud.google.com/appengine/docs/flexible/reference/app-yaml.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from gcp_sandbox.backends.pools import Limits, Probe
from gcp_sandbox.backends.processes import Volume
from gcp_sandbox.gateway import errors, masks
from gcp_sandbox.services.appengine.base import not_served

Json = dict[str, Any]

# Only with view=FULL (the documentation of each field).
FULL_ONLY = (
    "apiConfig",
    "buildEnvVariables",
    "defaultExpiration",
    "deployment",
    "envVariables",
    "errorHandlers",
    "handlers",
    "libraries",
    "nobuildFilesRegex",
)
OUTPUT_ONLY = ("name", "createTime", "createdBy", "diskUsageBytes", "versionUrl")

# `versions.patch` of the flexible environment: field -> the scaling that it is a part of ("" for none).
PATCHABLE = {
    "servingStatus": "",
    "automaticScaling.minTotalInstances": "automaticScaling",
    "automaticScaling.maxTotalInstances": "automaticScaling",
    "automaticScaling.coolDownPeriod": "automaticScaling",
    "automaticScaling.cpuUtilization.targetUtilization": "automaticScaling",
    "manualScaling.instances": "manualScaling",
}
SCALINGS = ("automaticScaling", "manualScaling", "basicScaling")

# Fields of the checks: (default, least, most); seconds where the API has a duration.
READINESS = {
    "failureThreshold": (2, 1, 10),
    "successThreshold": (2, 1, 10),
    "checkInterval": ("5s", 1, 300),
    "timeout": ("4s", 1, 300),
    "appStartTimeout": ("300s", 1, 1800),
}
LIVENESS = {
    "failureThreshold": (4, 1, 10),
    "successThreshold": (2, 1, 10),
    "checkInterval": ("30s", 1, 300),
    "timeout": ("4s", 1, 300),
    "initialDelay": ("300s", 0, 3600),
}

MIN_INSTANCES, MAX_INSTANCES = 2, 20
CPU, MEMORY_GB = 1.0, 0.6
# A version has to share its machine's memory with about this much of App Engine's own.
OVERHEAD_GB = 0.4
MEMORY_OF_CPU = (1.0, 6.5)

# The flexible environment scales by CPU, which processes of one machine do not show; here it is requests at a time.
CONCURRENCY = 80

# What App Engine sets itself (cloud.google.com/appengine/docs/flexible/python/runtime).
RESERVED_ENV = (
    "GAE_INSTANCE",
    "GAE_MEMORY_MB",
    "GAE_SERVICE",
    "GAE_VERSION",
    "GOOGLE_CLOUD_PROJECT",
    "PORT",
)

CONNECTION = re.compile(r"([a-z0-9.-]+:)?[a-z][-a-z0-9]+:[a-z][-a-z0-9]+:[a-z][-a-z0-9]+")


def seconds(duration: str) -> float:
    """Return a google-duration ("300s") in seconds."""
    return float(duration.removesuffix("s"))


def complete(asked: Json) -> Json:
    """Return a flexible version's own fields, checked and with defaults.

    :raises ApiError: 501 for what the sandbox does not run: the standard environment, source code to build. 400 for
        what App Engine refuses.
    """
    body = {key: value for key, value in copy.deepcopy(asked).items() if key not in OUTPUT_ONLY and value != ""}
    if body.get("env", "standard") not in ("flex", "flexible"):
        raise not_served("the standard environment (a version without env: flexible)")
    body["env"] = "flexible"
    if not body.get("runtime"):
        raise errors.invalid("The field 'version.runtime' must be set.")
    image = body.get("deployment", {}).get("container", {}).get("image", "")
    if not image:
        raise not_served("a deployment without deployment.container.image (build the image first)")
    if not re.search(r"[:@][^/]+$", image):
        raise errors.invalid(f"The image URI '{image}' must be fully qualified and include a tag or digest.")
    if body.get("healthCheck"):
        raise errors.invalid(
            "Legacy health checks are no longer supported for the App Engine Flexible environment. Please remove the "
            "'health_check' section and use 'liveness_check' and 'readiness_check' instead."
        )
    body["servingStatus"] = body.get("servingStatus") or "SERVING"
    body["readinessCheck"] = _check(body.get("readinessCheck", {}), READINESS, "readiness_check")
    body["livenessCheck"] = _check(body.get("livenessCheck", {}), LIVENESS, "liveness_check")
    _check_scaling(body)
    _check_resources(body.get("resources", {}))
    reserved = sorted(set(body.get("envVariables", {})) & set(RESERVED_ENV))
    if reserved:
        raise errors.invalid(f"env_variables: App Engine sets these itself: {', '.join(reserved)}.")
    sql_connections(body)
    return body


def patched(existing: Json, body: Json, mask: str) -> Json:
    """Return the version after a patch; ApiError 400 for a field that cannot be changed in the flexible environment."""
    paths = [".".join(path) for path in masks.mask_paths(mask)]
    if not paths:
        raise errors.invalid("The update mask must name at least one field.")
    scaling = next((name for name in SCALINGS if name in existing), "automaticScaling")
    for path in paths:
        fields = [name for name in PATCHABLE if name == path or name.startswith(f"{path}.")]
        if not fields:
            raise errors.invalid(
                f"The field '{path}' of a version in the flexible environment cannot be updated. These can be: "
                f"{', '.join(PATCHABLE)}."
            )
        if PATCHABLE[fields[0]] not in ("", scaling):
            raise errors.invalid(f"The field '{path}' cannot be updated: the version has {scaling}.")
    merged = masks.merge_mask(existing, body, ",".join(paths))
    if merged.get("servingStatus") not in ("SERVING", "STOPPED"):
        raise errors.invalid("serving_status must be SERVING or STOPPED.")
    _check_scaling(merged)
    return merged


def in_view(body: Json, view: str | None) -> Json:
    """What a view shows: everything for FULL."""
    return body if view == "FULL" else {key: value for key, value in body.items() if key not in FULL_ONLY}


def sql_connections(body: Json) -> list[str]:
    """Return the Cloud SQL instances that the version's betaSettings ask for, by connection name.

    :raises ApiError: 400 for what is no connection name; 501 for one by TCP.
    """
    text = body.get("betaSettings", {}).get("cloud_sql_instances", "")
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, port = item.partition("=")
        if port:
            raise not_served("Cloud SQL connections by TCP (cloud_sql_instances: NAME=tcp:PORT)")
        if not CONNECTION.fullmatch(name):
            raise errors.invalid(
                f"beta_settings.cloud_sql_instances: '{name}' is not a connection name (PROJECT:REGION:INSTANCE)."
            )
        found.append(name)
    return found


def volumes(body: Json) -> list[Volume]:
    """What the container sees at /cloudsql."""
    connections = sql_connections(body)
    return [Volume("/cloudsql", sql=tuple(connections))] if connections else []


def memory_mb(body: Json) -> int:
    """Memory that the application may use."""
    return round(body.get("resources", {}).get("memoryGb", MEMORY_GB) * 1024)


def limits(body: Json) -> Limits:
    """Return how many instances there may be; none of a version that is stopped."""
    if body["servingStatus"] == "STOPPED":
        return Limits(CONCURRENCY, 0, 0)
    if manual := body.get("manualScaling"):
        return Limits(CONCURRENCY, manual["instances"], manual["instances"])
    scaling = body.get("automaticScaling", {})
    least = scaling.get("minTotalInstances", MIN_INSTANCES)
    most = max(least, scaling.get("maxTotalInstances", MAX_INSTANCES))
    return Limits(scaling.get("maxConcurrentRequests", CONCURRENCY), least, most)


def readiness(body: Json) -> Probe:
    """Return the check that decides about requests.

    Without a path App Engine asks its own proxy and not the application; here it passes as soon as the port is open.
    """
    return _probe(body["readinessCheck"], 0)


def start_timeout(body: Json) -> float:
    """Seconds that an instance may take until its readiness check passes."""
    return seconds(body["readinessCheck"]["appStartTimeout"])


def liveness(body: Json) -> Probe:
    """Return the check that decides about a restart."""
    check = body["livenessCheck"]
    return _probe(check, seconds(check["initialDelay"]))


def _probe(check: Json, delay: float) -> Probe:
    return Probe(
        path=check.get("path"),
        headers={"Host": check["host"]} if check.get("host") else {},
        initial_delay=delay,
        period=seconds(check["checkInterval"]),
        timeout=seconds(check["timeout"]),
        failures=check["failureThreshold"],
        successes=check["successThreshold"],
    )


def _check(given: Json, fields: dict[str, tuple[Any, int, int]], at: str) -> Json:
    check = {**given}
    if "path" in check and not check["path"].startswith("/"):
        raise errors.invalid(f"{at}.path: '{check['path']}' must begin with '/'.")
    for name, (default, least, most) in fields.items():
        value = check.setdefault(name, default)
        number = seconds(value) if isinstance(value, str) else value
        if not least <= number <= most:
            raise errors.invalid(f"{at}: {name} must be between {least} and {most}, and is {value}.")
    return check


def _check_scaling(body: Json) -> None:
    named = [name for name in SCALINGS if name in body]
    if len(named) > 1:
        raise errors.invalid(f"A version has one kind of scaling; these are given: {', '.join(named)}.")
    if "basicScaling" in body:
        raise errors.invalid("Basic scaling is not available in the flexible environment.")
    if "manualScaling" in body and body["manualScaling"].get("instances", 0) < 1:
        raise errors.invalid("manual_scaling.instances must be at least 1.")
    scaling = body.get("automaticScaling", {})
    least = scaling.get("minTotalInstances", MIN_INSTANCES)
    most = scaling.get("maxTotalInstances", max(MAX_INSTANCES, least))
    if least < 1 or most < least:
        raise errors.invalid(
            "automatic_scaling: min_num_instances must be at least 1 and no more than max_num_instances; they are "
            f"{least} and {most}."
        )
    target = scaling.get("cpuUtilization", {}).get("targetUtilization", 0.5)
    if not 0 < target <= 1:
        raise errors.invalid(
            f"automatic_scaling.cpu_utilization.target_utilization must be in (0, 1], and is {target}."
        )
    if seconds(scaling.get("coolDownPeriod", "120s")) < 60:
        raise errors.invalid("automatic_scaling.cool_down_period_sec must be at least 60.")


def _check_resources(resources: Json) -> None:
    cpu, memory = resources.get("cpu", CPU), resources.get("memoryGb", MEMORY_GB)
    allowed = cpu == 1 or (cpu in range(2, 33, 2)) or (cpu in range(36, 81, 4))
    if not allowed:
        raise errors.invalid(
            f"resources.cpu: {cpu:g} is not available; it is 1, an even number from 2 to 32, or a multiple of 4 up to "
            "80."
        )
    least, most = (round(cpu * share - OVERHEAD_GB, 2) for share in MEMORY_OF_CPU)
    if not least <= memory <= most:
        raise errors.invalid(
            f"resources.memory_gb: for {cpu:g} CPU it must be between {least:g} and {most:g}, and is {memory:g}."
        )
    disk = resources.get("diskGb", 10)
    if not 10 <= disk <= 10240:
        raise errors.invalid(f"resources.disk_size_gb: it must be between 10 and 10240, and is {disk:g}.")
