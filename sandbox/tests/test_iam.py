# SPDX-License-Identifier: Apache-2.0
"""IAM: policies as services serve them, and the permissions that they grant."""

import dataclasses
import time
from types import SimpleNamespace

import pytest
from gcp_sandbox.gateway import iam, identity
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.identity import ANONYMOUS
from gcp_sandbox.sandbox import Sandbox

PROJECT = "//cloudresourcemanager.googleapis.com/projects/mlflow-sandbox"
SERVICE = "//run.googleapis.com/projects/mlflow-sandbox/locations/europe-west1/services/mlflow"
SECRET = "//secretmanager.googleapis.com/projects/mlflow-sandbox/secrets/db"
CRM = "https://cloudresourcemanager.googleapis.com/v1/projects/mlflow-sandbox"
IAM = "https://iam.googleapis.com/v1/projects/mlflow-sandbox/serviceAccounts"


@pytest.fixture
def alice(sandbox):
    return sandbox.identities.principal("alice@example.com")


@pytest.fixture
def bob(sandbox):
    return sandbox.identities.principal("bob@example.com")


@pytest.fixture
def iam_enabled(client):
    services = {"serviceIds": ["iam.googleapis.com"]}
    operation = client.ok(
        "POST", "https://serviceusage.googleapis.com/v1/projects/mlflow-sandbox/services:batchEnable", services
    )
    client.done(operation, "https://serviceusage.googleapis.com/v1/")


def grant(sandbox, resource, role, *members, **condition):
    binding = {"role": role, "members": list(members)}
    if condition:
        binding["condition"] = {"title": "when", **condition}
    policy = sandbox.iam.get_policy(resource, requested_version=3)
    bindings = [*policy.get("bindings", []), binding]
    return sandbox.iam.set_policy(resource, {**policy, "bindings": bindings, "version": 3})


def refusal(call, *arguments, **more):
    with pytest.raises(ApiError) as raised:
        call(*arguments, **more)
    return raised.value


