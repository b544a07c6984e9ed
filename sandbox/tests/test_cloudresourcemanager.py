# SPDX-License-Identifier: Apache-2.0
"""Resource Manager v1 and v3, and Cloud Billing."""

import shutil

import pytest
from gcp_sandbox.config import Settings, organization_number
from gcp_sandbox.gateway.projects import ORGANIZATION_KIND

V1 = "https://cloudresourcemanager.googleapis.com/v1"
V3 = "https://cloudresourcemanager.googleapis.com/v3"
BILLING = "https://cloudbilling.googleapis.com/v1"


@pytest.fixture
def second(client, settings):
    """A second project, in the organization."""
    parent = {"type": "organization", "id": organization_number(settings.project)}
    body = {"projectId": "second-project", "name": "Second", "parent": parent, "labels": {"team": "ml"}}
    return client.done(client.ok("POST", f"{V1}/projects", body), V1)["response"]


def test_the_default_project_by_id_and_number(client, settings):
    by_id = client.ok("GET", f"{V1}/projects/mlflow-sandbox")
    assert by_id["projectNumber"] == settings.project_number
    assert by_id["lifecycleState"] == "ACTIVE"
    assert client.ok("GET", f"{V1}/projects/{settings.project_number}") == by_id
    v3 = client.ok("GET", f"{V3}/projects/mlflow-sandbox")
    assert v3["name"] == f"projects/{settings.project_number}"
    assert v3["parent"] == f"organizations/{organization_number(settings.project)}"
    assert v3["state"] == "ACTIVE"


def test_who_makes_a_project_owns_it(client, second):
    policy = client.ok("POST", f"{V1}/projects/second-project:getIamPolicy")
    assert policy["bindings"] == [{"role": "roles/owner", "members": [f"serviceAccount:{client.email}"]}]
    assert second["projectNumber"] != client.ok("GET", f"{V1}/projects/mlflow-sandbox")["projectNumber"]
    assert client.get(f"{V1}/projects/second-project", as_="bob@example.com").status == 403


def test_a_project_may_stand_alone(client):
    operation = client.ok("POST", f"{V3}/projects", {"projectId": "lone-project"})
    made = client.done(operation, V3)["response"]
    assert "parent" not in made
    info = client.ok("GET", f"{BILLING}/projects/lone-project/billingInfo")
    assert info == {
        "name": "projects/lone-project/billingInfo",
        "projectId": "lone-project",
        "billingAccountName": "",
        "billingEnabled": False,
    }


@pytest.mark.parametrize("project_id", ["short", "Upper-case", "ends-with-", "x" * 31, "under_score"])
def test_bad_ids(client, project_id):
    answer = client.post(f"{V1}/projects", {"projectId": project_id})
    assert answer.status == 400
    assert answer.json["error"]["details"][0]["fieldViolations"][0]["field"] == "project_id"


def test_what_creation_refuses(client, second):
    assert client.post(f"{V1}/projects", {"projectId": "second-project"}).status == 409
    elsewhere = {"projectId": "third-project", "parent": {"type": "folder", "id": "42"}}
    assert client.post(f"{V1}/projects", elsewhere).status == 403
    inside = {"projectId": "third-project", "parent": {"type": "organization", "id": second["parent"]["id"]}}
    assert client.post(f"{V1}/projects", inside, as_="bob@example.com").status == 403


def test_a_project_that_is_not_there_looks_like_one_that_is_not_yours(client):
    absent = client.get(f"{V1}/projects/no-such-project")
    foreign = client.get(f"{V1}/projects/mlflow-sandbox", as_="bob@example.com")
    assert absent.status == foreign.status == 403
    assert absent.json == foreign.json


def test_deleted_and_back(client, second):
    client.ok("DELETE", f"{V1}/projects/second-project")
    assert client.ok("GET", f"{V1}/projects/second-project")["lifecycleState"] == "DELETE_REQUESTED"
    assert client.get("https://storage.googleapis.com/storage/v1/b?project=second-project").status == 403
    assert client.delete(f"{V1}/projects/second-project").status == 400
    client.done(client.ok("POST", f"{V3}/projects/second-project:undelete"), V3)
    assert client.ok("GET", f"{V1}/projects/second-project")["lifecycleState"] == "ACTIVE"


