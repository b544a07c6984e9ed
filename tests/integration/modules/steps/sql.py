# SPDX-License-Identifier: Apache-2.0
"""Steps for sql_instance, sql_user, sql_database and sql_instance_info."""

from __future__ import annotations

import contextlib

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import SECRETS, SQL
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

NAME = "db"
FIRST, SECOND = "first-password", "second-password"
SECRET = "db-password"


# The instance


def instance(cloud):
    return cloud.get(f"{SQL}/{cloud.home}/instances/{NAME}")


def _instance(title, expect=None, *, fails="", **options):
    return Step(title, "sql_instance", {"name": NAME, **options}, instance, expect, fails=fails)


def created(seen, result, cloud):
    settings = seen["settings"]
    assert (seen["state"], seen["region"], seen["databaseVersion"]) == ("RUNNABLE", "europe-west1", "POSTGRES_16")
    assert (settings["edition"], settings["tier"]) == ("ENTERPRISE", "db-custom-1-3840")
    assert settings["dataDiskSizeGb"] == "10" and settings["storageAutoResize"] is True
    assert settings["databaseFlags"] == [{"name": "log_min_duration_statement", "value": "250"}]
    backup = settings["backupConfiguration"]
    assert backup["enabled"] and backup["pointInTimeRecoveryEnabled"] and backup["startTime"] == "02:00"
    assert backup["backupRetentionSettings"] == {"retentionUnit": "COUNT", "retainedBackups": 5}
    window = settings["maintenanceWindow"]
    assert (window["day"], window["hour"], window["updateTrack"]) == (7, 3, "stable")
    assert settings["deletionProtectionEnabled"] is True
    assert settings["userLabels"] == {"managed-by": "mlplatform-gcp", "team": "ml"}
    assert result["resource"]["connectionName"] == f"{cloud.project}:europe-west1:{NAME}"
    assert "operation" not in result


def changed(seen, result, cloud):
    settings = seen["settings"]
    assert settings["tier"] == "db-custom-2-7680"
    assert settings["dataDiskSizeGb"] == "20"
    flags = {flag["name"]: flag["value"] for flag in settings["databaseFlags"]}
    assert flags == {"log_connections": "on", "max_connections": "60"}
    assert settings["userLabels"] == {"managed-by": "mlplatform-gcp", "team": "platform"}
    # not an option of the task: unchanged
    assert settings["backupConfiguration"]["startTime"] == "02:00"
    assert settings["ipConfiguration"]["authorizedNetworks"][0]["value"] == "127.0.0.1/32"


def deleted(seen, result, cloud):
    assert seen is None
    kept = cloud.get(f"{SQL}/{cloud.home}/backups").get("backups", [])
    assert [(item["type"], item["instance"].rsplit("/", 1)[-1]) for item in kept] == [("FINAL", NAME)]


# Its users


def _user(title, read, expect=None, *, prepare=None, fails="", changes=True, name="mlflow", **options):
    options = {"instance": NAME, "name": name, **options}
    return Step(title, "sql_user", options, read, expect, prepare=prepare, fails=fails, changes=changes)


def logins(cloud):
    """Return the users that the API lists, the passwords that the user can log in with, and the password's secret."""
    users = cloud.get(f"{SQL}/{cloud.home}/instances/{NAME}/users")["items"]
    return {
        "users": sorted((item["name"], item.get("type", "BUILT_IN")) for item in users),
        "passwords": [word for word in (FIRST, SECOND) if cloud.can_login(NAME, "mlflow", word)],
        # the module records the applied version in its annotations
        "secret": cloud.get(f"{SECRETS}/{cloud.home}/secrets/{SECRET}"),
    }


def first(seen, result, cloud):
    assert ("mlflow", "BUILT_IN") in seen["users"]
    assert seen["passwords"] == [FIRST]
    assert result["password_version"] == f"{cloud.home}/secrets/{SECRET}/versions/1"


def second(seen, result, cloud):
    assert seen["passwords"] == [SECOND]
    assert result["password_version"] == f"{cloud.home}/secrets/{SECRET}/versions/2"


def iam_user(seen, result, cloud):
    assert (f"granted-to@{cloud.project}.iam", "CLOUD_IAM_SERVICE_ACCOUNT") in seen["users"]


def theirs(cloud):
    body = {"name": "theirs", "password": "their-own-password"}
    cloud.make(f"{SQL}/{cloud.home}/instances/{NAME}/users", body, base=cloud.sql_operations)


def their_login(cloud):
    return [word for word in ("their-own-password", SECOND) if cloud.can_login(NAME, "theirs", word)]


# Its databases


