# SPDX-License-Identifier: Apache-2.0
"""Test the reports of mlflow_verify about servers with correct and with wrong access.

Google and the server are scripted; the integration tests verify that they behave like the real ones.
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
    """Return whether a token has the signature of a key; RSASSA-PKCS1-v1_5 is deterministic."""
    content = token.rpartition(".")[0]
    signature = google.auth.crypt.RSASigner.from_string(pem).sign(content.encode())
    return token == f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.fixture(scope="module")
def role():
    """Return the modules access and verify, which the role runs as a program."""
    sys.path.insert(0, str(FILES))
    yield importlib.import_module("access"), importlib.import_module("verify")
    sys.path.remove(str(FILES))


class Server:
    """A server behind IAP or Cloud Run's invoker check; `lax` is what it accepts wrongly."""

    def __init__(self, custom: str = "", invoker: bool = False, lax: str = ""):
        self.custom, self.invoker, self.lax = custom, invoker, lax

    def __call__(self, request):
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            if self.lax == "anonymous":
                return 200, {}, "{}"
            query = urlencode({"client_id": self.custom or MANAGED})
            where = {"Location": f"https://accounts.google.com/o/oauth2/v2/auth?{query}"}
            return (403, {}, "") if self.invoker else (302, MARK | where, "")
        said = google.auth.jwt.decode(token, certs=None, verify=False)
        if self._accepted(token, said) and (said["exp"] > time.time() or self.lax == "expired"):
            return (200, {}, "{}") if said["email"] == CLIENT or self.lax == "non-member" else (403, MARK, "")
        return 401, MARK, "Invalid IAP credentials"

    def _accepted(self, token, said):
        if not good(GOOGLES if said["iss"].startswith("https") else ACCOUNTS, token) and self.lax != "forged":
            return False
        if said["iss"].startswith("https"):
            return said["aud"] == (URL if self.invoker else self.custom) or self.lax == "managed"
        return not self.invoker and (said["aud"] == f"{URL}/*" or self.lax == "audience")


@pytest.fixture
def world():
    """Return Google's APIs for a deployer that may act as the client; `held` are its permissions on the project."""
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
def checked(role, world, monkeypatch):
    """Return a function that checks a server and returns the checks by name."""
    access_modes, verify = role
    deployer = service_account.Credentials.from_service_account_info(key(DEPLOYER), scopes=access_modes.SCOPES)

    def checked(server, access, credentials=deployer, **wanted):
        url = wanted.get("url", URL)
        for path in (url, url + "/", url + verify.PROBE):
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
        google_cloud = access_modes.Google(credentials, time.monotonic())
        mode = access_modes.ACCESS_MODES[access](google_cloud, everything | wanted)
        report = verify.Report()
        verify.check_token_sources(mode, report)
        verify.check_unauthorized(mode, report)
        lines = json.loads(report.as_json())["lines"]
        return {check["name"]: check | {"line": line} for check, line in zip(report.checks, lines, strict=True)}

    return checked


def those(checks, word):
    """Return the names of the checks that failed, passed or were skipped."""
    kinds = {"skipped": lambda c: c["skipped"], "failed": lambda c: not c["ok"]}
    kinds["passed"] = lambda c: c["ok"] and not c["skipped"]
    return {name for name, check in checks.items() if kinds[word](check)}


LIBRARIES = {
    "ID token from generateIdToken",
    "ID token by impersonation with google-auth",
    "ID token from google-cloud-iam's IAMCredentialsClient",
}
UNAUTHORIZED = {
    "request without credentials",
    "token for another address",
    "token with a forged signature",
    "expired token",
    "token of a service account that is not a member",
}


def test_with_a_managed_client_the_signed_jwt_is_accepted_and_id_tokens_are_rejected(checked):
    checks = checked(Server(), "iap")
    assert not those(checks, "failed")
    passed = those(checks, "passed")
    assert passed == {"JWT for the address, signed by signJwt"} | LIBRARIES | UNAUTHORIZED
    assert those(checks, "skipped") == {"JWT for the address, signed with a key file", "ID token from a key file"}
    assert all(checks[name]["result"] == "rejected (401), as expected" for name in LIBRARIES)


def test_a_line_has_the_status_the_check_and_the_response(checked):
    lines = {name: check["line"] for name, check in checked(Server(lax="expired"), "iap").items()}
    assert "ok: JWT for the address, signed by signJwt accepted (200)" in lines.values()
    assert "ok: ID token from generateIdToken rejected (401), as expected" in lines.values()
    assert (
        lines["request without credentials"]
        == "ok: request without credentials rejected (302, redirected to accounts.google.com), as expected"
    )
    assert lines["expired token"].startswith("failed: expired token: accepted with 200 ")
    assert lines["ID token from a key file"].startswith("skipped: ID token from a key file: mlflow_verify_key_file ")


