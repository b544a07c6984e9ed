# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime
import json
import os
import time

import google.auth.exceptions
import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import CredentialsError, UserError
from google.auth import jwt
from google.oauth2 import service_account


@pytest.fixture(autouse=True)
def _memory(monkeypatch, tmp_path):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def key_file(key, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    return path


def no_request(*args, **kwargs):
    raise AssertionError("a request was made for a token")


class Endpoint:
    """A token endpoint that counts."""

    def __init__(self, status=200, **answer):
        self.asked = []
        self._status = status
        self._answer = answer or {"access_token": f"from-endpoint-{len(self.asked)}", "expires_in": 3600}

    def __call__(self, url, method="GET", body=None, headers=None, **kwargs):
        self.asked.append((url, body, headers))
        endpoint = self

        class Response:
            status = endpoint._status
            data = json.dumps(endpoint._answer).encode()
            headers = {"content-type": "application/json"}

        return Response


@pytest.mark.parametrize("how", ["file", "contents", "dictionary", "environment", "usual place"])
def test_a_key_signs_its_own_token(key, key_file, how, monkeypatch, tmp_path):
    params = {}
    if how == "file":
        params["service_account_file"] = str(key_file)
    elif how == "contents":
        params["service_account_contents"] = json.dumps(key)
    elif how == "dictionary":
        params.update(auth_kind="serviceaccount", service_account_contents=key)
    elif how == "environment":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    else:
        folder = tmp_path / ".config/gcloud"
        folder.mkdir(parents=True)
        key_file.rename(folder / "application_default_credentials.json")
    credentials = _credentials.from_params(params)
    credentials.refresh(no_request)
    claims = jwt.decode(credentials.token, verify=False)
    assert claims["iss"] == claims["sub"] == "me@p.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert credentials.email == "me@p.iam.gserviceaccount.com"
    assert credentials.project == "p"
    assert credentials.valid


def test_the_next_task_takes_the_token_from_memory(key_file):
    params = {"service_account_file": str(key_file)}
    first = _credentials.from_params(params)
    first.refresh(no_request)
    second = _credentials.from_params(params)
    second._load = no_request
    second.refresh(no_request)
    assert second.token == first.token
    assert second.valid
    assert abs((second.expiry - first.expiry).total_seconds()) < 1


def test_other_options_are_other_credentials(key_file):
    base = {"service_account_file": str(key_file)}
    keys = {
        _credentials.from_params(dict(base, **more)).key
        for more in ({}, {"scopes": ["x"]}, {"impersonate_service_account": "a@b"}, {"auth_kind": "application"})
    }
    assert len(keys) == 4
    before = _credentials.from_params(base).key
    os.utime(key_file, (1, 1))
    assert _credentials.from_params(base).key != before
    assert _credentials.from_params({"service_account_file": "/nowhere"}).key
    assert _credentials.from_params({"auth_kind": "machineaccount"}).key


def test_a_refused_token_is_replaced_by_one_of_the_endpoint(key_file):
    credentials = _credentials.from_params({"service_account_file": str(key_file)})
    credentials.refresh(no_request)
    endpoint = Endpoint()
    credentials.refresh(endpoint)
    assert len(endpoint.asked) == 1
    assert credentials.token == "from-endpoint-0"
    other = _credentials.from_params({"service_account_file": str(key_file)})
    other.refresh(no_request)
    assert other.token == "from-endpoint-0"


def test_an_old_token_is_not_taken(key_file):
    credentials = _credentials.from_params({"service_account_file": str(key_file)})
    with _shared.entries() as known:
        known[credentials.key] = {"until": time.time() - 1, "value": "old"}
    credentials.refresh(no_request)
    assert credentials.token != "old"


def test_access_token_is_used_and_not_refreshed():
    credentials = _credentials.from_params({"access_token": "given"})
    credentials.refresh(no_request)
    assert credentials.token == "given"
    assert credentials.valid
    with pytest.raises(CredentialsError, match="expired"):
        credentials.refresh(no_request)


def test_impersonation_asks_once(key_file):
    params = {"service_account_file": str(key_file), "impersonate_service_account": "other@p.iam.gserviceaccount.com"}
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    endpoint = Endpoint(accessToken="acting", expireTime=later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    credentials = _credentials.from_params(params)
    credentials.refresh(endpoint)
    assert credentials.token == "acting"
    assert credentials.email == "other@p.iam.gserviceaccount.com"
    assert [url for url, _body, _headers in endpoint.asked] == [
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/other@p.iam.gserviceaccount.com:generateAccessToken"
    ]
    again = _credentials.from_params(params)
    again.refresh(no_request)
    assert again.token == "acting"


def test_refused_login_says_who(key, tmp_path):
    path = tmp_path / "adc.json"
    path.write_text(
        json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"})
    )
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    try:
        credentials = _credentials.from_params({})
        with pytest.raises(
            CredentialsError, match=r"No access token for the given credentials.*Check that the key or login"
        ):
            credentials.refresh(Endpoint(400, error="invalid_grant"))
        assert credentials.email == ""
    finally:
        del os.environ["GOOGLE_APPLICATION_CREDENTIALS"]


def test_refused_impersonation_says_what_to_grant(key_file):
    params = {"service_account_file": str(key_file), "impersonate_service_account": "other@p.iam.gserviceaccount.com"}
    message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
    with pytest.raises(CredentialsError) as raised:
        _credentials.from_params(params).refresh(Endpoint(403, error={"code": 403, "message": message}))
    text = str(raised.value)
    assert message in text and "{" not in text
    assert "roles/iam.serviceAccountTokenCreator on other@p.iam.gserviceaccount.com" in text


def test_an_endpoint_that_is_away_is_the_clients_to_try_again(key_file):
    def away(*args, **kwargs):
        raise google.auth.exceptions.TransportError("away")

    credentials = _credentials.from_params({"service_account_file": str(key_file)})
    credentials.refresh(no_request)
    with pytest.raises(google.auth.exceptions.TransportError):
        credentials.refresh(away)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"auth_kind": "serviceaccount"}, UserError, "neither service_account_file nor service_account_contents"),
        ({"auth_kind": "accesstoken"}, UserError, "access_token is not given"),
        (
            {"service_account_file": "/no/such"},
            CredentialsError,
            "Cannot read the credentials file /no/such: No such file",
        ),
        ({"service_account_contents": "{"}, CredentialsError, "Cannot use the given service account contents"),
        ({"service_account_contents": '{"type": "x"}'}, CredentialsError, "credentials as Google made them"),
    ],
)
def test_unusable_options(params, error, words):
    with pytest.raises(error, match=words):
        _credentials.from_params(params).source  # noqa: B018  reading it is what is tested


