# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlplatform.gcp.plugins.filter.cloudsql_max_connections import FilterModule

connections = FilterModule().filters()["cloudsql_max_connections"]


@pytest.mark.parametrize(
    ("tier", "version", "number"),
    [
        ("db-f1-micro", "POSTGRES_16", 25),
        ("db-g1-small", "POSTGRES_16", 50),
        ("db-custom-1-3840", "POSTGRES_16", 100),
        ("db-custom-2-7680", "POSTGRES_14", 400),
        ("db-custom-96-638976", "POSTGRES_16", 1000),
        ("db-n1-standard-1", "POSTGRES_9_6", 100),
        ("db-n1-highmem-2", "POSTGRES_16", 400),
        ("db-perf-optimized-N-2", "POSTGRES_17", 500),
        ("db-of-the-future", "POSTGRES_16", 100),
        ("db-f1-micro", "MYSQL_8_0", 250),
        ("db-g1-small", "MYSQL_8_0", 1000),
        ("db-custom-1-3840", "MYSQL_8_4", 4000),
    ],
)
def test_defaults(tier, version, number):
    assert connections(tier, version) == number


@pytest.mark.parametrize("version", ["POSTGRES_16", "MYSQL_8_0"])
def test_a_flag_counts(version):
    assert connections("db-f1-micro", version, {"max_connections": "77"}) == 77
    assert connections("db-f1-micro", version, {"other": "on"}) in (25, 250)


def test_a_flag_that_is_no_number():
    with pytest.raises(AnsibleFilterError, match="max_connections is 'many'"):
        connections("db-f1-micro", "POSTGRES_16", {"max_connections": "many"})
