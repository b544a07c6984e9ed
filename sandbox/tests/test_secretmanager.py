# SPDX-License-Identifier: Apache-2.0
"""Secret Manager v1: asked without a network, and by unmodified google-cloud-secret-manager over REST."""

import base64
import time
from pathlib import Path
from types import SimpleNamespace

import google.auth
import google_crc32c
import pytest
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.times import timestamp
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.services import secretmanager
from gcp_sandbox.services.secretmanager import compile_filter
from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud.secretmanager import SecretManagerServiceClient, SecretVersion
from google.oauth2.credentials import Credentials

HOST = "https://secretmanager.googleapis.com/v1"
AUTOMATIC = {"replication": {"automatic": {}}}
MOVED = {"replication": {"userManaged": {"replicas": [{"location": "us-east1"}]}}}
TOPICS = {"topics": [{"name": "projects/p/topics/t"}]}
ROTATION = {"nextRotationTime": "2040-01-01T00:00:00Z"}
PAYLOAD = b"correct horse battery staple"


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_settings):
    """One sandbox for all tests of this file, with the API enabled."""
    with new_settings(tmp_path_factory.mktemp("sandbox")) as settings:
        sandbox = Sandbox(settings)
        sandbox.start()
        project = sandbox.projects.get(settings.project)
        sandbox.enablement.enable(project, ["secretmanager.googleapis.com"], at_once=True)
        yield sandbox
        sandbox.stop()


@pytest.fixture
def clock(monkeypatch):
    """The service's clock: `clock.ahead` is how many seconds it is ahead."""
    clock = SimpleNamespace(ahead=0)
    shifted = SimpleNamespace(time=lambda: time.time() + clock.ahead, time_ns=time.time_ns)
    monkeypatch.setattr(secretmanager, "time", shifted)
    return clock


@pytest.fixture
def sandbox(running):
    """That sandbox, without the secrets of the tests before."""
    yield running
    service = running.services["secretmanager"]
    for name, _ in running.store.list(secretmanager.SECRET):
        service._forget(name)


@pytest.fixture
def project(sandbox):
    return sandbox.projects.get(sandbox.settings.project)


@pytest.fixture
def base(project):
    return f"{HOST}/projects/{project.id}"


@pytest.fixture
def make(client, base):
    def make(name="s", **body):
        return client.ok("POST", f"{base}/secrets?secretId={name}", {**AUTOMATIC, **body})

    return make


@pytest.fixture
def add(client, base):
    def add(data=PAYLOAD, name="s", **payload):
        body = {"payload": {"data": base64.b64encode(data).decode(), **payload}}
        return client.ok("POST", f"{base}/secrets/{name}:addVersion", body)

    return add


@pytest.fixture
def account(sandbox, project):
    email = f"app@{project.id}.iam.gserviceaccount.com"
    if not sandbox.identities.account(email):
        sandbox.identities.create_account(project, email)
    return email


def refused(answer, code, status, message=None):
    error = answer.json["error"]
    assert (answer.status, error["status"]) == (code, status), error
    if message:
        assert error["message"] == message
    return True


