# SPDX-License-Identifier: Apache-2.0
"""Detect the access control of a server by its response to a request without credentials.

Identity-Aware Proxy marks its responses with X-Goog-IAP-Generated-Response and redirects browsers to
accounts.google.com (cloud.google.com/iap/docs/faq); Cloud Run's invoker check responds with 401 or 403 and a specific
text (cloud.google.com/run/docs/troubleshooting). All other responses are from the server.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import requests

IAP, IAM, NONE = "iap", "iam", "none"
IAP_MARK = "X-Goog-IAP-Generated-Response"
REFUSED = (401, 403)

log = logging.getLogger("mlflow_google_auth")


@dataclass(frozen=True)
class Guard:
    """The access control of a server.

    :param kind: IAP, IAM (Cloud Run's invoker check) or NONE.
    :param client_id: the OAuth client of IAP's sign-in page.
    """

    kind: str
    client_id: str = ""


def look(server: str, timeout: float) -> Guard | None:
    """Return the access control of an MLflow server; None without a connection or if the server is overloaded."""
    try:
        answer = ask(server, timeout)
    except requests.RequestException as error:
        # MLflow's own request fails in the same way, with a better error.
        log.debug("%s does not respond: %s", server, type(error).__name__)
        return None
    guard = recognize(answer)
    if guard.kind == NONE and (answer.status_code == 429 or answer.status_code >= 500):
        return None
    return guard


def ask(server: str, timeout: float, token: str = "") -> requests.Response:
    """Send GET /health to the server, as a browser so that IAP names its OAuth client; redirects are not followed.

    Without a `token` the request has no credentials, not even those of a .netrc file.
    """
    return requests.get(
        f"{server.rstrip('/')}/health",
        headers={"Accept": "text/html", "User-Agent": "mlflow-google-auth"},
        auth=lambda request: _bearer(request, token),
        allow_redirects=False,
        timeout=timeout,
        verify=_verify(),
        cert=os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None,
    )


def recognize(answer: requests.Response) -> Guard:
    """Return the access control that sent a response."""
    location = urlsplit(answer.headers.get("Location", ""))
    query = parse_qs(location.query)
    sign_in = location.hostname == "accounts.google.com"
    to_iap = urlsplit(query.get("redirect_uri", [""])[0]).hostname == "iap.googleapis.com"
    if IAP_MARK in answer.headers or (answer.is_redirect and sign_in and to_iap):
        return Guard(IAP, query.get("client_id", [""])[0] if sign_in else "")
    if answer.status_code in REFUSED and of_invoker(answer):
        return Guard(IAM)
    return Guard(NONE)


def of_invoker(answer: requests.Response) -> bool:
    """Return whether a 401 or 403 is from Cloud Run's front end and not from the application."""
    scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    if scheme.lower() == "bearer" and "invalid_token" in rest:
        return True
    if "text/html" not in answer.headers.get("Content-Type", ""):
        return False
    text = answer.text
    return "Your client does not have permission to" in text and "<title>" in text


def _bearer(request: requests.PreparedRequest, token: str) -> requests.PreparedRequest:
    if token:
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _verify() -> bool | str:
    """Return MLflow's setting for the verification of the server's certificate."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
