# SPDX-License-Identifier: Apache-2.0
"""What goes wrong here, in words for the one who can mend it."""


class AuthError(Exception):
    """No credential for the server. The text says what is wrong, where, and what to do; never a secret."""