def test_names_in_answers_have_the_projects_number(client, base, project, make, add):
    name = f"projects/{project.number}/secrets/s"
    refused(client.get(f"{base}/secrets/s"), 404, "NOT_FOUND", f"Secret [{name}] not found.")
    created = make()
    assert created["name"] == name and created["replication"] == {"automatic": {}}
    assert client.ok("GET", f"{HOST}/{name}") == created == client.ok("GET", f"{base}/secrets/s")
    assert add()["name"] == f"{name}/versions/1"
    refused(
        client.post(f"{base}/secrets?secretId=s", AUTOMATIC), 409, "ALREADY_EXISTS", f"Secret [{name}] already exists."
    )
    assert client.ok("DELETE", f"{base}/secrets/s") == {}
    refused(client.get(f"{base}/secrets/s/versions/1:access"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.b", AUTOMATIC),
        ("", AUTOMATIC),
        ("x" * 256, AUTOMATIC),
        ("s", {}),
        ("s", {"replication": {"userManaged": {"replicas": []}}}),
        ("s", {"replication": {"userManaged": {"replicas": [{"location": "mars"}]}}}),
        ("s", {"replication": {"userManaged": {"replicas": [{"location": "us-east1"}] * 2}}}),
        ("s", {**AUTOMATIC, "labels": {"Key": "v"}}),
        ("s", {**AUTOMATIC, **TOPICS, "rotation": {"rotationPeriod": "7200s"}}),
        ("s", {**AUTOMATIC, "rotation": ROTATION}),
        ("s", {**AUTOMATIC, "expireTime": "2024-01-01T00:00:00Z"}),
        ("s", {**AUTOMATIC, "ttl": "0s"}),
        ("s", {**AUTOMATIC, **TOPICS, "rotation": {"nextRotationTime": "2024-01-01T00:00:00Z"}}),
        ("s", {**AUTOMATIC, **TOPICS, "rotation": {"nextRotationTime": "2199-01-01T00:00:00Z"}}),
        ("s", {**AUTOMATIC, **TOPICS, "rotation": {**ROTATION, "rotationPeriod": "3599s"}}),
        ("s", {**AUTOMATIC, **TOPICS, "rotation": {**ROTATION, "rotationPeriod": "3153600001s"}}),
        ("s", {**AUTOMATIC, "versionAliases": {"now": "1"}}),
        ("s", {**AUTOMATIC, "colour": "red"}),
    ],
)
def test_bad_secrets(client, base, name, body):
    refused(client.post(f"{base}/secrets?secretId={name}", body), 400, "INVALID_ARGUMENT")


def test_a_secret_keeps_what_it_is_created_with(client, base, make):
    body = {
        "replication": {"userManaged": {"replicas": [{"location": "us-east1"}, {"location": "europe-west1"}]}},
        "labels": {"team": "ml"},
        "annotations": {"Any/key": "Any value"},
        **TOPICS,
        "rotation": {**ROTATION, "rotationPeriod": "3600s"},
        "versionDestroyTtl": "86400s",
    }
    created = make(ttl="3600s", **body)
    assert body.items() <= created.items() and "ttl" not in created
    assert created["expireTime"] > created["createTime"]
    assert created["etag"].startswith('"')


def test_patch_changes_what_the_mask_names(client, base, make):
    before = make(labels={"a": "1", "b": "2"}, annotations={"k": "v"})
    url = f"{base}/secrets/s?updateMask="
    after = client.ok("PATCH", f"{url}labels", {"labels": {"c": "3"}, "annotations": {"not": "this"}})
    assert (after["labels"], after["annotations"]) == ({"c": "3"}, {"k": "v"})
    assert after["etag"] != before["etag"] and after["createTime"] == before["createTime"]
    assert "labels" not in client.ok("PATCH", f"{url}labels", {})
    assert client.ok("PATCH", f"{url}version_destroy_ttl", {"versionDestroyTtl": "86400s"})["versionDestroyTtl"]
    assert "expireTime" in client.ok("PATCH", f"{url}ttl", {"ttl": "600s"})
    assert "expireTime" not in client.ok("PATCH", f"{url}expireTime", {})
    for mask, body in (("", {}), ("replication", MOVED), ("name", {}), ("colour", {})):
        refused(client.patch(f"{url}{mask}", body), 400, "INVALID_ARGUMENT")


def test_times_are_set_in_the_future(client, base, make, clock):
    soon = timestamp(time.time() + 400)
    make(**TOPICS, rotation={"nextRotationTime": soon})
    url = f"{base}/secrets/s?updateMask="
    for mask, body in (
        ("expireTime", {"expireTime": timestamp(time.time() - 1)}),
        ("rotation", {"rotation": {"nextRotationTime": timestamp(time.time() + 200)}}),
    ):
        refused(client.patch(f"{url}{mask}", body), 400, "INVALID_ARGUMENT")
    clock.ahead = 500  # other fields can be changed while a rotation is due
    body = {"labels": {"a": "1"}, "rotation": {"nextRotationTime": soon}}
    changed = client.ok("PATCH", f"{url}labels,rotation", body)
    assert (changed["labels"], changed["rotation"]) == (body["labels"], body["rotation"])


