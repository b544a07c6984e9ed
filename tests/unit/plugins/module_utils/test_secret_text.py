# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test that all places that read a secret make the same value of its payload: modules, lookup, verification, image."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import pathlib
from types import SimpleNamespace

import pytest
from ansible_collections.mlplatform.gcp.plugins.lookup import secret as lookup
from ansible_collections.mlplatform.gcp.plugins.module_utils import _oauth_client, _secret_sources, _secrets
from google.cloud import secretmanager

ROLES = pathlib.Path(__file__).resolve().parents[4] / "roles"
NAME = "projects/p/secrets/s/versions/3"
NOT_TEXT, EMPTY = "not text in UTF-8", "empty"

# payload -> the value
TABLE = {
    b"value": "value",
    b"value\n": "value",
    b"value\r\n": "value",
    b"value\n\n\r\n": "value",
    b"\nvalue": "\nvalue",
    b" value \n": " value ",
    b"value \t": "value \t",
    b"two\nlines\n": "two\nlines",
    b" ": " ",
    "päss\u00a0\u2028".encode(): "päss\u00a0\u2028",
    "\ufeffvalue".encode(): "\ufeffvalue",
    b"a\0b": "a\0b",
}
NO_VALUES = {
    b"": EMPTY,
    b"\n": EMPTY,
    b"\r\n\r\n": EMPTY,
    b"\xff\xfe\x00": NOT_TEXT,
    "p\xe4ss".encode("latin-1"): NOT_TEXT,
}


def _module(cloud, payload, read):
    data = base64.b64encode(payload).decode()
    cloud.expect("GET", f".../v1/{NAME}:access", body={"payload": {"data": data}})
    return read(cloud.task({"project": "p"}))


def by_module(cloud, monkeypatch, payload):
    return _module(cloud, payload, lambda task: _secrets.read_secret(task, NAME))


def by_template(cloud, monkeypatch, payload):
    return _module(cloud, payload, lambda task: _secret_sources.Composed(task, "{v}", {"v": NAME}).value().decode())


def by_lookup(cloud, monkeypatch, payload):
    answer = SimpleNamespace(payload=SimpleNamespace(data=payload))
    return lookup._value(SimpleNamespace(access_secret_version=lambda name: answer), NAME, None)


def by_verification(cloud, monkeypatch, payload):
    monkeypatch.syspath_prepend(str(ROLES / "mlflow_verify" / "files"))
    google = object.__new__(importlib.import_module("access").Google)
    data = base64.b64encode(payload).decode()
    google.call = lambda *_args, **_more: {"payload": {"data": data} if data else {}}
    return google.secret(NAME)


def by_image(cloud, monkeypatch, payload):
    spec = importlib.util.spec_from_file_location("entrypoint", ROLES / "mlflow_image" / "files" / "entrypoint.py")
    entrypoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entrypoint)
    answer = SimpleNamespace(payload=SimpleNamespace(data=payload))
    client = SimpleNamespace(access_secret_version=lambda request, timeout: answer)
    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", lambda transport: client)
    settings = entrypoint.Settings({"PW_SECRET_NAME": NAME}, entrypoint.read_secret)
    return settings.secret("PW", purpose="a password")


READERS = [by_module, by_template, by_lookup, by_verification, by_image]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("payload", TABLE)
def test_values(cloud, monkeypatch, read, payload):
    assert read(cloud, monkeypatch, payload) == TABLE[payload]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("payload", NO_VALUES)
def test_no_values(cloud, monkeypatch, read, payload):
    with pytest.raises(Exception) as raised:
        read(cloud, monkeypatch, payload)
    message = str(raised.value)
    if read is by_image and NO_VALUES[payload] == NOT_TEXT:
        assert isinstance(raised.value, UnicodeDecodeError)
        return
    assert NO_VALUES[payload] in message
    assert NAME in message
    assert "xff" not in message


@pytest.mark.parametrize("payload", [b"id\n", b"id\r\n"])
def test_an_oauth_client_is_read_by_the_rule(cloud, payload):
    assert _module(cloud, payload, _client) == "id"


@pytest.mark.parametrize("payload", [b" id", b"id ", b"i d", b"i\td", b"i\nd", b"id\xc2\xa0", b"i\0d"])
def test_an_oauth_client_has_no_white_space(cloud, payload):
    with pytest.raises(Exception, match=r"oauth_client_id_secret: the value of the secret .* contains white space"):
        _module(cloud, payload, _client)


def _client(task):
    task.params["oauth_client_id_secret"] = NAME
    return _oauth_client._value(task, "oauth_client_id_secret")


@pytest.mark.parametrize("payload", [b"pw\n", b"pw\r\n", b"pw\r"])
def test_what_cloud_run_passes_unchanged_has_no_line_break_at_its_end(cloud, payload):
    with pytest.raises(Exception, match=f"The secret {NAME} ends in a line break") as raised:
        _module(cloud, payload, lambda task: _secrets.read_typed(task, NAME))
    assert "pw" not in str(raised.value)


def test_what_cloud_run_passes_unchanged_is_read_by_the_rule(cloud):
    for payload in [payload for payload in TABLE if not payload.endswith((b"\n", b"\r"))]:
        assert _module(cloud, payload, lambda task: _secrets.read_typed(task, NAME)) == TABLE[payload]


def test_no_other_place_reads_a_secret():
    """A new place that reads a payload belongs in READERS."""
    folders = [ROLES.parent / name for name in ("plugins", "roles", "clients/python/src")]
    words = ("access_secret_version", "secrets.versions.access", "}:access", '_call(task, "access"')
    found = {
        path.relative_to(ROLES.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*.py")
        if not path.is_symlink() and any(word in path.read_text() for word in words)
    }
    assert found == {
        "plugins/lookup/secret.py",
        "plugins/module_utils/_catalogue/verbs.py",
        "plugins/module_utils/_deployment/permissions.py",
        "plugins/module_utils/_secret_text.py",
        "plugins/module_utils/_secrets.py",
        "roles/mlflow_image/files/entrypoint.py",
        "roles/mlflow_verify/files/access.py",
    }
