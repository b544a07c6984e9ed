# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of everything that a deployment consists of, derived from its own name and its environment.

A second run derives the same names and so finds what the first one created. Each can be replaced by its variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id

MANAGED_BY = "mlplatform-gcp"


@dataclass(frozen=True)
class Names:
    """Ids without the project, except that ``connection`` is the full connection name of the Cloud SQL instance."""

    deployment: str
    project: str
    region: str
    bucket: str
    instance: str
    connection: str
    database: str
    user: str
    migration_job: str
    server_account: str
    client_account: str
    repository: str
    build_account: str
    build_bucket: str
    username_secret: str
    password_secret: str
    url_secret: str
    artifact_url_secret: str
    login_username_secret: str
    login_password_secret: str
    login_key_secret: str
    gateway_key_secret: str
    webhook_key_secret: str

    def by_variable(self) -> dict[str, str]:
        """Return each name by the variable that replaces it."""
        return {variable: getattr(self, field) for variable, field in _VARIABLES.items()}

    def email(self, account_id: str) -> str:
        """Return the address of a service account of the project."""
        return _project_id.account_email(account_id, self.project)

    def member(self, account_id: str) -> str:
        """Return a service account of the project as IAM policies spell it."""
        return f"serviceAccount:{self.email(account_id)}"

    def secret(self, secret_id: str) -> str:
        """Return the full name of a secret of the project."""
        return f"projects/{self.project}/secrets/{secret_id}"


# Variable -> the name that it replaces.
_VARIABLES = {
    "mlflow_bucket": "bucket",
    "mlflow_database_instance": "instance",
    "mlflow_database_name": "database",
    "mlflow_database_user": "user",
    "mlflow_migration_job": "migration_job",
    "mlflow_server_account": "server_account",
    "mlflow_client_account": "client_account",
    "mlflow_image_repository": "repository",
    "mlflow_image_builder_account": "build_account",
    "mlflow_image_source_bucket": "build_bucket",
    "mlflow_database_username_secret": "username_secret",
    "mlflow_database_password_secret": "password_secret",
    "mlflow_database_url_secret": "url_secret",
    "mlflow_artifact_url_secret": "artifact_url_secret",
    "mlflow_login_username_secret": "login_username_secret",
    "mlflow_login_password_secret": "login_password_secret",
    "mlflow_login_key_secret": "login_key_secret",
    "mlflow_gateway_key_secret": "gateway_key_secret",
    "mlflow_webhook_key_secret": "webhook_key_secret",
}


def derive(values: Mapping[str, Any]) -> Names:
    """Return the names that follow from a deployment's variables."""
    deployment = f"{values['mlflow_name']}-{values['mlflow_env']}"
    project, region = values["gcp_project"], values["gcp_region"]

    # Several deployments can use one instance, each with a database and a user of its own.
    shared = values["mlflow_ownership"].get("database") == "used"
    own = f"mlflow_{deployment}".replace("-", "_") if shared else "mlflow"
    prefix = _project_id.bucket_prefix(project)
    defaults = {
        "bucket": f"{prefix}-{deployment}-artifacts",
        "instance": deployment,
        "database": own,
        "user": own,
        "migration_job": f"{deployment}-migrate",
        "server_account": f"{deployment}-server",
        "client_account": f"{deployment}-client",
        "repository": deployment,
        "build_account": f"{deployment}-build",
        "build_bucket": f"{prefix}-{deployment}-build",
        "username_secret": f"{deployment}-db-username",
        "password_secret": f"{deployment}-db-password",
        "url_secret": f"{deployment}-database-url",
        "artifact_url_secret": f"{deployment}-artifact-url",
        "login_username_secret": f"{deployment}-tracking-username",
        "login_password_secret": f"{deployment}-tracking-password",
        "login_key_secret": f"{deployment}-session-key",
        "gateway_key_secret": f"{deployment}-gateway-key",
        "webhook_key_secret": f"{deployment}-webhook-key",
    }
    found = {field: values.get(variable) or defaults[field] for variable, field in _VARIABLES.items()}
    database_region = values["cloudsql_region"] or region
    connection = _project_id.connection_name(project, database_region, found["instance"])
    return Names(deployment=deployment, project=project, region=region, connection=connection, **found)


def owner(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels by which a deployment recognizes its own resources."""
    return {
        "managed-by": MANAGED_BY,
        "mlflow-deployment": str(values["mlflow_name"]),
        "mlflow-env": str(values["mlflow_env"]),
    }
