# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MLflow on Cloud Run."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import grants, keys, network
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import server as _server
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.access import access
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context, NewResources
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.permissions import CLOUD_RUN
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import cloudrun_mlflow
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import cloudrun as rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.sizing import Sizing
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets.base import (
    Removal,
    Server,
    Target,
    closed,
    merged_env,
    not_enough_connections,
    number,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._iap import cloud_run as iap_resource

INSTANCES = (0, 10)
KMS_KEY = "cloudrun_mlflow_kms_key"
PORT = 8080
_STARTUP_PROBE = {"period_seconds": 2, "timeout_seconds": 2, "failure_threshold": 90}
_LIVENESS_PROBE = {"period_seconds": 30, "timeout_seconds": 5, "failure_threshold": 4}
# All requests, to the revision that was deployed last.
_TRAFFIC = [{"percent": 100}]


def service_name(context: Context) -> str:
    """Return the name of the service."""
    return context["cloudrun_mlflow_service"] or context.names.deployment


def _host(context: Context) -> str:
    """Return the address of the service that is known before the service exists."""
    return f"{service_name(context)}-{context.number}.{context.region}.run.app"


def _invokers(context: Context) -> list[str]:
    if context.iap:
        return [f"serviceAccount:service-{context.number}@gcp-sa-iap.iam.gserviceaccount.com"]
    if not context.login:
        return access(context).members
    return [] if context["cloudrun_mlflow_invoker_iam_disabled"] else ["allUsers"]


def server(context: Context, artifact_uri: str, sizing: Sizing) -> Server:
    """Return the service."""
    name, host = service_name(context), _host(context)
    # A service has two addresses. The other one has a part that is only known once the service exists. With a pattern
    # for that part the first revision is right already; only Google assigns names under a.run.app.
    hosts = [host, f"{name}-*.a.run.app", *context["mlflow_allowed_hosts"]]
    env = merged_env(_server.server_env(context, artifact_uri, hosts, sizing), context["mlflow_server_env"])
    least, most = INSTANCES
    prefix = _server.prefix(context)
    health = {"http_get": {"path": f"{prefix}{_server.HEALTH}", "port": PORT}}
    resource = f"projects/{context.project}/locations/{context.region}/services/{name}"
    options: dict[str, Any] = {
        "service": name,
        "resource": resource,
        "command": context["cloudrun_mlflow_command"],
        "args": context["cloudrun_mlflow_args"],
        "port": PORT,
        "traffic": _TRAFFIC,
        "invoker_iam_disabled": context["cloudrun_mlflow_invoker_iam_disabled"],
        "cpu": context["mlflow_cpu"],
        "memory": context["mlflow_memory"],
        "cpu_idle": context["cloudrun_mlflow_cpu_idle"],
        "startup_cpu_boost": context["cloudrun_mlflow_startup_cpu_boost"],
        "min_instances": number(context["mlflow_min_instances"], least),
        "max_instances": number(context["mlflow_max_instances"], most),
        "concurrency": context["cloudrun_mlflow_concurrency"],
        "timeout": context["cloudrun_mlflow_timeout"],
        "ingress": context["cloudrun_mlflow_ingress"],
        "startup_probe": health | _STARTUP_PROBE,
        "liveness_probe": health | _LIVENESS_PROBE,
        "vpc_access": network.vpc_access(context),
        "invokers": _invokers(context),
        "iap_resource": iap_resource(context.number, context.region, name),
        "kms_key": keys.key_of(context, KMS_KEY),
        "adopt": context["mlflow_adopt"],
    }
    return Server(
        f"https://{host}{prefix}",
        hosts,
        env,
        _server.secret_env(context),
        options,
        grants=_grants(context, options),
        unreachable=closed(context, "cloudrun_mlflow_ingress", "INGRESS_TRAFFIC_ALL"),
        prefix=prefix,
    )


def _grants(context: Context, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the roles on the service, and on Identity-Aware Proxy in front of it."""
    invokers = [{"role": "roles/run.invoker", "members": options["invokers"]}]
    found = [grants.grant(f"//run.googleapis.com/{options['resource']}", invokers, exact=True)]
    return found + ([grants.iap_grant(options["iap_resource"], access(context).members)] if context.iap else [])


def removal(context: Context) -> Removal:
    """Return the service when it is removed."""
    name = service_name(context)
    options = {"service": name, "iap_resource": iap_resource(context.number, context.region, name)}
    return Removal(context.existing.owned("cloud_run_service", name), options)


def resources(context: Context) -> list[dict[str, Any]]:
    """Return the service as ``preflight_info`` takes it."""
    reads = ["policy", "iap_policy"] if context.iap else ["policy"]
    return [{"type": "cloud_run_service", "name": service_name(context), "location": context.region, "read": reads}]


def problems(context: Context, sizing: Sizing) -> list[Problem]:
    """Return what would fail on Cloud Run beyond the rules of single variables."""
    least, most = INSTANCES
    minimum, maximum = (
        number(context["mlflow_min_instances"], least),
        number(context["mlflow_max_instances"], most),
    )
    found = []
    if minimum > maximum:
        found.append(
            Problem(
                "mlflow_min_instances",
                f"mlflow_min_instances is {minimum}, more than mlflow_max_instances ({maximum}).",
                "Lower it, or raise mlflow_max_instances.",
            )
        )
    return found + not_enough_connections(sizing, context["mlflow_database_tier"], "mlflow_max_instances")


TARGET = Target(
    spec=cloudrun_mlflow.ROLE,
    title="Cloud Run",
    api="run.googleapis.com",
    permissions=CLOUD_RUN,
    instances=INSTANCES,
    # https://cloud.google.com/run/quotas, of HTTP/1
    request_mib=32,
    response_mib=32,
    new=lambda region: NewResources("POSTGRES_16", region),
    kms_key=KMS_KEY,
    server=server,
    removal=removal,
    resources=resources,
    check=rules.check,
    derived=lambda context: {"cloudrun_mlflow_service": service_name(context)},
    problems=problems,
)
