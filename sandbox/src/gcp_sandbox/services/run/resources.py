# SPDX-License-Identifier: Apache-2.0
"""Bodies of Cloud Run v2 resources: what a user may set, what the server adds, what makes a revision. Pure."""

from __future__ import annotations

import base64
import copy
import random
import uuid
from collections.abc import Iterable
from typing import Any

from gcp_sandbox.gateway import errors, etags, masks, proto3
from gcp_sandbox.services.run import names
from gcp_sandbox.services.run.names import Name

Json = dict[str, Any]

TYPE = "type.googleapis.com/google.cloud.run.v2."

# Fields of the discovery document's GoogleCloudRunV2Service and GoogleCloudRunV2Job that are not marked output only.
SERVICE_FIELDS = (
    "annotations",
    "binaryAuthorization",
    "buildConfig",
    "client",
    "clientVersion",
    "customAudiences",
    "defaultUriDisabled",
    "description",
    "functionalType",
    "iapEnabled",
    "ingress",
    "invokerIamDisabled",
    "labels",
    "launchStage",
    "multiRegionSettings",
    "scaling",
    "sshEnabled",
    "template",
    "traffic",
)
JOB_FIELDS = (
    "annotations",
    "binaryAuthorization",
    "client",
    "clientVersion",
    "functionalType",
    "labels",
    "launchStage",
    "template",
)

# Fields of a revision template that a revision has under the same name.
REVISION_FIELDS = (
    "annotations",
    "client",
    "clientVersion",
    "containers",
    "encryptionKey",
    "encryptionKeyRevocationAction",
    "encryptionKeyShutdownDuration",
    "executionEnvironment",
    "gpuZonalRedundancyDisabled",
    "labels",
    "maxInstanceRequestConcurrency",
    "nodeSelector",
    "scaling",
    "serviceAccount",
    "serviceMesh",
    "sessionAffinity",
    "timeout",
    "volumes",
    "vpcAccess",
)

LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"

PENDING, RECONCILING = "CONDITION_PENDING", "CONDITION_RECONCILING"
SUCCEEDED, FAILED = "CONDITION_SUCCEEDED", "CONDITION_FAILED"

# proto3's JSON leaves out zeros; these are `optional` or members of a oneof in the API's .proto files and are kept.
PRESENCE = {"value", "manualInstanceCount", "maxRetries"}
MAPS = {"labels", "annotations", "limits"}


def without_zeros(body: Any) -> Any:
    """`body` as the API gives it back."""
    return proto3.without_zeros(body, maps=MAPS, presence=PRESENCE)


# Paths that a mask may name without effect: clients send masks made from whole messages.
SERVER_OWNED = {"name", "uid", "generation", "etag", "createTime", "updateTime", "uri", "urls", "conditions"}


def merge(existing: Json, body: Json, mask: str, fields: Iterable[str]) -> Json:
    """Return the user's fields after a patch: those in `mask`, or all of them without one.

    ApiError 400 for a path that is no field of the resource; paths of server-owned fields change nothing.
    """
    allowed = set(fields)
    paths = masks.mask_paths(mask)
    if not paths or paths == [["*"]]:
        return {key: body[key] for key in allowed if key in body}
    for first, *rest in paths:
        if first not in allowed | SERVER_OWNED | existing.keys():
            raise errors.invalid(f"Invalid field mask path: '{'.'.join([first, *rest])}'.")
    mine = {key: existing[key] for key in allowed if key in existing}
    named = ",".join(".".join(path) for path in paths if path[0] in allowed)
    return masks.merge_mask(mine, body, named) if named else mine


def etag(body: Json) -> str:
    """Changes with every write. Quoted, as Cloud Run's are."""
    digest = etags.digest([body["name"], body["generation"], body["updateTime"]])
    return f'"{base64.b64encode(digest[:18]).decode()}"'


def check_etag(given: str | None, body: Json) -> None:
    """ApiError 409 ABORTED when the caller's etag is not the resource's. A mangled quote is still the same etag."""
    if not etags.matches(given, body["etag"]):
        raise errors.aborted(
            f"Conflict for resource '{Name.parse(body['name']).id}': version '{given}' was specified but current "
            "version "
            f"is '{body['etag']}'."
        )


def uid() -> str:
    """Return a UUID4, as the discovery document says."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def condition(kind: str, state: str, now: str, **more: str) -> Json:
    """Return a GoogleCloudRunV2Condition."""
    return {"type": kind, "state": state, "lastTransitionTime": now, **more}


def settle(body: Json, kinds: Iterable[str], state: str, now: str, **more: str) -> None:
    """Set a resource's conditions: the first of `kinds` is its terminal condition, the others go into the list."""
    terminal, *others = kinds
    body["terminalCondition"] = condition(terminal, state, now, **more)
    body["conditions"] = [condition(kind, state, now, **more) for kind in others]
    if state in (PENDING, RECONCILING):
        body["reconciling"] = True
    else:
        body.pop("reconciling", None)
        body["observedGeneration"] = body["generation"]


SERVICE_CONDITIONS = ("Ready", "RoutesReady", "ConfigurationsReady")


def new_service(name: Name, number: str, spec: Json, *, now: str, creator: str) -> Json:
    """Return a service that is about to be deployed for the first time."""
    body = {
        "name": name.parent,
        "uid": uid(),
        "generation": "1",
        "createTime": now,
        "creator": creator,
        **spec,
    }
    touch(body, now=now, modifier=creator)
    address(body, name, number)
    settle(body, SERVICE_CONDITIONS, RECONCILING, now, reason="WAITING_FOR_OPERATION")
    return body


