# SPDX-License-Identifier: Apache-2.0
"""Faults on request: which requests meet them, what each kind does, and what the services leave behind."""

import base64
import json
import sqlite3
import time

import pytest
from gcp_sandbox.gateway.faults import KINDS, Drop, FaultError, known_methods, parse, read
from gcp_sandbox.gateway.requestlog import RequestLog, RequestReader
from gcp_sandbox.gateway.service import Service, route
from gcp_sandbox.services.run import Run
from gcp_sandbox.services.secretmanager import SecretManager
from gcp_sandbox.services.sqladmin import SqlAdmin

SECRET = {"replication": {"automatic": {}}}


@pytest.fixture
def secrets(sandbox):
    """The address of a project's secrets."""
    project = sandbox.projects.get(sandbox.settings.project)
    apis = ("secretmanager", "sqladmin", "run", "cloudbuild", "artifactregistry", "storage", "iam")
    sandbox.enablement.enable(project, [f"{api}.googleapis.com" for api in apis], at_once=True)
    return f"https://secretmanager.googleapis.com/v1/projects/{project.id}/secrets"


def logged(sandbox):
    """(method, status, fault) of all requests so far."""
    sandbox.requests.flush()
    reader = RequestReader(sandbox.settings.state / "requests.sqlite3")
    rows = [(row.method, row.status, row.fault) for row in reader.select()]
    reader.close()
    return rows


def applied(sandbox):
    """How often each rule was applied."""
    return [item["applied"] for item in sandbox.faults.show()["rules"]]


# -- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "status", "name"),
    [
        ({"kind": 429}, 429, "RESOURCE_EXHAUSTED"),
        ({"kind": "429", "retry_after": 3}, 429, "RESOURCE_EXHAUSTED"),
        ({"kind": 500}, 500, "INTERNAL"),
        ({"kind": 503}, 503, "UNAVAILABLE"),
    ],
)
def test_an_error_takes_the_place_of_the_answer(sandbox, client, secrets, rule, status, name):
    sandbox.set_faults([rule])
    answer = client.post(f"{secrets}?secretId=s", SECRET)
    assert (answer.status, answer.json["error"]["status"]) == (status, name)
    assert answer.headers.get("retry-after") == ("3" if "retry_after" in rule else None)
    sandbox.faults.clear()
    assert client.get(f"{secrets}/s").status == 404
    assert logged(sandbox)[0] == ("secretmanager.projects.secrets.create", status, str(rule["kind"]))


def test_errors_have_the_format_of_the_service(sandbox, client, secrets):
    sandbox.set_faults([{"kind": 429, "service": "storage"}])
    answer = client.get("https://storage.googleapis.com/storage/v1/b/some")
    assert answer.json["error"]["errors"][0] == {
        "domain": "usageLimits",
        "reason": "rateLimitExceeded",
        "message": answer.json["error"]["message"],
    }


def test_a_reset_request_is_not_processed(sandbox, client, secrets):
    sandbox.set_faults([{"kind": "reset"}])
    with pytest.raises(Drop):
        client.post(f"{secrets}?secretId=s", SECRET)
    sandbox.faults.clear()
    assert client.get(f"{secrets}/s").status == 404
    assert logged(sandbox)[0] == ("secretmanager.projects.secrets.create", 0, "reset")


def test_a_request_is_processed_although_its_answer_is_lost(sandbox, client, secrets):
    sandbox.set_faults([{"kind": "lost"}])
    with pytest.raises(Drop):
        client.post(f"{secrets}?secretId=s", SECRET)
    with pytest.raises(Drop):
        client.post(f"{secrets}?secretId=s", SECRET)
    sandbox.faults.clear()
    assert client.get(f"{secrets}/s").status == 200
    assert [row[1:] for row in logged(sandbox)][:2] == [(200, "lost"), (409, "lost")]


