# SPDX-License-Identifier: Apache-2.0
"""The store: documents, transactions, what survives."""

import subprocess
import sys
import threading

import pytest
from gcp_sandbox.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state.sqlite3")
    yield store
    store.close()


def test_documents_are_replaced_listed_by_name_and_deleted(store):
    store.put("k", "b", {"n": 1}, parent="p")
    store.put("k", "a", {"n": 2}, parent="p")
    store.put("k", "c", {"n": 3}, parent="q")
    store.put("other", "a", {"n": 4}, parent="p")
    store.put("k", "b", {"n": 5}, parent="p")
    assert store.get("k", "b") == {"n": 5}
    assert store.get("k", "zzz") is None
    assert store.list("k", parent="p") == [("a", {"n": 2}), ("b", {"n": 5})]
    assert [name for name, _ in store.list("k")] == ["a", "b", "c"]
    assert store.count("k") == 3
    assert store.delete("k", "b") is True
    assert store.delete("k", "b") is False


def test_list_pages_and_takes_prefixes_literally(store):
    for name in ("a/1", "a/2", "a/%", "a_b", "b/1"):
        store.put("k", name, {})
    assert [name for name, _ in store.list("k", prefix="a/")] == ["a/%", "a/1", "a/2"]
    assert [name for name, _ in store.list("k", prefix="a/", after="a/%", limit=1)] == ["a/1"]
    assert store.list("k", limit=0) == []


def test_what_is_returned_belongs_to_the_caller(store):
    store.put("k", "a", {"list": [1]})
    store.get("k", "a")["list"].append(2)
    assert store.get("k", "a") == {"list": [1]}


def test_a_failed_transaction_leaves_nothing_and_runs_no_hooks(store):
    ran = []
    with pytest.raises(RuntimeError), store.transaction():
        store.put("k", "a", {})
        store.next_id("s")
        store.after_commit(lambda: ran.append(1))
        with store.transaction():
            store.put("k", "b", {})
        raise RuntimeError
    assert store.list("k") == []
    assert ran == []
    assert store.next_id("s") == 1


def test_a_caught_error_inside_a_nested_transaction_keeps_the_outer_one(store):
    with store.transaction():
        store.put("k", "a", {})
        with pytest.raises(ValueError), store.transaction():
            raise ValueError
    assert store.get("k", "a") == {}


def test_hooks_run_after_the_outermost_commit_and_at_once_outside(store):
    seen = []
    with store.transaction():
        with store.transaction():
            store.after_commit(lambda: seen.append("hook"))
        seen.append("inside")
    assert seen == ["inside", "hook"]
    store.after_commit(lambda: seen.append("now"))
    assert seen[-1] == "now"


def test_a_hook_may_open_a_transaction(store):
    with store.transaction():
        store.after_commit(lambda: store.put("k", "from-hook", {}))
    assert store.get("k", "from-hook") == {}


def test_transactions_of_threads_do_not_interleave(store):
    store.put("k", "counter", {"n": 0})

    def add():
        for _ in range(50):
            with store.transaction():
                body = store.get("k", "counter")
                body["n"] += 1
                store.put("k", "counter", body)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("k", "counter") == {"n": 200}


def test_what_was_committed_survives_a_kill(tmp_path):
    script = f"""
import os, signal
from gcp_sandbox.store import Store
store = Store({str(tmp_path / "s.sqlite3")!r})
with store.transaction():
    store.put("k", "committed", {{}})
    store.next_id("s")
manager = store.transaction()
manager.__enter__()
store.put("k", "not committed", {{}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    store = Store(tmp_path / "s.sqlite3")
    assert [name for name, _ in store.list("k")] == ["committed"]
    assert store.next_id("s") == 2
    store.close()