def address(body: Json, name: Name, number: str) -> None:
    """Set `uri` and `urls`; a service with its default address disabled has neither."""
    body.pop("uri", None)
    body.pop("urls", None)
    if not body.get("defaultUriDisabled"):
        deterministic, hashed = names.hosts(name.id, number, name.region)
        body["uri"] = f"https://{hashed}"
        body["urls"] = [f"https://{deterministic}", f"https://{hashed}"]


def touch(body: Json, *, now: str, modifier: str) -> None:
    """Note a write: time, author, etag."""
    body["updateTime"] = now
    body["lastModifier"] = modifier
    body["etag"] = etag(body)


def changed_service(existing: Json, spec: Json, number: str, *, now: str, modifier: str) -> Json:
    """Return the service after a patch with the user fields `spec`. The generation counts changes of the user
    fields.
    """
    body = {key: value for key, value in existing.items() if key not in SERVICE_FIELDS} | spec
    if {key: existing.get(key) for key in SERVICE_FIELDS} != {key: spec.get(key) for key in SERVICE_FIELDS}:
        body["generation"] = str(int(existing["generation"]) + 1)
    touch(body, now=now, modifier=modifier)
    address(body, Name.parse(body["name"]), number)
    settle(body, SERVICE_CONDITIONS, RECONCILING, now, reason="WAITING_FOR_OPERATION")
    return body


def new_revision(service: Json, *, now: str) -> Json:
    """Return the revision of a service's template; its name is the template's, or made from service and generation."""
    parent = Name.parse(service["name"])
    template = service["template"]
    short = template.get("revision") or f"{parent.id}-{int(service['generation']):05d}-{names.suffix(3)}"
    body = {
        "name": f"{service['name']}/revisions/{short}",
        "uid": uid(),
        "generation": "1",
        "createTime": now,
        "updateTime": now,
        "creator": service["lastModifier"],
        "launchStage": service["launchStage"],
        "service": parent.id,
        **{key: copy.deepcopy(template[key]) for key in REVISION_FIELDS if key in template},
        "logUri": log_uri(parent, short),
    }
    body["etag"] = etag(body)
    settle(body, ("Ready", "ContainerHealthy"), PENDING, now)
    revision_conditions(body)
    return body


def revision_conditions(body: Json) -> None:
    """Set the conditions of a revision. It has no terminal condition of its own: "Ready" is the first of its list."""
    body["conditions"] = [body.pop("terminalCondition"), *body["conditions"]]


def log_uri(service: Name, revision: str) -> str:
    """Return where the console would show the revision's log."""
    query = (
        f"resource.type%3D%22cloud_run_revision%22%0Aresource.labels.service_name%3D%22{service.id}%22%0A"
        f"resource.labels.revision_name%3D%22{revision}%22"
    )
    return (
        ""
        ""
        f"https://console.cloud.google.com/logs/viewer?project={service.project}&resource=cloud_run_revision/service_name/"
        f"{service.id}/revision_name/{revision}&advancedFilter={query}"
    )


def same_template(before: Json, after: Json) -> bool:
    """Return whether two templates make the same revision; naming it anew is a change, leaving the name out is none."""
    old = {key: value for key, value in before.items() if key != "revision"}
    new = {key: value for key, value in after.items() if key != "revision"}
    return old == new and after.get("revision") in (None, before.get("revision"))


def of_template(revision: Json, template: Json) -> bool:
    """Return whether a revision has the settings of a template."""
    return all(revision.get(key) == template.get(key) for key in REVISION_FIELDS)


def check_traffic(traffic: list[Json], revisions: Iterable[str]) -> None:
    """ApiError 400 unless the targets add up to 100 and name revisions that exist (short names)."""
    known = set(revisions)
    tags = [target["tag"] for target in traffic if target.get("tag")]
    for tag in tags:
        if not names.TAG.fullmatch(tag) or tags.count(tag) > 1:
            raise errors.invalid(
                f"Violation in traffic: tag '{tag}' must be unique, of lowercase letters, digits and hyphens."
            )
    for target in traffic:
        kind = target.get("type", REVISION if target.get("revision") else LATEST)
        if kind == LATEST and target.get("revision"):
            raise errors.invalid("Violation in traffic: a target of the latest revision must not name a revision.")
        if kind == REVISION and target.get("revision") not in known:
            raise errors.not_found(f"Revision '{target.get('revision', '')}' of the traffic targets was not found.")
        if not 0 <= target.get("percent", 0) <= 100:
            raise errors.invalid("Violation in traffic: percent must be between 0 and 100.")
    total = sum(target.get("percent", 0) for target in traffic)
    if traffic and total != 100:
        raise errors.invalid(f"Traffic percentages must add up to 100, they add up to {total}.")


def targets(service: Json) -> list[tuple[str, int, str]]:
    """Return (revision's short name, percent, tag) of each traffic target; of the latest revision once one is ready."""
    latest = service.get("latestReadyRevision", "").rpartition("/")[2]
    found = []
    for target in service.get("traffic", []):
        revision = target.get("revision") or latest
        if revision:
            found.append((revision, target.get("percent", 0), target.get("tag", "")))
    return found


def traffic_statuses(service: Json, number: str) -> list[Json]:
    """`trafficStatuses` once the traffic of a service is as asked."""
    name = Name.parse(service["name"])
    statuses = []
    for target in service.get("traffic", []):
        status = {key: target[key] for key in ("type", "revision", "percent", "tag") if target.get(key)}
        if target.get("tag") and not service.get("defaultUriDisabled"):
            status["uri"] = f"https://{names.hosts(name.id, number, name.region, target['tag'])[1]}"
        statuses.append(status)
    return statuses


def shown(body: Json, kind: str) -> Json:
    """Return the body as a response or metadata of an operation: with its type."""
    return {"@type": TYPE + kind, **body}