def test_a_stalled_request_is_processed_later(sandbox, client, secrets):
    sandbox.set_faults([{"kind": "stall", "seconds": 0.2}])
    began = time.monotonic()
    client.ok("POST", f"{secrets}?secretId=s", SECRET)
    assert time.monotonic() - began >= 0.2
    assert logged(sandbox)[0][1:] == (200, "stall")


def test_a_stalled_request_does_not_keep_the_sandbox_from_stopping(sandbox, client, secrets):
    sandbox.set_faults([{"kind": "stall", "seconds": 500}])
    sandbox.faults.stop()
    with pytest.raises(Drop):
        client.get(secrets)


# -- which requests ---------------------------------------------------------------------------------------------------


def statuses(client, url, count):
    return [client.get(url).status for _ in range(count)]


def test_a_share_of_the_requests_is_the_same_for_the_same_seed(sandbox, client, secrets):
    def outcome(seed):
        sandbox.set_faults({"seed": seed, "rules": [{"kind": 500, "share": 0.2}]})
        return statuses(client, secrets, 200)

    first = outcome(1)
    assert outcome(1) == first
    assert outcome(2) != first
    assert 20 <= first.count(500) <= 60


def test_other_methods_in_between_do_not_change_which_requests_meet_faults(sandbox, client, secrets):
    rules = {"seed": 5, "rules": [{"kind": 500, "share": 0.3}]}
    sandbox.set_faults(rules)
    alone = statuses(client, secrets, 30)
    sandbox.set_faults(rules)
    mixed = []
    for _ in range(30):
        client.get(f"{secrets}/none")
        mixed += statuses(client, secrets, 1)
    assert mixed == alone


@pytest.mark.parametrize("share", [0, 1])
def test_none_or_all_requests(sandbox, client, secrets, share):
    sandbox.set_faults([{"kind": 500, "share": share}])
    assert statuses(client, secrets, 5) == [[200, 500][share]] * 5


def test_each_nth_request(sandbox, client, secrets):
    sandbox.set_faults([{"kind": 500, "each": 3}])
    assert statuses(client, secrets, 7) == [200, 200, 500, 200, 200, 500, 200]


def test_the_first_requests_of_each_method_and_resource(sandbox, client, secrets):
    sandbox.set_faults([{"kind": 503, "first": 2, "service": "secretmanager.googleapis.com"}])
    for url in (f"{secrets}?secretId=a", f"{secrets}?secretId=b"):
        assert [client.post(url, SECRET).status for _ in range(3)] == [503, 503, 200]
    for name in "ab":
        assert statuses(client, f"{secrets}/{name}", 3) == [503, 503, 200]
    assert applied(sandbox) == [8]


@pytest.mark.parametrize("field", ["name", "accountId"])
def test_a_resource_is_named_by_the_body_of_its_creation(sandbox, client, secrets, field):
    urls = {
        "name": f"https://storage.googleapis.com/storage/v1/b?project={sandbox.settings.project}",
        "accountId": f"https://iam.googleapis.com/v1/projects/{sandbox.settings.project}/serviceAccounts",
    }
    sandbox.set_faults([{"kind": 503, "first": 1}])
    for name in ("first-name", "other-name"):
        assert [client.post(urls[field], {field: name}).status for _ in range(2)] == [503, 200]


def test_writes_only(sandbox, client, secrets):
    client.ok("POST", f"{secrets}?secretId=s", SECRET)
    sandbox.set_faults([{"kind": 503, "writes_only": True}])
    project = sandbox.settings.project
    reads = [
        ("GET", f"{secrets}/s", None),
        ("GET", f"{secrets}/s:getIamPolicy", None),
        ("POST", f"{secrets}/s:testIamPermissions", {"permissions": []}),
        ("POST", f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}:getAncestry", {}),
        ("POST", "https://oauth2.googleapis.com/token", {}),
    ]
    assert 503 not in [client.request(verb, url, body).status for verb, url, body in reads]
    version = {"payload": {"data": base64.b64encode(b"x").decode()}}
    writes = [
        ("POST", f"{secrets}?secretId=other", SECRET),
        ("POST", f"{secrets}/s:addVersion", version),
        ("POST", f"{secrets}/s:setIamPolicy", {"policy": {}}),
        ("DELETE", f"{secrets}/s", None),
    ]
    assert {client.request(verb, url, body).status for verb, url, body in writes} == {503}


