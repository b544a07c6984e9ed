# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import variables
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles.mlflow import OWNED
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d

SERVER = "serviceAccount:demo-dev-server@mlflow-sandbox.iam.gserviceaccount.com"
CLIENT = "serviceAccount:demo-dev-client@mlflow-sandbox.iam.gserviceaccount.com"
INSTANCE = d.resource("sql_instance", "demo-dev", version="POSTGRES_14")
BUCKET = d.resource("storage_bucket", "mlflow-sandbox-demo-dev-artifacts", location="us")


# --- names, labels, accounts

DATABASE = d.resource("sql_database", "demo-dev/mlflow", owned=True)


def test_names_follow_from_name_and_environment():
    found = d.deployed()
    assert found.id == "demo-dev"
    assert found.bucket.name == "mlflow-sandbox-demo-dev-artifacts"
    assert found.database.connection == "mlflow-sandbox:europe-west1:demo-dev"
    assert found.server_account.email == "demo-dev-server@mlflow-sandbox.iam.gserviceaccount.com"
    assert found.migration.job == "demo-dev-migrate"
    assert found.image.reference == "europe-west1-docker.pkg.dev/mlflow-sandbox/demo-dev/mlflow:3.17.2-0123456789ab"


def test_a_variable_replaces_a_name():
    found = d.deployed(mlflow_bucket="my-own-bucket", mlflow_server_account="runner", mlflow_database_instance="shared")
    assert found.bucket.uri == "gs://my-own-bucket"
    assert found.server_account.account_id == "runner"
    assert found.database.connection.endswith(":shared")


def test_labels_end_with_those_of_the_owner():
    found = d.deployed(mlflow_labels={"team": "ml"}, mlflow_env="prod")
    owner = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo", "mlflow-env": "prod"}
    assert found.owner == owner
    assert found.labels == {"team": "ml"} | owner


def test_the_deployer_impersonates_the_client_account_by_name():
    found = d.deployed(found=d.report(), mlflow_impersonators=["deployer", "group:ml@example.com"])
    assert found.client_account.impersonators == ["group:ml@example.com", d.DEPLOYER]
    assert found.server_account.impersonators is None
    assert [account["account_id"] for account in found.accounts] == ["demo-dev-server", "demo-dev-client"]
    assert "impersonators" not in found.accounts[0]


def test_a_deployer_that_is_not_known_must_be_named():
    outcome = d.computed(found=d.report(caller=""))
    assert d.variables_of(outcome) == ["mlflow_impersonators"]


@pytest.mark.parametrize(
    ("given", "production"),
    [
        ({}, False),
        ({"mlflow_env": "prod"}, True),
        ({"mlflow_env": "prod", "mlflow_production": False}, False),
        ({"mlflow_env": "eu-west", "mlflow_production": True}, True),
        ({"mlflow_env": "eu-west"}, False),
    ],
)
def test_production_is_a_setting_that_the_environment_prod_implies(given, production):
    found = d.deployed(**given)
    assert found.production is found.database.deletion_protection is found.database.final_backup is production
    assert found.database.point_in_time_recovery is production
    assert found.id == f"demo-{given.get('mlflow_env', 'dev')}"


# --- the database and the bucket keep what they are


def test_a_new_database_is_what_the_target_prefers():
    assert d.deployed().database.version == "POSTGRES_16"
    assert d.deployed(mlflow_target="appengine").database.version == "MYSQL_8_0"


@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_an_existing_database_and_bucket_keep_version_and_place(target):
    found = d.deployed(found=d.report(INSTANCE, BUCKET), mlflow_target=target, gcp_region="australia-southeast1")
    assert (found.database.version, found.database.engine) == ("POSTGRES_14", "postgresql")
    assert found.bucket.location == "us"
    assert found.database.backup_location == ""


AROUND = [
    ("europe-west1", "EU", ""),
    ("us-central1", "US", ""),
    ("asia-east1", "ASIA", ""),
    ("southamerica-east1", "southamerica-east1", "southamerica-east1"),
    ("northamerica-northeast1", "northamerica-northeast1", "northamerica-northeast1"),
    ("australia-southeast1", "australia-southeast1", "australia-southeast1"),
]


@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
@pytest.mark.parametrize(("region", "around", "backups"), AROUND)
def test_no_default_is_outside_of_the_continent(target, region, around, backups):
    found = d.deployed(mlflow_target=target, gcp_region=region)
    assert found.bucket.location == (around if target == "appengine" else region)
    assert found.database.backup_location == backups
    assert found.secrets.locations == [region]


@pytest.mark.parametrize(
    ("existing", "locations"),
    [
        ({"demo-dev-db-password": []}, []),
        ({"demo-dev-db-password": ["us-east1"], "demo-dev-db-username": ["us-east1"]}, ["us-east1"]),
        ({"demo-dev-db-password": ["us-east1"], "demo-dev-db-username": []}, []),
        ({"other-dev-db-password": ["us-east1"]}, ["europe-west1"]),
    ],
)
def test_new_secrets_are_where_the_existing_ones_are(existing, locations):
    found = [d.resource("secret", name, locations=places) for name, places in existing.items()]
    assert d.deployed(found=d.report(INSTANCE, *found)).secrets.locations == locations
    given = d.deployed(found=d.report(*found), secrets_replication_locations=["asia-east1"])
    assert given.secrets.locations == ["asia-east1"]


def test_each_location_is_apart_from_the_others():
    places = {
        "cloudsql_region": "us-east1",
        "cloudsql_backup_location": "us",
        "mlflow_image_location": "europe-west4",
        "mlflow_bucket_location": "EU",
        "secrets_replication_locations": ["europe-north1"],
    }
    found = d.deployed(**places)
    assert found.region == "europe-west1"
    assert (found.database.region, found.database.backup_location) == ("us-east1", "us")
    assert found.database.connection == "mlflow-sandbox:us-east1:demo-dev"
    assert found.image.reference.startswith("europe-west4-docker.pkg.dev/")
    assert (found.bucket.location, found.secrets.locations) == ("EU", ["europe-north1"])
    for action in ("deploy", "destroy"):
        asked = d.computed(action=action, **places).deployment.requirements.resources
        where = {item["type"]: item.get("location") for item in asked}
        assert (where["sql_instance"], where["artifact_repository"]) == ("us-east1", "europe-west4")
        assert where["cloud_run_service"] == where["cloud_run_job"] == "europe-west1"


