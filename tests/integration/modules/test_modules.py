# SPDX-License-Identifier: Apache-2.0
"""Test each module inside the controller and as an ordinary module: each step in check mode, without it, and again.

One playbook contains all steps (steps/*.py). `alternate` selects for each run whether it is inside the controller. A
callback (callback/observer.py) reports each task to this process, which reads the state of the cloud (_cloud.py) before
the next task starts.
"""

from __future__ import annotations

import json
import pathlib
import re
import socket
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import Cloud
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import (
    AGAIN,
    CHECK,
    CONTROLLER,
    ORDINARY,
    REAL,
    Moment,
    Story,
    in_turn,
)
from ansible_collections.mlplatform.gcp.tests.integration.modules.steps import (
    accounts,
    apis,
    app_engine,
    images,
    mysql,
    policies,
    run,
    secrets,
    sql,
    storage,
)

GROUPS = (apis, accounts, secrets, storage, sql, mysql, images, run, app_engine, policies)
STEPS = in_turn(step for group in GROUPS for step in group.STEPS)
CALLBACKS = pathlib.Path(__file__).with_name("callback")


class Observer:
    """Respond to the callback, and record the state of the cloud before and after each task."""

    def __init__(self, steps, cloud, address) -> None:
        self.cloud = cloud
        self.stories = {step.title: Story(step) for step in steps}
        self._tasks = {}
        for step in steps:
            self._tasks.update(
                (task["name"], (step, moment)) for task, moment in zip(step.tasks(), step.moments, strict=True)
            )
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(address)
        self._socket.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _address = self._socket.accept()
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                message = json.loads(line)
                step, moment = self._tasks[message["task"]]
                story = self.stories[step.title]
                try:
                    self._note(story, moment, message)
                except Exception as error:  # reported by the tests of this step; the playbook continues
                    story.trouble.append(f"[{moment}] {message['event']}: {type(error).__name__}: {error}")
                print("{}", file=stream, flush=True)

    def _note(self, story, moment, message) -> None:
        if message["event"] == "end":
            story.moments[moment] = Moment(message["failed"], message["result"], None)
            story.moments[moment].seen = story.step.look(self.cloud)
            if moment == REAL and story.step.then and not message["failed"]:
                self._judge(story)
        elif moment == CHECK:
            if story.step.before:
                story.step.before(self.cloud)
            story.before = story.step.look(self.cloud)

    def _judge(self, story) -> None:
        """Check the step's assertions now, because later steps change the resources."""
        try:
            story.step.then(story.moments[REAL].seen, story.moments[REAL].result, self.cloud)
        except AssertionError as error:
            story.verdict = error


@dataclass
class Report:
    """The runs of all steps."""

    cloud: Cloud
    stories: dict[str, Story]
    output: str


@pytest.fixture(scope="session")
def report(sandbox, make_project, playbook, tmp_path_factory):
    """Run all steps in one project."""
    folder = tmp_path_factory.mktemp("modules")
    cloud = Cloud(sandbox, make_project(), folder)
    # The deployer belongs to another project.
    defaults = {"project": "{{ project }}", "quota_project": "{{ project }}"}
    plays = [
        {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {"group/mlplatform.gcp.gcp": defaults},
            "tasks": [task for step in STEPS for task in step.tasks()],
        }
    ]
    variables = {"project": cloud.project, "number": cloud.number, "files": str(folder)}
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has at most 107 bytes
        observer = Observer(STEPS, cloud, f"{short}/s")
        env = {
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "observer",
            "OBSERVER_SOCKET": f"{short}/s",
        }
        play = playbook(sandbox, folder, plays, variables, "--diff", "-vvvv", env=env)
    (folder / "output").write_text(play.output)
    assert play.ok, play.output[-5000:]
    return Report(cloud, observer.stories, play.output)


def words(result) -> str:
    """Return the result of a task as text, for the message of a failed assertion."""
    return json.dumps({name: value for name, value in result.items() if name != "invocation"}, indent=1, sort_keys=True)


