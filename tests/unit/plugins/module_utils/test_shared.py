# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import time

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _shared


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())


def test_local_memory_forgets_in_time():
    _shared.remember("a", 1, 60)
    _shared.remember("b", 2, -1)
    assert _shared.recall("a") == 1
    assert _shared.recall("b") is None
    assert _shared.recall("c") is None


def test_forks_see_what_another_fork_left():
    _shared.share()
    _shared.share()
    context = multiprocessing.get_context("fork")
    for index in range(3):
        fork = context.Process(target=_shared.remember, args=(f"key{index}", {"token": index}, 60))
        fork.start()
        fork.join()
    assert [_shared.recall(f"key{index}") for index in range(3)] == [{"token": 0}, {"token": 1}, {"token": 2}]


def test_one_fork_at_a_time():
    _shared.share()
    context = multiprocessing.get_context("fork")

    def count():
        for _again in range(20):
            with _shared.entries() as known:
                now = known.get("n", {"value": 0})["value"]
                known["n"] = {"until": time.time() + 60, "value": now + 1}

    forks = [context.Process(target=count) for _index in range(4)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join()
    assert _shared.recall("n") == 80


def test_a_fork_that_died_with_the_lock_stops_nobody(monkeypatch):
    monkeypatch.setattr(_shared, "_PATIENCE", 0.1)
    _shared.share()
    _shared.remember("a", 1, 60)
    _shared._memory._lock.acquire()
    assert _shared.recall("a") is None
    _shared.remember("b", 1, 60)
    _shared._memory._lock.release()
    assert _shared.recall("a") == 1
    assert _shared.recall("b") is None


def test_half_written_memory_is_empty():
    _shared.share()
    _shared.remember("a", 1, 60)
    _shared._memory._map[4:8] = b"\xff\xff\xff\xff"
    assert _shared.recall("a") is None


def test_too_much_starts_afresh():
    _shared.share()
    _shared.remember("a", "x" * 300_000, 60)
    assert _shared.recall("a") is None
    _shared.remember("b", 1, 60)
    assert _shared.recall("b") == 1


def test_without_semaphores_each_fork_is_alone(monkeypatch):
    def no_context(kind):
        raise ValueError("no fork here")

    monkeypatch.setattr(multiprocessing, "get_context", no_context)
    _shared.share()
    assert isinstance(_shared._memory, _shared._LocalMemory)
