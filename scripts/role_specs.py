# SPDX-License-Identifier: Apache-2.0
"""Write roles/*/meta/argument_specs.yml and roles/*/defaults/main.yml from the description of the roles' variables.

The source is plugins/module_utils/_deployment/roles/. With --check nothing is written, and the exit status is 1 when a
file is out of date. Name roles to write only theirs.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

import yaml
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint, RoleSpec, Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Written by scripts/role_specs.py from plugins/module_utils/_deployment/roles/{role}.py. Do not edit.
---
"""
# Text that preflight reads in any of these types. Ansible's own check would refuse it, and stop at the first.
RAW = ("int", "float", "bool", "list", "dict")


class Dumper(yaml.SafeDumper):
    """YAML as yamllint wants it: lists are indented, and nothing is an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Flow(list):
    """A list that is written on one line."""


def _represent_text(dumper: Dumper, text: str) -> yaml.Node:
    tag, implicit = "tag:yaml.org,2002:str", (True, False)
    times = re.match(r"\d+:", text)  # a number in base 60 for some readers
    plain = text and not times and "{{" not in text and dumper.resolve(yaml.ScalarNode, text, implicit) == tag
    return dumper.represent_scalar(tag, text, style=None if plain else '"')


Dumper.add_representer(str, _represent_text)
Dumper.add_representer(Flow, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


def dumped(role: str, document: dict) -> str:
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=130, allow_unicode=True) if document else ""
    return HEAD.format(role=role) + text


def option(variable: Variable, *, text: bool) -> dict[str, Any]:
    """Return a variable as an argument spec has it. With `text` its value may be text whatever its type."""
    raw = text and variable.type in RAW
    described = list(variable.description)
    if raw:
        described.append(f"The type is {variable.kind}, or text that can be read as that.")
    found: dict[str, Any] = {"type": "raw" if raw else variable.type}
    if variable.elements and variable.type == "list" and not raw:
        found["elements"] = variable.elements
    if variable.required:
        found["required"] = True
    if variable.default is not None:
        found["default"] = variable.default
    # Preflight checks the values that users set, all in one pass.
    if variable.choices and not text:
        found["choices"] = Flow(variable.choices)
    if variable.no_log is not None:
        found["no_log"] = variable.no_log
    found["description"] = described[0] if len(described) == 1 else described
    if variable.options and not raw:
        found["options"] = {inner.name: option(inner, text=text) for inner in variable.options}
    return found


def specs(role: RoleSpec) -> str:
    """Return the argument specs of a role. The first entry point lists the variables: `main` if there is one.

    A role without entry points has none: Ansible would read them again for each role that depends on it.
    """
    if not (role.main or role.entry_points):
        return ""
    main = [EntryPoint("main", role.short_description, role.description)] if role.main else []
    found = {}
    for entry in (*main, *role.entry_points):
        options = {} if found else {item.name: option(item, text=role.text) for item in role.variables}
        found[entry.name] = {
            "short_description": entry.short_description,
            "description": list(entry.description),
            "options": options,
        }
    return dumped(role.name, {"argument_specs": found})


def defaults(role: RoleSpec) -> str:
    return dumped(role.name, {item.name: item.default for item in role.variables if item.default is not None})


def files(names: Iterable[str]) -> dict[pathlib.Path, str]:
    """Return the contents of the files; empty for one that should not exist."""
    found = {}
    for name in names:
        folder, role = ROOT / "roles" / name, ROLES[name]
        found[folder / "meta/argument_specs.yml"] = specs(role)
        found[folder / "defaults/main.yml"] = defaults(ROLES[name])
    return found


def undescribed() -> list[str]:
    """Return a line for each role that is in one of the two places only."""
    here = {path.parent.parent.name for path in ROOT.glob("roles/*/meta/main.yml")}
    return [f"role {name} is in roles/ or in the description, not in both" for name in sorted(here ^ set(ROLES))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, list what is out of date")
    parser.add_argument("roles", nargs="*", default=list(ROLES), help="by default all")
    arguments = parser.parse_args()
    wrong = undescribed()
    for path, text in files(arguments.roles).items():
        if (path.read_text() if path.exists() else "") == text:
            continue
        if arguments.check:
            wrong.append(f"{path.relative_to(ROOT)} is out of date: run python scripts/role_specs.py")
        elif text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        else:
            path.unlink()
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
