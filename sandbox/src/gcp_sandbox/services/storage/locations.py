# SPDX-License-Identifier: Apache-2.0
"""Where buckets can be (cloud.google.com/storage/docs/locations)."""

from __future__ import annotations

MULTI_REGIONS = frozenset({"ASIA", "EU", "US"})
DUAL_REGIONS = frozenset({"ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4"})
REGIONS = frozenset(
    f"{area}{number}".upper()
    for area, numbers in {
        "africa-south": (1,),
        "asia-east": (1, 2),
        "asia-northeast": (1, 2, 3),
        "asia-south": (1, 2),
        "asia-southeast": (1, 2, 3),
        "australia-southeast": (1, 2),
        "europe-central": (2,),
        "europe-north": (1, 2),
        "europe-southwest": (1,),
        "europe-west": (1, 2, 3, 4, 6, 8, 9, 10, 12),
        "me-central": (1, 2),
        "me-west": (1,),
        "northamerica-northeast": (1, 2),
        "northamerica-south": (1,),
        "southamerica-east": (1,),
        "southamerica-west": (1,),
        "us-central": (1,),
        "us-east": (1, 4, 5),
        "us-south": (1,),
        "us-west": (1, 2, 3, 4),
    }.items()
    for number in numbers
)


def location_type(location: str, placement: list[str] | None = None) -> str | None:
    """`region`, `dual-region` or `multi-region`; None where there is no such place.

    `placement` are the two regions of a configurable dual-region, whose location is the multi-region around them.
    """
    if placement:
        known = len(placement) == 2 and all(place.upper() in REGIONS for place in placement)
        return "dual-region" if known and location in MULTI_REGIONS else None
    if location in MULTI_REGIONS:
        return "multi-region"
    if location in DUAL_REGIONS:
        return "dual-region"
    return "region" if location in REGIONS else None
