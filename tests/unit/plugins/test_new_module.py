# SPDX-License-Identifier: Apache-2.0
"""A new module takes the files that docs/engine.md lists, and no other."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _scripted

ROOT = pathlib.Path(_scripted.__file__).resolve().parents[3]
UTILS = "ansible_collections.mlplatform.gcp.plugins.module_utils"
LICENSE = textwrap.dedent(
    """\
    # Copyright: (c) 2026, the mlplatform.gcp authors
    # GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
    # SPDX-License-Identifier: GPL-3.0-or-later

    from __future__ import annotations

    """
)
CATALOGUE = f"""\
from {UTILS}._catalogue.kind import Kind
from {UTILS}._ownership import Labels
from {UTILS}._resource import Resource

TOPIC = Resource(
    kind="topic",
    base="https://pubsub.googleapis.com/v1",
    path="projects/{{project}}/topics/{{name}}",
    permission="pubsub.topics",
    mark=Labels(),
)

KINDS = {{"thing": Kind(TOPIC, items="topics", policy="//pubsub.googleapis.com/projects/{{project}}/topics/{{name}}")}}
"""
MODULE = f'''\
DOCUMENTATION = r"""
module: thing
short_description: Manage topics of Pub/Sub
version_added: 0.3.0
description: Creates, changes and deletes topics.
author: the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: Its name.
    type: str
    required: true
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.labels
  - mlplatform.gcp.owner
  - mlplatform.gcp.state
  - mlplatform.gcp.attributes
notes:
  - Needs C(pubsub.topics.get) and C(pubsub.topics.create).
"""
EXAMPLES = r"""
- name: Create a topic
  mlplatform.gcp.thing:
    name: x
"""
RETURN = r"""
resource:
  description: The topic as returned by the API.
  returned: success
  type: dict
"""

from {UTILS}._catalogue.things import TOPIC
from {UTILS}._module import run_module
from {UTILS}._options import GCP, LABELS, OWNER, STATE, Options

OPTIONS = GCP + LABELS + OWNER + STATE + Options({{"name": {{"type": "str", "required": True}}}})


def run(task):
    return task.ensure(TOPIC, {{"labels": task.params["labels"]}}, name=task.params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
'''
INFO = f'''\
DOCUMENTATION = r"""
module: thing_info
short_description: Gather information about topics of Pub/Sub
version_added: 0.3.0
description: Returns one topic, or all of the project.
author: the mlplatform.gcp authors (@mlplatform)
options:
  name:
    description: Its name; without it, all are returned.
    type: str
extends_documentation_fragment:
  - mlplatform.gcp.gcp
  - mlplatform.gcp.attributes.info
notes:
  - Needs C(pubsub.topics.get) and C(pubsub.topics.list).
"""
EXAMPLES = r"""
- name: Gather information about a topic
  mlplatform.gcp.thing_info:
    name: x
"""
RETURN = r"""
resources:
  description: The topics as returned by the API.
  returned: always
  type: list
  elements: dict
"""

from {UTILS}._catalogue.things import KINDS
from {UTILS}._info import info
from {UTILS}._module import run_module
from {UTILS}._options import GCP, Options

OPTIONS = GCP + Options({{"name": {{"type": "str"}}}})


def run(task):
    return info(task, KINDS["thing"], name=task.params["name"])


def main():
    run_module(OPTIONS, run)


if __name__ == "__main__":
    main()
'''
TEST = """\
# SPDX-License-Identifier: Apache-2.0
import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import KINDS
from ansible_collections.mlplatform.gcp.plugins.modules import iam_bindings, preflight_info, thing, thing_info
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

URL = "https://pubsub.googleapis.com/v1/projects/p/topics"
OWNER = {"managed-by": "me"}


def test_it_is_created_with_the_mark(cloud):
    cloud.expect_error("GET", f"{URL}/x", 404, code="NOT_FOUND")
    cloud.expect("POST", URL, sent={"labels": OWNER}, body={"name": "x"})
    assert cloud.run(thing, name="x", owner=OWNER)["relation"] == "created"


def test_one_of_another_owner_is_refused(cloud):
    cloud.expect("GET", f"{URL}/x", body={"name": "x"})
    with pytest.raises(Failed):
        cloud.run(thing, name="x", state="absent", owner=OWNER)


