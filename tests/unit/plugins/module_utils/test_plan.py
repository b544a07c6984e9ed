# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ImmutableFieldError
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN, Rules, plan, prune


@pytest.mark.parametrize(
    ("desired", "existing"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": "1"}, {"a": 1}),
        ({"a": "3600s"}, {"a": "3600.000s"}),
        ({"a": "2026-01-01T00:00:00Z"}, {"a": "2026-01-01T00:00:00.000000Z"}),
        ({"a": "2026-01-01T00:00:00Z"}, {"a": "2026-01-01T00:00:00.0+00:00"}),
        ({"a": False, "b": 0, "c": "", "d": [], "e": {}, "f": "0s"}, {}),
        ({"a": "TYPE_UNSPECIFIED"}, {}),
        ({"a": None}, {"a": 3}),
        ({"a": {"b": None}}, {}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "filled": "by the server"}]}),
        ({"a": 1.0}, {"a": 1}),
    ],
)
def test_means_the_same(desired, existing):
    assert not plan(desired, existing).changed


@pytest.mark.parametrize(
    ("desired", "existing"),
    [
        ({"a": 1}, {}),
        ({"a": True}, {"a": "true"}),
        ({"a": 0}, {"a": False}),
        ({"a": False}, {"a": True}),
        ({"a": "3600s"}, {"a": "60s"}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": []}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": "text"}),
        ({"a": "A"}, {"a": "a"}),
        ({"a": [{"b": 1}]}, {"a": ["text"]}),
        ({"a": [1]}, {"a": "text"}),
    ],
)
def test_differs(desired, existing):
    assert plan(desired, existing).action == "update"


def test_actions():
    assert plan({"a": 1}, None).action == "create"
    assert plan(None, {"a": 1}).action == "delete"
    assert plan(None, None).action == ""
    assert plan({"a": 1}, {"a": 1}).action == ""


def test_prune_drops_what_is_not_set():
    assert prune({"a": None, "b": {"c": None}, "d": {}, "e": [{"f": None, "g": 1}]}) == {"d": {}, "e": [{"g": 1}]}


def test_keyed_lists_have_no_order():
    rules = Rules(keyed={"flags": "name"})
    existing = {"flags": [{"name": "a", "value": "1"}, {"name": "b", "value": "2", "more": 1}]}
    assert not plan({"flags": [{"name": "b", "value": "2"}, {"name": "a", "value": "1"}]}, existing, rules).changed
    changed = plan({"flags": [{"name": "b", "value": "3"}, {"name": "c", "value": "1"}]}, existing, rules)
    assert changed.diff()["before"] == {"flags": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}
    assert changed.patch(1) == {"flags": [{"name": "b", "value": "3"}, {"name": "c", "value": "1"}]}


def test_unordered_lists():
    rules = Rules(unordered=("a", "a.b"))
    assert not plan({"a": [1, 2]}, {"a": [2, 1]}, rules).changed
    assert plan({"a": [1, 1]}, {"a": [2, 1]}, rules).changed
    assert not plan({"a": [{"b": [1, 2]}, {"b": [3]}]}, {"a": [{"b": [3]}, {"b": [2, 1], "c": 1}]}, rules).changed


def test_whole_maps_lose_other_keys():
    rules = Rules(whole=("labels",))
    existing = {"labels": {"a": "1", "b": "2"}, "other": 1}
    assert not plan({"labels": {"a": "1", "b": "2"}}, existing, rules).changed
    change = plan({"labels": {"a": "1"}}, existing, rules)
    assert change.patch(1) == {"labels": {"a": "1"}}
    assert change.patch(1, nulls=True) == {"labels": {"a": "1", "b": None}}
    assert change.after == {"labels": {"a": "1"}, "other": 1}
    assert change.diff()["before"] == {"labels": {"a": "1", "b": "2"}}


def test_other_maps_keep_other_keys():
    change = plan({"labels": {"a": "2", "c": "3"}}, {"labels": {"a": "1", "b": "2"}, "other": 1})
    assert change.changed_paths(1) == ["labels"]
    assert change.changed_paths(2) == ["labels.a", "labels.c"]
    assert change.patch(1) == {"labels": {"a": "2", "b": "2", "c": "3"}}
    assert change.patch(2) == {"labels": {"a": "2", "c": "3"}}
    assert change.diff() == {"before": {"labels": {"a": "1"}}, "after": {"labels": {"a": "2", "c": "3"}}}


