# SPDX-License-Identifier: Apache-2.0
"""subnetworks.*: ranges in a region, with a policy of their own."""

from __future__ import annotations

import ipaddress
from typing import Any

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.errors import unimplemented
from gcp_sandbox.gateway.locations import REGIONS, zones
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
    identity,
)

# Seconds that operations take on Google Cloud.
CREATE, CHANGE, DELETE = 12, 6, 12

ONE = "projects/{project}/regions/{region}/subnetworks/{subnetwork}"
RESOURCE = "projects/{project}/regions/{region}/subnetworks/{resource}"

PROXIES = ("REGIONAL_MANAGED_PROXY", "GLOBAL_MANAGED_PROXY", "INTERNAL_HTTPS_LOAD_BALANCER")
IPV4_ONLY, DUAL = "IPV4_ONLY", "IPV4_IPV6"
INSERTED = (
    *("description", "ipCidrRange", "ipv6AccessType", "logConfig", "privateIpGoogleAccess", "privateIpv6GoogleAccess"),
    *("purpose", "role", "secondaryIpRanges", "stackType", "enableFlowLogs"),
)
#: What a patch may change; privateIpGoogleAccess and the primary range have methods of their own.
MUTABLE = (
    *("description", "enableFlowLogs", "ipv6AccessType", "logConfig", "privateIpv6GoogleAccess", "role"),
    *("secondaryIpRanges", "stackType"),
)
#: Where resources of any kind may be.
SCOPES = ("global", *(f"regions/{region}" for region in REGIONS), *(f"zones/{z}" for r in REGIONS for z in zones(r)))
#: Fields that the fingerprint does not depend on.
FIXED = ("creationTimestamp", "fingerprint", "id", "kind", "selfLink")


