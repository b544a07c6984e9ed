# SPDX-License-Identifier: Apache-2.0
"""Test random combinations of values, valid and wrong: the model reports problems, and never raises."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import model
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import all_variables
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment._values import GOOD
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment.test_rules import BAD, anything

SEED = int(os.environ.get("ENDURANCE_SEED", "8"))
TARGETS = ("cloudrun", "appengine")


def pools() -> dict[str, list[Any]]:
    """Return the values to draw from, by variable: some that it takes, and some that it does not take."""
    odd = list(anything().values())
    found: dict[str, list[Any]] = {}
    for name, variable in all_variables().items():
        near = [limit + step for limit in (variable.minimum, variable.maximum) if limit is not None for step in (-1, 0)]
        known = [variable.default, *variable.choices, *near, *(value for bad, value, *_more in BAD if bad == name)]
        # As many values of the kind that the variable has as others.
        found[name] = known * max(1, len(odd) // len(known)) + odd
    return found


def draw(chance: random.Random, pool: dict[str, list[Any]]) -> dict[str, Any]:
    """Return a few variables with random values; more often than not the target is one that exists."""
    names = chance.sample(sorted(pool), chance.randint(1, 6))
    target = {} if chance.random() < 0.1 else {"mlflow_target": chance.choice(TARGETS)}
    return {name: chance.choice(pool[name]) for name in names} | target


def check(number: int) -> list[str]:
    """Return what is wrong with the outcome of random variables."""
    chance, pool, wrong = random.Random(SEED), pools(), []
    for index in range(number):
        given = draw(chance, pool)
        try:
            outcome = model.compute(GOOD | given, model.Observed(), action=chance.choice(model.ACTIONS))
        except Exception as error:  # any exception is a failure of the model
            wrong.append(f"input {index} {sorted(given)}: {error!r}")
            continue
        texts = [f"{problem.what} {problem.next}" for problem in outcome.problems]
        wrong += [f"input {index} {sorted(given)}: {text[:300]!r}" for text in texts if not text.isprintable()]
        if not texts and outcome.deployment is None:
            wrong.append(f"input {index} {sorted(given)}: neither a deployment nor a problem")
    return wrong


def test_random_variables_lead_to_a_deployment_or_to_problems():
    assert check(300) == []


@pytest.mark.endurance
def test_many_random_variables_lead_to_a_deployment_or_to_problems(record_property):
    number = 20_000
    wrong = check(number)
    record_property("inputs tried", number)
    assert wrong == []
