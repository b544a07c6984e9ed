# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# Plugins find each other, and their documentation fragments, the way they do in Ansible. ansible-test has done it.
if AnsibleCollectionConfig.collection_finder is None:
    init_plugin_loader()

from ansible_collections.mlplatform.gcp.tests.unit.plugins import _acting, _scripted


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No credentials or project of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith(("GCP_", "GCE_", "GOOGLE_", "CLOUDSDK_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def key():
    """A service account's key, as Google makes it."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "me@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@pytest.fixture
def cloud():
    return _scripted.Cloud()


@pytest.fixture
def probe(monkeypatch):
    return _acting.probe(monkeypatch)


@pytest.fixture
def act(probe):
    return _acting.actor()
