# SPDX-License-Identifier: Apache-2.0
"""Test that `make clean` names the folders that it keeps, and that its commands delete them."""

import importlib.util
import os
import pathlib
import re
import subprocess

import pytest
from gcp_sandbox.backends.cache import cache

ROOT = pathlib.Path(__file__).resolve().parents[3]


def sanity_home():
    spec = importlib.util.spec_from_file_location("sanity", ROOT / "scripts" / "sanity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HOME


@pytest.fixture(params=["home", "a cache folder", "folders of their own"])
def folders(request, tmp_path, monkeypatch):
    """The folders that programs of this repository fill, for one way to choose them."""
    for name in ("XDG_CACHE_HOME", "GCP_SANDBOX_CACHE", "UV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    uv = tmp_path / ".cache" / "uv"
    if request.param == "a cache folder":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a place"))
        uv = tmp_path / "a place" / "uv"
    elif request.param == "folders of their own":
        monkeypatch.setenv("GCP_SANDBOX_CACHE", str(tmp_path / "sandboxes"))
        uv = tmp_path / "packages"
        monkeypatch.setenv("UV_CACHE_DIR", str(uv))
    found = [cache(), uv, sanity_home()]
    for folder in found:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text("x")
    return found


def lines(tmp_path):
    done = subprocess.run([ROOT / "scripts" / "caches.sh"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if str(tmp_path) in line]


def test_every_cache_is_named_with_the_command_that_deletes_it(folders, tmp_path):
    shown = lines(tmp_path)
    assert len(shown) == len(folders)
    for line in shown:
        command = re.fullmatch(r"Kept \S+ in .* \(.*\)\. To delete it: (rm -rf .*)", line)[1]
        subprocess.run(["bash", "-c", command], check=True, env={"PATH": os.environ["PATH"]})
    assert [folder for folder in folders if folder.exists()] == []
    assert lines(tmp_path) == []
