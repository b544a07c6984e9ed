# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed at a write: the sandbox delays the N-th write, and the run is killed meanwhile.

So the write takes effect, and the run never receives its answer. Each kill has a project of its own. The runs that
complete the deployments are one run with a host for each project, which saves the start of ansible-playbook.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.tests.endurance._state import differences, state
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.target._target import (
    DEPLOY,
    DESTROY,
    Box,
    Controller,
    Play,
    Project,
)

NAME = "demo"
PASSWORD = f"{NAME}-dev-db-password"
WITH_DATA = ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={NAME}")
#: Seconds for which the write is delayed: the time in which the run has to be killed.
STALL = 2.0
#: More than any run writes.
NEVER = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """A run that is killed.

    before     the targets that are deployed first, one after the other
    target     the target of the run that is killed
    playbook   its playbook
    options    its options
    mlflow     deploy MLflow, with a schema in the database, instead of an image that starts immediately
    last       kill the run at this number of its last writes only; 0 for all
    """

    target: str
    before: tuple[str, ...] = ()
    playbook: str = DEPLOY
    options: tuple[str, ...] = ()
    mlflow: bool = False
    last: int = 0

    def numbers(self, writes: int) -> range:
        """Return the numbers of the writes at which the run is killed."""
        return range(max(1, writes - self.last + 1) if self.last else 1, writes + 1)


SCENARIOS = {
    "deploy cloudrun": Scenario("cloudrun"),
    "deploy appengine": Scenario("appengine"),
    "switch to appengine": Scenario("appengine", ("cloudrun",)),
    "switch back to cloudrun": Scenario("cloudrun", ("cloudrun", "appengine")),
    "destroy cloudrun": Scenario("cloudrun", ("cloudrun",), DESTROY, WITH_DATA),
    "destroy appengine": Scenario("appengine", ("appengine",), DESTROY, WITH_DATA),
    "destroy cloudrun and keep the data": Scenario("cloudrun", ("cloudrun",), DESTROY),
    # Before these writes the image makes no difference.
    "deploy MLflow on cloudrun": Scenario("cloudrun", mlflow=True, last=10),
    "deploy MLflow on appengine": Scenario("appengine", mlflow=True, last=10),
}


@dataclass
class Deployment:
    """The deployment of one project, and the payloads of its password before the run that is killed."""

    project: Project
    password: Any = None


@dataclass
class Kills:
    """Run one scenario with kills at several writes.

    small   variables with the image that starts immediately
    """

    scenario: Scenario
    box: Box
    controller: Controller
    small: Mapping[str, Any]
    survived: int = 0
    _prepared: list[Deployment] = field(default_factory=list)

    # Runs

    def hosts(self, deployments: Iterable[Deployment], target: str = "") -> dict[str, dict[str, Any]]:
        """Return one host for each deployment."""
        more = {"mlflow_name": NAME, "mlflow_target": target or self.scenario.target}
        more |= {} if self.scenario.mlflow else self.small
        return {f"h{n}": one.project.variables | more for n, one in enumerate(deployments)}

    def prepare(self, number: int) -> None:
        """Create projects, and deploy in them what the scenario begins with."""
        session = self.box.session()
        found = [Deployment(self._project(session)) for _index in range(number)]
        for target in self.scenario.before:
            self.controller.run(DEPLOY, hosts=self.hosts(found, target)).check()
        for one in found:
            one.password = _password(one.project)
        self._prepared += found

    def _project(self, session) -> Project:
        return Project(self.box, base.new_project(session), self.controller.folder)

    def undisturbed(self) -> tuple[dict[str, str], int]:
        """Run the scenario without a kill; return the state, and the number of writes."""
        one = self._prepared.pop()
        with self.box.faults({"kind": "stall", "seconds": STALL, "writes_only": True, "each": NEVER}):
            self._start([one]).wait().check()
            writes = self.box.met_faults()[0]["matched"]
        assert not _problems(one)
        return state(one.project), writes

    def killed(self, number: int) -> Deployment | None:
        """Kill the run at its N-th write; return its deployment, or None if the run has fewer writes."""
        one = self._prepared.pop()
        with self.box.faults({"kind": "stall", "seconds": STALL, "writes_only": True, "each": number}):
            run = self._start([one])
            while not self.box.met_faults()[0]["applied"]:
                if not run.running:
                    run.wait().check()
                    return None
                time.sleep(0.02)
            assert run.kill().status == -9
        return one

    def complete(self, killed: Mapping[int, Deployment], expected: Mapping[str, str]) -> list[str]:
        """Run the scenario once more for the deployments of killed runs, undisturbed; return what differs, by write."""
        time.sleep(STALL)  # until the last write has taken effect
        play = self._start(killed.values()).wait()
        return list(self._compared(play, killed, expected))

    def _compared(self, play: Play, killed: Mapping[int, Deployment], expected: Mapping[str, str]) -> Iterator[str]:
        for host, (number, one) in enumerate(killed.items()):
            found = [f"the next run fails: {play.message(f'h{host}')}"] if play.failed(f"h{host}") else []
            found += _problems(one) + differences(expected, state(one.project))
            self.survived += not found
            yield from (f"killed at write {number}: {line}" for line in found)

    def _start(self, deployments: Iterable[Deployment]):
        return self.controller.start(self.scenario.playbook, *self.scenario.options, hosts=self.hosts(deployments))


def _password(project: Project) -> Any:
    """Return state and payload of each version of the password, or None if its secret does not exist."""
    if "secretmanager" not in project.enabled():
        return None
    secret = project.secret(PASSWORD)
    return secret and secret["versions"]


def _problems(one: Deployment) -> list[str]:
    """Return what is wrong with a deployment whatever an undisturbed run leaves."""
    now = _password(one.project)
    changed = one.password is not None and now is not None and now != one.password
    return ["the password is not the one before the kill"] if changed else []
