# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Cloud SQL takes.

Sources: https://cloud.google.com/sql/docs/postgres/instance-settings, https://cloud.google.com/sql/docs/postgres/editions-intro,
https://cloud.google.com/sql/docs/postgres/machine-series-overview, and the versions in sqladmin's discovery document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import flags
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import (
    Fault,
    Rule,
    like,
    nearest,
)

ENTERPRISE, PLUS = "ENTERPRISE", "ENTERPRISE_PLUS"
VERSIONS = (
    *(f"POSTGRES_{version}" for version in ("9_6", *range(10, 21))),
    *(f"MYSQL_{version}" for version in ("5_6", "5_7", "8_0", "8_4", "9_7")),
    # Patch releases of MySQL 8.0 can be pinned.
    *(f"MYSQL_8_0_{patch}" for patch in (18, *range(26, 38), *range(39, 47))),
)

_SHARED_CORE = ("db-f1-micro", "db-g1-small")
_CPUS = {
    "db-n1-standard": (1, 2, 4, 8, 16, 32, 64, 96),
    "db-n1-highmem": (2, 4, 8, 16, 32, 64, 96),
    "db-perf-optimized-N": (2, 4, 8, 16, 32, 48, 64, 80, 96, 128),
    "db-c4a-highmem": (1, 2, 4, 8, 16, 32, 48, 64, 72),
}
_PREDEFINED = (*_SHARED_CORE, *(f"{family}-{number}" for family, numbers in _CPUS.items() for number in numbers))
_CUSTOM = re.compile(r"db-custom-(?:([A-Z][0-9][A-Z]?)-)?([0-9]{1,6})-([0-9]{1,9})")
_SHARED_CORE_DISK = 3062
# Least and most of max_connections, see the pages of the flags.
_CONNECTIONS = {"POSTGRES": (14, 262142), "MYSQL": (10, 100000)}
_FLAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_LIST = "All flags are listed by: gcloud sql flags list --database-version={}"
# Connections for the migration and for Cloud SQL.
_RESERVED_CONNECTIONS = 10


def database_version(value: Any) -> Fault | None:
    """A version of PostgreSQL or MySQL, as the API spells it."""
    if value in VERSIONS:
        return None
    if value.upper().startswith("SQLSERVER"):
        return "and this collection manages PostgreSQL and MySQL", "Set it to POSTGRES_16 or MYSQL_8_0, for example."
    spelled = re.sub(r"[^A-Z0-9]+", "_", value.upper()).replace("POSTGRESQL", "POSTGRES")
    hint = f"Did you mean {spelled}? " if spelled in VERSIONS else ""
    return (
        "which is not a version that Cloud SQL has",
        f"{hint}Set it to a version of PostgreSQL or MySQL, for example POSTGRES_16 or MYSQL_8_0.",
    )


def tier(value: Any) -> Fault | None:
    """A machine type that some edition has."""
    if value in _PREDEFINED:
        return None
    found = _CUSTOM.fullmatch(value)
    if not found:
        like_it = nearest(value, (*_PREDEFINED, "db-custom-1-3840"))
        hint = f"Did you mean {like_it}? " if like_it else ""
        return (
            "which is not a machine type of Cloud SQL",
            f"{hint}Set it to db-custom-CPUS-MEMORY with the memory in MiB, for example db-custom-2-7680, or to a "
            "predefined one such as db-f1-micro.",
        )
    cpus, memory = int(found[2]), int(found[3])
    if not (cpus == 1 or (cpus % 2 == 0 and 2 <= cpus <= 96)):
        better = min(96, cpus + 1) if cpus else 1
        return (
            f"and {cpus} is not a number of CPUs that a custom machine type has",
            f"Use 1 or an even number up to 96, for example db-custom-{better}-{_memory_for(better, memory)}.",
        )
    least, most = _memory_range(cpus)
    if not least <= memory <= most:
        return (
            f"and {memory} MiB is not a memory of {cpus} CPU, which is 0.9 to 6.5 GiB a CPU and at least 3840 MiB",
            f"Use {least} to {most} MiB, for example db-custom-{cpus}-{_memory_for(cpus, memory)}.",
        )
    if memory % 256:
        return (
            f"and {memory} MiB is not a multiple of 256",
            f"Use a multiple of 256, for example db-custom-{cpus}-{_memory_for(cpus, memory)}.",
        )
    return None


