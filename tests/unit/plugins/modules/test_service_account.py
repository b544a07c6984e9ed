# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import service_account
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

EMAIL = "mlflow-server@p.iam.gserviceaccount.com"
BASE = "https://iam.googleapis.com/v1/projects/p/serviceAccounts"
URL = f"{BASE}/{EMAIL}"
ACCOUNT = {"name": f"projects/p/serviceAccounts/{EMAIL}", "email": EMAIL, "displayName": "MLflow", "etag": "e"}


def run(cloud, check_mode=False, **options):
    return cloud.run(service_account, check_mode, account_id="mlflow-server", **options)


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=ACCOUNT)
    result = run(cloud, display_name="MLflow", disabled=False)
    assert not result["changed"]
    assert result["email"] == EMAIL and result["member"] == f"serviceAccount:{EMAIL}"


@pytest.mark.parametrize("check_mode", [True, False])
def test_create(cloud, check_mode):
    cloud.expect_error("GET", URL, 404)
    if not check_mode:
        sent = {"accountId": "mlflow-server", "serviceAccount": {"displayName": "MLflow"}}
        cloud.expect("POST", BASE, sent=sent, body=ACCOUNT)
    result = run(cloud, check_mode, display_name="MLflow")
    assert result["changed"] and result["resource"]["email"] == EMAIL


@pytest.mark.parametrize("check_mode", [True, False])
def test_change(cloud, check_mode):
    cloud.expect("GET", URL, body=ACCOUNT)
    if not check_mode:
        sent = {"serviceAccount": {"description": "runs MLflow"}, "updateMask": "description"}
        cloud.expect("PATCH", URL, sent=sent, body={"name": ACCOUNT["name"], "description": "runs MLflow"})
    result = run(cloud, check_mode, display_name="MLflow", description="runs MLflow")
    assert result["changed"]
    assert result["resource"]["displayName"] == "MLflow"
    assert result["resource"]["description"] == "runs MLflow"


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(("disabled", "verb"), [(True, "disable"), (False, "enable")])
def test_disable_and_enable(cloud, check_mode, disabled, verb):
    cloud.expect("GET", URL, body=dict(ACCOUNT, disabled=not disabled))
    if not check_mode:
        cloud.expect("POST", f"{URL}:{verb}", sent={})
    result = run(cloud, check_mode, disabled=disabled)
    assert result["changed"]
    assert result["diff"]["before"] == {"disabled": not disabled}
    assert result["resource"]["disabled"] is disabled


def test_delete(cloud):
    cloud.expect("GET", URL, body=ACCOUNT)
    cloud.expect("DELETE", URL)
    assert run(cloud, state="absent")["changed"]


@pytest.mark.parametrize("name", ["short", "Upper-case", "a" * 31, "ends-with-", "1-starts"])
def test_names_that_cannot_be(cloud, name):
    with pytest.raises(Failed, match="6 to 30 lower-case letters"):
        cloud.run(service_account, account_id=name)


def test_project_of_a_domain():
    assert (
        service_account.address("mlflow-server", "example.com:p")
        == "mlflow-server@p.example.com.iam.gserviceaccount.com"
    )


def test_several_accounts_in_one_task(cloud):
    other = f"{BASE}/mlflow-client@p.iam.gserviceaccount.com"
    policy = {"bindings": [{"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:a@example.com"]}]}
    cloud.expect("GET", URL, body=ACCOUNT)
    cloud.expect("GET", other, body={"displayName": "Client"})
    cloud.expect("POST", f"{other}:getIamPolicy", body=policy | {"etag": "e"})
    accounts = [
        {"account_id": "mlflow-server", "display_name": "MLflow"},
        {"account_id": "mlflow-client", "impersonators": ["user:a@example.com"], "adopt": True},
    ]
    result = cloud.run(service_account, accounts=accounts, bindings_authoritative=True)
    assert not result["changed"]
    assert [(item["account_id"], item["email"]) for item in result["results"]] == [
        ("mlflow-server", EMAIL),
        ("mlflow-client", "mlflow-client@p.iam.gserviceaccount.com"),
    ]


def test_impersonators_are_added_to_the_bindings(cloud):
    cloud.expect("GET", URL, body=ACCOUNT)
    cloud.expect("POST", f"{URL}:getIamPolicy", body={"etag": "e"})
    member = "user:a@example.com"
    roles = ["roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountUser"]
    wanted = [{"role": role, "members": [member]} for role in roles]
    cloud.expect("POST", f"{URL}:setIamPolicy", body={"bindings": wanted, "etag": "f"})
    result = run(cloud, bindings=[wanted[1]], impersonators=[member])
    assert result["changed"]
    assert [item["path"] for item in result["changes"][-1]["fields"]]
