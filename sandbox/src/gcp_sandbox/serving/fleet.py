# SPDX-License-Identifier: Apache-2.0
"""What runs: a pool of instances for each deployed thing (a revision, a version) that gets requests."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gcp_sandbox.backends.pools import TICK, Limits, Pool

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform

log = logging.getLogger(__name__)

# A start-up check's own time is long enough to hide a broken image for minutes. Where time is scaled down the wait is
# too, but not below this: a real server on a busy machine still takes its real time to start.
MIN_WINDOW = 120.0


class Fleet:
    """Pools of instances by the full name of what they are instances of."""

    #: Key of `Process.facts` that holds that name.
    fact: str = ""

    def __init__(self, sandbox: Platform) -> None:
        self.sandbox = sandbox
        self._lock = threading.RLock()
        self._pools: dict[str, Pool] = {}
        self._deploying: set[str] = set()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stopping = threading.Event()

    def new_pool(self, name: str, limits: Limits | None) -> Pool | None:
        """Make a pool for `name`, with its own limits unless some are given; None for an unknown name.

        Abstract: each product implements it.
        """
        raise NotImplementedError

    def adopt(self, wanted: Mapping[str, Limits]) -> None:
        """Adopt the processes that still run, and stop those that are not in `wanted`."""
        for process in self.sandbox.processes.all():
            name = process.facts.get(self.fact)
            if name is None:
                continue
            if name in wanted and (pool := self.pool(name, wanted[name])):
                pool.adopt(process)
            else:
                threading.Thread(target=process.stop, daemon=True).start()

    def begin(self) -> None:
        """Look after the pools from now on, once a second."""
        threading.Thread(target=self._tick, name=f"{self.fact}-tick", daemon=True).start()

    def stop(self) -> None:
        """End the pools. Their containers are stopped by the backend that runs them."""
        self._stopping.set()
        with self._lock:
            pools, self._pools = self._pools, {}
        threads = [threading.Thread(target=pool.close) for pool in pools.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def lock(self, resource: str) -> threading.Lock:
        """Return the lock of a resource: its changes happen one after the other."""
        with self._lock:
            return self._locks[resource]

    def pool(self, name: str, limits: Limits | None = None) -> Pool | None:
        """Return the pool of `name`, made if need be; None when there is no such thing."""
        with self._lock:
            found = self._pools.get(name)
            if found is None and not self._stopping.is_set():
                found = self.new_pool(name, limits)
                if found is not None:
                    self._pools[name] = found
            return found

    @contextlib.contextmanager
    def deploying(self, name: str) -> Iterator[Pool | None]:
        """Open the pool of something new, kept from `settle` for the time being; retired if the block fails."""
        with self._lock:
            self._deploying.add(name)
        try:
            yield self.pool(name)
        except BaseException:
            self.retire(name)
            raise
        finally:
            with self._lock:
                self._deploying.discard(name)

    def settle(self, prefix: str, wanted: Mapping[str, Limits], *, drain: float) -> None:
        """Of all names that begin with `prefix`, set the limits of the wanted ones and stop the others.

        :param drain: seconds that requests in progress get to end.
        """
        for name, limits in wanted.items():
            if limits.minimum or name in self._pools:
                pool = self.pool(name, limits)
                if pool is not None:
                    pool.resize(limits)
        for name in self._named(prefix):
            if name not in wanted and name not in self._deploying:
                self.retire(name, drain=drain)

    def cancel_deployments(self, prefix: str, *, keep: Iterable[str] = ()) -> None:
        """Stop deployments with names that begin with `prefix`: a deletion or a newer deployment follows.

        Instances that serve are left alone.
        """
        for name in self._named(prefix):
            if name in self._deploying and name not in keep:
                self.retire(name)

    def retire(self, name: str, *, drain: float = 0) -> None:
        """Stop instances in the background, after at most `drain` seconds for requests in progress."""
        with self._lock:
            pool = self._pools.pop(name, None)
        if pool is not None:
            threading.Thread(target=pool.close, kwargs={"drain": drain}, daemon=True).start()

    def _named(self, prefix: str) -> list[str]:
        with self._lock:
            return [name for name in self._pools if name.startswith(prefix)]

    def _tick(self) -> None:
        while not self._stopping.wait(TICK):
            with self._lock:
                pools = list(self._pools.items())
            for name, pool in pools:
                try:
                    pool.tick()
                except Exception:
                    log.exception("looking after %s failed", name)
