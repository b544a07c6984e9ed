# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

# The steps have assertions, too. Failures must show the compared values, as in test modules.
pytest.register_assert_rewrite("ansible_collections.mlplatform.gcp.tests.integration.modules.steps")
