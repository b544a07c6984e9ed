# SPDX-License-Identifier: Apache-2.0
"""Test that all runs of this folder have left no password, key or token outside the cloud."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import stat
from collections.abc import Iterator

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._target import ROOT, VERIFY

# Google's access tokens, and signed JWTs.
TOKENS = re.compile(rb"ya29\.[\w.-]{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{20,}")
# Folders without files of a run: the virtual environment, Git's objects, and other sandboxes.
SKIPPED = {".venv", ".git", ".sandbox", ".cache", "node_modules"}
SHARED = ("/tmp", "/var/tmp", "/dev/shm")


@pytest.fixture(scope="module")
def runs(request, controller):
    """Return all runs of the session before this module; add a verification and a failure where none is among them."""
    outputs = [path.read_text() for path in controller.outputs.iterdir()]
    if not any("mlflow_verify" in output for output in outputs):
        request.getfixturevalue("deployed")
        controller.run(VERIFY, verbosity=4).check()
    if not any("FAILED!" in output for output in outputs):
        assert not request.getfixturevalue("variants").deploy("wide", verbosity=4, mlflow_env="wrong").ok
    return controller


@pytest.fixture(scope="module")
def secrets(runs, box):
    """Return all that is or was confidential, by name: payloads of secrets, and the private key of the deployer."""
    for project in list(runs.projects.values()):
        runs.collect(project)
    found = dict(runs.confidential)
    key = json.loads(pathlib.Path(box.env()["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())["private_key"]
    # Each line separately, because logs may split the key.
    for number, line in enumerate(line for line in key.splitlines() if "-----" not in line and len(line) > 40):
        found[f"line {number} of the deployer's key"] = line.encode()
    return found


def leaks(content: bytes, secrets: dict[str, bytes]) -> list[str]:
    """Return the names of the secrets in a text, also in base64, and the tokens in it."""
    named = [
        name
        for name, value in secrets.items()
        if value in content
        or base64.b64encode(value) in content
        or json.dumps(value.decode())[1:-1].encode() in content
    ]
    return named + [f"the token {found[0][:12].decode()}..." for found in TOKENS.finditer(content)]


def new_files(folder: pathlib.Path, since: float, skip: set[pathlib.Path]) -> Iterator[pathlib.Path]:
    """Return the regular files in a folder tree that were written since a time."""
    for place, folders, files in os.walk(folder, onerror=lambda error: None):
        here = pathlib.Path(place)
        folders[:] = [name for name in folders if name not in SKIPPED and here / name not in skip]
        for path in (here / name for name in files):
            try:
                status = path.lstat()
            except OSError:
                continue  # deleted by another process in the meantime
            if stat.S_ISREG(status.st_mode) and status.st_mtime >= since:
                yield path


def test_the_search_finds_secrets_and_tokens(secrets):
    name, value = next(iter(secrets.items()))
    assert name in leaks(b"x" + value + b"x", secrets)
    assert name in leaks(base64.b64encode(value), secrets)
    # Two parts, so that the search finds no token in a copy of this file in a shared folder.
    assert leaks(b"Bearer ya29." + b"a" * 24, secrets)
    assert len(secrets) > 20


def test_no_secret_is_in_the_output_of_any_run(runs, secrets):
    outputs = sorted(runs.outputs.iterdir())
    assert any(b"FAILED!" in path.read_bytes() for path in outputs)
    found = {path.name: leaks(path.read_bytes(), secrets) for path in outputs}
    assert not {name: names for name, names in found.items() if names}


def test_no_secret_is_in_ansibles_log(runs, secrets):
    content = runs.log.read_bytes()
    assert b"PLAY RECAP" in content
    assert leaks(content, secrets) == []


def test_no_secret_is_in_the_fact_cache_or_the_home(runs, secrets):
    found = {str(path): leaks(path.read_bytes(), secrets) for path in new_files(runs.home, 0, set())}
    found |= {str(path): leaks(path.read_bytes(), secrets) for path in new_files(runs.facts, 0, set())}
    assert not {name: names for name, names in found.items() if names}


def test_no_secret_is_in_the_working_folder_or_the_users_home(runs, secrets, box):
    skip = {box.state}
    paths = [*new_files(ROOT, runs.began, skip), *new_files(pathlib.Path.home() / ".ansible", runs.began, skip)]
    found = {str(path): leaks(path.read_bytes(), secrets) for path in paths}
    assert not {name: names for name, names in found.items() if names}


def test_no_secret_is_in_a_file_that_other_users_can_read(runs, secrets, box):
    found = {}
    for folder in map(pathlib.Path, SHARED):
        for path in new_files(folder, runs.began, {box.state}):
            if _is_world_readable(path) and (names := leaks(path.read_bytes(), secrets)):
                found[str(path)] = names
    assert not found


def _is_world_readable(path: pathlib.Path) -> bool:
    try:
        if not path.stat().st_mode & stat.S_IROTH:
            return False
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    except OSError:
        return False


def test_no_secret_is_in_the_list_of_processes(runs, secrets):
    seen = runs.watcher.seen
    assert any("verify.py" in line for line in seen)
    assert any("ansible-playbook" in line for line in seen)
    found = {line[:60]: leaks(line.encode(), secrets) for line in seen}
    assert not {line: names for line, names in found.items() if names}
