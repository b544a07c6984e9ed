# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Customer-managed encryption keys: which part is encrypted with which key, and the rights of Google's agents on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils import _agents
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem

ALL = "mlflow_kms_key"
API = "cloudkms.googleapis.com"
ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
GLOBAL = "global"


@dataclass(frozen=True)
class Part:
    """A part of a deployment that a key encrypts.

    variable  that names its key alone
    title     for messages
    apis      with the agents that use the key
    places    where the key must be
    keys      as set, each with the variable that it comes from
    existing  the key of the part that exists, "" for Google's; None where the key can change, or nothing exists
    adopts    whether the part is adopted where it exists, and keeps its key then
    """

    variable: str
    title: str
    apis: tuple[str, ...]
    places: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    existing: str | None = None
    adopts: bool = False


@dataclass(frozen=True)
class Keys:
    """The rights that the agents need before anything is encrypted.

    agents    APIs with an agent that lacks its role on a key
    bindings  full resource name of a key, and the bindings that it needs
    """

    agents: list[str]
    bindings: list[dict[str, Any]]


def location(key: str) -> str:
    """Return where a key is."""
    return key.split("/")[3]


def key_of(context: Context, variable: str) -> str:
    """Return the key of one part; "" without one."""
    return str(context[variable] or context[ALL])


def secret_keys(context: Context) -> list[str]:
    """Return the keys of the secrets, one for each location; none where others created them."""
    if context.uses("secrets") or context.adopted("secrets", "secret", context.names.password_secret):
        return []
    return list(context["secrets_kms_keys"] or ([context[ALL]] if context[ALL] else []))


def parts(context: Context, server: str, secrets: list[str]) -> list[Part]:
    """Return the parts that a key encrypts. A part that is adopted or only used keeps the key that it has.

    :param server: variable that names the key of the server; "" on a target without keys.
    :param secrets: locations of the secrets.
    """
    names = context.names
    found: list[Part] = []

    def add(part: str, kind: str, name: str, variable: str, title: str, places: list[str], *apis: str) -> None:
        given = [context[variable]] if isinstance(context[variable], str) else context[variable]
        source = variable if given and given[0] else ALL
        keys = tuple((source, key) for key in (given if source == variable else [context[ALL]]) if key)
        if not keys or context.uses(part) or context.adopted(part, kind, name):
            return
        exists = context.existing.resource(kind, name)
        existing = (exists.get("kms_key") or "") if exists and kind in _FIXED else None
        agents = tuple(f"{api}.googleapis.com" for api in apis)
        found.append(Part(variable, title, agents, tuple(places), keys, existing, bool(kind) and context.adopts(part)))

    database, bucket, images = names.instance, names.bucket, names.repository
    add("database", "sql_instance", database, "cloudsql_kms_key", f"the Cloud SQL instance {database}",
        [context.database_region], "sqladmin")  # fmt: skip
    place = context.bucket_location.lower()
    add("bucket", "storage_bucket", bucket, "bucket_kms_key", f"the bucket {bucket}",
        [_OF_BUCKETS.get(place, place)], "storage")  # fmt: skip
    add("secrets", "secret", names.password_secret, "secrets_kms_keys", "the secrets",
        secrets or [GLOBAL], "secretmanager")  # fmt: skip
    if context.builds:
        built = ("storage",) if context["mlflow_image_engine"] == "cloud_build" else ()
        add("image_repository", "artifact_repository", images, "mlflow_image_kms_key", f"the repository {images}",
            [context.image_location], "artifactregistry", *built)  # fmt: skip
    job = names.migration_job
    add("", "cloud_run_job", job, "mlflow_migration_kms_key", f"the Cloud Run job {job}", [context.region], "run")
    if server:
        add("", "", "", server, "the Cloud Run service", [context.region], "run")
    return found


# Kinds with a key that cannot change.
_FIXED = ("artifact_repository", "sql_instance")
# https://cloud.google.com/storage/docs/encryption/customer-managed-keys#key-locations
_OF_BUCKETS = {"eu": "europe"}


