# SPDX-License-Identifier: Apache-2.0
"""The Cloud SQL Admin API, asked over its own paths; what it says of a server is checked with psycopg2."""

from __future__ import annotations

import contextlib
import time

import psycopg2
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.gateway.times import epoch
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing import Client
from gcp_sandbox.testing.sql import ask
from gcp_sandbox.testing.vpc import Networks

BASE = "https://sqladmin.googleapis.com/v1/projects/mlflow-sandbox"
BETA = "https://sqladmin.googleapis.com/sql/v1beta4/projects/mlflow-sandbox"
ENTERPRISE = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
# An instance for tests of the Admin API alone: SQL Server has no server behind it.
WITHOUT_A_SERVER = {"version": "SQLSERVER_2022_STANDARD", "tier": "db-custom-2-7680"}
OPEN = {"authorizedNetworks": [{"name": "all", "value": "0.0.0.0/0"}]}


@pytest.fixture
def api(sandbox, client):
    sandbox.enablement.enable(sandbox.projects.get("mlflow-sandbox"), ["sqladmin.googleapis.com"], at_once=True)
    return Api(client)


class Api:
    """The deployer's requests; operations are awaited."""

    def __init__(self, client) -> None:
        self.client = client

    def __getattr__(self, name):
        return getattr(self.client, name)

    def wait(self, operation, timeout=60.0):
        deadline = time.monotonic() + timeout
        while operation["status"] != "DONE":
            assert time.monotonic() < deadline
            time.sleep(0.03)
            operation = self.client.ok("GET", operation["selfLink"])
        return operation

    def do(self, method, path, body=None):
        operation = self.wait(self.client.ok(method, BASE + path, body))
        assert "error" not in operation, operation
        return operation

    def insert(self, name="db", version="POSTGRES_16", **settings):
        body = {"name": name, "databaseVersion": version, "region": "europe-west1", "settings": ENTERPRISE | settings}
        self.do("POST", "/instances", body)
        return self.get_instance(name)

    def get_instance(self, name="db"):
        return self.client.ok("GET", f"{BASE}/instances/{name}")

    def fails(self, method, path, body=None):
        """(status, reason, message)"""
        answer = self.client.request(method, path if path.startswith("https") else BASE + path, body)
        return answer.status, answer.reason, answer.json["error"]["message"]


def connect(sandbox, user, password, database="postgres", instance="db"):
    _, port = sandbox.sql.endpoint(f"mlflow-sandbox:europe-west1:{instance}")
    return psycopg2.connect(host="127.0.0.1", port=port, user=user, password=password, dbname=database)


