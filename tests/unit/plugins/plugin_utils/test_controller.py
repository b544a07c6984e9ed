# SPDX-License-Identifier: Apache-2.0
"""The action plugin, as Ansible's task executor drives it."""

from __future__ import annotations

import os
import sys

import pytest
from ansible.template import trust_as_template
from ansible_collections.mlplatform.gcp.plugins.module_utils import _module, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import controller
from ansible_collections.mlplatform.gcp.tests.unit.plugins._acting import NAME


def test_runs_here(act, probe):
    result = act({"name": "x", "size": "7"}, check_mode=True)
    assert result["resource"] == {"a": 1} and result["changed"] is False
    assert probe.task.params["size"] == 7
    assert probe.task.check_mode
    assert result["invocation"]["module_args"]["name"] == "x"
    assert not act.as_module.called


@pytest.mark.parametrize(
    "how",
    [
        {"transport": "ssh"},
        {"become": object()},
        {"async_val": 60},
        {"variables": {"gcp_in_controller": False}},
        {"variables": {"gcp_in_controller": trust_as_template("{{ where }}"), "where": "no"}},
        {"variables": {"ansible_python_interpreter": "/opt/other/bin/python"}},
    ],
)
def test_runs_as_a_module(act, probe, how):
    assert act({"name": "x"}, **how)["as_module"]
    assert probe.task is None
    assert act.as_module.call_args.kwargs["module_name"] == f"mlplatform.gcp.{NAME}"
    assert bool(act.as_module.call_args.kwargs["wrap_async"]) is ("async_val" in how)


@pytest.mark.parametrize("transport", ["local", "ssh"])
def test_variables_of_the_role_gcp_set_what_the_task_does_not(act, probe, transport):
    variables = {
        "gcp_project": "{{ 'from-' ~ 'variable' }}" if transport == "local" else "from-variable",
        "gcp_quota_project": "quota",
        "gcp_auth_kind": "",
        "gcp_region": "europe-west1",
        "deployment": {"lock": {"name": "l"}},
    }
    variables["gcp_project"] = trust_as_template(variables["gcp_project"])
    act({"name": "x", "quota_project": "of-the-task"}, variables=variables, transport=transport)
    given = probe.task.params if transport == "local" else act.as_module.call_args.kwargs["module_args"]
    assert given["project"] == "from-variable"
    assert given["quota_project"] == "of-the-task"
    assert given["lock"] == {"name": "l"}
    assert not given.get("auth_kind")
    assert "region" not in given


@pytest.mark.parametrize("deployment", ["text", {"lock": None}, {}])
def test_without_a_lock_in_the_deployment_the_task_takes_none(act, probe, deployment):
    act({"name": "x"}, variables={"deployment": deployment})
    assert probe.task.params["lock"] is None


def test_a_lock_of_the_task_wins(act, probe):
    act({"name": "x", "lock": {"name": "mine"}}, variables={"deployment": {"lock": {"name": "other"}}})
    assert probe.task.params["lock"] == {"name": "mine"}


def test_an_omitted_variable_sets_nothing(act, probe, monkeypatch):
    monkeypatch.setenv("GCP_PROJECT", "from-environment")
    act({"name": "x"}, variables={"gcp_project": trust_as_template("{{ omit }}")})
    assert probe.task.params["project"] == "from-environment"


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_option_of_project_and_credentials_is_not_given(act, probe, monkeypatch, empty):
    monkeypatch.setenv("GCP_PROJECT", "from-the-environment")
    act({"name": "x", "project": empty, "auth_kind": empty, "access_token": empty})
    assert probe.task.params["project"] == "from-the-environment"
    assert probe.task.params["auth_kind"] is None
    act({"name": "", "project": empty}, transport="ssh")
    assert act.as_module.call_args.kwargs["module_args"] == {"name": ""}


@pytest.mark.parametrize("interpreter", [sys.executable, trust_as_template("{{ mine }}"), "auto", "", "auto_silent"])
def test_this_interpreter_is_here(act, probe, interpreter):
    act({"name": "x"}, variables={"ansible_python_interpreter": interpreter, "mine": sys.executable})
    assert probe.task is not None


