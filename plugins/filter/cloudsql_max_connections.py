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

from ansible.errors import AnsibleFilterError
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.sizing import max_connections


def cloudsql_max_connections(tier, version, flags=None):
    try:
        return max_connections(tier, str(version), flags)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self):
        return {"cloudsql_max_connections": cloudsql_max_connections}
