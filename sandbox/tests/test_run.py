# SPDX-License-Identifier: Apache-2.0
"""Cloud Run services: the Admin API from outside, real processes behind it, and requests to them."""

from __future__ import annotations

import threading
import time

import pytest
from gcp_sandbox.gateway.iam import DENY_KIND
from gcp_sandbox.testing.run import BASE

RUN = "//run.googleapis.com"


def patch(run, name, body, query=""):
    return run.api.patch(f"{BASE}/{run.location}/services/{name}{query}", body)


def allow(run, resource, role, *members):
    run.sandbox.iam.set_policy(resource, {"bindings": [{"role": role, "members": list(members)}]})


def secret(run, name, payload):
    root = "https://secretmanager.googleapis.com/v1"
    project = f"projects/{run.project.id}"
    run.api.ok("POST", f"{root}/{project}/secrets?secretId={name}", {"replication": {"automatic": {}}})
    run.api.ok("POST", f"{root}/{project}/secrets/{name}:addVersion", {"payload": {"data": payload}})
    return f"{project}/secrets/{name}"


# -- what is not served, and permissions


def test_what_is_not_served_names_itself(run):
    body = run.service()
    body["template"]["containers"].append({"image": run.image})
    for path, sent, name in (
        ("services?serviceId=two", body, "more than one container"),
        ("workerPools?workerPoolId=pool", {}, "workerPools.create"),
    ):
        answer = run.api.post(f"{BASE}/{run.location}/{path}", sent)
        assert answer.status == 501 and name in answer.json["error"]["message"]


@pytest.mark.parametrize("collection", ["services", "jobs"])
def test_a_change_asks_for_reading_too(run, collection):
    bob = "bob@example.com"
    job = {"template": {"template": {"containers": [{"image": run.image}], "serviceAccount": run.account}}}
    body = run.service() if collection == "services" else job
    url = f"{BASE}/{run.location}/{collection}"
    run.finish(run.api.ok("POST", f"{url}?{collection.removesuffix('s')}Id=x", body))
    for role in ("roles/run.admin", "roles/iam.serviceAccountUser", "roles/artifactregistry.reader"):
        run.sandbox.iam.add_binding(run.project.name, role, f"user:{bob}")
    assert run.api.patch(f"{url}/x", body, as_=bob).status == 200
    rule = {
        "deniedPrincipals": [f"principal://goog/subject/{bob}"],
        "deniedPermissions": [f"run.googleapis.com/{collection}.get"],
    }
    run.sandbox.store.put(DENY_KIND, "no-reading", {"rules": [{"denyRule": rule}]}, parent=run.project.name)
    answer = run.api.patch(f"{url}/x", body, as_=bob)
    assert answer.status == 403 and f"run.{collection}.get" in answer.json["error"]["message"]


# -- the resource


