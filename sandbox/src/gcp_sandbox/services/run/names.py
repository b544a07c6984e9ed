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
from gcp_sandbox.serving.regions import region_code

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


def hosts(service: str, number: str, region: str, tag: str = "") -> list[str]:
    """Return a service's two host names, the deterministic one first; or those of one of its traffic tags."""
    label = f"{tag}---{service}" if tag else service
    return [
        f"{label}-{number}.{region}.run.app",
        f"{label}-{project_hash(number)}-{region_code(region)}.a.run.app",
    ]
