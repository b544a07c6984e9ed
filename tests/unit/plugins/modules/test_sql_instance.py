# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _sql_instances
from ansible_collections.mlplatform.gcp.plugins.modules import sql_instance
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BASE = "https://sqladmin.googleapis.com/v1/projects/p"
URL = f"{BASE}/instances/db"
DONE = {"name": "op", "status": "DONE", "targetProject": "p"}
RUNNING = {"name": "op", "status": "RUNNING", "targetProject": "p"}
INSTANCE = {
    "name": "db",
    "region": "europe-west1",
    "databaseVersion": "POSTGRES_16",
    "state": "RUNNABLE",
    "settings": {
        "settingsVersion": "4",
        "edition": "ENTERPRISE",
        "tier": "db-custom-1-3840",
        "dataDiskSizeGb": "20",
        "databaseFlags": [{"name": "max_connections", "value": "50"}],
        "backupConfiguration": {"enabled": True, "kind": "sql#backupConfiguration", "pointInTimeRecoveryEnabled": True},
        "ipConfiguration": {
            "ipv4Enabled": True,
            "authorizedNetworks": [{"kind": "sql#aclEntry", "value": "10.0.0.0/8"}],
        },
        "userLabels": {"team": "a"},
        "deletionProtectionEnabled": True,
    },
}
OPTIONS = {
    "name": "db",
    "region": "europe-west1",
    "database_version": "POSTGRES_16",
    "tier": "db-custom-1-3840",
    "disk_size_gb": 10,
    "flags": {"max_connections": 50},
    "backup": {"enabled": True, "pitr": True},
    "authorized_networks": [{"value": "10.0.0.0/8"}],
    "labels": {"team": "a"},
    "deletion_protection": True,
}