def test_changes(client, second):
    operation = client.ok("PATCH", f"{V3}/projects/second-project?updateMask=displayName", {"displayName": "Renamed"})
    assert client.done(operation, V3)["response"]["displayName"] == "Renamed"
    updated = client.ok("PUT", f"{V1}/projects/second-project", {"name": "Again", "labels": {"a": "b"}})
    assert (updated["name"], updated["labels"]) == ("Again", {"a": "b"})
    assert client.patch(f"{V3}/projects/second-project?updateMask=state", {"state": "ACTIVE"}).status == 400


def test_finding_projects(client, settings, second):
    def found(query):
        return [
            project["projectId"]
            for project in client.ok("GET", f"{V3}/projects:search?query={query}").get("projects", [])
        ]

    assert found("") == ["mlflow-sandbox", "second-project"]
    assert found("labels.team:ml") == ["second-project"]
    assert found("id:mlflow-*") == ["mlflow-sandbox"]
    assert found("state:DELETE_REQUESTED") == []
    listed = client.ok("GET", f"{V1}/projects?filter=name:Second%20labels.team:ml")["projects"]
    assert [project["projectId"] for project in listed] == ["second-project"]
    parent = f"organizations/{organization_number(settings.project)}"
    listed = client.ok("GET", f"{V3}/projects?parent={parent}", as_="admin@example.com")["projects"]
    assert [project["projectId"] for project in listed] == ["mlflow-sandbox", "second-project"]
    refused = client.get(f"{V3}/projects?parent={parent}")  # the deployer owns both, and may not list the organization
    assert refused.status == 403
    assert client.get(f"{V3}/projects", as_="admin@example.com").status == 400
    assert client.ok("GET", f"{V3}/projects:search", as_="bob@example.com") == {}
    assert client.get(f"{V3}/projects:search?query=(a").status == 400


def test_organization_and_folder(client, settings):
    number = organization_number(settings.project)
    assert number != settings.project_number
    found = client.ok("GET", f"{V3}/organizations:search", as_="admin@example.com")["organizations"]
    assert [(o["name"], o["displayName"]) for o in found] == [(f"organizations/{number}", "example.com")]
    v1 = client.ok("POST", f"{V1}/organizations:search", {"filter": "domain:example.com"}, as_="admin@example.com")
    assert v1["organizations"][0]["organizationId"] == number
    assert (
        client.ok("POST", f"{V1}/organizations:search", {"filter": "domain:example.org"}, as_="admin@example.com") == {}
    )
    assert client.ok("GET", f"{V3}/organizations:search", as_="bob@example.com") == {}
    assert client.get(f"{V3}/folders/{settings.project_number}", as_="admin@example.com").status == 200
    parent = f"organizations/{number}"
    for url in (f"{V3}/folders?parent={parent}", f"{V3}/folders:search"):
        folders = client.ok("GET", url, as_="admin@example.com")["folders"]
        assert [(folder["name"], folder["parent"]) for folder in folders] == [
            (f"folders/{settings.project_number}", parent)
        ]
    assert client.get(f"{V3}/folders?parent={parent}", as_="bob@example.com").status == 403
    assert client.ok("GET", f"{V3}/folders:search", as_="bob@example.com") == {}
    ancestry = client.ok("POST", f"{V1}/projects/mlflow-sandbox:getAncestry")["ancestor"]
    assert [entry["resourceId"]["type"] for entry in ancestry] == ["project", "organization"]


def test_a_sandbox_of_an_earlier_release_keeps_its_organization(sandbox, client, settings):
    before, number = sandbox.projects.organization, settings.project_number
    sandbox.store.delete(ORGANIZATION_KIND, before)
    sandbox.store.put(ORGANIZATION_KIND, f"organizations/{number}", {"displayName": "example.com"})
    assert sandbox.projects.organization == f"organizations/{number}" != before


