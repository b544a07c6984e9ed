# SPDX-License-Identifier: Apache-2.0
"""A new target takes the files that docs/engine.md lists, and no other: no file of another target, and no playbook."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted
from ansible_collections.mlplatform.gcp.tests.unit.plugins.test_new_module import LICENSE, contents

ROOT = pathlib.Path(_scripted.__file__).resolve().parents[3]
MODEL = "ansible_collections.mlplatform.gcp.plugins.module_utils._deployment"
TARGET = f"""\
from {MODEL}.roles import paper_mlflow
from {MODEL}.context import NewResources
from {MODEL}.permissions import Table
from {MODEL}.targets.base import Removal, Server, Target

TARGET = Target(
    spec=paper_mlflow.ROLE,
    title="paper",
    api="",
    google=False,
    permissions=Table(),
    new=lambda region: NewResources("", ""),
    server=lambda context, uri, sizing: Server(
        "https://paper.example.com",
        ["paper.example.com"],
        {{}},
        {{}},
        {{"sheets": context["paper_mlflow_sheets"]}},
        unreachable="paper does not answer",
    ),
    removal=lambda context: Removal(True, {{}}),
    resources=lambda context: [],
    check=lambda values: [],
    derived=lambda context: {{}},
    problems=lambda context, sizing: [],
)
"""
ROLE = f"""\
from {MODEL}.roles._targets import ENTRY_POINTS
from {MODEL}.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="paper_mlflow",
    short_description="MLflow on paper",
    description=("Writes runs on paper.",),
    target="paper",
    text=True,
    variables=(Variable("paper_mlflow_sheets", "int", ("Sheets of paper.",), default=1, minimum=1),),
    entry_points=ENTRY_POINTS,
)
"""
META = """\
# SPDX-License-Identifier: Apache-2.0
---
galaxy_info:
  author: the mlplatform.gcp authors
  description: MLflow on paper
  license: Apache-2.0
  min_ansible_version: "2.19"
dependencies:
  - role: mlplatform.gcp.gcp
"""
TASKS = """\
# SPDX-License-Identifier: Apache-2.0
---
- name: Do {entry} on paper
  ansible.builtin.debug:
    msg: "{entry} with {{{{ deployment.server.options.sheets }}}} sheets"
"""
ENTRIES = ("run", "access", "verify", "status", "restart", "retire", "absent")
FILES = {
    "plugins/module_utils/_deployment/targets/paper.py": LICENSE + TARGET,
    "plugins/module_utils/_deployment/roles/paper_mlflow.py": LICENSE + ROLE,
    "roles/paper_mlflow/meta/main.yml": META,
    "roles/paper_mlflow/README.md": "# paper_mlflow\n\n<!-- variables -->\n",
    **{f"roles/paper_mlflow/tasks/{entry}.yml": TASKS.format(entry=entry) for entry in ENTRIES},
    "docs/paper.md": "# MLflow on paper\n",
    "tests/unit/plugins/module_utils/deployment/test_paper.py": "",
    "changelogs/fragments/paper.yml": "---\nmajor_changes:\n  - The target V(paper).\n",
}


def listed():
    """The files that docs/engine.md lists for a target, with the names of this test."""
    text = (ROOT / "docs/engine.md").read_text()
    table = text.split("## Add a target", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the collection with one more target."""
    root = tmp_path_factory.mktemp("collection")
    collection = root / "ansible_collections/mlplatform/gcp"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("plugins", "meta", "changelogs", "roles", "playbooks", "scripts", "docs", "tests/unit"):
        shutil.copytree(ROOT / name, collection / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "galaxy.yml"):
        shutil.copy(ROOT / name, collection / name)
    before = contents(collection)
    for name, text in FILES.items():
        (collection / name).parent.mkdir(parents=True, exist_ok=True)
        (collection / name).write_text(text)
    table = collection / "plugins/module_utils/_deployment/targets/__init__.py"
    text = table.read_text().replace("import appengine, cloudrun\n", "import appengine, cloudrun, paper\n")
    table.write_text(
        text.replace("(cloudrun.TARGET, appengine.TARGET)", "(cloudrun.TARGET, appengine.TARGET, paper.TARGET)")
    )
    env = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(root), PYTHONPATH=str(root), PYTHONDONTWRITEBYTECODE="1")
    for script in ("role_specs.py", "role_docs.py"):
        subprocess.run([sys.executable, f"scripts/{script}"], cwd=collection, env=env, check=True)
    after = contents(collection)
    return root, env, {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_it_takes_the_files_that_are_listed(copy):
    _root, _env, changed = copy
    assert changed == {name.replace("TARGET", "paper") for name in listed()}


@pytest.mark.parametrize(
    ("playbook", "entries"),
    [
        ("deploy", ["run"]),
        ("verify", ["verify"]),
        ("status", ["status"]),
        ("restart", ["restart"]),
        ("destroy", ["absent"]),
    ],
)
def test_the_playbooks_run_it(copy, playbook, entries):
    """Also without any project of Google Cloud."""
    root, env, _changed = copy
    hidden = {"GCP_PROJECT", "GCP_REGION", "GCP_AUTH_KIND", "GOOGLE_APPLICATION_CREDENTIALS"}
    done = subprocess.run(
        [
            *(str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "demo,"),
            *(f"mlplatform.gcp.{playbook}", "-e", "mlflow_target=paper", "-e", "paper_mlflow_sheets=3"),
        ],
        cwd=root,
        env={name: value for name, value in env.items() if name not in hidden},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert re.findall(r'"msg": "(\w+) with 3 sheets"', done.stdout) == entries
