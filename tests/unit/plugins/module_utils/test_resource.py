# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import long_running
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import (
    Resource,
    Result,
    Update,
    state_of,
)

BASE = "https://x.googleapis.com/v1"
THING = Resource(
    kind="thing",
    base=BASE,
    path="projects/{project}/things/{name}",
    permission="x.things",
    create_id="thingId",
    operation=long_running(BASE),
    version="etag",
    delete_guard="etag",
    state=state_of("state", pending=("CREATING", "DELETING"), failed=("FAILED",)),
    transient=("may not exist",),
    explain=lambda remote, error: f"Read the log of {remote.id}.",
    rules=Rules(immutable={"region": "Make another."}),
)
PLAIN = Resource(kind="plain", base=BASE, path="plains/{name}", create_path="plains:make", permission="x.plains")
URL = f"{BASE}/projects/p/things/a"
DONE = {"name": "operations/1", "done": True, "response": {"name": "a", "size": 2, "state": "READY"}}


@pytest.fixture
def thing(cloud):
    def make(check_mode=False, **params):
        task = cloud.task(dict({"project": "p", "wait": True, "wait_timeout": 600}, **params), check_mode)
        return task.remote(THING, name="a")

    return make


def test_create_waits_and_returns_what_was_made(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect(
        "POST", f"{BASE}/projects/p/things", query={"thingId": "a"}, sent={"size": 2}, body={"name": "operations/1"}
    )
    cloud.expect("GET", f"{BASE}/operations/1", body=DONE)
    result = thing().ensure({"size": 2})
    cloud.done()
    assert result.changed and result.resource == DONE["response"]
    assert result.diff["after"] == {"name": "projects/p/things/a", "size": 2}
    assert result.operation is None


def test_without_waiting_the_operation_is_returned(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", f"{BASE}/projects/p/things", body={"name": "operations/1"})
    result = thing(wait=False).ensure({"size": 2}).as_dict()
    cloud.done()
    assert result["operation"] == "operations/1"
    assert result["resource"] == {"size": 2}


def test_a_resource_that_is_being_made_is_joined(cloud, thing):
    for _again in range(3):
        cloud.expect("GET", URL, body={"state": "CREATING", "size": 2})
    cloud.expect("GET", URL, body={"state": "READY", "size": 2})
    result = thing().ensure({"size": 2})
    cloud.done()
    assert not result.changed and result.resource["state"] == "READY"


def test_joining_then_changing(cloud, thing):
    cloud.expect("GET", URL, body={"state": "CREATING", "size": 1})
    cloud.expect("GET", URL, body={"state": "READY", "size": 1, "etag": "e"})
    cloud.expect("PATCH", URL, query={"updateMask": "size"}, sent={"size": 2, "etag": "e"}, body=DONE)
    assert thing(wait=False).ensure({"size": 2}).changed
    cloud.done()


def test_not_waiting_does_not_join(cloud, thing):
    cloud.expect("GET", URL, body={"state": "CREATING", "size": 2})
    assert not thing(wait=False).ensure({"size": 2}).changed
    cloud.expect("GET", URL, body={"state": "CREATING", "size": 1})
    assert thing(check_mode=True).ensure({"size": 2}).changed
    cloud.done()


def test_what_is_being_deleted_is_made_again(cloud, thing):
    cloud.expect("GET", URL, body={"state": "DELETING", "size": 2})
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", f"{BASE}/projects/p/things", body=DONE)
    assert thing().ensure({"size": 2}).diff["before"] == {}
    cloud.done()


def test_a_failed_resource_says_the_next_step(cloud, thing):
    cloud.expect("GET", URL, body={"state": "FAILED"})
    with pytest.raises(_errors.ResourceFailed, match=r"thing projects/p/things/a is in state FAILED.*state: absent"):
        thing().ensure({"size": 2})


def test_a_resource_that_fails_while_it_is_made(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", f"{BASE}/projects/p/things", body={"name": "o", "done": True})
    cloud.expect("GET", URL, body={"state": "FAILED"})
    with pytest.raises(_errors.ResourceFailed):
        thing().ensure({})


def test_a_failed_operation_is_explained(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", f"{BASE}/projects/p/things", body={"name": "o", "done": True, "error": {"message": "no room"}})
    with pytest.raises(
        _errors.OperationFailed, match=r"creating thing projects/p/things/a failed: no room\. Read the log of a\."
    ):
        thing().ensure({})


def test_a_second_run_that_lost_the_race_joins(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect_error("POST", f"{BASE}/projects/p/things", 409, code="ALREADY_EXISTS")
    cloud.expect("GET", URL, body={"state": "CREATING"})
    cloud.expect("GET", URL, body={"state": "CREATING", "size": 2})
    cloud.expect("GET", URL, body={"state": "READY", "size": 2})
    assert not thing().ensure({"size": 2}).changed
    cloud.done()


def test_a_lost_update_is_planned_again_and_counts_as_changed(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1, "etag": "1"})
    cloud.expect_error("PATCH", URL, 409, code="ABORTED")
    cloud.expect("GET", URL, body={"size": 2, "etag": "2"})
    result = thing().ensure({"size": 2})
    cloud.done()
    assert result.changed and result.diff["before"] == {"size": 1}


def test_conflicts_end(cloud, thing):
    for _again in range(6):
        cloud.expect("GET", URL, body={"size": 1, "etag": "1"})
        cloud.expect_error("PATCH", URL, 409, code="ABORTED")
    with pytest.raises(_errors.Conflict):
        thing().ensure({"size": 2})
    cloud.done()


def test_a_busy_resource_is_waited_for(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1})
    busy = {"reason": "operationInProgress", "legacy": True, "message": "another operation"}
    cloud.expect_error("PATCH", URL, 409, **busy)
    cloud.expect_error("PATCH", URL, 409, **busy)
    cloud.expect("PATCH", URL, body=DONE)
    assert thing().ensure({"size": 2}).changed
    cloud.done()


def test_a_resource_that_another_run_was_making_is_not_made_again(cloud, thing):
    busy = {"reason": "operationInProgress", "legacy": True, "message": "another operation"}
    cloud.expect_error("GET", URL, 404)
    cloud.expect_error("POST", f"{BASE}/projects/p/things", 409, **busy)
    cloud.expect_error("GET", URL, 404)
    cloud.expect_error("POST", f"{BASE}/projects/p/things", 409, **busy)
    for _again in range(3):
        cloud.expect("GET", URL, body={"size": 2})
    assert not thing().ensure({"size": 2}).changed
    cloud.done()


def test_a_body_that_is_sent_otherwise_than_it_is_compared(cloud):
    def rewrite(plan, body, mask):
        return {"secret": f"{plan.existing['digest']} {body['digest']}"}, [path.replace("dig", "s") for path in mask]

    resource = Resource(kind="plain", base=BASE, path="plains/{name}", update=Update(rewrite=rewrite))
    cloud.expect("GET", f"{BASE}/plains/a", body={"digest": "1"})
    cloud.expect("PATCH", f"{BASE}/plains/a", query={"updateMask": "sest"}, sent={"secret": "1 2"}, body={})
    assert cloud.task({}).remote(resource, name="a").ensure({"digest": "2"}).changed
    cloud.done()


def test_a_resource_that_stays_busy(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1})
    for _again in range(13):
        cloud.expect_error("PATCH", URL, 409, reason="operationInProgress", legacy=True, message="backup is running")
    with pytest.raises(_errors.OperationTimeout, match="busy: backup is running"):
        thing(wait_timeout=60).ensure({"size": 2})
    cloud.done()


def test_transient_refusals_pass(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    refused = {"code": "PERMISSION_DENIED", "message": "actAs denied on account (or it may not exist)"}
    cloud.expect_error("POST", f"{BASE}/projects/p/things", 403, **refused)
    cloud.expect("POST", f"{BASE}/projects/p/things", body=DONE)
    assert thing().ensure({}).changed
    cloud.expect_error("GET", URL, 404)
    for _again in range(53):
        cloud.expect_error("POST", f"{BASE}/projects/p/things", 403, **refused)
    began = cloud.clock.now()
    with pytest.raises(_errors.PermissionDenied, match=r"creating thing projects/p/things/a: .*actAs denied"):
        thing().ensure({})
    assert cloud.clock.now() - began == pytest.approx(240, abs=5)
    assert "actAs denied on account (or it may not exist), " in cloud.progress[0]
    cloud.done()


def test_a_refusal_names_the_permission_of_the_verb(cloud, thing):
    for verb, permission in (("GET", "x.things.get"), ("POST", "x.things.create")):
        if verb == "POST":
            cloud.expect_error("GET", URL, 404)
        cloud.expect_error(verb, URL if verb == "GET" else f"{BASE}/projects/p/things", 403, message="denied")
        with pytest.raises(_errors.PermissionDenied) as raised:
            thing().ensure({})
        assert raised.value.facts["permission"] == permission


def test_delete(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1, "etag": "e"})
    cloud.expect("DELETE", URL, query={"etag": "e"}, body={"name": "operations/2"})
    cloud.expect("GET", f"{BASE}/operations/2", body={"name": "operations/2", "done": True})
    result = thing().ensure_absent().as_dict()
    cloud.done()
    assert result["changed"] and "resource" not in result
    assert result["diff"]["before"] == {"size": 1, "etag": "e"}


def test_delete_in_check_mode_and_of_nothing(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1})
    assert thing(check_mode=True).ensure_absent().changed
    cloud.expect_error("GET", URL, 404)
    assert not thing().ensure_absent().changed
    cloud.done()


def test_deletes_that_cross(cloud, thing):
    cloud.expect("GET", URL, body={"size": 1})
    cloud.expect_error("DELETE", URL, 409, code="ABORTED")
    cloud.expect("GET", URL, body={"state": "DELETING"})
    cloud.expect_error("GET", URL, 404)
    assert not thing().ensure_absent().changed
    cloud.expect("GET", URL, body={"size": 1})
    cloud.expect_error("DELETE", URL, 404)
    assert thing().ensure_absent().changed
    cloud.done()


def test_deletes_that_never_succeed(cloud, thing):
    for _again in range(6):
        cloud.expect("GET", URL, body={"size": 1})
        cloud.expect_error("DELETE", URL, 409, code="ABORTED")
    with pytest.raises(_errors.Conflict):
        thing().ensure_absent()


def test_a_guard_may_refuse(cloud, thing):
    def guard(plan):
        raise _errors.UserError(f"no {plan.action}")

    cloud.expect("GET", URL, body={"size": 1})
    with pytest.raises(_errors.UserError, match="no delete"):
        thing().ensure_absent(guard=guard)
    cloud.expect("GET", URL, body={"size": 1})
    with pytest.raises(_errors.UserError, match="no update"):
        thing().ensure({"size": 2}, guard=guard)


def test_a_name_that_is_deleted_while_it_is_made(cloud, thing):
    cloud.expect_error("GET", URL, 404)
    cloud.expect_error("POST", f"{BASE}/projects/p/things", 409, code="ALREADY_EXISTS")
    cloud.expect_error("GET", URL, 404)
    cloud.expect_error("GET", URL, 404)
    cloud.expect("POST", f"{BASE}/projects/p/things", body=DONE)
    assert thing().ensure({}).changed
    cloud.done()


DISABLED = {"reason": "SERVICE_DISABLED", "metadata": {"service": "x.googleapis.com", "consumer": "projects/7"}}


def test_check_mode_in_an_empty_project(cloud, thing, monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    for _again in range(2):
        cloud.expect_error("GET", URL, 403, **DISABLED)
        cloud.expect("GET", ".../v1/projects/7/services/x.googleapis.com", body={"state": "DISABLED"})
        assert thing(check_mode=True).ensure({"size": 2}).changed
    assert cloud.warnings == [
        "The API x.googleapis.com is not enabled in project 7."
        " Check mode continues as if it was enabled and had no resources."
    ]
    cloud.expect_error("GET", URL, 403, **DISABLED)
    cloud.expect("GET", ".../v1/projects/7/services/x.googleapis.com", body={"state": "DISABLED"})
    with pytest.raises(_errors.ApiDisabled):
        thing().ensure({"size": 2})


def test_no_warning_when_this_run_would_enable_the_api(cloud, thing, monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    cloud.task({"project": "p"}, True).will_enable("x.googleapis.com", "p")
    cloud.expect_error("GET", URL, 403, **DISABLED)
    cloud.expect("GET", ".../v1/projects/7/services/x.googleapis.com", body={"state": "DISABLED"})
    assert thing(check_mode=True).ensure({}).changed
    assert cloud.warnings == []


def plain(cloud, **changes):
    resource = Resource(**dict(vars(PLAIN), **changes))
    return cloud.task({}).remote(resource, name="a b/c", other=None)


def test_synchronous_resources_are_not_read_again(cloud):
    cloud.expect_error("GET", f"{BASE}/plains/a%20b%2Fc", 404)
    cloud.expect("POST", f"{BASE}/plains:make", sent={"size": 1}, body={"size": 1, "id": "7"})
    assert plain(cloud).ensure({"size": 1}).resource == {"size": 1, "id": "7"}
    cloud.done()


def test_a_resource_that_cannot_be_changed(cloud):
    cloud.expect("GET", f"{BASE}/plains/a%20b%2Fc", body={"size": 1})
    with pytest.raises(_errors.ImmutableFieldError, match=r"plain plains/a b/c cannot be changed; what differs: size"):
        plain(cloud, update=None).ensure({"size": 2})


def test_put_sends_everything(cloud):
    cloud.expect("GET", f"{BASE}/plains/a%20b%2Fc", body={"size": 1, "settings": {"v": "3", "x": 1}})
    cloud.expect(
        "PUT", f"{BASE}/plains/a%20b%2Fc", query={"host": "%"}, sent={"size": 2, "settings": {"v": "3", "x": 1}}
    )
    update = Update(style="put", query={"host": "%"})
    assert plain(cloud, update=update, version="settings.v").ensure({"size": 2}).changed
    cloud.done()


def test_merge_with_a_guard_deep_in_the_body(cloud):
    cloud.expect("GET", f"{BASE}/plains/a%20b%2Fc", body={"size": 1, "settings": {"v": "3", "x": 1}})
    cloud.expect("PATCH", f"{BASE}/plains/a%20b%2Fc", query={}, sent={"size": 2, "settings": {"v": "3"}})
    assert plain(cloud, update=Update(style="merge"), version="settings.v").ensure({"size": 2}).changed
    cloud.done()


def test_results_add_up():
    result = Result(False, {"before": {}, "after": {}}, {"a": 1})
    result.add(Result(True, {"before": {}, "after": {"b": 1}}, extra={"x": 1})).add(Result(False))
    reported = result.as_dict()
    assert reported["changed"] and reported["x"] == 1 and reported["diff"] == {"before": {}, "after": {"b": 1}}
    result.add(Result(True, [{"before": {"c": 1}, "after": {}}]))
    assert len(result.as_dict()["diff"]) == 2
