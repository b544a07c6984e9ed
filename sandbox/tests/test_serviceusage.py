# SPDX-License-Identifier: Apache-2.0
"""Service Usage, and what an API that is not enabled answers."""

import dataclasses
import time
from types import SimpleNamespace

import pytest
from gcp_sandbox.gateway import catalog, enablement
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing import Client

USAGE = "https://serviceusage.googleapis.com/v1"
SERVICES = f"{USAGE}/projects/mlflow-sandbox/services"
SECRETS = "https://secretmanager.googleapis.com/v1/projects/mlflow-sandbox/secrets"


def enable(client, *names):
    operation = client.ok(
        "POST", f"{SERVICES}:batchEnable", {"serviceIds": [f"{name}.googleapis.com" for name in names]}
    )
    return client.done(operation, USAGE)


def test_an_api_that_is_not_enabled_says_so_as_google_does(client, settings):
    answer = client.get(SECRETS)
    error = answer.json["error"]
    assert answer.status == error["code"] == 403
    assert error["status"] == "PERMISSION_DENIED"
    number = settings.project_number
    assert error["message"].startswith(
        f"Secret Manager API has not been used in project {number} before or it is disabled."
    )
    info, localized, links = error["details"]
    assert info["reason"] == "SERVICE_DISABLED"
    assert info["domain"] == "googleapis.com"
    assert info["metadata"]["service"] == "secretmanager.googleapis.com"
    assert info["metadata"]["consumer"] == f"projects/{number}"
    assert localized["message"] == error["message"]
    assert links["links"][0]["url"] == info["metadata"]["activationUrl"]


def test_titles_are_googles(client):
    listed = client.ok("GET", f"{SERVICES}?filter=state:ENABLED&pageSize=200")["services"]
    titles = {entry["config"]["name"].removesuffix(".googleapis.com"): entry["config"]["title"] for entry in listed}
    assert titles["analyticshub"] == "Analytics Hub API"  # a document without an entry in the directory
    assert titles["dataplex"] == "Cloud Dataplex API"
    assert titles["storage"] == "Cloud Storage API"
    assert [name for name in catalog.names() if catalog.title(name) == name] == []


def test_the_old_style_has_a_reason_of_its_own(client):
    answer = client.get("https://sqladmin.googleapis.com/v1/projects/mlflow-sandbox/instances")
    assert answer.status == 403
    assert answer.json["error"]["errors"][0]["reason"] == "accessNotConfigured"


def test_enabled_is_usable_and_disabled_is_not(client):
    name = f"{SERVICES}/secretmanager.googleapis.com"
    assert client.ok("GET", name)["state"] == "DISABLED"
    done = client.done(client.ok("POST", f"{name}:enable"), USAGE)
    assert done["response"]["service"]["state"] == "ENABLED"
    assert client.get(SECRETS).status == 200
    assert client.ok("POST", f"{name}:enable")["name"] == "operations/noop.DONE_OPERATION"
    client.done(client.ok("POST", f"{name}:disable"), USAGE)
    assert client.get(SECRETS).status == 403


def test_usable_only_a_moment_after_it_is_enabled(settings, monkeypatch):
    sandbox = Sandbox(dataclasses.replace(settings, latency="scaled:20"))
    sandbox.start()
    try:
        client = Client(sandbox)
        started = time.time()
        monkeypatch.setattr(enablement, "time", SimpleNamespace(time=lambda: started))
        enable(client, "secretmanager")
        assert time.time() - started >= sandbox.latency.seconds(10)
        assert client.ok("GET", f"{SERVICES}/secretmanager.googleapis.com")["state"] == "ENABLED"
        assert client.get(SECRETS).status == 403
        usable = started + sandbox.latency.propagation("api_enabled")
        monkeypatch.setattr(enablement, "time", SimpleNamespace(time=lambda: usable))
        assert client.get(SECRETS).status == 200
    finally:
        sandbox.stop()