def test_stale_etags_are_refused(client, base, make, add):
    stale = make()["etag"]
    client.ok("PATCH", f"{base}/secrets/s?updateMask=labels", {"labels": {"a": "1"}, "etag": stale})
    refused(client.patch(f"{base}/secrets/s?updateMask=labels", {"etag": stale}), 400, "FAILED_PRECONDITION")
    refused(client.delete(f"{base}/secrets/s?etag={stale}"), 400, "FAILED_PRECONDITION")
    etag = add()["etag"]
    client.ok("POST", f"{base}/secrets/s/versions/1:disable", {"etag": etag})
    refused(client.post(f"{base}/secrets/s/versions/1:enable", {"etag": etag}), 400, "FAILED_PRECONDITION")


def test_versions_by_number_alias_and_latest(client, base, project, make, add):
    make()
    name = f"projects/{project.number}/secrets/s"
    missing = f"Secret [{name}] not found or has no versions."
    refused(client.get(f"{base}/secrets/s/versions/latest:access"), 404, "NOT_FOUND", missing)
    for data in (b"1", b"2"):
        add(data)
    client.ok("PATCH", f"{base}/secrets/s?updateMask=versionAliases", {"versionAliases": {"prod": "1"}})
    for version, number, data in (("latest", 2, b"2"), ("prod", 1, b"1"), ("1", 1, b"1")):
        answer = client.ok("GET", f"{base}/secrets/s/versions/{version}:access")
        assert answer["name"] == f"{name}/versions/{number}"
        assert base64.b64decode(answer["payload"]["data"]) == data
        assert answer["payload"]["dataCrc32c"] == str(google_crc32c.value(data))
    missing = f"Secret Version [{name}/versions/3] not found."
    refused(client.get(f"{base}/secrets/s/versions/3:access"), 404, "NOT_FOUND", missing)


def test_payloads_are_checked(client, base, make, add):
    make()
    url = f"{base}/secrets/s:addVersion"
    assert add(dataCrc32c=str(google_crc32c.value(PAYLOAD)))["clientSpecifiedPayloadChecksum"] is True
    data = base64.b64encode(PAYLOAD).decode()
    refused(client.post(url, {"payload": {"data": data, "dataCrc32c": "1"}}), 400, "INVALID_ARGUMENT")
    refused(client.post(url, {"payload": {"data": "%%"}}), 400, "INVALID_ARGUMENT")
    refused(client.post(url, {}), 400, "INVALID_ARGUMENT")
    add(b"x" * 65536)
    refused(client.post(url, {"payload": {"data": base64.b64encode(b"x" * 65537).decode()}}), 400, "INVALID_ARGUMENT")


def test_states_of_a_version(client, base, project, make, add):
    make()
    add()
    url, name = f"{base}/secrets/s/versions/1", f"projects/{project.number}/secrets/s/versions/1"
    assert client.ok("POST", f"{url}:disable", {})["state"] == "DISABLED"
    closed = f"Secret Version [{name}] is in DISABLED state."
    refused(client.get(f"{url}:access"), 400, "FAILED_PRECONDITION", closed)
    assert client.ok("POST", f"{url}:enable", {})["state"] == "ENABLED"
    assert client.ok("GET", f"{url}:access")
    destroyed = client.ok("POST", f"{url}:destroy", {})
    assert destroyed["state"] == "DESTROYED" and destroyed["destroyTime"]
    gone = f"Secret Version [{name}] is in DESTROYED state."
    refused(client.get(f"{url}:access"), 400, "FAILED_PRECONDITION", gone)
    refused(client.post(f"{url}:enable", {}), 400, "FAILED_PRECONDITION", gone)


