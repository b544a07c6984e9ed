# SPDX-License-Identifier: Apache-2.0
"""IAM's own API: service accounts, keys and roles."""

import base64
import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

IAM = "https://iam.googleapis.com/v1"
ACCOUNTS = f"{IAM}/projects/mlflow-sandbox/serviceAccounts"
EMAIL = "server@mlflow-sandbox.iam.gserviceaccount.com"


@pytest.fixture
def client(client):
    url = "https://serviceusage.googleapis.com/v1/projects/mlflow-sandbox/services/iam.googleapis.com:enable"
    client.done(client.ok("POST", url), "https://serviceusage.googleapis.com/v1/")
    return client


@pytest.fixture
def account(client):
    body = {"accountId": "server", "serviceAccount": {"displayName": "Server", "description": "Runs MLflow"}}
    return client.ok("POST", ACCOUNTS, body)


def test_created_read_and_listed(client, account):
    assert account["email"] == EMAIL
    assert account["name"] == f"projects/mlflow-sandbox/serviceAccounts/{EMAIL}"
    for name in (EMAIL, account["uniqueId"]):
        assert client.ok("GET", f"{IAM}/projects/-/serviceAccounts/{name}") == account
    listed = client.ok("GET", f"{ACCOUNTS}?pageSize=1")
    assert len(listed["accounts"]) == 1
    rest = client.ok("GET", f"{ACCOUNTS}?pageToken={listed['nextPageToken']}")["accounts"]
    assert account in rest


@pytest.mark.parametrize("account_id", ["a", "Server-1", "1server", "server-", "s" * 31, ""])
def test_bad_names(client, account_id):
    assert client.post(ACCOUNTS, {"accountId": account_id}).status == 400


def test_taken_absent_and_foreign(client, account):
    taken = client.post(ACCOUNTS, {"accountId": "server"})
    assert (taken.status, taken.json["error"]["status"]) == (409, "ALREADY_EXISTS")
    absent = client.get(f"{ACCOUNTS}/missing@mlflow-sandbox.iam.gserviceaccount.com")
    assert (absent.status, absent.reason) == (404, "notFound")
    assert client.get(f"{ACCOUNTS}/{EMAIL}", as_="bob@example.com").status == 403
    hidden = client.get(f"{ACCOUNTS}/missing@mlflow-sandbox.iam.gserviceaccount.com", as_="bob@example.com")
    assert hidden.status == 403
    assert client.post(ACCOUNTS, {"accountId": "another"}, as_="bob@example.com").status == 403


def test_changed(client, account):
    body = {"serviceAccount": {"displayName": "New"}, "updateMask": "displayName"}
    assert client.ok("PATCH", f"{ACCOUNTS}/{EMAIL}", body) == {"name": account["name"], "displayName": "New"}
    body = {"serviceAccount": {}, "updateMask": "description"}
    client.ok("PATCH", f"{ACCOUNTS}/{EMAIL}", body)
    now = client.ok("GET", f"{ACCOUNTS}/{EMAIL}")
    assert now["displayName"] == "New"
    assert "description" not in now
    assert client.patch(f"{ACCOUNTS}/{EMAIL}", {"updateMask": "email"}).status == 400
    stale = {"serviceAccount": {"etag": "c3RhbGU="}, "updateMask": "description"}
    assert client.patch(f"{ACCOUNTS}/{EMAIL}", stale).status == 409


def test_a_key_file_is_a_working_pair(client, account):
    key = client.ok("POST", f"{ACCOUNTS}/{EMAIL}/keys")
    file = json.loads(base64.b64decode(key["privateKeyData"]))
    assert file["type"] == "service_account"
    assert file["client_email"] == EMAIL
    assert key["name"].endswith(f"/keys/{file['private_key_id']}")
    private = serialization.load_pem_private_key(file["private_key"].encode(), None)
    got = client.ok("GET", f"{IAM}/{key['name']}?publicKeyType=TYPE_X509_PEM_FILE")
    certificate = x509.load_pem_x509_certificate(base64.b64decode(got["publicKeyData"]))
    assert certificate.public_key() == private.public_key()
    assert "privateKeyData" not in got
    [listed] = client.ok("GET", f"{ACCOUNTS}/{EMAIL}/keys?keyTypes=USER_MANAGED")["keys"]
    assert listed["name"] == key["name"]
    client.ok("DELETE", f"{IAM}/{key['name']}")
    assert client.get(f"{IAM}/{key['name']}").status == 404
    assert client.ok("GET", f"{ACCOUNTS}/{EMAIL}/keys") == {}


