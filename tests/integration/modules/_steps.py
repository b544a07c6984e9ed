# SPDX-License-Identifier: Apache-2.0
"""One step of a module's life, run three times, and what was seen of the cloud before and after each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import Cloud

CHECK, REAL, AGAIN = "check", "real", "again"
# The ways of running a module.
CONTROLLER, ORDINARY = "controller", "ordinary"


@dataclass(frozen=True)
class Step:
    """A task that changes something: in check mode, then for real, then again.

    title     says what has come about; unique
    module    short name; options are its own, with `{{ project }}` and `{{ number }}`
    look      what is there, asked from outside; compared as a whole before and after
    then      asserts what has come about: (what look saw, the task's result, cloud)
    before    changes the cloud before the first look: what somebody else made or changed by hand
    fails     regular expression of the error, for a task that has to be refused
    changes   False for a module that never reports a change
    repeats   True for a task that changes something each time
    both      whether one of its tasks at least runs as an ordinary module, which costs most of a second; see `in_turn`
    ordinary  the moments at which it runs as an ordinary module; inside the controller at the others
    """

    title: str
    module: str
    options: dict[str, Any]
    look: Callable[[Cloud], Any]
    then: Callable[[Any, dict, Cloud], None] | None = None
    before: Callable[[Cloud], None] | None = None
    fails: str = ""
    changes: bool = True
    repeats: bool = False
    both: bool = False
    ordinary: tuple[str, ...] = ()

    @property
    def moments(self) -> tuple[str, ...]:
        return (CHECK, REAL) if self.fails else (CHECK, REAL, AGAIN)

    def tasks(self) -> list[dict]:
        return [
            {
                "name": f"{self.title} [{moment}]",
                f"mlplatform.gcp.{self.module}": self.options,
                "check_mode": moment == CHECK,
                "ignore_errors": True,
                "vars": {"gcp_in_controller": self.way(moment) == CONTROLLER},
            }
            for moment in self.moments
        ]

    def way(self, moment: str) -> str:
        return ORDINARY if moment in self.ordinary else CONTROLLER


@dataclass
class Moment:
    """One run of a step's task: what it returned, and what was there afterwards."""

    failed: bool
    result: dict
    seen: Any


@dataclass
class Story:
    """A step as it went.

    trouble   what went wrong in looking
    verdict   what the step's own assertions said, if they failed
    """

    step: Step
    before: Any = None
    moments: dict[str, Moment] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    verdict: AssertionError | None = None

    def __getitem__(self, moment: str) -> Moment:
        assert not self.trouble, "\n".join(self.trouble)
        assert moment in self.moments, f"{self.step.title} [{moment}] did not run"
        return self.moments[moment]


def both(step: Step) -> Step:
    """The step for both ways of running a module. A module's create, change and delete have to be among them."""
    return dataclasses.replace(step, both=True)


def in_turn(steps: Iterable[Step]) -> list[Step]:
    """The steps, those for both ways with their moments shared out between the ways.

    A module's first one is planned inside the controller, carried out by the ordinary module, and found to be done
    inside the controller; its second one the other way round, and so on. So one way has to do what the other has
    announced, and each has to find nothing left to do after the other.
    """
    found, seen = [], Counter()
    for step in steps:
        if step.both:
            seen[step.module] += 1
            step = dataclasses.replace(step, ordinary=(REAL,) if seen[step.module] % 2 else (CHECK, AGAIN))
        found.append(step)
    return found


def same(one, other):
    """For steps whose assertion is a lambda."""
    assert one == other


def information(title: str, module: str, options: dict, look: Callable[[Cloud], Any], key: str = "resources") -> Step:
    """A step that only looks: the module has to find what the test sees, as a list."""

    def found(seen, result, cloud):
        assert result[key] == seen

    return Step(title, module, options, look, found, changes=False)
