# SPDX-License-Identifier: Apache-2.0
"""mlflow-google-auth URL"""

from __future__ import annotations

import pytest
from _world import ACCOUNT, ACCOUNT_KEY, CUSTOM, MANAGED, claims_of

from mlflow_google_auth.__main__ import main

URL = "https://m.example"


def test_the_findings_are_printed_without_the_token(world, broker, user, capsys):
    world.serve("m.example", iap=CUSTOM)
    assert main([URL]) == 0
    shown = capsys.readouterr().out
    for word in ("Identity-Aware Proxy", f"ID token for {CUSTOM}", ACCOUNT, "200"):
        assert word in shown
    assert broker.credential(URL).value not in shown


@pytest.mark.parametrize("guard", [{"iap": CUSTOM}, {"invoker": True}])
def test_the_missing_role_is_printed(world, broker, user, capsys, guard):
    world.serve("m.example", **guard).lets_in = False
    assert main([URL]) == 1
    role = "roles/iap.httpsResourceAccessor" if "iap" in guard else "roles/run.invoker"
    assert role in capsys.readouterr().err


def test_the_token_is_printed_with_the_option(world, broker, user, capsys):
    world.serve("m.example", iap=MANAGED, managed=True)
    assert main(["--token", URL]) == 0
    assert claims_of(capsys.readouterr().out.strip(), ACCOUNT_KEY[1])["aud"] == "https://m.example/*"


def test_an_open_server_needs_none(world, broker, capsys):
    world.serve("m.example")
    assert main([URL]) == 0
    assert "needs no token" in capsys.readouterr().out
    assert main(["--token", URL]) == 1


def test_the_error_is_printed(world, broker, user, capsys):
    world.serve("m.example", invoker=True)
    world.denied = "no"
    assert main([URL]) == 1
    assert "roles/iam.serviceAccountTokenCreator" in capsys.readouterr().err
