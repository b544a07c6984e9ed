# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a deployment, so that one run at a time changes it.

The engine takes it before the first change of a run (:meth:`Lock.hold`), renews it before later changes and while it
waits (:meth:`Lock.keep`), and releases it when ``ansible-playbook`` ends (:func:`release_all`). Its state is in the
memory that Ansible's forks share; without that memory, each task takes and releases the lock itself.

The store of the lock is an object in the deployment's bucket (:class:`BucketObject`). Another kind of store is a class
with the same three methods, and an entry in ``STORES``.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import functools
import getpass
import os
import socket
import time
import uuid
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials, _errors, _http, _shared, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue import storage
from ansible_collections.mlplatform.gcp.plugins.module_utils._objects import create_object
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import Waiter

RENEW_SECONDS = 60
# A lock that was not renewed for so long has no owner any more.
STALE_SECONDS = 300
# The Date header of an answer has whole seconds.
_MARGIN = 2
# After the lock of another run was deleted its bucket is deleted next.
_SETTLE_SECONDS = 5
_STATE_SECONDS = 86400
_KEY = "lock:"
# Attempts of the request that releases a lock at the end of a run.
_RELEASE_ATTEMPTS = 3
_HELD, _FREE = "locked", "free"
# Actions that need to know what the other one left.
_OPPOSITE = {"deploy": "destroy", "destroy": "deploy"}


def _machine():
    """Return what identifies this machine and its process numbers: containers can share a host name."""
    parts = [socket.gethostname()]
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            parts.append(stream.read().strip()[:8])
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:
        pass  # not Linux
    return "/".join(parts)


