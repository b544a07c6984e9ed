# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses: those of auto mode, and free ones (cloud.google.com/vpc/docs/subnets#ip-ranges)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Range = ipaddress.IPv4Network

AUTO_BLOCK = Range("10.128.0.0/9")
# The second byte of a region's /20. By default networks have none in me-central2; that of asia-southeast3 is not known.
_SECOND_BYTES = {
    "us-central1": 128, "europe-west1": 132, "us-west1": 138, "asia-east1": 140, "us-east1": 142,
    "asia-northeast1": 146, "asia-southeast1": 148, "us-east4": 150, "australia-southeast1": 152, "europe-west2": 154,
    "europe-west3": 156, "southamerica-east1": 158, "asia-south1": 160, "northamerica-northeast1": 162,
    "europe-west4": 164, "europe-north1": 166, "us-west2": 168, "asia-east2": 170, "europe-west6": 172,
    "asia-northeast2": 174, "asia-northeast3": 178, "us-west3": 180, "us-west4": 182, "asia-southeast2": 184,
    "europe-central2": 186, "northamerica-northeast2": 188, "asia-south2": 190, "australia-southeast2": 192,
    "southamerica-west1": 194, "europe-west8": 198, "europe-west9": 200, "us-east5": 202, "europe-southwest1": 204,
    "us-south1": 206, "me-west1": 208, "europe-west12": 210, "me-central1": 212, "europe-west10": 214,
    "africa-south1": 218, "northamerica-south1": 224, "europe-north2": 226,
}  # fmt: skip
#: Region -> the range of its subnetwork in a network in auto mode.
#: Region -> the range of its subnetwork in a network in auto mode.
AUTO = {region: Range(f"10.{byte}.0.0/20") for region, byte in _SECOND_BYTES.items()}
#: Where a range is looked for when a request names only its length.
_POOLS = (Range("10.0.0.0/9"), Range("172.16.0.0/12"), Range("192.168.0.0/16"))


def parse(text: str) -> Range | None:
    """Return the range, or None for what is not one, or has bits set behind its prefix."""
    try:
        return Range(text)
    except ValueError:
        return None


def containing(address: str, length: int) -> Range | None:
    """Return the range of a prefix length with this address; None for what is not one."""
    try:
        return Range(f"{address}/{length}", strict=False)
    except ValueError:
        return None


def free(length: int, taken: Iterable[Range], *, start: int = 0) -> Range | None:
    """Return a range of this prefix length that overlaps nothing; None where there is no room.

    :param start: which of the ranges is tried first; the search goes on behind it and begins again.
    """
    used = list(taken)
    for pool in _POOLS:
        if length < pool.prefixlen:
            continue
        size, count = 1 << (32 - length), 1 << (length - pool.prefixlen)
        for offset in range(min(count, 4096)):
            first = int(pool.network_address) + (start + offset) % count * size
            found = Range((first, length))
            if not any(found.overlaps(other) for other in used):
                return found
    return None
