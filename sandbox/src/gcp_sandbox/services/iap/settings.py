# SPDX-License-Identifier: Apache-2.0
"""Names of what IAP protects, and its settings, which are inherited from the organization down to one service."""

from __future__ import annotations

import copy
import hashlib
import re
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, masks

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform

Json = dict[str, Any]

KIND = "iap.settings"

# cloud.google.com/iap/docs/reference/rest/v1/TopLevel: pattern -> the middle part of the permissions on it.
RESOURCES = (
    (re.compile(r"organizations/[^/]+"), "organizations"),
    (re.compile(r"folders/[^/]+"), "folders"),
    (re.compile(r"projects/[^/]+"), "projects"),
    (re.compile(r"projects/[^/]+/iap_web"), "web"),
    (
        re.compile(
            r"projects/[^/]+/iap_web/(compute(-[^/]+)?|appengine-[^/]+|cloud_run-[^/]+|forwarding_rule(-[^/]+)?)"
        ),
        "webTypes",
    ),
    (re.compile(r"projects/[^/]+/iap_web/[^/]+/services/[^/]+"), "webServices"),
    (re.compile(r"projects/[^/]+/iap_web/[^/]+/services/[^/]+/versions/[^/]+"), "webServiceVersions"),
    (re.compile(r"projects/[^/]+/iap_tunnel"), "tunnel"),
    (re.compile(r"projects/[^/]+/iap_tunnel/zones/[^/]+"), "tunnelZones"),
    (re.compile(r"projects/[^/]+/iap_tunnel/zones/[^/]+/instances/[^/]+"), "tunnelInstances"),
    (re.compile(r"projects/[^/]+/iap_tunnel/locations/[^/]+"), "tunnelLocations"),
    (re.compile(r"projects/[^/]+/iap_tunnel/locations/[^/]+/destGroups/[^/]+"), "tunnelDestGroups"),
)


def kind(name: str) -> str:
    """Return the kind of a resource name as permissions have it: "web", "webServices"...; ApiError 400 otherwise."""
    for pattern, found in RESOURCES:
        if pattern.fullmatch(name):
            return found
    raise errors.invalid(f"Invalid resource name: {name!r}.")


def numbered(sandbox: Platform, name: str) -> str:
    """Return the name with the project's number, as IAP answers."""
    first, _, rest = name.partition("/")
    project, slash, tail = rest.partition("/")
    found = sandbox.projects.get(project) if first == "projects" else None
    return f"projects/{found.number}{slash}{tail}" if found else name


class Settings:
    """IapSettings by resource."""

    def __init__(self, sandbox: Platform) -> None:
        self.sandbox = sandbox

    def get(self, name: str) -> Json:
        """Return the settings made on this resource itself."""
        name = numbered(self.sandbox, name)
        return {**(self.sandbox.store.get(KIND, name) or {}), "name": name}

    def update(self, name: str, body: Json, mask: str) -> Json:
        """Change the settings that `mask` names ("iapSettings.accessSettings..."), or all of them without one.

        A client secret is kept as its hash only: nothing here has to present it.
        """
        name = numbered(self.sandbox, name)
        current = {key: value for key, value in self.get(name).items() if key != "name"}
        asked = _hashed({key: value for key, value in body.items() if key != "name"})
        paths = [path.strip() for path in mask.split(",") if path.strip()]
        named = [re.sub(r"^(iap_settings|iapSettings)\.", "", path) for path in paths]
        for path in masks.mask_paths(",".join(named)):
            if path[0] not in ("accessSettings", "applicationSettings", "name", "*"):
                raise errors.invalid(f"Invalid update mask path: '{'.'.join(path)}'.")
        named = [
            path.replace("clientSecret", "clientSecretSha256").replace("client_secret", "client_secret_sha256")
            for path in named
        ]
        merged = masks.merge_mask(current, asked, ",".join(named)) if named and named != ["*"] else asked
        settings = _without_empty(merged)
        self.sandbox.store.put(KIND, name, settings)
        return {**settings, "name": name}

    def effective(self, name: str) -> Json:
        """What applies to a resource: each group of settings from the nearest resource that has it."""
        name = numbered(self.sandbox, name)
        result: Json = {}
        for place in reversed(self._above(name)):
            for group, values in (self.sandbox.store.get(KIND, place) or {}).items():
                result.setdefault(group, {}).update(copy.deepcopy(values))
        return result

    def _above(self, name: str) -> list[str]:
        """Return the resource and what it inherits from, nearest first."""
        parts = name.split("/")
        places = [name]
        for end in range(len(parts) - 1, 1, -1):
            shorter = "/".join(parts[:end])
            if any(pattern.fullmatch(shorter) for pattern, _ in RESOURCES):
                places.append(shorter)
        project = self.sandbox.projects.get(parts[1]) if parts[0] == "projects" else None
        if project is not None:
            prefix = "//cloudresourcemanager.googleapis.com/"
            places += [place.removeprefix(prefix) for place in self.sandbox.projects.ancestors(project)]
        return places


def _hashed(body: Json) -> Json:
    body = copy.deepcopy(body)
    access = body.get("accessSettings", {})
    for holder in (access.get("oauthSettings"), access.get("workforceIdentitySettings", {}).get("oauth2")):
        if holder and "clientSecret" in holder:
            holder["clientSecretSha256"] = hashlib.sha256(holder.pop("clientSecret").encode()).hexdigest()
    return body


def _without_empty(body: Json) -> Json:
    """Messages that a mask has emptied are absent."""
    kept = {}
    for key, value in body.items():
        value = _without_empty(value) if isinstance(value, dict) else value
        if value not in ({}, [], None, ""):
            kept[key] = value
    return kept
