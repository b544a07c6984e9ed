# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.sizing import (
    max_connections,
    size,
    tier_memory,
)


@pytest.mark.parametrize(
    ("tier", "mebibytes"),
    [
        ("db-f1-micro", 614),
        ("db-g1-small", 1740),
        ("db-custom-1-3840", 3840),
        ("db-custom-96-638976", 638976),
        ("db-n1-standard-2", 7680),
        ("db-n1-highmem-4", 26624),
        ("db-perf-optimized-N-8", 65536),
        ("something-else", 3840),
    ],
)
def test_memory_of_a_tier(tier, mebibytes):
    assert tier_memory(tier) == mebibytes


# The first rows of https://cloud.google.com/sql/docs/postgres/flags#postgres-m and the limits of MySQL's tiers.
@pytest.mark.parametrize(
    ("tier", "version", "flags", "connections"),
    [
        ("db-f1-micro", "POSTGRES_16", None, 25),
        ("db-g1-small", "POSTGRES_16", None, 50),
        ("db-custom-1-3840", "POSTGRES_16", {}, 100),
        ("db-custom-2-7680", "POSTGRES_16", {}, 400),
        ("db-custom-4-15360", "POSTGRES_14", {}, 500),
        ("db-perf-optimized-N-16", "POSTGRES_17", {}, 1000),
        ("db-f1-micro", "MYSQL_8_0", {}, 250),
        ("db-g1-small", "MYSQL_8_0", {}, 1000),
        ("db-custom-1-3840", "MYSQL_8_4", {}, 4000),
        ("db-f1-micro", "POSTGRES_16", {"max_connections": 77}, 77),
        ("db-f1-micro", "MYSQL_8_0", {"max_connections": "300"}, 300),
        ("db-f1-micro", "POSTGRES_16", {"work_mem": 1}, 25),
    ],
)
def test_max_connections(tier, version, flags, connections):
    assert max_connections(tier, version, flags) == connections


def test_a_flag_that_is_not_a_number():
    with pytest.raises(ValueError, match="max_connections is 'many'"):
        max_connections("db-f1-micro", "POSTGRES_16", {"max_connections": "many"})


# limit, instances, workers, pool size, overflow -> size, needed, whether it fits, instances that fit
@pytest.mark.parametrize(
    ("limit", "instances", "workers", "pool", "overflow", "expected"),
    [
        (100, 10, 1, 0, 0, (2, 80, True, 11)),
        (100, 4, 1, 0, 0, (5, 80, True, 4)),
        (100, 1, 1, 0, 0, (5, 20, True, 4)),
        (400, 10, 2, 0, 0, (4, 320, True, 12)),
        (25, 3, 1, 0, 0, (1, 12, True, 3)),
        (25, 10, 1, 0, 0, (1, 40, False, 3)),
        (25, 3, 4, 0, 0, (1, 48, False, 0)),
        (100, 10, 1, 5, 0, (5, 200, False, 4)),
        (100, 2, 1, 5, 5, (5, 80, True, 2)),
        (100, 2, 1, 0, 10, (5, 120, False, 1)),
        (4000, 4, 1, 0, 0, (5, 80, True, 199)),
        (10, 1, 1, 0, 0, (1, 4, False, 0)),
        (100, 0, 0, 0, -3, (5, 20, True, 4)),
    ],
)
def test_pools(limit, instances, workers, pool, overflow, expected):
    sized = size(limit, instances=instances, workers=workers, pool_size=pool, overflow=overflow)
    assert (sized.size, sized.needed, sized.fits, sized.fitting_instances) == expected
    assert sized.usable == limit - 10
