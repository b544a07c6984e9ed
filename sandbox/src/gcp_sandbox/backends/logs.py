# SPDX-License-Identifier: Apache-2.0
"""What containers and builds write: a text file for each name (`gcp-sandbox logs NAME`), and entries for Cloud Logging.

A container writes into files of its own, because it outlives a daemon that is killed; a thread reads them on. An entry
has the time at which its line was read.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.gateway.times import timestamp

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings

log = logging.getLogger(__name__)

Json = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, project TEXT NOT NULL, log TEXT NOT NULL,
    source TEXT NOT NULL, fields TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entry_place ON entry (project, time, id);
CREATE TABLE IF NOT EXISTS position (file TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
"""

# Cloud Logging keeps entries for 30 days (cloud.google.com/logging/quotas); the sandbox no more than this many.
_KEPT_SECONDS, _KEPT_ENTRIES = 30 * 86400, 200_000
# An entry has at most 256 KB there.
_LONGEST = 256 << 10
_INTERVAL = 0.1

# cloud.google.com/logging/docs/structured-logging: fields of a JSON line that become fields of the entry.
_SEVERITIES = frozenset(["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"])


@dataclass(frozen=True)
class Source:
    """What writes lines.

    :param name: of the text file.
    :param project: project id.
    :param api: first part of the names of its logs, such as run.googleapis.com.
    :param type: of the monitored resource.
    :param resource: labels of the monitored resource, project_id apart.
    :param labels: labels of each entry.
    """

    name: str
    project: str
    api: str
    type: str
    resource: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)


class Host(Protocol):
    """The parts of the sandbox that `Logs` uses."""

    settings: Settings


