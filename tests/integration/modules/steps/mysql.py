# SPDX-License-Identifier: Apache-2.0
"""Steps for sql_instance, sql_user and sql_database with MySQL; none if its server cannot be downloaded."""

from __future__ import annotations

import warnings

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import SQL
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, same
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.sql import SqlError

NAME = "my"
FIRST, SECOND = "first-password-of-mysql", "second-password-of-mysql"
SECRET = "mysql-password"
PASSWORD = "projects/{{ project }}/secrets/" + SECRET


def instance(cloud):
    return cloud.get(f"{SQL}/{cloud.home}/instances/{NAME}")


def _instance(title, expect=None, **options):
    more = {key: options.pop(key) for key in ("fails", "prepare", "changes") if key in options}
    return Step(title, "sql_instance", {"name": NAME, **options}, instance, expect, **more)


def created(seen, result, cloud):
    settings = seen["settings"]
    assert (seen["state"], seen["databaseVersion"]) == ("RUNNABLE", "MYSQL_8_0")
    assert (settings["tier"], settings["availabilityType"]) == ("db-n1-standard-1", "ZONAL")
    assert (settings["storageAutoResize"], settings["storageAutoResizeLimit"]) == (True, "50")
    backup = settings["backupConfiguration"]
    assert backup["enabled"] and backup["binaryLogEnabled"] and backup["transactionLogRetentionDays"] == 5
    assert "pointInTimeRecoveryEnabled" not in backup
    window = settings["maintenanceWindow"]
    assert (window["day"], window["hour"], window["updateTrack"]) == (7, 3, "stable")


def changed(seen, result, cloud):
    assert seen["settings"]["availabilityType"] == "REGIONAL"
    assert seen["settings"]["databaseFlags"] == [{"name": "cloudsql_iam_authentication", "value": "on"}]
    assert seen["settings"]["backupConfiguration"]["binaryLogEnabled"] is True, "not an option of the task: unchanged"


def guide(cloud):
    """Create the instance of the App Engine guide's Terraform, with the defaults of Google."""
    settings = {
        "tier": "db-f1-micro",
        "availabilityType": "ZONAL",
        "dataDiskSizeGb": "10",
        "storageAutoResize": True,
        "ipConfiguration": {"ipv4Enabled": True},
        "maintenanceWindow": {"day": 7, "hour": 3, "updateTrack": "stable"},
        "backupConfiguration": {"enabled": True, "binaryLogEnabled": True},
    }
    body = {"name": "guide", "region": "europe-west1", "databaseVersion": "MYSQL_8_0", "settings": settings}
    cloud.make(f"{SQL}/{cloud.home}/instances", body, base=cloud.sql_operations)


def _user(title, read, expect=None, **options):
    more = {key: options.pop(key) for key in ("fails", "prepare") if key in options}
    options = {"instance": NAME, "name": "mlflow", **options}
    return Step(title, "sql_user", options, read, expect, **more)


def logins(cloud):
    users = cloud.get(f"{SQL}/{cloud.home}/instances/{NAME}/users")["items"]
    return {
        "users": sorted((item["name"], item["host"], item.get("type", "BUILT_IN")) for item in users),
        "passwords": [word for word in (FIRST, SECOND) if cloud.can_login_mysql(NAME, "mlflow", word)],
    }


def first(seen, result, cloud):
    assert ("mlflow", "%", "BUILT_IN") in seen["users"] and seen["passwords"] == [FIRST]


def second(seen, result, cloud):
    assert seen["passwords"] == [SECOND]


def databases(cloud):
    with cloud.login_mysql(NAME, "mlflow", SECOND) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA ORDER BY 1")
        return [list(row) for row in cursor.fetchall()]


def shown(cloud):
    return cloud.get(f"{SQL}/{cloud.home}/instances/{NAME}/databases/mlflow")


def usable(seen, result, cloud):
    assert (seen["charset"], seen["collation"]) == ("utf8mb4", "utf8mb4_0900_ai_ci")
    assert ["mlflow", "utf8mb4"] in databases(cloud)
    with cloud.login_mysql(NAME, "mlflow", SECOND, "mlflow") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE runs (id int, note varchar(10))")
        cursor.execute("INSERT INTO runs VALUES (1, %s)", ("🚀",))
        cursor.execute("SELECT note FROM runs")
        assert cursor.fetchall() == (("🚀",),)