def test_an_uploaded_key(client, account, sandbox):
    other = client.ok("POST", f"{ACCOUNTS}/{EMAIL}/keys")
    pem = client.ok("GET", f"{IAM}/{other['name']}?publicKeyType=TYPE_X509_PEM_FILE")["publicKeyData"]
    client.ok("DELETE", f"{IAM}/{other['name']}")
    uploaded = client.ok("POST", f"{ACCOUNTS}/{EMAIL}/keys:upload", {"publicKeyData": pem})
    assert uploaded["keyOrigin"] == "USER_PROVIDED"
    garbage = base64.b64encode(b"no certificate").decode()
    assert client.post(f"{ACCOUNTS}/{EMAIL}/keys:upload", {"publicKeyData": garbage}).status == 400


def test_ten_keys_are_enough(client, account, sandbox):
    for number in range(10):
        sandbox.identities.add_key(
            sandbox.identities.account(EMAIL),
            f"key{number}",
            "",
            origin="USER_PROVIDED",
            start=datetime.datetime.now(datetime.UTC),
        )
    assert client.post(f"{ACCOUNTS}/{EMAIL}/keys").json["error"]["status"] == "FAILED_PRECONDITION"


def test_its_policy(client, account, sandbox):
    url = f"{ACCOUNTS}/{EMAIL}"
    policy = {"bindings": [{"role": "roles/iam.serviceAccountUser", "members": ["user:bob@example.com"]}]}
    saved = client.ok("POST", f"{url}:setIamPolicy", {"policy": policy})
    assert client.ok("POST", f"{url}:getIamPolicy") == saved
    asked = {"permissions": ["iam.serviceAccounts.actAs", "iam.serviceAccounts.delete"]}
    answer = client.ok(
        "POST", f"{IAM}/projects/-/serviceAccounts/{EMAIL}:testIamPermissions", asked, as_="bob@example.com"
    )
    assert answer == {"permissions": ["iam.serviceAccounts.actAs"]}


def test_disabled_accounts_have_no_use(client, account, sandbox):
    token = sandbox.identities.mint_access_token(EMAIL)
    url, headers = f"{ACCOUNTS}/{EMAIL}", {"authorization": f"Bearer {token}"}
    assert client.get(url, headers=headers, as_=None).status == 403
    client.ok("POST", f"{url}:disable")
    assert client.ok("GET", url)["disabled"] is True
    assert client.get(url, headers=headers, as_=None).status == 401
    client.ok("POST", f"{url}:enable")
    assert client.get(url, headers=headers, as_=None).status == 403


def test_roles(client):
    role = client.ok("GET", f"{IAM}/roles/run.invoker")
    assert role["title"] == "Cloud Run Invoker"
    assert "run.routes.invoke" in role["includedPermissions"]
    assert client.get(f"{IAM}/roles/run.invokr").status == 404
    assert len(client.ok("GET", f"{IAM}/roles?pageSize=1000")["roles"]) > 100
    resource = {"fullResourceName": "//secretmanager.googleapis.com/projects/mlflow-sandbox/secrets/s"}
    names = {role["name"] for role in client.ok("POST", f"{IAM}/roles:queryGrantableRoles", resource)["roles"]}
    assert "roles/secretmanager.secretAccessor" in names
    assert not any(name.startswith("roles/run.") for name in names)
    found = client.ok("POST", f"{IAM}/permissions:queryTestablePermissions", {**resource, "pageSize": 1000})
    assert {"name": "secretmanager.versions.access", "stage": "GA"} in found["permissions"]
    assert client.ok("GET", f"{IAM}/projects/mlflow-sandbox/roles") == {}
    assert client.post(f"{IAM}/projects/mlflow-sandbox/roles", {"roleId": "x", "role": {}}).status == 501
