# SPDX-License-Identifier: Apache-2.0
"""Settings of an instance: what the service fills in, what a patch or an update changes, what goes together.

Pure functions over dicts in the API's shape. The defaults are those of recorded traffic. An instance of a version that
predates ENTERPRISE_PLUS, without an edition in its request, has the bare answer of earlier years: no edition, no
activation policy, storage that does not grow.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from gcp_sandbox.gateway import locations
from gcp_sandbox.services.sqladmin import catalog
from gcp_sandbox.services.sqladmin.refusals import Bare, invalid

Settings = dict[str, Any]

STORAGE_UNSPECIFIED = "TRANSACTIONAL_LOG_STORAGE_STATE_UNSPECIFIED"
CLEAR = "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
CERTIFICATE = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"

HYPERDISK = "HYPERDISK_BALANCED"
# Smallest disks, which are the default sizes too.
DISK_GB, HYPERDISK_GB = 10, 20

# Authorized networks are for the public address; these are reached over private IP.
PRIVATE = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))

# Changes that take the server down. databaseVersion and the flags that need it are compared separately.
RESTARTING = ("tier", "edition", "availabilityType", "activationPolicy", "locationPreference")


def without_nulls(value: Any) -> Any:
    """Return a copy without the nulls that clients send for "not set"."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def merge(old: Any, new: Any) -> Any:
    """JSON merge patch (RFC 7396): objects merge, null removes, anything else replaces."""
    if not isinstance(new, Mapping):
        return new
    out = dict(old) if isinstance(old, Mapping) else {}
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


class Place(NamedTuple):
    """The zone and the start of the backup window that Cloud SQL chooses where a request leaves them out."""

    zone: str
    backup_start: str

    @classmethod
    def of(cls, connection_name: str, region: str) -> Place:
        """Return the choice for an instance: any zone of the region and any full hour, always the same ones."""
        digest = hashlib.sha256(connection_name.encode()).digest()
        zones = locations.zones(region)
        return cls(zones[digest[0] % len(zones)], f"{digest[1] % 24:02}:00")


def fresh(asked: Settings, version: str, place: Place) -> Settings:
    """Settings of a new instance; `asked` is what the client sent."""
    edition = asked.get("edition") or catalog.default_edition(version)
    bare = "edition" not in asked and edition == catalog.ENTERPRISE
    hyperdisk = catalog.hyperdisk(asked.get("tier", ""))
    out: Settings = {
        "kind": "sql#settings",
        "connectorEnforcement": "NOT_REQUIRED",
        "dataDiskSizeGb": str(HYPERDISK_GB if hyperdisk else DISK_GB),
        "dataDiskType": HYPERDISK if hyperdisk else "PD_SSD",
        "deletionProtectionEnabled": False,
        "pricingPlan": "PER_USE",
        "replicationType": "SYNCHRONOUS",
        "storageAutoResize": not bare,
        "storageAutoResizeLimit": "0",
    }
    if not bare:
        out |= {"activationPolicy": "ALWAYS", "availabilityType": "ZONAL", "edition": edition}
    if "edition" in asked:
        out["authorizedGaeApplications"] = []
    out |= asked
    out["backupConfiguration"] = _backup(asked.get("backupConfiguration"), version, edition, place.backup_start)
    out["ipConfiguration"] = _network(asked.get("ipConfiguration"))
    out["locationPreference"] = _location({"zone": place.zone, **asked.get("locationPreference", {})})
    return _kinds(out)


def _location(preference: Settings) -> Settings:
    """Return a preference for zones as the API shows it; `no_secondary_zone` removes the second one."""
    if preference.get("secondaryZone") == "no_secondary_zone":
        preference = {key: value for key, value in preference.items() if key != "secondaryZone"}
    return {"kind": "sql#locationPreference", **preference}


def zones(settings: Settings, region: str) -> dict[str, str]:
    """Return the zones that an instance serves from: `gceZone`, and `secondaryGceZone` of one with a standby."""
    preference = settings["locationPreference"]
    first = preference["zone"]
    found = {"gceZone": first}
    if settings.get("availabilityType") == "REGIONAL":
        others = [zone for zone in locations.zones(region) if zone != first]
        found["secondaryGceZone"] = preference.get("secondaryZone", others[0])
    return found


def _backup(asked: Settings | None, version: str, edition: str, start: str) -> Settings:
    plus = edition == catalog.PLUS
    out: Settings = {
        "kind": "sql#backupConfiguration",
        "enabled": plus,
        "startTime": start,
        "transactionLogRetentionDays": 14 if plus else 7,
        "transactionalLogStorageState": STORAGE_UNSPECIFIED,
        **(asked or {}),
    }
    retention = {"retainedBackups": 15 if plus else 7, "retentionUnit": "COUNT"}
    out["backupRetentionSettings"] = retention | (asked or {}).get("backupRetentionSettings", {})
    logs = "pointInTimeRecoveryEnabled" if catalog.is_postgres(version) else "binaryLogEnabled"
    if plus:
        out.setdefault("backupTier", "STANDARD")
        if out["enabled"]:
            out.setdefault(logs, True)
            if out[logs]:
                out["transactionalLogStorageState"] = "CLOUD_STORAGE"
    if asked is not None and catalog.is_postgres(version):
        out.setdefault("replicationLogArchivingEnabled", False)
    return _engine_fields(out, version)


