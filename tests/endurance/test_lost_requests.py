# SPDX-License-Identifier: Apache-2.0
"""Test that MLflow loses nothing that it has acknowledged while its process, its database and the cloud are killed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, SEED, Box, Project
from gcp_sandbox.backends.home import Home
from gcp_sandbox.config import Settings

PROGRAM = str(pathlib.Path(__file__).parent / "log_until_stopped.py")
SERVICE = "demo-dev"
#: Calls that MLflow acknowledges between two kills: it works again.
BETWEEN = 40
TIMES = 5


def kill(*processes: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def kill_mlflow(project: Project) -> None:
    found = project.instances(SERVICE)
    assert found
    kill(*found)


def kill_database(project: Project) -> None:
    """Kill the server of the database and its children."""
    record = project.sandbox.document("sql.server", f"{project.project}:{project.region.rsplit('/', 1)[-1]}:{SERVICE}")
    folder = Home.of(Settings.load(project.sandbox.state)).data / record["folder"]
    (file,) = folder.rglob("postmaster.pid")
    server = int(file.read_text().splitlines()[0])
    children = pathlib.Path(f"/proc/{server}/task/{server}/children").read_text().split()
    kill(server, *map(int, children))


def kill_cloud(project: Project) -> None:
    """Kill the daemon of the sandbox and start it again."""
    project.sandbox.kill()
    project.sandbox.up()


KILLS = {"MLflow": kill_mlflow, "database": kill_database, "cloud": kill_cloud}


@pytest.fixture(scope="module")
def served(box, controller, new_project):
    """Deploy MLflow and return its project."""
    box.latency("instant")
    project = new_project()
    controller.run(DEPLOY, hosts={"demo": project.variables}).check()
    return project


def environment(box: Box, project: Project) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GOOGLE_", "GCP_"))}
    return (
        kept
        | box.env()
        | {
            "MLFLOW_TRACKING_URI": project.address(SERVICE),
            "MLFLOW_GOOGLE_AUTH_IMPERSONATE": project.email("demo-dev-client"),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }
    )


def await_calls(path: pathlib.Path, number: int, process: subprocess.Popen) -> None:
    """Wait until MLflow has acknowledged a number of calls."""
    deadline = time.monotonic() + 300
    while not path.exists() or len(path.read_text().splitlines()) <= number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"MLflow does not work again: {process.kill()} {process.communicate()}"
        time.sleep(0.1)


@pytest.mark.endurance
def test_no_acknowledged_call_is_lost(served, box, tmp_path, record_property):
    kinds = list(KILLS) * TIMES
    random.Random(SEED).shuffle(kinds)
    path, env = tmp_path / "acknowledged", environment(box, served)
    command = [sys.executable, PROGRAM, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        number = BETWEEN
        for kind in kinds:
            await_calls(path, number, process)
            KILLS[kind](served)
            number = len(path.read_text().splitlines()) + BETWEEN
        await_calls(path, number, process)
        out, err = process.communicate()
    assert process.returncode == 0, err
    run, *acknowledged = path.read_text().splitlines()
    read = subprocess.run([sys.executable, PROGRAM, run], env=env, check=True, capture_output=True, text=True)
    lost = set(acknowledged) - set(read.stdout.splitlines())
    print(f"\n    {len(acknowledged)} calls acknowledged, {out.strip()} failed, {len(lost)} lost", end="")
    record_property("calls acknowledged", len(acknowledged))
    record_property("requests lost", len(lost))
    # the kills took effect
    assert int(out) > 0
    assert not lost
