# SPDX-License-Identifier: Apache-2.0
"""Permissions that a deployment needs: to act as its service account, and to pull its image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_sandbox.backends.images import Reference

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.identity import Principal

PULL = "artifactregistry.repositories.downloadArtifacts"


def may_act_as(sandbox: Platform, caller: Principal, email: str, project: str) -> bool:
    """Return whether there is such a service account and the caller may deploy something that runs as it.

    :param project: id of the project that the account belongs to where its address does not have it.
    """
    home = sandbox.identities.project_of(email)
    account = f"//iam.googleapis.com/projects/{home.id if home else project}/serviceAccounts/{email}"
    known = sandbox.identities.account(email) is not None or email.endswith("-compute@developer.gserviceaccount.com")
    return known and sandbox.iam.allowed(caller, account, "iam.serviceAccounts.actAs")


def repository_of(ref: str) -> str | None:
    """Return the Artifact Registry repository of an image reference (resource name); None for others."""
    parsed = Reference.parse(ref)
    return parsed.resource if parsed else None


def guarded(sandbox: Platform, ref: str) -> str | None:
    """Return the full name of the repository that controls access to an image; None for an image from elsewhere."""
    repository = repository_of(ref)
    if repository is None or sandbox.projects.get(repository.split("/")[1]) is None:
        return None
    return f"//artifactregistry.googleapis.com/{repository}"


def may_pull(sandbox: Platform, principal: Principal, ref: str) -> bool:
    """Return whether the principal may pull an image."""
    resource = guarded(sandbox, ref)
    return resource is None or sandbox.iam.allowed(principal, resource, PULL)