@pytest.mark.parametrize(
    "method", ["projects.secrets.list", "secretmanager.projects.secrets.list", "*.secrets.list", "*list"]
)
def test_a_method_is_named_with_its_service_or_without_or_by_a_pattern(sandbox, client, secrets, method):
    sandbox.set_faults([{"kind": 503, "method": method}])
    assert client.get(secrets).status == 503
    assert client.get(f"{secrets}/s").status == 404


def test_the_first_rule_that_applies_decides(sandbox, client, secrets):
    sandbox.set_faults([{"kind": 500, "method": "*.get"}, {"kind": 503, "each": 2}, {"kind": 429}])
    assert statuses(client, f"{secrets}/s", 1) + statuses(client, secrets, 4) == [500, 429, 503, 429, 503]
    assert [(item["matched"], item["applied"]) for item in sandbox.faults.show()["rules"]] == [(1, 1), (4, 2), (2, 2)]


def test_faults_come_before_credentials(sandbox, client, secrets):
    sandbox.set_faults([{"kind": 503}])
    assert client.get(secrets, as_=None).status == 503


# -- operations that fail ---------------------------------------------------------------------------------------------


def test_a_rule_for_operations_counts_those_that_start(sandbox, client, secrets):
    repositories = (
        f"https://artifactregistry.googleapis.com/v1/projects/{sandbox.settings.project}/locations/europe-west1"
        "/repositories"
    )
    sandbox.set_faults([{"kind": "operation", "first": 1}])
    assert client.post(f"{repositories}?repositoryId=r", {"format": "nonsense"}).status == 400
    assert applied(sandbox) == [0]
    url = "https://artifactregistry.googleapis.com/v1"
    failed = client.done(client.ok("POST", f"{repositories}?repositoryId=r", {"format": "DOCKER"}), url)
    assert failed["error"] == {"code": 13, "message": "Internal error encountered."}
    assert client.get(f"{repositories}/r").status == 404
    made = client.done(client.ok("POST", f"{repositories}?repositoryId=r", {"format": "DOCKER"}), url)
    assert made["response"]["name"].endswith("/r")
    assert applied(sandbox) == [1]
    faults = [fault for method, _, fault in logged(sandbox) if method.endswith("repositories.create")]
    assert faults == ["", "operation", ""]


def sql_done(client, operation):
    while operation["status"] != "DONE":
        time.sleep(0.02)
        operation = client.ok("GET", operation["selfLink"])
    return operation


