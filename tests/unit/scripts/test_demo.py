# SPDX-License-Identifier: Apache-2.0
"""Test the steps and the closing text of the demonstration without running its commands."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SANDBOX = {
    "project": "mlflow-sandbox",
    "project_number": "827594110180",
    "ports": {"browser": 8080},
    "deployed": {
        "demo-dev": "https://demo-dev-x-ew.a.run.app",
        "mlflow-sandbox": "https://mlflow-sandbox.ew.r.appspot.com",
    },
}
VARIABLES = {"gcp_region": "europe-west1", "mlflow_access_members": ["user:alice@example.com"]}
ADDRESSES = {
    "cloudrun": "https://demo-dev-827594110180.europe-west1.run.app",
    "appengine": "https://mlflow-sandbox.ew.r.appspot.com",
}


@pytest.fixture
def demo(monkeypatch):
    """Return the module with its commands recorded in `commands` instead of run."""
    spec = importlib.util.spec_from_file_location("scripts_demo", ROOT / "scripts" / "demo.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []
    monkeypatch.setattr(module, "step", lambda text, *command, hint: module.commands.append(command))
    monkeypatch.setattr(module, "output", lambda *command: SANDBOX if "status" in command else VARIABLES)
    yield module
    del sys.modules[spec.name]


def test_an_unknown_target_is_rejected_before_the_first_step(demo, capsys):
    assert demo.main(["--target", "gke"]) == 2
    assert "target=cloudrun or target=appengine" in capsys.readouterr().err
    assert demo.commands == []


def test_the_script_starts_without_any_package():
    command = [sys.executable, "-I", "-S", "scripts/demo.py", "--target", "gke"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize("target", ADDRESSES)
def test_the_closing_text_has_one_address_for_the_server(demo, capsys, target):
    assert demo.main(["--target", target]) == 0
    printed = capsys.readouterr().out
    assert set(re.findall(r"https://[^\s]+", printed)) == {ADDRESSES[target]}
    assert "alice@example.com" in printed


def test_the_closing_text_fits_the_target(demo, capsys):
    demo.main(["--target", "appengine"])
    printed = capsys.readouterr().out
    assert "http://mlflow-sandbox.localhost:8080/" in printed
    assert "gcp-sandbox logs default" in printed
    assert "`make demo target=appengine` again" in printed
    assert demo.main([]) == 0
    assert "`make demo` again" in capsys.readouterr().out


def test_the_packages_are_the_first_step(demo):
    demo.main([])
    assert [command[-1] for command in demo.commands] == ["venv", "up", "playbooks/deploy.yml", "playbooks/verify.yml"]
