# SPDX-License-Identifier: Apache-2.0
"""Long-running operations: work in a thread that takes as long as the latency profile says, and survives a crash.

A service starts one inside its handler's transaction; the thread starts when that commits. After a crash every
operation that was not done has its job run again, so jobs are idempotent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.times import epoch, timestamp

if TYPE_CHECKING:
    from gcp_sandbox.gateway.latency import Latency
    from gcp_sandbox.store import Store

log = logging.getLogger(__name__)

KIND = "operation"

# Decides for each operation that a request starts whether it fails; set while the request is processed.
_fails: ContextVar[Callable[[], bool] | None] = ContextVar("fails", default=None)


@contextlib.contextmanager
def failing(fails: Callable[[], bool]) -> Iterator[None]:
    """Let operations that start inside fail if `fails()`, which is called as each of them starts."""
    token = _fails.set(fails)
    try:
        yield
    finally:
        _fails.reset(token)


class Stopping(Exception):
    """The sandbox stops while a job waits; the job runs again at the next start."""


@dataclass
class Op:
    """An operation. `body` is what the service shows beside the standard fields, `args` what its job needs to know.

    Times are RFC 3339; `seconds` is the real-life duration; `target` the resource it works on. With `fault` it fails
    with an internal error.
    """

    service: str
    name: str
    project: str
    seconds: float = 0.0
    job: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    target: str = ""
    number: int = 0
    created: str = field(default_factory=timestamp)
    ended: str | None = None
    done: bool = False
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    fault: bool = False
    _operations: Operations | None = field(default=None, repr=False, compare=False)

    def elapse(self) -> None:
        """For a job: block until the operation's duration is over, to change state no earlier than Google would."""
        assert self._operations
        self._operations.elapse(self)

    def strike(self) -> None:
        """For a job that settles faults: raise the error of an operation that fails on request."""
        if self.fault:
            raise ApiError(500, "Internal error encountered.")

    def update(self, **body: Any) -> None:
        """For a job: change fields of `body`, as progress in metadata."""
        assert self._operations
        self._operations.update(self, body)


class Host(Protocol):
    """The parts of the sandbox that `Operations` uses."""

    store: Store
    latency: Latency


