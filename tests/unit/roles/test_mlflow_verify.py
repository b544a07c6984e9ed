# SPDX-License-Identifier: Apache-2.0
"""What mlflow_verify reports about servers that are as they should be, and about those that are not.

Google and the server are scripted; whether they behave like the real ones is what the integration tests see.
"""

from __future__ import annotations

import base64
import importlib
import json
import pathlib
import re
import sys
import time
from urllib.parse import urlencode

import google.auth.jwt
import pytest
import responses
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

FILES = pathlib.Path(__file__).resolve().parents[3] / "roles" / "mlflow_verify" / "files"
URL = "https://demo-dev-1.europe-west1.run.app"
CLIENT, DEPLOYER = (f"{name}@p.iam.gserviceaccount.com" for name in ("demo-dev-client", "deployer"))
MANAGED, CUSTOM = "1-managed.apps.googleusercontent.com", "1-own.apps.googleusercontent.com"
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
MARK = {"X-Goog-IAP-Generated-Response": "true"}


def _pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


GOOGLES, ACCOUNTS = _pem(), _pem()


def signed(pem: str, payload: dict) -> str:
    return google.auth.jwt.encode(google.auth.crypt.RSASigner.from_string(pem), payload).decode()


def good(pem: str, token: str) -> bool:
    """Whether a token has the signature of a key; RSASSA-PKCS1-v1_5 gives the same again."""
    content = token.rpartition(".")[0]
    signature = google.auth.crypt.RSASigner.from_string(pem).sign(content.encode())
    return token == f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.fixture(scope="module")
def role():
    """The modules doors and verify, which the role runs as a program."""
    sys.path.insert(0, str(FILES))
    yield importlib.import_module("doors"), importlib.import_module("verify")
    sys.path.remove(str(FILES))


class Server:
    """A server behind IAP or Cloud Run's invoker check; `lax` is what it lets through wrongly."""

    def __init__(self, custom: str = "", invoker: bool = False, lax: str = ""):
        self.custom, self.invoker, self.lax = custom, invoker, lax

    def __call__(self, request):
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            if self.lax == "anybody":
                return 200, {}, "{}"
            query = urlencode({"client_id": self.custom or MANAGED})
            where = {"Location": f"https://accounts.google.com/o/oauth2/v2/auth?{query}"}
            return (403, {}, "") if self.invoker else (302, MARK | where, "")
        said = google.auth.jwt.decode(token, certs=None, verify=False)
        if self._accepted(token, said) and (said["exp"] > time.time() or self.lax == "expired"):
            return (200, {}, "{}") if said["email"] == CLIENT or self.lax == "strangers" else (403, MARK, "")
        return 401, MARK, "Invalid IAP credentials"

    def _accepted(self, token, said):
        if not good(GOOGLES if said["iss"].startswith("https") else ACCOUNTS, token) and self.lax != "forged":
            return False
        if said["iss"].startswith("https"):
            return said["aud"] == (URL if self.invoker else self.custom) or self.lax == "managed"
        return not self.invoker and (said["aud"] == f"{URL}/*" or self.lax == "audience")


@pytest.fixture
def world():
    """Google's APIs as the deployer sees them, who may act for the client and holds run.routes.invoke or not."""
    held: list[str] = []

    def act(request):
        body = json.loads(request.body)
        now = int(time.time())
        verb = request.url.rpartition(":")[2].partition("?")[0]
        if verb == "signJwt":
            return 200, {}, json.dumps({"signedJwt": signed(ACCOUNTS, json.loads(body["payload"]))})
        if verb == "generateAccessToken":
            return 200, {}, json.dumps({"accessToken": "ya29.client", "expireTime": "2099-01-01T00:00:00Z"})
        payload = {"iss": "https://accounts.google.com", "aud": body["audience"], "email": CLIENT}
        return 200, {}, json.dumps({"token": signed(GOOGLES, payload | {"iat": now, "exp": now + 3600})})

    def token(request):
        form = dict(pair.split("=", 1) for pair in request.body.decode().split("&"))
        said = google.auth.jwt.decode(form["assertion"], certs=None, verify=False)
        if "target_audience" not in said:
            return 200, {}, json.dumps({"access_token": "ya29.deployer", "expires_in": 3599})
        now = int(time.time())
        payload = {"iss": "https://accounts.google.com", "aud": said["target_audience"], "email": said["iss"]}
        return 200, {}, json.dumps({"id_token": signed(GOOGLES, payload | {"iat": now, "exp": now + 3600})})

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for verb in ("signJwt", "generateIdToken", "generateAccessToken"):
            mock.add_callback("POST", re.compile(rf"{IAM}/{CLIENT.replace('@', '(@|%40)')}:{verb}(\?.*)?$"), act)
        mock.add_callback("POST", "https://oauth2.googleapis.com/token", token)
        mock.add_callback(
            "POST",
            "https://cloudresourcemanager.googleapis.com/v1/projects/p:testIamPermissions",
            lambda request: (200, {}, json.dumps({"permissions": held})),
        )
        secret = {"payload": {"data": base64.b64encode(f"{CUSTOM}\n".encode()).decode()}}
        mock.get(
            "https://secretmanager.googleapis.com/v1/projects/p/secrets/client-id/versions/latest:access", json=secret
        )
        mock.held = held
        yield mock


def key(email: str) -> dict:
    token_uri = "https://oauth2.googleapis.com/token"
    return {"type": "service_account", "client_email": email, "private_key": ACCOUNTS, "token_uri": token_uri}