def test_destruction_can_be_put_off(client, base, make, add, clock):
    make(versionDestroyTtl="86400s")
    add()
    url = f"{base}/secrets/s/versions/1"
    assert client.ok("POST", f"{url}:destroy", {})["state"] == "DISABLED"
    assert "scheduledDestroyTime" not in client.ok("POST", f"{url}:enable", {})
    client.ok("POST", f"{url}:destroy", {})
    clock.ahead = 90000
    row = client.sandbox.services["secretmanager"]._version(client.sandbox.store.list(secretmanager.VERSION)[0][0])
    assert row["state"] == "DESTROYED" and not client.sandbox.store.list(secretmanager.PAYLOAD)


def test_secrets_expire(client, base, make, add, clock):
    make(ttl="600s")
    add()
    assert client.get(f"{base}/secrets/s").status == 200
    clock.ahead = 601
    refused(client.get(f"{base}/secrets/s"), 404, "NOT_FOUND")
    assert client.ok("GET", f"{base}/secrets") == {}
    make()
    refused(client.get(f"{base}/secrets/s/versions/1"), 404, "NOT_FOUND")


def test_lists_are_newest_first_in_pages_and_filtered(client, base, make, add):
    for name, label in (("one", "a"), ("two", "b"), ("three", "a")):
        make(name, labels={"k": label})
        add(name=name)
    first = client.ok("GET", f"{base}/secrets?pageSize=2")
    assert first["totalSize"] == 3
    second = client.ok("GET", f"{base}/secrets?pageSize=2&pageToken={first['nextPageToken']}")
    listed = [secret["name"].rpartition("/")[2] for secret in first["secrets"] + second["secrets"]]
    assert listed == ["three", "two", "one"]
    found = client.ok("GET", f"{base}/secrets?filter=labels.k%3Da%20AND%20name:th")
    assert [secret["name"].rpartition("/")[2] for secret in found["secrets"]] == ["three"] and "totalSize" not in found
    for _ in range(11):
        add(name="one")
    client.ok("POST", f"{base}/secrets/one/versions/11:disable", {})
    versions = client.ok("GET", f"{base}/secrets/one/versions?filter=state:ENABLED")["versions"]
    assert [version["name"].rpartition("/")[2] for version in versions][:3] == ["12", "10", "9"]
    refused(client.get(f"{base}/secrets?filter=("), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name:pass", True),
        ("name:nothing", False),
        ("pass", True),
        ("labels.env=prod", True),
        ("labels.env = prod", True),
        ('labels.env="prod"', True),
        ("labels.env!=prod", False),
        ("labels.env:*", True),
        ("labels.other:*", False),
        ("labels:env", True),
        ("NOT labels.env=prod", False),
        ("-labels.env=prod", False),
        ("labels.env=dev OR name:db", True),
        ("(labels.env=dev OR name:db) AND labels.env=dev", False),
        ("createTime>2026-01-01", True),
        ("createTime<2026-01-01T00:00:00Z", False),
        ("replication.automatic:*", True),
    ],
)
def test_filters(expression, expected):
    secret = {
        "name": "projects/1/secrets/db-password",
        "labels": {"env": "prod"},
        "createTime": "2026-05-01T00:00:00Z",
        "replication": {"automatic": {}},
    }
    assert compile_filter(expression)(secret) is expected


def test_the_latest_version_is_the_newest_one_in_any_state(client, base, make, add, account):
    make()
    add()
    add()
    client.ok("POST", f"{base}/secrets/s/versions/2:disable", {})
    latest = client.ok("GET", f"{base}/secrets/s/versions/latest")
    assert latest["name"].endswith("/versions/2") and latest["state"] == "DISABLED"
    answer = client.get(f"{base}/secrets/s/versions/latest", as_=account)
    assert answer.status == 403 and "secretmanager.versions.get" in answer.json["error"]["message"]


