# SPDX-License-Identifier: Apache-2.0
"""Cloud SQL Admin API, v1 and v1beta4."""

from gcp_sandbox.services.sqladmin.service import SqlAdmin

__all__ = ["SqlAdmin"]
