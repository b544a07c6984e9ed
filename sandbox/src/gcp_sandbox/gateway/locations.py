# SPDX-License-Identifier: Apache-2.0
"""The regions of Google Cloud and their zones (cloud.google.com/storage/docs/locations, compute/docs/regions-zones)."""

from __future__ import annotations

REGIONS = frozenset(
    f"{area}{number}"
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

# Letters of a region's zones where they are not a, b and c (cloud.google.com/compute/docs/regions-zones).
_ZONES = {"europe-west1": "bcd", "us-central1": "abcf", "us-east1": "bcd"}


def zones(region: str) -> list[str]:
    """Return the zones of a region."""
    return [f"{region}-{letter}" for letter in _ZONES.get(region, "abc")]
