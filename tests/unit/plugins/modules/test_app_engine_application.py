# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import app_engine_application
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

V1 = "https://appengine.googleapis.com/v1"
URL = f"{V1}/apps/p"
OPERATION = {"name": "apps/p/operations/1"}
APP = {
    "name": "apps/p",
    "id": "p",
    "locationId": "europe-west",
    "databaseType": "CLOUD_DATASTORE_COMPATIBILITY",
    "servingStatus": "SERVING",
    "defaultHostname": "p.ew.r.appspot.com",
    "serviceAccount": "p@appspot.gserviceaccount.com",
    "featureSettings": {"splitHealthChecks": True, "useContainerOptimizedOs": True},
}
SECRETS = "https://secretmanager.googleapis.com/v1/projects/p/secrets"
CLIENT = {
    "oauth_client_id_secret": "projects/p/secrets/id",
    "oauth_client_secret_secret": "projects/p/secrets/key/versions/3",
}
ID = "1.apps.googleusercontent.com"
KEY = "GOCSPX-not-to-be-seen"
OWN = {"enabled": True, "oauth2ClientId": ID, "oauth2ClientSecretSha256": hashlib.sha256(KEY.encode()).hexdigest()}


def done(body=None):
    return dict(
        OPERATION, done=True, response=dict(body or APP, **{"@type": "type.googleapis.com/google.appengine.v1.App"})
    )


def client(cloud, key=KEY):
    for name, value in (("id/versions/latest", ID), ("key/versions/3", key)):
        data = base64.b64encode(value.encode()).decode()
        cloud.expect("GET", f"{SECRETS}/{name}:access", body={"payload": {"data": data}})


@pytest.mark.parametrize("location", ["europe-west", "europe-west1", None])
def test_an_application_that_is_there_is_adopted(cloud, location):
    cloud.expect("GET", URL, body=APP)
    result = cloud.run(app_engine_application, location=location, split_health_checks=True, iap_enabled=False)
    assert not result["changed"]
    assert result["resource"]["defaultHostname"] == "p.ew.r.appspot.com"


@pytest.mark.parametrize(
    ("given", "sent"),
    [("us-central1", "us-central"), ("europe-west1", "europe-west"), ("europe-west3", "europe-west3")],
)
def test_create(cloud, given, sent):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", f"{V1}/apps", sent={"id": "p", "locationId": sent}, body=OPERATION)
    cloud.expect("GET", f"{V1}/{OPERATION['name']}", body=OPERATION)
    cloud.expect("GET", f"{V1}/{OPERATION['name']}", body=done(dict(APP, locationId=sent)))
    assert cloud.run(app_engine_application, location=given)["resource"]["locationId"] == sent