def test_presence_of_an_empty_message():
    rules = Rules(presence=("kind.automatic",))
    assert plan({"kind": {"automatic": {}}}, {"kind": {"managed": {"x": 1}}}, rules).changed
    assert not plan({"kind": {"automatic": {}}}, {"kind": {"automatic": {"key": "k"}}}, rules).changed


def test_write_only_is_sent_and_hidden_and_never_compared():
    rules = Rules(write_only=("password",))
    assert not plan({"password": "x"}, {"name": "n"}, rules).changed
    create = plan({"password": "x", "name": "n"}, None, rules)
    assert create.after["password"] == "x"
    assert create.diff()["after"] == {"password": HIDDEN, "name": "n"}
    update = plan({"password": "x", "size": 2}, {"size": 1}, rules)
    assert update.after["password"] == "x"
    assert update.patch(1) == {"size": 2}


def test_what_the_service_does_not_tell_is_as_it_should():
    rules = Rules(may_omit=("image",), immutable={"image": "Make another."})
    assert not plan({"image": "a"}, {"name": "n"}, rules).changed
    assert plan({"image": "a", "size": 2}, {"size": 1}, rules).after == {"image": "a", "size": 2}
    with pytest.raises(ImmutableFieldError):
        plan({"image": "a"}, {"image": "b"}, rules)


def test_part_of_what_cannot_be_changed_can():
    rules = Rules(immutable={"scaling": "Make another."}, mutable=("scaling.least",))
    assert plan({"scaling": {"least": 2, "kind": "a"}}, {"scaling": {"least": 1, "kind": "a"}}, rules).changed
    with pytest.raises(ImmutableFieldError) as raised:
        plan({"scaling": {"least": 2, "kind": "a"}}, {"scaling": {"least": 1, "kind": "b"}}, rules)
    assert raised.value.facts["fields"] == ["scaling.kind"]


def test_normalise():
    rules = Rules(normalise={"location": lambda text: text and text.upper()})
    assert not plan({"location": "eu"}, {"location": "EU"}, rules).changed
    assert plan({"location": "eu"}, {"location": "US"}, rules).changed
    assert plan({"location": "eu"}, {}, rules).changed


def test_immutable_fields_say_everything():
    rules = Rules(immutable={"region": "Make another.", "settings.disk": "Copy it.", "kept": ""})
    with pytest.raises(ImmutableFieldError) as raised:
        plan(
            {"region": "b", "settings": {"disk": {"type": "HDD"}}, "kept": 1},
            {"region": "a", "kept": 1},
            rules,
            name="instance x",
        )
    text = str(raised.value)
    assert 'instance x: region cannot be changed from "a" to "b"' in text
    assert 'settings.disk.type cannot be changed from null to "HDD"' in text
    assert text.endswith("Make another. Copy it.")
    assert raised.value.facts["fields"] == ["region", "settings.disk.type"]


def test_unchanged_parts_look_the_same_on_both_sides():
    diff = plan({"a": "3600s", "n": 5, "m": {"x": 1}}, {"a": "3600.0s", "n": "4", "m": {"x": "1", "y": 2}}).diff("t")
    assert diff["before"] == {"a": "3600s", "n": "4", "m": {"x": 1}}
    assert diff["after"] == {"a": "3600s", "n": 5, "m": {"x": 1}}
    assert diff["before_header"] == "t"


def test_elements_of_a_list_that_differs_are_cut_to_what_is_set():
    change = plan(
        {"list": [{"image": "b"}, {"image": "c"}, 3]},
        {"list": [{"image": "a", "default": 1}, "text"]},
    )
    assert change.diff()["before"] == {"list": [{"image": "a"}, "text"]}
    assert change.after == {"list": [{"image": "b"}, {"image": "c"}, 3]}


def test_a_delete_shows_what_goes():
    assert plan(None, {"a": 1, "pw": 2}, Rules(write_only=("pw",))).diff() == {
        "before": {"a": 1, "pw": HIDDEN},
        "after": {},
    }


def test_a_create_without_fields_shows_its_name():
    assert plan({}, None).diff("t", "projects/p/secrets/s")["after"] == {"name": "projects/p/secrets/s"}


def test_nothing_is_shared_with_the_input():
    desired, existing = {"a": [{"b": 1}]}, {"a": [{"b": 2}]}
    plan(desired, existing).after["a"][0]["b"] = 9
    assert desired == {"a": [{"b": 1}]} and existing == {"a": [{"b": 2}]}


def test_hidden_is_compared_and_not_shown():
    rules = Rules(hidden=("annotations.hash",))
    change = plan({"annotations": {"hash": "b"}}, {"annotations": {"hash": "a"}}, rules)
    assert change.changed
    assert change.diff()["before"] == change.diff()["after"] == {"annotations": {"hash": HIDDEN}}


