# SPDX-License-Identifier: Apache-2.0
"""Cloud Logging: what containers and builds wrote, found by filters; and the files that it is read from."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import pytest
from gcp_sandbox.backends.logs import Logs, Source
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.services import cloudlogging
from gcp_sandbox.testing.run import BASE

ENTRIES = "https://logging.googleapis.com/v2/entries:list"
NAME = "run.googleapis.com/execution_name"
PROGRAM = (
    "import json, sys; print(json.dumps({'message': 'structured', 'severity': 'warning', 'count': 3})); "
    "sys.stdout.flush(); sys.stderr.write('Traceback\\nKeyError: 7\\n'); sys.exit(3)"
)


def read(client, project, filter="", *, as_="", **more):
    body = {"resourceNames": [f"projects/{project}"], "filter": filter, **more}
    return client.ok("POST", ENTRIES, body, as_=as_)


@pytest.fixture
def failed(run):
    """The short name of an execution that failed, with output of its container."""
    container = {"image": run.image, "command": [sys.executable, "-c", PROGRAM]}
    task = {"containers": [container], "serviceAccount": run.account, "maxRetries": 0}
    jobs = f"{BASE}/{run.location}/jobs"
    run.finish(run.api.ok("POST", f"{jobs}?jobId=migrate", {"template": {"template": task}}))
    started = run.api.ok("POST", f"{jobs}/migrate:run")
    assert "error" in run.finish(started)
    return started["metadata"]["name"].rpartition("/")[2]


def test_the_output_of_a_job_can_be_read_by_execution(run, failed):
    filter = f'resource.type="cloud_run_job" resource.labels.job_name="migrate" labels."{NAME}"="{failed}"'
    entries = read(run.api, run.project.id, filter)["entries"]
    structured, first, second = entries
    assert [first["textPayload"], second["textPayload"]] == ["Traceback", "KeyError: 7"]
    assert structured["jsonPayload"] == {"message": "structured", "count": 3}
    assert structured["severity"] == "WARNING" and "severity" not in first
    assert structured["logName"].endswith("/logs/run.googleapis.com%2Fstdout")
    assert first["logName"] == f"projects/{run.project.id}/logs/run.googleapis.com%2Fstderr"
    labels = {"job_name": "migrate", "location": "europe-west1", "project_id": run.project.id}
    assert first["resource"] == {"type": "cloud_run_job", "labels": labels}
    assert first["labels"] == {
        NAME: failed,
        NAME.replace("execution_name", "task_index"): "0",
        NAME.replace("execution_name", "task_attempt"): "0",
    }
    assert read(run.api, run.project.id, f'labels."{NAME}"="another"') == {}


def test_entries_are_in_order_and_in_pages(run, failed):
    assert failed
    newest = read(run.api, run.project.id, "resource.type=cloud_run_job", orderBy="timestamp desc", pageSize=2)
    assert [entry["textPayload"] for entry in newest["entries"]] == ["KeyError: 7", "Traceback"]
    rest = {"orderBy": "timestamp desc", "pageSize": 2, "pageToken": newest["nextPageToken"]}
    more = read(run.api, run.project.id, "resource.type=cloud_run_job", **rest)
    assert [entry["jsonPayload"]["count"] for entry in more["entries"]] == [3] and "nextPageToken" not in more
    oldest = read(run.api, run.project.id, "resource.type=cloud_run_job")["entries"]
    assert oldest == [*more["entries"], *reversed(newest["entries"])]
    assert sorted(entry["timestamp"] for entry in oldest) == [entry["timestamp"] for entry in oldest]
    body = {"resourceNames": [f"projects/{run.project.id}"]}
    for wrong in ({"pageSize": -1}, {"orderBy": "severity"}, {"pageToken": "x"}, {"filter": "severity>=LOUD"}):
        assert run.api.post(ENTRIES, {**body, **wrong}).status == 400
    assert run.api.post(ENTRIES, {"filter": ""}).status == 400
    assert run.api.post(ENTRIES, {"resourceNames": ["buckets/x"]}).status == 400


def test_reading_needs_a_role_of_logging(run, failed):
    assert failed
    quota = {"x-goog-user-project": run.project.id}
    body = {"resourceNames": [f"projects/{run.project.id}"]}
    assert run.api.post(ENTRIES, body, as_="bob@example.com").status == 403
    for role in ("roles/logging.viewer", "roles/logging.privateLogViewer"):
        run.sandbox.iam.set_policy(
            run.project.name, {"bindings": [{"role": role, "members": ["user:bob@example.com"]}]}
        )
        assert run.api.post(ENTRIES, body, as_="bob@example.com").status == 200
    assert run.api.post(ENTRIES, body, as_="bob@example.com", headers=quota).status == 403
    assert run.api.post(ENTRIES, {"resourceNames": ["projects/another"]}).status == 403


def test_requests_to_a_service_have_entries(run):
    service = run.deploy("hello")
    run.get(f"{service['uri']}/missing?token=secret", headers={"user-agent": "tester"})
    revision = service["latestReadyRevision"].rpartition("/")[2]
    filter = f'resource.labels.revision_name={revision} log_id("run.googleapis.com/requests")'
    (entry,) = read(run.api, run.project.id, filter)["entries"]
    seen = entry["httpRequest"]
    assert (seen["requestMethod"], seen["requestUrl"]) == ("GET", f"{service['uri']}/missing")
    assert seen["userAgent"] == "tester" and re.fullmatch(r"\d+\.\d+s", seen["latency"])
    assert entry["severity"] == ("WARNING" if seen["status"] >= 400 else "INFO")
    assert entry["resource"]["type"] == "cloud_run_revision"
    assert read(run.api, run.project.id, f'resource.labels.revision_name={revision} textPayload:"new instance"')


ENTRY = {
    "logName": "projects/p/logs/run.googleapis.com%2Fstderr",
    "resource": {"type": "cloud_run_job", "labels": {"job_name": "Migrate", "location": "us-central1"}},
    "labels": {NAME: "migrate-abc"},
    "timestamp": "2026-11-28T02:14:09.265573Z",
    "textPayload": 'KeyError: "seven"',
    "jsonPayload": {"count": 3, "ok": True, "words": ["a", "b"]},
}


@pytest.mark.parametrize(
    ("filter", "fits"),
    [
        ("", True),
        ("resource.type = cloud_run_job \n AND resource.labels.job_name = migrate \n AND severity >= DEFAULT \n", True),
        ("severity >= INFO", False), ("NOT severity=ERROR", True), ("severity=0", True),
        (f'labels."{NAME}"="migrate-abc"', True), (f'labels."{NAME}"!="migrate-abc"', False),
        (f'labels."{NAME}":*', True), ("labels.other:*", False), ("-labels.other:*", True),
        ("labels.other=x", False), ("labels.other!=x", False), ("NOT labels.other=x", True),
        ('log_id("run.googleapis.com/stderr")', True), ('log_id("run.googleapis.com/stdout")', False),
        ('logName="projects/p/logs/run.googleapis.com%2Fstderr"', True), ("logName:stderr", True),
        ('textPayload="keyerror: \\"SEVEN\\""', True), ("textPayload:keyerror", True), ("keyerror", True),
        ('"no such words"', False), ("jsonPayload.count>2.5", True), ("jsonPayload.count>10", False),
        ("jsonPayload.ok=TRUE", True), ("jsonPayload.words=b", True), ("jsonPayload.count=three", False),
        ('textPayload=~"^Key.*seven"', True), ('textPayload=~"^key"', False), ('textPayload!~"^key"', True),
        ('timestamp>="2026-11-28T02:14:09Z" timestamp<"2026-11-28T03:14:10+01:00"', True),
        ('timestamp>"2026-11-29"', False),
        ("resource.type=(gae_app OR cloud_run_job)", True), ("resource.type=(gae_app OR build)", False),
        ("resource.type!=(gae_app AND build)", True), ("NOT resource.type=(gae_app OR build)", True),
        ("resource.type=build OR resource.type=cloud_run_job AND severity>=ERROR", False),
        ("resource.type=cloud_run_job -- a comment = 1\n-- severity=ERROR", True), ('"-- no comment"', False),
    ],
)  # fmt: skip
def test_filters(filter, fits):
    assert cloudlogging.compile(filter)(ENTRY) is fits


@pytest.mark.parametrize(
    "filter",
    ["resource.type=", "(severity=ERROR", 'textPayload=~"("', "timestamp>=yesterday", "severity>=LOUD", "a=b c="],
)
def test_filters_that_cannot_be_read(filter):
    with pytest.raises(ApiError) as caught:
        cloudlogging.compile(filter)
    assert caught.value.code == 400 and caught.value.message.startswith("Unparseable filter")


def test_functions_that_are_not_served_are_named():
    with pytest.raises(ApiError) as caught:
        cloudlogging.compile('SEARCH("words")')
    assert caught.value.code == 501 and "SEARCH" in caught.value.message


SOURCE = Source("migrate", "p", "run.googleapis.com", "cloud_run_job", {"job_name": "migrate"})


@pytest.fixture
def new_logs(settings):
    """Make what keeps the logs of a sandbox; with a container to follow."""
    made = []

    def new(*, follows=True):
        made.append(Logs(SimpleNamespace(settings=settings)))
        if follows:
            made[-1].follow("1", SOURCE, {"stdout": settings.state / "stdout"})
        return made[-1]

    settings.folders()
    yield new
    for logs in made:
        logs._db.close()


def texts(logs):
    return [entry["textPayload"] for _, entry in logs.entries("p")]


def test_lines_are_read_once_across_a_restart(new_logs, settings):
    file = settings.state / "stdout"
    file.write_text("one\nunfin")
    logs = new_logs()
    assert texts(logs) == ["one"]
    with file.open("a") as stream:
        stream.write("ished\nthree\n")
    again = new_logs()
    assert texts(again) == ["one", "unfinished", "three"]
    with file.open("a") as stream:
        stream.write("the end")
    again.finish("1")
    assert texts(again) == ["one", "unfinished", "three", "the end"]
    assert again.file("migrate").read_text() == "one\nunfinished\nthree\nthe end\n"
    file.write_text("a container of another time\n")
    assert texts(new_logs())[-1] == "a container of another time"


def test_entries_do_not_outlive_their_time(new_logs, monkeypatch):
    logs = new_logs(follows=False)
    monkeypatch.setattr("gcp_sandbox.backends.logs.time.time", lambda: 1.0)
    logs.line(SOURCE, "an old line")
    monkeypatch.undo()
    logs.line(SOURCE, "a new line")
    assert texts(logs) == ["an old line", "a new line"]
    assert texts(new_logs(follows=False)) == ["a new line"]


def test_lines_of_json_that_are_no_objects_are_text(new_logs, settings):
    (settings.state / "stdout").write_text('[1]\n{"a": 1\n{"severity": 7, "a": "b"}\n')
    entries = [entry for _, entry in new_logs().entries("p")]
    assert [entry.get("textPayload") for entry in entries] == ["[1]", '{"a": 1', None]
    assert entries[2]["jsonPayload"] == {"severity": 7, "a": "b"} and json.dumps(entries)
