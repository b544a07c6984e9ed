# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IAM policies: which members have which roles on any resource, in one read and at most one write.

A resource is named by its full resource name (https://cloud.google.com/iam/docs/full-resource-names).
"""

from __future__ import annotations

import concurrent.futures
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _iap
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import FOREIGN
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result

# How long a service account that exists may be unknown to policies after it was made.
NEW_ACCOUNT_SECONDS = 180
_CONFLICTS = 8
_SIDE_BY_SIDE = 12
_UNKNOWN_ACCOUNT = re.compile(r"[Ss]ervice account (\S+@\S+?gserviceaccount\.com) does not exist")
_UNKNOWN_MEMBER = re.compile(r"\b(User|Group|Domain) (\S+) does not exist")
# https://cloud.google.com/resource-manager/docs/organization-policy/restricting-domains
_NOT_PERMITTED = re.compile(r"do not belong to a permitted customer|allowedPolicyMemberDomains")
_KINDS = (
    "user",
    "serviceAccount",
    "group",
    "domain",
    "projectOwner",
    "projectEditor",
    "projectViewer",
    "principal",
    "principalSet",
    "principalHierarchy",
    "deleted",
)
EVERYBODY = frozenset(("allUsers", "allAuthenticatedUsers"))


@dataclass(frozen=True)
class _Api:
    """How a service reads and writes the policies of its resources.

    kind        what the resource is, in the words of its own module
    path        pattern of the resource's path within its full name
    url         address that the methods are appended to; groups of ``path`` fill it
    permission  prefix of ``.getIamPolicy`` and ``.setIamPolicy``, or a function from the resource's path to it
    joint       between the address and the method
    read        HTTP method of the read; ``options`` says where the wanted version goes
    name        the resource's path in its own API, where it is not the one within the full name
    """

    kind: str
    path: str
    url: str
    permission: Any
    read: str = "GET"
    options: str = "query"
    storage: bool = False
    joint: str = ":"
    name: str = "{0}"


_VERSION_3 = {
    "query": {"options.requestedPolicyVersion": "3"},
    "flat": {"optionsRequestedPolicyVersion": "3"},
}
_APIS = {
    "cloudresourcemanager.googleapis.com": tuple(
        _Api(
            kind.removesuffix("s"),
            f"({kind}/[^/]+)",
            "https://cloudresourcemanager.googleapis.com/v3/{0}",
            f"resourcemanager.{kind}",
            read="POST",
            options="body",
        )
        for kind in ("projects", "folders", "organizations")
    ),
    "iam.googleapis.com": (
        _Api(
            "service account",
            "(projects/[^/]+/serviceAccounts/[^/]+)",
            "https://iam.googleapis.com/v1/{0}",
            "iam.serviceAccounts",
            read="POST",
        ),
    ),
    "cloudkms.googleapis.com": (
        _Api(
            "key",
            "(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)",
            "https://cloudkms.googleapis.com/v1/{0}",
            "cloudkms.cryptoKeys",
        ),
        _Api(
            "key ring",
            "(projects/[^/]+/locations/[^/]+/keyRings/[^/]+)",
            "https://cloudkms.googleapis.com/v1/{0}",
            "cloudkms.keyRings",
        ),
    ),
    "secretmanager.googleapis.com": (
        _Api(
            "secret",
            "(projects/[^/]+/secrets/[^/]+)",
            "https://secretmanager.googleapis.com/v1/{0}",
            "secretmanager.secrets",
        ),
    ),
    "storage.googleapis.com": (
        _Api(
            "bucket",
            "projects/_/buckets/([^/]+)",
            "https://storage.googleapis.com/storage/v1/b/{0}/iam",
            "storage.buckets",
            storage=True,
            name="b/{0}",
        ),
    ),
    "artifactregistry.googleapis.com": (
        _Api(
            "repository",
            "(projects/[^/]+/locations/[^/]+/repositories/[^/]+)",
            "https://artifactregistry.googleapis.com/v1/{0}",
            "artifactregistry.repositories",
        ),
    ),
    "run.googleapis.com": (
        _Api(
            "Cloud Run service",
            "(projects/[^/]+/locations/[^/]+/services/[^/]+)",
            "https://run.googleapis.com/v2/{0}",
            "run.services",
        ),
        _Api(
            "Cloud Run job",
            "(projects/[^/]+/locations/[^/]+/jobs/[^/]+)",
            "https://run.googleapis.com/v2/{0}",
            "run.jobs",
        ),
    ),
    "compute.googleapis.com": (
        _Api(
            "subnetwork",
            "(projects/[^/]+/regions/[^/]+/subnetworks/[^/]+)",
            "https://compute.googleapis.com/compute/v1/{0}",
            "compute.subnetworks",
            options="flat",
            joint="/",
        ),
    ),
    "iap.googleapis.com": (
        _Api(
            _iap.KIND,
            "(projects/[^/]+/iap_(?:web|tunnel)(?:/.+)?)",
            "https://iap.googleapis.com/v1/{0}",
            _iap.permissions,
            read="POST",
            options="body",
        ),
    ),
}


class PolicyAddress:
    """Where the policy of one resource is read and written. Errors: :class:`UserError` for an unknown kind."""

    def __init__(self, resource):
        self.resource = resource
        match = re.fullmatch(r"//([^/]+)/(.+)", resource)
        for api in _APIS.get(match.group(1), ()) if match else ():
            path = re.fullmatch(api.path, match.group(2))
            if path:
                self._api, self._url = api, api.url.format(*path.groups())
                self.kind, self.name = api.kind, api.name.format(*path.groups())
                self._permission = api.permission(match.group(2)) if callable(api.permission) else api.permission
                return
        raise _errors.UserError(
            f"{resource!r} is not the full resource name of a resource with a supported IAM policy.",
            "Supported are the services " + ", ".join(sorted(_APIS)) + "; the form is"
            " //secretmanager.googleapis.com/projects/PROJECT/secrets/SECRET.",
        )

    def read(self, client):
        api = self._api
        permission = f"{self._permission}.getIamPolicy"
        if api.storage:
            return client.get(self._url, {"optionsRequestedPolicyVersion": 3}, permission=permission)
        body = None
        if api.read == "POST":
            body = {"options": {"requestedPolicyVersion": 3}} if api.options == "body" else {}
        return client.request(
            api.read,
            f"{self._url}{api.joint}getIamPolicy",
            query=_VERSION_3.get(api.options),
            body=body,
            safe=True,
            permission=permission,
        )

    def may(self, client, permission):
        """Return whether the caller has a permission on the resource."""
        body = {"permissions": [permission]}
        return bool(client.post(f"{self._url}:testIamPermissions", body, safe=True).get("permissions"))

    def write(self, client, policy):
        """Replace the policy. The etag in it makes sending it twice harmless."""
        permission = f"{self._permission}.setIamPolicy"
        if self._api.storage:
            return client.request("PUT", self._url, body=policy, permission=permission)
        return client.post(
            f"{self._url}{self._api.joint}setIamPolicy", {"policy": policy}, safe=True, permission=permission
        )


def member(text):
    """A member in the one spelling that Google gives back: the kind's own case, addresses in lower case.

    Errors: :class:`UserError` when it says no kind.
    """
    text = text.strip()
    for everybody in EVERYBODY:
        if text.lower() == everybody.lower():
            return everybody
    kind, colon, name = text.partition(":")
    for known in _KINDS:
        if colon and kind.lower() == known.lower():
            return f"{known}:{name.lower() if known in ('user', 'serviceAccount', 'group', 'domain') else name}"
    raise _errors.UserError(
        f"{text!r} is not a member of an IAM policy.",
        "Add the type as a prefix: user:, serviceAccount:, group: or domain:, or allUsers, allAuthenticatedUsers.",
    )


def _key(binding):
    condition = binding.get("condition") or {}
    return (
        binding["role"],
        condition.get("title") or "",
        condition.get("expression") or "",
        condition.get("description") or "",
    )


def _normal(text):
    """A member of an existing policy for comparison; what is not understood stands for itself."""
    try:
        return member(text)
    except _errors.UserError:
        return text


@dataclass(frozen=True)
class PolicyPlan:
    """The desired policy, and the changes. ``policy`` has the etag that was read."""

    policy: Any
    before: dict
    after: dict

    @property
    def changed(self):
        return self.before != self.after


def plan(policy, wanted, *, authoritative=False, absent=False, foreign=False):
    """Compare bindings with a policy: pure.

    ``wanted`` is a list of ``{role, members, condition}``. Additive unless ``authoritative``, where the members of
    each named role (with its condition) become exactly these; a role is not touched unless it is named. ``absent``
    takes the members away, or the whole binding when it names none (or with ``authoritative``). A deleted account in
    a policy (``deleted:serviceAccount:..?uid=..``) is not the account of the same name that was made later. On an
    ``foreign`` resource members of others stay: nothing is authoritative, and only named members are removed.
    """
    named, authoritative = {}, authoritative and not foreign
    for binding in wanted:
        if absent and foreign and not binding.get("members"):
            continue
        members = named.setdefault(_key(binding), {})
        members.update({member(text): None for text in binding.get("members") or []})
    existing, conditions, others = {}, {}, []
    for binding in policy.get("bindings") or []:
        key = _key(binding)
        if key not in named:
            others.append(binding)
            continue
        conditions[key] = binding.get("condition")
        existing.setdefault(key, {}).update({_normal(text): text for text in binding.get("members") or []})

    bindings, before, after = list(others), {}, {}
    for key, members in named.items():
        now = existing.get(key, {})
        if absent:
            then = (
                {}
                if authoritative or not members
                else {name: text for name, text in now.items() if name not in members}
            )
        elif authoritative:
            then = {name: now.get(name, name) for name in members}
        else:
            then = dict(now, **{name: now.get(name, name) for name in members})
        title = key[0] if not key[1] else f"{key[0]} if {key[1]}"
        if set(now) != set(then):
            before[title], after[title] = sorted(now), sorted(then)
        if then:
            binding = {"role": key[0], "members": list(then.values())}
            condition = conditions.get(key) or _condition(key)
            bindings.append(dict(binding, condition=condition) if condition else binding)
    result = {name: value for name, value in policy.items() if name not in ("bindings", "kind", "resourceId")}
    result["bindings"] = bindings
    result["version"] = 3 if any(binding.get("condition") for binding in bindings) else policy.get("version") or 1
    return PolicyPlan(result, before, after)


def _condition(key):
    condition = {"title": key[1], "expression": key[2], "description": key[3]}
    return {name: value for name, value in condition.items() if value} if key[2] else None


def ensure(task, resource, wanted, *, authoritative=False, absent=False, relation=""):
    """Make the policy of a resource (its full name) agree with the bindings; return a :class:`Result`.

    ``relation`` is what the resource is to the task's owner, see ``_ownership``.
    """
    address = PolicyAddress(resource)
    began = None
    for attempt in range(_CONFLICTS):
        policy = _read(task, address, absent)
        step = plan(policy, wanted, authoritative=authoritative, absent=absent, foreign=relation in FOREIGN)
        began = began or step
        result = Result.of(address.kind, address.name, began.before, began.after, title=resource)
        if relation:
            result.extra["relation"] = relation
        if not step.changed or task.check_mode:
            result.resource = step.policy
            return result
        try:
            result.resource = _write_patiently(task, address, step.policy)
            return result
        except _errors.Conflict as error:
            failure = error
            task.waiter.pause(
                task.client.clock.random() * 2**attempt, resource, "its policy was changed at the same time"
            )
    raise failure


def differences(task, grants):
    """Compare bindings of several resources with their policies, which are read side by side.

    Return what differs as lines of text, and the full names of resources with a policy that is not readable, which
    are warnings.
    """
    addresses = [PolicyAddress(item["resource"]) for item in grants]
    with concurrent.futures.ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(grants) or 1)) as pool:
        policies = list(pool.map(lambda address: _policy_or_error(task, address), addresses))
    lines, unreadable = [], []
    for item, address, policy in zip(grants, addresses, policies, strict=True):
        title = f"{address.kind} {address.name}"
        if isinstance(policy, _errors.NotFound):
            lines.append(f"{title} does not exist, and with it the roles on it")
        elif isinstance(policy, _errors.GcpError):
            unreadable.append(item["resource"])
            task.warn(f"The roles on {title} were not compared: {policy}")
        else:
            step = plan(policy, item["bindings"], authoritative=item["exact"])
            above, error = _inherited(task, item, step)
            if error:
                unreadable.append(item["resource"])
                task.warn(f"The roles on {title} were not compared, because they may be granted above it: {error}")
            else:
                lines += _compared(title, step, above)
    return lines, unreadable


def _inherited(task, item, step):
    """Return (role -> members) in the policies above a resource, and the error of one that is not readable or None.

    They are read only where a member lacks a role on the resource itself.
    """
    found = {role: set() for role in step.after}
    if not any(set(step.after[role]) - set(step.before[role]) for role in step.after):
        return found, None
    for name in item.get("above") or []:
        policy = _policy_or_error(task, PolicyAddress(name))
        if isinstance(policy, _errors.GcpError):
            return found, policy
        for binding in policy.get("bindings") or []:
            if binding["role"] in found and not binding.get("condition"):
                found[binding["role"]].update(binding.get("members") or [])
    return found, None


def _policy_or_error(task, address):
    try:
        return address.read(task.client)
    except (_errors.NotFound, _errors.PermissionDenied, _errors.ApiDisabled) as error:
        return error


def _compared(title, step, above):
    """Yield the lines about one policy; ``above`` are the members that have a role by the policies above it."""
    for role in step.after:
        before, after = set(step.before[role]), set(step.after[role])
        for text in sorted(after - before - above[role]):
            yield f"{role} is missing on {title}: {text}"
        for text in sorted(before - after):
            yield f"{role} on {title} has a member that no variable names: {text}"


def _read(task, address, absent):
    try:
        return address.read(task.client)
    except _errors.NotFound:
        if task.check_mode or absent:
            return {}  # an earlier task would have created it, or it is deleted with its policy
        raise
    except _errors.ApiDisabled as error:
        if not task.check_mode:
            raise
        task.assume_enabled(error)
        return {}


def _write_patiently(task, address, policy):
    """Write a policy, waiting for accounts in it that were made a moment ago."""
    deadline = task.client.clock.now() + NEW_ACCOUNT_SECONDS
    while True:
        try:
            return address.write(task.client, policy)
        except _errors.InvalidRequest as error:
            _refuse_unknown(address.resource, error)
            unknown = _UNKNOWN_ACCOUNT.search(error.text)
            if not unknown or task.client.clock.now() >= deadline:
                raise
            refuse_missing(task, unknown.group(1))
            task.waiter.pause(4, address.resource, error.text)


def _refuse_unknown(resource, error):
    """Raise :class:`UserError` for members that are unknown to Google or not permitted by the organization."""
    unknown = _UNKNOWN_MEMBER.search(error.text)
    if unknown:
        raise _errors.UserError(
            f"There is no {unknown.group(1).lower()} {unknown.group(2)} to have a role on {resource}."
            " No role was changed.",
            "Check how it is spelled, and what it is: user:, group:, serviceAccount: or domain:.",
        ) from error
    if _NOT_PERMITTED.search(error.text):
        raise _errors.UserError(
            f"The organization does not permit all of the members on {resource}: {error.text}",
            "Its policy constraints/iam.allowedPolicyMemberDomains lists the permitted domains. Remove the other"
            " members, or change the policy.",
        ) from error


def refuse_missing(task, email):
    """Errors: :class:`UserError` when the account does not exist at all, so that waiting is pointless."""
    local, _at, domain = email.rpartition("@")
    agent = domain.startswith("gcp-sa-") or re.fullmatch(r"service-\d+", local)
    if agent or not domain.endswith(".iam.gserviceaccount.com"):
        return  # an account of Google, which cannot be read
    try:
        task.client.get(f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{email}")
    except _errors.NotFound as error:
        raise _errors.UserError(
            f"The service account {email} does not exist.", "Make it first (mlplatform.gcp.service_account)."
        ) from error
    except _errors.ApiError:
        return  # not allowed to look: keep waiting
