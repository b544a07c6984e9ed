# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MLflow on App Engine flexible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import grants
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import network as _network
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import server as _server
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.access import access
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context, NewResources
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import ANYWHERE
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.permissions import APP_ENGINE
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import appengine_mlflow
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import appengine as rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.cloudrun import mebibytes
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.places import multi_region
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
from ansible_collections.mlplatform.gcp.plugins.module_utils._iap import app_engine as iap_resource

INSTANCES = (1, 4)
DEFAULT_SERVICE = "default"
# A version that answers nothing but health checks, for an application that lacks the service `default`.
PLACEHOLDER = "mlflow-placeholder"
# The start-up waits for a database that is being created for as long as the entrypoint does.
_READINESS = {
    "path": _server.HEALTH,
    "check_interval": 5,
    "timeout": 4,
    "failure_threshold": 2,
    "success_threshold": 2,
    "app_start_timeout": 300,
}
_LIVENESS = {
    "path": _server.HEALTH,
    "check_interval": 30,
    "timeout": 5,
    "failure_threshold": 4,
    "success_threshold": 2,
    "initial_delay": 300,
}
# One path of each kind that MLflow's clients and browsers request.
_PATHS = ("/", _server.HEALTH, "/version", "/api/2.0/mlflow/runs/get", "/ajax-api/2.0/mlflow/runs/get", "/get-artifact")
# https://cloud.google.com/appengine/docs/flexible/service-account
_INSTANCE_ROLES = ("roles/logging.logWriter", "roles/monitoring.metricWriter")


def memory_gb(text: str) -> float:
    """Return a memory size such as ``2Gi`` in GiB, the unit that App Engine calls GB."""
    return (mebibytes(text) or 0) / 1024


def service_name(context: Context) -> str:
    """Return the name of the service."""
    return context["appengine_mlflow_service"] or DEFAULT_SERVICE


def location(context: Context) -> str:
    """Return the location of a new application."""
    return context["appengine_mlflow_location"] or context.region


def _application(context: Context) -> Mapping[str, Any]:
    return context.existing.resource("app_engine_application", context.project) or {}


def _service(context: Context) -> Mapping[str, Any]:
    return context.existing.resource("app_engine_service", service_name(context)) or {}


def _host(context: Context) -> str:
    """Return the address of the service: the application's own once it exists."""
    hostname = (
        context.made.hostname or _application(context).get("hostname") or _project_id.app_engine_host(context.project)
    )
    name = service_name(context)
    return hostname if name == DEFAULT_SERVICE else f"{name}-dot-{hostname}"


def _iap(context: Context) -> str:
    return iap_resource(context.number, context.project, service_name(context))


def _project_bindings(context: Context) -> list[dict[str, Any]]:
    server = context.names.member(context.names.server_account)
    return [{"role": role, "members": [server]} for role in _INSTANCE_ROLES]


def _grants(context: Context) -> list[dict[str, Any]]:
    """Return the roles of instances, and on Identity-Aware Proxy in front of them."""
    project = f"//cloudresourcemanager.googleapis.com/projects/{context.project}"
    found = [grants.grant(project, _project_bindings(context))]
    return found + ([grants.iap_grant(_iap(context), access(context).members)] if context.iap else [])


def _lacks_default(context: Context) -> bool:
    services = _application(context).get("services") or []
    return service_name(context) != DEFAULT_SERVICE and DEFAULT_SERVICE not in services


