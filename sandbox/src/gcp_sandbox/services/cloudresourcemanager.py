# SPDX-License-Identifier: Apache-2.0
"""Resource Manager v1 and v3: projects, the folder and the organization that they are in, and their policies."""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.gateway import catalog, etags, filters
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.denials import IamFacts, plain
from gcp_sandbox.gateway.errors import (
    ApiError,
    already_exists,
    bad_request,
    failed_precondition,
    invalid,
    permission_denied,
)
from gcp_sandbox.gateway.filters import Predicate, Restriction
from gcp_sandbox.gateway.iam_methods import IamPolicies
from gcp_sandbox.gateway.longrunning import LongRunning
from gcp_sandbox.gateway.operations import Op
from gcp_sandbox.gateway.projects import MANAGER, ORGANIZATION_KIND, PROJECT_ID, Project
from gcp_sandbox.gateway.seed import FOLDER_KIND
from gcp_sandbox.gateway.service import job, method

#: Seconds that making a project takes in real life.
SECONDS = 8.0

V1_TYPE = "type.googleapis.com/google.cloudresourcemanager.v1."
V3_TYPE = "type.googleapis.com/google.cloud.resourcemanager.v3."


class ResourceManager(IamPolicies, LongRunning):
    name = "cloudresourcemanager"
    iam = IamFacts(denial=plain)
    versions = ("v1", "v3")
    consumer = "caller"
    iam_resources = {
        "projects": "resourcemanager.projects",
        "folders": "resourcemanager.folders",
        "organizations": "resourcemanager.organizations",
    }
    iam_public = False

    def iam_resource(self, call: Call) -> str:
        resource = call.params["resource"]
        if "/" not in resource:  # v1 has the project alone
            resource = f"projects/{resource}"
        return self.sandbox.projects.canonical(f"{MANAGER}{resource}")

    def iam_exists(self, call: Call, resource: str) -> None:
        kind, _, name = resource.removeprefix(MANAGER).partition("/")
        if kind == "projects":
            call.project(name)
        elif self.store.get(ORGANIZATION_KIND if kind == "organizations" else FOLDER_KIND, f"{kind}/{name}") is None:
            raise permission_denied()

    def _set_iam_policy(self, call: Call) -> dict[str, Any]:
        """Set a policy. A project without an organization keeps an owner (reference of projects.setIamPolicy)."""
        policy = super()._set_iam_policy(call)
        kind, _, name = self.iam_resource(call).removeprefix(MANAGER).partition("/")
        if kind == "projects" and not call.project(name).parent and not _owners(policy):
            error = {"@type": f"{V1_TYPE}ProjectIamPolicyError", "type": "SOLO_REQUIRE_TOS_ACCEPTOR"}
            raise invalid(details=[{**error, "role": "roles/owner"}])
        return policy

    # --- projects -----------------------------------------------------------------------------------------------

    @method("projects.create", permission=None, only=("v1",))
    def create_v1(self, call: Call) -> dict[str, Any]:
        """Make a project; the caller becomes its owner."""
        body = call.body
        return self._create(call, body.get("projectId", ""), body.get("name", ""), body.get("parent"), "v1")

    @method("projects.create", permission=None, only=("v3",))
    def create_v3(self, call: Call) -> dict[str, Any]:
        """Make a project; the caller becomes its owner."""
        parent = None
        if call.body.get("parent"):
            kind, _, identifier = call.body["parent"].partition("/")
            parent = {"type": kind.removesuffix("s"), "id": identifier}
        return self._create(call, call.body.get("projectId", ""), call.body.get("displayName", ""), parent, "v3")

    def _create(
        self, call: Call, project_id: str, name: str, parent: dict[str, str] | None, version: str
    ) -> dict[str, Any]:
        if not PROJECT_ID.fullmatch(project_id):
            raise _bad_id(project_id)
        if name and not 4 <= len(name) <= 30:
            field = "name" if version == "v1" else "display_name"
            raise invalid(details=[bad_request((field, "display name must be between 4 and 30 characters"))])
        if parent:
            # The id may bring its collection (recorded).
            kind, number = parent.get("type", ""), parent.get("id", "").rpartition("/")[2]
            container = self.sandbox.projects.container(kind, number)
            if container is None or not self.sandbox.iam.allowed(
                call.caller, f"{MANAGER}{container}", "resourcemanager.projects.create"
            ):
                raise permission_denied()
            parent = {"type": kind, "id": container.partition("/")[2]}
        if self.sandbox.projects.get(project_id):
            raise already_exists("Requested entity already exists")
        labels = call.body.get("labels")
        project = self.sandbox.projects.create(
            project_id, call.now, **{"name": name or project_id, "parent": parent, "labels": labels}
        )
        self.sandbox.iam.add_binding(project.name, "roles/owner", call.caller.member)
        self.sandbox.enablement.enable(project, list(catalog.DEFAULT_SERVICES), at_once=True)
        return self._start(project, "created", version, seconds=SECONDS)

    @method("projects.get", permission=None, only=("v1",))
    def get_v1(self, call: Call) -> dict[str, Any]:
        """Return one project."""
        return _v1(self._visible(call, call.params["projectId"], "get"))

    @method("projects.get", permission=None, only=("v3",))
    def get_v3(self, call: Call) -> dict[str, Any]:
        """Return one project."""
        return _v3(self._visible(call, call.params["name"], "get"))

    @method("projects.list", permission=None, only=("v1",))
    def list_v1(self, call: Call) -> dict[str, Any]:
        """Return the projects that the caller may see and the filter lets through."""
        shown = [_v1(project) for project in self._seen(call)]
        return call.page(_filtered(shown, call.query.get("filter", "")), key="projects", default=500, maximum=1000)

    @method("projects.list", permission=None, only=("v3",))
    def list_v3(self, call: Call) -> dict[str, Any]:
        """Return the projects directly in a folder or organization, to callers that may list the projects in it."""
        parent = _parent(call)
        call.require("resourcemanager.projects.list", f"{MANAGER}{parent}")
        deleted = call.query.get("showDeleted", False)
        found = [p for p in self.sandbox.projects.all() if p.parent == parent and (deleted or p.state == "ACTIVE")]
        return call.page([_v3(project) for project in found], key="projects", default=300, maximum=300)

    @method("projects.search", permission=None, only=("v3",))
    def search(self, call: Call) -> dict[str, Any]:
        """Return the projects that the caller may see and the query lets through."""
        shown = [_v3(project) for project in self._seen(call)]
        return call.page(_filtered(shown, call.query.get("query", "")), key="projects", default=300, maximum=300)

    @method("projects.update", permission=None, only=("v1",))
    def update_v1(self, call: Call) -> dict[str, Any]:
        """Replace a project's name and labels."""
        project = self._visible(call, call.params["projectId"], "update")
        changes = {"name": call.body.get("name", project.title), "labels": call.body.get("labels", {})}
        return _v1(self._changed(call, project, changes))

    @method("projects.patch", permission=None, only=("v3",))
    def patch_v3(self, call: Call) -> dict[str, Any]:
        """Change a project's display name and labels."""
        project = self._visible(call, call.params["name"], "update")
        call.require("resourcemanager.projects.get", project.name)
        mask = {part.strip() for part in call.query.get("updateMask", "").split(",") if part.strip()}
        if unknown := mask - {"displayName", "display_name", "labels", "*"}:
            raise invalid(
                details=[bad_request(("update_mask", f"fields cannot be updated: {', '.join(sorted(unknown))}"))]
            )
        names = {"displayName": "name", "labels": "labels"}
        wanted = {
            ours: call.body[theirs]
            for theirs, ours in names.items()
            if theirs in call.body
            and (not mask or "*" in mask or mask & {theirs, "display_name" if ours == "name" else ""})
        }
        if "labels" in mask:
            wanted.setdefault("labels", {})
        return self._start(self._changed(call, project, wanted), "updated", "v3")

    def _changed(self, call: Call, project: Project, changes: dict[str, Any]) -> Project:
        project.body.update(changes, updateTime=call.now)
        if not project.body.get("labels"):
            project.body.pop("labels", None)
        return self.sandbox.projects.save(project)

    @method("projects.delete", permission=None, only=("v1",))
    def delete_v1(self, call: Call) -> dict[str, Any]:
        """Mark a project for deletion; it can be brought back for thirty days."""
        self._set_state(call, self._visible(call, call.params["projectId"], "delete"), "DELETE_REQUESTED")
        return {}

    @method("projects.delete", permission=None, only=("v3",))
    def delete_v3(self, call: Call) -> dict[str, Any]:
        """Mark a project for deletion; it can be brought back for thirty days."""
        project = self._visible(call, call.params["name"], "delete")
        return self._start(self._set_state(call, project, "DELETE_REQUESTED"), "deleted", "v3")

    @method("projects.undelete", permission=None, only=("v1",))
    def undelete_v1(self, call: Call) -> dict[str, Any]:
        """Bring back a project that was marked for deletion."""
        self._set_state(call, self._visible(call, call.params["projectId"], "undelete"), "ACTIVE")
        return {}

    @method("projects.undelete", permission=None, only=("v3",))
    def undelete_v3(self, call: Call) -> dict[str, Any]:
        """Bring back a project that was marked for deletion."""
        project = self._visible(call, call.params["name"], "undelete")
        return self._start(self._set_state(call, project, "ACTIVE"), "undeleted", "v3")

    def _set_state(self, call: Call, project: Project, state: str) -> Project:
        if project.state == state:
            raise failed_precondition("Precondition check failed.")
        project.body.update(lifecycleState=state, updateTime=call.now)
        if state == "ACTIVE":
            project.body.pop("deleteTime", None)
        else:
            project.body["deleteTime"] = call.now
        return self.sandbox.projects.save(project)

    @method("projects.getAncestry", permission=None, only=("v1",))
    def ancestry(self, call: Call) -> dict[str, Any]:
        """Return a project and what it is in, nearest first."""
        project = self._visible(call, call.params["projectId"], "get")
        names = [name.removeprefix(MANAGER) for name in (project.name, *self.sandbox.projects.ancestors(project))]
        chain = [name.split("/") for name in names]
        return {"ancestor": [{"resourceId": {"type": kind.removesuffix("s"), "id": id}} for kind, id in chain]}

    # --- organization and folder --------------------------------------------------------------------------------

    @method("organizations.get", permission="resourcemanager.organizations.get", on="{name}")
    def get_organization(self, call: Call) -> dict[str, Any]:
        """Return the organization."""
        found = self.store.get(ORGANIZATION_KIND, call.params["name"])
        if found is None:
            raise permission_denied()
        return _organization(found, call.version)

    @method("organizations.search", permission=None)
    def search_organizations(self, call: Call) -> dict[str, Any]:
        """Return the organization, for those who may see it."""
        found = [
            _organization(body, call.version)
            for name, body in self.store.list(ORGANIZATION_KIND)
            if self.sandbox.iam.allowed(call.caller, f"{MANAGER}{name}", "resourcemanager.organizations.get")
        ]
        text = call.body.get("filter", "") or call.query.get("query", "")
        found = _organizations(found, text)
        return {"organizations": found} if found else {}

    @method("folders.get", permission="resourcemanager.folders.get", on="{name}", only=("v3",))
    def get_folder(self, call: Call) -> dict[str, Any]:
        """Return the folder."""
        found = self.store.get(FOLDER_KIND, call.params["name"])
        if found is None:
            raise permission_denied()
        return _folder(found)

    @method("folders.list", permission=None, only=("v3",))
    def list_folders(self, call: Call) -> dict[str, Any]:
        """Return the folders directly in a folder or organization, to callers that may list them."""
        parent = _parent(call)
        call.require("resourcemanager.folders.list", f"{MANAGER}{parent}")
        found = [_folder(body) for _, body in self.store.list(FOLDER_KIND) if body["parent"] == parent]
        return {"folders": found} if found else {}

    @method("folders.search", permission=None, only=("v3",))
    def search_folders(self, call: Call) -> dict[str, Any]:
        """Return the folders that the caller may read."""
        found = [
            _folder(body)
            for name, body in self.store.list(FOLDER_KIND)
            if self.sandbox.iam.allowed(call.caller, f"{MANAGER}{name}", "resourcemanager.folders.get")
        ]
        return {"folders": found} if found else {}

    # --- operations ---------------------------------------------------------------------------------------------

    def _start(self, project: Project, work: str, version: str, *, seconds: float = 2.0) -> dict[str, Any]:
        serial = 10**18 + self.store.next_id("cloudresourcemanager.operation") * 982451653
        name = f"operations/{'cp' if work == 'created' else 'pc'}.{serial}"
        metadata = {"@type": f"{V3_TYPE}{work.removesuffix('d').capitalize()}ProjectMetadata"}
        if version == "v1":
            metadata = {"@type": f"{V1_TYPE}ProjectCreationStatus", "gettable": True, "ready": True}
        self.sandbox.operations.start(
            service=self.name,
            name=name,
            seconds=seconds,
            job="show",
            args={"version": version},
            project=project.id,
            body={"metadata": metadata},
        )
        return {"name": name}

    @job("show")
    def _show(self, op: Op) -> dict[str, Any]:
        op.elapse()
        project = self.sandbox.projects.get(op.project)
        assert project is not None  # projects are never removed from the store
        if op.args["version"] == "v1":
            return {"@type": f"{V1_TYPE}Project", **_v1(project)}
        return {"@type": f"{V3_TYPE}Project", **_v3(project)}

    # --- private ------------------------------------------------------------------------------------------------

    def _visible(self, call: Call, name: str, verb: str) -> Project:
        """Return a project, deleted ones included; 403 for a missing one and for one that the caller may not `verb`."""
        project = self.sandbox.projects.get(name.removeprefix("projects/"))
        if project is None:
            raise permission_denied()
        call.require(f"resourcemanager.projects.{verb}", project.name)
        return project

    def _seen(self, call: Call) -> list[Project]:
        permission = "resourcemanager.projects.get"
        return [p for p in self.sandbox.projects.all() if self.sandbox.iam.allowed(call.caller, p.name, permission)]