def test_with_a_custom_client_every_token_source_is_accepted(checked, tmp_path):
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key(CLIENT)))
    secret = "projects/p/secrets/client-id"
    checks = checked(Server(custom=CUSTOM), "iap", oauth_client_id_secret=secret, key_file=str(file))
    assert those(checks, "passed") == set(checks)
    assert len([name for name, check in checks.items() if check["result"] == "accepted (200)"]) == 6


def test_cloud_run_accepts_only_id_tokens(checked):
    checks = checked(Server(invoker=True), "iam")
    assert not those(checks, "failed")
    assert {checks[name]["result"] for name in LIBRARIES} == {"accepted (200)"}
    assert checks["JWT for the address, signed by signJwt"]["result"] == "rejected (401), as expected"
    assert checks["expired token"]["skipped"]


@pytest.mark.parametrize(
    ("access", "accepted"), [("iap", {"JWT for the address, signed by signJwt"}), ("iam", LIBRARIES)]
)
def test_tokens_are_for_the_server_whatever_path_it_serves_below(checked, access, accepted):
    checks = checked(Server(invoker=access == "iam"), access, url=f"{URL}/ml/flow")
    assert not those(checks, "failed")
    assert {name for name, check in checks.items() if check["result"] == "accepted (200)"} == accepted


def test_an_account_with_access_to_every_service_is_not_expected_to_be_rejected(checked, world):
    world.held.append("run.routes.invoke")
    checks = checked(Server(invoker=True), "iam")
    assert not those(checks, "failed")
    assert "may call every service of p" in checks["token of a service account that is not a member"]["detail"]


@pytest.mark.parametrize(
    ("lax", "name"),
    [
        ("anonymous", "request without credentials"),
        ("audience", "token for another address"),
        ("forged", "token with a forged signature"),
        ("expired", "expired token"),
        ("non-member", "token of a service account that is not a member"),
    ],
)
def test_a_server_that_accepts_an_unauthorized_request_is_found(checked, lax, name):
    checks = checked(Server(lax=lax), "iap")
    assert name in those(checks, "failed")
    assert "accepted with 200" in checks[name]["detail"]


def test_a_custom_client_that_is_not_configured_is_found(checked):
    checks = checked(Server(custom=CUSTOM), "iap")
    failed = those(checks, "failed")
    assert failed == LIBRARIES
    assert all("mlflow_oauth_client_id_secret" in checks[name]["detail"] for name in failed)


def test_a_token_source_that_fails_is_found(checked):
    checks = checked(Server(), "iap", oauth_client_id_secret="projects/p/secrets/client-id")
    assert those(checks, "failed") >= LIBRARIES


def test_a_missing_library_is_reported(checked, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.iam_credentials_v1", None)
    monkeypatch.delattr("google.cloud.iam_credentials_v1", raising=False)
    checks = checked(Server(invoker=True), "iam")
    check = checks["ID token from google-cloud-iam's IAMCredentialsClient"]
    assert check["skipped"] and "google-cloud-iam is not installed" in check["detail"]


def test_without_a_key_the_check_of_a_non_member_is_skipped(checked):
    checks = checked(Server(), "iap", credentials=user_credentials.Credentials("ya29.user"))
    check = checks["token of a service account that is not a member"]
    assert check["skipped"] and "not a service account key" in check["detail"]


def test_with_a_member_s_key_the_check_of_a_non_member_is_skipped(checked):
    checks = checked(Server(), "iap", members=[f"serviceAccount:{DEPLOYER}"])
    check = checks["token of a service account that is not a member"]
    assert check["skipped"] and DEPLOYER in check["detail"]


@pytest.mark.parametrize("content", [None, "{}", "text"])
def test_an_invalid_key_file_is_named(checked, tmp_path, content):
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    checks = checked(Server(), "iap", key_file=str(file))
    check = checks["JWT for the address, signed with a key file"]
    assert not check["ok"] and "mlflow_verify_key_file" in check["detail"] and "key.json" in check["detail"]


def test_no_token_is_reported(checked, world):
    checks = checked(Server(lax="anonymous"), "iap")
    sent = {call.request.headers.get("Authorization", "").partition(" ")[2] for call in world.calls} - {""}
    assert sent and not [token for token in sent if token in json.dumps(checks)]


def test_odd_characters_in_the_credentials(role):
    access, _verify = role
    assert access.source_credentials({"access_token": " ya29.abc\n"}).token == "ya29.abc"
    with pytest.raises(access.Failure, match="gcp_access_token has a line break") as raised:
        access.source_credentials({"access_token": "ya29\nabc"})
    assert "abc" not in str(raised.value)


def test_checks_show_no_secrets(role):
    _access, verify = role
    report = verify.Report()
    with report.check("server"):
        raise ValueError("header value: 'Bearer t0ken\\n' by http://us:pa55word@proxy:3128")
    assert "t0ken" not in report.as_json() and "pa55word" not in report.as_json()
    assert "ValueError: header value: ********" in report.as_json()
