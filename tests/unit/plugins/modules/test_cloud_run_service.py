# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import cloud_run_service
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

LOGS = "https://logging.googleapis.com/v2/entries:list"
V2 = "https://run.googleapis.com/v2"
BASE = f"{V2}/projects/p/locations/europe-west1/services"
URL = f"{BASE}/s"
OPERATION = {"name": "projects/p/locations/europe-west1/operations/1"}
READY = {"type": "Ready", "state": "CONDITION_SUCCEEDED"}
SERVICE = {
    "name": "projects/p/locations/europe-west1/services/s",
    "etag": '"e"',
    "ingress": "INGRESS_TRAFFIC_ALL",
    "iapEnabled": True,
    "labels": {"team": "a"},
    "terminalCondition": READY,
    "template": {
        "serviceAccount": "sa@p.iam.gserviceaccount.com",
        "timeout": "300s",
        "maxInstanceRequestConcurrency": 80,
        "scaling": {"maxInstanceCount": 10},
        "containers": [
            {
                "image": "i@sha256:1",
                "env": [
                    {"name": "B", "value": "true"},
                    {"name": "A", "valueSource": {"secretKeyRef": {"secret": "projects/p/secrets/x", "version": "2"}}},
                ],
                "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "cpuIdle": True},
                "ports": [{"name": "http1", "containerPort": 8080}],
                "volumeMounts": [{"name": "cloudsql", "mountPath": "/cloudsql"}],
                "startupProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 5, "timeoutSeconds": 1},
            }
        ],
        "volumes": [{"name": "cloudsql", "cloudSqlInstance": {"instances": ["p:r:i"]}}],
    },
}
OPTIONS = {
    "name": "s",
    "location": "europe-west1",
    "image": "i@sha256:1",
    "env": {"B": True},
    "secret_env": {"A": "projects/p/secrets/x/versions/2"},
    "cloudsql_instances": ["p:r:i"],
    "cpu": "1",
    "memory": "2Gi",
    "port": 8080,
    "max_instances": 10,
    "min_instances": 0,
    "service_account": "sa@p.iam.gserviceaccount.com",
    "iap_enabled": True,
    "startup_probe": {"http_get": {"path": "/health"}, "period_seconds": 5},
    "labels": {"team": "a"},
}


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    assert not cloud.run(cloud_run_service, **OPTIONS)["changed"]


def test_create(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect(
        "POST",
        BASE,
        query={"serviceId": "s"},
        sent={
            "labels": {"team": "a"},
            "iapEnabled": True,
            "template": {
                "serviceAccount": "sa@p.iam.gserviceaccount.com",
                "scaling": {"minInstanceCount": 0, "maxInstanceCount": 10},
                "containers": [
                    {
                        "image": "i@sha256:1",
                        "env": [
                            {
                                "name": "A",
                                "valueSource": {"secretKeyRef": {"secret": "projects/p/secrets/x", "version": "2"}},
                            },
                            {"name": "B", "value": "true"},
                        ],
                        "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
                        "volumeMounts": [{"name": "cloudsql", "mountPath": "/cloudsql"}],
                        "ports": [{"containerPort": 8080}],
                        "startupProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 5},
                    }
                ],
                "volumes": [{"name": "cloudsql", "cloudSqlInstance": {"instances": ["p:r:i"]}}],
            },
        },
        body=dict(OPERATION, done=True, response=SERVICE),
    )
    assert cloud.run(cloud_run_service, **OPTIONS)["resource"]["name"].endswith("/s")


def test_a_new_image_sends_the_whole_template_and_the_etag(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    template = dict(SERVICE["template"], containers=[dict(SERVICE["template"]["containers"][0], image="i@sha256:2")])

    cloud.expect("PATCH", URL, query={"updateMask": "template"}, body=dict(OPERATION, done=True, response=SERVICE))
    assert cloud.run(cloud_run_service, name="s", location="europe-west1", image="i@sha256:2")["changed"]
    sent = cloud.requests[-1].body
    assert sent["etag"] == '"e"'
    assert sent["template"]["serviceAccount"] == template["serviceAccount"]
    assert sent["template"]["containers"][0]["image"] == "i@sha256:2"


def test_a_variable_that_is_not_named_goes(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=SERVICE))
    assert cloud.run(cloud_run_service, **dict(OPTIONS, env={}))["changed"]
    assert [item["name"] for item in cloud.requests[-1].body["template"]["containers"][0]["env"]] == ["A"]


def test_a_revision_that_does_not_start_fails_with_its_reason(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    cloud.expect("PATCH", URL, body=OPERATION)
    error = {"code": 9, "message": "Revision 's-00002' is not ready: the container failed to start"}
    cloud.expect("GET", f"{V2}/{OPERATION['name']}", body=dict(OPERATION, done=True, error=error))
    cloud.expect("GET", URL, body=dict(SERVICE, latestCreatedRevision=f"{BASE}/s/revisions/s-00002"))
    cloud.expect("POST", LOGS, body={"entries": [{"textPayload": "KeyError: 7"}]})
    words = r"the container failed to start. The revision that served before.*:\nKeyError: 7\n.*logs read s"
    with pytest.raises(Failed, match=words):
        cloud.run(cloud_run_service, **dict(OPTIONS, image="i@sha256:2"))
    assert 'resource.labels.revision_name="s-00002"' in cloud.requests[-1].body["filter"]


def test_the_reason_is_shown_where_the_service_cannot_be_read(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, error={"code": 9, "message": "it failed to start"}))
    cloud.expect_error("GET", URL, 403, code="PERMISSION_DENIED")
    cloud.expect_error("POST", LOGS, 403, code="PERMISSION_DENIED")
    with pytest.raises(Failed, match=r"it failed to start.*Its output: gcloud run services logs read s"):
        cloud.run(cloud_run_service, **dict(OPTIONS, image="i@sha256:2"))


def test_a_failed_revision_is_tried_again(cloud):
    failed = dict(SERVICE, terminalCondition={"state": "CONDITION_FAILED", "message": "no permission on the secret"})
    cloud.expect("GET", URL, body=failed)
    cloud.expect("GET", URL, body=failed)
    cloud.expect("PATCH", URL, query={"updateMask": "template"}, body=dict(OPERATION, done=True, response=SERVICE))
    assert cloud.run(cloud_run_service, **OPTIONS)["changed"]
    assert cloud.requests[-1].body["template"]["labels"].keys() == {"client.knative.dev/nonce"}


def test_a_service_that_is_still_not_ready_fails(cloud):
    failed = dict(SERVICE, terminalCondition={"state": "CONDITION_FAILED", "message": "no permission on the secret"})
    cloud.expect("GET", URL, body=failed)
    cloud.expect("GET", URL, body=failed)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=failed))
    cloud.expect_error("POST", LOGS, 403, code="PERMISSION_DENIED")
    with pytest.raises(Failed, match="is not ready: no permission on the secret"):
        cloud.run(cloud_run_service, **OPTIONS)


