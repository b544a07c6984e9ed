# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat

import pytest
from ansible.plugins.loader import lookup_loader
from ansible_collections.mlplatform.gcp.plugins.module_utils import _plan
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import changes


def entry(action="change", name="projects/p/secrets/s", fields=(), implies=(), kind="secret"):
    return _plan.entry(kind, name, action, fields, implies)


def row(path, before=None, after=None):
    return {"path": path, "before": before, "after": after}


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (("create", "change"), "create"),
        (("change", "create"), "create"),
        (("change", "change"), "change"),
        (("adopt", "change"), "adopt"),
        (("change", "adopt"), "adopt"),
        (("change", "delete"), "delete"),
        (("delete", "create"), "create"),
    ],
)
def test_one_entry_a_resource(actions, expected):
    merged = changes.merge([entry(action) for action in actions] + [entry("delete", name="other")])
    assert [item["action"] for item in merged] == [expected, "delete"]


def test_a_field_that_changes_twice_is_merged():
    first = entry(fields=[row("a", 1, 2), row("b", 5, 6)], implies=["x"])
    second = entry(fields=[row("a", 2, 3), row("c", None, 1)], implies=["x", "y"])
    (merged,) = changes.merge([first, second])
    assert merged["fields"] == [row("a", 1, 3), row("b", 5, 6), row("c", None, 1)]
    assert merged["implies"] == ["x", "y"]
    assert changes.merge([first, entry("delete")])[0]["fields"] == []


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("projects/p/secrets/s", "s"),
        ("projects/p/locations/l/services/mlflow", "mlflow"),
        ("projects/p/instances/i/databases/d", "i/d"),
        ("projects/p", "p"),
        ("apps/p", "p"),
        ("apps/p/services/default/versions/v1", "default/v1"),
        ("b/bucket", "bucket"),
        ("europe-docker.pkg.dev/p/r/image:1", "europe-docker.pkg.dev/p/r/image:1"),
        ("projects/p/odd", "projects/p/odd"),
        ("", ""),
    ],
)
def test_short_names(name, short):
    assert changes.short_name(name) == short


def test_a_list_shows_what_comes_and_goes():
    lines = changes.describe(entry(fields=[row("roles/x", ["user:a", "user:b"], ["user:b", "user:c"])]))
    assert lines[1:] == ["    roles/x  + user:c", "             - user:a"]
    lines = changes.describe(entry(fields=[row("args", ["a", "b"], ["b", "a"])]))
    assert lines[1:] == ["    args  a, b -> b, a"]
    lines = changes.describe(entry(fields=[row("args", None, ["a"])]))
    assert lines[1:] == ["    args  + a"]


def test_a_new_resource_leaves_out_defaults_labels_and_repetitions():
    labels = {"managed-by": "us", "env": "dev"}
    fields = [
        row("name", None, "s"),
        row("settings.userLabels.managed-by", None, "us"),
        row("labels.env", None, "prod"),
        row("description", None, "env=dev managed-by=us"),
        row("policies.keep.id", None, "keep"),
        row("zero", None, 0),
        row("none", None, []),
        row("on", None, True),
    ]
    lines = changes.describe(entry("create", fields=fields), labels)
    assert lines[1:] == ["    labels.env  prod", "    on          true"]
    assert len(changes.describe(entry("create", fields=fields), labels, full=True)) == 1 + len(fields)


def test_a_label_that_changes_is_shown():
    lines = changes.describe(entry(fields=[row("labels.env", "prod", "dev")]), {"env": "dev"})
    assert lines[1:] == ["    labels.env  prod -> dev"]


def test_a_long_list_of_a_new_resource_shows_its_keys():
    names = [f"V{number}" for number in range(changes._MANY)]
    fields = [row(f"box[0].env[{name}].{key}", None, name) for name in names for key in ("name", "value")]
    fields += [row("box[0].mounts[sql].path", None, "/sql")]
    lines = changes.describe(entry("create", fields=fields))
    assert [line.split() for line in lines[1:]] == [
        ["box[0].env", "V0,", "V1,", "V2,", "V3,", "V4"],
        ["box[0].mounts[sql].path", "/sql"],
    ]
    assert len(changes.describe(entry("change", fields=fields))) == 1 + len(fields)


def test_long_and_odd_values():
    fields = [row("long", "x" * 500, "a\nb"), row("text", "", " padded "), row("map", {"a": 1}, None)]
    lines = changes.describe(entry(fields=fields))
    assert max(map(len, lines)) < 200
    assert '"a\\nb"' in "".join(lines) and '"" -> " padded "' in lines[-2] and '{"a": 1} -> (not set)' in lines[-1]
    assert "x" * 500 in "".join(changes.describe(entry(fields=fields), full=True))


def test_a_hidden_value_stays_hidden():
    lines = changes.describe(entry(fields=[row("hash", "(not shown)", "(not shown)")]))
    assert lines[1:] == ["    hash  (not shown)"]


def test_common_labels_are_those_of_several_new_resources():
    one = [row("labels.env", None, "dev"), row("labels.only", None, "1")]
    two = [row("settings.userLabels.env", None, "dev")]
    old = [row("labels.old", "x", "y")] * 2
    entries = [entry("create", fields=one), entry("adopt", fields=two), entry(fields=old), entry(fields=old)]
    assert changes.common_labels(entries) == {"env": "dev"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(changes.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def test_records_are_merged_by_host(folder):
    changes.record("a/b", [entry("create")])
    changes.record("a/b", [entry(fields=[row("value", None, "(not shown)")])])
    changes.record("c", [])
    (merged,) = changes.recorded("a/b")
    assert merged["action"] == "create" and merged["fields"][0]["path"] == "value"
    assert changes.recorded("c") == []
    assert stat.S_IMODE((folder / "mlplatform-gcp-changes").stat().st_mode) == 0o700


def test_a_censored_record_has_no_fields(folder):
    changes.record("a", [entry(fields=[row("token", None, "s3cret")])], censored=True)
    assert "s3cret" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert changes.recorded("a")[0]["fields"] == []


def test_the_lookup_returns_entries_or_lines(folder):
    changed = entry(fields=[row("a", 1, 2), row("b", 1, 2)])
    changes.record("demo", [changed, entry("delete", name="projects/p/secrets/t")])
    lookup = lookup_loader.get("mlplatform.gcp.changes")
    variables = {"inventory_hostname": "demo"}
    assert lookup.run([], variables)[0] == changed
    assert lookup.run([], variables, brief=True) == ["~ secret s: a, b", "- secret t"]
    assert lookup.run(["other", "demo"], variables, brief=True) == ["~ secret s: a, b", "- secret t"]
    assert lookup.run([], {"inventory_hostname": "other"}) == []
