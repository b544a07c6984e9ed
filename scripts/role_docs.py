# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the roles' variables into each role's README and docs/variables.md.

The source is roles/*/meta/argument_specs.yml. With --check nothing is written: exit status 1 if a page is out
of date, or if a role's defaults and its argument specs differ, which Ansible does not detect.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

import yaml
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import ROLES

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKER = "<!-- variables -->"
# The order of the roles in docs/variables.md.
ORDER = list(ROLES)

INTRODUCTION = """\
# Variables

All variables of all roles, generated from their argument specs by `scripts/role_docs.py`. A deployment needs only
`gcp_project`, `gcp_region` and `mlflow_access_members`. [inventories/example](../inventories/example) shows the others.

Set the variables for a host or a group in the inventory. This includes the variables of building blocks
(`cloudsql_...`, `bucket_...`), which the roles read from the inventory."""


def specs(role: str) -> dict:
    return yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]


def defaults(role: str) -> dict:
    return yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()) or {}


def prose(text: str) -> str:
    """Convert Ansible's markup to Markdown."""
    text = re.sub(r"\b[OVC]\(([^)]*)\)", r"`\1`", text)
    return re.sub(r"\bM\(([^)]*)\)", r"`\1`", text)


def paragraph(description) -> str:
    return prose(description if isinstance(description, str) else " ".join(description))


def value(default) -> str:
    if isinstance(default, str):
        return f"`{default}`" if default else "empty"
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`" if len(text) < 80 else "see `defaults/main.yml`"


def computed(given, option: dict) -> bool:
    """Return whether a default is a template of a type other than text, which an argument spec cannot have."""
    text = given[0] if isinstance(given, list) and given else given
    return option.get("type") != "str" and isinstance(text, str) and "{{" in text


def row(name: str, option: dict, given) -> str:
    kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    default = "required" if option.get("required") else value(option.get("default", given))
    text = paragraph(option["description"])
    if option.get("choices"):
        text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
    for key, inner in option.get("options", {}).items():
        needed = "" if inner.get("required") else ", optional"
        text += f"<br>`{key}` ({inner['type']}{needed}): {paragraph(inner['description'])}"
    cells = (f"`{name}`", kind, default, text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(role: str) -> str:
    given = defaults(role)
    rows = [row(name, option, given.get(name)) for name, option in specs(role)["main"]["options"].items()]
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows])


def readme(role: str, text: str) -> str:
    """Return the README `text` with a new part after the marker."""
    found = specs(role)
    head = text.split(MARKER)[0].rstrip()
    parts = [head, "", MARKER, "## Variables", "", table(role)]
    shared = [name for name in ("gcp", "mlflow") if name != role and name in dependencies(role)]
    if shared:
        links = " and ".join(f"[{name}](../{name}/README.md)" for name in shared)
        parts += ["", f"The role also uses the variables of {links}."]
    others = {name: spec for name, spec in found.items() if name != "main"}
    if others:
        parts += [
            "",
            "## Entry points",
            "",
            "Entry points for `tasks_from` in addition to `main`, with the same variables:",
            "",
        ]
        parts += [f"- `{name}`: {paragraph(spec['description'])}" for name, spec in others.items()]
    return "\n".join(parts) + "\n"


def dependencies(role: str) -> set[str]:
    meta = yaml.safe_load((ROOT / "roles" / role / "meta/main.yml").read_text())
    direct = {item["role"].rsplit(".", 1)[1] for item in meta["dependencies"]}
    return direct.union(*(dependencies(name) for name in direct)) if direct else direct


def variables() -> str:
    parts = [INTRODUCTION]
    for role in ORDER:
        main = specs(role)["main"]
        parts += ["", f"## {role}", "", f"{main['short_description']}.", "", table(role)]
    return "\n".join(parts) + "\n"


def pages() -> dict[pathlib.Path, str]:
    found = {ROOT / "docs/variables.md": variables()}
    for role in ORDER:
        path = ROOT / "roles" / role / "README.md"
        found[path] = readme(role, path.read_text() if path.exists() else f"# {role}\n")
    return found


def disagreements() -> list[str]:
    """Return the differences between the roles' defaults and their argument specs."""
    found = [f"roles/{role} is not in ORDER" for role in roles() if role not in ORDER]
    for role in ORDER:
        given, main = defaults(role), specs(role)["main"]["options"]
        documented = {name: option["default"] for name, option in main.items() if "default" in option}
        required = {name for name, option in main.items() if option.get("required")}
        for name in sorted(given.keys() | documented.keys()):
            if name in required or (name not in documented and computed(given[name], main.get(name, {}))):
                continue
            if given.get(name) != documented.get(name) or (name in given) != (name in documented):
                found.append(
                    f"{role}: {name} is {given.get(name)!r} in defaults, {documented.get(name)!r} in the specs"
                )
        for name, spec in specs(role).items():
            if name != "main" and spec["options"]:
                found.append(f"{role}: the options of entry point {name} belong to main, from which all take them")
    return found


def roles() -> list[str]:
    return sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/main.yml"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="print the pages that are out of date and change nothing")
    check = parser.parse_args().check
    wrong = disagreements()
    for path, text in pages().items():
        if path.exists() and path.read_text() == text:
            continue
        if check:
            wrong.append(f"{path.relative_to(ROOT)} is out of date: run python scripts/role_docs.py")
        else:
            path.write_text(text)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