def test_a_service_comes_back_with_defaults_and_addresses(run):
    service = run.deploy("hello", env={"GREETING": "hi"})
    assert service["name"] == f"{run.location}/services/hello"
    assert service["generation"] == service["observedGeneration"] == "1"
    assert service["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert "reconciling" not in service
    assert service["ingress"] == "INGRESS_TRAFFIC_ALL" and service["launchStage"] == "GA"
    assert service["traffic"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
    assert service["urls"][0] == f"https://hello-{run.project.number}.europe-west1.run.app"
    assert service["uri"] == service["urls"][1] and service["uri"].endswith("-ew.a.run.app")
    template = service["template"]
    assert template["maxInstanceRequestConcurrency"] == 80 and template["timeout"] == "300s"
    assert template["containers"][0]["resources"] == {"limits": {"cpu": "1000m", "memory": "512Mi"}, "cpuIdle": True}
    assert template["containers"][0]["ports"] == [{"name": "http1", "containerPort": 8080}]
    revision = run.api.ok("GET", f"{BASE}/{service['latestReadyRevision']}")
    assert revision["service"] == "hello" and revision["conditions"][0]["state"] == "CONDITION_SUCCEEDED"
    assert "@sha256:" in revision["containerStatuses"][0]["imageDigest"]
    for url in service["urls"]:
        assert run.get(f"{url}/env").json()["GREETING"] == "hi"


def test_the_container_knows_its_service(run):
    service = run.deploy("hello")
    env = run.get(f"{service['uri']}/env").json()
    assert env["K_SERVICE"] == env["K_CONFIGURATION"] == "hello"
    assert env["K_REVISION"] == service["latestReadyRevision"].rpartition("/")[2]


def test_a_container_may_insist_on_the_port_that_its_template_declares(run):
    container = {"command": ["python", "-m", "http.server", "5000"], "ports": [{"containerPort": 5000}]}
    service = run.deploy("hello", template={"container": container})
    assert service["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert "Directory listing" in run.get(service["uri"]).text
    probe = {"tcpSocket": {}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2}
    container = {**container, "command": ["python", "-m", "http.server", "5001"], "startupProbe": probe}
    assert failed(run, "other", template={"container": container})


def test_a_change_of_the_template_makes_a_revision_and_other_changes_do_not(run):
    first = run.deploy("hello")
    labelled = run.deploy("hello", labels={"team": "ml"})
    assert labelled["latestReadyRevision"] == first["latestReadyRevision"]
    assert labelled["generation"] == "2" and labelled["etag"] != first["etag"]
    again = run.deploy("hello", labels={"team": "ml"})
    assert again["generation"] == "2"
    changed = run.deploy("hello", labels={"team": "ml"}, env={"A": "b"})
    assert changed["latestReadyRevision"].rpartition("/")[2].startswith("hello-00003-")
    revisions = run.api.ok("GET", f"{BASE}/{run.location}/services/hello/revisions")["revisions"]
    assert [item["name"] for item in revisions] == [changed["latestReadyRevision"], first["latestReadyRevision"]]


def test_an_update_mask_changes_only_what_it_names(run):
    run.deploy("hello", env={"A": "b"}, labels={"team": "ml"})
    answer = patch(run, "hello", {"description": "new", "labels": {"x": "y"}}, "?updateMask=description")
    run.finish(answer.json)
    service = run.show("hello")
    assert service["description"] == "new" and service["labels"] == {"team": "ml"}
    assert service["template"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]
    assert patch(run, "hello", {}, "?updateMask=nonsense").status == 400


def test_validate_only_changes_nothing(run):
    answer = run.api.post(f"{BASE}/{run.location}/services?serviceId=hello&validateOnly=true", run.service())
    assert answer.status == 200 and answer.json["done"]
    assert run.api.get(f"{BASE}/{run.location}/services/hello").status == 404


def test_allow_missing_creates(run):
    run.finish(patch(run, "hello", run.service(), "?allowMissing=true").json)
    assert run.show("hello")["generation"] == "1"
    assert patch(run, "other", run.service()).status == 404


def test_a_stale_etag_is_a_conflict(run):
    old = run.deploy("hello")
    run.deploy("hello", labels={"a": "b"})
    answer = patch(run, "hello", {**run.service(), "etag": old["etag"]})
    assert (answer.status, answer.json["error"]["status"]) == (409, "ABORTED")
    assert run.api.delete(f"{BASE}/{run.location}/services/hello?etag=%22x%22").status == 409


def test_a_name_is_taken_once(run):
    run.deploy("hello")
    answer = run.create("hello", run.service())
    assert (answer.status, answer.json["error"]["status"]) == (409, "ALREADY_EXISTS")


@pytest.mark.parametrize("name", ["", "Hello", "1hello", "hello-", "x" * 50])
def test_bad_names_are_refused(run, name):
    assert run.create(name, run.service()).status == 400


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"container": {"env": [{"name": "PORT", "value": "1"}]}}, "reserved env names were provided: PORT"),
        ({"container": {"resources": {"limits": {"cpu": "3"}}}}, "Invalid value specified for cpu"),
        ({"container": {"resources": {"limits": {"memory": "8Gi"}}}}, "memory must be between 128Mi and 4Gi"),
        ({"container": {"image": ""}}, "image: must be set"),
        ({"container": {"volumeMounts": [{"name": "x", "mountPath": "/x"}]}}, "no volume is named 'x'"),
        ({"container": {"startupProbe": {"tcpSocket": {}, "timeoutSeconds": 20}}}, "timeout_seconds must be less"),
        ({"maxInstanceRequestConcurrency": 2000}, "must be between 1 and 1000"),
        (
            {"volumes": [{"name": "s", "secret": {"secret": "x", "items": [{"path": "../up", "version": "1"}]}}]},
            "must not contain '..'",
        ),
        ({"timeout": "3601s"}, "timeout: must be between"),
        ({"scaling": {"minInstanceCount": 3, "maxInstanceCount": 2}}, "max_instance_count"),
        ({"annotations": {"run.googleapis.com/x": "y"}}, "is reserved"),
        ({"revision": "other-1"}, "must be prefixed"),
    ],
)
def test_what_cloud_run_refuses_is_refused(run, template, words):
    answer = run.create("hello", run.service(template=template))
    assert answer.status == 400
    assert words in answer.json["error"]["message"]


def test_false_and_zero_are_what_is_absent(run):
    body = run.service(template={"container": {"resources": {"limits": {"cpu": "1"}, "startupCpuBoost": False}}})
    run.finish(run.create("hello", {**body, "iapEnabled": False, "labels": {"empty": ""}}).json)
    service = run.show("hello")
    assert "iapEnabled" not in service and service["labels"] == {"empty": ""}
    assert "startupCpuBoost" not in service["template"]["containers"][0]["resources"]


