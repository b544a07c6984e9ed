# SPDX-License-Identifier: Apache-2.0
"""Google's own client libraries, unmodified, against tokens, certificates and metadata: all they know is a proxy."""

import json
import os
import subprocess
import sys
import time

import google.auth
import google.auth.compute_engine
import google.auth.impersonated_credentials
import google.auth.transport.requests
import google.oauth2.credentials
import google.oauth2.id_token
import pytest
import requests
from gcp_sandbox.backends.metadata import MetadataServer
from google.auth import jwt
from google.auth.compute_engine import _metadata
from google.cloud import iam_credentials_v1
from google.oauth2 import service_account

COMMAND = [sys.executable, "-m", "gcp_sandbox"]
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox"


@pytest.fixture(scope="module")
def environment(tmp_path_factory, new_settings):
    """The environment of `gcp-sandbox env`, for a sandbox that runs as long as the module's tests."""
    with new_settings(tmp_path_factory.mktemp("clients")) as settings:
        command = [*COMMAND, "--state", str(settings.state)]
        subprocess.run([*command, "up"], check=True, capture_output=True, timeout=120)
        shown = subprocess.run([*command, "env", "--json"], check=True, capture_output=True, text=True, timeout=60)
        yield json.loads(shown.stdout)
        subprocess.run([*command, "down"], check=True, capture_output=True, timeout=60)


@pytest.fixture(autouse=True)
def inside(environment, monkeypatch):
    """Every test runs as under `gcp-sandbox exec`."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def request_(inside):
    return google.auth.transport.requests.Request()


@pytest.fixture
def session(inside):
    credentials, _ = google.auth.default(scopes=SCOPES)
    return google.auth.transport.requests.AuthorizedSession(credentials)


@pytest.fixture(scope="module")
def server(environment):
    """A service account that the deployer may make tokens for, in the running sandbox."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        credentials, project = google.auth.default(scopes=SCOPES)
        session = google.auth.transport.requests.AuthorizedSession(credentials)
        enable = {"serviceIds": ["iam.googleapis.com", "iamcredentials.googleapis.com"]}
        usage = "https://serviceusage.googleapis.com/v1"
        operation = session.post(f"{usage}/projects/{project}/services:batchEnable", json=enable).json()
        while not operation.get("done"):
            operation = session.get(f"{usage}/{operation['name']}").json()
        accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
        account = session.post(accounts, json={"accountId": "server"}).json()
        role = "roles/iam.serviceAccountTokenCreator"
        binding = {"role": role, "members": [f"serviceAccount:{credentials.service_account_email}"]}
        policy = {"policy": {"bindings": [binding]}}
        assert session.post(f"{accounts}/{account['email']}:setIamPolicy", json=policy).status_code == 200
        return account["email"]


def test_application_default_credentials(session):
    assert session.get(PROJECT).json()["projectId"] == "mlflow-sandbox"


def test_self_signed_jwt(environment):
    credentials = service_account.Credentials.from_service_account_file(
        environment["GOOGLE_APPLICATION_CREDENTIALS"], always_use_jwt_access=True
    )
    credentials._create_self_signed_jwt("https://cloudresourcemanager.googleapis.com/")
    session = google.auth.transport.requests.AuthorizedSession(credentials)
    assert session.get(PROJECT).status_code == 200
    assert session.get("https://serviceusage.googleapis.com/v1/projects/mlflow-sandbox/services").status_code == 401


def test_id_token_of_a_key_file_is_verified_with_googles_certificates(environment, request_):
    credentials = service_account.IDTokenCredentials.from_service_account_file(
        environment["GOOGLE_APPLICATION_CREDENTIALS"], target_audience="https://mlflow.example"
    )
    credentials.refresh(request_)
    claims = google.oauth2.id_token.verify_oauth2_token(credentials.token, request_, "https://mlflow.example")
    assert claims["email"] == "deployer@mlflow-sandbox.iam.gserviceaccount.com"
    with pytest.raises(ValueError, match="audience"):
        google.oauth2.id_token.verify_oauth2_token(credentials.token, request_, "https://other.example")


