# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _sql_users
from ansible_collections.mlplatform.gcp.plugins.modules import sql_user
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

USERS = "https://sqladmin.googleapis.com/v1/projects/p/instances/db/users"
URL = f"{USERS}/mlflow"
INSTANCE = "https://sqladmin.googleapis.com/v1/projects/p/instances/db"
SECRET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/pw"
DONE = {"name": "op", "status": "DONE", "targetProject": "p"}
USER = {"name": "mlflow", "host": "", "instance": "db", "project": "p"}
NAMES = {"instance": "db", "name": "mlflow", "password_secret": "projects/p/secrets/pw"}
PASSWORD = "correct horse battery staple"
PAYLOAD = {"payload": {"data": base64.b64encode(PASSWORD.encode()).decode()}}


@pytest.fixture
def note(cloud):
    """The annotation that keeps the version of this user's password."""
    return _sql_users.PasswordVersion(cloud.task({}), {"project": "p", "instance": "db", "name": "mlflow"}).annotation


def latest(cloud, number):
    cloud.expect("GET", f"{SECRET}/versions/latest", body={"name": f"projects/1/secrets/pw/versions/{number}"})


def secret(cloud, annotations):
    cloud.expect(
        "GET",
        SECRET,
        body={"name": "projects/1/secrets/pw", "etag": '"e"', "annotations": annotations},
    )


def noted(cloud, annotations):
    secret(cloud, {})
    cloud.expect(
        "PATCH",
        SECRET,
        query={"updateMask": "annotations"},
        sent={"annotations": annotations, "etag": '"e"'},
        body={},
    )


def test_a_user_with_the_latest_password_is_left_alone(cloud, note):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 3)
    secret(cloud, {note: "3"})
    result = cloud.run(sql_user, **NAMES)
    assert not result["changed"]
    assert result["password_version"] == "projects/p/secrets/pw/versions/3"


def test_a_new_user_gets_the_password_and_it_is_nowhere_in_the_result(cloud, note):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="notFound")
    latest(cloud, 1)
    cloud.expect("GET", f"{SECRET}/versions/1:access", body=PAYLOAD)
    cloud.expect(
        "POST",
        USERS,
        sent={"type": "BUILT_IN", "password": PASSWORD, "name": "mlflow", "instance": "db", "project": "p"},
        body=DONE,
    )
    cloud.expect("GET", URL, body=USER)
    noted(cloud, {note: "1"})
    result = cloud.run(sql_user, **NAMES)
    assert result["changed"]
    assert PASSWORD not in json.dumps(result)


def test_not_waiting_does_not_return_the_password_either(cloud, note):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="notFound")
    latest(cloud, 1)
    cloud.expect("GET", "...versions/1:access", body=PAYLOAD)
    cloud.expect("POST", USERS, body=dict(DONE, status="RUNNING"))
    noted(cloud, {note: "1"})
    assert PASSWORD not in json.dumps(cloud.run(sql_user, wait=False, **NAMES))


def test_a_rotated_password_is_set(cloud, note):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 4)
    secret(cloud, {note: "3"})
    cloud.expect("GET", "...versions/4:access", body=PAYLOAD)
    cloud.expect("PUT", USERS, query={"name": "mlflow"}, sent={"name": "mlflow", "password": PASSWORD}, body=DONE)
    noted(cloud, {note: "4"})
    result = cloud.run(sql_user, **NAMES)
    assert result["diff"]["before"] == {"password": "version 3"}
    assert result["diff"]["after"] == {"password": "version 4"}


def test_check_mode_tells_a_rotation_and_reads_no_password(cloud, note):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 4)
    secret(cloud, {note: "3"})
    assert cloud.run(sql_user, True, **NAMES)["changed"]


@pytest.mark.parametrize(("adopt", "changed"), [(True, False), (False, True)])
def test_a_user_made_by_another_owner(cloud, note, adopt, changed):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 1)
    secret(cloud, {})
    if changed:
        cloud.expect("GET", "...versions/1:access", body=PAYLOAD)
        cloud.expect("PUT", USERS, body=DONE)
        noted(cloud, {note: "1"})
    assert cloud.run(sql_user, adopt=adopt, **NAMES)["changed"] is changed


