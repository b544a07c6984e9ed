# SPDX-License-Identifier: Apache-2.0
"""Services of an application and how their traffic is split."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, masks
from gcp_sandbox.gateway.service import job, method
from gcp_sandbox.services.appengine.base import SERVICE_KIND, VERSION_KIND, on_project, shown
from gcp_sandbox.services.appengine.common import Common

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.operations import Op

Json = dict[str, Any]

PATCH_SECONDS, DELETE_SECONDS = 5.0, 20.0

CHANGEABLE = ("labels", "networkSettings", "split")

# TrafficSplit.allocations: decimal places by the way of sharding.
PLACES = {"IP": 2, "COOKIE": 3, "RANDOM": 3}


class Services(Common):
    """apps.services."""

    @method("apps.services.get", permission="appengine.services.get", on=on_project)
    def get_service(self, call: Call) -> Json:
        return shown(self.service(call))

    @method("apps.services.list", permission="appengine.services.list", on=on_project)
    def list_services(self, call: Call) -> Json:
        rows = self.store.list(SERVICE_KIND, parent=self.application(call)["name"])
        return call.page([shown(body) for _, body in rows], key="services", default=100, maximum=1000)

    @method(
        "apps.services.patch",
        permission="appengine.services.update",
        also=["appengine.services.get"],
        on=on_project,
    )
    def patch_service(self, call: Call) -> Json:
        existing = self.service(call)
        mask = self.mask_of(call, CHANGEABLE)
        body = masks.merge_mask(existing, call.body, mask)
        if body.get("split") != existing["split"]:
            body["split"] = self._split(existing, body.get("split", {}))
            if call.query.get("migrateTraffic"):
                self._check_migration(existing, body["split"])
        return self.operation(
            call, "Services.UpdateService", body["name"], "services.patch", PATCH_SECONDS, {"service": body}
        )

    @job("services.patch")
    def change_service(self, op: Op) -> Json:
        """Put a change into effect."""
        op.elapse()
        body = op.args["service"]
        self.store.put(SERVICE_KIND, body["name"], body, parent=body["name"].partition("/services/")[0])
        self.runtime.refresh()
        return self.response(op, "Service", body)

    @method("apps.services.delete", permission="appengine.services.delete", on=on_project)
    def delete_service(self, call: Call) -> Json:
        body = self.service(call)
        if body["id"] == "default":
            raise errors.invalid("The default service (module) may not be deleted.")
        rules = self.application(call).get("dispatchRules", [])
        if any(rule["service"] == body["id"] for rule in rules):
            raise errors.failed_precondition(
                f"The service '{body['id']}' is the target of a dispatch rule and cannot be deleted."
            )
        self.check_idle(body["name"], below=True)
        return self.operation(call, "Services.DeleteService", body["name"], "services.delete", DELETE_SECONDS, {})

    @job("services.delete")
    def remove_service(self, op: Op) -> Json:
        """Forget a service and its versions, and stop what runs of them."""
        op.elapse()
        versions = [body for _, body in self.store.list(VERSION_KIND, parent=op.target)]
        with self.store.transaction():
            for version in versions:
                self.store.delete(VERSION_KIND, version["name"])
            self.store.delete(SERVICE_KIND, op.target)
        self.runtime.refresh()
        for version in versions:
            self.runtime.forget(version)
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    # -- private

    def _split(self, service: Json, asked: Json) -> Json:
        """Return the split as it is stored, checked: versions that exist, fractions that sum to one."""
        allocations = {id: share for id, share in asked.get("allocations", {}).items() if share}
        if not allocations:
            raise errors.invalid("The traffic split must allocate traffic to at least one version.")
        shard = asked.get("shardBy") or "UNSPECIFIED"
        places = PLACES.get(shard, 2)
        for id, share in allocations.items():
            if self.store.get(VERSION_KIND, f"{service['name']}/versions/{id}") is None:
                raise errors.invalid(f"The traffic split names version '{id}', which service '{service['id']}' lacks.")
            if not 0 < share <= 1:
                raise errors.invalid(f"The allocation of version '{id}' must be in (0, 1], and is {share}.")
            exponent = Decimal(str(share)).normalize().as_tuple().exponent
            if isinstance(exponent, int) and -exponent > places:
                raise errors.invalid(
                    f"The allocation of version '{id}' may have at most {places} decimal places for splits by "
                    f"{'IP address' if shard in ('IP', 'UNSPECIFIED') else shard.lower()}, and is {share}."
                )
        total = sum(Decimal(str(share)) for share in allocations.values())
        if total != 1:
            raise errors.invalid(f"The allocations of a traffic split must sum to 1; these sum to {total}.")
        split: Json = {"allocations": allocations}
        if shard != "UNSPECIFIED":
            split["shardBy"] = shard
        return split

    def _check_migration(self, service: Json, split: Json) -> None:
        """Refuse a gradual migration: it needs warm-up requests, which the flexible environment does not have."""
        if "shardBy" not in split:
            raise errors.invalid("A gradual traffic migration must specify split.shard_by.")
        for id in split["allocations"]:
            version = self.store.get(VERSION_KIND, f"{service['name']}/versions/{id}") or {}
            if "INBOUND_SERVICE_WARMUP" not in version.get("inboundServices", []) or version["env"] == "flexible":
                raise errors.invalid(
                    f"Traffic cannot be migrated gradually to version '{id}': it is in the flexible environment, or "
                    "not configured for warmup requests. Set the split without migrateTraffic."
                )
