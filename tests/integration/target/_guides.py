# SPDX-License-Identifier: Apache-2.0
"""Create the resources of the guides' Terraform with the requests of its Google provider, without Terraform.

The requests were recorded with release 4.85.0 of hashicorp/google for the configurations in
tests/integration/clients/terraform; the docstring of each method has the name of the Terraform resource. Names and
settings are those of the guides (../shared/guides).
"""

from __future__ import annotations

import base64
import re
from typing import Any

import yaml
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import REGION, ROOT, Project

SQL = "https://sqladmin.googleapis.com/sql/v1beta4"
ENV = "prod"
# All special characters that random_password of the Cloud Run guide can use.
PASSWORD = "aB3!#$%&*()-_=+[]{}<>:?"
# The App Engine guide uses letters and digits.
ALPHANUMERIC = "0123456789abcdefABCDEFGHIJKLMNOP"
APPS = "https://appengine.googleapis.com/v1/apps"
OAUTH_CLIENT = ("oauth-client-id", "oauth-client-secret")
ALICE = "user:alice@example.com"


def documented(heading: str, project: str) -> dict[str, Any]:
    """Return the variables in docs/adopting.md for a guide, with the name of the given project."""
    page = (ROOT / "docs/adopting.md").read_text().split(f"## {heading}\n")[1]
    block = re.search(r"```yaml\n(.*?)```", page, re.S)[1]
    return yaml.safe_load(block.replace("my-project", project))


