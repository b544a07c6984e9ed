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

# Where the token goes when Authorization is the application's. cloud.google.com/iap/docs/authentication-howto and
# cloud.google.com/run/docs/authenticating/service-to-service name them.
SPARE = {guard.IAP: "Proxy-Authorization", guard.IAM: "X-Serverless-Authorization"}
ROLE = {guard.IAP: "roles/iap.httpsResourceAccessor", guard.IAM: "roles/run.invoker"}


def header(credential: Credential, *, taken: bool) -> str:
    """Name of the header that a credential travels in."""
    return SPARE[credential.guard] if taken else "Authorization"


class GoogleAuth(AuthBase):
    """Adds the token that the server asks for, and once more with a new one when it does not take it.

    :param server: address of the only server that gets tokens; or a function that tells the address of the server that
        a URL belongs to, "" for one that gets none.
    """

    def __init__(self, server: str | Callable[[str], str]) -> None:
        if isinstance(server, str):
            self._server = lambda url: server if origin(url) == origin(server) else ""
        else:
            self._server = server

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Called by requests when everything else of the request is there."""
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
        """Look at the answer before MLflow does."""
        request = answer.request
        if origin(request.url) != origin(server) or request.headers.get(name) != f"Bearer {sent.value}":
            return answer  # a redirect has led elsewhere, or this is the second attempt
        if answer.is_redirect:
            target = requests.compat.urljoin(answer.url, answer.headers["Location"])
            if origin(target) != origin(server):
                # requests takes Authorization and Proxy-Authorization off by itself, the third one it does not know
                request.headers.pop(name)
            return answer
        if not refused(answer):
            return answer
        if answer.status_code == 403:
            log.warning(
                "%s does not let %s in. It takes %s on the service; a grant takes effect after minutes.",
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
        answer.content  # noqa: B018 - read to the end, so that the connection can be used again
        answer.close()
        again = request.copy()
        again.headers.pop(name)
        again.headers[header(fresh, taken="Authorization" in again.headers)] = f"Bearer {fresh.value}"
        second = answer.connection.send(again, **kwargs)
        second.history.append(answer)
        second.request = again
        return second


def refused(answer: requests.Response) -> bool:
    """Whether an answer is a guard's refusal of the credential, and not one of MLflow's own."""
    if answer.status_code not in guard.REFUSED:
        return False
    return guard.IAP_MARK in answer.headers or guard.of_invoker(answer)


def _position(body: Any) -> int | None:
    try:
        return body.tell()
    except (AttributeError, OSError):
        return None


def _rewind(body: Any, position: int | None) -> bool:
    """Make a body ready to be sent again; False for one that is read only once."""
    if body is None or isinstance(body, (bytes, str)):
        return True
    if position is None:
        return False
    body.seek(position)
    return True