def _engine_fields(backup: Settings, version: str) -> Settings:
    """Leave out what belongs to the other engine; MySQL's log is kept in Cloud Storage once it is on (recorded)."""
    backup.pop("binaryLogEnabled" if catalog.is_postgres(version) else "pointInTimeRecoveryEnabled", None)
    if catalog.is_mysql(version):
        on = backup.get("binaryLogEnabled", False)
        backup["transactionalLogStorageState"] = "CLOUD_STORAGE" if on else STORAGE_UNSPECIFIED
    return backup


def _network(asked: Settings | None) -> Settings:
    out: Settings = {"ipv4Enabled": True, **(asked or {})}
    if "sslMode" not in out or out["sslMode"] == "SSL_MODE_UNSPECIFIED":
        out["sslMode"] = CERTIFICATE if out.get("requireSsl") else CLEAR
    out["requireSsl"] = out["sslMode"] == CERTIFICATE
    if asked is not None:
        out.setdefault("authorizedNetworks", [])
    return out


def _kinds(settings: Settings) -> Settings:
    """Give nested messages the `kind` that the service sends back."""
    for entry in settings["ipConfiguration"].get("authorizedNetworks", []):
        entry["kind"] = "sql#aclEntry"
    if "maintenanceWindow" in settings:
        settings["maintenanceWindow"] = {"kind": "sql#maintenanceWindow", **settings["maintenanceWindow"]}
    return settings


def updated(old: Settings, asked: Settings, version: str) -> Settings:
    """Settings after an update (PUT): what is not sent goes back to its default, but for what cannot be undone."""
    kept = ("edition", "tier", "dataDiskSizeGb", "dataDiskType", "locationPreference", "authorizedGaeApplications")
    carried = {key: old[key] for key in kept if key in old}
    place = Place(old["locationPreference"]["zone"], old["backupConfiguration"]["startTime"])
    out = fresh({**carried, **asked}, version, place)
    if catalog.is_postgres(version):
        state = old["backupConfiguration"]["transactionalLogStorageState"]
        out["backupConfiguration"]["transactionalLogStorageState"] = state
    return _touched(out, version)


def patched(old: Settings, asked: Settings, version: str, was: str) -> Settings:
    """Settings after a patch: what is sent is merged into what there is. `was` is the version before it."""
    out = merge(old, asked)
    if not out.get("userLabels", True):
        del out["userLabels"]
    sent = asked.get("ipConfiguration")
    if sent is not None:
        network = dict(out["ipConfiguration"])
        if "requireSsl" in sent and "sslMode" not in sent:
            network.pop("sslMode")
        out["ipConfiguration"] = _network(network)
    out["locationPreference"] = _location(out["locationPreference"])
    edition = out.get("edition")
    if version != was and edition is None and catalog.default_edition(version) == catalog.PLUS:
        out |= {"edition": catalog.PLUS}
        out.setdefault("activationPolicy", "ALWAYS")
        out.setdefault("availabilityType", "ZONAL")
    backup = dict(out["backupConfiguration"])
    if out.get("edition") == catalog.PLUS:
        backup.setdefault("backupTier", "STANDARD")
    out["backupConfiguration"] = _engine_fields(backup, version)
    return _touched(_kinds(out), version)


def _touched(settings: Settings, version: str) -> Settings:
    """Return the settings with a field that appears at the first change of a PostgreSQL instance (recorded)."""
    if catalog.is_postgres(version):
        settings["backupConfiguration"].setdefault("replicationLogArchivingEnabled", False)
    return settings


def check(new: Settings, version: str, region: str, old: Settings | None = None, asked: Settings | None = None) -> None:
    """400 for settings that do not go together. `old` and `asked` are given for a change."""
    _check_tier(new, version, old, asked or {})
    _check_disk(new, old)
    _check_times(new)
    if old is None or new["locationPreference"] != old["locationPreference"]:
        _check_location(new["locationPreference"], region)
    backup = new["backupConfiguration"]
    most = 35 if new.get("edition") == catalog.PLUS else 7
    if not 1 <= backup["transactionLogRetentionDays"] <= most:
        raise invalid(f"Invalid request: The number of transaction log retention days must be between 1 and {most}.")
    if not 1 <= backup["backupRetentionSettings"]["retainedBackups"] <= 365:
        raise invalid("Invalid request: The number of retained backups must be between 1 and 365.")
    if backup.get("pointInTimeRecoveryEnabled") and not backup["enabled"]:
        raise invalid("Invalid request: Point-in-time recovery requires that backups are enabled.")
    if backup.get("binaryLogEnabled") and not backup["enabled"]:
        raise invalid("Invalid request: Binary log must be disabled when backup is disabled.")
    if catalog.is_mysql(version) and new.get("availabilityType") == "REGIONAL" and not backup.get("binaryLogEnabled"):
        # cloud.google.com/sql/docs/mysql/configure-ha: both are required
        raise invalid("Invalid request: High availability requires that backups and binary logging are enabled.")
    _check_network(new["ipConfiguration"])
    for key, value in new.get("userLabels", {}).items():
        if len(key) > 63 or len(value) > 63 or key != key.lower() or value != value.lower():
            raise invalid(f"Invalid request: Invalid label ({key}: {value}).")


