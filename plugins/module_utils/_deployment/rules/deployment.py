# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Combinations of values that contradict each other or are not supported yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import cloudsql, server

# Of each choice the only value that works.
WORKING = {
    "mlflow_database": "cloudsql",
    "mlflow_migration": "cloud_run_job",
    "mlflow_secrets": "secret_manager",
    "mlflow_artifact_store": "gcs",
}
# CVE-2026-2635: older releases have a default administrator's password.
_SAFE_LOGIN = (3, 16, 1)
# With the project and a colon, https://cloud.google.com/sql/docs/postgres/instance-settings.
_LONGEST_INSTANCE = 98


def check(values: Mapping[str, Any], derived: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what does not go together, where each value is one by itself."""
    yield from _access(values, derived)
    for name, works in WORKING.items():
        if values.get(name) not in (works, None):
            yield Problem(
                name,
                f"{name} is {values[name]}, which does not work yet.",
                f"Set it to {works}, or leave it out.",
            )
    ids = [bool(values.get(f"mlflow_oauth_client_{part}_secret")) for part in ("id", "secret")]
    if ids[0] != ids[1]:
        missing = "mlflow_oauth_client_secret_secret" if ids[0] else "mlflow_oauth_client_id_secret"
        yield Problem(
            missing,
            "Only one of mlflow_oauth_client_id_secret and mlflow_oauth_client_secret_secret is set.",
            f"Set both for a custom OAuth client, or none for Google's: {missing} is missing.",
        )
    least, most = values.get("mlflow_min_instances"), values.get("mlflow_max_instances")
    if least is not None and most is not None and least > most:
        yield Problem(
            "mlflow_min_instances",
            f"mlflow_min_instances is {least}, more than the {most} of mlflow_max_instances.",
            "Lower it, or raise mlflow_max_instances.",
        )
    instance = values.get("mlflow_database_instance") or derived.get("mlflow_database_instance") or ""
    length = len(f"{values.get('gcp_project') or ''}:{instance}")
    if length > _LONGEST_INSTANCE:
        yield Problem(
            "mlflow_database_instance",
            f"mlflow_database_instance is {instance}, which has {length} characters together with the project's id and "
            f"a colon; Cloud SQL takes {_LONGEST_INSTANCE}.",
            "Choose a shorter mlflow_name, or set mlflow_database_instance.",
        )
    yield from _distinct(values, derived)


def doubts(values: Mapping[str, Any]) -> list[str]:
    """Return warnings about values that may work."""
    environment, found = values["mlflow_env"], server.doubts(values)
    if environment.startswith("prod") and environment != "prod" and values["mlflow_production"] is None:
        found.append(
            f"mlflow_env is {environment}, and only prod has the settings of production by itself. Set"
            " mlflow_production=true for point-in-time recovery, deletion protection and a final backup, or false."
        )
    return found


def _access(values: Mapping[str, Any], derived: Mapping[str, str]) -> Iterator[Problem]:
    if values.get("mlflow_access") != "password":
        return
    if not values.get("mlflow_access_password_accepted"):
        yield Problem(
            "mlflow_access",
            "mlflow_access is password, where nothing but MLflow's own login protects the data from the internet.",
            "Use iap or iam, or acknowledge it with mlflow_access_password_accepted=true.",
        )
    if values.get("mlflow_access_members"):
        yield Problem(
            "mlflow_access_members",
            "mlflow_access_members grants access to members, and with mlflow_access=password every user can reach the "
            "login page.",
            "Empty mlflow_access_members and create users in MLflow, or use iap or iam.",
        )
    version = values.get("mlflow_version") or ""
    if not values.get("mlflow_image") and (server.release(version) or _SAFE_LOGIN) < _SAFE_LOGIN:
        yield Problem(
            "mlflow_version",
            f"mlflow_version is {version}, which has a default administrator's password (CVE-2026-2635).",
            "Use 3.16.1 or newer with mlflow_access=password.",
        )
    if cloudsql.engine(values, derived) == "MYSQL":
        yield Problem(
            "mlflow_access",
            "mlflow_access is password, and the database is MySQL, in which MLflow's own login cannot keep its users.",
            "Use iap, or PostgreSQL with mlflow_database_version=POSTGRES_16 and a new mlflow_database_instance.",
        )


def _distinct(values: Mapping[str, Any], derived: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the names of two resources of one kind that are the same."""

    def name(variable: str) -> str:
        return values.get(variable) or derived.get(variable) or ""

    for first, second in (
        ("mlflow_server_account", "mlflow_client_account"),
        ("mlflow_server_account", "mlflow_image_builder_account"),
        ("mlflow_bucket", "mlflow_image_source_bucket"),
        ("mlflow_database_username_secret", "mlflow_database_password_secret"),
        ("mlflow_login_username_secret", "mlflow_login_password_secret"),
    ):
        if name(first) and name(first) == name(second):
            yield Problem(
                second,
                f"{second} is {name(second)}, which is {first} as well.",
                f"Choose different names for {first} and {second}.",
            )
