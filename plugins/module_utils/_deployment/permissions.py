# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The permissions that the deployer needs on the project, for each action and target.

One table per service and one per target. A row is a permission and the method that needs it, by its id in Google's
discovery documents. A new target defines a :class:`Table` of its own, in its file in ``targets``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ACTIONS = ("deploy", "verify", "destroy", "destroy_data")
Rows = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Permission -> method, for each action.

    deploy        create the resources and update them
    verify        read what verification needs
    destroy       remove the resources that hold no data, and the deployment's access to the others
    destroy_data  remove the resources that hold data; added to ``destroy``
    retire        remove the server after a deployment has changed its target; added to the other target's ``deploy``
    client        use an OAuth client from secrets for Identity-Aware Proxy; added to ``deploy``
    """

    deploy: Rows = field(default_factory=dict)
    verify: Rows = field(default_factory=dict)
    destroy: Rows = field(default_factory=dict)
    destroy_data: Rows = field(default_factory=dict)
    retire: Rows = field(default_factory=dict)
    client: Rows = field(default_factory=dict)

    def rows(self, action: str) -> Rows:
        """Return the rows of an action: those of ``destroy_data`` include ``destroy``."""
        if action == "destroy_data":
            return {**self.destroy, **self.destroy_data}
        return getattr(self, action)


_READ_PROJECT = {
    "resourcemanager.projects.get": "cloudresourcemanager.projects.get",
    "serviceusage.services.get": "serviceusage.services.batchGet",
}
_PROJECT_POLICY = {
    "resourcemanager.projects.getIamPolicy": "cloudresourcemanager.projects.getIamPolicy",
    "resourcemanager.projects.setIamPolicy": "cloudresourcemanager.projects.setIamPolicy",
}
PROJECT = Table(deploy=_READ_PROJECT, verify=_READ_PROJECT, destroy=_READ_PROJECT)
#: Needed only while an API is disabled.
ENABLE_APIS = Table(
    deploy={
        "serviceusage.services.enable": "serviceusage.services.batchEnable",
        "serviceusage.services.list": "serviceusage.services.list",
        "serviceusage.operations.get": "serviceusage.operations.get",
    }
)
#: On the quota project, which requests are charged to (https://cloud.google.com/docs/quotas/set-quota-project).
USE_QUOTA_PROJECT: Rows = {"serviceusage.services.use": ""}

SERVICE_ACCOUNTS = Table(
    deploy={
        "iam.serviceAccounts.create": "iam.projects.serviceAccounts.create",
        "iam.serviceAccounts.get": "iam.projects.serviceAccounts.get",
        "iam.serviceAccounts.update": "iam.projects.serviceAccounts.patch",
        "iam.serviceAccounts.actAs": "",  # to run jobs, services, versions and builds as the account
        "iam.serviceAccounts.getIamPolicy": "iam.projects.serviceAccounts.getIamPolicy",
        "iam.serviceAccounts.setIamPolicy": "iam.projects.serviceAccounts.setIamPolicy",
    },
    verify={"iam.serviceAccounts.getIamPolicy": "iam.projects.serviceAccounts.getIamPolicy"},
    destroy={
        "iam.serviceAccounts.get": "iam.projects.serviceAccounts.get",
        "iam.serviceAccounts.delete": "iam.projects.serviceAccounts.delete",
    },
)

# The policy of the project has a condition for the instance, because an instance has no policy of its own.
CLOUD_SQL = Table(
    deploy={
        **_PROJECT_POLICY,
        "cloudsql.instances.create": "sql.instances.insert",
        "cloudsql.instances.get": "sql.instances.get",
        "cloudsql.instances.update": "sql.instances.patch",
        "cloudsql.databases.create": "sql.databases.insert",
        "cloudsql.databases.get": "sql.databases.get",
        "cloudsql.users.create": "sql.users.insert",
        "cloudsql.users.get": "sql.users.get",
        "cloudsql.users.update": "sql.users.update",
    },
    verify={"resourcemanager.projects.getIamPolicy": "cloudresourcemanager.projects.getIamPolicy"},
    destroy={**_PROJECT_POLICY, "cloudsql.instances.get": "sql.instances.get"},
    destroy_data={
        "cloudsql.instances.update": "sql.instances.patch",  # deletion protection is switched off
        "cloudsql.instances.delete": "sql.instances.delete",
    },
)

_BUCKET_POLICY = {
    "storage.buckets.get": "storage.buckets.get",
    "storage.buckets.getIamPolicy": "storage.buckets.getIamPolicy",
    "storage.buckets.setIamPolicy": "storage.buckets.setIamPolicy",
}
_DELETE_BUCKET = {
    "storage.buckets.get": "storage.buckets.get",
    "storage.buckets.delete": "storage.buckets.delete",
    "storage.objects.list": "storage.objects.list",
    "storage.objects.delete": "storage.objects.delete",
}
_BUCKET = {
    "storage.buckets.create": "storage.buckets.insert",
    "storage.buckets.update": "storage.buckets.patch",
    **_BUCKET_POLICY,
}
_READ_BUCKET_POLICY = {"storage.buckets.getIamPolicy": "storage.buckets.getIamPolicy"}
BUCKET = Table(deploy=_BUCKET, verify=_READ_BUCKET_POLICY, destroy=_BUCKET_POLICY, destroy_data=_DELETE_BUCKET)

_SECRET_POLICY = {
    "secretmanager.secrets.get": "secretmanager.projects.secrets.get",
    "secretmanager.secrets.getIamPolicy": "secretmanager.projects.secrets.getIamPolicy",
    "secretmanager.secrets.setIamPolicy": "secretmanager.projects.secrets.setIamPolicy",
}
READ_SECRET: Rows = {"secretmanager.versions.access": "secretmanager.projects.secrets.versions.access"}
SECRETS = Table(
    deploy={
        **_SECRET_POLICY,
        **READ_SECRET,
        "secretmanager.secrets.create": "secretmanager.projects.secrets.create",
        "secretmanager.secrets.update": "secretmanager.projects.secrets.patch",
        "secretmanager.versions.add": "secretmanager.projects.secrets.addVersion",
        "secretmanager.versions.get": "secretmanager.projects.secrets.versions.get",
    },
    verify={
        "secretmanager.secrets.get": "secretmanager.projects.secrets.get",
        "secretmanager.secrets.getIamPolicy": "secretmanager.projects.secrets.getIamPolicy",
    },
    destroy=_SECRET_POLICY,
    destroy_data={"secretmanager.secrets.delete": "secretmanager.projects.secrets.delete"},
)

_REGISTRY_POLICY = {
    "artifactregistry.repositories.get": "artifactregistry.projects.locations.repositories.get",
    "artifactregistry.repositories.getIamPolicy": "artifactregistry.projects.locations.repositories.getIamPolicy",
    "artifactregistry.repositories.setIamPolicy": "artifactregistry.projects.locations.repositories.setIamPolicy",
}
IMAGE = Table(
    deploy={
        **_REGISTRY_POLICY,
        "artifactregistry.repositories.create": "artifactregistry.projects.locations.repositories.create",
        "artifactregistry.repositories.update": "artifactregistry.projects.locations.repositories.patch",
        # https://cloud.google.com/run/docs/deploying#permissions_required_to_deploy
        "artifactregistry.repositories.downloadArtifacts": "",
        "artifactregistry.tags.get": "artifactregistry.projects.locations.repositories.packages.tags.get",
    },
    verify={
        "artifactregistry.repositories.getIamPolicy": "artifactregistry.projects.locations.repositories.getIamPolicy"
    },
    destroy={
        **_REGISTRY_POLICY,
        "artifactregistry.repositories.delete": "artifactregistry.projects.locations.repositories.delete",
        **_DELETE_BUCKET,  # the source and the logs of builds
    },
)
#: On the repository of a custom image. Preflight does not test them on the project: a deployer without them gets a
#: warning.
CUSTOM_IMAGE = Table(
    deploy={
        "artifactregistry.repositories.downloadArtifacts": "",
        **_REGISTRY_POLICY,
        "artifactregistry.tags.get": "artifactregistry.projects.locations.repositories.packages.tags.get",
        "artifactregistry.versions.get": "artifactregistry.projects.locations.repositories.packages.versions.get",
    }
)
#: The agents of services that use a key. Cloud Storage has a method of its own for its agent.
KEY_AGENTS = Table(
    deploy={
        "serviceusage.services.enable": "serviceusage.services.generateServiceIdentity",
        "serviceusage.operations.get": "serviceusage.operations.get",
    }
)
#: On the keys, which may be in another project. Preflight does not test them on the project of the deployment: without
#: them a deployer gets a warning with the commands for the owner of the keys.
KEYS = Table(
    deploy={
        "cloudkms.cryptoKeys.get": "cloudkms.projects.locations.keyRings.cryptoKeys.get",
        "cloudkms.cryptoKeys.getIamPolicy": "cloudkms.projects.locations.keyRings.cryptoKeys.getIamPolicy",
        "cloudkms.cryptoKeys.setIamPolicy": "cloudkms.projects.locations.keyRings.cryptoKeys.setIamPolicy",
    },
    verify={"cloudkms.cryptoKeys.getIamPolicy": "cloudkms.projects.locations.keyRings.cryptoKeys.getIamPolicy"},
)
CLOUD_BUILD = Table(
    deploy={
        "cloudbuild.builds.create": "cloudbuild.projects.locations.builds.create",
        "cloudbuild.builds.get": "cloudbuild.projects.locations.builds.get",
        "cloudbuild.builds.list": "cloudbuild.projects.locations.builds.list",
        **_BUCKET,
        "storage.objects.create": "storage.objects.insert",
        "storage.objects.get": "storage.objects.get",
    }
)
#: A network of the project that a deployment uses. A Shared VPC's host project grants access to its own.
NETWORK = Table(
    deploy={
        "compute.networks.get": "compute.networks.get",
        "compute.subnetworks.get": "compute.subnetworks.get",
    }
)
#: A container engine of the controller pushes to the registry, which has no method for it.
PUSH = Table(deploy={"artifactregistry.repositories.uploadArtifacts": ""})

CLOUD_RUN_JOB = Table(
    deploy={
        "run.jobs.create": "run.projects.locations.jobs.create",
        "run.jobs.get": "run.projects.locations.jobs.get",
        "run.jobs.run": "run.projects.locations.jobs.run",
        "run.jobs.update": "run.projects.locations.jobs.patch",
        "run.executions.get": "run.projects.locations.jobs.executions.get",
        "run.operations.get": "run.projects.locations.operations.get",
    },
    destroy={
        "run.jobs.get": "run.projects.locations.jobs.get",
        "run.jobs.delete": "run.projects.locations.jobs.delete",
        "run.operations.get": "run.projects.locations.operations.get",
    },
)

_IAP_POLICY = {
    "iap.webServices.getIamPolicy": "iap.getIamPolicy",
    "iap.webServices.setIamPolicy": "iap.setIamPolicy",
}
IAP = Table(
    deploy={
        **_IAP_POLICY,
        # The service agent of Identity-Aware Proxy.
        "serviceusage.services.enable": "serviceusage.services.generateServiceIdentity",
        "serviceusage.operations.get": "serviceusage.operations.get",
    },
    verify={"iap.webServices.getIamPolicy": "iap.getIamPolicy"},
    destroy=_IAP_POLICY,
)

_REMOVE_SERVICE = {
    "run.services.get": "run.projects.locations.services.get",
    "run.services.delete": "run.projects.locations.services.delete",
    "run.operations.get": "run.projects.locations.operations.get",
}
CLOUD_RUN = Table(
    deploy={
        "run.services.create": "run.projects.locations.services.create",
        "run.services.get": "run.projects.locations.services.get",
        "run.services.update": "run.projects.locations.services.patch",
        "run.services.getIamPolicy": "run.projects.locations.services.getIamPolicy",
        "run.services.setIamPolicy": "run.projects.locations.services.setIamPolicy",
        "run.operations.get": "run.projects.locations.operations.get",
    },
    verify={
        "run.services.get": "run.projects.locations.services.get",
        "run.services.getIamPolicy": "run.projects.locations.services.getIamPolicy",
    },
    destroy=_REMOVE_SERVICE,
    retire=_REMOVE_SERVICE,
    client={
        "iap.webServices.getSettings": "iap.getIapSettings",
        "iap.webServices.updateSettings": "iap.updateIapSettings",
        **READ_SECRET,
    },
)

_REMOVE_VERSIONS = {
    "appengine.services.get": "appengine.apps.services.get",
    "appengine.services.update": "appengine.apps.services.patch",
    "appengine.services.delete": "appengine.apps.services.delete",
    "appengine.versions.get": "appengine.apps.services.versions.get",
    "appengine.versions.list": "appengine.apps.services.versions.list",
    "appengine.versions.update": "appengine.apps.services.versions.patch",
    "appengine.versions.delete": "appengine.apps.services.versions.delete",
    "appengine.instances.list": "appengine.apps.services.versions.instances.list",
    "appengine.operations.get": "appengine.apps.operations.get",
    "appengine.operations.list": "appengine.apps.operations.list",
}
APP_ENGINE = Table(
    deploy={
        **_PROJECT_POLICY,
        "appengine.applications.get": "appengine.apps.get",
        "appengine.applications.update": "appengine.apps.patch",
        "appengine.instances.list": "appengine.apps.services.versions.instances.list",
        "appengine.operations.get": "appengine.apps.operations.get",
        "appengine.operations.list": "appengine.apps.operations.list",
        "appengine.services.get": "appengine.apps.services.get",
        "appengine.services.list": "appengine.apps.services.list",
        "appengine.services.update": "appengine.apps.services.patch",
        "appengine.versions.create": "appengine.apps.services.versions.create",
        "appengine.versions.delete": "appengine.apps.services.versions.delete",
        "appengine.versions.get": "appengine.apps.services.versions.get",
        "appengine.versions.list": "appengine.apps.services.versions.list",
        "appengine.versions.update": "appengine.apps.services.versions.patch",
    },
    verify={
        "appengine.applications.get": "appengine.apps.get",
        "appengine.services.get": "appengine.apps.services.get",
        "appengine.services.list": "appengine.apps.services.list",
        "appengine.versions.list": "appengine.apps.services.versions.list",
    },
    destroy={**_PROJECT_POLICY, **_REMOVE_VERSIONS},
    retire=_REMOVE_VERSIONS,
    client=READ_SECRET,  # the client is a setting of the application
)
#: A project has one application. Only its creation needs this.
APPLICATION = Table(deploy={"appengine.applications.create": "appengine.apps.create"})
#: Verification reads the login's password, or the id of the OAuth client.
CREDENTIALS = Table(verify=READ_SECRET)

ENGINES: dict[str, Table] = {"cloud_build": CLOUD_BUILD}
DATABASES: dict[str, Table] = {"cloudsql": CLOUD_SQL}
MIGRATIONS: dict[str, Table] = {"cloud_run_job": CLOUD_RUN_JOB}
SECRET_STORES: dict[str, Table] = {"secret_manager": SECRETS}
ARTIFACTS: dict[str, Table] = {"gcs": BUCKET}

#: Permissions that an owner of the project has on its buckets and not on the project itself: ``roles/owner`` lacks
#: them, and each new bucket grants them (https://cloud.google.com/storage/docs/access-control/iam#convenience-values).
ON_BUCKETS = frozenset(
    {
        "storage.buckets.get",
        "storage.buckets.getIamPolicy",
        "storage.buckets.setIamPolicy",
        "storage.buckets.update",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
    }
)
#: No other predefined role has it: preflight recognizes an owner by it.
OWNER = "resourcemanager.projects.undelete"


def needed(action: str, target: Table, *, extra: Iterable[str] = (), **choices: Any) -> tuple[str, ...]:
    """Return the permissions that an action needs, sorted.

    :param extra: more permissions, for what a target adds.
    :param choices: the keyword parameters of :func:`rows`.
    """
    return tuple(sorted({*rows(action, target, **choices), *extra}))


def rows(
    action: str,
    target: Table,
    *,
    builds: bool = True,
    engine: str = "cloud_build",
    custom_image: bool = False,
    iap: bool = False,
    login: bool = False,
    custom_client: bool = False,
    agents: bool = False,
    keys: bool = False,
    enables: bool = True,
    creates_application: bool = False,
    quota_project: bool = False,
    database: str = "cloudsql",
    migration: str = "cloud_run_job",
    secrets: str = "secret_manager",
    artifacts: str = "gcs",
    network: bool = False,
    retires: Iterable[Table] = (),
) -> dict[str, str]:
    """Return the permissions that an action needs, each with the method that needs it (empty: it is no method).

    :param action: one of :data:`ACTIONS`; ``destroy_data`` includes ``destroy``.
    :param target: the table of a target.
    :param builds: whether the image is built. A removal includes the image of an earlier build in any case.
    :param engine: a key of :data:`ENGINES`, or a container engine of the controller.
    :param custom_image: whether the image is one of the user's own in Artifact Registry, for the documentation.
    :param iap: whether Identity-Aware Proxy protects MLflow; for a removal, and for a change from a target that it
        protected, whether its API is enabled.
    :param login: whether MLflow has its own login. Verification reads its password.
    :param custom_client: whether Identity-Aware Proxy uses an OAuth client from secrets.
    :param agents: whether something is encrypted with a key of the user's own.
    :param keys: the same with the permissions on the keys, for the documentation.
    :param enables: whether an API is disabled.
    :param creates_application: whether the project has no App Engine application yet.
    :param quota_project: whether requests name a quota project. The permission is needed on that project.
    :param database: a key of :data:`DATABASES`. Any other value stands for a choice outside Google Cloud, which
        needs no permission. The same holds for ``migration``, ``secrets`` and ``artifacts``.
    :param network: whether a VPC network of the project is used.
    :param retires: the tables of other targets, from which a deployment removes its server.
    """
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not one of {', '.join(ACTIONS)}.")
    tables = [
        PROJECT,
        SERVICE_ACCOUNTS,
        DATABASES.get(database),
        MIGRATIONS.get(migration),
        SECRET_STORES.get(secrets),
        ARTIFACTS.get(artifacts),
        target,
        IMAGE if builds or action != "deploy" else None,
        ENGINES.get(engine, PUSH) if builds else None,
        CUSTOM_IMAGE if custom_image else None,
        IAP if iap else None,
        NETWORK if network else None,
        KEY_AGENTS if agents or keys else None,
        KEYS if keys else None,
        CREDENTIALS if login or custom_client else None,
        ENABLE_APIS if enables else None,
        APPLICATION if creates_application else None,
    ]
    found: dict[str, str] = {}
    for table in tables:
        found.update(table.rows(action) if table else {})
    if action == "deploy":
        found.update(target.client if iap and custom_client else {})
        for other in retires:
            found.update(other.retire)
    return found | (USE_QUOTA_PROJECT if quota_project else {})


def everything(targets: Iterable[Table]) -> tuple[str, ...]:
    """Return all permissions that any action on any of the targets needs, sorted."""
    alone = (
        PROJECT,
        ENABLE_APIS,
        SERVICE_ACCOUNTS,
        IMAGE,
        CUSTOM_IMAGE,
        NETWORK,
        PUSH,
        IAP,
        KEY_AGENTS,
        KEYS,
        CREDENTIALS,
        APPLICATION,
    )
    choices = (ENGINES, DATABASES, MIGRATIONS, SECRET_STORES, ARTIFACTS)
    tables = [*targets, *alone, *(table for choice in choices for table in choice.values())]
    found = {name for table in tables for action in (*ACTIONS, "retire", "client") for name in table.rows(action)}
    return tuple(sorted(found | set(USE_QUOTA_PROJECT)))


def to_test(permissions: Iterable[str]) -> tuple[str, ...]:
    """Return the permissions to test on the project for :func:`missing`, which also looks for an owner."""
    wanted = set(permissions)
    return tuple(sorted(wanted | ({OWNER} if wanted & ON_BUCKETS else set())))


def missing(permissions: Iterable[str], granted: Collection[str]) -> tuple[str, ...]:
    """Return the permissions that the caller lacks, sorted.

    :param granted: those of :func:`to_test` that the caller has on the project.
    """
    lacking = set(permissions) - set(granted)
    return tuple(sorted(lacking - ON_BUCKETS if OWNER in granted else lacking))