def test_a_users_credentials(environment, tmp_path, request_):
    state = os.path.dirname(os.path.dirname(environment["GOOGLE_APPLICATION_CREDENTIALS"]))
    script = (
        "import google.auth, google.auth.transport.requests as t\n"
        f"credentials, _ = google.auth.default(scopes={SCOPES})\n"
        "session = t.AuthorizedSession(credentials)\n"
        "print(session.get('https://openidconnect.googleapis.com/v1/userinfo').json()['email'])\n"
        f"print(session.get('{PROJECT}').status_code)\n"
    )
    command = [*COMMAND, "--state", state, "exec", "--as", "bob@example.com", "--", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["bob@example.com", "403"]


def test_impersonation(environment, server, request_):
    source, _ = google.auth.default(scopes=SCOPES)
    credentials = google.auth.impersonated_credentials.Credentials(source, server, SCOPES, lifetime=300)
    session = google.auth.transport.requests.AuthorizedSession(credentials)
    assert session.get("https://openidconnect.googleapis.com/v1/userinfo").json()["email"] == server
    assert session.get(PROJECT).status_code == 403
    id_credentials = google.auth.impersonated_credentials.IDTokenCredentials(
        credentials, target_audience="https://mlflow.example", include_email=True
    )
    id_credentials.refresh(request_)
    claims = google.oauth2.id_token.verify_oauth2_token(id_credentials.token, request_, "https://mlflow.example")
    assert claims["email"] == server
    signature = credentials.sign_bytes(b"data")
    certificates = requests.get(f"https://www.googleapis.com/robot/v1/metadata/x509/{server}", timeout=10).json()
    assert any(google.auth.crypt.verify_signature(b"data", signature, pem) for pem in certificates.values())


def test_the_credentials_client(server, request_):
    client = iam_credentials_v1.IAMCredentialsClient(transport="rest")
    name = f"projects/-/serviceAccounts/{server}"
    token = client.generate_access_token(name=name, scope=SCOPES).access_token
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    assert session.get("https://openidconnect.googleapis.com/v1/userinfo", timeout=10).json()["email"] == server


def test_a_signed_jwt_is_verified_with_the_accounts_certificates(server):
    client = iam_credentials_v1.IAMCredentialsClient(transport="rest")
    now = int(time.time())
    payload = json.dumps({"iss": server, "aud": "https://mlflow/*", "iat": now, "exp": now + 600})
    signed = client.sign_jwt(name=f"projects/-/serviceAccounts/{server}", payload=payload).signed_jwt
    url = f"https://www.googleapis.com/service_accounts/v1/metadata/x509/{server}"
    claims = jwt.decode(signed, certs=requests.get(url, timeout=10).json(), audience="https://mlflow/*")
    assert claims["iss"] == server
    keys = requests.get(f"https://www.googleapis.com/service_accounts/v1/jwk/{server}", timeout=10).json()["keys"]
    assert jwt.decode_header(signed)["kid"] in {key["kid"] for key in keys}


def test_iap_keys_are_published(request_):
    pems = requests.get("https://www.gstatic.com/iap/verify/public_key", timeout=10).json()
    keys = requests.get("https://www.gstatic.com/iap/verify/public_key-jwk", timeout=10).json()["keys"]
    assert set(pems) == {key["kid"] for key in keys}
    assert {(key["kty"], key["alg"], key["crv"]) for key in keys} == {("EC", "ES256", "P-256")}
    configuration = requests.get("https://accounts.google.com/.well-known/openid-configuration", timeout=10).json()
    assert requests.get(configuration["jwks_uri"], timeout=10).json()["keys"]


class TestMetadata:
    """google-auth as in a container of Cloud Run, against the metadata server of one instance."""

    @pytest.fixture
    def box(self, sandbox):
        return sandbox

    @pytest.fixture
    def email(self, box):
        project = box.projects.get("mlflow-sandbox")
        return box.identities.create_account(project, "app@mlflow-sandbox.iam.gserviceaccount.com")["email"]

    @pytest.fixture
    def metadata(self, box, email, monkeypatch):
        server = MetadataServer(box, email=email, project="mlflow-sandbox", region="europe-west1")
        port = server.start()
        address = f"127.0.0.1:{port}"
        for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"):
            monkeypatch.setenv(name, address)
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", address)
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.stop()

    def test_google_auth(self, box, email, metadata, request_):
        credentials = google.auth.compute_engine.Credentials(scopes=SCOPES)
        credentials.refresh(request_)
        principal = box.identities.verify_access_token(credentials.token)
        assert (principal.email, list(principal.claims["scopes"])) == (email, SCOPES)
        assert credentials.service_account_email == email
        assert _metadata.get_project_id(request_) == "mlflow-sandbox"

    def test_an_id_token(self, box, email, metadata, request_):
        credentials = google.auth.compute_engine.IDTokenCredentials(
            request_, "https://mlflow.example", use_metadata_identity_endpoint=True
        )
        credentials.refresh(request_)
        assert box.identities.verify_id_token(credentials.token, ["https://mlflow.example"]).email == email

    def test_paths(self, box, email, metadata):
        def get(path, **headers):
            url = f"http://127.0.0.1:{metadata.port}/computeMetadata/v1/{path}"
            return requests.get(url, headers=headers or {"Metadata-Flavor": "Google"}, timeout=10)

        number = box.settings.project_number
        assert get("project/numeric-project-id").text == number
        assert get("instance/region").text == f"projects/{number}/regions/europe-west1"
        assert get("instance/zone").text == f"projects/{number}/zones/europe-west1-1"
        assert get("instance/service-accounts/").text == f"default/\n{email}/\n"
        assert get("instance/service-accounts/default/?recursive=true").json()["email"] == email
        assert SCOPES[0] in get("instance/service-accounts/default/scopes").text.split("\n")
        assert get("instance/service-accounts/default/identity").status_code == 400
        assert get("instance/nothing").status_code == 404
        assert get("instance/service-accounts/other@example.com/token").status_code == 404
        assert get("project/project-id").headers["Metadata-Flavor"] == "Google"

    def test_only_for_who_asks_for_metadata(self, metadata):
        url = f"http://127.0.0.1:{metadata.port}/computeMetadata/v1/instance/service-accounts/default/token"
        assert requests.get(url, timeout=10).status_code == 403
        forwarded = {"Metadata-Flavor": "Google", "X-Forwarded-For": "10.0.0.1"}
        assert requests.get(url, headers=forwarded, timeout=10).status_code == 403

    def test_a_deleted_account_gets_nothing(self, box, email, metadata):
        box.identities.delete_account(box.identities.account(email))
        url = f"http://127.0.0.1:{metadata.port}/computeMetadata/v1/instance/service-accounts/default/token"
        assert requests.get(url, headers={"Metadata-Flavor": "Google"}, timeout=10).status_code == 404