def test_an_unusable_file_does_not_show_its_contents(tmp_path, monkeypatch):
    path = tmp_path / "adc.json"
    path.write_text('{"type": "what is this", "private_key": "hush"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(CredentialsError, match="Cannot use the credentials file") as raised:
        _credentials.from_params({}).source  # noqa: B018  reading it is what is tested
    assert "hush" not in str(raised.value)


def test_nothing_found_says_what_to_do(monkeypatch):
    def default(scopes):
        raise google.auth.exceptions.DefaultCredentialsError("nothing")

    monkeypatch.setattr(google.auth, "default", default)
    with pytest.raises(CredentialsError, match="gcloud auth application-default login"):
        _credentials.from_params({}).source  # noqa: B018  reading it is what is tested


def test_machine_account():
    source = _credentials.from_params({"auth_kind": "machineaccount", "service_account_email": "a@b"}).source
    assert source.service_account_email == "a@b"


def test_default_is_googles_own(monkeypatch, key):
    made = service_account.Credentials.from_service_account_info(key)
    monkeypatch.setattr(google.auth, "default", lambda scopes: (made.with_scopes(scopes), "q"))
    credentials = _credentials.from_params({})
    assert credentials.source._always_use_jwt_access
    assert credentials.project == "q"


def test_who_pays(key_file, tmp_path, monkeypatch):
    def payer(**params):
        headers = {}
        _credentials.from_params(params).apply(headers, "t")
        return headers.get("x-goog-user-project")

    assert payer() is None
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    assert payer() is None
    (tmp_path / "adc.json").write_text('{"type": "authorized_user", "quota_project_id": "of-the-login"}')
    assert payer() == "of-the-login"
    assert payer(quota_project="asked") == "asked"
    assert payer(service_account_file=str(key_file)) is None
    assert payer(access_token="t", quota_project="asked") == "asked"
