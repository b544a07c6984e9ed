# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _policy, _shared

SECRET = "//secretmanager.googleapis.com/projects/p/secrets/s"
GET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s:getIamPolicy"
SET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s:setIamPolicy"
ROLE = "roles/secretmanager.secretAccessor"
ACCOUNT = "new@p.iam.gserviceaccount.com"
UNKNOWN = {"code": "INVALID_ARGUMENT", "message": f"Service account {ACCOUNT} does not exist."}


def binding(*members, role=ROLE, condition=None):
    made = {"role": role, "members": list(members)}
    return dict(made, condition=condition) if condition else made


@pytest.mark.parametrize(
    ("resource", "method", "get", "query", "sent"),
    [
        (
            "//cloudresourcemanager.googleapis.com/projects/p",
            "POST",
            "https://cloudresourcemanager.googleapis.com/v3/projects/p:getIamPolicy",
            None,
            {"options": {"requestedPolicyVersion": 3}},
        ),
        (
            "//iam.googleapis.com/projects/p/serviceAccounts/a@p.iam.gserviceaccount.com",
            "POST",
            "https://iam.googleapis.com/v1/projects/p/serviceAccounts/a@p.iam.gserviceaccount.com:getIamPolicy",
            {"options.requestedPolicyVersion": "3"},
            {},
        ),
        (SECRET, "GET", GET, {"options.requestedPolicyVersion": "3"}, None),
        (
            "//storage.googleapis.com/projects/_/buckets/b",
            "GET",
            "https://storage.googleapis.com/storage/v1/b/b/iam",
            {"optionsRequestedPolicyVersion": 3},
            None,
        ),
        (
            "//artifactregistry.googleapis.com/projects/p/locations/l/repositories/r",
            "GET",
            "https://artifactregistry.googleapis.com/v1/projects/p/locations/l/repositories/r:getIamPolicy",
            None,
            None,
        ),
        (
            "//run.googleapis.com/projects/p/locations/l/services/s",
            "GET",
            "https://run.googleapis.com/v2/projects/p/locations/l/services/s:getIamPolicy",
            None,
            None,
        ),
        (
            "//run.googleapis.com/projects/p/locations/l/jobs/j",
            "GET",
            "https://run.googleapis.com/v2/projects/p/locations/l/jobs/j:getIamPolicy",
            None,
            None,
        ),
        (
            "//compute.googleapis.com/projects/p/regions/r/subnetworks/s",
            "GET",
            "https://compute.googleapis.com/compute/v1/projects/p/regions/r/subnetworks/s/getIamPolicy",
            {"optionsRequestedPolicyVersion": "3"},
            None,
        ),
        (
            "//iap.googleapis.com/projects/1/iap_web/cloud_run-l/services/s",
            "POST",
            "https://iap.googleapis.com/v1/projects/1/iap_web/cloud_run-l/services/s:getIamPolicy",
            None,
            {"options": {"requestedPolicyVersion": 3}},
        ),
    ],
)
def test_addresses(cloud, resource, method, get, query, sent):
    cloud.expect(method, get, query=query, sent=sent, body={"etag": "e"})
    assert _policy.PolicyAddress(resource).read(cloud.client) == {"etag": "e"}
    cloud.done()
    set_url = get.replace("getIamPolicy", "setIamPolicy")
    wanted = {"bindings": []}
    if "storage" in resource:
        cloud.expect("PUT", get, sent=wanted)
    else:
        cloud.expect("POST", set_url, sent={"policy": wanted})
    _policy.PolicyAddress(resource).write(cloud.client, wanted)
    cloud.done()


