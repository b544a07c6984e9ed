# SPDX-License-Identifier: Apache-2.0
"""Cloud Billing: the organization's billing accounts, and which one a project uses."""

from __future__ import annotations

from typing import Any

from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.denials import IamFacts, plain
from gcp_sandbox.gateway.errors import failed_precondition, permission_denied
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.projects import Project
from gcp_sandbox.gateway.seed import BILLING_KIND
from gcp_sandbox.gateway.service import method


class CloudBilling(IamPolicies):
    name = "cloudbilling"
    iam = IamFacts(denial=plain)
    consumer = "caller"
    iam_resources = {"billingAccounts": "billing.accounts"}
    iam_public = False

    def iam_exists(self, call: Call, resource: str) -> None:
        self._account(call.params["resource"])

    @method("projects.getBillingInfo", permission=None)
    def get_billing_info(self, call: Call) -> dict[str, Any]:
        """Return which billing account a project uses."""
        project = self._project(call)
        call.require("resourcemanager.projects.get", project.name)
        return self._info(project)

    @method("projects.updateBillingInfo", permission=None)
    def update_billing_info(self, call: Call) -> dict[str, Any]:
        """Link a project to a billing account, or with an empty name to none."""
        project = self._project(call)
        name = call.body.get("billingAccountName", "")
        if name:
            call.require("resourcemanager.projects.createBillingAssignment", project.name)
            account = self._account(name)
            call.require("billing.resourceAssociations.create", f"//cloudbilling.googleapis.com/{name}")
            if not account["open"]:
                raise failed_precondition(f"The billing account {name} is closed.")
            project.body["billingAccountName"] = name
        else:
            call.require("resourcemanager.projects.deleteBillingAssignment", project.name)
            project.body.pop("billingAccountName", None)
        self.sandbox.projects.save(project)
        return self._info(project)

    @method("billingAccounts.list", permission=None)
    def list(self, call: Call) -> dict[str, Any]:
        """Return the billing accounts that the caller may see."""
        accounts = [body for _, body in self.store.list(BILLING_KIND)]
        seen = [
            account
            for account in accounts
            if self.sandbox.iam.allowed(
                call.caller, f"//cloudbilling.googleapis.com/{account['name']}", "billing.accounts.get"
            )
        ]
        return call.page(seen, key="billingAccounts", default=100, maximum=100)

    @method("billingAccounts.get", permission="billing.accounts.get", on="{name}")
    def get(self, call: Call) -> dict[str, Any]:
        """Return one billing account."""
        return self._account(call.params["name"])

    @method("billingAccounts.projects.list", permission="billing.resourceAssociations.list", on="{name}")
    def list_projects(self, call: Call) -> dict[str, Any]:
        """Return the projects that use a billing account."""
        name = call.params["name"]
        projects = [self._info(p) for p in self.sandbox.projects.all() if p.billing_account == name]
        return call.page(projects, key="projectBillingInfo", default=100, maximum=100)

    def _project(self, call: Call) -> Project:
        return call.project(call.params["name"].removeprefix("projects/"))

    def _account(self, name: str) -> dict[str, Any]:
        account = self.store.get(BILLING_KIND, name)
        if account is None:
            raise permission_denied()
        return account

    def _info(self, project: Project) -> dict[str, Any]:
        account = self.store.get(BILLING_KIND, project.billing_account) or {}
        return {
            "name": f"projects/{project.id}/billingInfo",
            "projectId": project.id,
            "billingAccountName": project.billing_account,
            "billingEnabled": account.get("open", False),
        }
