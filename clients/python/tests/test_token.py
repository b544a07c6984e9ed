# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import time

import pytest

from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.token import Token


def jwt(issued: float, expires: float) -> str:
    payload = json.dumps({"iat": issued, "exp": expires}).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    ("lifetime", "fresh_until", "usable_until"), [(30, 24, 28.5), (600, 480, 590), (3600, 3300, 3590)]
)
def test_a_token_is_renewed_before_it_expires(monkeypatch, lifetime, fresh_until, usable_until):
    token = Token("x", lifetime)
    for age in (0, fresh_until - 1, fresh_until + 1, usable_until + 1, lifetime + 1):
        monkeypatch.setattr(time, "monotonic", lambda age=age: token._ticks + age)
        assert token.fresh is (age < fresh_until), age
        assert token.usable is (age < usable_until), age


def test_a_laptop_that_has_slept_does_not_use_an_expired_token(monkeypatch):
    token = Token("x", 3600)
    monkeypatch.setattr(time, "time", lambda: token._wall + 7200)
    assert not token.usable


def test_a_clock_that_was_set_back_does_not_prolong_a_token(monkeypatch):
    token = Token("x", 3600)
    monkeypatch.setattr(time, "time", lambda: token._wall - 7200)
    monkeypatch.setattr(time, "monotonic", lambda: token._ticks + 3601)
    assert not token.usable


@pytest.mark.parametrize("wrong", [-86400, -7200, 7200, 86400])
def test_a_wrong_clock_does_not_make_new_tokens_old_or_immortal(wrong):
    now = time.time() + wrong
    assert Token.of(jwt(now, now + 3600)).lifetime == 3600


def test_a_token_that_the_metadata_server_has_kept_has_less_to_live():
    now = time.time()
    assert Token.of(jwt(now - 3000, now + 600)).lifetime == pytest.approx(600, abs=2)


@pytest.mark.parametrize("value", ["", "ya29.c.opaque", "a.b.c", "e30.e30.x"])
def test_what_is_no_token_is_said_without_showing_it(value):
    with pytest.raises(AuthError, match="not a JSON Web Token") as error:
        Token.of(value)
    assert not value or value not in str(error.value)


def test_a_token_is_not_shown():
    assert "secret" not in repr(Token("secret", 10))