def test_an_application_in_another_location_does_not_concern_another_target():
    found = {target: d.deployed(mlflow_target=target).requirements.resources for target in ("cloudrun", "appengine")}
    where = {
        target: item["location"]
        for target, asked in found.items()
        for item in asked
        if item["type"] == "app_engine_application"
    }
    assert where == {"cloudrun": "*", "appengine": "europe-west1"}


STOPPED = d.resource("sql_instance", "demo-dev", version="POSTGRES_16", activation_policy="NEVER", state="RUNNABLE")
USED = {"mlflow_ownership": {"database": "used"}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "or set cloudsql_activation_policy=ALWAYS"),
        ({"cloudsql_activation_policy": "ALWAYS"}, ""),
        (USED | {"cloudsql_activation_policy": "ALWAYS"}, "Start it (gcloud sql instances patch demo-dev"),
    ],
)
def test_a_stopped_instance_is_a_problem_unless_the_run_starts_it(given, words):
    outcome = d.computed(found=d.report(STOPPED), **given)
    assert bool(outcome.problems) is bool(words)
    assert words in "".join(problem.next for problem in outcome.problems)


@pytest.mark.parametrize("state", ["MAINTENANCE", "REPAIRING", "RUNNABLE"])
def test_an_instance_that_is_only_used_must_be_ready(state):
    instance = d.resource("sql_instance", "demo-dev", version="POSTGRES_16", activation_policy="ALWAYS", state=state)
    assert bool(d.computed(found=d.report(instance), **USED).problems) is (state != "RUNNABLE")
    assert d.computed(found=d.report(instance)).problems == []


@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_a_disabled_application_is_a_problem_of_app_engine_alone(target):
    app = d.resource("app_engine_application", "mlflow-sandbox", services=["default"], state="USER_DISABLED")
    outcome = d.computed(found=d.report(app), mlflow_target=target)
    assert d.variables_of(outcome) == (["mlflow_target"] if target == "appengine" else [])


def test_another_version_than_that_of_the_instance_is_a_problem():
    outcome = d.computed(found=d.report(INSTANCE), mlflow_database_version="POSTGRES_16")
    assert d.variables_of(outcome) == ["mlflow_database_version"]
    assert "runs POSTGRES_14" in outcome.problems[0].what


@pytest.mark.parametrize("action", ["deploy", "destroy", "read"])
def test_a_target_that_does_not_exist_is_a_problem(action):
    outcome = d.computed(mlflow_target="appengines", action=action)
    assert outcome.deployment is None and d.variables_of(outcome) == ["mlflow_target"]
    (problem,) = outcome.problems
    assert "'appengines'" in problem.what and problem.next == "Set it to one of cloudrun, appengine."


def test_login_and_mysql_do_not_go_together():
    mysql = d.resource("sql_instance", "demo-dev", version="MYSQL_8_0")
    outcome = d.computed(
        found=d.report(mysql),
        mlflow_access="password",
        mlflow_access_password_accepted=True,
        mlflow_access_members=[],
    )
    assert d.variables_of(outcome) == ["mlflow_access"]
    assert "MySQL" in outcome.problems[0].what


def test_mysql_needs_triggers_characters_and_hosts():
    database = d.deployed(mlflow_target="appengine").database
    assert database.flags == {"log_bin_trust_function_creators": "on"}
    assert database.databases == [{"name": "mlflow", "charset": "utf8mb4"}]
    assert database.users[0]["host"] == "%"
    assert database.maintenance_window == {"day": 7, "hour": 3, "update_track": "stable"}
    assert database.point_in_time_recovery is True


def test_an_adopted_mysql_keeps_its_flags_characters_and_passwords():
    mysql = d.resource("sql_instance", "demo-dev", owned=False, version="MYSQL_5_7")
    existing = d.report(mysql, d.resource("sql_database", "demo-dev/mlflow", owned=False))
    database = d.deployed(found=existing, mlflow_target="appengine", mlflow_adopt=True).database
    assert database.flags == {}
    assert database.databases == [{"name": "mlflow"}]
    assert database.adopt and database.keep_passwords


SHARED_MYSQL = {"mlflow_ownership": {"database": "used"}, "mlflow_database_instance": "shared"}
TRUSTED = {"log_bin_trust_function_creators": "on"}


@pytest.mark.parametrize(
    ("given", "binary_log", "flags", "database", "job", "expected"),
    [
        (SHARED_MYSQL, True, {}, False, False, ["mlflow_ownership"]),
        ({"mlflow_adopt": True}, True, {}, False, False, ["cloudsql_flags"]),
        # A database with tables may have the triggers, and a deployment that has migrated its own has them.
        (SHARED_MYSQL, True, {}, True, False, "warning"),
        (SHARED_MYSQL, True, {}, True, True, []),
        (SHARED_MYSQL, True, TRUSTED, False, False, []),
        ({"mlflow_adopt": True, "cloudsql_flags": TRUSTED}, True, {}, False, False, []),
        (SHARED_MYSQL | {"cloudsql_flags": TRUSTED}, True, {}, False, False, ["mlflow_ownership"]),
        (SHARED_MYSQL, False, {}, False, False, []),
        (SHARED_MYSQL | {"mlflow_image": "ghcr.io/a/b:1"}, True, {}, False, False, []),
    ],
)
def test_an_existing_mysql_must_accept_triggers(given, binary_log, flags, database, job, expected):
    name, own = ("shared", "mlflow_demo_dev") if "mlflow_ownership" in given else ("demo-dev", "mlflow")
    facts = {"version": "MYSQL_8_0", "binary_log": binary_log, "flags": flags, "activation_policy": "ALWAYS"}
    existing = [d.resource("sql_instance", name, owned=False, state="RUNNABLE", **facts)]
    existing += [d.resource("sql_database", f"{name}/{own}", owned=False)] * database
    existing += [d.resource("cloud_run_job", "demo-dev-migrate")] * job
    outcome = d.computed(given, found=d.report(*existing), mlflow_encryption_keys=False)
    assert d.variables_of(outcome) == ([] if expected == "warning" else expected)
    words = [*outcome.warnings, *(problem.what for problem in outcome.problems)]
    assert ["rejects the triggers" in text for text in words] == [True] * bool(expected)


def test_a_new_database_in_a_used_mysql_holds_any_character():
    mysql = d.resource("sql_instance", "shared", owned=False, version="MYSQL_5_7", flags={}, state="RUNNABLE")
    database = d.resource("sql_database", "shared/mlflow_demo_dev", owned=False)
    for existing, expected in (([], {"charset": "utf8mb4"}), ([database], {})):
        found = d.deployed(SHARED_MYSQL, found=d.report(mysql, *existing)).database
        assert found.databases == [{"name": "mlflow_demo_dev"} | expected]
        assert found.flags == {}


