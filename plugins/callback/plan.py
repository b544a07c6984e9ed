# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan
type: aggregate
short_description: Print which resources a run changes
version_added: 0.3.0
author: the mlplatform.gcp authors (@mlplatform)
description:
  - Prints at the end of a run, for each host, the resources that the modules of this collection create, change, delete
    or adopt, with the fields that count and what a change implies, such as a restart of the database.
  - The last line is C(Plan:) with the number of resources in check mode, and C(Applied:) otherwise.
  - Values of secrets are not printed. A task with C(no_log) is named, and its changes are not printed.
  - With C(-v) all fields are printed with their whole values.
requirements:
  - enable in configuration, C(callbacks_enabled=mlplatform.gcp.plan)
options:
  json_file:
    description:
      - A file to which the plan is written as JSON. It is replaced; only its owner can read it.
      - The file has C(version), which is V(1), C(planned) and C(applied) with the numbers of resources by action, and
        C(hosts) by name.
      - A host has C(status), which is V(unchanged), V(changes), V(failed) or V(unreachable), C(planned) and C(applied)
        with numbers, C(changes), C(other_changes) with the names of tasks of other collections that report a change,
        and C(errors) with C(task) and C(message).
      - A change has C(kind), C(name), C(action), C(fields) with C(path), C(before) and C(after), C(implies), and
        C(applied), which is V(false) in check mode.
    type: path
    env:
      - name: MLPLATFORM_GCP_PLAN_JSON
    ini:
      - section: callback_mlplatform_gcp_plan
        key: json_file
"""

import json
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import changes

COLORS = {
    "create": constants.COLOR_DIFF_ADD,
    "change": constants.COLOR_CHANGED,
    "delete": constants.COLOR_DIFF_REMOVE,
    "adopt": constants.COLOR_DIFF_LINES,
}
# A failed assertion about the changes of the run is a difference and no error: see playbooks/plan.yml.
GATE = "mlplatform.gcp.changes"


@dataclass
class Host:
    """What the run changes on one host. The keys of ``entries`` say whether they are applied."""

    entries: dict = field(default_factory=lambda: {False: [], True: []})
    others: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    gates: int = 0
    status: str = ""

    def merged(self, applied):
        return changes.merge(self.entries[applied])

    def as_dict(self):
        planned, applied = self.merged(False), self.merged(True)
        return {
            "status": self.status,
            "planned": changes.count(planned),
            "applied": changes.count(applied),
            "changes": [dict(entry, applied=False) for entry in planned]
            + [dict(entry, applied=True) for entry in applied],
            "other_changes": self.others,
            "errors": self.errors,
        }


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "mlplatform.gcp.plan"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display=None, options=None):
        super().__init__(display=display, options=options)
        self._hosts: dict[str, Host] = {}
        # Whether tasks of this collection ran in check mode, and whether they ran otherwise.
        self._modes: set[bool] = set()

    # Collecting

    # A loop reports each item and then the whole. Only items have the fields of the task as they are for the item.

    def v2_runner_item_on_ok(self, result):
        self._collect(result)

    def v2_runner_item_on_failed(self, result):
        self._collect(result)

    def v2_runner_on_ok(self, result):
        self._collect(result)
        self._collect_other(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        host = self._collect(result)
        if ignore_errors:
            return
        data = result.result
        if GATE in str(data.get("assertion")):
            host.gates += 1
        else:
            host.errors.append({"task": result.task_name, "message": _message(data)})

    def v2_runner_on_unreachable(self, result):
        self._host(result).errors.append({"task": result.task_name, "message": _message(result.result)})

    def _host(self, result) -> Host:
        return self._hosts.setdefault(result.host.get_name(), Host())

    def _collect(self, result) -> Host:
        host, data = self._host(result), result.result
        if isinstance(data.get("changes"), list):
            applied = result.task_fields.get("check_mode") is not True
            self._modes.add(applied)
            host.entries[applied] += changes.entries_of(data)
        return host

    def _collect_other(self, result) -> None:
        """Note the name of a task that reports a change without saying which."""
        data = result.result
        if result.is_changed() and not changes.reports_changes(data):
            name = result.task_name
            self._host(result).others.append(f"{name} (hidden by no_log)" if data.get("censored") else name)

    # The end of the run

    def v2_playbook_on_stats(self, stats):
        for name, host in self._hosts.items():
            host.status = _status(host, stats.failures.get(name, 0), stats.dark.get(name, 0))
        for applied in sorted(self._modes):
            self._print(applied)
        path = self.get_option("json_file")
        if path:
            self._write(path)

    def _print(self, applied: bool) -> None:
        total = []
        for name, host in self._hosts.items():
            merged = host.merged(applied)
            total += merged
            failed = host.status in ("failed", "unreachable")
            if merged or host.others or failed:
                self._display.banner(f"{'APPLIED' if applied else 'PLAN'} [{name}]")
                self._print_host(host, merged, failed)
        counts = changes.count(total)
        many = f" on {len(self._hosts)} hosts" if len(self._hosts) > 1 else ""
        self._display.display("")
        self._display.display(
            changes.summary(counts, applied) + many,
            color=constants.COLOR_CHANGED if any(counts.values()) else constants.COLOR_OK,
        )

    def _print_host(self, host: Host, merged: list, failed: bool) -> None:
        full = self._display.verbosity > 0
        labels = {} if full else changes.common_labels(merged)
        if labels:
            pairs = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
            self._display.display(f"Labels of new resources: {pairs}")
        for entry in merged:
            first, *rest = changes.describe(entry, labels, full)
            self._display.display(first, color=COLORS[entry["action"]])
            for line in rest:
                self._display.display(line)
        for task in host.others:
            self._display.display(f"~ task {task}", color=constants.COLOR_CHANGED)
        if failed:
            where = f" at: {host.errors[-1]['task']}" if host.errors else ""
            self._display.display(f"Not complete: the host is {host.status}{where}", color=constants.COLOR_ERROR)

    def _write(self, path: str) -> None:
        report = {
            "version": 1,
            "planned": self._total(False),
            "applied": self._total(True),
            "hosts": {name: host.as_dict() for name, host in self._hosts.items()},
        }
        try:
            _write_private(path, json.dumps(report, indent=2, default=str) + "\n")
        except OSError as error:
            self._display.warning(f"The plan cannot be written to {path} (json_file): {error.strerror}.")

    def _total(self, applied: bool) -> dict[str, int]:
        return changes.count([entry for host in self._hosts.values() for entry in host.merged(applied)])


def _message(data: dict[str, Any]) -> str:
    return str(data.get("censored") or data.get("msg") or data.get("message") or "")


def _status(host: Host, failures: int, unreachable: int) -> str:
    if unreachable:
        return "unreachable"
    if failures > host.gates:
        return "failed"
    return "changes" if any(host.entries.values()) else "unchanged"


def _write_private(path: str, text: str) -> None:
    """Replace a file as a whole; a new file of tempfile has mode 0600."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".plan-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
