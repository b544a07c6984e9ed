# SPDX-License-Identifier: Apache-2.0
"""The ways of controlling access to MLflow: how programs get in, each way that people are told of, and who must not.

Nothing here asserts; `verify.py` does. A token is made when it is asked for, by Google's libraries as users call them.
"""

import base64
import json
import os
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

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
SECRETS = "https://secretmanager.googleapis.com/v1"
ISSUER = "https://accounts.google.com"


class Failure(Exception):
    """A check that did not pass; the text says what was seen and what to do."""


class Skipped(Exception):
    """A check that cannot be made here; the text says why, and what it would take."""


def source_credentials(wanted):
    """Google credentials as the modules of the collection choose them. `wanted` is `credentials` of the input."""
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
    """Google Cloud as the one who runs this sees it."""

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
            f"Cannot act as {account}. Whoever runs this needs roles/iam.serviceAccountTokenCreator on it "
            "(mlflow_impersonators), which roles/owner does not include"
        )
        while True:
            try:
                return self.call("POST", f"{IAM}/{account}:{verb}", hint, json=body)
            except Failure as failure:
                if ": 403 " not in str(failure) or time.monotonic() > self.deadline:
                    raise
                time.sleep(3)

    def signed(self, account, audience, age=0):
        """A JWT of a service account, which Identity-Aware Proxy takes for the resource `audience`.

        :param age: seconds since it was issued; it lives for 3000.
        """
        payload = json.dumps(claims(account, audience, age))
        return self.as_account(account, "signJwt", {"payload": payload})["signedJwt"]

    def identity(self, account, audience):
        """An identity token of a service account, by the API's method."""
        return self.as_account(account, "generateIdToken", {"audience": audience, "includeEmail": True})["token"]

    def impersonated(self, account, audience):
        """The same by google-auth, as `gcloud auth print-identity-token --impersonate-service-account` does it."""
        made = impersonated_credentials.IDTokenCredentials(
            self.acting_as(account), target_audience=audience, include_email=True
        )
        made.refresh(Request())
        return made.token

    def by_library(self, account, audience):
        """The same by google-cloud-iam. Its transport `rest` goes where other requests go; gRPC, its default, does not
        heed proxies and certificates that the environment names in the same way.
        """
        try:
            from google.cloud import iam_credentials_v1
        except ImportError as error:
            raise Skipped("google-cloud-iam is not installed for mlflow_verify_python") from error
        client = iam_credentials_v1.IAMCredentialsClient(credentials=self.credentials, transport="rest")
        name = f"projects/-/serviceAccounts/{account}"
        return client.generate_id_token(name=name, audience=audience, include_email=True).token

    def own_key(self):
        """The caller's own key, None where the caller holds none."""
        found = self.credentials
        return Key(found) if isinstance(found, service_account.Credentials) and found.signer_email else None

    def holds(self, project, permission):
        """Whether the caller has a permission on the whole project."""
        url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}:testIamPermissions"
        what = f"Cannot ask for the permissions on {project}"
        return permission in self.call("POST", url, what, json={"permissions": [permission]}).get("permissions", [])

    def secret(self, name):
        version = name if "/versions/" in name else f"{name}/versions/latest"
        answer = self.call("GET", f"{SECRETS}/{version}:access", f"Cannot read the secret {name}")
        return base64.b64decode(answer["payload"]["data"]).decode()

    def acting_as(self, account):
        return impersonated_credentials.Credentials(self.credentials, target_principal=account, target_scopes=SCOPES)


class Key:
    """A service account whose private key we hold."""

    def __init__(self, credentials):
        self._credentials, self.email = credentials, credentials.signer_email

    @classmethod
    def from_file(cls, path):
        try:
            return cls(service_account.Credentials.from_service_account_file(os.path.expanduser(path), scopes=SCOPES))
        except (OSError, ValueError) as error:
            raise Failure(f"mlflow_verify_key_file: {path} is no service account's key: {error}") from error

    def signed(self, audience):
        return google.auth.jwt.encode(self._credentials.signer, claims(self.email, audience)).decode()

    def identity(self, audience):
        """As `gcloud auth activate-service-account` and `gcloud auth print-identity-token --audiences` do it."""
        made = service_account.IDTokenCredentials(
            self._credentials.signer, self.email, "https://oauth2.googleapis.com/token", target_audience=audience
        )
        made.refresh(Request())
        return made.token


def claims(email, audience, age=0):
    now = int(time.time()) - age
    return {"iss": email, "sub": email, "email": email, "aud": audience, "iat": now, "exp": now + 3000}


def forged(payload):
    """A token that says what a good one says, signed with a key that nobody knows."""
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
class Way:
    """How a program gets a token for the server.

    :param token: makes it; Skipped where that cannot be done here.
    :param refused: why the server has to refuse it, empty where it has to let it in.
    """

    name: str
    token: Callable[[], str]
    refused: str = ""


