# SPDX-License-Identifier: Apache-2.0
"""Defaults and changes of an instance's settings."""

from __future__ import annotations

import datetime

import pytest
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.services.sqladmin import catalog, settings

REGION = "europe-west1"
ENTERPRISE = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
PLACE = settings.Place("europe-west1-c", "17:00")
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("version", "edition"), [
    ("POSTGRES_9_6", "ENTERPRISE"), ("POSTGRES_15", "ENTERPRISE"), ("POSTGRES_16", "ENTERPRISE_PLUS"),
    ("POSTGRES_18", "ENTERPRISE_PLUS"), ("MYSQL_5_7", "ENTERPRISE"), ("MYSQL_8_0_36", "ENTERPRISE"),
    ("MYSQL_8_4", "ENTERPRISE_PLUS"), ("SQLSERVER_2022_STANDARD", "ENTERPRISE"),
])  # fmt: skip
def test_default_editions(version, edition):
    assert catalog.default_edition(version) == edition


@pytest.mark.parametrize(("tier", "connections"), [
    ("db-f1-micro", 250), ("db-g1-small", 1000), ("db-n1-standard-1", 4000), ("db-custom-2-7680", 4000),
])  # fmt: skip
def test_connections_of_mysql_by_tier(tier, connections):
    assert catalog.max_connections(tier, "MYSQL_8_0") == connections


@pytest.mark.parametrize(("tier", "connections"), [
    ("db-f1-micro", 25), ("db-g1-small", 50), ("db-custom-1-3840", 100), ("db-custom-2-6144", 200),
    ("db-custom-2-7680", 400), ("db-custom-4-15360", 500), ("db-custom-8-30720", 600), ("db-perf-optimized-N-2", 500),
    ("db-perf-optimized-N-16", 1000),
])  # fmt: skip
def test_connections_by_tier(tier, connections):
    assert catalog.max_connections(tier, "POSTGRES_16") == connections


def test_an_old_version_has_no_edition_by_default():
    fresh = settings.fresh({"tier": "db-f1-micro"}, "POSTGRES_15", PLACE)
    assert not {"edition", "activationPolicy", "availabilityType", "authorizedGaeApplications"} & set(fresh)
    assert fresh["storageAutoResize"] is False and fresh["locationPreference"]["zone"] == "europe-west1-c"


def test_enterprise_plus_backs_up_by_itself():
    fresh = settings.fresh({"tier": "db-perf-optimized-N-2"}, "POSTGRES_17", PLACE)
    assert fresh["edition"] == "ENTERPRISE_PLUS"
    backup = fresh["backupConfiguration"]
    assert backup["enabled"] and backup["pointInTimeRecoveryEnabled"] and backup["transactionLogRetentionDays"] == 14
    assert "binaryLogEnabled" not in backup
    off = settings.fresh(
        {"tier": "db-perf-optimized-N-2", "backupConfiguration": {"enabled": False}}, "POSTGRES_17", PLACE
    )
    assert "pointInTimeRecoveryEnabled" not in off["backupConfiguration"]
    settings.check(off, "POSTGRES_17", REGION)


def test_cloud_sql_chooses_a_zone_and_a_backup_window():
    places = {settings.Place.of(f"p:{REGION}:{n}", REGION) for n in range(50)}
    assert {place.zone for place in places} == {f"{REGION}-{letter}" for letter in "bcd"}
    assert len({place.backup_start for place in places}) > 5
    fresh = settings.fresh(ENTERPRISE, "POSTGRES_16", PLACE)
    assert fresh["backupConfiguration"]["startTime"] == "17:00"
    assert settings.updated(fresh, ENTERPRISE, "POSTGRES_16")["backupConfiguration"]["startTime"] == "17:00"


def test_zones():
    asked = {**ENTERPRISE, "availabilityType": "REGIONAL", "locationPreference": {"zone": "europe-west1-d"}}
    fresh = settings.fresh(asked, "POSTGRES_16", PLACE)
    assert settings.zones(fresh, REGION) == {"gceZone": "europe-west1-d", "secondaryGceZone": "europe-west1-b"}
    second = {"locationPreference": {"secondaryZone": "europe-west1-c"}}
    new = settings.patched(fresh, second, "POSTGRES_16", "POSTGRES_16")
    settings.check(new, "POSTGRES_16", REGION, fresh, second)
    assert settings.zones(new, REGION) == {"gceZone": "europe-west1-d", "secondaryGceZone": "europe-west1-c"}
    none = {"locationPreference": {"secondaryZone": "no_secondary_zone"}}
    new = settings.patched(new, none, "POSTGRES_16", "POSTGRES_16")
    assert new["locationPreference"] == {"kind": "sql#locationPreference", "zone": "europe-west1-d"}
    assert settings.zones(new | {"availabilityType": "ZONAL"}, REGION) == {"gceZone": "europe-west1-d"}


@pytest.mark.parametrize("asked", [
    {"locationPreference": {"zone": "europe-west1-a"}},
    {"locationPreference": {"zone": "us-east1-b"}},
    {"locationPreference": {"zone": "europe-west1-b", "secondaryZone": "europe-west1-b"}},
    {"backupConfiguration": {"startTime": "25:00"}},
    {"backupConfiguration": {"startTime": "3:00"}},
    {"maintenanceWindow": {"day": 9, "hour": 3}},
    {"maintenanceWindow": {"day": 1, "hour": 24}},
    {"tier": "db-c4a-highmem-2", "edition": "ENTERPRISE_PLUS", "dataDiskType": "PD_SSD"},
    {"tier": "db-c4a-highmem-2", "edition": "ENTERPRISE_PLUS", "dataDiskSizeGb": "10"},
    {"tier": "db-perf-optimized-N-2", "edition": "ENTERPRISE_PLUS", "dataDiskType": "PD_HDD"},
])  # fmt: skip
def test_what_does_not_exist_is_refused(asked):
    settings.check(settings.fresh(ENTERPRISE, "POSTGRES_16", PLACE), "POSTGRES_16", REGION)
    with pytest.raises(ApiError):
        settings.check(settings.fresh(ENTERPRISE | asked, "POSTGRES_16", PLACE), "POSTGRES_16", REGION)
    with pytest.raises(ApiError):
        old = settings.fresh(ENTERPRISE, "POSTGRES_16", PLACE)
        new = settings.patched(old, asked, "POSTGRES_16", "POSTGRES_16")
        settings.check(new, "POSTGRES_16", REGION, old, asked)


