# SPDX-License-Identifier: Apache-2.0
"""The figures of `make endurance`: they are added up, a loss fails the step, and the page has them."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections import Counter

import pytest
from ansible_collections.mlplatform.gcp.scripts import endurance

GOOD = Counter({"kills": 3, "kills survived": 3, "faults": 2, "faults survived": 2, "inputs tried": 1234})


def test_the_figures_of_all_steps_are_added(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(json.dumps({"totals": {"kills": 2, "inputs tried": 1}}))
    assert endurance.collected(paths) == {"kills": 4, "inputs tried": 2}


def test_a_step_that_has_not_run_is_an_error():
    with pytest.raises(SystemExit, match="make endurance"):
        endurance.collected([endurance.ROOT / "no-such-file"])


def test_a_loss_is_reported():
    assert endurance.losses(GOOD) == []
    assert endurance.losses(GOOD + Counter(kills=1)) == ["kills survived: 3 of 4"]
    assert endurance.losses(GOOD | Counter({"requests lost": 1})) == ["requests lost: 1"]


def test_a_figure_that_no_test_reports_is_left_out():
    assert [name for name, _value in endurance.rows(GOOD)] == ["kills survived", "faults survived", "inputs tried"]
    assert ("requests lost", "0") in endurance.rows(Counter(GOOD | {"requests lost": 0}))


def test_the_page_has_the_figures():
    text = f"before\n{endurance.BEGIN}\n\nold\n\n{endurance.END}\nafter\n"
    found = endurance.page(text, GOOD, datetime.date(2026, 11, 28), "7")
    assert found.startswith("before\n") and found.endswith("\nafter\n") and "old" not in found
    for line in (
        "Run of 28 November 2026, `ENDURANCE_SEED=7`:",
        "| kills survived | 3 of 3 |",
        "| inputs tried | 1,234 |",
    ):
        assert line in found.splitlines()
    assert endurance.page(found, GOOD, datetime.date(2026, 11, 28), "7") == found


def test_the_page_of_the_project_has_the_place_of_the_figures():
    endurance.page(endurance.PAGE.read_text(), GOOD, datetime.date(2026, 11, 28), "7")


def test_a_run_of_pytest_writes_what_its_tests_report(tmp_path):
    """The plugin of tests/conftest.py, in a folder of tests of its own."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text((endurance.ROOT / "tests" / "conftest.py").read_text())
    (tests / "test_figures.py").write_text(
        "import pytest\n"
        "def test_one(record_property):\n    record_property('kills', 2)\n"
        "def test_other(record_property):\n    record_property('kills', 3)\n    assert False\n"
        "@pytest.mark.inputs\n@pytest.mark.parametrize('value', [1, 2])\ndef test_inputs(value):\n    pass\n"
    )
    (tests / "pytest.ini").write_text("[pytest]\nmarkers = inputs\n")
    path = tmp_path / "folder" / "figures.json"
    env = {"ENDURANCE_FIGURES": str(path), "PATH": ""}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "."], cwd=tests, env=env, stdout=subprocess.DEVNULL, check=False
    )
    assert json.loads(path.read_text()) == {
        "totals": {"kills": 5, "inputs tried": 2},
        "outcomes": {"passed": 3, "failed": 1},
    }
