# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the sandbox's own tests: a sandbox in this process, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.sandbox import Sandbox
from gcp_sandbox.testing import Client


@pytest.fixture(scope="session")
def first_state(tmp_path_factory) -> Path:
    """State of a sandbox that was started once: its keys are made, and take a while to make."""
    settings = Settings(state=tmp_path_factory.mktemp("first") / "state")
    sandbox = Sandbox(settings)
    sandbox.start()
    sandbox.stop()
    shutil.rmtree(settings.runtime, ignore_errors=True)
    return settings.state


@pytest.fixture
def settings(tmp_path, first_state) -> Iterator[Settings]:
    """Settings of a sandbox that ends with the test."""
    settings = Settings(state=tmp_path / "state")
    shutil.copytree(first_state, settings.state)
    yield settings
    shutil.rmtree(settings.runtime, ignore_errors=True)


@pytest.fixture
def sandbox(settings) -> Iterator[Sandbox]:
    """A started sandbox with all services, at the latency profile `instant`."""
    sandbox = Sandbox(settings)
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def client(sandbox) -> Client:
    """Asks the sandbox as the deployer."""
    return Client(sandbox)
