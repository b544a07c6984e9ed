# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _shared
from ansible_collections.mlplatform.gcp.plugins.modules import project_services
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

BASE = "https://serviceusage.googleapis.com/v1"
URL = f"{BASE}/projects/p/services"


def page(*names, **more):
    return dict({"services": [{"name": f"projects/1/services/{name}"} for name in names]}, **more)


def test_nothing_to_do_is_one_request(cloud):
    cloud.expect("GET", URL, body=page("a.googleapis.com", "b.googleapis.com"))
    result = cloud.run(project_services, services=["b.googleapis.com", "a.googleapis.com"])
    assert not result["changed"]
    assert cloud.requests[0].query["filter"] == "state:ENABLED"


def test_more_pages(cloud):
    cloud.expect("GET", URL, body=page("a", nextPageToken="t"))
    cloud.expect("GET", URL, body=page("b"))
    assert not cloud.run(project_services, services=["b", "a"])["changed"]
    assert cloud.requests[1].query["pageToken"] == "t"


def test_enables_20_at_a_time(cloud):
    names = [f"s{number:02}" for number in range(25)]
    cloud.expect("GET", URL, body=page("s03"))
    todo = [name for name in names if name != "s03"]
    cloud.expect("POST", f"{URL}:batchEnable", sent={"serviceIds": todo[:20]}, body={"name": "operations/1"})
    cloud.expect(
        "POST", f"{URL}:batchEnable", sent={"serviceIds": todo[20:]}, body={"name": "operations/2", "done": True}
    )
    cloud.expect("GET", f"{BASE}/operations/1", body={"name": "operations/1", "done": True, "response": {}})
    result = cloud.run(project_services, services=names)
    assert result["changed"]
    assert result["diff"]["before"] == {"services": ["s03"]}
    assert result["resource"] == {"project": "p", "services": names}


def test_check_mode_remembers_what_it_would_enable(cloud, monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    cloud.expect("GET", URL, body={})
    assert cloud.run(project_services, True, services=["a"])["changed"]
    assert _shared.recall("enable:p:a")


def test_without_waiting(cloud):
    cloud.expect("GET", URL, body={})
    cloud.expect("POST", f"{URL}:batchEnable", body={"name": "operations/1"})
    assert cloud.run(project_services, services=["a"], wait=False)["operation"] == ["operations/1"]


def test_what_could_not_be_enabled_is_named(cloud):
    cloud.expect("GET", URL, body={})
    failures = [{"serviceId": "a", "errorMessage": "terms of service"}]
    cloud.expect("POST", f"{URL}:batchEnable", body={"name": "o", "done": True, "response": {"failures": failures}})
    with pytest.raises(Failed, match="a: terms of service"):
        cloud.run(project_services, services=["a"])


@pytest.mark.parametrize("check_mode", [True, False])
def test_disable(cloud, check_mode):
    cloud.expect("GET", URL, body=page("a", "b"))
    if not check_mode:
        cloud.expect(
            "POST", f"{URL}/a:disable", sent={"disableDependentServices": True}, body={"name": "o", "done": True}
        )
    result = cloud.run(project_services, check_mode, services=["a", "c"], state="absent", disable_dependents=True)
    assert result["changed"]
    assert (result["diff"]["before"], result["diff"]["after"]) == ({"services": ["a"]}, {"services": []})
    assert result["changes"] == [
        {
            "kind": "project",
            "name": "projects/p",
            "action": "change",
            "fields": [{"path": "services", "before": ["a"], "after": []}],
            "implies": [],
        }
    ]