@pytest.fixture
def look(role, world, monkeypatch):
    """A function that lets a server be looked at; the checks by name."""
    doors, verify = role
    deployer = service_account.Credentials.from_service_account_info(key(DEPLOYER), scopes=doors.SCOPES)

    def look(server, access, credentials=deployer, **wanted):
        for path in (URL, URL + "/", URL + verify.PROBE):
            world.add_callback("GET", path, server, match_querystring=None)
        everything = {
            "url": URL,
            "access": access,
            "client_account": CLIENT,
            "members": ["user:alice@example.com"],
            "project": "p",
            "timeout": 0,
            "key_file": "",
            "oauth_client_id_secret": "",
        }
        door = doors.DOORS[access](doors.Google(credentials, time.monotonic()), everything | wanted)
        report = verify.Report()
        verify.try_ways(door, report)
        verify.try_strangers(door, report)
        return {check["name"]: check for check in report.checks}

    return look


def those(checks, word):
    """Names of the checks that have failed, passed or were skipped."""
    kinds = {"skipped": lambda c: c["skipped"], "failed": lambda c: not c["ok"]}
    kinds["passed"] = lambda c: c["ok"] and not c["skipped"]
    return {name for name, check in checks.items() if kinds[word](check)}


LIBRARIES = (
    "identity token from generateIdToken",
    "identity token by impersonation with google-auth",
    "identity token by google-cloud-iam's IAMCredentialsClient",
)


def test_with_a_managed_client_the_signed_jwt_works_and_identity_tokens_are_refused(look):
    checks = look(Server(), "iap")
    assert not those(checks, "failed")
    passed = those(checks, "passed")
    assert {"way in: JWT for the address, signed by signJwt"} < passed
    assert {f"not taken here: {name}" for name in LIBRARIES} < passed
    assert those(checks, "skipped") == {
        "way in: JWT for the address, signed with a key file",
        "not taken here: identity token with a key file",
    }
    assert len([name for name in passed if name.startswith("refused: ")]) == 5


def test_with_a_custom_client_every_way_works(look, tmp_path):
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key(CLIENT)))
    secret = "projects/p/secrets/client-id"
    checks = look(Server(custom=CUSTOM), "iap", oauth_client_id_secret=secret, key_file=str(file))
    assert those(checks, "passed") == set(checks)
    assert len([name for name in checks if name.startswith("way in: ")]) == 6


def test_cloud_run_takes_identity_tokens_alone(look):
    checks = look(Server(invoker=True), "iam")
    assert not those(checks, "failed")
    assert {f"way in: {name}" for name in LIBRARIES} < those(checks, "passed")
    assert "not taken here: JWT for the address, signed by signJwt" in those(checks, "passed")
    assert [name for name in those(checks, "skipped") if "expired" in name]


def test_who_may_call_every_service_is_no_stranger_to_one(look, world):
    world.held.append("run.routes.invoke")
    checks = look(Server(invoker=True), "iam")
    assert not those(checks, "failed")
    assert "may call every service of p" in checks["refused: a service account that is not among the members"]["detail"]


@pytest.mark.parametrize(
    ("lax", "name"),
    [
        ("anybody", "refused: a caller without credentials"),
        ("audience", "refused: the client with a token for another address"),
        ("forged", "refused: the client with a token that somebody else has signed"),
        ("expired", "refused: the client with a token that has expired"),
        ("strangers", "refused: a service account that is not among the members"),
    ],
)
def test_a_server_that_lets_the_wrong_ones_in_is_found(look, lax, name):
    checks = look(Server(lax=lax), "iap")
    assert name in those(checks, "failed")
    assert "got through: 200" in checks[name]["detail"]


def test_a_client_of_ones_own_that_was_not_named_is_found(look):
    checks = look(Server(custom=CUSTOM), "iap")
    failed = those(checks, "failed")
    assert failed == {f"not taken here: {name}" for name in LIBRARIES}
    assert all("mlflow_oauth_client_id_secret" in checks[name]["detail"] for name in failed)


def test_a_way_that_does_not_work_is_found(look):
    checks = look(Server(), "iap", oauth_client_id_secret="projects/p/secrets/client-id")
    assert {f"way in: {name}" for name in LIBRARIES} <= those(checks, "failed")


def test_a_library_that_is_not_there_is_said(look, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.iam_credentials_v1", None)
    monkeypatch.delattr("google.cloud.iam_credentials_v1", raising=False)
    checks = look(Server(invoker=True), "iam")
    check = checks[f"way in: {LIBRARIES[2]}"]
    assert check["skipped"] and "google-cloud-iam is not installed" in check["detail"]


def test_who_holds_no_key_is_not_taken_for_a_stranger(look):
    checks = look(Server(), "iap", credentials=user_credentials.Credentials("ya29.user"))
    check = checks["refused: a service account that is not among the members"]
    assert check["skipped"] and "holds no key" in check["detail"]


def test_a_member_is_not_taken_for_a_stranger(look):
    checks = look(Server(), "iap", members=[f"serviceAccount:{DEPLOYER}"])
    check = checks["refused: a service account that is not among the members"]
    assert check["skipped"] and DEPLOYER in check["detail"]


@pytest.mark.parametrize("content", [None, "{}", "text"])
def test_a_key_file_that_is_none_is_named(look, tmp_path, content):
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    checks = look(Server(), "iap", key_file=str(file))
    check = checks["way in: JWT for the address, signed with a key file"]
    assert not check["ok"] and "mlflow_verify_key_file" in check["detail"] and "key.json" in check["detail"]


def test_no_token_is_reported(look, world):
    checks = look(Server(lax="anybody"), "iap")
    sent = {call.request.headers.get("Authorization", "").partition(" ")[2] for call in world.calls} - {""}
    assert sent and not [token for token in sent if token in json.dumps(checks)]
