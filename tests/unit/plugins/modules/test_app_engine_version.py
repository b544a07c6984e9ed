# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import requests
from ansible_collections.mlplatform.gcp.plugins.modules import app_engine_version
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

LOGS = "https://logging.googleapis.com/v2/entries:list"
V1 = "https://appengine.googleapis.com/v1"
SERVICE = f"{V1}/apps/p/services/default"
URL = f"{SERVICE}/versions/v1"
OPERATIONS = f"{V1}/apps/p/operations"
OPERATION = {"name": "apps/p/operations/1", "metadata": {"target": "apps/p/services/default/versions/v1"}}
IMAGE = "europe-docker.pkg.dev/p/m/m@sha256:1"
# A version of the guide's Terraform as returned by the API, with its defaults.
VERSION = {
    "name": "apps/p/services/default/versions/v1",
    "id": "v1",
    "runtime": "custom",
    "env": "flexible",
    "servingStatus": "SERVING",
    "createdBy": "someone@example.com",
    "deployment": {"container": {"image": IMAGE}},
    "envVariables": {"DB_NAME": "mlflow", "SWITCH": "true"},
    "betaSettings": {"cloud_sql_instances": "p:r:a,p:r:b", "module_yaml_path": "app.yaml", "has_docker_image": "true"},
    "resources": {"cpu": 1, "memoryGb": 2, "diskGb": 10, "volumes": []},
    "automaticScaling": {
        "coolDownPeriod": "120s",
        "minTotalInstances": 1,
        "maxTotalInstances": 4,
        "cpuUtilization": {"targetUtilization": 0.75},
    },
    "livenessCheck": {"path": "/", "checkInterval": "30s", "initialDelay": "300s", "failureThreshold": 4},
    "readinessCheck": {"path": "/", "checkInterval": "5s", "appStartTimeout": "300s", "failureThreshold": 2},
    "network": {},
    "serviceAccount": "p@appspot.gserviceaccount.com",
}
OPTIONS = {
    "name": "v1",
    "image": IMAGE,
    "env_variables": {"DB_NAME": "mlflow", "SWITCH": True},
    "cloudsql_instances": ["p:r:b", "p:r:a"],
    "cpu": 1,
    "memory_gb": 2,
    "automatic_scaling": {"min_instances": 1, "max_instances": 4, "target_cpu_utilization": 0.75},
    "liveness_check": {"path": "/"},
    "readiness_check": {"path": "/", "app_start_timeout": 300},
    "inbound_services": [],
}
HEALTHY = {"instances": [{"vmStatus": "RUNNING", "vmLiveness": "UNHEALTHY"}, {"vmLiveness": "HEALTHY"}]}
SICK = {"instances": [{"vmStatus": "RUNNING", "vmLiveness": "UNHEALTHY"}]}


def done(body=None):
    return dict(OPERATION, done=True, response=body or VERSION)


def found(cloud, body=None):
    cloud.expect("GET", URL, query={"view": "FULL"}, body=body or VERSION)


def test_what_terraform_made_is_adopted(cloud):
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body=HEALTHY)
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]


def test_an_image_that_is_not_reported_is_taken_to_be_the_right_one(cloud):
    found(cloud, {key: value for key, value in VERSION.items() if key != "deployment"})
    cloud.expect("GET", f"{URL}/instances", body={"instances": [{"vmStatus": "RUNNING"}]})
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]


