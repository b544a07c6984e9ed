# SPDX-License-Identifier: Apache-2.0
"""Test the resources of a deployment with Google's APIs, the database and the service."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from google.cloud import storage

OWNER = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo", "mlflow-env": "dev"}
# The resources of a deployment. All of them have its labels.
MADE = {
    "instance/demo-dev",
    "bucket/mlflow-sandbox-demo-dev-artifacts",
    "bucket/mlflow-sandbox-demo-dev-build",
    "secret/demo-dev-db-username",
    "secret/demo-dev-db-password",
    "secret/demo-dev-database-url",
    "secret/demo-dev-artifact-url",
    "secret/demo-dev-gateway-key",
    "secret/demo-dev-webhook-key",
    "repository/demo-dev",
    "service/demo-dev",
    "job/demo-dev-migrate",
    "account/demo-dev-server",
    "account/demo-dev-client",
    "account/demo-dev-build",
}


@pytest.fixture(scope="module")
def server(deployed):
    return f"serviceAccount:{deployed.email('demo-dev-server')}"


@pytest.fixture(scope="module")
def client(deployed):
    return f"serviceAccount:{deployed.email('demo-dev-client')}"


def payload(project, secret):
    """Return the payload of the latest version of a secret."""
    versions = project.secret(secret)["versions"]
    return versions[max(versions)][1].decode()


def test_a_deployment_creates_exactly_these_resources(fresh, deployed):
    # The deployer already existed, but the API that lists accounts was not enabled before the deployment.
    found = deployed.resources().keys() - fresh["resources before"].keys() - {"account/deployer"}
    assert found == MADE


def test_all_resources_have_the_labels(deployed):
    resources = deployed.resources()
    unlabelled = [name for name in MADE if not OWNER.items() <= resources[name]["labels"].items()]
    assert not unlabelled


def test_the_only_role_on_the_project_is_to_connect_to_the_one_instance(fresh, deployed, server):
    condition = (
        "resource.name == 'projects/mlflow-sandbox/instances/demo-dev' && resource.service == 'sqladmin.googleapis.com'"
    )
    added = deployed.project_roles() - fresh["roles before"]
    # Google grants roles to its service agents when an API is enabled.
    agents = f"serviceAccount:service-{deployed.number}@"
    assert {row for row in added if not row[1].startswith(agents)} == {("roles/cloudsql.client", server, condition)}


def test_no_service_account_has_a_key(deployed):
    for name in ("demo-dev-server", "demo-dev-client", "demo-dev-build"):
        url = f"{_cloud.IAM}/{deployed.home}/serviceAccounts/{deployed.email(name)}/keys"
        assert deployed.get(url, keyTypes="USER_MANAGED").get("keys", []) == []


def test_only_the_deployer_acts_as_the_clients_account_and_no_principal_as_the_servers(deployed):
    url = f"{_cloud.IAM}/{deployed.home}/serviceAccounts/{{}}"
    deployer = f"serviceAccount:{deployed.email('deployer')}"
    assert deployed.bindings(url.format(deployed.email("demo-dev-client"))) == {
        "roles/iam.serviceAccountTokenCreator": [deployer]
    }
    for name in ("demo-dev-server", "demo-dev-build"):
        assert deployed.bindings(url.format(deployed.email(name))) == {}


def test_the_bucket_is_private_and_only_readers_and_clients_have_access(deployed, server, client):
    client_library = storage.Client(deployed.project, credentials=deployed.api.credentials, _http=deployed.api)
    bucket = client_library.get_bucket("mlflow-sandbox-demo-dev-artifacts")
    assert bucket.location == "EUROPE-WEST1"
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.iam_configuration.public_access_prevention == "enforced"
    assert bucket.soft_delete_policy.retention_duration_seconds == 604800
    roles = {
        binding["role"]: set(binding["members"])
        for binding in bucket.get_iam_policy(requested_policy_version=3).bindings
        if not binding["role"].startswith("roles/storage.legacy")
    }
    assert roles == {
        "roles/storage.objectViewer": {server, "user:alice@example.com"},
        "roles/storage.objectUser": {client},
    }


def test_the_build_may_use_its_repository_and_its_bucket_only(deployed):
    build = f"serviceAccount:{deployed.email('demo-dev-build')}"
    assert deployed.bindings(f"{_cloud.REGISTRY}/{deployed.region}/repositories/demo-dev") == {
        "roles/artifactregistry.writer": [build]
    }
    bucket = deployed.bindings(f"{_cloud.STORAGE}/b/mlflow-sandbox-demo-dev-build")
    assert {role: members for role, members in bucket.items() if "legacy" not in role} == {
        "roles/storage.admin": [build]
    }
    (image,) = deployed.list(f"{_cloud.REGISTRY}/{deployed.region}/repositories/demo-dev/dockerImages", "dockerImages")
    assert image["uri"] in str(deployed.service("demo-dev"))


def test_the_server_reads_the_password_and_the_keys_and_no_principal_reads_another_secret(deployed, server):
    readers = {
        name: deployed.secret(name)["bindings"]
        for name in (name.split("/")[1] for name in MADE)
        if f"secret/{name}" in MADE
    }
    for name in ("db-password", "gateway-key", "webhook-key"):
        assert readers.pop(f"demo-dev-{name}") == {"roles/secretmanager.secretAccessor": [server]}
    assert readers == {"demo-dev-db-username": {}, "demo-dev-database-url": {}, "demo-dev-artifact-url": {}}


def test_the_four_secrets_contain_login_and_addresses_of_the_data(deployed):
    user, password = payload(deployed, "demo-dev-db-username"), payload(deployed, "demo-dev-db-password")
    assert (user, payload(deployed, "demo-dev-artifact-url")) == ("mlflow", "gs://mlflow-sandbox-demo-dev-artifacts")
    assert len(password) == 32
    address = urlsplit(payload(deployed, "demo-dev-database-url"))
    assert (address.scheme, address.username, address.password) == ("postgresql+psycopg2", user, password)
    assert address.path == "/mlflow"
    assert parse_qs(address.query) == {"host": ["/cloudsql/mlflow-sandbox:europe-west1:demo-dev"]}
    with deployed.connect("demo-dev", user, password) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM experiments")
        assert cursor.fetchone()[0] >= 1


def test_the_database_requires_the_password_and_rejects_the_internet(deployed):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        deployed.connect("demo-dev", "mlflow", "guess")
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        deployed.login("demo-dev", "mlflow", payload(deployed, "demo-dev-db-password"))


def test_the_instance_is_small_backed_up_and_open_to_no_network(deployed):
    settings = deployed.resources()["instance/demo-dev"]["settings"]
    assert settings["tier"] == "db-custom-1-3840"
    assert settings["edition"] == "ENTERPRISE"
    assert settings["backupConfiguration"]["enabled"]
    assert settings["ipConfiguration"].get("authorizedNetworks", []) == []


def test_a_development_instance_has_no_recovery_log_and_can_be_deleted(deployed):
    settings = deployed.resources()["instance/demo-dev"]["settings"]
    assert not settings["backupConfiguration"].get("pointInTimeRecoveryEnabled", False)
    assert not settings.get("deletionProtectionEnabled", False)


def test_the_service_has_its_size_its_account_and_its_database(deployed):
    template = deployed.service("demo-dev")["template"]
    (container,) = template["containers"]
    assert template["scaling"]["maxInstanceCount"] == 10
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert template["serviceAccount"] == deployed.email("demo-dev-server")
    (volume,) = template["volumes"]
    assert volume["cloudSqlInstance"]["instances"] == ["mlflow-sandbox:europe-west1:demo-dev"]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_SERVE_ARTIFACTS"] == "false"
    # 100 connections of the tier, 10 of them kept, for 10 instances with one worker of four pools.
    assert environment["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "2"
    assert f"demo-dev-{deployed.number}.europe-west1.run.app" in environment["MLFLOW_ALLOWED_HOSTS"].split(",")


@pytest.mark.parametrize("kind", ["service", "job"])
def test_no_secret_is_in_the_environment_of_a_container(deployed, kind):
    resource = deployed.resources()[f"{kind}/demo-dev" if kind == "service" else "job/demo-dev-migrate"]
    template = resource["template"] if kind == "service" else resource["template"]["template"]
    (container,) = template["containers"]
    found = {item["name"]: item["valueSource"]["secretKeyRef"] for item in container["env"] if "valueSource" in item}
    expected = {"DB_PASSWORD": ("db-password", "1")}
    if kind == "service":
        expected["MLFLOW_CRYPTO_KEK_PASSPHRASE"] = ("gateway-key", "latest")
        expected["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = ("webhook-key", "1")
    assert found.keys() == expected.keys()
    for name, (secret, version) in expected.items():
        assert found[name]["secret"].endswith(f"demo-dev-{secret}")
        assert found[name]["version"] == version
        assert payload(deployed, f"demo-dev-{secret}") not in str(resource)


def test_the_schema_was_migrated_once_before_the_service_started(deployed, box):
    executions = deployed.list(f"{_cloud.RUN}/{deployed.region}/jobs/demo-dev-migrate/executions", "executions")
    (execution,) = executions
    assert execution["succeededCount"] == 1
    assert execution["completionTime"] <= deployed.service("demo-dev")["createTime"]


def test_only_identity_aware_proxy_calls_the_service_and_only_members_pass_it(deployed, client):
    assert deployed.service("demo-dev")["iapEnabled"]
    agent = f"serviceAccount:service-{deployed.number}@gcp-sa-iap.iam.gserviceaccount.com"
    assert deployed.bindings(f"{_cloud.RUN}/{deployed.region}/services/demo-dev") == {"roles/run.invoker": [agent]}
    web = f"{_cloud.IAP}/projects/{deployed.number}/iap_web/cloud_run-europe-west1/services/demo-dev"
    assert deployed.bindings(web) == {"roles/iap.httpsResourceAccessor": sorted([client, "user:alice@example.com"])}
