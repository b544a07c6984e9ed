# SPDX-License-Identifier: Apache-2.0
"""The two letters that stand for a region in the addresses of deployed applications."""

from __future__ import annotations

import hashlib

# Two letters stand for the region in the addresses of what is deployed. Google publishes no list; these are the
# ones that are widely seen, and any other region gets two letters derived from its name.
REGION_CODES = {
    "africa-south1": "bq",
    "asia-east1": "de",
    "asia-east2": "df",
    "asia-northeast1": "an",
    "asia-northeast2": "dt",
    "asia-northeast3": "du",
    "asia-south1": "el",
    "asia-south2": "em",
    "asia-southeast1": "as",
    "asia-southeast2": "et",
    "australia-southeast1": "ts",
    "australia-southeast2": "km",
    "europe-central2": "lm",
    "europe-north1": "lz",
    "europe-southwest1": "no",
    "europe-west1": "ew",
    "europe-west10": "oe",
    "europe-west12": "og",
    "europe-west2": "nw",
    "europe-west3": "ey",
    "europe-west4": "ez",
    "europe-west6": "oa",
    "europe-west8": "oc",
    "europe-west9": "od",
    "me-central1": "ww",
    "me-central2": "wx",
    "me-west1": "zf",
    "northamerica-northeast1": "nn",
    "northamerica-northeast2": "pd",
    "southamerica-east1": "rj",
    "southamerica-west1": "tl",
    "us-central1": "uc",
    "us-east1": "ue",
    "us-east4": "uk",
    "us-east5": "ul",
    "us-south1": "vp",
    "us-west1": "uw",
    "us-west2": "wl",
    "us-west3": "wm",
    "us-west4": "wn",
}


def region_code(region: str) -> str:
    """Return the two letters of a region in SERVICE-HASH-REGION.a.run.app and PROJECT.REGION.r.appspot.com."""
    if region in REGION_CODES:
        return REGION_CODES[region]
    first, second = hashlib.sha256(region.encode()).digest()[:2]
    return chr(97 + first % 26) + chr(97 + second % 26)
