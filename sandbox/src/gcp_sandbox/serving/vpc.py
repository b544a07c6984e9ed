# SPDX-License-Identifier: Apache-2.0
"""The VPC network of what Cloud Run and App Engine run, which decides whether it reaches private addresses.

cloud.google.com/run/docs/configuring/vpc-direct-vpc, cloud.google.com/appengine/docs/flexible/reference/app-yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcp_sandbox.gateway import catalog
from gcp_sandbox.gateway.ports import Vpc

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform


class Missing(Exception):
    """Why there is no such place: `path` of the network or subnetwork, and a sentence about it."""

    def __init__(self, path: str, said: str) -> None:
        super().__init__(said)
        self.path = path


@dataclass(frozen=True)
class Place:
    """Where instances are: paths of a network and of a subnetwork, which is "" for none."""

    network: str
    subnetwork: str


def find(sandbox: Platform, project: str, region: str, network: str, subnetwork: str, *, service: str) -> Place:
    """Return the network and subnetwork that are meant by names or paths; Missing where one does not exist.

    A name alone is of the project, or of the other one's. A subnetwork without a name has the network's.

    :param project: of the service; its agent must have the right to use a subnetwork of another project.
    :param service: "run" or "appengineflex".
    """
    vpc = sandbox.ports.get(Vpc)
    host = next((path.split("/")[1] for path in (network, subnetwork) if path.startswith("projects/")), project)
    path = _path(network, f"projects/{host}/global/networks")
    found = vpc.network(path) if path else None
    if path and found is None:
        raise Missing(path, f"The resource '{path}' was not found")
    below = _path(subnetwork or path.rpartition("/")[2], f"projects/{host}/regions/{region}/subnetworks")
    inside = vpc.subnetwork(below)
    if inside is None:
        raise Missing(below, f"The resource '{below}' was not found")
    owner = vpc.network(inside["network"])
    assert owner is not None
    if found and owner["path"] != found["path"]:
        raise Missing(below, f"The subnetwork '{below}' does not belong to the network '{found['path']}'.")
    if inside["path"].split("/")[3] != region:
        raise Missing(below, f"The subnetwork '{below}' is not in the region {region}.")
    _check_agent(sandbox, project, inside["path"], service)
    return Place(owner["path"], inside["path"])


def _path(name: str, parent: str) -> str:
    return f"{parent}/{name}" if name and "/" not in name else name


def _check_agent(sandbox: Platform, project: str, subnetwork: str, service: str) -> None:
    if subnetwork.split("/")[1] == project:
        return
    agent = catalog.service_agent(service, sandbox.projects.get(project))
    assert agent is not None
    principal = sandbox.identities.service_account(agent.email)
    permission = "compute.subnetworks.use"
    if not sandbox.iam.allowed(principal, f"//compute.googleapis.com/{subnetwork}", permission):
        raise Missing(subnetwork, f"Required '{permission}' permission for '{subnetwork}': {agent.email} has no role.")
