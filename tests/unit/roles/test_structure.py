# SPDX-License-Identifier: Apache-2.0
"""The layers of roles: building blocks stand alone, arrows point down, and decisions are made in Python."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDERS = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
NAMES = [path.name for path in FOLDERS]
COLLECTION = "mlplatform.gcp."
PRIVATE = re.compile(r"\b__([a-z][a-z0-9_]*)")
# From the lowest layer to the highest. A role uses roles of lower layers only.
LAYERS = (
    ("gcp",),
    (
        "gcp_apis",
        "cloudsql",
        "bucket",
        "secrets",
        "service_accounts",
        "iap_brand",
        "mlflow_image",
        "preflight",
        "mlflow_verify",
    ),
    ("mlflow", "gcp_data_plane"),
    tuple(target.role.removeprefix(COLLECTION) for target in TARGETS.values()),
)
ENTRY_POINTS = {"run", "access", "verify", "status", "restart", "retire", "absent"}
# What chooses, loops or sets: what it computes belongs into the model.
STATEMENTS = (
    jinja2.nodes.For,
    jinja2.nodes.If,
    jinja2.nodes.CondExpr,
    jinja2.nodes.Assign,
    jinja2.nodes.AssignBlock,
)


def files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The YAML that a role runs; its argument specs describe and decide nothing."""
    for part in ("tasks", "vars", "defaults", "handlers", "meta"):
        for path in sorted((folder / part).glob("*.yml")):
            if path.name != "argument_specs.yml":
                yield path


def texts(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document with the keys that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{at}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, at)
    elif isinstance(value, str):
        yield at, value


def expressions(value: Any) -> Iterator[tuple[str, str]]:
    """Every template of a document; conditions are expressions without braces."""
    for at, text in texts(value):
        key = at.rsplit(".", 1)[-1]
        if key in ("when", "that", "failed_when", "changed_when", "until"):
            yield at, "{{ " + text + " }}"
        elif "{{" in text or "{%" in text:
            yield at, text


def parsed(template: str) -> jinja2.nodes.Template:
    """A template, with filters by their short names: Jinja alone knows none with a dot."""
    return jinja2.Environment(autoescape=True).parse(re.sub(r"\|\s*[a-z_]+\.[a-z_]+\.", "| ", template))


def filters(template: str) -> int:
    """The largest number of filters in one expression of a template."""
    outputs = [node for output in parsed(template).find_all(jinja2.nodes.Output) for node in output.nodes]
    counts = [
        sum(1 for found in node.find_all(jinja2.nodes.Filter)) + isinstance(node, jinja2.nodes.Filter)
        for node in outputs
    ]
    return max(counts, default=0)


def roles_used(folder: pathlib.Path) -> set[str]:
    """Roles of this collection that a role depends on or includes."""
    found = set()
    for path in files(folder):
        for at, text in texts(yaml.safe_load(path.read_text())):
            key = at.rsplit(".", 1)[-1]
            if text.startswith(COLLECTION) and (key in ("role", "name")) and text.count(".") == 2:
                found.add(text.removeprefix(COLLECTION))
    return found


def test_every_role_has_a_layer_and_a_description():
    assert sorted(name for layer in LAYERS for name in layer) == NAMES
    assert sorted(ROLES) == NAMES


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_role_uses_lower_layers_only(folder):
    level = next(number for number, layer in enumerate(LAYERS) if folder.name in layer)
    # The compositions read the project with a building block; between themselves there is no arrow.
    lower = {name for layer in LAYERS[:level] for name in layer}
    assert roles_used(folder) <= lower


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_private_variables_stay_in_their_role(folder):
    others = {
        name
        for path in files(folder)
        for name in PRIVATE.findall(path.read_text())
        if not name.startswith(f"{folder.name}_")
    }
    assert not others, f"roles/{folder.name} reads private variables of others"


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_a_role_decides_nothing(folder):
    """An expression that is longer than one filter decides something, and so does a statement of Jinja."""
    found = []
    for path in files(folder):
        for at, template in expressions(yaml.safe_load(path.read_text())):
            if filters(template) > 1 or any(True for found in parsed(template).find_all(STATEMENTS)):
                found.append(f"{path.relative_to(ROOT)} {at}: {template}")
    assert not found, "\n".join(found)


def test_the_check_sees_decisions():
    assert filters("{{ a | default(1) }}") == 1
    assert filters("{{ a | default('') | length > 0 }}") == 2
    assert filters("{{ (a | int) + (b | int) }}") == 2


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_a_target_has_every_entry_point(target):
    folder = ROOT / "roles" / target.role.removeprefix(COLLECTION)
    assert {path.stem for path in (folder / "tasks").glob("*.yml")} >= ENTRY_POINTS
    described = {entry.name for entry in ROLES[folder.name].entry_points}
    assert described == ENTRY_POINTS


def test_playbooks_name_no_target():
    """The playbooks read the target's role from the deployment; two of them fix the target and nothing else."""
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        plays = yaml.safe_load(path.read_text())
        used = {text for at, text in texts(plays) if text.startswith(COLLECTION) and text.endswith("_mlflow")}
        assert not used, path
        if path.stem in TARGETS:
            assert [set(play) for play in plays] == [{"name", "ansible.builtin.import_playbook", "vars"}]
