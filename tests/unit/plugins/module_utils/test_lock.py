# SPDX-License-Identifier: Apache-2.0
"""The lock of a deployment, one task at a time."""

from __future__ import annotations

import datetime
import os

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _http, _lock, _shared
from ansible_collections.mlplatform.gcp.plugins.modules import storage_bucket
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

STORAGE = "https://storage.googleapis.com"
OBJECT = f"{STORAGE}/storage/v1/b/bkt/o/.mlplatform%2Fdemo-dev.lock"
UPLOAD = f"{STORAGE}/upload/storage/v1/b/bkt/o"
NOW = datetime.datetime(2026, 11, 28, 12, 0, 0, tzinfo=datetime.UTC)
DATE = {"Date": "Sat, 28 Nov 2026 12:00:00 GMT"}
OTHER = {
    "run": "other",
    "owner": "alice@elsewhere",
    "process": "4711/1",
    "machine": "elsewhere",
    "action": "deploy",
    "since": "2026-11-28T11:58:00Z",
}
BUCKET = {"name": "x", "location": "EU", "labels": {}}


@pytest.fixture
def options(monkeypatch):
    """Return the option `lock` of a new run, with tasks that share no memory."""
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    monkeypatch.setattr(_shared, "_heap", None)
    return {
        "kind": "bucket",
        "bucket": "bkt",
        "name": ".mlplatform/demo-dev.lock",
        "title": "The deployment demo-dev",
        "exists": True,
        "certain": False,
        "action": "deploy",
        "wait": 600,
        "force": False,
        **_lock.IDENTITY,
    }


@pytest.fixture
def forks(options, monkeypatch):
    """Let the tasks of a test share memory, as forks of Ansible do."""
    monkeypatch.setattr(_shared, "_heap", _shared.Heap())


