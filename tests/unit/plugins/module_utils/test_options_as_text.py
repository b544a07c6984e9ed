# SPDX-License-Identifier: Apache-2.0
"""Test that each map of strings has strings, whatever YAML reads its values as."""

from __future__ import annotations

import datetime
import importlib
import pathlib

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _values
from ansible_collections.mlplatform.gcp.plugins.modules import secret
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

pytestmark = pytest.mark.inputs

MODULES = sorted(
    path.stem for path in (pathlib.Path(_scripted.__file__).resolve().parents[3] / "plugins/modules").glob("*.py")
)
# Options of the type dict without suboptions that are no maps of strings.
OTHERS = {
    "app_engine_service": ["allocations"],
    "deployment": ["existing", "variables"],
    "storage_bucket": ["lifecycle_rules.action", "lifecycle_rules.condition"],
}
AS_WRITTEN = [
    ("text", "text"),
    (4711, "4711"),
    (True, "true"),
    (False, "false"),
    (1.5, "1.5"),
    (2.0, "2.0"),
    (1e16, "10000000000000000"),
    (0.00001, "0.00001"),
    (datetime.date(2026, 11, 27), "2026-11-27"),
]


def maps(arguments, prefix=""):
    """Yield the options of the type dict without suboptions."""
    for name, spec in arguments.items():
        if spec.get("options"):
            yield from maps(spec["options"], f"{prefix}{name}.")
        elif spec.get("type") == "dict":
            yield f"{prefix}{name}"


@pytest.mark.parametrize(("value", "text"), AS_WRITTEN)
def test_a_value_is_the_text_that_was_written(value, text):
    found = _values.with_texts(
        {"labels": {"key": value, "unset": None}, "size": value, "secrets": [{"template_secrets": {1: value}}]}
    )
    assert found == {"labels": {"key": text}, "size": value, "secrets": [{"template_secrets": {"1": text}}]}


@pytest.mark.parametrize("name", MODULES)
def test_each_map_of_a_module_is_one_of_strings_or_known_as_another(name):
    module = importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{name}")
    others = {*_values.MAPS, "lock"}  # the lock comes from the module deployment
    found = {option for option in maps(module.OPTIONS.arguments) if option.rpartition(".")[2] not in others}
    assert sorted(found) == OTHERS.get(name, [])


def test_flags_of_cloud_sql_are_on_and_off():
    assert _values.with_texts({"flags": {"a": True, "b": False, "c": 1}}) == {
        "flags": {"a": "on", "b": "off", "c": "1"}
    }


@pytest.mark.parametrize(("value", "words"), [([1], "a list"), ({"a": 1}, "a mapping")])
def test_a_value_that_is_no_text_is_an_error_before_any_request(cloud, value, words):
    with pytest.raises(_scripted.Failed, match=rf"labels.team is {words}, and its value must be text"):
        cloud.run(secret, name="s", labels={"team": value})


def test_a_number_of_a_label_is_sent_as_text(cloud):
    cloud.expect_error("GET", ".../secrets/s", 404)
    labels = {"cost-center": "4711", "audited": "true"}
    cloud.expect("POST", ".../secrets", sent={"replication": {"automatic": {}}, "labels": labels}, body={"name": "s"})
    cloud.run(secret, name="s", labels={"cost-center": 4711, "audited": True})
