# SPDX-License-Identifier: Apache-2.0
"""What happens to a request before and after a service's own code, on Secret Manager and Cloud Storage."""

import base64
import json

import pytest
from gcp_sandbox.gateway.errors import ApiError, not_found
from gcp_sandbox.gateway.service import Service, method

SECRETS = "https://secretmanager.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com"
SECRET = {"replication": {"automatic": {}}}


@pytest.fixture
def project(sandbox):
    """The default project, with the API of the tests enabled."""
    found = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.enable(found, ["secretmanager.googleapis.com", "storage.googleapis.com"], at_once=True)
    return found


@pytest.fixture
def secrets(project):
    return f"{SECRETS}/projects/{project.id}/secrets"


def test_credentials_come_before_everything(sandbox, client):
    url = f"{SECRETS}/projects/{sandbox.settings.project}/secrets?nonsense=1"
    answer = client.post(url, {"nonsense": 1}, as_=None)
    assert answer.status == 401
    assert answer.json["error"]["status"] == "UNAUTHENTICATED"
    assert answer.json["error"]["details"][0]["reason"] == "CREDENTIALS_MISSING"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_api_that_is_not_enabled_comes_before_the_schema(sandbox, client):
    found = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.disable(found, ["secretmanager.googleapis.com"])
    answer = client.post(f"{SECRETS}/projects/{found.id}/secrets?nonsense=1", {"nonsense": 1})
    assert (answer.status, answer.reason) == (403, "SERVICE_DISABLED")


def test_the_schema_comes_before_the_permission(secrets, client):
    answer = client.post(f"{secrets}?secretId=s", {"nonsense": 1}, as_="bob@example.com")
    assert answer.status == 400
    assert "Unknown name \"nonsense\" at 'secret': Cannot find field." in answer.json["error"]["message"]
    assert client.post(f"{secrets}?secretId=s", SECRET, as_="bob@example.com").status == 403


def test_a_failed_request_changes_nothing(sandbox, client, project):
    class Clumsy(Service):
        name = "pubsub"
        versions = ("v1",)
        api = None

        @method("projects.topics.get", permission=None)
        def get(self, call):
            self.store.put("clumsy", "x", {})
            raise not_found("Gone.")

        @method("projects.topics.list", permission=None)
        def list(self, call):
            raise ZeroDivisionError

    sandbox.add(Clumsy(sandbox))
    sandbox.gateway = type(sandbox.gateway)(sandbox)
    assert client.get("https://pubsub.googleapis.com/v1/projects/p/topics/t").status == 404
    assert sandbox.store.get("clumsy", "x") is None
    broken = client.get("https://pubsub.googleapis.com/v1/projects/p/topics")
    assert (broken.status, broken.json["error"]["status"]) == (500, "INTERNAL")


@pytest.mark.parametrize(
    "host",
    [
        "secretmanager.googleapis.com",
        "secretmanager.mtls.googleapis.com",
        "secretmanager.europe-west1.rep.googleapis.com",
        "europe-west1-secretmanager.googleapis.com",
    ],
)
def test_all_hosts_of_an_api_answer(client, secrets, host):
    assert client.get(secrets.replace("secretmanager.googleapis.com", host)).status == 200


def test_storage_answers_at_www_too(client, project):
    client.ok("POST", f"{STORAGE}/storage/v1/b?project={project.id}", {"name": "www-bucket"})
    for base in (STORAGE, "https://www.googleapis.com"):
        assert client.ok("GET", f"{base}/storage/v1/b/www-bucket")["name"] == "www-bucket"
    assert client.get("https://www.googleapis.com/nonsense/v1/x").status == 404


def test_ids_and_numbers_name_the_same_project(client, secrets, project):
    client.ok("POST", f"{secrets}?secretId=s", SECRET)
    by_number = secrets.replace(project.id, project.number)
    assert client.ok("GET", f"{by_number}/s") == client.ok("GET", f"{secrets}/s")


def test_a_project_that_does_not_exist_is_forbidden(client, secrets, project):
    answer = client.get(secrets.replace(project.id, "no-such-project"))
    assert (answer.status, answer.reason) == (403, "CONSUMER_INVALID")


def test_a_quota_project_needs_a_permission(client, secrets, project, sandbox):
    header = {"X-Goog-User-Project": project.id}
    assert client.get(secrets, headers=header).status == 200
    denied = client.get(secrets, headers=header, as_="bob@example.com")
    assert (denied.status, denied.reason) == (403, "USER_PROJECT_DENIED")
    assert "quota_project_id" not in sandbox.identities.adc("bob@example.com")


