# SPDX-License-Identifier: Apache-2.0
"""The access modes of MLflow: which credentials each accepts, and which it must reject.

This module makes credentials with Google's libraries, as users do; `verify.py` sends them and checks the response.
"""

import base64
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import google.auth
import google.auth.crypt
import google.auth.jwt
import requests
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import credentials as oauth2_credentials
from google.oauth2 import service_account

# The collection's own files, which need the standard library only.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "plugins" / "module_utils"))
import _redaction
import _secret_text

redacted = _redaction.text
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
SECRETS = "https://secretmanager.googleapis.com/v1"
ISSUER = "https://accounts.google.com"


class Failure(Exception):
    """A failed check. The text has the response and the next step."""


class Skipped(Exception):
    """A check that this environment does not allow. The text has the reason and what the check needs."""


def cleaned(wanted):
    """Return the values of `wanted` without white space around them.

    It rejects odd characters, because the errors of libraries quote a value with one.
    """
    found = {name: value.strip() if isinstance(value, str) else value for name, value in wanted.items()}
    for name, value in found.items():
        words = isinstance(value, str) and name != "service_account_contents"
        if words and (problem := _redaction.odd(value, is_path=name == "service_account_file")):
            raise Failure(f"gcp_{name} has {problem}. Set it again without that character.")
    return found


def source_credentials(wanted):
    """Return Google credentials in the order of the collection's modules. `wanted` is `credentials` of the input."""
    wanted = cleaned(wanted)
    if wanted.get("access_token"):
        found = oauth2_credentials.Credentials(wanted["access_token"])
    elif wanted.get("service_account_contents"):
        contents = wanted["service_account_contents"]
        info = json.loads(contents) if isinstance(contents, str) else contents
        found = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    elif path := wanted.get("service_account_file") or os.environ.get("GCP_SERVICE_ACCOUNT_FILE"):
        found = service_account.Credentials.from_service_account_file(os.path.expanduser(path), scopes=SCOPES)
    else:
        found, _project = google.auth.default(scopes=SCOPES)
    if target := wanted.get("impersonate_service_account"):
        found = impersonated_credentials.Credentials(found, target_principal=target, target_scopes=SCOPES)
    return found


class Google:
    """Google's APIs with the credentials of the user that runs the verification."""

    def __init__(self, credentials, deadline):
        self.credentials, self.deadline = credentials, deadline
        self.session = AuthorizedSession(credentials)

    def call(self, method, url, what, **kwargs):
        answer = self.session.request(method, url, timeout=60, **kwargs)
        if answer.ok:
            return answer.json()
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text[:300]
        raise Failure(f"{what}: {answer.status_code} {message}")

    def as_account(self, account, verb, body):
        hint = (
            f"Cannot act as {account}. The user that runs the verification needs "
            "roles/iam.serviceAccountTokenCreator on it (mlflow_impersonators), which roles/owner does not include"
        )
        while True:
            try:
                return self.call("POST", f"{IAM}/{account}:{verb}", hint, json=body)
            except Failure as failure:
                if ": 403 " not in str(failure) or time.monotonic() > self.deadline:
                    raise
                time.sleep(3)

    def signed(self, account, audience, age=0):
        """Return a JWT of a service account, which Identity-Aware Proxy accepts for the resource `audience`.

        :param age: seconds since it was issued; it expires after 3000 s.
        """
        payload = json.dumps(claims(account, audience, age))
        return self.as_account(account, "signJwt", {"payload": payload})["signedJwt"]

    def identity(self, account, audience):
        """Return an ID token of a service account from the API's method."""
        return self.as_account(account, "generateIdToken", {"audience": audience, "includeEmail": True})["token"]

    def impersonated(self, account, audience):
        """Return an ID token from google-auth, as `gcloud auth print-identity-token --impersonate-service-account`."""
        made = impersonated_credentials.IDTokenCredentials(
            self.acting_as(account), target_audience=audience, include_email=True
        )
        made.refresh(Request())
        return made.token

    def by_library(self, account, audience):
        """Return an ID token from google-cloud-iam.

        The transport is `rest`: gRPC, the default, ignores the proxy and the certificates of the environment.
        """
        try:
            from google.cloud import iam_credentials_v1
        except ImportError as error:
            raise Skipped("google-cloud-iam is not installed for mlflow_verify_python") from error
        client = iam_credentials_v1.IAMCredentialsClient(credentials=self.credentials, transport="rest")
        name = f"projects/-/serviceAccounts/{account}"
        return client.generate_id_token(name=name, audience=audience, include_email=True).token

    def own_key(self):
        """Return the key of the credentials, or None if they have no key."""
        found = self.credentials
        return Key(found) if isinstance(found, service_account.Credentials) and found.signer_email else None

    def holds(self, project, permission):
        """Return whether the credentials have a permission on the whole project."""
        url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}:testIamPermissions"
        what = f"Cannot test the permissions on {project}"
        return permission in self.call("POST", url, what, json={"permissions": [permission]}).get("permissions", [])

    def secret(self, name):
        version = name if "/versions/" in name else f"{name}/versions/latest"
        answer = self.call("GET", f"{SECRETS}/{version}:access", f"Cannot read the secret {name}")
        try:
            return _secret_text.value(_secret_text.payload_of(answer))
        except _secret_text.NoValue as error:
            raise Failure(f"The secret {name} {error}. Add a version with the value to it.") from None

    def acting_as(self, account):
        return impersonated_credentials.Credentials(self.credentials, target_principal=account, target_scopes=SCOPES)