def test_merge_says_what_is_sent_of_a_list():
    rules = Rules(merge={"list": lambda desired, existing: [dict(existing[0], **desired[0])]})
    change = plan({"list": [{"a": 2}]}, {"list": [{"a": 1, "b": 1}]}, rules)
    assert change.patch(1) == {"list": [{"a": 2, "b": 1}]}
    assert change.diff() == {"before": {"list": [{"a": 1}]}, "after": {"list": [{"a": 2}]}}
    assert plan({"list": [{"a": 2}]}, {}, rules).after == {"list": [{"a": 2}]}


# What changes, for people and programs


def record(desired, existing, rules=None, implies=None):
    return plan(desired, existing, rules or Rules()).record("thing", "things/a", implies)


def fields(desired, existing, rules=None):
    (entry,) = record(desired, existing, rules)
    return [(item["path"], item["before"], item["after"]) for item in entry["fields"]]


def test_record_of_nothing():
    assert record({"a": 1, "b": 0}, {"a": "1", "c": 3}) == []
    assert record(None, None) == []


def test_record_of_a_create():
    assert record({"a": {"b": 1, "c": None}, "l": ["x"]}, None, implies={"create": "minutes", "a.b": "restart"}) == [
        {
            "kind": "thing",
            "name": "things/a",
            "action": "create",
            "fields": [
                {"path": "a.b", "before": None, "after": 1},
                {"path": "l", "before": None, "after": ["x"]},
            ],
            "implies": ["minutes"],
        }
    ]


def test_record_of_a_delete_has_no_fields():
    (entry,) = record(None, {"a": 1}, implies={"delete": "loss"})
    assert (entry["action"], entry["fields"], entry["implies"]) == ("delete", [], ["loss"])


def test_record_names_only_the_fields_that_differ():
    assert fields({"a": {"b": 1, "c": 2}, "d": True}, {"a": {"b": 5, "c": "2", "e": 6}, "d": True}) == [("a.b", 5, 1)]


def test_record_names_a_field_that_only_its_normal_form_tells_apart():
    rules = Rules(normalise={"m": lambda value: value and value["x"].lower()})
    assert fields({"m": {"x": "A"}}, {"m": {"x": "b"}}, rules) == [("m.x", "b", "A")]
    rules = Rules(whole=("m",))
    assert fields({"m": {}}, {"m": {"k": ""}}, rules) == [("m.k", "", None)]


def test_record_looks_into_lists():
    rules = Rules(keyed={"env": "name"})
    before = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "boxes": [{"image": "a", "id": 7}]}
    after = {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}], "boxes": [{"image": "b"}]}
    assert fields(after, before, rules) == [
        ("env[A].value", "1", None),
        ("env[B].value", "2", "3"),
        ("env[C].value", None, "4"),
        ("boxes[0].image", "a", "b"),
    ]


def test_record_keeps_lists_without_order_whole():
    rules = Rules(unordered=("rules",))
    assert fields({"rules": [{"a": 1}]}, {"rules": [{"a": 2}]}, rules) == [("rules", [{"a": 2}], [{"a": 1}])]


def test_record_hides_secrets():
    rules = Rules(write_only=("password", "list.key"), hidden=("hash",))
    created = record({"password": "s3cret", "hash": "s3cret", "list": [{"key": "s3cret"}]}, None, rules)
    changed = record({"password": "s3cret", "hash": "s3cret", "n": 1}, {"hash": "s3cret-old", "n": 2}, rules)
    assert "s3cret" not in str(created + changed)
    assert [item["path"] for item in created[0]["fields"]] == ["password", "hash", "list[0].key"]
    assert changed[0]["fields"] == [
        {"path": "hash", "before": HIDDEN, "after": HIDDEN},
        {"path": "n", "before": 2, "after": 1},
    ]


def test_implied_by_a_field_or_by_what_is_below_it():
    implies = {"settings.tier": "restart", "template": "new revision", "settings.flags": "restart", "delete": "loss"}
    rules = Rules(keyed={"template.env": "name"})

    def implied(desired, existing):
        return record(desired, existing, rules, implies)[0]["implies"]

    assert implied({"settings": {"tier": "a", "flags": "x"}}, {"settings": {"tier": "b"}}) == ["restart"]
    assert implied({"template": {"env": [{"name": "A.b"}]}}, {"template": {}}) == ["new revision"]
    assert implied({"settings": {"tiers": 1}}, {"settings": {}}) == []
    assert implied({"settings": {"tier": "a"}}, None) == []
