# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the sandbox's own tests: a sandbox in this process, without a network, and one that really runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gcp_sandbox.backends import mariadbbuilds
from gcp_sandbox.backends.home import purge
from gcp_sandbox.backends.servers import SqlServers
from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.config import Settings
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.store import Store
from gcp_sandbox.testing import Client
from gcp_sandbox.testing import appengine as appengine_testing
from gcp_sandbox.testing import run as run_testing
from gcp_sandbox.testing.web import Workbench


@pytest.fixture(scope="session")
def first_state(tmp_path_factory) -> Path:
    """State of a sandbox that was started once: its keys are made, and take a while to make."""
    settings = Settings(state=tmp_path_factory.mktemp("first") / "state")
    sandbox = Sandbox(settings)
    sandbox.start()
    sandbox.stop()
    shutil.rmtree(settings.runtime, ignore_errors=True)
    return settings.state


@pytest.fixture(scope="session")
def mariadb() -> mariadbbuilds.Build:
    """The MariaDB of this machine, fetched if need be; the test is skipped where none can be had."""
    try:
        return mariadbbuilds.fetched()
    except SqlError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def new_settings(first_state) -> Callable[..., AbstractContextManager[Settings]]:
    """Settings of a sandbox that has its keys already, in a state folder of its own: `with new_settings(folder):`."""

    @contextlib.contextmanager
    def new(folder: Path, **values) -> Iterator[Settings]:
        settings = Settings(state=folder / "state", **values)
        shutil.copytree(first_state, settings.state)
        yield settings
        shutil.rmtree(settings.runtime, ignore_errors=True)
        purge(settings)  # databases lie elsewhere under root

    return new


@pytest.fixture
def latency() -> str:
    """Latency profile of `sandbox`; a test may override it by parametrisation."""
    return "instant"


@pytest.fixture
def settings(tmp_path, new_settings, latency) -> Iterator[Settings]:
    """Settings of a sandbox that ends with the test."""
    with new_settings(tmp_path, latency=latency) as settings:
        yield settings


class Iam:
    """Grants all permissions to the addresses in `allowed`; keeps the checks in `asked`."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []

    def test(self, principal, resource, permissions):
        self.asked.append((principal.email, resource, tuple(permissions)))
        return set(permissions) if principal.email in self.allowed else set()


@pytest.fixture(scope="session")
def new_iam() -> type[Iam]:
    """The stand-in for IAM that `parts` has."""
    return Iam


@pytest.fixture
def parts(settings) -> SimpleNamespace:
    """The parts of a sandbox that database servers use."""
    settings.folders()
    return SimpleNamespace(settings=settings, store=Store(settings.state / "db"), iam=Iam())


@pytest.fixture
def servers(parts, monkeypatch) -> Iterator[SqlServers]:
    """Started, with no instance yet; a server that dies is noticed soon."""
    monkeypatch.setattr("gcp_sandbox.backends.servers.WATCH_INTERVAL", 0.1)
    servers = SqlServers(parts)
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def sandbox(settings) -> Iterator[Sandbox]:
    """A started sandbox with all services, at the latency profile `instant`."""
    sandbox = Sandbox(settings)
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def run(sandbox, tmp_path) -> Iterator[Workbench]:
    """What deploys to Cloud Run, with an image."""
    yield from _with_image(run_testing.Deployments(sandbox), tmp_path)


@pytest.fixture
def engine(sandbox, tmp_path) -> Iterator[Workbench]:
    """What deploys to App Engine, with an image."""
    yield from _with_image(appengine_testing.Deployments(sandbox), tmp_path)


def _with_image(workbench: Workbench, folder: Path) -> Iterator[Workbench]:
    workbench.make_image(folder / "context")
    yield workbench
    workbench.close()


@pytest.fixture
def client(sandbox) -> Client:
    """Asks the sandbox as the deployer."""
    return Client(sandbox)


class Cloud:
    """A sandbox driven by its command line, for unmodified clients in this process."""

    def __init__(self, state: Path) -> None:
        self.command = [sys.executable, "-m", "gcp_sandbox", "--state", str(state)]

    def run(self, *arguments: str) -> str:
        return subprocess.run([*self.command, *arguments], check=True, capture_output=True, text=True).stdout

    def up(self) -> None:
        # The daemon must not hold this process's pipes.
        subprocess.run([*self.command, "up"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def status(self) -> dict[str, Any]:
        return json.loads(self.run("status", "--json"))

    def kill(self) -> None:
        """End it without warning; `up` continues with the same state."""
        pid = self.status["pid"]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)

    def env(self, email: str | None = None) -> dict[str, str]:
        """The environment of a client: of the deployer, or of a user or service account."""
        return json.loads(self.run("env", "--json", *(["--as", email] if email else [])))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory, new_settings) -> Iterator[Cloud]:
    """A running sandbox, which this process's clients take for Google while the module's tests run."""
    with new_settings(tmp_path_factory.mktemp("cloud")) as settings:
        cloud = Cloud(settings.state)
        cloud.up()
        before = dict(os.environ)
        os.environ.update(cloud.env())
        yield cloud
        os.environ.clear()
        os.environ.update(before)
        cloud.run("down")