def test_secrets_do_not_come_out(act, probe):
    probe.result = lambda task: Result(resource={"leak": f"is {task.params['password']}"})
    result = act({"name": "x", "password": "hunter2"})
    assert "hunter2" not in str(result)
    assert result["invocation"]["module_args"]["password"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_secrets_of_the_environment_do_not_come_out(act, probe):
    probe.result = lambda task: Result(resource={"leak": task.params["access_token"]})
    result = act({"name": "x"}, environment=[{"GCP_ACCESS_TOKEN": "hush-hush", "GCP_PROJECT": "from-env"}])
    assert probe.task.params["project"] == "from-env"
    assert "hush-hush" not in str(result)
    assert "GCP_ACCESS_TOKEN" not in os.environ


def test_a_key_given_as_a_dictionary_hides_its_secrets_only(act, probe):
    probe.result = lambda task: Result(resource={"project": "my-project", "key": "PEM-PEM"})
    key = {"type": "service_account", "project_id": "my-project", "private_key": "PEM-PEM"}
    result = act({"name": "x", "service_account_contents": key})
    assert result["resource"]["project"] == "my-project"
    assert result["resource"]["key"] != "PEM-PEM"


def test_the_environment_is_the_tasks_and_goes_away(act, probe):
    act({"name": "x"}, environment=[{"A_VARIABLE": trust_as_template("{{ 1 + 1 }}")}, None, {"B_VARIABLE": "b"}])
    assert probe.environment["A_VARIABLE"] == "2"
    assert probe.environment["B_VARIABLE"] == "b"
    assert "B_VARIABLE" not in os.environ


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "missing required arguments: name"),
        ({"name": "x", "nmae": 1}, "nmae"),
        ({"name": "x", "size": "big"}, "size"),
        ({"name": "x", "size": 1, "password": "hunter2"}, "mutually exclusive"),
        ({"name": "x", "auth_kind": "magic"}, "value of auth_kind must be one of"),
    ],
)
def test_options_are_checked(act, probe, args, words):
    result = act(args)
    assert result["failed"] and words in result["msg"] and f"mlplatform.gcp.{NAME}" in result["msg"]
    assert "hunter2" not in str(result)
    assert probe.task is None


def test_errors_fail_the_task(act, probe):
    def run(task):
        raise _module.UserError("It cannot be", "Do otherwise.", field="size")

    probe.result = run
    result = act({"name": "x"})
    assert result["failed"] and result["msg"] == "It cannot be. Do otherwise." and result["field"] == "size"


def test_warnings_and_progress(act, probe, monkeypatch):
    lines = []
    monkeypatch.setattr(controller.display, "display", lines.append)

    def run(task):
        task.warn("careful")
        task.progress("creating x: hunter2, 15s")
        return Result()

    probe.result = run
    assert act({"name": "x", "password": "hunter2"})["warnings"] == ["careful"]
    assert lines == ["    creating x: ********, 15s"]


@pytest.fixture
def heap(monkeypatch):
    heap = _shared.Heap()
    monkeypatch.setattr(_shared, "_heap", heap)
    return heap


@pytest.mark.parametrize(("module", "consults"), [(NAME, True), (f"{NAME}_info", False)])
def test_only_modules_that_change_something_use_kept_answers(act, probe, heap, module, consults):
    token = {"auth_kind": "accesstoken", "access_token": "t"}
    act({"name": "x", **token}, module=module)
    assert probe.task.client.snapshot.consult is consults
    probe.task.client.snapshot.keep = True
    assert probe.task.client.snapshot.begin() == heap.generation


def test_a_task_outside_a_play_keeps_nothing(act, probe, heap, monkeypatch):
    monkeypatch.setattr(controller.ActionModule, "_play", lambda self: "")
    act({"name": "x", "auth_kind": "accesstoken", "access_token": "t"})
    assert probe.task.client.snapshot.consult is False
    probe.task.client.snapshot.keep = True
    assert probe.task.client.snapshot.begin() is None


@pytest.mark.parametrize(("module", "found"), [(NAME, None), (f"{NAME}_info", b"1")])
def test_what_runs_elsewhere_ends_the_use_of_kept_answers(act, heap, module, found):
    heap.put("a", "place", b"1", 60)
    act({"name": "x"}, module=module, variables={"gcp_in_controller": False})
    assert heap.get("a") == found


def test_a_stale_plan_is_made_again(act, probe, heap):
    runs = []
    token = {"auth_kind": "accesstoken", "access_token": "t"}

    def run(task):
        task.warn("careful")
        runs.append(task.client.snapshot.consult)
        task.client.snapshot.used = len(runs) == 1
        task.client.snapshot.changing("https://a.com/v1/x")
        return Result(True)

    probe.result = run
    result = act({"name": "x", **token})
    assert runs == [True, False] and result["changed"] and result["warnings"] == ["careful"]


def test_deprecations_are_reported(act, probe, monkeypatch):
    reported = []
    monkeypatch.setattr(controller.display, "deprecated", lambda message, **more: reported.append(message))
    act({"name": "x", "old": "1"})
    assert len(reported) == 1 and "old" in reported[0]


def test_a_missing_library_is_named(act, probe, monkeypatch):
    monkeypatch.setattr(controller, "missing_library", lambda: ("needs google-auth", "why"))
    assert act({"name": "x"})["msg"] == "needs google-auth"
    controller._prepare()


@pytest.mark.parametrize("fork", [False, True])
def test_the_parent_releases_locks_at_its_end_and_a_fork_does_not(monkeypatch, fork):
    released = []
    monkeypatch.setattr(controller._lock, "release_all", lambda: released.append(True))
    controller._release(os.getppid() if fork else os.getpid())
    assert bool(released) is not fork
