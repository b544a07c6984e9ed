#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_engine_version
short_description: Manage versions of App Engine services in the flexible environment
version_added: 0.2.0
description:
  - Deploys a container image as a version of a service of App Engine's flexible environment, starts and stops versions,
    changes how many instances they have, and deletes them.
  - Only what the task sets is compared. A version stays as it was made, apart from O(serving_status),
    O(automatic_scaling) and O(manual_scaling); for anything else that differs the task fails and asks for another
    O(name).
  - The first version of a service makes the service and gets all requests. A later one gets none until
    M(mlplatform.gcp.app_engine_service) says so. The first service of an application has to be V(default).
  - A version with no instance that answers, and no requests to serve, did not start. The next run deploys it once more,
    because what it lacked may be there now.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  service:
    description: Name of the service.
    type: str
    default: default
  name:
    description:
      - Name of the version, of lower-case letters, digits and hyphens, at most 63. C(default), C(latest) and names that
        begin with C(ah-) are App Engine's.
    type: str
    required: true
  env:
    description:
      - Environment. The standard environment has no containers, so V(standard) is refused. It is there to be clear
        about it.
    type: str
    choices: [flexible, standard]
    default: flexible
  image:
    description:
      - The container image, with its tag or digest. Required for a new version. With a digest, what runs is certain.
    type: str
  env_variables:
    description:
      - Environment variables. All of them, as a version stays as it was made.
      - They can be read by everybody who may look at the version, so passwords do not belong there.
    type: dict
  beta_settings:
    description: Further settings of the environment. Others that the version has are left alone.
    type: dict
  cloudsql_instances:
    description:
      - Connection names of Cloud SQL instances, as C(project:region:instance). They can be reached at a socket below
        C(/cloudsql). It is the beta setting C(cloud_sql_instances).
    type: list
    elements: str
  cpu:
    description: Processors of an instance. C(1) or an even number.
    type: float
  memory_gb:
    description: Memory of an instance in gigabytes, without the 0.4 that App Engine needs itself.
    type: float
  disk_gb:
    description: Disk of an instance in gigabytes.
    type: float
  automatic_scaling:
    description: Instances come and go with the load.
    type: dict
    suboptions:
      min_instances:
        description: How many are kept.
        type: int
      max_instances:
        description: How many there may be.
        type: int
      target_cpu_utilization:
        description: Load of the processors that is aimed at, between C(0) and C(1).
        type: float
      cool_down_period:
        description: Seconds that a new instance has before its load counts, at least C(60).
        type: int
  manual_scaling:
    description: A fixed number of instances.
    type: dict
    suboptions:
      instances:
        description: How many.
        type: int
        required: true
  liveness_check:
    description: When an instance has to be made anew. Split health checks have to be on for the application.
    type: dict
    suboptions:
      initial_delay:
        description: Seconds before the first check.
        type: int
      path: &path
        description: Path of the request. What answers with status C(200) is well.
        type: str
      host: &host
        description: Host header of the request.
        type: str
      check_interval: &check_interval
        description: Seconds from one check to the next.
        type: int
      timeout: &timeout
        description: Seconds that an answer may take.
        type: int
      failure_threshold: &failure_threshold
        description: How many failures in a row count.
        type: int
      success_threshold: &success_threshold
        description: How many answers in a row count.
        type: int
  readiness_check:
    description: When an instance may get requests. Split health checks have to be on for the application.
    type: dict
    suboptions:
      app_start_timeout:
        description: Seconds that the container has to become ready. If it does not, the deployment fails.
        type: int
      path: *path
      host: *host
      check_interval: *check_interval
      timeout: *timeout
      failure_threshold: *failure_threshold
      success_threshold: *success_threshold
  network:
    description: Network of the instances.
    type: dict
    suboptions:
      name:
        description: Short name of the network.
        type: str
      subnetwork:
        description: Short name of the subnetwork.
        type: str
      session_affinity:
        description: Whether all requests of a client go to the same instance.
        type: bool
      instance_ip_mode:
        description: Whether instances have addresses that can be reached from the internet.
        type: str
        choices: [EXTERNAL, INTERNAL]
      instance_tag:
        description: Network tag of the instances, for firewall rules.
        type: str
      forwarded_ports:
        description: Ports that are passed on to the container.
        type: list
        elements: str
  service_account:
    description: E-mail address of the account that the version runs as, by default the application's.
    type: str
  inbound_services:
    description: Services of App Engine that may call the version.
    type: list
    elements: str
    choices:
      - INBOUND_SERVICE_MAIL
      - INBOUND_SERVICE_MAIL_BOUNCE
      - INBOUND_SERVICE_WARMUP
  serving_status:
    description:
      - Whether the version has instances. A stopped one costs nothing and can be started again. Requests to a stopped
        version get an error.
    type: str
    choices: [SERVING, STOPPED]
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(appengine.versions.get), C(appengine.versions.create), C(appengine.versions.update),
    C(appengine.versions.delete), C(appengine.services.get), C(appengine.instances.list),
    C(appengine.operations.get) and C(appengine.operations.list), in C(roles/appengine.appAdmin), and
    C(iam.serviceAccounts.actAs) on the O(service_account).
  - Versions cannot carry labels. The roles of this collection mark theirs by the environment variable
    C(MLFLOW_DEPLOYMENT).
  - There can be 210 versions in an application.
