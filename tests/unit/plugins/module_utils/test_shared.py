# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import concurrent.futures
import multiprocessing
import time

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _shared


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    monkeypatch.setattr(_shared, "_heap", None)


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


def test_a_fork_that_died_with_the_lock_blocks_no_process(monkeypatch):
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


# The heap


def test_a_heap_finds_values_by_key():
    heap = _shared.Heap()
    heap.put("a", "place/a", b"1" * 100_000, 60)
    heap.put("b", "place/b", b"2", 60)
    heap.put("b", "place/b", b"3", 60)
    heap.put("c", "place/c", b"4", -1)
    assert (heap.get("a"), heap.get("b"), heap.get("c"), heap.get("d")) == (b"1" * 100_000, b"3", None, None)


def test_a_heap_forgets_by_place():
    heap = _shared.Heap()
    for name in "abc":
        heap.put(name, f"place/{name}", name.encode(), 60)
    before = heap.generation
    heap.forget(lambda place: place != "place/b")
    assert [heap.get(name) for name in "abc"] == [None, b"b", None]
    heap.put("d", "place/d", b"d", 60, before)
    assert heap.get("d") is None
    heap.put("d", "place/d", b"d", 60, heap.generation)
    assert heap.get("d") == b"d"


def test_a_full_heap_starts_afresh(monkeypatch):
    heap = _shared.Heap(size=_shared.Heap._START + 1000)
    heap.put("a", "p", b"x" * 900, 60)
    heap.put("b", "p", b"y" * 900, 60)
    heap.put("c", "p", b"z" * 2000, 60)
    assert (heap.get("a"), heap.get("c")) == (None, None)
    monkeypatch.setattr(_shared.Heap, "_SLOTS", 2)
    heap.put("d", "p", b"1", 60)
    heap.put("e", "p", b"2", 60)
    heap.put("f", "p", b"3", 60)
    assert heap.get("f") == b"3"


def test_forks_share_a_heap():
    _shared.share()
    context = multiprocessing.get_context("fork")
    for index in range(3):
        fork = context.Process(target=_shared.heap().put, args=(f"fork{index}", "p", str(index).encode(), 60))
        fork.start()
        fork.join()
    assert [_shared.heap().get(f"fork{index}") for index in range(3)] == [b"0", b"1", b"2"]


def test_nothing_is_found_in_a_heap_whose_lock_is_lost(monkeypatch):
    monkeypatch.setattr(_shared, "_PATIENCE", 0.1)
    heap = _shared.Heap()
    heap.put("a", "p", b"1", 60)
    heap._lock.acquire()
    assert heap.get("a") is None
    heap._lock.release()
    heap.put("b", "p", b"2", 60)
    assert (heap.get("a"), heap.get("b")) == (None, None)


def test_many_threads_put_and_get():
    heap = _shared.Heap()

    def work(number):
        for again in range(50):
            key = f"{number}.{again}"
            heap.put(key, key, key.encode() * 50, 60)
            assert heap.get(key) == key.encode() * 50

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
