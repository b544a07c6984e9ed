# SPDX-License-Identifier: Apache-2.0
"""Interfaces that services offer to one another, found by their type and not by a service's name.

A service offers what it implements when it is made; another one asks when it needs it:

    sandbox.ports.offer(SecretReader, self)
    payload = sandbox.ports.get(SecretReader).read_version(name, caller)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gcp_sandbox.gateway.errors import unimplemented

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from gcp_sandbox.gateway.identity import Principal
    from gcp_sandbox.gateway.projects import Project

Port = TypeVar("Port")


class SecretReader(Protocol):
    """Reads payloads of secrets (Secret Manager)."""

    def read_version(self, name: str, caller: Principal) -> bytes:
        """Return the payload of a secret version; ApiError where the caller may not read it."""


class BucketProvider(Protocol):
    """Makes buckets that belong to another service (Cloud Storage)."""

    def provide_bucket(self, project: Project, name: str, location: str) -> None:
        """Create a bucket unless it exists."""


class Keys(Protocol):
    """Uses keys for other services (Cloud KMS)."""

    def use_key(self, name: str, agent: Principal, *, decrypt: bool = False) -> str:
        """Return the full name of the version that encrypts; ApiError 404, 403, or 400 where it is not enabled."""


class Vpc(Protocol):
    """Reads the networks of projects (Compute Engine). Networks and subnetworks are named by path or link."""

    def network(self, reference: str) -> dict[str, Any] | None:
        """Return a network, with its `path`; None where there is none."""

    def subnetwork(self, reference: str) -> dict[str, Any] | None:
        """Return a subnetwork, with its `path`; None where there is none."""

    def reserved(self, network: str) -> dict[str, IPv4Network]:
        """Return the ranges of a network that are reserved for peered services, by name."""

    def set_peering(self, reference: str, peering: dict[str, Any] | None, name: str) -> None:
        """Give a network a peering, replace it, or remove it."""


class PrivateServices(Protocol):
    """Knows which networks are connected to Google's services (Service Networking)."""

    def ranges(self, network: str) -> dict[str, IPv4Network] | None:
        """Return the ranges of a network (path) for addresses of services; None without a connection."""


class ServiceProducer(Protocol):
    """Has addresses in the networks of its users (Cloud SQL)."""

    def uses_network(self, path: str) -> bool:
        """Return whether a service has an address in the network with this path."""


class Ports:
    """What the services of one sandbox offer."""

    def __init__(self) -> None:
        self._offers: dict[type, Any] = {}

    def offer(self, port: type[Port], implementation: Port) -> None:
        """Make `implementation` the one that `get(port)` returns."""
        self._offers[port] = implementation

    def get(self, port: type[Port]) -> Port:
        """Return what offers an interface; ApiError 501 where the service that has it could not be loaded."""
        if port not in self._offers:
            raise unimplemented(f"{port.__name__}, which no loaded service offers")
        return self._offers[port]
