# SPDX-License-Identifier: Apache-2.0
"""The entry points of this package: MLflow's two interfaces for credentials.

MLflow calls `mlflow.request_header_provider` for every request; it adds headers and does not get the response.
`mlflow.request_auth_provider` requires MLFLOW_TRACKING_AUTH=google; it handles request and response.
MLflow requires only their methods, so no class imports MLflow before MLflow calls it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from requests.auth import AuthBase

from mlflow_google_auth import guard
from mlflow_google_auth.broker import BROKER
from mlflow_google_auth.config import PREFIX, Settings, origin
from mlflow_google_auth.requests_auth import GoogleAuth, header

NAME = "google"
# Frames from a header provider up to MLflow's http_request: three in MLflow 3.17.
DEPTH = 10
GOOGLE_DOMAINS = (".run.app", ".appspot.com")

log = logging.getLogger("mlflow_google_auth")
_warned: set[str] = set()


class GoogleRequestHeaderProvider:
    """mlflow.tracking.request_header.abstract_request_header_provider.RequestHeaderProvider"""

    def in_context(self) -> bool:
        """Return False if the auth provider is active, which includes this function."""
        return os.environ.get("MLFLOW_TRACKING_AUTH") != NAME

    def request_headers(self) -> dict[str, str]:
        """Return the header for MLflow's next request; {} if it needs no token or must have none.

        MLflow logs an exception as a warning and sends the request without the header.
        """
        creds = _host_creds()
        if creds is None:
            _once(
                "frames", "The server of a request is unknown in this MLflow release. Set MLFLOW_TRACKING_AUTH=google."
            )
            return {}
        server = server_of(str(creds.host or ""))
        found = BROKER.credential(server) if server else None
        if found is None:
            return {}
        taken = bool((creds.username and creds.password) or creds.token or creds.auth or creds.aws_sigv4)
        if taken and found.guard == guard.IAM:
            # requests would send this header to the target of a redirect
            _once(
                server,
                f"MLflow uses Authorization for its own login, and {server} also requires an ID token. Set "
                "MLFLOW_TRACKING_AUTH=google, which sends both.",
            )
            return {}
        return {header(found, taken=taken): f"Bearer {found.value}"}


class GoogleRequestAuthProvider:
    """mlflow.tracking.request_auth.abstract_request_auth_provider.RequestAuthProvider"""

    def get_name(self) -> str:
        """Return the value of MLFLOW_TRACKING_AUTH that selects this provider."""
        return NAME

    def get_auth(self) -> AuthBase:
        """Return the authentication for one request."""
        return GoogleAuth(server_of)


def server_of(url: str) -> str:
    """Return the address of the server of a URL; "" if this server gets no tokens.

    MLflow's tracking server, its registry and the hosts in the settings get tokens. MLflow uses the same functions for
    other servers: deployment servers, its telemetry, artifact stores.
    """
    where = origin(url)
    if not where:
        return ""
    from mlflow.tracking import get_registry_uri, get_tracking_uri

    ours = [uri for uri in (get_tracking_uri(), get_registry_uri()) if origin(uri) == where]
    if ours:
        return next((uri for uri in ours if url.startswith(uri.rstrip("/"))), ours[0])
    if where in Settings.from_environment().hosts:
        return where
    if where.endswith(GOOGLE_DOMAINS):
        _once(
            where,
            f"Requests for {where} get no token, because it is neither the tracking server nor the registry. "
            f"To send tokens, add it to {PREFIX}HOSTS.",
        )
    return ""


def _host_creds() -> Any:
    """Return MLflow's data about the server of the request, or None if this MLflow has another structure.

    MLflow passes nothing to header providers, so this reads a variable of mlflow.utils.rest_utils.http_request.
    """
    frame = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            break
        if frame.f_code.co_name == "http_request" and frame.f_globals.get("__name__") == "mlflow.utils.rest_utils":
            return frame.f_locals.get("host_creds")
        frame = frame.f_back
    return None


def _once(about: str, text: str) -> None:
    if about not in _warned:
        _warned.add(about)
        log.warning(text)
