# SPDX-License-Identifier: Apache-2.0
"""networks.*: made in auto or custom mode, changed, deleted; the network `default`; peerings."""

from __future__ import annotations

import secrets
from typing import Any

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.projects import Project
from gcp_sandbox.gateway.service import method
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.services.compute import ranges, refusals
from gcp_sandbox.services.compute.base import (
    ADDRESS,
    LINK,
    NETWORK,
    NETWORK_PATH,
    PARTIAL,
    PROJECT,
    SUBNETWORK,
    Base,
    Body,
    identity,
)
from gcp_sandbox.services.compute.subnetworks import auto_subnetwork

# Seconds that operations take on Google Cloud.
CREATE, CREATE_AUTO, CHANGE, DELETE = 12, 25, 8, 25

API = "compute.googleapis.com"
#: Says that a project has had its network `default`, which comes once.
STARTED = "compute.started"

DEFAULT_ORDER = "AFTER_CLASSIC_FIREWALL"
#: What a patch may change.
MUTABLE = (
    *("description", "enableUlaInternalIpv6", "internalIpv6Range", "mtu"),
    *("networkFirewallPolicyEnforcementOrder", "routingConfig"),
)


class Networks(Base):
    """networks.*"""

    # --- the network `default`

    def api_enabled(self, project: Project, services: list[str]) -> None:
        """Make the network `default` when a project gets Compute Engine (cloud.google.com/vpc/docs/vpc)."""
        wanted = API in services and self.sandbox.settings.default_network
        if wanted and self.store.get(STARTED, project.id) is None:
            self.store.put(STARTED, project.id, {})
            path, now = f"projects/{project.id}/global/networks/default", timestamp()
            if self.store.get(NETWORK, path) is None:
                network = _completed({"autoCreateSubnetworks": True, "description": "Default network for the project"})
                self.put(NETWORK, path, {"kind": "compute#network", **identity(now, path), **network})
                for subnetwork, body in _automatic(path, now):
                    self.put(SUBNETWORK, subnetwork, body)

    # --- methods

    @method("networks.get", permission="compute.networks.get", on=NETWORK_PATH)
    def get_network(self, call: Call) -> Body:
        return self._with_subnetworks(self._network(call))

    @method("networks.list", permission="compute.networks.list", on=PROJECT, ignores=PARTIAL)
    def list_networks(self, call: Call) -> Body:
        parent = f"projects/{call.project(call.params['project']).id}/global/networks"
        found = [self._with_subnetworks(body) for _, body in self.store.list(NETWORK, parent=parent)]
        return self._listed(call, NETWORK, parent, found)

    @method("networks.insert", permission="compute.networks.create", on=PROJECT)
    def insert_network(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        path = f"projects/{project}/global/networks/{call.body.get('name', '')}"
        identified = self._new(call, NETWORK, path)
        sent = {key: value for key, value in call.body.items() if key in (*MUTABLE, "autoCreateSubnetworks")}
        if "autoCreateSubnetworks" not in sent or "IPv4Range" in call.body:
            said = "Legacy networks cannot be created; set autoCreateSubnetworks."
            raise refusals.invalid("resource.IPv4Range", call.body.get("IPv4Range", ""), said)
        if profile := call.body.get("networkProfile"):
            sent["networkProfile"] = LINK + self.path(profile, project)
        body = identified | _completed(sent)
        _check(body)
        automatic = _automatic(path, call.now) if body["autoCreateSubnetworks"] else []
        writes = [(NETWORK, path, body), *((SUBNETWORK, name, subnetwork) for name, subnetwork in automatic)]
        return self.begin(call, "insert", body, CREATE_AUTO if automatic else CREATE, writes)

    @method("networks.patch", permission="compute.networks.update", on=NETWORK_PATH, also=("compute.networks.get",))
    def patch_network(self, call: Call) -> Body:
        network = self._network(call)
        sent = {key: value for key, value in call.body.items() if network.get(key) != value}
        for field in sent.keys() & {"autoCreateSubnetworks", "name", "networkProfile", "IPv4Range"}:
            raise refusals.invalid(f"resource.{field}", sent[field], "The field cannot be changed.")
        changed = {key: value for key, value in sent.items() if key in MUTABLE}
        if "routingConfig" in changed:
            changed["routingConfig"] = network["routingConfig"] | changed["routingConfig"]
        body = _completed(network | changed)
        _check(body)
        return self.begin(call, "updateNetwork", body, CHANGE, [(NETWORK, self._path(body), body)])

    @method("networks.switchToCustomMode", permission="compute.networks.switchToCustomMode", on=NETWORK_PATH)
    def switch_network(self, call: Call) -> Body:
        network = self._network(call)
        if not network["autoCreateSubnetworks"]:
            raise refusals.usage("Network is not an auto subnet mode network.")
        network["autoCreateSubnetworks"] = False
        return self.begin(call, "switchToCustomMode", network, CHANGE, [(NETWORK, self._path(network), network)])

    @method("networks.delete", permission="compute.networks.delete", on=NETWORK_PATH)
    def delete_network(self, call: Call) -> Body:
        network = self._network(call)
        path = self._path(network)
        automatic = {name for name, _ in _automatic(path, "")} if network["autoCreateSubnetworks"] else set()
        writes: list[tuple[str, str, Body | None]] = [(NETWORK, path, None)]
        for subnetwork in self.subnetworks_of(path):
            name = self._path(subnetwork)
            if name not in automatic:
                raise refusals.in_use("network", path, name)
            writes.append((SUBNETWORK, name, None))
        for name, address in self.store.list(ADDRESS, parent=f"{path.partition('/global/')[0]}/global/addresses"):
            if address.get("network") == network["selfLink"]:
                raise refusals.in_use("network", path, name)
        return self.begin(call, "delete", network, DELETE, writes)

    @method("networks.removePeering", permission="compute.networks.removePeering", on=NETWORK_PATH)
    def remove_peering(self, call: Call) -> Body:
        network, name = self._network(call), call.body.get("name", "")
        peerings = network.get("peerings", [])
        kept = [peering for peering in peerings if peering["name"] != name]
        if len(kept) == len(peerings):
            raise refusals.invalid("resource.name", name, "There is no such peering in the network.")
        body = {key: value for key, value in network.items() if key != "peerings"} | (
            {"peerings": kept} if kept else {}
        )
        return self.begin(call, "removePeering", network, CHANGE, [(NETWORK, self._path(network), body)])

    # --- for other services

    def network(self, reference: str) -> Body | None:
        """Return the network of a link or path, or None."""
        path = self.path(reference)
        found = self.store.get(NETWORK, path)
        return found | {"path": path} if found else None

    def set_peering(self, reference: str, peering: dict[str, Any] | None, name: str) -> None:
        """Give a network a peering, replace it, or remove it."""
        path = self.path(reference)
        with self.store.transaction():
            network = self.load(NETWORK, path)
            kept = [other for other in network.pop("peerings", []) if other["name"] != name]
            if peerings := kept + ([peering] if peering else []):
                network["peerings"] = peerings
            self.put(NETWORK, path, network)

    # --- private

    def _network(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        return self.load(NETWORK, f"projects/{project}/global/networks/{call.params['network']}")

    @staticmethod
    def _path(body: Body) -> str:
        return body["selfLink"].removeprefix(LINK)

    def subnetworks_of(self, path: str) -> list[Body]:
        """Return the subnetworks of a network."""
        prefix = f"{path.partition('/global/')[0]}/regions/"
        rows = self.store.list(SUBNETWORK, prefix=prefix)
        return [body for _, body in rows if body["network"] == LINK + path]

    def _with_subnetworks(self, network: Body) -> Body:
        links = [body["selfLink"] for body in self.subnetworks_of(self._path(network))]
        return network | ({"subnetworks": links} if links else {}) | {"selfLinkWithId": _link_with_id(network)}


def _link_with_id(network: Body) -> str:
    return f"{network['selfLink'].rpartition('/')[0]}/{network['id']}"


def _automatic(path: str, now: str) -> list[tuple[str, Body]]:
    """Return the subnetworks of a network in auto mode, by path."""
    found = (auto_subnetwork(path, region, block, now) for region, block in sorted(ranges.AUTO.items()))
    return [(body["selfLink"].removeprefix(LINK), body) for body in found]


def _completed(body: Body) -> Body:
    """Return a network with what Compute Engine fills in."""
    routing = {"routingMode": "REGIONAL", "bgpBestPathSelectionMode": "LEGACY", **body.get("routingConfig", {})}
    out = {"networkFirewallPolicyEnforcementOrder": DEFAULT_ORDER, **body, "routingConfig": routing}
    if not out.get("enableUlaInternalIpv6"):
        out.pop("enableUlaInternalIpv6", None)
    elif "internalIpv6Range" not in out:
        out["internalIpv6Range"] = f"fd20:{secrets.randbelow(0xFFFF):x}:{secrets.randbelow(0xFFFF):x}:0:0:0:0:0/48"
    return out


def _check(body: Body) -> None:
    if "mtu" in body and not 1300 <= body["mtu"] <= 8896:
        said = "Must be greater than or equal to 1300 and less than or equal to 8896."
        raise refusals.invalid("resource.mtu", body["mtu"], said)
