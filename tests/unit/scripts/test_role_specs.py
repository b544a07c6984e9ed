# SPDX-License-Identifier: Apache-2.0
"""Test that the files generated from the description of the variables are valid for Ansible."""

from __future__ import annotations

import sys

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import values
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import ROLES
from ansible_collections.mlplatform.gcp.scripts import role_specs

EVERY = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
# Other roles only depend on a role without entry points.
CALLED = pytest.mark.parametrize(
    "role", [role for role in ROLES.values() if role.main or role.entry_points], ids=lambda role: role.name
)
TEXT = {"int": "1", "float": "0.5", "bool": "yes", "list": "a\nb", "dict": "a=b", "str": "a", "path": "a"}


def options(role):
    """Return the options of the first entry point."""
    entry_points = yaml.safe_load(role_specs.specs(role))["argument_specs"]
    return next(iter(entry_points.values()))["options"]


def errors(role, variables):
    return ArgumentSpecValidator(options(role)).validate(variables).error_messages


@CALLED
def test_every_variable_and_entry_point_is_in_the_spec(role):
    spec = yaml.safe_load(role_specs.specs(role))["argument_specs"]
    assert list(spec) == ["main"] * role.main + [entry.name for entry in role.entry_points]
    assert list(options(role)) == [variable.name for variable in role.variables]


@EVERY
def test_the_entry_points_of_a_role_are_files_of_tasks(role):
    tasks = role_specs.ROOT / "roles" / role.name / "tasks"
    assert role.main == (tasks / "main.yml").exists()
    assert all((tasks / f"{entry.name}.yml").exists() for entry in role.entry_points)


def test_a_role_without_entry_points_has_no_spec():
    assert role_specs.specs(ROLES["gcp"]) == ""
    assert not (role_specs.ROOT / "roles/gcp/meta/argument_specs.yml").exists()


@CALLED
def test_defaults_are_those_of_the_spec(role):
    defaults = yaml.safe_load(role_specs.defaults(role)) or {}
    assert defaults == {name: option["default"] for name, option in options(role).items() if "default" in option}


@CALLED
def test_defaults_are_accepted(role):
    known, problems, _deprecated = values.read({})
    given = {item.name: known[item.name] for item in role.variables if known[item.name] is not None}
    required = [item.name for item in role.variables if item.required]
    found = errors(role, given)
    assert problems == []
    assert len(found) == bool(required)
    assert all(name in found[0] for name in required)


@pytest.mark.parametrize(
    "role", [role for role in ROLES.values() if role.text and role.name != "gcp"], ids=lambda role: role.name
)
def test_text_is_accepted_where_preflight_reads_it(role):
    assert errors(role, {variable.name: TEXT[variable.type] for variable in role.variables}) == []


def test_other_roles_refuse_what_is_not_a_choice():
    found = errors(ROLES["bucket"], {"bucket_name": "b", "bucket_storage_class": "COLD"})
    assert len(found) == 1 and "bucket_storage_class" in found[0]


def test_times_and_templates_are_quoted():
    text = role_specs.defaults(ROLES["cloudsql"])
    assert 'cloudsql_backup_start_time: "02:00"' in text
    assert 'cloudsql_region: "{{ gcp_region }}"' in text


def test_an_outdated_file_is_reported_and_written(tmp_path, monkeypatch, capsys):
    for name in ROLES:
        for folder in ("meta", "defaults"):
            (tmp_path / "roles" / name / folder).mkdir(parents=True)
        (tmp_path / "roles" / name / "meta/main.yml").touch()
    (tmp_path / "roles/stray/meta").mkdir(parents=True)
    monkeypatch.setattr(role_specs, "ROOT", tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["role_specs.py", *arguments])
        return role_specs.main(), capsys.readouterr().out

    assert run("--check", "bucket") == (
        1,
        "".join(
            f"roles/bucket/{name} is out of date: run python scripts/role_specs.py\n"
            for name in ("meta/argument_specs.yml", "defaults/main.yml")
        ),
    )
    assert run() == (0, "")
    assert run("--check") == (0, "")
    (tmp_path / "roles/stray/meta/main.yml").touch()
    assert run("--check") == (1, "role stray is in roles/ or in the description, not in both\n")


def test_the_files_of_the_roles_are_up_to_date():
    outdated = [path for path, text in role_specs.files(ROLES).items() if text and path.read_text() != text]
    assert outdated == []
