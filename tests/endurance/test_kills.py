# SPDX-License-Identifier: Apache-2.0
"""Test runs that are killed with SIGKILL at a write: one more run leads to the state that an undisturbed run leads to.

`make test` kills one deployment and one other run, `make endurance` each run at each write.
"""

from __future__ import annotations

import random

import pytest
from ansible_collections.mlplatform.gcp.tests.endurance._kills import SCENARIOS, Kills
from ansible_collections.mlplatform.gcp.tests.integration.target._target import Box, Controller

SAMPLED = [name for name, scenario in SCENARIOS.items() if not scenario.mlflow]


@pytest.fixture
def own_box(tmp_path):
    """Return a sandbox for one scenario: it has a database server for each kill."""
    box = Box(tmp_path / "state")
    box.up()
    yield box
    box.run("reset")


@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_each_write_is_survived(scenario, own_box, tmp_path, small, record_property):
    controller = Controller(own_box, tmp_path / "controller")
    kills = Kills(SCENARIOS[scenario], own_box, controller, small)
    kills.prepare(1)
    expected, writes = kills.undisturbed()
    numbers = SCENARIOS[scenario].numbers(writes)
    kills.prepare(len(numbers))
    killed = {number: kills.killed(number) for number in numbers}
    # The number of writes varies by one: a run that has to wait renews its lock.
    found = {number: one for number, one in killed.items() if one}
    assert len(found) >= len(numbers) - 1
    lines = kills.complete(found, expected)
    controller.watcher.stop()
    print(f"\n    {scenario}: {kills.survived} of {len(found)} kills survived", end="")
    record_property("kills", len(found))
    record_property("kills survived", kills.survived)
    assert lines == []


@pytest.mark.parametrize("kind", ["deploy", "other"])
def test_a_kill_at_a_random_write_is_survived(kind, box, controller, small, seed, record_property):
    chance = random.Random(f"{seed} {kind}")
    scenario = chance.choice([name for name in SAMPLED if name.startswith("deploy") == (kind == "deploy")])
    box.latency("instant")
    kills = Kills(SCENARIOS[scenario], box, controller, small)
    kills.prepare(2)
    expected, writes = kills.undisturbed()
    number = chance.randint(1, writes - 1)
    print(f"\n    {scenario}, killed at write {number} of {writes}", end="")
    one = kills.killed(number)
    assert one
    lines = kills.complete({number: one}, expected)
    record_property("kills", 1)
    record_property("kills survived", kills.survived)
    assert lines == []