seealso:
  - module: mlplatform.gcp.app_engine_application
  - module: mlplatform.gcp.app_engine_service
"""

EXAMPLES = r"""
- name: MLflow runs as a version that gets no requests yet
  mlplatform.gcp.app_engine_version:
    project: my-project
    name: v2
    image: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow:3.17.2-0a1b2c
    cloudsql_instances: [my-project:europe-west1:mlflow-prod]
    env_variables:
      DB_PASSWORD_SECRET_NAME: mlflow-db-password
      GCS_BACKEND: gs://my-project-mlflow
    cpu: 1
    memory_gb: 2
    automatic_scaling:
      min_instances: 1
      max_instances: 4
      target_cpu_utilization: 0.75
    liveness_check:
      path: /health
    readiness_check:
      path: /health
      app_start_timeout: 300
    service_account: mlflow-server@my-project.iam.gserviceaccount.com

- name: The old version is kept, and stopped
  mlplatform.gcp.app_engine_version:
    project: my-project
    name: v1
    serving_status: STOPPED

- name: A version that gets no requests is gone
  mlplatform.gcp.app_engine_version:
    project: my-project
    name: v1
    state: absent
"""

RETURN = r"""
changes:
  description:
    - What changes. An entry has C(kind) and C(name) of a resource, C(action) (V(create), V(change), V(delete) or
      V(adopt)), C(fields) with C(path), C(before) and C(after), and C(implies), a list of texts.
    - The callback C(mlplatform.gcp.plan) prints the changes of a run.
  returned: success
  type: list
  elements: dict
resource:
  description: The version as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: apps/my-project/services/default/versions/v2
    id: v2
    servingStatus: SERVING
    versionUrl: https://v2-dot-my-project.ew.r.appspot.com
operation:
  description: Name of the operation that is under way.
  returned: when O(wait=false) and something was started
  type: str