def test_nothing_to_do_is_one_request_and_a_disk_that_grew_is_fine(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    result = cloud.run(sql_instance, **OPTIONS)
    assert not result["changed"]
    assert result["resource"]["settings"]["dataDiskSizeGb"] == "20"


def test_a_private_address_is_stated_with_its_path_and_compared_in_any_spelling(cloud):
    address = {"private_network": "default", "allocated_ip_range": "r", "private_path": True}
    address["ssl_mode"] = "ENCRYPTED_ONLY"
    cloud.expect("GET", URL, body=INSTANCE)
    changed = cloud.run(sql_instance, True, **OPTIONS, **address, psc_projects=["a", "b"])
    after = changed["diff"]["after"]["settings"]["ipConfiguration"]
    assert after["privateNetwork"] == "projects/p/global/networks/default"
    assert (after["allocatedIpRange"], after["enablePrivatePathForGoogleCloudServices"]) == ("r", True)
    assert after["pscConfig"] == {"pscEnabled": True, "allowedConsumerProjects": ["a", "b"]}
    assert "restart of the database" in changed["changes"][0]["implies"]
    there = dict(after, privateNetwork=f"https://www.googleapis.com/compute/v1/{after['privateNetwork']}")
    there["pscConfig"] = {"pscEnabled": True, "allowedConsumerProjects": ["b", "a"]}
    settings = dict(INSTANCE["settings"], ipConfiguration=there)
    cloud.expect("GET", URL, body=dict(INSTANCE, settings=settings))
    assert not cloud.run(sql_instance, **OPTIONS, **address, psc_projects=["a", "b"])["changed"]


def test_an_instance_that_tells_no_edition_has_the_ordinary_one(cloud):
    settings = {name: value for name, value in INSTANCE["settings"].items() if name != "edition"}
    cloud.expect("GET", URL, body=dict(INSTANCE, settings=settings))
    assert not cloud.run(sql_instance, **OPTIONS)["changed"]
    cloud.expect("GET", URL, body=dict(INSTANCE, settings=settings))
    plus = cloud.run(sql_instance, True, **dict(OPTIONS, edition="ENTERPRISE_PLUS"))
    assert plus["diff"]["after"]["settings"]["edition"] == "ENTERPRISE_PLUS"


def test_create_sends_the_edition_and_waits(cloud):
    cloud.expect_error("GET", URL, 404, reason="instanceDoesNotExist", legacy=True)
    cloud.expect(
        "POST",
        f"{BASE}/instances",
        sent={
            "name": "db",
            "region": "europe-west1",
            "databaseVersion": "POSTGRES_16",
            "settings": {
                "edition": "ENTERPRISE",
                "tier": "db-custom-1-3840",
                "dataDiskSizeGb": "10",
                "databaseFlags": [{"name": "max_connections", "value": "50"}],
                "backupConfiguration": {"enabled": True, "pointInTimeRecoveryEnabled": True},
                "ipConfiguration": {"authorizedNetworks": [{"value": "10.0.0.0/8"}]},
                "deletionProtectionEnabled": True,
                "userLabels": {"team": "a"},
            },
        },
        body=RUNNING,
    )
    cloud.expect("GET", f"{BASE}/operations/op", body=RUNNING)
    cloud.expect("GET", f"{BASE}/operations/op", body=DONE)
    cloud.expect("GET", URL, body=INSTANCE)
    result = cloud.run(sql_instance, **OPTIONS)
    assert result["changed"]
    assert result["resource"] == INSTANCE


def test_not_waiting_returns_the_operation(cloud):
    cloud.expect_error("GET", URL, 404, reason="instanceDoesNotExist", legacy=True)
    cloud.expect("POST", f"{BASE}/instances", body=RUNNING)
    result = cloud.run(sql_instance, wait=False, **OPTIONS)
    assert result["operation"] == "op"


def test_an_instance_on_its_way_names_its_operation(cloud):
    cloud.expect("GET", URL, body=dict(INSTANCE, state="PENDING_CREATE"))
    cloud.expect("GET", f"{BASE}/operations", query={"instance": "db", "maxResults": 1}, body={"items": [RUNNING]})
    result = cloud.run(sql_instance, wait=False, **OPTIONS)
    assert not result["changed"]
    assert result["operation"] == "op"


def test_waiting_joins_an_instance_on_its_way(cloud):
    cloud.expect("GET", URL, body=dict(INSTANCE, state="PENDING_CREATE"))
    cloud.expect("GET", URL, body=dict(INSTANCE, state="PENDING_CREATE"))
    cloud.expect("GET", URL, body=INSTANCE)
    result = cloud.run(sql_instance, **OPTIONS)
    assert not result["changed"]
    assert result["resource"]["state"] == "RUNNABLE"


def test_a_change_is_guarded_by_the_settings_version(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect("PATCH", URL, sent={"settings": {"tier": "db-custom-2-7680", "settingsVersion": "4"}}, body=DONE)
    cloud.expect("GET", URL, body=INSTANCE)
    assert cloud.run(sql_instance, **dict(OPTIONS, tier="db-custom-2-7680"))["changed"]


def test_flags_that_are_not_named_go(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect("PATCH", URL, sent={"settings": {"databaseFlags": [], "settingsVersion": "4"}}, body=DONE)
    cloud.expect("GET", URL, body=INSTANCE)
    assert cloud.run(sql_instance, **dict(OPTIONS, flags={}))["changed"]


def test_point_in_time_recovery_of_mysql_is_the_binary_log():
    options = {
        "enabled": True, "pitr": True, "start_time": None, "retained": 7, "transaction_log_days": 3, "location": "eu",
    }  # fmt: skip
    assert _sql_instances._backup(options, "MYSQL_8_0")["binaryLogEnabled"] is True
    assert "pointInTimeRecoveryEnabled" not in _sql_instances._backup(options, "MYSQL_8_0")
    assert _sql_instances._backup(options, "MYSQL_8_0")["transactionLogRetentionDays"] == 3
    assert _sql_instances._backup(options, "MYSQL_8_0")["location"] == "eu"
    assert _sql_instances._backup(options, "MYSQL_8_0")["backupRetentionSettings"] == {
        "retentionUnit": "COUNT",
        "retainedBackups": 7,
    }


MYSQL = {
    "name": "db",
    "region": "europe-west1",
    "databaseVersion": "MYSQL_8_0",
    "state": "RUNNABLE",
    "settings": {
        "settingsVersion": "1",
        "tier": "db-n1-standard-1",
        "availabilityType": "ZONAL",
        "dataDiskSizeGb": "10",
        "storageAutoResize": True,
        "storageAutoResizeLimit": "0",
        "maintenanceWindow": {"kind": "sql#maintenanceWindow", "day": 7, "hour": 3, "updateTrack": "stable"},
        "backupConfiguration": {"kind": "sql#backupConfiguration", "enabled": True, "binaryLogEnabled": True},
        "ipConfiguration": {"ipv4Enabled": True},
    },
}


def test_what_the_app_engine_guide_makes_is_left_alone(cloud):
    cloud.expect("GET", URL, body=MYSQL)
    result = cloud.run(
        sql_instance,
        name="db",
        region="europe-west1",
        database_version="MYSQL_8_0",
        tier="db-n1-standard-1",
        availability_type="ZONAL",
        disk_size_gb=10,
        disk_autoresize=True,
        disk_autoresize_limit_gb=0,
        maintenance_window={"day": 7, "hour": 3, "update_track": "stable"},
        backup={"enabled": True, "pitr": True},
        ipv4_enabled=True,
    )
    assert not result["changed"]


def test_the_engine_of_an_instance_is_found_where_the_task_leaves_it_out(cloud):
    cloud.expect("GET", URL, body=MYSQL)
    cloud.expect("GET", URL, body=MYSQL)
    assert not cloud.run(sql_instance, name="db", backup={"enabled": True, "pitr": True})["changed"]


@pytest.mark.parametrize("backup", [None, {"enabled": True}, {"enabled": True, "pitr": False}])
def test_a_standby_of_mysql_needs_binary_logs(cloud, backup):
    cloud.expect_error("GET", URL, 404, reason="instanceDoesNotExist", legacy=True)
    options = {"database_version": "MYSQL_8_0", "tier": "db-n1-standard-1", "availability_type": "REGIONAL"}
    with pytest.raises(Failed, match=r"without backups and binary logs.*backup\.pitr"):
        cloud.run(sql_instance, name="db", backup=backup, **options)


def test_a_standby_of_mysql_takes_the_binary_logs_that_are_there(cloud):
    cloud.expect("GET", URL, body=MYSQL)
    result = cloud.run(sql_instance, True, name="db", availability_type="REGIONAL")
    assert result["diff"]["after"]["settings"]["availabilityType"] == "REGIONAL"


def test_the_disk_grows_up_to_a_limit(cloud):
    cloud.expect("GET", URL, body=MYSQL)
    result = cloud.run(sql_instance, True, name="db", disk_autoresize_limit_gb=100)
    assert result["diff"]["after"]["settings"]["storageAutoResizeLimit"] == "100"


def test_the_region_cannot_change(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    with pytest.raises(Failed, match="region cannot be changed"):
        cloud.run(sql_instance, **dict(OPTIONS, region="us-central1"))


def test_a_failed_instance_is_reported(cloud):
    cloud.expect("GET", URL, body=dict(INSTANCE, state="FAILED"))
    with pytest.raises(Failed, match="is in state FAILED"):
        cloud.run(sql_instance, **OPTIONS)


def test_a_new_instance_needs_version_and_tier(cloud):
    cloud.expect_error("GET", URL, 404, reason="instanceDoesNotExist", legacy=True)
    with pytest.raises(Failed, match="set database_version and tier"):
        cloud.run(sql_instance, name="db")


def test_a_busy_instance_is_waited_for(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect_error("PATCH", URL, 409, reason="operationInProgress", legacy=True)
    cloud.expect("PATCH", URL, body=DONE)
    cloud.expect("GET", URL, body=INSTANCE)
    assert cloud.run(sql_instance, **dict(OPTIONS, tier="db-custom-2-7680"))["changed"]


def test_a_protected_instance_is_not_deleted_by_accident(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    with pytest.raises(Failed, match="is protected against deletion"):
        cloud.run(sql_instance, name="db", state="absent")


def test_a_protected_instance_is_deleted_on_purpose_with_a_last_backup(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect(
        "PATCH", URL, sent={"settings": {"deletionProtectionEnabled": False, "settingsVersion": "4"}}, body=DONE
    )
    cloud.expect("GET", URL, body=INSTANCE)
    cloud.expect("DELETE", URL, query={"enableFinalBackup": "true", "finalBackupTtlDays": "90"}, body=DONE)
    result = cloud.run(
        sql_instance, name="db", state="absent", deletion_protection=False, final_backup=True, final_backup_days=90
    )
    assert result["changed"]


def test_check_mode_does_not_lift_the_protection(cloud):
    cloud.expect("GET", URL, body=INSTANCE)
    assert cloud.run(sql_instance, True, name="db", state="absent", deletion_protection=False)["changed"]


def test_backups_that_are_off_have_no_other_field():
    options = {"enabled": False, "pitr": True, "retained": 7, "start_time": None}
    assert _sql_instances._backup(options, "POSTGRES_16") == {"enabled": False}
