# SPDX-License-Identifier: Apache-2.0
"""Cloud Storage's objects: bytes as files, everything else as rows in the store.

A *blob* is a finished, immutable file; a *generation* is a row that points at one. Bytes are complete on disk before
their row is committed, and a file is removed only after the row that names it is deleted, so a crash leaves at worst a
file that no row names; those are swept at start.

Rows are keyed by the generation of the bucket and not by its name: a bucket that was deleted and one made later under
the same name never see each other's objects.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import google_crc32c

if TYPE_CHECKING:
    from gcp_sandbox.config import Settings
    from gcp_sandbox.store import Store

BUCKET = "storage.bucket"  # live buckets, by name
LIVE = "storage.object"  # the current generation of each object
NONCURRENT = "storage.object.noncurrent"
SOFT_DELETED = "storage.object.softDeleted"
UPLOAD = "storage.upload"

CHUNK = 1 << 20
# A resumable upload persists multiples of this (cloud.google.com/storage/docs/resumable-uploads).
UPLOAD_GRANULARITY = 256 * 1024
UPLOAD_LIFETIME = timedelta(days=7)
# How long the file of a deleted object stays, so that a download in progress can be answered to its end.
UNLINK_DELAY = 60.0


@dataclass(frozen=True)
class Blob:
    """A file with its checksums in base64. A composed object has no md5: ""."""

    id: str
    size: int
    crc32c: str
    md5: str = ""


@dataclass
class Listing:
    """One page: generations by name and generation, the prefixes that stand for the rest, and where to go on."""

    items: list[dict] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next: str = ""


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 with milliseconds, as Cloud Storage writes its times."""
    return (moment or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def etag(*numbers: int) -> str:
    """Return an etag: generation numbers as a protocol buffer message of varints, in base64 (CAE= for 1)."""
    message = bytearray()
    for tag, number in enumerate(numbers, 1):
        message.append(tag << 3)
        while number > 0x7F:
            message.append(number & 0x7F | 0x80)
            number >>= 7
        message.append(number)
    return base64.b64encode(bytes(message)).decode()


def checksums(path: Path) -> tuple[int, str, str]:
    """Return (size, crc32c, md5) of a file, read once in small pieces."""
    crc, md5, size = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            crc.update(piece)
            md5.update(piece)
            size += len(piece)
    return size, base64.b64encode(crc.digest()).decode(), base64.b64encode(md5.digest()).decode()


def compile_glob(pattern: str) -> re.Pattern[str]:
    """matchGlob of objects.list: `*` and `?` stop at a slash, `**` does not, `[..]` and `{a,b}` are alternatives."""
    out, depth, i = "", 0, 0
    while i < len(pattern):
        c = pattern[i]
        if pattern.startswith("**", i):
            out, i = out + ".*", i + 1
        elif c == "*":
            out += "[^/]*"
        elif c == "?":
            out += "[^/]"
        elif c == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end]
            negated = inner[0] in "!^"
            inner = re.sub(r"([\\\[\]^&|~])", r"\\\1", inner[1:] if negated else inner)
            out, i = out + f"[{'^' if negated else ''}{inner}]", end
        elif c == "{":
            out, depth = out + "(?:", depth + 1
        elif c == "}" and depth:
            out, depth = out + ")", depth - 1
        elif c == "," and depth:
            out += "|"
        elif c == "\\" and i + 1 < len(pattern):
            i += 1
            out += re.escape(pattern[i])
        else:
            out += re.escape(c)
        i += 1
    if depth:
        raise ValueError(f"unbalanced braces in {pattern!r}")
    return re.compile(out, re.DOTALL)


class Host(Protocol):
    """The parts of the sandbox that `ObjectStore` uses."""

    settings: Settings
    store: Store


