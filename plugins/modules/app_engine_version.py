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
  - A version without a healthy instance and without traffic did not start. The next run deploys it again, because what
    it lacked can exist by then.
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
      - Environment. The standard environment has no containers, so the module rejects V(standard).
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
      - Every user with C(appengine.versions.get) can read them, so do not put passwords there.
    type: dict
  beta_settings:
    description: Further settings of the environment. Other settings of the version do not change.
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
        description: The minimum number of instances.
        type: int
      max_instances:
        description: The maximum number of instances.
        type: int
      target_cpu_utilization:
        description: Target load of the processors, between C(0) and C(1).
        type: float
      cool_down_period:
        description: Seconds that a new instance has before its load counts, at least C(60).
        type: int
  manual_scaling:
    description: A fixed number of instances.
    type: dict
    suboptions:
      instances:
        description: Number of instances.
        type: int
        required: true
  liveness_check:
    description: When an instance has to be replaced. Split health checks have to be on for the application.
    type: dict
    suboptions:
      initial_delay:
        description: Seconds before the first check.
        type: int
      path: &path
        description: Path of the request. An answer with status C(200) counts as healthy.
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
        description: Number of failures in a row that count.
        type: int
      success_threshold: &success_threshold
        description: Number of answers in a row that count.
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
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(appengine.versions.get), C(appengine.versions.create), C(appengine.versions.update),
    C(appengine.versions.delete), C(appengine.services.get), C(appengine.instances.list),
    C(appengine.operations.get) and C(appengine.operations.list), in C(roles/appengine.appAdmin), and
    C(iam.serviceAccounts.actAs) on the O(service_account).
  - With C(logging.logEntries.list), in C(roles/logging.viewer), the error of a version that failed has the end of its
    output.
  - Versions cannot carry labels. The roles of this collection mark theirs by the environment variable
    C(MLFLOW_DEPLOYMENT).
  - There can be 210 versions in an application.
seealso:
  - module: mlplatform.gcp.app_engine_application
  - module: mlplatform.gcp.app_engine_service
"""

EXAMPLES = r"""
- name: Deploy MLflow as a version without traffic
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

- name: Stop the old version and keep it
  mlplatform.gcp.app_engine_version:
    project: my-project
    name: v1
    serving_status: STOPPED

- name: Delete a version without traffic
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
  description: The version as returned by the API.
  returned: when O(state=present)
  type: dict
  sample:
    name: apps/my-project/services/default/versions/v2
    id: v2
    servingStatus: SERVING
    versionUrl: https://v2-dot-my-project.ew.r.appspot.com
operation:
  description: Name of the operation that is in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

from ansible_collections.mlplatform.gcp.plugins.module_utils import _appengine_versions, _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.appengine import DEFAULT_SERVICE
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, OWNER, STATE, WAIT, Options

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
    + OWNER
    + STATE
    + WAIT
    + Options(
        {
            "service": {"type": "str", "default": DEFAULT_SERVICE},
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


def run(task):
    params = task.params
    _appengine_versions.check_options(params)
    remote = task.remote(_appengine_versions.VERSION, service=params["service"], name=params["name"])

    def guard(plan):
        _appengine_versions.refuse(remote, plan)

    if params["state"] == "absent":
        return remote.ensure_absent(guard=guard)
    wanted = _appengine_versions.desired(params)
    try:
        result = remote.ensure(wanted, guard=guard)
    except _errors.NotFound as error:
        error.hint = "Create the application first (mlplatform.gcp.app_engine_application)."
        raise
    if task.wait and not task.check_mode:
        if not result.changed and params["image"]:
            return _appengine_versions.ensure_started(remote, wanted, result)
        before, after = (result.diff[side].get("servingStatus") for side in ("before", "after"))
        if (before, after) == ("STOPPED", "SERVING"):
            _appengine_versions.await_healthy(remote)
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
