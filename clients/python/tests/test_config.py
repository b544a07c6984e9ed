# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from mlflow_google_auth.config import Settings, confidential, origin
from mlflow_google_auth.errors import AuthError


def test_without_variables_the_server_is_asked():
    assert Settings.from_environment({}) == Settings()


def test_every_variable_is_read():
    found = Settings.from_environment(
        {
            "MLFLOW_GOOGLE_AUTH_MODE": "IAP-JWT",
            "MLFLOW_GOOGLE_AUTH_AUDIENCE": "https://x/*",
            "MLFLOW_GOOGLE_AUTH_IMPERSONATE": "a@p.iam.gserviceaccount.com, b@p.iam.gserviceaccount.com",
            "MLFLOW_GOOGLE_AUTH_CREDENTIALS": "/k.json",
            "MLFLOW_GOOGLE_AUTH_HOSTS": "one.example,https://two.example:8443/path",
            "MLFLOW_GOOGLE_AUTH_TOKEN_LIFETIME": "30",
            "GOOGLE_APPLICATION_CREDENTIALS": "/adc.json",
        }
    )
    assert found == Settings(
        mode="iap-jwt",
        audience="https://x/*",
        impersonate=("a@p.iam.gserviceaccount.com", "b@p.iam.gserviceaccount.com"),
        credentials="/k.json",
        adc="/adc.json",
        hosts=frozenset({"https://one.example", "https://two.example:8443"}),
        lifetime=30,
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MODE", "basic", "must be one of auto, iap"),
        ("IMPERSONATE", "client", "not the address of a service account"),
        ("TOKEN_LIFETIME", "7200", "from 10 to 3600"),
        ("TOKEN_LIFETIME", "1h", "from 10 to 3600"),
    ],
)
def test_an_invalid_value_is_named(name, value, words):
    with pytest.raises(AuthError, match=words) as error:
        Settings.from_environment({f"MLFLOW_GOOGLE_AUTH_{name}": value})
    assert f"MLFLOW_GOOGLE_AUTH_{name}" in str(error.value) and value in str(error.value)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://M.example/a?b#c", "https://m.example"),
        ("https://m.example:443/", "https://m.example"),
        ("https://m.example:8443", "https://m.example:8443"),
        ("http://[::1]:5000/x", "http://[::1]:5000"),
        ("https://user:secret@m.example/", "https://m.example"),
        ("sqlite:///mlflow.db", ""),
        ("databricks", ""),
        ("https://m.example:port/", ""),
        ("", ""),
    ],
)
def test_origins_are_compared_as_browsers_do(url, found):
    assert origin(url) == found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://m.example", True),
        ("http://m.example", False),
        ("http://localhost:5000", True),
        ("http://127.0.0.1:5000", True),
        ("http://demo-dev.localhost:8080", True),
        ("http://localhost.example.com", False),
    ],
)
def test_tokens_are_sent_only_over_protected_connections(url, found):
    assert confidential(url) is found
