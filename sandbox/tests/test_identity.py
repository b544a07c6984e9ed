# SPDX-License-Identifier: Apache-2.0
"""Tokens and the token endpoint: what is accepted, and the ways in which it is not."""

import dataclasses
import datetime
import json
import time
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_sandbox.gateway import tokens
from gcp_sandbox.sandbox import Sandbox

TOKEN = "https://oauth2.googleapis.com/token"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def key(settings, sandbox):
    """The deployer's key file."""
    return json.loads((settings.credentials / "deployer.json").read_text())


def signed(key, *, private=None, key_id=None, **claims):
    now = int(time.time())
    payload = {"iss": key["client_email"], "aud": TOKEN, "iat": now, "exp": now + 3600, "scope": SCOPE, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return tokens.encode(payload, private or tokens.load_private(key["private_key"]), key_id or key["private_key_id"])


def ask(client, url=TOKEN, **form):
    return client.request("POST", url, urlencode(form).encode(), headers=FORM, as_=None)


def as_bearer(client, token, url=PROJECT):
    return client.get(url, headers={"authorization": f"Bearer {token}"}, as_=None)


def test_the_key_file_is_private(settings, sandbox):
    file = settings.credentials / "deployer.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("url", [TOKEN, "https://www.googleapis.com/oauth2/v4/token"])
def test_an_assertion_buys_a_token(client, key, url):
    answer = ask(client, url, grant_type=BEARER, assertion=signed(key, aud=url))
    assert answer.status == 200
    assert answer.json["token_type"] == "Bearer"
    assert as_bearer(client, answer.json["access_token"]).status == 200


HOUR = 3600
HOME = "projects/mlflow-sandbox"


@pytest.mark.parametrize(
    "claims, error, words",
    [
        ({"aud": "https://example.com/token"}, "invalid_grant", "audience"),
        ({"exp": -10, "iat": -HOUR}, "invalid_grant", "reasonable timeframe"),
        ({"iat": HOUR, "exp": 2 * HOUR}, "invalid_grant", "reasonable timeframe"),
        ({"exp": 2 * HOUR}, "invalid_grant", "short-lived"),
        ({"exp": None}, "invalid_grant", "iat and exp"),
        ({"iss": "missing@mlflow-sandbox.iam.gserviceaccount.com"}, "invalid_grant", "account not found"),
        ({"iss": "alice@example.com"}, "invalid_grant", "account not found"),
        ({"scope": None}, "invalid_scope", "Invalid OAuth scope"),
        ({"sub": "admin@example.com"}, "unauthorized_client", "not authorized"),
    ],
)
def test_assertions_that_buy_nothing(client, key, claims, error, words):
    now = int(time.time())
    claims = {n: now + v if n in ("iat", "exp") and v is not None else v for n, v in claims.items()}
    answer = ask(client, grant_type=BEARER, assertion=signed(key, **claims))
    assert answer.status in (400, 401)
    assert answer.json["error"] == error
    assert words in answer.json["error_description"]


def test_the_signature_of_another_key(client, key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for key_id in (key["private_key_id"], "f" * 40):
        answer = ask(client, grant_type=BEARER, assertion=signed(key, private=other, key_id=key_id))
        assert answer.json == {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    for garbage in ("", "x", "a.b.c", signed(key)[:-4]):
        assert ask(client, grant_type=BEARER, assertion=garbage).status == 400


def test_an_unsigned_assertion(client, key):
    head = tokens.b64encode(json.dumps({"alg": "none", "kid": key["private_key_id"]}).encode())
    body = signed(key).split(".")[1]
    assert ask(client, grant_type=BEARER, assertion=f"{head}.{body}.").json["error"] == "invalid_grant"


def test_a_deleted_key_buys_nothing(client, key, sandbox):
    sandbox.identities.delete_key(key["client_email"], key["private_key_id"])
    assert ask(client, grant_type=BEARER, assertion=signed(key)).status == 400


def test_other_grants(client):
    assert ask(client).json["error"] == "invalid_request"
    assert ask(client, grant_type="password").json["error"] == "unsupported_grant_type"
    assert ask(client, grant_type=BEARER).json["error"] == "invalid_request"


def test_a_target_audience_buys_an_id_token(client, key, sandbox):
    answer = ask(client, grant_type=BEARER, assertion=signed(key, scope=None, target_audience="https://mlflow"))
    principal = sandbox.identities.verify_id_token(answer.json["id_token"], ["https://mlflow"])
    assert principal.email == key["client_email"]
    assert principal.claims["iss"] == "https://accounts.google.com"
    assert sandbox.identities.verify_id_token(answer.json["id_token"], ["https://other"]) is None


def test_refresh_tokens(client, sandbox):
    adc = sandbox.identities.adc("alice@example.com")
    form = {name: adc[name] for name in ("client_id", "client_secret", "refresh_token")}
    answer = ask(client, grant_type="refresh_token", **form)
    assert sandbox.identities.verify_access_token(answer.json["access_token"]).email == "alice@example.com"
    assert ask(client, grant_type="refresh_token", **{**form, "client_secret": "x"}).status == 401
    forged = form["refresh_token"][:-3] + "xyz"
    assert ask(client, grant_type="refresh_token", **{**form, "refresh_token": forged}).json["error"] == "invalid_grant"
    as_access = "ya29.c." + form["refresh_token"].removeprefix("1//")
    assert as_bearer(client, as_access).status == 401
    with pytest.raises(KeyError):
        sandbox.identities.adc("missing@example.com")


def test_tokens_outlive_the_process_and_not_their_hour(settings, sandbox):
    token = sandbox.identities.mint_access_token("alice@example.com")
    short = sandbox.identities.mint_access_token("alice@example.com", lifetime=-1)
    sandbox.stop()
    again = Sandbox(settings)
    again.start()
    try:
        assert again.identities.verify_access_token(token).email == "alice@example.com"
        assert again.identities.verify_access_token(short) is None
        assert again.identities.verify_access_token(token[:-2]) is None
    finally:
        again.stop()


def test_without_and_with_bad_credentials(client):
    answer = client.get(PROJECT, as_=None)
    assert answer.status == 401
    assert answer.json["error"]["status"] == "UNAUTHENTICATED"
    assert answer.reason == "CREDENTIALS_MISSING"
    assert "WWW-Authenticate".lower() in answer.headers
    for header in ("Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer ", "Bearer a.b.c"):
        answer = client.get(PROJECT, headers={"authorization": header}, as_=None)
        assert (answer.status, answer.reason) == (401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"), header


def test_an_id_token_is_no_access_token(client, sandbox):
    assert (
        as_bearer(
            client, sandbox.identities.mint_id_token(client.email, "https://cloudresourcemanager.googleapis.com/")
        ).status
        == 401
    )


def test_scopes_bound_a_token(client, sandbox):
    token = sandbox.identities.mint_access_token(client.email, ["https://www.googleapis.com/auth/devstorage.read_only"])
    answer = as_bearer(client, token)
    assert (answer.status, answer.reason) == (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT")


class TestSelfSigned:
    """https://google.aip.dev/auth/4111."""

    HOST = "https://cloudresourcemanager.googleapis.com/"

    def jwt(self, key, **claims):
        return signed(key, **{"sub": key["client_email"], "aud": self.HOST, "scope": None, **claims})

    def test_for_the_service(self, client, key):
        assert as_bearer(client, self.jwt(key)).status == 200

    def test_with_a_scope(self, client, key):
        assert as_bearer(client, self.jwt(key, aud=None, scope=SCOPE)).status == 200

    def test_refused(self, client, key):
        now = int(time.time())
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for token in (
            self.jwt(key, aud="https://storage.googleapis.com/"),
            self.jwt(key, aud="https://cloudresourcemanager.googleapis.com.example.com/"),
            self.jwt(key, aud=None),
            self.jwt(key, sub="admin@example.com"),
            self.jwt(key, iat=now - 7200, exp=now - 3600),
            self.jwt(key, iat=now + 3600, exp=now + 7200),
            self.jwt(key, exp=now + 10 * 3600),
            self.jwt(key, private=other),
        ):
            assert as_bearer(client, token).status == 401


def test_token_info(client, sandbox):
    token = sandbox.identities.mint_access_token("alice@example.com")
    info = client.ok("GET", f"https://oauth2.googleapis.com/tokeninfo?access_token={token}", as_=None)
    assert info["email"] == "alice@example.com"
    assert info["scope"] == SCOPE
    assert 3500 < int(info["expires_in"]) <= 3600
    id_token = sandbox.identities.mint_id_token("alice@example.com", "x")
    info = client.ok("GET", f"https://oauth2.googleapis.com/tokeninfo?id_token={id_token}", as_=None)
    assert (info["aud"], info["hd"], info["alg"]) == ("x", "example.com", "RS256")
    assert client.get("https://oauth2.googleapis.com/tokeninfo?access_token=x", as_=None).status == 400
    me = client.ok("GET", "https://openidconnect.googleapis.com/v1/userinfo", as_="alice@example.com")
    assert (me["email"], me["name"]) == ("alice@example.com", "Alice Example")


class TestCredentialsOfOthers:
    """iamcredentials."""

    BASE = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"

    @pytest.fixture
    def accounts(self, sandbox, client):
        """Two accounts: the deployer may make tokens for `a`, and `a` for `b`."""
        project = sandbox.projects.get("mlflow-sandbox")
        sandbox.enablement.enable(project, ["iamcredentials"], at_once=True)
        emails = [f"account-{name}@mlflow-sandbox.iam.gserviceaccount.com" for name in "ab"]
        for email, holder in zip(emails, [client.email, emails[0]], strict=True):
            account = sandbox.identities.create_account(project, email)
            resource = f"//iam.googleapis.com/{account['name']}"
            sandbox.iam.add_binding(resource, "roles/iam.serviceAccountTokenCreator", f"serviceAccount:{holder}")
        return emails

    def test_an_owner_is_not_enough(self, client, sandbox, accounts):
        answer = client.post(f"{self.BASE}{client.email}:generateAccessToken", {"scope": [SCOPE]})
        assert answer.status == 403
        assert "iam.serviceAccounts.getAccessToken" in answer.json["error"]["message"]

    def test_access_token(self, client, sandbox, accounts):
        answer = client.ok(
            "POST", f"{self.BASE}{accounts[0]}:generateAccessToken", {"scope": [SCOPE], "lifetime": "600s"}
        )
        assert sandbox.identities.verify_access_token(answer["accessToken"]).email == accounts[0]
        for body in ({}, {"scope": [SCOPE], "lifetime": "7200s"}):
            assert client.post(f"{self.BASE}{accounts[0]}:generateAccessToken", body).status == 400

    def test_delegates(self, client, sandbox, accounts):
        body = {"scope": [SCOPE]}
        assert client.post(f"{self.BASE}{accounts[1]}:generateAccessToken", body).status == 403
        body["delegates"] = [f"projects/-/serviceAccounts/{accounts[0]}"]
        answer = client.ok("POST", f"{self.BASE}{accounts[1]}:generateAccessToken", body)
        assert sandbox.identities.verify_access_token(answer["accessToken"]).email == accounts[1]

    def test_id_token(self, client, sandbox, accounts):
        url = f"{self.BASE}{accounts[0]}:generateIdToken"
        bare = tokens.split(client.ok("POST", url, {"audience": "x"})["token"])[1]
        assert "email" not in bare
        full = tokens.split(client.ok("POST", url, {"audience": "x", "includeEmail": True})["token"])[1]
        assert full["email"] == accounts[0]
        assert client.post(url, {}).status == 400

    def test_signatures_are_the_accounts_own(self, client, sandbox, accounts):
        payload = json.dumps({"iss": accounts[0], "aud": "https://mlflow/*"})
        answer = client.ok("POST", f"{self.BASE}{accounts[0]}:signJwt", {"payload": payload})
        account, claims = sandbox.identities.verify_account_jwt(answer["signedJwt"])
        assert (account["email"], claims["aud"]) == (accounts[0], "https://mlflow/*")
        late = json.dumps({"exp": int(time.time()) + 13 * 3600})
        for bad in (late, "[]", "no json"):
            assert client.post(f"{self.BASE}{accounts[0]}:signJwt", {"payload": bad}).status == 400
        assert client.ok("POST", f"{self.BASE}{accounts[0]}:signBlob", {"payload": "aGk="})["keyId"] == answer["keyId"]

    def test_names(self, client, accounts):
        url = f"{self.BASE}missing@mlflow-sandbox.iam.gserviceaccount.com:generateAccessToken"
        assert client.post(url, {"scope": [SCOPE]}).status == 404
        with_project = self.BASE.replace("/-/", "/mlflow-sandbox/")
        assert client.post(f"{with_project}{accounts[0]}:generateAccessToken", {"scope": [SCOPE]}).status == 400
        boundary = client.ok("GET", f"{self.BASE}{accounts[0]}/allowedLocations")
        assert boundary == {"locations": [], "encodedLocations": "0x0"}

    def test_the_api_must_be_enabled(self, client, sandbox, accounts):
        sandbox.enablement.disable(sandbox.projects.get("mlflow-sandbox"), ["iamcredentials.googleapis.com"])
        answer = client.post(f"{self.BASE}{accounts[0]}:generateAccessToken", {"scope": [SCOPE]})
        assert (answer.status, answer.reason) == (403, "SERVICE_DISABLED")


def _life(token):
    _, claims = tokens.split(token)
    return claims["exp"] - claims["iat"]


def test_tokens_live_as_long_as_the_settings_let_them(sandbox, client, key, monkeypatch):
    short = dataclasses.replace(sandbox.settings, token_lifetime=30)
    account, iam = key["client_email"], "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
    apis = {"serviceIds": ["iam.googleapis.com", "iamcredentials.googleapis.com"]}
    client.ok("POST", f"https://serviceusage.googleapis.com/v1/{HOME}/services:batchEnable", apis)
    creator = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"serviceAccount:{account}"]}
    client.ok(
        "POST",
        f"https://iam.googleapis.com/v1/{HOME}/serviceAccounts/{account}:setIamPolicy",
        {"policy": {"bindings": [creator]}},
    )
    for settings, life in ((sandbox.settings, HOUR), (short, 30)):
        monkeypatch.setattr(sandbox, "settings", settings)
        began = time.time()
        granted = ask(client, grant_type=BEARER, assertion=signed(key)).json
        assert granted["expires_in"] == life - 1
        url = f"https://oauth2.googleapis.com/tokeninfo?access_token={granted['access_token']}"
        inspected = client.get(url, as_=None)
        assert life - 1 - (time.time() - began) <= int(inspected.json["expires_in"]) <= life
        bought = ask(client, grant_type=BEARER, assertion=signed(key, scope=None, target_audience="https://x"))
        assert _life(bought.json["id_token"]) == life
        made = client.ok("POST", f"{iam}/{account}:generateIdToken", {"audience": "https://x"})
        assert _life(made["token"]) == life
        lent = client.ok("POST", f"{iam}/{account}:generateAccessToken", {"scope": [SCOPE], "lifetime": "600s"})
        expires = datetime.datetime.fromisoformat(lent["expireTime"]).timestamp()
        assert began - 1 <= expires - min(life, 600) <= time.time() + 1
