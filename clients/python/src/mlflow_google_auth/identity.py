# SPDX-License-Identifier: Apache-2.0
"""Create tokens of a service account: with a key, from the metadata server, or from IAM by impersonation.

The kinds of credentials are those of google-auth. All except a user's own login can be those of a service account.
"""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

import google.auth
import google.auth.exceptions
import google.auth.jwt
import requests
from google.auth import compute_engine, external_account, impersonated_credentials
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mlflow_google_auth.config import PREFIX, Settings
from mlflow_google_auth.errors import AuthError, words

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
CREATOR = "roles/iam.serviceAccountTokenCreator"
TIMEOUT = 30
# Requests to IAM are retried after a lost connection or an overload; all of them are safe to repeat.
RETRY = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)

NO_CREDENTIALS = (
    "Google credentials are not available. On a workstation, run gcloud auth application-default login "
    "--impersonate-service-account=ACCOUNT with a service account that has access to the MLflow server. Otherwise set "
    f"GOOGLE_APPLICATION_CREDENTIALS or {PREFIX}CREDENTIALS to a file with credentials."
)


class Identity(Protocol):
    """A service account that can get tokens."""

    email: str

    def id_token(self, audience: str) -> str:
        """Return an OpenID Connect token that Google signed."""

    def signed_jwt(self, audience: str, lifetime: int) -> str:
        """Return a JWT that the account signed, with a lifetime in seconds."""


def identity(settings: Settings) -> Identity:
    """Return the identity of the settings.

    :raises AuthError: if the credentials are missing or are not those of a service account.
    """
    found = _source(settings)
    if settings.impersonate:
        *delegates, email = settings.impersonate
        return Impersonated(found, email, tuple(delegates))
    if isinstance(found, impersonated_credentials.Credentials):
        # The source credentials are private in google-auth; the impersonated account may lack the right to sign.
        source = getattr(found, "_source_credentials", found)
        return Impersonated(source, found.service_account_email, tuple(getattr(found, "_delegates", None) or ()))
    if isinstance(found, service_account.Credentials):
        return Key(found)
    if isinstance(found, compute_engine.Credentials):
        return Machine(found)
    if isinstance(found, external_account.Credentials) and found.service_account_email:
        # The federated identity may impersonate the account; the account may lack the right to impersonate itself.
        info = {key: value for key, value in found.info.items() if not key.startswith("service_account_impersonation")}
        return Impersonated(type(found).from_info(info, scopes=SCOPES), found.service_account_email)
    raise AuthError(
        f"MLflow's server accepts only service accounts from programs; the credentials are {_described(found)}. Set "
        f"{PREFIX}IMPERSONATE to a service account with access (for a deployment by mlplatform.gcp: "
        f"NAME-ENV-client@PROJECT.iam.gserviceaccount.com), or log in again with gcloud auth application-default "
        f"login --impersonate-service-account=ACCOUNT. Both require {CREATOR} on that account."
    )


class Key:
    """A service account with its private key."""

    def __init__(self, credentials: service_account.Credentials) -> None:
        self.email = credentials.service_account_email
        self._credentials = credentials

    def id_token(self, audience: str) -> str:
        made = service_account.IDTokenCredentials(
            self._credentials.signer,
            self.email,
            getattr(self._credentials, "_token_uri", "https://oauth2.googleapis.com/token"),
            target_audience=audience,
        )
        return _refreshed(made, f"Google gives no ID token for the key of {self.email}")

    def signed_jwt(self, audience: str, lifetime: int) -> str:
        return google.auth.jwt.encode(self._credentials.signer, claims(self.email, audience, lifetime)).decode()


