# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible_collections.mlplatform.gcp.plugins.lookup import secret
from google.api_core import exceptions


class Client:
    """The Secret Manager client, with what it knows."""

    made = None
    values = {"projects/p/secrets/s/versions/latest": b"value", "projects/q/secrets/t/versions/2": b"\xff"}

    def __init__(self, **options):
        Client.made = options

    def access_secret_version(self, name):
        if name not in self.values:
            raise exceptions.NotFound("no such secret")
        return SimpleNamespace(payload=SimpleNamespace(data=self.values[name]))


@pytest.fixture
def lookup(monkeypatch):
    monkeypatch.setattr(secret.secretmanager, "SecretManagerServiceClient", Client)
    plugin = lookup_loader.get("mlplatform.gcp.secret")
    module = __import__(type(plugin).__module__, fromlist=["x"])
    monkeypatch.setattr(module.secretmanager, "SecretManagerServiceClient", Client)
    return lambda *terms, **options: plugin.run(list(terms), {}, **dict({"access_token": "t"}, **options))


def test_reads(lookup):
    assert lookup("projects/p/secrets/s", "s", project="p") == ["value", "value"]
    assert Client.made["transport"] == "rest"


def test_quota_project_and_environment(lookup, monkeypatch):
    monkeypatch.setenv("GCP_PROJECT", "p")
    assert lookup("s", quota_project="payer") == ["value"]
    assert Client.made["credentials"].quota_project_id == "payer"


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (
            "projects/p/secrets/none",
            "Cannot read the secret projects/p/secrets/none/versions/latest: 404 no such secret",
        ),
        ("projects/q/secrets/t/versions/2", "is not text"),
        ("a/b/c", "does not name a secret"),
        ("s", "The secret has no project"),
    ],
)
def test_errors(lookup, term, words):
    with pytest.raises(AnsibleLookupError, match=words):
        lookup(term)


def test_the_credentials_project(lookup, monkeypatch):
    credentials = SimpleNamespace(source=True, project="p")
    assert secret._project({}, credentials) == "p"


def test_a_missing_library(lookup, monkeypatch):
    module = __import__(lookup_loader.get("mlplatform.gcp.secret").__module__, fromlist=["x"])
    monkeypatch.setattr(module, "IMPORT_ERROR", "no such library")
    with pytest.raises(AnsibleLookupError, match="needs the library google-cloud-secret-manager"):
        lookup("s")


@pytest.mark.parametrize(
    "error",
    [
        OSError("Failed to parse: http://us:pa55word@proxy:x"),
        ValueError("Invalid header value b'Bearer t0ken-t0ken'"),
        exceptions.Unauthenticated("t0ken-t0ken"),
    ],
)
def test_errors_of_libraries_have_no_secrets(lookup, monkeypatch, error):
    def fails(self, name):
        raise error

    monkeypatch.setattr(Client, "access_secret_version", fails)
    with pytest.raises(AnsibleLookupError, match="Cannot read the secret") as raised:
        lookup("projects/p/secrets/s", access_token="t0ken-t0ken\n")
    assert "pa55word" not in str(raised.value) and "t0ken-t0ken" not in str(raised.value)
    # Ansible shows the texts of causes.
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_an_odd_character_in_a_credential(lookup):
    with pytest.raises(AnsibleLookupError, match="The option access_token has a line break") as raised:
        lookup("projects/p/secrets/s", access_token="t0ken\nt0ken")
    assert "t0ken" not in str(raised.value) and raised.value.__cause__ is None
