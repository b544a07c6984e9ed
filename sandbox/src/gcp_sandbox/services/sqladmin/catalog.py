# SPDX-License-Identifier: Apache-2.0
"""What Cloud SQL sells: versions, editions, machine types, and which go together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gcp_sandbox.services.sqladmin.refusals import invalid

ENTERPRISE = "ENTERPRISE"
PLUS = "ENTERPRISE_PLUS"

# databaseVersion -> (version installed, maintenance release), as the service has been seen to install them.
MYSQL_RELEASES = {
    "MYSQL_5_6": ("MYSQL_5_6_51", "R20231105.01_02"),
    "MYSQL_5_7": ("MYSQL_5_7_44", "R20231105.01_03"),
    "MYSQL_8_0": ("MYSQL_8_0_41", "R20251004.01_07"),
    "MYSQL_8_4": ("MYSQL_8_4_7", "R20251004.01_24"),
}
POSTGRES_RELEASES = {"POSTGRES_15": "R20240514.00_12", "POSTGRES_16": "R20240527.01_10"}
# Minor version of each major one, for an instance that a server of another major version serves.
_POSTGRES_MINORS = {
    "POSTGRES_9_6": 24,
    "POSTGRES_10": 23,
    "POSTGRES_11": 22,
    "POSTGRES_12": 22,
    "POSTGRES_13": 22,
    "POSTGRES_14": 19,
    "POSTGRES_15": 7,
    "POSTGRES_16": 3,
    "POSTGRES_17": 6,
    "POSTGRES_18": 1,
}
LATEST_RELEASE = "R20251004.01_07"
# Newest version to which the recorded maintenance release leads: it is older than PostgreSQL 17 in Cloud SQL.
_NEWEST_TARGETS = {"POSTGRES_15": "POSTGRES_16"}

_MYSQL_80_FROM_57 = (18, *range(26, 38))
_MYSQL_80_FROM_80 = (*_MYSQL_80_FROM_57, 39, 40, 42, 43)

# vCPUs of the predefined machine types (cloud.google.com/sql/docs/postgres/machine-series-overview).
_N1_STANDARD = (1, 2, 4, 8, 16, 32, 64, 96)
_N1_HIGHMEM = (2, 4, 8, 16, 32, 64, 96)
_PERFORMANCE = (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)
_C4A = (1, 2, 4, 8, 16, 32, 48, 64, 72)

MIB = 1 << 20
GIB = 1 << 30


def hyperdisk(tier: str) -> bool:
    """Return whether a machine type takes Hyperdisk Balanced alone, as the C4A series does."""
    return tier.startswith("db-c4a-")


def is_postgres(version: str) -> bool:
    return version.startswith("POSTGRES_")


def is_mysql(version: str) -> bool:
    return version.startswith("MYSQL_")


def number(version: str) -> tuple[int, ...]:
    """Return ("POSTGRES", 9, 6) without the engine: versions of one engine compare by it."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def default_edition(version: str) -> str:
    """PostgreSQL from 16 and MySQL from 8.4 on are ENTERPRISE_PLUS by default (recorded for MySQL 8.4)."""
    if is_postgres(version):
        return PLUS if number(version) >= (16,) else ENTERPRISE
    return PLUS if is_mysql(version) and number(version) >= (8, 4) else ENTERPRISE


def base(version: str) -> str:
    """Return the version without a pinned patch release: MYSQL_8_0_36 -> MYSQL_8_0."""
    return re.sub(r"^(MYSQL_8_0)_\d+$", r"\1", version)


def release(version: str, served: str) -> str:
    """maintenanceVersion of an instance that `served` serves. MySQL's is Cloud SQL's own, MariaDB has none."""
    if is_mysql(version):
        tag = MYSQL_RELEASES.get(base(version), ("", LATEST_RELEASE))[1]
        return f"{installed(version, version)}.{tag}"
    return f"{installed(version, served)}.{POSTGRES_RELEASES.get(version, LATEST_RELEASE)}"


def installed(version: str, served: str) -> str:
    """Return databaseInstalledVersion: `served` where that is a server of this version, else what Cloud SQL installs.

    MariaDB, which is of no version of MySQL, is named as what it is.
    """
    if is_postgres(version):
        same = is_postgres(served) and number(served)[: len(number(version))] == number(version)
        return served if same else f"{version}_{_POSTGRES_MINORS.get(version, 0)}"
    if not is_mysql(version) or not is_mysql(served):
        return served
    return version if base(version) != version else MYSQL_RELEASES.get(version, (version,))[0]


def upgrades(version: str) -> list[dict[str, str]]:
    """Return upgradableDatabaseVersions.

    PostgreSQL leads to every later version (cloud.google.com/sql/docs/postgres/upgrade-major-db-version-inplace), as
    far as the maintenance release of the instance knows it. MySQL leads to 8.4.
    """
    if is_postgres(version):
        newest = number(_NEWEST_TARGETS.get(version, "POSTGRES_18"))
        return [_version(name) for name in _POSTGRES_MINORS if number(version) < number(name) <= newest]
    if version == "MYSQL_5_7":
        return [_version("MYSQL_8_0"), *(_version(f"MYSQL_8_0_{minor}") for minor in _MYSQL_80_FROM_57)]
    if base(version) == "MYSQL_8_0":
        return [*(_version(f"MYSQL_8_0_{minor}") for minor in _MYSQL_80_FROM_80), _version("MYSQL_8_4")]
    return []


