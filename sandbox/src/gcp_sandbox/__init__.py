# SPDX-License-Identifier: Apache-2.0
"""A local Google Cloud: one daemon that serves Google's own host names to unmodified clients."""

__version__ = "0.1.0"