def test_what_a_new_application_does_not_take_is_set_afterwards(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect("POST", f"{V1}/apps", body=done())
    cloud.expect("GET", URL, body=APP)
    cloud.expect(
        "PATCH",
        URL,
        query={"updateMask": "iap.enabled"},
        sent={"iap": {"enabled": True}},
        body=done(dict(APP, iap={"enabled": True})),
    )
    result = cloud.run(app_engine_application, location="europe-west", iap_enabled=True)
    assert result["resource"]["iap"] == {"enabled": True}
    assert result["diff"]["before"] == {}


def test_to_create_one_needs_a_location(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    with pytest.raises(Failed, match=r"apps/p does not exist. To create it, set location"):
        cloud.run(app_engine_application, iap_enabled=True)


def test_an_empty_project_in_check_mode(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    result = cloud.run(app_engine_application, True, location="europe-west1")
    assert result["changed"] and result["diff"]["after"] == {"name": "apps/p", "locationId": "europe-west"}


def test_another_location_says_what_to_do(cloud):
    cloud.expect("GET", URL, body=APP)
    text = (
        'locationId cannot be changed from "europe-west" to "us-central".*'
        "neither be moved nor deleted: set location to where it is, or use another project"
    )
    with pytest.raises(Failed, match=text):
        cloud.run(app_engine_application, location="us-central1")


def test_one_that_another_run_makes_is_joined(cloud):
    busy = "Cannot operate on apps/p because an operation is already in progress for apps/p by 7."
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect_error("POST", f"{V1}/apps", 409, code="ABORTED", message=busy)
    operation = dict(OPERATION, metadata={"target": "apps/p", "ephemeralMessage": "Making buckets"})
    cloud.expect("GET", f"{URL}/operations", query={"filter": "done:false"}, body={"operations": [operation]})
    for _look in range(70):
        cloud.expect("GET", f"{V1}/{OPERATION['name']}", body=operation)
    cloud.expect("GET", f"{V1}/{OPERATION['name']}", body=done())
    cloud.expect("GET", URL, body=APP)
    assert not cloud.run(app_engine_application, location="europe-west")["changed"]
    assert "Making buckets" in cloud.progress[0]


def test_one_whose_operation_cannot_be_seen_yet(cloud):
    busy = "Cannot operate on apps/p because an operation is already in progress for apps/p by 7."
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    for _again in range(9):
        cloud.expect_error("POST", f"{V1}/apps", 409, code="ABORTED", message=busy)
        cloud.expect_error("GET", f"{URL}/operations", 404, code="NOT_FOUND")
        cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect_error("POST", f"{V1}/apps", 409, code="ALREADY_EXISTS")
    for _look in range(2):
        cloud.expect("GET", URL, body=APP)
    assert not cloud.run(app_engine_application, location="europe-west")["changed"]


def test_one_that_another_run_makes_for_minutes(cloud):
    for _again in range(6):
        cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
        cloud.expect_error("POST", f"{V1}/apps", 409, code="ALREADY_EXISTS")
        cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    for _look in range(2):
        cloud.expect("GET", URL, body=APP)
    assert not cloud.run(app_engine_application, location="europe-west")["changed"]


def test_only_what_differs_is_sent(cloud):
    cloud.expect("GET", URL, body=APP)
    rules = [{"domain": "*", "path": "/api/*", "service": "api"}]
    cloud.expect(
        "PATCH",
        URL,
        query={"updateMask": "servingStatus,featureSettings.splitHealthChecks,dispatchRules"},
        sent={
            "servingStatus": "USER_DISABLED",
            "featureSettings": {"splitHealthChecks": False},
            "dispatchRules": rules,
        },
        body=done(),
    )
    options = {"serving_status": "USER_DISABLED", "split_health_checks": False, "location": "europe-west1"}
    rule = {"path": "/api/*", "service": "api"}
    assert cloud.run(app_engine_application, dispatch_rules=[rule], **options)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_client_of_ones_own(cloud, check_mode):
    client(cloud)
    cloud.expect("GET", URL, body=dict(APP, iap={"enabled": True}))
    if not check_mode:
        sent = {"enabled": True, "oauth2ClientId": ID, "oauth2ClientSecret": KEY}
        cloud.expect("PATCH", URL, query={"updateMask": "iap"}, sent={"iap": sent}, body=done(dict(APP, iap=OWN)))
    result = cloud.run(app_engine_application, check_mode, **CLIENT)
    assert result["changed"]
    assert KEY not in json.dumps(result)


def test_a_new_application_with_a_client_of_ones_own(cloud):
    client(cloud)
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    iap = {"enabled": True, "oauth2ClientId": ID, "oauth2ClientSecret": KEY}
    sent = {"id": "p", "locationId": "europe-west", "iap": iap}
    cloud.expect("POST", f"{V1}/apps", sent=sent, body=done(dict(APP, iap=OWN)))
    result = cloud.run(app_engine_application, location="europe-west", iap_enabled=True, **CLIENT)
    assert result["changed"] and KEY not in json.dumps(result)


def test_the_same_client_is_no_change(cloud):
    client(cloud)
    cloud.expect("GET", URL, body=dict(APP, iap=OWN))
    assert not cloud.run(app_engine_application, iap_enabled=True, **CLIENT)["changed"]


def test_a_rotated_secret_is_a_change(cloud):
    client(cloud, "GOCSPX-rotated")
    cloud.expect("GET", URL, body=dict(APP, iap=OWN))
    sent = {"enabled": True, "oauth2ClientId": ID, "oauth2ClientSecret": "GOCSPX-rotated"}
    cloud.expect("PATCH", URL, query={"updateMask": "iap"}, sent={"iap": sent}, body=done())
    assert cloud.run(app_engine_application, iap_enabled=True, **CLIENT)["changed"]


def test_switching_iap_leaves_the_client_alone(cloud):
    cloud.expect("GET", URL, body=dict(APP, iap=OWN))
    cloud.expect("PATCH", URL, query={"updateMask": "iap.enabled"}, sent={"iap": {"enabled": False}}, body=done())
    assert cloud.run(app_engine_application, iap_enabled=False)["changed"]


def test_back_to_the_managed_client(cloud):
    cloud.expect("GET", URL, body=dict(APP, iap=OWN))
    sent = {"enabled": True, "oauth2ClientId": "", "oauth2ClientSecret": ""}
    cloud.expect("PATCH", URL, query={"updateMask": "iap"}, sent={"iap": sent}, body=done())
    assert cloud.run(app_engine_application, managed_oauth_client=True)["changed"]


def test_the_managed_client_stays(cloud):
    cloud.expect("GET", URL, body=dict(APP, iap={"enabled": True}))
    assert not cloud.run(app_engine_application, iap_enabled=True, managed_oauth_client=True)["changed"]


def test_a_managed_client_that_is_refused(cloud):
    cloud.expect("GET", URL, body=APP)
    refusal = {"code": "INVALID_ARGUMENT", "message": "Empty Google Account OAuth client ID(s)/secret(s)."}
    cloud.expect_error("PATCH", URL, 400, **refusal)
    with pytest.raises(Failed, match=r"Empty Google Account.*Use an OAuth client of your own: oauth_client_id_secret"):
        cloud.run(app_engine_application, iap_enabled=True)


def test_other_refusals_keep_their_words(cloud):
    cloud.expect("GET", URL, body=APP)
    cloud.expect_error("PATCH", URL, 400, code="INVALID_ARGUMENT", message="No such domain.")
    with pytest.raises(Failed, match=r"No such domain\.$"):
        cloud.run(app_engine_application, auth_domain="example.com")


@pytest.mark.parametrize("missing", [True, False])
def test_a_secret_without_a_value_is_named(cloud, missing):
    url = f"{SECRETS}/id/versions/latest:access"
    if missing:
        cloud.expect_error("GET", url, 404, code="NOT_FOUND")
        text = "oauth_client_id_secret: projects/p/secrets/id/versions/latest does not exist"
    else:
        cloud.expect("GET", url, body={"payload": {"data": base64.b64encode(b"\r\n").decode()}})
        text = "oauth_client_id_secret: The secret projects/p/secrets/id is empty"
    with pytest.raises(Failed, match=text):
        cloud.run(app_engine_application, iap_enabled=True, **CLIENT)


def test_one_client_only(cloud):
    with pytest.raises(Failed, match="Leave one of them out"):
        cloud.run(app_engine_application, managed_oauth_client=True, **CLIENT)


@pytest.mark.parametrize("check_mode", [True, False])
def test_it_cannot_be_deleted(cloud, check_mode):
    with pytest.raises(Failed, match=r"cannot be deleted.*serving_status: USER_DISABLED"):
        cloud.run(app_engine_application, check_mode, state="absent")
