# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions of a secret: find the one to keep, add a new one, disable or destroy old ones."""

from __future__ import annotations

import base64

from ansible_collections.mlplatform.gcp.plugins.module_utils import _secrets, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.secretmanager import (
    MADE_OF,
    MADE_VERSION,
    SECRET,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import NotFound, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result
from ansible_collections.mlplatform.gcp.plugins.module_utils._secret_sources import NEW

_SECRETS = "secretmanager.projects.secrets"
# Seconds after which a concurrent run that created a secret has added the first version.
_FIRST_VERSION_SECONDS = 3
# Stands for the number of a version that is not added in check mode.
_NOT_MADE = "latest"
_ANY = object()
# https://cloud.google.com/secret-manager/quotas
_LARGEST = 65536


class Versions:
    """The versions of one secret."""

    def __init__(self, task, remote):
        self._task = task
        self._remote = remote
        self._names = {"project": remote.names["project"], "secret": remote.names["name"]}
        # The newest version when the decision was made to add one; None for none, _ANY where it does not matter.
        self._before = _ANY

    def name(self, number):
        return f"{self._remote.path}/versions/{number}"

    def latest(self):
        """Return the number of the newest version that is enabled, or None."""
        version = self._read("latest")
        if version is None or version.get("state") == "ENABLED":
            return version and _number(version)
        return _secrets.newest_enabled(self._task, **self._names)

    def _usable(self, number):
        version = self._read(number)
        return _number(version) if version and version.get("state") == "ENABLED" else None

    def _read(self, number):
        try:
            return _secrets.read_version(self._task, self.name(number))
        except NotFound:
            return None

    def wanted(self, source, annotations, fresh):
        """Return ``(number, recorded)`` of the version to keep.

        ``number`` is None when a new version is needed; ``recorded`` says whether the annotations are up to date.
        ``fresh`` says that this task has just created the secret.
        """
        number, known = annotations.get(MADE_VERSION), annotations.get(MADE_OF)
        if number and known and source.matches(known):
            if not self._task.params["verify"] or self._usable(number):
                return number, True
            return None, False
        if fresh:
            self._before = None
        if fresh or (known and not number):
            return None, False
        latest = self.latest()
        if latest is None and not number and not self._task.check_mode:
            # A concurrent run can have created the secret, and adds the first version next.
            self._task.client.clock.sleep(_FIRST_VERSION_SECONDS)
            latest = self.latest()
        self._before = latest
        if latest and self._task.ownership.keeps(self._remote.relation) and not number:
            if not source.resembles(self._task, self.name(latest)):
                self._task.warn(f"{self._remote.title} has another value than the wanted one, and is left as it is.")
            return latest, True
        if latest and source.adopts(self._task, self.name(latest)):
            return latest, False
        return None, False

    def added(self, source):
        """Return the number of a version that a concurrent run has added meanwhile, if it can be kept, or None."""
        if self._before is _ANY:
            return None
        latest = self.latest()
        new = latest is not None and latest != self._before
        return latest if new and source.adopts(self._task, self.name(latest)) else None

    def check(self, value):
        """Errors: :class:`UserError` for a value that is empty or too large."""
        if not value:
            raise UserError(f"The value for {self._remote.title} is empty.")
        if len(value) > _LARGEST:
            raise UserError(f"The value for {self._remote.title} has {len(value)} bytes; {_LARGEST} are allowed.")

    def add(self, value):
        """Add a version and return its number."""
        body = {"payload": {"data": base64.b64encode(value).decode()}}
        version = self._call("addVersion", body, made=lambda: self._with(value))
        return version["name"].rsplit("/", 1)[-1]

    def _with(self, value):
        """Return the newest version if it has the value, else None."""
        number = self.latest()
        same = number and _secrets.read_bytes(self._task, self.name(number)) == value
        return {"name": self.name(number)} if same else None

    def retire(self):
        """Disable or destroy old versions, as ``old_versions`` and ``keep_versions`` say."""
        action, keep = self._task.params["old_versions"], max(1, self._task.params["keep_versions"])
        if action == "keep":
            return
        states = {"disable": ("ENABLED",), "destroy": ("ENABLED", "DISABLED")}[action]
        query = {"pageSize": 1000, "filter": " OR ".join(f"state:{state}" for state in states)}
        found = _verbs.pages(self._task, f"{_SECRETS}.versions.list", query=query, **self._names)
        numbers = [int(_number(item)) for item in found if item["state"] in states]
        for number in sorted(numbers, reverse=True)[keep:]:
            self._call(f"versions.{action}", version=number)

    def _call(self, method, body=None, made=None, **names):
        return _verbs.call(self._task, f"{_SECRETS}.{method}", body, made=made, **self._names, **names)


def _number(version):
    return version["name"].rsplit("/", 1)[-1]


def ensure_value(task, remote, resource, source, fresh):
    """Add a version with the value unless the secret has one, and return a :class:`Result` with the version's name."""
    versions = Versions(task, remote)
    annotations = resource.get("annotations") or {}
    number, recorded = versions.wanted(source, annotations, fresh)
    result = Result(extra={"version": versions.name(number or _NOT_MADE)})
    if recorded:
        return result
    known = annotations.get(MADE_VERSION)
    result.add(
        Result.of(
            SECRET.kind,
            remote.path,
            {"version": known, "value": HIDDEN} if known else {},
            {"version": number or NEW, "value": HIDDEN},
            changed=True,
            title=f"value of {remote.title}",
        )
    )
    if task.check_mode:
        return result
    made = number is None
    if made:
        value = source.value()
        versions.check(value)
        number = versions.added(source)
        made = number is None
        number = versions.add(value) if made else number
        result.extra["version"] = versions.name(number)
    record = {"annotations": {MADE_VERSION: number, MADE_OF: source.fingerprint()}}
    result.resource = remote.ensure(record).resource
    if made:
        versions.retire()
    return result
