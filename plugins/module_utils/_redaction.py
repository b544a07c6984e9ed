# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove secrets from texts that this collection did not write: exceptions of libraries, output of programs, logs.

Every such text passes through :func:`text` before it becomes part of a message. This file needs the standard library
only, because programs of the roles import it as well.
"""

from __future__ import annotations

import base64
import json
import os
import re
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "********"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# A shorter secret is removed only where it stands alone: it can be a part of any word.
_SHORTEST = 8
# The inside of a text in quotes, which may contain quotes behind a backslash.
_QUOTED = r"(?P<quote>['\"])(?:\\.|(?!(?P=quote)).)*(?P=quote)"

# The order matters: what is in quotes first, whatever characters it has.
_PATTERNS = (
    # requests and http.client quote the header that they reject.
    (r"(header (?:value|part)s?:? \(?)b?" + _QUOTED, r"\1" + HIDDEN),
    (
        r"((?:access_token|accessToken|id_token|idToken|refresh_token|client_secret|private_key|assertion|password|"
        r"(?:proxy-|x-serverless-)?authorization)['\"]?\s*[:=]\s*)b?" + _QUOTED,
        r"\1" + HIDDEN,
    ),
    (r"(authorization\s*[:=]\s*)(?:Bearer|Basic|Digest|Negotiate)\s[^\r\n]*", r"\1" + HIDDEN),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", HIDDEN),
    # user:password@ of a URL
    (r"(?<=://)[^/?#\s]*@", HIDDEN + "@"),
    (r"\b(Bearer |Bearer%20)(?!token|realm)[^\s'\"]+", r"\1" + HIDDEN),
    (r"(?<=['\"])Basic [^\s'\"]+", "Basic " + HIDDEN),
    # The forms of Google's access tokens, of JSON Web Tokens and of Google's refresh tokens.
    (r"\bya29\.[\w.~+/=-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\b1//0[\w-]{10,}", HIDDEN),
)
# Characters that a header, an address or a token cannot have.
_ODD = ((r"[\r\n]", "a line break"), (r" ", "a space"), (r"[\x00-\x1f\x7f-\x9f]", "a control character"))
_ODD_IN_WORDS = (*_ODD, (r"[^!-~]", "a character that is not ASCII"))
_ODD_IN_PATHS = (_ODD[0], _ODD[2])
_RULES = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), by) for pattern, by in _PATTERNS)


def text(words, secrets=()):
    """Return a text, or that of an exception, without the ``secrets``, passwords of proxies, tokens and keys in it."""
    words = str(words)
    found = {trace for secret in (*secrets, *_of_proxies()) for trace in traces(secret)}
    for trace in sorted(found, key=len, reverse=True):
        if len(trace) >= _SHORTEST:
            words = words.replace(trace, HIDDEN)
        else:
            words = re.sub(rf"(?<!\w){re.escape(trace)}(?!\w)", HIDDEN, words)
    for pattern, by in _RULES:
        words = pattern.sub(by, words)
    return words


def odd(value, *, is_path=False):
    """Return which odd character a value has and where, without the value; an empty string for none.

    A path may have spaces and characters of any alphabet.
    """
    for pattern, what in _ODD_IN_PATHS if is_path else _ODD_IN_WORDS:
        match = re.search(pattern, value)
        if match:
            return f"{what} (character {match.start() + 1} of {len(value)})"
    return ""


def forms(value):
    """Return the forms in which texts have a value: as it is, escaped as in quotes, and encoded."""
    raw = value.encode("utf-8", "surrogateescape")
    found = {
        value,
        repr(value)[1:-1],
        repr(raw)[2:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    found |= {quote(raw, safe=""), quote(raw), quote_plus(raw), base64.b64encode(raw).decode()}
    return found - {""}


def traces(secret):
    """Return all that gives a secret away: its forms, also without the white space around it, and its parts."""
    # Escaping, also repeated escaping, leaves the parts between odd characters as they are.
    parts = {part for part in re.split(r"[^!-~]+|\\n", secret) if len(part) >= 2 * _SHORTEST}
    return forms(secret) | forms(secret.strip()) | parts if secret.strip() else set()


def _of_proxies():
    """Yield what is secret in the addresses of proxies in the environment."""
    for name, value in os.environ.items():
        if name.lower() in PROXIES and "@" in value:
            login = value.rpartition("@")[0].rpartition("://")[2]
            password = login.partition(":")[2]
            yield from {login, unquote(login), password, unquote(password)}
