# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VPC network of a deployment: the private address of its database, and how the server and the migration reach it.

Cloud Run and App Engine connect to Cloud SQL through a socket. Its proxy uses the public address of the instance, and
the private one where there is no public one. It reaches a private address only from the network of the instance, so the
service, the migration's job and the versions of App Engine need access to that network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem

COMPUTE = "compute.googleapis.com"
SERVICE_NETWORKING = "servicenetworking.googleapis.com"
RUN_AGENT = "serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
_RANGE = "google-managed-services-{network}"


def _path(name: str, project: str, kind: str) -> str:
    """Return the path of a network or subnetwork; a name alone is one of ``project``."""
    return name if not name or "/" in name else f"projects/{project}/{kind}/{name}"


def _short(path: str, project: str) -> str:
    """Return what Cloud Run and App Engine call it: the name alone in the own project, the path in another one."""
    return path.rpartition("/")[2] if path.startswith(f"projects/{project}/") else path


def private_network(context: Context) -> str:
    """Return the path of the network in which the database gets a private address; empty leaves it as it is."""
    return _path(context["cloudsql_private_network"], context.project, "global/networks")


def _address(context: Context) -> tuple[bool, str]:
    """Return whether the database will have a public address, and the network of its private one."""
    found = context.found_instance
    if context.uses("database"):
        return found.get("public_address", True), found.get("private_network", "")
    return context["cloudsql_ipv4_enabled"], private_network(context) or found.get("private_network", "")


def network(context: Context) -> str:
    """Return the path of the network of the server and the migration; empty for none."""
    public, private = _address(context)
    return _path(context["mlflow_network"], context.project, "global/networks") or ("" if public else private)


def subnetwork(context: Context) -> str:
    """Return the path of their subnetwork. A network in auto mode has one of its own name in each region."""
    path = network(context)
    if not path:
        return ""
    host, name = path.split("/")[1], path.rpartition("/")[2]
    return _path(context["mlflow_subnetwork"] or name, host, f"regions/{context.region}/subnetworks")


def vpc_access(context: Context) -> dict[str, Any] | None:
    """Return Direct VPC egress of Cloud Run's service and job, or None for what they have."""
    if not network(context):
        return None
    egress = context["mlflow_network_egress"]
    return {
        "network": _short(network(context), context.project),
        "subnetwork": _short(subnetwork(context), context.project),
    } | ({"egress": egress} if egress else {})


def app_engine(context: Context) -> dict[str, Any] | None:
    """Return the network of the versions of App Engine, or None for the network ``default``.

    https://cloud.google.com/appengine/docs/flexible/reference/app-yaml#network_settings: the name of a subnetwork is
    short also in a Shared VPC.
    """
    mode, path = context["appengine_mlflow_instance_ip_mode"], network(context)
    if not path and not mode:
        return None
    found = {
        "name": _short(path, context.project) or "default",
        "subnetwork": subnetwork(context).rpartition("/")[2],
        "instance_ip_mode": mode,
    }
    return {name: value for name, value in found.items() if value}


def services(context: Context) -> list[str]:
    """Return the APIs that the network needs."""
    found = [COMPUTE] if network(context) or private_network(context) else []
    return found + ([SERVICE_NETWORKING] if private_network(context) else [])


def own(context: Context) -> bool:
    """Whether the deployer reads a network of the project itself; another project grants access to its own."""
    paths = (network(context), private_network(context))
    return any(path.startswith(f"projects/{context.project}/") for path in paths)


def resources(context: Context, agents: list[str]) -> list[dict[str, Any]]:
    """Return the networks and the subnetwork that must exist, as ``preflight_info`` takes them.

    :param agents: members that place instances in the subnetwork. In a Shared VPC they need a role on it.
    """
    variables: dict[str, str] = {}
    for variable, path in (
        ("cloudsql_private_network", private_network(context)),
        ("mlflow_network", network(context)),
    ):
        if path:
            variables.setdefault(path, variable)
    found = [
        {"type": "network", "name": path, "referenced_by": variable, "readers": []}
        for path, variable in variables.items()
    ]
    if path := subnetwork(context):
        shared = not path.startswith(f"projects/{context.project}/")
        variable = "mlflow_subnetwork" if context["mlflow_subnetwork"] else variables[network(context)]
        readers = agents if shared else []
        found.append({"type": "subnetwork", "name": path, "referenced_by": variable, "readers": readers})
    return found