def test_what_another_run_deploys_is_joined(cloud):
    cloud.expect("GET", URL, body=dict(SERVICE, reconciling=True))
    cloud.expect("GET", URL, body=SERVICE)
    assert not cloud.run(cloud_run_service, **OPTIONS)["changed"]


def test_a_new_service_needs_an_image(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    with pytest.raises(Failed, match="To create it, set image"):
        cloud.run(cloud_run_service, name="s", location="europe-west1")


def test_a_variable_cannot_be_both(cloud):
    with pytest.raises(Failed, match="A is both in env and in secret_env"):
        cloud.run(cloud_run_service, **dict(OPTIONS, env={"A": "x"}))


def test_a_secret_has_a_name(cloud):
    with pytest.raises(Failed, match=r"secret_env\.A is 'hunter', which is not the name of a secret"):
        cloud.run(cloud_run_service, **dict(OPTIONS, secret_env={"A": "hunter"}))


def test_files_traffic_and_network(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", BASE, body=dict(OPERATION, done=True, response=SERVICE))
    cloud.run(
        cloud_run_service,
        name="s",
        location="europe-west1",
        image="i",
        timeout=60,
        secret_volumes=[{"mount_path": "/keys", "secret": "projects/p/secrets/x", "file": "key.json"}],
        traffic=[{"revision": "s-1", "percent": 90}, {"percent": 10, "tag": "new"}],
        vpc_access={"network": "n", "egress": "ALL_TRAFFIC"},
        liveness_probe={"tcp_port": 8080, "failure_threshold": 3},
    )
    sent = cloud.requests[-1].body
    assert sent["template"]["timeout"] == "60s"
    assert sent["template"]["volumes"] == [
        {
            "name": "secret-0",
            "secret": {"secret": "projects/p/secrets/x", "items": [{"path": "key.json", "version": "latest"}]},
        }
    ]
    assert sent["template"]["containers"][0]["volumeMounts"] == [{"name": "secret-0", "mountPath": "/keys"}]
    assert sent["template"]["containers"][0]["livenessProbe"] == {"tcpSocket": {"port": 8080}, "failureThreshold": 3}
    assert sent["template"]["vpcAccess"] == {"egress": "ALL_TRAFFIC", "networkInterfaces": [{"network": "n"}]}
    assert sent["traffic"] == [
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "s-1", "percent": 90},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 10, "tag": "new"},
    ]


