# SPDX-License-Identifier: Apache-2.0
"""Figures of `make endurance`: tests report them, and a run of pytest adds them up in a JSON file.

A test calls `record_property("kills survived", 3)` with a name of `scripts/endurance.py`. A test with the mark `inputs`
reports one input. `ENDURANCE_FIGURES` is the path of the file; without it nothing is written.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections import Counter

import pytest

INPUTS = "inputs tried"


class Figures:
    """The plugin that adds up the figures of a run."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.totals: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome == "failed":
            self.outcomes[report.outcome] += 1
        if report.when == "call":
            for name, value in report.user_properties:
                self.totals[name] += value

    def pytest_sessionfinish(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"totals": self.totals, "outcomes": self.outcomes}, indent=2))


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.get("ENDURANCE_FIGURES"):
        config.pluginmanager.register(Figures(pathlib.Path(path)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("inputs"):
        item.user_properties.append((INPUTS, 1))