def test_policies_decide_who_reads(client, base, make, add, account, project, sandbox):
    make()
    add()
    make("other")
    add(name="other")
    latest = f"projects/{project.id}/secrets/s/versions/latest"
    denied = f"Permission 'secretmanager.versions.access' denied for resource '{latest}' (or it may not exist)."
    refused(client.get(f"{HOST}/{latest}:access", as_=account), 403, "PERMISSION_DENIED", denied)
    refused(client.get(f"{base}/secrets/missing", as_=account), 403, "PERMISSION_DENIED")
    policy = client.ok("GET", f"{base}/secrets/s:getIamPolicy")
    role, member = "roles/secretmanager.secretAccessor", f"serviceAccount:{account}"
    policy["bindings"] = [{"role": role, "members": [member]}]
    client.ok("POST", f"{base}/secrets/s:setIamPolicy", {"policy": policy})
    answer = client.get(f"{HOST}/{latest}:access", as_=account)
    assert base64.b64decode(answer.json["payload"]["data"]) == PAYLOAD
    assert client.get(f"{base}/secrets/other/versions/1:access", as_=account).status == 403
    assert client.get(f"{base}/secrets/s", as_=account).status == 403
    held = {"permissions": ["secretmanager.versions.access", "secretmanager.versions.add"]}
    asked = client.post(f"{base}/secrets/s:testIamPermissions", held, as_=account)
    assert asked.json == {"permissions": ["secretmanager.versions.access"]}
    # As Cloud Run for an instance.
    caller = sandbox.identities.service_account(account)
    assert sandbox.services["secretmanager"].read_version(latest, caller) == PAYLOAD
    with pytest.raises(ApiError, match="denied"):
        sandbox.services["secretmanager"].read_version(latest.replace("/s/", "/other/"), caller)
    # A secret made again under the name has a policy of its own.
    client.delete(f"{base}/secrets/s")
    make()
    assert client.get(f"{base}/secrets/s/versions/1:access", as_=account).status == 403


def test_conditions_on_versions(client, base, make, add, account, project):
    make()
    add(b"1")
    add(b"2")
    only = f"resource.name == 'projects/{project.number}/secrets/s/versions/1'"
    binding = {
        "role": "roles/secretmanager.secretAccessor",
        "members": [f"serviceAccount:{account}"],
        "condition": {"title": "first", "expression": only},
    }
    client.ok("POST", f"{base}/secrets/s:setIamPolicy", {"policy": {"version": 3, "bindings": [binding]}})
    assert client.get(f"{base}/secrets/s/versions/1:access", as_=account).status == 200
    assert client.get(f"{base}/secrets/s/versions/2:access", as_=account).status == 403


def test_policies_of_missing_secrets(client, base):
    refused(client.get(f"{base}/secrets/s:getIamPolicy"), 404, "NOT_FOUND")
    refused(client.post(f"{base}/secrets/s:setIamPolicy", {"policy": {}}), 404, "NOT_FOUND")


def test_regional_secrets(client, project):
    parent = f"projects/{project.id}/locations/us-east1"
    host = "https://secretmanager.us-east1.rep.googleapis.com/v1"
    created = client.ok("POST", f"{host}/{parent}/secrets?secretId=s", {})
    assert created["name"] == f"projects/{project.number}/locations/us-east1/secrets/s" and "replication" not in created
    data = base64.b64encode(PAYLOAD).decode()
    client.ok("POST", f"{host}/{parent}/secrets/s:addVersion", {"payload": {"data": data}})
    assert client.ok("GET", f"{host}/{parent}/secrets/s/versions/latest:access")["payload"]["data"] == data
    assert "secrets" not in client.ok("GET", f"{HOST}/projects/{project.id}/secrets")
    refused(client.post(f"{host}/{parent}/secrets?secretId=t", AUTOMATIC), 400, "INVALID_ARGUMENT")


def test_locations(client, base):
    names = [location["locationId"] for location in client.ok("GET", f"{base}/locations")["locations"]]
    assert "europe-west1" in names and "us" not in names
    assert client.ok("GET", f"{base}/locations/us-east1")["locationId"] == "us-east1"
    refused(client.get(f"{base}/locations/mars"), 404, "NOT_FOUND")