class Key:
    """The private key of a service account."""

    def __init__(self, credentials):
        self._credentials, self.email = credentials, credentials.signer_email

    @classmethod
    def from_file(cls, path):
        try:
            return cls(service_account.Credentials.from_service_account_file(os.path.expanduser(path), scopes=SCOPES))
        except (OSError, ValueError) as error:
            raise Failure(f"mlflow_verify_key_file: {path} is not a service account key: {error}") from error

    def signed(self, audience):
        return google.auth.jwt.encode(self._credentials.signer, claims(self.email, audience)).decode()

    def identity(self, audience):
        """Return an ID token, as `gcloud auth print-identity-token --audiences` with an activated service account."""
        made = service_account.IDTokenCredentials(
            self._credentials.signer, self.email, "https://oauth2.googleapis.com/token", target_audience=audience
        )
        made.refresh(Request())
        return made.token


def claims(email, audience, age=0):
    now = int(time.time()) - age
    return {"iss": email, "sub": email, "email": email, "aud": audience, "iat": now, "exp": now + 3000}


def forged(payload):
    """Return a token with a valid payload and the signature of an unknown key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return google.auth.jwt.encode(google.auth.crypt.RSASigner.from_string(pem.decode()), payload).decode()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@dataclass
class TokenSource:
    """A method to get a token for the server.

    :param token: return a token, or raise Skipped if this environment does not allow that.
    :param rejected: why the server must reject the token; empty if it must accept it.
    """

    name: str
    token: Callable[[], str]
    rejected: str = ""


class AccessMode:
    """One value of `mlflow_access`."""

    def __init__(self, google_cloud, wanted):
        self.google, self.wanted = google_cloud, wanted
        self.url, self.client = wanted["url"], wanted["client_account"]
        # Tokens are for the whole server, and not for the path that MLflow may serve everything below.
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))

    def client_environment(self):
        """Return the environment variables with which MLflow's client has access."""
        return {"MLFLOW_TRACKING_TOKEN": self.token(self.audience)}

    def headers(self):
        return bearer(self.token(self.audience))

    def key(self):
        path = self.wanted["key_file"]
        if not path:
            raise Skipped("mlflow_verify_key_file is empty; the verification creates no keys")
        return Key.from_file(path)

    def id_token_sources(self, audience, rejected=""):
        """Yield the sources of an ID token; `rejected` is that of TokenSource."""

        def source(name, make):
            return TokenSource(name, lambda: make(self.client, self.resolved(audience)), rejected)

        yield source("ID token from generateIdToken", self.google.identity)
        yield source("ID token by impersonation with google-auth", self.google.impersonated)
        yield source("ID token from google-cloud-iam's IAMCredentialsClient", self.google.by_library)
        yield source("ID token from a key file", lambda _client, audience: self.key().identity(audience))

    @staticmethod
    def resolved(audience):
        return audience() if callable(audience) else audience

    def token_sources(self):
        """Return the token sources of programs, those that the server must reject included."""
        return ()

    def supports_package(self):
        """Return whether the package mlflow-google-auth supports this mode."""
        return True

    def unauthorized(self):
        """Yield name and headers (a function) of requests that the server must reject."""
        elsewhere = self.audience.replace(urlsplit(self.url).netloc, "elsewhere.example.com")
        yield "request without credentials", dict
        yield "token for another address", lambda: bearer(self.token(elsewhere))
        yield "token with a forged signature", lambda: bearer(forged(self.payload()))
        yield "expired token", lambda: bearer(self.expired())
        yield "token of a service account that is not a member", lambda: bearer(self.token_without_access())

    def key_without_access(self):
        """Return the key of the credentials if their account is not a member."""
        key = self.google.own_key()
        if key is None:
            raise Skipped("the credentials of this run are not a service account key")
        if key.email == self.client or f"serviceAccount:{key.email}" in self.wanted["members"]:
            raise Skipped(f"the account of this run, {key.email}, is a member")
        return key