def state(version, fields=None, *, held=True, age=10.0):
    metadata = None if fields is None else fields | {"state": "locked" if held else "free"}
    updated = (NOW - datetime.timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    return {"metageneration": version, "updated": updated, "metadata": metadata}


class Written(dict):
    """Compares equal to what a run of this process writes into the lock."""

    def __init__(self, held):
        super().__init__()
        self.held = held

    def __eq__(self, sent):
        metadata = sent["metadata"]
        assert metadata["run"] == _lock.IDENTITY["run"] and metadata["action"] == "deploy"
        return metadata["state"] == ("locked" if self.held else "free")

    __hash__ = None


def reads(cloud, *given, **more):
    cloud.expect("GET", OBJECT, body=state(*given, **more), headers=DATE)


def writes(cloud, version, *, held=True, status=200):
    if status == 412:
        cloud.expect_error("PATCH", OBJECT, 412, legacy=True, reason="conditionNotMet")
        return
    query = {"ifMetagenerationMatch": version}
    body = {"metageneration": str(int(version) + 1)}
    cloud.expect("PATCH", OBJECT, query=query, sent=Written(held), body=body)


def bucket_read(cloud):
    cloud.expect("GET", "...b/x", body=BUCKET)


def bucket_changed(cloud):
    cloud.expect("PATCH", "...b/x", body=BUCKET)


def run(cloud, options, check_mode=False, **more):
    return cloud.run(storage_bucket, check_mode, name="x", lock=options, **({"labels": {"a": "b"}} | more))


def test_no_change_takes_no_lock(cloud, options):
    bucket_read(cloud)
    assert not run(cloud, options, labels={})["changed"]
    bucket_read(cloud)
    assert run(cloud, options, True)["changed"]


def test_a_change_takes_it_and_without_shared_memory_the_task_releases_it(cloud, options):
    bucket_read(cloud)
    reads(cloud, "7", OTHER, held=False, age=3600)
    writes(cloud, "7")
    bucket_changed(cloud)
    writes(cloud, "8", held=False)
    assert run(cloud, options)["changed"]


def test_the_first_run_creates_it(cloud, options, forks):
    bucket_read(cloud)
    cloud.expect_error("GET", OBJECT, 404, legacy=True)
    query = {"uploadType": "media", "name": ".mlplatform/demo-dev.lock", "ifGenerationMatch": "0"}
    cloud.expect("POST", UPLOAD, query=query, body=state("1"), headers=DATE)
    writes(cloud, "1")
    bucket_changed(cloud)
    assert run(cloud, options)["changed"]


def test_later_changes_of_the_run_send_nothing_until_it_is_renewed(cloud, options, forks):
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    bucket_changed(cloud)
    run(cloud, options)
    bucket_read(cloud)
    bucket_changed(cloud)
    run(cloud, options)
    cloud.clock.time += _lock.RENEW_SECONDS
    bucket_read(cloud)
    writes(cloud, "8")
    bucket_changed(cloud)
    run(cloud, options)


def test_a_second_run_waits_and_reads_again(cloud, options, forks):
    bucket_read(cloud)
    reads(cloud, "7", OTHER)
    reads(cloud, "7", OTHER)
    reads(cloud, "8", OTHER, held=False, age=0)
    writes(cloud, "8")
    cloud.expect("GET", "...b/x", body=BUCKET | {"labels": {"a": "b"}})
    assert not run(cloud, options)["changed"]
    assert "alice@elsewhere (deploy, process 4711) since 2026-11-28T11:58:00Z" in cloud.progress[0]


def test_two_runs_that_see_it_free_do_not_both_get_it(cloud, options, forks):
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7", status=412)
    reads(cloud, "8", OTHER, age=0)
    reads(cloud, "9", OTHER, held=False, age=0)
    writes(cloud, "9")
    bucket_read(cloud)
    bucket_changed(cloud)
    assert run(cloud, options)["changed"]


def test_its_own_lost_answer_is_recognised(cloud, options, forks):
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7", status=412)
    reads(cloud, "8", _lock.IDENTITY | {"action": "deploy"}, age=0)
    writes(cloud, "8")
    bucket_changed(cloud)
    assert run(cloud, options)["changed"]


def test_without_waiting_it_reads_again_if_another_run_was_there_since(cloud, options, forks):
    cloud.clock.time += 100
    bucket_read(cloud)
    reads(cloud, "7", OTHER, held=False, age=1)
    writes(cloud, "7")
    bucket_read(cloud)
    bucket_changed(cloud)
    assert run(cloud, options)["changed"]


@pytest.mark.parametrize(("age", "again"), [(99, True), (200, False)])
def test_what_counts_is_the_time_since_the_survey(cloud, options, forks, age, again):
    _lock.Lock(options, cloud.client).surveyed(cloud.clock.now())
    cloud.clock.time += 100
    bucket_read(cloud)
    reads(cloud, "7", OTHER, held=False, age=age)
    writes(cloud, "7")
    if again:
        bucket_read(cloud)
    bucket_changed(cloud)
    run(cloud, options)


@pytest.mark.parametrize("wait", [0, 30])
def test_it_gives_up_and_says_who_and_how_to_break_it(cloud, options, wait):
    bucket_read(cloud)
    for _poll in range(1 if not wait else 40):
        reads(cloud, "7", OTHER)
    with pytest.raises(AssertionError, match="expected and not made") if wait else pytest.raises(Failed) as failure:
        run(cloud, dict(options, wait=wait))
    if not wait:
        message = failure.value.result["msg"]
        assert "is locked by alice@elsewhere (deploy, process 4711) since 2026-11-28T11:58:00Z" in message
        assert "mlflow_lock_timeout" in message and "-e mlflow_lock_break=true" in message
    assert cloud.clock.time - 1000 <= wait + 10
    cloud.script.clear()


def is_taken_over(cloud, options, fields, words, **more):
    bucket_read(cloud)
    reads(cloud, "7", fields, **more)
    writes(cloud, "7")
    if more.get("age", 10) > 100:
        bucket_changed(cloud)
    else:
        bucket_read(cloud)
        bucket_changed(cloud)
    assert run(cloud, options)["changed"]
    assert words in cloud.warnings[0] and "alice@elsewhere" in cloud.warnings[0]


def test_a_stale_lock_is_taken_over(cloud, options, forks):
    is_taken_over(cloud, options, OTHER, "has not renewed the lock", age=_lock.STALE_SECONDS + 1)


def test_a_broken_lock_is_taken_over(cloud, options, forks):
    is_taken_over(cloud, dict(options, force=True), OTHER, "mlflow_lock_break", age=200)


def test_the_lock_of_a_process_of_this_machine_that_has_ended_is_taken_over(cloud, options, forks):
    dead = OTHER | {"machine": _lock.IDENTITY["machine"], "process": f"{os.getpid()}/1"}
    is_taken_over(cloud, options, dead, "Its process has ended", age=200)


def test_the_lock_of_a_process_of_this_machine_that_runs_is_not(cloud, options):
    alive = OTHER | {name: _lock.IDENTITY[name] for name in ("machine", "process")}
    bucket_read(cloud)
    reads(cloud, "7", alive, age=200)
    with pytest.raises(Failed, match="is locked by"):
        run(cloud, dict(options, wait=0))


@pytest.mark.parametrize("action", ["destroy", "restart"])
def test_a_removal_since_the_survey_ends_a_deployment(cloud, options, forks, action):
    bucket_read(cloud)
    reads(cloud, "7", OTHER | {"action": action}, held=False, age=0)
    writes(cloud, "7")
    if action == "restart":
        bucket_read(cloud)
        bucket_changed(cloud)
        assert run(cloud, options)["changed"]
        return
    with pytest.raises(Failed, match=r"alice@elsewhere \(destroy.*Run again"):
        run(cloud, options)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_without_permission_it_warns_once_and_goes_on(cloud, options, forks, method):
    bucket_read(cloud)
    if method == "PATCH":
        reads(cloud, "7", held=False)
    cloud.expect_error(method, OBJECT, 403, legacy=True, reason="forbidden", message="no access")
    bucket_changed(cloud)
    run(cloud, options)
    bucket_read(cloud)
    bucket_changed(cloud)
    run(cloud, options)
    assert len(cloud.warnings) == 1 and "storage.objects.update" in cloud.warnings[0]


def test_a_permission_that_is_lost_meanwhile_ends_the_lock_and_not_the_run(cloud, options, forks):
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    bucket_changed(cloud)
    run(cloud, options)
    cloud.clock.time += _lock.RENEW_SECONDS
    for refusals in (1, 0):
        bucket_read(cloud)
        for _refusal in range(refusals):
            cloud.expect_error("PATCH", OBJECT, 403, legacy=True, reason="forbidden", message="no access")
        bucket_changed(cloud)
        assert run(cloud, options)["changed"]
    assert len(cloud.warnings) == 1 and "storage.objects.update" in cloud.warnings[0]


def test_before_the_bucket_exists_there_is_no_lock(cloud, options, forks):
    options = dict(options, exists=False)
    cloud.expect_error("GET", "...b/bkt", 404)
    cloud.expect("POST", "...storage/v1/b", body=BUCKET | {"name": "bkt"})
    cloud.run(storage_bucket, name="bkt", location="eu", lock=options)
    # From then on there is.
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    bucket_changed(cloud)
    run(cloud, options)


def test_a_bucket_that_another_run_has_created_has_it(cloud, options, forks):
    options = dict(options, exists=False)
    cloud.expect("GET", "...b/bkt", body=BUCKET | {"name": "bkt"})
    assert not cloud.run(storage_bucket, name="bkt", lock=options)["changed"]
    bucket_read(cloud)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    bucket_changed(cloud)
    run(cloud, options)


def test_it_ends_with_its_bucket(cloud, options, forks):
    found = {"items": [{"name": ".mlplatform/demo-dev.lock", "generation": "1"}]}
    cloud.expect("GET", "...b/bkt", body=BUCKET | {"name": "bkt"})
    cloud.expect("GET", "...b/bkt/o", body=found)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    cloud.expect("GET", "...b/bkt", body=BUCKET | {"name": "bkt"})
    cloud.expect("GET", "...b/bkt/o", body=found)
    cloud.expect("DELETE", OBJECT)
    cloud.expect("GET", "...b/bkt/o", body={})
    cloud.expect("DELETE", "...b/bkt")
    options["action"] = "deploy"
    # Another run has just released it, so the task reads again before it deletes.
    cloud.script[2].body = state("7", OTHER, held=False, age=0)
    assert cloud.run(storage_bucket, name="bkt", state="absent", force=True, lock=options)["changed"]
    bucket_read(cloud)
    bucket_changed(cloud)
    run(cloud, options)


def test_what_waits_renews_it(cloud, options, forks):
    lock = _lock.Lock(options, cloud.client)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    assert not lock.hold()
    lock.keep()
    cloud.clock.time += _lock.RENEW_SECONDS
    writes(cloud, "8")
    lock.keep()
    cloud.clock.time += _lock.RENEW_SECONDS
    # Another run has taken it: this one takes it again before the next change, which then starts from what exists.
    writes(cloud, "9", status=412)
    lock.keep()
    lock.keep()
    reads(cloud, "12", OTHER, held=False, age=1)
    writes(cloud, "12")
    assert lock.hold()
    cloud.done()


def test_a_task_that_was_changing_something_goes_on_when_it_lost_the_lock(cloud, options, forks):
    cloud.client.lock = _lock.Lock(options, cloud.client)
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    cloud.expect("POST", "https://x/1")
    cloud.client.post("https://x/1")
    cloud.clock.time += _lock.RENEW_SECONDS
    writes(cloud, "8", status=412)
    reads(cloud, "12", OTHER, held=False, age=1)
    writes(cloud, "12")
    cloud.expect("POST", "https://x/2")
    cloud.client.post("https://x/2")
    cloud.done()


def test_the_end_of_ansible_releases_what_its_forks_have(cloud, options, forks, monkeypatch):
    cloud.client.credentials.token = "t0ken"
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    assert not _lock.Lock(options, cloud.client).hold()
    given = []

    def client(credentials, **more):
        given.append((credentials.source.token, more))
        return cloud.client

    monkeypatch.setattr(_http, "Client", client)
    # A task outside the controller has renewed it.
    writes(cloud, "8", status=412)
    reads(cloud, "9", _lock.IDENTITY | {"action": "deploy"}, age=0)
    writes(cloud, "9", held=False)
    _lock.release_all()
    _lock.release_all()
    cloud.done()
    assert given == [("t0ken", {"attempts": 3})]


def test_a_lock_that_another_run_has_taken_over_is_not_released(cloud, options):
    reads(cloud, "7", held=False)
    writes(cloud, "7")
    lock = _lock.Lock(options, cloud.client)
    lock.hold()
    writes(cloud, "8", status=412)
    reads(cloud, "9", OTHER, age=0)
    lock.end()
    cloud.done()
