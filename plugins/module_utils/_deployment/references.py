# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets and a custom image that variables refer to and that the deployment does not create."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _project_id
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.network import RUN_AGENT
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.environment import SECRET_ENV
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.server import (
    GATEWAY_KEY,
    LATEST,
    WEBHOOK_KEY,
    encryption_keys,
    user_secret_env,
)

_ARTIFACT_REGISTRY = re.compile(
    r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>([^/]*\.[^/]*/)?[^/]+)/(?P<repository>[^/]+)/.+"
)
# What the image requires of the password of MLflow's own login (roles/mlflow_image/files/entrypoint.py), and
# mlflow.server.auth: 12 characters, and not the default of its releases before 3.16.1.
LOGIN_PASSWORD = {
    "named_by": "mlflow_login_password_secret",
    "minimum_length": 12,
    "rejected_values": ["password1234"],
}


OAUTH_CLIENT = ("mlflow_oauth_client_id_secret", "mlflow_oauth_client_secret_secret")


def _read_by_server(context: Context) -> Iterator[tuple[str, str]]:
    """Yield (variable, full name of a version) of the secrets that the server reads."""
    for name, version in user_secret_env(context[SECRET_ENV], context.project).items():
        yield f"{SECRET_ENV}.{name}", version
    if context.uses("secrets"):
        names = context.names
        used = {"mlflow_database_password_secret": names.password_secret}
        if context.login:
            used["mlflow_login_username_secret"] = names.login_username_secret
            used["mlflow_login_password_secret"] = names.login_password_secret
            used["mlflow_login_key_secret"] = names.login_key_secret
        variables = {GATEWAY_KEY: "mlflow_gateway_key_secret", WEBHOOK_KEY: "mlflow_webhook_key_secret"}
        used |= {variables[name]: secret_id for name, secret_id in encryption_keys(context).items()}
        for variable, secret_id in used.items():
            yield variable, f"{names.secret(secret_id)}/versions/{LATEST}"


def login_password(context: Context, secret_id: str) -> dict[str, Any]:
    """Return the requirements on the value of a secret: none unless it is the password of the login of our image."""
    ours = context.login and context.builds and not context["mlflow_image_context"]
    return dict(LOGIN_PASSWORD) if ours and secret_id == context.names.login_password_secret else {}


def _read_by_deployer(context: Context) -> Iterator[tuple[str, str]]:
    if context.iap and context.custom_client:
        for variable in OAUTH_CLIENT:
            if context[variable]:
                yield variable, context[variable]
    for user in context["cloudsql_users"]:
        if user.get("password_secret"):
            yield f"cloudsql_users ({user['name']})", user["password_secret"]


def _own_secret(context: Context, name: str) -> str:
    """Return the id of a secret of the project; empty for one of another project."""
    _projects, project, _secrets, secret_id = name.split("/")[:4]
    return secret_id if project in (context.project, context.number) else ""


def read_secrets(context: Context) -> list[str]:
    """Return the ids of the project's secrets that the variables refer to and that the server reads."""
    found = (_own_secret(context, name) for _variable, name in _read_by_server(context))
    return list(dict.fromkeys(secret_id for secret_id in found if secret_id))


def secrets(context: Context, created: Collection[str]) -> list[dict[str, Any]]:
    """Return the versions that must exist, as ``preflight_info`` takes them.

    :param created: ids of the secrets that the deployment itself creates.
    """
    variables: dict[str, list[str]] = {}
    server = context.names.member(context.names.server_account)
    by_server = [*_read_by_server(context)]
    for variable, name in (*by_server, *_read_by_deployer(context)):
        version = name if "/versions/" in name else f"{name}/versions/{LATEST}"
        own = _own_secret(context, version)
        if not own or own not in created:
            variables.setdefault(version, []).append(variable)
    # The deployment grants access to the secrets of its own project.
    others = {version for _variable, version in by_server if not _own_secret(context, version)}
    return [
        _item("secret_version", version, ", ".join(names), [server] if version in others else [])
        | login_password(context, _own_secret(context, version))
        | ({"one_word": True} if not set(OAUTH_CLIENT).isdisjoint(names) else {})
        for version, names in variables.items()
    ]


def repository(context: Context) -> str:
    """Return the full name of the repository of a custom image; empty for one of another registry."""
    found = _ARTIFACT_REGISTRY.fullmatch(context["mlflow_image"])
    if not found:
        return ""
    project = _project_id.of_image(found["project"])
    return (
        f"//artifactregistry.googleapis.com/projects/{project}/locations/{found['location']}"
        f"/repositories/{found['repository']}"
    )


def image(context: Context, pullers: Iterable[str]) -> list[dict[str, Any]]:
    """Return a custom image of Artifact Registry. Other registries have no API for it.

    :param pullers: members besides Cloud Run's service agent that pull images.
    """
    reference = context["mlflow_image"]
    found = _ARTIFACT_REGISTRY.fullmatch(reference)
    if not found:
        return []
    other = _project_id.of_image(found["project"]) != context.project
    readers = [*([RUN_AGENT] if other else []), *pullers]
    return [_item("docker_image" if "@" in reference else "image_tag", reference, "mlflow_image", readers)]


def _item(kind: str, name: str, variable: str, readers: list[str]) -> dict[str, Any]:
    return {"type": kind, "name": name, "location": "", "referenced_by": variable, "readers": readers}
