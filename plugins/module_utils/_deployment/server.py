# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment of the server and of the migration: what the image's entrypoint reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import environment as rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.sizing import Sizing

LATEST = "latest"
HEALTH = "/health"
# https://mlflow.org/docs/latest/genai/governance/ai-gateway/ and mlflow/utils/crypto.py
GATEWAY_KEY = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
WEBHOOK_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
# What the entrypoint of the image reads from Secret Manager by name.
ENTRYPOINT_SECRETS = frozenset(
    {
        "DB_USERNAME",
        "DB_PASSWORD",
        "MLFLOW_BACKEND_STORE_URI",
        "MLFLOW_AUTH_ADMIN_USERNAME",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
        "MLFLOW_AUTH_DATABASE_URI",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
    }
)
# Without this variable MLflow takes 1.
GATEWAY_KEY_VERSION = "MLFLOW_CRYPTO_KEK_VERSION"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def database_env(context: Context) -> dict[str, str]:
    """Return what both the migration and the server are configured with."""
    names = context.names
    return {
        "GCP_PROJECT": names.project,
        "DB_TYPE": context.engine,
        "DB_NAME": names.database,
        "DB_USERNAME": names.user,
        "DB_INSTANCE_CONNECTION_NAME": names.connection,
        "MLFLOW_AUTH_ENABLED": _flag(context.login),
    }


def server_env(context: Context, artifact_uri: str, hosts: Iterable[str], sizing: Sizing) -> dict[str, Any]:
    """Return the server's environment without the user's own variables.

    :param hosts: host names under which MLflow answers; ``*`` stands for any text without a dot.
    """
    hosts = list(hosts)
    number = context["mlflow_gateway_key_version"]
    return (
        database_env(context)
        | ({GATEWAY_KEY_VERSION: str(number)} if number > 1 else {})
        | {
            "GCS_BACKEND": artifact_uri,
            "MLFLOW_SERVE_ARTIFACTS": _flag(context["mlflow_artifacts"] == "proxied"),
            # The queue of the job runner is a local file, which is wrong with more than one instance.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_WORKERS": str(sizing.workers),
            "MLFLOW_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_CORS_ALLOWED_ORIGINS": ",".join(f"https://{host}" for host in hosts),
            "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(sizing.size),
            "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(sizing.overflow),
        }
    )


def prefix(context: Context) -> str:
    """Return the path that MLflow serves everything below, such as ``/mlflow``, or an empty string.

    MLflow moves its pages, its API, ``/health`` and ``/version`` there (``mlflow server --static-prefix``).
    """
    return str(context[rules.ENV].get(rules.PREFIX) or "")


def reads_further_secrets(context: Context) -> bool:
    """Whether the server has secrets that the entrypoint of the image does not read by name itself."""
    return not ENTRYPOINT_SECRETS.issuperset(secret_env(context))


def encryption_keys(context: Context) -> dict[str, str]:
    """Return the keys with which MLflow encrypts: variable -> id of the secret.

    A variable that the user sets has its key from there.
    """
    if not context.encryption_keys:
        return {}
    names = context.names
    found = {GATEWAY_KEY: names.gateway_key_secret, WEBHOOK_KEY: names.webhook_key_secret}
    given = context[rules.ENV].keys() | context[rules.SECRET_ENV].keys()
    return {variable: secret_id for variable, secret_id in found.items() if variable not in given}


def secret_env(context: Context, *, own: bool = True) -> dict[str, str]:
    """Return what comes from Secret Manager: variable -> full name of a version.

    :param own: with what the migration does not need: the keys, and the user's own variables.

    The version of the database password is the one that the user in the database has, so that a rotated password
    starts the server anew. A version that is not known yet is the latest one.
    """
    names, made = context.names, context.made

    def version(secret_id: str) -> str:
        return made.secret_versions.get(secret_id) or f"{names.secret(secret_id)}/versions/{LATEST}"

    password = made.password_version.rsplit("/", 1)[-1] or LATEST
    found = {"DB_PASSWORD": f"{names.secret(names.password_secret)}/versions/{password}"}
    if context.login:
        found |= {
            "MLFLOW_AUTH_ADMIN_USERNAME": version(names.login_username_secret),
            "MLFLOW_AUTH_ADMIN_PASSWORD": version(names.login_password_secret),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": version(names.login_key_secret),
        }
    if not own:
        return found
    keys = {variable: version(secret_id) for variable, secret_id in encryption_keys(context).items()}
    if GATEWAY_KEY in keys:
        # A rotated passphrase is a new version, and has a new number, which starts the server anew.
        keys[GATEWAY_KEY] = f"{names.secret(names.gateway_key_secret)}/versions/{LATEST}"
    own_variables = user_secret_env(context[rules.SECRET_ENV], names.project)
    return found | keys | {name: context.existing.usable_secret(own_variables[name]) for name in own_variables}


def user_secret_env(given: Mapping[str, Any], project: str) -> dict[str, str]:
    """Return the user's own secret variables with full names of versions."""
    found = {}
    for variable, reference in given.items():
        name = str(reference)
        if "/" not in name:
            name = f"projects/{project}/secrets/{name}"
        found[str(variable)] = name if "/versions/" in name else f"{name}/versions/{LATEST}"
    return found