def problems(context: Context) -> Iterator[Problem]:
    """Yield what would fail in view of what exists. Before it was read, nothing is known to be missing."""
    if context.existing.known:
        yield from _no_address(context)
        yield from _no_connection(context)
        yield from _other_network(context)
        yield from _no_way_to_google(context)


def _no_address(context: Context) -> Iterator[Problem]:
    public, private = _address(context)
    if not public and not private:
        instance = context.names.instance
        if context.uses("database"):
            variable, why = "mlflow_database_instance", f"The instance {instance} has neither a public address nor one"
        else:
            variable, why = "cloudsql_ipv4_enabled", f"cloudsql_ipv4_enabled is false, and {instance} has no address"
        yield Problem(
            variable,
            f"{why} in a VPC network, so that the server cannot connect to it.",
            "Set cloudsql_private_network to a network with private services access, for example default, or"
            " cloudsql_ipv4_enabled to true.",
        )


def _no_connection(context: Context) -> Iterator[Problem]:
    path = private_network(context)
    found = context.existing.resource("network", path)
    if found is None or found.get("private_services") or context.found_instance.get("private_network") == path:
        return
    host, name = path.split("/")[1], path.rpartition("/")[2]
    reserved = context["cloudsql_allocated_ip_range"] or _RANGE.format(network=name)
    yield Problem(
        "cloudsql_private_network",
        f"cloudsql_private_network is {path}, which has no private services access: no connection to"
        f" {SERVICE_NETWORKING}.",
        "Have a network administrator reserve addresses and connect them:"
        f"\ngcloud compute addresses create {reserved} --global --purpose=VPC_PEERING --prefix-length=20"
        f" --network={name} --project={host}"
        f"\ngcloud services vpc-peerings connect --service={SERVICE_NETWORKING} --ranges={reserved} --network={name}"
        f" --project={host}",
    )


def _other_network(context: Context) -> Iterator[Problem]:
    public, private = _address(context)
    used = network(context)
    if not public and private and used != private:
        yield Problem(
            "mlflow_network",
            f"mlflow_network is {used}, and the database has an address in {private} alone, which cannot be reached"
            " from another network.",
            "Leave mlflow_network out, or give the database an address in that network (cloudsql_private_network).",
        )
    found = context.existing.resource("subnetwork", subnetwork(context)) or {}
    if found.get("network") and found["network"] != used:
        yield Problem(
            "mlflow_subnetwork",
            f"mlflow_subnetwork is {subnetwork(context)}, which belongs to {found['network']} and not to {used}.",
            f"Name a subnetwork of {used} in {context.region}, or correct mlflow_network.",
        )


def _no_way_to_google(context: Context) -> Iterator[Problem]:
    """Without a public address only Private Google Access leads to Secret Manager and to the bucket."""
    found = context.existing.resource("subnetwork", subnetwork(context))
    if found is None or found.get("private_google_access"):
        return
    closed = {"mlflow_network_egress": "ALL_TRAFFIC"}
    if context["mlflow_target"] == "appengine":
        closed["appengine_mlflow_instance_ip_mode"] = "INTERNAL"
    _projects, host, _regions, region, _subnetworks, name = subnetwork(context).split("/")
    for variable, value in closed.items():
        if context[variable] == value:
            yield Problem(
                variable,
                f"{variable} is {value}, and the subnetwork {subnetwork(context)} has no Private Google Access, so that"
                " Secret Manager and Cloud Storage cannot be reached.",
                f"Enable it: gcloud compute networks subnets update {name} --region={region} --project={host}"
                " --enable-private-ip-google-access",
            )