def databases(cloud):
    """Query the server for name, encoding and collation of each database."""
    with contextlib.closing(cloud.login(NAME, "mlflow", SECOND)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database ORDER BY datname")
        return cursor.fetchall()


def _database(title, expect=None, *, fails="", name="mlflow", **options):
    return Step(title, "sql_database", {"instance": NAME, "name": name, **options}, databases, expect, fails=fails)


def usable(seen, result, cloud):
    assert ("mlflow", "UTF8") in [row[:2] for row in seen]
    with contextlib.closing(cloud.login(NAME, "mlflow", SECOND, "mlflow")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE runs (id int)")
        connection.commit()


def with_collation(seen, result, cloud):
    assert ("sorted", "UTF8", "C") in seen


PASSWORD = "projects/{{ project }}/secrets/" + SECRET

STEPS = [
    both(
        _instance(
            "An instance is created",
            created,
            region="europe-west1",
            database_version="POSTGRES_16",
            tier="db-custom-1-3840",
            availability_type="ZONAL",
            disk_type="PD_SSD",
            disk_size_gb=10,
            disk_autoresize=True,
            flags={"log_min_duration_statement": 250},
            backup={"enabled": True, "pitr": True, "start_time": "02:00", "retained": 5},
            maintenance_window={"day": 7, "hour": 3, "update_track": "stable"},
            ipv4_enabled=True,
            authorized_networks=[{"name": "this machine", "value": "127.0.0.1/32"}],
            deletion_protection=True,
            labels={"managed-by": "mlplatform-gcp", "team": "ml"},
        )
    ),
    both(
        _instance(
            "An instance is changed",
            changed,
            tier="db-custom-2-7680",
            disk_size_gb=20,
            flags={"max_connections": 60, "log_connections": True},
            labels={"team": "platform"},
        )
    ),
    Step(
        "A disk that is larger than configured is not changed",
        "sql_instance",
        {"name": NAME, "disk_size_gb": 15},
        instance,
        changes=False,
    ),
    both(information("An instance is found", "sql_instance_info", {"name": NAME}, lambda cloud: [instance(cloud)])),
    information(
        "All instances are found",
        "sql_instance_info",
        {},
        lambda cloud: cloud.get(f"{SQL}/{cloud.home}/instances")["items"],
    ),
    _instance("An instance does not move", fails="region cannot be changed", region="us-central1"),
    _instance("A version is not changed", fails="databaseVersion cannot be changed", database_version="POSTGRES_18"),
    both(
        _user(
            "A user can log in with the password in a secret",
            logins,
            first,
            prepare=lambda cloud: cloud.make_secret(SECRET, FIRST),
            password_secret=PASSWORD,
        )
    ),
    both(
        _user(
            "A rotated password is set",
            logins,
            second,
            prepare=lambda cloud: cloud.add_version(SECRET, SECOND),
            password_secret=PASSWORD,
        )
    ),
    _user(
        "A user that another principal created keeps its password",
        their_login,
        lambda seen, result, cloud: same(seen, ["their-own-password"]),
        prepare=theirs,
        changes=False,
        name="theirs",
        adopt=True,
        password_secret=PASSWORD,
    ),
    _user(
        "The password of a user that another principal created is set",
        their_login,
        lambda seen, result, cloud: same(seen, [SECOND]),
        name="theirs",
        password_secret=PASSWORD,
    ),
    _user(
        "A service account is a user",
        logins,
        iam_user,
        prepare=lambda cloud: cloud.make_account("granted-to"),
        name="granted-to@{{ project }}.iam.gserviceaccount.com",
        type="CLOUD_IAM_SERVICE_ACCOUNT",
    ),
    _user(
        "A user does not become another kind of user",
        logins,
        fails="type cannot be changed",
        type="CLOUD_IAM_USER",
    ),
    both(_database("A database is created", usable, charset="UTF8")),
    _database("A database has a collation", with_collation, name="sorted", charset="UTF8", collation="C"),
    _database("A collation is not changed", fails="collation cannot be changed", name="sorted", collation="en_US.UTF8"),
    both(
        _database(
            "A database is deleted",
            lambda seen, result, cloud: same("mlflow" in [row[0] for row in seen], False),
            state="absent",
        )
    ),
    both(
        _user(
            "A user is deleted",
            logins,
            lambda seen, result, cloud: same(seen["passwords"], []),
            state="absent",
        )
    ),
    _instance("A protected instance is not deleted", fails="is protected against deletion", state="absent"),
    both(
        _instance(
            "An instance is deleted after a last backup",
            deleted,
            state="absent",
            deletion_protection=False,
            final_backup=True,
            final_backup_days=7,
        )
    ),
    information("No instance is found", "sql_instance_info", {"name": NAME}, lambda cloud: []),
]
