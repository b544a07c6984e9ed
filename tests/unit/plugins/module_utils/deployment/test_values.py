# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime
import json

import jinja2
import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import values
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.variables import all_variables


class Tagged(str):
    """Text with a type of its own, as Ansible marks where it is from."""


def read(**variables):
    return values.read(variables)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["user:a@b.c"], ["user:a@b.c"]),
        (("user:a@b.c",), ["user:a@b.c"]),
        ("user:a@b.c", ["user:a@b.c"]),
        ("user:a@b.c\ngroup:x@y.z", ["user:a@b.c", "group:x@y.z"]),
        ("user:a@b.c\r\ngroup:x@y.z\r\n", ["user:a@b.c", "group:x@y.z"]),
        (" user:a@b.c , group:x@y.z ,, ", ["user:a@b.c", "group:x@y.z"]),
        ("user:a@b.c,\ngroup:x@y.z", ["user:a@b.c", "group:x@y.z"]),
        ("- user:a@b.c\n- 'group:x@y.z'", ["user:a@b.c", "group:x@y.z"]),
        ('["user:a@b.c", "group:x@y.z"]', ["user:a@b.c", "group:x@y.z"]),
        ("[user:a@b.c, group:x@y.z]", ["user:a@b.c", "group:x@y.z"]),
        ("", []),
        ("   \n ", []),
        ("[]", []),
        (Tagged("user:a@b.c"), ["user:a@b.c"]),
        ([1, 2.5, True], ["1", "2.5", "true"]),
    ],
)
def test_lists(given, expected):
    found, problems, _deprecated = read(mlflow_access_members=given)
    assert found["mlflow_access_members"] == expected
    assert problems == []
    assert {item.__class__ for item in found["mlflow_access_members"]} <= {str}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"team": "ml", "cost": 5, "flag": True}, {"team": "ml", "cost": "5", "flag": "true"}),
        ("team=ml", {"team": "ml"}),
        ("team=ml\ncost=5", {"team": "ml", "cost": "5"}),
        ("team=ml, cost=5", {"team": "ml", "cost": "5"}),
        ("team: ml\ncost: 5", {"team": "ml", "cost": "5"}),
        ("team: ml, cost: 5", {"team": "ml", "cost": "5"}),
        ("flag: yes\nversion: 1.10", {"flag": "yes", "version": "1.10"}),
        ('{"team": "ml", "cost": 5}', {"team": "ml", "cost": "5"}),
        ("{team: ml, cost: 5}", {"team": "ml", "cost": "5"}),
        ("url=postgres://u:p@h/d?a=b", {"url": "postgres://u:p@h/d?a=b"}),
        ("list=a,b,c", {"list": "a,b,c"}),
        ('quoted="a b"', {"quoted": "a b"}),
        ("empty=", {"empty": ""}),
        ("empty:", {"empty": ""}),
        ("", {}),
        ({1: 2, "unset": None}, {"1": "2"}),
        ({"small": 0.00001, "large": 1e16, "half": 0.5}, {"small": "0.00001", "large": "1" + "0" * 16, "half": "0.5"}),
        ({"a": b"bytes", "day": datetime.date(2026, 11, 27)}, {"a": "bytes", "day": "2026-11-27"}),
    ],
)
def test_mappings(given, expected):
    found, problems, _deprecated = read(mlflow_server_env=given)
    assert (found["mlflow_server_env"], problems) == (expected, [])


@pytest.mark.parametrize("given", [{"a": True, "b": False, "c": 1}, "{a: on, b: off, c: 1}", "a=on\nb=off\nc=1"])
def test_flags_of_the_database_are_on_and_off(given):
    found, problems, _deprecated = read(cloudsql_flags=given)
    assert (found["cloudsql_flags"], problems) == ({"a": "on", "b": "off", "c": "1"}, [])


