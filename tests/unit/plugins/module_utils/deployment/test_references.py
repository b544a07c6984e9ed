# SPDX-License-Identifier: Apache-2.0
"""Test which secrets and images must exist before a deployment, and which secrets the server may read."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d

OWN = "projects/mlflow-sandbox/secrets"
SERVER = "serviceAccount:demo-dev-server@mlflow-sandbox.iam.gserviceaccount.com"
AGENT = "serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
DIGEST = f"sha256:{'0' * 64}"
ENV = "mlflow_server_secret_env"
PASSWORD = {"mlflow_access": "password", "mlflow_access_password_accepted": True, "mlflow_access_members": []}
CLIENT = {
    "mlflow_oauth_client_id_secret": f"{OWN}/id/versions/2",
    "mlflow_oauth_client_secret_secret": "projects/o/secrets/key",
}
USED = {"mlflow_ownership": {"secrets": "used"}}


def references(**variables):
    """Return what a deployment refers to: name -> (variable, members that read it)."""
    found = d.deployed(variables).requirements.resources
    return {
        item["name"]: (item["referenced_by"], item.get("readers", [])) for item in found if item.get("referenced_by")
    }


def test_the_server_and_the_client_use_what_is_usable():
    client = {
        "mlflow_oauth_client_id_secret": f"{OWN}/id",
        "mlflow_oauth_client_secret_secret": f"{OWN}/key/versions/latest",
    }
    found = [
        d.resource("secret_version", f"{OWN}/{name}/versions/latest", usable=f"{OWN}/{name}/versions/{number}")
        for name, number in (("t", 2), ("id", 3), ("key", ""))
        if number
    ]
    deployment = d.deployed({ENV: {"TOKEN": "t", "OTHER": "o"}} | client, d.report(*found))
    assert deployment.server["secret_env"]["TOKEN"] == f"{OWN}/t/versions/2"
    assert deployment.server["secret_env"]["OTHER"] == f"{OWN}/o/versions/latest"
    assert deployment.access.client_id_secret == f"{OWN}/id/versions/3"
    assert deployment.access.client_secret_secret == f"{OWN}/key/versions/latest"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        (PASSWORD, {}),
        ({ENV: {"TOKEN": "t"}}, {f"{OWN}/t/versions/latest": (f"{ENV}.TOKEN", [])}),
        (
            {ENV: {"A": "t", "B": f"{OWN}/t", "C": "projects/o/secrets/s/versions/3"}},
            {
                f"{OWN}/t/versions/latest": (f"{ENV}.A, {ENV}.B", []),
                "projects/o/secrets/s/versions/3": (f"{ENV}.C", [SERVER]),
            },
        ),
        # The deployment creates it.
        ({ENV: {"URL": "demo-dev-database-url"}}, {}),
        (
            CLIENT,
            {
                f"{OWN}/id/versions/2": ("mlflow_oauth_client_id_secret", []),
                "projects/o/secrets/key/versions/latest": ("mlflow_oauth_client_secret_secret", []),
            },
        ),
        (CLIENT | {"mlflow_access": "iam"}, {}),
        (USED, {f"{OWN}/demo-dev-db-password/versions/latest": ("mlflow_database_password_secret", [])}),
        (
            USED | PASSWORD | {"mlflow_login_key_secret": "key"},
            {
                f"{OWN}/demo-dev-db-password/versions/latest": ("mlflow_database_password_secret", []),
                f"{OWN}/demo-dev-tracking-username/versions/latest": ("mlflow_login_username_secret", []),
                f"{OWN}/demo-dev-tracking-password/versions/latest": ("mlflow_login_password_secret", []),
                f"{OWN}/key/versions/latest": ("mlflow_login_key_secret", []),
            },
        ),
        (
            {"cloudsql_users": [{"name": "mlflow", "password_secret": f"{OWN}/pw"}]},
            {f"{OWN}/pw/versions/latest": ("cloudsql_users (mlflow)", [])},
        ),
        ({"cloudsql_flags": {"max_connections": 200}}, {"POSTGRES_16": ("cloudsql_flags", [])}),
        ({"mlflow_image": "ghcr.io/a/b:1"}, {}),
        ({"mlflow_image": "gcr.io/mlflow-sandbox/b:1"}, {}),
    ],
)
def test_what_the_variables_refer_to_must_exist(variables, expected):
    assert references(**variables) == expected


@pytest.mark.parametrize(
    ("target", "project", "readers"),
    [
        ("cloudrun", "mlflow-sandbox", []),
        ("cloudrun", "other", [AGENT]),
        ("appengine", "mlflow-sandbox", [SERVER]),
        ("appengine", "example.com/p", [AGENT, SERVER]),
    ],
)
@pytest.mark.parametrize(("version", "kind"), [(":1", "image_tag"), (f":1@{DIGEST}", "docker_image")])
def test_an_image_must_exist_and_what_pulls_it_must_have_access(target, project, readers, version, kind):
    image = f"europe-docker.pkg.dev/{project}/r/team/mlflow{version}"
    found = d.deployed(mlflow_target=target, mlflow_image=image).requirements.resources
    (item,) = [item for item in found if item.get("referenced_by") == "mlflow_image"]
    assert (item["type"], item["name"], item["readers"]) == (kind, image, readers)


def test_a_secret_of_the_project_may_be_named_by_its_number():
    found = d.deployed({ENV: {"A": f"projects/{d.NUMBER}/secrets/t"}}, found=d.report())
    (item,) = [item for item in found.requirements.resources if item.get("referenced_by")]
    assert item["readers"] == []
    assert [name.rpartition("/")[2] for name in found.secrets.referenced] == ["t"]


def test_the_server_may_read_the_secrets_of_its_own_project():
    env = {"A": "t", "B": "projects/o/secrets/s", "URL": "demo-dev-database-url"}
    found = d.deployed({ENV: env}).secrets
    prefix = f"//secretmanager.googleapis.com/{OWN}"
    assert found.referenced == [f"{prefix}/t", f"{prefix}/demo-dev-database-url"]
    assert d.deployed(USED).secrets.referenced == [f"{prefix}/demo-dev-db-password"]
    assert d.deployed().secrets.referenced == []


def test_a_removal_revokes_the_access_to_them():
    own = [d.resource("secret", "demo-dev-db-password"), d.resource("service_account", "demo-dev-server")]
    report = d.report(*own, d.resource("secret", "t", owned=False))
    variables = {ENV: {"A": "t", "GONE": "gone", "B": "projects/o/secrets/s"}}
    found = d.computed(variables, found=report, action="destroy").deployment
    assert found.removal["secret_access"] == ["demo-dev-db-password", "t"]
    assert {"t", "gone"} <= {item["name"] for item in found.requirements.resources if item["type"] == "secret"}
    nothing = d.computed(variables, found=d.report(*own[:1], d.resource("secret", "t", owned=False)), action="destroy")
    assert nothing.deployment.removal["secret_access"] == ["demo-dev-db-password"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        (PASSWORD, [("secret", "demo-dev-tracking-password")]),
        (PASSWORD | USED, [("secret_version", f"{OWN}/demo-dev-tracking-password/versions/latest")]),
        # One secret for both logins.
        (PASSWORD | {"mlflow_login_password_secret": "demo-dev-db-password"}, [("secret", "demo-dev-db-password")]),
        # Another image may have other rules.
        (PASSWORD | {"mlflow_image": "ghcr.io/a/b:1"}, []),
        (PASSWORD | {"mlflow_image_context": "/image"}, []),
    ],
)
def test_the_password_of_the_login_must_be_one_that_mlflow_accepts(variables, expected):
    found = [item for item in d.deployed(variables).requirements.resources if item.get("minimum_length")]
    assert [(item["type"], item["name"]) for item in found] == expected
    for item in found:
        assert (item["minimum_length"], item["rejected_values"]) == (12, ["password1234"])
        assert item["named_by"] == "mlflow_login_password_secret"


def test_id_and_secret_of_an_oauth_client_are_one_word():
    found = d.deployed({ENV: {"TOKEN": "t"}} | CLIENT).requirements.resources
    assert {item["name"] for item in found if item.get("one_word")} == {
        f"{OWN}/id/versions/2",
        "projects/o/secrets/key/versions/latest",
    }


def test_references_that_could_not_be_read_are_read_again():
    assert d.deployed(found=d.report(disabled=["secretmanager.googleapis.com"], unanswered=["references"])).incomplete


FLAGS = d.resource("sql_flags", "POSTGRES_16", flags={"max_connections": {"type": "INTEGER"}})


def test_flags_are_those_of_the_version():
    outcome = d.computed({"cloudsql_flags": {"max_conections": "100"}}, found=d.report(FLAGS))
    assert d.variables_of(outcome) == ["cloudsql_flags"] and outcome.warnings == []
    other = {"cloudsql_flags": {"max_conections": "100"}, "mlflow_database_version": "POSTGRES_15"}
    outcome = d.computed(other, found=d.report(FLAGS))
    assert outcome.problems == [] and "max_conections" in outcome.warnings[0]
    assert d.computed(other, found=d.report(FLAGS), action="destroy").warnings == []
