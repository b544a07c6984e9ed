# SPDX-License-Identifier: Apache-2.0
"""IAM: allow and deny policies on resources, and which permissions they grant to a principal."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.gateway import conditions, etags
from gcp_sandbox.gateway.denials import IamFacts
from gcp_sandbox.gateway.errors import ApiError, aborted, invalid
from gcp_sandbox.gateway.identity import Principal
from gcp_sandbox.gateway.projects import MANAGER
from gcp_sandbox.gateway.roles import BASIC, ROLES, SYNONYMS

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Identities
    from gcp_sandbox.gateway.latency import Latency
    from gcp_sandbox.gateway.projects import Projects
    from gcp_sandbox.store import Store

KIND = "iam.policy"
DENY_KIND = "iam.denyPolicy"
GROUP_KIND = "identity.group"

#: etag of a policy that was never set.
UNSET_ETAG = "ACAB"

VERSIONS_HELP = "For more information, please refer to https://cloud.google.com/iam/docs/policies#versions."
# The project of projectOwner, projectEditor and projectViewer can be one of a domain: example.com:my-project.
MEMBER = re.compile(
    r"(user|serviceAccount|group|domain|projectOwner|projectEditor|projectViewer):"
    r"((?:(?<=Owner:|ditor:|iewer:)[^\s:/]+:)?[^\s:/]+)"
)
FEDERATED = re.compile(r"principal(Set)?://\S+")
ROLE_NAME = re.compile(r"(organizations/[^/]+/|projects/[^/]+/)?roles/[\w.]+")
CONVENIENCE = {"projectOwner": "roles/owner", "projectEditor": "roles/editor", "projectViewer": "roles/viewer"}
PUBLIC_MEMBERS = ("allUsers", "allAuthenticatedUsers")

DEFAULT = IamFacts()
OBJECT = re.compile(r"//storage\.googleapis\.com/projects/_/buckets/[^/]+/objects/")


class Host(Protocol):
    """The parts of the sandbox that `Iam` uses."""

    store: Store
    latency: Latency
    projects: Projects
    identities: Identities


class Iam:
    """Allow policies by full resource name, and their evaluation up to the organization."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self.store = sandbox.store
        #: Predefined roles, with those that services declare.
        self.roles = ROLES
        self._parents: list[tuple[str, Callable[[str], str | None]]] = []
        self._facts: dict[str, IamFacts] = {}

    def register_service(self, name: str, facts: IamFacts) -> None:
        """Learn what a service says about its resources."""
        self._facts[f"{name}.googleapis.com"] = facts
        if facts.permissions:
            self.roles = self.roles.extended(name, facts.permissions, facts.roles)

    def register_parent(self, prefix: str, project_of: Callable[[str], str | None]) -> None:
        """Register the project of resources that do not have it in their names.

        :param prefix: of full resource names, "//storage.googleapis.com/projects/_/buckets/".
        :param project_of: from a full resource name to a project's id or number; None when it is not known.
        """
        self._parents.append((prefix, project_of))

    # --- policies -----------------------------------------------------------------------------------------------

    def get_policy(self, resource: str, *, requested_version: int = 0) -> dict[str, Any]:
        """Return the allow policy of a resource: {bindings, etag, version}, only an etag when it was never set.

        With a requested version below 3, conditional bindings come as Google gives them to old clients: without their
        conditions and under a role name that cannot be set (cloud.google.com/iam/docs/troubleshooting-withcond).
        """
        if requested_version not in (0, 1, 3):
            raise invalid(f"Invalid requested policy version {requested_version}. {VERSIONS_HELP}")
        stored = self.store.get(KIND, self.canonical(resource))
        if stored is None:
            return {"etag": UNSET_ETAG}
        policy = dict(stored["policy"])
        if policy["version"] == 3 and requested_version < 3:
            policy["version"] = 1
            policy["bindings"] = [_without_condition(binding) for binding in policy["bindings"]]
        return policy

    def set_policy(
        self,
        resource: str,
        policy: dict[str, Any],
        update_mask: str = "",
        *,
        public: bool = True,
        at_once: bool = False,
    ) -> dict[str, Any]:
        """Replace the allow policy of a resource and return it as stored.

        :param update_mask: fields to take from `policy`, "bindings,etag" by default; audit configurations are kept
            unless it names them.
        :param public: whether allUsers and allAuthenticatedUsers may be named.
        :param at_once: in effect without the time a change takes to propagate: what a new resource comes with.
        :raises ApiError: 409 for a stale etag; 400 for unknown members and roles, bad conditions, bad versions.
        """
        resource = self.canonical(resource)
        stored = self.store.get(KIND, resource)
        current = stored["policy"] if stored else {"etag": UNSET_ETAG, "version": 1}
        version = policy.get("version", 0)
        bindings = _merge(policy.get("bindings", ()))
        if version not in (0, 1, 3):
            raise invalid(f"Invalid policy version {version}. {VERSIONS_HELP}")
        if policy.get("etag"):
            if not etags.matches(policy["etag"], current["etag"]):
                raise _concurrent_change(policy["etag"], current["etag"])
            # Without an etag the write is blind, and no version check is made (google.iam.v1.Policy.version).
            if current["version"] == 3 and version < 3:
                raise invalid(
                    f"Specified policy version ({version}) cannot be less than the existing policy version (3). "
                    + VERSIONS_HELP
                )
        conditional = any("condition" in binding for binding in bindings)
        if conditional and version < 3:
            raise invalid(f"Policies with conditional role bindings must specify policy version 3. {VERSIONS_HELP}")
        known = {member for binding in current.get("bindings", ()) for member in binding["members"]}
        for binding in bindings:
            self._check_binding(resource, binding, public, known)
        new: dict[str, Any] = {"version": 3 if conditional else 1, "etag": _new_etag()}
        if bindings:
            new["bindings"] = bindings
        mask = {field.strip() for field in update_mask.split(",")}
        audit = policy if mask & {"auditConfigs", "audit_configs"} else current
        if audit.get("auditConfigs"):
            new["auditConfigs"] = audit["auditConfigs"]
        self._store(resource, new, at_once=at_once)
        return new

    def add_binding(self, resource: str, role: str, member: str) -> None:
        """Grant a role without any check, in effect at once: what Google itself does for owners and service agents."""
        resource = self.canonical(resource)
        stored = self.store.get(KIND, resource)
        current = stored["policy"] if stored else {"version": 1}
        bindings = [{**b, "members": list(b["members"])} for b in current.get("bindings", ())]
        for binding in bindings:
            if binding["role"] == role and "condition" not in binding:
                if member in binding["members"]:
                    return
                binding["members"].append(member)
                break
        else:
            bindings.append({"role": role, "members": [member]})
        self._store(resource, {**current, "bindings": _merge(bindings), "etag": _new_etag()}, at_once=True)

    def delete_policy(self, resource: str) -> None:
        """Forget the policies of a deleted resource and of everything below it."""
        resource = self.canonical(resource)
        self.store.delete(KIND, resource)
        for name, _ in self.store.list(KIND, prefix=f"{resource}/"):
            self.store.delete(KIND, name)

    def member_deleted(self, email: str, unique_id: str) -> None:
        """Rename a deleted service account in every policy, as Google does: `deleted:serviceAccount:E?uid=N`."""
        self._rename(f"serviceAccount:{email}", f"deleted:serviceAccount:{email}?uid={unique_id}")

    def member_undeleted(self, email: str, unique_id: str) -> None:
        """Undo `member_deleted`."""
        self._rename(f"deleted:serviceAccount:{email}?uid={unique_id}", f"serviceAccount:{email}")

    # --- evaluation ---------------------------------------------------------------------------------------------

    def test(
        self,
        principal: Principal,
        resource: str,
        permissions: Iterable[str],
        *,
        attributes: dict[str, Any] | None = None,
    ) -> set[str]:
        """Return the permissions of a principal on a resource, by its policy and those of its ancestors.

        :param resource: full resource name, "//run.googleapis.com/projects/p/locations/l/services/s".
        :param attributes: `api.getAttribute` values for conditions.
        """
        wanted = set(permissions)
        resource = self.canonical(resource)
        lineage = self.lineage(resource)
        wanted -= self._denied(principal, lineage, wanted)
        granted: set[str] = set()
        context: dict[str, Any] | None = None
        for name in lineage:
            for binding in self._effective(name):
                held = self.roles.permissions(binding["role"])
                hit = {permission for permission in wanted - granted if SYNONYMS.get(permission, permission) in held}
                if not hit or not any(self.matches(principal, member) for member in binding["members"]):
                    continue
                if "condition" in binding:
                    context = context or self._context(resource, attributes or {})
                    if not conditions.evaluate(binding["condition"].get("expression", ""), context):
                        continue
                granted |= hit
        return granted

    def allowed(self, principal: Principal, resource: str, permission: str) -> bool:
        """Return whether the principal has one permission."""
        return permission in self.test(principal, resource, [permission])

    def check(self, principal: Principal, resource: str, permission: str) -> None:
        """ApiError 403, in the words of the resource's service, unless the principal has the permission."""
        if not self.allowed(principal, resource, permission):
            raise self.denied(principal, resource, permission)

    def holders(self, project: str, role: str) -> set[str]:
        """Members of unconditional bindings of a role on a project (id)."""
        bindings = self._effective(f"{MANAGER}projects/{project}")
        return {m for b in bindings if b["role"] == role and "condition" not in b for m in b["members"]}

    def matches(self, principal: Principal, member: str) -> bool:
        """Return whether a policy's member is, or contains, the principal."""
        if member == "allUsers":
            return True
        if principal.anonymous:
            return False
        if member == "allAuthenticatedUsers":
            return True
        kind, _, value = member.partition(":")
        if kind in ("user", "serviceAccount"):
            return kind == principal.kind and value.lower() == principal.email.lower()
        if kind == "domain":
            return principal.kind == "user" and principal.domain.lower() == value.lower()
        if kind == "group":
            group = self.store.get(GROUP_KIND, value) or {}
            return principal.member in group.get("members", ())
        if kind in CONVENIENCE:
            project = self.sandbox.projects.get(value)
            holders = self.holders(project.id, CONVENIENCE[kind]) if project else set()
            return any(
                self.matches(principal, holder) for holder in holders if holder.partition(":")[0] not in CONVENIENCE
            )
        return False

    def canonical(self, resource: str) -> str:
        """Return the one name that a resource's policy is stored under: projects by id, service accounts by address."""
        resource = self.sandbox.projects.canonical(resource)
        match = re.fullmatch(r"//iam\.googleapis\.com/projects/[^/]+/serviceAccounts/([^/]+)(/.*)?", resource)
        account = self.sandbox.identities.account(match[1]) if match else None
        return f"//iam.googleapis.com/{account['name']}{match[2] or ''}" if match and account else resource

    def lineage(self, resource: str) -> list[str]:
        """Return the resource (canonical) and everything it is in, nearest first, ending with the organization."""
        if resource.startswith(MANAGER) and not resource.startswith(f"{MANAGER}projects/"):
            return self.sandbox.projects.chain(resource)
        if resource.startswith("//cloudbilling.googleapis.com/"):
            return [resource, f"{MANAGER}{self.sandbox.projects.organization}"]
        names = []
        host, _, path = resource.removeprefix("//").partition("/")
        parts = path.split("/")
        for end in range(len(parts), 2, -1):
            names.append(f"//{host}/{'/'.join(parts[:end])}")
        project_id = parts[1] if parts[0] == "projects" and len(parts) > 1 else ""
        for prefix, project_of in self._parents:
            if resource.startswith(prefix):
                project_id = project_of(resource) or ""
        project = self.sandbox.projects.get(project_id) if project_id else None
        if project:
            names += [project.name, *self.sandbox.projects.ancestors(project)]
        return names

    def denied(self, principal: Principal, resource: str, permission: str) -> ApiError:
        """Return the 403 (401 for anonymous callers of Cloud Storage) of the resource's service."""
        host, _, name = resource.removeprefix("//").partition("/")
        return self._facts.get(host, DEFAULT).denial(principal, host, name, permission)

    # --- private ------------------------------------------------------------------------------------------------

    def _store(self, resource: str, policy: dict[str, Any], *, at_once: bool = False) -> None:
        """Write a policy; until the change has propagated, the one before stays in effect."""
        delay = 0.0 if at_once else self.sandbox.latency.propagation("iam_policy")
        body: dict[str, Any] = {"policy": policy}
        if delay:
            body |= {"effectiveFrom": time.time() + delay, "previous": self._effective(resource)}
        self.store.put(KIND, resource, body)

    def _effective(self, resource: str) -> list[dict[str, Any]]:
        """Return the bindings that are in effect now."""
        stored = self.store.get(KIND, resource)
        if stored is None:
            return []
        if stored.get("effectiveFrom", 0) > time.time():
            return stored["previous"]
        return stored["policy"].get("bindings", [])

    def _rename(self, old: str, new: str) -> None:
        for name, stored in self.store.list(KIND):
            bindings = stored["policy"].get("bindings", [])
            if any(old in binding["members"] for binding in bindings):
                for binding in bindings:
                    binding["members"] = [new if member == old else member for member in binding["members"]]
                stored["policy"] |= {"bindings": _merge(bindings), "etag": _new_etag()}
                self.store.put(KIND, name, stored)

    def _check_binding(self, resource: str, binding: dict[str, Any], public: bool, known: set[str]) -> None:
        role = binding.get("role", "")
        if not ROLE_NAME.fullmatch(role):
            raise invalid(
                'The role name must be in the form "roles/{role}", '
                '"organizations/{organization_id}/roles/{role}", or "projects/{project_id}/roles/{role}".'
            )
        if not self.roles.exists(role):
            raise invalid(f"Role {role} is not supported for this resource.")
        condition = binding.get("condition")
        if condition is not None:
            self._check_condition(role, condition)
        on_manager = resource.startswith(MANAGER)
        for member in binding["members"]:
            if member in PUBLIC_MEMBERS:
                if on_manager or not public:
                    raise invalid(
                        "Principals of type allUsers and allAuthenticatedUsers cannot be added to this resource."
                    )
                if condition is not None:
                    raise invalid("Conditions cannot be set on bindings with allUsers or allAuthenticatedUsers.")
                continue
            if member not in known:
                self._check_member(member, on_manager)

    def _check_member(self, member: str, on_manager: bool) -> None:
        if member.startswith("deleted:") or FEDERATED.fullmatch(member):
            return
        match = MEMBER.fullmatch(member)
        if match is None or (match[1] in ("user", "serviceAccount", "group") and "@" not in match[2]):
            if ":" in member and member.partition(":")[0] in ("user", "serviceAccount", "group", "domain"):
                kind, value = member.split(":", 1)
                raise invalid(f"Invalid {_noun(kind).lower()} ({value}).")
            raise invalid(f"The member {member} is of an unknown type. Please set a valid type prefix for the member.")
        kind, value = match.groups()
        if kind in CONVENIENCE:
            if on_manager:
                raise invalid(f"Principals of type {kind} cannot be added to this resource.")
            return
        if not self.sandbox.identities.member_exists(member):
            raise invalid(f"{_noun(kind)} {value} does not exist.")

    @staticmethod
    def _check_condition(role: str, condition: dict[str, Any]) -> None:
        if role in BASIC:
            raise invalid(f"Conditions can't be set on basic roles, and {role} is one.")
        if not condition.get("title"):
            raise invalid("The condition title is required.")
        try:
            conditions.check(condition.get("expression", ""))
        except conditions.InvalidExpression as error:
            raise invalid(
                f"ExpressionCompileCheck: failed to compile expression {condition.get('expression', '')!r}: {error}"
            ) from error

    def _context(self, resource: str, attributes: dict[str, Any]) -> dict[str, Any]:
        host, _, name = resource.removeprefix("//").partition("/")
        facts = self._facts.get(host, DEFAULT)
        if facts.numbered:
            project = self.sandbox.projects.get(name.split("/")[1])
            if project:
                name = "/".join(["projects", project.number, *name.split("/")[2:]])
        parts = name.split("/")
        kind = facts.types.get(parts[-2] if len(parts) > 1 else "", "")
        if OBJECT.match(resource):  # object names contain slashes
            kind = "Object"
        if host == "cloudresourcemanager.googleapis.com":
            kind = parts[0].removesuffix("s").capitalize()
        return {
            "resource": {"name": name, "service": host, "type": f"{host}/{kind}" if kind else ""},
            "request": {"time": datetime.datetime.now(datetime.UTC)},
            "api": attributes,
        }

    def _denied(self, principal: Principal, lineage: list[str], wanted: set[str]) -> set[str]:
        """Return the permissions that are revoked by deny policies on the project, folder or organization."""
        denied: set[str] = set()
        for name in lineage:
            if not name.startswith(MANAGER):
                continue
            for _, policy in self.store.list(DENY_KIND, parent=name):
                for rule in policy.get("rules", ()):
                    deny = rule.get("denyRule", {})
                    hit = {p for p in wanted if _deny_name(p) in deny.get("deniedPermissions", ())}
                    hit -= {p for p in hit if _deny_name(p) in deny.get("exceptionPermissions", ())}
                    if hit and self._denies(principal, deny):
                        denied |= hit
        return denied

    def _denies(self, principal: Principal, deny: dict[str, Any]) -> bool:
        def named(members: Iterable[str]) -> bool:
            return any(self.matches(principal, _v1_member(member)) for member in members)

        return named(deny.get("deniedPrincipals", ())) and not named(deny.get("exceptionPrincipals", ()))


