# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what exists in a project: its APIs, permissions and resources, side by side. Nothing is judged here."""

from __future__ import annotations

import concurrent.futures
import contextlib
import operator
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _policy, _secrets
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import secretmanager, sql, storage
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kind import ANYWHERE
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import KINDS
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.project import (
    API,
    BILLING_INFO,
    MANAGER,
    PROJECT,
)

USERINFO = "https://openidconnect.googleapis.com/v1/userinfo"
# https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchGet
SERVICES_AT_ONCE = 30
# https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions
PERMISSIONS_AT_ONCE = 100
SIDE_BY_SIDE = 12
# Members that stand for others, and may stand for a service account.
_GROUPS = ("group:", "domain:", "principalSet:")


@dataclass
class Answer:
    """What one question returned: a value or a typed error."""

    value: Any = None
    error: Any = None


@dataclass
class Found:
    """One requested resource, and the existing one with its name.

    asked   ``type``, ``name``, ``location`` and what else the caller put there
    body    the resource as the API returned it; None when it does not exist
    labels  the labels that it carries, or what stands for them in its kind
    facts   what its kind reports of it besides
    error   why it could not be read, or None
    absent  the error that says that it does not exist, or that its API is disabled
    unlisted  why it may exist all the same; only of what a variable refers to
    unfit    why the value of a secret cannot be used, or an empty text
    unread  members that should be able to read it and that no policy names
    unknown  members of which that is not known, because the policy is not readable
    deleted  a deleted bucket of its name that can be restored, as the API returned it; None for none
    usable  the newest version of a secret that is enabled, where the latest one is not; empty for none
    indirect  whether a group may have the role for them, or the project, and its policy is not readable
    grantable  whether the caller may grant the ``unread`` members access
    """

    asked: dict
    kind: Any
    remote: Any
    body: Any = None
    labels: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    error: Any = None
    absent: Any = None
    unlisted: str = ""
    unfit: str = ""
    unread: list = field(default_factory=list)
    unknown: list = field(default_factory=list)
    deleted: Any = None
    usable: str = ""
    indirect: bool = False
    grantable: bool = False

    @property
    def exists(self):
        return self.body is not None