def version_name(mlflow_version: str, content: list[Any]) -> str:
    """Return the name of a version: versions do not change, so it names what the version is made of."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"mlflow-{mlflow_version.replace('.', '-')}-{digest[:10]}"


def server(context: Context, artifact_uri: str, sizing: Sizing) -> Server:
    """Return the version and what belongs to it."""
    host, names = _host(context), context.names
    # Each version has an address of its own below that. Only Google assigns names there.
    hosts = [host, f"*-dot-{host}", *context["mlflow_allowed_hosts"]]
    # App Engine mounts no secrets: the server reads them itself, by name.
    secrets = {f"{variable}_SECRET_NAME": name for variable, name in _server.secret_env(context).items()}
    # Versions carry no labels: their environment says which deployment they belong to.
    mark = {"MLFLOW_DEPLOYMENT": names.deployment}
    env = merged_env(
        _server.server_env(context, artifact_uri, hosts, sizing), secrets, mark, context["mlflow_server_env"]
    )
    prefix = _server.prefix(context)
    moved = {"path": f"{prefix}{_server.HEALTH}"}
    readiness = _READINESS | moved | context["appengine_mlflow_readiness_check"]
    liveness = _LIVENESS | moved | context["appengine_mlflow_liveness_check"]
    cpu, memory = float(context["mlflow_cpu"]), memory_gb(context["mlflow_memory"])
    disk = int(context["appengine_mlflow_disk_gb"])
    email = names.email(names.server_account)
    # Settings that can be changed in place, such as scaling, are not part of the name.
    content = [
        context.made.image or context.custom_image,
        env,
        [cpu, memory, disk],
        [readiness, liveness],
        [email, names.connection],
    ]
    if network := _network.app_engine(context):
        content.append(network)
    version = context["appengine_mlflow_version"] or version_name(context["mlflow_version"], content)
    least, most = INSTANCES
    name, found = service_name(context), _application(context).get("services") or []
    older = [item for item in _marked(context) if item["id"] != version]
    kept = older[: context["mlflow_keep_versions"]]
    options: dict[str, Any] = {
        "location": location(context),
        "service": name,
        "version": version,
        "current": next((item["id"] for item in _marked(context) if item["id"] in _serving(context)), ""),
        "env": env,
        "cpu": cpu,
        "memory_gb": memory,
        "disk_gb": disk,
        "automatic_scaling": {
            "min_instances": number(context["mlflow_min_instances"], least),
            "max_instances": number(context["mlflow_max_instances"], most),
            "target_cpu_utilization": context["appengine_mlflow_target_cpu_utilization"],
        },
        "readiness_check": readiness,
        "liveness_check": liveness,
        "network": network,
        "service_exists": name in found,
        "allocations": {version: 1},
        "ingress": context["appengine_mlflow_ingress"],
        "placeholder": {
            "name": PLACEHOLDER,
            "create": _lacks_default(context) and context["appengine_mlflow_make_default"],
            "wanted": name != DEFAULT_SERVICE and context["appengine_mlflow_make_default"],
            "env": mark | {"IMAGE_COMMAND": "placeholder"},
            # It answers at this path only, without MLflow and its prefix.
            "readiness_check": readiness | {"path": _server.HEALTH},
            "liveness_check": liveness | {"path": _server.HEALTH},
        },
        "project_bindings": _project_bindings(context),
        "iap_resource": _iap(context),
        "stop": [item["id"] for item in kept if item["serving_status"] == "SERVING"],
        "remove": [item["id"] for item in older if item not in kept],
    }
    rollback = ", ".join(item["id"] for item in kept) or "no older version is kept yet"
    return Server(
        f"https://{host}{prefix}",
        hosts,
        env,
        _server.secret_env(context),
        options,
        report=[("Roll-back", rollback)],
        grants=_grants(context),
        unreachable=closed(context, "appengine_mlflow_ingress", "INGRESS_TRAFFIC_ALLOWED_ALL"),
        prefix=prefix,
    )


def _serving(context: Context) -> set[str]:
    """Return the ids of the versions that receive requests."""
    return set(_service(context).get("allocations") or {})


def _marked(context: Context) -> list[Mapping[str, Any]]:
    """Return the versions of this deployment, newest first."""
    versions = _service(context).get("version_list") or []
    own = [item for item in versions if item.get("deployment") == context.names.deployment]
    return sorted(own, key=lambda item: item.get("create_time") or "", reverse=True)


def removal(context: Context) -> Removal:
    """Return the versions when the server is removed.

    A service that holds versions of others stays, and ``default`` cannot be removed at all: what can be stopped is.
    """
    name, marked = service_name(context), _marked(context)
    own = [item["id"] for item in marked]
    others = [item["id"] for item in _service(context).get("version_list") or [] if item["id"] not in own]
    whole = name != DEFAULT_SERVICE and bool(own) and not others
    serving = _serving(context)
    options = {
        "service": name,
        "remove_service": whole,
        "stop": [] if whole else [item["id"] for item in marked if item["serving_status"] == "SERVING"],
        "remove": [] if whole else [version for version in own if version not in serving],
        "iap_resource": _iap(context),
        "project_bindings": _project_bindings(context),
    }
    if not own:
        last = "No version of this deployment was in it."
    elif whole:
        last = f"The service {name} is removed."
    else:
        last = f"The service {name} keeps its last version, stopped, because it cannot be removed. It has no access."
    report = [
        f"App Engine keeps the application of the project {context.project}: it cannot be removed and costs nothing.",
        last,
        "A later deployment uses the same application.",
    ]
    return Removal(bool(own), options, report)


def resources(context: Context) -> list[dict[str, Any]]:
    """Return the application and the service as ``preflight_info`` takes them.

    The owner of a service is the deployment with the versions that get its requests; other traffic is not moved
    without ``mlflow_adopt``.
    """
    # A deployment on another target only looks for versions of its own to retire.
    place = location(context) if context["mlflow_target"] == TARGET.name else ANYWHERE
    return [
        {"type": "app_engine_application", "name": context.project, "location": place},
        {"type": "app_engine_service", "name": service_name(context), "read": ["iap_policy"] if context.iap else []},
    ]


def _default_accounts(context: Context) -> list[str]:
    """Return the accounts that older deployments rely on: App Engine's default account and its service agent."""
    if not context["appengine_mlflow_guide_accounts"]:
        return []
    return [
        f"serviceAccount:{_project_id.app_engine_account(context.project)}",
        f"serviceAccount:service-{context.number}@gae-api-prod.google.com.iam.gserviceaccount.com",
    ]


