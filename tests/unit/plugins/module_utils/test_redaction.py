# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import subprocess
import sys
from urllib.parse import quote

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _redaction

TOKEN = "t0ken\"with'odd\\ch\u00e4racters"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Failed to parse: http://us:pa55@proxy:3128", "Failed to parse: http://********@proxy:3128"),
        ("see https://iam.googleapis.com/v1/accounts/me@p.com", "see https://iam.googleapis.com/v1/accounts/me@p.com"),
        ("reserved character(s) in header value: 'Bearer abc\\n'", "reserved character(s) in header value: ********"),
        ("Invalid header value b'Basic dXM6cGE1NQ=='", "Invalid header value ********"),
        ("Header part ('it\\'s') from", "Header part (********) from"),
        ("{'Authorization': 'Bearer abc def', 'a': 1}", "{'Authorization': ********, 'a': 1}"),
        ("authorization: Bearer abc def\nnext", "authorization: ********\nnext"),
        ("sent Bearer abc.def-1, twice", "sent Bearer ******** twice"),
        ("the Bearer token is old", "the Bearer token is old"),
        ('{"access_token": "abc", "expires_in": 1}', '{"access_token": ********, "expires_in": 1}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x", "******** x"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "********"),
        ("ya29.a0Af-b_c refused", "******** refused"),
        ("eyJhbGciOi.eyJpc3MiOi.c2ln refused", "******** refused"),
        ("nothing of that", "nothing of that"),
    ],
)
def test_forms_of_secrets_that_nothing_knows(words, shown):
    assert _redaction.text(words) == shown
    assert _redaction.text(ValueError(words)) == shown


@pytest.mark.parametrize(
    "form",
    [
        str,
        repr,
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: repr(secret.encode()),
        quote,
        lambda secret: quote(secret, safe=""),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: f"{secret}\n",
        str.strip,
    ],
)
@pytest.mark.parametrize("secret", [TOKEN, f" {TOKEN}\n"])
def test_forms_of_a_known_secret(form, secret):
    shown = _redaction.text(f"it is {form(secret)}!", [secret])
    assert shown.startswith("it is") and "t0ken" not in shown and "racters" not in shown
    assert base64.b64encode(secret.encode()).decode() not in shown


def test_the_parts_of_a_secret_with_an_odd_character_whatever_escapes_it():
    secret = "first-part-of-the-token\nsecond-part-of-the-token"
    shown = _redaction.text(repr(repr(secret)), [secret])
    assert "first-part" not in shown and "second-part" not in shown


def test_a_short_secret_is_removed_where_it_stands_alone():
    assert _redaction.text("the cat of category cat:", ["cat"]) == "the ******** of category ********:"
    assert _redaction.text("unchanged", ["", " "]) == "unchanged"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "all_proxy"])
def test_the_password_of_a_proxy(monkeypatch, name):
    monkeypatch.setenv(name, "us:pa%2F55word@proxy:3128")
    assert _redaction.text("us:pa%2F55word, pa/55word") == "********, ********"


@pytest.mark.parametrize(
    ("value", "is_path", "words"),
    [
        ("abc", False, ""),
        ("ab\ncd", False, "a line break (character 3 of 5)"),
        ("ab cd", False, "a space (character 3 of 5)"),
        ("ab cd\u00e4", True, ""),
        ("ab\tcd", True, "a control character (character 3 of 5)"),
        ("abc\u00e4", False, "a character that is not ASCII (character 4 of 4)"),
    ],
)
def test_odd_characters(value, is_path, words):
    assert _redaction.odd(value, is_path=is_path) == words


def test_programs_of_the_roles_can_import_it():
    """It needs no other file, and no package."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", _redaction.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
