# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import iap_access
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

PROJECT = "https://cloudresourcemanager.googleapis.com/v3/projects/p"
APP = "https://appengine.googleapis.com/v1/apps/p"
IAP = "https://iap.googleapis.com/v1/projects/12/iap_web"
ROLE = "roles/iap.httpsResourceAccessor"
GROUP = "group:g@x.com"
USER = "user:a@x.com"


def protected(cloud, on=True):
    cloud.expect("GET", PROJECT, body={"name": "projects/12", "projectId": "p"})
    cloud.expect("GET", APP, body={"name": "apps/p", "iap": {"enabled": on}})


def policy(*members):
    bindings = [{"role": ROLE, "members": list(members)}] if members else []
    return {"etag": "e", "version": 1, "bindings": bindings}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "appengine-p"),
        ({"service": "s"}, "appengine-p/services/s"),
        ({"service": "s", "version": "v"}, "appengine-p/services/s/versions/v"),
    ],
)
def test_exactly_these_get_through(cloud, options, path):
    protected(cloud)
    cloud.expect("POST", f"{IAP}/{path}:getIamPolicy", body=policy(USER))
    cloud.expect("POST", f"{IAP}/{path}:setIamPolicy", sent={"policy": policy(GROUP)}, body=policy(GROUP))
    result = cloud.run(iap_access, type="app_engine", members=[GROUP], **options)
    assert result["changed"] and result["enabled"] is True
    assert result["protects"] == f"projects/12/iap_web/{path}"
    assert result["diff"]["before"] == {ROLE: [USER]}
    assert not cloud.warnings


def test_a_cloud_run_service(cloud):
    cloud.expect("GET", PROJECT, body={"name": "projects/12", "projectId": "p"})
    run = "https://run.googleapis.com/v2/projects/p/locations/europe-west1/services/s"
    cloud.expect("GET", run, body={"name": "s", "iapEnabled": True})
    cloud.expect("POST", f"{IAP}/cloud_run-europe-west1/services/s:getIamPolicy", body=policy(USER, GROUP))
    options = {"type": "cloud_run", "location": "europe-west1", "service": "s", "authoritative": False}
    assert not cloud.run(iap_access, members=["user:A@x.com"], **options)["changed"]


def test_a_proxy_that_is_off_is_reported(cloud):
    protected(cloud, on=False)
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy(USER))
    assert cloud.run(iap_access, type="app_engine", members=[USER])["enabled"] is False
    assert cloud.warnings == [
        "Identity-Aware Proxy is off for projects/12/iap_web/appengine-p: these members do not control access to it."
    ]


def test_in_check_mode_nothing_need_be_there(cloud):
    cloud.expect("GET", PROJECT, body={"name": "projects/12", "projectId": "p"})
    cloud.expect_error("GET", APP, 404, code="NOT_FOUND")
    cloud.expect_error("POST", f"{IAP}/appengine-p:getIamPolicy", 404, code="NOT_FOUND")
    result = cloud.run(iap_access, True, type="app_engine", members=[GROUP])
    assert result["diff"]["after"] == {ROLE: [GROUP]} and result["enabled"] is None
    assert not cloud.warnings


def test_a_condition(cloud):
    protected(cloud)
    condition = {"title": "office", "expression": '"accessPolicies/1/accessLevels/o" in request.auth.access_levels'}
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy(USER))
    bindings = [*policy(USER)["bindings"], {"role": ROLE, "members": [GROUP], "condition": condition}]
    sent = {"policy": {"etag": "e", "version": 3, "bindings": bindings}}
    cloud.expect("POST", f"{IAP}/appengine-p:setIamPolicy", sent=sent, body={})
    assert cloud.run(iap_access, type="app_engine", members=[GROUP], condition=condition)["changed"]


@pytest.mark.parametrize(("members", "left"), [([USER], [GROUP]), (None, [])])
def test_absent(cloud, members, left):
    protected(cloud, on=False)
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy(USER, GROUP))
    cloud.expect("POST", f"{IAP}/appengine-p:setIamPolicy", sent={"policy": policy(*left)}, body={})
    options = {} if members is None else {"members": members}
    assert cloud.run(iap_access, type="app_engine", state="absent", **options)["changed"]
    assert not cloud.warnings


def test_no_members(cloud):
    protected(cloud)
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy(USER))
    cloud.expect("POST", f"{IAP}/appengine-p:setIamPolicy", sent={"policy": policy()}, body={})
    assert cloud.run(iap_access, type="app_engine", members=[])["changed"]


def test_an_unknown_principal_is_named(cloud):
    protected(cloud)
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy())
    cloud.expect_error("POST", f"{IAP}/appengine-p:setIamPolicy", 400, message="Group g@x.com does not exist.")
    with pytest.raises(Failed, match=r"There is no group g@x\.com .*No role was changed"):
        cloud.run(iap_access, type="app_engine", members=[GROUP])


def test_a_principal_without_its_kind(cloud):
    protected(cloud)
    cloud.expect("POST", f"{IAP}/appengine-p:getIamPolicy", body=policy())
    with pytest.raises(Failed, match=r"'a@x\.com' is not a member"):
        cloud.run(iap_access, type="app_engine", members=["a@x.com"])
