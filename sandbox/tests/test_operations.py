# SPDX-License-Identifier: Apache-2.0
"""Long-running operations, and resources that are only declared, over a service that exists for the test."""

import threading
import time

import pytest
from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.errors import failed_precondition
from gcp_sandbox.gateway.resource import Resource, Resources
from gcp_sandbox.gateway.service import job
from gcp_sandbox.gateway.times import epoch
from gcp_sandbox.sandbox import Sandbox

BASE = "https://certificatemanager.googleapis.com/v1"


class Certificates(Resources):
    """Certificate Manager, a service that only stores resources."""

    name = "certificatemanager"
    versions = ("v1",)
    api = None
    # Roles hold the permissions of services that there are, so these borrow one's.
    resources = (
        Resource(
            "projects.locations.certificateMaps",
            id_parameter="certificateMapId",
            seconds={"create": 600, "update": 600, "delete": 600},
            permission="artifactregistry.repositories",
        ),
    )

    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.ran = []
        self.gate = threading.Event()

    def removing(self, resource, call, body):
        if body.get("description") == "in use":
            raise failed_precondition("The resource is in use.")

    @job("note")
    def note(self, op):
        self.ran.append(op.args["x"])
        op.update(metadata={"progress": 50})
        op.elapse()
        return {"x": op.args["x"]}

    @job("fail")
    def fail(self, op):
        raise failed_precondition("No more certificates.")

    @job("crash")
    def crash(self, op):
        raise ZeroDivisionError

    @job("block")
    def block(self, op):
        self.gate.wait(10)
        return {}


def _sandbox(settings: Settings) -> Sandbox:
    sandbox = Sandbox(settings)
    sandbox.add(Certificates(sandbox))
    sandbox.start()
    return sandbox


@pytest.fixture
def sandbox(settings):
    sandbox = _sandbox(settings)
    yield sandbox
    sandbox.stop()


@pytest.fixture
def parent(sandbox):
    return f"projects/{sandbox.settings.project}/locations/global"


def _start(sandbox, job, seconds=0.0, **args):
    number = sandbox.store.next_id("test")
    return sandbox.operations.start(
        service="certificatemanager",
        name=f"projects/{sandbox.settings.project}/locations/global/operations/{job}{number}",
        seconds=seconds,
        job=job,
        args=args,
        project=sandbox.settings.project,
        body={"metadata": {"target": "t"}},
    )


def test_an_operation_runs_its_job_and_keeps_the_answer(sandbox, client):
    op = sandbox.operations.wait(_start(sandbox, "note", x=1), 60)
    assert (op.done, op.response, op.error) == (True, {"x": 1}, None)
    assert op.body == {"metadata": {"progress": 50}}
    answer = client.ok("GET", f"{BASE}/{op.name}")
    assert answer == {"name": op.name, "metadata": {"progress": 50}, "done": True, "response": {"x": 1}}


def test_errors_of_a_job_are_the_operations(sandbox):
    op = sandbox.operations.wait(_start(sandbox, "fail"), 60)
    assert op.error == {"code": 9, "message": "No more certificates."}
    op = sandbox.operations.wait(_start(sandbox, "crash"), 60)
    assert op.error["code"] == 13


def test_an_unknown_job_fails_where_it_is_started(sandbox):
    with pytest.raises(LookupError):
        _start(sandbox, "nonsense")


def test_nothing_starts_before_the_transaction_commits_or_when_it_fails(sandbox):
    service = sandbox.services["certificatemanager"]
    with pytest.raises(RuntimeError), sandbox.store.transaction():
        _start(sandbox, "note", x=1)
        raise RuntimeError
    with sandbox.store.transaction():
        op = _start(sandbox, "note", x=2)
        time.sleep(0.05)
        assert service.ran == []
    sandbox.operations.wait(op, 60)
    assert service.ran == [2]


def test_operations_are_found_by_target_and_state(sandbox):
    blocked = _start(sandbox, "block")
    done = sandbox.operations.wait(_start(sandbox, "note", x=1), 60)
    names = [op.name for op in sandbox.operations.list("certificatemanager")]
    assert names == [blocked.name, done.name]
    assert [op.name for op in sandbox.operations.list("certificatemanager", active=True)] == [blocked.name]
    assert sandbox.operations.wait(blocked, 0.05).done is False
    sandbox.operations.cancel(blocked)
    assert sandbox.operations.get("certificatemanager", blocked.name).error["code"] == 1
    sandbox.services["certificatemanager"].gate.set()


