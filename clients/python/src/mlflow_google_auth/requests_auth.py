# SPDX-License-Identifier: Apache-2.0
"""Authentication for the library requests, which MLflow's client is built on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import requests
from requests.auth import AuthBase

from mlflow_google_auth import guard
from mlflow_google_auth.broker import BROKER, Credential
from mlflow_google_auth.config import origin

log = logging.getLogger("mlflow_google_auth")

# The header of the token if the application uses Authorization. cloud.google.com/iap/docs/authentication-howto and
# cloud.google.com/run/docs/authenticating/service-to-service name them.
SPARE = {guard.IAP: "Proxy-Authorization", guard.IAM: "X-Serverless-Authorization"}
ROLE = {guard.IAP: "roles/iap.httpsResourceAccessor", guard.IAM: "roles/run.invoker"}


def header(credential: Credential, *, taken: bool) -> str:
    """Return the name of the header for a credential."""
    return SPARE[credential.guard] if taken else "Authorization"


class GoogleAuth(AuthBase):
    """Add the token that the server requires, and retry once with a new token if the server rejects it.

    :param server: address of the only server that gets tokens; or a function that returns the address of the server of
        a URL, "" if it gets no tokens.
    """

    def __init__(self, server: str | Callable[[str], str]) -> None:
        if isinstance(server, str):
            self._server = lambda url: server if origin(url) == origin(server) else ""
        else:
            self._server = server

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token. The library requests calls this after the other parts of the request are set."""
        server = self._server(request.url)
        found = BROKER.credential(server) if server else None
        if found is None:
            return request
        name = header(found, taken="Authorization" in request.headers)
        request.headers[name] = f"Bearer {found.value}"
        position = _position(request.body)
        request.register_hook("response", functools.partial(self._answered, server, found, name, position))
        return request

    def _answered(
        self,
        server: str,
        sent: Credential,
        name: str,
        position: int | None,
        answer: requests.Response,
        *args: Any,
        **kwargs: Any,
    ) -> requests.Response:
        """Handle the response before MLflow does."""
        request = answer.request
        if origin(request.url) != origin(server) or request.headers.get(name) != f"Bearer {sent.value}":
            return answer  # a redirect to another server, or the retry
        if answer.is_redirect:
            target = requests.compat.urljoin(answer.url, answer.headers["Location"])
            if origin(target) != origin(server):
                # requests removes Authorization and Proxy-Authorization, but not the third header
                request.headers.pop(name)
            return answer
        if not refused(answer):
            return answer
        if answer.status_code == 403:
            log.warning(
                "%s rejects %s. The account needs %s on the service; a new role takes effect after minutes.",
                server,
                sent.email,
                ROLE[sent.guard],
            )
            return answer
        if not BROKER.rejected(server, sent) or not _rewind(request.body, position):
            return answer
        fresh = BROKER.credential(server)
        if fresh is None or fresh.value == sent.value:
            return answer
        answer.content  # noqa: B018 - read to the end, so that the connection can be reused
        answer.close()
        again = request.copy()
        again.headers.pop(name)
        again.headers[header(fresh, taken="Authorization" in again.headers)] = f"Bearer {fresh.value}"
        second = answer.connection.send(again, **kwargs)
        second.history.append(answer)
        second.request = again
        return second


def refused(answer: requests.Response) -> bool:
    """Return whether the access control sent a 401 or 403, and not MLflow."""
    if answer.status_code not in guard.REFUSED:
        return False
    return guard.IAP_MARK in answer.headers or guard.of_invoker(answer)


def _position(body: Any) -> int | None:
    try:
        return body.tell()
    except (AttributeError, OSError):
        return None


def _rewind(body: Any, position: int | None) -> bool:
    """Rewind a body for a retry. Return False if it can be read only once."""
    if body is None or isinstance(body, (bytes, str)):
        return True
    if position is None:
        return False
    body.seek(position)
    return True
