# SPDX-License-Identifier: Apache-2.0
"""Test the table of the methods that the sandbox serves."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.scripts import sandbox_methods
from gcp_sandbox.gateway import seed


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a copy of the page that the script works on."""
    copy = tmp_path / "sandbox.md"
    copy.write_text(sandbox_methods.PAGE.read_text())
    monkeypatch.setattr(sandbox_methods, "ROOT", tmp_path)
    monkeypatch.setattr(sandbox_methods, "PAGE", copy)
    return copy


def test_an_outdated_table_is_noticed_and_rewritten(page, capsys):
    current = page.read_text()
    assert sandbox_methods.main(["--check"]) == 0, "run scripts/sandbox_methods.py"
    page.write_text(current.replace("`lockRetentionPolicy`, ", "", 1))
    assert sandbox_methods.main(["--check"]) == 1
    assert "sandbox.md is out of date" in capsys.readouterr().out
    assert sandbox_methods.main([]) == 0
    assert page.read_text() == current


def test_a_page_without_the_place_for_the_table_is_refused(page):
    page.write_text("# Sandbox\n")
    with pytest.raises(SystemExit, match=r"sandbox\.md lacks the lines"):
        sandbox_methods.main([])


def test_the_page_names_every_user():
    assert [email for email in seed.USERS if f"`{email}`" not in sandbox_methods.PAGE.read_text()] == []


def test_versions_that_serve_the_same_are_one_row():
    text = sandbox_methods.table({"a": {"v2": {"x.get", "x.list", "run"}, "v1": {"x.get", "x.list"}}})
    assert text.splitlines()[2:] == ["| `a` | v2 | none | `run` |", "| `a` | v1, v2 | `x` | `get`, `list` |"]
