# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests with kills and faults: those of the other deployments, with operations that end at once."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.target._fixtures import (
    box,
    controller,
    get_project,
    instant,
    new_project,
    small,
    timed,
)
from ansible_collections.mlplatform.gcp.tests.integration.target._target import SEED

# pytest finds fixtures by the names in this module.
__all__ = ["box", "controller", "get_project", "instant", "new_project", "small", "timed"]


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the seed of everything random."""
    print(f"\n    ENDURANCE_SEED={SEED}", end="")
    return SEED
