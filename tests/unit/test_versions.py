# SPDX-License-Identifier: Apache-2.0
"""Compare the versions and packages that the documentation names with the files that define them."""

import pathlib
import re
import tomllib

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MINIMUM = re.fullmatch(r">=(\d+\.\d+)\.0", yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"])[
    1
]
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/main.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_roles_need_the_ansible_of_the_collection(role):
    meta = yaml.safe_load((ROOT / "roles" / role / "meta/main.yml").read_text())
    assert meta["galaxy_info"]["min_ansible_version"] == MINIMUM


def test_the_readme_names_the_ansible_of_the_collection():
    assert f"| ansible-core | {MINIMUM} or later |" in README
    assert f"'ansible-core>={MINIMUM}'" in README


def test_the_readme_installs_the_packages_of_the_collection():
    lines = (ROOT / "requirements/collection.in").read_text().splitlines()
    packages = sorted(line for line in lines if line and not line.startswith("#"))
    (command,) = re.findall(r"^pip install 'ansible-core[^']*' (.*)$", README, re.M)
    assert command.split() == packages


@pytest.mark.parametrize("page", ["README.md", "clients/python/README.md", "docs/clients.md", "docs/cloudrun.md"])
def test_the_wheel_is_that_of_this_release(page):
    collection = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["version"]
    found = re.findall(r"releases/download/(\S+)/mlflow_google_auth-(\S+)-py3-none-any\.whl", (ROOT / page).read_text())
    assert found == [(f"v{collection}", client)]
