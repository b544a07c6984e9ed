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
    StepRecord,
    TaskRun,
    alternate,
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
STEPS = alternate(step for group in GROUPS for step in group.STEPS)
CALLBACKS = pathlib.Path(__file__).with_name("callback")


class Observer:
    """Respond to the callback, and record the state of the cloud before and after each task."""

    def __init__(self, steps, cloud, address) -> None:
        self.cloud = cloud
        self.records = {step.title: StepRecord(step) for step in steps}
        self._tasks = {}
        for step in steps:
            self._tasks.update(
                (task["name"], (step, phase)) for task, phase in zip(step.tasks(), step.phases, strict=True)
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
                step, phase = self._tasks[message["task"]]
                record = self.records[step.title]
                try:
                    self._record(record, phase, message)
                except Exception as error:  # reported by the tests of this step; the playbook continues
                    record.errors.append(f"[{phase}] {message['event']}: {type(error).__name__}: {error}")
                print("{}", file=stream, flush=True)

    def _record(self, record, phase, message) -> None:
        if message["event"] == "end":
            record.runs[phase] = TaskRun(message["failed"], message["result"], None)
            record.runs[phase].state = record.step.read(self.cloud)
            if phase == REAL and record.step.expect and not message["failed"]:
                self._check_expectation(record)
        elif phase == CHECK:
            if record.step.prepare:
                record.step.prepare(self.cloud)
            record.before = record.step.read(self.cloud)

    def _check_expectation(self, record) -> None:
        """Check the step's assertions now, because later steps change the resources."""
        try:
            record.step.expect(record.runs[REAL].state, record.runs[REAL].result, self.cloud)
        except AssertionError as error:
            record.failure = error


@dataclass
class Report:
    """The runs of all steps."""

    cloud: Cloud
    records: dict[str, StepRecord]
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
    return Report(cloud, observer.records, play.output)


def as_text(result) -> str:
    """Return the result of a task as text, for the message of a failed assertion."""
    return json.dumps({name: value for name, value in result.items() if name != "invocation"}, indent=1, sort_keys=True)


def differences(result) -> list:
    diff = result.get("diff") or []
    return [item for item in ([diff] if isinstance(diff, dict) else diff) if item["before"] != item["after"]]


@pytest.fixture(params=STEPS, ids=lambda step: f"{step.module}: {step.title}")
def record(request, report):
    return report.records[request.param.title]


def test_check_mode_reports_the_changes_and_changes_nothing(record):
    task_run = record[CHECK]
    if record.step.fails and not task_run.failed:
        assert task_run.result["changed"], "the run without check mode fails; then check mode must report a change"
    else:
        assert task_run.failed == bool(record.step.fails), as_text(task_run.result)
    assert task_run.state == record.before
    if not record.step.fails:
        assert task_run.result["changed"] is record.step.changes, as_text(task_run.result)
        assert bool(differences(task_run.result)) is record.step.changes, as_text(task_run.result)


def test_a_run_applies_its_plan(record):
    task_run = record[REAL]
    if record.step.fails:
        assert task_run.failed and re.search(record.step.fails, task_run.result["msg"]), as_text(task_run.result)
        assert task_run.state == record.before
        return
    assert not task_run.failed, as_text(task_run.result)
    assert task_run.result["changed"] is record.step.changes, as_text(task_run.result)
    assert differences(task_run.result) == differences(record[CHECK].result)
    if record.step.changes:
        assert task_run.state != record.before
    if record.failure:
        raise record.failure


def test_a_second_run_changes_nothing(record):
    if record.step.fails:
        return
    task_run = record[AGAIN]
    assert not task_run.failed, as_text(task_run.result)
    assert task_run.result["changed"] is record.step.repeats, as_text(task_run.result)
    if not record.step.repeats:
        assert differences(task_run.result) == []
        assert task_run.state == record[REAL].state


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
    assert ran == {f"{step.title} [{phase}]": step.way(phase) for step in STEPS for phase in step.phases}


def test_no_secret_is_shown(report):
    """Search the output at -vvvv, and the results, which may become facts."""
    assert len(report.cloud.confidential) > 8
    results = [task_run.result for record in report.records.values() for task_run in record.runs.values()]
    reported = report.output + json.dumps(results)
    shown = {value for value in report.cloud.confidential if value in reported}
    # keys, signed tokens, and access tokens
    shown |= set(re.findall(r"BEGIN PRIVATE KEY|\beyJ[\w-]{20,}|\bya29\.[\w.-]{20,}", reported))
    assert not shown


def test_titles_of_steps_are_unique():
    assert len({step.title for step in STEPS}) == len(STEPS)


# The tests in target/ run them: `deployment` reads as preflight_info does, and runs only inside the controller;
# `mlflow_server_info` needs a server.
ELSEWHERE = {"deployment", "mlflow_server_info"}


def test_every_module_has_steps():
    modules = {path.stem for path in (pathlib.Path(__file__).parents[3] / "plugins" / "modules").glob("*.py")}
    assert {step.module for step in STEPS} == modules - ELSEWHERE


@pytest.mark.parametrize("phase", [CHECK, REAL])
@pytest.mark.parametrize("way", [CONTROLLER, ORDINARY])
def test_every_module_runs_both_ways(way, phase):
    """A module with only one step with `both` runs in check mode in one way and without check mode in the other."""
    several = {module for module, number in Counter(step.module for step in STEPS if step.both).items() if number > 1}
    ran = {step.module for step in STEPS if phase in step.phases and step.way(phase) == way}
    expected = several if (way, phase) in ((CONTROLLER, REAL), (ORDINARY, CHECK)) else {step.module for step in STEPS}
    assert expected <= ran
