# SPDX-License-Identifier: Apache-2.0
"""Provide one token for each server, renewed before it expires and shared by all threads.

BROKER.credential("https://mlflow.example.com")   # a Credential, or None if the server needs none
BROKER.rejected(server, credential)               # the server rejected it: create another one

The key of a server is its address, to which MLflow adds /api/...
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field

import requests

from mlflow_google_auth import guard
from mlflow_google_auth.config import PREFIX, Settings, address, confidential, origin
from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.identity import Identity, identity
from mlflow_google_auth.token import Token

log = logging.getLogger("mlflow_google_auth")

# Seconds for which a detected access control is valid. A server without one may be put behind IAP later.
VALID = {guard.IAP: 3600.0, guard.IAM: 3600.0, guard.NONE: 600.0}
# Seconds between a failure and the next attempt: a program that logs a thousand metrics must not call IAM as often.
AGAIN = 10.0
# The same for a server that does not respond: MLflow retries its own requests.
UNREACHABLE = 1.0
PROBE_TIMEOUT = 120.0


@dataclass(frozen=True)
class Plan:
    """The kind of token that a server accepts.

    :param guard: guard.IAP or guard.IAM.
    :param jwt: a JWT signed by the service account instead of an ID token.
    """

    guard: str
    jwt: bool
    audience: str

    def __str__(self) -> str:
        what = "JWT signed by the service account" if self.jwt else "ID token"
        return f"{what} for {self.audience}"


@dataclass(frozen=True)
class Credential:
    """The token for a request.

    :param guard: guard.IAP or guard.IAM: determines the possible headers.
    :param value: the token; never printed.
    """

    guard: str
    email: str
    audience: str
    value: str = field(repr=False)


class Broker:
    """All servers of this process."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, Settings], Slot] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def credential(self, server: str, settings: Settings | None = None) -> Credential | None:
        """Return the token for a request to a server; None if it needs none or if the server does not respond.

        :raises AuthError: if the server needs a token and no credentials are available.
        """
        settings = settings or Settings.from_environment()
        if settings.mode == "off" or not origin(server) or not confidential(server):
            return None
        return self._slot(server, settings).credential()

    def rejected(self, server: str, credential: Credential, settings: Settings | None = None) -> bool:
        """Discard a credential that the server rejected, and the detected access control.

        Return False if a retry is useless, because the credential is new.
        """
        return self._slot(server, settings or Settings.from_environment()).reject(credential)

    def plan(self, server: str, settings: Settings | None = None) -> Plan | None:
        """Return the kind of token that the server accepts."""
        return self._slot(server, settings or Settings.from_environment()).plan()

    def _slot(self, server: str, settings: Settings) -> Slot:
        key = (address(server), settings)
        with self._lock:
            if key not in self._slots:
                self._slots[key] = Slot(key[0], settings)
            return self._slots[key]

    def _forked(self) -> None:
        """Replace the locks in a forked child: other threads do not exist there and would never release them."""
        self._lock = threading.Lock()
        for slot in self._slots.values():
            slot.forked()