def test_production_protects_the_database():
    dev, prod = d.deployed().database, d.deployed(mlflow_env="prod").database
    assert (dev.deletion_protection, dev.final_backup, dev.point_in_time_recovery) == (False, False, False)
    assert (prod.deletion_protection, prod.final_backup, prod.point_in_time_recovery) == (True, True, True)
    assert d.deployed(mlflow_env="prod", cloudsql_deletion_protection=False).database.deletion_protection is False


# --- ownership


def test_each_resource_has_a_relation_of_its_own():
    found = d.deployed(mlflow_ownership={"database": "used", "bucket": "adopted"})
    assert (found.database.managed, found.database.adopt) == (False, False)
    assert (found.bucket.managed, found.bucket.adopt) == (True, True)
    assert (found.secrets.managed, found.secrets.adopt) == (True, False)


def test_a_used_instance_has_a_database_and_a_user_for_each_deployment():
    found = d.deployed(mlflow_ownership={"database": "used"}, mlflow_database_instance="shared")
    assert (found.database.name, found.database.user) == ("mlflow_demo_dev", "mlflow_demo_dev")
    assert found.migration.env["DB_NAME"] == "mlflow_demo_dev"
    named = d.deployed(mlflow_ownership={"database": "used"}, mlflow_database_name="runs")
    assert (named.database.name, named.database.user) == ("runs", "mlflow_demo_dev")


def test_a_used_bucket_has_a_folder_for_each_deployment():
    found = d.deployed(mlflow_ownership={"bucket": "used"}, mlflow_bucket="shared", mlflow_bucket_folder="demo")
    assert found.bucket.uri == "gs://shared/demo"
    assert found.server["env"]["GCS_BACKEND"] == "gs://shared/demo"
    for binding in found.bucket.bindings:
        assert "projects/_/buckets/shared/objects/demo/" in binding["condition"]["expression"]
    assert found.bucket.adopt, "roles on a bucket of others are added and never removed"


def test_a_managed_bucket_can_have_a_folder():
    found = d.deployed(mlflow_bucket_folder="teams/demo")
    assert found.bucket.uri == found.server["env"]["GCS_BACKEND"] == "gs://mlflow-sandbox-demo-dev-artifacts/teams/demo"
    template = next(item for item in found.secrets.entries if item["name"] == "demo-dev-artifact-url")["template"]
    assert template == found.bucket.uri
    assert not any("condition" in binding for binding in found.bucket.bindings), "the whole bucket is its own"


def test_command_and_arguments_are_those_of_the_server_alone():
    found = d.deployed(cloudrun_mlflow_command=["gunicorn"], cloudrun_mlflow_args="-b\n:8080")
    assert (found.server["options"]["command"], found.server["options"]["args"]) == (["gunicorn"], ["-b", ":8080"])
    plain = d.deployed().server["options"]
    assert (plain["command"], plain["args"]) == ([], []), "those of a former owner are removed"


@pytest.mark.parametrize(("given", "sent"), [({}, ""), ({"cloudsql_activation_policy": "ALWAYS"}, "ALWAYS")])
def test_a_stopped_instance_is_started_on_request(given, sent):
    assert d.deployed(given).database.activation_policy == sent


def test_a_used_account_is_not_created():
    found = d.deployed(mlflow_ownership={"server_account": "used"})
    assert [account["account_id"] for account in found.accounts] == ["demo-dev-client"]


def test_only_resources_whose_relation_says_so_may_belong_to_others():
    found = d.deployed(mlflow_ownership={"bucket": "adopted"})
    adopt = {(item["type"], item["name"]): item["adopt"] for item in found.requirements.resources}
    assert adopt["storage_bucket", "mlflow-sandbox-demo-dev-artifacts"] is True
    assert adopt["sql_instance", "demo-dev"] is False


# --- access


def test_roles_on_the_bucket_depend_on_who_writes():
    direct = d.deployed(mlflow_bucket_readers=["user:bob@example.com"]).bucket.bindings
    assert direct[0]["members"] == ["user:bob@example.com", SERVER]
    assert direct[1] == {"role": "roles/storage.objectUser", "members": [CLIENT]}
    proxied = d.deployed(mlflow_artifacts="proxied").bucket.bindings
    assert (proxied[0]["members"], proxied[1]["members"]) == ([], [SERVER])


@pytest.mark.parametrize(
    ("access", "invokers"),
    [
        ("iap", ["serviceAccount:service-827594110180@gcp-sa-iap.iam.gserviceaccount.com"]),
        ("iam", ["user:alice@example.com", CLIENT]),
    ],
)
def test_invokers_of_the_service(access, invokers):
    found = d.deployed(found=d.report(), mlflow_access=access)
    assert found.server["options"]["invokers"] == invokers


def test_the_login_is_open_without_a_binding_where_the_organization_refuses_it():
    login = {"mlflow_access": "password", "mlflow_access_password_accepted": True, "mlflow_access_members": []}
    options = d.deployed(login, cloudrun_mlflow_invoker_iam_disabled=True).server["options"]
    assert (options["invokers"], options["invoker_iam_disabled"]) == ([], True)
    assert d.deployed(login).server["options"]["invoker_iam_disabled"] is False, "stated on all services"


def test_the_login_is_open_to_all_and_reads_its_secrets():
    found = d.deployed(
        found=d.report(DATABASE),
        mlflow_access="password",
        mlflow_access_password_accepted=True,
        mlflow_access_members=[],
    )
    assert found.server["options"]["invokers"] == ["allUsers"]
    assert set(found.server["secret_env"]) == {
        "DB_PASSWORD",
        "MLFLOW_AUTH_ADMIN_USERNAME",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
    }
    assert [entry["name"] for entry in found.secrets.entries][-1] == "demo-dev-session-key"
    assert found.verify["password_secret"] == "projects/mlflow-sandbox/secrets/demo-dev-tracking-password"


@pytest.mark.parametrize(("target", "request_mib", "response_mib"), [("cloudrun", 32, 32), ("appengine", 32, 0)])
def test_the_verification_checks_the_limits_of_the_front_in_both_directions(target, request_mib, response_mib):
    found = d.deployed(mlflow_target=target).verify
    assert (found["request_mib"], found["response_mib"]) == (request_mib, response_mib)