def test_an_instance_from_creation_to_deletion(sandbox, api):
    answer = api.client.post(BASE + "/instances", {
        "name": "db", "databaseVersion": "POSTGRES_16", "region": "europe-west1", "rootPassword": "root-secret",
        "settings": {**ENTERPRISE, "ipConfiguration": OPEN},
    })  # fmt: skip
    operation = answer.json
    assert (operation["operationType"], operation["status"], operation["targetId"]) == ("CREATE", "PENDING", "db")
    assert operation["user"] == api.client.email and "startTime" not in operation
    assert api.get_instance()["state"] in ("PENDING_CREATE", "RUNNABLE")
    done = api.wait(operation)
    assert done["endTime"] >= done["startTime"] >= done["insertTime"]
    instance = api.get_instance()
    assert instance["state"] == "RUNNABLE"
    assert instance["databaseInstalledVersion"].startswith("POSTGRES_16_")
    assert instance["connectionName"] == "mlflow-sandbox:europe-west1:db"
    assert [entry["type"] for entry in instance["ipAddresses"]] == ["PRIMARY", "OUTGOING"]
    assert instance["gceZone"] == instance["settings"]["locationPreference"]["zone"]
    certificate = x509.load_pem_x509_certificate(instance["serverCaCert"]["cert"].encode())
    assert certificate.fingerprint(hashes.SHA1()).hex() == instance["serverCaCert"]["sha1Fingerprint"]
    assert certificate.not_valid_after_utc.timestamp() == epoch(instance["serverCaCert"]["expirationTime"])
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert instance["selfLink"] == BASE + "/instances/db"
    assert api.ok("GET", BETA + "/instances/db")["selfLink"] == BETA + "/instances/db"
    assert [item["name"] for item in api.ok("GET", BASE + "/instances")["items"]] == ["db"]
    assert ask(connect(sandbox, "postgres", "root-secret"), "SHOW max_connections") == [("25",)], "db-f1-micro's"

    api.do("DELETE", "/instances/db")
    assert api.fails("GET", "/instances/db") == (404, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")
    assert api.ok("GET", BASE + "/instances") == {"kind": "sql#instancesList"}
    api.insert()
    assert api.get_instance()["state"] == "RUNNABLE", "a name can be used again at once"


def test_the_root_password_is_kept_nowhere(sandbox, api):
    api.do("POST", "/instances", {
        "name": "db", "databaseVersion": "POSTGRES_16", "rootPassword": "hush-hush", "settings": ENTERPRISE,
    })  # fmt: skip
    api.do("POST", "/instances/db/users", {"name": "u", "password": "hush-hush"})
    for path in sandbox.settings.state.rglob("*"):
        if path.is_file():
            assert b"hush-hush" not in path.read_bytes(), path


@pytest.mark.parametrize(("body", "status", "reason", "said"), [
    ({"name": "Db"}, 400, "invalid", "Invalid request: instance name (Db)."),
    ({"name": "1db"}, 400, "invalid", "instance name"),
    ({"name": "d" * 90}, 400, "invalid", "instance name"),
    ({"name": ""}, 400, "invalid", "instance name"),
    ({"settings": {}}, 400, "required", "Missing parameter: tier."),
    ({"settings": {"tier": "db-f1-micro"}}, 400, "invalid",
     "Invalid Tier (db-f1-micro) for (ENTERPRISE_PLUS) Edition. Use a predefined Tier like db-perf-optimized-N-*"),
    ({"settings": {"tier": "db-custom-2-7680"}}, 400, "invalid", "for (ENTERPRISE_PLUS)"),
    ({"settings": {"tier": "db-perf-optimized-N-2", "edition": "ENTERPRISE"}}, 400, "invalid", "(ENTERPRISE)"),
    ({"settings": {"tier": "db-n1-standard-1", "edition": "ENTERPRISE"}}, 400, "invalid", "Only custom or shared-core"),
    ({"settings": {"tier": "db-huge", "edition": "ENTERPRISE"}}, 400, "invalid", "Invalid Tier (db-huge)"),
    ({"settings": {"tier": "db-custom-3-7680", "edition": "ENTERPRISE"}}, 400, "invalid", "vCPUs"),
    ({"settings": {"tier": "db-custom-2-1000", "edition": "ENTERPRISE"}}, 400, "invalid", "memory"),
    ({"settings": ENTERPRISE | {"backupConfiguration": {"transactionLogRetentionDays": 14}}}, 400, "invalid",
     "The number of transaction log retention days must be between 1 and 7."),
    ({"settings": ENTERPRISE | {"backupConfiguration": {"pointInTimeRecoveryEnabled": True}}}, 400, "invalid",
     "backups"),
    ({"settings": ENTERPRISE | {"dataDiskSizeGb": "5"}}, 400, "invalid", "disk size"),
    ({"settings": ENTERPRISE | {"databaseFlags": [{"name": "bogus", "value": "1"}]}}, 400, "invalidFlagName", "bogus"),
    ({"settings": ENTERPRISE | {"databaseFlags": [{"name": "work_mem", "value": "x"}]}}, 400, "invalidFlagValue",
     "work_mem"),
    ({"settings": ENTERPRISE | {"ipConfiguration": {"ipv4Enabled": False}}}, 400, "invalid", "connectivity"),
    ({"settings": ENTERPRISE | {"ipConfiguration": {"authorizedNetworks": [{"value": "10.8.0.0/24"}]}}}, 400, "invalid",
     "Non-routable or private authorized network (10.8.0.0/24).."),
    ({"settings": ENTERPRISE | {"ipConfiguration": {"authorizedNetworks": [{"value": "home"}]}}}, 400, "invalid",
     "home"),
    ({"settings": ENTERPRISE | {"userLabels": {"Team": "x"}}}, 400, "invalid", "label"),
    ({"region": "nowhere", "settings": ENTERPRISE}, 400, "invalid", "region"),
    ({"region": "europe-west99", "settings": ENTERPRISE}, 400, "invalid", "region (europe-west99)"),
    ({"settings": ENTERPRISE | {"locationPreference": {"zone": "europe-west1-b"}}}, 400, "invalid", "region"),
    ({"settings": ENTERPRISE | {"maintenanceWindow": {"day": 9}}}, 400, "invalid", "maintenance window day (9)"),
    ({"settings": ENTERPRISE, "masterInstanceName": "other"}, 501, "notImplemented", "read replicas"),
])  # fmt: skip
def test_what_cannot_be_made_is_refused_at_once(api, body, status, reason, said):
    answer = api.fails("POST", "/instances", {"name": "db", "databaseVersion": "POSTGRES_16", **body})
    assert answer[:2] == (status, reason) and said in answer[2]
    assert api.ok("GET", BASE + "/instances") == {"kind": "sql#instancesList"}


def test_a_name_in_use(api):
    body = {"name": "db", "databaseVersion": "MYSQL_8_0", "settings": {"tier": "db-n1-standard-1"}}
    api.ok("POST", BASE + "/instances", body)
    assert api.fails("POST", "/instances", body)[:2] == (409, "instanceAlreadyExists")


@pytest.fixture
def slow(sandbox):
    """Operations take a hundredth of what they take on Google Cloud."""
    sandbox.latency.factor = 0.01


def test_one_operation_at_a_time(sandbox, slow, api):
    created = api.ok("POST", BASE + "/instances", {
        "name": "db", "databaseVersion": "POSTGRES_16", "region": "europe-west1", "settings": ENTERPRISE,
    })  # fmt: skip
    in_progress = (409, "operationInProgress", "Operation failed because another operation was already in progress.")
    assert api.fails("PATCH", "/instances/db", {"settings": {"userLabels": {"a": "b"}}}) == in_progress
    assert api.fails("DELETE", "/instances/db") == in_progress
    not_running = (400, "invalid", "Invalid request: Invalid request since instance is not running.")
    assert api.fails("POST", "/instances/db/users", {"name": "u", "password": "p"}) == not_running
    assert api.fails("GET", "/instances/db/databases") == not_running
    assert api.ok("GET", created["selfLink"])["status"] == "RUNNING"
    began = time.monotonic()
    api.wait(created)
    assert time.monotonic() - began > 1, "300 s, scaled"
    patch = api.ok("PATCH", BASE + "/instances/db", {"settings": {"tier": "db-g1-small"}})
    assert api.fails("POST", "/instances/db/databases", {"name": "d"}) == in_progress
    api.wait(patch)
    api.do("POST", "/instances/db/databases", {"name": "d"})
    kinds = [item["operationType"] for item in api.ok("GET", BASE + "/operations?instance=db")["items"]]
    assert kinds == ["CREATE_DATABASE", "UPDATE", "CREATE"]


def test_settings_version_guards_against_stale_reads(api):
    first = api.insert(**WITHOUT_A_SERVER)["settings"]["settingsVersion"]
    api.do("PATCH", "/instances/db", {"settings": {"settingsVersion": first, "userLabels": {"a": "1", "b": "2"}}})
    stale = {"settings": {"settingsVersion": first, "userLabels": {"a": "9"}}}
    assert api.fails("PATCH", "/instances/db", stale) == (412, "staleData", "Condition does not match.")
    assert api.fails("PUT", "/instances/db", {"settings": {**ENTERPRISE, "settingsVersion": first}})[0] == 412
    now = api.get_instance()["settings"]
    assert int(now["settingsVersion"]) > int(first) and now["userLabels"] == {"a": "1", "b": "2"}


def test_patch_merges_and_update_replaces(api):
    api.insert(
        userLabels={"a": "1", "b": "2"},
        maintenanceWindow={"day": 7, "hour": 3},
        backupConfiguration={"enabled": True, "startTime": "03:00"},
        dataDiskSizeGb="20",
    )
    api.do("PATCH", "/instances/db", {
        "settings": {"userLabels": {"b": None, "c": "3"}, "backupConfiguration": {"pointInTimeRecoveryEnabled": True}}
    })  # fmt: skip
    settings = api.get_instance()["settings"]
    assert settings["userLabels"] == {"a": "1", "c": "3"}
    assert settings["backupConfiguration"]["startTime"] == "03:00"
    assert settings["backupConfiguration"]["pointInTimeRecoveryEnabled"] is True
    assert settings["maintenanceWindow"]["kind"] == "sql#maintenanceWindow"
    api.do("PUT", "/instances/db", {"settings": ENTERPRISE})
    settings = api.get_instance()["settings"]
    assert "userLabels" not in settings and "maintenanceWindow" not in settings
    assert settings["backupConfiguration"]["enabled"] is False and settings["dataDiskSizeGb"] == "20"
    assert api.fails("PATCH", "/instances/db", {"settings": {"dataDiskSizeGb": "10"}})[:2] == (400, "invalid")
    assert api.fails("PATCH", "/instances/db", {"region": "us-east1"})[:2] == (400, "invalid")


def test_network_flags_and_tier_reach_the_server(sandbox, client, api):
    vpc = Networks(client)
    vpc.make("ml")
    vpc.connect("ml")
    api.insert()
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
        connect(sandbox, "u", "pw")
    api.do("PATCH", "/instances/db", {"settings": {"ipConfiguration": OPEN}})
    assert ask(connect(sandbox, "u", "pw"), "SHOW max_connections") == [("25",)]
    flags = [{"name": "work_mem", "value": "8192"}, {"name": "cloudsql.iam_authentication", "value": "on"}]
    api.do("PATCH", "/instances/db", {"settings": {"databaseFlags": flags, "tier": "db-custom-2-7680"}})
    assert ask(connect(sandbox, "u", "pw"), "SHOW work_mem") == [("8MB",)]
    assert ask(connect(sandbox, "u", "pw"), "SHOW max_connections") == [("400",)]
    for closed in ({"sslMode": "ENCRYPTED_ONLY"}, {"sslMode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ipv4Enabled": False,
                   "privateNetwork": "projects/mlflow-sandbox/global/networks/ml"}):  # fmt: skip
        api.do("PATCH", "/instances/db", {"settings": {"ipConfiguration": closed}})
        with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
            connect(sandbox, "u", "pw")
    assert api.get_instance()["ipAddresses"][0]["type"] == "PRIVATE"


def test_expired_networks_do_not_count(sandbox, api):
    api.insert(
        ipConfiguration={"authorizedNetworks": [{"value": "0.0.0.0/0", "expirationTime": "2020-01-01T00:00:00Z"}]}
    )
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    with pytest.raises(psycopg2.OperationalError, match="no pg_hba"):
        connect(sandbox, "u", "pw")


def test_stopping_an_instance(sandbox, api):
    api.insert(ipConfiguration=OPEN)
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    api.do("PATCH", "/instances/db", {"settings": {"activationPolicy": "NEVER"}})
    assert api.get_instance()["state"] == "RUNNABLE"
    assert api.fails("GET", "/instances/db/users")[2].endswith("instance is not running.")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        connect(sandbox, "u", "pw")
    api.do("PATCH", "/instances/db", {"settings": {"activationPolicy": "ALWAYS"}})
    assert ask(connect(sandbox, "u", "pw"), "SELECT 1") == [(1,)]


def test_a_failed_creation_leaves_a_failed_instance_that_can_be_deleted(sandbox, api):
    flags = [{"name": "shared_buffers", "value": "1073741823"}]
    operation = api.wait(api.ok("POST", BASE + "/instances", {
        "name": "db", "databaseVersion": "POSTGRES_16", "settings": ENTERPRISE | {"databaseFlags": flags}
    }))  # fmt: skip
    error = operation["error"]["errors"][0]
    assert error["kind"] == "sql#operationError" and "does not start" in error["message"]
    assert api.get_instance()["state"] == "FAILED"
    assert api.fails("PATCH", "/instances/db", {"settings": {"userLabels": {"a": "b"}}})[:2] == (409, "invalidState")
    api.do("DELETE", "/instances/db")
    assert api.fails("GET", "/instances/db")[0] == 404


def test_deletion_protection(api):
    api.insert(deletionProtectionEnabled=True, **WITHOUT_A_SERVER)
    status, _, message = api.fails("DELETE", "/instances/db")
    assert status == 400 and message.startswith("The instance is protected. Please disable the deletion protection")
    api.do("PATCH", "/instances/db", {"settings": {"deletionProtectionEnabled": False}})
    api.do("DELETE", "/instances/db")


class TestDatabasesAndUsers:
    """On one instance for all tests, which is as before after each."""

    @pytest.fixture(scope="class")
    def running(self, new_settings, tmp_path_factory):
        with new_settings(tmp_path_factory.mktemp("instance")) as settings:
            sandbox = Sandbox(settings)
            sandbox.start()
            sandbox.enablement.enable(sandbox.projects.get("mlflow-sandbox"), ["sqladmin.googleapis.com"], at_once=True)
            Api(Client(sandbox)).insert(ipConfiguration=OPEN)
            yield sandbox
            sandbox.stop()

    @pytest.fixture
    def sandbox(self, running):
        yield running
        server = running.sql.server("mlflow-sandbox:europe-west1:db")
        for database in server.databases():
            if database.name != "postgres":
                server.drop_database(database.name)
        for user in server.users():
            if user.name != "postgres":
                server.drop_user(user.name, "")

    def test_a_database(self, sandbox, api):
        assert api.fails("GET", "/instances/db/databases/mlflow") == (404, "notFound", "Not Found")
        done = api.ok("POST", BASE + "/instances/db/databases", {"name": "mlflow"})
        assert (done["status"], done["operationType"]) == ("DONE", "CREATE_DATABASE")
        database = api.ok("GET", BASE + "/instances/db/databases/mlflow")
        assert (database["charset"], database["collation"]) == ("UTF8", "en_US.UTF8")
        names = [item["name"] for item in api.ok("GET", BASE + "/instances/db/databases")["items"]]
        assert names == ["mlflow", "postgres"]
        status, reason, said = api.fails("POST", "/instances/db/databases", {"name": "mlflow"})
        assert (status, reason) == (400, "invalid")
        assert (
            said == 'Invalid request: failed to create database mlflow. Detail: pq: database "mlflow" already exists.'
        )
        api.do("DELETE", "/instances/db/databases/mlflow")
        assert api.fails("DELETE", "/instances/db/databases/mlflow")[0] == 404

    def test_a_database_in_use(self, sandbox, api):
        api.do("POST", "/instances/db/databases", {"name": "busy"})
        api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
        with contextlib.closing(connect(sandbox, "u", "pw", "busy")):
            status, reason, said = api.fails("DELETE", "/instances/db/databases/busy")
        assert (status, reason) == (400, "invalid") and 'pq: database "busy" is being accessed by other users' in said

    def test_what_sql_makes_is_listed_too(self, sandbox, api):
        api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
        connection = connect(sandbox, "u", "pw")
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE by_hand")
            cursor.execute("CREATE ROLE by_hand LOGIN")
        assert api.ok("GET", BASE + "/instances/db/databases/by_hand")["name"] == "by_hand"
        assert api.ok("GET", BASE + "/instances/db/users/by_hand")["name"] == "by_hand"

    def test_a_user(self, sandbox, api):
        done = api.ok("POST", BASE + "/instances/db/users", {"name": "app", "password": "one"})
        assert (done["status"], done["operationType"]) == ("DONE", "CREATE_USER")
        users = {item["name"]: item for item in api.ok("GET", BASE + "/instances/db/users")["items"]}
        assert set(users) == {"app", "postgres"} and users["app"]["host"] == "" and "password" not in users["app"]
        assert users["app"]["passwordPolicy"] == {"status": {}}
        assert len(api.ok("GET", BASE + "/instances/db/users?name=app&host=")["items"]) == 2
        assert api.fails("GET", "/instances/db/users?user=app")[0] == 400
        assert ask(connect(sandbox, "app", "one"), "SELECT current_user") == [("app",)]
        api.do("PUT", "/instances/db/users?name=app", {"password": "two"})
        with pytest.raises(psycopg2.OperationalError):
            connect(sandbox, "app", "one")
        assert connect(sandbox, "app", "two")
        api.do("POST", "/instances/db/users", {"name": "app", "password": "three"})
        assert connect(sandbox, "app", "three"), "inserting a user again sets its password"
        assert api.fails("PUT", "/instances/db/users", {"password": "x"}) == (
            400,
            "required",
            "Missing parameter: user.",
        )
        assert api.fails("PUT", "/instances/db/users?name=missing", {"password": "x"})[0] == 404
        api.do("DELETE", "/instances/db/users?name=app")
        with pytest.raises(psycopg2.OperationalError):
            connect(sandbox, "app", "three")
        assert api.fails("DELETE", "/instances/db/users?name=app")[0] == 404

    def test_a_password_that_expires(self, api):
        policy = {"passwordExpirationDuration": "86400s"}
        api.do("POST", "/instances/db/users", {"name": "app", "password": "one", "passwordPolicy": policy})

        def shown():
            return api.ok("GET", BASE + "/instances/db/users/app")["passwordPolicy"]

        first = shown()
        ahead = epoch(first["status"]["passwordExpirationTime"]) - time.time()
        assert first["passwordExpirationDuration"] == "86400s" and 86300 < ahead <= 86400
        api.do("PUT", "/instances/db/users?name=app", {"password": "two"})
        assert shown()["status"]["passwordExpirationTime"] > first["status"]["passwordExpirationTime"]
        api.do("PUT", "/instances/db/users?name=app", {"passwordPolicy": {"allowedFailedAttempts": 3}})
        assert shown() == {"allowedFailedAttempts": 3, "status": {}}

    def test_a_user_that_owns_something(self, sandbox, api):
        api.do("POST", "/instances/db/databases", {"name": "shop"})
        api.do("POST", "/instances/db/users", {"name": "app", "password": "pw"})
        ask(connect(sandbox, "app", "pw", "shop"), "CREATE TABLE t (a int)")
        status, reason, said = api.fails("DELETE", "/instances/db/users?name=app")
        assert (status, reason) == (400, "invalid")
        assert said.startswith(
            'Invalid request: failed to delete user app: . role "app" cannot be dropped because some'
        )

    def test_iam_users(self, sandbox, api):
        name = "mlflow@mlflow-sandbox.iam"
        kind = "CLOUD_IAM_SERVICE_ACCOUNT"
        long = {"name": name + ".gserviceaccount.com", "type": kind}
        assert 'without ".gserviceaccount.com" suffix' in api.fails("POST", "/instances/db/users", long)[2]
        api.do("POST", "/instances/db/users", {"name": name, "type": kind})
        api.do("POST", "/instances/db/users", {"name": "alice@example.com", "type": "CLOUD_IAM_USER"})
        users = {item["name"]: item for item in api.ok("GET", BASE + "/instances/db/users")["items"]}
        assert users[name]["type"] == kind and users[name]["iamEmail"] == long["name"]
        assert users["alice@example.com"]["type"] == "CLOUD_IAM_USER" and "type" not in users["postgres"]
        api.do("DELETE", f"/instances/db/users?name={name}")

    def test_database_roles(self, sandbox, api):
        api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
        ask(connect(sandbox, "u", "pw"), "CREATE ROLE readers")
        api.do("POST", "/instances/db/users", {"name": "r", "password": "pw", "databaseRoles": ["readers"]})
        assert api.ok("GET", BASE + "/instances/db/users/r")["databaseRoles"] == ["readers"]
        assert ask(connect(sandbox, "r", "pw"), "SELECT pg_has_role('r', 'cloudsqlsuperuser', 'member')") == [(False,)]


def test_backups_and_restoring_one(sandbox, api):
    api.insert(ipConfiguration=OPEN)
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    ask(connect(sandbox, "u", "pw"), "CREATE TABLE t AS SELECT 7 AS a")
    made = api.do("POST", "/instances/db/backupRuns", {"description": "before"})
    assert made["operationType"] == "BACKUP_VOLUME"
    id = made["backupContext"]["backupId"]
    run = api.ok("GET", f"{BASE}/instances/db/backupRuns/{id}")
    assert (run["status"], run["type"], run["description"]) == ("SUCCESSFUL", "ON_DEMAND", "before")
    assert int(run["maxChargeableBytes"]) > 100_000 and (sandbox.sql.backups(id) / "base.tar.gz").is_file()
    ask(connect(sandbox, "u", "pw"), "UPDATE t SET a = 8")
    api.do("POST", "/instances/db/restoreBackup", {"restoreBackupContext": {"backupRunId": id}})
    assert ask(connect(sandbox, "u", "pw"), "SELECT a FROM t") == [(7,)]
    assert [item["id"] for item in api.ok("GET", f"{BASE}/instances/db/backupRuns")["items"]] == [id]
    api.do("DELETE", f"/instances/db/backupRuns/{id}")
    assert api.fails("GET", f"/instances/db/backupRuns/{id}")[:2] == (404, "backupRunDoesNotExist")
    assert not sandbox.sql.backups(id).exists()


@pytest.mark.parametrize("base", [BASE, BETA])
def test_a_final_backup_outlives_its_instance(sandbox, api, base):
    api.insert()
    assert api.fails("DELETE", "/instances/db?enableFinalBackup=true&finalBackupTtlDays=400")[:2] == (400, "invalid")
    api.do("DELETE", "/instances/db?enableFinalBackup=true&finalBackupTtlDays=7&finalBackupDescription=last")
    (backup,) = api.ok("GET", base + "/backups")["backups"]
    assert (backup["type"], backup["state"], backup["instance"]) == ("FINAL", "SUCCESSFUL", "db")
    assert backup["description"] == "last" and backup["expiryTime"] > backup["instanceDeletionTime"]
    folder = sandbox.sql.backups(backup["name"].rpartition("/")[2])
    assert (folder / "base.tar.gz").is_file()
    api.wait(api.ok("DELETE", base.removesuffix("/projects/mlflow-sandbox") + "/" + backup["name"]))
    assert api.ok("GET", base + "/backups") == {} and not folder.exists()


def targets(instance):
    return [target["name"] for target in instance.get("upgradableDatabaseVersions", [])]


def test_an_instance_is_of_its_version_and_upgrades(sandbox, api):
    instance = api.insert(version="POSTGRES_14", ipConfiguration=OPEN)
    assert instance["databaseVersion"] == "POSTGRES_14" and instance["databaseInstalledVersion"] == "POSTGRES_14_19"
    assert targets(instance) == ["POSTGRES_15", "POSTGRES_16", "POSTGRES_17", "POSTGRES_18"]
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    ask(connect(sandbox, "u", "pw"), "CREATE TABLE t AS SELECT 7 AS a")
    api.do("PATCH", "/instances/db", {"databaseVersion": "POSTGRES_16"})
    assert targets(api.get_instance()) == ["POSTGRES_17", "POSTGRES_18"]
    api.do("PATCH", "/instances/db", {"databaseVersion": "POSTGRES_18"})
    instance = api.get_instance()
    assert targets(instance) == []
    assert instance["databaseVersion"] == "POSTGRES_18" and instance["databaseInstalledVersion"].startswith(
        "POSTGRES_18_"
    )
    assert instance["settings"]["edition"] == "ENTERPRISE"
    assert ask(connect(sandbox, "u", "pw"), "SELECT a FROM t") == [(7,)]
    assert api.fails("PATCH", "/instances/db", {"databaseVersion": "POSTGRES_16"})[:2] == (400, "invalid")
    assert api.fails("PATCH", "/instances/db", {"databaseVersion": "MYSQL_8_4"})[:2] == (400, "invalid")


def mysql_of(sandbox, user, password, database="shop", instance="my"):
    _, port = sandbox.sql.endpoint(f"mlflow-sandbox:europe-west1:{instance}")
    return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=database)


