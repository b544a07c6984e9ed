# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The owner of a resource: the marks of an owner on resources, and their effect on a task.

A task that names an ``owner`` changes and deletes only what carries the owner's mark (*managed*), or what it may
*adopt*. A resource that is only *used* is neither changed nor deleted, so its owner is not checked. A resource without
marks, such as a project, is not checked.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _plan

CREATED, MANAGED, ADOPTED, USED = "created", "managed", "adopted", "used"
# Relations to a resource of another owner, on which no member loses a role.
FOREIGN = (ADOPTED, USED)
# Labels have letters of any alphabet.
_PAIR = re.compile(r"([\w-]+)=([\w-]+)")
# The usual values of mlflow_env in the roles. Others are known only with an owner.
_ENVIRONMENTS = ("dev", "staging", "prod")
_JOINED = ("mlflow-deployment", "mlflow-env")


class NotOurs(_errors.GcpError):
    """A resource that exists and does not carry the owner's mark. Nothing was changed."""


@dataclass(frozen=True)
class Labels:
    """The mark is among the labels at a dotted path."""

    path: str = "labels"

    def read(self, remote, body):
        """Return the labels that an existing resource carries."""
        return _plan.value_at(body, self.path.split(".")) or {}

    def put(self, desired, owner, new):
        """Return the desired resource with the mark: always on a new one, else where the task sets labels at all."""
        labels = _plan.value_at(desired, self.path.split("."))
        return desired if labels is None and not new else _with(desired, self.path, dict(labels or {}, **owner))

    def adopted(self, desired):
        """Return the desired resource without what an adopted one keeps of its own."""
        return _with(desired, self.path, None)


@dataclass(frozen=True)
class Description:
    """The mark is ``key=value`` for each label in the description, for a kind without labels."""

    path: str = "description"

    def read(self, remote, body):
        return dict(_PAIR.findall(body.get(self.path) or ""))

    def put(self, desired, owner, new):
        text = desired.get(self.path)
        if text is None and not new:
            return desired
        known = dict(_PAIR.findall(text or ""))
        pairs = [f"{key}={value}" for key, value in owner.items() if known.get(key) != value]
        return dict(desired, **{self.path: " ".join(filter(None, [text, *pairs]))})

    def adopted(self, desired):
        return dict(desired, **{self.path: None})


@dataclass(frozen=True)
class Variable:
    """The mark is an environment variable with ``NAME-ENVIRONMENT`` of the deployment, for a kind without labels."""

    name: str
    path: str = "envVariables"
    joined = True

    def read(self, remote, body):
        mark = (body.get(self.path) or {}).get(self.name)
        if not mark:
            return {}
        name, _hyphen, environment = mark.rpartition("-")
        labels = {"managed-by": "mlplatform-gcp", "mlflow-deployment": mark}
        if name and environment in _ENVIRONMENTS:
            labels.update({"mlflow-deployment": name, "mlflow-env": environment})
        return labels

    def put(self, desired, owner, new):
        variables = desired.get(self.path)
        if variables is None and not new:
            return desired
        if "mlflow-deployment" not in owner:
            raise _errors.UserError(
                "owner has no mlflow-deployment, by which a version of App Engine is marked.",
                "Set owner.mlflow-deployment, and owner.mlflow-env where there is one.",
            )
        return dict(desired, **{self.path: dict(variables or {}, **{self.name: _joined(owner)})})

    def adopted(self, desired):
        return desired


class Parent:
    """A kind without a mark. Its resources have the owner of the resource that contains them.

    Where that belongs to another owner, one of them may still be this owner's. So it is only refused to change or
    delete it, and not to find it as it should be.
    """

    lenient = True

    def read(self, remote, body):
        parent = remote.parent()
        body = parent.read()
        return {} if body is None else parent.resource.mark.read(parent, body)

    def put(self, desired, owner, new):
        return desired

    def adopted(self, desired):
        return desired


class Ownership:
    """The options ``owner`` and ``adopt`` of one task. Without an owner nothing is checked or marked."""

    def __init__(self, owner=None, adopt=False):
        self.owner = dict(owner or {})
        self.adopt = adopt

    def relation(self, remote, existing):
        """Return what an existing resource is to the owner, or an empty string where that is not checked.

        :data:`CREATED` when it does not exist yet, :data:`MANAGED`, :data:`ADOPTED`, or None when it is neither.
        """
        mark = remote.resource.mark
        if not self.owner or mark is None:
            return ""
        if existing is None:
            return CREATED
        if carries(mark, mark.read(remote, existing), self.owner):
            return MANAGED
        return ADOPTED if self.adopt else None

    def desired(self, remote, desired, relation):
        """Return the desired resource with the owner's mark, or without what an adopted resource keeps."""
        mark = remote.resource.mark
        if relation in (CREATED, MANAGED):
            return mark.put(desired, self.owner, relation == CREATED)
        if relation == ADOPTED:
            desired = mark.adopted(desired)
            for path in remote.resource.kept:
                desired = _with(desired, path, None)
        return desired

    def refuse(self, remote, existing):
        """Raise :class:`NotOurs` for a resource that belongs to another owner."""
        labels = remote.resource.mark.read(remote, existing)
        raise NotOurs(
            f"{remote.title} {whose(labels, self.owner)}. It was neither changed nor deleted.",
            "Choose another name, or set adopt: true (mlflow_adopt in the roles) to use it with the labels, values and"
            " access that it has.",
            resource=remote.path,
            owner=" ".join(f"{key}={value}" for key, value in labels.items() if key in self.owner),
        )

    def keeps(self, relation):
        """Return whether values and passwords that the task did not set are kept."""
        return relation == ADOPTED or (self.adopt and not self.owner)


def carries(mark, labels, owner):
    """Return whether labels, as ``mark`` has read them, have all of the owner's."""
    if getattr(mark, "joined", False) and all(key in owner for key in _JOINED):
        # The mark does not show where the name ends.
        same = _joined(labels) == _joined(owner)
        return same and all(labels.get(key) == value for key, value in owner.items() if key not in _JOINED)
    return all(labels.get(key) == value for key, value in owner.items())


def _joined(labels):
    """Return ``NAME-ENVIRONMENT`` of a deployment, or its name where there is no environment."""
    return "-".join(labels[key] for key in _JOINED if key in labels)


def whose(labels, owner):
    """Return what the labels of a resource say about an owner that is not this one, as the end of a sentence."""
    other = labels.get("mlflow-deployment")
    if not other:
        return "exists, and was not created by this deployment"
    if other != owner.get("mlflow-deployment"):
        return f"belongs to the deployment {other}"
    lost = ", ".join(f"{key}={value}" for key, value in owner.items() if str(labels.get(key)) != str(value))
    return f"carries the name of this deployment, but not the label {lost}"


def _with(tree, dotted, value):
    """Return a copy of a tree with one value set; None stands for a field that the task does not set."""
    tree = copy.deepcopy(tree)
    *parents, last = dotted.split(".")
    inner = tree
    for key in parents:
        inner[key] = dict(inner.get(key) or {})
        inner = inner[key]
    inner[last] = value
    return tree
