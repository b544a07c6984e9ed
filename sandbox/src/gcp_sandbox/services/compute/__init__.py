# SPDX-License-Identifier: Apache-2.0
"""Compute Engine v1: the networks that other services are placed in."""

from gcp_sandbox.services.compute.service import Compute

__all__ = ["Compute"]