def _noun(kind: str) -> str:
    return {"serviceAccount": "Service account"}.get(kind, kind.capitalize())


def _deny_name(permission: str) -> str:
    """`storage.objects.get` as deny policies write it: `storage.googleapis.com/objects.get`."""
    service, _, rest = permission.partition(".")
    domain = {"resourcemanager": "cloudresourcemanager"}.get(service, service)
    return f"{domain}.googleapis.com/{rest}"


def _v1_member(member: str) -> str:
    """Return a deny policy's (v2) principal identifier as an allow policy's member."""
    if member == "principalSet://goog/public:all":
        return "allUsers"
    if member.startswith("principal://goog/subject/"):
        return f"user:{member.rpartition('/')[2]}"
    if member.startswith("principalSet://goog/group/"):
        return f"group:{member.rpartition('/')[2]}"
    if member.startswith("principal://iam.googleapis.com/projects/-/serviceAccounts/"):
        return f"serviceAccount:{member.rpartition('/')[2]}"
    return member


def _merge(bindings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bindings as Google keeps them: one for each role and condition, each member once, none empty, in order."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for binding in bindings:
        condition = binding.get("condition")
        key = (binding.get("role", ""), repr(sorted((condition or {}).items())))
        target = merged.setdefault(key, {"role": binding.get("role", ""), "members": []})
        if condition is not None:
            target["condition"] = condition
        target["members"] += [m for m in binding.get("members", ()) if m not in target["members"]]
    return [
        {**merged[key], "members": sorted(merged[key]["members"])} for key in sorted(merged) if merged[key]["members"]
    ]


def _without_condition(binding: dict[str, Any]) -> dict[str, Any]:
    if "condition" not in binding:
        return binding
    digest = hashlib.sha256(repr(sorted(binding["condition"].items())).encode()).hexdigest()[:20]
    return {"role": f"{binding['role']}_withcond_{digest}", "members": binding["members"]}


def _new_etag() -> str:
    """Eight bytes in base64: like Google's, a time in microseconds with a version before it."""
    return base64.b64encode(b"\x07" + (time.time_ns() // 1000).to_bytes(7, "big")[1:] + secrets.token_bytes(1)).decode()


def _concurrent_change(sent: str, current: str) -> ApiError:
    return aborted(
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff. "
        f"The request's ETag '{_octal(sent)}' did not match the current policy's ETag '{_octal(current)}'."
    )


def _octal(etag: str) -> str:
    """Return an etag's bytes with everything unprintable escaped in octal, as Google shows them."""
    try:
        raw = base64.b64decode(etag + "=" * (-len(etag) % 4), altchars=b"-_" if re.search("[-_]", etag) else None)
    except ValueError as error:
        raise invalid("Invalid value at 'policy.etag' (TYPE_BYTES), Base64 decoding failed") from error
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in raw)
