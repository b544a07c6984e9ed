#!/usr/bin/python
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_service
short_description: Manage Cloud Run services
version_added: 0.1.0
description:
  - Creates, changes and deletes services of Cloud Run.
  - Only what the task sets is compared and changed. A change of what runs makes a new revision; one that does not start
    leaves the old one serving, and the task fails with the reason.
  - If the last revision did not start, the next run deploys the service again, because a missing dependency may exist
    now.
author:
  - the mlplatform.gcp authors (@mlplatform)
options:
  port:
    description: The port that the container listens on.
    type: int
  http2:
    description: Whether the container accepts HTTP/2 without TLS (C(h2c)). O(port) must be set as well.
    type: bool
    version_added: 0.3.0
  cpu_idle:
    description: Whether the processor is only there while requests are served.
    type: bool
  startup_cpu_boost:
    description: Whether there is more processor while it starts.
    type: bool
  min_instances:
    description: How many instances are kept.
    type: int
  max_instances:
    description: How many instances there may be.
    type: int
  scaling_mode:
    description:
      - Whether Cloud Run sets the number of instances. With V(MANUAL) it is a field of the service, which this module
        does not set.
    type: str
    choices: [AUTOMATIC, MANUAL]
    version_added: 0.3.0
  concurrency:
    description: How many requests an instance serves at once.
    type: int
  ingress:
    description: Where requests may come from.
    type: str
    choices: [INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER]
  iap_enabled:
    description:
      - Whether Identity-Aware Proxy stands in front of the service. Its service agent then needs
        C(roles/run.invoker) on the service, see M(mlplatform.gcp.service_identity).
    type: bool
  invoker_iam_disabled:
    description: Whether the service is public, so that calls do not need the role C(roles/run.invoker).
    type: bool
  default_uri_disabled:
    description: Whether the service has no address under C(run.app).
    type: bool
  startup_probe:
    description: When the container has started.
    type: dict
    suboptions: &probe
      http_get:
        description: Send an HTTP request. A status from 200 to 399 is healthy.
        type: dict
        suboptions:
          path:
            description: Path of the request.
            type: str
          port:
            description: Port, by default that of the container.
            type: int
      tcp_port:
        description: Open a connection to this port.
        type: int
      initial_delay_seconds:
        description: Seconds before the first probe.
        type: int
      period_seconds:
        description: Seconds from one probe to the next.
        type: int
      timeout_seconds:
        description: Seconds that an answer may take. Not more than the period.
        type: int
      failure_threshold:
        description: How many failures in a row count.
        type: int
  liveness_probe:
    description: When the container has to be started again.
    type: dict
    suboptions: *probe
  description:
    description: What the service is for.
    type: str
  restart:
    description: Whether to start a new revision in any case, so that new instances replace the running ones.
    type: bool
    default: false
    version_added: 0.3.0
  traffic:
    description: Revisions that get requests. They replace the existing targets.
    type: list
    elements: dict
    suboptions:
      revision:
        description: Name of a revision; without it the latest one that is ready.
        type: str
      percent:
        description: Share of the requests.
        type: int
      tag:
        description: A tag with an address of its own.
        type: str
extends_documentation_fragment:
  - mlplatform.gcp.owner
  - mlplatform.gcp.gcp
  - mlplatform.gcp.container
  - mlplatform.gcp.labels
  - mlplatform.gcp.state
  - mlplatform.gcp.wait
  - mlplatform.gcp.attributes
notes:
  - Needs C(run.services.get), C(run.services.create), C(run.services.update), C(run.services.delete) and
    C(run.operations.get), in C(roles/run.admin), and C(iam.serviceAccounts.actAs) on the O(service_account).
  - With C(logging.logEntries.list), in C(roles/logging.viewer), the error of a revision that failed has the end of its
    output.
"""

EXAMPLES = r"""
- name: MLflow runs behind Identity-Aware Proxy
  mlplatform.gcp.cloud_run_service:
    project: my-project
    name: mlflow
    location: europe-west1
    image: europe-west1-docker.pkg.dev/my-project/mlflow/mlflow:3.17.2-0a1b2c
    env:
      MLFLOW_WORKERS: 1
    secret_env:
      DB_PASSWORD: projects/my-project/secrets/mlflow-db-password/versions/1
    cloudsql_instances: [my-project:europe-west1:mlflow-prod]
    cpu: "1"
    memory: 2Gi
    service_account: mlflow-server@my-project.iam.gserviceaccount.com
    max_instances: 10
    iap_enabled: true
    startup_probe:
      http_get:
        path: /health
      period_seconds: 5
      failure_threshold: 24

- name: Delete the service
  mlplatform.gcp.cloud_run_service:
    name: mlflow
    location: europe-west1
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
  description: The service as Google describes it.
  returned: when O(state=present)
  type: dict
  sample:
    name: projects/my-project/locations/europe-west1/services/mlflow
    uri: https://mlflow-abcdefghij-ew.a.run.app
operation:
  description: Name of the operation in progress.
  returned: when O(wait=false) and an operation was started
  type: str