def test_create(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect(
        "POST",
        f"{SERVICE}/versions",
        sent={
            "id": "v1",
            "runtime": "custom",
            "env": "flex",
            "deployment": {"container": {"image": IMAGE}},
            "envVariables": {"DB_NAME": "mlflow", "SWITCH": "true"},
            "betaSettings": {"x": "1", "cloud_sql_instances": "p:r:b,p:r:a"},
            "resources": {"cpu": 1.0, "memoryGb": 2.0, "diskGb": 20.0},
            "automaticScaling": {
                "minTotalInstances": 1,
                "maxTotalInstances": 4,
                "coolDownPeriod": "60s",
                "cpuUtilization": {"targetUtilization": 0.75},
            },
            "livenessCheck": {"path": "/", "initialDelay": "10s", "timeout": "4s", "failureThreshold": 3},
            "readinessCheck": {"path": "/", "host": "h", "checkInterval": "5s", "successThreshold": 1},
            "network": {
                "name": "n",
                "subnetworkName": "s",
                "sessionAffinity": True,
                "instanceIpMode": "INTERNAL",
                "instanceTag": "t",
                "forwardedPorts": ["22"],
            },
            "serviceAccount": "sa@p.iam.gserviceaccount.com",
            "inboundServices": [],
            "servingStatus": "SERVING",
        },
        body=OPERATION,
    )
    cloud.expect("GET", f"{OPERATIONS}/1", body=done())
    options = dict(
        OPTIONS,
        beta_settings={"x": 1},
        disk_gb=20,
        automatic_scaling=dict(OPTIONS["automatic_scaling"], cool_down_period=60),
        liveness_check={"path": "/", "initial_delay": 10, "timeout": 4, "failure_threshold": 3},
        readiness_check={"path": "/", "host": "h", "check_interval": 5, "success_threshold": 1},
        network={
            "name": "n",
            "subnetwork": "s",
            "session_affinity": True,
            "instance_ip_mode": "INTERNAL",
            "instance_tag": "t",
            "forwarded_ports": [22],
        },
        service_account="sa@p.iam.gserviceaccount.com",
        serving_status="SERVING",
    )
    result = cloud.run(app_engine_version, **options)
    assert result["changed"] and result["resource"]["id"] == "v1"


def test_one_is_started_and_a_later_task_joins(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", f"{SERVICE}/versions", body=OPERATION)
    assert cloud.run(app_engine_version, wait=False, **OPTIONS)["operation"] == "apps/p/operations/1"

    other = {"name": "apps/p/operations/0", "metadata": {"target": "apps/p/services/default"}}
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body={})
    page = {"operations": [other], "nextPageToken": "t"}
    cloud.expect("GET", OPERATIONS, query={"filter": "done:false"}, body=page)
    more = {"operations": [OPERATION]}
    cloud.expect("GET", OPERATIONS, query={"filter": "done:false", "pageToken": "t"}, body=more)
    cloud.expect("GET", f"{OPERATIONS}/1", body=done())
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]


BUSY = "Cannot operate on apps/p/services/default/versions/v1 because an operation is already in progress for it by 1."


def busy(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect_error("POST", f"{SERVICE}/versions", 409, code="ABORTED", message=BUSY)
    cloud.expect("GET", OPERATIONS, query={"filter": "done:false"}, body={"operations": [OPERATION]})


def test_one_that_cannot_be_read_yet_is_joined(cloud):
    busy(cloud)
    cloud.expect("GET", f"{OPERATIONS}/1", body=done())
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body=HEALTHY)
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]


def test_one_that_cannot_be_read_yet_is_reported(cloud):
    busy(cloud)
    result = cloud.run(app_engine_version, wait=False, **OPTIONS)
    assert result["operation"] == "apps/p/operations/1" and not result["changed"]
    assert result["diff"] == {"before": {}, "after": {}}


LOST = requests.exceptions.ConnectionError("Connection aborted.")


@pytest.mark.parametrize("wait", [True, False])
def test_a_deployment_without_an_answer_is_joined_and_counts_as_changed(cloud, wait):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", f"{SERVICE}/versions", error=LOST)
    cloud.expect_error("POST", f"{SERVICE}/versions", 409, code="ABORTED", message=BUSY)
    cloud.expect("GET", OPERATIONS, query={"filter": "done:false"}, body={"operations": [OPERATION]})
    if wait:
        cloud.expect("GET", f"{OPERATIONS}/1", body=done())
        found(cloud)
    result = cloud.run(app_engine_version, wait=wait, **OPTIONS)
    assert result["changed"] and result["changes"][0]["action"] == "create"
    assert wait or result["operation"] == "apps/p/operations/1"


def test_a_second_deployment_without_an_answer_is_joined(cloud):
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body=SICK)
    cloud.expect("GET", OPERATIONS, body={})
    cloud.expect("GET", SERVICE, body={"split": {"allocations": {"v0": 1}}})
    cloud.expect("POST", f"{SERVICE}/versions", error=LOST)
    cloud.expect_error("POST", f"{SERVICE}/versions", 409, code="ABORTED", message=BUSY)
    cloud.expect("GET", OPERATIONS, query={"filter": "done:false"}, body={"operations": [OPERATION]})
    cloud.expect("GET", f"{OPERATIONS}/1", body=done())
    assert cloud.run(app_engine_version, **OPTIONS)["changed"]


def test_one_that_cannot_be_read_yet_fails(cloud):
    busy(cloud)
    error = {"code": 4, "message": "it has failed to become healthy"}
    cloud.expect("GET", f"{OPERATIONS}/1", body=dict(OPERATION, done=True, error=error))
    cloud.expect_error("GET", f"{URL}/instances", 404, code="NOT_FOUND")
    cloud.expect_error("POST", LOGS, 403, code="PERMISSION_DENIED")
    with pytest.raises(Failed, match=r"it has failed to become healthy.*Its output: gcloud app logs read"):
        cloud.run(app_engine_version, **OPTIONS)


