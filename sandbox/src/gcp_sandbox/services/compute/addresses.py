# SPDX-License-Identifier: Apache-2.0
"""globalAddresses.*: addresses of load balancers, and ranges that are reserved for peered services."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import unimplemented
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.compute import ranges, refusals
from gcp_sandbox.services.compute.base import (
    ADDRESS,
    HOST,
    LINK,
    NETWORK,
    PARTIAL,
    PROJECT,
    SUBNETWORK,
    Base,
    Body,
    fingerprint,
)

# Seconds that operations take on Google Cloud.
CREATE, DELETE = 6, 6

ONE = "projects/{project}/global/addresses/{address}"
PEERING = "VPC_PEERING"
INSERTED = ("addressType", "description", "ipVersion", "labels", "networkTier", "prefixLength", "purpose")


class Addresses(Base):
    """globalAddresses.*"""

    @method("globalAddresses.get", permission="compute.globalAddresses.get", on=ONE)
    def get_address(self, call: Call) -> Body:
        return self._address(call)

    @method("globalAddresses.list", permission="compute.globalAddresses.list", on=PROJECT, ignores=PARTIAL)
    def list_addresses(self, call: Call) -> Body:
        parent = f"projects/{call.project(call.params['project']).id}/global/addresses"
        return self._listed(call, ADDRESS, parent, [body for _, body in self.store.list(ADDRESS, parent=parent)])

    # An internal address asks for another permission than an external one, so these two check in their code.

    @method("globalAddresses.insert", permission=None)
    def insert_address(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        internal = call.body.get("addressType") == "INTERNAL"
        verb = "createInternal" if internal else "create"
        call.require(f"compute.globalAddresses.{verb}", f"{HOST}projects/{project}")
        path = f"projects/{project}/global/addresses/{call.body.get('name', '')}"
        identified = self._new(call, ADDRESS, path)
        sent = {key: value for key, value in call.body.items() if key in INSERTED}
        body = {"addressType": "EXTERNAL", **identified, **sent, "status": "RESERVED"}
        body["labelFingerprint"] = fingerprint(body.get("labels", {}))
        body |= self._internal(call, project, body) if internal else _external(body, call.body)
        return self.begin(call, "insert", body, CREATE, [(ADDRESS, path, body)])

    @method("globalAddresses.delete", permission=None)
    def delete_address(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        path = f"projects/{project}/global/addresses/{call.params['address']}"
        stored = self.store.get(ADDRESS, path) or {}
        verb = "deleteInternal" if stored.get("addressType") == "INTERNAL" else "delete"
        call.require(f"compute.globalAddresses.{verb}", HOST + path)
        body = self.load(ADDRESS, path)
        return self.begin(call, "delete", body, DELETE, [(ADDRESS, body["selfLink"].removeprefix(LINK), None)])

    @method("globalAddresses.setLabels", permission="compute.globalAddresses.setLabels",
            on="projects/{project}/global/addresses/{resource}")  # fmt: skip
    def label_address(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        body = self.load(ADDRESS, f"projects/{project}/global/addresses/{call.params['resource']}")
        if call.body.get("labelFingerprint") != body["labelFingerprint"]:
            raise refusals.stale("Labels fingerprint either invalid or resource labels have changed")
        body["labels"] = call.body.get("labels", {})
        body["labelFingerprint"] = fingerprint(body["labels"])
        return self.begin(call, "setLabels", body, 0, [(ADDRESS, body["selfLink"].removeprefix(LINK), body)])

    # --- for other services

    def reserved(self, network: str) -> dict[str, ipaddress.IPv4Network]:
        """Return the ranges of a network (link or path) that are reserved for peered services, by name."""
        path = self.path(network)
        parent = f"{path.partition('/global/')[0]}/global/addresses"
        return {
            body["name"]: ranges.Range(f"{body['address']}/{body['prefixLength']}")
            for _, body in self.store.list(ADDRESS, parent=parent)
            if body.get("purpose") == PEERING and body["network"] == LINK + path
        }

    # --- private

    def _address(self, call: Call) -> Body:
        project = call.project(call.params["project"]).id
        return self.load(ADDRESS, f"projects/{project}/global/addresses/{call.params['address']}")

    def _internal(self, call: Call, project: str, body: Body) -> Body:
        """Return network and range of an internal address."""
        if body.get("purpose") != PEERING:
            raise unimplemented(f"global internal addresses of Compute Engine for {body.get('purpose', 'no purpose')}")
        if not call.body.get("network"):
            raise refusals.required("resource.network")
        network = self.load(NETWORK, self.path(call.body["network"], project))
        length = body.get("prefixLength", 0)
        if not 8 <= length <= 29:
            said = "Must be from 8 to 29 for a range of addresses."
            raise refusals.invalid("resource.prefixLength", length, said)
        taken = self._taken(project, network)
        if start := call.body.get("address"):
            block = ranges.containing(start, length)
            if block is None:
                raise refusals.invalid("resource.address", start, "Must be an IPv4 address.")
            if any(block.overlaps(other) for other in taken):
                raise refusals.invalid("resource.address", start, "The requested range conflicts with another one.")
        else:
            digest = hashlib.sha256(body["selfLink"].encode()).digest()
            block = ranges.free(length, [*taken, ranges.AUTO_BLOCK], start=int.from_bytes(digest[:4], "big"))
            if block is None:
                raise refusals.invalid("resource.prefixLength", length, "No free range of this length is left.")
        return {"network": network["selfLink"], "address": str(block.network_address)}

    def _taken(self, project: str, network: Body) -> list[ranges.Range]:
        """Return the ranges of a network that subnetworks and other addresses have."""
        link = network["selfLink"]
        found = [ranges.AUTO_BLOCK] if network["autoCreateSubnetworks"] else []
        for _, body in self.store.list(SUBNETWORK, prefix=f"projects/{project}/regions/"):
            if body["network"] == link:
                found.append(ranges.Range(body["ipCidrRange"]))
                found += [ranges.Range(more["ipCidrRange"]) for more in body.get("secondaryIpRanges", [])]
        return found + list(self.reserved(link).values())


def _external(body: Body, sent: dict[str, Any]) -> Body:
    """Return address and tier of an external address, which is for show."""
    for field in ("network", "prefixLength", "purpose"):
        if field in sent:
            raise refusals.invalid(f"resource.{field}", sent[field], "An external address has none.")
    digest = hashlib.sha256(f"{body['selfLink']} {body['id']}".encode()).digest()
    if body.get("ipVersion") == "IPV6":
        return {"address": str(ipaddress.IPv6Address(0x2600190100000000 << 64 | int.from_bytes(digest[:4], "big")))}
    return {"address": f"198.51.100.{digest[0] % 254 + 1}", "networkTier": "PREMIUM", **_kept(body, "networkTier")}


def _kept(body: Body, *fields: str) -> Body:
    return {field: body[field] for field in fields if field in body}
