# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The OAuth client that users of Identity-Aware Proxy sign in with, kept as two secrets.

The API returns the client's secret as a SHA-256 only. The hash is compared, and the secret itself is sent.
"""

from __future__ import annotations

import hashlib

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ApiDisabled, NotFound, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._secrets import is_one_word, read_secret, version_name

# Stands in a plan for the value of a secret that an earlier task would have created.
NOT_KNOWN = "(not known yet)"

# Documented in the fragment mlplatform.gcp.oauth_client.
OAUTH_CLIENT = Options(
    {
        # names of secrets, not secrets
        "oauth_client_id_secret": {"type": "str", "no_log": False},
        "oauth_client_secret_secret": {"type": "str", "no_log": False},
    },
    required_together=(("oauth_client_id_secret", "oauth_client_secret_secret"),),
)


def read(task):
    """Return id and secret of the OAuth client, or two None when the task names none.

    In check mode their secrets need not exist yet.
    Errors: :class:`UserError` for a secret that is missing or empty.
    """
    if not task.params["oauth_client_id_secret"]:
        return None, None
    return _value(task, "oauth_client_id_secret"), _value(task, "oauth_client_secret_secret")


def _value(task, option):
    name = task.params[option]
    try:
        value = read_secret(task, name)
    except (NotFound, ApiDisabled) as error:
        if task.check_mode:
            if isinstance(error, ApiDisabled):
                task.assume_enabled(error)
            return NOT_KNOWN
        if isinstance(error, ApiDisabled):
            raise
        full = version_name(name, lambda: task.project)
        raise UserError(
            f"{option}: {full} does not exist.",
            "Create the secret with a version that holds the client's id or secret, as the console shows it.",
        ) from error
    except UserError as error:
        raise UserError(f"{option}: {error.message}", error.hint) from error
    if not is_one_word(value):
        raise UserError(
            f"{option}: the value of the secret {name} contains white space or control characters.",
            "Add a version with the client's id or secret alone, as the console shows it.",
        )
    return value


def digest(secret):
    """Return the hash of a client's secret as the API returns it; :data:`NOT_KNOWN` and None stay as they are."""
    return secret if secret in (None, NOT_KNOWN) else hashlib.sha256(secret.encode()).hexdigest()
