# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of App Engine share: its three kinds of resources, and its names of places.

An application has the id of its project; a service comes with its first version.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import every
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Update

BASE = "https://appengine.googleapis.com/v1"
DEFAULT_SERVICE = "default"
# Refusals that pass: an API that was enabled, or an account that was made, a moment ago.
TRANSIENT = (
    r"(?i)unable to retrieve P4SA",
    r"(?i)service account .* (was )?not found",
    r"(?i)service account .* does not exist",
)
# Two regions are called differently here: https://cloud.google.com/appengine/docs/flexible/locations
_LOCATIONS = {"us-central1": "us-central", "europe-west1": "europe-west"}


def location(name):
    """App Engine's name of a region: ``europe-west`` for ``europe-west1``."""
    return _LOCATIONS.get(name, name)


def _status(body):
    """A word for people about an operation that goes on."""
    return (body.get("metadata") or {}).get("ephemeralMessage") or "running"


OPERATION = long_running(BASE, status=_status)


def under_way(remote):
    """The operation that is under way with a resource, or None: its body does not tell."""
    client, query = remote.task.client, {"filter": "done:false"}
    url = f"{BASE}/apps/{remote.names['project']}/operations"
    while True:
        try:
            page = client.get(url, query, permission="appengine.operations.list")
        except _errors.NotFound:
            return None  # no application to have operations
        for operation in page.get("operations") or []:
            if (operation.get("metadata") or {}).get("target") == remote.path and not operation.get("done"):
                return operation
        if not page.get("nextPageToken"):
            return None
        query = dict(query, pageToken=page["nextPageToken"])


APPLICATION = Resource(
    kind="App Engine application",
    base=BASE,
    path="apps/{project}",
    permission="appengine.applications",
    create_path="apps",
    operation=OPERATION,
    under_way=under_way,
    update=Update(depth=2),
    transient=TRANSIENT,
    rules=Rules(
        immutable={
            "locationId": "An application can neither be moved nor deleted: set location to where it is, or use another"
            " project."
        },
        normalise={"locationId": location},
    ),
    # https://cloud.google.com/appengine/docs/flexible/locations
    implies={"create": "a location that cannot be changed"},
)

SERVICE = Resource(
    kind="App Engine service",
    base=BASE,
    path="apps/{project}/services/{name}",
    permission="appengine.services",
    operation=OPERATION,
    transient=TRANSIENT,
    rules=Rules(whole=("split.allocations",)),
)

NEW_VERSION = "A version stays as it was made: deploy another one under another name."


def _instances(text):
    """Cloud SQL instances in any order."""
    return sorted(name.strip() for name in (text or "").split(",") if name.strip())


VERSION = Resource(
    kind="App Engine version",
    base=BASE,
    path="apps/{project}/services/{service}/versions/{name}",
    permission="appengine.versions",
    create_body=lambda names, body: dict({"id": names["name"], "runtime": "custom", "env": "flex"}, **body),
    # Variables and the image are told only in full.
    read_query={"view": "FULL"},
    operation=OPERATION,
    under_way=under_way,
    update=Update(depth=3),
    transient=TRANSIENT,
    rules=Rules(
        immutable=dict.fromkeys(
            (
                "automaticScaling",
                "betaSettings",
                "deployment",
                "envVariables",
                "inboundServices",
                "livenessCheck",
                "network",
                "readinessCheck",
                "resources",
                "serviceAccount",
            ),
            NEW_VERSION,
        ),
        # https://cloud.google.com/appengine/docs/admin-api/reference/rest/v1/apps.services.versions/patch
        mutable=(
            "automaticScaling.minTotalInstances",
            "automaticScaling.maxTotalInstances",
            "automaticScaling.coolDownPeriod",
            "automaticScaling.cpuUtilization.targetUtilization",
        ),
        unordered=("inboundServices", "network.forwardedPorts"),
        whole=("envVariables",),
        untold=("deployment.container.image",),
        normalise={"betaSettings.cloud_sql_instances": _instances},
    ),
    # Virtual machines are created and started: https://cloud.google.com/appengine/docs/the-appengine-environments
    implies={"create": "some minutes until its machines run"},
)


# The environment variable by which a version says whose it is: versions cannot carry labels.
MARK = "MLFLOW_DEPLOYMENT"
# mlflow_env of the roles.
ENVIRONMENTS = ("dev", "staging", "prod")
# https://cloud.google.com/appengine/docs/flexible/quotas, for all services together
MOST_VERSIONS = 210


def marked(body):
    """What labels would say of a version, from the variable that marks it with NAME-ENVIRONMENT of its deployment."""
    mark = (body.get("envVariables") or {}).get(MARK)
    if not mark:
        return {}
    name, _hyphen, environment = mark.rpartition("-")
    labels = {"managed-by": "mlplatform-gcp", "mlflow-deployment": mark}
    if name and environment in ENVIRONMENTS:
        labels.update({"mlflow-deployment": name, "mlflow-env": environment})
    return labels


def look(task, resource, **names):
    """The body of a resource. Errors: those of the client, also in check mode."""
    return task.client.get(task.remote(resource, **names).url, resource.read_query or None)


def survey_application(task):
    """The application with its ``services`` (names) and how many ``versions`` there are."""
    body = look(task, APPLICATION)
    names = [service["id"] for service in every(task, SERVICE, "services", {"name": None})]
    briefly = dataclasses.replace(VERSION, read_query={})
    count = sum(len(every(task, briefly, "versions", {"service": name, "name": None})) for name in names)
    return dict(body, services=names, versions=count)


def survey_service(task, name):
    """The service with the ``labels`` that the versions which get its requests would carry."""
    body = look(task, SERVICE, name=name)
    serving = (body.get("split") or {}).get("allocations") or {}
    versions = every(task, VERSION, "versions", {"service": name, "name": None})
    marks = [marked(version) for version in versions if version.get("id") in serving]
    same = marks and all(mark == marks[0] for mark in marks)
    return dict(body, labels=dict(body.get("labels") or {}, **(marks[0] if same else {})))


def instances(remote):
    """The machines of a version."""
    try:
        page = remote.task.client.get(f"{remote.url}/instances", permission="appengine.instances.list")
    except _errors.NotFound:
        return []
    return page.get("instances") or []


def healthy(instance):
    """Whether an instance answers. One that was never asked counts if it runs."""
    liveness = instance.get("vmLiveness") or "UNKNOWN"
    return liveness == "HEALTHY" or (liveness == "UNKNOWN" and instance.get("vmStatus") == "RUNNING")


def states(instances):
    """What instances are, in a few words for people; empty for none."""
    words = {f"{item.get('vmStatus') or '?'}/{item.get('vmLiveness') or '?'}" for item in instances}
    return ", ".join(sorted(words))


def allocations(task, service):
    """Version -> share of the service's traffic, without those that get none; empty when there is no such service."""
    body = task.remote(SERVICE, name=service).read() or {}
    shares = (body.get("split") or {}).get("allocations") or {}
    return {version: share for version, share in shares.items() if share}
