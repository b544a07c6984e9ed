# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""App Engine: the application, its services and their versions.

An application has the id of its project; a service comes with its first version.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import Kind, inside
from ansible_collections.mlplatform.gcp.plugins.module_utils._info import every
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Labels, Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Resource, Update

BASE = "https://appengine.googleapis.com/v1"
DEFAULT_SERVICE = "default"
# The environment variable that marks a version's owner: versions cannot carry labels.
MARK = "MLFLOW_DEPLOYMENT"
# https://cloud.google.com/appengine/docs/flexible/quotas, for all services together
MOST_VERSIONS = 210
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
    """Return the status text of an operation in progress."""
    return (body.get("metadata") or {}).get("ephemeralMessage") or "running"


OPERATION = long_running(BASE, status=_status)


def under_way(remote):
    """Return the operation in progress of a resource, or None. The body of the resource does not name it."""
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


def _allocations(body):
    """Return version -> share of a service's requests."""
    return (body.get("split") or {}).get("allocations") or {}


def _versions(remote, body):
    """Return the versions of a service, read once each time it was read: its owner and its facts need them."""
    if getattr(remote, "versions", (None,))[0] is not body:
        remote.versions = body, every(remote.task, KINDS["app_engine_version"], service=remote.id, name=None)
    return remote.versions[1]


def _service_facts(remote, body):
    """Return the shares of the requests, and what the versions are."""
    versions = [
        {
            "id": version["id"],
            "serving_status": version.get("servingStatus"),
            "create_time": version.get("createTime"),
            "deployment": (version.get("envVariables") or {}).get(MARK),
        }
        for version in _versions(remote, body)
    ]
    return {"version_list": versions, "allocations": _allocations(body)}


class ServingVersions(Labels):
    """A service belongs to the owner of the versions that receive its requests, and is marked through them."""

    joined = True

    def read(self, remote, body):
        """Return the service's labels with those that stand for the mark of the versions which receive requests.

        When the service is to be deleted, all of its versions count.
        """
        serving = _allocations(body)
        marks = [
            VERSION.mark.read(remote, version)
            for version in _versions(remote, body)
            if remote.removing or version.get("id") in serving
        ]
        same = marks and all(mark == marks[0] for mark in marks)
        return dict(body.get("labels") or {}, **(marks[0] if same else {}))

    def put(self, desired, owner, new):
        return desired


def _ingress(value):
    """Return None for the default: a service from before the field was set returns none, and accepts all requests."""
    return None if value == "INGRESS_TRAFFIC_ALLOWED_ALL" else value


SERVICE = Resource(
    kind="App Engine service",
    base=BASE,
    path="apps/{project}/services/{name}",
    permission="appengine.services",
    operation=OPERATION,
    mark=ServingVersions(),
    transient=TRANSIENT,
    rules=Rules(whole=("split.allocations",), normalise={"networkSettings.ingressTrafficAllowed": _ingress}),
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
    # Only the full view has variables and the image.
    read_query={"view": "FULL"},
    operation=OPERATION,
    under_way=under_way,
    update=Update(depth=3),
    transient=TRANSIENT,
    mark=Variable(MARK),
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
        may_omit=("deployment.container.image",),
        normalise={"betaSettings.cloud_sql_instances": _instances},
    ),
    # Virtual machines are created and started: https://cloud.google.com/appengine/docs/the-appengine-environments
    implies={"create": "some minutes until its machines run"},
)


def _application_facts(remote, body):
    """Return the names of the services and how many versions they have together."""
    kinds, task = KINDS, remote.task
    names = [service["id"] for service in every(task, kinds["app_engine_service"], name=None)]
    briefly = dataclasses.replace(kinds["app_engine_version"], resource=dataclasses.replace(VERSION, read_query={}))
    count = sum(len(every(task, briefly, service=name, name=None)) for name in names)
    enabled = bool((body.get("iap") or {}).get("enabled"))
    return {
        "services": names,
        "versions": count,
        "iap_enabled": enabled,
        "hostname": body.get("defaultHostname"),
        "dispatch_rules": body.get("dispatchRules") or [],
    }


def _version_names(project, name, location):
    names = inside("service")(project, name, location)
    return dict(names, service=names["service"] or DEFAULT_SERVICE)


KINDS = {
    "app_engine_application": Kind(
        APPLICATION,
        names=lambda project, name, location: {"project": name},
        location=lambda body: body["locationId"],
        place=location,
        state=lambda body: (body.get("servingStatus"), body.get("servingStatus") == "SYSTEM_DISABLED"),
        facts=_application_facts,
        shared=True,
        moving="use another project, for an application cannot be deleted either",
        create="appengine.applications.create",
        iap="//iap.googleapis.com/projects/{number}/iap_web/appengine-{project}",
    ),
    "app_engine_service": Kind(
        SERVICE,
        items="services",
        facts=_service_facts,
        iap="//iap.googleapis.com/projects/{number}/iap_web/appengine-{project}/services/{name}",
    ),
    "app_engine_version": Kind(
        VERSION,
        items="versions",
        names=_version_names,
        state=lambda body: (body.get("servingStatus"), False),
        related={"instances": lambda remote, body: f"{remote.url}/instances"},
    ),
}