def bindings(context: Context) -> list[dict[str, Any]]:
    """Return further roles on the bucket."""
    accounts = _default_accounts(context)
    return [{"role": "roles/storage.objectAdmin", "members": accounts}] if accounts else []


def _dispatched(context: Context) -> tuple[str, str] | None:
    """Return (rule, service) of the first dispatch rule that sends MLflow's requests to another service, if any.

    The rules apply to the address of the application, which is that of the service ``default``:
    https://cloud.google.com/appengine/docs/flexible/reference/dispatch-yaml
    """
    name, host = service_name(context), _host(context)
    if name != DEFAULT_SERVICE:
        return None
    for path in (f"{_server.prefix(context)}{item}" for item in _PATHS):
        for rule in _application(context).get("dispatch_rules") or []:
            domain, pattern, service = rule.get("domain") or "*", rule.get("path") or "", rule.get("service") or ""
            here = domain in ("*", host) or (domain.startswith("*.") and host.endswith(domain[1:]))
            if here and (path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern):
                if service != name:
                    return f"{domain}{pattern}", service
                break
    return None


def problems(context: Context, sizing: Sizing) -> list[Problem]:
    """Return what would fail on App Engine beyond the rules of single variables."""
    found = []
    application, name = _application(context), service_name(context)
    if application.get("state") == "USER_DISABLED":
        settings = f"https://console.cloud.google.com/appengine/settings?project={context.project}"
        found.append(
            Problem(
                "mlflow_target",
                f"The App Engine application of the project {context.project} is disabled, and serves no request.",
                f"Enable it ({settings}), or set mlflow_target=cloudrun.",
            )
        )
    if context.existing.known and _lacks_default(context) and not context["appengine_mlflow_make_default"]:
        found.append(
            Problem(
                "appengine_mlflow_service",
                f"appengine_mlflow_service is {name}, and the application has no service `default`, which App Engine"
                " requires to be the first.",
                "Set appengine_mlflow_service=default to make MLflow that service, or"
                " appengine_mlflow_make_default=true for a minimal one that is stopped as soon as it exists.",
            )
        )
    if dispatched := _dispatched(context):
        found.append(
            Problem(
                "appengine_mlflow_service",
                f"The dispatch rule {dispatched[0]} of the application sends requests for https://{_host(context)} to"
                f" the service {dispatched[1]}, not to {name}.",
                "Remove the rule (gcloud app deploy dispatch.yaml), or set appengine_mlflow_service to another name.",
            )
        )
    others = [item for item in application.get("services") or [] if item != name]
    closes = context.iap and not context["appengine_mlflow_iap_for_all_services"]
    if closes and others and not application.get("iap_enabled"):
        found.append(
            Problem(
                "appengine_mlflow_iap_for_all_services",
                "Identity-Aware Proxy is enabled for the whole application, and it has other services, which are open"
                f" today: {', '.join(others)}.",
                "Confirm with appengine_mlflow_iap_for_all_services=true that they are to be closed to all but the"
                " members that have access, or use a project with an application only for MLflow.",
            )
        )
    least, most = INSTANCES
    minimum, maximum = (
        number(context["mlflow_min_instances"], least),
        number(context["mlflow_max_instances"], most),
    )
    if minimum < 1 or minimum > maximum:
        found.append(
            Problem(
                "mlflow_min_instances",
                f"mlflow_min_instances is {minimum}; on App Engine it must be at least 1, and no more than"
                f" mlflow_max_instances ({maximum}).",
                "Correct it, or raise mlflow_max_instances.",
            )
        )
    return found + not_enough_connections(sizing, context["mlflow_database_tier"], "mlflow_max_instances")


def _new(region: str) -> NewResources:
    return NewResources("MYSQL_8_0", multi_region(region) or region)


TARGET = Target(
    spec=appengine_mlflow.ROLE,
    title="App Engine flexible",
    api="appengine.googleapis.com",
    services=("appengineflex.googleapis.com",),
    permissions=APP_ENGINE,
    instances=INSTANCES,
    mounts_secrets=False,
    # https://cloud.google.com/appengine/docs/flexible/how-requests-are-handled
    request_mib=32,
    new=_new,
    server=server,
    removal=removal,
    resources=resources,
    check=rules.check,
    derived=lambda context: {"appengine_mlflow_location": location(context)},
    problems=problems,
    bindings=bindings,
    clients=_default_accounts,
    agents=("serviceAccount:service-{number}@gae-api-prod.google.com.iam.gserviceaccount.com",),
    pullers=lambda context: [context.names.member(context.names.server_account)],
)