def test_one_secret_can_serve_both_logins():
    found = d.deployed(
        mlflow_access="password",
        mlflow_access_password_accepted=True,
        mlflow_access_members=[],
        mlflow_login_username_secret="shared-user",
        mlflow_database_username_secret="shared-user",
    )
    assert {entry["template"] for entry in found.secrets.entries if entry["name"] == "shared-user"} == {"mlflow"}


# --- the server


def test_the_server_answers_under_its_two_addresses():
    found = d.deployed(found=d.report(), mlflow_allowed_hosts=["ml.example.com"])
    assert found.server["url"] == "https://demo-dev-827594110180.europe-west1.run.app"
    assert found.server["hosts"] == [
        "demo-dev-827594110180.europe-west1.run.app",
        "demo-dev-*.a.run.app",
        "ml.example.com",
    ]
    assert found.server["env"]["MLFLOW_CORS_ALLOWED_ORIGINS"].endswith(",https://ml.example.com")


def test_secrets_have_the_versions_that_exist():
    made = {
        "image": "registry/mlflow@sha256:1",
        "users": [
            {"name": "other", "password_version": "projects/p/secrets/s/versions/9"},
            {"name": "mlflow", "password_version": "projects/827594110180/secrets/x/versions/3"},
        ],
        "secrets": [{"name": "demo-dev-db-password", "version": "ignored"}, {"name": "demo-dev-no-value"}],
    }
    found = d.deployed(found=d.report(), made=made)
    assert found.server["image"] == "registry/mlflow@sha256:1"
    assert found.server["secret_env"]["DB_PASSWORD"].endswith("/demo-dev-db-password/versions/3")
    before = d.deployed(found=d.report())
    assert before.server["secret_env"]["DB_PASSWORD"].endswith("/versions/latest")


def test_the_users_own_environment_comes_last_and_not_into_the_migration():
    found = d.deployed(
        mlflow_server_env={"LOG_LEVEL": "debug"},
        mlflow_server_secret_env={
            "TOKEN": "token",
            "OTHER": "projects/other/secrets/o/versions/2",
            "THIRD": "projects/p/secrets/t",
        },
    )
    assert found.server["env"]["LOG_LEVEL"] == "debug"
    assert found.server["secret_env"]["TOKEN"] == "projects/mlflow-sandbox/secrets/token/versions/latest"
    assert found.server["secret_env"]["OTHER"] == "projects/other/secrets/o/versions/2"
    assert found.server["secret_env"]["THIRD"] == "projects/p/secrets/t/versions/latest"
    assert set(found.migration.secret_env) == {"DB_PASSWORD"}
    assert "LOG_LEVEL" not in found.migration.env


GATEWAY_KEY, WEBHOOK_KEY = "MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
KEY_SECRETS = {GATEWAY_KEY: "demo-dev-gateway-key", WEBHOOK_KEY: "demo-dev-webhook-key"}


def key_secrets(found):
    """Return the keys that the server gets, and require that the deployment makes and grants exactly these."""
    given = {name: value for name, value in found.server["secret_env"].items() if name in KEY_SECRETS}
    made = {item["name"] for item in found.secrets.entries} & set(KEY_SECRETS.values())
    granted = {item["resource"].rpartition("/")[2] for item in found.grants} & set(KEY_SECRETS.values())
    assert made == granted == {KEY_SECRETS[name] for name in given}
    assert not set(KEY_SECRETS) & set(found.migration.secret_env)
    return set(given)


@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_a_new_deployment_has_keys_and_an_older_one_stays_as_it_is_with_a_warning(target):
    given = {"mlflow_target": target}
    key = d.resource("secret", "demo-dev-gateway-key")
    assert key_secrets(d.deployed(given)) == set(KEY_SECRETS)
    for existing in ([], [key], [key, DATABASE]):
        outcome = d.computed(given, found=d.report(*existing))
        assert (key_secrets(outcome.deployment), outcome.warnings) == (set(KEY_SECRETS), [])
    older = d.computed(given, found=d.report(DATABASE))
    assert (key_secrets(older.deployment), len(older.warnings)) == (set(), 1)
    assert "Set mlflow_encryption_keys=true" in older.warnings[0] and "rotate-kek" in older.warnings[0]
    for wish, expected in ((True, set(KEY_SECRETS)), (False, set())):
        outcome = d.computed(given, found=d.report(DATABASE), mlflow_encryption_keys=wish)
        assert (key_secrets(outcome.deployment), outcome.warnings) == (expected, [])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, set(KEY_SECRETS)),
        ({"state": "PENDING_CREATE"}, set(KEY_SECRETS)),
        ({"state": "RUNNABLE", "activation_policy": "NEVER"}, set()),
        ({"state": "MAINTENANCE"}, set()),
    ],
)
def test_a_database_that_cannot_be_seen_may_have_encrypted_data(facts, expected):
    found = d.report(d.resource("sql_instance", "demo-dev", **facts))
    assert key_secrets(d.deployed(found=found, cloudsql_activation_policy="ALWAYS")) == expected


def test_a_run_that_only_reads_knows_the_keys_by_their_secret():
    def read(*resources):
        return d.computed(found=d.report(*resources), action="read").deployment

    assert key_secrets(read()) == set()
    assert key_secrets(read(d.resource("secret", "demo-dev-gateway-key"))) == set(KEY_SECRETS)
    assert ("secret", "demo-dev-gateway-key") in {
        (item["type"], item["name"]) for item in read().requirements.resources
    }


def test_a_key_of_the_user_replaces_the_generated_one():
    found = d.deployed(mlflow_server_secret_env={GATEWAY_KEY: "mine"})
    assert found.server["secret_env"][GATEWAY_KEY] == "projects/mlflow-sandbox/secrets/mine/versions/latest"
    names = {item["name"] for item in found.secrets.entries}
    assert "demo-dev-webhook-key" in names and "demo-dev-gateway-key" not in names
    outcome = d.computed(found=d.report(DATABASE), mlflow_server_secret_env={GATEWAY_KEY: "mine"})
    assert outcome.warnings == []


def test_used_secrets_have_keys_on_request_only():
    ownership = {"mlflow_ownership": {"secrets": "used"}}
    assert not set(KEY_SECRETS) & set(d.deployed(ownership).server["secret_env"])
    found = d.deployed(ownership, mlflow_encryption_keys=True)
    assert set(KEY_SECRETS) <= set(found.server["secret_env"])
    wanted = {item["name"] for item in found.requirements.resources if item.get("referenced_by")}
    assert any("demo-dev-webhook-key" in name for name in wanted)


