# SPDX-License-Identifier: Apache-2.0
"""Errors of this package."""


class AuthError(Exception):
    """No token for the server. The text has the cause and the next step, and never a secret."""
