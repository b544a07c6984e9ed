# SPDX-License-Identifier: Apache-2.0
"""The table of predefined roles: that it says what it means, and the facts that deployments trip over."""

import pytest
from gcp_sandbox.gateway.roles import ROLES


def holds(role, permission):
    return permission in ROLES.permissions(f"roles/{role}")


def test_every_term_of_the_table_means_something():
    for name, definition in ROLES._definitions.items():
        for term in definition.split():
            if not term.startswith("@"):
                assert ROLES._match(term.lstrip("-")), f"{name}: {term} matches no permission"


@pytest.mark.parametrize(
    "role, granted, denied",
    [
        ("owner", "secretmanager.versions.access", "iam.serviceAccounts.getAccessToken"),
        ("owner", "run.routes.invoke", "iap.webServiceVersions.accessViaIAP"),
        ("owner", "iam.serviceAccounts.actAs", "iam.serviceAccounts.signJwt"),
        ("owner", "storage.buckets.create", "storage.objects.get"),
        ("owner", "resourcemanager.projects.setIamPolicy", "resourcemanager.projects.create"),
        ("editor", "secretmanager.secrets.create", "secretmanager.versions.access"),
        ("editor", "run.services.create", "run.services.setIamPolicy"),
        ("viewer", "run.services.get", "run.services.update"),
        ("run.invoker", "run.routes.invoke", "run.services.get"),
        ("run.developer", "run.services.update", "run.services.setIamPolicy"),
        ("cloudsql.client", "cloudsql.instances.connect", "cloudsql.instances.login"),
        ("cloudsql.instanceUser", "cloudsql.instances.login", "cloudsql.instances.connect"),
        ("secretmanager.secretAccessor", "secretmanager.versions.access", "secretmanager.secrets.get"),
        ("storage.objectViewer", "storage.objects.get", "storage.objects.create"),
        ("storage.objectCreator", "storage.objects.create", "storage.objects.get"),
        ("storage.objectUser", "storage.objects.delete", "storage.buckets.get"),
        ("storage.legacyBucketReader", "storage.buckets.get", "storage.objects.get"),
        ("artifactregistry.reader", "artifactregistry.repositories.downloadArtifacts", "artifactregistry.tags.create"),
        ("iam.serviceAccountUser", "iam.serviceAccounts.actAs", "iam.serviceAccounts.getAccessToken"),
        ("iam.serviceAccountTokenCreator", "iam.serviceAccounts.signJwt", "iam.serviceAccounts.actAs"),
        ("iam.serviceAccountAdmin", "iam.serviceAccounts.create", "iam.serviceAccounts.actAs"),
        ("serviceusage.serviceUsageConsumer", "serviceusage.services.use", "serviceusage.services.enable"),
        ("iap.httpsResourceAccessor", "iap.webServiceVersions.accessViaIAP", "iap.web.getSettings"),
    ],
)
def test_what_a_role_permits(role, granted, denied):
    assert holds(role, granted)
    assert denied in ROLES.all_permissions
    assert not holds(role, denied)


def test_which_roles_exist():
    assert ROLES.exists("roles/run.invoker")
    assert ROLES.exists("roles/run.sshReader")  # one that grants nothing here
    assert ROLES.exists("roles/bigquery.dataViewer")  # of a service that the table only names
    assert not ROLES.exists("roles/run.invokr")
    assert not ROLES.exists("roles/ower")
    assert not ROLES.exists("roles/nonexistent.role")
    assert not ROLES.exists("projects/p/roles/custom")