class Subnetworks(Base):
    """subnetworks.*"""

    @method("subnetworks.get", permission="compute.subnetworks.get", on=ONE)
    def get_subnetwork(self, call: Call) -> Body:
        return self._subnetwork(call)

    @method("subnetworks.list", permission="compute.subnetworks.list", on=PROJECT, ignores=PARTIAL)
    def list_subnetworks(self, call: Call) -> Body:
        parent = f"{self._scope(call)}/subnetworks"
        return self._listed(call, SUBNETWORK, parent, [body for _, body in self.store.list(SUBNETWORK, parent=parent)])

    @method(
        "subnetworks.aggregatedList",
        permission="compute.subnetworks.list",
        on=PROJECT,
        ignores=PARTIAL,
    )
    def list_all_subnetworks(self, call: Call) -> Body:
        """Return the subnetworks of all regions, by region."""
        project = call.project(call.params["project"]).id
        found = [body for _, body in self.store.list(SUBNETWORK, prefix=f"projects/{project}/regions/")]
        answer = self._listed(call, "compute.subnetworkAggregated", f"projects/{project}/aggregated/subnetworks", found)
        scopes: dict[str, Body] = {}
        for body in answer.get("items", []):
            scope = "/".join(body["selfLink"].removeprefix(LINK).split("/")[2:4])
            scopes.setdefault(scope, {"subnetworks": []})["subnetworks"].append(body)
        if call.query.get("includeAllScopes"):
            scopes = {scope: scopes.get(scope) or _empty(scope) for scope in sorted({*SCOPES, *scopes})}
        return answer | {"items": scopes}

    @method("subnetworks.insert", permission="compute.subnetworks.create", on=PROJECT)
    def insert_subnetwork(self, call: Call) -> Body:
        scope = self._scope(call)
        path = f"{scope}/subnetworks/{call.body.get('name', '')}"
        identified = self._new(call, SUBNETWORK, path)
        for field in ("network", "ipCidrRange"):
            if not call.body.get(field):
                raise refusals.required(f"resource.{field}")
        network_path = self.path(call.body["network"], scope.split("/")[1])
        call.require("compute.networks.updatePolicy", HOST + network_path)
        network = self.load(NETWORK, network_path)
        sent = {key: value for key, value in call.body.items() if key in INSERTED}
        body = _completed(identified | sent | {"network": network["selfLink"], "region": LINK + scope}, network)
        failure = self._conflict(network, body, _blocks(body), network["autoCreateSubnetworks"])
        return self.begin(call, "insert", body, CREATE, [(SUBNETWORK, path, body)], failure)

    @method("subnetworks.patch", permission="compute.subnetworks.update", on=ONE, also=("compute.subnetworks.get",))
    def patch_subnetwork(self, call: Call) -> Body:
        old = self._subnetwork(call)
        if "fingerprint" not in call.body:
            raise refusals.required("resource.fingerprint")
        if call.body["fingerprint"] != old["fingerprint"]:
            raise refusals.stale()
        sent = {key: value for key, value in call.body.items() if key != "fingerprint" and old.get(key) != value}
        for field in sent.keys() & set(INSERTED) - set(MUTABLE):
            raise refusals.invalid(f"resource.{field}", sent[field], "The field cannot be changed by a patch.")
        network = self.load(NETWORK, old["network"].removeprefix(LINK))
        body = _completed(old | {key: value for key, value in sent.items() if key in MUTABLE}, network)
        failure = self._conflict(network, body, set(_blocks(body)) - set(_blocks(old)), automatic=False)
        return self._changed(call, "patch", body, failure)

    @method("subnetworks.setPrivateIpGoogleAccess", permission="compute.subnetworks.setPrivateIpGoogleAccess", on=ONE)
    def set_private_access(self, call: Call) -> Body:
        body = self._subnetwork(call) | {"privateIpGoogleAccess": call.body.get("privateIpGoogleAccess", False)}
        return self._changed(call, "setPrivateIpGoogleAccess", body)

    @method("subnetworks.expandIpCidrRange", permission="compute.subnetworks.expandIpCidrRange", on=ONE)
    def expand_range(self, call: Call) -> Body:
        old, wanted = self._subnetwork(call), call.body.get("ipCidrRange", "")
        block, before = ranges.parse(wanted), ranges.Range(old["ipCidrRange"])
        if block is None or block == before or not before.subnet_of(block):
            said = f"The new range must contain the current range {before}."
            raise refusals.invalid("ipCidrRange", wanted, said)
        network = self.load(NETWORK, old["network"].removeprefix(LINK))
        body = old | {"ipCidrRange": wanted}
        return self._changed(call, "expandIpCidrRange", body, self._conflict(network, body, [block], automatic=False))

    @method("subnetworks.delete", permission="compute.subnetworks.delete", on=ONE)
    def delete_subnetwork(self, call: Call) -> Body:
        body = self._subnetwork(call)
        path = body["selfLink"].removeprefix(LINK)
        network = self.load(NETWORK, body["network"].removeprefix(LINK))
        region = path.split("/")[3]
        if network["autoCreateSubnetworks"] and ranges.Range(body["ipCidrRange"]) == ranges.AUTO[region]:
            raise refusals.usage("Cannot delete auto subnetwork from an auto subnet mode network.")
        return self.begin(call, "delete", body, DELETE, [(SUBNETWORK, path, None)])

    @method("subnetworks.getIamPolicy", permission="compute.subnetworks.getIamPolicy", on=RESOURCE)
    def get_policy(self, call: Call) -> Body:
        path = self._governed(call)
        version = call.query.get("optionsRequestedPolicyVersion") or 0
        return self.sandbox.iam.get_policy(HOST + path, requested_version=version)

    @method("subnetworks.setIamPolicy", permission="compute.subnetworks.setIamPolicy", on=RESOURCE)
    def set_policy(self, call: Call) -> Body:
        """Replace the policy. `bindings` and `etag` beside it are the older form."""
        path = self._governed(call)
        older = {key: value for key, value in call.body.items() if key in ("bindings", "etag")}
        return self.sandbox.iam.set_policy(HOST + path, call.body.get("policy") or older, "", public=False)

    # --- for other services

    def subnetwork(self, reference: str) -> Body | None:
        """Return the subnetwork of a link or path, or None."""
        path = self.path(reference)
        found = self.store.get(SUBNETWORK, path)
        return found | {"path": path} if found else None

    # --- private

    def _subnetwork(self, call: Call) -> Body:
        return self.load(SUBNETWORK, f"{self._scope(call)}/subnetworks/{call.params['subnetwork']}")

    def _governed(self, call: Call) -> str:
        """Return the path of the subnetwork that a call about a policy names."""
        path = f"{self._scope(call)}/subnetworks/{call.params['resource']}"
        return self.load(SUBNETWORK, path)["selfLink"].removeprefix(LINK)

    def _changed(self, call: Call, verb: str, body: Body, failure: dict[str, str] | None = None) -> Body:
        body["fingerprint"] = _fingerprint(body)
        return self.begin(call, verb, body, CHANGE, [(SUBNETWORK, body["selfLink"].removeprefix(LINK), body)], failure)

    def _conflict(self, network: Body, body: Body, blocks: Any, automatic: bool) -> dict[str, str] | None:
        """Return the error of an operation for ranges that overlap others of the network; None where none does."""
        project = network["selfLink"].removeprefix(LINK).split("/")[1]
        for block in blocks:
            if automatic and block.overlaps(ranges.AUTO_BLOCK):
                said = f"Invalid IPCidrRange: {block} is in the range of auto mode {ranges.AUTO_BLOCK}."
                return {"code": "INVALID_USAGE", "message": said}
            for _, other in self.store.list(SUBNETWORK, prefix=f"projects/{project}/regions/"):
                if other["network"] != network["selfLink"] or other["selfLink"] == body["selfLink"]:
                    continue
                if any(block.overlaps(taken) for taken in _blocks(other)):
                    region = other["region"].rpartition("/")[2]
                    said = f"conflicts with existing subnetwork '{other['name']}' in region '{region}'."
                    return {"code": "INVALID_USAGE", "message": f"Invalid IPCidrRange: {block} {said}"}
            for name, address in self.store.list(ADDRESS, parent=f"projects/{project}/global/addresses"):
                taken = ranges.parse(f"{address['address']}/{address.get('prefixLength', 32)}")
                if address.get("network") == network["selfLink"] and taken and block.overlaps(taken):
                    said = f"conflicts with the allocated range '{name.rpartition('/')[2]}'."
                    return {"code": "INVALID_USAGE", "message": f"Invalid IPCidrRange: {block} {said}"}
        return None