@pytest.mark.parametrize("resource", ["projects/p", "//secretmanager.googleapis.com/projects/p", "//x.com/y", ""])
def test_unknown_resources(resource):
    with pytest.raises(_errors.UserError, match="full resource name"):
        _policy.PolicyAddress(resource)


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("User:Alice@Example.com", "user:alice@example.com"),
        ("serviceaccount:X@p.iam.gserviceaccount.com", "serviceAccount:x@p.iam.gserviceaccount.com"),
        ("allusers", "allUsers"),
        (" group:g@example.com ", "group:g@example.com"),
        ("principalSet://iam.googleapis.com/Pool/X", "principalSet://iam.googleapis.com/Pool/X"),
        ("deleted:serviceAccount:a@b?uid=1", "deleted:serviceAccount:a@b?uid=1"),
    ],
)
def test_members(text, member):
    assert _policy.member(text) == member


@pytest.mark.parametrize("text", ["alice@example.com", "people:x", "", "user"])
def test_not_members(text):
    with pytest.raises(_errors.UserError, match="serviceAccount:"):
        _policy.member(text)


def test_additive():
    policy = {
        "etag": "e",
        "version": 1,
        "bindings": [binding("user:a@x.com"), binding("user:z@x.com", role="roles/other")],
    }
    step = _policy.plan(policy, [binding("user:B@x.com"), binding("user:a@x.com")])
    assert step.changed
    assert step.before == {ROLE: ["user:a@x.com"]}
    assert step.after == {ROLE: ["user:a@x.com", "user:b@x.com"]}
    assert step.policy == {
        "etag": "e",
        "version": 1,
        "bindings": [binding("user:z@x.com", role="roles/other"), binding("user:a@x.com", "user:b@x.com")],
    }
    assert not _policy.plan(step.policy, [binding("USER:a@x.com")]).changed


def test_authoritative_and_deleted_members():
    ghost = "deleted:serviceAccount:a@p.iam.gserviceaccount.com?uid=1"
    alive = "serviceAccount:a@p.iam.gserviceaccount.com"
    policy = {"bindings": [binding(ghost, "user:x@x.com")]}
    added = _policy.plan(policy, [binding(alive)])
    assert added.policy["bindings"] == [binding(ghost, "user:x@x.com", alive)]
    exact = _policy.plan(policy, [binding(alive)], authoritative=True)
    assert exact.policy["bindings"] == [binding(alive)]
    assert not _policy.plan(exact.policy, [binding(alive)], authoritative=True).changed


def test_spelling_of_what_is_there_is_kept():
    policy = {"bindings": [binding("user:Alice@X.com", "odd")]}
    assert not _policy.plan(policy, [binding("user:alice@x.com")]).changed
    step = _policy.plan(policy, [binding("user:b@x.com")])
    assert step.policy["bindings"] == [binding("user:Alice@X.com", "odd", "user:b@x.com")]


def test_absent():
    policy = {"bindings": [binding("user:a@x.com", "user:b@x.com")]}
    assert _policy.plan(policy, [binding("user:a@x.com")], absent=True).policy["bindings"] == [binding("user:b@x.com")]
    assert _policy.plan(policy, [binding()], absent=True).policy["bindings"] == []
    assert _policy.plan(policy, [binding("user:a@x.com")], absent=True, authoritative=True).policy["bindings"] == []
    assert not _policy.plan(policy, [binding("user:c@x.com")], absent=True).changed
    assert not _policy.plan({}, [binding("user:c@x.com")], absent=True).changed


def test_conditions_make_another_binding():
    until = {"title": "until 2027", "expression": "request.time < x"}
    policy = {"version": 1, "bindings": [binding("user:a@x.com")]}
    step = _policy.plan(policy, [binding("user:a@x.com", condition=dict(until, description=None))])
    assert step.policy["version"] == 3
    assert step.policy["bindings"] == [binding("user:a@x.com"), binding("user:a@x.com", condition=until)]
    assert step.after == {f"{ROLE} if until 2027": ["user:a@x.com"]}
    assert not _policy.plan(step.policy, [binding("user:a@x.com", condition=until)]).changed


