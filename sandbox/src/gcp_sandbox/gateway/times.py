# SPDX-License-Identifier: Apache-2.0
"""Times as Google's APIs write them."""

from __future__ import annotations

import datetime
import time


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 in UTC with microseconds, as Google writes times; `seconds` since the epoch, now by default."""
    moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text).timestamp()
