# SPDX-License-Identifier: Apache-2.0
"""Test the deployment `demo` in a browser without a proxy: the sandbox's sign-in and the pages of MLflow."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._browser import (
    ALICE,
    BOB,
    CHROMIUM,
    assert_picture,
    sign_in,
)
from gcp_sandbox.config import Settings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")


@pytest.fixture
def address(deployed, box, instant) -> str:
    """Return the URL of the deployment for a browser, which `status` must print."""
    url = f"http://demo-dev.localhost:{Settings.load(box.state).ports.browser}/"
    assert url in box.run("status").stdout
    return url


@pytest.fixture
def runs_page(logged, address) -> str:
    """Return the URL of the page of the README's experiment."""
    experiment, _run = logged
    return f"{address}#/experiments/{experiment}/runs"


def test_a_member_signs_in_and_the_page_shows_the_run(browser, address, runs_page, tmp_path):
    sign_in(browser, address, ALICE)
    browser.wait("MLflow")
    assert browser.url.startswith(address)
    browser.open(runs_page)
    text = browser.wait("first-steps", "hello")
    assert "Something went wrong" not in text
    assert_picture(browser.picture(tmp_path / "runs.png"))


def test_a_user_without_access_receives_an_error_and_can_switch_the_account(browser, address, tmp_path):
    sign_in(browser, address, BOB)
    browser.wait("You don't have access", BOB, address, "roles/iap.httpsResourceAccessor")
    assert_picture(browser.picture(tmp_path / "denied.png"))
    browser.press("a")
    browser.wait("Choose an account", ALICE)
    browser.press(f'button[value="{ALICE}"]')
    browser.wait("MLflow")
    assert browser.url.startswith(address)
