# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one rule by which the payload of a secret becomes a value, documented in docs/variables.md.

This file needs the standard library only, because programs of the roles import it as well. The entrypoint of the image
has the same rule in ``read_secret``; ``test_secret_text.py`` compares all places that read secrets.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

LINE_BREAKS = "\r\n"


class NoValue(ValueError):
    """A payload that is no value. The text is the rest of a sentence that begins with the secret's name."""


def value(payload: bytes) -> str:
    """Return the value that a payload stands for: UTF-8 text without the line breaks at its end.

    Tools that store a value add a line break, and it is never part of the value. Everything else is, white space
    included. Errors: :class:`NoValue` for a payload that is not text, and for one without a value; it quotes neither.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        # The error of the library would quote the payload.
        raise NoValue("is not text in UTF-8") from None
    text = text.rstrip(LINE_BREAKS)
    if not text:
        raise NoValue("is empty")
    return text


def payload_of(answer: Mapping[str, Any]) -> bytes:
    """Return the payload in the answer of ``secrets.versions.access``."""
    return base64.b64decode((answer.get("payload") or {}).get("data") or "")
