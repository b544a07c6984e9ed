# SPDX-License-Identifier: Apache-2.0
"""Folders and user of the database servers, whatever their engine."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcp_sandbox.backends.sql import SqlError
from gcp_sandbox.config import Settings, remove_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Home:
    """Folders and user of the servers. `uid` and `gid` are None when they run as the daemon's user."""

    data: Path
    sockets: Path
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Home:
        if os.getuid() != 0:
            return cls(settings.state / "sql", settings.runtime / "sql")
        name = hashlib.sha256(str(settings.state).encode()).hexdigest()[:8]
        for user in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):  # this machine does not have the user
                entry = pwd.getpwnam(user)
                return cls(
                    Path("/var/lib/gcp-sandbox") / name,
                    Path(f"/tmp/gcp-sandbox-sql-{name}"),
                    entry.pw_uid,
                    entry.pw_gid,
                )
        raise SqlError("databases do not run as root, and this machine has neither a user postgres nor nobody")

    def prepare(self, settings: Settings) -> None:
        """Make the folders, private to the daemon's user; the servers' user may pass through."""
        mode = 0o700 if self.uid is None else 0o711
        for folder in (self.data, self.sockets):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise SqlError(f"{folder} belongs to another user")
            folder.chmod(mode)
        if self.uid is not None:
            self.data.parent.chmod(0o711)
            link = settings.state / "sql"
            if not link.is_symlink():
                link.symlink_to(self.data)
                user = pwd.getpwuid(self.uid).pw_name
                log.warning("Databases do not run as root: servers run as %s, with their data in %s", user, self.data)

    def remove_empty(self, settings: Settings) -> None:
        """Remove what `prepare` made where nothing is left in it."""
        with contextlib.suppress(OSError):  # it holds sockets, or was never made
            self.sockets.rmdir()
        with contextlib.suppress(OSError):  # it holds data, or was never made
            self.data.rmdir()
            if self.uid is not None:
                (settings.state / "sql").unlink(missing_ok=True)

    def own(self, path: Path) -> None:
        """Give a path to the servers' user."""
        if self.uid is not None:
            os.chown(path, self.uid, self.gid)

    def folder(self, path: Path) -> Path:
        """Return a private folder of the servers' user."""
        path.mkdir(mode=0o700, exist_ok=True)
        self.own(path)
        return path

    def copy(self, source: Path, target: Path) -> None:
        """Copy a folder for the servers' user."""
        shutil.copytree(source, target)
        for path in (target, *target.rglob("*")):
            self.own(path)

    def write(self, path: Path, text: str) -> None:
        """Replace a private file of the servers' user."""
        part = path.with_name(f".{path.name}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        self.own(part)
        part.replace(path)

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments of subprocess that make a child run as the servers' user."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Return whether the servers' user may enter every folder down to this one."""
        return self.uid is None or _reachable(folder, self.uid, self.gid)

    def offer(self, name: str, trees: Mapping[str, Path]) -> Path:
        """Return a folder with copies of `trees` at their keys, which the servers' user can read and execute.

        `name` identifies what they hold: a folder of that name is taken for the copies.
        """
        target = self.data.parent / name
        if not target.exists():
            part = target.with_name(f"{name}.{os.getpid()}.part")
            for path, tree in trees.items():
                shutil.copytree(tree, part / path, symlinks=True)
            for folder, _, files in os.walk(part):
                for path in (folder, *(os.path.join(folder, file) for file in files)):
                    if not os.path.islink(path):
                        more = 0o055 if os.path.isdir(path) else 0o044
                        mode = os.stat(path).st_mode | more
                        os.chmod(path, mode | 0o011 if mode & 0o100 else mode)
            try:
                part.rename(target)
            except OSError:
                remove_folder(part)
                if not target.exists():  # else another daemon of this user was faster
                    raise
        return target


def _reachable(path: Path, uid: int, gid: int) -> bool:
    """Return whether a user may enter every folder down to `path`."""
    for folder in (path, *path.parents):
        status = folder.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        if not status.st_mode >> shift & 1:
            return False
    return True


def purge(settings: Settings) -> None:
    """Remove all servers' data, for `gcp-sandbox reset`. Servers must have been stopped."""
    home = Home.of(settings)
    for folder in (home.data, home.sockets):
        remove_folder(folder)