class Logs:
    """Writes and finds lines."""

    def __init__(self, sandbox: Host) -> None:
        self._folder = sandbox.settings.logs
        self._lock = threading.RLock()
        self._followed: dict[str, tuple[Source, Mapping[str, Path]]] = {}
        self._pending: list[tuple[int, str, str, str, str]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="logs", daemon=True)
        self._last = 0
        self._db = sqlite3.connect(sandbox.settings.state / "logs.sqlite3", check_same_thread=False, timeout=10)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
        with self._db:
            newest = self._db.execute("SELECT max(id) FROM entry").fetchone()[0] or 0
            oldest = int((time.time() - _KEPT_SECONDS) * 1e6)
            self._db.execute("DELETE FROM entry WHERE time < ? OR id <= ?", (oldest, newest - _KEPT_ENTRIES))

    def start(self) -> None:
        """Read what containers write from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and close."""
        self._stopping.set()
        self._thread.join(5)
        self.flush()
        self._db.close()

    # -- writing

    def line(self, source: Source, text: str, *, severity: str = "", **fields: Any) -> None:
        """Add a line of the platform's own to the text file, and an entry.

        :param fields: of the entry, in place of the text: `httpRequest` for a request.
        """
        stamp = timestamp()[:-4] + "Z"
        with self._writable(source.name).open("a") as file:
            file.write(f"{stamp} {text}\n")
        log = "requests" if "httpRequest" in fields else "varlog/system"
        self.entry(source, f"{source.api}/{log}", **(fields or {"textPayload": text}), severity=severity)

    def entry(self, source: Source, log: str, **fields: Any) -> None:
        """Add an entry.

        :param log: the log's name, such as cloudbuild.
        :param fields: of the entry that are not empty.
        """
        shown = {name: value for name, value in fields.items() if value}
        with self._lock:
            self._pending.append((self._now(), source.project, log, _packed(source), json.dumps(shown)))

    def follow(self, key: str, source: Source, files: Mapping[str, Path]) -> None:
        """Read files that a container writes, until `finish(key)`: "stdout" and "stderr"."""
        with self._lock:
            self._followed[key] = (source, files)

    def finish(self, key: str) -> None:
        """Read the rest of the files of a container that has ended. They may be removed then."""
        with self._lock:
            if key not in self._followed:
                return
            source, files = self._followed.pop(key)
            for name, file in files.items():
                self._read(source, name, file, last=True)
            self._write()
            with self._db:
                self._db.executemany("DELETE FROM position WHERE file = ?", [(str(file),) for file in files.values()])

    def flush(self) -> None:
        """Read and write everything that was written so far."""
        with self._lock:
            for source, files in self._followed.values():
                for name, file in files.items():
                    self._read(source, name, file)
            self._write()

    def _follow(self) -> None:
        while not self._stopping.wait(_INTERVAL):
            try:
                self.flush()
            except (OSError, sqlite3.Error):
                log.exception("logs could not be written")

    def _read(self, source: Source, name: str, file: Path, *, last: bool = False) -> None:
        """Take the lines that a container has added to a file."""
        row = self._db.execute("SELECT bytes FROM position WHERE file = ?", (str(file),)).fetchone()
        done = row[0] if row else 0
        if not file.exists() or file.stat().st_size <= done:
            return
        with file.open("rb") as stream:
            stream.seek(done)
            data = stream.read()
        if not last and len(data) < _LONGEST:
            data = data[: data.rfind(b"\n") + 1]
        if not data:
            return
        with self._writable(source.name).open("ab") as out:
            out.write(data if data.endswith(b"\n") or not last else data + b"\n")
        for line in data.decode(errors="replace").split("\n"):
            if line.strip():
                self.entry(source, f"{source.api}/{name}", **_payload(line.rstrip("\r")[:_LONGEST]))
        self._write((str(file), done + len(data)))

    def _write(self, position: tuple[str, int] | None = None) -> None:
        rows, self._pending = self._pending, []
        if not rows and position is None:
            return
        with self._db:
            self._db.executemany("INSERT INTO entry (time, project, log, source, fields) VALUES (?, ?, ?, ?, ?)", rows)
            if position is not None:
                self._db.execute("INSERT OR REPLACE INTO position VALUES (?, ?)", position)

    def _now(self) -> int:
        """Return the time in microseconds, later than that of the entry before."""
        self._last = max(int(time.time() * 1e6), self._last + 1)
        return self._last

    # -- reading

    def file(self, name: str) -> Path:
        """Return the path of a text file with all that was written so far."""
        self.flush()
        return self._writable(name)

    def entries(self, project: str, *, newest_first: bool = False, after: tuple[int, int] | None = None) -> Iterator:
        """Yield (time, id) and the fields of each entry of a project, in order of time.

        :param after: (time, id) of the entry before the first one.
        """
        self.flush()
        order, than = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = "project = ?", [project]
        if after is not None:
            where, values = f"{where} AND (time, id) {than} (?, ?)", [project, *after]
        query = f"SELECT id, time, log, source, fields FROM entry WHERE {where} ORDER BY time {order}, id {order}"
        with self._lock:
            rows = self._db.execute(query, values)
        while True:
            with self._lock:
                page = rows.fetchmany(200)
            if not page:
                return
            for id, moment, log, source, fields in page:
                yield (moment, id), _entry(id, moment, project, log, json.loads(source), json.loads(fields))

    def _writable(self, name: str) -> Path:
        """Return the path of a text file, made if need be, readable by the daemon's user only."""
        path = self._folder / f"{name}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return path


def _packed(source: Source) -> str:
    kept = asdict(source)
    return json.dumps({name: kept[name] for name in ("type", "resource", "labels")})


def _payload(line: str) -> Json:
    """Return the payload of a line; a JSON object is a structured one."""
    if not line.startswith("{"):
        return {"textPayload": line}
    try:
        body = json.loads(line)
    except ValueError:
        return {"textPayload": line}
    severity = body.pop("severity", "") if isinstance(body.get("severity"), str) else ""
    known = severity.upper() if severity.upper() in _SEVERITIES else ""
    return {"jsonPayload": body, "severity": known}


def _entry(id: int, moment: int, project: str, log: str, source: Json, fields: Json) -> Json:
    """Return an entry as Cloud Logging returns it."""
    stamp = timestamp(moment / 1e6)
    escaped = log.replace("/", "%2F")
    found = {
        "insertId": f"{id:016x}",
        "logName": f"projects/{project}/logs/{escaped}",
        "receiveTimestamp": stamp,
        "resource": {"type": source["type"], "labels": {"project_id": project, **source["resource"]}},
        "timestamp": stamp,
        **fields,
    }
    return found | ({"labels": source["labels"]} if source["labels"] else {})
