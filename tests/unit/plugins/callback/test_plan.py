# SPDX-License-Identifier: Apache-2.0
"""The callback is fed with results as Ansible 2.19 records them, and what it prints is read."""

from __future__ import annotations

import json
import stat
from types import SimpleNamespace

import pytest
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.loader import callback_loader
from ansible_collections.mlplatform.gcp.plugins.callback.plan import CallbackModule

BUCKET = {
    "kind": "bucket",
    "name": "b/artifacts",
    "action": "create",
    "fields": [
        {"path": "name", "before": None, "after": "artifacts"},
        {"path": "location", "before": None, "after": "EU"},
        {"path": "versioning.enabled", "before": None, "after": False},
        {"path": "labels.managed-by", "before": None, "after": "mlplatform-gcp"},
        {"path": "labels.env", "before": None, "after": "dev"},
    ],
    "implies": [],
}
SECRET = {
    "kind": "secret",
    "name": "projects/p/secrets/db-password",
    "action": "create",
    "fields": [
        {"path": "labels.managed-by", "before": None, "after": "mlplatform-gcp"},
        {"path": "labels.env", "before": None, "after": "dev"},
    ],
    "implies": [],
}
VALUE = SECRET | {
    "action": "change",
    "fields": [
        {"path": "version", "before": None, "after": "(new)"},
        {"path": "value", "before": None, "after": "(not shown)"},
    ],
}
TIER = {
    "kind": "Cloud SQL instance",
    "name": "projects/p/instances/db",
    "action": "change",
    "fields": [{"path": "settings.tier", "before": "db-f1-micro", "after": "db-custom-1-3840"}],
    "implies": ["restart of the database"],
}
DELETED = BUCKET | {"action": "delete", "fields": [], "implies": ["loss of its objects"]}
ADOPTED = BUCKET | {"action": "adopt", "name": "b/old"}


class Screen:
    """Ansible's display, as far as the callback uses it."""

    def __init__(self, verbosity=0):
        self.verbosity = verbosity
        self.lines = []
        self.warnings = []

    def display(self, text, color=None):
        self.lines += text.split("\n")

    def banner(self, text):
        self.display(f"\n{text} ***")

    def warning(self, text):
        self.warnings.append(text)

    @property
    def text(self):
        return "\n".join(self.lines)


class Run:
    """A run of a playbook, of which only the results matter."""

    def __init__(self, json_file=None, verbosity=0):
        self.screen = Screen(verbosity)
        self.callback = CallbackModule(display=self.screen)
        self.callback.get_option = {"json_file": json_file}.__getitem__
        self.failures, self.dark = {}, {}

    def _result(self, data, host, check, name):
        return CallbackTaskResult(
            SimpleNamespace(get_name=lambda: host),
            SimpleNamespace(get_name=lambda: name),
            data,
            {"name": name, "check_mode": check},
        )

    def ok(self, *entries, host="demo", check=True, name="a task", **data):
        data = {"changed": bool(entries), "changes": list(entries)} | data
        self.callback.v2_runner_on_ok(self._result(data, host, check, name))

    def other(self, data, host="demo", check=True, name="a task"):
        self.callback.v2_runner_on_ok(self._result(data, host, check, name))

    def loop(self, *items, host="demo", check=True, name="a loop"):
        for data in items:
            failed = data.get("failed")
            hook = self.callback.v2_runner_item_on_failed if failed else self.callback.v2_runner_item_on_ok
            hook(self._result(data, host, check, name))
        whole = {"changed": any(item.get("changed") for item in items), "results": list(items)}
        # The attributes of the whole are not rendered: only those of the items are.
        self.callback.v2_runner_on_ok(self._result(whole, host, "{{ check }}", name))

    def failed(self, data, host="demo", check=True, name="a task", ignored=False):
        if not ignored:
            self.failures[host] = self.failures.get(host, 0) + 1
        self.callback.v2_runner_on_failed(self._result(data, host, check, name), ignore_errors=ignored)

    def unreachable(self, host="demo"):
        self.dark[host] = 1
        self.callback.v2_runner_on_unreachable(self._result({"msg": "no route"}, host, True, "a task"))

    def end(self):
        self.callback.v2_playbook_on_stats(SimpleNamespace(failures=self.failures, dark=self.dark))
        return self.screen.lines


def test_prints_the_plan_of_a_host():
    run = Run()
    run.ok(BUCKET)
    run.ok(SECRET)
    run.ok(VALUE)
    run.ok(TIER)
    assert run.end() == [
        "",
        "PLAN [demo] ***",
        "Labels of new resources: env=dev, managed-by=mlplatform-gcp",
        "+ bucket artifacts",
        "    location  EU",
        "+ secret db-password",
        "    version  (new)",
        "    value    (not shown)",
        "~ Cloud SQL instance db",
        "    settings.tier  db-f1-micro -> db-custom-1-3840",
        "    => restart of the database",
        "",
        "Plan: 2 to create, 1 to change, 0 to delete",
    ]


def test_prints_what_was_applied():
    run = Run()
    run.ok(DELETED, check=False)
    run.ok(ADOPTED, check=False)
    lines = run.end()
    assert "APPLIED [demo] ***" in lines
    assert lines[lines.index("- bucket artifacts") + 1] == "    => loss of its objects"
    assert "~ bucket old (adopt)" in lines
    assert lines[-1] == "Applied: 0 created, 0 changed, 1 deleted, 1 adopted"


