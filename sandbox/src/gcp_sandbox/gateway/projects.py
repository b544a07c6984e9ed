# SPDX-License-Identifier: Apache-2.0
"""The resource hierarchy: the organization, its folder, projects by id and number, and full resource names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.config import organization_number
from gcp_sandbox.gateway.errors import ApiError, error_info, permission_denied

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.store import Store

KIND = "cloudresourcemanager.project"
NUMBER_KIND = "cloudresourcemanager.projectNumber"
ORGANIZATION_KIND = "cloudresourcemanager.organization"

#: The organization's domain and its Google Workspace customer id.
DOMAIN = "example.com"
CUSTOMER = "C01sandbx"

# Only `up --project` has a legacy project of a domain, example.com:my-project.
PROJECT_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")
MANAGER = "//cloudresourcemanager.googleapis.com/"


@dataclass(frozen=True)
class Project:
    """A project as other parts of the sandbox need it; `body` is the stored document."""

    id: str
    number: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """Full resource name, which IAM policies are stored under."""
        return f"{MANAGER}projects/{self.id}"

    @property
    def dotted(self) -> str:
        """The id in addresses and host names: my-project.example.com for example.com:my-project."""
        return ".".join(reversed(self.id.split(":")))

    @property
    def title(self) -> str:
        """Return the display name. Release 0.2.0 left it out of a project without an organization."""
        return self.body.get("name", self.id)

    @property
    def state(self) -> str:
        """ACTIVE, or DELETE_REQUESTED from `projects.delete` until `projects.undelete`."""
        return self.body["lifecycleState"]

    @property
    def parent(self) -> str:
        """`folders/N`, `organizations/N`, or "" for a project without an organization."""
        parent = self.body.get("parent")
        return f"{parent['type']}s/{parent['id'].rpartition('/')[2]}" if parent else ""

    @property
    def billing_account(self) -> str:
        """`billingAccounts/ID`, or "" where billing is off."""
        return self.body.get("billingAccountName", "")


class Host(Protocol):
    """The parts of the sandbox that `Projects` uses."""

    settings: Settings
    store: Store


class Projects:
    """The projects of the sandbox: one organization, one folder in it, any number of projects."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self.folder = f"folders/{sandbox.settings.project_number}"

    @property
    def organization(self) -> str:
        """Return the organization's name. Its number is the one that it was made with, in any earlier release."""
        stored = self.sandbox.store.list(ORGANIZATION_KIND, limit=1)
        return stored[0][0] if stored else f"organizations/{organization_number(self.sandbox.settings.project)}"

    def container(self, kind: str, number: str) -> str | None:
        """Return the name of a folder or an organization; None where it does not exist.

        :param kind: "folder" or "organization".
        :param number: its number. The replay of recordings has one number for the project, the folder and the
            organization, so the project's number names the organization as well.
        """
        if kind == "organization" and number == self.sandbox.settings.project_number:
            return self.organization
        name = f"{kind}s/{number}"
        return name if name in (self.organization, self.folder) else None

    def get(self, id_or_number: str) -> Project | None:
        """Return the project with this id or number, one marked for deletion included; None when there is none."""
        project_id = id_or_number
        if id_or_number.isdigit():
            entry = self.sandbox.store.get(NUMBER_KIND, id_or_number)
            if entry is None:
                return None
            project_id = entry["projectId"]
        body = self.sandbox.store.get(KIND, f"projects/{project_id}")
        return Project(body["projectId"], body["projectNumber"], body) if body else None

    def at(self, dotted: str) -> Project | None:
        """Return the project that is spelled like this in an address: my-project, or my-project.example.com."""
        name, _, domain = dotted.partition(".")
        return self.get(f"{domain}:{name}" if domain else name)

    def all(self) -> list[Project]:
        """Return every project by id, those marked for deletion included."""
        return [Project(body["projectId"], body["projectNumber"], body) for _, body in self.sandbox.store.list(KIND)]

    def create(self, project_id: str, now: str, *, number: str | None = None, **fields: Any) -> Project:
        """Store a new project. Permissions and ownership are up to the calling service.

        :param fields: name (by default the id), parent ({type, id}), labels, billingAccountName; empty ones are
            left out.
        """
        serial = self.sandbox.store.next_id("cloudresourcemanager.project")
        # Later projects follow the first one in steps of a prime: no two numbers alike, and plainly not one by one.
        number = number or str(int(self.sandbox.settings.project_number) + 7919 * serial)
        body: dict[str, Any] = {
            "projectId": project_id,
            "projectNumber": number,
            "name": project_id,
            "lifecycleState": "ACTIVE",
            "createTime": now,
            "updateTime": now,
        }
        body = {key: value for key, value in {**body, **fields}.items() if value}
        self.sandbox.store.put(NUMBER_KIND, number, {"projectId": project_id})
        return self.save(Project(project_id, number, body))

    def save(self, project: Project) -> Project:
        """Write back a changed body."""
        self.sandbox.store.put(KIND, f"projects/{project.id}", project.body)
        return project

    def ancestors(self, project: Project) -> list[str]:
        """Full resource names of what the project is in, nearest first: folder and organization."""
        return self.chain(f"{MANAGER}{project.parent}") if project.parent else []

    def chain(self, container: str) -> list[str]:
        """Return a folder or organization (full name) and what is above it."""
        if container.startswith(f"{MANAGER}folders/"):
            return [container, f"{MANAGER}{self.organization}"]
        return [container]

    def canonical(self, resource: str) -> str:
        """Return a full resource name with the project's number replaced by its id, as IAM policies are stored here."""
        match = re.match(r"(//[^/]+/projects/)(\d+)(?=/|$)", resource)
        found = self.get(match[2]) if match else None
        return f"{match[1]}{found.id}{resource[match.end() :]}" if match and found else resource

    def invisible(self, id_or_number: str, service: str) -> ApiError:
        """Return the 403 for a project that does not exist or is being deleted, the same for callers without access.

        Resource Manager has words of its own; elsewhere it is the consumer that is found invalid.
        """
        if service in ("cloudresourcemanager.googleapis.com", "cloudbilling.googleapis.com"):
            return permission_denied()
        project = self.get(id_or_number)
        if project is not None:
            message = f"Project {id_or_number} has been deleted."
        else:
            message = f"Permission denied on resource project {id_or_number}."
        consumer = {"consumer": f"projects/{id_or_number}", "containerInfo": id_or_number}
        info = error_info("CONSUMER_INVALID", service=service, **consumer)
        localized = {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message}
        link = {"description": "Google developers console", "url": "https://console.developers.google.com"}
        help_links = {"@type": "type.googleapis.com/google.rpc.Help", "links": [link]}
        return permission_denied(message, details=[info, localized, help_links])
