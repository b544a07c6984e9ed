# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the roles' variables into each role's README and docs/variables.md.

The source is plugins/module_utils/_deployment/roles/. With --check nothing is written, and the exit status is 1 when a
page is out of date.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKER = "<!-- variables -->"

INTRODUCTION = """\
# Variables

All variables of all roles, generated from `plugins/module_utils/_deployment/roles` by `scripts/role_docs.py`. A
deployment needs only `gcp_project`, `gcp_region` and `mlflow_access_members`.
[inventories/example](../inventories/example) shows the others.

Set the variables for a host or a group in the inventory. This includes the variables of building blocks
(`cloudsql_...`, `bucket_...`), which the deployment reads and passes on.

The playbooks accept text for a value of any type, as AWX surveys and `-e name=value` send it. A list is one entry a
line, entries between commas, JSON or YAML. A mapping is one `NAME=VALUE` a line, JSON or YAML. Preflight reports a
value that does not fit, with the name of its variable, before anything is changed.

A name that begins like a variable of a role, and that no role knows, is a warning with the nearest known name. With
`mlflow_strict_variables: true` it is an error.

## Values of secrets

All parts of the collection read the payload of a secret by one rule: modules, the lookup, the verification and the
entrypoint of the image. The value is the payload as UTF-8 text without the line breaks at its end. Everything else is
part of the value, spaces included. A payload that is empty by this rule, or not text, is an error that names
the secret.

Cloud Run passes payloads to the server unchanged. So the password of a database user and MLflow's login must not end in
a line break: `printf %s VALUE | gcloud secrets versions add SECRET --data-file=-` adds a version without one.

## Projects of a domain

`gcp_project: example.com:my-project` is the id of a legacy project of a domain. It becomes part of names like this:

| name | form |
|---|---|
| accounts | `demo-dev-server@my-project.example.com.iam.gserviceaccount.com` |
| buckets, where no variable names them | `example_com_my-project-demo-dev-artifacts` |
| images | `REGION-docker.pkg.dev/example.com/my-project/demo-dev/mlflow` |
| Cloud SQL | `example.com:my-project:REGION:demo-dev` |
| App Engine | the host that the application returns, such as `my-project.example.com.ew.r.appspot.com` |

Google's certificate for `appspot.com` covers one level of names. Where it does not cover the host of the application,
`deploy.yml` reports that the server does not answer. Use `mlflow_target: cloudrun` then."""

REPLACED = """\
## Replaced names

These names of release 0.2.0 still work and warn, those of a target on that target only."""


def prose(text: str) -> str:
    """Convert Ansible's markup to Markdown."""
    text = re.sub(r"\b[OVC]\(([^)]*)\)", r"`\1`", text)
    return re.sub(r"\bM\(([^)]*)\)", r"`\1`", text)


def paragraph(description: Iterable[str]) -> str:
    return prose(" ".join(description))


def value(default: Any) -> str:
    if default is None:
        return "unset"
    if isinstance(default, str):
        return f"`{default}`" if default else "empty"
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`"


def limits(variable: Variable) -> Iterator[str]:
    """Yield the sentences that say which values a variable can have."""
    if variable.choices:
        yield f"One of {', '.join(f'`{choice}`' for choice in variable.choices)}."
    if variable.minimum is not None and variable.maximum is not None:
        yield f"From {variable.minimum:g} to {variable.maximum:g}."
    elif variable.minimum is not None:
        yield f"At least {variable.minimum:g}."


def meaning(variable: Variable) -> str:
    text = " ".join([paragraph(variable.description), *limits(variable)])
    return text + "".join(keys(variable, ""))


def keys(variable: Variable, at: str) -> Iterator[str]:
    """Yield a line for each key of a mapping, and for the keys of mappings inside it."""
    for inner in variable.options:
        needed = "" if inner.required else ", optional"
        text = " ".join([paragraph(inner.description), *limits(inner)])
        yield f"<br>`{at}{inner.name}` ({inner.kind}{needed}): {text}"
        yield from keys(inner, f"{at}{inner.name}.")


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(role: RoleSpec) -> str:
    rows = [
        row(f"`{item.name}`", item.kind, "required" if item.required else value(item.default), meaning(item))
        for item in role.variables
    ]
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows])


def replaced() -> str:
    rows = [
        row(f"`{old}`", f"`{item.name}`") for role in ROLES.values() for item in role.variables for old in item.replaces
    ]
    return "\n".join([REPLACED, "", "| name | replaced by |", "|---|---|", *rows])


def readme(role: RoleSpec, text: str) -> str:
    """Return `text`, a README, with what follows the marker written again."""
    parts = [text.split(MARKER)[0].rstrip(), "", MARKER]
    if role.variables:
        parts += ["## Variables", "", table(role)]
    shared = ["gcp"] * ("gcp" in dependencies(role.name)) + ["mlflow"] * bool(role.target)
    if shared:
        links = " and ".join(f"[{name}](../{name}/README.md)" for name in shared)
        parts += ["", f"And those of {links}, which all roles share."]
    if role.entry_points:
        which = "Besides `main`, for" if role.main else "For"
        parts += ["", "## Entry points", "", f"{which} `tasks_from`; they take the same variables:", ""]
        parts += [f"- `{entry.name}`: {paragraph(entry.description)}" for entry in role.entry_points]
    return "\n".join(parts) + "\n"


def dependencies(role: str) -> set[str]:
    meta = yaml.safe_load((ROOT / "roles" / role / "meta/main.yml").read_text())
    direct = {item["role"].rsplit(".", 1)[1] for item in meta["dependencies"]}
    return direct.union(*(dependencies(name) for name in direct)) if direct else direct


def variables() -> str:
    parts = [INTRODUCTION]
    for role in ROLES.values():
        if role.variables:
            parts += ["", f"## {role.name}", "", f"{role.short_description}.", "", table(role)]
    return "\n".join([*parts, "", replaced()]) + "\n"


def pages() -> dict[pathlib.Path, str]:
    found = {ROOT / "docs/variables.md": variables()}
    for role in ROLES.values():
        path = ROOT / "roles" / role.name / "README.md"
        found[path] = readme(role, path.read_text() if path.exists() else f"# {role.name}\n")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, list what is out of date")
    check = parser.parse_args().check
    wrong = []
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
