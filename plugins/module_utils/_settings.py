# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read credentials and the addresses of proxies: remove white space around them, and reject odd characters in them.

A library that rejects such a character later quotes the value. An error of this file names the option or the
environment variable and what is wrong with it, and never the value.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

from ansible_collections.mlplatform.gcp.plugins.module_utils import _redaction
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import CredentialsError, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP

try:
    from urllib3.util import parse_url
except ImportError:  # reported by _http
    parse_url = None

# Options that become parts of headers, addresses and requests.
_WORDS = ("project", "access_token", "service_account_email", "impersonate_service_account", "quota_project")
_AGAIN = "Set it again without that character. A value that was copied can have characters that are not visible."
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# Fields of a service account's key that become parts of headers, addresses and tokens.
_FIELDS = ("project_id", "private_key_id", "client_email", "client_id", "token_uri", "universe_domain")


def word(value, where):
    """Return a value without white space around it; None for an empty one.

    Errors: :class:`CredentialsError` for a character that is no visible ASCII character. ``where`` is what has the
    value, for the message.
    """
    return _cleaned(value, where)


def path(value, where):
    """Return a path without white space around it. Errors: :class:`CredentialsError` for a control character."""
    return _cleaned(value, where, is_path=True)


def _cleaned(value, where, **kind):
    value = (value or "").strip()
    odd = _redaction.odd(value, **kind)
    if odd:
        raise CredentialsError(f"{where} has {odd}.", _AGAIN)
    return value or None


def project(params):
    """Return the option ``project``, cleaned, or None. Errors: :class:`CredentialsError` for an odd character."""
    return word(params.get("project"), source(params, "project"))


def credentials(params):
    """Return the options of the group ``GCP``, cleaned. Errors: :class:`CredentialsError` for an odd character."""
    found = {name: word(params.get(name), source(params, name)) for name in _WORDS}
    found["service_account_file"] = path(params.get("service_account_file"), source(params, "service_account_file"))
    where = source(params, "scopes")
    found["scopes"] = [scope for scope in (word(item, where) for item in params.get("scopes") or []) if scope]
    contents = params.get("service_account_contents")
    found["service_account_contents"] = contents.strip() if isinstance(contents, str) else contents
    return dict(params, **found)


def source(params, name):
    """Return the name of an option, or of the environment variable that its value is from."""
    spec = GCP.arguments[name]
    variables = spec["fallback"][1] if "fallback" in spec else []
    given = params.get(name)
    given = ",".join(given) if isinstance(given, list) else given
    found = next((variable for variable in variables if os.environ.get(variable) == given), None)
    return f"{found} in the environment" if found else f"The option {name}"


def key(info, where):
    """Return a service account's key, cleaned. Errors: :class:`CredentialsError` for an odd character."""
    if not isinstance(info, dict):
        raise CredentialsError(
            f"{where} is no JSON object.", "It must be the key of a service account as Google made it."
        )
    fields = {name: info[name] for name in _FIELDS if isinstance(info.get(name), str)}
    return dict(info, **{name: word(value, f"{name} in {where}") or "" for name, value in fields.items()})


def secrets_of(info):
    """Return the secret values of credentials, which are text or its JSON: a key, a login, or a configuration."""
    if isinstance(info, str):
        try:
            info = json.loads(info)
        except ValueError:
            return {info}
    secret = ("private_key", "client_secret", "refresh_token")
    return {info[name] for name in secret if isinstance(info.get(name), str)} if isinstance(info, dict) else set()


def application_file():
    """Return the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names, or None."""
    name = "GOOGLE_APPLICATION_CREDENTIALS"
    return path(os.environ.get(name), f"{name} in the environment")


def check_proxies():
    """Raise :class:`UserError` for the address of a proxy in the environment that cannot be used."""
    for name, value in sorted(os.environ.items()):
        problem = name.lower() in _redaction.PROXIES and value.strip() and _proxy_problem(value.strip())
        if problem:
            raise UserError(
                f"{name} in the environment {problem}.",
                "Its form is http://USER:PASSWORD@HOST:PORT. Percent-encode special characters of user and password,"
                " such as %2F for a slash.",
            )


def _proxy_problem(value):
    odd = _redaction.odd(value)
    if odd:
        return f"has {odd}"
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value  # as requests completes it
    if scheme.lower() not in _SCHEMES:
        return "does not start with http:// or https://"
    authority, more = re.fullmatch(r"([^/?#]*)(.*)", rest).groups()
    if "@" in more:
        return "has a slash, a question mark or a number sign in user or password"
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        host, _port = parts.hostname, parts.port
        parse_url(f"{scheme}://{authority}")
    except ValueError:
        return "has no valid host and port"
    return "" if host else "has no host"


def proxies(found):
    """Return the addresses of proxies that ``requests`` has read from the environment, without white space."""
    return {scheme: address.strip() if address else address for scheme, address in found.items()}