def test_the_number_of_the_project_names_the_organization_in_a_replay(client, settings):
    parent = {"type": "organization", "id": settings.project_number}
    operation = client.ok("POST", f"{V1}/projects", {"projectId": "third-project", "parent": parent})
    found = client.done(operation, V1)["response"]["parent"]
    assert found == {"type": "organization", "id": organization_number(settings.project)}


class TestAlone:
    """A default project without an organization."""

    POLICY = f"{V1}/projects/mlflow-sandbox"

    @pytest.fixture
    def settings(self, tmp_path):
        settings = Settings(state=tmp_path / "state", organization=False)
        yield settings
        shutil.rmtree(settings.runtime, ignore_errors=True)

    def test_it_is_found(self, client, settings):
        found = client.ok("GET", f"{V3}/projects:search")["projects"]
        assert [(project["projectId"], project["displayName"]) for project in found] == [("mlflow-sandbox",) * 2]
        assert "parent" not in client.ok("GET", f"{V3}/projects/mlflow-sandbox")
        parent = f"organizations/{organization_number(settings.project)}"
        assert client.ok("GET", f"{V3}/projects?parent={parent}", as_="admin@example.com") == {}
        assert client.ok("PUT", f"{V1}/projects/mlflow-sandbox", {"labels": {"a": "b"}})["name"] == "mlflow-sandbox"

    def test_it_has_an_owner(self, client):
        policy = client.ok("POST", f"{self.POLICY}:getIamPolicy")
        owners = next(binding for binding in policy["bindings"] if binding["role"] == "roles/owner")
        others = [binding for binding in policy["bindings"] if binding["role"] != "roles/owner"]
        answer = client.post(f"{self.POLICY}:setIamPolicy", {"policy": {"bindings": others}})
        assert answer.status == 400
        assert answer.json["error"]["details"][0]["type"] == "SOLO_REQUIRE_TOS_ACCEPTOR"
        assert client.ok("POST", f"{self.POLICY}:getIamPolicy") == policy
        one = {**owners, "members": owners["members"][:1]}
        assert client.ok("POST", f"{self.POLICY}:setIamPolicy", {"policy": {"bindings": [*others, one]}})

    def test_one_in_an_organization_may_lose_all_owners(self, client, settings):
        parent = {"type": "organization", "id": organization_number(settings.project)}
        client.done(client.ok("POST", f"{V1}/projects", {"projectId": "second-project", "parent": parent}), V1)
        assert client.ok("POST", f"{V1}/projects/second-project:setIamPolicy", {"policy": {}})


class TestBilling:
    def test_accounts(self, client, settings):
        names = [account["name"] for account in client.ok("GET", f"{BILLING}/billingAccounts")["billingAccounts"]]
        assert names == ["billingAccounts/01B2C3-D4E5F6-A7B8C9", f"billingAccounts/{settings.project_number}"]
        assert client.ok("GET", f"{BILLING}/billingAccounts", as_="bob@example.com") == {}
        asked = {"permissions": ["billing.resourceAssociations.create", "billing.accounts.update"]}
        answer = client.ok("POST", f"{BILLING}/{names[0]}:testIamPermissions", asked)
        assert answer == {"permissions": ["billing.resourceAssociations.create"]}

    def test_linking(self, client, second):
        account = "billingAccounts/01B2C3-D4E5F6-A7B8C9"
        url = f"{BILLING}/projects/second-project/billingInfo"
        assert client.ok("PUT", url, {"billingAccountName": account})["billingEnabled"] is True
        listed = client.ok("GET", f"{BILLING}/{account}/projects", as_="admin@example.com")["projectBillingInfo"]
        assert {info["projectId"] for info in listed} == {"mlflow-sandbox", "second-project"}
        assert client.ok("PUT", url, {"billingAccountName": ""})["billingEnabled"] is False
        assert client.put(url, {"billingAccountName": "billingAccounts/000000-000000-000000"}).status == 403
        assert client.put(url, {"billingAccountName": account}, as_="bob@example.com").status == 403