def test_the_joined_deployment_fails(cloud):
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body={})
    cloud.expect("GET", OPERATIONS, body={"operations": [OPERATION]})
    error = {"code": 4, "message": "Your deployment has failed to become healthy in the allotted time."}
    cloud.expect("GET", f"{OPERATIONS}/1", body=dict(OPERATION, done=True, error=error))
    cloud.expect("GET", f"{URL}/instances", body=SICK)
    cloud.expect("POST", LOGS, body={"entries": [{"textPayload": "KeyError: 7"}]})
    text = (
        "has failed to become healthy in the allotted time. Its instances are RUNNING/UNHEALTHY. The traffic did"
        " not change. The end of its output:\nKeyError: 7\n"
        ".*gcloud app logs read --service=default --version=v1 --project=p"
    )
    with pytest.raises(Failed, match=text):
        cloud.run(app_engine_version, **OPTIONS)
    condition = 'resource.type="gae_app" resource.labels.module_id="default" resource.labels.version_id="v1" '
    assert cloud.requests[-1].body["filter"].startswith(condition)


def test_one_that_never_started_is_deployed_once_more(cloud):
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body=SICK)
    cloud.expect("GET", OPERATIONS, body={})
    cloud.expect("GET", SERVICE, body={"split": {"allocations": {"v0": 1}}})
    cloud.expect("POST", f"{SERVICE}/versions", body=done())
    assert cloud.run(app_engine_version, **OPTIONS)["changed"]
    assert cloud.requests[-1].body["deployment"] == {"container": {"image": IMAGE}}


def test_one_that_gets_requests_is_not_deployed_again(cloud):
    found(cloud)
    cloud.expect("GET", f"{URL}/instances", body=SICK)
    cloud.expect("GET", OPERATIONS, body={})
    cloud.expect("GET", SERVICE, body={"split": {"allocations": {"v1": 1}}})
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]
    assert cloud.warnings == [
        "App Engine version apps/p/services/default/versions/v1 gets requests, and none of its instances is healthy."
    ]


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("image", "i:2", r"deployment.container.image cannot be changed"),
        ("env_variables", {"DB_NAME": "mlflow"}, r"envVariables cannot be changed"),
        ("env_variables", {"DB_NAME": "other", "SWITCH": True}, r"envVariables cannot be changed"),
        ("cloudsql_instances", ["p:r:c"], r"betaSettings.cloud_sql_instances cannot be changed"),
        ("memory_gb", 3, r"resources.memoryGb cannot be changed from 2 to 3"),
        ("liveness_check", {"path": "/health"}, r'livenessCheck.path cannot be changed from "/" to "/health"'),
        ("service_account", "sa@p.iam.gserviceaccount.com", "serviceAccount cannot be changed"),
    ],
)
def test_a_version_stays_as_it_was_made(cloud, option, value, text):
    found(cloud)
    with pytest.raises(Failed, match=text + ".*deploy another one under another name"):
        cloud.run(app_engine_version, **dict(OPTIONS, **{option: value}))


def test_scaling_and_serving_status_can_be_changed(cloud):
    found(cloud)
    mask = (
        "automaticScaling.maxTotalInstances,automaticScaling.coolDownPeriod,"
        "automaticScaling.cpuUtilization.targetUtilization,servingStatus"
    )
    scaling = {"maxTotalInstances": 8, "coolDownPeriod": "60s", "cpuUtilization": {"targetUtilization": 0.5}}
    sent = {"automaticScaling": scaling, "servingStatus": "STOPPED"}
    cloud.expect("PATCH", URL, query={"updateMask": mask}, sent=sent, body=done())
    automatic = {"min_instances": 1, "max_instances": 8, "target_cpu_utilization": 0.5, "cool_down_period": 60}
    options = {"name": "v1", "serving_status": "STOPPED", "automatic_scaling": automatic}
    assert cloud.run(app_engine_version, **options)["changed"]


def test_a_version_that_is_started_is_waited_for(cloud):
    found(cloud, dict(VERSION, servingStatus="STOPPED"))
    cloud.expect("PATCH", URL, query={"updateMask": "servingStatus"}, sent={"servingStatus": "SERVING"}, body=done())
    for state in ({}, SICK, HEALTHY):
        cloud.expect("GET", f"{URL}/instances", body=state)
    assert cloud.run(app_engine_version, name="v1", serving_status="SERVING")["changed"]


