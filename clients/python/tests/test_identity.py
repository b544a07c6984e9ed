# SPDX-License-Identifier: Apache-2.0
"""Credentials of every kind that google-auth finds, and what can be done with them."""

from __future__ import annotations

import json

import google.auth.jwt
import pytest
import requests
from _world import ACCOUNT, ACCOUNT_KEY, CUSTOM, GOOGLE_KEY, IAM_HOST, METADATA, answer, claims_of
from google.auth.transport.requests import AuthorizedSession

from mlflow_google_auth.config import Settings
from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.identity import identity


def found():
    return identity(Settings.from_environment())


def use(file, monkeypatch, document):
    file.write_text(json.dumps(document))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


def test_a_key_signs_by_itself_and_gets_id_tokens_from_the_token_endpoint(world, key_file):
    me = found()
    said = claims_of(me.signed_jwt("https://m.example/*", 60), ACCOUNT_KEY[1])
    assert world.seen == [], "a signature needs no request"
    assert said["iss"] == said["sub"] == me.email == ACCOUNT
    assert said["exp"] - said["iat"] == 60
    assert claims_of(me.id_token(CUSTOM), GOOGLE_KEY[1])["aud"] == CUSTOM
    assert world.counts == {"token endpoint": 1}


def test_another_file_than_the_default_credentials(world, user, key_file, monkeypatch):
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_CREDENTIALS", str(key_file))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(user))
    monkeypatch.delenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE")
    assert found().email == ACCOUNT


def test_a_login_acts_for_an_account(world, user):
    me = found()
    assert claims_of(me.id_token(CUSTOM), GOOGLE_KEY[1])["email"] == ACCOUNT
    assert claims_of(me.signed_jwt("https://m.example/*", 30), ACCOUNT_KEY[1])["sub"] == ACCOUNT


def test_delegates_are_named_in_their_order(world, user, monkeypatch):
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE", f"a@p.iam.gserviceaccount.com,{ACCOUNT}")
    found().id_token(CUSTOM)
    body = json.loads(world.requests(IAM_HOST)[-1].body)
    assert body["delegates"] == ["projects/-/serviceAccounts/a@p.iam.gserviceaccount.com"]


def test_the_error_for_a_user_login_names_variable_and_role(world, user, monkeypatch):
    monkeypatch.delenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE")
    with pytest.raises(AuthError) as error:
        found()
    for word in ("your own login", "MLFLOW_GOOGLE_AUTH_IMPERSONATE", "roles/iam.serviceAccountTokenCreator"):
        assert word in str(error.value)


def test_impersonation_by_gclouds_login(world, tmp_path, monkeypatch, user):
    """What `gcloud auth application-default login --impersonate-service-account` leaves."""
    monkeypatch.delenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE")
    source = json.loads(user.read_text())
    url = f"https://{IAM_HOST}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    document = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": url,
        "delegates": ["middle@p.iam.gserviceaccount.com"],
        "source_credentials": source,
    }
    use(tmp_path / "adc.json", monkeypatch, document)
    me = found()
    assert me.email == ACCOUNT
    assert claims_of(me.id_token(CUSTOM), GOOGLE_KEY[1])["aud"] == CUSTOM
    request = world.requests(IAM_HOST)[-1]
    assert request.headers["Authorization"] == "Bearer ya29.user", "the login asks, not the account itself"
    assert json.loads(request.body)["delegates"] == ["projects/-/serviceAccounts/middle@p.iam.gserviceaccount.com"]
    assert claims_of(me.signed_jwt("https://m.example/*", 30), ACCOUNT_KEY[1])["sub"] == ACCOUNT


def federated(tmp_path, **more):
    subject = tmp_path / "subject.txt"
    subject.write_text("a token of another cloud")
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(subject)},
        **more,
    }


@pytest.fixture
def sts(world):
    granted = {"access_token": "ya29.federated", "issued_token_type": "x", "token_type": "Bearer", "expires_in": 3600}
    world.hosts["sts.googleapis.com"] = lambda request: answer(request, 200, granted)
    # google-auth looks for the pool's project, which the identity need not be able to see
    world.hosts["cloudresourcemanager.googleapis.com"] = lambda request: answer(request, 403, {"error": {}})


def test_workload_identity_with_an_account(world, sts, tmp_path, monkeypatch):
    url = f"https://{IAM_HOST}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    use(tmp_path / "wif.json", monkeypatch, federated(tmp_path, service_account_impersonation_url=url))
    me = found()
    assert (me.email, claims_of(me.id_token(CUSTOM), GOOGLE_KEY[1])["email"]) == (ACCOUNT, ACCOUNT)
    assert world.requests(IAM_HOST)[-1].headers["Authorization"] == "Bearer ya29.federated"


