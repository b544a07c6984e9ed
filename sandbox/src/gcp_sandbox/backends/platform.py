# SPDX-License-Identifier: Apache-2.0
"""The interface of a sandbox with its backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gcp_sandbox.gateway.core import Core

if TYPE_CHECKING:
    from gcp_sandbox.backends.images import ImageStore
    from gcp_sandbox.backends.logs import Logs
    from gcp_sandbox.backends.objects import ObjectStore
    from gcp_sandbox.backends.processes import Processes
    from gcp_sandbox.backends.servers import SqlServers


class Platform(Core, Protocol):
    """A sandbox as services see it that need a backend."""

    objects: ObjectStore
    sql: SqlServers
    images: ImageStore
    logs: Logs
    processes: Processes
