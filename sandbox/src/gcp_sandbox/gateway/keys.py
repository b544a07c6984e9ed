# SPDX-License-Identifier: Apache-2.0
"""Keys of Cloud KMS that resources of other services are encrypted with."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from gcp_sandbox.gateway import catalog
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.ports import Keys

if TYPE_CHECKING:
    from gcp_sandbox.gateway.core import Core
    from gcp_sandbox.gateway.projects import Project

_NAME = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")


class Unusable(Exception):
    """Why a service cannot use a key.

    :param kind: "name", "location", "missing", "denied" or "disabled".
    :param agent: address of the service agent that uses it.
    """

    def __init__(self, kind: str, message: str, agent: str = "") -> None:
        super().__init__(message)
        self.kind, self.agent = kind, agent


def use(
    sandbox: Core, service: str, project: Project, name: str, locations: Collection[str] = (), *, decrypt: bool = False
) -> str:
    """Return the full name of the version of a key that encrypts.

    :param service: the service with the agent that uses the key: "storage".
    :param project: of the resource, not of the key.
    :param locations: where the key may be; anywhere when empty.
    :raises Unusable: the reason, which each service words for itself.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise Unusable("name", f"{name} is not the name of a key.")
    if locations and found[1] not in locations:
        raise Unusable("location", f"The key {name} is in {found[1]} and must be in {' or '.join(sorted(locations))}.")
    agent = catalog.service_agent(service, project)
    assert agent is not None
    try:
        principal = sandbox.identities.service_account(agent.email)
        return sandbox.ports.get(Keys).use_key(name, principal, decrypt=decrypt)
    except ApiError as error:
        kind = {404: "missing", 403: "denied"}.get(error.code, "disabled")
        raise Unusable(kind, error.message, agent.email) from error
