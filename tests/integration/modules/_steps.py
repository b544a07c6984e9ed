# SPDX-License-Identifier: Apache-2.0
"""One step of a module's life, run three times, and what was seen of the cloud before and after each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import Cloud

CHECK, REAL, AGAIN = "check", "real", "again"


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
    both      whether it runs as an ordinary module, too, which costs most of a second each time
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

    @property
    def moments(self) -> tuple[str, ...]:
        return (CHECK, REAL) if self.fails else (CHECK, REAL, AGAIN)

    def tasks(self) -> list[dict]:
        task = {f"mlplatform.gcp.{self.module}": self.options, "ignore_errors": True}
        return [
            {"name": f"{self.title} [{moment}]", **task, **({"check_mode": True} if moment == CHECK else {})}
            for moment in self.moments
        ]


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


def same(one, other):
    """For steps whose assertion is a lambda."""
    assert one == other


def information(title: str, module: str, options: dict, look: Callable[[Cloud], Any], key: str = "resources") -> Step:
    """A step that only looks: the module has to find what the test sees, as a list."""

    def found(seen, result, cloud):
        assert result[key] == seen

    return Step(title, module, options, look, found, changes=False)
