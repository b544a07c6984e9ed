# SPDX-License-Identifier: Apache-2.0
"""The two ways in which MLflow asks for credentials; entry points of this package.

`mlflow.request_header_provider` is asked for every request, by itself, and adds headers; it never sees the answer.
`mlflow.request_auth_provider` has to be chosen with MLFLOW_TRACKING_AUTH=google; it handles request and answer.
MLflow takes anything that has their methods, so neither imports MLflow before MLflow calls it.
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
_told: set[str] = set()


class GoogleRequestHeaderProvider:
    """mlflow.tracking.request_header.abstract_request_header_provider.RequestHeaderProvider"""

    def in_context(self) -> bool:
        """Not where the auth provider is chosen, which does the same and more."""
        return os.environ.get("MLFLOW_TRACKING_AUTH") != NAME

    def request_headers(self) -> dict[str, str]:
        """The header for the request that MLflow is about to send; {} where it needs none or may have none.

        MLflow logs an exception as a warning and sends the request without.
        """
        creds = _host_creds()
        if creds is None:
            _once("frames", "This MLflow does not tell which server a request is for. Set MLFLOW_TRACKING_AUTH=google.")
            return {}
        server = server_of(str(creds.host or ""))
        found = BROKER.credential(server) if server else None
        if found is None:
            return {}
        taken = bool((creds.username and creds.password) or creds.token or creds.auth or creds.aws_sigv4)
        if taken and found.guard == guard.IAM:
            # requests would carry this header along to another host that the server redirects to
            _once(
                server,
                f"Authorization is taken by a login for MLflow itself, and {server} asks for an identity token as "
                "well. Set MLFLOW_TRACKING_AUTH=google, which sends both.",
            )
            return {}
        return {header(found, taken=taken): f"Bearer {found.value}"}


class GoogleRequestAuthProvider:
    """mlflow.tracking.request_auth.abstract_request_auth_provider.RequestAuthProvider"""

    def get_name(self) -> str:
        """The value of MLFLOW_TRACKING_AUTH that chooses it."""
        return NAME

    def get_auth(self) -> AuthBase:
        """Authentication for one request."""
        return GoogleAuth(server_of)


def server_of(url: str) -> str:
    """Address of the server that a URL belongs to, "" for one that gets no tokens.

    MLflow's tracking server, its registry, and those that the user has named get them. MLflow talks to others through
    the same functions: deployment servers, its telemetry, where artifacts are.
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
            f"If it shall, add it to {PREFIX}HOSTS.",
        )
    return ""


def _host_creds() -> Any:
    """What MLflow knows of the server that it is about to ask: MLflow tells header providers nothing, so its own
    variable is read (mlflow.utils.rest_utils.http_request). None where it has another form.
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
    if about not in _told:
        _told.add(about)
        log.warning(text)
