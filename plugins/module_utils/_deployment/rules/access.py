# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members, roles, networks, addresses, and references to secrets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, like

# https://cloud.google.com/iam/docs/principal-identifiers
_EMAIL = r"[^\s@:,/]+@[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)+"
_DOMAIN = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)+"
_MEMBER = re.compile(
    rf"(user|group|serviceAccount):{_EMAIL}|domain:{_DOMAIN}|principal(Set)?://iam\.googleapis\.com/[!-~]+"
)
_PUBLIC = ("allUsers", "allAuthenticatedUsers")
_KINDS = "user:EMAIL, group:EMAIL, serviceAccount:EMAIL, domain:DOMAIN or principal://..."
_SECRET = (
    r"projects/[a-z0-9.:-]+/secrets/[A-Za-z0-9_-]{1,255}(/versions/([1-9][0-9]{0,18}|latest|[A-Za-z][\w-]{0,62}))?"
)
_PRIVATE = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def member(value: Any) -> Fault | None:
    """A member of a policy that is not public."""
    if _MEMBER.fullmatch(value) and len(value) <= 512:
        return None
    if value in _PUBLIC:
        return (
            "which is every user on the internet; the server and the bucket are never public",
            f"Write {_KINDS}. A server that is open behind a password is mlflow_access=password.",
        )
    if re.fullmatch(_EMAIL, value):
        kind = "serviceAccount" if value.endswith(".gserviceaccount.com") else "user"
        return "which lacks the kind of the member", f"Write {kind}:{value}, or group:{value} for a group."
    return "which is not a member that a role can be granted to", f"Write {_KINDS}."


def _policy_member(value: Any) -> Fault | None:
    conveniences = r"project(Owner|Editor|Viewer):[a-z0-9.:-]+"
    return None if value in _PUBLIC or re.fullmatch(conveniences, value) else member(value)


def _impersonator(value: Any) -> Fault | None:
    if value == "deployer":
        return None
    fault = member(value)
    return fault and (fault[0], f"{fault[1]} Or write deployer, for the account that runs the playbook.")


def network(value: Any) -> Fault | None:
    """https://cloud.google.com/sql/docs/postgres/authorize-networks: public IPv4 networks in CIDR notation."""
    try:
        found = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        return "which is not an IPv4 network", "Write it like 203.0.113.0/24."
    if found.prefixlen == 0:
        return (
            "which opens the database to the whole internet",
            "Set the network of your VPN. MLflow itself needs none.",
        )
    if any(found.overlaps(private) for private in _PRIVATE):
        return (
            "which is private, and Cloud SQL authorizes public networks only",
            "Set the public address of your network. MLflow itself needs none.",
        )
    return None


_SOURCES = ("payload", "payload_file", "generate", "template")


def secret_source(value: Any) -> Fault | None:
    """A secret has one payload."""
    given = [source for source in _SOURCES if value.get(source) is not None]
    if len(given) == 1:
        return None
    return (
        f"and a secret has one of {', '.join(_SOURCES)}",
        f"Remove all of {', '.join(given)} but one." if given else "Add one of them.",
    )


RULES: Mapping[str, Rule] = {
    "member": member,
    "policy_member": _policy_member,
    "impersonator": _impersonator,
    "network": network,
    "role": like(
        r"(projects/[a-z0-9.:-]+/|organizations/[0-9]+/)?roles/[A-Za-z0-9_.]{3,64}",
        "which is not a role",
        "Write it like roles/storage.objectViewer, or projects/P/roles/R for a custom one.",
    ),
    "permission": like(r"[a-zA-Z0-9]+(\.[a-zA-Z0-9]+){2}", "which is not a permission", "Write SERVICE.RESOURCE.VERB."),
    "api": like(
        r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+", "which is not the name of an API", "Write it like run.googleapis.com."
    ),
    "account_email": like(
        _EMAIL, "which is not the address of a service account", "Write NAME@PROJECT.iam.gserviceaccount.com."
    ),
    "secret": like(
        _SECRET,
        "which is not the full name of a secret",
        "Write projects/PROJECT/secrets/SECRET, with or without /versions/VERSION.",
    ),
    # With or without the project and the version: the server looks for a short name in its own project.
    "secret_reference": like(
        rf"{_SECRET}|[A-Za-z0-9_-]{{1,255}}(/versions/[\w-]{{1,63}})?",
        "which is not the name of a secret",
        "Write projects/PROJECT/secrets/SECRET, with or without /versions/VERSION, or SECRET alone.",
    ),
    "iap_resource": like(
        r"projects/[^/\s]+/iap_web(/[!-~]+)?",
        "which is not a resource of Identity-Aware Proxy",
        "Write it like projects/123456789012/iap_web/cloud_run-europe-west1/services/demo-dev.",
    ),
    "url": like(
        r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[!-~]*)?", "which is not an address", "Write it like https://HOST."
    ),
    # `*` stands for a part of the name, as the server's entrypoint has it.
    "host": like(
        r"(?=.{1,253}$)[A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?(\.[A-Za-z0-9*]([A-Za-z0-9*-]*[A-Za-z0-9*])?)*(:([0-9]{1,5}|\*))?",
        "which is not a host name",
        "Write the name alone, for example mlflow.example.com, without https:// and without a path.",
    ),
}
MAPPINGS: Mapping[str, Rule] = {"secret_source": secret_source}