class ObjectStore:
    """What services/storage keeps its objects in, and other services read and write them by (`read`, `write`)."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self.store = sandbox.store
        root = Path(sandbox.settings.state) / "objects"
        self.blobs, self.spool, self.uploads = root / "blobs", root / "spool", root / "uploads"
        self._lock = threading.Lock()
        self._last_generation = 0
        self._removed: list[tuple[float, Path]] = []

    def start(self) -> None:
        for folder in (self.blobs, self.spool, self.uploads):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()

    def stop(self) -> None:
        self._unlink_removed(everything=True)

    # --- bytes

    def path(self, row: dict) -> Path:
        """Return the file with the bytes of a generation."""
        return self._blob_path(row["blob"]["id"])

    def temporary(self) -> Path:
        """Return a name for a file that `adopt` can move without copying it."""
        return self.spool / uuid.uuid4().hex

    def adopt(self, path: Path) -> Blob:
        """Make a finished file a blob. The file is moved away."""
        size, crc32c, md5 = checksums(path)
        blob = Blob(uuid.uuid4().hex, size, crc32c, md5)
        target = self._blob_path(blob.id)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            path.replace(target)
        except OSError:  # another file system: copy beside the target first, so that the rename is still atomic
            copy = self.temporary()
            shutil.copyfile(path, copy)
            copy.replace(target)
            path.unlink()
        target.chmod(0o600)
        return blob

    def duplicate(self, row: dict) -> Blob:
        """Return a second blob with the same bytes: a hard link, so that either can go without the other."""
        blob = Blob(**{**row["blob"], "id": uuid.uuid4().hex})
        target = self._blob_path(blob.id)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        os.link(self.path(row), target)
        return blob

    def concatenate(self, rows: Iterable[dict]) -> Blob:
        """Return the bytes of several generations as one blob. Composed objects have no MD5."""
        path = self.temporary()
        with path.open("wb") as out:
            for row in rows:
                with self.path(row).open("rb") as part:
                    shutil.copyfileobj(part, out, CHUNK)
        return Blob(**{**asdict(self.adopt(path)), "md5": ""})

    def discard(self, blob: Blob) -> None:
        """Drop a blob that no row names: its request was refused after all."""
        self._blob_path(blob.id).unlink(missing_ok=True)

    # --- generations

    def bucket(self, name: str) -> dict | None:
        return self.store.get(BUCKET, name)

    def get(self, bucket: dict, name: str, generation: int | str | None = None) -> dict | None:
        """Return the live generation of an object, or the given one whether live or noncurrent."""
        live = self.store.get(LIVE, self._key(bucket, name))
        if generation is None or (live and live["object"]["generation"] == str(generation)):
            return live
        return self.store.get(NONCURRENT, self._key(bucket, name, generation))

    def get_soft_deleted(self, bucket: dict, name: str, generation: int | str) -> dict | None:
        row = self.store.get(SOFT_DELETED, self._key(bucket, name, generation))
        return row if row and not self._expired(row) else None

    def insert(self, bucket: dict, name: str, blob: Blob, resource: dict, **extra: Any) -> dict:
        """Make a new live generation. Call within a transaction in which preconditions were checked.

        `resource` holds the caller's part of the object resource (contentType, metadata, ...); `extra` is kept beside
        it in the row.
        """
        key, generation, now = self._key(bucket, name), self.next_generation(), timestamp()
        previous = self.store.get(LIVE, key)
        if previous:
            self._retire(bucket, previous)
        url = quote(name, safe="")
        base = f"b/{bucket['name']}/o/{url}"
        created = {
            **resource,
            "kind": "storage#object",
            "id": f"{bucket['name']}/{name}/{generation}",
            "selfLink": f"https://www.googleapis.com/storage/v1/{base}",
            "mediaLink": f"https://storage.googleapis.com/download/storage/v1/{base}?generation={generation}&alt=media",
            "name": name,
            "bucket": bucket["name"],
            "generation": str(generation),
            "metageneration": "1",
            "size": str(blob.size),
            "crc32c": blob.crc32c,
            "etag": etag(generation, 1),
            "timeCreated": now,
            "updated": now,
            "timeStorageClassUpdated": now,
            "timeFinalized": now,
        }
        if blob.md5:
            created["md5Hash"] = blob.md5
        created.setdefault("storageClass", bucket.get("storageClass", "STANDARD"))
        row = {"blob": asdict(blob), "object": created, **extra}
        self.store.put(LIVE, key, row, parent=bucket["generation"])
        return row

    def update(self, bucket: dict, row: dict) -> None:
        """Write back a generation with changed metadata, as its next metageneration."""
        resource = row["object"]
        metageneration = int(resource["metageneration"]) + 1
        resource["metageneration"] = str(metageneration)
        resource["etag"] = etag(int(resource["generation"]), metageneration)
        resource["updated"] = timestamp()
        current = "timeDeleted" not in resource
        key = self._key(bucket, resource["name"], None if current else resource["generation"])
        self.store.put(LIVE if current else NONCURRENT, key, row, parent=bucket["generation"])

    def remove(self, bucket: dict, row: dict, *, permanently: bool) -> None:
        """Delete a generation. A live one becomes noncurrent in a versioned bucket, unless `permanently`: it was named
        by its generation. An object that leaves the bucket stays soft-deleted as long as the bucket's policy says."""
        resource = row["object"]
        if "timeDeleted" in resource:
            self.store.delete(NONCURRENT, self._key(bucket, resource["name"], resource["generation"]))
            self._soft_delete(bucket, row)
        else:
            self.store.delete(LIVE, self._key(bucket, resource["name"]))
            self._retire(bucket, row, permanently=permanently)

    def restore(self, bucket: dict, row: dict) -> dict:
        """Bring a soft-deleted generation back as a new live one."""
        resource = row["object"]
        gone = ("timeDeleted", "softDeleteTime", "hardDeleteTime")
        kept = {key: value for key, value in resource.items() if key not in gone}
        extra = {k: v for k, v in row.items() if k not in ("blob", "object")}
        return self.insert(bucket, resource["name"], self.duplicate(row), kept, **extra)

    def is_empty(self, bucket: dict) -> bool:
        """No live and no noncurrent generations; soft-deleted ones do not keep a bucket from being deleted."""
        return not any(self.store.list(kind, parent=bucket["generation"], limit=1) for kind in (LIVE, NONCURRENT))

    def purge(self, bucket: dict) -> None:
        """Remove everything of a bucket that cannot be restored."""
        for kind in (LIVE, NONCURRENT, SOFT_DELETED):
            for key, row in self.store.list(kind, parent=bucket["generation"]):
                self._drop(kind, key, row)

    def next_generation(self) -> int:
        """Microseconds of the epoch, as Cloud Storage's generations look, and never the same twice."""
        with self._lock:
            self._last_generation = max(time.time_ns() // 1000, self._last_generation + 1)
            return self._last_generation

    def list(
        self,
        bucket: dict,
        *,
        prefix: str = "",
        delimiter: str = "",
        trailing: bool = False,
        start: str = "",
        end: str = "",
        glob: str = "",
        versions: bool = False,
        soft_deleted: bool = False,
        after: str = "",
        limit: int = 1000,
    ) -> Listing:
        """Return one page of at most `limit` objects and prefixes together, in the order of their names' bytes.

        `start` is inclusive, `end` exclusive, `after` is the previous page's `next`. `trailing` also lists objects that
        end in their first delimiter. Raises ValueError for a bad glob.
        """
        page = Listing()
        pattern = compile_glob(glob) if glob else None
        kinds = (SOFT_DELETED,) if soft_deleted else (LIVE, NONCURRENT) if versions else (LIVE,)

        def fold(name: str) -> str:
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            return name[: cut + len(delimiter)] if cut >= 0 else ""

        name, _, generation = after.partition("\n")
        answered = (name, int(generation or 0))
        folded, last = fold(name) if name.startswith(prefix) else "", after
        rows = _Rows(self.store, bucket["generation"], kinds, prefix, max(start, name))
        for row in rows:
            resource = row["object"]
            found = resource["name"]
            if (after and (found, int(resource["generation"])) <= answered) or (soft_deleted and self._expired(row)):
                continue
            if end and found >= end:
                break
            folder = fold(found)
            if pattern and not (pattern.fullmatch(found) or (folder and pattern.fullmatch(folder))):
                continue
            listed = not folder or (trailing and folder == found)
            fresh = bool(folder) and folder != folded
            if not listed and not fresh:
                rows.skip_to(folder + "\U0010ffff")
                continue
            if len(page.items) + len(page.prefixes) >= limit:
                page.next = last
                break
            if fresh:
                page.prefixes.append(folder)
            if listed:
                page.items.append(row)
            folded, last = folder, f"{found}\n{resource['generation']}"
        return page

    # --- resumable uploads

    def begin_upload(self, body: dict) -> str:
        """Open a session with the service's `body` and return its id, the credential for continuing the upload."""
        upload = base64.urlsafe_b64encode(os.urandom(48)).decode()
        self._upload_path(upload).touch(mode=0o600)
        self.store.put(UPLOAD, upload, {"started": timestamp(), **body})
        return upload

    def get_upload(self, upload: str) -> dict | None:
        """Return the session's body, or None when there is none or it is older than a week."""
        row = self.store.get(UPLOAD, upload)
        if row and datetime.now(UTC) - parse_time(row["started"]) > UPLOAD_LIFETIME:
            self.end_upload(upload)
            return None
        return row

    def uploaded(self, upload: str) -> int:
        """Return how many bytes of a session are safely on disk."""
        return self._upload_path(upload).stat().st_size

    def append(self, upload: str, chunk: Path, *, skip: int = 0, whole: bool) -> int:
        """Add a chunk's bytes from `skip` on. Unless it is the `whole` rest, bytes beyond a multiple of 256 KiB are
        dropped, as the service persists only such multiples. Returns the session's new length."""
        target = self._upload_path(upload)
        if not skip and target.stat().st_size == 0:
            length = chunk.stat().st_size
            if not whole:
                length -= length % UPLOAD_GRANULARITY
                os.truncate(chunk, length)
            chunk.replace(target)
            return length
        with target.open("r+b") as out, chunk.open("rb") as part:
            part.seek(skip)
            length = out.seek(0, os.SEEK_END)
            shutil.copyfileobj(part, out, CHUNK)
            if not whole:
                length = max(length, out.tell() // UPLOAD_GRANULARITY * UPLOAD_GRANULARITY)
                out.truncate(length)
            else:
                length = out.tell()
        return length

    def take_upload(self, upload: str) -> Blob:
        """Return a session's bytes as a blob. The caller ends the session in the transaction of the new object."""
        copy = self.temporary()
        # A link, not a move: should the object be refused or the process die now, the session can still be finished.
        os.link(self._upload_path(upload), copy)
        return self.adopt(copy)

    def end_upload(self, upload: str) -> None:
        """Forget a session and its bytes."""
        self.store.delete(UPLOAD, upload)
        self.store.after_commit(lambda: self._upload_path(upload).unlink(missing_ok=True))

    def finish_upload(self, upload: str, resource: dict) -> None:
        """Drop a session's bytes and remember what came of them, for a client that lost the last answer."""
        self.store.put(UPLOAD, upload, {"started": timestamp(), "result": resource})
        self.store.after_commit(lambda: self._upload_path(upload).unlink(missing_ok=True))

    # --- for other services

    def read(self, bucket: str, name: str, generation: int | str | None = None) -> Path | None:
        """Return the file with an object's bytes, or None when there is none. Checks no permissions."""
        parent = self.bucket(bucket)
        row = self.get(parent, name, generation) if parent else None
        return self.path(row) if row else None

    def write(self, bucket: str, name: str, data: bytes | Path, content_type: str = "application/octet-stream") -> dict:
        """Store an object (a Path is copied) unchecked, with the bucket's default access control list.

        Returns its resource; KeyError: there is no such bucket.
        """
        path = self.temporary()
        if isinstance(data, Path):
            shutil.copyfile(data, path)
        else:
            path.write_bytes(data)
        blob = self.adopt(path)
        with self.store.transaction():
            parent = self.bucket(bucket)
            if parent is None:
                self.discard(blob)
                raise KeyError(bucket)
            acl = [dict(entry) for entry in parent.get("defaultObjectAcl", ())]
            return self.insert(parent, name, blob, {"contentType": content_type}, acl=acl)["object"]

    # --- within

    @staticmethod
    def _key(bucket: dict, name: str, generation: int | str | None = None) -> str:
        key = f"{bucket['generation']}/{name}"
        # A line feed cannot be part of an object's name, and sorts before everything that can follow it in one.
        return key if generation is None else f"{key}\n{int(generation):020d}"

    def _blob_path(self, blob: str) -> Path:
        return self.blobs / blob[:2] / blob

    def _upload_path(self, upload: str) -> Path:
        # Not the id itself: access to the folder must not be enough to continue the upload.
        return self.uploads / hashlib.sha256(upload.encode()).hexdigest()

    def _retire(self, bucket: dict, row: dict, *, permanently: bool = False) -> None:
        """Handle a live generation that was replaced or deleted."""
        if bucket.get("versioning", {}).get("enabled") and not permanently:
            resource = row["object"]
            resource["timeDeleted"] = timestamp()
            key = self._key(bucket, resource["name"], resource["generation"])
            self.store.put(NONCURRENT, key, row, parent=bucket["generation"])
        else:
            self._soft_delete(bucket, row)

    def _soft_delete(self, bucket: dict, row: dict) -> None:
        seconds = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        if not seconds:
            self._schedule_removal(row["blob"]["id"])
            return
        resource, now = row["object"], datetime.now(UTC)
        resource["softDeleteTime"] = timestamp(now)
        resource["hardDeleteTime"] = timestamp(now + timedelta(seconds=seconds))
        key = self._key(bucket, resource["name"], resource["generation"])
        self.store.put(SOFT_DELETED, key, row, parent=bucket["generation"])

    @staticmethod
    def _expired(row: dict) -> bool:
        return parse_time(row["object"]["hardDeleteTime"]) <= datetime.now(UTC)

    def _drop(self, kind: str, key: str, row: dict) -> None:
        self.store.delete(kind, key)
        self._schedule_removal(row["blob"]["id"])

    def _schedule_removal(self, blob: str) -> None:
        def schedule() -> None:
            with self._lock:
                self._removed.append((time.monotonic() + UNLINK_DELAY, self._blob_path(blob)))
            self._unlink_removed()

        self.store.after_commit(schedule)

    def _unlink_removed(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            due = [path for at, path in self._removed if everything or at <= now]
            self._removed = [] if everything else [(at, path) for at, path in self._removed if at > now]
        for path in due:
            path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a crash left behind and what has outlived its retention."""
        for path in self.spool.iterdir():
            path.unlink()
        with self.store.transaction():
            for key, row in self.store.list(SOFT_DELETED):
                if self._expired(row):
                    self._drop(SOFT_DELETED, key, row)
            sessions = {self._upload_path(upload) for upload, _ in self.store.list(UPLOAD) if self.get_upload(upload)}
        named = {row["blob"]["id"] for kind in (LIVE, NONCURRENT, SOFT_DELETED) for _, row in self.store.list(kind)}
        for path in self.blobs.glob("*/*"):
            if path.name not in named:
                path.unlink(missing_ok=True)
        for path in self.uploads.iterdir():
            if path not in sessions:
                path.unlink(missing_ok=True)


class _Rows:
    """The rows of one bucket, of several kinds merged, in order of name and generation."""

    PAGE = 500

    def __init__(self, store: Any, parent: str, kinds: tuple[str, ...], prefix: str, start: str) -> None:
        self._store, self._parent, self._kinds, self._prefix = store, parent, kinds, prefix
        self.skip_to(start)

    def skip_to(self, start: str) -> None:
        """Continue with the first name at or after `start`."""
        self._merged = heapq.merge(
            *(self._scan(kind, start) for kind in self._kinds),
            key=lambda row: (row["object"]["name"], int(row["object"]["generation"])),
        )

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        return next(self._merged)

    def _scan(self, kind: str, start: str) -> Iterator[dict]:
        after = ""
        if start >= self._prefix:
            after = f"{self._parent}/{start}"
            # The store's `after` leaves out the name itself; only a live row has a key without a generation in it.
            if start.startswith(self._prefix) and (first := self._store.get(kind, after)):
                yield first
        while True:
            rows = self._store.list(kind, prefix=f"{self._parent}/{self._prefix}", after=after, limit=self.PAGE)
            for after, row in rows:  # noqa: B007  the next page begins after the last
                yield row
            if len(rows) < self.PAGE:
                return