def test_a_token_needs_a_scope_of_the_method(client, secrets, sandbox):
    token = sandbox.identities.mint_access_token(client.email, ["https://www.googleapis.com/auth/userinfo.email"])
    answer = client.get(secrets, as_=None, headers={"authorization": f"Bearer {token}"})
    assert (answer.status, answer.reason) == (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT")


def test_answers_are_cut_down_to_fields(client, secrets):
    for name in "ab":
        client.ok("POST", f"{secrets}?secretId={name}", SECRET)
    listed = client.ok("GET", f"{secrets}?fields=secrets(name),totalSize")
    assert listed["totalSize"] == 2
    assert [list(entry) for entry in listed["secrets"]] == [["name"], ["name"]]
    bad = client.get(f"{secrets}?fields=secrets(color)")
    assert bad.status == 400
    assert bad.json["error"]["details"][0]["fieldViolations"][0]["field"] == "secrets.color"


def test_enums_as_numbers_both_ways(client, secrets):
    client.ok("POST", f"{secrets}?secretId=s", SECRET)
    data = {"payload": {"data": base64.b64encode(b"x").decode()}}
    added = client.ok("POST", f"{secrets}/s:addVersion?$alt=json;enum-encoding=int", data)
    assert added["state"] == 1
    assert client.ok("GET", f"{secrets}/s/versions/1?%24alt=json%3Benum-encoding%3Dint")["state"] == 1
    assert client.ok("GET", f"{secrets}/s/versions/1")["state"] == "ENABLED"


def test_answers_are_pretty_by_default(client, secrets):
    client.ok("POST", f"{secrets}?secretId=s", SECRET)
    assert client.get(f"{secrets}/s").content.startswith(b'{\n  "name"')
    assert b"\n" not in client.get(f"{secrets}/s?prettyPrint=false").content


def test_methods_can_be_overridden_only_on_the_wire(client, secrets):
    assert client.request("PUT", f"{secrets}/s", {}).status == 404


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_multipart_uploads_have_metadata_and_a_file(client, project, quote):
    client.ok("POST", f"{STORAGE}/storage/v1/b?project={project.id}", {"name": "uploads"})
    payload = b"--fake\r\n\r\n--\x00\xff" * 1000
    delimiter = f"'{'=b='}'" if quote == "'" else "=b="
    body = (
        f"--{delimiter}\r\nContent-Type: application/json\r\n\r\n".encode()
        + json.dumps({"name": "o", "metadata": {"k": "v"}}).encode()
        + f"\r\n--{delimiter}\r\nContent-Type: application/x-test\r\n\r\n".encode()
        + payload
        + f"\r\n--{delimiter}--\r\n".encode()
    )
    stored = client.request(
        "POST",
        f"{STORAGE}/upload/storage/v1/b/uploads/o?uploadType=multipart",
        body,
        headers={"content-type": f"multipart/related; boundary={quote}=b={quote}"},
    )
    assert stored.status == 200, stored.content
    assert (stored.json["contentType"], stored.json["metadata"]) == ("application/x-test", {"k": "v"})
    assert client.get(f"{STORAGE}/download/storage/v1/b/uploads/o/o?alt=media").content == payload


def test_a_malformed_multipart_body_is_a_400(client, project):
    client.ok("POST", f"{STORAGE}/storage/v1/b?project={project.id}", {"name": "uploads"})
    for content_type in ("multipart/related", "multipart/related; boundary=x"):
        answer = client.request(
            "POST",
            f"{STORAGE}/upload/storage/v1/b/uploads/o?uploadType=multipart",
            b"nonsense",
            headers={"content-type": content_type},
        )
        assert answer.status == 400


def test_the_two_shapes_of_errors():
    error = ApiError(404, "Gone.", reason="instanceDoesNotExist")
    assert error.render("legacy") == {
        "error": {
            "code": 404,
            "message": "Gone.",
            "errors": [{"message": "Gone.", "domain": "global", "reason": "instanceDoesNotExist"}],
        }
    }
    assert not_found("Gone.").render() == {"error": {"code": 404, "message": "Gone.", "status": "NOT_FOUND"}}
    assert not_found("Gone.").as_status() == {"code": 5, "message": "Gone."}


def test_a_broken_service_names_its_reason(sandbox, client):
    sandbox.mark_broken("run", SyntaxError("oops"))
    sandbox.services.pop("run", None)
    sandbox.gateway = type(sandbox.gateway)(sandbox)
    answer = client.get("https://europe-west1-run.googleapis.com/v2/projects/p/locations/l/services")
    assert answer.status == 501
    assert "SyntaxError: oops" in answer.json["error"]["message"]


def test_a_method_that_no_document_has_is_a_mistake_of_the_service(sandbox):
    class Wrong(Service):
        name = "pubsub"

        @method("projects.nonsense", permission=None)
        def nonsense(self, call):
            raise AssertionError

    sandbox.add(Wrong(sandbox))
    type(sandbox.gateway)(sandbox)
    assert "projects.nonsense" in sandbox.broken["pubsub"]