def _process(number):
    """Return what identifies a process of this machine, or None if it does not exist: its number and its start."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as stream:
            # The name of the program, in parentheses, can have spaces. The start is field 22 of all.
            return f"{number}/{stream.read().rpartition(')')[2].split()[19]}"
    except OSError:
        if os.path.exists("/proc/self/stat"):
            return None
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return str(number)


def _user():
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


# Identifies this run. Forks have it from Ansible's parent process, which imports this file.
IDENTITY = {
    "run": uuid.uuid4().hex,
    "owner": f"{_user()}@{socket.gethostname()}",
    "process": _process(os.getpid()) or str(os.getpid()),
    "machine": _machine(),
}


@dataclass(frozen=True)
class Record:
    """The state of the lock, with the run that has it or had it last.

    held     whether that run has it
    fields   ``run``, ``owner``, ``process``, ``machine``, ``action`` and ``since`` of the run
    version  what a change of the lock must name
    age      seconds since the lock was changed, by the clock of the service
    """

    held: bool
    fields: dict
    version: str
    age: float

    @property
    def run(self):
        return self.fields.get("run", "")

    @property
    def title(self):
        known = {name: self.fields.get(name) or "unknown" for name in ("owner", "action", "process", "since")}
        return "{owner} ({action}, process {number}) since {since}".format(
            number=known["process"].partition("/")[0], **known
        )


class BucketObject:
    """A lock in Cloud Storage: custom metadata of an empty object that is created once and stays.

    Metadata can be changed where objects cannot be: with a retention policy, with versioning and with soft delete.
    """

    def __init__(self, client, options):
        self._send = functools.partial(client.send, raw=True)
        self._bucket, self._name = options["bucket"], options["name"]
        self._names = {"bucket": self._bucket, "object": self._name}
        self.parent = f"{storage.BASE}/b/{self._bucket}"
        self.url = _verbs.address("storage.objects.get", **self._names)
        self.title = f"gs://{self._bucket}/{self._name}"

    def read(self):
        """Return the :class:`Record`, or None if there is no lock yet."""
        try:
            return self._record(_verbs.call(None, "storage.objects.get", send=self._send, **self._names))
        except _errors.NotFound:
            return None

    def create(self):
        """Create a lock that no run has, and return its :class:`Record`.

        Errors: :class:`Conflict` if it exists, :class:`NotFound` if the bucket does not.
        """
        return self._record(create_object(self._send, self._bucket, self._name, b"", "application/octet-stream"))

    def write(self, fields, held, version):
        """Change the lock and return its new version. Errors: :class:`Conflict` if it has another version than that."""
        metadata = dict(fields, state=_HELD if held else _FREE, renewed=_now())
        query = {"ifMetagenerationMatch": version}
        body = {"metadata": metadata}
        answer = _verbs.call(None, "storage.objects.patch", body, query=query, send=self._send, **self._names)
        return answer.json()["metageneration"]

    @staticmethod
    def _record(answer):
        body = answer.json()
        fields = dict(body.get("metadata") or {})
        sent = answer.headers.get("Date")
        now = email.utils.parsedate_to_datetime(sent).timestamp() if sent else time.time()
        age = now - datetime.datetime.fromisoformat(body["updated"]).timestamp()
        return Record(fields.pop("state", _FREE) == _HELD, fields, body["metageneration"], age)


STORES = {"bucket": BucketObject}


class Lock:
    """The lock of one deployment, as one task sees it.

    ``options`` is what the module ``deployment`` returns as ``lock``: ``kind`` and what its store needs, ``title`` of
    the deployment, whether the store ``exists``, ``wait`` in seconds, ``force``, ``action``, and :data:`IDENTITY`.
    """

    def __init__(self, options, client, *, warn=lambda text: None, progress=lambda text: None):
        self._options = options
        self._client = client
        self._clock = client.clock
        self._store = STORES[options["kind"]](client, options)
        self._warn = warn
        self._progress = progress
        self._began = self._clock.now()
        self._key = _KEY + self._store.title
        self._shared = _shared.heap() is not None
        self._taken = False

    def surveyed(self, began):
        """Remember when the run began to read what its later tasks compare with."""
        self._update(surveyed=began)

    def hold(self, *, plans=True):
        """Take the lock before a change, or renew it. Wait while another run has it.

        Return whether another run may have changed the deployment since this run read it: then nothing that was read
        is kept. ``plans`` is off for the task that will read all of it again.
        Errors: :class:`Locked` if another run has it for too long, or has done the opposite of what this run plans.
        """
        state = self._state()
        if state.get("off") or (self._shared and not state.get("ready", self._options["exists"])):
            return False
        try:
            if state.get("held") and (self._fresh(state) or self._renew(state)):
                return False
            return self._take(plans)
        except (_errors.PermissionDenied, _errors.InvalidRequest) as error:
            self._update(off=True)
            self._warn(
                f"This run has no lock, so another run can change {self._options['title']} at the same time:"
                f" {error.message}. Grant storage.objects.create, storage.objects.get and storage.objects.update on the"
                " bucket, or set mlflow_lock: false."
            )
            return False

    def keep(self):
        """Renew the lock while something is awaited. A lock that was lost is taken again before the next change."""
        state = self._state()
        if state.get("held") and not self._fresh(state):
            with contextlib.suppress(_errors.GcpError):  # the next request of the task reports what is wrong
                self._renew(state)

    def noticed(self, method, url):
        """Notice from a request of the run that the store exists now, or that the lock was deleted."""
        if method == "DELETE" and url == self._store.url:
            self._update(held=False, ready=False)
        elif method in ("GET", "POST") and url == self._store.parent and not self._options["exists"]:
            self._update(ready=True)

    def end(self):
        """End the task: without shared memory no later task can release the lock."""
        if self._taken and not self._shared:
            self.release()

    def release(self):
        """Release the lock if this run has it. A failure is no error."""
        state = self._state()
        if not state.get("held"):
            return
        with contextlib.suppress(_errors.GcpError):  # the lock becomes stale
            self._write_free(state)
        self._update(held=False)

    def _write_free(self, state):
        try:
            self._store.write(self._fields(state["since"]), False, state["version"])
        except _errors.Conflict:
            # A task outside the controller has renewed the lock, or the answer to an earlier attempt was lost.
            record = self._store.read()
            if record and record.held and record.run == self._options["run"]:
                self._store.write(self._fields(state["since"]), False, record.version)

    # State of this run

    def _state(self):
        return _shared.recall(self._key) or {}

    def _update(self, **values):
        _shared.remember(self._key, self._state() | values, _STATE_SECONDS)

    def _fresh(self, state):
        return self._clock.now() - state["renewed"] < RENEW_SECONDS

    def _fields(self, since):
        return {name: self._options[name] for name in (*IDENTITY, "action")} | {"since": since}

    def _own(self, since, version):
        """Remember that this run has the lock, and what releases it when the run ends."""
        credentials = getattr(self._client, "credentials", None)
        self._update(
            held=True,
            since=since,
            version=version,
            renewed=self._clock.now(),
            options=self._options,
            token=getattr(credentials, "token", None),
            quota=getattr(credentials, "quota_project_id", None),
        )

    # Taking

    def _renew(self, state):
        """Renew the lock and return whether this run still has it."""
        try:
            version = self._store.write(self._fields(state["since"]), True, state["version"])
        except (_errors.Conflict, _errors.NotFound):
            self._update(held=False)
            return False
        self._own(state["since"], version)
        return True

    def _take(self, plans):
        seen = []
        since = _now()
        while True:
            record = self._await(seen)
            if record is None:
                # The bucket does not exist, so there is nothing to lock.
                self._update(held=False, ready=False)
                return bool(seen)
            try:
                version = self._store.write(self._fields(since), True, record.version)
                break
            except (_errors.Conflict, _errors.NotFound):
                continue
        joined = record.held and record.run == self._options["run"]
        self._taken = not joined
        began = self._state().get("surveyed", self._began)
        self._own(since, version)
        recent = record.age < self._clock.now() - began + _MARGIN
        outdated = bool(seen) or (record.run not in ("", self._options["run"]) and recent)
        if outdated:
            self._client.snapshot.forget_all()
        if outdated and plans and record.fields.get("action") == _OPPOSITE.get(self._options["action"]):
            raise _errors.Locked(
                f"{record.title} has changed {self._options['title']} after this run had read it.",
                "Run again: it then starts from what exists now.",
            )
        return outdated

    def _await(self, seen):
        """Return the record of a lock that can be taken, or None without a bucket; add those of others to ``seen``."""
        wait = self._options["wait"]

        def poll():
            record = self._read(seen)
            if record is None or not self._is_other(record):
                return record, ""
            reason = self._abandoned(record)
            if reason:
                self._warn(f"{self._title} was locked by {record.title}. {reason} This run takes the lock over.")
                return record, ""
            if not seen:
                self._progress(f"{self._title} is locked by {record.title}: waiting, at most {wait} s")
            seen.append(record)
            return record, f"locked by {record.title}"

        try:
            return Waiter(self._clock, wait, self._progress).until(poll, what=self._title)
        except _errors.OperationTimeout as error:
            raise _errors.Locked(
                f"{self._title} is locked by {seen[-1].title}, and this run has waited {wait} s (mlflow_lock_timeout).",
                "Run again when that run has ended. If it does not run any more, break the lock:"
                " -e mlflow_lock_break=true",
            ) from error

    @property
    def _title(self):
        return self._options["title"]

    def _read(self, seen):
        """Return the record; create it where it does not exist, unless its bucket does not exist either."""
        record = self._store.read()
        if record is None and seen:
            self._clock.sleep(_SETTLE_SECONDS)
            record = self._store.read()
        try:
            return record or self._store.create()
        except _errors.Conflict:
            return self._store.read()
        except _errors.NotFound:
            return None

    def _is_other(self, record):
        return record.held and record.run != self._options["run"]

    def _abandoned(self, record):
        """Return why another run does not count any more, or an empty string."""
        if self._options["force"]:
            return "mlflow_lock_break is set."
        if record.age > STALE_SECONDS:
            return f"It has not renewed the lock for {int(record.age)} s."
        process = record.fields.get("process", "")
        if record.fields.get("machine") == _machine() and _process(process.partition("/")[0] or "0") != process:
            return "Its process has ended."
        return ""


def release_all():
    """Release what this process and its forks have, with the last access token of each."""
    with _shared.entries() as known:
        states = [item["value"] for key, item in known.items() if key.startswith(_KEY)]
    for state in states:
        if not state.get("held") or not state.get("token"):
            continue
        params = {"auth_kind": "accesstoken", "access_token": state["token"], "quota_project": state["quota"]}
        client = _http.Client(_credentials.from_params(params | {"scopes": None}), attempts=_RELEASE_ATTEMPTS)
        Lock(state["options"], client).release()


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
