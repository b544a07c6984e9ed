# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All roles that a deployment grants, by the resource with the policy: what ``verify`` compares with the policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import data, keys
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.access import DEPLOYER, Account
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import MANAGED
from ansible_collections.mlplatform.gcp.plugins.module_utils._iap import ACCESSOR

Grant = dict[str, Any]
_PROJECTS = "//cloudresourcemanager.googleapis.com/projects"
_TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"


def grant(resource: str, bindings: Iterable[data.Binding], *, exact: bool = False, above: Iterable[str] = ()) -> Grant:
    """Return the bindings of one resource.

    :param resource: its full name.
    :param exact: whether no other principal may have these roles.
    :param above: full names of resources above it, with policies that may grant the roles instead.
    """
    found: Grant = {"resource": resource, "exact": exact, "bindings": list(bindings)}
    return found | {"above": list(above)} if above else found


def iap_grant(resource: str, members: list[str]) -> Grant:
    """Return the members with access through Identity-Aware Proxy; ``resource`` is its name there."""
    return grant(f"//iap.googleapis.com/{resource}", [{"role": ACCESSOR, "members": members}], exact=True)


def _bucket(name: str) -> str:
    return f"//storage.googleapis.com/projects/_/buckets/{name}"


def grants(
    context: Context,
    *,
    bucket: data.Bucket,
    database: data.Database,
    secrets: data.Secrets,
    image: data.Image,
    client: Account,
    encryption: list[keys.Part],
    more: Iterable[Grant],
) -> list[Grant]:
    """Return the roles that a deployment grants; ``more`` are those of its target."""
    names = context.names
    project = f"{_PROJECTS}/{names.project}"
    found = [grant(project, [_client_of_database(context, database)]), grant(_bucket(names.bucket), bucket.bindings)]
    for entry in secrets.entries if secrets.managed else ():
        if entry.get("bindings"):
            found.append(grant(f"//secretmanager.googleapis.com/{names.secret(entry['name'])}", entry["bindings"]))
    found += [grant(resource, secrets.readers) for resource in secrets.referenced]
    if client.managed and client.impersonators is not None:
        found.append(_impersonation(context, client))
    if image.builds and image.engine == "cloud_build":
        found.append(grant(image.repository_resource, image.writers))
        builder = names.member(names.build_account)
        found.append(grant(_bucket(names.build_bucket), [{"role": "roles/storage.admin", "members": [builder]}]))
    for key, agents in keys.rights(context, encryption):
        ring, project = f"//{keys.API}/{key.rpartition('/cryptoKeys/')[0]}", f"{_PROJECTS}/{key.split('/')[1]}"
        found.append(grant(f"//{keys.API}/{key}", [{"role": keys.ROLE, "members": agents}], above=[ring, project]))
    return [*found, *(grant(item["resource"], item["bindings"]) for item in image.read_by), *more]


def _client_of_database(context: Context, database: data.Database) -> data.Binding:
    binding: data.Binding = {"role": "roles/cloudsql.client", "members": database.clients}
    if not database.clients_condition:
        return binding
    instance = f"projects/{context.project}/instances/{database.instance}"
    return binding | {
        "condition": {
            "title": database.instance,
            "description": "Only the Cloud SQL instance of this deployment",
            "expression": f"resource.name == '{instance}' && resource.service == 'sqladmin.googleapis.com'",
        }
    }


def _impersonation(context: Context, client: Account) -> Grant:
    """Return the members that may act as the client account.

    Where the variable has ``deployer``, another user may have deployed. The right of the user that verifies is proved
    by its use.
    """
    by_name = DEPLOYER not in context["mlflow_impersonators"]
    members = [item for item in client.impersonators or [] if by_name or item != context.existing.caller]
    return grant(
        f"//iam.googleapis.com/projects/{context.project}/serviceAccounts/{client.email}",
        [{"role": _TOKEN_CREATOR, "members": members}],
        exact=by_name and context.relation("client_account") == MANAGED,
    )
