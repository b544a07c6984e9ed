# SPDX-License-Identifier: Apache-2.0
"""Compare the documentation and the lists with the code."""

from __future__ import annotations

import ast
import importlib
import os
import pathlib

import pytest
import yaml
from ansible.plugins.loader import action_loader, fragment_loader
from ansible.utils.plugin_docs import add_fragments
from ansible_collections.mlplatform.gcp.plugins.module_utils import _oauth_client, _options
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import controller
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

ROOT = pathlib.Path(_scripted.__file__).resolve().parents[3]
ACTION = "../plugin_utils/action.py"
NAMES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
GROUPS = {
    "gcp": _options.GCP,
    "wait": _options.WAIT,
    "state": _options.STATE,
    "labels": _options.LABELS,
    "owner": _options.OWNER,
    "oauth_client": _oauth_client.OAUTH_CLIENT,
}


def load(name):
    return importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{name}")


def documented(text, name):
    doc = yaml.safe_load(text)
    add_fragments(doc, str(ROOT / f"plugins/modules/{name}.py"), fragment_loader=fragment_loader)
    return doc


def fragment(name, variant="DOCUMENTATION"):
    module = importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.doc_fragments.{name}")
    return yaml.safe_load(getattr(module.ModuleDocFragment, variant))["options"]


def differences(documented_options, arguments, where=""):
    """Sentences for everything in which documentation and argument spec disagree."""
    if set(documented_options) != set(arguments):
        odd = sorted(set(documented_options) ^ set(arguments))
        yield f"{where or 'options'}: {', '.join(odd)} in one and not in the other"
    for name in sorted(set(documented_options) & set(arguments)):
        doc, spec = documented_options[name], arguments[name]
        for key, default in (
            ("type", "str"),
            ("elements", None),
            ("default", None),
            ("required", False),
            ("choices", None),
        ):
            reported, done = doc.get(key, default), spec.get(key, default)
            if (sorted(reported) if key == "choices" and reported else reported) != (
                sorted(done) if key == "choices" and done else done
            ):
                yield f"{where}{name}: {key} is documented as {reported!r} and is {done!r}"
        if not doc.get("description"):
            yield f"{where}{name}: not described"
        yield from differences(doc.get("suboptions") or {}, spec.get("options") or {}, f"{where}{name}.")


@pytest.mark.parametrize("name", GROUPS)
def test_fragments_match_their_option_group(name):
    assert list(differences(fragment(name), GROUPS[name].arguments)) == []


def test_the_bindings_fragment():
    bindings = {"bindings": {"type": "list", "elements": "dict", "options": _options.BINDINGS}}
    assert list(differences(fragment("bindings"), bindings)) == []


def test_environment_variables_are_documented():
    plugin = fragment("gcp", "PLUGIN")
    # What only reads takes no lock.
    assert set(plugin) == set(_options.GCP.arguments) - {"lock"}
    for name, doc in fragment("gcp").items():
        names = _options.GCP.arguments[name].get("fallback", (None, []))[1]
        text = " ".join(doc["description"])
        assert [variable for variable in names if f"E({variable})" not in text] == []
        assert [item["name"] for item in plugin.get(name, {"env": []})["env"]] == names


@pytest.mark.parametrize("name", NAMES)
def test_documentation_matches_the_argument_spec(name):
    module = load(name)
    assert list(differences(documented(module.DOCUMENTATION, name)["options"], module.OPTIONS.arguments)) == []


@pytest.mark.parametrize("name", NAMES)
def test_modules_are_complete(name):
    module = load(name)
    doc = documented(module.DOCUMENTATION, name)
    assert callable(module.run) and callable(module.main)
    assert {"check_mode", "diff_mode", "idempotent"} <= set(doc["attributes"])
    assert any(str(note).startswith("Needs ") for note in doc["notes"]), "say which permissions it needs"
    assert yaml.safe_load(module.RETURN)


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_options_that_exist(name):
    for task in yaml.safe_load(load(name).EXAMPLES):
        for action in (key for key in task if key.startswith("mlplatform.gcp.")):
            arguments = load(action.rsplit(".", 1)[-1]).OPTIONS.arguments
            assert set(task[action] or {}) <= set(arguments)
            needed = {key for key, spec in arguments.items() if spec.get("required")}
            assert needed <= set(task[action] or {})


def test_every_module_is_in_the_action_group():
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["gcp"]) == [
        name for name in NAMES if "project" in load(name).OPTIONS.arguments
    ]


# Modules with an action plugin that does more than run the module in the controller.
OWN_ACTION = {"deployment"}


def test_every_module_has_an_action_plugin():
    """The action plugins are links to one file, so that a module cannot come with a copy of it."""
    folder = ROOT / "plugins/action"
    assert sorted(path.stem for path in folder.glob("*.py")) == NAMES
    for name in sorted(set(NAMES) - OWN_ACTION):
        link = folder / f"{name}.py"
        assert link.is_symlink(), f"make it a link: ln -s {ACTION} plugins/action/{name}.py"
        assert os.readlink(link) == ACTION


@pytest.mark.parametrize("name", NAMES)
def test_an_action_plugin_is_loaded_under_the_name_of_its_module(name):
    plugin = action_loader.get(
        f"mlplatform.gcp.{name}",
        class_only=True,
    )
    assert issubclass(plugin, controller.ActionModule)
    assert plugin.ansible_name == f"mlplatform.gcp.{name}"


# Lines of logic of a module file: those outside the documentation strings, comments and blank lines. Further code of a
# module belongs in plugins/module_utils, where other modules and tests can use it.
LARGEST = 150


def logic_lines(text):
    """Number of lines of code in a module file, without DOCUMENTATION, EXAMPLES and RETURN."""
    documentation = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
            documentation.update(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if number not in documentation and line.strip() and line.strip()[0] != "#")


def test_logic_lines_leave_out_documentation_comments_and_blank_lines():
    text = '#!/usr/bin/python\nDOCUMENTATION = r"""\na\nb\n"""\n\nimport os\n\n# why\nx = 1\n'
    assert logic_lines(text) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_module_file_is_documentation_options_and_wiring(name):
    lines = logic_lines((ROOT / f"plugins/modules/{name}.py").read_text())
    assert lines <= LARGEST, (
        f"{name}.py has {lines} lines of logic; {LARGEST} are allowed. Move what is not documentation, options or"
        " wiring to plugins/module_utils."
    )


@pytest.mark.parametrize("name", NAMES)
def test_main_runs_the_module_with_its_options(name, monkeypatch):
    module, calls = load(name), []
    monkeypatch.setattr(module, "run_module", lambda *arguments: calls.append(arguments))
    module.main()
    assert calls == [(module.OPTIONS, module.run)]