class TestMysql:
    """Instances that MariaDB serves."""

    def test_databases_and_users_are_real(self, sandbox, api, mariadb):
        instance = api.insert("my", "MYSQL_8_0", tier="db-n1-standard-1", ipConfiguration=OPEN)
        assert (instance["state"], instance["databaseInstalledVersion"]) == ("RUNNABLE", "MYSQL_8_0_41")
        api.do("POST", "/instances/my/databases", {"name": "shop"})
        version = api.get_instance("my")["databaseInstalledVersion"]
        assert version.startswith("MARIADB_1"), "the server's own name"
        assert api.ok("GET", BASE + "/instances/my/databases/shop")["collation"] == "utf8mb4_0900_ai_ci"
        api.do("POST", "/instances/my/users", {"name": "app", "password": "pw"})
        users = [(item["name"], item["host"]) for item in api.ok("GET", BASE + "/instances/my/users")["items"]]
        assert users == [("root", "%"), ("app", "%")]
        (said,) = ask(mysql_of(sandbox, "app", "pw"), "SELECT VERSION()")[0]
        assert "MariaDB" in said and said.startswith(version.removeprefix("MARIADB_").replace("_", "."))
        api.do("PUT", "/instances/my/users?name=app&host=%25", {"name": "app", "password": "new"})
        with pytest.raises(pymysql.err.OperationalError, match="Access denied for user 'app'"):
            mysql_of(sandbox, "app", "pw")
        assert ask(mysql_of(sandbox, "app", "new"), "SELECT 1") == [(1,)]
        api.do("PUT", "/instances/my/users?name=app&host=10.1.2.3", {"name": "app", "password": "newer"})
        assert ask(mysql_of(sandbox, "app", "newer"), "SELECT 1") == [(1,)]
        api.do("DELETE", "/instances/my/users?name=app&host=10.1.2.3")
        for verb in ("PUT", "DELETE"):
            assert api.fails(verb, "/instances/my/users?name=app&host=10.1.2.3", {"password": "pw"})[0] == 404
        api.do("DELETE", "/instances/my/databases/shop")
        assert api.fails("DELETE", "/instances/my/databases/shop")[0] == 404
        api.do("DELETE", "/instances/my")

    def test_a_binary_log_and_flags_reach_the_server(self, sandbox, api, mariadb):
        backup = {"enabled": True, "binaryLogEnabled": True}
        flags = [{"name": "max_connections", "value": "77"}, {"name": "cloudsql_iam_authentication", "value": "on"}]
        api.insert("my", "MYSQL_8_0", ipConfiguration=OPEN, backupConfiguration=backup, databaseFlags=flags)
        api.do("POST", "/instances/my/users", {"name": "app", "password": "pw"})
        shown = ask(mysql_of(sandbox, "app", "pw", None), "SELECT @@log_bin, @@max_connections")
        assert shown == [(1, 77)]
        answer = api.fails("PATCH", "/instances/my", {"settings": {"databaseFlags": [{"name": "nix", "value": "1"}]}})
        assert answer[:2] == (400, "invalidFlagName")
        wrong = {"settings": {"databaseFlags": [{"name": "binlog_row_image", "value": "some"}]}}
        assert api.fails("PATCH", "/instances/my", wrong)[:2] == (400, "invalidFlagValue")
        api.do("PATCH", "/instances/my", {"settings": {"backupConfiguration": {"binaryLogEnabled": False}}})
        assert ask(mysql_of(sandbox, "app", "pw", None), "SELECT @@log_bin") == [(0,)]

    def test_a_standby_needs_the_binary_log(self, api):
        settings = {**ENTERPRISE, "availabilityType": "REGIONAL", "backupConfiguration": {"enabled": True}}
        body = {"name": "my", "databaseVersion": "MYSQL_8_0", "region": "europe-west1", "settings": settings}
        status, reason, said = api.fails("POST", "/instances", body)
        assert (status, reason) == (400, "invalid") and "binary logging" in said

    def test_a_refusal_of_the_server_is_returned_in_its_words(self, sandbox, api, mariadb):
        api.insert("my", "MYSQL_8_0")
        api.do("POST", "/instances/my/databases", {"name": "shop"})
        said = api.fails("POST", "/instances/my/databases", {"name": "shop"})[2]
        assert said.endswith("Detail: Can't create database 'shop'; database exists.")
        said = api.fails("POST", "/instances/my/databases", {"name": "x", "collation": "nonsense"})[2]
        assert "Unknown collation: 'nonsense'" in said

    def test_iam_users_are_named_by_what_is_before_the_at(self, sandbox, api, mariadb):
        api.insert("my", "MYSQL_8_0")
        email = "app@mlflow-sandbox.iam.gserviceaccount.com"
        api.do("POST", "/instances/my/users", {"name": email, "type": "CLOUD_IAM_SERVICE_ACCOUNT"})
        user = api.ok("GET", BASE + "/instances/my/users/app?host=%25")
        assert (user["name"], user["type"], user["iamEmail"]) == ("app", "CLOUD_IAM_SERVICE_ACCOUNT", email)

    def test_backups_and_restoring_one(self, sandbox, api, mariadb):
        api.insert("my", "MYSQL_8_0", ipConfiguration=OPEN)
        api.do("POST", "/instances/my/users", {"name": "app", "password": "pw"})
        api.do("POST", "/instances/my/databases", {"name": "shop"})
        ask(mysql_of(sandbox, "app", "pw"), "CREATE TABLE t AS SELECT 7 AS a")
        operation = api.do("POST", "/instances/my/backupRuns", {})
        id = operation["backupContext"]["backupId"]
        api.do("DELETE", "/instances/my/databases/shop")
        context = {"restoreBackupContext": {"backupRunId": id, "instanceId": "my"}}
        api.do("POST", "/instances/my/restoreBackup", context)
        assert ask(mysql_of(sandbox, "app", "pw"), "SELECT a FROM t") == [(7,)]
        api.do("DELETE", "/instances/my?enableFinalBackup=true")
        (kept,) = api.ok("GET", BASE + "/backups")["backups"]
        assert int(kept["maxChargeableBytes"]) > 100_000 and kept["databaseVersion"] == "MYSQL_8_0"

    def test_a_server_that_cannot_be_had_fails_the_creation(self, sandbox, api, monkeypatch):
        def none(home):
            raise SqlError("there is no MariaDB and no way to get one")

        monkeypatch.setattr(mariadbbuilds, "build", none)
        body = {"name": "my", "databaseVersion": "MYSQL_8_0", "region": "europe-west1", "settings": ENTERPRISE}
        operation = api.wait(api.ok("POST", BASE + "/instances", body))
        assert "there is no MariaDB and no way to get one" in operation["error"]["errors"][0]["message"]
        assert api.get_instance("my")["state"] == "FAILED"
        (endpoint,) = sandbox.sql.endpoints()
        assert "no way to get one" in endpoint["problem"] and not endpoint["running"], "status shows it, too"
        api.do("DELETE", "/instances/my")
        assert not sandbox.sql.endpoints()

    def test_sql_server_has_no_server(self, sandbox, api):
        api.insert("ms", "SQLSERVER_2022_STANDARD", tier="db-custom-2-7680")
        api.do("POST", "/instances/ms/databases", {"name": "shop"})
        assert "shop" in [item["name"] for item in api.ok("GET", BASE + "/instances/ms/databases")["items"]]
        with pytest.raises(SqlError, match="SQL Server"):
            sandbox.sql.endpoint("mlflow-sandbox:europe-west1:ms")


