# SPDX-License-Identifier: Apache-2.0
"""Etags: what a resource's is derived from, and whether the one that a client sends is the resource's.

How an etag is written (quotes, hexadecimal or base64) and the error for a wrong one are the service's.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(content: Any) -> bytes:
    """Return 32 bytes that change with any change of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def matches(sent: str | None, current: str) -> bool:
    """Return whether a client's etag is the current one; a request without an etag matches.

    Quotes that a shell removed, padding, and the URL-safe alphabet of base64 make no difference.
    """
    return not sent or _plain(sent) == _plain(current)


def _plain(etag: str) -> str:
    return etag.strip('"').rstrip("=").replace("-", "+").replace("_", "/")