def test_a_version_that_does_not_start_again(cloud):
    found(cloud, dict(VERSION, servingStatus="STOPPED"))
    cloud.expect("PATCH", URL, body=done())
    for _again in range(5):
        cloud.expect("GET", f"{URL}/instances", body=SICK)
    with pytest.raises(Failed, match=r"starting App Engine version .*v1: not finished .* RUNNING/UNHEALTHY"):
        cloud.run(app_engine_version, name="v1", serving_status="SERVING", wait_timeout=1)


def test_a_stopped_version_that_stays_stopped_is_not_waited_for(cloud):
    found(cloud, dict(VERSION, servingStatus="STOPPED"))
    cloud.expect("PATCH", URL, body=done(dict(VERSION, servingStatus="STOPPED")))
    options = {"serving_status": "STOPPED", "automatic_scaling": {"min_instances": 2}}
    assert cloud.run(app_engine_version, name="v1", **options)["changed"]


def test_a_stopped_version_has_no_instances_to_ask(cloud):
    found(cloud, dict(VERSION, servingStatus="STOPPED"))
    assert not cloud.run(app_engine_version, **OPTIONS)["changed"]


def test_the_kind_of_scaling_stays(cloud):
    found(cloud)
    with pytest.raises(Failed, match=r"has no manualScaling. A version stays as it was made"):
        cloud.run(app_engine_version, name="v1", manual_scaling={"instances": 2})
    found(cloud, dict({key: value for key, value in VERSION.items() if "Scaling" not in key}, manualScaling={}))
    with pytest.raises(Failed, match="has no automaticScaling"):
        cloud.run(app_engine_version, name="v1", automatic_scaling={"min_instances": 2})


def test_a_fixed_number_of_instances(cloud):
    manual = {key: value for key, value in VERSION.items() if "Scaling" not in key}
    found(cloud, dict(manual, manualScaling={"instances": 1}))
    sent = {"manualScaling": {"instances": 2}}
    cloud.expect("PATCH", URL, query={"updateMask": "manualScaling.instances"}, sent=sent, body=done())
    assert cloud.run(app_engine_version, name="v1", manual_scaling={"instances": 2})["changed"]


def test_a_new_version_needs_an_image(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    with pytest.raises(Failed, match=r"does not exist. To create it, set image"):
        cloud.run(app_engine_version, name="v1", serving_status="STOPPED")


def test_without_an_application(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    message = 'Could not find Application "p".'
    cloud.expect_error("POST", f"{SERVICE}/versions", 404, code="NOT_FOUND", message=message)
    with pytest.raises(Failed, match=r'Could not find Application "p". Create the application first'):
        cloud.run(app_engine_version, **OPTIONS)


def test_googles_account_that_is_not_there_yet_is_waited_for(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    message = "Unable to retrieve P4SA: [service-1@gcp-gae-service.iam.gserviceaccount.com] from GAIA."
    cloud.expect_error("POST", f"{SERVICE}/versions", 404, code="NOT_FOUND", message=message)
    cloud.expect("POST", f"{SERVICE}/versions", body=done())
    assert cloud.run(app_engine_version, **OPTIONS)["changed"]


@pytest.mark.parametrize("name", ["default", "latest", "ah-1", "V1", "a_b", "-a", "a" * 64])
def test_names_that_cannot_be(cloud, name):
    with pytest.raises(Failed, match="cannot be the name of a version"):
        cloud.run(app_engine_version, name=name, image="i:1")


def test_the_standard_environment_is_refused(cloud):
    with pytest.raises(Failed, match="The standard environment runs no containers"):
        cloud.run(app_engine_version, **dict(OPTIONS, env="standard"))
    found(cloud, dict(VERSION, env="standard"))
    with pytest.raises(Failed, match="is in the standard environment"):
        cloud.run(app_engine_version, name="v1", serving_status="STOPPED")


def test_absent(cloud):
    found(cloud)
    cloud.expect("GET", SERVICE, body={"split": {"allocations": {"v2": 1}}})
    cloud.expect("DELETE", URL, body=dict(OPERATION, done=True))
    assert cloud.run(app_engine_version, name="v1", state="absent")["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_one_that_gets_requests_is_not_deleted(cloud, check_mode):
    found(cloud)
    cloud.expect("GET", SERVICE, body={"split": {"allocations": {"v1": 0.25, "v2": 0.75}}})
    with pytest.raises(Failed, match=r"gets 0.25 of the requests.*Give them to another version first"):
        cloud.run(app_engine_version, check_mode, name="v1", state="absent")


def test_one_that_is_gone_stays_gone(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    assert not cloud.run(app_engine_version, name="v1", state="absent")["changed"]
