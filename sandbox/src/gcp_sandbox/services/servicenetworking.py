# SPDX-License-Identifier: Apache-2.0
"""Service Networking v1: connections of networks to Google's services, which have private addresses in reserved ranges.

cloud.google.com/vpc/docs/private-services-access. A connection is visible as long as the network has its peering; what
remains without it is found again by the next request, as on Google Cloud.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.masks import mask_paths
from gcp_sandbox.gateway.ports import PrivateServices, ServiceProducer, Vpc
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.gateway.times import timestamp

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.core import Core
    from gcp_sandbox.gateway.operations import Op

Json = dict[str, Any]

KIND = "servicenetworking.connection"
SERVICE = "services/servicenetworking.googleapis.com"
PEERING = "servicenetworking-googleapis-com"
TYPE = "type.googleapis.com/google.cloud.servicenetworking.v1.Connection"
NETWORK = re.compile(r"projects/([^/]+)/global/networks/[^/]+")
# Seconds that operations take on Google Cloud.
CONNECT, DISCONNECT = 45, 30

IN_USE = (
    "Failed to delete connection; Producer services (e.g. CloudSQL, Cloud Memstore, etc.) are still using this "
    "connection."
)


def on_consumer(call: Call) -> str:
    """Return the project of the network that a call is about; 400 where the call names none."""
    network = call.query.get("network") or call.body.get("network") or call.body.get("consumerNetwork") or ""
    found = NETWORK.fullmatch(network)
    if found is None:
        raise errors.invalid("The network must be projects/{project}/global/networks/{network}.")
    return f"//cloudresourcemanager.googleapis.com/projects/{call.project(found[1]).id}"


class ServiceNetworking(LongRunning):
    """servicenetworking.googleapis.com."""

    name = "servicenetworking"
    # Networks are named in queries and bodies.
    consumer = "caller"
    operation_permission = "servicenetworking.operations.{verb}"

    def __init__(self, sandbox: Core) -> None:
        super().__init__(sandbox)
        sandbox.ports.offer(PrivateServices, self)

    @property
    def vpc(self) -> Vpc:
        return self.sandbox.ports.get(Vpc)

    def operation_parent(self, call: Call) -> str:
        """Return the project of an operation, or the caller's own for a list."""
        op = self.sandbox.operations.get(self.name, call.params.get("name", ""))
        project = op.project if op else self.sandbox.settings.project
        return f"//cloudresourcemanager.googleapis.com/projects/{project}"

    # --- connections

    @method("services.connections.list", permission="servicenetworking.services.get", on=on_consumer)
    def list_connections(self, call: Call) -> Json:
        if call.params["parent"] not in (SERVICE, "services/-"):
            return {}
        found = self._connection(self._path(call, call.query["network"]))
        return {"connections": [self._shown(found)]} if found and self._peered(found) else {}

    @method("services.connections.create", permission="servicenetworking.services.addPeering", on=on_consumer)
    def create_connection(self, call: Call) -> Json:
        return self._connect(call, self._checked(call))

    @method("services.connections.patch", permission="servicenetworking.services.addPeering", on=on_consumer)
    def patch_connection(self, call: Call) -> Json:
        """Replace the reserved ranges; `force` where one of them goes. A network without a connection gets one."""
        if call.params["name"].rpartition("/")[2] not in ("-", PEERING):
            raise errors.not_found(f"Connection '{call.params['name']}' not found.")
        paths = [".".join(path) for path in mask_paths(call.query.get("updateMask"))]
        if any(path not in ("reservedPeeringRanges", "*") for path in paths):
            raise errors.invalid("The update mask can only contain reserved_peering_ranges.")
        return self._connect(call, self._checked(call) | {"update": True, "force": bool(call.query.get("force"))})

    @method(
        "services.connections.deleteConnection",
        permission="servicenetworking.services.deleteConnection",
        on=on_consumer,
    )
    def delete_connection(self, call: Call) -> Json:
        path = self._path(call, call.body["consumerNetwork"])
        found = self._connection(path)
        if found is None:
            raise errors.not_found(f"Connection of the network '{path}' not found.")
        return self._begin(call, path, DISCONNECT, "servicenetworking.disconnect", {})

    @job("servicenetworking.connect")
    def connect(self, op: Op) -> Json:
        """Make a connection and its peering, or change its ranges."""
        op.elapse()
        with self.store.transaction():
            old, network = self._connection(op.target), self.vpc.network(op.target)
            if network is None:
                raise errors.failed_precondition(f"Network '{op.target}' was deleted.")
            wanted = op.args["ranges"]
            if old and not op.args["update"] and set(wanted) != set(old["ranges"]):
                said = "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection."
                raise errors.failed_precondition(said)
            if old and not set(old["ranges"]) <= set(wanted) and not op.args["force"]:
                said = "A range cannot be removed from the connection without force."
                raise errors.failed_precondition(said)
            for name in wanted:
                if name not in self.vpc.reserved(op.target):
                    raise errors.failed_precondition(f"Allocated IP range '{name}' not found in network.")
            body = {"network": op.target, "id": network["id"], "ranges": wanted}
            self.store.put(KIND, op.target, body)
            if not self._peered(body):
                self.vpc.set_peering(op.target, _peering(network["id"]), PEERING)
        return {"@type": TYPE, **self._shown(body)}

    @job("servicenetworking.disconnect")
    def disconnect(self, op: Op) -> Json:
        """Remove a connection and its peering, unless a service has addresses there."""
        op.elapse()
        with self.store.transaction():
            if self.sandbox.ports.get(ServiceProducer).uses_network(op.target):
                raise errors.failed_precondition(IN_USE)
            self.store.delete(KIND, op.target)
            if self.vpc.network(op.target):
                self.vpc.set_peering(op.target, None, PEERING)
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    # --- for other services

    def ranges(self, network: str) -> dict[str, IPv4Network] | None:
        """Return the ranges of a network's connection, by name; None where it has no connection."""
        found = self._connection(network)
        if found is None or not self._peered(found):
            return None
        reserved = self.vpc.reserved(network)
        return {name: reserved[name] for name in found["ranges"] if name in reserved}

    # --- private

    def _checked(self, call: Call) -> Json:
        """Return the arguments of a connection; 400 without a range, 404 without the network."""
        names = list(dict.fromkeys(call.body.get("reservedPeeringRanges", [])))
        if not names:
            raise errors.invalid("reserved_peering_ranges must name at least one range.")
        path = self._path(call, call.body["network"])
        if self.vpc.network(path) is None:
            raise errors.not_found(f"The resource '{path}' was not found")
        return {"path": path, "ranges": names, "update": False, "force": False}

    def _path(self, call: Call, network: str) -> str:
        _, project, _, _, name = network.split("/")
        return f"projects/{call.project(project).id}/global/networks/{name}"

    def _connection(self, path: str) -> Json | None:
        """Return the connection of a network; one of an earlier network of that name does not count."""
        found, network = self.store.get(KIND, path), self.vpc.network(path)
        return found if found and network and found["id"] == network["id"] else None

    def _peered(self, connection: Json) -> bool:
        network = self.vpc.network(connection["network"]) or {}
        return any(peering["name"] == PEERING for peering in network.get("peerings", ()))

    def _shown(self, connection: Json) -> Json:
        _, project, _, _, name = connection["network"].split("/")
        number = self.sandbox.projects.get(project).number
        return {
            "network": f"projects/{number}/global/networks/{name}",
            "reservedPeeringRanges": connection["ranges"],
            "peering": PEERING,
            "service": SERVICE,
        }

    def _connect(self, call: Call, args: Json) -> Json:
        return self._begin(call, args["path"], CONNECT, "servicenetworking.connect", args)

    def _begin(self, call: Call, path: str, seconds: float, work: str, args: Json) -> Json:
        project = self.sandbox.projects.get(path.split("/")[1])
        if self.sandbox.operations.list(self.name, project.id, target=path, active=True):
            said = "There is another operation on this connection in progress. Try again later."
            raise errors.failed_precondition(said)
        op = self.sandbox.operations.start(
            service=self.name,
            name=f"operations/pssn.p24-{project.number}-{uuid.uuid4()}",
            seconds=seconds,
            job=work,
            args=args,
            project=project.id,
            target=path,
        )
        return self.operation_json(op)


def _peering(id: str) -> Json:
    """Return the peering with the network of Google's services for a network with this number."""
    tenant = hashlib.sha256(id.encode()).hexdigest()[:16]
    return {
        "name": PEERING,
        "network": f"https://www.googleapis.com/compute/v1/projects/u{tenant}-tp/global/networks/servicenetworking",
        "state": "ACTIVE",
        "stateDetails": f"[{timestamp()}]: Connected.",
        "autoCreateRoutes": True,
        "exchangeSubnetRoutes": True,
        "exportCustomRoutes": False,
        "importCustomRoutes": False,
        "exportSubnetRoutesWithPublicIp": False,
        "importSubnetRoutesWithPublicIp": False,
        "stackType": "IPV4_ONLY",
    }
