# SPDX-License-Identifier: Apache-2.0
"""A scripted Google and MLflow servers behind its guards; any other request fails the test. No network.

The guards judge tokens with google-auth's and cryptography's own verification, not with the package's code.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import google.auth.crypt
import google.auth.jwt
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ACCOUNT = "demo-dev-client@p.iam.gserviceaccount.com"
CUSTOM = "123-abc.apps.googleusercontent.com"
MANAGED = "987-xyz.apps.googleusercontent.com"
IAM_HOST = "iamcredentials.googleapis.com"
# google-auth knows the metadata server by both
METADATA = ("169.254.169.254", "metadata.google.internal")


def _key() -> tuple[str, str]:
    """A private key and its public half, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


GOOGLE_KEY, ACCOUNT_KEY = _key(), _key()


def unreachable(request) -> requests.Response:
    raise requests.ConnectionError(f"no route to {urlsplit(request.url).netloc}")


def answer(request, status, body="", headers=None) -> requests.Response:
    made = requests.Response()
    made.status_code, made.request, made.url = status, request, request.url
    content = json.dumps(body).encode() if isinstance(body, (dict, list)) else body.encode()
    made.raw = io.BytesIO(content)
    made.headers.update(headers or {})
    made.reason = {200: "OK", 302: "Found", 401: "Unauthorized", 403: "Forbidden"}.get(status, "")
    return made


@dataclass
class World:
    """Everything that answers. Hosts are added by `serve`."""

    lifetime: float = 3600.0
    before_token: Callable[[], object] = lambda: None  # what happens while one is made
    denied: str = ""  # what IAM answers with 403, if anything
    hosts: dict[str, Callable] = field(default_factory=dict)
    seen: list[requests.PreparedRequest] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def send(self, adapter, request, **_kwargs):
        host = urlsplit(request.url).netloc
        self.seen.append(request.copy())
        if host not in self.hosts:
            raise AssertionError(f"an unexpected request: {request.method} {request.url}")
        made = self.hosts[host](request)
        made.connection = adapter
        return made

    def requests(self, host: str) -> list[requests.PreparedRequest]:
        return [request for request in self.seen if urlsplit(request.url).netloc == host]

    # -- Google

    def id_token(self, audience: str, email: str = ACCOUNT) -> str:
        self.before_token()
        now = time.time()
        claims = {"iss": "https://accounts.google.com", "aud": audience, "email": email}
        claims |= {"iat": int(now), "exp": now + self.lifetime, "n": self.counts.total()}
        return google.auth.jwt.encode(google.auth.crypt.RSASigner.from_string(GOOGLE_KEY[0]), claims).decode()

    def iam(self, request):
        """Respond as iamcredentials.googleapis.com."""
        assert request.headers["Authorization"].startswith("Bearer ya29."), "IAM needs an access token"
        verb = request.url.rpartition(":")[2]
        self.counts[verb] += 1
        if self.denied:
            return answer(request, 403, {"error": {"code": 403, "message": self.denied}})
        body = json.loads(request.body)
        if verb == "generateIdToken":
            assert body["includeEmail"] is True, "IAP needs the email address in the token"
            return answer(request, 200, {"token": self.id_token(body["audience"])})
        if verb == "generateAccessToken":  # google-auth itself, which looks for the project of some credentials
            return answer(request, 200, {"accessToken": "ya29.impersonated", "expireTime": "2099-01-01T00:00:00Z"})
        assert verb == "signJwt", verb
        self.before_token()
        signer = google.auth.crypt.RSASigner.from_string(ACCOUNT_KEY[0])
        signed = google.auth.jwt.encode(signer, json.loads(body["payload"])).decode()
        return answer(request, 200, {"signedJwt": signed})

    def token_endpoint(self, request):
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form["grant_type"] == "refresh_token":
            return answer(request, 200, {"access_token": "ya29.user", "expires_in": 3599, "token_type": "Bearer"})
        claims = google.auth.jwt.decode(form["assertion"], certs=None, verify=False)
        if "target_audience" in claims:
            self.counts["token endpoint"] += 1
            return answer(request, 200, {"id_token": self.id_token(claims["target_audience"])})
        return answer(request, 200, {"access_token": "ya29.key", "expires_in": 3599, "token_type": "Bearer"})

    # -- servers

    def serve(self, host: str, *, iap: str = "", managed: bool = False, invoker: bool = False) -> Guarded:
        guarded = Guarded(self, host, iap, managed, invoker)
        self.hosts[host] = guarded
        return guarded


