# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
import requests
from ansible_collections.mlplatform.gcp.plugins.modules import mlflow_server_info
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

URL = "https://mlflow.example.com"
CLIENT = "client@p.iam.gserviceaccount.com"
SIGNER = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{CLIENT}"
API, VERSION = "...experiments/get?experiment_id=0", f"{URL}/version"
SIGN_IN = {"Location": "https://accounts.google.com/o/oauth2/v2/auth"}
OPTIONS = {"url": URL, "client_account": CLIENT, "version": "3.17.2"}
ACCESS = {"iap": ("signJwt", {"signedJwt": "t"}), "iam": ("generateIdToken", {"token": "t"})}


def as_client(cloud, access, version=b"3.17.2", **more):
    """Expect a rejected request, one for a token, and one with the token."""
    cloud.expect("GET", API, status=403)
    expect_client(cloud, access, version, **more)


def expect_client(cloud, access, version, **more):
    verb, body = ACCESS[access]
    cloud.expect("POST", f"{SIGNER}:{verb}", body=body)
    cloud.expect("GET", VERSION, body=version, **more)


@pytest.mark.parametrize("access", ACCESS)
def test_the_version_must_answer_to_the_client(cloud, access):
    as_client(cloud, access)
    assert cloud.run(mlflow_server_info, access=access, **OPTIONS)["answered"] == "MLflow 3.17.2"
    assert [request.headers.get("Authorization") for request in cloud.requests if request.url.startswith(URL)] == [
        None,
        "Bearer t",
    ]


def test_the_token_is_for_the_address(cloud):
    as_client(cloud, "iap")
    cloud.run(mlflow_server_info, access="iap", **OPTIONS)
    claims = json.loads(cloud.requests[1].body["payload"])
    assert claims["aud"] == f"{URL}/*" and claims["exp"] - claims["iat"] == 3000
    assert {claims[name] for name in ("iss", "sub", "email")} == {CLIENT}


@pytest.mark.parametrize("access", ACCESS)
def test_a_path_is_part_of_requests_and_not_of_the_token(cloud, access):
    cloud.expect("GET", f"{URL}/ml/flow/api/2.0/mlflow/experiments/get?experiment_id=0", status=403)
    verb, body = ACCESS[access]
    cloud.expect("POST", f"{SIGNER}:{verb}", body=body)
    cloud.expect("GET", f"{URL}/ml/flow/version", body=b"3.17.2")
    cloud.run(mlflow_server_info, access=access, **dict(OPTIONS, url=f"{URL}/ml/flow"))
    sent = cloud.requests[1].body
    audience = json.loads(sent["payload"])["aud"].removesuffix("/*") if access == "iap" else sent["audience"]
    assert audience == URL


def test_a_zero_at_the_end_of_a_version_is_no_difference(cloud):
    as_client(cloud, "iap", b"3.10.0\n")
    cloud.run(mlflow_server_info, access="iap", **dict(OPTIONS, version="3.10"))


def test_without_changes_it_is_one_request(cloud):
    cloud.expect("GET", API, status=302, headers=SIGN_IN)
    assert "Identity-Aware Proxy" in cloud.run(mlflow_server_info, access="iap", thorough=False, **OPTIONS)["answered"]


def test_it_waits_for_access_that_takes_effect(cloud):
    cloud.expect("GET", API, error=requests.ConnectionError("refused"))
    cloud.expect("GET", API, status=404)
    as_client(cloud, "iap", status=403)
    cloud.expect("GET", API, status=403)
    cloud.expect("GET", VERSION, body=b"3.17.2")
    cloud.run(mlflow_server_info, access="iap", **OPTIONS)


def failure(cloud, access, **options):
    """Return the error after some attempts with the same answers; a token is not requested again."""
    again = [step for step in cloud.script if step.method == "GET" or step.status == 403]
    cloud.script += again * 4  # after four pauses of a quarter of a second
    with pytest.raises(Failed) as failed:
        cloud.run(mlflow_server_info, access=access, wait_timeout=1, **OPTIONS | options)
    return str(failed.value)