def test_an_instance_that_could_not_be_made_is_failed(sandbox, client, secrets):
    instances = f"https://sqladmin.googleapis.com/v1/projects/{sandbox.settings.project}/instances"
    sandbox.set_faults([{"kind": "operation", "first": 1, "service": "sqladmin"}])
    body = {"name": "i", "databaseVersion": "POSTGRES_15", "settings": {"tier": "db-f1-micro"}}
    failed = sql_done(client, client.ok("POST", instances, body))
    assert failed["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    assert client.ok("GET", f"{instances}/i")["state"] == "FAILED"
    assert "error" in sql_done(client, client.ok("DELETE", f"{instances}/i"))
    assert "error" not in sql_done(client, client.ok("DELETE", f"{instances}/i"))
    assert client.get(f"{instances}/i").status == 404


def test_a_user_that_could_not_be_made_is_an_operation_with_an_error(sandbox, client, secrets):
    instances = f"https://sqladmin.googleapis.com/v1/projects/{sandbox.settings.project}/instances"
    body = {"name": "i", "databaseVersion": "POSTGRES_15", "settings": {"tier": "db-f1-micro"}}
    sql_done(client, client.ok("POST", instances, body))
    sandbox.set_faults([{"kind": "operation", "first": 1, "method": "*"}])
    user = {"name": "u", "password": "pa55-word"}
    answer = client.ok("POST", f"{instances}/i/users", user)
    assert answer["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    assert "u" not in [one["name"] for one in client.ok("GET", f"{instances}/i/users")["items"]]
    assert "error" not in client.ok("POST", f"{instances}/i/users", user)
    failed = sql_done(client, client.ok("POST", f"{instances}/i/backupRuns", {}))
    assert "error" in failed
    assert [run["status"] for run in client.ok("GET", f"{instances}/i/backupRuns")["items"]] == ["FAILED"]


def test_a_build_that_fails_by_itself(sandbox, client, secrets):
    builds = f"https://cloudbuild.googleapis.com/v1/projects/{sandbox.settings.project}/builds"
    client.ok(
        "POST",
        f"https://storage.googleapis.com/storage/v1/b?project={sandbox.settings.project}",
        {"name": "logs-of-builds"},
    )
    sandbox.set_faults([{"kind": "operation"}])
    build = {"steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["version"]}], "options": {"logging": "NONE"}}
    operation = client.done(client.ok("POST", builds, build), "https://cloudbuild.googleapis.com/v1")
    assert operation["error"]["message"]
    assert operation["metadata"]["build"]["status"] == "INTERNAL_ERROR"


def test_a_service_and_a_job_of_cloud_run_that_do_not_become_ready(sandbox, run, client):
    url = "https://run.googleapis.com/v2"
    sandbox.set_faults([{"kind": "operation", "first": 1, "service": "run"}])
    parent = f"projects/{sandbox.settings.project}/locations/europe-west1"
    template = {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]}
    name = f"{url}/{parent}/services/s"

    def failed(verb, address, body=None):
        return "error" in client.done(client.ok(verb, address, body), url)

    assert failed("POST", f"{url}/{parent}/services?serviceId=s", {"template": template})
    service = client.ok("GET", name)
    assert (service["terminalCondition"]["state"], service.get("reconciling")) == ("CONDITION_FAILED", None)
    change = {"template": {**template, "labels": {"a": "b"}}}
    assert failed("PATCH", name, change)
    assert not failed("PATCH", name, {"template": {**template, "labels": {"a": "c"}}})
    assert client.ok("GET", name)["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert failed("DELETE", name)
    assert "deleteTime" not in client.ok("GET", name)
    assert not failed("DELETE", name)
    assert client.get(name).status == 404

    name = f"{url}/{parent}/jobs/j"
    job = {"template": {"template": {**template, "maxRetries": 0}}}
    assert failed("POST", f"{url}/{parent}/jobs?jobId=j", job)
    assert client.ok("GET", name)["terminalCondition"]["state"] == "CONDITION_FAILED"
    assert failed("PATCH", name, job)
    assert not failed("PATCH", name, job)
    assert failed("POST", f"{name}:run", {})
    assert client.ok("GET", name)["latestCreatedExecution"]["completionStatus"] == "EXECUTION_FAILED"
    (execution,) = client.ok("GET", f"{name}/executions")["executions"]
    assert execution["completionTime"] and execution["conditions"][0]["state"] == "CONDITION_FAILED"
    assert failed("DELETE", f"{url}/{execution['name']}")
    assert not failed("DELETE", f"{url}/{execution['name']}")
    assert failed("DELETE", name)
    assert not failed("DELETE", name)


# -- rules that cannot be used ----------------------------------------------------------------------------------------


class Routes(Service):
    """A service without a discovery document."""

    name = "routes"
    versions = ()

    @route("POST", "/send")
    def send(self, call): ...


@pytest.fixture(scope="module")
def known():
    """Some services."""
    return known_methods([Run, SecretManager, SqlAdmin, Routes])


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_can_be_used(known, kind):
    more = {"seconds": 1} if kind == "stall" else {}
    assert [rule.kind for rule in parse([{"kind": kind, **more}], known).rules] == [kind]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "no list of rules"),
        ("503", "no list of rules"),
        ({"rules": [], "sead": 1}, "no field 'sead'"),
        ({"rules": [], "seed": "x"}, "seed is 'x'. Write a whole number"),
        (["lost"], "rule 1 is 'lost'. Write a mapping"),
        ([{}], "rule 1: kind is None. Write one of 429"),
        ([{"kind": 500}, {"kind": 404}], "rule 2: kind is 404. Write one of 429"),
        ([{"kind": "lost", "methods": "x"}], "rule 1 has an unknown field 'methods'. Fields are kind, service"),
        ([{"kind": "lost", "service": "compute"}], "no service 'compute'. It has routes, run"),
        ([{"kind": "lost", "service": 5}], "service is 5. Write the name"),
        ([{"kind": "lost", "service": "run", "method": "instances.*"}], "no method of run is named 'instances.*'"),
        ([{"kind": "lost", "writes_only": "yes"}], "writes_only is 'yes'. Write true or false"),
        ([{"kind": "lost", "share": 20}], "share is 20. Write a number from 0 to 1"),
        ([{"kind": "lost", "share": "20 %"}], "share is '20 %'. Write a number from 0 to 1"),
        ([{"kind": "lost", "first": 0}], "first is 0. Write a number of at least 1"),
        ([{"kind": "lost", "first": 1, "each": 2}], "rule 1 has each and first. Write one of them"),
        ([{"kind": "lost", "retry_after": 2}], "retry_after has no effect on lost. Use it with 429 or 503"),
        ([{"kind": 429, "retry_after": -1}], "retry_after is -1. Write a number of at least 0"),
        ([{"kind": "stall"}], "rule 1 needs seconds"),
        ([{"kind": "lost", "seconds": 3}], "has seconds, but is of lost"),
        ([{"kind": "stall", "seconds": 0}], "seconds is 0. Write more than 0"),
        (
            [{"kind": "operation", "service": "secretmanager"}],
            "no method of secretmanager starts an operation",
        ),
        ([{"kind": "operation", "method": "POST /send"}], "starts an operation. Name one that does"),
    ],
)
def test_rules_that_cannot_be_used_are_named(known, document, text):
    with pytest.raises(FaultError) as caught:
        parse(document, known)
    assert text in str(caught.value)