class TestPermissions:
    def test_a_user_without_roles_may_do_nothing(self, api):
        api.insert(**WITHOUT_A_SERVER)
        bob = {"as_": "bob@example.com"}
        for method, path, body in (
            ("GET", "/instances/db", None),
            ("GET", "/instances", None),
            ("POST", "/instances", {"name": "x", "settings": ENTERPRISE}),
            ("PATCH", "/instances/db", {}),
            ("DELETE", "/instances/db", None),
            ("POST", "/instances/db/users", {"name": "u"}),
            ("GET", "/instances/db/users", None),
            ("POST", "/instances/db/databases", {"name": "d"}),
            ("POST", "/instances/db/backupRuns", {}),
            ("GET", "/operations", None),
        ):
            assert api.request(method, BASE + path, body, **bob).status == 403, (method, path)

    def test_a_service_connects_only_with_the_permission(self, sandbox, api, settings):
        instance = api.insert()
        api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
        email = "alice@example.com"
        said: list[str] = []
        principal = sandbox.identities.principal(email)
        mount = sandbox.sql.mount(instance["connectionName"], settings.runtime / "c", lambda: principal, said.append)

        def through():
            return psycopg2.connect(host=str(mount.path.parent), user="u", password="pw", dbname="postgres")

        with pytest.raises(psycopg2.OperationalError):
            through()
        assert "cloudsql.instances.connect" in said[0]
        project = "//cloudresourcemanager.googleapis.com/projects/mlflow-sandbox"
        policy = sandbox.iam.get_policy(project)
        policy["bindings"].append({"role": "roles/cloudsql.client", "members": [f"user:{email}"]})
        sandbox.iam.set_policy(project, policy)
        assert ask(through(), "SELECT 1") == [(1,)]


