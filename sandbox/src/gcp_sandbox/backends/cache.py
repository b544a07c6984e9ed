# SPDX-License-Identifier: Apache-2.0
"""Where the sandbox keeps what can be made again, for all sandboxes of a user."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gcp_sandbox.config import remove_folder


def cache() -> Path:
    """Folder for what can be made again: $GCP_SANDBOX_CACHE, else gcp-sandbox in the user's cache folder."""
    chosen = os.environ.get("GCP_SANDBOX_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcp-sandbox"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file, against threads and other processes alike; the kernel lets go of it when we die."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, which is filled by `make` when no sandbox of the user has done so before."""
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                part = folder.with_name(f".{folder.name}.part")
                remove_folder(part)
                make(part)
                part.rename(folder)
    return folder