"""

import dataclasses
import re

from ansible_collections.mlplatform.gcp.plugins.module_utils import _appengine, _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, STATE, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._values import seconds, texts

_CHECK = {
    "path": {"type": "str"},
    "host": {"type": "str"},
    "check_interval": {"type": "int"},
    "timeout": {"type": "int"},
    "failure_threshold": {"type": "int"},
    "success_threshold": {"type": "int"},
}

OPTIONS = (
    GCP
    + STATE
    + WAIT
    + Options(
        {
            "service": {"type": "str", "default": _appengine.DEFAULT_SERVICE},
            "name": {"type": "str", "required": True},
            "env": {"type": "str", "choices": ["flexible", "standard"], "default": "flexible"},
            "image": {"type": "str"},
            "env_variables": {"type": "dict"},
            "beta_settings": {"type": "dict"},
            "cloudsql_instances": {"type": "list", "elements": "str"},
            "cpu": {"type": "float"},
            "memory_gb": {"type": "float"},
            "disk_gb": {"type": "float"},
            "automatic_scaling": {
                "type": "dict",
                "options": {
                    "min_instances": {"type": "int"},
                    "max_instances": {"type": "int"},
                    "target_cpu_utilization": {"type": "float"},
                    "cool_down_period": {"type": "int"},
                },
            },
            "manual_scaling": {"type": "dict", "options": {"instances": {"type": "int", "required": True}}},
            "liveness_check": {"type": "dict", "options": dict(_CHECK, initial_delay={"type": "int"})},
            "readiness_check": {"type": "dict", "options": dict(_CHECK, app_start_timeout={"type": "int"})},
            "network": {
                "type": "dict",
                "options": {
                    "name": {"type": "str"},
                    "subnetwork": {"type": "str"},
                    "session_affinity": {"type": "bool"},
                    "instance_ip_mode": {"type": "str", "choices": ["EXTERNAL", "INTERNAL"]},
                    "instance_tag": {"type": "str"},
                    "forwarded_ports": {"type": "list", "elements": "str"},
                },
            },
            "service_account": {"type": "str"},
            "inbound_services": {
                "type": "list",
                "elements": "str",
                "choices": ["INBOUND_SERVICE_MAIL", "INBOUND_SERVICE_MAIL_BOUNCE", "INBOUND_SERVICE_WARMUP"],
            },
            "serving_status": {"type": "str", "choices": ["SERVING", "STOPPED"]},
        },
        mutually_exclusive=(("automatic_scaling", "manual_scaling"),),
    )
)
# Names that App Engine keeps for itself: the description of Version.id in the API's discovery document.
NAME = re.compile(r"(?!ah-|(default|latest)$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def desired(params):
    """The version that the options describe, as the API's fields."""
    automatic, manual, network = params["automatic_scaling"], params["manual_scaling"], params["network"]
    return {
        "deployment": {"container": {"image": params["image"]}},
        "envVariables": texts(params["env_variables"]),
        "betaSettings": beta_settings(params),
        "resources": {"cpu": params["cpu"], "memoryGb": params["memory_gb"], "diskGb": params["disk_gb"]},
        "automaticScaling": automatic
        and {
            "minTotalInstances": automatic["min_instances"],
            "maxTotalInstances": automatic["max_instances"],
            "coolDownPeriod": seconds(automatic["cool_down_period"]),
            "cpuUtilization": {"targetUtilization": automatic["target_cpu_utilization"]},
        },
        "manualScaling": manual and {"instances": manual["instances"]},
        "livenessCheck": check(params["liveness_check"], "initialDelay", "initial_delay"),
        "readinessCheck": check(params["readiness_check"], "appStartTimeout", "app_start_timeout"),
        "network": network
        and {
            "name": network["name"],
            "subnetworkName": network["subnetwork"],
            "sessionAffinity": network["session_affinity"],
            "instanceIpMode": network["instance_ip_mode"],
            "instanceTag": network["instance_tag"],
            "forwardedPorts": network["forwarded_ports"],
        },
        "serviceAccount": params["service_account"],
        "inboundServices": params["inbound_services"],
        "servingStatus": params["serving_status"],
    }


def beta_settings(params):
    settings, instances = texts(params["beta_settings"]), params["cloudsql_instances"]
    return settings if instances is None else dict(settings or {}, cloud_sql_instances=",".join(instances))


def check(options, field, option):
    """A health check; the field and its option are what only one of the two kinds has."""
    if options is None:
        return None
    return {
        "path": options["path"],
        "host": options["host"],
        "checkInterval": seconds(options["check_interval"]),
        "timeout": seconds(options["timeout"]),
        "failureThreshold": options["failure_threshold"],
        "successThreshold": options["success_threshold"],
        field: seconds(options[option]),
    }


