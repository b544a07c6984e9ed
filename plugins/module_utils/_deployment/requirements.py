# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requirements of a deployment in the project: APIs, permissions, and the resources that preflight reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import keys, network, references, server
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import permissions as _permissions
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.data import Image
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import ANYWHERE, MANAGED
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets.base import Target

_CORE_SERVICES = (
    "serviceusage.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
    "sqladmin.googleapis.com",
    "run.googleapis.com",  # the migration is a Cloud Run job on every target
)
_BUILD_SERVICES = ("artifactregistry.googleapis.com", "cloudbuild.googleapis.com")
_IAP_SERVICE = "iap.googleapis.com"
_SERVICE_ACCOUNT = "serviceAccount:"


@dataclass(frozen=True)
class Requirements:
    """Options for ``preflight_info``.

    services        APIs that are enabled where they are not
    other_services  APIs of which only matters whether they are enabled
    permissions     permissions of the deployer on the project
    resources       resources that may exist, as ``preflight_info`` takes them
    principals      members that get roles
    organization    whether the project must belong to an organization
    """

    services: list[str]
    other_services: list[str]
    permissions: list[str]
    resources: list[dict[str, Any]]
    principals: list[str]
    organization: bool


def encrypted(context: Context, target: Target) -> list[keys.Part]:
    """Return the parts that a key encrypts."""
    return keys.parts(context, target.kms_key, context.secret_locations(secret_names(context, all_of_them=False)))


def services(context: Context, target: Target) -> list[str]:
    """Return the APIs that a deployment needs."""
    found = [*_CORE_SERVICES]
    found += _BUILD_SERVICES if context.builds else ()
    found += (_IAP_SERVICE,) if context.iap else ()
    found += network.services(context)
    own = (key.split("/")[1] == context.project for item in encrypted(context, target) for _name, key in item.keys)
    found += (keys.API,) if any(own) else ()
    return list(dict.fromkeys([*found, target.api, *target.services]))


def _wanted_location(context: Context) -> str:
    """Return where the bucket must be: anywhere, unless a variable says so."""
    return context["bucket_location"] or context["mlflow_bucket_location"] or ANYWHERE


def resources(context: Context, target: Target, retired: Iterable[Target], image: Image) -> list[dict[str, Any]]:
    """Return the resources to check for existence and owner before a deployment.

    ``read`` names additional data that later tasks need: preflight reads all of it concurrently.
    """
    names, region = context.names, context.region

    def item(kind: str, name: str, part: str = "", *read: str, location: str = region, **more: Any) -> dict[str, Any]:
        adopt = context.relation(part) != MANAGED if part else context["mlflow_adopt"]
        return {"type": kind, "name": name, "location": location, "adopt": adopt, "read": list(read), **more}

    password, login = names.password_secret, [names.login_password_secret, names.login_key_secret]
    encryption = server.encryption_keys(context).values()
    found = [
        item("project", names.project, "", "policy"),
        item("storage_bucket", names.bucket, "bucket", "policy", location=_wanted_location(context), restorable=True),
        item("sql_instance", names.instance, "database", location=context.database_region),
        item("sql_database", f"{names.instance}/{names.database}", "database"),
        item("sql_user", f"{names.instance}/{names.user}", "database", host="%" if context.mysql else ""),
        item("cloud_run_job", names.migration_job, "", "latest_execution"),
        item("service_account", names.server_account, "server_account"),
        item("service_account", names.client_account, "client_account", "policy"),
    ]
    for name in secret_names(context, all_of_them=False):
        reads = {password: ("policy", "latest_version"), names.login_username_secret: ("policy",)}
        reads |= dict.fromkeys([*login, *encryption], ("policy", "latest_version"))
        value = {} if context.uses("secrets") else references.login_password(context, name)
        found.append(item("secret", name, "secrets", *reads.get(name, ()), **value))
    if context.builds:
        found.append(
            item("artifact_repository", names.repository, "image_repository", "policy", location=image.location)
        )
        found.append(item("image_tag", image.reference, location=image.location))
        if context["mlflow_image_engine"] == "cloud_build":
            found.append(item("storage_bucket", names.build_bucket, "", "policy", location=ANYWHERE))
            found.append(item("service_account", names.build_account))
    found += [dict(resource, adopt=context["mlflow_adopt"]) for resource in target.resources(context)]
    for other in retired:
        found += [dict(resource, adopt=True) for resource in other.resources(context)]
    return found + _references(context, target)


def _references(context: Context, target: Target) -> list[dict[str, Any]]:
    """Return what the variables refer to, which must exist, and the flags of the database where some are set."""
    created = [] if context.uses("secrets") else secret_names(context, all_of_them=False)
    found = references.secrets(context, created) + references.image(context, target.pullers(context))
    found += keys.resources(encrypted(context, target))
    if context["cloudsql_flags"] and not context.uses("database"):
        found.append({"type": "sql_flags", "name": context.database_version, "referenced_by": "cloudsql_flags"})
    found += network.resources(context, [network.RUN_AGENT, *target.agents])
    return [{"location": "", "adopt": True, "read": []} | item for item in found]


def secret_names(context: Context, *, all_of_them: bool) -> list[str]:
    """Return the ids of the secrets of the database and, if MLflow has its own login or ``all`` is set, of MLflow."""
    names = context.names
    found = [names.username_secret, names.password_secret, names.url_secret, names.artifact_url_secret]
    if context.login or all_of_them:
        found += [names.login_username_secret, names.login_password_secret, names.login_key_secret]
    if all_of_them:
        found += [names.gateway_key_secret, names.webhook_key_secret]
    found += server.encryption_keys(context).values()
    return list(dict.fromkeys(found))


def permissions(action: str, context: Context, target: Target, retired: Iterable[Target] = ()) -> list[str]:
    """Return the permissions on the project that an action needs; ``retired`` are the targets that it may retire."""
    found = _permissions.needed(
        action,
        target.permissions,
        builds=context.builds,
        engine=context["mlflow_image_engine"],
        iap=context.iap,
        login=context.login,
        custom_client=context.custom_client,
        agents=bool(encrypted(context, target)),
        enables=bool(context.existing.disabled),
        retires=[other.permissions for other in retired if other.api in context.existing.enabled],
        database=context["mlflow_database"],
        migration=context["mlflow_migration"],
        secrets=context["mlflow_secrets"],
        artifacts=context["mlflow_artifact_store"],
        network=network.own(context),
    )
    return list(found)


def reading(context: Context, target: Target) -> Requirements:
    """Return what a playbook needs that only reads the server, such as the verification."""
    return Requirements(
        services=[],
        other_services=services(context, target),
        permissions=permissions("verify", context, target),
        resources=[dict(resource, adopt=True, read=[]) for resource in target.resources(context)]
        # Whether the server has keys of its own.
        + [{"type": "secret", "name": context.names.gateway_key_secret, "location": "", "adopt": True, "read": []}]
        + [{"adopt": True, "read": []} | item for item in references.image(context, target.pullers(context))],
        principals=[],
        organization=False,
    )


def requirements(context: Context, target: Target, others: Iterable[Target], image: Image) -> Requirements:
    """Return what a deployment needs; ``others`` are the targets with a server to retire."""
    others = list(others)
    members = [*context["mlflow_access_members"], *context["mlflow_bucket_readers"]]
    return Requirements(
        services=services(context, target),
        other_services=[other.api for other in others],
        permissions=permissions("deploy", context, target, others),
        resources=resources(context, target, others, image),
        principals=list(dict.fromkeys(item for item in members if item.startswith(_SERVICE_ACCOUNT))),
        organization=context.iap and not context.custom_client,
    )