class Survey:
    """All questions to one project, through the client of one task."""

    def __init__(self, task):
        self.task = task
        task.client.snapshot.keep = True
        self.disabled = set()
        self._project, self._project_lock = None, threading.Lock()
        self.number = None

    @staticmethod
    def side_by_side(questions):
        """Call functions without arguments in a pool of threads and return an :class:`Answer` for each, in order."""
        if not questions:
            return []
        with concurrent.futures.ThreadPoolExecutor(min(SIDE_BY_SIDE, len(questions))) as pool:
            return list(pool.map(_answer, questions))

    def services(self, names):
        """Return ``({name: whether it is enabled}, project number or None)``.

        Errors: those of the client. As the first question it shows whether credentials and project are usable.
        """
        project, found, number = self.task.project, {}, None
        for start in range(0, len(names), SERVICES_AT_ONCE):
            asked = [f"projects/{project}/services/{name}" for name in names[start : start + SERVICES_AT_ONCE]]
            answer = self.task.client.get(
                f"{API.base}/projects/{project}/services:batchGet",
                {"names": asked},
                permission=f"{API.permission}.get",
            )
            for item in answer.get("services") or []:
                _projects, number, _services, service = item["name"].split("/", 3)
                found[service] = item.get("state") == "ENABLED"
        self.number = number
        self.disabled = {name for name in names if not found.get(name)}
        return found, number

    def caller(self):
        """Return the e-mail address behind the credentials.

        A person's login and a bare token do not contain it. Google returns it, unless the token was issued without the
        scope ``email``: then it is an empty string.
        """
        known = self.task.client.caller
        if known:
            return known
        try:
            return self.task.client.get(USERINFO).get("email") or ""
        except _errors.ApiError:
            return ""

    def project(self):
        """Return the project with its ``organization``: ``organizations/N``, or None when it is in none."""
        body = self._project_body()
        return dict(body, organization=self._organization(body.get("parent") or ""))

    def _project_body(self):
        """Read the project, which two of the questions want to know, once."""
        with self._project_lock:
            if self._project is None:
                url = self.task.remote(PROJECT).url
                self._project = self.task.client.get(url, permission=f"{PROJECT.permission}.get")
        return self._project

    def _organization(self, parent):
        while parent.startswith("folders/"):
            try:
                parent = self.task.client.get(f"{PROJECT.base}/{parent}").get("parent") or ""
            except _errors.ApiError:
                # Only what is inside an organization is in a folder; not every caller may see which one.
                return "organizations/unknown"
        return parent or None

    def billing(self):
        return self.task.client.get(self.task.remote(BILLING_INFO).url)

    def granted(self, permissions):
        """Return which of the permissions the caller has on the project."""
        found, url = set(), f"{MANAGER}/v1/projects/{self.task.project}:testIamPermissions"
        for start in range(0, len(permissions), PERMISSIONS_AT_ONCE):
            asked = permissions[start : start + PERMISSIONS_AT_ONCE]
            found.update(self.task.client.post(url, {"permissions": asked}, safe=True).get("permissions") or [])
        return found

    def resource(self, asked):
        """Return what exists under the name of a resource as a :class:`Found`. Errors are in it."""
        kind, host = KINDS[asked["type"]], asked.get("host")
        names = kind.names(self.task.project, asked["name"], (asked["location"] or "").strip(ANYWHERE))
        resource = sql.user(host) if kind.resource is sql.USER else kind.resource
        found = Found(asked, kind, self.task.remote(resource, host=host, **names))
        if kind.service in self.disabled:
            return found
        try:
            if found.remote.url == self.task.remote(PROJECT).url:
                found.body = self._project_body()
            else:
                found.body = self.task.client.get(found.remote.url, found.remote.query)
            if kind.resource.mark and not kind.lenient:
                found.labels = kind.resource.mark.read(found.remote, found.body)
            found.facts = kind.facts(found.remote, found.body)
        except (_errors.NotFound, _errors.ApiDisabled) as error:
            found.body, found.absent = None, error
        except _errors.ApiError as error:
            found.body, inside = None, kind.resource.inside
            # The contents of a resource in creation do not exist yet.
            found.error = None if inside and re.search(inside.refusal, error.text) else error
        if asked.get("restorable") and isinstance(found.absent, _errors.NotFound):
            found.deleted = self._deleted_bucket(names["name"])
        if found.exists:
            for name in asked.get("read") or []:
                self._related(found, name)
            if any(asked.get(name) for name in ("minimum_length", "rejected_values", "one_word")):
                found.unfit = self._unfit(found)
        if asked.get("referenced_by"):
            self._referenced(found)
        return found

    def _deleted_bucket(self, name):
        """Return the bucket of this name that was deleted last and can be restored, or None.

        A caller without the permission to list gets None.
        https://cloud.google.com/storage/docs/use-soft-deleted-buckets
        """
        query = {"project": self.task.project, "softDeleted": "true", "prefix": name}
        with contextlib.suppress(_errors.GcpError):  # not every caller may list buckets
            items = self.task.client.get(f"{storage.BASE}/b", query).get("items") or []
            return max(
                (item for item in items if item["name"] == name),
                key=operator.itemgetter("softDeleteTime"),
                default=None,
            )
        return None

    def _unfit(self, found):
        """Return why the value of a secret cannot be used. A value that cannot be read is not judged."""
        try:
            value = _secrets.read_secret(self.task, secretmanager.used_version(found.body))
        except (_errors.GcpError, UnicodeDecodeError):
            return ""
        least = found.asked.get("minimum_length") or 0
        if len(value) < least:
            return f"is shorter than {least} characters"
        if found.asked.get("one_word") and not _secrets.is_one_word(value):
            return "contains white space or control characters"
        return "is a well-known default" if value in (found.asked.get("rejected_values") or []) else ""

    def _referenced(self, found):
        """Read what is known besides of a resource that a variable refers to."""
        if isinstance(found.absent, _errors.NotFound):
            found.unlisted = found.kind.unlisted(found.remote)
        if found.exists and found.asked["type"] == "secret_version" and found.kind.state(found.body)[1]:
            found.usable = self._usable_version(found.remote)
        readers = [text.format(number=self.number) for text in found.asked.get("readers") or []]
        if found.exists and readers:
            found.unread, found.unknown, found.indirect = self._without_role(found, readers)
            if found.unread and found.kind.granted:
                found.grantable = self._may_grant(found)

    def _usable_version(self, remote):
        """Return the version to use where the latest one is disabled or destroyed. A number stays what it is."""
        names = remote.names
        if names["version"] != "latest":
            return ""
        number = _secrets.newest_enabled(self.task, names["project"], names["secret"])
        return remote.path.removesuffix("latest") + number if number else ""

    def _may_grant(self, found):
        """Return whether the caller may set the policy that grants access to a resource."""
        address = _policy.PolicyAddress(found.kind.governed.format(**found.remote.names))
        try:
            return address.may(self.task.client, found.kind.granted)
        except _errors.ApiError:
            return False

    def _without_role(self, found, members):
        """Return (members, unknown, indirect): those without a role in the policies from the resource to its project.

        Without the first policy, it is not known which members have one. A group may have a role for a member.
        """
        names, left, policies, groups = found.remote.names, set(members), 0, False
        resources = (found.kind.governed, *found.kind.above, KINDS["project"].policy)
        with contextlib.suppress(_errors.GcpError):  # `policies` says how many could be read
            for name in resources:
                policy = _policy.PolicyAddress(name.format(**names)).read(self.task.client)
                policies += 1
                for binding in policy.get("bindings") or []:
                    # The permissions of a custom role are not known.
                    if binding["role"] in found.kind.readers or not binding["role"].startswith("roles/"):
                        with_role = set(binding.get("members") or [])
                        left = set() if with_role & _policy.EVERYBODY else left - with_role
                        groups = groups or any(text.startswith(_GROUPS) for text in with_role)
                if not left:
                    break
        lacking = [member for member in members if member in left]
        indirect = groups or policies < len(resources)
        return (lacking, [], indirect) if policies else ([], lacking, indirect)

    def _related(self, found, name):
        """Read what belongs to a resource, so that the answer is kept. A later task reports what cannot be read."""
        kind, client = found.kind, self.task.client
        with contextlib.suppress(_errors.GcpError):  # see above
            if name in kind.related:
                url = kind.related[name](found.remote, found.body)
                if url:
                    client.get(url)
            else:
                names = dict(found.remote.names, number=self.number)
                _policy.PolicyAddress(kind.policy_name(name, names)).read(client)

    def member(self, text):
        """Check one member of a policy. Errors: :class:`UserError` for one that cannot be given roles."""
        kind, _colon, email = _policy.member(text).partition(":")
        if kind == "serviceAccount":
            _policy.refuse_missing(self.task, email)


def _answer(question):
    try:
        return Answer(question())
    except _errors.GcpError as error:
        return Answer(error=error)