def test_no_file_shows_a_payload(client, make, add, sandbox):
    make()
    add()
    state = Path(sandbox.settings.state)
    shown = (PAYLOAD, base64.b64encode(PAYLOAD))
    files = [file for file in state.rglob("*") if file.is_file()]
    assert files and not [file for file in files if any(text in file.read_bytes() for text in shown)]
    assert (state / "secretmanager.key").stat().st_mode & 0o777 == 0o600


def test_an_api_that_is_not_enabled(client, sandbox, base, project):
    sandbox.enablement.disable(project, ["secretmanager.googleapis.com"])
    try:
        answer = client.get(f"{base}/secrets")
        assert answer.status == 403 and answer.reason == "SERVICE_DISABLED"
    finally:
        sandbox.enablement.enable(project, ["secretmanager.googleapis.com"], at_once=True)


def test_googles_own_client(cloud):
    project = "mlflow-sandbox"
    session = AuthorizedSession(google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0])
    usage = f"https://serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable"
    apis = {"serviceIds": ["iam.googleapis.com", "secretmanager.googleapis.com"]}
    assert session.post(usage, json=apis).status_code == 200
    client = SecretManagerServiceClient(transport="rest")
    deadline = time.monotonic() + 60
    while True:
        try:
            client.list_secrets(parent=f"projects/{project}")
            break
        except exceptions.Forbidden as error:  # not enabled yet
            assert error.reason == "SERVICE_DISABLED" and time.monotonic() < deadline
            time.sleep(0.1)
    secret = client.create_secret(
        parent=f"projects/{project}", secret_id="s", secret={"replication": {"automatic": {}}, "labels": {"a": "b"}}
    )
    for number in range(3):
        client.add_secret_version(parent=secret.name, payload={"data": b"%d" % number, "data_crc32c": None})
    payload = client.access_secret_version(name=f"{secret.name}/versions/latest").payload
    assert payload.data == b"2" and payload.data_crc32c == google_crc32c.value(b"2")
    secret.annotations["k"] = "v"
    changed = client.update_secret(secret=secret, update_mask={"paths": ["annotations"]})
    assert dict(changed.annotations) == {"k": "v"} and changed.etag != secret.etag
    disabled = client.disable_secret_version(name=f"{secret.name}/versions/1")
    assert disabled.state == SecretVersion.State.DISABLED
    with pytest.raises(exceptions.BadRequest, match="is in DISABLED state"):
        client.access_secret_version(name=disabled.name)
    client.destroy_secret_version(name=f"{secret.name}/versions/1")
    listed = list(client.list_secret_versions(request={"parent": secret.name, "page_size": 2}))
    assert [version.name.rpartition("/")[2] for version in listed] == ["3", "2", "1"]
    with pytest.raises(exceptions.Conflict):
        client.create_secret(parent=f"projects/{project}", secret_id="s", secret={"replication": {"automatic": {}}})
    with pytest.raises(exceptions.NotFound):
        client.get_secret(name=f"projects/{project}/secrets/missing")

    # An account without any grant, until it gets one.
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = session.post(accounts, json={"accountId": "application"}).json()["email"]
    file = cloud.env(email)["GOOGLE_APPLICATION_CREDENTIALS"]
    credentials = Credentials.from_authorized_user_file(file)
    theirs = SecretManagerServiceClient(transport="rest", credentials=credentials)
    latest = f"{secret.name}/versions/latest"
    with pytest.raises(exceptions.Forbidden, match="Permission 'secretmanager"):
        theirs.access_secret_version(name=latest)
    policy = client.get_iam_policy(request={"resource": secret.name})
    policy.bindings.add(role="roles/secretmanager.secretAccessor", members=[f"serviceAccount:{email}"])
    client.set_iam_policy(request={"resource": secret.name, "policy": policy})
    assert theirs.access_secret_version(name=latest).payload.data == b"2"
    cloud.kill()
    cloud.up()
    assert theirs.access_secret_version(name=latest).payload.data == b"2"
    client.delete_secret(name=secret.name)
    with pytest.raises(exceptions.NotFound):
        client.access_secret_version(name=latest)
