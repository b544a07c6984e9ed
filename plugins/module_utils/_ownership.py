# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose a resource is: the marks that an owner leaves on resources."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PAIR = re.compile(r"([a-z0-9_-]+)=([a-z0-9_-]+)")
# The values of mlflow_env in the roles.
_ENVIRONMENTS = ("dev", "staging", "prod")


@dataclass(frozen=True)
class Labels:
    """The mark is among the labels at a dotted path."""

    path: str = "labels"

    def read(self, remote, body):
        """Return the labels that an existing resource carries."""
        for key in self.path.split("."):
            body = body.get(key) or {}
        return body


@dataclass(frozen=True)
class Description:
    """The mark is ``key=value`` for each label in the description, for a kind without labels."""

    path: str = "description"

    def read(self, remote, body):
        return dict(_PAIR.findall(body.get(self.path) or ""))


@dataclass(frozen=True)
class Variable:
    """The mark is an environment variable with ``NAME-ENVIRONMENT`` of the deployment, for a kind without labels."""

    name: str
    path: str = "envVariables"

    def read(self, remote, body):
        mark = (body.get(self.path) or {}).get(self.name)
        if not mark:
            return {}
        name, _hyphen, environment = mark.rpartition("-")
        labels = {"managed-by": "mlplatform-gcp", "mlflow-deployment": mark}
        if name and environment in _ENVIRONMENTS:
            labels.update({"mlflow-deployment": name, "mlflow-env": environment})
        return labels


def carries(labels, owner):
    """Return whether labels have all of the owner's."""
    return all(str(labels.get(key)) == str(value) for key, value in owner.items())


def whose(labels, owner):
    """Return what the labels of a resource say about an owner that is not this one, as the end of a sentence."""
    other = labels.get("mlflow-deployment")
    if not other:
        return "is there, and was not made by this deployment"
    if other != owner.get("mlflow-deployment"):
        return f"belongs to the deployment {other}"
    lost = ", ".join(f"{key}={value}" for key, value in owner.items() if str(labels.get(key)) != str(value))
    return f"carries the name of this deployment, but not the label {lost}"
