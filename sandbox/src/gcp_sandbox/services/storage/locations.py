# SPDX-License-Identifier: Apache-2.0
"""Where buckets can be (cloud.google.com/storage/docs/locations)."""

from __future__ import annotations

from gcp_sandbox.gateway import locations

MULTI_REGIONS = frozenset({"ASIA", "EU", "US"})
DUAL_REGIONS = frozenset({"ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4"})
REGIONS = frozenset(region.upper() for region in locations.REGIONS)


def location_type(location: str, placement: list[str] | None = None) -> str | None:
    """`region`, `dual-region` or `multi-region`; None where there is no such place.

    `placement` are the two regions of a configurable dual-region; its location is the multi-region around them.
    """
    if placement:
        known = len(placement) == 2 and all(place.upper() in REGIONS for place in placement)
        return "dual-region" if known and location in MULTI_REGIONS else None
    if location in MULTI_REGIONS:
        return "multi-region"
    if location in DUAL_REGIONS:
        return "dual-region"
    return "region" if location in REGIONS else None