class Slot:
    """One server, one set of options."""

    def __init__(self, server: str, settings: Settings) -> None:
        self._server, self._origin = server, origin(server)
        self._settings = settings
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._email = ""
        self._plan: Plan | None = None
        self._planned_until = 0.0
        # One attribute, so that a thread without the lock never reads a token with the plan of another one.
        self._held: tuple[Token, Plan] | None = None
        self._error: AuthError | None = None
        self._again = 0.0

    def credential(self) -> Credential | None:
        """Return the token. One thread renews it while the others use the old one until it expires."""
        ready = self._ready()
        if ready is not None:
            return ready
        if not self._lock.acquire(blocking=not self._usable):
            return self._as_credential() or self.credential()
        try:
            return self._ready() or self._renew()
        finally:
            self._lock.release()

    def plan(self) -> Plan | None:
        with self._lock:
            return self._find()

    def reject(self, credential: Credential) -> bool:
        with self._lock:
            token = self._held[0] if self._held else None
            if token is None or token.value != credential.value:
                return True
            if token.age < min(AGAIN, token.lifetime / 2):
                return False
            self._held, self._planned_until = None, 0.0
            return True

    def forked(self) -> None:
        """Keep tokens and plans in a forked child, and drop the connections and locks of the parent."""
        self._lock = threading.Lock()
        self._identity = None

    # -- private

    @property
    def _usable(self) -> bool:
        held = self._held
        return held is not None and held[0].usable

    def _ready(self) -> Credential | None:
        held = self._held
        return self._as_credential() if held is not None and held[0].fresh else None

    def _as_credential(self) -> Credential | None:
        held = self._held
        if held is None:
            return None
        token, plan = held
        return Credential(plan.guard, self._email, plan.audience, token.value)

    def _renew(self) -> Credential | None:
        if time.monotonic() < self._again:
            if self._error and not self._usable:
                raise self._error
            return self._as_credential()
        try:
            plan = self._find()
            if plan is None:
                self._held = None
            elif self._held is None or self._held[1] != plan or not self._held[0].fresh:
                self._held = self._make(plan), plan
        except AuthError as error:
            self._again, self._error = time.monotonic() + AGAIN, error
            if not self._usable:
                raise
            log.warning("The token for %s could not be renewed; the old one is still valid: %s", self._origin, error)
        else:
            self._error = None
        return self._as_credential()

    def _find(self) -> Plan | None:
        """Return the plan of the server, detected again after some time. The caller holds the lock."""
        if time.monotonic() < self._planned_until:
            return self._plan
        settings, kind = self._settings, guard.NONE
        plan: Plan | None = None
        if settings.mode == "iam":
            kind, plan = guard.IAM, self._iam()
        elif settings.mode == "iap-jwt":
            kind, plan = guard.IAP, self._jwt()
        elif settings.mode == "iap-id-token" and settings.audience:
            kind, plan = guard.IAP, Plan(guard.IAP, False, settings.audience)
        else:
            found = guard.look(self._server, PROBE_TIMEOUT)
            if found is None:
                self._planned_until = time.monotonic() + UNREACHABLE
                return self._plan
            kind, plan = found.kind, self._choose(found)
        self._plan, self._planned_until = plan, time.monotonic() + VALID[kind]
        log.debug("%s: %s", self._origin, plan or "needs no token of Google")
        return plan

    def _choose(self, found: guard.Guard) -> Plan | None:
        settings = self._settings
        if settings.mode == "iap-id-token":
            if not found.client_id:
                raise AuthError(
                    f"{self._origin} does not name the OAuth client of its sign-in page. Set {PREFIX}AUDIENCE to the "
                    "client's id."
                )
            return Plan(guard.IAP, False, found.client_id)
        if found.kind == guard.IAM:
            return self._iam()
        if found.kind == guard.NONE and settings.mode != "iap":
            return None
        if settings.audience:
            return Plan(guard.IAP, "://" in settings.audience, settings.audience)
        return self._try_client(found.client_id) or self._jwt()

    def _try_client(self, client_id: str) -> Plan | None:
        """Return a plan with ID tokens for the OAuth client of the sign-in page, or None if IAP rejects them.

        IAP accepts them for a custom OAuth client. The id of Google's managed client looks the same, but IAP rejects
        tokens for it (cloud.google.com/iap/docs/sharing-oauth-clients).
        """
        if not client_id:
            return None
        plan = Plan(guard.IAP, False, client_id)
        try:
            token = self._make(plan)
        except AuthError as error:
            log.debug("no ID token for %s: %s", client_id, error)
            return None
        try:
            answer = guard.ask(self._server, PROBE_TIMEOUT, token.value)
        except requests.RequestException as error:
            raise AuthError(f"{self._origin} does not respond: {type(error).__name__}") from None
        if guard.recognize(answer).kind == guard.IAP and answer.status_code != 403:
            return None
        self._held = token, plan
        return plan

    def _iam(self) -> Plan:
        return Plan(guard.IAM, False, self._settings.audience or self._origin)

    def _jwt(self) -> Plan:
        return Plan(guard.IAP, True, self._settings.audience or f"{self._origin}/*")

    def _make(self, plan: Plan) -> Token:
        if self._identity is None:
            self._identity = identity(self._settings)
            self._email = self._identity.email
        if plan.jwt:
            value = self._identity.signed_jwt(plan.audience, self._settings.lifetime)
        else:
            value = self._identity.id_token(plan.audience)
        return Token.of(value)


BROKER = Broker()