def test_a_rotated_passphrase_is_the_newest_version_and_other_keys_are_those_that_were_generated():
    made = {
        "secrets": [{"name": name, "version": f"projects/1/secrets/{name}/versions/1"} for name in KEY_SECRETS.values()]
    }
    given = d.deployed(found=d.report(), made=made).server["secret_env"]
    assert given[GATEWAY_KEY] == "projects/mlflow-sandbox/secrets/demo-dev-gateway-key/versions/latest"
    assert given[WEBHOOK_KEY] == "projects/1/secrets/demo-dev-webhook-key/versions/1"


def test_the_number_of_the_passphrase_is_part_of_the_environment_once_it_was_rotated():
    assert "MLFLOW_CRYPTO_KEK_VERSION" not in d.deployed().server["env"]
    assert d.deployed(mlflow_gateway_key_version=3).server["env"]["MLFLOW_CRYPTO_KEK_VERSION"] == "3"


def test_a_removal_keeps_the_keys_with_the_database():
    keys = [d.resource("secret", name) for name in KEY_SECRETS.values()]
    kept = d.computed(found=d.report(*keys), action="destroy").deployment.removal
    assert kept["secrets"] == [] and set(kept["secret_access"]) == set(KEY_SECRETS.values())
    data = {"mlflow_destroy_data": True, "mlflow_destroy_confirm": "demo"}
    removed = d.computed(data, found=d.report(*keys), action="destroy").deployment.removal
    assert {item["name"] for item in removed["secrets"]} == set(KEY_SECRETS.values())


def test_the_image_reads_further_secrets_by_name_only_where_it_has_to():
    usual, reading = "/collection/image", "/collection/secrets"
    app = {"mlflow_target": "appengine"}
    login = {"mlflow_access": "password", "mlflow_access_password_accepted": True, "mlflow_access_members": []}
    login |= {"mlflow_database_version": "POSTGRES_16"}
    for given, existing, context in (
        ({}, [], usual),
        ({"mlflow_server_secret_env": {"TOKEN": "t"}}, [], usual),
        (app, [], reading),
        (app, [DATABASE], usual),
        (app | login, [DATABASE], usual),
        (app | {"mlflow_server_secret_env": {"TOKEN": "t"}}, [DATABASE], reading),
        (app | {"mlflow_encryption_keys": True}, [DATABASE], reading),
    ):
        found = d.deployed(given, found=d.report(*existing)).image
        assert found.context == context
        assert found.tag.endswith("-0123456789ab" if context == usual else "-ba9876543210")