def test_check_mode_on_an_empty_project(cloud):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="instanceDoesNotExist")
    cloud.expect_error("GET", f"{SECRET}/versions/latest", 404, code="NOT_FOUND")
    result = cloud.run(sql_user, True, **NAMES)
    assert result["diff"]["after"] == {
        "name": "projects/p/instances/db/users/mlflow",
        "type": "BUILT_IN",
        "password": "(not shown)",
    }


def test_another_run_was_faster(cloud, note):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="notFound")
    latest(cloud, 1)
    cloud.expect("GET", "...versions/1:access", body=PAYLOAD)
    cloud.expect_error("POST", USERS, 409, legacy=True, reason="alreadyExists")
    cloud.expect("GET", URL, body=USER)
    secret(cloud, {note: "1"})
    assert not cloud.run(sql_user, **NAMES)["changed"]


def test_a_service_account_needs_no_password_and_a_shorter_name(cloud):
    url = f"{USERS}/app@p.iam"
    cloud.expect("GET", INSTANCE, body={"databaseVersion": "POSTGRES_16"})
    cloud.expect_error("GET", url, 404, legacy=True, reason="notFound")
    cloud.expect(
        "POST",
        USERS,
        sent={"type": "CLOUD_IAM_SERVICE_ACCOUNT", "name": "app@p.iam", "instance": "db", "project": "p"},
        body=DONE,
    )
    cloud.expect("GET", url, body={"name": "app@p.iam", "type": "CLOUD_IAM_SERVICE_ACCOUNT"})
    assert cloud.run(sql_user, instance="db", name="app@p.iam.gserviceaccount.com", type="CLOUD_IAM_SERVICE_ACCOUNT")[
        "changed"
    ]


@pytest.mark.parametrize(("kind", "address"), [
    ("CLOUD_IAM_SERVICE_ACCOUNT", "app@p.iam.gserviceaccount.com"), ("CLOUD_IAM_USER", "app@example.com"),
])  # fmt: skip
def test_iam_users_of_mysql_are_made_by_address_and_named_without_it(cloud, kind, address):
    url = f"{USERS}/app"
    user = {"name": "app", "host": "%", "type": kind, "iamEmail": address}
    cloud.expect("GET", INSTANCE, body={"databaseVersion": "MYSQL_8_0"})
    cloud.expect_error("GET", url, 404, legacy=True, reason="notFound")
    cloud.expect("POST", USERS, sent={"type": kind, "name": address, "instance": "db", "project": "p"}, body=DONE)
    cloud.expect("GET", url, body=user)
    assert cloud.run(sql_user, instance="db", name=address, type=kind)["changed"]
    cloud.expect("GET", INSTANCE, body={"databaseVersion": "MYSQL_8_0"})
    cloud.expect("GET", url, body=user)
    assert not cloud.run(sql_user, instance="db", name=address, type=kind)["changed"]


def test_a_new_ordinary_user_needs_a_password(cloud):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="notFound")
    with pytest.raises(Failed, match="a new user needs a password"):
        cloud.run(sql_user, instance="db", name="mlflow")


def test_the_type_cannot_change(cloud):
    cloud.expect("GET", INSTANCE, body={"databaseVersion": "POSTGRES_16"})
    cloud.expect("GET", URL, body=USER)
    with pytest.raises(Failed, match="type cannot be changed"):
        cloud.run(sql_user, instance="db", name="mlflow", type="CLOUD_IAM_USER")


def test_the_host_of_mysql(cloud):
    cloud.expect("GET", URL, query={"host": "%"}, body=dict(USER, host="%"))
    assert not cloud.run(sql_user, instance="db", name="mlflow", host="%")["changed"]