def differences(result) -> list:
    diff = result.get("diff") or []
    return [item for item in ([diff] if isinstance(diff, dict) else diff) if item["before"] != item["after"]]


@pytest.fixture(params=STEPS, ids=lambda step: f"{step.module}: {step.title}")
def story(request, report):
    return report.stories[request.param.title]


def test_check_mode_says_what_would_change_and_changes_nothing(story):
    moment = story[CHECK]
    if story.step.fails and not moment.failed:
        assert moment.result["changed"], "it is only refused once something is done: then the plan must say what"
    else:
        assert moment.failed == bool(story.step.fails), words(moment.result)
    assert moment.seen == story.before
    if not story.step.fails:
        assert moment.result["changed"] is story.step.changes, words(moment.result)
        assert bool(differences(moment.result)) is story.step.changes, words(moment.result)


def test_a_run_applies_its_plan(story):
    moment = story[REAL]
    if story.step.fails:
        assert moment.failed and re.search(story.step.fails, moment.result["msg"]), words(moment.result)
        assert moment.seen == story.before
        return
    assert not moment.failed, words(moment.result)
    assert moment.result["changed"] is story.step.changes, words(moment.result)
    assert differences(moment.result) == differences(story[CHECK].result)
    if story.step.changes:
        assert moment.seen != story.before
    if story.verdict:
        raise story.verdict


def test_a_second_run_changes_nothing(story):
    if story.step.fails:
        return
    moment = story[AGAIN]
    assert not moment.failed, words(moment.result)
    assert moment.result["changed"] is story.step.repeats, words(moment.result)
    if not story.step.repeats:
        assert differences(moment.result) == []
        assert moment.seen == story[REAL].seen


def test_diff_shows_the_plan(report):
    """`--diff` prints one create, one change and one delete."""
    for line in (
        "+++ after: bucket b/",
        '+    "storageClass": "NEARLINE"',
        '-    "storageClass": "NEARLINE"',
        '+    "storageClass": "STANDARD"',
        "--- before: bucket b/",
    ):
        assert line in report.output, line


def test_each_task_ran_as_selected(report):
    parts = re.split(r"^TASK \[(.*)\] \**$", report.output, flags=re.M)
    ran = {
        title: ORDINARY if "AnsiballZ_" in output else CONTROLLER
        for title, output in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert ran == {f"{step.title} [{moment}]": step.way(moment) for step in STEPS for moment in step.moments}


def test_no_secret_is_shown(report):
    """Search the output at -vvvv, and the results, which may become facts."""
    assert len(report.cloud.confidential) > 8
    results = [moment.result for story in report.stories.values() for moment in story.moments.values()]
    reported = report.output + json.dumps(results)
    shown = {value for value in report.cloud.confidential if value in reported}
    # keys, signed tokens, and access tokens
    shown |= set(re.findall(r"BEGIN PRIVATE KEY|\beyJ[\w-]{20,}|\bya29\.[\w.-]{20,}", reported))
    assert not shown


def test_titles_of_steps_are_unique():
    assert len({step.title for step in STEPS}) == len(STEPS)


# Reads as preflight_info does, and runs only inside the controller. The tests in target/ run it.
CONTROLLER_ONLY = {"deployment"}


def test_every_module_has_steps():
    modules = {path.stem for path in (pathlib.Path(__file__).parents[3] / "plugins" / "modules").glob("*.py")}
    assert {step.module for step in STEPS} == modules - CONTROLLER_ONLY


@pytest.mark.parametrize("moment", [CHECK, REAL])
@pytest.mark.parametrize("way", [CONTROLLER, ORDINARY])
def test_every_module_runs_both_ways(way, moment):
    """A module with only one step with `both` runs in check mode in one way and without check mode in the other."""
    several = {module for module, number in Counter(step.module for step in STEPS if step.both).items() if number > 1}
    ran = {step.module for step in STEPS if moment in step.moments and step.way(moment) == way}
    expected = several if (way, moment) in ((CONTROLLER, REAL), (ORDINARY, CHECK)) else {step.module for step in STEPS}
    assert expected <= ran
