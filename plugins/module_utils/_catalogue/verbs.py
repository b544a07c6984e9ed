# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods that modules call beyond those of resources, by their id in Google's discovery documents.

A test compares each path and HTTP method with the discovery documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import (
    accounts,
    appengine,
    project,
    run,
    secretmanager,
    sql,
    storage,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running


@dataclass(frozen=True)
class Verb:
    """One method of an API.

    base        address of the API's version
    path        of the method below ``base``. ``{name}`` stands for a name, ``{+name}`` for a name that has slashes
    permission  IAM permission that it needs, which may have such names too
    method      HTTP method
    repeatable  whether a POST may be sent twice, because it sets something; other HTTP methods may
    operation   kind of long-running operation that it answers with; None when it answers with the result
    items       field of the answer that holds a list's elements
    locks       whether it takes the deployment's lock: not if a run that changes nothing sends it
    """

    base: str
    path: str
    permission: str
    method: str = "POST"
    repeatable: bool = False
    operation: Any = None
    items: str = ""
    locks: bool = True


_IAP = "https://iap.googleapis.com/v1"
_BUILD = "https://cloudbuild.googleapis.com/v1"
_CREDENTIALS = "https://iamcredentials.googleapis.com/v1"
_SIGNER = "projects/-/serviceAccounts/{account}"
_USAGE_BETA = f"{project.USAGE}/v1beta1"
_BUILDS = "projects/{project}/locations/{location}/builds"
_SECRET = "projects/{project}/secrets/{secret}"
_VERSION = _SECRET + "/versions/{version}"
_USERS = "projects/{project}/instances/{instance}/users"
_OBJECTS = "b/{bucket}/o"

VERBS = {
    "appengine.apps.services.versions.instances.list": Verb(
        appengine.BASE,
        "apps/{project}/services/{service}/versions/{name}/instances",
        "appengine.instances.list",
        method="GET",
        items="instances",
    ),
    "cloudbuild.projects.locations.builds.create": Verb(_BUILD, _BUILDS, "cloudbuild.builds.create"),
    "cloudbuild.projects.locations.builds.get": Verb(
        _BUILD, _BUILDS + "/{build}", "cloudbuild.builds.get", method="GET"
    ),
    "cloudbuild.projects.locations.builds.list": Verb(
        _BUILD, _BUILDS, "cloudbuild.builds.list", method="GET", items="builds"
    ),
    "iam.projects.serviceAccounts.disable": Verb(
        accounts.ACCOUNT.base, accounts.ACCOUNT.path + ":disable", "iam.serviceAccounts.disable", repeatable=True
    ),
    "iam.projects.serviceAccounts.enable": Verb(
        accounts.ACCOUNT.base, accounts.ACCOUNT.path + ":enable", "iam.serviceAccounts.enable", repeatable=True
    ),
    # Both make something new and leave no trace of it, so they may be sent twice.
    "iamcredentials.projects.serviceAccounts.generateIdToken": Verb(
        _CREDENTIALS, _SIGNER + ":generateIdToken", "iam.serviceAccounts.getOpenIdToken", repeatable=True
    ),
    "iamcredentials.projects.serviceAccounts.signJwt": Verb(
        _CREDENTIALS, _SIGNER + ":signJwt", "iam.serviceAccounts.signJwt", repeatable=True
    ),
    # ``permissions`` is what _iap.permissions returns for the resource.
    "iap.getIapSettings": Verb(_IAP, "{+resource}:iapSettings", "{permissions}.getSettings", method="GET"),
    "iap.updateIapSettings": Verb(_IAP, "{+resource}:iapSettings", "{permissions}.updateSettings", method="PATCH"),
    "logging.entries.list": Verb(
        "https://logging.googleapis.com/v2", "entries:list", "logging.logEntries.list", repeatable=True
    ),
    "run.projects.locations.jobs.executions.get": Verb(
        run.BASE, run.JOB.path + "/executions/{execution}", "run.executions.get", method="GET"
    ),
    "run.projects.locations.jobs.run": Verb(run.BASE, run.JOB.path + ":run", "run.jobs.run", operation=run.OPERATION),
    "secretmanager.projects.secrets.addVersion": Verb(
        secretmanager.BASE, _SECRET + ":addVersion", "secretmanager.versions.add"
    ),
    "secretmanager.projects.secrets.versions.access": Verb(
        secretmanager.BASE, _VERSION + ":access", "secretmanager.versions.access", method="GET"
    ),
    "secretmanager.projects.secrets.versions.destroy": Verb(
        secretmanager.BASE, _VERSION + ":destroy", "secretmanager.versions.destroy", repeatable=True
    ),
    "secretmanager.projects.secrets.versions.disable": Verb(
        secretmanager.BASE, _VERSION + ":disable", "secretmanager.versions.disable", repeatable=True
    ),
    "secretmanager.projects.secrets.versions.get": Verb(
        secretmanager.BASE, _VERSION, "secretmanager.versions.get", method="GET"
    ),
    "secretmanager.projects.secrets.versions.list": Verb(
        secretmanager.BASE, _SECRET + "/versions", "secretmanager.versions.list", method="GET", items="versions"
    ),
    "serviceusage.services.batchEnable": Verb(
        project.API.base,
        "projects/{project}/services:batchEnable",
        "serviceusage.services.enable",
        repeatable=True,
        operation=project.API.operation,
    ),
    "serviceusage.services.disable": Verb(
        project.API.base,
        project.API.path + ":disable",
        "serviceusage.services.disable",
        repeatable=True,
        operation=project.API.operation,
    ),
    "serviceusage.services.generateServiceIdentity": Verb(
        _USAGE_BETA,
        project.API.path + ":generateServiceIdentity",
        "serviceusage.services.enable",
        repeatable=True,
        operation=long_running(_USAGE_BETA),
        locks=False,
    ),
    "serviceusage.services.list": Verb(
        project.API.base,
        "projects/{project}/services",
        "serviceusage.services.list",
        method="GET",
        items="services",
    ),
    "sql.operations.list": Verb(
        sql.BASE, "projects/{project}/operations", "cloudsql.instances.get", method="GET", items="items"
    ),
    # A user is changed and deleted by the address of all users, with the name as a query.
    "sql.users.delete": Verb(sql.BASE, _USERS, "cloudsql.users.delete", method="DELETE", operation=sql.OPERATION),
    "sql.users.update": Verb(sql.BASE, _USERS, "cloudsql.users.update", method="PUT", operation=sql.OPERATION),
    "storage.projects.serviceAccount.get": Verb(
        storage.BASE, "projects/{project}/serviceAccount", "resourcemanager.projects.get", method="GET"
    ),
    "storage.objects.delete": Verb(storage.BASE, _OBJECTS + "/{object}", "storage.objects.delete", method="DELETE"),
    "storage.objects.get": Verb(storage.BASE, _OBJECTS + "/{object}", "storage.objects.get", method="GET"),
    "storage.objects.list": Verb(storage.BASE, _OBJECTS, "storage.objects.list", method="GET", items="items"),
    "storage.objects.patch": Verb(storage.BASE, _OBJECTS + "/{object}", "storage.objects.update", method="PATCH"),
}
