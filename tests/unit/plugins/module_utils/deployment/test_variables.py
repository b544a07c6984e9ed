# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import validation, variables
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import shown

ROOT = pathlib.Path(__file__).resolve().parents[5]
TYPES = {"str", "int", "float", "bool", "list", "dict", "path"}
EVERY = list(variables.all_variables().values())


def nested(variable):
    yield variable
    for option in variable.options:
        yield from nested(option)


def test_every_role_is_described():
    assert set(variables.ROLES) == {path.parent.parent.name for path in ROOT.glob("roles/*/meta/main.yml")}


@pytest.mark.parametrize("role", variables.ROLES.values(), ids=variables.ROLES)
def test_descriptions_are_complete(role):
    names = [variable.name for variable in role.variables]
    assert len(names) == len(set(names))
    assert role.short_description and role.description
    for variable in role.variables:
        assert variable.name.startswith(f"{role.name}_")
        for item in nested(variable):
            assert item.type in TYPES, item.name
            assert (item.type == "list") <= bool(item.elements), item.name
            assert item.description and all(text.endswith((".", ")")) for text in item.description), item.name
            assert (item.minimum is None) == (item.maximum is None), item.name
            assert not (item.required and item.default is not None), item.name
            assert not item.rule or item.rule in {*validation.RULES, *validation.MAPPINGS}, item.name
            assert item.default in (None, "", *item.choices) or not item.choices, item.name


def test_every_rule_is_used():
    used = {item.rule for variable in EVERY for item in nested(variable)}
    assert {*validation.RULES, *validation.MAPPINGS} - used == {"secret_reference"}  # that of another rule


def test_no_variable_holds_a_template_of_another_role():
    allowed = {"gcp_region", "inventory_hostname", "ansible_playbook_python", "lookup", "ansible", "builtin", "env"}
    for variable in EVERY:
        if variable.templated:
            words = set(re.findall(r"[a-z_]+", variable.default.lower()))
            assert words <= allowed | {"gcp_project"}, variable.name


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("mlflow_memroy", "mlflow_memory"),
        ("cloudsql_teir", "cloudsql_tier"),
        ("gcp_projekt", "gcp_project"),
        ("cloudrun_mlflow_concurency", "cloudrun_mlflow_concurrency"),
        ("appengine_mlflow_memory_gbs", "appengine_mlflow_memory_gb"),
        ("bucket_lifecycle_rule", "bucket_lifecycle_rules"),
    ],
)
def test_unknown_names_are_reported_with_the_nearest(name, like):
    (problem,) = variables.unknown([name])
    assert problem.variable == name
    assert name in problem.what and f"Did you mean {like}?" in problem.next


def test_what_is_like_nothing_is_reported_without_advice():
    (problem,) = variables.unknown(["secrets_of_the_universe_and_more"])
    assert "Did you mean" not in problem.next and "docs/variables.md" in problem.next


@pytest.mark.parametrize(
    "name",
    [
        *("mlflow_name", "cloudrun_mlflow_cpu", "appengine_mlflow_memory_gb", "preflight_report", "secrets_managed"),
        *("__mlflow_private", "ansible_host", "my_variable", "gcp_zone", "gcp_scopes", "gcp_in_controller", 5, None),
    ],
)
def test_other_names_are_not(name):
    assert variables.unknown([name]) == []


def test_names_are_described():
    assert variables.describe("mlflow_cpu").replaces == ("cloudrun_mlflow_cpu", "appengine_mlflow_cpu")
    assert variables.describe("nothing") is None
    assert variables.replaced()["appengine_mlflow_memory_gb"].name == "mlflow_memory"
    assert variables.target_of("cloudrun_mlflow_cpu") == "cloudrun"
    assert variables.target_of("mlflow_cpu") == ""
    assert variables.nearest("zzz") is None
    assert "cloudsql_" in variables.prefixes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", '"a\\nb"'),
        pytest.param(10**5000, "<int>", id="huge"),
        ({1: object()}, '{"1": "<object>"}'),
        ("x" * 500, '"' + "x" * 116 + "..."),
    ],
)
def test_values_are_shown_on_one_short_line(value, text):
    assert shown(value) == text