@pytest.mark.parametrize(("tier", "kind", "size"), [
    ("db-perf-optimized-N-2", "PD_SSD", "10"), ("db-c4a-highmem-2", "HYPERDISK_BALANCED", "20"),
])  # fmt: skip
def test_the_disk_of_enterprise_plus_follows_the_machine_series(tier, kind, size):
    fresh = settings.fresh({"tier": tier}, "POSTGRES_17", PLACE)
    assert (fresh["dataDiskType"], fresh["dataDiskSizeGb"]) == (kind, size)
    settings.check(fresh, "POSTGRES_17", REGION)


@pytest.mark.parametrize(("version", "served", "installed", "targets"), [
    ("POSTGRES_16", "POSTGRES_16_14", "POSTGRES_16_14", ["POSTGRES_17", "POSTGRES_18"]),
    ("POSTGRES_15", "POSTGRES_16_14", "POSTGRES_15_7", ["POSTGRES_16"]),
    ("POSTGRES_14", "POSTGRES_16_14", "POSTGRES_14_19", [f"POSTGRES_{n}" for n in range(15, 19)]),
    ("POSTGRES_9_6", "POSTGRES_16_14", "POSTGRES_9_6_24", [f"POSTGRES_{n}" for n in range(10, 19)]),
    ("POSTGRES_18", "POSTGRES_18_4", "POSTGRES_18_4", []),
    ("MYSQL_8_0", "MARIADB_10_11_19", "MARIADB_10_11_19", None),
])  # fmt: skip
def test_what_is_installed_is_of_the_version(version, served, installed, targets):
    assert catalog.installed(version, served) == installed
    assert targets is None or [target["name"] for target in catalog.upgrades(version)] == targets


@pytest.mark.parametrize(("asked", "mode", "required"), [
    ({}, "ALLOW_UNENCRYPTED_AND_ENCRYPTED", False),
    ({"requireSsl": True}, "TRUSTED_CLIENT_CERTIFICATE_REQUIRED", True),
    ({"sslMode": "ENCRYPTED_ONLY"}, "ENCRYPTED_ONLY", False),
    ({"sslMode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"}, "TRUSTED_CLIENT_CERTIFICATE_REQUIRED", True),
])  # fmt: skip
def test_ssl_mode_and_its_elder(asked, mode, required):
    network = settings.fresh({"tier": "t", "ipConfiguration": asked}, "POSTGRES_15", PLACE)["ipConfiguration"]
    assert (network["sslMode"], network["requireSsl"]) == (mode, required)


def test_a_patch_of_the_elder_changes_the_mode():
    old = settings.fresh({"tier": "db-f1-micro", "edition": "ENTERPRISE"}, "POSTGRES_16", PLACE)
    new = settings.patched(old, {"ipConfiguration": {"requireSsl": True}}, "POSTGRES_16", "POSTGRES_16")
    assert new["ipConfiguration"]["sslMode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    assert old["ipConfiguration"]["sslMode"] == "ALLOW_UNENCRYPTED_AND_ENCRYPTED", "the old one is left as it was"


def test_a_tier_that_the_edition_lacks_is_refused_in_a_change():
    old = settings.fresh({"tier": "db-f1-micro", "edition": "ENTERPRISE"}, "POSTGRES_16", PLACE)
    for asked in ({"edition": "ENTERPRISE_PLUS"}, {"tier": "db-perf-optimized-N-2"}):
        new = settings.patched(old, asked, "POSTGRES_16", "POSTGRES_16")
        with pytest.raises(ApiError) as refused:
            settings.check(new, "POSTGRES_16", REGION, old, asked)
        assert refused.value.render("legacy")["error"].keys() == {"code", "message"}
    both = {"edition": "ENTERPRISE_PLUS", "tier": "db-perf-optimized-N-2"}
    settings.check(settings.patched(old, both, "POSTGRES_16", "POSTGRES_16"), "POSTGRES_16", REGION, old, both)


def test_merging():
    assert settings.merge({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": None, "d": 3}, "l": [2]}) == {
        "a": {"c": 2, "d": 3},
        "l": [2],
    }


@pytest.mark.parametrize(("changes", "networks"), [
    ({}, ("198.51.100.7/32", "203.0.113.0/24")),
    ({"sslMode": "ENCRYPTED_ONLY"}, ()),
    ({"ipv4Enabled": False}, ()),
])  # fmt: skip
def test_who_may_come_by_tcp(changes, networks):
    entries = [
        {"value": "198.51.100.7"},
        {"value": "203.0.113.9/24", "expirationTime": "2099-01-01T00:00:00Z"},
        {"value": "192.0.2.0/24", "expirationTime": "2026-10-31T00:00:00Z"},
    ]
    fresh = settings.fresh(
        {"tier": "t", "ipConfiguration": {"authorizedNetworks": entries, **changes}}, "POSTGRES_16", PLACE
    )
    assert settings.tcp_networks(fresh, NOW) == networks
    assert settings.tcp_networks(fresh | {"connectorEnforcement": "REQUIRED"}, NOW) == ()