def test_what_an_api_needs_is_enabled_with_it_and_disabled_only_together(client):
    enable(client, "run")
    listed = client.ok("GET", f"{SERVICES}?filter=state:ENABLED&pageSize=200")["services"]
    enabled = {service["config"]["name"] for service in listed}
    assert {"run.googleapis.com", "artifactregistry.googleapis.com"} <= enabled
    refused = client.post(f"{SERVICES}/artifactregistry.googleapis.com:disable")
    assert refused.status == 400
    assert refused.json["error"]["status"] == "FAILED_PRECONDITION"
    assert "run.googleapis.com" in refused.json["error"]["message"]
    body = {"disableDependentServices": True}
    client.done(client.ok("POST", f"{SERVICES}/artifactregistry.googleapis.com:disable", body), USAGE)
    assert client.ok("GET", f"{SERVICES}/run.googleapis.com")["state"] == "DISABLED"


def test_pages(client):
    names, token = [], ""
    while True:
        page = client.ok("GET", f"{SERVICES}?pageSize=100&pageToken={token}")
        names += [service["name"] for service in page["services"]]
        token = page.get("nextPageToken")
        if not token:
            break
    assert names == sorted(names)
    assert len(names) == len(set(names)) > 300
    assert client.get(f"{SERVICES}?filter=name:run").status == 400


def test_batches(client):
    got = client.ok("GET", f"{SERVICES}:batchGet?names=projects/mlflow-sandbox/services/run.googleapis.com")
    assert [service["state"] for service in got["services"]] == ["DISABLED"]
    many = {"serviceIds": [f"service{n}.googleapis.com" for n in range(21)]}
    assert client.post(f"{SERVICES}:batchEnable", many).status == 400
    assert client.post(f"{SERVICES}:batchEnable", {}).status == 400
    unknown = client.post(f"{SERVICES}:batchEnable", {"serviceIds": ["run.googleapis.com", "nosuch.googleapis.com"]})
    assert unknown.status == 403
    assert unknown.reason == "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED"
    assert client.ok("GET", f"{SERVICES}/run.googleapis.com")["state"] == "DISABLED"


def test_who_may(client):
    for method, url in (("POST", f"{SERVICES}/run.googleapis.com:enable"), ("GET", SERVICES)):
        answer = client.request(method, url, {} if method == "POST" else None, as_="bob@example.com")
        assert (answer.status, answer.reason) == (403, "AUTH_PERMISSION_DENIED")


def test_service_identity(client, sandbox, settings):
    operation = client.ok(
        "POST",
        "https://serviceusage.googleapis.com/v1beta1/projects/mlflow-sandbox/services/iap.googleapis.com"
        ":generateServiceIdentity",
    )
    email = f"service-{settings.project_number}@gcp-sa-iap.iam.gserviceaccount.com"
    assert operation["done"]
    assert operation["response"]["email"] == email
    policy = {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{email}"]}]}
    sandbox.iam.set_policy("//run.googleapis.com/projects/mlflow-sandbox/locations/l/services/s", policy)


def test_accounts_that_come_with_an_api(client, sandbox, settings):
    number = settings.project_number
    enable(client, "run", "cloudbuild", "compute")
    policy = client.ok("POST", "https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox:getIamPolicy")
    bindings = {binding["role"]: binding["members"] for binding in policy["bindings"]}
    agent = f"serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
    assert bindings["roles/run.serviceAgent"] == [agent]
    assert "roles/cloudbuild.serviceAgent" in bindings
    default = f"{number}-compute@developer.gserviceaccount.com"
    assert sandbox.identities.account(default)
    assert not any(f"serviceAccount:{default}" in members for members in bindings.values())


@pytest.mark.parametrize("service, status", [("run", 400), ("cloudapis", 200)])
def test_billing_is_needed_by_some(client, service, status):
    billing = "https://cloudbilling.googleapis.com/v1/projects/mlflow-sandbox/billingInfo"
    client.ok("PUT", billing, {"billingAccountName": ""})
    answer = client.post(f"{SERVICES}/{service}.googleapis.com:enable")
    assert answer.status == status
    if status == 400:
        assert answer.json["error"]["message"].startswith("Billing account for project")