def test_the_error_for_workload_identity_without_an_account_names_the_variable(world, sts, tmp_path, monkeypatch):
    use(tmp_path / "wif.json", monkeypatch, federated(tmp_path))
    with pytest.raises(AuthError, match=r"the federated identity .*MLFLOW_GOOGLE_AUTH_IMPERSONATE"):
        found()
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_IMPERSONATE", ACCOUNT)
    assert claims_of(found().signed_jwt("https://m.example/*", 30), ACCOUNT_KEY[1])["sub"] == ACCOUNT


@pytest.fixture
def machine(world):
    """A metadata server."""
    flavor = {"Metadata-Flavor": "Google"}

    def metadata(request):
        assert request.headers["Metadata-Flavor"] == "Google"
        path = request.url.partition("/computeMetadata/v1/")[2].partition("?")[0]
        if path.endswith("/identity"):
            audience = request.url.partition("audience=")[2].partition("&")[0]
            assert "format=full" in request.url, "without it the token has no address"
            world.counts["identity"] += 1
            return answer(request, 200, world.id_token(audience, ACCOUNT), flavor | {"Content-Type": "text/html"})
        if path.endswith("/token"):
            token = {"access_token": "ya29.machine", "expires_in": 3599, "token_type": "Bearer"}
            return answer(request, 200, token, flavor | {"Content-Type": "application/json"})
        if path.startswith("instance/service-accounts/"):
            info = {"email": ACCOUNT, "scopes": ["https://www.googleapis.com/auth/cloud-platform"], "aliases": []}
            return answer(request, 200, info, flavor | {"Content-Type": "application/json"})
        value = "googleapis.com" if path.endswith("universe-domain") else "p"
        return answer(request, 200, value, flavor | {"Content-Type": "application/text"})

    for host in METADATA:
        world.hosts[host] = metadata


def test_a_machine_gets_id_tokens_from_the_metadata_server_without_any_permission(world, machine):
    me = found()
    assert me.email == ACCOUNT
    assert claims_of(me.id_token(CUSTOM), GOOGLE_KEY[1])["email"] == ACCOUNT
    assert world.counts == {"identity": 1}


def test_the_error_for_a_machine_without_the_right_to_sign_names_the_role(world, machine):
    world.denied = "Permission 'iam.serviceAccounts.signJwt' denied"
    with pytest.raises(AuthError, match=f"of {ACCOUNT} by {ACCOUNT} .*signJwt.*TokenCreator on {ACCOUNT}"):
        found().signed_jwt("https://m.example/*", 30)


def test_no_credentials_at_all(world, monkeypatch):
    with pytest.raises(AuthError, match="Google credentials are not available"):
        found()


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_file_that_cannot_be_used_is_named(world, tmp_path, monkeypatch, content):
    file = tmp_path / "broken.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("MLFLOW_GOOGLE_AUTH_CREDENTIALS", str(file))
    with pytest.raises(AuthError, match=r"MLFLOW_GOOGLE_AUTH_CREDENTIALS .*broken\.json"):
        found()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, {"message": "denied"}, "roles/iam.serviceAccountTokenCreator"),
        (403, {"message": "off", "details": [{"reason": "SERVICE_DISABLED"}]}, "Enable iamcredentials.googleapis.com"),
        (404, {"message": "Gaia id not found"}, "does not exist"),
    ],
)
def test_an_error_of_iam_names_the_next_step(world, user, status, error, words):
    world.hosts[IAM_HOST] = lambda request: answer(request, status, {"error": {"code": status, **error}})
    with pytest.raises(AuthError, match=words) as raised:
        found().id_token(CUSTOM)
    assert error["message"] in str(raised.value) and "ya29" not in str(raised.value)


def test_a_login_that_has_expired_is_said(world, user):
    world.hosts["oauth2.googleapis.com"] = lambda request: answer(
        request, 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    )
    with pytest.raises(AuthError, match=r"your own login .*expired or revoked"):
        found().id_token(CUSTOM)


def test_tokens_of_accounts_can_be_read_as_such(world, key_file):
    token = found().signed_jwt("https://m.example/*", 60)
    assert google.auth.jwt.decode_header(token)["alg"] == "RS256"


@pytest.mark.parametrize(
    "text",
    [
        "Failed to parse: http://us:pa55word@proxy:x",
        "in header value: 'Bearer pa55word\\n'",
        "sent Bearer pa55word",
        "{'access_token': 'pa55word'}",
        "-----BEGIN PRIVATE KEY-----\npa55word\n-----END PRIVATE KEY-----",
        "us:pa55word",
    ],
)
def test_errors_of_other_packages_have_no_secrets(world, user, monkeypatch, text):
    monkeypatch.setenv("HTTPS_PROXY", "us:pa55word@proxy:3128")

    def fails(*args, **kwargs):
        raise requests.ConnectionError(text)

    me = found()
    monkeypatch.setattr(AuthorizedSession, "post", fails)
    with pytest.raises(AuthError, match="cannot be reached") as raised:
        me.id_token(CUSTOM)
    # A traceback has the texts of causes.
    assert "pa55word" not in str(raised.value) and raised.value.__cause__ is None
    assert raised.value.__suppress_context__