def test_what_is_not_there_names_itself(api):
    api.insert("my", "MYSQL_8_0", tier="db-n1-standard-1")
    for path in ("/instances/my/clone", "/instances/my/export", "/instances/my/import"):
        status, _, said = api.fails("POST", path, {})
        assert status == 501 and path.rpartition("/")[2] in said
    assert api.fails("GET", "/operations/nope")[:2] == (404, "operationDoesNotExist")
    assert api.fails("GET", "/instances/none/users")[:2] == (404, "instanceDoesNotExist")


def test_offers(api):
    tiers = {item["tier"]: item for item in api.ok("GET", BASE + "/tiers")["items"]}
    assert tiers["db-g1-small"]["RAM"] == "1825361100" and "db-perf-optimized-N-2" in tiers
    url = "https://sqladmin.googleapis.com/v1/flags?databaseVersion=POSTGRES_16"
    flags = {item["name"]: item for item in api.ok("GET", url)["items"]}
    assert flags["max_connections"]["requiresRestart"] and flags["work_mem"]["type"] == "INTEGER"
    assert flags["cloudsql.iam_authentication"]["type"] == "BOOLEAN" and len(flags) == len(api.ok("GET", url)["items"])
    assert not {"listen_addresses", "data_directory", "archive_command", "ssl"} & set(flags)
    api.insert("my", "MYSQL_8_0", tier="db-n1-standard-1")
    connect = api.ok("GET", BASE + "/instances/my/connectSettings")
    assert connect["backendType"] == "SECOND_GEN" and connect["ipAddresses"][0]["type"] == "PRIMARY"