class TestPolicies:
    def test_a_policy_that_was_never_set_is_an_etag(self, sandbox):
        assert sandbox.iam.get_policy(SERVICE) == {"etag": "ACAB"}

    def test_each_write_has_a_new_etag_and_a_stale_one_is_aborted(self, sandbox, client):
        first = client.ok("POST", f"{CRM}:getIamPolicy")
        added = {"role": "roles/viewer", "members": ["user:bob@example.com"]}
        policy = {**first, "bindings": [*first["bindings"], added]}
        second = client.ok("POST", f"{CRM}:setIamPolicy", {"policy": policy})
        assert second["etag"] != first["etag"]
        answer = client.post(f"{CRM}:setIamPolicy", {"policy": policy})
        assert answer.status == 409
        assert answer.json["error"]["status"] == "ABORTED"
        assert answer.json["error"]["message"].startswith("There were concurrent policy changes.")
        assert client.ok("POST", f"{CRM}:getIamPolicy") == second

    def test_without_an_etag_the_write_is_blind(self, sandbox):
        grant(sandbox, SERVICE, "roles/run.invoker", "allUsers")
        sandbox.iam.set_policy(SERVICE, {"bindings": []})
        assert "bindings" not in sandbox.iam.get_policy(SERVICE)

    def test_bindings_and_members_are_in_order(self, sandbox):
        members = ["user:bob@example.com", "serviceAccount:a@mlflow-sandbox.iam.gserviceaccount.com", "domain:b.com"]
        email = "a@mlflow-sandbox.iam.gserviceaccount.com"
        sandbox.identities.create_account(sandbox.projects.get("mlflow-sandbox"), email)
        roles = ["roles/run.viewer", "roles/run.admin", "roles/run.invoker"]
        bindings = [{"role": role, "members": members} for role in roles[:2]]
        saved = sandbox.iam.set_policy(SERVICE, {"bindings": bindings})
        assert [binding["role"] for binding in saved["bindings"]] == ["roles/run.admin", "roles/run.viewer"]
        assert saved["bindings"][0]["members"] == sorted(members)
        sandbox.iam.add_binding(SERVICE, roles[2], "user:bob@example.com")
        assert [binding["role"] for binding in sandbox.iam.get_policy(SERVICE)["bindings"]] == sorted(roles)
        sandbox.identities.delete_account(sandbox.identities.account(email))
        found = sandbox.iam.get_policy(SERVICE)["bindings"][0]["members"]
        assert found == sorted(found) and found[0].startswith("deleted:serviceAccount:a@")

    def test_bindings_of_one_role_become_one(self, sandbox):
        bindings = [
            {"role": "roles/run.invoker", "members": ["user:a@example.com", "user:b@example.com"]},
            {"role": "roles/run.viewer", "members": []},
            {"role": "roles/run.invoker", "members": ["user:b@example.com", "user:c@example.com"]},
        ]
        saved = sandbox.iam.set_policy(SERVICE, {"bindings": bindings})
        members = ["user:a@example.com", "user:b@example.com", "user:c@example.com"]
        assert saved["bindings"] == [{"role": "roles/run.invoker", "members": members}]

    def test_audit_configurations_are_kept_unless_the_mask_names_them(self, sandbox):
        audit = [{"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}]
        sandbox.iam.set_policy(PROJECT, {"auditConfigs": audit}, "bindings,auditConfigs")
        sandbox.iam.set_policy(PROJECT, {"bindings": [{"role": "roles/viewer", "members": ["user:bob@example.com"]}]})
        assert sandbox.iam.get_policy(PROJECT)["auditConfigs"] == audit

    def test_a_version_two_is_refused(self, sandbox):
        assert refusal(sandbox.iam.set_policy, SERVICE, {"version": 2}).code == 400
        assert refusal(sandbox.iam.get_policy, SERVICE, requested_version=2).code == 400


class TestConditions:
    EXPRESSION = 'resource.name.endsWith("secrets/db")'

    def test_need_version_three(self, sandbox):
        condition = {"title": "t", "expression": self.EXPRESSION}
        binding = {"role": "roles/run.viewer", "members": ["user:bob@example.com"], "condition": condition}
        assert refusal(sandbox.iam.set_policy, SERVICE, {"bindings": [binding]}).code == 400
        saved = sandbox.iam.set_policy(SERVICE, {"bindings": [binding], "version": 3})
        assert saved["version"] == 3

    def test_an_old_client_sees_another_role_and_cannot_write(self, sandbox):
        grant(sandbox, SECRET, "roles/secretmanager.viewer", "user:bob@example.com", expression=self.EXPRESSION)
        old = sandbox.iam.get_policy(SECRET)
        assert old["version"] == 1
        assert old["bindings"][0]["role"].startswith("roles/secretmanager.viewer_withcond_")
        assert "condition" not in old["bindings"][0]
        error = refusal(sandbox.iam.set_policy, SECRET, old)
        assert "cannot be less than the existing policy version (3)" in error.message

    def test_are_evaluated_with_the_resource_that_is_asked_for(self, sandbox, bob):
        grant(sandbox, PROJECT, "roles/secretmanager.viewer", "user:bob@example.com", expression=self.EXPRESSION)
        assert sandbox.iam.allowed(bob, SECRET, "secretmanager.secrets.get")
        assert not sandbox.iam.allowed(bob, f"{SECRET}2", "secretmanager.secrets.get")

    def test_secrets_are_named_by_project_number(self, sandbox, bob):
        number = sandbox.settings.project_number
        named = f'resource.name.startsWith("projects/{number}/secrets/")'
        expression = f'{named} && resource.type == "secretmanager.googleapis.com/Secret"'
        grant(sandbox, PROJECT, "roles/secretmanager.viewer", "user:bob@example.com", expression=expression)
        assert sandbox.iam.allowed(bob, SECRET, "secretmanager.secrets.get")

    def test_time(self, sandbox, bob):
        expired = 'request.time < timestamp("2020-01-01T00:00:00Z")'
        grant(sandbox, SECRET, "roles/secretmanager.viewer", "user:bob@example.com", expression=expired)
        assert not sandbox.iam.allowed(bob, SECRET, "secretmanager.secrets.get")

    @pytest.mark.parametrize(
        "role, members, condition",
        [
            ("roles/viewer", ["user:bob@example.com"], {"title": "t", "expression": "true"}),
            ("roles/run.viewer", ["allUsers"], {"title": "t", "expression": "true"}),
            ("roles/run.viewer", ["user:bob@example.com"], {"title": "t", "expression": "resource.nope"}),
            ("roles/run.viewer", ["user:bob@example.com"], {"expression": "true"}),
        ],
    )
    def test_that_are_refused(self, sandbox, role, members, condition):
        binding = {"role": role, "members": members, "condition": condition}
        assert refusal(sandbox.iam.set_policy, SERVICE, {"bindings": [binding], "version": 3}).code == 400


class TestMembers:
    @pytest.mark.parametrize(
        "member, message",
        [
            (
                "serviceAccount:missing@mlflow-sandbox.iam.gserviceaccount.com",
                "Service account missing@mlflow-sandbox.iam.gserviceaccount.com does not exist.",
            ),
            ("user:missing@example.invalid", "User missing@example.invalid does not exist."),
            ("group:missing@example.invalid", "Group missing@example.invalid does not exist."),
            ("carol@example.com", "unknown type"),
            ("person:carol@example.com", "unknown type"),
            ("user:no-address", "Invalid user"),
        ],
    )
    def test_that_do_not_exist(self, sandbox, member, message):
        policy = {"bindings": [{"role": "roles/run.invoker", "members": [member]}]}
        error = refusal(sandbox.iam.set_policy, SERVICE, policy)
        assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
        assert message in error.message

    def test_the_directory_ends_at_the_sandbox(self, sandbox):
        members = ["serviceAccount:app@other-project.iam.gserviceaccount.com", "group:people@example.org"]
        sandbox.iam.set_policy(SERVICE, {"bindings": [{"role": "roles/run.invoker", "members": members}]})

    def test_everybody_may_not_be_on_a_project(self, sandbox):
        policy = {"bindings": [{"role": "roles/viewer", "members": ["allUsers"]}]}
        assert "allUsers" in refusal(sandbox.iam.set_policy, PROJECT, policy).message

    @pytest.mark.parametrize("role", ["roles/run.invokr", "roles/nothing", "run.invoker", "projects/p/roles/x"])
    def test_roles_that_do_not_exist(self, sandbox, role):
        policy = {"bindings": [{"role": role, "members": ["user:bob@example.com"]}]}
        assert refusal(sandbox.iam.set_policy, SERVICE, policy).code == 400

    def test_a_new_account_is_unknown_for_a_moment(self, settings, monkeypatch):
        sandbox = Sandbox(dataclasses.replace(settings, latency="real"))
        sandbox.start()
        try:
            project = sandbox.projects.get("mlflow-sandbox")
            email = "server@mlflow-sandbox.iam.gserviceaccount.com"
            sandbox.identities.create_account(project, email, at_once=False)
            policy = {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{email}"]}]}
            assert "does not exist" in refusal(sandbox.iam.set_policy, SERVICE, policy).message
            later = time.time() + sandbox.latency.propagation("service_account")
            monkeypatch.setattr(identity, "time", SimpleNamespace(time=lambda: later))
            sandbox.iam.set_policy(SERVICE, policy)
        finally:
            sandbox.stop()

    def test_a_change_takes_a_moment_to_be_seen(self, settings, monkeypatch):
        sandbox = Sandbox(dataclasses.replace(settings, latency="real"))
        sandbox.start()
        try:
            bob = sandbox.identities.principal("bob@example.com")
            grant(sandbox, SERVICE, "roles/run.viewer", "user:bob@example.com")
            assert not sandbox.iam.allowed(bob, SERVICE, "run.services.get")
            later = time.time() + sandbox.latency.propagation("iam_policy")
            monkeypatch.setattr(iam, "time", SimpleNamespace(time=lambda: later))
            assert sandbox.iam.allowed(bob, SERVICE, "run.services.get")
        finally:
            sandbox.stop()

    def test_a_deleted_account_is_called_deleted_and_loses_what_it_had(self, sandbox, client, iam_enabled):
        account = client.ok("POST", IAM, {"accountId": "server"})
        member = f"serviceAccount:{account['email']}"
        grant(sandbox, SERVICE, "roles/run.invoker", member)
        server = sandbox.identities.principal(account["email"])
        assert sandbox.iam.allowed(server, SERVICE, "run.routes.invoke")

        client.ok("DELETE", f"{IAM}/{account['email']}")
        deleted = f"deleted:{member}?uid={account['uniqueId']}"
        assert sandbox.iam.get_policy(SERVICE)["bindings"][0]["members"] == [deleted]
        assert not sandbox.iam.allowed(server, SERVICE, "run.routes.invoke")

        again = client.ok("POST", IAM, {"accountId": "server"})
        assert again["uniqueId"] != account["uniqueId"]
        assert not sandbox.iam.allowed(server, SERVICE, "run.routes.invoke")
        client.ok("DELETE", f"{IAM}/{account['email']}")

        restored = client.ok("POST", f"{IAM}/{account['uniqueId']}:undelete")["restoredAccount"]
        assert restored["uniqueId"] == account["uniqueId"]
        assert sandbox.iam.allowed(server, SERVICE, "run.routes.invoke")


class TestEvaluation:
    def test_goes_up_to_the_organization(self, sandbox, bob):
        organization = f"//cloudresourcemanager.googleapis.com/{sandbox.projects.organization}"
        chain = [SERVICE, PROJECT, organization]
        for resource in chain:
            assert not sandbox.iam.allowed(bob, SERVICE, "run.services.get")
            grant(sandbox, resource, "roles/run.viewer", "user:bob@example.com")
            assert sandbox.iam.allowed(bob, SERVICE, "run.services.get")
            sandbox.iam.delete_policy(resource)

    def test_does_not_go_sideways(self, sandbox, bob):
        grant(sandbox, SERVICE, "roles/run.viewer", "user:bob@example.com")
        assert not sandbox.iam.allowed(bob, f"{SERVICE}-2", "run.services.get")
        assert not sandbox.iam.allowed(bob, PROJECT, "run.services.get")

    def test_a_number_is_as_good_as_an_id(self, sandbox, bob):
        numbered = SERVICE.replace("mlflow-sandbox", sandbox.settings.project_number)
        grant(sandbox, numbered, "roles/run.viewer", "user:bob@example.com")
        assert sandbox.iam.get_policy(SERVICE)["bindings"]
        assert sandbox.iam.allowed(bob, numbered, "run.services.get")

    @pytest.mark.parametrize(
        "member, expected",
        [
            ("allUsers", {"alice", "bob", "deployer", "anonymous"}),
            ("allAuthenticatedUsers", {"alice", "bob", "deployer"}),
            ("domain:example.com", {"alice", "bob"}),
            ("group:mlflow-users@example.com", {"alice"}),
            ("user:Bob@example.com", {"bob"}),
            ("serviceAccount:deployer@mlflow-sandbox.iam.gserviceaccount.com", {"deployer"}),
            ("projectOwner:mlflow-sandbox", {"deployer"}),
            ("projectViewer:mlflow-sandbox", set()),
            ("user:deployer@mlflow-sandbox.iam.gserviceaccount.com", set()),
        ],
    )
    def test_members(self, sandbox, alice, bob, member, expected):
        resource = "//storage.googleapis.com/projects/_/buckets/b"
        sandbox.iam.set_policy(resource, {"bindings": [{"role": "roles/storage.objectViewer", "members": [member]}]})
        deployer = sandbox.identities.principal("deployer@mlflow-sandbox.iam.gserviceaccount.com")
        people = {"alice": alice, "bob": bob, "deployer": deployer, "anonymous": ANONYMOUS}
        allowed = {
            name
            for name, one in people.items()
            if sandbox.iam.allowed(one, f"{resource}/objects/a/b", "storage.objects.get")
        }
        assert allowed == expected

    def test_a_denial_wins(self, sandbox, client, iam_enabled):
        deployer = sandbox.identities.principal(client.email)
        assert sandbox.iam.allowed(deployer, SERVICE, "run.services.get")
        parent = "policies/cloudresourcemanager.googleapis.com%252Fprojects%252Fmlflow-sandbox/denypolicies"
        rule = {
            "deniedPermissions": ["run.googleapis.com/services.get"],
            "deniedPrincipals": ["principalSet://goog/public:all"],
        }
        client.ok("POST", f"https://iam.googleapis.com/v2/{parent}?policyId=no-run", {"rules": [{"denyRule": rule}]})
        assert not sandbox.iam.allowed(deployer, SERVICE, "run.services.get")
        client.ok("DELETE", f"https://iam.googleapis.com/v2/{parent}/no-run")
        assert sandbox.iam.allowed(deployer, SERVICE, "run.services.get")

    def test_permissions_are_tested_by_name(self, client):
        asked = ["run.services.create", "iam.serviceAccounts.signJwt", "resourcemanager.projects.get"]
        answer = client.ok("POST", f"{CRM}:testIamPermissions", {"permissions": asked})
        assert answer == {"permissions": ["run.services.create", "resourcemanager.projects.get"]}
        assert client.ok("POST", f"{CRM}:testIamPermissions", {"permissions": asked}, as_="bob@example.com") == {}
        assert client.post(f"{CRM}:testIamPermissions", {"permissions": ["run.*"]}).status == 400

    def test_the_words_of_each_service(self, sandbox, bob):
        error = refusal(sandbox.iam.check, bob, SECRET, "secretmanager.secrets.get")
        assert error.message.startswith("Permission 'secretmanager.secrets.get' denied for resource 'projects/")
        assert error.details[0]["reason"] == "IAM_PERMISSION_DENIED"
        error = refusal(
            sandbox.iam.check,
            bob,
            "//sqladmin.googleapis.com/projects/mlflow-sandbox/instances/i",
            "cloudsql.instances.get",
        )
        assert (error.code, error.reason) == (403, "notAuthorized")
        bucket = "//storage.googleapis.com/projects/_/buckets/b"
        assert (
            "bob@example.com does not have storage.buckets.get access"
            in refusal(sandbox.iam.check, bob, bucket, "storage.buckets.get").message
        )
        assert refusal(sandbox.iam.check, ANONYMOUS, bucket, "storage.buckets.get").code == 401


# Access to single objects is by their access control lists, which these two methods of Google's show in another form.
# Managed folders cannot be made here.
ELSEWHERE = {"managedFolders", "objects"}


def test_policies_are_wherever_the_documents_have_them(sandbox):
    """Resources that can be made or read here have a policy, if Google's have one."""
    missing = []
    for name, service in sandbox.services.items():
        for version in service.versions:
            served = sandbox.gateway.method_specs(name, version)
            for method in sandbox.gateway.document(name, version).methods:
                resource, _, verb = method.rpartition(".")
                here = any(f"{resource}.{other}" in served for other in ("get", "create", "insert", "list"))
                if verb.endswith(("IamPolicy", "IamPermissions")) and here and method not in served:
                    missing += [f"{name} {version} {method}"] if resource not in ELSEWHERE else []
    assert not missing