def test_all_are_listed(cloud):
    cloud.expect("GET", URL, body={"topics": [{"name": "x"}]})
    assert cloud.run(thing_info)["resources"] == [{"name": "x"}]


def test_preflight_knows_it(cloud):
    cloud.expect("GET", "...services:batchGet", body={"services": []})
    cloud.expect("GET", "...projects/p", body={"name": "projects/1", "projectId": "p", "state": "ACTIVE"})
    cloud.expect("GET", "...billingInfo", body={"billingEnabled": True})
    cloud.expect("GET", f"{URL}/x", body={"name": "x", "labels": OWNER})
    resources = [{"type": "thing", "name": "x"}]
    result = cloud.run(preflight_info, resources=resources, owner_labels=OWNER)
    assert result["problems"] == [] and result["resources"][0]["relation"] == "managed"
"""
FILES = {
    "plugins/module_utils/_catalogue/things.py": LICENSE + CATALOGUE,
    "plugins/modules/thing.py": "#!/usr/bin/python\n" + LICENSE + MODULE,
    "plugins/modules/thing_info.py": "#!/usr/bin/python\n" + LICENSE + INFO,
    "tests/unit/plugins/modules/test_thing.py": TEST,
    "changelogs/fragments/thing.yml": "---\nminor_changes:\n  - thing - new.\n",
}


def contents(root):
    """Every file below a folder; links by where they lead."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and "__pycache__" not in name:
            found[name] = path.read_bytes()
    return found


def listed():
    """The files that docs/engine.md lists for a module, with the names of this test."""
    text = (ROOT / "docs/engine.md").read_text()
    table = text.split("## Add a module", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = []
    for cell in cells:
        first, *others = re.findall(r"`([^`]+)`", cell)
        names += [first, *(str(pathlib.PurePath(first).with_name(other)) for other in others)]
    return {name.replace("SERVICE", "things") for name in names}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the collection with one more module."""
    root = tmp_path_factory.mktemp("collection")
    collection = root / "ansible_collections/mlplatform/gcp"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("plugins", "meta", "changelogs", "tests/unit/plugins", "docs"):
        shutil.copytree(ROOT / name, collection / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "galaxy.yml"):
        shutil.copy(ROOT / name, collection / name)
    (collection / "tests/unit/plugins/test_new_module.py").unlink()
    before = contents(collection)
    for name, text in FILES.items():
        (collection / name).write_text(text)
    for name in ("thing", "thing_info"):
        (collection / f"plugins/action/{name}.py").symlink_to("../plugin_utils/action.py")
    runtime = collection / "meta/runtime.yml"
    lines = "    - thing\n    - thing_info\n"
    runtime.write_text(runtime.read_text().replace("action_groups:\n  gcp:\n", "action_groups:\n  gcp:\n" + lines))
    kinds = collection / "plugins/module_utils/_catalogue/kinds.py"
    text = kinds.read_text().replace("    storage,\n)", "    storage,\n    things,\n)")
    kinds.write_text(re.sub(r"(for service in \(.*)\)", r"\1, things)", text))
    preflight = collection / "plugins/modules/preflight_info.py"
    preflight.write_text(
        preflight.read_text().replace("          - storage_bucket\n", "          - storage_bucket\n          - thing\n")
    )
    after = contents(collection)
    return root, {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_it_takes_the_files_that_are_listed(copy):
    _root, changed = copy
    assert changed == listed()


def test_it_works(copy):
    root, _changed = copy
    collection = root / "ansible_collections/mlplatform/gcp"
    tests = ["modules/test_thing.py", "test_documentation.py"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(collection / "pyproject.toml")),
            *("--rootdir", str(collection)),
            *(str(collection / "tests/unit/plugins" / name) for name in tests),
            *("-k", "thing or preflight or every_module or fragment"),
        ],
        cwd=collection,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(root)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (
        str(collection)
        in subprocess.run(
            [sys.executable, "-c", LOCATION],
            env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(root)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


LOCATION = """
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.mlplatform.gcp.plugins.modules import thing
print(thing.__file__)
"""