@pytest.mark.parametrize(
    "given",
    [
        "{name: office, value: 1.2.3.0/24}",
        "{name: office, value: 1.2.3.0/24}\n{name: office, value: 1.2.3.0/24}",
        "[{name: office, value: 1.2.3.0/24}]",
        "- name: office\n  value: 1.2.3.0/24",
        "name: office\nvalue: 1.2.3.0/24",
        json.dumps([{"name": "office", "value": "1.2.3.0/24"}]),
        [{"name": "office", "value": "1.2.3.0/24"}],
    ],
)
def test_lists_of_mappings(given):
    found, problems, _deprecated = read(mlflow_database_authorized_networks=given)
    assert problems == []
    one = {"name": "office", "value": "1.2.3.0/24"}
    assert found["mlflow_database_authorized_networks"] in ([one], [one, one])


def test_keys_have_their_own_types():
    found, problems, _deprecated = read(
        cloudsql_maintenance_window="day: '7'\nhour: 3.0",
        bucket_lifecycle_rules="- {action: {type: Delete}, condition: {age: 30, isLive: false}}",
        secrets_list=[{"name": "s", "generate": {"length": "32"}, "bindings": [{"role": "r", "members": "a,b"}]}],
    )
    assert problems == []
    assert found["cloudsql_maintenance_window"] == {"day": 7, "hour": 3}
    assert found["bucket_lifecycle_rules"][0]["condition"] == {"age": 30, "isLive": False}
    assert found["secrets_list"][0]["generate"] == {"length": 32}
    assert found["secrets_list"][0]["bindings"] == [{"role": "r", "members": ["a", "b"]}]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("mlflow_workers", 3, 3),
        ("mlflow_workers", "3", 3),
        ("mlflow_workers", " 3 ", 3),
        ("mlflow_workers", "3.0", 3),
        ("mlflow_workers", 3.0, 3),
        ("mlflow_workers", "-1", -1),
        ("mlflow_workers", "", 1),
        ("mlflow_workers", Tagged("3"), 3),
        ("appengine_mlflow_target_cpu_utilization", "0.5", 0.5),
        ("appengine_mlflow_target_cpu_utilization", ".5", 0.5),
        ("appengine_mlflow_target_cpu_utilization", 1, 1.0),
        ("appengine_mlflow_target_cpu_utilization", "5e-1", 0.5),
        ("appengine_mlflow_target_cpu_utilization", "", 0.75),
        ("mlflow_adopt", "yes", True),
        ("mlflow_adopt", "True", True),
        ("mlflow_adopt", "1", True),
        ("mlflow_adopt", 1, True),
        ("mlflow_adopt", 1.0, True),
        ("mlflow_adopt", "on", True),
        ("mlflow_retire_other_targets", "no", False),
        ("mlflow_retire_other_targets", 0, False),
        ("mlflow_retire_other_targets", "off", False),
        ("mlflow_retire_other_targets", "", True),
        ("mlflow_cpu", 2, "2"),
        ("mlflow_cpu", 0.5, "0.5"),
        ("mlflow_version", "3.10", "3.10"),
        ("gcp_project", 123456789012, "123456789012"),
        ("mlflow_name", " demo\n", "demo"),
        ("mlflow_env", True, "true"),
        ("gcp_service_account_contents", "{\n}\n", "{\n}\n"),
        ("mlflow_min_instances", None, None),
        ("mlflow_max_instances", jinja2.Undefined(), None),
        ("mlflow_bucket", None, ""),
        ("gcp_region", jinja2.Undefined(), ""),
        ("bucket_location", None, ""),
        ("cloudsql_instance", None, None),
    ],
)
def test_scalars(name, given, expected):
    found, problems, _deprecated = read(**{name: given})
    assert problems == []
    assert found[name] == expected
    assert found[name].__class__ is expected.__class__