class Impersonated:
    """A service account that other credentials impersonate.

    :param source: the credentials that impersonate.
    :param delegates: the delegation chain: each account may impersonate the next one.
    """

    def __init__(self, source: Credentials, email: str, delegates: tuple[str, ...] = ()) -> None:
        self.email = email
        self._source = source
        self._delegates = [f"projects/-/serviceAccounts/{account}" for account in delegates]

    def id_token(self, audience: str) -> str:
        return self._ask("generateIdToken", {"audience": audience, "includeEmail": True}, "token")

    def signed_jwt(self, audience: str, lifetime: int) -> str:
        payload = json.dumps(claims(self.email, audience, lifetime))
        return self._ask("signJwt", {"payload": payload}, "signedJwt")

    def _ask(self, verb: str, body: dict[str, Any], field: str) -> str:
        domain = getattr(self._source, "universe_domain", None) or "googleapis.com"
        url = f"https://iamcredentials.{domain}/v1/projects/-/serviceAccounts/{self.email}:{verb}"
        if self._delegates:
            body = {**body, "delegates": self._delegates}
        what = f"IAM rejects the impersonation of {self.email} by {_described(self._source)} ({verb})"
        with AuthorizedSession(self._source, auth_request=Request(_session())) as session:
            session.mount("https://", HTTPAdapter(max_retries=RETRY))
            try:
                answer = session.post(url, json=body, timeout=TIMEOUT)
            except google.auth.exceptions.GoogleAuthError as error:
                raise AuthError(f"Google does not accept {_described(self._source)}: {words(error)}") from None
            except requests.RequestException as error:
                raise AuthError(f"{urlname(url)} cannot be reached: {words(error)}") from None
        if answer.ok:
            return answer.json()[field]
        raise AuthError(f"{what}: {answer.status_code} {_message(answer)} {self._advice(answer)}")

    def _advice(self, answer: requests.Response) -> str:
        if "SERVICE_DISABLED" in answer.text:
            return "Enable iamcredentials.googleapis.com in the account's project."
        if answer.status_code == 404:
            return "The account does not exist: check the spelling and the project."
        if answer.status_code == 403:
            return (
                f"This requires {CREATOR} on {self.email}, which roles/owner does not include "
                "(mlflow_impersonators of a deployment by mlplatform.gcp); a new role takes effect after minutes."
            )
        return ""


class Machine(Impersonated):
    """The service account of the machine, function or container."""

    def __init__(self, credentials: compute_engine.Credentials) -> None:
        # "default" before the first response of the metadata server
        _refreshed(credentials, "The metadata server gives no token")
        super().__init__(credentials, credentials.service_account_email)

    def id_token(self, audience: str) -> str:
        """Return an ID token from the metadata server, which requires no permission."""
        request = Request(_session())
        what = f"The metadata server gives no ID token for {self.email}"
        try:
            made = compute_engine.IDTokenCredentials(request, audience, use_metadata_identity_endpoint=True)
        except google.auth.exceptions.GoogleAuthError as error:
            raise AuthError(f"{what}: {words(error)}") from None
        return _refreshed(made, what)


def claims(email: str, audience: str, lifetime: int) -> dict[str, Any]:
    """Return the claims of a JWT for IAP.

    Source: cloud.google.com/iap/docs/authentication-howto#authenticate_a_service_account
    """
    now = int(time.time())
    return {"iss": email, "sub": email, "email": email, "aud": audience, "iat": now, "exp": now + lifetime}


def _source(settings: Settings) -> Credentials:
    try:
        if settings.credentials:
            return google.auth.load_credentials_from_file(settings.credentials, scopes=SCOPES)[0]
        return google.auth.default(scopes=SCOPES)[0]
    except google.auth.exceptions.DefaultCredentialsError as error:
        if settings.credentials or settings.adc:
            where = f"{PREFIX}CREDENTIALS" if settings.credentials else "GOOGLE_APPLICATION_CREDENTIALS"
            raise AuthError(f"The file in {where} is not usable: {words(error)}") from None
        raise AuthError(NO_CREDENTIALS) from None


def _refreshed(credentials: Credentials, what: str) -> str:
    try:
        credentials.refresh(Request(_session()))
    except google.auth.exceptions.GoogleAuthError as error:
        raise AuthError(f"{what}: {words(error)}") from None
    return credentials.token


def _session() -> requests.Session:
    """Return a new session for each request: a forked process must not share a connection."""
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=RETRY))
    return session


def _described(credentials: Credentials) -> str:
    email = getattr(credentials, "service_account_email", None) or getattr(credentials, "account", None)
    if isinstance(email, str) and "@" in email:
        return email
    if isinstance(credentials, user_credentials.Credentials):
        return "your own login (application default credentials of a user)"
    if isinstance(credentials, external_account.Credentials):
        return "the federated identity (external account)"
    return f"the credential of type {type(credentials).__name__}"


def _message(answer: requests.Response) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200]


def urlname(url: str) -> str:
    """Return the host of a URL, for messages."""
    return url.split("/")[2]