def test_a_role_that_stands_twice_is_one_binding_afterwards():
    policy = {"bindings": [binding("user:a@x.com"), binding("user:b@x.com")]}
    assert _policy.plan(policy, [binding("user:c@x.com")]).policy["bindings"] == [
        binding("user:a@x.com", "user:b@x.com", "user:c@x.com")
    ]


def test_audit_settings_survive():
    policy = {"etag": "e", "auditConfigs": [{"service": "allServices"}], "kind": "storage#policy", "resourceId": "x"}
    after = _policy.plan(policy, [binding("user:a@x.com")]).policy
    assert after["auditConfigs"] == policy["auditConfigs"] and after["etag"] == "e"
    assert "kind" not in after


def ensure(cloud, *wanted, check_mode=False, **options):
    return _policy.ensure(
        cloud.task({"project": "p", "wait_timeout": 600}, check_mode), SECRET, list(wanted), **options
    )


def test_one_write_for_all_bindings(cloud):
    cloud.expect("GET", GET, body={"etag": "e"})
    cloud.expect("POST", SET, body={"etag": "f"})
    assert ensure(cloud, binding("user:a@x.com"), binding("user:a@x.com", role="roles/other")).changed
    cloud.done()


def test_no_write_when_nothing_differs_or_in_check_mode(cloud):
    cloud.expect("GET", GET, body={"etag": "e", "bindings": [binding("user:a@x.com")]})
    assert not ensure(cloud, binding("user:a@x.com")).changed
    cloud.expect("GET", GET, body={"etag": "e"})
    assert ensure(cloud, binding("user:a@x.com"), check_mode=True).changed
    cloud.done()


def test_changed_by_another_owner(cloud):
    cloud.expect("GET", GET, body={"etag": "1"})
    cloud.expect_error("POST", SET, 409, code="ABORTED")
    cloud.expect("GET", GET, body={"etag": "2", "bindings": [binding("user:z@x.com")]})
    both = {"etag": "2", "bindings": [binding("user:z@x.com", "user:a@x.com")], "version": 1}
    cloud.expect("POST", SET, sent={"policy": both})
    assert ensure(cloud, binding("user:a@x.com")).changed
    cloud.done()


def test_that_ends(cloud):
    for _again in range(8):
        cloud.expect("GET", GET, body={"etag": "1"})
        cloud.expect_error("POST", SET, 409, code="ABORTED")
    with pytest.raises(_errors.Conflict):
        ensure(cloud, binding("user:a@x.com"))
    cloud.done()


def test_waits_for_an_account_that_was_just_made(cloud):
    cloud.expect("GET", GET, body={"etag": "1"})
    for _again in range(2):
        cloud.expect_error("POST", SET, 400, **UNKNOWN)
        cloud.expect("GET", f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}", body={})
    cloud.expect("POST", SET, body={})
    assert ensure(cloud, binding(f"serviceAccount:{ACCOUNT}")).changed
    cloud.done()


def test_does_not_wait_for_an_account_that_is_not_there(cloud):
    cloud.expect("GET", GET, body={"etag": "1"})
    cloud.expect_error("POST", SET, 400, **UNKNOWN)
    cloud.expect_error("GET", f".../serviceAccounts/{ACCOUNT}", 404)
    with pytest.raises(_errors.UserError, match=f"{ACCOUNT} does not exist"):
        ensure(cloud, binding(f"serviceAccount:{ACCOUNT}"))
    assert cloud.clock.slept == []


def test_waits_when_it_may_not_look(cloud):
    cloud.expect("GET", GET, body={"etag": "1"})
    cloud.expect_error("POST", SET, 400, **UNKNOWN)
    cloud.expect_error("GET", f".../serviceAccounts/{ACCOUNT}", 403)
    cloud.expect("POST", SET, body={})
    assert ensure(cloud, binding(f"serviceAccount:{ACCOUNT}")).changed