def _version(name: str) -> dict[str, str]:
    engine = "PostgreSQL" if is_postgres(name) else "MySQL"
    shown = ".".join(str(part) for part in number(name))
    return {"displayName": f"{engine} {shown}", "majorVersion": base(name), "name": name}


@dataclass(frozen=True)
class Tier:
    """A machine type: memory in bytes, largest disk in bytes, the editions and engines that offer it."""

    name: str
    memory: int
    editions: tuple[str, ...]
    mysql_only: bool = False
    disk: int = 65536 * GIB


def predefined() -> list[Tier]:
    """Return every machine type that has a name of its own, in the order of tiers.list."""
    return [
        Tier("db-f1-micro", 629145600, (ENTERPRISE,), disk=3062 * GIB),
        Tier("db-g1-small", 1825361100, (ENTERPRISE,), disk=3062 * GIB),
        *(Tier(f"db-n1-standard-{n}", 3840 * MIB * n, (ENTERPRISE,), mysql_only=True) for n in _N1_STANDARD),
        *(Tier(f"db-n1-highmem-{n}", 6656 * MIB * n, (ENTERPRISE,), mysql_only=True) for n in _N1_HIGHMEM),
        *(Tier(f"db-perf-optimized-N-{n}", 8 * GIB * n, (PLUS,)) for n in _PERFORMANCE),
        *(Tier(f"db-c4a-highmem-{n}", 8 * GIB * n, (PLUS,)) for n in _C4A),
    ]


_CUSTOM = re.compile(r"db-custom-(?:[A-Z]\d[A-Z]?-)?(\d+)-(\d+)")


def tier(name: str) -> Tier:
    """Return the machine type of that name; 400 when there is none."""
    if found := next((item for item in predefined() if item.name.lower() == name.lower()), None):
        return found
    custom = _CUSTOM.fullmatch(name)
    if custom is None:
        raise invalid(f"Invalid request: Invalid Tier ({name}).")
    cpus, memory = int(custom[1]), int(custom[2])
    if not (cpus == 1 or (cpus % 2 == 0 and 2 <= cpus <= 96)):
        raise invalid(
            f"Invalid request: Invalid Tier ({name}): the number of vCPUs must be 1 or an even number up to 96."
        )
    if memory % 256 or memory < 3840:
        raise invalid(
            f"Invalid request: Invalid Tier ({name}): memory must be a multiple of 256 MB and at least 3840 MB."
        )
    return Tier(name, memory * MIB, (ENTERPRISE,))


def check_tier(name: str, edition: str, version: str) -> None:
    """400 for a machine type that the edition or engine does not offer, as said when an instance is made."""
    found = tier(name)
    if edition not in found.editions:
        engine = "postgres" if is_postgres(version) else "mysql"
        hint = (
            " Use a predefined Tier like db-perf-optimized-N-* instead. Learn more at"
            f" https://cloud.google.com/sql/docs/{engine}/create-instance#machine-types."
            if edition == PLUS
            else ""
        )
        raise invalid(f"Invalid request: Invalid Tier ({name}) for ({edition}) Edition.{hint}")
    if is_postgres(version) and found.mysql_only:
        raise invalid(
            "Invalid request: Only custom or shared-core instance Billing Tier type allowed for PostgreSQL database."
        )


def fits(name: str, edition: str, version: str) -> bool:
    """Return whether `check_tier` would let it pass."""
    found = tier(name)
    return edition in found.editions and not (is_postgres(version) and found.mysql_only)


# max_connections of PostgreSQL by memory in GiB (cloud.google.com/sql/docs/postgres/flags#postgres-m).
_CONNECTIONS = ((120, 1000), (60, 800), (30, 600), (15, 500), (7.5, 400), (6, 200), (3.75, 100), (1.7, 50), (0, 25))


# Flags of extensions and of Cloud SQL itself -> (type, whether the database restarts). The servers here keep them
# without a meaning (cloud.google.com/sql/docs/postgres/flags#list-flags-postgres).
EXTENSION_FLAGS = {
    "cloudsql.enable_pg_cron": ("BOOLEAN", True),
    "cloudsql.enable_pgaudit": ("BOOLEAN", True),
    "cloudsql.enable_pglogical": ("BOOLEAN", True),
    "cloudsql.iam_authentication": ("BOOLEAN", False),
    "cloudsql.logical_decoding": ("BOOLEAN", True),
    "cron.database_name": ("STRING", True),
    "pgaudit.log": ("STRING", False),
}


# Those of MySQL on machines that share their CPU, and on all others (cloud.google.com/sql/docs/mysql/flags#mysql-m).
_MYSQL_CONNECTIONS = {"db-f1-micro": 250, "db-g1-small": 1000}
_MYSQL_MAX = 4000


def max_connections(name: str, version: str) -> int:
    """max_connections on a machine type, unless a flag sets it."""
    if is_mysql(version):
        return _MYSQL_CONNECTIONS.get(name, _MYSQL_MAX)
    memory = tier(name).memory / GIB
    # 1.7 GB of db-g1-small is decimal: nearly 1.7 GiB counts as it.
    return next(count for least, count in _CONNECTIONS if memory >= least - 0.01)