class Door:
    """One way of controlling access."""

    def __init__(self, google_cloud, wanted):
        self.google, self.wanted = google_cloud, wanted
        self.url, self.client = wanted["url"], wanted["client_account"]

    def enter(self):
        """Environment of MLflow's client that lets it in."""
        return {"MLFLOW_TRACKING_TOKEN": self.token(self.audience)}

    def headers(self):
        return bearer(self.token(self.audience))

    def key(self):
        path = self.wanted["key_file"]
        if not path:
            raise Skipped("mlflow_verify_key_file is empty; keys are never made for this")
        return Key.from_file(path)

    def identity_ways(self, audience, refused=""):
        """The ways to an identity token, which differ in who makes it; `refused` is that of Way."""
        client = self.client

        def made(make):
            return lambda: make(client, self.found(audience))

        yield Way("identity token from generateIdToken", made(self.google.identity), refused)
        yield Way("identity token by impersonation with google-auth", made(self.google.impersonated), refused)
        yield Way("identity token by google-cloud-iam's IAMCredentialsClient", made(self.google.by_library), refused)
        yield Way("identity token with a key file", lambda: self.key().identity(self.found(audience)), refused)

    @staticmethod
    def found(audience):
        return audience() if callable(audience) else audience

    def ways(self):
        """All that a program can present, whether it is let in with it or has to be refused."""
        return ()

    def packages(self):
        """Whether the package mlflow-google-auth knows this door."""
        return True

    def strangers(self):
        """[(who, a function that makes headers)], none of whom may get in."""
        elsewhere = self.audience.replace(urlsplit(self.url).netloc, "elsewhere.example.com")
        yield "a caller without credentials", dict
        yield "the client with a token for another address", lambda: bearer(self.token(elsewhere))
        yield "the client with a token that somebody else has signed", lambda: bearer(forged(self.payload()))
        yield "the client with a token that has expired", lambda: bearer(self.expired())
        yield "a service account that is not among the members", lambda: bearer(self.uninvited())

    def outsider(self):
        """A key of an account that may not get in: the caller's own, where it is not among the members."""
        key = self.google.own_key()
        if key is None:
            raise Skipped("whoever runs this holds no key of a service account")
        if key.email == self.client or f"serviceAccount:{key.email}" in self.wanted["members"]:
            raise Skipped(f"{key.email}, who runs this, is among the members")
        return key


class Iap(Door):
    audience_hint = (
        "Google's managed client takes no identity tokens. If the server has an OAuth client of its own, set "
        "mlflow_oauth_client_id_secret"
    )

    @property
    def audience(self):
        return f"{self.url}/*"

    def token(self, audience):
        return self.google.signed(self.client, audience)

    def payload(self):
        return claims(self.client, self.audience)

    def expired(self):
        return self.google.signed(self.client, self.audience, age=4000)

    def uninvited(self):
        return self.outsider().signed(self.audience)

    def ways(self):
        yield Way("JWT for the address, signed by signJwt", lambda: self.token(self.audience))
        yield Way("JWT for the address, signed with a key file", lambda: self.key().signed(self.audience))
        if name := self.wanted["oauth_client_id_secret"]:
            yield from self.identity_ways(lambda: self.google.secret(name).strip())
        else:
            yield from self.identity_ways(self.shown_client, refused=self.audience_hint)

    def shown_client(self):
        """Id of the OAuth client that the sign-in page belongs to, from where a browser is sent."""
        answer = requests.get(self.url, headers={"Accept": "text/html"}, timeout=120, allow_redirects=False)
        found = parse_qs(urlsplit(answer.headers.get("Location", "")).query).get("client_id")
        if not found:
            raise Skipped(f"{self.url} answers a browser with {answer.status_code} and does not name an OAuth client")
        return found[0]


class Iam(Door):
    @property
    def audience(self):
        return self.url

    def token(self, audience):
        return self.google.identity(self.client, audience)

    def payload(self):
        return claims(self.client, self.audience) | {"iss": ISSUER, "email_verified": True}

    def expired(self):
        raise Skipped("Google makes no identity token that has expired, and one that is made now lives for an hour")

    def uninvited(self):
        key = self.outsider()
        # roles/owner and others let in to every service of the project, whoever is among the members of this one
        if self.google.holds(self.wanted["project"], "run.routes.invoke"):
            raise Skipped(f"{key.email}, who runs this, may call every service of {self.wanted['project']}")
        return key.identity(self.audience)

    def ways(self):
        yield from self.identity_ways(self.audience)
        yield Way(
            "JWT for the address, signed by signJwt",
            lambda: self.google.signed(self.client, self.audience),
            refused="Cloud Run takes identity tokens that Google has signed",
        )


class Password(Door):
    def login(self):
        return self.google.secret(self.wanted["username_secret"]), self.google.secret(self.wanted["password_secret"])

    def enter(self):
        name, password = self.login()
        return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}

    def headers(self):
        return {"Authorization": basic(*self.login())}

    def packages(self):
        return False

    def strangers(self):
        yield "a caller without credentials", dict
        yield "a caller with a wrong password", lambda: {"Authorization": basic(self.login()[0], "not-the-password")}


DOORS = {"iap": Iap, "iam": Iam, "password": Password}


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