@pytest.mark.parametrize(
    "agent",
    [
        "service-1@gcp-sa-iap.iam.gserviceaccount.com",
        "service-1@gae-api-prod.google.com.iam.gserviceaccount.com",
        "p@appspot.gserviceaccount.com",
    ],
)
def test_googles_accounts_are_not_looked_up_and_not_waited_for_without_end(cloud, agent):
    cloud.expect("GET", GET, body={"etag": "1"})
    for _again in range(_policy.NEW_ACCOUNT_SECONDS // 4 + 1):
        cloud.expect_error("POST", SET, 400, message=f"Service account {agent} does not exist.")
    with pytest.raises(_errors.InvalidRequest):
        ensure(cloud, binding(f"serviceAccount:{agent}"))
    cloud.done()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (
            "User a@x.com does not exist.",
            "There is no user a@x.com to have a role on .*/secrets/s. No role was changed",
        ),
        ("Group g@x.com does not exist.", "There is no group g@x.com"),
        ("Domain x.com does not exist.", "There is no domain x.com"),
        (
            "One or more users named in the policy do not belong to a permitted customer.",
            "does not permit all .* constraints/iam.allowedPolicyMemberDomains lists the permitted domains",
        ),
    ],
)
def test_members_that_cannot_be_are_named(cloud, text, reported):
    cloud.expect("GET", GET, body={"etag": "1"})
    cloud.expect_error("POST", SET, 400, code="INVALID_ARGUMENT", message=text)
    with pytest.raises(_errors.UserError, match=reported) as raised:
        ensure(cloud, binding("user:a@x.com"))
    assert raised.value.hint


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("iap_web", "iap.web"),
        ("iap_web/appengine-p", "iap.webTypes"),
        ("iap_web/appengine-p/services/default", "iap.webServices"),
        ("iap_web/appengine-p/services/default/versions/v1", "iap.webServiceVersions"),
        ("iap_web/cloud_run-europe-west1/services/s", "iap.webServices"),
        ("iap_tunnel/zones/z", "iap.tunnel"),
    ],
)
def test_the_permission_on_what_the_proxy_protects(cloud, path, permission):
    url = f"https://iap.googleapis.com/v1/projects/1/{path}:getIamPolicy"
    cloud.expect_error("POST", url, 403, code="PERMISSION_DENIED", message="The caller does not have permission")
    with pytest.raises(_errors.PermissionDenied) as raised:
        _policy.PolicyAddress(f"//iap.googleapis.com/projects/1/{path}").read(cloud.client)
    assert raised.value.facts["permission"] == f"{permission}.getIamPolicy"


def test_other_refusals_are_not_waited_for(cloud):
    cloud.expect("GET", GET, body={"etag": "1"})
    cloud.expect_error("POST", SET, 400, message="Role roles/x is not supported for this resource.")
    with pytest.raises(_errors.InvalidRequest, match="not supported"):
        ensure(cloud, binding("user:a@x.com", role="roles/x"))


def test_a_resource_that_is_not_there(cloud):
    cloud.expect_error("GET", GET, 404)
    assert ensure(cloud, binding("user:a@x.com"), check_mode=True).changed
    cloud.expect_error("GET", GET, 404)
    assert not ensure(cloud, binding("user:a@x.com"), absent=True).changed
    cloud.expect_error("GET", GET, 404)
    with pytest.raises(_errors.NotFound):
        ensure(cloud, binding("user:a@x.com"))


def test_a_project_without_the_api(cloud, monkeypatch):
    monkeypatch.setattr(_shared, "_memory", _shared._LocalMemory())
    disabled = {"reason": "SERVICE_DISABLED", "metadata": {"service": "s.googleapis.com"}}
    for check_mode in (True, False):
        cloud.expect_error("GET", GET, 403, **disabled)
        cloud.expect("GET", ".../v1/projects/p/services/s.googleapis.com", body={"state": "DISABLED"})
        if check_mode:
            assert ensure(cloud, binding("user:a@x.com"), check_mode=True).changed
        else:
            with pytest.raises(_errors.ApiDisabled):
                ensure(cloud, binding("user:a@x.com"))
    assert len(cloud.warnings) == 1
