# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``destroy`` removes, what it keeps, and the access that it revokes.

Only resources with the mark of the deployment are removed. Data (database, bucket, secrets) are kept unless
``mlflow_destroy_data`` says otherwise; the deployment's accounts lose their access to what is kept, because a deleted
account in a policy prevents the next account of that name from getting the role.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import data, keys, references
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import requirements as _requirements
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import ANYWHERE
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets.base import Target

_OPTIONAL_SERVICES = ("artifactregistry.googleapis.com", "iap.googleapis.com")


@dataclass(frozen=True)
class Removal:
    """The steps of a removal: whether each is needed.

    clients                 revoke the server's right to connect to the database
    bucket_access           make the roles on the bucket what remains without the deployment
    foreign_bucket_access   revoke the roles of the deployment's accounts on a bucket that others created
    secret_access           ids of secrets that the server may no longer read
    secrets                 secrets that are deleted
    repository_access       roles that are revoked on repositories that stay, as (resource, bindings)
    image                   whether there is a repository, a bucket or an account of builds to delete
    report                  lines for the end
    """

    data: bool
    job: bool
    clients: bool
    database: bool
    bucket: bool
    bucket_access: bool
    foreign_bucket_access: bool
    secret_access: list[str]
    secrets: list[dict[str, str]]
    image: bool
    repository_access: list[dict[str, Any]]
    accounts: list[dict[str, str]]
    iap_enabled: bool
    report: list[str]

    @property
    def deletes(self) -> bool:
        """Whether a resource is deleted, besides those of the target."""
        return any((self.job, self.database, self.bucket, self.secrets, self.image, self.accounts))


def services(context: Context, target: Target) -> list[str]:
    """Return the APIs that may have resources of a deployment, whatever it was deployed with."""
    return list(dict.fromkeys([*_requirements.services(context, target), *_OPTIONAL_SERVICES]))


def requirements(context: Context, target: Target) -> _requirements.Requirements:
    """Return what a removal needs."""
    action = "destroy_data" if context["mlflow_destroy_data"] else "destroy"
    return _requirements.Requirements(
        services=[],  # none is enabled for a removal
        other_services=services(context, target),
        permissions=_requirements.permissions(action, context, target),
        resources=resources(context, target),
        principals=[],
        organization=False,
    )


def resources(context: Context, target: Target) -> list[dict[str, Any]]:
    """Return all resources that a deployment can have, whatever it was deployed with, data last."""
    names, region = context.names, context.region

    def item(kind: str, name: str, location: str = region) -> dict[str, Any]:
        return {"type": kind, "name": name, "location": location, "adopt": True}

    return [
        *(dict(resource, adopt=True) for resource in target.resources(context)),
        item("cloud_run_job", names.migration_job),
        item("sql_instance", names.instance, context.database_region),
        item("storage_bucket", names.bucket, ANYWHERE),
        item("storage_bucket", names.build_bucket, ANYWHERE),
        item("artifact_repository", names.repository, context.image_location),
        *(item("secret", name) for name in _secret_names(context)),
        *(item("service_account", name) for name in (names.server_account, names.client_account, names.build_account)),
    ]


def _secret_names(context: Context) -> list[str]:
    """Return the ids of all secrets to which a deployment's account may have access, its own first."""
    names = [*_requirements.secret_names(context, all_of_them=True), *references.read_secrets(context)]
    return list(dict.fromkeys(names))