def test_lists_are_filtered_and_paged(api):
    for name, team in (("a", "red"), ("b", "blue"), ("c", "red")):
        api.insert(name, "MYSQL_8_0", tier="db-n1-standard-1", userLabels={"team": team})

    def names(query):
        return [item["name"] for item in api.ok("GET", f"{BASE}/instances?{query}").get("items", [])]

    assert names("filter=settings.userLabels.team:red") == ["a", "c"]
    assert names("filter=settings.userLabels.team=red%20AND%20name!=a") == ["c"]
    assert names("filter=state:FAILED") == []
    assert api.fails("GET", "/instances?filter=((")[:2] == (400, "invalid")
    page = api.ok("GET", f"{BASE}/instances?maxResults=2")
    assert len(page["items"]) == 2 and names(f"maxResults=2&pageToken={page['nextPageToken']}") == ["c"]


def test_a_restart_of_the_sandbox_in_the_middle_of_everything(settings):
    """Creation is resumed; the data are as before."""
    first = Sandbox(settings)
    first.start()
    api = Api(Client(first))
    first.enablement.enable(first.projects.get("mlflow-sandbox"), ["sqladmin.googleapis.com"], at_once=True)
    api.insert(ipConfiguration=OPEN)
    api.do("POST", "/instances/db/users", {"name": "u", "password": "pw"})
    first.latency.factor = 1.0
    half = api.ok("POST", BASE + "/instances", {
        "name": "half", "databaseVersion": "POSTGRES_16", "region": "europe-west1", "settings": ENTERPRISE
    })  # fmt: skip
    first.stop()
    second = Sandbox(settings)
    second.start()
    try:
        api = Api(Client(second))
        api.wait(api.ok("GET", half["selfLink"]))
        assert api.get_instance("half")["state"] == "RUNNABLE"
        assert ask(connect(second, "u", "pw"), "SELECT 1") == [(1,)]
    finally:
        second.stop()
