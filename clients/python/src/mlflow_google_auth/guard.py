# SPDX-License-Identifier: Apache-2.0
"""What stands in front of a server, told by its answer to a request without credentials.

Identity-Aware Proxy marks its answers with X-Goog-IAP-Generated-Response and sends browsers to accounts.google.com
(cloud.google.com/iap/docs/faq); Cloud Run's invoker check answers 401 or 403 in words of its own
(cloud.google.com/run/docs/troubleshooting). Everything else is the server itself.
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
    """What a server's answer says.

    :param kind: IAP, IAM (Cloud Run's invoker check) or NONE.
    :param client_id: the OAuth client of IAP's sign-in page.
    """

    kind: str
    client_id: str = ""


def look(server: str, timeout: float) -> Guard | None:
    """The guard of an MLflow server, None when it cannot be told now: no connection, or an overloaded server."""
    try:
        answer = ask(server, timeout)
    except requests.RequestException as error:
        # MLflow's own request meets the same, and says so better than this one could.
        log.debug("%s does not answer: %s", server, type(error).__name__)
        return None
    guard = recognize(answer)
    if guard.kind == NONE and (answer.status_code == 429 or answer.status_code >= 500):
        return None
    return guard


def ask(server: str, timeout: float, token: str = "") -> requests.Response:
    """GET the server's /health without following redirects, as a browser so that IAP names its OAuth client.

    Without a `token` nothing that could identify anybody is sent, not even what a .netrc has for the host.
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
    """Who has answered."""
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
    """Whether a 401 or 403 is from Cloud Run's front end and not from the application behind it."""
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
    """How MLflow's client is told to verify the server's certificate."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
