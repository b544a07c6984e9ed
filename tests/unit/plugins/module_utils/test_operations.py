# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import Waiter, long_running, sql_operation

BASE = "https://run.googleapis.com/v2"
KIND = long_running(BASE)
SQL = sql_operation("https://sqladmin.googleapis.com/sql/v1")


@pytest.fixture
def waiter(cloud):
    return Waiter(cloud.clock, 60, cloud.progress.append)


def test_an_operation_that_is_done_costs_nothing(cloud, waiter):
    body = {"name": "operations/1", "done": True, "response": {"@type": "t", "name": "x"}}
    assert waiter.operation(cloud.client, KIND, body, what="creating x") is body
    assert KIND.result(body) == {"name": "x"}
    assert KIND.status(body) == "done"
    assert cloud.clock.slept == []


def test_polls_until_done(cloud, waiter):
    cloud.expect("GET", f"{BASE}/operations/1", body={"name": "operations/1"})
    cloud.expect("GET", f"{BASE}/operations/1", body={"name": "operations/1", "done": True})
    last = waiter.operation(cloud.client, KIND, {"name": "operations/1"}, what="creating x")
    assert last["done"] and KIND.result(last) is None
    cloud.done()


@pytest.mark.parametrize(
    ("error", "words"), [({"code": 9, "message": "no room"}, "no room"), ({"code": 9}, "error code 9")]
)
def test_failure_is_told(cloud, waiter, error, words):
    with pytest.raises(_errors.OperationFailed, match=f"creating x failed: {words}") as raised:
        waiter.operation(cloud.client, KIND, {"name": "o", "done": True, "error": error}, what="creating x")
    assert raised.value.facts["operation"] == "o"


def test_deadline_tells_the_last_status(cloud, waiter):
    polls = []

    def poll():
        polls.append(cloud.clock.now())
        return None, "PENDING_CREATE"

    with pytest.raises(
        _errors.OperationTimeout, match=r"creating x: not finished after wait_timeout=60 s; last status: PENDING_CREATE"
    ):
        waiter.until(poll, what="creating x", operation="o")
    assert polls[-1] == pytest.approx(1060)
    assert waiter.left <= 0
    assert len(polls) < 50


def test_progress_every_quarter_of_a_minute(cloud, waiter):
    answers = iter(["RUNNING"] * 1000)

    def poll():
        return "value", "" if cloud.clock.now() > 1050 else next(answers)

    assert waiter.until(poll, what="creating x") == "value"
    assert len(cloud.progress) == 3
    assert cloud.progress[0].startswith("creating x: RUNNING, 1")
    waiter = Waiter(cloud.clock, 600, cloud.progress.append)
    began = cloud.clock.now()
    waiter.until(lambda: (None, "" if cloud.clock.now() - began > 80 else "RUNNING"), what="y")
    assert cloud.progress[-1].startswith("y: RUNNING, 1m")


def test_one_deadline_for_everything(cloud, waiter):
    began = cloud.clock.now()
    waiter.until(lambda: (1, "" if cloud.clock.now() - began > 50 else "x"), what="a")
    with pytest.raises(_errors.OperationTimeout):
        waiter.until(lambda: (1, "busy"), what="b")
    assert cloud.clock.now() - began <= 61
    with pytest.raises(_errors.OperationTimeout):
        waiter.pause(1, "c", "busy")


def test_sql_operations(cloud, waiter):
    body = {"name": "op1", "targetProject": "p", "status": "PENDING"}
    url = "https://sqladmin.googleapis.com/sql/v1/projects/p/operations/op1"
    cloud.expect("GET", url, body=dict(body, status="RUNNING"))
    failed = dict(body, status="DONE", error={"errors": [{"code": "INTERNAL", "message": "broke"}, {}]})
    cloud.expect("GET", url, body=failed)
    with pytest.raises(_errors.OperationFailed, match="INTERNAL: broke; ERROR:"):
        waiter.operation(cloud.client, SQL, body, what="creating x")
    assert SQL.status({}) == "unknown"
    assert SQL.result(body) is None
    assert SQL.error({"status": "DONE"}) == ""
