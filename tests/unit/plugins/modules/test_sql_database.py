# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import sql_database
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BASE = "https://sqladmin.googleapis.com/v1/projects/p/instances/db/databases"
URL = f"{BASE}/mlflow"
DONE = {"name": "op", "status": "DONE", "targetProject": "p"}
DATABASE = {"name": "mlflow", "charset": "UTF8", "collation": "en_US.UTF8", "instance": "db", "project": "p"}


def test_nothing_to_do_whatever_the_case_of_the_charset(cloud):
    cloud.expect("GET", URL, body=DATABASE)
    assert not cloud.run(sql_database, instance="db", name="mlflow", charset="utf8")["changed"]


def test_mysql_has_two_names_for_one_charset(cloud):
    cloud.expect("GET", URL, body=dict(DATABASE, charset="utf8mb3", collation="utf8mb3_general_ci"))
    options = {"charset": "utf8", "collation": "utf8_general_ci"}
    assert not cloud.run(sql_database, instance="db", name="mlflow", **options)["changed"]
    cloud.expect("GET", URL, body=dict(DATABASE, charset="utf8mb3", collation="utf8mb3_general_ci"))
    with pytest.raises(Failed, match="charset cannot be changed"):
        cloud.run(sql_database, instance="db", name="mlflow", charset="utf8mb4")


def test_create(cloud):
    cloud.expect_error("GET", URL, 404, legacy=True, reason="notFound")
    cloud.expect("POST", BASE, sent={"name": "mlflow", "instance": "db", "project": "p"}, body=DONE)
    cloud.expect("GET", URL, body=DATABASE)
    assert cloud.run(sql_database, instance="db", name="mlflow")["resource"] == DATABASE


def test_the_charset_cannot_change(cloud):
    cloud.expect("GET", URL, body=DATABASE)
    with pytest.raises(Failed, match="charset cannot be changed"):
        cloud.run(sql_database, instance="db", name="mlflow", charset="LATIN1")


def test_absent(cloud):
    cloud.expect("GET", URL, body=DATABASE)
    cloud.expect("DELETE", URL, body=DONE)
    assert cloud.run(sql_database, instance="db", name="mlflow", state="absent")["changed"]


NOT_RUNNING = "Invalid request: Invalid request since instance is not running."
INSTANCE = "https://sqladmin.googleapis.com/v1/projects/p/instances/db"


def test_an_instance_that_is_being_created_is_waited_for(cloud):
    cloud.expect_error("GET", URL, 400, message=NOT_RUNNING, legacy=True, reason="invalid")
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "PENDING_CREATE"})
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "RUNNABLE"})
    cloud.expect("GET", URL, body=DATABASE)
    assert not cloud.run(sql_database, instance="db", name="mlflow")["changed"]


def test_check_mode_does_not_wait_for_an_instance(cloud):
    cloud.expect_error("GET", URL, 400, message=NOT_RUNNING, legacy=True, reason="invalid")
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "PENDING_CREATE"})
    assert cloud.run(sql_database, True, instance="db", name="mlflow")["changed"]


def test_an_instance_that_is_stopped_is_not_waited_for(cloud):
    cloud.expect_error("GET", URL, 400, message=NOT_RUNNING, legacy=True, reason="invalid")
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "RUNNABLE", "settings": {"activationPolicy": "NEVER"}})
    with pytest.raises(Failed, match="instance is not running"):
        cloud.run(sql_database, instance="db", name="mlflow")


def test_an_instance_that_could_not_be_created(cloud):
    cloud.expect_error("GET", URL, 400, message=NOT_RUNNING, legacy=True, reason="invalid")
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "PENDING_CREATE"})
    cloud.expect("GET", INSTANCE, body={"name": "db", "state": "FAILED"})
    with pytest.raises(Failed, match="FAILED"):
        cloud.run(sql_database, instance="db", name="mlflow")


def test_what_else_is_refused(cloud):
    cloud.expect_error("GET", URL, 400, message="Nonsense.", legacy=True, reason="invalid")
    with pytest.raises(Failed, match="Nonsense"):
        cloud.run(sql_database, instance="db", name="mlflow")


def test_several_databases_in_one_task(cloud):
    cloud.expect("GET", URL, body={"name": "mlflow", "charset": "UTF8"})
    cloud.expect_error("GET", f"{BASE}/auth", 404, legacy=True, reason="notFound")
    sent = {"name": "auth", "instance": "db", "project": "p", "charset": "LATIN1"}
    cloud.expect("POST", BASE, sent=sent, body={"name": "op", "status": "DONE", "targetProject": "p"})
    cloud.expect("GET", f"{BASE}/auth", body={"name": "auth", "charset": "LATIN1"})
    # Empty text counts as not given.
    databases = [{"name": "mlflow", "charset": "UTF8", "collation": ""}, {"name": "auth", "charset": "LATIN1"}]
    result = cloud.run(sql_database, instance="db", databases=databases)
    assert result["changed"]
    assert [(item["name"], item["resource"]["charset"]) for item in result["results"]] == [
        ("mlflow", "UTF8"),
        ("auth", "LATIN1"),
    ]
