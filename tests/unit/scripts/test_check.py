# SPDX-License-Identifier: Apache-2.0
"""`make test` runs every test file, and says so when a step fails."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest
from ansible_collections.mlplatform.gcp.scripts import check

STEPS = [step for steps in check.PARTS.values() for step in steps]


def test_every_test_file_is_in_one_step():
    """But the search for secrets, which each half of the targets' tests ends with."""
    run = Counter()
    for step in STEPS:
        if "pytest" in step.command:
            for argument in step.command[3:]:
                path = check.ROOT / argument
                run.update([path] if path.is_file() else path.rglob("test_*.py") if path.is_dir() else [])
    folders = ("tests", "sandbox/tests", "clients/python/tests")
    there = {path for folder in folders for path in (check.ROOT / folder).rglob("test_*.py")}
    assert run.keys() == there
    assert {path.name for path, times in run.items() if times > 1} == {"test_secrecy.py"}


def test_every_molecule_scenario_is_a_step():
    scenarios = {path.parent.name for path in (check.ROOT / "extensions" / "molecule").glob("*/molecule.yml")}
    assert {step.command[-1] for step in check.PARTS["molecule"]} == scenarios


def test_steps_share_no_folder():
    assert len({step.folder for step in STEPS}) == len(STEPS)


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def parts(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "CACHE", tmp_path)
    found = {
        "one": [check.Step("light", python("print('of light')"), 1), check.Step("heavy", python("print('h')"), 3)],
        "two": [check.Step("failing", python("import sys; print('of failing'); sys.exit(4)"), 2)],
    }
    monkeypatch.setattr(check, "PARTS", found)
    return found


@pytest.mark.parametrize("names", [["all"], ["one", "two"]])
def test_a_failing_step_stops_no_other_and_is_named(parts, capfd, names):
    assert check.main(names) == 1
    printed = capfd.readouterr().out
    assert "of light" in printed and "of failing" in printed
    assert "2 passed, 1 failed" in printed
    assert next(line for line in printed.splitlines() if "FAILED (4)" in line).startswith("two           failing")


def test_the_heaviest_step_starts_first(parts, monkeypatch):
    started = []

    def run(part, step, output=None):
        started.append(step.title)
        return check.Done(part, step, 0, 0.0)

    monkeypatch.setattr(check, "run", run)
    results = check.side_by_side(1)
    assert started == ["heavy", "failing", "light"]
    assert [done.step.title for done in results] == ["light", "heavy", "failing"]


def test_steps_run_side_by_side(parts, monkeypatch):
    """None of them would end if the others did not run as well."""
    barrier = threading.Barrier(3, timeout=60)

    def run(part, step, output=None):
        barrier.wait()
        return check.Done(part, step, 0, 0.0)

    monkeypatch.setattr(check, "run", run)
    assert len(check.side_by_side(3)) == 3


def test_an_unknown_part_is_refused(capsys):
    assert check.main(["nowhere"]) == 2
    assert "unknown part ['nowhere']" in capsys.readouterr().err