def test_rules_that_cannot_be_used_change_nothing(sandbox):
    sandbox.set_faults([{"kind": 503}])
    with pytest.raises(FaultError):
        sandbox.set_faults([{"kind": 500}, {"kind": "nonsense"}])
    assert [item["rule"] for item in sandbox.faults.show()["rules"]] == [{"kind": "503"}]


def test_documents_are_files_or_json(tmp_path):
    document = {"seed": 3, "rules": [{"kind": 429, "share": 0.2}]}
    (tmp_path / "rules.yml").write_text("seed: 3\nrules:\n  - {kind: 429, share: 0.2}\n")
    (tmp_path / "bad.yml").write_text("rules: [")
    assert read(str(tmp_path / "rules.yml")) == read(json.dumps(document)) == document
    for argument, text in (
        (str(tmp_path / "none.yml"), "none.yml cannot be read: No such file"),
        (str(tmp_path / "bad.yml"), "bad.yml: neither JSON nor YAML"),
        ('[{"kind": 503', "the rules: neither JSON nor YAML"),
    ):
        with pytest.raises(FaultError) as caught:
            read(argument)
        assert text in str(caught.value)


def test_a_request_log_of_an_older_release_is_read(tmp_path):
    file = tmp_path / "requests.sqlite3"
    columns = "time REAL, service, method, verb, host, path, status, ms, caller, agent"
    with sqlite3.connect(file) as db:
        db.execute(f"CREATE TABLE request ({columns})")
        db.execute("INSERT INTO request VALUES (?, 'run', 'm', 'GET', 'h', '/', 200, 1, '', '')", (time.time(),))
    db.close()
    RequestLog(file).close()
    reader = RequestReader(file)
    assert [(entry.service, entry.fault) for entry in reader.select()] == [("run", "")]
    reader.close()
