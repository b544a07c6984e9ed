# SPDX-License-Identifier: Apache-2.0
"""Folders of a sandbox."""

from __future__ import annotations

import shutil

import pytest
from gcp_sandbox.config import remove_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("x")
    return folder


def test_a_folder_is_removed_and_need_not_exist(folder):
    for _ in range(2):
        remove_folder(folder)
        assert not folder.exists()


def test_a_process_may_write_meanwhile(folder, monkeypatch):
    remove = shutil.rmtree
    errors = [OSError("Directory not empty"), FileNotFoundError("file")]

    def rmtree(path):
        if errors:
            raise errors.pop()
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove_folder(folder)
    assert not folder.exists()


def test_what_cannot_be_removed_is_an_error(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(OSError, match="symbolic link"):
        remove_folder(link)
    assert (folder / "inner" / "file").exists()
