# SPDX-License-Identifier: Apache-2.0
"""Defaults and changes of an instance's settings."""

from __future__ import annotations

import datetime

import pytest
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.services.sqladmin import catalog, settings

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
    fresh = settings.fresh({"tier": "db-f1-micro"}, "POSTGRES_15", "europe-west1")
    assert not {"edition", "activationPolicy", "availabilityType", "authorizedGaeApplications"} & set(fresh)
    assert fresh["storageAutoResize"] is False and fresh["locationPreference"]["zone"] == "europe-west1-a"


def test_enterprise_plus_backs_up_by_itself():
    fresh = settings.fresh({"tier": "db-perf-optimized-N-2"}, "POSTGRES_17", "europe-west1")
    assert fresh["edition"] == "ENTERPRISE_PLUS"
    backup = fresh["backupConfiguration"]
    assert backup["enabled"] and backup["pointInTimeRecoveryEnabled"] and backup["transactionLogRetentionDays"] == 14
    assert "binaryLogEnabled" not in backup
    off = settings.fresh(
        {"tier": "db-perf-optimized-N-2", "backupConfiguration": {"enabled": False}}, "POSTGRES_17", "europe-west1"
    )
    assert "pointInTimeRecoveryEnabled" not in off["backupConfiguration"]
    settings.check(off, "POSTGRES_17")


@pytest.mark.parametrize(("asked", "mode", "required"), [
    ({}, "ALLOW_UNENCRYPTED_AND_ENCRYPTED", False),
    ({"requireSsl": True}, "TRUSTED_CLIENT_CERTIFICATE_REQUIRED", True),
    ({"sslMode": "ENCRYPTED_ONLY"}, "ENCRYPTED_ONLY", False),
    ({"sslMode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"}, "TRUSTED_CLIENT_CERTIFICATE_REQUIRED", True),
])  # fmt: skip
def test_ssl_mode_and_its_elder(asked, mode, required):
    network = settings.fresh({"tier": "t", "ipConfiguration": asked}, "POSTGRES_15", "r")["ipConfiguration"]
    assert (network["sslMode"], network["requireSsl"]) == (mode, required)


def test_a_patch_of_the_elder_changes_the_mode():
    old = settings.fresh({"tier": "db-f1-micro", "edition": "ENTERPRISE"}, "POSTGRES_16", "r")
    new = settings.patched(old, {"ipConfiguration": {"requireSsl": True}}, "POSTGRES_16", "POSTGRES_16")
    assert new["ipConfiguration"]["sslMode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    assert old["ipConfiguration"]["sslMode"] == "ALLOW_UNENCRYPTED_AND_ENCRYPTED", "the old one is left as it was"


def test_a_tier_that_the_edition_lacks_is_refused_in_a_change():
    old = settings.fresh({"tier": "db-f1-micro", "edition": "ENTERPRISE"}, "POSTGRES_16", "r")
    for asked in ({"edition": "ENTERPRISE_PLUS"}, {"tier": "db-perf-optimized-N-2"}):
        new = settings.patched(old, asked, "POSTGRES_16", "POSTGRES_16")
        with pytest.raises(ApiError) as refused:
            settings.check(new, "POSTGRES_16", old, asked)
        assert refused.value.render("legacy")["error"].keys() == {"code", "message"}
    both = {"edition": "ENTERPRISE_PLUS", "tier": "db-perf-optimized-N-2"}
    settings.check(settings.patched(old, both, "POSTGRES_16", "POSTGRES_16"), "POSTGRES_16", old, both)


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
        {"tier": "t", "ipConfiguration": {"authorizedNetworks": entries, **changes}}, "POSTGRES_16", "r"
    )
    assert settings.tcp_networks(fresh, NOW) == networks
    assert settings.tcp_networks(fresh | {"connectorEnforcement": "REQUIRED"}, NOW) == ()