def _users(found: list[Part]) -> dict[str, set[str]]:
    """Return the APIs that use each key."""
    users: dict[str, set[str]] = {}
    for part in found:
        for _variable, key in part.keys:
            users.setdefault(key, set()).update(part.apis)
    return users


def _member(api: str, number: str) -> str:
    return f"serviceAccount:{_agents.address(api, number)}"


def resources(found: list[Part]) -> list[dict[str, Any]]:
    """Return the keys as ``preflight_info`` takes them."""
    variables: dict[str, str] = {key: variable for part in found for variable, key in part.keys}
    return [
        {
            "type": "crypto_key",
            "name": key,
            "referenced_by": variables[key],
            "readers": [_member(api, "{number}") for api in sorted(apis)],
        }
        for key, apis in _users(found).items()
    ]


def keys(context: Context, found: list[Part]) -> Keys:
    """Return what is missing on the keys and may be granted."""
    agents: set[str] = set()
    bindings = []
    for key, apis in _users(found).items():
        found_key = context.existing.resource("crypto_key", key) or {}
        missing = found_key.get("unread") or [] if found_key.get("grantable") else []
        lacking = {api for api in apis if _member(api, context.number) in missing}
        if lacking:
            agents |= lacking
            members = [_member(api, context.number) for api in sorted(lacking)]
            bindings.append({"key": f"//{API}/{key}", "bindings": [{"role": ROLE, "members": members}]})
    return Keys(sorted(agents), bindings)


def rights(context: Context, found: list[Part]) -> Iterator[tuple[str, list[str]]]:
    """Yield each key and the agents that use it for certain. A part that is adopted may have another key."""
    for key, apis in sorted(_users([part for part in found if not part.adopts]).items()):
        if context.number:
            yield key, [_member(api, context.number) for api in sorted(apis)]


def problems(context: Context, found: list[Part], server: str) -> Iterator[Problem]:
    """Yield keys in a wrong location, keys of what cannot change its key, and a key of what cannot have one."""
    single = [part.variable for part in found]
    if context[ALL] and not server:
        yield Problem(
            ALL,
            f"{ALL} is the key of everything, and instances of App Engine flexible have no customer-managed keys.",
            f"Set the keys of the other parts instead ({', '.join(single)}), or use mlflow_target=cloudrun.",
        )
        return
    for part in found:
        by_place = {location(key): (variable, key) for variable, key in part.keys}
        variable, key = part.keys[0]
        for place in part.places:
            if place not in by_place:
                yield Problem(
                    variable,
                    f"{variable} is a key in {location(key)}, and {part.title} needs one in {place}.",
                    f"Set {part.variable} to a key in {place}.",
                )
        if part.existing is not None and part.existing != key:
            now = f"the key {part.existing}" if part.existing else "a key of Google's"
            instead = f"Set {part.variable} to that key" if part.existing else f"Unset {part.variable}"
            if not part.existing and variable == ALL:
                instead = f"Set the keys of the other parts instead of {ALL}"
            yield Problem(
                variable,
                f"{variable} is {key}, and {part.title} exists with {now}, which cannot be changed.",
                f"{instead}, or create it under another name and move what is in it (docs/keys.md).",
            )


def kept(context: Context) -> list[str]:
    """Return a line about the rights on the keys after a removal."""
    named = [context[name] for name in (ALL, *_SINGLE)] + list(context["secrets_kms_keys"])
    listed = ", ".join(dict.fromkeys(key for key in named if key))
    if not listed:
        return []
    return [
        f"Service agents keep the use of {listed}: without it, what it has encrypted cannot be read, and other"
        " resources of the project may need it. Revoke it when nothing is left (docs/keys.md)."
    ]


_SINGLE = (
    "cloudsql_kms_key",
    "bucket_kms_key",
    "mlflow_image_kms_key",
    "mlflow_migration_kms_key",
    "cloudrun_mlflow_kms_key",
)
