# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import time

import pytest
from _world import ACCOUNT, ACCOUNT_KEY, IAM_HOST, METADATA, World, unreachable
from requests.adapters import HTTPAdapter

from mlflow_google_auth import broker as broker_module
from mlflow_google_auth.broker import Broker


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    """Nothing of this machine: no credentials, no options, no .netrc."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "GOOGLE_", "CLOUDSDK_", "GCE_", "REQUESTS_", "CURL_")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


@pytest.fixture
def world(monkeypatch):
    world = World()
    world.hosts = {IAM_HOST: world.iam, "oauth2.googleapis.com": world.token_endpoint}
    for host in METADATA:
        world.hosts[host] = unreachable
    monkeypatch.setattr(HTTPAdapter, "send", lambda adapter, request, **kwargs: world.send(adapter, request, **kwargs))
    return world


@pytest.fixture
def broker(monkeypatch):
    """Of its own for each test; the package's only one otherwise."""
    import mlflow_google_auth
    from mlflow_google_auth import __main__, providers, requests_auth

    broker = Broker()
    for module in (broker_module, mlflow_google_auth, providers, requests_auth, __main__):
        monkeypatch.setattr(module, "BROKER", broker)
    return broker


@pytest.fixture
def user(monkeypatch, tmp_path):
    """Set a user's login as application default credentials, with the right to impersonate ACCOUNT."""
    file = tmp_path / "user.json"
    login = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    file.write_text(json.dumps(login))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE", ACCOUNT)
    return file


@pytest.fixture
def key_file(monkeypatch, tmp_path):
    """A key of ACCOUNT as application default credentials."""
    file = tmp_path / "key.json"
    key = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": ACCOUNT_KEY[0]}
    key |= {"client_email": ACCOUNT, "client_id": "2", "token_uri": "https://oauth2.googleapis.com/token"}
    file.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    return file


class Clock:
    """Time that passes only when `advance` moves both clocks of this process, however slow the machine is."""

    def __init__(self, monkeypatch):
        self._ahead = 0.0
        for name in ("time", "monotonic"):
            now = getattr(time, name)()
            monkeypatch.setattr(time, name, lambda now=now: now + self._ahead)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)
