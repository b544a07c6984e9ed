# SPDX-License-Identifier: Apache-2.0
"""The log of requests to the sandbox: one row a request, without bodies, query strings or credentials.

Written behind the answer in batches by one thread, to a file of its own so that it never waits for a handler's
transaction; `gcp-sandbox requests` reads the same file.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from dataclasses import astuple, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS request (
    time REAL NOT NULL, service TEXT NOT NULL, method TEXT NOT NULL, verb TEXT NOT NULL, host TEXT NOT NULL,
    path TEXT NOT NULL, status INTEGER NOT NULL, ms REAL NOT NULL, caller TEXT NOT NULL, agent TEXT NOT NULL,
    fault TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS request_time ON request (time);
"""

# Seconds that a request is remembered, counted when the sandbox starts.
_KEPT = 7 * 86400


@dataclass
class Entry:
    """One request: `time` in seconds since the epoch, `ms` its duration, `method` the discovery id.

    `fault` is the kind of the fault that it met (gateway/faults.py). `status` is 0 where there is no answer; of a lost
    answer it is that answer's.
    """

    time: float
    service: str
    method: str
    verb: str
    host: str
    path: str
    status: int
    ms: float
    caller: str
    agent: str
    fault: str = ""


class RequestLog:
    """The log. `add` never blocks."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[Entry | threading.Event | None] = queue.SimpleQueue()
        self._db = _open(path)
        with self._db:
            self._db.execute("DELETE FROM request WHERE time < ?", (time.time() - _KEPT,))
        self._thread = threading.Thread(target=self._write, name="request log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Record a request."""
        self._queue.put(entry)

    def flush(self) -> None:
        """Wait until everything added so far can be read."""
        written = threading.Event()
        self._queue.put(written)
        written.wait(5)

    def close(self) -> None:
        """Write what is left and close."""
        self._queue.put(None)
        self._thread.join(5)

    def _write(self) -> None:
        while True:
            items = [self._queue.get()]
            # Rows that arrive together are written together.
            time.sleep(0.02)
            while not self._queue.empty():
                items.append(self._queue.get())
            rows = [astuple(item) for item in items if isinstance(item, Entry)]
            try:
                self._db.executemany(f"INSERT INTO request VALUES ({','.join('?' * 11)})", rows)
                self._db.commit()
            except sqlite3.Error:
                log.exception("the request log could not be written")
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            if None in items:
                self._db.close()
                return


def _open(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=10)
    db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
    if "fault" not in [column[1] for column in db.execute("PRAGMA table_info(request)")]:
        # A file of release 0.2.0.
        with contextlib.suppress(sqlite3.OperationalError):  # another process has just added it
            db.execute("ALTER TABLE request ADD COLUMN fault TEXT NOT NULL DEFAULT ''")
    return db


class RequestReader:
    """Queries over the log of a running or stopped sandbox."""

    def __init__(self, path: Path) -> None:
        self._db = _open(path)

    def select(self, *, service: str | None = None, method: str | None = None, since: float = 0.0) -> list[Entry]:
        """Requests in order of time; `service` is exact, `method` a part of the id, `since` seconds since the epoch."""
        where, values = _where(service, method, since)
        return [Entry(*row) for row in self._db.execute(f"SELECT * FROM request WHERE {where} ORDER BY time", values)]

    def table(self, *, service: str | None = None, method: str | None = None, since: float = 0.0) -> list[tuple]:
        """Return (service, requests, errors, mean ms, slowest ms), busiest first."""
        where, values = _where(service, method, since)
        return self._db.execute(
            "SELECT service, count(*), sum(status >= 400), avg(ms), max(ms) FROM request"
            f" WHERE {where} GROUP BY service ORDER BY count(*) DESC, service",
            values,
        ).fetchall()

    def clear(self) -> None:
        """Forget all."""
        with self._db:
            self._db.execute("DELETE FROM request")

    def close(self) -> None:
        self._db.close()


def _where(service: str | None, method: str | None, since: float) -> tuple[str, list]:
    clauses, values = ["time >= ?"], [since]
    if service:
        clauses.append("service = ?")
        values.append(service)
    if method:
        clauses.append("instr(method, ?) > 0")
        values.append(method)
    return " AND ".join(clauses), values
