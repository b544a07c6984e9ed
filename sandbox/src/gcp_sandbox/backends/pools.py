# SPDX-License-Identifier: Apache-2.0
"""The instances of one revision: started on demand between a minimum and a maximum, probed, and given requests.

A request leases an instance (`Pool.acquire`). An instance takes as many at a time as its concurrency says; when all
are busy another is started, up to the maximum, and the request waits for whichever is ready first. Idle instances are
stopped after a while, down to the minimum. A dead instance is replaced by the next request or, below the minimum, at
once.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from gcp_sandbox.backends.processes import GRACE, Process

log = logging.getLogger(__name__)

# How long Cloud Run may keep an idle instance before it scales to zero
# (cloud.google.com/run/docs/about-instance-autoscaling).
IDLE = 900.0
TICK = 1.0
# Between two tries of a start-up probe. The time allowed is the probe's own; success is only seen sooner than at its
# next period.
RETRY = 0.1
# Instances that the minimum asks for and that keep failing are tried again after 2, 4, 8 ... seconds, at most this
# many.
MAX_BACKOFF = 60.0


@dataclass(frozen=True)
class Probe:
    """A probe of Cloud Run's Container resource; `path` is None for a TCP probe. Times in seconds.

    `port` is only given where it is not the one that the container serves on. `failures` and `successes` are how many
    in a row it takes to change sides.
    """

    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    failures: int = 3
    successes: int = 1

    @property
    def window(self) -> float:
        """How long a container may take until it has failed this probe at start-up."""
        return self.initial_delay + self.period * (self.failures - 1) + self.timeout

    def check(self, port: int, timeout: float | None = None) -> bool:
        """Try once against 127.0.0.1:port. An HTTP answer from 200 to 399 passes."""
        port = self.port or port
        limit = min(self.timeout, timeout) if timeout is not None else self.timeout
        try:
            if self.path is None:
                socket.create_connection(("127.0.0.1", port), timeout=limit).close()
                return True
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
            with contextlib.closing(connection):
                connection.request("GET", self.path, headers={"User-Agent": "GoogleHC/1.0", **self.headers})
                return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False


@dataclass(frozen=True)
class Limits:
    """How a pool may grow. `maximum` 0 means that nothing is served."""

    concurrency: int = 80
    minimum: int = 0
    maximum: int = 100
    idle: float = IDLE


class StartFailed(Exception):
    """An instance did not become ready. `reason`: "exit" (with `returncode`), "probe", "command" or "closed"."""

    def __init__(self, reason: str, message: str, returncode: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.returncode = returncode


class Exhausted(Exception):
    """No instance was to be had in time."""


@dataclass(eq=False)
class Instance:
    """A ready container."""

    process: Process
    active: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    failures: int = 0
    next_probe: float = 0
    #: Out of rotation while its readiness fails: it keeps running and gets no requests.
    serving: bool = True
    streak: int = 0
    next_check: float = 0


class Pool:
    """Instances of one revision.

    :param name: for log lines.
    :param launch: starts a container; OSError when its command cannot be run.
    :param startup: must pass before an instance gets requests.
    :param liveness: an instance that fails it is restarted.
    :param readiness: an instance that fails it gets no requests until it passes again.
    :param window: seconds an instance may take to start; the start-up probe's own by default.
    :param delay: seconds before the first start-up probe.
    :param note: writes a line to the service's log.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Process],
        *,
        startup: Probe,
        liveness: Probe | None = None,
        readiness: Probe | None = None,
        limits: Limits,
        note: Callable[[str], None],
        window: float | None = None,
        delay: float = 0,
    ) -> None:
        self.name = name
        self.limits = limits
        self.startup, self.liveness, self.readiness = startup, liveness, readiness
        self._launch, self._note = launch, note
        self.window = startup.window if window is None else window
        self._delay = delay
        self._lock = threading.RLock()
        self._ready: list[Instance] = []
        self._starting = 0
        self._waiting: deque[Future[Instance]] = deque()
        self._closed = False
        self._failures = 0
        self._not_before = 0.0

    # -- state

    @property
    def instances(self) -> list[Instance]:
        """The ready instances."""
        with self._lock:
            return list(self._ready)

    @property
    def size(self) -> int:
        """Ready instances and those that start."""
        with self._lock:
            return len(self._ready) + self._starting

    def adopt(self, process: Process) -> None:
        """Take in a container that an earlier daemon started."""
        with self._lock:
            self._add(Instance(process))

    def resize(self, limits: Limits) -> None:
        """Follow a change of the limits."""
        with self._lock:
            self.limits = limits
        self.tick()

    # -- requests

    def acquire(self) -> Future[Instance]:
        """Return an instance with room for one more request, which `release` must be given back. The future fails with
        StartFailed, or
        with Exhausted when the pool is closed or may have no instance."""
        future: Future[Instance] = Future()
        with self._lock:
            if self._closed or self.limits.maximum <= 0:
                future.set_exception(Exhausted("The revision serves no traffic."))
                return future
            if (instance := self._with_capacity()) is not None:
                instance.active += 1
                future.set_result(instance)
                return future
            self._waiting.append(future)
            self._grow()
        return future

    def release(self, instance: Instance) -> None:
        """Give an instance back."""
        with self._lock:
            instance.active -= 1
            instance.idle_since = time.monotonic()
            self._dispatch()

    def discard(self, instance: Instance) -> None:
        """Send no more requests to an instance that refuses connections, whether or not its process has ended yet."""
        with self._lock:
            if instance not in self._ready:
                return
            self._ready.remove(instance)
        threading.Thread(target=instance.process.stop, daemon=True).start()

    def abandon(self, future: Future[Instance]) -> None:
        """Stop waiting for an instance."""
        with self._lock:
            if future in self._waiting:
                self._waiting.remove(future)
                future.cancel()
                return
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())

    @contextlib.contextmanager
    def lease(self, timeout: float) -> Iterator[Instance]:
        """Hold an instance for the length of a `with` block."""
        future = self.acquire()
        try:
            instance = future.result(timeout)
        except TimeoutError as error:
            self.abandon(future)
            raise Exhausted("No instance became available in time.") from error
        try:
            yield instance
        finally:
            self.release(instance)

    # -- instances

    def start_one(self) -> Instance:
        """Start an instance and wait until it is ready. StartFailed says why it is not."""
        with self._lock:
            self._starting += 1
        try:
            instance = self._boot()
        except BaseException:
            with self._lock:
                self._starting -= 1
            raise
        with self._lock:
            self._starting -= 1
            closed = self._closed
            if not closed:
                self._add(instance)
        if closed:
            instance.process.stop()
            raise StartFailed("closed", "The revision was given up while it started.")
        return instance

    def tick(self) -> None:
        """Once a second: keep the minimum, scale down what is idle, probe liveness, drop what has died."""
        now = time.monotonic()
        surplus: list[Instance] = []
        due: list[Instance] = []
        unsure: list[Instance] = []
        with self._lock:
            if self._closed:
                return
            self._ready = [instance for instance in self._ready if instance.process.alive()]
            spare = len(self._ready) - self.limits.minimum
            for instance in sorted(self._ready, key=lambda item: item.idle_since):
                over = len(self._ready) - len(surplus) > self.limits.maximum
                idle = not instance.active and now - instance.idle_since > self.limits.idle
                if len(surplus) < spare and (idle or (over and not instance.active)):
                    surplus.append(instance)
            self._ready = [instance for instance in self._ready if instance not in surplus]
            if now >= self._not_before:
                for _ in range(min(self.limits.minimum, self.limits.maximum) - self.size):
                    self._start_in_background()
                self._grow()
            if self.liveness:
                for instance in self._ready:
                    if now >= instance.next_probe:
                        instance.next_probe = now + self.liveness.period
                        due.append(instance)
            if self.readiness:
                for instance in self._ready:
                    if now >= instance.next_check:
                        instance.next_check = now + self.readiness.period
                        unsure.append(instance)
        for instance in surplus:
            threading.Thread(target=instance.process.stop, daemon=True).start()
        for instance in due:
            threading.Thread(target=self._probe_liveness, args=(instance,), daemon=True).start()
        for instance in unsure:
            threading.Thread(target=self._probe_readiness, args=(instance,), daemon=True).start()

    def close(self, grace: float = GRACE, drain: float = 0) -> None:
        """Stop all instances; requests in progress get `drain` seconds to finish."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            instances, self._ready = self._ready, []
        for future in waiting:
            future.set_exception(Exhausted("The revision serves no traffic."))
        deadline = time.monotonic() + drain
        while any(instance.active for instance in instances) and time.monotonic() < deadline:
            time.sleep(0.05)
        threads = [threading.Thread(target=instance.process.stop, args=(grace,)) for instance in instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _boot(self) -> Instance:
        try:
            process = self._launch()
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument or a variable
            raise StartFailed("command", f"The container's command cannot be run: {error}.") from error
        began = time.monotonic()
        passed = 0
        if self._delay:
            process.wait(self._delay)
        while process.alive():
            if self._closed:
                process.stop(grace=1)
                raise StartFailed("closed", "The revision was given up while it started.")
            left = self.window - (time.monotonic() - began)
            if left <= 0:
                process.stop(grace=1)
                raise StartFailed("probe", "The start-up probe did not pass in time.")
            passed = passed + 1 if self.startup.check(process.port or 0, left) else 0
            if passed >= self.startup.successes:
                now = time.monotonic()
                return Instance(process, next_probe=now + (self.liveness.initial_delay if self.liveness else 0))
            process.wait(RETRY)
        raise StartFailed("exit", f"Container called exit({process.returncode}).", process.returncode)

    def _add(self, instance: Instance) -> None:
        self._failures = 0
        self._ready.append(instance)
        self._dispatch()

    def _with_capacity(self) -> Instance | None:
        """Return the busiest instance that has room: work is packed so that the others can idle away."""
        candidates = [
            instance
            for instance in self._ready
            if instance.serving and instance.active < self.limits.concurrency and instance.process.alive()
        ]
        return max(candidates, key=lambda instance: instance.active, default=None)

    def _dispatch(self) -> None:
        while self._waiting and (instance := self._with_capacity()) is not None:
            future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                instance.active += 1
                future.set_result(instance)

    def _grow(self) -> None:
        """Start instances for those who wait, as many as needed and allowed."""
        self._ready = [instance for instance in self._ready if instance.process.alive()]
        needed = -(-len(self._waiting) // self.limits.concurrency) - self._starting
        for _ in range(min(needed, self.limits.maximum - self.size)):
            self._start_in_background()

    def _start_in_background(self) -> None:
        with self._lock:
            self._starting += 1
        threading.Thread(target=self._start_and_hand_over, name=f"start-{self.name}", daemon=True).start()

    def _start_and_hand_over(self) -> None:
        try:
            instance = self._boot()
        except Exception as error:
            self._note(f"{self.name}: {error}")
            with self._lock:
                self._starting -= 1
                self._failures += 1
                self._not_before = time.monotonic() + min(2.0**self._failures, MAX_BACKOFF)
                alone = not self._ready and not self._starting
                waiting = list(self._waiting) if alone else []
                if alone:
                    self._waiting.clear()
            for future in waiting:
                future.set_exception(error)
            return
        with self._lock:
            self._starting -= 1
            if not self._closed:
                self._add(instance)
                return
        instance.process.stop()

    def _probe_readiness(self, instance: Instance) -> None:
        """Take an instance out of rotation or back in, once enough checks in a row say otherwise than its state."""
        probe = self.readiness
        if probe is None:
            return
        passed = probe.check(instance.process.port or 0)
        with self._lock:
            instance.streak = 0 if passed == instance.serving else instance.streak + 1
            if not instance.streak or instance.streak < (probe.successes if passed else probe.failures):
                return
            instance.serving, instance.streak = passed, 0
            self._dispatch()
        state = "passes its readiness check again" if passed else "fails its readiness check and gets no requests"
        self._note(f"{self.name}: an instance {state}.")

    def _probe_liveness(self, instance: Instance) -> None:
        probe = self.liveness
        if probe is None or probe.check(instance.process.port or 0):
            instance.failures = 0
            return
        instance.failures += 1
        if instance.failures < probe.failures or not instance.process.alive():
            return
        self._note(f"{self.name}: LIVENESS probe failed {instance.failures} times; the container is restarted.")
        with self._lock:
            if instance in self._ready:
                self._ready.remove(instance)
        instance.process.stop(grace=2)
        with self._lock:
            if not self._closed and (self._waiting or self.size < max(1, self.limits.minimum)):
                self._start_in_background()