class Iap(AccessMode):
    audience_hint = (
        "Google's managed OAuth client accepts no ID tokens. If the server has a custom OAuth client, set "
        "mlflow_oauth_client_id_secret"
    )

    @property
    def audience(self):
        return f"{self.origin}/*"

    def token(self, audience):
        return self.google.signed(self.client, audience)

    def payload(self):
        return claims(self.client, self.audience)

    def expired(self):
        return self.google.signed(self.client, self.audience, age=4000)

    def token_without_access(self):
        return self.key_without_access().signed(self.audience)

    def token_sources(self):
        yield TokenSource("JWT for the address, signed by signJwt", lambda: self.token(self.audience))
        yield TokenSource("JWT for the address, signed with a key file", lambda: self.key().signed(self.audience))
        if name := self.wanted["oauth_client_id_secret"]:
            yield from self.id_token_sources(lambda: self.google.secret(name).strip())
        else:
            yield from self.id_token_sources(self.sign_in_client, rejected=self.audience_hint)

    def sign_in_client(self):
        """Return the id of the OAuth client to which the server redirects browsers."""
        answer = requests.get(self.url, headers={"Accept": "text/html"}, timeout=120, allow_redirects=False)
        found = parse_qs(urlsplit(answer.headers.get("Location", "")).query).get("client_id")
        if not found:
            raise Skipped(f"{self.url} responds to a browser with {answer.status_code} and names no OAuth client")
        return found[0]


class Iam(AccessMode):
    @property
    def audience(self):
        return self.origin

    def token(self, audience):
        return self.google.identity(self.client, audience)

    def payload(self):
        return claims(self.client, self.audience) | {"iss": ISSUER, "email_verified": True}

    def expired(self):
        raise Skipped("Google issues no expired ID tokens, and a new one expires after an hour")

    def token_without_access(self):
        key = self.key_without_access()
        # Roles on the project, such as roles/owner, grant access to every service regardless of its members.
        if self.google.holds(self.wanted["project"], "run.routes.invoke"):
            raise Skipped(f"the account of this run, {key.email}, may call every service of {self.wanted['project']}")
        return key.identity(self.audience)

    def token_sources(self):
        yield from self.id_token_sources(self.audience)
        yield TokenSource(
            "JWT for the address, signed by signJwt",
            lambda: self.google.signed(self.client, self.audience),
            rejected="Cloud Run accepts only ID tokens that Google has signed",
        )


class Password(AccessMode):
    def login(self):
        return self.google.secret(self.wanted["username_secret"]), self.google.secret(self.wanted["password_secret"])

    def client_environment(self):
        name, password = self.login()
        return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}

    def headers(self):
        return {"Authorization": basic(*self.login())}

    def supports_package(self):
        return False

    def unauthorized(self):
        yield "request without credentials", dict
        yield "request with a wrong password", lambda: {"Authorization": basic(self.login()[0], "not-the-password")}


ACCESS_MODES = {"iap": Iap, "iam": Iam, "password": Password}


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
