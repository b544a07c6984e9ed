# SPDX-License-Identifier: Apache-2.0
"""A step of a module's test, run three times, and the state of the cloud before and after each run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import Cloud

CHECK, REAL, AGAIN = "check", "real", "again"
# A module runs inside the controller process or as an ordinary module in a process of its own.
CONTROLLER, ORDINARY = "controller", "ordinary"


@dataclass(frozen=True)
class Step:
    """A task that runs in check mode, then without check mode, then again.

    title     the outcome; unique
    module    short name
    options   options of the module; may contain `{{ project }}` and `{{ number }}`
    read      returns the state of the resource from the APIs; compared before and after each run
    expect    asserts the outcome; arguments: the state that `read` returned, the result of the task, the `Cloud`
    prepare   changes the cloud before `read` is called first, for example a change by hand or by another user
    fails     regular expression that matches the error of a task that must fail
    changes   False for a module that never reports a change
    repeats   True for a task that reports a change in each run
    both      True if at least one run must be as an ordinary module, which takes almost a second; see `alternate`
    ordinary  the runs (`CHECK`, `REAL`, `AGAIN`) as an ordinary module; the others are inside the controller
    """

    title: str
    module: str
    options: dict[str, Any]
    read: Callable[[Cloud], Any]
    expect: Callable[[Any, dict, Cloud], None] | None = None
    prepare: Callable[[Cloud], None] | None = None
    fails: str = ""
    changes: bool = True
    repeats: bool = False
    both: bool = False
    ordinary: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[str, ...]:
        return (CHECK, REAL) if self.fails else (CHECK, REAL, AGAIN)

    def tasks(self) -> list[dict]:
        return [
            {
                "name": f"{self.title} [{phase}]",
                f"mlplatform.gcp.{self.module}": self.options,
                "check_mode": phase == CHECK,
                "ignore_errors": True,
                "vars": {"gcp_in_controller": self.way(phase) == CONTROLLER},
            }
            for phase in self.phases
        ]

    def way(self, phase: str) -> str:
        return ORDINARY if phase in self.ordinary else CONTROLLER


@dataclass
class TaskRun:
    """One run of a step's task: its result, and the state that the APIs report after it."""

    failed: bool
    result: dict
    state: Any


@dataclass
class StepRecord:
    """The runs of a step's task.

    before    the state before the first run
    errors    errors of the functions `prepare`, `read` and `expect`
    failure   the failed assertion of the function `expect`
    """

    step: Step
    before: Any = None
    runs: dict[str, TaskRun] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    failure: AssertionError | None = None

    def __getitem__(self, phase: str) -> TaskRun:
        assert not self.errors, "\n".join(self.errors)
        assert phase in self.runs, f"{self.step.title} [{phase}] did not run"
        return self.runs[phase]


def both(step: Step) -> Step:
    """Return the step with `both` set. Set it for the steps that create, change and delete a module's resource."""
    return dataclasses.replace(step, both=True)


def alternate(steps: Iterable[Step]) -> list[Step]:
    """Return the steps; the runs of each step with `both` alternate between the controller and the ordinary module.

    The first such step of a module runs in check mode inside the controller, without check mode as an ordinary module,
    and again inside the controller. The second step is the other way round, and so on. So each way must apply the plan
    of the other and find nothing to change after the other.
    """
    found, seen = [], Counter()
    for step in steps:
        if step.both:
            seen[step.module] += 1
            step = dataclasses.replace(step, ordinary=(REAL,) if seen[step.module] % 2 else (CHECK, AGAIN))
        found.append(step)
    return found


def same(one, other):
    """Assert that two values are equal, for an `expect` that is a lambda."""
    assert one == other


def information(title: str, module: str, options: dict, read: Callable[[Cloud], Any], key: str = "resources") -> Step:
    """Return the step of an info module, which must return the state that `read` returns."""

    def found(seen, result, cloud):
        assert result[key] == seen

    return Step(title, module, options, read, found, changes=False)
