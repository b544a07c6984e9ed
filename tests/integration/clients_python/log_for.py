# SPDX-License-Identifier: Apache-2.0
"""Log metrics as a training program does: log_for.py SECONDS THREADS

An ordinary program that uses MLflow and contains no code for authentication. Threads log metrics. After half of the
time, forked workers, like those of a data loader, log one value each. Prints one JSON document: `run`, `logged` (the
number of values of the metric) and `error` (the error of the first failed call, which ends the program).
"""

import contextlib
import json
import os
import sys
import threading
import time

import mlflow


def main(seconds: float, threads: int) -> None:
    mlflow.set_experiment("clients")
    error = ""
    with mlflow.start_run() as active:
        run, client = active.info.run_id, mlflow.MlflowClient()
        began, lock, steps = time.monotonic(), threading.Lock(), iter(range(1_000_000))
        calls = Calls()
        failed: list[str] = []
        logged = 0

        def log() -> None:
            nonlocal logged
            with lock:
                step = next(steps)
            with calls.made():
                client.log_metric(run, "loss", 1 / (step + 1), step=step)
            with lock:
                logged += 1

        def work() -> None:
            last = False  # at least one value is logged after `seconds`, also on a slow machine
            while not last and not failed:
                last = time.monotonic() - began >= seconds
                try:
                    log()
                except Exception as seen:  # every error of MLflow is reported
                    failed.append(f"after {time.monotonic() - began:.0f} s: {seen}")
                time.sleep(0.4)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        time.sleep(seconds / 2)
        for number in range(2):
            worked = fork(calls, lambda number=number: client.log_metric(run, "loss", 0, step=2_000_000 + number))
            with lock:
                logged += worked
        for worker in workers:
            worker.join()
        error = failed[0] if failed else ""
    print(json.dumps({"run": run, "logged": logged, "error": error}))


class Calls:
    """The calls of MLflow that are in progress in all threads.

    MLflow tries to import a module in each request. A child that is forked while another thread holds the lock of that
    import waits for the lock forever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0

    @contextlib.contextmanager
    def made(self):
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def none(self):
        """Wait until no call is in progress, and block new calls."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
            yield


def fork(calls: Calls, work) -> int:
    """Call a function in a child; return 1 when it succeeded."""
    with calls.none():
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return int(status == 0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