def test_a_run_without_changes_prints_one_line():
    run = Run()
    run.ok()
    assert run.end() == ["", "Plan: 0 to create, 0 to change, 0 to delete"]


def test_a_run_without_the_modules_prints_nothing():
    run = Run()
    run.other({"changed": False, "msg": "hello"})
    assert run.end() == []


def test_loops_count_each_item_once_in_its_own_mode():
    run = Run()
    run.loop(
        {"changed": True, "changes": [BUCKET], "item": 1},
        {"changed": True, "changes": [SECRET], "item": 2},
        {"skipped": True, "item": 3},
        {"failed": True, "msg": "no", "item": 4},
    )
    assert run.end()[-1] == "Plan: 2 to create, 0 to change, 0 to delete"
    assert not [line for line in run.screen.lines if "Applied" in line or "task" in line]


def test_each_host_is_printed_and_the_sum_of_all():
    run = Run()
    run.ok(BUCKET, host="dev")
    run.ok(BUCKET | {"name": "b/other"}, TIER, host="prod")
    run.ok(host="idle")
    lines = run.end()
    assert "PLAN [dev] ***" in lines and "PLAN [prod] ***" in lines and "PLAN [idle] ***" not in lines
    assert lines[-1] == "Plan: 2 to create, 1 to change, 0 to delete on 3 hosts"


@pytest.mark.parametrize(
    "changes",
    [None, "text", {"a": 1}, [None, 3, "x"], [{}], [BUCKET | {"action": "explode"}], [BUCKET | {"fields": [1]}]],
)
def test_odd_changes_are_survived(changes, tmp_path):
    run = Run(tmp_path / "plan.json")
    run.other({"changed": False, "changes": changes})
    run.loop({"changed": False, "changes": changes}, {"changed": False})
    run.failed({"msg": "no", "changes": changes}, ignored=True)
    run.other({"results": "not a list"})
    run.other({})
    run.ok(BUCKET)
    assert run.end()[-1] == "Plan: 1 to create, 0 to change, 0 to delete"


def test_a_failed_and_an_unreachable_host_are_named(tmp_path):
    run = Run(tmp_path / "plan.json")
    run.ok(BUCKET, host="dev")
    run.failed({"msg": "Permission denied"}, host="dev", name="Create the database")
    run.unreachable("prod")
    run.failed({"msg": "never mind"}, host="dev", ignored=True)
    lines = run.end()
    assert "Not complete: the host is failed at: Create the database" in lines
    assert "Not complete: the host is unreachable at: a task" in lines
    report = json.loads((tmp_path / "plan.json").read_text())
    assert report["hosts"]["dev"]["status"] == "failed"
    assert report["hosts"]["dev"]["errors"] == [{"task": "Create the database", "message": "Permission denied"}]
    assert report["hosts"]["prod"]["status"] == "unreachable"


def test_a_failed_assertion_about_the_changes_is_no_error(tmp_path):
    run = Run(tmp_path / "plan.json")
    run.ok(TIER)
    run.failed({"msg": "differs", "assertion": "query('mlplatform.gcp.changes') == []"})
    assert not [line for line in run.end() if "Not complete" in line]
    host = json.loads((tmp_path / "plan.json").read_text())["hosts"]["demo"]
    assert host["status"] == "changes" and host["errors"] == []


def test_other_tasks_that_change_are_named():
    run = Run()
    run.ok(BUCKET)
    run.other({"changed": True}, name="Copy a file")
    run.other({"changed": True, "censored": "the output has been hidden"}, name="Set a password")
    lines = run.end()
    assert "~ task Copy a file" in lines
    assert "~ task Set a password (hidden by no_log)" in lines


def test_verbose_prints_all_fields_and_full_names():
    run = Run(verbosity=1)
    run.ok(BUCKET)
    text = "\n".join(run.end())
    assert "+ bucket artifacts   b/artifacts" in text
    assert "versioning.enabled  false" in text and "labels.env          dev" in text


def test_writes_json_that_only_the_owner_can_read(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("old")
    path.chmod(0o644)
    run = Run(path)
    run.ok(BUCKET)
    run.ok(TIER, check=False)
    run.end()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text()) == {
        "version": 1,
        "planned": {"create": 1, "change": 0, "delete": 0, "adopt": 0},
        "applied": {"create": 0, "change": 1, "delete": 0, "adopt": 0},
        "hosts": {
            "demo": {
                "status": "changes",
                "planned": {"create": 1, "change": 0, "delete": 0, "adopt": 0},
                "applied": {"create": 0, "change": 1, "delete": 0, "adopt": 0},
                "changes": [BUCKET | {"applied": False}, TIER | {"applied": True}],
                "other_changes": [],
                "errors": [],
            }
        },
    }


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path):
    run = Run(tmp_path / "missing" / "plan.json")
    run.ok(BUCKET)
    assert run.end()[-1] == "Plan: 1 to create, 0 to change, 0 to delete"
    assert "json_file" in run.screen.warnings[0]


def test_ansible_finds_it_and_it_has_to_be_enabled():
    plugin = callback_loader.get("mlplatform.gcp.plan", class_only=True)
    assert plugin.CALLBACK_NEEDS_ENABLED and plugin.CALLBACK_TYPE == "aggregate"
