# SPDX-License-Identifier: Apache-2.0
"""Variables of deployments that work, and what the model says about others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import validation, values
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS

GOOD = {"gcp_project": "my-project", "gcp_region": "europe-west1", "mlflow_name": "demo"}


def judged(variables: Mapping[str, Any], derived: Mapping[str, str] | None = None) -> list[Problem]:
    """Return the problems of a deployment with these variables on top of those that it needs."""
    given = GOOD | dict(variables)
    found, problems, _deprecated = values.read(given)
    target = found["mlflow_target"]
    together = TARGETS[target].check(found) if target in TARGETS else ()
    return problems + validation.check(found, derived or {}, target, values.in_use(given, target), together)


def text(problems: list[Problem]) -> str:
    return "\n".join(f"{problem.what} -> {problem.next}" for problem in problems)
