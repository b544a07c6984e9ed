# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No credentials or project of the machine that runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith(("GCP_", "GCE_", "GOOGLE_", "CLOUDSDK_")):
            monkeypatch.delenv(name)


@pytest.fixture
def cloud():
    return _scripted.Cloud()