def test_the_host_of_mysql_says_whose_password_changes(cloud, note):
    """Google returns it for every user, also if the task does not set it."""
    cloud.expect("GET", URL, body=dict(USER, host="%"))
    latest(cloud, 3)
    secret(cloud, {})
    cloud.expect("GET", "...versions/3:access", body=PAYLOAD)
    cloud.expect("PUT", USERS, query={"name": "mlflow", "host": "%"}, body=DONE)
    noted(cloud, {note: "3"})
    assert cloud.run(sql_user, **NAMES)["changed"]


def test_absent_with_a_host(cloud):
    cloud.expect("GET", URL, query={"host": "10.1.2.3"}, body=dict(USER, host="10.1.2.3"))
    cloud.expect("DELETE", USERS, query={"name": "mlflow", "host": "10.1.2.3"}, body=DONE)
    assert cloud.run(sql_user, instance="db", name="mlflow", host="10.1.2.3", state="absent")["changed"]


def test_absent(cloud):
    cloud.expect("GET", URL, body=USER)
    cloud.expect("DELETE", USERS, query={"name": "mlflow"}, body=DONE)
    assert cloud.run(sql_user, instance="db", name="mlflow", state="absent")["changed"]


def test_a_secret_that_another_client_changes_is_noted_again(cloud, note):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 4)
    secret(cloud, {note: "3"})
    cloud.expect("GET", "...versions/4:access", body=PAYLOAD)
    cloud.expect("PUT", USERS, body=DONE)
    secret(cloud, {note: "3"})
    stale = 'The provided etag ["e"] does not match the latest etag ["f"] of [projects/p/secrets/pw].'
    cloud.expect_error("PATCH", SECRET, 400, code="FAILED_PRECONDITION", message=stale)
    noted(cloud, {note: "4"})
    assert cloud.run(sql_user, **NAMES)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_disabled_api_is_an_empty_project_in_check_mode_only(cloud, check_mode):
    """The engine of the instance decides about the name of the user, so the instance is read first."""
    options = {"instance": "db", "name": "me@p.iam.gserviceaccount.com", "type": "CLOUD_IAM_SERVICE_ACCOUNT"}
    cloud.expect_disabled(INSTANCE, "sqladmin.googleapis.com")
    if not check_mode:
        with pytest.raises(Failed, match=r"The API sqladmin\.googleapis\.com is not enabled"):
            cloud.run(sql_user, **options)
        return
    cloud.expect_disabled(f"{USERS}/me@p.iam", "sqladmin.googleapis.com")
    assert cloud.run(sql_user, True, **options)["changed"]
    assert len(cloud.warnings) == 1 and "sqladmin.googleapis.com is not enabled" in cloud.warnings[0]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_password_in_an_api_that_is_disabled(cloud, check_mode):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    cloud.expect_disabled(f"{SECRET}/versions/latest", "secretmanager.googleapis.com")
    if check_mode:
        result = cloud.run(sql_user, True, **NAMES)
        assert result["changed"] and "password_version" not in result
    else:
        with pytest.raises(Failed, match=r"The API secretmanager\.googleapis\.com is not enabled"):
            cloud.run(sql_user, **NAMES)


def test_several_users_in_one_task(cloud, note):
    cloud.expect("GET", URL, body=USER)
    latest(cloud, 3)
    secret(cloud, {note: "3"})
    account = "server@p.iam"
    cloud.expect("GET", INSTANCE, body={"name": "db", "databaseVersion": "POSTGRES_16"})
    cloud.expect("GET", f"{USERS}/{account}", body={"name": account, "type": "CLOUD_IAM_SERVICE_ACCOUNT"})
    users = [
        {"name": "mlflow", "host": "", "password_secret": "projects/p/secrets/pw"},
        {"name": f"{account}.gserviceaccount.com", "type": "CLOUD_IAM_SERVICE_ACCOUNT"},
    ]
    result = cloud.run(sql_user, instance="db", users=users)
    assert not result["changed"]
    assert [(item["name"], item.get("password_version")) for item in result["results"]] == [
        ("mlflow", "projects/p/secrets/pw/versions/3"),
        (f"{account}.gserviceaccount.com", None),
    ]
