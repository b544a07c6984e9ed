# SPDX-License-Identifier: Apache-2.0
"""The state: JSON documents by kind and name, in one SQLite file.

One connection behind one re-entrant lock. A transaction holds the lock from its first to its last line, so handlers
that run in one never see each other half done. Committed changes survive kill -9 (WAL); a killed process
cannot lose writes that the operating system has accepted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document (
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    parent TEXT NOT NULL DEFAULT '',
    body   TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS document_by_parent ON document (kind, parent, name);
CREATE TABLE IF NOT EXISTS sequence (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Store:
    """Documents in SQLite.

    `kind` says what a document is ("secretmanager.secret"), `name` which one (its resource name), `parent` under what
    it is listed. Bodies are dicts of JSON values; what is returned is the caller's own copy.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._hooks: list[Callable[[], None]] = []
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Store]:
        """Run the block alone, all or nothing. Nested transactions join the outermost; an exception rolls all back."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._db.execute("BEGIN IMMEDIATE")
                self._hooks = []
            self._depth += 1
            try:
                yield self
            except BaseException:
                self._depth -= 1
                if outermost:
                    self._hooks = []
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not outermost:
                return
            self._db.execute("COMMIT")
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    def after_commit(self, fn: Callable[[], None]) -> None:
        """Run `fn` in this thread once the outermost transaction has committed; at once when there is none."""
        with self._lock:
            if self._depth:
                self._hooks.append(fn)
                return
        fn()

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the document, or None."""
        with self._lock:
            row = self._db.execute("SELECT body FROM document WHERE kind=? AND name=?", (kind, name)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, name: str, body: dict[str, Any], *, parent: str = "") -> None:
        """Insert or replace the document."""
        text = json.dumps(body, separators=(",", ":"))
        with self._lock:
            self._db.execute(
                "INSERT INTO document (kind, name, parent, body) VALUES (?,?,?,?)"
                " ON CONFLICT (kind, name) DO UPDATE SET parent=excluded.parent, body=excluded.body",
                (kind, name, parent, text),
            )

    def delete(self, kind: str, name: str) -> bool:
        """Remove the document; False when there was none."""
        with self._lock:
            return self._db.execute("DELETE FROM document WHERE kind=? AND name=?", (kind, name)).rowcount > 0

    def list(
        self,
        kind: str,
        *,
        parent: str | None = None,
        prefix: str | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, body) by name: those under `parent` with a name that starts with `prefix` and sorts behind
        `after`.
        """
        where, values = ["kind=?", "name>?"], [kind, after]
        if parent is not None:
            where.append("parent=?")
            values.append(parent)
        if prefix:
            # U+10FFFF sorts behind every character of a resource name.
            where.append("name>=? AND name<?")
            values += [prefix, prefix + "\U0010ffff"]
        query = f"SELECT name, body FROM document WHERE {' AND '.join(where)} ORDER BY name LIMIT ?"
        with self._lock:
            rows = self._db.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return [(name, json.loads(body)) for name, body in rows]

    def count(self, kind: str) -> int:
        """Return how many documents of a kind there are."""
        with self._lock:
            return self._db.execute("SELECT count(*) FROM document WHERE kind=?", (kind,)).fetchone()[0]

    def next_id(self, sequence: str) -> int:
        """1, 2, 3 ... across restarts. A rolled-back transaction gives its numbers back."""
        with self._lock:
            return self._db.execute(
                "INSERT INTO sequence (name, value) VALUES (?, 1)"
                " ON CONFLICT (name) DO UPDATE SET value=value+1 RETURNING value",
                (sequence,),
            ).fetchone()[0]