def test_probes_and_addresses_follow_the_path_that_mlflow_serves_everything_below():
    moved = {"mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "/ml/flow"}}
    found, usual = d.deployed(moved, found=d.report()), d.deployed(found=d.report())
    host = f"https://demo-dev-{d.NUMBER}.europe-west1.run.app"
    assert (found.server["url"], found.server["prefix"]) == (f"{host}/ml/flow", "/ml/flow")
    assert (usual.server["url"], usual.server["prefix"]) == (host, "")
    assert (found.report[0].split()[-1], usual.report[0].split()[-1]) == (f"{host}/ml/flow/", host)
    for probe in ("startup_probe", "liveness_probe"):
        before = usual.server["options"][probe]
        assert before["http_get"] == {"path": "/health", "port": 8080}
        assert found.server["options"][probe] == before | {"http_get": {"path": "/ml/flow/health", "port": 8080}}


def test_checks_of_app_engine_follow_the_path_and_those_of_the_placeholder_do_not():
    moved = {"mlflow_target": "appengine", "mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "/ml/flow"}}
    for own in ({}, {"appengine_mlflow_readiness_check": {"path": "/ready"}}):
        found = d.deployed(moved, **own).server
        assert found["url"] == "https://mlflow-sandbox.appspot.com/ml/flow"
        assert found["options"]["readiness_check"]["path"] == ("/ready" if own else "/ml/flow/health")
        assert found["options"]["liveness_check"]["path"] == "/ml/flow/health"
        for check in ("readiness_check", "liveness_check"):
            assert found["options"]["placeholder"][check] == found["options"][check] | {"path": "/health"}


@pytest.mark.parametrize(
    ("given", "size", "overflow"),
    [
        ({}, "2", "0"),
        ({"mlflow_max_instances": 3}, "5", "0"),
        ({"mlflow_pool_size": 1, "mlflow_pool_overflow": 1}, "1", "1"),
    ],
)
def test_pools_are_part_of_the_environment(given, size, overflow):
    env = d.deployed(given).server["env"]
    assert env["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == size
    assert env["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] == overflow


def test_more_connections_than_the_database_accepts():
    outcome = d.computed(mlflow_database_tier="db-f1-micro")
    assert d.variables_of(outcome) == ["mlflow_max_instances"]
    assert "lower mlflow_max_instances to 3" in outcome.problems[0].next


def test_a_thousand_workers_are_no_problem_of_the_tier():
    outcome = d.computed(mlflow_workers=1000)
    assert "mlflow_workers" in {problem.variable for problem in outcome.problems}


def test_old_names_still_work_and_warn():
    outcome = d.computed(cloudrun_mlflow_cpu="2", cloudrun_mlflow_memory="4Gi", appengine_mlflow_cpu=8)
    options = outcome.deployment.server["options"]
    assert (options["cpu"], options["memory"]) == ("2", "4Gi")
    assert len([text for text in outcome.warnings if "deprecated" in text]) == 2


def test_unknown_variables_warn_or_fail():
    outcome = d.computed(mlflow_bukcet="x")
    assert not outcome.problems
    assert "mlflow_bucket" in outcome.warnings[0]
    strict = d.computed(mlflow_bukcet="x", mlflow_strict_variables=True)
    assert d.variables_of(strict) == ["mlflow_bukcet"]


# --- App Engine


def appengine_service(*versions, owned=True):
    rows = [
        {"id": name, "serving_status": status, "create_time": time, "deployment": deployment}
        for name, status, time, deployment in versions
    ]
    allocations = {rows[0]["id"]: 1} if rows else {}
    return d.resource("app_engine_service", "default", owned=owned, version_list=rows, allocations=allocations)


def application(*services, **facts):
    return d.resource(
        "app_engine_application", "mlflow-sandbox", owned=False, services=list(services), iap_enabled=False, **facts
    )


def test_the_name_of_a_version_is_that_of_release_0_2_0():
    """A deployed project must not get another version: this name was read from a project that 0.2.0 had deployed."""
    image = "europe-west1-docker.pkg.dev/mlflow-sandbox/demo-dev/mlflow@sha256:"
    found = d.deployed(
        found=d.report(DATABASE),
        mlflow_target="appengine",
        made={
            "image": image + "4614ffa43f4d4116c9d9d81c604d9e955961cecf1adafe10873aaabd3fe601f0",
            "hostname": "mlflow-sandbox.ew.r.appspot.com",
            "users": [{"name": "mlflow", "password_version": "projects/p/secrets/s/versions/1"}],
        },
    )
    assert found.server["options"]["version"] == "mlflow-3-17-2-02412724dc"
    assert found.server["url"] == "https://mlflow-sandbox.ew.r.appspot.com"


def test_another_service_needs_a_default():
    outcome = d.computed(
        found=d.report(application()), mlflow_target="appengine", appengine_mlflow_service="mlflow", mlflow_access="iap"
    )
    assert "appengine_mlflow_service" in d.variables_of(outcome)
    found = d.deployed(
        found=d.report(application(), enabled=(*d.ENABLED, "appengine.googleapis.com")),
        mlflow_target="appengine",
        appengine_mlflow_service="mlflow",
        appengine_mlflow_make_default=True,
    )
    placeholder = found.server["options"]["placeholder"]
    assert placeholder["create"] and placeholder["wanted"]
    assert found.server["url"] == "https://mlflow-dot-mlflow-sandbox.appspot.com"


def test_other_open_services_must_be_acknowledged():
    found = d.report(application("default", "shop"))
    outcome = d.computed(found=found, mlflow_target="appengine")
    assert d.variables_of(outcome) == ["appengine_mlflow_iap_for_all_services"]
    assert "shop" in outcome.problems[0].what
    assert d.deployed(found=found, mlflow_target="appengine", appengine_mlflow_iap_for_all_services=True)


def test_dispatch_rules_to_another_service_are_a_problem_before_anything_changes():
    def found(*rules):
        own = d.resource("app_engine_application", "mlflow-sandbox", services=["default", "shop"], iap_enabled=True)
        return d.report(
            own | {"dispatch_rules": [dict(zip(("domain", "path", "service"), rule, strict=True)) for rule in rules]}
        )

    host = "mlflow-sandbox.appspot.com"
    outcome = d.computed(found=found(("*", "/*", "shop")), mlflow_target="appengine")
    assert d.variables_of(outcome) == ["appengine_mlflow_service"]
    assert f"*/* of the application sends requests for https://{host} to the service shop" in outcome.problems[0].what
    for rule in ((host, "/api/*", "shop"), ("*.appspot.com", "/version", "shop")):
        assert d.variables_of(d.computed(found=found(rule), mlflow_target="appengine")) == ["appengine_mlflow_service"]
    for rules in (
        [("shop.example.com", "/*", "shop")],
        [(host, "/cart/*", "shop")],
        [("*", "/*", "default"), ("*", "/*", "shop")],
    ):
        assert d.deployed(found=found(*rules), mlflow_target="appengine")
    # A path that is not MLflow's with its prefix.
    moved = {"mlflow_target": "appengine", "mlflow_server_env": {"MLFLOW_STATIC_PREFIX": "/ml"}}
    assert d.deployed(moved, found=found((host, "/api/*", "shop")))
    assert d.variables_of(d.computed(moved, found=found((host, "/ml/*", "shop")))) == ["appengine_mlflow_service"]
    # They apply to the address of the service `default` alone.
    named = {"mlflow_target": "appengine", "appengine_mlflow_service": "mlflow"}
    assert d.deployed(found=found(("*", "/*", "shop")), **named)


def test_what_must_answer_follows_the_image_and_the_deployer():
    found = d.report()
    serving = d.deployed(found=found).serving
    assert (serving["client_required"], serving["skip"]) == (True, "")
    assert serving["version"] == d.deployed(found=found).image.build_args["MLFLOW_VERSION"]
    assert not d.deployed(found=found, mlflow_impersonators=["user:alice@example.com"]).serving["client_required"]
    for given in ({"mlflow_image": "docker.io/me/mlflow:1"}, {"mlflow_image_tag": "stable"}):
        assert d.deployed(found=found, **given).serving["version"] == ""


@pytest.mark.parametrize(
    ("target", "variable", "value"),
    [
        ("cloudrun", "cloudrun_mlflow_ingress", "INGRESS_TRAFFIC_INTERNAL_ONLY"),
        ("appengine", "appengine_mlflow_ingress", "INGRESS_TRAFFIC_ALLOWED_INTERNAL_AND_LB"),
        ("cloudrun", "mlflow_check_server", False),
    ],
)
def test_a_server_that_the_controller_cannot_reach_is_not_asked(target, variable, value):
    given = {"mlflow_target": target, variable: value}
    assert variable in d.deployed(found=d.report(application("default")), **given).serving["skip"]


def test_older_versions_are_stopped_kept_and_removed():
    service = appengine_service(
        ("current", "SERVING", "2026-03-01", "demo-dev"),
        ("older", "SERVING", "2026-02-01", "demo-dev"),
        ("oldest", "STOPPED", "2026-01-01", "demo-dev"),
        ("foreign", "SERVING", "2026-01-15", "other-dev"),
    )
    options = d.deployed(
        found=d.report(application("default"), service), mlflow_target="appengine", appengine_mlflow_version="current"
    ).server["options"]
    assert (options["stop"], options["remove"], options["current"]) == (["older"], ["oldest"], "current")
    assert options["allocations"] == {"current": 1}
    none = d.deployed(
        found=d.report(application("default"), service),
        mlflow_target="appengine",
        appengine_mlflow_version="new",
        mlflow_keep_versions=0,
    ).server["options"]
    assert none["remove"] == ["current", "older", "oldest"]


def test_app_engine_reads_secrets_by_name():
    env = d.deployed(mlflow_target="appengine").server["env"]
    assert env["DB_PASSWORD_SECRET_NAME"] == "projects/mlflow-sandbox/secrets/demo-dev-db-password/versions/latest"
    assert env["MLFLOW_DEPLOYMENT"] == "demo-dev"


def test_accounts_of_older_deployments():
    found = d.deployed(found=d.report(), mlflow_target="appengine", appengine_mlflow_guide_accounts=True)
    assert found.bucket.bindings[-1]["role"] == "roles/storage.objectAdmin"
    assert len(found.database.clients) == 3


def test_memory_of_the_old_name_keeps_its_number():
    found = d.deployed(mlflow_target="appengine", appengine_mlflow_memory_gb=2.5, appengine_mlflow_cpu=1)
    assert found.server["options"]["memory_gb"] == 2.5


@pytest.mark.parametrize(("given", "variable"), [({"mlflow_min_instances": 9}, "mlflow_min_instances")])
def test_minimum_and_maximum(given, variable):
    for target in ("cloudrun", "appengine"):
        least = {"mlflow_max_instances": 3} if target == "cloudrun" else {}
        assert variable in d.variables_of(d.computed(given, mlflow_target=target, **least))
    assert variable in d.variables_of(d.computed(mlflow_min_instances=11))


# --- the lock

BASE = (
    d.resource("storage_bucket", "mlflow-sandbox-demo-dev-artifacts"),
    d.resource("service_account", "demo-dev-server"),
    d.resource("sql_instance", "demo-dev"),
)


def test_the_lock_is_in_the_bucket():
    found = d.deployed(found=d.report(*BASE), mlflow_lock_timeout="5", mlflow_lock_break="yes").lock
    assert (found.bucket, found.name) == (BASE[0]["name"], ".mlplatform/demo-dev.lock")
    assert (found.exists, found.certain, found.action, found.wait, found.force) == (True, False, "deploy", 5, True)
    assert d.deployed(found=d.report(*BASE), mlflow_lock=False).lock is None
    assert not d.deployed(found=d.report(*BASE[1:])).lock.exists
    assert d.variables_of(d.computed(mlflow_lock_timeout=-1)) == ["mlflow_lock_timeout"]


@pytest.mark.parametrize("number", range(len(BASE)))
def test_a_deployment_that_lacks_a_part_takes_the_lock_before_it_is_computed(number):
    found = d.report(*BASE[:number], *BASE[number + 1 :])
    assert d.deployed(found=found).lock.certain is (number > 0)


@pytest.mark.parametrize(
    ("more", "data", "certain"),
    [
        ((), False, False),  # only data is left, and it is kept
        ((), True, True),
        ((BASE[1],), False, True),
        ((d.resource("cloud_run_job", "demo-dev-migrate"),), False, True),
        ((d.resource("cloud_run_service", "demo-dev"),), False, True),
    ],
)
def test_a_removal_that_removes_something_takes_the_lock_before_it_is_computed(more, data, certain):
    options = {"mlflow_destroy_data": data, "mlflow_destroy_confirm": "demo"}
    found = d.deployed(found=d.report(BASE[0], BASE[2], *more), action="destroy", **options).lock
    assert (found.exists, found.certain) == (True, certain)


def test_a_restart_has_the_lock_although_it_reads_the_server_alone():
    found = d.deployed(found=d.report(), action="read").lock
    assert (found.exists, found.certain, found.action) == (True, False, "restart")


# --- requirements


def test_apis_and_permissions_follow_from_the_choices():
    everything, little = (
        d.deployed(),
        d.deployed(mlflow_image="europe-west1-docker.pkg.dev/p/r/mlflow:1", mlflow_access="iam"),
    )
    extra = {"artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "iap.googleapis.com"}
    assert set(everything.requirements.services) - set(little.requirements.services) == extra
    assert "cloudbuild.builds.create" in everything.requirements.permissions
    assert "cloudbuild.builds.create" not in little.requirements.permissions
    assert everything.requirements.organization and not little.requirements.organization
    assert little.image.reference == "europe-west1-docker.pkg.dev/p/r/mlflow:1"


def test_a_project_without_apis_is_asked_again():
    found = d.deployed(found=d.report(disabled=["run.googleapis.com"], unanswered=["permissions", "billing"]))
    assert found.disabled_services == ["run.googleapis.com"]
    assert found.incomplete
    assert not d.deployed(found=d.report(unanswered=["billing"])).incomplete


def test_the_server_on_another_target_is_retired_once_it_is_known():
    service = appengine_service(("v1", "SERVING", "2026-01-01", "demo-dev"))
    enabled = (*d.ENABLED, "appengine.googleapis.com")
    found = d.deployed(found=d.report(service, enabled=enabled))
    assert [other.name for other in found.retire] == ["appengine"]
    assert found.removal["retired"]["appengine"]["options"]["stop"] == ["v1"]
    assert "appengine.versions.delete" in found.requirements.permissions
    kept = d.deployed(found=d.report(service, enabled=enabled), mlflow_retire_other_targets=False)
    assert kept.retire == []
    assert d.deployed(found=d.report(service)).retire == [], "the API is disabled"


def test_every_service_account_that_gets_a_role_must_exist():
    found = d.deployed(
        mlflow_access_members=["user:a@example.com", "serviceAccount:x@p.iam.gserviceaccount.com"],
        mlflow_bucket_readers=["serviceAccount:x@p.iam.gserviceaccount.com"],
    )
    assert found.requirements.principals == ["serviceAccount:x@p.iam.gserviceaccount.com"]


# --- removal


def everything(owned=True):
    names = {
        "cloud_run_service": ["demo-dev"],
        "cloud_run_job": ["demo-dev-migrate"],
        "sql_instance": ["demo-dev"],
        "storage_bucket": ["mlflow-sandbox-demo-dev-artifacts", "mlflow-sandbox-demo-dev-build"],
        "artifact_repository": ["demo-dev"],
        "secret": ["demo-dev-db-password", "demo-dev-database-url"],
        "service_account": ["demo-dev-server", "demo-dev-client", "demo-dev-build"],
    }
    return [d.resource(kind, name, owned=owned) for kind, items in names.items() for name in items]


def test_a_removal_keeps_data_and_revokes_access_to_it():
    removal = d.deployed(found=d.report(*everything()), action="destroy").removal
    assert removal["target"]["exists"] and removal["job"] and removal["image"] and removal["clients"]
    assert not removal["database"] and not removal["bucket"] and removal["secrets"] == []
    assert removal["bucket_access"] and not removal["foreign_bucket_access"]
    assert removal["secret_access"] == ["demo-dev-db-password", "demo-dev-database-url"]
    assert [item["account_id"] for item in removal["accounts"]] == ["demo-dev-server", "demo-dev-client"]
    assert "sql_instance/demo-dev" in removal["report"][1]


def test_data_are_removed_by_name_only():
    refused = d.computed(found=d.report(*everything()), action="destroy", mlflow_destroy_data=True)
    assert d.variables_of(refused) == ["mlflow_destroy_confirm"]
    removal = d.deployed(
        found=d.report(*everything()), action="destroy", mlflow_destroy_data=True, mlflow_destroy_confirm="demo"
    ).removal
    assert removal["database"] and removal["bucket"] and not removal["bucket_access"]
    assert removal["secrets"] == [{"name": "demo-dev-db-password"}, {"name": "demo-dev-database-url"}]
    assert removal["secret_access"] == []


def test_a_removal_leaves_resources_of_others_alone():
    removal = d.deployed(found=d.report(*everything(owned=False)), action="destroy").removal
    steps = {name: value for name, value in removal.items() if isinstance(value, (bool, list)) and name != "report"}
    assert not any(value for name, value in steps.items() if name not in ("iap_enabled",)), steps
    assert "sql_instance/demo-dev" in removal["report"][2]


PARTS = {
    "database": ("sql_instance", "demo-dev", "database"),
    "bucket": ("storage_bucket", "mlflow-sandbox-demo-dev-artifacts", "bucket"),
    "secrets": ("secret", "demo-dev-db-password", "secrets"),
    "server_account": ("service_account", "demo-dev-server", "accounts"),
    "client_account": ("service_account", "demo-dev-client", "accounts"),
    "image_repository": ("artifact_repository", "demo-dev", "image"),
}


@pytest.mark.parametrize("part", OWNED)
def test_what_is_only_used_is_not_removed_even_with_the_labels_of_the_deployment(part):
    kind, name, step = PARTS[part]
    confirmed = {"mlflow_destroy_data": True, "mlflow_destroy_confirm": "demo"}
    found = d.report(d.resource(kind, name))
    managed = d.deployed(found=found, action="destroy", **confirmed).removal
    assert managed[step]
    used = d.deployed(found=found, action="destroy", mlflow_ownership={part: "used"}, **confirmed).removal
    assert not used[step]
    assert f"{kind}/{name}" in used["report"][2] and f"{kind}/{name}" not in used["report"][0]


def test_a_removal_revokes_the_access_of_its_own_accounts_to_what_it_adopted():
    accounts = [d.resource("service_account", "demo-dev-server"), d.resource("service_account", "demo-dev-client")]
    foreign = [
        d.resource("storage_bucket", "mlflow-sandbox-demo-dev-artifacts", owned=False),
        d.resource("sql_instance", "demo-dev", owned=False),
        d.resource("secret", "demo-dev-db-password", owned=False),
    ]
    removal = d.deployed(found=d.report(*accounts, *foreign), action="destroy", mlflow_adopt=True).removal
    assert removal["foreign_bucket_access"] and removal["clients"]
    assert removal["secret_access"] == ["demo-dev-db-password"]
    assert not removal["bucket_access"] and not removal["database"]


@pytest.mark.parametrize(("version", "host"), [("POSTGRES_16", ""), ("MYSQL_8_0", " --host=%")])
@pytest.mark.parametrize("data", [True, False])
def test_the_database_in_a_used_instance_is_left_and_reported(data, version, host):
    shared = {"mlflow_ownership": {"database": "used"}, "mlflow_database_instance": "shared"}
    confirmed = {"mlflow_destroy_data": data, "mlflow_destroy_confirm": "demo"}
    instance = d.resource("sql_instance", "shared", owned=False, version=version)
    removal = d.deployed(found=d.report(instance), action="destroy", **shared, **confirmed).removal
    assert not removal["database"]
    (line,) = [line for line in removal["report"] if line.startswith("Left in")]
    assert "gcloud sql databases delete mlflow_demo_dev --instance shared" in line
    assert line.endswith(f"gcloud sql users delete mlflow_demo_dev --instance shared{host}.")
    gone = d.deployed(found=d.report(), action="destroy", **shared, **confirmed).removal
    assert not any(line.startswith("Left in") for line in gone["report"])


def test_what_is_wrong_with_other_variables_does_not_prevent_a_removal():
    assert d.computed(action="destroy", mlflow_database_tier="huge", mlflow_access="nothing").problems == []
    assert d.variables_of(d.computed(action="destroy", gcp_project="NO")) == ["gcp_project"]


@pytest.mark.parametrize("service", ["default", "mlflow"])
def test_removal_on_app_engine(service):
    rows = [
        {"id": "v2", "serving_status": "SERVING", "create_time": "2", "deployment": "demo-dev"},
        {"id": "v1", "serving_status": "STOPPED", "create_time": "1", "deployment": "demo-dev"},
    ]
    found = d.resource("app_engine_service", service, version_list=rows, allocations={"v2": 1})
    target = d.deployed(
        found=d.report(found, application("default")),
        action="destroy",
        mlflow_target="appengine",
        appengine_mlflow_service=service,
    ).removal["target"]
    if service == "default":
        assert (target["options"]["stop"], target["options"]["remove"]) == (["v2"], ["v1"])
        assert "keeps its last version" in target["report"][1]
    else:
        assert target["options"]["remove_service"] and target["options"]["stop"] == []


# --- what is wrong


def test_a_target_that_does_not_exist():
    outcome = d.computed(mlflow_target="mainframe")
    assert outcome.deployment is None
    assert "cloudrun, appengine" in outcome.problems[-1].next
    assert not outcome.askable


@pytest.mark.parametrize(
    "given",
    [
        {"mlflow_cpu": "lots", "mlflow_memory": "huge"},
        {"cloudsql_flags": {"max_connections": "many"}},
        {"mlflow_workers": 0, "mlflow_max_instances": 0},
        {"mlflow_ownership": {"database": "stolen"}},
        {"mlflow_labels": "a"},
        {"gcp_region": "mars-west1"},
        {"gcp_project": "", "mlflow_name": ""},
    ],
)
@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_bad_values_are_problems_and_never_exceptions(given, target):
    outcome = d.computed(given, mlflow_target=target)
    assert {problem.variable for problem in outcome.problems} & set(given)
    json.dumps(outcome.as_dict())


def test_only_what_can_be_asked_is_asked():
    assert d.computed().askable
    assert d.computed(mlflow_cpu="lots").askable
    assert not d.computed(gcp_project="").askable


def test_a_deployment_is_plain_data():
    assert json.loads(json.dumps(d.computed(found=d.report(*everything())).as_dict()))["name"] == "demo"


def test_every_name_in_the_model_is_a_variable():
    for variable in d.deployed().requirements.resources:
        assert set(variable) <= {"type", "name", "location", "adopt", "read", "host", "restorable"}
    assert set(d.VARIABLES) <= set(variables.all_variables())
