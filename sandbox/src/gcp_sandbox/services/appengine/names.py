# SPDX-License-Identifier: Apache-2.0
"""Names, locations and addresses of App Engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.serving.regions import region_code

# cloud.google.com/appengine/docs/flexible/regions: App Engine's location -> display name. Two of them are older than
# the digits of the regions that they are.
LOCATIONS = {
    "asia-east1": "Taiwan",
    "asia-east2": "Hong Kong",
    "asia-northeast1": "Tokyo",
    "asia-northeast2": "Osaka",
    "asia-northeast3": "Seoul",
    "asia-south1": "Mumbai",
    "asia-southeast1": "Singapore",
    "asia-southeast2": "Jakarta",
    "australia-southeast1": "Sydney",
    "europe-central2": "Warsaw",
    "europe-west": "Belgium",
    "europe-west2": "London",
    "europe-west3": "Frankfurt",
    "europe-west6": "Zurich",
    "northamerica-northeast1": "Montreal",
    "southamerica-east1": "Sao Paulo",
    "us-central": "Iowa",
    "us-east1": "South Carolina",
    "us-east4": "Northern Virginia",
    "us-west1": "Oregon",
    "us-west2": "Los Angeles",
    "us-west3": "Salt Lake City",
    "us-west4": "Las Vegas",
}
REGIONS = {"europe-west": "europe-west1", "us-central": "us-central1"}

# apps.services.versions: 63 lower-case letters, digits and hyphens; these names mean something else in addresses.
ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
RESERVED = ("default", "latest")

# The project of a domain, example.com:p, has more than one label: p.example.com.
HOST = re.compile(r"(?P<label>[^.]+)(\.(?P<domain>[^.]+(\.[^.]+)+?))??(\.(?P<code>[a-z]{2})\.r)?\.appspot\.com")


def region_of(location: str) -> str:
    """Return the Compute region of an App Engine location: europe-west is europe-west1."""
    return REGIONS.get(location, location)


def check_location(location: str) -> None:
    """ApiError 400 for anything that is not one of App Engine's locations."""
    if location in LOCATIONS:
        return
    ours = next((name for name, region in REGIONS.items() if region == location), None)
    hint = f" App Engine's name of this region is '{ours}'." if ours else ""
    raise errors.invalid(f"The location '{location}' is not an App Engine location.{hint}")


def check_version_id(id: str) -> None:
    """ApiError 400 unless a version may be called this."""
    if not ID.fullmatch(id) or id in RESERVED or id.startswith("ah-"):
        raise errors.invalid(
            f"Invalid version id '{id}': it may have at most 63 lower-case letters, digits and hyphens, and be none of "
            "'default', 'latest' and 'ah-...'."
        )


def check_service_id(id: str) -> None:
    """ApiError 400 unless a service may be called this."""
    if not ID.fullmatch(id):
        raise errors.invalid(
            f"Invalid service id '{id}': it may have at most 63 lower-case letters, digits and hyphens, and neither "
            "begin nor end with a hyphen."
        )


def default_host(project: str, location: str) -> str:
    """PROJECT.REGIONCODE.r.appspot.com.

    :param project: the id as addresses have it, with its domain at the end.
    """
    return f"{project}.{region_code(region_of(location))}.r.appspot.com"


def service_host(app: Mapping[str, Any], service: str) -> str:
    """Return the address of a service of an application; the default service has the application's own."""
    host = app["defaultHostname"]
    return host if service == "default" else f"{service}-dot-{host}"


def version_host(app: Mapping[str, Any], service: str, version: str) -> str:
    """Return the address of one version."""
    return f"{version}-dot-{service_host(app, service)}"


@dataclass(frozen=True)
class Address:
    """What a host name says. `labels` are those before the project, at most a version and a service."""

    project: str
    code: str
    labels: tuple[str, ...]

    @classmethod
    def parse(cls, host: str) -> Address | None:
        """From PROJECT[.CODE.r].appspot.com with SERVICE-dot-, VERSION-dot- or VERSION-dot-SERVICE-dot- before it."""
        found = HOST.fullmatch(host)
        if found is None:
            return None
        *labels, project = found["label"].split("-dot-")
        # A third label names an instance, which no address of the flexible environment reaches.
        project = f"{found['domain']}:{project}" if found["domain"] else project
        return cls(project, found["code"] or "", tuple(labels[-2:]))