def claims_of(token: str, public: str) -> dict | None:
    """Return the claims of a token if it was signed with that key, without a check of its times."""
    try:
        return google.auth.jwt.decode(token, certs=None, verify=False) if _signed(token, public) else None
    except ValueError:
        return None


def _signed(token: str, public: str) -> bool:
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return google.auth.crypt.RSAVerifier.from_string(public).verify(signed.encode(), raw)


@dataclass
class Guarded:
    """An MLflow server with access control. `application` responds to accepted requests."""

    world: World
    host: str
    iap: str
    managed: bool
    invoker: bool
    revoked: set = field(default_factory=set)
    lets_in: bool = True
    application: Callable | None = None
    reached: list[requests.PreparedRequest] = field(default_factory=list)

    def __call__(self, request):
        refusal = self._iap(request) if self.iap else self._invoker(request) if self.invoker else None
        if refusal is not None:
            return refusal
        self.reached.append(request.copy())
        return self.application(request) if self.application else answer(request, 200, "OK")

    def _iap(self, request):
        mark = {"X-Goog-IAP-Generated-Response": "true", "Content-Type": "text/html"}
        token = _bearer(request, "Proxy-Authorization") or _bearer(request, "Authorization")
        if not token:
            if "text/html" not in request.headers.get("Accept", ""):
                return answer(request, 401, "Invalid IAP credentials: empty token", mark)
            redirect = f"https://iap.googleapis.com/v1/oauth/clientIds/{self.iap}:handleRedirect"
            query = urlencode({"client_id": self.iap, "redirect_uri": redirect})
            return answer(
                request, 302, "", {**mark, "Location": f"https://accounts.google.com/o/oauth2/v2/auth?{query}"}
            )
        said = claims_of(token, GOOGLE_KEY[1])
        if said is not None:
            good = said["aud"] == self.iap and not self.managed
        else:
            said = claims_of(token, ACCOUNT_KEY[1]) or {}
            good = said.get("aud") == f"https://{self.host}/*" and said.get("sub") == ACCOUNT
        if not good or said["exp"] < time.time() or token in self.revoked:
            return answer(request, 401, "Invalid IAP credentials: no", mark)
        return None if self.lets_in else answer(request, 403, "You don't have access", mark)

    def _invoker(self, request):
        page = {"Content-Type": "text/html; charset=UTF-8"}
        text = "<html><head><title>{}</title></head><h2>Your client does not have permission to get URL</h2></html>"
        token = _bearer(request, "X-Serverless-Authorization") or _bearer(request, "Authorization")
        if not token:
            return answer(request, 403, text.format("403 Forbidden"), page)
        said = claims_of(token, GOOGLE_KEY[1]) or {}
        if said.get("aud") != f"https://{self.host}" or said["exp"] < time.time() or token in self.revoked:
            header = {"WWW-Authenticate": 'Bearer error="invalid_token" error_description="could not be verified"'}
            return answer(request, 401, text.format("401 Unauthorized"), page | header)
        return None if self.lets_in else answer(request, 403, text.format("403 Forbidden"), page)


def _bearer(request, name: str) -> str:
    scheme, _, token = request.headers.get(name, "").partition(" ")
    return token if scheme == "Bearer" else ""