def test_the_mixin_lists_waits_and_deletes(sandbox, client, parent):
    op = sandbox.operations.wait(_start(sandbox, "note", x=1), 60)
    listed = client.ok("GET", f"{BASE}/{parent}/operations")
    assert [entry["name"] for entry in listed["operations"]] == [op.name]
    assert client.ok("DELETE", f"{BASE}/{op.name}") == {}
    assert client.get(f"{BASE}/{op.name}").status == 404


def test_durations_are_scaled(settings):
    sandbox = _sandbox(settings.changed(latency="scaled:1000"))
    op = sandbox.operations.wait(_start(sandbox, "note", seconds=300, x=1), 60)
    assert op.done
    assert epoch(op.ended) - epoch(op.created) >= 0.3
    sandbox.stop()


def test_operations_go_on_after_the_end_of_the_process(settings):
    """Stopping keeps what was not done; the job runs again."""
    sandbox = _sandbox(settings.changed(latency="real"))
    op = _start(sandbox, "note", seconds=600, x=7)
    time.sleep(0.1)
    assert sandbox.services["certificatemanager"].ran == [7]
    sandbox.stop()
    again = _sandbox(settings)
    done = again.operations.wait(again.operations.get("certificatemanager", op.name), 60)
    assert done.response == {"x": 7}
    assert again.services["certificatemanager"].ran == [7]
    again.stop()


def test_declared_resources_live_and_die(sandbox, client, parent):
    done = client.done(
        client.ok("POST", f"{BASE}/{parent}/certificateMaps?certificateMapId=m1", {"labels": {"a": "b"}}), BASE
    )
    name = f"{parent}/certificateMaps/m1"
    assert done["response"]["name"] == name
    assert client.ok("GET", f"{BASE}/{name}")["labels"] == {"a": "b"}
    assert client.post(f"{BASE}/{parent}/certificateMaps?certificateMapId=m1").status == 409
    assert client.post(f"{BASE}/{parent}/certificateMaps?certificateMapId=M_1").status == 400
    assert client.get(f"{BASE}/{parent}/certificateMaps/m2").status == 404

    before = client.ok("GET", f"{BASE}/{name}")
    client.done(client.ok("PATCH", f"{BASE}/{name}?updateMask=description", {"description": "in use"}), BASE)
    after = client.ok("GET", f"{BASE}/{name}")
    assert (after["description"], after["labels"]) == ("in use", {"a": "b"})
    assert after["createTime"] == before["createTime"]
    assert after["updateTime"] > before["updateTime"]

    assert client.delete(f"{BASE}/{name}").status == 400
    client.done(client.ok("PATCH", f"{BASE}/{name}?updateMask=description", {}), BASE)
    assert "description" not in client.ok("GET", f"{BASE}/{name}")
    client.done(client.ok("DELETE", f"{BASE}/{name}"), BASE)
    assert client.get(f"{BASE}/{name}").status == 404


def test_declared_resources_are_listed_in_pages(sandbox, client, parent):
    for number in range(5):
        client.done(client.ok("POST", f"{BASE}/{parent}/certificateMaps?certificateMapId=m{number}"), BASE)
    url = f"{BASE}/{parent}/certificateMaps?pageSize=2"
    names, token = [], ""
    while True:
        page = client.ok("GET", f"{url}&pageToken={token}")
        names += [entry["name"].rpartition("/")[2] for entry in page["certificateMaps"]]
        token = page.get("nextPageToken")
        if not token:
            break
    assert names == ["m0", "m1", "m2", "m3", "m4"]
    assert client.get(f"{url}&pageToken=nonsense").status == 400


def test_declared_resources_check_permissions(sandbox, client, parent):
    url = f"{BASE}/{parent}/certificateMaps?certificateMapId=m1"
    assert client.post(url, as_="bob@example.com").status == 403
    assert client.post(url, as_=None).status == 401
    number = sandbox.settings.project_number
    done = client.done(client.ok("POST", url.replace(sandbox.settings.project, number)), BASE)
    assert done["response"]["name"] == f"{parent}/certificateMaps/m1"
