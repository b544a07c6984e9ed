# SPDX-License-Identifier: Apache-2.0
"""Names and addresses of Cloud Run resources."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from functools import lru_cache

from gcp_sandbox.gateway import catalog, errors

# Two letters stand for the region in the older form of a service's address. Google publishes no list; these are the
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

# cloud.google.com/run/docs/deploying: at most 49 characters; a revision's and an execution's suffix bring it to 63.
SERVICE_ID = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
REVISION_ID = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
TAG = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")

# No vowels in generated suffixes, so that they form no words.
SUFFIX = "bcdfghjklmnpqrstvwxz2456789"

NAME = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)"
    r"/(?P<collection>services|jobs)/(?P<id>[^/]+)(/(revisions|executions)/(?P<child>[^/]+))?(/tasks/(?P<task>[^/]+))?"
)


@dataclass(frozen=True)
class Name:
    """A parsed resource name. `collection` is "services" or "jobs"; `child` a revision or an execution."""

    project: str
    region: str
    collection: str
    id: str
    child: str = ""
    task: str = ""

    @classmethod
    def parse(cls, text: str) -> Name:
        """From projects/P/locations/L/services/S, .../revisions/R, .../jobs/J, .../executions/E or .../tasks/T."""
        found = NAME.fullmatch(text)
        if found is None:
            raise errors.invalid(f"Malformed name: {text!r}")
        return cls(**{key: value or "" for key, value in found.groupdict().items()})

    @property
    def location(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def parent(self) -> str:
        """Name of the service or job."""
        return f"{self.location}/{self.collection}/{self.id}"


def check_id(field: str, value: str, *, pattern: re.Pattern[str] = SERVICE_ID, longest: int = 49) -> None:
    """ApiError 400 unless `value` may name a service or a job."""
    if not pattern.fullmatch(value):
        raise errors.invalid(
            f"Violation in {field}: {value!r} must use only lowercase letters, digits and hyphens, begin with a "
            "letter, "
            f"not end with a hyphen, and be at most {longest} characters long."
        )


@lru_cache
def regions() -> frozenset[str]:
    """Regions that Cloud Run is in: those with an endpoint of their own in the discovery document."""
    document = json.loads((catalog.DOCUMENTS / "run.v2.json").read_text())
    return frozenset(endpoint["location"] for endpoint in document["endpoints"])


def check_region(region: str) -> None:
    """ApiError 403, as for everything that may or may not exist, unless Cloud Run is in the region."""
    if region not in regions():
        raise errors.permission_denied(f"Permission denied on 'locations/{region}' (or it may not exist).")


def suffix(length: int) -> str:
    """Random characters for a generated name."""
    return "".join(random.choices(SUFFIX, k=length))


def project_hash(number: str) -> str:
    """Ten characters that are the same for all services of a project, as in SERVICE-HASH-REGION.a.run.app."""
    value = int.from_bytes(hashlib.sha256(f"run:{number}".encode()).digest()[:8], "big")
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "".join(letters[value >> 5 * index & 31] for index in range(10))


def region_code(region: str) -> str:
    """The two letters of a region in SERVICE-HASH-REGION.a.run.app."""
    if region in REGION_CODES:
        return REGION_CODES[region]
    first, second = hashlib.sha256(region.encode()).digest()[:2]
    return chr(97 + first % 26) + chr(97 + second % 26)


def hosts(service: str, number: str, region: str, tag: str = "") -> list[str]:
    """A service's two host names, the deterministic one first; or those of one of its traffic tags."""
    label = f"{tag}---{service}" if tag else service
    return [
        f"{label}-{number}.{region}.run.app",
        f"{label}-{project_hash(number)}-{region_code(region)}.a.run.app",
    ]
