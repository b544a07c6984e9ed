# SPDX-License-Identifier: Apache-2.0
"""Test the language check on examples of each kind of file."""

import importlib.util
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def language():
    spec = importlib.util.spec_from_file_location("scripts_language", ROOT / "scripts" / "language.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A secret that nobody has read.", "nobody"),
        ("A bucket of somebody else.", "somebody"),
        ("Whoever deploys needs the role.", "whoever"),
        ("A service whose revision failed.", "whose"),
        ("The account who may act.", "who"),
        ("The module is told where it is.", "told"),
        ("It tells whether it runs.", "tells"),
        ("The server is asked twice.", "is asked"),
        ("Look at a secret.", "look at"),
        ("The secret is there.", "is there"),
        ("The instance is gone.", "is gone"),
        ("An operation is on its way.", "on its way"),
        ("An operation is under way.", "under way"),
        ("It shall be closed.", "shall"),
        ("Accepted in so many words.", "in so many words"),
        ("A member gets in.", "gets in"),
        ("A member is let in.", "let in"),
        ("The package lets clients in for a while.", "lets clients in"),
        ("Another way in exists.", "way in"),
        ("A former member is shut out.", "is shut out"),
        ("A stranger is refused.", "stranger"),
        ("The door of the server.", "door"),
        ("A revision takes over.", "takes over"),
        ("The role is taken away.", "taken away"),
        ("A policy stands in the way.", "stands in the way"),
        ("The build has begun.", "begun"),
        ("The operation is waited for.", "waited for"),
        ("A word for people.", "a word for people"),
        ("It runs. What is left is deleted.", "what is"),
        ("Whatever was granted stays.", "whatever"),
        ("What the server needs is created.", "what the server needs is"),
    ],
)
def test_a_phrase_of_the_table_is_found(language, text, words):
    assert [finding.words.lower() for finding in language.findings("a.md", text)][:1] == [words]


@pytest.mark.parametrize(
    "text",
    [
        "The user who deploys has the role.",
        "It is there to be read.",
        "It sets labels in the project.",
        "The value lets in-flight requests end.",
        "What is a deployment?",
        "Set `whoever` or `nobody`.",
        "See [the page](docs/stranger.md) and https://example.com/door.",
        "The report shows which instance exists.",
    ],
)
def test_plain_text_passes(language, text):
    assert language.findings("a.md", text) == []


EXAMPLES = {
    "a.md": "# Title\n\nThe instance is\ngone now.\n\n```console\nrun nobody  # nobody\n```\n",
    "a.yml": "---\n- name: Look at\n    the service\n  debug:\n    msg: fine\n# A name that\n# nobody uses\n",
    "a.py": '"""Read.\n\nThe state is\ngone.\n"""\nx = 1  # nobody\ny = ("it is " "gone", f"{x} {nobody}")\n',
    "a.sh": '# nobody\necho "the file is gone"\n',
    "Makefile": "clean:  ## whoever runs it\n\techo done\n",
    "a.svg": "<svg>\n<text>the way in</text></svg>\n",
    "a.toml": "# nobody\nname = 1\n",
}


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("a.md", [3, 7]),
        ("a.yml", [2, 7]),
        ("a.py", [3, 6, 7]),
        ("a.sh", [1, 2]),
        ("Makefile", [1]),
        ("a.svg", [2]),
        ("a.toml", [1]),
    ],
)
def test_findings_have_the_line_in_each_kind_of_file(language, path, lines):
    assert [finding.line for finding in language.findings(path, EXAMPLES[path])] == lines


def test_names_that_mislead_are_found_in_code(language):
    found = language.findings("a.py", "class Doors:\n    spoken_of = 1\n    outdoor = 2\n")
    assert [(finding.line, finding.words) for finding in found] == [(1, "Doors"), (2, "spoken_of")]


def test_generated_variables_of_a_readme_are_left_to_their_source(language):
    assert language.findings("a.md", "Text.\n\n<!-- variables -->\n\n| nobody |\n") == []


def test_a_finding_names_file_line_phrase_and_suggestion(language):
    assert str(language.findings("a.md", "\nIt shall run.")[0]) == "a.md:2: shall -> must, is to"


@pytest.fixture
def project(language, monkeypatch, tmp_path):
    """Return a project of two files with one finding each."""
    for name in ("old/a.md", "new/b.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("It shall run.\n")
    monkeypatch.setattr(language, "ROOT", tmp_path)
    monkeypatch.setattr(language, "files", lambda: ["new/b.md", "old/a.md"])
    monkeypatch.setattr(language, "PENDING", ("old/",))
    monkeypatch.setattr(language, "ALLOWED", ())
    return tmp_path


def test_a_pending_folder_is_reported_when_it_is_named(language, project, capsys):
    assert language.main([]) == 1
    printed = capsys.readouterr().out
    assert "new/b.md:1: shall" in printed
    assert "old/a.md" not in printed
    assert language.main(["old"]) == 1
    assert "old/a.md:1: shall" in capsys.readouterr().out


def test_the_list_of_pending_folders_only_shrinks(language, project, capsys):
    (project / "new/b.md").write_text("It runs.\n")
    assert language.main([]) == 0
    (project / "old/a.md").write_text("It runs.\n")
    assert language.main([]) == 1
    assert "PENDING: old/ has no findings" in capsys.readouterr().out


def test_an_allowed_phrase_passes_and_an_unused_one_is_reported(language, project, monkeypatch, capsys):
    rule = language.Allowed("new/b.md", "shall", "a quotation")
    monkeypatch.setattr(language, "ALLOWED", (rule,))
    assert language.main([]) == 0
    (project / "new/b.md").write_text("It runs.\n")
    assert language.main([]) == 1
    assert "ALLOWED: 'shall' is not in new/b.md" in capsys.readouterr().out


def test_findings_are_counted_by_folder(language, project, capsys):
    assert language.main(["--count"]) == 0
    assert capsys.readouterr().out.split() == ["1", "new", "1", "old", "2", "all"]


def test_every_excluded_file_exists(language):
    assert [path for path in language.EXCLUDED if not list(ROOT.glob(path))] == []
