# SPDX-License-Identifier: Apache-2.0
"""The options that modules of resources with an IAM policy share: bindings, bindings_authoritative and use."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.modules import (
    artifact_repository,
    secret,
    service_account,
    sql_instance,
    storage_bucket,
)
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

READER = {"role": "roles/viewer", "members": ["user:a@example.com"]}
OTHER = {"role": "roles/viewer", "members": ["user:b@example.com"]}
BOTH = {"role": "roles/viewer", "members": ["user:b@example.com", "user:a@example.com"]}
LABELS = {"mlflow-deployment": "demo"}
ACCOUNT = "https://iam.googleapis.com/v1/projects/p/serviceAccounts/account@p.iam.gserviceaccount.com"
REPOSITORY = "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories/x"
SECRET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/x"
BUCKET = "https://storage.googleapis.com/storage/v1/b/x"
INSTANCE = "https://sqladmin.googleapis.com/v1/projects/p/instances/x"

#: module, options, address, body, requests that read and write the policy, a setting that the body does not have
KINDS = {
    "bucket": (
        storage_bucket,
        {"name": "x"},
        BUCKET,
        {"name": "x", "labels": LABELS},
        (("GET", f"{BUCKET}/iam"), ("PUT", f"{BUCKET}/iam")),
        {"storage_class": "NEARLINE"},
    ),
    "repository": (
        artifact_repository,
        {"name": "x", "location": "l"},
        REPOSITORY,
        {"name": "projects/p/locations/l/repositories/x", "format": "DOCKER", "labels": LABELS},
        (("GET", f"{REPOSITORY}:getIamPolicy"), ("POST", f"{REPOSITORY}:setIamPolicy")),
        {"description": "another"},
    ),
    "account": (
        service_account,
        {"account_id": "account"},
        ACCOUNT,
        {"email": "account@p.iam.gserviceaccount.com", "description": "mlflow-deployment=demo"},
        (("POST", f"{ACCOUNT}:getIamPolicy"), ("POST", f"{ACCOUNT}:setIamPolicy")),
        {"display_name": "another", "disabled": True},
    ),
    "secret": (
        secret,
        {"name": "x"},
        SECRET,
        {"name": "projects/1/secrets/x", "labels": LABELS},
        (("GET", f"{SECRET}:getIamPolicy"), ("POST", f"{SECRET}:setIamPolicy")),
        {},
    ),
    "instance": (
        sql_instance,
        {"name": "x"},
        INSTANCE,
        {"name": "x", "state": "RUNNABLE", "settings": {"tier": "db-f1-micro", "userLabels": LABELS}},
        (),
        {"tier": "db-custom-1-3840"},
    ),
}
WITH_POLICY = [name for name, kind in KINDS.items() if kind[4]]
CAN_BE_USED = [name for name, kind in KINDS.items() if "use" in kind[0].OPTIONS.arguments]


def run(cloud, kind, check_mode=False, **options):
    module, own = KINDS[kind][:2]
    return cloud.run(module, check_mode, **own, **options)


def expect(cloud, kind, policy=None):
    _module, _options, url, body, requests, _setting = KINDS[kind]
    cloud.expect("GET", url, body=body)
    if policy is not None:
        cloud.expect(*requests[0], body={"bindings": policy, "etag": "1"})


def written(cloud, kind):
    cloud.expect(*KINDS[kind][4][1], body={})


def bindings(cloud):
    body = cloud.requests[-1].body
    return body.get("policy", body)["bindings"]


@pytest.mark.parametrize("kind", WITH_POLICY)
@pytest.mark.parametrize(("authoritative", "after"), [(False, BOTH), (True, READER)])
def test_members_are_added_or_become_exactly_those(cloud, kind, authoritative, after):
    expect(cloud, kind, [OTHER])
    written(cloud, kind)
    result = run(cloud, kind, bindings=[READER], bindings_authoritative=authoritative)
    assert result["changed"]
    assert bindings(cloud) == [after]


@pytest.mark.parametrize("kind", WITH_POLICY)
def test_a_policy_that_agrees_is_not_written(cloud, kind):
    expect(cloud, kind, [READER])
    assert not run(cloud, kind, bindings=[READER], bindings_authoritative=True)["changed"]


@pytest.mark.parametrize("kind", WITH_POLICY)
def test_check_mode_shows_the_change_of_the_policy(cloud, kind):
    expect(cloud, kind, [OTHER])
    result = run(cloud, kind, True, bindings=[READER], bindings_authoritative=True)
    assert result["diff"]["before"] == {"roles/viewer": ["user:b@example.com"]}
    assert result["diff"]["after"] == {"roles/viewer": ["user:a@example.com"]}


@pytest.mark.parametrize("kind", WITH_POLICY)
@pytest.mark.parametrize("options", [{"bindings": None}, {"bindings": []}, {}])
def test_without_bindings_the_policy_is_not_read(cloud, kind, options):
    expect(cloud, kind)
    assert not run(cloud, kind, **options)["changed"]


@pytest.mark.parametrize("kind", WITH_POLICY)
def test_no_member_of_an_adopted_resource_loses_a_role(cloud, kind):
    expect(cloud, kind, [OTHER])
    written(cloud, kind)
    owner = {"mlflow-deployment": "another"}
    run(cloud, kind, bindings=[READER], bindings_authoritative=True, owner=owner, adopt=True)
    assert bindings(cloud) == [BOTH]


@pytest.mark.parametrize("kind", CAN_BE_USED)
def test_a_used_resource_is_not_compared(cloud, kind):
    expect(cloud, kind)
    result = run(cloud, kind, use=True, owner={"mlflow-deployment": "another"}, **KINDS[kind][5])
    assert not result["changed"]
    assert result["relation"] == "used"


@pytest.mark.parametrize("kind", sorted({*CAN_BE_USED} & {*WITH_POLICY}))
def test_no_member_of_a_used_resource_loses_a_role(cloud, kind):
    expect(cloud, kind, [OTHER])
    written(cloud, kind)
    assert run(cloud, kind, use=True, bindings=[READER], bindings_authoritative=True)["changed"]
    assert bindings(cloud) == [BOTH]


@pytest.mark.parametrize("kind", CAN_BE_USED)
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_used_resource_must_exist(cloud, kind, check_mode):
    cloud.expect_error("GET", KINDS[kind][2], 404, reason="notFound")
    with pytest.raises(Failed, match=r"does not exist, and with use: true it is not created.*name and location"):
        run(cloud, kind, check_mode, use=True)


@pytest.mark.parametrize("kind", CAN_BE_USED)
def test_a_used_resource_is_never_deleted(cloud, kind):
    result = run(cloud, kind, use=True, state="absent")
    assert not result["changed"]
    assert "only used" in result["msg"]