"""

import dataclasses
import secrets

from ansible_collections.mlplatform.gcp.plugins.module_utils import _run, _values
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import run as catalogue
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import OperationFailed
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import run_module
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, LABELS, OWNER, STATE, WAIT, Options

SERVICE = dataclasses.replace(catalogue.SERVICE, explain=_run.explain)

_PROBE = {
    "type": "dict",
    "options": {
        "http_get": {"type": "dict", "options": {"path": {"type": "str"}, "port": {"type": "int"}}},
        "tcp_port": {"type": "int"},
        "initial_delay_seconds": {"type": "int"},
        "period_seconds": {"type": "int"},
        "timeout_seconds": {"type": "int"},
        "failure_threshold": {"type": "int"},
    },
    "mutually_exclusive": [("http_get", "tcp_port")],
}

OPTIONS = (
    GCP
    + _run.CONTAINER
    + LABELS
    + OWNER
    + STATE
    + WAIT
    + Options(
        {
            "port": {"type": "int"},
            "http2": {"type": "bool"},
            "cpu_idle": {"type": "bool"},
            "startup_cpu_boost": {"type": "bool"},
            "min_instances": {"type": "int"},
            "max_instances": {"type": "int"},
            "scaling_mode": {"type": "str", "choices": ["AUTOMATIC", "MANUAL"]},
            "concurrency": {"type": "int"},
            "ingress": {
                "type": "str",
                "choices": [
                    "INGRESS_TRAFFIC_ALL",
                    "INGRESS_TRAFFIC_INTERNAL_ONLY",
                    "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
                ],
            },
            "iap_enabled": {"type": "bool"},
            "invoker_iam_disabled": {"type": "bool"},
            "default_uri_disabled": {"type": "bool"},
            "startup_probe": _PROBE,
            "liveness_probe": _PROBE,
            "description": {"type": "str"},
            "restart": {"type": "bool", "default": False},
            "traffic": {
                "type": "list",
                "elements": "dict",
                "options": {"revision": {"type": "str"}, "percent": {"type": "int"}, "tag": {"type": "str"}},
            },
        },
        required_by={"http2": ("port",)},
    )
)


def desired(params):
    """The service that the options describe, as the API's fields."""
    traffic = params["traffic"]
    return {
        "description": params["description"],
        "labels": params["labels"],
        "annotations": params["annotations"],
        "ingress": params["ingress"],
        "iapEnabled": params["iap_enabled"],
        "invokerIamDisabled": params["invoker_iam_disabled"],
        "defaultUriDisabled": params["default_uri_disabled"],
        "scaling": {"scalingMode": params["scaling_mode"]},
        "template": {
            "serviceAccount": params["service_account"],
            "encryptionKey": params["kms_key"],
            "timeout": _values.seconds(params["timeout"]),
            "maxInstanceRequestConcurrency": params["concurrency"],
            "scaling": {"minInstanceCount": params["min_instances"], "maxInstanceCount": params["max_instances"]},
            "vpcAccess": _run.vpc_access(params),
            "containers": [
                _run.container(
                    params,
                    resources={"cpuIdle": params["cpu_idle"], "startupCpuBoost": params["startup_cpu_boost"]},
                    ports=ports(params),
                    startupProbe=probe(params["startup_probe"]),
                    livenessProbe=probe(params["liveness_probe"]),
                )
            ],
            "volumes": _run.volumes(params),
        },
        "traffic": None if traffic is None else [target(item) for item in traffic],
    }


def ports(params):
    """Return the port and its protocol in the API's fields; None when the task does not set it."""
    if params["port"] is None:
        return None
    protocol = {None: None, False: "http1", True: "h2c"}[params["http2"]]
    return [{"name": protocol, "containerPort": params["port"]}]


def probe(options):
    if options is None:
        return None
    http, port = options["http_get"], options["tcp_port"]
    return {
        "httpGet": http and {"path": http["path"], "port": http["port"]},
        "tcpSocket": None if port is None else {"port": port},
        "initialDelaySeconds": options["initial_delay_seconds"],
        "periodSeconds": options["period_seconds"],
        "timeoutSeconds": options["timeout_seconds"],
        "failureThreshold": options["failure_threshold"],
    }


def target(item):
    kind = "REVISION" if item["revision"] else "LATEST"
    return {
        "type": f"TRAFFIC_TARGET_ALLOCATION_TYPE_{kind}",
        "revision": item["revision"],
        "percent": item["percent"],
        "tag": item["tag"],
    }


def run(task):
    params = task.params
    names = {"location": params["location"], "name": params["name"]}
    if params["state"] == "absent":
        return task.ensure(SERVICE, None, **names)
    remote = task.remote(SERVICE, **names)
    wanted = desired(params)
    if params["restart"]:
        wanted["template"]["labels"] = {_run.NONCE: secrets.token_hex(5)}
    result = remote.ensure(wanted, guard=lambda plan: _run.require_image(params, plan, remote.title))
    result = _run.ensure_again(remote, wanted, result)
    if task.wait and not task.check_mode and _run.failure(result.resource):
        raise OperationFailed(
            f"{remote.title} is not ready: {_run.failure(result.resource)}", _run.output(remote, result.resource)
        )
    return result


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
