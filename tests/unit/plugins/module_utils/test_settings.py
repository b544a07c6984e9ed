# SPDX-License-Identifier: Apache-2.0
"""test_odd_credentials.py has the tests of each setting; these are about what is accepted."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _settings


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in _settings._redaction.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "http://proxy:3128",
        "http://proxy:3128/",
        "https://us:pa%2F55@proxy",
        "http://us:p@ss@proxy:3128",
        "proxy:3128",
        "us:pa55@proxy:3128",
        "socks5h://127.0.0.1:1080",
        "http://[::1]:3128",
        " http://proxy:3128\n",
    ],
)
def test_addresses_of_proxies_that_work(monkeypatch, address):
    monkeypatch.setenv("HTTPS_PROXY", address)
    _settings.check_proxies()


def test_the_name_of_what_has_a_value(monkeypatch):
    assert _settings.source({"access_token": "t"}, "access_token") == "The option access_token"
    monkeypatch.setenv("GCE_PROJECT", "p")
    assert _settings.source({"project": "p"}, "project") == "GCE_PROJECT in the environment"
    monkeypatch.setenv("GCP_SCOPES", "a,b")
    assert _settings.source({"scopes": ["a", "b"]}, "scopes") == "GCP_SCOPES in the environment"


def test_blank_options_are_not_given():
    found = _settings.credentials({"access_token": " \n", "scopes": [" a ", ""], "service_account_contents": " {} "})
    assert found["access_token"] is None and found["scopes"] == ["a"] and found["service_account_contents"] == "{}"