class Terraform:
    """Creates resources in a project, as Terraform does."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.name = project.project
        self.home = project.home

    def _policy(self, url: str, role: str, *members: str, put: bool = False) -> None:
        """google_*_iam_member: read the policy, add a binding, write the policy with its etag."""
        policy = self.project.policy(url)
        policy["bindings"] = [*policy.get("bindings", []), {"role": role, "members": list(members)}]
        policy["version"] = 3
        if put:
            self.project.request("PUT", f"{url}/iam", policy)
        else:
            self.project.request("POST", f"{url}:setIamPolicy", {"policy": policy})

    def account(self, account_id: str, display_name: str) -> str:
        """google_service_account; return its member name in policies."""
        body = {"accountId": account_id, "serviceAccount": {"displayName": display_name}}
        made = self.project.request("POST", f"{_cloud.IAM}/{self.home}/serviceAccounts", body)
        return f"serviceAccount:{made['email']}"

    def account_key(self, account_id: str) -> str:
        """google_service_account_key; return the key file."""
        url = f"{_cloud.IAM}/{self.home}/serviceAccounts/{self.project.email(account_id)}/keys"
        body = {"keyAlgorithm": "KEY_ALG_RSA_2048", "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE"}
        return base64.b64decode(self.project.request("POST", url, body)["privateKeyData"]).decode()

    def project_member(self, role: str, member: str) -> None:
        """google_project_iam_member"""
        self._policy(f"{_cloud.MANAGER}/v3/{self.home}", role, member)

    def secret(self, secret_id: str, replication: dict[str, Any] | None = None) -> None:
        """google_secret_manager_secret"""
        body = {"replication": replication or {"automatic": {}}}
        self.project.request("POST", f"{_cloud.SECRETS}/{self.home}/secrets", body, params={"secretId": secret_id})

    def secret_version(self, secret_id: str, value: str) -> None:
        """google_secret_manager_secret_version; the provider also enables the new version, which is enabled already."""
        url = f"{_cloud.SECRETS}/{self.home}/secrets/{secret_id}:addVersion"
        made = self.project.request("POST", url, {"payload": {"data": base64.b64encode(value.encode()).decode()}})
        self.project.request("POST", f"{_cloud.SECRETS}/{made['name']}:enable")

    def secret_member(self, secret_id: str, member: str) -> None:
        """google_secret_manager_secret_iam_member"""
        self._policy(f"{_cloud.SECRETS}/{self.home}/secrets/{secret_id}", "roles/secretmanager.secretAccessor", member)

    def bucket(self, name: str, **body: Any) -> None:
        """google_storage_bucket"""
        body |= {"name": name, "lifecycle": {"rule": []}}
        self.project.request("POST", f"{_cloud.STORAGE}/b", body, params={"project": self.name})

    def bucket_member(self, name: str, role: str, member: str) -> None:
        """google_storage_bucket_iam_member"""
        self._policy(f"{_cloud.STORAGE}/b/{name}", role, member, put=True)

    def instance(self, name: str, version: str, **settings: Any) -> None:
        """google_sql_database_instance"""
        given = {
            "activationPolicy": "ALWAYS",
            "availabilityType": "ZONAL",
            "dataDiskSizeGb": "10",
            "pricingPlan": "PER_USE",
        }
        body = {"name": name, "region": REGION, "databaseVersion": version, "settings": given | settings}
        self._sql("instances", body)

    def database(self, instance: str, name: str) -> None:
        """google_sql_database"""
        self._sql(f"instances/{instance}/databases", {"instance": instance, "name": name})

    def user(self, instance: str, name: str, password: str) -> None:
        """google_sql_user"""
        self._sql(f"instances/{instance}/users", {"instance": instance, "name": name, "password": password})

    def _sql(self, collection: str, body: dict[str, Any]) -> None:
        self.project.make(f"{SQL}/{self.home}/{collection}", body, base=f"{SQL}/{self.home}/operations")


class CloudRunGuide(Terraform):
    """../shared/guides/002_e6852742dc9ab9bb.txt"""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.instance_name = f"{self.name}-{ENV}-db"
        self.database_name = f"mlflow-{self.name}-{ENV}"
        self.bucket_name = f"{self.name}-mlflow-{ENV}-{REGION}"
        self.repository_name = f"{self.name}-repo"
        self.service_name = f"mlflow-{self.name}-{ENV}"
        self.connection = f"{self.name}:{REGION}:{self.instance_name}"

    def make(self) -> None:
        server = self.account(f"cloudrun-mlflow-{ENV}", "Service Account for Cloud Run running ML Flow")
        connect = self.account(f"mlflow-connect-{ENV}", "Service Account for create objects in ML Flow bucket.")
        self.repository()
        self.instance(
            self.instance_name,
            "POSTGRES_14",
            tier="db-custom-1-3840",
            dataDiskType="PD_HDD",
            storageAutoResize=False,
            ipConfiguration={
                "authorizedNetworks": [{"name": "Your VPN", "value": "203.0.113.0/24"}],
                "enablePrivatePathForGoogleCloudServices": False,
                "ipv4Enabled": True,
                "requireSsl": False,
            },
        )
        self.database(self.instance_name, self.database_name)
        self.user(self.instance_name, self.database_name, PASSWORD)
        self.bucket(
            self.bucket_name,
            location=REGION.upper(),
            storageClass="REGIONAL",
            iamConfiguration={
                "publicAccessPrevention": "enforced",
                "uniformBucketLevelAccess": {"enabled": True},
            },
        )
        self.bucket_policy(server, connect)
        self.project_member("roles/cloudsql.client", server)
        for secret_id, payload in self.payloads().items():
            self.secret(secret_id)
            self.secret_version(secret_id, payload)
            self.secret_member(secret_id, server)
        self.secret("mlflow_service_account_key")
        self.secret_version("mlflow_service_account_key", self.account_key(f"mlflow-connect-{ENV}"))
        self.service()

    def payloads(self) -> dict[str, str]:
        """Return the payloads of the secrets of the guide's server; the password in the URL is not quoted."""
        login = f"{self.database_name}:{PASSWORD}"
        return {
            "mlflow_tracking_username": self.database_name,
            "mlflow_tracking_password": PASSWORD,
            "mlflow_database_url": (
                f"postgresql+psycopg2://{login}@/{self.database_name}?host=/cloudsql/{self.connection}"
            ),
            "mlflow_artifact_url": f"gs://{self.bucket_name}",
        }

    def repository(self) -> None:
        """google_artifact_registry_repository"""
        self.project.make(
            f"{_cloud.REGISTRY}/{self.project.region}/repositories",
            {"description": "Docker repository for MlFlow", "format": "DOCKER", "mode": "STANDARD_REPOSITORY"},
            base=_cloud.REGISTRY,
            repository_id=self.repository_name,
        )

    def bucket_policy(self, server: str, connect: str) -> None:
        """google_storage_bucket_iam_policy, which removes the rights of the project's owners on the bucket."""
        bindings = [
            {"role": "roles/storage.objectCreator", "members": [connect]},
            {"role": "roles/storage.objectViewer", "members": [server, ALICE]},
        ]
        policy = {"bindings": bindings, "version": 3}
        self.project.request("PUT", f"{_cloud.STORAGE}/b/{self.bucket_name}/iam", policy)

    def service(self) -> None:
        """google_cloud_run_v2_service and google_cloud_run_service_iam_binding"""
        container = {
            "image": "us-docker.pkg.dev/cloudrun/container/hello",
            "env": [{"name": "GCP_PROJECT", "value": self.project.number}],
            "resources": {"cpuIdle": True, "limits": {"cpu": "1000m", "memory": "1024Mi"}},
            "volumeMounts": [{"mountPath": "/cloudsql", "name": "cloudsql"}],
        }
        template = {
            "containers": [container],
            "scaling": {"maxInstanceCount": 10},
            "serviceAccount": self.project.email(f"cloudrun-mlflow-{ENV}"),
            "volumes": [{"name": "cloudsql", "cloudSqlInstance": {"instances": [self.connection]}}],
        }
        body = {"client": "cloud-console", "ingress": "INGRESS_TRAFFIC_ALL", "template": template}
        services = f"{_cloud.RUN}/{self.project.region}/services"
        self.project.make(services, body, base=_cloud.RUN, serviceId=self.service_name)
        # the IAM resource uses version 1 of the API
        url = f"https://{REGION}-run.googleapis.com/v1/{self.project.region}/services/{self.service_name}"
        policy = self.project.request("GET", f"{url}:getIamPolicy?options.requestedPolicyVersion=3")
        policy |= {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}], "version": 3}
        self.project.request("POST", f"{url}:setIamPolicy", {"policy": policy})

    def variables(self) -> dict[str, Any]:
        return documented("The Cloud Run guide", self.name)


