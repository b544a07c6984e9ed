# SPDX-License-Identifier: Apache-2.0
"""Test that the generated pages have all variables."""

from __future__ import annotations

import sys

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES
from ansible_collections.mlplatform.gcp.scripts import role_docs


def test_every_variable_and_every_replaced_name_is_in_the_page():
    page = role_docs.variables()
    for role in ROLES.values():
        for variable in role.variables:
            assert f"| `{variable.name}` |" in page
            for old in variable.replaces:
                assert f"| `{old}` | `{variable.name}` |" in page


def test_a_meaning_has_choices_limits_and_keys():
    inner = Variable("day", "int", ("Day of the week.",), minimum=1, maximum=7, required=True)
    deep = Variable("window", "dict", ("When.",), options=(inner,))
    assert role_docs.meaning(Variable("x", "dict", ("What.",), options=(deep,))) == (
        "What.<br>`window` (dict, optional): When.<br>`window.day` (int): Day of the week. From 1 to 7."
    )
    chosen = Variable("y", "str", ("Whether O(a=b) or V(c).", "See M(d.e)."), choices=("c", "d"))
    assert role_docs.meaning(chosen) == "Whether `a=b` or `c`. See `d.e`. One of `c`, `d`."
    assert role_docs.meaning(Variable("z", "int", ("Number.",), minimum=0)) == "Number. At least 0."


def test_a_readme_keeps_what_is_above_the_marker():
    text = role_docs.readme(ROLES["cloudsql"], f"# cloudsql\n\nMine.\n\n{role_docs.MARKER}\nWritten before.\n")
    assert text.startswith(f"# cloudsql\n\nMine.\n\n{role_docs.MARKER}\n## Variables\n")
    assert "Written before." not in text
    assert "| `cloudsql_tier` |" in text and "- `finish`: " in text


def test_defaults_are_shown_as_yaml():
    shown = [role_docs.value(default) for default in (None, "", "x", False, 1, [], {"a": "b"})]
    assert shown == ["unset", "empty", "`x`", "`false`", "`1`", "`[]`", "`{a: b}`"]


def test_an_outdated_page_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(role_docs, "ROOT", tmp_path)
    monkeypatch.setattr(role_docs, "dependencies", lambda role: {"gcp"})
    (tmp_path / "docs").mkdir()
    for name in ROLES:
        (tmp_path / "roles" / name).mkdir(parents=True)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["role_docs.py", *arguments])
        return role_docs.main(), capsys.readouterr().out

    status, output = run("--check")
    assert status == 1
    assert "docs/variables.md is out of date" in output and "roles/bucket/README.md is out of date" in output
    assert run() == (0, "")
    assert run("--check") == (0, "")
    assert "which all roles share" in (tmp_path / "roles/bucket/README.md").read_text()


def test_the_pages_are_up_to_date():
    assert [path for path, text in role_docs.pages().items() if path.read_text() != text] == []