LOOP: list = []
LOOP.append(LOOP)
BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("mlflow_workers", "many", ('"many"', "whole number")),
        ("mlflow_workers", 1.5, ("1.5", "whole number")),
        ("mlflow_workers", True, ("true", "whole number")),
        ("mlflow_workers", [1], ("[1]", "whole number")),
        ("mlflow_workers", 10**30, ("too large",)),
        ("mlflow_workers", "9" * 39, ("too large",)),
        pytest.param("mlflow_workers", 10**5000, ("too large",), id="huge"),
        ("mlflow_workers", "9" * 5000, ("whole number",)),
        ("mlflow_workers", "٣", ("whole number",)),
        ("mlflow_workers", float("nan"), ("whole number",)),
        ("appengine_mlflow_target_cpu_utilization", float("inf"), ("number",)),
        ("appengine_mlflow_target_cpu_utilization", "half", ('"half"', "number")),
        ("appengine_mlflow_target_cpu_utilization", True, ("number",)),
        ("mlflow_adopt", "maybe", ('"maybe"', "true or false")),
        ("mlflow_adopt", 2, ("2", "true or false")),
        ("mlflow_adopt", {}, ("{}", "true or false")),
        ("mlflow_env", ["dev"], ('["dev"]', "text")),
        ("mlflow_env", 10**400, ("text",)),
        ("mlflow_access_members", {"user": "a@b.c"}, ("list", "one entry a line")),
        ("mlflow_access_members", '{"user": "a@b.c"}', ("list",)),
        ("mlflow_access_members", 5, ("5", "list")),
        ("mlflow_access_members", ["a", ["b"]], ("mlflow_access_members[1]", "text")),
        ("mlflow_access_members", "[user:a@b.c", ("list",)),
        ("mlflow_labels", ["team"], ("mapping", "NAME=VALUE")),
        ("mlflow_labels", "team", ("mapping", "NAME=VALUE")),
        ("mlflow_labels", {"team": {"a": 1}}, ("mlflow_labels.team", "text")),
        ("mlflow_labels", {None: "x"}, ("key",)),
        ("mlflow_labels", "{a: *b}", ("JSON or YAML",)),
        ("mlflow_labels", "{a: !!bool x}", ("JSON or YAML",)),
        ("mlflow_labels", "[" * 1000, ("too deep",)),
        ("mlflow_labels", "{a: b" + "b" * 200_000 + "}", ("too long",)),
        ("mlflow_labels", "{a: " * 100 + "}" * 100, ("too deep",)),
        ("mlflow_labels", object(), ("object",)),
        ("mlflow_labels", {"x": lambda: None}, ("function",)),
        ("mlflow_access_members", LOOP, ("too deep",)),
        ("mlflow_access_members", range(10**9), ("too many",)),
        ("bucket_lifecycle_rules", BOMB, ("too many",)),
        ("mlflow_ownership", {"databse": "used"}, ("databse", "database")),
        ("cloudsql_databases", [{"charset": "utf8"}], ("cloudsql_databases[0]", "lacks", "name")),
        ("cloudsql_databases", [{"name": ""}], ("lacks", "name")),
        ("cloudsql_maintenance_window", {"day": "Sunday"}, ("cloudsql_maintenance_window.day", "Sunday")),
    ],
)
def test_what_does_not_fit_is_reported_with_the_variables_name(name, given, words):
    found, problems, _deprecated = read(**{name: given})
    assert [problem.variable for problem in problems] == [name]
    message = f"{problems[0].what} {problems[0].next}"
    assert problems[0].what.startswith(name)
    assert not [word for word in words if word not in message], message
    assert len(message) < 1000
    assert found[name] == values.read({})[0][name]


def test_secrets_are_not_shown():
    _found, problems, _deprecated = read(
        gcp_access_token=["hunter2"],
        secrets_list="hunter2",
        gcp_service_account_contents={"private_key": "hunter2"},
    )
    assert len(problems) == 3
    assert "hunter2" not in str(problems)