def _check_tier(new: Settings, version: str, old: Settings | None, asked: Settings) -> None:
    edition = new.get("edition", catalog.ENTERPRISE)
    if old is None:
        return catalog.check_tier(new["tier"], edition, version)
    catalog.tier(new["tier"])  # there is such a one
    # A pair that an upgrade of the version has left behind is not checked until the edition itself is set (recorded).
    stood = catalog.fits(old["tier"], old.get("edition", catalog.ENTERPRISE), version)
    if ("edition" in asked or ("tier" in asked and stood)) and not catalog.fits(new["tier"], edition, version):
        raise Bare(400, f"Invalid request: Invalid Tier ({new['tier']}) for ({edition}) Edition.")


def _check_disk(new: Settings, old: Settings | None) -> None:
    """400 for a size that is too small, and for a type that the edition or machine series does not offer.

    cloud.google.com/sql/docs/postgres/machine-series-overview
    """
    size, kind, tier = int(new["dataDiskSizeGb"]), new["dataDiskType"], new["tier"]
    if old is not None and size < int(old["dataDiskSizeGb"]):
        raise invalid("Invalid request: Disk size cannot be decreased.")
    least = HYPERDISK_GB if kind == HYPERDISK else DISK_GB
    if size < least:
        raise invalid(f"Invalid request: Invalid disk size: it must be at least {least} GB.")
    if old is not None and (kind, tier) == (old["dataDiskType"], old["tier"]):
        return
    if kind == "PD_HDD" and new.get("edition") == catalog.PLUS:
        raise invalid(f"Invalid request: {kind} disk type is not supported for Enterprise Plus Edition: {kind}.")
    if kind != HYPERDISK and catalog.hyperdisk(tier):
        raise invalid(f"Invalid request: {kind} disk type is not supported for Tier ({tier}).")


def _check_times(new: Settings) -> None:
    """400 for a backup window or a maintenance window that does not exist."""
    start = new["backupConfiguration"]["startTime"]
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", start):
        raise invalid(f"Invalid request: Invalid backup start time ({start}): it must be HH:MM, from 00:00 to 23:59.")
    window = new.get("maintenanceWindow", {})
    for field, least, most in (("day", 1, 7), ("hour", 0, 23)):
        if field in window and not least <= window[field] <= most:
            said = f"Invalid maintenance window {field} ({window[field]}): it must be from {least} to {most}."
            raise invalid(f"Invalid request: {said}")


def _check_location(preference: Settings, region: str) -> None:
    for field in ("zone", "secondaryZone"):
        if field in preference and preference[field] not in locations.zones(region):
            raise invalid(f"Invalid request: Zone {preference[field]} is not in region {region}.")
    if preference["zone"] == preference.get("secondaryZone"):
        raise invalid("Invalid request: The primary and the secondary zone must be different.")


def _check_network(network: Settings) -> None:
    if not network["ipv4Enabled"] and not network.get("privateNetwork") and not network.get("pscConfig"):
        raise invalid("Invalid request: At least one of Public IP or Private IP or PSC connectivity must be enabled.")
    for entry in network.get("authorizedNetworks", []):
        value = entry.get("value", "")
        try:
            address = ipaddress.IPv4Network(value, strict=False)
        except ValueError:
            raise invalid(f"Invalid request: Invalid authorized network: {value}.") from None
        if any(address.subnet_of(private) for private in PRIVATE):
            raise invalid(f"Invalid request: Non-routable or private authorized network ({value})..")


def tcp_networks(settings: Settings, now: datetime.datetime) -> tuple[str, ...]:
    """CIDR ranges that may connect by TCP: none where TLS is insisted on, which no server here speaks."""
    network = settings["ipConfiguration"]
    if not network["ipv4Enabled"] or network["sslMode"] != CLEAR or settings.get("connectorEnforcement") == "REQUIRED":
        return ()
    return tuple(
        str(ipaddress.ip_network(entry["value"], strict=False))
        for entry in network.get("authorizedNetworks", [])
        if "expirationTime" not in entry or datetime.datetime.fromisoformat(entry["expirationTime"]) > now
    )


def flags(settings: Settings) -> dict[str, str]:
    """Database flags by name."""
    return {item["name"]: item.get("value", "") for item in settings.get("databaseFlags", [])}
