# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what exists in a project: its APIs, permissions and resources, side by side. Nothing is judged here."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _policy
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


@dataclass
class Answer:
    """What one question returned: a value or a typed error."""

    value: Any = None
    error: Any = None


@dataclass
class Found:
    """One resource that was asked for, and what exists under its name.

    asked   ``type``, ``name``, ``location`` and what else the caller put there
    body    the resource as the API returned it; None when it does not exist
    labels  the labels that it carries, or what stands for them in its kind
    facts   what its kind reports of it besides
    error   why it could not be read, or None
    """

    asked: dict
    kind: Any
    remote: Any
    body: Any = None
    labels: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    error: Any = None

    @property
    def exists(self):
        return self.body is not None


class Survey:
    """All questions to one project, through the client of one task."""

    def __init__(self, task):
        self.task = task
        self.disabled = set()

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
        body = self.task.client.get(self.task.remote(PROJECT).url, permission=f"{PROJECT.permission}.get")
        return dict(body, organization=self._organization(body.get("parent") or ""))

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
        kind = KINDS[asked["type"]]
        names = kind.names(self.task.project, asked["name"], (asked["location"] or "").strip(ANYWHERE))
        found = Found(asked, kind, self.task.remote(kind.resource, **names))
        if kind.service in self.disabled:
            return found
        try:
            found.body = self.task.client.get(found.remote.url, kind.resource.read_query or None)
            found.labels = kind.resource.mark.read(found.remote, found.body) if kind.resource.mark else {}
            found.facts = kind.facts(found.remote, found.body)
        except (_errors.NotFound, _errors.ApiDisabled):
            found.body = None
        except _errors.ApiError as error:
            found.body, found.error = None, error
        return found

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