def test_deleting_stops_the_processes_and_frees_the_name(run):
    service = run.deploy("hello")
    pid = int(run.get(f"{service['uri']}/pid").text)
    done = run.finish(run.api.ok("DELETE", f"{BASE}/{run.location}/services/hello"))
    assert done["response"]["name"] == service["name"] and "deleteTime" in done["response"]
    assert run.api.get(f"{BASE}/{service['name']}").status == 404
    assert run.api.get(f"{BASE}/{service['latestReadyRevision']}").status == 404
    assert run.get(service["uri"]).status_code == 404
    deadline = time.monotonic() + 60
    while any(process.pid == pid for process in run.sandbox.processes.all()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.deploy("hello")["generation"] == "1"


def test_lists_are_paged(run):
    for name in ("a", "b", "c"):
        run.create(name, run.service())
    page = run.api.ok("GET", f"{BASE}/{run.location}/services?pageSize=2")
    assert len(page["services"]) == 2
    rest = run.api.ok("GET", f"{BASE}/{run.location}/services?pageSize=2&pageToken={page['nextPageToken']}")
    assert [item["name"].rpartition("/")[2] for item in rest["services"]] == ["c"]


def test_a_project_number_names_the_same_service(run):
    run.deploy("hello")
    location = f"projects/{run.project.number}/locations/europe-west1"
    assert run.api.ok("GET", f"{BASE}/{location}/services/hello")["name"] == f"{run.location}/services/hello"


# -- permission to deploy


def test_deploying_wants_the_permission_and_the_service_account(run):
    answer = run.create("hello", run.service(), as_="bob@example.com")
    assert answer.status == 403 and "run.services.create" in answer.json["error"]["message"]
    run.sandbox.iam.add_binding(run.project.name, "roles/run.admin", "user:bob@example.com")
    answer = run.create("hello", run.service(), as_="bob@example.com")
    assert answer.status == 403
    assert f"'iam.serviceaccounts.actAs' denied on service account {run.account}" in answer.json["error"]["message"]


def test_opening_a_service_to_everybody_wants_the_right_to_set_its_policy(run):
    run.sandbox.iam.add_binding(run.project.name, "roles/run.developer", "user:bob@example.com")
    run.sandbox.iam.add_binding(run.project.name, "roles/iam.serviceAccountUser", "user:bob@example.com")
    run.sandbox.iam.add_binding(run.project.name, "roles/artifactregistry.reader", "user:bob@example.com")
    answer = run.create("hello", run.service(), as_="bob@example.com")
    assert answer.status == 403 and "run.services.setIamPolicy" in answer.json["error"]["message"]
    assert run.create("hello", run.service(invokerIamDisabled=False), as_="bob@example.com").status == 200


def test_an_unknown_region_is_refused(run):
    location = run.location.replace("europe-west1", "nowhere-1")
    answer = run.api.post(f"{BASE}/{location}/services?serviceId=hello", run.service())
    assert answer.status == 403 and "locations/nowhere-1" in answer.json["error"]["message"]


def test_an_unknown_service_account_is_refused(run):
    body = run.service(template={"serviceAccount": f"missing@{run.project.id}.iam.gserviceaccount.com"})
    answer = run.create("hello", body)
    assert answer.status == 403 and "(or it may not exist)" in answer.json["error"]["message"]


# -- revisions that do not start


def failed(run, name, **body):
    service = run.deploy(name, **body)
    assert service["terminalCondition"]["state"] == "CONDITION_FAILED"
    assert "reconciling" not in service
    return service


def test_a_container_that_exits_fails_the_revision_and_the_operation(run):
    answer = run.create("hello", run.service(env={"EXIT": "1"}))
    operation = run.finish(answer.json)
    assert operation["error"]["code"] == 9
    assert "failed to start and listen on the port defined provided by the PORT=8080" in operation["error"]["message"]
    service = run.show("hello")
    condition = service["terminalCondition"]
    assert condition["revisionReason"] == "HEALTH_CHECK_CONTAINER_ERROR"
    assert condition["message"] == operation["error"]["message"] and "Logs URL: https://" in condition["message"]
    assert "latestReadyRevision" not in service
    assert run.get(service["uri"]).status_code == 503
    assert "exiting" in run.sandbox.logs.file("hello").read_text()


def test_the_old_revision_serves_on_when_the_new_one_fails(run):
    good = run.deploy("hello", env={"A": "good"})
    bad = failed(run, "hello", env={"EXIT": "1"})
    assert bad["latestReadyRevision"] == good["latestReadyRevision"]
    assert bad["latestCreatedRevision"] != good["latestCreatedRevision"]
    assert run.get(f"{bad['uri']}/env").json()["A"] == "good"


def test_a_startup_probe_that_fails_says_so(run):
    probe = {"httpGet": {"path": "/health"}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2}
    body = {"template": {"container": {"startupProbe": probe}}, "env": {"UNHEALTHY": "1"}}
    assert "failed the configured startup probe checks" in failed(run, "hello", **body)["terminalCondition"]["message"]


def test_a_missing_image_fails_the_revision(run):
    missing = run.image.replace(":1", ":2")
    service = failed(run, "hello", template={"container": {"image": missing}})
    assert f"Image '{missing}' not found" in service["terminalCondition"]["message"]


def test_a_failed_service_recovers(run):
    failed(run, "hello", env={"EXIT": "1"})
    assert run.deploy("hello")["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"


def test_a_change_without_a_revision_does_not_mend_a_service_and_a_forced_revision_does(run, tmp_path):
    later = run.image.replace(":1", ":2")
    template = {"container": {"image": later}}
    failed(run, "hello", template={"container": {"image": later}})
    digest = run.sandbox.images.resolve(run.image).digest
    run.sandbox.images.tag(later, digest)
    body = run.service(template=template)
    operation = run.finish(patch(run, "hello", {**body, "labels": {"a": "b"}}).json)
    assert "not found" in operation["error"]["message"]
    assert run.show("hello")["terminalCondition"]["state"] == "CONDITION_FAILED"
    run.finish(patch(run, "hello", body, "?forceNewRevision=true").json)
    assert run.show("hello")["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"


# A probe that fails after 240 s, longer than a test may take: no test passes by waiting for it.
HANGING = {"tcpSocket": {}, "periodSeconds": 240, "timeoutSeconds": 240, "failureThreshold": 1}


def test_a_newer_change_does_not_wait_for_a_revision_that_hangs(run):
    hanging = run.service(env={"DELAY": "300"}, template={"container": {"startupProbe": HANGING}})
    first = run.create("hello", hanging).json
    deadline = time.monotonic() + 60
    while not run.sandbox.processes.all():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    waiting = run.show("hello")
    assert waiting["reconciling"] is True and waiting["terminalCondition"]["state"] == "CONDITION_RECONCILING"
    service = run.deploy("hello")
    assert service["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert "given up" in run.finish(first)["error"]["message"]


def test_a_service_whose_revision_hangs_can_be_deleted(run):
    run.create("hello", run.service(env={"DELAY": "300"}, template={"container": {"startupProbe": HANGING}}))
    run.finish(run.api.ok("DELETE", f"{BASE}/{run.location}/services/hello"))
    assert run.api.get(f"{BASE}/{run.location}/services/hello").status == 404


def test_a_service_that_is_deleted_before_its_revision_starts(run, monkeypatch):
    runtime = run.sandbox.services["run"].runtime
    begun, deleted, deploy = threading.Event(), threading.Event(), runtime.deploy

    def late(revision):
        begun.set()
        assert deleted.wait(60)
        deploy(revision)

    monkeypatch.setattr(runtime, "deploy", late)
    hanging = run.service(env={"DELAY": "300"}, template={"container": {"startupProbe": HANGING}})
    first = run.create("hello", hanging).json
    assert begun.wait(60)
    operation = run.api.ok("DELETE", f"{BASE}/{run.location}/services/hello")
    deleted.set()
    run.finish(operation)
    assert "given up" in run.finish(first)["error"]["message"]


# -- secrets


def reference(name, version="latest"):
    return {"secretKeyRef": {"secret": name, "version": version}}


def test_a_secret_reaches_the_environment_and_a_volume(run):
    name = secret(run, "password", "aHVudGVyMg==")
    allow(
        run,
        f"//secretmanager.googleapis.com/{name}",
        "roles/secretmanager.secretAccessor",
        f"serviceAccount:{run.account}",
    )
    template = {
        "volumes": [{"name": "secrets", "secret": {"secret": "password", "items": [{"path": "db", "version": "1"}]}}],
        "container": {"volumeMounts": [{"name": "secrets", "mountPath": "/secrets"}]},
    }
    env = {"PASSWORD": reference("password"), "FILE": "/secrets/db"}
    service = run.deploy("hello", env=env, template=template)
    seen = run.get(f"{service['uri']}/env").json()
    assert seen["PASSWORD"] == "hunter2"
    assert run.get(f"{service['uri']}/file", params={"path": seen["FILE"]}).text == "hunter2"
    assert "hunter2" not in str(service)


def test_a_secret_without_permission_fails_the_revision(run):
    secret(run, "password", "aHVudGVyMg==")
    message = failed(run, "hello", env={"PASSWORD": reference("password")})["terminalCondition"]["message"]
    number = run.project.number
    assert f"Permission denied on secret: projects/{number}/secrets/password/versions/latest for Revision" in message
    assert run.account in message and "roles/secretmanager.secretAccessor" in message


def test_a_missing_secret_fails_the_revision(run):
    run.sandbox.iam.add_binding(run.project.name, "roles/secretmanager.secretAccessor", f"serviceAccount:{run.account}")
    message = failed(run, "hello", env={"PASSWORD": reference("nothing")})["terminalCondition"]["message"]
    assert "secrets/nothing/versions/latest was not found" in message


# -- Cloud SQL


def with_instance(run, version):
    """(connection name, template of a service that has it under /cloudsql) of a new instance."""
    root = f"https://sqladmin.googleapis.com/v1/projects/{run.project.id}"
    settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
    instance = {"name": "db", "region": "europe-west1", "databaseVersion": version, "settings": settings}
    operation = run.api.ok("POST", f"{root}/instances", instance)
    deadline = time.monotonic() + 60
    while operation["status"] != "DONE":
        assert time.monotonic() < deadline
        time.sleep(0.2)
        operation = run.api.ok("GET", f"{root}/operations/{operation['name']}")
    connection = f"{run.project.id}:europe-west1:db"
    template = {
        "volumes": [{"name": "cloudsql", "cloudSqlInstance": {"instances": [connection]}}],
        "container": {"volumeMounts": [{"name": "cloudsql", "mountPath": "/cloudsql"}]},
    }
    return connection, template


def test_a_cloud_sql_volume_leads_to_the_server_for_who_may_connect(run):
    connection, template = with_instance(run, "POSTGRES_16")
    service = run.deploy("hello", env={"DATABASE": f"postgresql://u@/d?host=/cloudsql/{connection}"}, template=template)
    env = run.get(f"{service['uri']}/env").json()
    folder = f"{env['CLOUDSQL_SOCKET_DIR']}/{connection}"
    assert env["DATABASE"] == f"postgresql://u@/d?host={folder}"
    assert run.get(f"{service['uri']}/postgres", params={"folder": folder}).content == b""
    run.sandbox.iam.add_binding(run.project.name, "roles/cloudsql.client", f"serviceAccount:{run.account}")
    assert run.get(f"{service['uri']}/postgres", params={"folder": folder}).content in (b"N", b"S")
    assert "cloudsql.instances.connect" in run.sandbox.logs.file("hello").read_text()


def test_a_cloud_sql_volume_of_mysql_is_a_socket(run, mariadb):
    connection, template = with_instance(run, "MYSQL_8_0")
    service = run.deploy("hello", template=template)
    env = run.get(f"{service['uri']}/env").json()
    path = f"{env['CLOUDSQL_SOCKET_DIR']}/{connection}"
    assert run.get(f"{service['uri']}/greeting", params={"path": path}).content == b""
    assert "cloudsql.instances.connect" in run.sandbox.logs.file("hello").read_text()
    run.sandbox.iam.add_binding(run.project.name, "roles/cloudsql.client", f"serviceAccount:{run.account}")
    assert mariadb.version.encode() in run.get(f"{service['uri']}/greeting", params={"path": path}).content


def test_a_cloud_sql_instance_that_is_not_there_does_not_keep_a_service_from_starting(run):
    template = {
        "volumes": [{"name": "cloudsql", "cloudSqlInstance": {"instances": ["p:r:nothing"]}}],
        "container": {"volumeMounts": [{"name": "cloudsql", "mountPath": "/cloudsql"}]},
    }
    assert run.deploy("hello", template=template)["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"


# -- traffic


def test_traffic_is_split_and_tags_have_addresses_of_their_own(run):
    first = run.deploy("hello", env={"V": "1"})["latestReadyRevision"].rpartition("/")[2]
    traffic = [
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": first, "percent": 50, "tag": "old"},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 50},
    ]
    service = run.deploy("hello", env={"V": "2"}, traffic=traffic)
    status = service["trafficStatuses"][0]
    assert status["uri"].startswith("https://old---hello-")
    assert {run.get(f"{status['uri']}/env").json()["V"] for _ in range(5)} == {"1"}
    assert {run.get(f"{service['uri']}/env").json()["V"] for _ in range(40)} == {"1", "2"}


def test_a_revision_without_traffic_is_tried_by_its_tag_and_then_promoted(run):
    first = run.deploy("hello", env={"V": "1"})["latestReadyRevision"].rpartition("/")[2]
    traffic = [{"revision": first, "percent": 100}, {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "tag": "next"}]
    service = run.deploy("hello", env={"V": "2"}, traffic=traffic)
    assert run.get(f"{service['uri']}/env").json()["V"] == "1"
    assert run.get(f"{service['trafficStatuses'][1]['uri']}/env").json()["V"] == "2"
    service = run.deploy("hello", env={"V": "2"})
    assert run.get(f"{service['uri']}/env").json()["V"] == "2"


@pytest.mark.parametrize(
    ("traffic", "status"),
    [([{"percent": 60}], 400), ([{"revision": "hello-nothing", "percent": 100}], 404)],
)
def test_bad_traffic_is_refused(run, traffic, status):
    run.deploy("hello")
    assert patch(run, "hello", run.service(traffic=traffic)).status == status


def test_a_revision_in_use_cannot_be_deleted_and_an_old_one_can(run):
    first = run.deploy("hello")
    second = run.deploy("hello", env={"A": "b"})
    assert run.api.delete(f"{BASE}/{second['latestReadyRevision']}").status == 400
    run.finish(run.api.ok("DELETE", f"{BASE}/{first['latestReadyRevision']}"))
    assert run.api.get(f"{BASE}/{first['latestReadyRevision']}").status == 404


# -- requests


def test_headers_are_those_of_the_front_end(run):
    service = run.deploy("hello")
    seen = run.get(f"{service['uri']}/headers", headers={"X-Mine": "1", "X-Goog-IAP-JWT-Assertion": "forged"}).json()
    assert seen["host"] == service["uri"].removeprefix("https://")
    assert seen["x-forwarded-proto"] == "https" and seen["x-forwarded-for"] == "203.0.113.7"
    assert seen["x-mine"] == "1" and "x-goog-iap-jwt-assertion" not in seen
    assert "traceparent" in seen and "x-cloud-trace-context" in seen


def test_bodies_go_through_up_to_32_mib(run):
    service = run.deploy("hello")
    full = b"x" * (32 << 20)
    assert run.post(f"{service['uri']}/up", content=full).text == f"POST /up {32 << 20}"
    answer = run.post(f"{service['uri']}/up", content=full + b"x")
    assert answer.status_code == 413 and "Request Entity Too Large" in answer.text

    async def chunks():
        for _ in range(33):
            yield b"x" * (1 << 20)

    assert run.post(f"{service['uri']}/up", content=chunks()).status_code == 413


def test_large_answers_must_be_streamed(run):
    service = run.deploy("hello")
    assert run.get(f"{service['uri']}/big?size={33 << 20}").status_code == 500
    assert len(run.get(f"{service['uri']}/big?size={33 << 20}&stream=1").content) == 33 << 20
    assert "Response size was too large" in run.sandbox.logs.file("hello").read_text()


def test_a_slow_answer_is_cut_off_at_the_timeout(run):
    service = run.deploy("hello", template={"timeout": "1s"})
    answer = run.get(f"{service['uri']}/sleep?seconds=5")
    assert (answer.status_code, answer.text) == (504, "upstream request timeout")


def test_a_dead_container_is_replaced(run):
    service = run.deploy("hello")
    first = run.get(f"{service['uri']}/pid").text
    assert run.get(f"{service['uri']}/exit").status_code == 503
    assert run.get(f"{service['uri']}/pid").text != first


def test_instances_scale_with_concurrent_requests(run):
    template = {"maxInstanceRequestConcurrency": 1, "scaling": {"maxInstanceCount": 2}}
    service = run.deploy("hello", template=template)
    threads = [threading.Thread(target=run.get, args=(f"{service['uri']}/sleep?seconds=2",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(run.sandbox.processes.all()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert len(run.sandbox.processes.all()) == 2


def test_a_failing_liveness_probe_restarts_the_container(run):
    liveness = {"httpGet": {"path": "/health"}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    service = run.deploy("hello", template={"container": {"livenessProbe": liveness}})
    first = run.get(f"{service['uri']}/pid").text
    run.get(f"{service['uri']}/sick")
    deadline = time.monotonic() + 60
    while run.get(f"{service['uri']}/pid").text == first:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_minimum_instances_run_before_any_request(run):
    run.deploy("hello", template={"scaling": {"minInstanceCount": 2, "maxInstanceCount": 2}})
    deadline = time.monotonic() + 60
    while len(run.sandbox.processes.all()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- permission to call


def test_ingress_keeps_the_internet_out(run):
    service = run.deploy("hello", ingress="INGRESS_TRAFFIC_INTERNAL_ONLY")
    answer = run.get(service["uri"])
    assert answer.status_code == 404 and "Page not found" in answer.text


def test_a_disabled_default_address_does_not_answer(run):
    uri = run.deploy("hello")["uri"]
    service = run.deploy("hello", defaultUriDisabled=True)
    assert "uri" not in service and run.get(uri).status_code == 404


def test_the_invoker_check(run):
    service = run.deploy("hello", invokerIamDisabled=False)
    uri, identities = service["uri"], run.sandbox.identities
    assert run.get(uri).status_code == 403
    bob = identities.mint_id_token("bob@example.com", uri)
    assert run.get(uri, headers={"Authorization": f"Bearer {bob}"}).status_code == 403
    allow(run, f"{RUN}/{service['name']}", "roles/run.invoker", "user:bob@example.com")
    seen = run.get(f"{uri}/headers", headers={"Authorization": f"Bearer {bob}"})
    assert seen.status_code == 200 and seen.json()["authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
    both = {"Authorization": "Basic eDp5", "X-Serverless-Authorization": f"Bearer {bob}"}
    assert run.get(f"{uri}/headers", headers=both).json()["authorization"] == "Basic eDp5"
    for audience in ("https://other.example.com", ""):
        token = identities.mint_id_token("bob@example.com", audience)
        answer = run.get(uri, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401 and "invalid_token" in answer.headers["www-authenticate"]
    deterministic = identities.mint_id_token("bob@example.com", service["urls"][0])
    assert run.get(uri, headers={"Authorization": f"Bearer {deterministic}"}).status_code == 200


def test_all_users_are_everybody(run):
    service = run.deploy("hello", invokerIamDisabled=False)
    allow(run, f"{RUN}/{service['name']}", "roles/run.invoker", "allUsers")
    assert run.get(service["uri"]).status_code == 200
    assert run.get(f"{service['uri']}/headers", headers={"Authorization": "Basic eDp5"}).status_code == 200


def test_iam_policies_go_with_the_service(run):
    service = run.deploy("hello")
    url = f"{BASE}/{service['name']}"
    policy = {"bindings": [{"role": "roles/run.invoker", "members": ["user:bob@example.com"]}]}
    assert run.api.ok("POST", f"{url}:setIamPolicy", {"policy": policy})["bindings"] == policy["bindings"]
    assert run.api.ok("GET", f"{url}:getIamPolicy")["bindings"] == policy["bindings"]
    asked = {"permissions": ["run.routes.invoke", "run.services.get"]}
    answer = run.api.post(f"{url}:testIamPermissions", asked, as_="bob@example.com")
    assert answer.json == {"permissions": ["run.routes.invoke"]}
    assert run.api.get(f"{BASE}/{run.location}/services/nothing:getIamPolicy").status == 404
    run.finish(run.api.ok("DELETE", url))
    assert "bindings" not in run.sandbox.iam.get_policy(f"{RUN}/{service['name']}")


# -- a restart


def test_services_come_back_after_a_restart(run, sandbox, settings):
    service = run.deploy("hello", template={"scaling": {"minInstanceCount": 1, "maxInstanceCount": 1}})
    sandbox.services["run"].runtime.stop()
    from gcp_sandbox.services.run.runtime import Runtime

    later = Runtime(sandbox)
    later.start()
    route = later.route(service["uri"].removeprefix("https://"))
    pool = later.pool(route.choose())
    with pool.lease(20) as instance:
        assert instance.process.alive()
    later.stop()


def test_a_killed_daemons_instances_are_adopted(run, sandbox):
    from gcp_sandbox.services.run.runtime import Runtime

    service = run.deploy("hello")
    pid = int(run.get(f"{service['uri']}/pid").text)
    later = Runtime(sandbox)
    later.start()
    pool = later.pool(later.route(service["uri"].removeprefix("https://")).choose())
    assert [instance.process.pid for instance in pool.instances] == [pid]
    later.stop()


# -- v1


def test_gcloud_reads_services_in_knatives_shape(run):
    service = run.deploy("hello", env={"A": "b"})
    root = "https://europe-west1-run.googleapis.com/apis/serving.knative.dev/v1"
    shown = run.api.ok("GET", f"{root}/namespaces/{run.project.id}/services/hello")
    assert shown["kind"] == "Service" and shown["metadata"]["name"] == "hello"
    assert shown["status"]["url"] == service["uri"]
    assert shown["status"]["conditions"][0] == {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": service["terminalCondition"]["lastTransitionTime"],
    }
    container = shown["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "b"}]
    everywhere = "https://run.googleapis.com/apis/serving.knative.dev/v1"
    for kind in ("services", "configurations", "routes", "revisions"):
        assert len(run.api.ok("GET", f"{everywhere}/namespaces/{run.project.id}/{kind}")["items"]) == 1
    elsewhere = "https://us-central1-run.googleapis.com/apis/serving.knative.dev/v1"
    assert run.api.ok("GET", f"{elsewhere}/namespaces/{run.project.id}/services")["items"] == []
    assert run.api.get(f"{root}/namespaces/{run.project.id}/services/nothing").status == 404


V1 = "https://europe-west1-run.googleapis.com/apis/serving.knative.dev/v1"


def knative(run, name, *, annotations=None, template=None, **container):
    """A service as gcloud sends it."""
    spec = {"containers": [{"image": run.image, "name": "", "resources": {"requests": {}}, **container}]}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": run.project.id,
            "labels": {"team": "ml"},
            "annotations": {"run.googleapis.com/client-name": "gcloud", **(annotations or {})},
        },
        "spec": {"template": {"metadata": {"annotations": template or {}}, "spec": spec}},
        "status": {"address": {}},
    }


def settled(run, name):
    """The service, once its deployment is over."""
    deadline = time.monotonic() + 60
    while True:
        shown = run.api.ok("GET", f"{V1}/namespaces/{run.project.id}/services/{name}")
        ready = shown["status"]["conditions"][0]
        if ready["status"] != "Unknown":
            return shown
        assert time.monotonic() < deadline, ready
        time.sleep(0.1)


def test_a_service_is_deployed_in_knatives_shape(run):
    services = f"{V1}/namespaces/{run.project.id}/services"
    template = {
        "autoscaling.knative.dev/maxScale": "3",
        "run.googleapis.com/startup-cpu-boost": "True",
        "example.com/kept": "yes",
    }
    body = knative(
        run,
        "hello",
        annotations={"run.googleapis.com/ingress": "internal-and-cloud-load-balancing"},
        template=template,
        env=[{"name": "A", "value": "b"}],
    )
    assert run.api.ok("POST", services, body)["status"]["conditions"][0]["status"] == "Unknown"
    shown = settled(run, "hello")
    assert shown["status"]["conditions"][0]["status"] == "True"
    made = run.show("hello")
    assert (made["client"], made["labels"]) == ("gcloud", {"team": "ml"})
    assert made["ingress"] == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    (container,) = made["template"]["containers"]
    assert container["env"] == [{"name": "A", "value": "b"}]
    assert (container["resources"]["cpuIdle"], container["resources"]["startupCpuBoost"]) == (True, True)
    assert made["template"]["scaling"]["maxInstanceCount"] == 3
    assert made["template"]["annotations"] == {"example.com/kept": "yes"}

    # a body that is read, changed and sent back makes another revision with the change only
    shown["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "c"
    run.api.ok("PUT", f"{services}/hello", shown)
    again = settled(run, "hello")
    assert again["status"]["latestReadyRevisionName"] != shown["status"]["latestReadyRevisionName"]
    later = run.show("hello")
    assert later["template"]["containers"][0]["env"] == [{"name": "A", "value": "c"}]
    for body in (made, later):
        body["template"]["containers"][0].pop("env")
    assert later["template"] == made["template"]
    stale = run.api.request("PUT", f"{services}/hello", shown)
    assert stale.status == 409

    run.api.ok("DELETE", f"{services}/hello")


def test_what_v1_shows_of_a_service_can_be_sent_back(run):
    """A template that v1 shows and takes back is the same: traffic moves, and no revision is made."""
    run.sandbox.enablement.enable(run.project, ["compute.googleapis.com"], at_once=True)
    container = {"resources": {"cpuIdle": False, "startupCpuBoost": True}, "volumeMounts": []}
    container["volumeMounts"].append({"name": "sockets", "mountPath": "/cloudsql"})
    template = {
        "revision": "hello-one",
        "client": "gcloud",
        "clientVersion": "528.0.0",
        "sessionAffinity": True,
        "labels": {"a": "b"},
        "scaling": {"minInstanceCount": 1, "maxInstanceCount": 2},
        "vpcAccess": {"egress": "ALL_TRAFFIC", "networkInterfaces": [{"network": "default", "tags": ["ml"]}]},
        "volumes": [{"name": "sockets", "cloudSqlInstance": {"instances": ["p:europe-west1:db"]}}],
        "container": container,
    }
    fields = {"client": "terraform", "clientVersion": "1.5", "description": "d", "launchStage": "BETA"}
    fields["scaling"] = {"minInstanceCount": 1}
    before = run.deploy("hello", template=template, **fields)
    services = f"{V1}/namespaces/{run.project.id}/services"
    shown = run.api.ok("GET", f"{services}/hello")
    assert shown["spec"]["template"]["metadata"]["name"] == "hello-one"
    shown["spec"]["traffic"] = [{"revisionName": "hello-one", "percent": 100, "tag": "blue"}]
    run.api.ok("PUT", f"{services}/hello", shown)
    settled(run, "hello")
    after = run.show("hello")
    assert after["traffic"][0]["tag"] == "blue"
    kept = ("template", *fields)
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert [
        revision["metadata"]["name"]
        for revision in run.api.ok("GET", services.replace("services", "revisions"))["items"]
    ] == ["hello-one"]

    changed = run.api.ok("GET", f"{services}/hello")
    changed["spec"]["template"]["spec"]["containerConcurrency"] = 7
    assert run.api.put(f"{services}/hello", changed).status == 409


def test_a_template_of_an_existing_revision_makes_none(run):
    address = f"https://run.googleapis.com/v2/{run.location}/services/hello"
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "hello-two", "percent": 100}]
    run.deploy("hello", template={"revision": "hello-one"})
    run.deploy("hello", template={"revision": "hello-two"}, env={"A": "b"})
    made = run.deploy("hello", template={"revision": "hello-one"}, traffic=traffic)
    assert made["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert made["latestCreatedRevision"].endswith("/hello-two") and made["traffic"] == traffic
    other = run.service(template={"revision": "hello-two"}, env={"A": "c"})
    answer = run.api.patch(address, other)
    assert answer.status == 409 and b"different configuration already exists" in answer.content
    assert (
        run.api.patch(f"{address}?forceNewRevision=true", run.service(template={"revision": "hello-two"})).status == 409
    )


def test_what_v1_has_and_the_sandbox_has_not_is_refused(run):
    services = f"{V1}/namespaces/{run.project.id}/services"
    unknown = knative(run, "hello", template={"run.googleapis.com/gpu-zonal-redundancy-disabled": "true"})
    answer = run.api.request("POST", services, unknown)
    assert answer.status == 501 and b"gpu-zonal-redundancy-disabled" in answer.content
    wrong = knative(run, "hello", annotations={"run.googleapis.com/ingress": "everybody"})
    assert run.api.request("POST", services, wrong).status == 400
    nowhere = services.replace("europe-west1-", "")
    assert run.api.request("POST", nowhere, knative(run, "hello")).status == 400