@pytest.mark.parametrize("access", ["iap", "iam", "password"])
def test_a_server_that_is_open_to_anyone_is_reported(cloud, access):
    cloud.expect("GET", API, status=200, body=b"all runs")
    text = failure(cloud, access)
    assert f"does not answer at {URL}" in text and "200 all runs to a request without credentials" in text


@pytest.mark.parametrize("access", ["iam", "password"])
def test_a_redirect_is_a_rejection_by_identity_aware_proxy_alone(cloud, access):
    cloud.expect("GET", API, status=302, headers=SIGN_IN)
    assert "302" in failure(cloud, access)


def test_a_redirect_to_the_same_host_is_no_rejection(cloud):
    cloud.expect("GET", API, status=302, headers={"Location": f"{URL}/login"})
    assert "302" in failure(cloud, "iap")


def test_another_version_that_answers_is_reported(cloud):
    as_client(cloud, "iap", b"2.22.1")
    assert "200 2.22.1 to a request with access for the version 3.17.2" in failure(cloud, "iap")


def test_a_missing_server_is_reported(cloud):
    cloud.expect("GET", API, status=404, body=b"not found")
    assert "404 not found" in failure(cloud, "iap")


def test_a_caller_that_may_not_act_as_the_client_asks_without_credentials(cloud):
    cloud.expect("GET", API, status=403)
    cloud.expect_error("POST", f"{SIGNER}:signJwt", 403, code="PERMISSION_DENIED")
    assert "has no right" in cloud.run(mlflow_server_info, access="iap", **OPTIONS)["answered"]


def test_a_caller_that_must_be_able_to_act_as_the_client_waits(cloud):
    cloud.expect("GET", API, status=403)
    cloud.expect_error("POST", f"{SIGNER}:signJwt", 403, code="PERMISSION_DENIED")
    as_client(cloud, "iap")
    cloud.run(mlflow_server_info, access="iap", client_required=True, **OPTIONS)
    cloud.expect("GET", API, status=403)
    cloud.expect_error("POST", f"{SIGNER}:signJwt", 403, code="PERMISSION_DENIED", message="no right")
    assert f"no credentials of {CLIENT}: no right" in failure(cloud, "iap", client_required=True)


def test_the_version_must_answer_to_the_login(cloud):
    cloud.expect("GET", API, status=401)
    for name, value in (("user", b"YWRtaW4="), ("password", b"czNjcmV0")):
        cloud.expect("GET", f".../secrets/{name}/versions/latest:access", body={"payload": {"data": value.decode()}})
    cloud.expect("GET", VERSION, body=b"3.17.2")
    login = {"username_secret": "projects/p/secrets/user", "password_secret": "projects/p/secrets/password"}
    assert "s3cret" not in str(cloud.run(mlflow_server_info, access="password", **login, **OPTIONS))
    assert cloud.requests[-1].headers["Authorization"] == "Basic YWRtaW46czNjcmV0"


@pytest.mark.parametrize(("status", "good"), [(200, True), (404, True), (302, False), (403, False), (503, False)])
def test_an_image_of_the_user_may_have_any_version(cloud, status, good):
    as_client(cloud, "iap", b"?", status=status)
    if good:
        assert cloud.run(mlflow_server_info, access="iap", **dict(OPTIONS, version=""))["answered"] == "the server"
    else:
        assert str(status) in failure(cloud, "iap", version="")


def test_a_server_in_another_network_is_not_asked_and_the_reason_is_reported(cloud):
    result = cloud.run(mlflow_server_info, access="iap", skip="the ingress is internal", report=["first"], **OPTIONS)
    assert result["msg"] == ["first", "Not asked:   the ingress is internal"]


def test_a_plan_asks_nothing(cloud):
    assert cloud.run(mlflow_server_info, check_mode=True, access="iap", report=["first"], **OPTIONS)["msg"] == ["first"]