class AppEngineGuide(Terraform):
    """../shared/guides/000_546d546517325e38.txt"""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.instance_name = f"abc-mlflow-dev-{REGION}-5a7b9c"
        self.bucket_name = f"abc-mlflow-dev-{REGION}"
        self.secret_name = f"abc-mlflow-db-password-dev-{REGION}"
        self.connection = f"{self.name}:{REGION}:{self.instance_name}"

    def make(self) -> None:
        self.application()
        self.instance(
            self.instance_name,
            "MYSQL_8_0",
            tier="db-n1-standard-1",
            dataDiskType="PD_SSD",
            storageAutoResize=True,
            backupConfiguration={
                "binaryLogEnabled": True,
                "enabled": True,
                "pointInTimeRecoveryEnabled": False,
            },
            ipConfiguration={
                "enablePrivatePathForGoogleCloudServices": False,
                "ipv4Enabled": True,
                "requireSsl": False,
            },
            maintenanceWindow={"day": 7, "hour": 3, "updateTrack": "stable"},
        )
        # the provider deletes the user root of each new instance of MySQL
        users = f"{SQL}/{self.home}/instances/{self.instance_name}/users"
        operations = f"{SQL}/{self.home}/operations"
        self.project.make(f"{users}?host=%25&name=root", {}, base=operations, method="DELETE")
        self.database(self.instance_name, "mlflow")
        self.user(self.instance_name, "mlflow", ALPHANUMERIC)
        self.secret(self.secret_name, {"userManaged": {"replicas": [{"location": REGION}]}})
        self.secret_version(self.secret_name, ALPHANUMERIC)
        self.bucket(
            self.bucket_name,
            location="EU",
            storageClass="MULTI_REGIONAL",
            iamConfiguration={"uniformBucketLevelAccess": {"enabled": True}},
        )
        for member in (
            f"serviceAccount:{self.name}@appspot.gserviceaccount.com",
            f"serviceAccount:service-{self.project.number}@gae-api-prod.google.com.iam.gserviceaccount.com",
        ):
            self.project_member("roles/cloudsql.client", member)
            self.secret_member(self.secret_name, member)
            self.bucket_member(self.bucket_name, "roles/storage.objectAdmin", member)
        self.version()

    def application(self) -> None:
        """google_app_engine_application"""
        values = {name: self.project.secret(name)["versions"][1][1].decode() for name in OAUTH_CLIENT}
        iap = {
            "enabled": True,
            "oauth2ClientId": values["oauth-client-id"],
            "oauth2ClientSecret": values["oauth-client-secret"],
        }
        body = {"id": self.name, "locationId": "europe-west", "iap": iap}
        self.project.make(APPS, body, base=APPS.removesuffix("/apps"))

    def version(self) -> None:
        """google_app_engine_flexible_app_version"""
        check = {"path": "/", "failureThreshold": 4, "successThreshold": 2, "timeout": "4s"}
        body = {
            "id": "v1",
            "env": "flex",
            "runtime": "custom",
            "servingStatus": "SERVING",
            "deployment": {"container": {"image": "us-docker.pkg.dev/cloudrun/container/hello:latest"}},
            "livenessCheck": check | {"checkInterval": "30s", "initialDelay": "300s"},
            "readinessCheck": check | {"checkInterval": "5s", "failureThreshold": 2, "appStartTimeout": "300s"},
            "betaSettings": {"cloud_sql_instances": self.connection},
            "envVariables": self.environment(),
            "automaticScaling": {
                "coolDownPeriod": "120s",
                "cpuUtilization": {"targetUtilization": 0.75},
                "minTotalInstances": 1,
                "maxTotalInstances": 4,
            },
            "resources": {"cpu": 1, "memoryGb": 2},
        }
        self.project.make(f"{APPS}/{self.name}/services/default/versions", body, base=APPS.removesuffix("/apps"))

    def environment(self) -> dict[str, str]:
        return {
            "GCP_PROJECT": self.name,
            "DB_PASSWORD_SECRET_NAME": self.secret_name,
            "DB_USERNAME": "mlflow",
            "DB_NAME": "mlflow",
            "DB_INSTANCE_CONNECTION_NAME": self.connection,
            "GCS_BACKEND": f"gs://{self.bucket_name}",
        }

    def variables(self) -> dict[str, Any]:
        return documented("The App Engine guide", self.name)
