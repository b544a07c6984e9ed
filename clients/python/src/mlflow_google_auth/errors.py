# SPDX-License-Identifier: Apache-2.0
"""Errors of this package, and texts of other packages' errors without secrets."""

from __future__ import annotations

import os
import re

HIDDEN = "********"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
PATTERNS = (
    # requests and http.client quote the header that they reject
    (r"(header (?:value|part)s?:? \(?)b?(['\"])(?:\\.|(?!\2).)*\2", r"\1" + HIDDEN),
    (
        r"((?:access_token|accessToken|id_token|refresh_token|client_secret|private_key|assertion)['\"]?\s*[:=]\s*)"
        r"(['\"])(?:\\.|(?!\2).)*\2",
        r"\1" + HIDDEN,
    ),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", HIDDEN),
    (r"(?<=://)[^/?#\s]*@", HIDDEN + "@"),
    (r"\b(Bearer )(?!token|realm)[^\s'\"]+", r"\1" + HIDDEN),
    # Google's access tokens, JSON Web Tokens, Google's refresh tokens
    (r"\bya29\.[\w.~+/=-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\b1//0[\w-]{10,}", HIDDEN),
)


class AuthError(Exception):
    """No token for the server. The text has the cause and the next step, and never a secret.

    It is raised without its cause: a traceback would have the text of that.
    """


def words(error: BaseException) -> str:
    """Return the text of an error of another package without passwords of proxies, tokens and keys."""
    text = str(error)
    for name, value in os.environ.items():
        login = value.rpartition("@")[0].rpartition("://")[2] if name.lower() in PROXIES else ""
        text = text.replace(login, HIDDEN) if login else text
    for pattern, by in PATTERNS:
        text = re.sub(pattern, by, text, flags=re.IGNORECASE | re.DOTALL)
    return text