def auto_subnetwork(network: str, region: str, block: ranges.Range, now: str) -> Body:
    """Return the subnetwork that a network in auto mode has in a region."""
    scope = f"{network.partition('/global/')[0]}/regions/{region}"
    path = f"{scope}/subnetworks/{network.rpartition('/')[2]}"
    body = {"kind": "compute#subnetwork", **identity(now, path), "network": LINK + network, "region": LINK + scope}
    return _filled(body | {"ipCidrRange": str(block)})


def _filled(body: Body) -> Body:
    """Return a subnetwork with what Compute Engine fills in."""
    purpose = body.get("purpose", "PRIVATE")
    filled = {
        "gatewayAddress": str(ranges.Range(body["ipCidrRange"]).network_address + 1),
        "privateIpGoogleAccess": False,
        "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
        "purpose": purpose,
        "stackType": IPV4_ONLY,
        "state": "READY",
    }
    body = filled | body
    body["fingerprint"] = _fingerprint(body)
    return body


def _completed(body: Body, network: Body) -> Body:
    """Return a subnetwork as it is stored; 400 for values that do not go together."""
    block = ranges.parse(body["ipCidrRange"])
    if block is None or not 8 <= block.prefixlen <= 29:
        said = "Must be a valid IPv4 range with a prefix length from 8 to 29."
        raise refusals.invalid("resource.ipCidrRange", body["ipCidrRange"], said)
    if body["region"].rpartition("/")[2] not in REGIONS:
        raise refusals.invalid("resource.region", body["region"], "Unknown region.")
    for i, secondary in enumerate(body.get("secondaryIpRanges", [])):
        if not secondary.get("rangeName"):
            raise refusals.required(f"resource.secondaryIpRanges[{i}].rangeName")
        if ranges.parse(secondary.get("ipCidrRange", "")) is None:
            field = f"resource.secondaryIpRanges[{i}].ipCidrRange"
            raise refusals.invalid(field, secondary.get("ipCidrRange", ""), "Must be a valid IPv4 range.")
    if ("role" in body) != (body.get("purpose") in PROXIES):
        said = "A role is set for subnetworks of proxies, and for no others."
        raise refusals.invalid("resource.role", body.get("role", ""), said)
    return _dual(_filled(body), network)


def _dual(body: Body, network: Body) -> Body:
    """Return a subnetwork with its IPv6 range (cloud.google.com/vpc/docs/subnets#ipv6-ranges)."""
    if body["stackType"] == IPV4_ONLY:
        if "ipv6AccessType" in body:
            said = "A subnetwork with IPv4 addresses alone has none."
            raise refusals.invalid("resource.ipv6AccessType", body["ipv6AccessType"], said)
        return body
    if body["stackType"] != DUAL:
        raise unimplemented("subnetworks of Compute Engine with IPv6 addresses alone")
    if network["autoCreateSubnetworks"]:
        raise refusals.invalid("resource.stackType", DUAL, "The network must be in custom mode.")
    kind = body.get("ipv6AccessType")
    if kind is None:
        raise refusals.required("resource.ipv6AccessType")
    if kind == "INTERNAL" and "internalIpv6Range" not in network:
        raise refusals.invalid("resource.ipv6AccessType", kind, "The network has no internal IPv6 range.")
    if "ipv6CidrRange" not in body:
        block = ipaddress.IPv6Network(network["internalIpv6Range"] if kind == "INTERNAL" else "2600:1900:4000::/40")
        start = int(body["id"]) % (1 << (64 - block.prefixlen))
        prefix = ipaddress.IPv6Network((int(block.network_address) + (start << 64), 64)).exploded
        body["ipv6CidrRange"] = prefix
        body["internalIpv6Prefix" if kind == "INTERNAL" else "externalIpv6Prefix"] = prefix
    return body


def _empty(scope: str) -> Body:
    """Return what a list of all scopes says of one that has nothing."""
    data = [{"key": "scope", "value": scope}]
    return {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": f"No results for the scope '{scope}'.", "data": data}}


def _blocks(body: Body) -> list[ranges.Range]:
    """Return the primary range and the secondary ones."""
    more = [ranges.Range(secondary["ipCidrRange"]) for secondary in body.get("secondaryIpRanges", [])]
    return [ranges.Range(body["ipCidrRange"]), *more]


def _fingerprint(body: Body) -> str:
    return fingerprint({key: value for key, value in body.items() if key not in FIXED})