class Operations:
    """All operations of a sandbox."""

    def __init__(self, sandbox: Host) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store
        self._jobs: dict[tuple[str, str], Callable[[Op], dict[str, Any] | None]] = {}
        self._settling: set[tuple[str, str]] = set()
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._threads: dict[tuple[str, str], threading.Thread] = {}

    def register(
        self, service: str, job: str, fn: Callable[[Op], dict[str, Any] | None], *, settles: bool = False
    ) -> None:
        """Make `fn` the work of operations that `service` starts with `job`; `settles` as in `service.JobSpec`."""
        self._jobs[service, job] = fn
        if settles:
            self._settling.add((service, job))

    def start(
        self,
        *,
        service: str,
        name: str,
        seconds: float = 0.0,
        job: str | None = None,
        args: dict[str, Any] | None = None,
        project: str,
        body: dict[str, Any] | None = None,
        target: str = "",
    ) -> Op:
        """Record an operation and begin it once the surrounding transaction commits.

        :param name: the operation's resource name, unique within the service.
        :param seconds: how long it takes in real life.
        :param job: name of a `@job` of the service; None for an operation that only takes time.
        :param body: what the service shows of it: {"metadata": {...}} in the google.longrunning shape.
        :param target: the resource it works on, for `list(target=...)`.
        """
        if job is not None and (service, job) not in self._jobs:
            raise LookupError(f"{service} has no job {job!r}")
        with self._store.transaction():
            op = Op(
                service, name, project, float(seconds), job, args or {}, body or {}, target,
                number=self._store.next_id("operation"),
            )  # fmt: skip
            op._operations = self
            fails = _fails.get()
            op.fault = fails is not None and fails()
            self._save(op)
            self._store.after_commit(lambda: self._launch(op))
        return op

    def resume(self) -> None:
        """Begin again what was not done when the sandbox last stopped."""
        for _, body in self._store.list(KIND):
            op = self._load(body)
            if not op.done:
                log.info("resuming operation %s of %s", op.name, op.service)
                self._launch(op)

    def stop(self) -> None:
        """Let waiting jobs go; they are resumed at the next start."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        for thread in list(self._threads.values()):
            thread.join(timeout=2)

    def get(self, service: str, name: str) -> Op | None:
        """Return the operation as it is now, or None."""
        body = self._store.get(KIND, f"{service}/{name}")
        return self._load(body) if body else None

    def list(self, service: str, project: str | None = None, *, target: str = "", active: bool = False) -> list[Op]:
        """Operations of a service, oldest first; of one project, one target, or only those still running."""
        rows = self._store.list(KIND, parent=None if project is None else project, prefix=f"{service}/")
        ops = [self._load(body) for _, body in rows]
        ops = [op for op in ops if (not target or op.target == target) and not (active and op.done)]
        return sorted(ops, key=lambda op: op.number)

    def wait(self, op: Op, timeout: float) -> Op:
        """Return the operation once it is done, or as it is after `timeout` seconds. Never inside a transaction."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                current = self.get(op.service, op.name) or op
                remaining = deadline - time.monotonic()
                if current.done or remaining <= 0 or self._stopping.is_set():
                    return current
                self._changed.wait(min(remaining, 5.0))

    def cancel(self, op: Op) -> None:
        """End it with CANCELLED now, unless it is done; what its job still returns is dropped."""
        self._finish(op, None, {"code": errors.RPC_CODE["CANCELLED"], "message": "Operation was cancelled."})

    def delete(self, op: Op) -> None:
        """Forget it."""
        self._store.delete(KIND, f"{op.service}/{op.name}")

    def update(self, op: Op, body: dict[str, Any]) -> None:
        """Merge `body` into the operation's."""
        with self._store.transaction():
            current = self.get(op.service, op.name)
            if current is None:
                return
            current.body.update(body)
            op.body = current.body
            self._save(current)

    def elapse(self, op: Op) -> None:
        """Block until the operation's scaled duration is over; Stopping when the sandbox stops first."""
        due = epoch(op.created) + self._sandbox.latency.seconds(op.seconds)
        while (remaining := due - time.time()) > 0:
            if self._stopping.wait(min(remaining, 60.0)):
                raise Stopping

    def _launch(self, op: Op) -> None:
        if self._stopping.is_set():
            return
        key = (op.service, op.name)
        thread = threading.Thread(target=self._run, args=(op,), name=f"op {op.name}", daemon=True)
        self._threads[key] = thread
        thread.start()

    def _run(self, op: Op) -> None:
        response = error = None
        try:
            if (op.service, op.job) not in self._settling:
                op.strike()
            if op.job is not None:
                work = self._jobs.get((op.service, op.job))
                if work is None:
                    raise errors.unimplemented(f"job {op.job} of {op.service}")
                response = work(op)
            self.elapse(op)
        except Stopping:
            return
        except ApiError as failure:
            error = failure.as_status() if not failure.errors else {**failure.as_status(), "errors": failure.errors}
        except Exception:
            log.exception("operation %s of %s failed", op.name, op.service)
            error = {"code": errors.RPC_CODE["INTERNAL"], "message": "Internal error; see the sandbox's log."}
        finally:
            self._threads.pop((op.service, op.name), None)
        self._finish(op, response, error)

    def _finish(self, op: Op, response: dict[str, Any] | None, error: dict[str, Any] | None) -> None:
        with self._store.transaction():
            current = self.get(op.service, op.name)
            if current is not None and not current.done:
                current.done, current.ended = True, timestamp()
                current.response, current.error = response, error
                self._save(current)
        with self._changed:
            self._changed.notify_all()

    def _save(self, op: Op) -> None:
        body = {f.name: getattr(op, f.name) for f in dataclasses.fields(op) if not f.name.startswith("_")}
        self._store.put(KIND, f"{op.service}/{op.name}", body, parent=op.project)

    def _load(self, body: dict[str, Any]) -> Op:
        return Op(**body, _operations=self)