class EncryptedString:
    """The type of ansible-core for a value in a vault."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        if self.text is None:
            raise ValueError("no vault secrets found")
        return self.text


def test_values_of_vaults_are_decrypted():
    found, problems, _deprecated = read(gcp_access_token=EncryptedString("token"))
    assert (found["gcp_access_token"], problems) == ("token", [])
    _found, problems, _deprecated = read(gcp_access_token=EncryptedString(None))
    assert "cannot be decrypted" in problems[0].what


def test_every_variable_has_a_value_and_unknown_names_are_ignored():
    found, problems, deprecated = values.read({"foo": 1, 5: 6, None: 7})
    assert found.keys() == all_variables().keys()
    assert (problems, deprecated) == ([], [])


def test_defaults_are_not_shared():
    values.read({})[0]["mlflow_labels"]["x"] = "y"
    assert values.read({})[0]["mlflow_labels"] == {}


@pytest.mark.parametrize(
    ("target", "old", "given", "new", "expected"),
    [
        ("cloudrun", "cloudrun_mlflow_cpu", "2", "mlflow_cpu", "2"),
        ("cloudrun", "cloudrun_mlflow_memory", "4Gi", "mlflow_memory", "4Gi"),
        ("cloudrun", "cloudrun_mlflow_workers", "2", "mlflow_workers", 2),
        ("cloudrun", "cloudrun_mlflow_min_instances", 1, "mlflow_min_instances", 1),
        ("cloudrun", "cloudrun_mlflow_max_instances", 3, "mlflow_max_instances", 3),
        ("cloudrun", "cloudrun_mlflow_pool_size", 3, "mlflow_pool_size", 3),
        ("cloudrun", "cloudrun_mlflow_pool_overflow", 3, "mlflow_pool_overflow", 3),
        ("cloudrun", "cloudrun_mlflow_allowed_hosts", "a.b", "mlflow_allowed_hosts", ["a.b"]),
        ("cloudrun", "cloudrun_mlflow_env", {"A": 1}, "mlflow_server_env", {"A": "1"}),
        ("appengine", "appengine_mlflow_cpu", 2, "mlflow_cpu", "2"),
        ("appengine", "appengine_mlflow_memory_gb", 2, "mlflow_memory", "2Gi"),
        ("appengine", "appengine_mlflow_memory_gb", 2.25, "mlflow_memory", "2.25Gi"),
        ("appengine", "appengine_mlflow_memory_gb", "3.6", "mlflow_memory", "3.6Gi"),
        ("appengine", "appengine_mlflow_max_instances", 3, "mlflow_max_instances", 3),
        ("appengine", "appengine_mlflow_env", "A=1", "mlflow_server_env", {"A": "1"}),
        ("cloudrun", "service_accounts_impersonators", ["user:a@b.c"], "mlflow_impersonators", ["user:a@b.c"]),
    ],
)
def test_replaced_names_still_work_and_warn(target, old, given, new, expected):
    variables = {"mlflow_target": target, old: given}
    found, problems, deprecated = values.read(variables)
    assert found[new] == expected
    assert problems == []
    assert [item.variable for item in deprecated] == [old]
    assert new in deprecated[0].what and "deprecated" in deprecated[0].what
    assert values.in_use(variables, target) == {new: old}


def test_replaced_names_of_another_target_are_ignored():
    variables = {"mlflow_target": "appengine", "cloudrun_mlflow_cpu": "8"}
    found, _problems, deprecated = values.read(variables)
    assert (found["mlflow_cpu"], deprecated, values.in_use(variables, "appengine")) == ("1", [], {})


def test_the_new_name_wins():
    variables = {"cloudrun_mlflow_cpu": "8", "mlflow_cpu": "2"}
    found, _problems, deprecated = values.read(variables)
    assert found["mlflow_cpu"] == "2"
    assert "is ignored" in deprecated[0].what
    assert values.in_use(variables, "cloudrun") == {}


@pytest.mark.parametrize(
    ("old", "target"), [("appengine_mlflow_memory_gb", "appengine"), ("cloudrun_mlflow_workers", "cloudrun")]
)
def test_problems_of_replaced_names_have_those_names(old, target):
    _found, problems, _deprecated = values.read({"mlflow_target": target, old: "lots"})
    assert [problem.variable for problem in problems] == [old]
    assert problems[0].what.startswith(old) and '"lots"' in problems[0].what
