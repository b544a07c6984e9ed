# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cloudsql_max_connections
short_description: How many connections a Cloud SQL instance takes
version_added: 0.2.0
description:
  - Returns what C(max_connections) is on an instance of a tier, unless a flag says otherwise.
  - The defaults are those of L(PostgreSQL,https://cloud.google.com/sql/docs/postgres/flags#postgres-m) and
    L(MySQL,https://cloud.google.com/sql/docs/mysql/quotas#cloud-sql-for-mysql-connection-limits). A tier that is not
    known here is taken for the smallest custom one.
author:
  - the mlplatform.gcp authors (@mlplatform)
positional: version, flags
options:
  _input:
    description: The tier, for example V(db-custom-1-3840).
    type: str
    required: true
  version:
    description: The version of the database, for example V(POSTGRES_16) or V(MYSQL_8_0).
    type: str
    required: true
  flags:
    description: Database flags of the instance.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: As many pooled connections as the database takes from four servers
  ansible.builtin.set_fact:
    pool_size: "{{ 'db-custom-2-7680' | mlplatform.gcp.cloudsql_max_connections('POSTGRES_16') // 4 }}"
"""

RETURN = r"""
_value:
  description: The number of connections.
  type: int
"""

import re

from ansible.errors import AnsibleFilterError

# MiB of memory from which on PostgreSQL takes so many.
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
_MYSQL = {"db-f1-micro": 250, "db-g1-small": 1000}
_MYSQL_OTHERS = 4000
_SHARED_CORE = {"db-f1-micro": 614, "db-g1-small": 1740}
_SMALLEST_CUSTOM = 3840


def memory(tier):
    """MiB of memory of a tier: db-custom-CPUS-MIB, db-n1-standard-CPUS (3.75 GiB a CPU), db-n1-highmem-CPUS (6.5), and
    db-perf-optimized-N-CPUS (8)."""
    if tier in _SHARED_CORE:
        return _SHARED_CORE[tier]
    if match := re.fullmatch(r"db-custom-\d+-(\d+)", tier):
        return int(match[1])
    for family, each in (("n1-standard", 3840), ("n1-highmem", 6656), ("perf-optimized-N", 8192)):
        if match := re.fullmatch(rf"db-{family}-(\d+)", tier):
            return int(match[1]) * each
    return _SMALLEST_CUSTOM


def cloudsql_max_connections(tier, version, flags=None):
    given = (flags or {}).get("max_connections")
    if given is not None:
        if not str(given).isdigit():
            raise AnsibleFilterError(f"The flag max_connections is {given!r}, which is no number.")
        return int(given)
    if str(version).startswith("MYSQL_"):
        return _MYSQL.get(tier, _MYSQL_OTHERS)
    return next(number for least, number in reversed(_POSTGRES) if memory(tier) >= least)


class FilterModule:
    def filters(self):
        return {"cloudsql_max_connections": cloudsql_max_connections}
