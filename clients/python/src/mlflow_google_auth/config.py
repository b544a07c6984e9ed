# SPDX-License-Identifier: Apache-2.0
"""Read the options from environment variables, which every process that logs inherits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_google_auth.errors import AuthError

PREFIX = "MLFLOW_GOOGLE_AUTH_"
MODES = ("auto", "iap", "iap-jwt", "iap-id-token", "iam", "off")
LOCAL = ("localhost", "127.0.0.1", "::1")
# Identity-Aware Proxy accepts JWTs with a lifetime of at most an hour (cloud.google.com/iap/docs/authentication-howto).
SHORTEST, LONGEST = 10, 3600


@dataclass(frozen=True)
class Settings:
    """The settings of the environment; equal settings share tokens.

    :param mode: the expected access control; "auto" detects it.
    :param audience: `aud` of the tokens instead of the detected one.
    :param impersonate: service accounts from the first delegate to the account of the tokens.
    :param credentials: file with credentials to use instead of application default credentials.
    :param adc: GOOGLE_APPLICATION_CREDENTIALS, so that another value selects another identity.
    :param hosts: origins that get tokens in addition to MLflow's tracking and registry servers.
    :param lifetime: lifetime in seconds of self-signed JWTs.
    """

    mode: str = "auto"
    audience: str = ""
    impersonate: tuple[str, ...] = ()
    credentials: str = ""
    adc: str = ""
    hosts: frozenset[str] = frozenset()
    lifetime: int = LONGEST

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Return the current settings.

        :raises AuthError: if a value is invalid.
        """
        environment = os.environ if environment is None else environment

        def value(name: str) -> str:
            return environment.get(PREFIX + name, "").strip()

        def values(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in value(name).split(",") if part.strip())

        mode = value("MODE").lower() or "auto"
        if mode not in MODES:
            raise AuthError(f"{PREFIX}MODE is {mode!r}; it must be one of {', '.join(MODES)}.")
        for account in values("IMPERSONATE"):
            if "@" not in account:
                raise AuthError(
                    f"{PREFIX}IMPERSONATE names {account!r}, which is not the address of a service account "
                    "(NAME@PROJECT.iam.gserviceaccount.com)."
                )
        lifetime = value("TOKEN_LIFETIME") or str(LONGEST)
        if not lifetime.isdigit() or not SHORTEST <= int(lifetime) <= LONGEST:
            raise AuthError(
                f"{PREFIX}TOKEN_LIFETIME is {lifetime!r}; it must be a number of seconds from {SHORTEST} to {LONGEST}."
            )
        return cls(
            mode=mode,
            audience=value("AUDIENCE"),
            impersonate=values("IMPERSONATE"),
            credentials=value("CREDENTIALS"),
            adc=environment.get("GOOGLE_APPLICATION_CREDENTIALS", ""),
            hosts=frozenset(origin(host if "://" in host else f"https://{host}") for host in values("HOSTS")),
            lifetime=int(lifetime),
        )


def origin(url: str) -> str:
    """Return scheme, host and port of a URL as browsers compare them; "" if the scheme is not http or https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


def address(url: str) -> str:
    """Return a server's address without query and final slash; "" if the scheme is not http or https."""
    return origin(url) + urlsplit(url).path.rstrip("/") if origin(url) else ""


def confidential(url: str) -> bool:
    """Return whether a connection is protected: https, or the local machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or host in LOCAL or host.endswith(".localhost")
