# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import pathlib
from types import SimpleNamespace

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlplatform.gcp.plugins.module_utils import _module
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, WAIT, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

ROOT = pathlib.Path(_scripted.__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
OPTIONS = GCP + WAIT + Options({"name": {"type": "str"}, "password": {"type": "str", "no_log": True}})


def main(capsys, run, **args):
    """Run as an ordinary module; its exit code and its result."""
    with patch_module_args(dict({"project": "p"}, **args)), pytest.raises(SystemExit) as stopped:
        _module.run_module(OPTIONS, run)
    return stopped.value.code, json.loads(capsys.readouterr().out)


def test_an_ordinary_module(capsys):
    def run(task):
        task.warn("careful")  # Ansible's own runner collects these, not the result
        task.progress("15 s")
        assert task.wait and not task.check_mode
        return Result(True, resource={"name": task.params["name"], "leak": task.params["password"]})

    code, result = main(capsys, run, name="x", password="hunter2")
    assert code == 0 and result["changed"]
    assert result["resource"]["name"] == "x"
    assert "hunter2" not in json.dumps(result)


def test_an_ordinary_module_that_fails(capsys):
    def run(task):
        raise UserError("It cannot be", "Do otherwise.", field="name")

    code, result = main(capsys, run)
    assert (
        code == 1 and result["failed"] and result["msg"] == "It cannot be. Do otherwise." and result["field"] == "name"
    )


def test_a_key_as_a_dictionary_hides_its_secrets_only(capsys):
    def run(task):
        return Result(resource={"project": "my-project", "key": "PEM-PEM\nsecond line"})

    key = {"type": "service_account", "project_id": "my-project", "private_key": "PEM-PEM\nsecond line"}
    _code, result = main(capsys, run, service_account_contents=key)
    assert result["resource"]["project"] == "my-project"
    assert "PEM-PEM" not in json.dumps(result)


def test_check_mode(capsys):
    _code, result = main(capsys, lambda task: {"check": task.check_mode, "changed": False}, _ansible_check_mode=True)
    assert result["check"] is True


def test_a_missing_library(capsys, monkeypatch):
    monkeypatch.setattr(_module._http, "IMPORT_ERROR", ImportError("No module named 'requests'"))
    code, result = main(capsys, lambda task: {})
    assert code == 1 and "google-auth and requests" in result["msg"]


@pytest.mark.parametrize("name", NAMES)
def test_every_module_starts_as_an_ordinary_module(name, capsys):
    module = importlib.import_module(f"ansible_collections.mlplatform.gcp.plugins.modules.{name}")
    needed = {key: "x" for key, spec in module.OPTIONS.arguments.items() if spec.get("required")}
    with patch_module_args(dict(needed, no_such_option=1)), pytest.raises(SystemExit):
        module.main()
    assert json.loads(capsys.readouterr().out)["failed"]


def test_the_project_of_the_credentials(monkeypatch):
    given = SimpleNamespace(source=object(), project="of-the-key")
    monkeypatch.setattr(_module._credentials, "from_params", lambda params: given)
    task = _module.Task({"project": None})
    assert task.project == "of-the-key"
    assert task.credentials is given
    given.project = None
    with pytest.raises(UserError, match="No project is given"):
        _module.Task({}).project  # noqa: B018  reading it is what is tested


def test_a_client_of_its_own():
    task = _module.Task({"access_token": "t", "project": "p", "quota_project": "q"})
    assert task.client is task.client
    assert task.client.caller == ""
    assert task.waiter.left <= 600


@pytest.mark.parametrize("contents", [None, "", "{", "[1]"])
def test_contents_that_say_nothing(contents):
    assert _module.public_values({"service_account_contents": contents}) == set()