def explain(remote, error):
    """What the instances of a version that does not start look like, and where it tells why."""
    names = remote.names
    states = _appengine.states(_appengine.instances(remote))
    return (
        f"Its instances are {states}. "
        * bool(states)
        + "What got the requests before still does. What the container printed:"
        f" gcloud app logs read --service={names['service']} --version={names['name']} --project={names['project']}"
    )


VERSION = dataclasses.replace(_appengine.VERSION, explain=explain)


def refuse(remote, plan):
    """Errors: for a change that cannot work."""
    existing, wanted = plan.existing or {}, plan.desired or {}
    if existing.get("env") == "standard":
        raise _errors.UserError(
            f"{remote.title} is in the standard environment.", "Use another name, or gcloud app deploy."
        )
    if plan.action == "create" and not remote.task.params["image"]:
        raise _errors.UserError(f"{remote.title} does not exist.", "To create it, set image.")
    for scaling in {"automaticScaling", "manualScaling"} & set(wanted):
        if plan.action == "update" and scaling not in existing:
            raise _errors.ImmutableFieldError(f"{remote.title} has no {scaling}.", _appengine.NEW_VERSION)
    if plan.action == "delete":
        refuse_serving(remote)


def refuse_serving(remote):
    service = remote.names["service"]
    share = _appengine.allocations(remote.task, service).get(remote.id)
    if share:
        raise _errors.UserError(
            f"{remote.title} gets {share:.3g} of the requests to its service (1 is all), so it is not deleted.",
            "Give them to another version first (mlplatform.gcp.app_engine_service with allocations)"
            + ("." if service == _appengine.DEFAULT_SERVICE else ", or delete the service."),
        )


def run(task):
    params = task.params
    if params["env"] == "standard":
        raise _errors.UserError(
            "The standard environment runs no containers.", "Use env: flexible, or deploy with gcloud app deploy."
        )
    if not NAME.fullmatch(params["name"]):
        raise _errors.UserError(
            f"{params['name']!r} cannot be the name of a version.",
            "Use at most 63 lower-case letters, digits and hyphens; default, latest and ah-... are App Engine's.",
        )
    remote = task.remote(VERSION, service=params["service"], name=params["name"])
    if params["state"] == "absent":
        return remote.ensure_absent(guard=lambda plan: refuse(remote, plan))
    wanted = desired(params)
    try:
        result = remote.ensure(wanted, guard=lambda plan: refuse(remote, plan))
    except _errors.NotFound as error:
        error.hint = "Make the application first (mlplatform.gcp.app_engine_application)."
        raise
    if task.wait and not task.check_mode:
        if not result.changed and params["image"]:
            return finished(remote, wanted, result)
        if [side.get("servingStatus") for side in (result.diff["before"], result.diff["after"])] == [
            "STOPPED",
            "SERVING",
        ]:
            started(remote)
    return result


def started(remote):
    """Wait until a version that was stopped answers again: nobody should get requests to it before."""

    def poll():
        found = _appengine.instances(remote)
        return None, "" if any(map(_appengine.healthy, found)) else _appengine.states(found) or "no instances yet"

    remote.task.waiter.until(poll, what=f"starting {remote.title}")


def finished(remote, wanted, result):
    """``result`` of a version that is as it should, once it has started: its body does not tell whether it has."""
    if result.resource.get("servingStatus") == "STOPPED" or any(map(_appengine.healthy, _appengine.instances(remote))):
        return result
    operation = _appengine.under_way(remote)
    if operation:
        remote.finish(result, operation, "creating")
        return result
    if remote.id in _appengine.allocations(remote.task, remote.names["service"]):
        remote.task.warn(f"{remote.title} gets requests, and none of its instances is healthy.")
        return result
    return remote.apply(remote.plan(wanted, None))


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
