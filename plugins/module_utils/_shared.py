# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory that all forks of one Ansible run share.

Ansible runs every task in a fresh fork of the controller, so a token of one fork is lost in the next. Anonymous
shared mappings, created in the parent before it forks, keep tokens (:func:`remember`) and answers of services
(:class:`Heap`) for the whole run and never touch a disk. Outside the controller (an ordinary module) the same
interfaces are memory of the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import struct
import threading
import time

_SIZE = 256 * 1024
# A fork that is killed while it holds the lock must not stop the others: after this many seconds they go without.
_PATIENCE = 20


class _LocalMemory:
    """The same interface without sharing."""

    def __init__(self):
        self._entries = {}

    @contextlib.contextmanager
    def entries(self):
        yield self._entries


class _SharedMemory:
    def __init__(self, lock):
        self._lock = lock
        self._map = mmap.mmap(-1, _SIZE)

    @contextlib.contextmanager
    def entries(self):
        """The entries as a dictionary under the lock; what the block leaves in it is written back."""
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            entries = self._read() if held else {}
            before = json.dumps(entries)
            yield entries
            if held and json.dumps(entries) != before:
                self._write(entries)
        finally:
            if held:
                self._lock.release()

    def _read(self):
        self._map.seek(0)
        size = int.from_bytes(self._map.read(4), "big")
        if not size:
            return {}
        try:
            return json.loads(self._map.read(size))
        except ValueError:  # a fork died while it wrote
            return {}

    def _write(self, entries):
        now = time.time()
        data = json.dumps({key: item for key, item in entries.items() if item["until"] > now}).encode()
        if len(data) + 4 > _SIZE:
            data = b"{}"
        self._map.seek(0)
        self._map.write(len(data).to_bytes(4, "big") + data)


class Heap:
    """Values of any size by key, in an index and a heap of bytes: a look-up reads one value and no other.

    Each value has a place, a text by which :meth:`forget` finds it. When the memory is full everything is forgotten. A
    process that was killed while it held the lock could have left half a value, so nothing is found from then on.
    """

    _SLOTS = 4096
    _SLOT = struct.Struct("<16sdIII")  # digest of the key, end of life, offset, length of the place, of the value
    _HEAD = struct.Struct("<?3xIII")  # whether it is broken, generation, slots in use, end of the heap
    _START = _HEAD.size + _SLOTS * _SLOT.size

    def __init__(self, lock=None, size=8 * 1024 * 1024):
        self._lock = lock or threading.Lock()
        self._map = mmap.mmap(-1, size)
        self._size = size
        self._write_head(0, 0, self._START)

    @property
    def generation(self):
        """A number that grows with each :meth:`forget`."""
        return self._head()[0]

    def get(self, key):
        """Return the bytes that were put under a key, or None."""
        with self._locked() as held:
            slot = self._find(key) if held else None
            if slot is None:
                return None
            _digest, _until, offset, place, length = slot
            return self._map[offset + place : offset + place + length]

    def put(self, key, place, value, seconds, generation=None):
        """Keep bytes for some seconds, unless something was forgotten since ``generation``."""
        with self._locked() as held:
            current, used, end = self._head()
            if not held or (generation is not None and generation != current):
                return
            data = place.encode()
            if used == self._SLOTS or end + len(data) + len(value) > self._size:
                current, used, end = current + 1, 0, self._START
            if end + len(data) + len(value) > self._size:
                return
            self._map[end : end + len(data) + len(value)] = data + value
            slot = self._SLOT.pack(_digest(key), time.time() + seconds, end, len(data), len(value))
            self._map[self._at(used) : self._at(used + 1)] = slot
            self._write_head(current, used + 1, end + len(data) + len(value))

    def forget(self, concerns):
        """Delete the values of all places with ``concerns(place)``."""
        with self._locked() as held:
            if not held:
                return
            current, used, end = self._head()
            for number in range(used):
                digest, until, offset, place, length = self._slot(number)
                if until and concerns(self._map[offset : offset + place].decode()):
                    self._map[self._at(number) : self._at(number + 1)] = self._SLOT.pack(
                        digest, 0, offset, place, length
                    )
            self._write_head(current + 1, used, end)

    def stop(self):
        """Find nothing from now on, in any process."""
        self._map[0] = 1

    @contextlib.contextmanager
    def _locked(self):
        """Yield whether the memory can be used, and hold its lock meanwhile."""
        held = not self._map[0] and self._lock.acquire(timeout=_PATIENCE)
        if not held:
            self.stop()
        try:
            yield held and not self._map[0]
        finally:
            if held:
                self._lock.release()

    def _find(self, key):
        """Return the newest living slot of a key."""
        digest, start, end = _digest(key), self._HEAD.size, self._at(self._head()[1])
        while (found := self._map.rfind(digest, start, end)) >= 0:
            number, rest = divmod(found - start, self._SLOT.size)
            if not rest:
                slot = self._slot(number)
                return slot if slot[1] > time.time() else None
            end = found + len(digest) - 1
        return None

    def _head(self):
        return self._HEAD.unpack_from(self._map, 0)[1:]

    def _write_head(self, generation, used, end):
        self._map[: self._HEAD.size] = self._HEAD.pack(bool(self._map[0]), generation & 0xFFFFFFFF, used, end)

    def _slot(self, number):
        return self._SLOT.unpack_from(self._map, self._at(number))

    def _at(self, number):
        return self._HEAD.size + number * self._SLOT.size


def _digest(key):
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


_memory = _LocalMemory()
_heap = None


def share():
    """Share the memory with all later forks of this process. Called once, in the controller's parent process."""
    global _memory, _heap
    if isinstance(_memory, _SharedMemory):
        return
    try:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        _memory, _heap = _SharedMemory(context.Lock()), Heap(context.Lock())
    except (ImportError, OSError, ValueError):
        # No semaphores or no fork on this controller: each task then fetches its own token.
        _memory, _heap = _LocalMemory(), None


def heap():
    """Return the :class:`Heap` that all forks share; without forks, or where they cannot share memory, None."""
    return _heap


def entries():
    """Context manager: the shared entries, ``{key: {"until": epoch seconds, "value": JSON}}``, locked meanwhile."""
    return _memory.entries()


def remember(key, value, seconds):
    """Keep a JSON value for so many seconds."""
    with entries() as known:
        known[key] = {"until": time.time() + seconds, "value": value}


def recall(key):
    """A value kept by :func:`remember` (in this fork or another), or None."""
    with entries() as known:
        item = known.get(key)
    return item["value"] if item and item["until"] > time.time() else None
