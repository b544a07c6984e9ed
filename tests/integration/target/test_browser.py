# SPDX-License-Identifier: Apache-2.0
"""The deployment `demo` as a person sees it: a browser without a proxy, the sandbox's sign-in, MLflow's own pages."""

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
    """Where a browser finds the deployment; the status says so, too."""
    url = f"http://demo-dev.localhost:{Settings.load(box.state).ports.browser}/"
    assert url in box.run("status").stdout
    return url


@pytest.fixture
def runs_page(logged, address) -> str:
    """The page of the experiment that the README's example logs its run to."""
    experiment, _run = logged
    return f"{address}#/experiments/{experiment}/runs"


def test_who_has_access_signs_in_and_sees_the_run(browser, address, runs_page, tmp_path):
    sign_in(browser, address, ALICE)
    browser.wait("MLflow")
    assert browser.url.startswith(address)
    browser.open(runs_page)
    text = browser.wait("first-steps", "hello")
    assert "Something went wrong" not in text
    assert_picture(browser.picture(tmp_path / "runs.png"))


def test_who_has_no_access_is_reported_and_may_switch_the_account(browser, address, tmp_path):
    sign_in(browser, address, BOB)
    browser.wait("You don't have access", BOB, address, "roles/iap.httpsResourceAccessor")
    assert_picture(browser.picture(tmp_path / "denied.png"))
    browser.press("a")
    browser.wait("Choose an account", ALICE)
    browser.press(f'button[value="{ALICE}"]')
    browser.wait("MLflow")
    assert browser.url.startswith(address)
