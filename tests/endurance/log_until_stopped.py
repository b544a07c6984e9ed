# SPDX-License-Identifier: Apache-2.0
"""Log to MLflow whatever fails, as a training program that must not end: log_until_stopped.py FILE | RUN

With the path of a file: create a run and log metrics, parameters and artifacts until the standard input is closed.
Append the ID of the run and then a line for each call that MLflow has acknowledged: its kind and a number. A call that
fails is counted, and the next one has another number. Print the number of failed calls.

With the ID of a run: print these lines for all that MLflow has of it.
"""

from __future__ import annotations

import itertools
import pathlib
import re
import sys
import tempfile
import threading
import time

import mlflow

THREADS = 4


def main(argument: str) -> None:
    client = mlflow.MlflowClient()
    if re.fullmatch(r"[0-9a-f]{32}", argument):
        for line in stored(client, argument):
            print(line)
    else:
        print(log(client, pathlib.Path(argument)))


def log(client: mlflow.MlflowClient, path: pathlib.Path) -> int:
    """Log in threads until the standard input is closed; return the number of failed calls."""
    experiment = client.create_experiment(f"endurance {time.time()}")
    run = client.create_run(experiment).info.run_id
    numbers, lock, stopped, failed = itertools.count(), threading.Lock(), threading.Event(), []
    with path.open("w", buffering=1) as file:
        file.write(f"{run}\n")

        def work() -> None:
            while not stopped.is_set():
                with lock:
                    number = next(numbers)
                kind = ("metric", "metric", "metric", "parameter", "artifact")[number % 5]
                try:
                    CALLS[kind](client, run, number)
                except Exception as error:  # every error of MLflow
                    failed.append(error)
                    time.sleep(0.1)
                    continue
                with lock:
                    file.write(f"{kind} {number}\n")

        workers = [threading.Thread(target=work) for _index in range(THREADS)]
        for worker in workers:
            worker.start()
        sys.stdin.read()
        stopped.set()
        for worker in workers:
            worker.join()
    return len(failed)


def log_artifact(client: mlflow.MlflowClient, run: str, number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"{number}.txt")
        path.write_text(f"artifact {number}")
        client.log_artifact(run, str(path))


CALLS = {
    "metric": lambda client, run, number: client.log_metric(run, "loss", number / 2, step=number),
    "parameter": lambda client, run, number: client.log_param(run, f"p{number}", number),
    "artifact": log_artifact,
}


def stored(client: mlflow.MlflowClient, run: str) -> list[str]:
    """Return a line for each value of a run that is as it was logged."""
    lines = [f"metric {item.step}" for item in client.get_metric_history(run, "loss") if item.value == item.step / 2]
    parameters = client.get_run(run).data.params
    lines += [f"parameter {value}" for name, value in parameters.items() if name == f"p{value}"]
    with tempfile.TemporaryDirectory() as folder:
        local = client.download_artifacts(run, "", folder)
        texts = (path.read_text() for path in pathlib.Path(local).glob("*.txt"))
        return lines + sorted(texts)


if __name__ == "__main__":
    main(sys.argv[1])
