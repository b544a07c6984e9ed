# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy
from ansible_collections.mlplatform.gcp.plugins.modules import iam_bindings_info

URL = "https://secretmanager.googleapis.com/v1/projects/p/secrets/{}:getIamPolicy"
ROLE, ADA, EVE = "roles/secretmanager.secretAccessor", "user:ada@example.com", "user:eve@example.com"


@pytest.fixture(autouse=True)
def _in_order(monkeypatch):
    """Read one policy after another: the script has an order."""
    monkeypatch.setattr(_policy, "_SIDE_BY_SIDE", 1)


def grant(name, *members, **more):
    resource = f"//secretmanager.googleapis.com/projects/p/secrets/{name}"
    return {"resource": resource, "bindings": [{"role": ROLE, "members": list(members)}], **more}


def policy(*members, **more):
    return {"etag": "e", "bindings": [{"role": ROLE, "members": list(members), **more}]}


def test_what_differs_is_listed_by_role_resource_and_member(cloud):
    cloud.expect("GET", URL.format("a"), body=policy(EVE))
    cloud.expect("GET", URL.format("b"), body=policy(ADA, EVE))
    cloud.expect("GET", URL.format("c"), body=policy(ADA, EVE))
    grants = [grant("a", ADA), grant("b", ADA, exact=True), grant("c", ADA)]
    assert cloud.run(iam_bindings_info, grants=grants)["differences"] == [
        f"{ROLE} is missing on secret projects/p/secrets/a: {ADA}",
        f"{ROLE} on secret projects/p/secrets/b has a member that no variable names: {EVE}",
    ]


def test_a_role_with_another_condition_is_missing(cloud):
    cloud.expect("GET", URL.format("a"), body=policy(ADA, condition={"title": "t", "expression": "false"}))
    (line,) = cloud.run(iam_bindings_info, grants=[grant("a", ADA)])["differences"]
    assert "is missing" in line


def test_a_resource_that_does_not_exist_has_no_roles(cloud):
    cloud.expect_error("GET", URL.format("a"), 404, code="NOT_FOUND")
    (line,) = cloud.run(iam_bindings_info, grants=[grant("a", ADA)])["differences"]
    assert line == "secret projects/p/secrets/a does not exist, and with it the roles on it"


def test_a_policy_that_is_not_readable_is_a_warning(cloud):
    cloud.expect_error("GET", URL.format("a"), 403, code="PERMISSION_DENIED", message="no")
    result = cloud.run(iam_bindings_info, grants=[grant("a", ADA)])
    assert (result["differences"], len(result["unreadable"])) == ([], 1)
    assert "The roles on secret projects/p/secrets/a were not compared" in cloud.warnings[0]


RING_NAME = "projects/p/locations/l/keyRings/r"
RING = f"https://cloudkms.googleapis.com/v1/{RING_NAME}"
OF_KEY = {
    "resource": f"//cloudkms.googleapis.com/{RING_NAME}/cryptoKeys/k",
    "above": [f"//cloudkms.googleapis.com/{RING_NAME}"],
}


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ([], [f"{ROLE} is missing on key projects/p/locations/l/keyRings/r/cryptoKeys/k: {ADA}"]),
        ([ADA], []),
        (None, []),
    ],
)
def test_a_role_that_is_granted_above_the_resource_is_not_missing(cloud, ring, expected):
    cloud.expect("GET", f"{RING}/cryptoKeys/k:getIamPolicy", body=policy(EVE))
    if ring is None:
        cloud.expect_error("GET", f"{RING}:getIamPolicy", 403, code="PERMISSION_DENIED", message="no")
    else:
        cloud.expect("GET", f"{RING}:getIamPolicy", body=policy(*ring))
    result = cloud.run(iam_bindings_info, grants=[OF_KEY | {"bindings": [{"role": ROLE, "members": [ADA]}]}])
    assert result["differences"] == expected
    assert len(cloud.warnings) == len(result["unreadable"]) == (ring is None)


def test_the_policies_above_are_read_only_where_a_role_is_missing(cloud):
    cloud.expect("GET", f"{RING}/cryptoKeys/k:getIamPolicy", body=policy(ADA))
    result = cloud.run(iam_bindings_info, grants=[OF_KEY | {"bindings": [{"role": ROLE, "members": [ADA]}]}])
    assert result["differences"] == []