def _memory_range(cpus: int) -> tuple[int, int]:
    """Return the least and most memory of a number of CPUs, multiples of 256 MiB."""
    return max(3840, -(-cpus * 9 * 1024 // 2560) * 256), cpus * 65 * 1024 // 2560 * 256


def _memory_for(cpus: int, memory: int) -> int:
    """Return the memory that fits a number of CPUs and is nearest to the given one."""
    least, most = _memory_range(cpus)
    return min(max(-(-memory // 256) * 256, least), most)


def database_flags(value: Any) -> Fault | None:
    """Names that a flag can have. Which flags a version has is for `check` and `check_listed`."""
    for name in value:
        if not _FLAG.fullmatch(name):
            return (
                f"and {shown(name)} cannot be the name of a database flag",
                "Write a flag of `gcloud sql flags list`, with underscores and without hyphens.",
            )
    return None


def check_listed(
    given: Mapping[str, str], listed: Mapping[str, Mapping[str, Any]], version: str
) -> tuple[list[Problem], list[str]]:
    """Return what is wrong with database flags according to Cloud SQL, and warnings about the rest.

    :param listed: the flags of the version, as the kind ``sql_flags`` reports them; empty where they were not read.
    """
    known: Iterable[str] = listed or (flags.MYSQL if version.startswith("MYSQL_") else flags.POSTGRES)
    problems, warnings = [], []
    for name, text in given.items():
        if name not in known:
            like_it = nearest(name, known)
            what = f"cloudsql_flags has {name}, which is not a known database flag of {version}."
            next = f"{f'Did you mean {like_it}? ' if like_it else ''}{_LIST.format(version)}"
            if listed:
                problems.append(Problem("cloudsql_flags", what, next))
            else:
                warnings.append(f"{what} {next}")
        elif listed and (fault := _flag_value(listed[name], text)):
            what = f"cloudsql_flags sets {name} to {shown(text)}, {fault[0]}."
            problems.append(Problem("cloudsql_flags", what, fault[1]))
        elif listed and listed[name].get("type") == "BOOLEAN" and text.lower() not in ("on", "off"):
            warnings.append(
                f"cloudsql_flags sets {name} to {shown(text)}. Write on or off in quotes, as Cloud SQL does."
            )
    return problems, warnings


def _flag_value(flag: Mapping[str, Any], text: str) -> Fault | None:
    """Return what is wrong with the value of a flag that the service has described."""
    words = flag.get("allowedStringValues") or []
    if flag.get("type") == "STRING" and words and text.lower() not in (word.lower() for word in words):
        return "which is not one of its values", f"Set it to one of {', '.join(words)}."
    if flag.get("type") != "INTEGER":
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        return "which is not a whole number", "Set it to a whole number, without a unit."
    least, most = flag.get("minValue"), flag.get("maxValue")
    single = [int(number) for number in flag.get("allowedIntValues") or []]
    limited = least is not None and most is not None
    if int(text) in single or (int(least) <= int(text) <= int(most) if limited else not single):
        return None
    ranges = [f"{least} to {most}"] if limited else []
    return "which is not one of its values", f"Set it to {' or '.join([*ranges, *map(str, single)])}."


def engine(values: Mapping[str, Any], derived: Mapping[str, str]) -> str:
    """Return POSTGRES or MYSQL; "" where the version is not known."""
    name = "mlflow_database_version"
    version = values.get(name) or derived.get(name) or values.get("cloudsql_database_version") or ""
    return next((kind for kind in _CONNECTIONS if version.startswith(f"{kind}_")), "")


def check(values: Mapping[str, Any], derived: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what does not go together, where each value is one by itself."""
    kind = engine(values, derived)
    edition, version = values.get("cloudsql_edition"), (values.get("mlflow_database_version") or "")
    for name in ("mlflow_database_tier", "cloudsql_tier"):
        yield from _tier(name, values.get(name) or "", edition, kind)
    if edition == PLUS and version.startswith(("POSTGRES_9_6", "POSTGRES_10", "POSTGRES_11", "MYSQL_5_")):
        yield Problem(
            "cloudsql_edition",
            f"cloudsql_edition is {PLUS}, which does not have {version}.",
            f"Set cloudsql_edition to {ENTERPRISE}, or choose a newer mlflow_database_version.",
        )
    if values.get("cloudsql_activation_policy") == "NEVER":
        yield Problem(
            "cloudsql_activation_policy",
            "cloudsql_activation_policy is NEVER, which stops the database that the server needs.",
            "Set it to ALWAYS, or leave it out. To stop the instance between deployments, use gcloud sql instances"
            " patch INSTANCE --activation-policy=NEVER.",
        )
    yield from _disk(values, edition)
    yield from _backup(values, kind)
    yield from _flags(values.get("cloudsql_flags") or {}, kind)


def _tier(name: str, value: str, edition: Any, kind: str) -> Iterator[Problem]:
    if not value:
        return
    plus = value.startswith(("db-perf-optimized-", "db-c4a-"))
    if plus and edition == ENTERPRISE:
        yield Problem(
            name,
            f"{name} is {value}, which needs cloudsql_edition {PLUS}.",
            f"Choose a tier like db-custom-2-7680, or set cloudsql_edition={PLUS}.",
        )
    if not plus and edition == PLUS:
        yield Problem(
            name,
            f"{name} is {value}, which does not exist in cloudsql_edition {PLUS}.",
            f"Choose a tier like db-perf-optimized-N-2, or set cloudsql_edition={ENTERPRISE}.",
        )
    if value.startswith("db-n1-") and kind == "POSTGRES":
        yield Problem(
            name,
            f"{name} is {value}, which Cloud SQL has for MySQL only.",
            "Choose a tier like db-custom-2-7680.",
        )


def _disk(values: Mapping[str, Any], edition: Any) -> Iterator[Problem]:
    size, limit = values.get("cloudsql_disk_size_gb") or 0, values.get("cloudsql_disk_autoresize_limit_gb") or 0
    machine, disk = values.get("mlflow_database_tier") or "", values.get("cloudsql_disk_type")
    if 0 < limit < size:
        yield Problem(
            "cloudsql_disk_autoresize_limit_gb",
            f"cloudsql_disk_autoresize_limit_gb is {limit}, less than the {size} of cloudsql_disk_size_gb.",
            f"Set it to {size} or more, or to 0 for no limit.",
        )
    if machine in _SHARED_CORE and size > _SHARED_CORE_DISK:
        yield Problem(
            "cloudsql_disk_size_gb",
            f"cloudsql_disk_size_gb is {size}, and {machine} has a disk of at most {_SHARED_CORE_DISK} GB.",
            "Choose a smaller disk, or a tier like db-custom-1-3840 in mlflow_database_tier.",
        )
    if disk == "PD_HDD" and edition == PLUS:
        yield Problem(
            "cloudsql_disk_type",
            f"cloudsql_disk_type is PD_HDD, which cloudsql_edition {PLUS} does not have.",
            "Set it to PD_SSD.",
        )
    custom = _CUSTOM.fullmatch(machine)
    if disk == "HYPERDISK_BALANCED" and not machine.startswith("db-c4a-") and not (custom and custom[1]):
        yield Problem(
            "cloudsql_disk_type",
            f"cloudsql_disk_type is HYPERDISK_BALANCED, which the machine series of mlflow_database_tier {machine} "
            "does not have.",
            "Set it to PD_SSD, or choose a tier like db-c4a-highmem-2.",
        )


def _backup(values: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    enabled, recovery = values.get("cloudsql_backup_enabled"), values.get("cloudsql_point_in_time_recovery")
    if recovery and enabled is False:
        yield Problem(
            "cloudsql_point_in_time_recovery",
            "cloudsql_point_in_time_recovery is true, which needs backups, and cloudsql_backup_enabled is false.",
            "Set cloudsql_backup_enabled to true, or cloudsql_point_in_time_recovery to false.",
        )
    regional = values.get("cloudsql_availability_type") == "REGIONAL"
    if regional and kind == "MYSQL" and (enabled is False or recovery is False):
        yield Problem(
            "cloudsql_availability_type",
            "cloudsql_availability_type is REGIONAL, which with MySQL needs backups and the binary log.",
            "Set cloudsql_backup_enabled and cloudsql_point_in_time_recovery to true, or "
            "cloudsql_availability_type to ZONAL.",
        )


def _flags(given: Mapping[str, str], kind: str) -> Iterator[Problem]:
    own, others, title = {
        "POSTGRES": (flags.POSTGRES, flags.MYSQL, "PostgreSQL"),
        "MYSQL": (flags.MYSQL, flags.POSTGRES, "MySQL"),
    }.get(kind, (frozenset(), frozenset(), ""))
    for name in given:
        if name in others and name not in own:
            yield Problem(
                "cloudsql_flags",
                f"cloudsql_flags has {name}, which is no database flag of {title}.",
                "Remove it, or use a flag of `gcloud sql flags list` with the version of your database.",
            )
    text = given.get("max_connections")
    if text is None:
        return
    least, most = _CONNECTIONS.get(kind, (14, 100000))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not max(least, _RESERVED_CONNECTIONS + 4) <= int(text) <= most:
        yield Problem(
            "cloudsql_flags",
            f"cloudsql_flags sets max_connections to {shown(text)}, which is not a number of connections from "
            f"{max(least, _RESERVED_CONNECTIONS + 4)} to {most}.",
            "Set max_connections to a number in that range, for example 200, or remove it.",
        )


RULES: Mapping[str, Rule] = {
    "database_version": database_version,
    "tier": tier,
    "time_of_day": like(
        r"(([01][0-9]|2[0-3]):[0-5][0-9])?",
        "which is not a time of day",
        'Write it as HH:MM in quotes, for example "02:00".',
    ),
}
MAPPINGS: Mapping[str, Rule] = {"flags": database_flags}