def _parent(call: Call) -> str:
    """Return the folder or organization that a call lists; ApiError 400."""
    parent = call.query.get("parent", "")
    if not re.fullmatch(r"(folders|organizations)/\d+", parent):
        raise invalid(details=[bad_request(("parent", "parent must be folders/ID or organizations/ID"))])
    return parent


def _owners(policy: dict[str, Any]) -> list[str]:
    """Return the owners that a policy names, without deleted ones."""
    members = (m for b in policy.get("bindings", ()) if b["role"] == "roles/owner" for m in b["members"])
    return [member for member in members if not member.startswith("deleted:")]


def _v1(project: Project) -> dict[str, Any]:
    names = ("projectId", "projectNumber", "name", "lifecycleState", "createTime", "labels", "parent")
    return {name: project.body[name] for name in names if name in project.body}


def _v3(project: Project) -> dict[str, Any]:
    body = project.body
    shown = {
        "name": f"projects/{project.number}",
        "parent": project.parent,
        "projectId": project.id,
        "state": project.state,
        "displayName": project.title,
        "createTime": body["createTime"],
        "updateTime": body["updateTime"],
        "deleteTime": body.get("deleteTime"),
        "etag": _etag(body),
        "labels": body.get("labels"),
    }
    return {key: value for key, value in shown.items() if value}