def removal(context: Context, image: data.Image, more: Iterable[tuple[str, str]] = ()) -> Removal:
    """Return the steps of a removal; ``more`` are the (type, name) of a target's own resources."""
    names, existing, with_data = context.names, context.existing, context["mlflow_destroy_data"]
    secrets = _requirements.secret_names(context, all_of_them=True)
    used = _used(context, secrets)

    def own(kind: str, name: str) -> bool:
        return existing.owned(kind, name) and (kind, name) not in used

    own_secrets = [name for name in secrets if own("secret", name)]
    adopted_secrets = [name for name in secrets if context.adopted("secrets", "secret", name)]
    referenced = [name for name in references.read_secrets(context) if existing.foreign("secret", name)]
    server, client = own("service_account", names.server_account), own("service_account", names.client_account)
    database, bucket = own("sql_instance", names.instance), own("storage_bucket", names.bucket)
    builds = [
        ("artifact_repository", names.repository),
        ("storage_bucket", names.build_bucket),
        ("service_account", names.build_account),
    ]
    own_builds = [item for item in builds if own(*item)]
    stays = context.adopted("image_repository", "artifact_repository", names.repository) and bool(own_builds)

    data_names = [f"sql_instance/{names.instance}", f"storage_bucket/{names.bucket}"]
    data_names += [f"secret/{name}" for name in secrets]
    items = [*more, ("cloud_run_job", names.migration_job), ("sql_instance", names.instance)]
    items += [("storage_bucket", names.bucket), *builds, *(("secret", name) for name in secrets)]
    items += [("service_account", names.server_account), ("service_account", names.client_account)]
    owned = [f"{kind}/{name}" for kind, name in dict.fromkeys(items) if own(kind, name)]
    others = [
        f"{kind}/{name}" for kind, name in dict.fromkeys(items) if existing.resource(kind, name) and not own(kind, name)
    ]
    kept = [] if with_data else [name for name in owned if name in data_names]
    removed = [name for name in owned if name not in kept]
    return Removal(
        data=with_data,
        job=existing.owned("cloud_run_job", names.migration_job),
        clients=database or (context.adopted("database", "sql_instance", names.instance) and server),
        database=database and with_data,
        bucket=bucket and with_data,
        bucket_access=bucket and not with_data,
        foreign_bucket_access=context.adopted("bucket", "storage_bucket", names.bucket) and (server or client),
        secret_access=([] if with_data else own_secrets)
        + (list(dict.fromkeys([*adopted_secrets, *referenced])) if server else []),
        secrets=[{"name": name} for name in own_secrets] if with_data else [],
        image=bool(own_builds),
        repository_access=[
            item for item in image.own_bindings if (stays if item["resource"] == image.repository_resource else server)
        ],
        accounts=[
            {"account_id": name}
            for name, own in ((names.server_account, server), (names.client_account, client))
            if own
        ],
        iap_enabled="iap.googleapis.com" in existing.enabled,
        report=[
            f"Removed: {', '.join(sorted(removed)) or 'nothing'}",
            f"Kept: {', '.join(sorted(kept)) or 'no data'}",
            "Left alone, because they lack this deployment's labels or are only used:"
            f" {', '.join(others) or 'nothing'}",
            *_left_in_instance(context),
            *keys.kept(context),
            "APIs that were enabled stay enabled, because other parts of the project may use them.",
        ],
    )


def _used(context: Context, secrets: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (type, name) of what is only used. It stays even where it has the labels of the deployment."""
    names = context.names
    parts = {
        "database": [("sql_instance", names.instance)],
        "bucket": [("storage_bucket", names.bucket)],
        "image_repository": [("artifact_repository", names.repository)],
        "secrets": [("secret", name) for name in secrets],
        "server_account": [("service_account", names.server_account)],
        "client_account": [("service_account", names.client_account)],
    }
    return {item for part, items in parts.items() if context.uses(part) for item in items}


def _left_in_instance(context: Context) -> list[str]:
    """Return a line about the database and the user in an instance that is only used: they have no labels."""
    names, host = context.names, " --host=%" if context.mysql else ""
    if not (context.uses("database") and context.adopted("database", "sql_instance", names.instance)):
        return []
    return [
        f"Left in sql_instance/{names.instance}, because databases and users have no labels: the database"
        f" {names.database} and the user {names.user}. If the deployment created them, delete them with"
        f" gcloud sql databases delete {names.database} --instance {names.instance} and then"
        f" gcloud sql users delete {names.user} --instance {names.instance}{host}."
    ]


def problems(context: Context) -> list[Problem]:
    """Return what prevents a removal: data are removed only if the deployer names the deployment."""
    name = context["mlflow_name"]
    if not context["mlflow_destroy_data"] or context["mlflow_destroy_confirm"] == name:
        return []
    return [
        Problem(
            "mlflow_destroy_confirm",
            f"mlflow_destroy_data=true removes the database {context.names.instance} and the bucket"
            f" {context.names.bucket} with everything in them, and mlflow_destroy_confirm is not {name}.",
            f"If that is what you want, set mlflow_destroy_confirm={name} as well.",
        )
    ]