def test_a_new_network_keeps_the_tags_of_the_service(cloud):
    interface = {"network": "n", "subnetwork": "n", "tags": ["egress"]}
    access = {"egress": "ALL_TRAFFIC", "networkInterfaces": [interface]}
    there = dict(SERVICE, template=dict(SERVICE["template"], vpcAccess=access))
    cloud.expect("GET", URL, body=there)
    same = {"network": "n", "subnetwork": "n"}
    assert not cloud.run(cloud_run_service, True, name="s", location="europe-west1", vpc_access=same)["changed"]
    cloud.expect("GET", URL, body=there)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=there))
    cloud.run(cloud_run_service, name="s", location="europe-west1", vpc_access=dict(same, subnetwork="m"))
    sent = cloud.requests[-1].body["template"]["vpcAccess"]
    assert sent == {"egress": "ALL_TRAFFIC", "networkInterfaces": [dict(interface, subnetwork="m")]}


def test_absent(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    cloud.expect("DELETE", URL, body=dict(OPERATION, done=True))
    assert cloud.run(cloud_run_service, name="s", location="europe-west1", state="absent")["changed"]


WHOLE = {
    "command": [],
    "args": [],
    "http2": False,
    "invoker_iam_disabled": False,
    "default_uri_disabled": False,
    "scaling_mode": "AUTOMATIC",
    "traffic": [{"percent": 100}],
}
LATEST = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}


def test_the_fields_that_a_server_needs_as_a_whole_have_defaults(cloud):
    cloud.expect("GET", URL, body=dict(SERVICE, traffic=[LATEST]))
    assert not cloud.run(cloud_run_service, **OPTIONS, **WHOLE)["changed"]


def left(**fields):
    """Return the service with one container of a former owner, and other fields of the service."""
    (container,) = SERVICE["template"]["containers"]
    template = dict(SERVICE["template"], containers=[dict(container, **fields.pop("container", {}))])
    return dict(SERVICE, template=template, traffic=[LATEST]) | fields


@pytest.mark.parametrize(
    ("existing", "path"),
    [
        (left(container={"command": ["sh"]}), "template.containers[0].command"),
        (left(container={"args": ["--workers=4"]}), "template.containers[0].args"),
        (left(container={"ports": [{"name": "h2c", "containerPort": 8080}]}), "template.containers[0].ports"),
        (left(traffic=[{"revision": "s-1", "percent": 100}]), "traffic"),
        (left(traffic=[dict(LATEST, percent=50), {"revision": "s-1", "percent": 50, "tag": "old"}]), "traffic"),
        (left(invokerIamDisabled=True), "invokerIamDisabled"),
        (left(defaultUriDisabled=True), "defaultUriDisabled"),
        (left(scaling={"scalingMode": "MANUAL", "manualInstanceCount": 0}), "scaling.scalingMode"),
    ],
)
def test_what_a_former_owner_left_is_replaced_and_shown(cloud, existing, path):
    cloud.expect("GET", URL, body=existing)
    result = cloud.run(cloud_run_service, check_mode=True, **OPTIONS, **WHOLE)
    (entry,) = result["changes"]
    assert entry["fields"] and all(item["path"].startswith(path) for item in entry["fields"]), entry


def test_a_container_beside_the_server_goes(cloud):
    existing = left()
    existing["template"]["containers"].append({"name": "proxy", "image": "other"})
    cloud.expect("GET", URL, body=existing)
    cloud.expect("PATCH", URL, body=dict(OPERATION, done=True, response=SERVICE))
    assert cloud.run(cloud_run_service, **OPTIONS, **WHOLE)["changed"]
    assert [item["image"] for item in cloud.requests[-1].body["template"]["containers"]] == ["i@sha256:1"]


def test_the_own_name_of_a_revision_is_not_sent_again(cloud):
    """Cloud Run has one revision of a name: `--revision-suffix`, Terraform and the console leave it in the template."""
    named = dict(SERVICE, template=dict(SERVICE["template"], revision="s-blue"))
    cloud.expect("GET", URL, body=named)
    assert not cloud.run(cloud_run_service, **OPTIONS)["changed"]
    cloud.expect("GET", URL, body=named)
    cloud.expect("PATCH", URL, query={"updateMask": "template"}, body=dict(OPERATION, done=True, response=SERVICE))
    assert cloud.run(cloud_run_service, **dict(OPTIONS, image="i@sha256:2"))["changed"]
    assert "revision" not in cloud.requests[-1].body["template"]


def test_the_protocol_needs_a_port(cloud):
    with pytest.raises(AssertionError, match="http2"):
        cloud.run(cloud_run_service, name="s", location="europe-west1", http2=True)
