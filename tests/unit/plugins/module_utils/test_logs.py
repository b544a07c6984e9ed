# SPDX-License-Identifier: Apache-2.0
"""Test that errors have the end of a container's log, and that nothing about the log hides the error."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _logs

ENTRIES = "https://logging.googleapis.com/v2/entries:list"
COMMAND = "gcloud logging read x"


@pytest.fixture
def read(cloud):
    """Return what an error says about a container's log."""

    def read(wait_timeout=600):
        task = cloud.task({"project": "p", "wait_timeout": wait_timeout})
        found = _logs.of_container(task, "run.googleapis.com", 'resource.type="cloud_run_job"', COMMAND)
        cloud.done()
        return found

    return read


def test_the_last_lines_are_shown_in_order_and_with_the_command(cloud, read):
    entries = [
        {"textPayload": "KeyError: 7\n"},
        {"jsonPayload": {"message": "connecting", "level": "info"}},
        {"jsonPayload": {"level": "info"}},
        {"protoPayload": {"methodName": "x"}},
        {"textPayload": "Traceback\n  File"},
    ]
    cloud.expect("POST", ENTRIES, body={"entries": entries})
    lines = ["Traceback", "  File", '{"level": "info"}', "connecting", "KeyError: 7"]
    assert read() == "\n".join(["The end of its output:", *lines, f"All of its output: {COMMAND}"])
    sent = cloud.requests[-1].body
    assert sent["resourceNames"] == ["projects/p"] and sent["orderBy"] == "timestamp desc"
    assert sent["filter"].startswith('resource.type="cloud_run_job" (log_id("run.googleapis.com/stdout") OR ')


def test_no_secret_and_no_endless_line_is_shown(cloud, read):
    entries = [{"textPayload": text} for text in ("x" * 5000, "token ya29.abcdef", "postgresql://u:hunter22@/db")]
    cloud.expect("POST", ENTRIES, body={"entries": entries})
    shown = read()
    assert "hunter22" not in shown and "ya29" not in shown and "********@/db" in shown
    assert max(map(len, shown.splitlines())) == 500


def test_a_log_without_permission_or_api_or_answer_is_the_command(cloud, read):
    for answer in (
        {"status": 403, "code": "PERMISSION_DENIED", "message": "Permission denied for all log views"},
        {"status": 400, "code": "INVALID_ARGUMENT"},
    ):
        cloud.expect_error("POST", ENTRIES, **answer)
        assert read() == f"Its output: {COMMAND}"


def test_entries_that_arrive_late_are_awaited_once(cloud, read):
    cloud.expect("POST", ENTRIES, body={})
    cloud.expect("POST", ENTRIES, body={"entries": [{"textPayload": "late"}]})
    assert "\nlate\n" in read() and cloud.clock.slept
    cloud.expect("POST", ENTRIES, body={})
    cloud.expect("POST", ENTRIES, body={})
    assert read() == f"Its output: {COMMAND}"
    cloud.expect("POST", ENTRIES, body={})
    assert read(wait_timeout=1) == f"Its output: {COMMAND}"