NEW = {
    "region": "europe-west1",
    "database_version": "MYSQL_8_0",
    "tier": "db-n1-standard-1",
    "disk_size_gb": 10,
    "disk_autoresize": True,
    "disk_autoresize_limit_gb": 50,
    "maintenance_window": {"day": 7, "hour": 3, "update_track": "stable"},
    "authorized_networks": [{"name": "this machine", "value": "127.0.0.1/32"}],
}

STEPS = [
    _instance(
        "A standby of MySQL requires binary logs",
        fails="without backups and binary logs",
        availability_type="REGIONAL",
        backup={"enabled": True},
        **NEW,
    ),
    _instance(
        "An instance of MySQL is created",
        created,
        availability_type="ZONAL",
        backup={"enabled": True, "pitr": True, "transaction_log_days": 5},
        **NEW,
    ),
    _instance(
        "An instance of MySQL gets a standby",
        changed,
        availability_type="REGIONAL",
        flags={"cloudsql_iam_authentication": True},
    ),
    Step(
        "The instance of the App Engine guide is not changed",
        "sql_instance",
        {
            "name": "guide",
            "region": "europe-west1",
            "database_version": "MYSQL_8_0",
            "tier": "db-f1-micro",
            "availability_type": "ZONAL",
            "disk_size_gb": 10,
            "disk_autoresize": True,
            "ipv4_enabled": True,
            "maintenance_window": {"day": 7, "hour": 3, "update_track": "stable"},
            "backup": {"enabled": True, "pitr": True},
        },
        lambda cloud: cloud.get(f"{SQL}/{cloud.home}/instances/guide")["settings"],
        prepare=guide,
        changes=False,
    ),
    _user(
        "A user of MySQL can log in from all hosts",
        logins,
        first,
        prepare=lambda cloud: cloud.make_secret(SECRET, FIRST),
        host="%",
        password_secret=PASSWORD,
    ),
    _user(
        "A rotated password of MySQL is set",
        logins,
        second,
        prepare=lambda cloud: cloud.add_version(SECRET, SECOND),
        host="%",
        password_secret=PASSWORD,
    ),
    _user(
        "A user of MySQL with the same name has another host",
        logins,
        lambda seen, result, cloud: same(("mlflow", "10.1.2.3", "BUILT_IN") in seen["users"], True),
        host="10.1.2.3",
        password_secret=PASSWORD,
    ),
    _user(
        "A user of one host is deleted, and the user of the other host is not",
        logins,
        lambda seen, result, cloud: same([item[1] for item in seen["users"] if item[0] == "mlflow"], ["%"]),
        host="10.1.2.3",
        state="absent",
    ),
    _user(
        "A service account is a user of MySQL",
        logins,
        lambda seen, result, cloud: same(("of-mysql", "%", "CLOUD_IAM_SERVICE_ACCOUNT") in seen["users"], True),
        prepare=lambda cloud: cloud.make_account("of-mysql"),
        name="of-mysql@{{ project }}.iam.gserviceaccount.com",
        type="CLOUD_IAM_SERVICE_ACCOUNT",
    ),
    _user(
        "A service account is removed from the users of MySQL",
        logins,
        lambda seen, result, cloud: same([item for item in seen["users"] if item[0] == "of-mysql"], []),
        name="of-mysql@{{ project }}.iam.gserviceaccount.com",
        type="CLOUD_IAM_SERVICE_ACCOUNT",
        state="absent",
    ),
    Step(
        "A database of MySQL is created",
        "sql_database",
        {"instance": NAME, "name": "mlflow", "charset": "utf8mb4", "collation": "utf8mb4_0900_ai_ci"},
        shown,
        usable,
    ),
    Step(
        "A collation of MySQL is not changed",
        "sql_database",
        {"instance": NAME, "name": "mlflow", "collation": "utf8mb4_bin"},
        shown,
        fails="collation cannot be changed",
    ),
    Step(
        "A database of MySQL is deleted",
        "sql_database",
        {"instance": NAME, "name": "mlflow", "state": "absent"},
        databases,
        lambda seen, result, cloud: same([row for row in seen if row[0] == "mlflow"], []),
    ),
    _instance(
        "An instance of MySQL is deleted",
        lambda seen, result, cloud: same(seen, None),
        state="absent",
    ),
]

try:
    mariadbbuilds.fetched()
except SqlError as error:
    warnings.warn(f"modules are not tested with MySQL: {error}", stacklevel=2)
    STEPS = []