def _organization(body: dict[str, Any], version: str) -> dict[str, Any]:
    if version == "v1":
        return {
            "organizationId": body["name"].partition("/")[2],
            "name": body["name"],
            "displayName": body["displayName"],
            "creationTime": body["createTime"],
            "lifecycleState": "ACTIVE",
            "owner": {"directoryCustomerId": body["directoryCustomerId"]},
        }
    return {**body, "updateTime": body["createTime"], "state": "ACTIVE", "etag": _etag(body)}


def _folder(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "updateTime": body["createTime"], "state": "ACTIVE", "etag": _etag(body)}


def _etag(body: dict[str, Any]) -> str:
    return f'W/"{etags.digest(body).hex()[:32]}"'


def _filtered(items: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the items that every restriction `field:value` fits, with `*` for any text; names in any case."""

    def restriction(term: Restriction) -> Predicate | None:
        if term.operator not in (":", "="):
            return None
        field = {"id": "projectId", "projectid": "projectId"}.get(term.field.lower(), term.field)
        pattern = filters.wildcard(term.value, any_case=True)
        return lambda item: pattern.fullmatch(str(filters.value_at(item, field, any_case=True) or "")) is not None

    wanted = filters.compile(text, restriction, _unsupported, words=("AND",))
    return [item for item in items if wanted(item)]


def _organizations(items: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the organizations that a filter by domain or customer selects; other fields select nothing."""
    names = {"domain": "displayName", "owner.directorycustomerid": "directoryCustomerId"}

    def restriction(term: Restriction) -> Predicate | None:
        if term.operator not in (":", "="):
            return None
        field = names.get(term.field.lower(), term.field)
        return lambda item: filters.value_at(item, field, any_case=True) in (term.value, None)

    wanted = filters.compile(text, restriction, _unsupported, words=("AND",))
    return [item for item in items if wanted(item)]


def _unsupported(rest: str) -> ApiError:
    return invalid(details=[bad_request(("filter", f"unsupported filter: {rest}"))])


def _bad_id(project_id: str) -> ApiError:
    if not 6 <= len(project_id) <= 30:
        issue = (
            "project_id must be at least 6 characters long"
            if len(project_id) < 6
            else ("project_id must be at most 30 characters long")
        )
    else:
        issue = "project_id contains invalid characters"
    return invalid(f"field [project_id] has issue [{issue}]", details=[bad_request(("project_id", issue))])
