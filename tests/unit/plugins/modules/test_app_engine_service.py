# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import app_engine_service
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

V1 = "https://appengine.googleapis.com/v1"
URL = f"{V1}/apps/p/services/default"
SERVICE = {
    "name": "apps/p/services/default",
    "id": "default",
    "split": {"allocations": {"v1": 1}},
    "networkSettings": {"ingressTrafficAllowed": "INGRESS_TRAFFIC_ALLOWED_ALL"},
}
OPERATION = {"name": "apps/p/operations/1", "done": True, "response": SERVICE}


def versions(cloud, *names, **body):
    for name in names:
        version = dict({"servingStatus": "SERVING", "env": "flexible"}, **body)
        cloud.expect("GET", f"{URL}/versions/{name}", query={"view": "FULL"}, body=version)


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    assert not cloud.run(app_engine_service, allocations={"v1": 1.0})["changed"]


def test_a_shard_that_is_there_is_left_alone(cloud):
    split = {"allocations": {"v1": 0.5, "v2": 0.5}, "shardBy": "IP"}
    cloud.expect("GET", URL, body=dict(SERVICE, split=split))
    assert not cloud.run(app_engine_service, allocations={"v1": 0.5, "v2": 0.5})["changed"]


def test_all_requests_to_another_version(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    versions(cloud, "v2")
    cloud.expect(
        "PATCH", URL, query={"updateMask": "split"}, sent={"split": {"allocations": {"v2": 1.0}}}, body=OPERATION
    )
    result = cloud.run(app_engine_service, allocations={"v2": 1})
    assert result["diff"]["before"]["split"] == {"allocations": {"v1": 1}}
    assert result["diff"]["after"]["split"] == {"allocations": {"v2": 1.0}}


def test_a_split(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    versions(cloud, "v1", "20261124")
    split = {"allocations": {"v1": 0.875, "20261124": 0.125}, "shardBy": "COOKIE"}
    cloud.expect("PATCH", URL, query={"updateMask": "split"}, sent={"split": split}, body=OPERATION)
    options = {"allocations": {"v1": "0.875", 20261124: "0.125"}, "shard_by": "COOKIE"}
    assert cloud.run(app_engine_service, **options)["changed"]


def test_a_split_needs_something_to_split_by(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    with pytest.raises(Failed, match=r"has no way to split requests yet. Set shard_by"):
        cloud.run(app_engine_service, allocations={"v1": 0.5, "v2": 0.5})


@pytest.mark.parametrize(
    ("allocations", "shard_by", "text"),
    [
        ({"v1": 0.5, "v2": 0.4}, "IP", "sum to 0.9 and not to 1"),
        ({}, "IP", "sum to 0 and not to 1"),
        ({"v1": 1, "v2": 0}, "IP", "allocations.v2 is 0"),
        ({"v1": 1.5, "v2": -0.5}, "IP", "allocations.v1 is 1.5"),
        ({"v1": "most"}, "RANDOM", "allocations.v1 is 'most', which is not a number"),
        ({"v1": 0.875, "v2": 0.125}, "IP", "has more than 2 decimal places"),
        ({"v1": 0.9995, "v2": 0.0005}, "COOKIE", "has more than 3 decimal places"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_shares_that_cannot_be(cloud, allocations, shard_by, text, check_mode):
    with pytest.raises(Failed, match=text):
        cloud.run(app_engine_service, check_mode, allocations=allocations, shard_by=shard_by)


@pytest.mark.parametrize("state", [None, "STOPPED"])
def test_a_version_that_does_not_serve_is_refused(cloud, state):
    cloud.expect("GET", URL, body=SERVICE)
    versions(cloud, "v1")
    if state:
        versions(cloud, "v2", servingStatus=state)
    else:
        cloud.expect_error("GET", f"{URL}/versions/v2", 404, code="NOT_FOUND")
    text = "Version v2 .* is STOPPED.*Nothing was changed" if state else "Version v2 .* does not exist"
    with pytest.raises(Failed, match=text):
        cloud.run(app_engine_service, allocations={"v1": 0.5, "v2": 0.5}, shard_by="IP")


def test_in_check_mode_versions_need_not_be_there(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    result = cloud.run(app_engine_service, True, allocations={"v2": 1})
    assert result["changed"]
    assert result["diff"]["after"]["split"] == {"allocations": {"v2": 1.0}}


def test_a_service_comes_with_its_first_version(cloud):
    cloud.expect_error("GET", URL, 404, code="NOT_FOUND")
    with pytest.raises(Failed, match=r"does not exist. It comes with its first version"):
        cloud.run(app_engine_service, allocations={"v2": 1})


def test_bit_by_bit(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    versions(cloud, "v2", env="standard")
    query = {"migrateTraffic": "true", "updateMask": "split"}
    split = {"allocations": {"v2": 1.0}, "shardBy": "IP"}
    cloud.expect("PATCH", URL, query=query, sent={"split": split}, body=OPERATION)
    assert cloud.run(app_engine_service, allocations={"v2": 1}, shard_by="IP", migrate_traffic=True)["changed"]


def test_not_bit_by_bit_in_the_flexible_environment(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    versions(cloud, "v2")
    with pytest.raises(Failed, match=r"Version v2 .* is in the flexible environment.*Remove migrate_traffic"):
        cloud.run(app_engine_service, allocations={"v2": 1}, shard_by="IP", migrate_traffic=True)


def test_ingress_and_labels_leave_the_split_alone(cloud):
    cloud.expect("GET", URL, body=SERVICE)
    sent = {
        "labels": {"tier": "1"},
        "networkSettings": {"ingressTrafficAllowed": "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"},
    }
    cloud.expect("PATCH", URL, query={"updateMask": "labels,networkSettings"}, sent=sent, body=OPERATION)
    options = {"labels": {"tier": 1}, "ingress": "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"}
    assert cloud.run(app_engine_service, **options)["changed"]


def test_absent(cloud):
    url = f"{V1}/apps/p/services/mlflow"
    cloud.expect("GET", url, body=dict(SERVICE, name="apps/p/services/mlflow"))
    cloud.expect("DELETE", url, body={"name": "apps/p/operations/1", "done": True})
    assert cloud.run(app_engine_service, name="mlflow", state="absent")["changed"]


def test_the_default_service_stays(cloud):
    with pytest.raises(Failed, match=r"The service default cannot be deleted.*serving_status: USER_DISABLED"):
        cloud.run(app_engine_service, state="absent")


@pytest.mark.parametrize("ingress", ["ALL", "INTERNAL_ONLY"])
def test_a_service_without_an_ingress_setting_accepts_all_requests(cloud, ingress):
    """A service that returns no setting has the default; any other one must be set."""
    bare = {name: value for name, value in SERVICE.items() if name != "networkSettings"}
    cloud.expect("GET", URL, body=bare)
    if ingress != "ALL":
        cloud.expect("PATCH", URL, query={"updateMask": "networkSettings"}, body=OPERATION)
    result = cloud.run(app_engine_service, name="default", ingress=f"INGRESS_TRAFFIC_ALLOWED_{ingress}")
    assert result["changed"] == (ingress != "ALL")
