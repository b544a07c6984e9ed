# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

# The steps assert as tests do, and shall explain themselves as tests do.
pytest.register_assert_rewrite("ansible_collections.mlplatform.gcp.tests.integration.modules.steps")
