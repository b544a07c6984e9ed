# SPDX-License-Identifier: Apache-2.0
"""The first content of every sandbox: an organization with a folder and billing, a project, and roles on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.gateway.enablement import SEED_SERVICES
from gcp_sandbox.gateway.projects import CUSTOMER, DOMAIN, MANAGER, ORGANIZATION_KIND
from gcp_sandbox.gateway.times import timestamp

if TYPE_CHECKING:
    from gcp_sandbox.gateway.core import Core

DEPLOYER = "deployer"
ADMIN = f"admin@{DOMAIN}"
# A person who does by hand what the deployer does by program.
OWNER = f"user@{DOMAIN}"
USERS = {
    ADMIN: "Sandbox Admin",
    f"alice@{DOMAIN}": "Alice Example",
    f"bob@{DOMAIN}": "Bob Example",
    OWNER: "Project Owner",
}
GROUP = f"mlflow-users@{DOMAIN}"

FOLDER_KIND = "cloudresourcemanager.folder"
BILLING_KIND = "cloudbilling.billingAccount"
BILLING_ACCOUNT = "billingAccounts/01B2C3-D4E5F6-A7B8C9"

ADMIN_ROLES = (
    "roles/billing.admin",
    "roles/resourcemanager.folderAdmin",
    "roles/resourcemanager.organizationAdmin",
    "roles/resourcemanager.projectCreator",
    "roles/resourcemanager.projectDeleter",
)
# A deployer makes projects, and may repair their policies and remove them again.
DEPLOYER_ROLES = (
    "roles/billing.user",
    "roles/iam.denyAdmin",
    "roles/resourcemanager.projectCreator",
    "roles/resourcemanager.projectDeleter",
    "roles/resourcemanager.projectIamAdmin",
)


def seed(sandbox: Core) -> None:
    """Make users, organization, default project and deployer, once; later starts find the project and change nothing.

    Runs in a store transaction.
    """
    projects, store = sandbox.projects, sandbox.store
    for email, name in USERS.items():
        sandbox.identities.create_user(email, name)
    if projects.get(sandbox.settings.project):
        return
    now = timestamp()
    number = sandbox.settings.project_number
    organization = {"displayName": DOMAIN, "directoryCustomerId": CUSTOMER, "createTime": now}
    store.put(ORGANIZATION_KIND, projects.organization, {"name": projects.organization, **organization})
    folder = {"displayName": "sandbox", "parent": projects.organization, "createTime": now}
    store.put(FOLDER_KIND, projects.folder, {"name": projects.folder, **folder})
    # The second account has the project's number for a name; Google's look like the first one's.
    for name, title in ((BILLING_ACCOUNT, "Sandbox billing"), (f"billingAccounts/{number}", "Second billing account")):
        account = {"name": name, "displayName": title, "open": True, "currencyCode": "USD"}
        store.put(BILLING_KIND, name, {**account, "masterBillingAccount": "", "parent": projects.organization})
    store.put("identity.group", GROUP, {"members": [f"user:alice@{DOMAIN}"]})

    organization_id = projects.organization.partition("/")[2]
    place = {"parent": {"type": "organization", "id": organization_id}} if sandbox.settings.organization else {}
    project = projects.create(sandbox.settings.project, now, number=number, billingAccountName=BILLING_ACCOUNT, **place)
    sandbox.enablement.enable(project, list(SEED_SERVICES), at_once=True)
    email = f"{DEPLOYER}@{project.dotted}.iam.gserviceaccount.com"
    account = sandbox.identities.create_account(project, email, displayName="Deployer")
    _, key = sandbox.identities.create_key(account)
    sandbox.identities.write_deployer_key(key)

    top = f"{MANAGER}{projects.organization}"
    for role in ADMIN_ROLES:
        sandbox.iam.add_binding(top, role, f"user:{ADMIN}")
    owners = (f"serviceAccount:{email}", f"user:{OWNER}")
    for member in owners:
        for role in DEPLOYER_ROLES:
            sandbox.iam.add_binding(top, role, member)
            if not sandbox.settings.organization:  # nothing is inherited
                sandbox.iam.add_binding(project.name, role, member)
    for member in (f"user:{ADMIN}", *owners):
        sandbox.iam.add_binding(project.name, "roles/owner", member)
