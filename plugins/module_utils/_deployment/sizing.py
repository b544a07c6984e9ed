# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections: how many the database accepts, and how many the servers of a deployment can open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# MLflow opens up to four pools in each worker process: for runs, the registry, users, and jobs.
POOLS = 4
# Connections that are left to the migration and to the database itself.
RESERVED_CONNECTIONS = 10
# Connections of a pool if the database has enough for all: SQLAlchemy's default.
LARGEST_DEFAULT_POOL = 5

# MiB of memory from which on PostgreSQL accepts so many connections
# (https://cloud.google.com/sql/docs/postgres/flags#postgres-m).
_POSTGRES = (
    (0, 25),
    (1700, 50),
    (3840, 100),
    (6144, 200),
    (7680, 400),
    (15360, 500),
    (30720, 600),
    (61440, 800),
    (122880, 1000),
)
# https://cloud.google.com/sql/docs/mysql/quotas#cloud-sql-for-mysql-connection-limits
_MYSQL = {"db-f1-micro": 250, "db-g1-small": 1000}
_MYSQL_OTHERS = 4000
_SHARED_CORE = {"db-f1-micro": 614, "db-g1-small": 1740}
_SMALLEST_CUSTOM = 3840


def tier_memory(tier: str) -> int:
    """Return the memory of a Cloud SQL tier in MiB; an unknown tier counts as the smallest custom one.

    db-custom-CPUS-MIB, db-n1-standard-CPUS (3.75 GiB a CPU), db-n1-highmem-CPUS (6.5) and db-perf-optimized-N-CPUS (8).
    """
    if tier in _SHARED_CORE:
        return _SHARED_CORE[tier]
    if match := re.fullmatch(r"db-custom-[0-9]{1,9}-([0-9]{1,9})", tier):
        return int(match[1])
    for family, each in (("n1-standard", 3840), ("n1-highmem", 6656), ("perf-optimized-N", 8192)):
        if match := re.fullmatch(rf"db-{family}-([0-9]{{1,9}})", tier):
            return int(match[1]) * each
    return _SMALLEST_CUSTOM


def max_connections(tier: str, version: str, flags: Mapping[str, Any] | None = None) -> int:
    """Return ``max_connections`` of a Cloud SQL instance: the flag, or the default of its tier.

    Errors: :class:`ValueError` for a flag that is not a number.
    """
    given = (flags or {}).get("max_connections")
    if given is not None:
        if not re.fullmatch(r"[0-9]{1,19}", str(given)):
            raise ValueError(f"The flag max_connections is {given!r}, which is not a number.")
        return int(given)
    if version.startswith("MYSQL_"):
        return _MYSQL.get(tier, _MYSQL_OTHERS)
    memory = tier_memory(tier)
    return next(number for least, number in reversed(_POSTGRES) if memory >= least)


@dataclass(frozen=True)
class Sizing:
    """Connection pools of the server.

    limit      connections that the database accepts
    instances  servers that run at most
    workers    worker processes of each
    size       connections that each pool keeps
    overflow   connections that each pool opens beyond these
    """

    limit: int
    instances: int
    workers: int
    size: int
    overflow: int

    @property
    def usable(self) -> int:
        """Connections that the servers may use together."""
        return self.limit - RESERVED_CONNECTIONS

    @property
    def needed(self) -> int:
        """Connections that the servers can open together."""
        return self.instances * self.workers * POOLS * (self.size + self.overflow)

    @property
    def fits(self) -> bool:
        return self.needed <= self.usable

    @property
    def fitting_instances(self) -> int:
        """How many servers of this size the database has connections for; 0 for not even one."""
        return max(0, self.usable // (self.workers * POOLS * (self.size + self.overflow)))


def size(limit: int, *, instances: int, workers: int, pool_size: int = 0, overflow: int = 0) -> Sizing:
    """Return the pools of the server.

    :param pool_size: 0 for as many as the database accepts from all servers, at least 1 and at most 5.
    """
    instances, workers, overflow = max(1, instances), max(1, workers), max(0, overflow)
    if pool_size <= 0:
        share = (limit - RESERVED_CONNECTIONS) // (instances * workers * POOLS)
        pool_size = max(1, min(LARGEST_DEFAULT_POOL, share))
    return Sizing(limit, instances, workers, pool_size, overflow)
