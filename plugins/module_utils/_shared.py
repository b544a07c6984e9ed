# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A few kilobytes of memory that all forks of one Ansible run share.

Ansible runs every task in a fresh fork of the controller, so a token fetched in one is gone in the next. An
anonymous shared mapping, made in the parent before it forks, keeps tokens for the whole run and never touches a disk.
Outside the controller (an ordinary module) the same interface is a dictionary of the process.
"""

from __future__ import annotations

import contextlib
import json
import mmap
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


_memory = _LocalMemory()


def share():
    """Share the memory with all later forks of this process. Called once, in the controller's parent process."""
    global _memory
    if isinstance(_memory, _SharedMemory):
        return
    try:
        import multiprocessing

        _memory = _SharedMemory(multiprocessing.get_context("fork").Lock())
    except (ImportError, OSError, ValueError):
        # No semaphores or no fork on this controller: each task then fetches its own token.
        _memory = _LocalMemory()


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
