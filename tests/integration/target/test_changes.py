# SPDX-License-Identifier: Apache-2.0
"""Test that the next run reports and repairs manual changes of the deployment `demo`.

All changes are made at once, one run repairs all of them, and each test checks one.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, VERIFY

BUCKET = f"{_cloud.STORAGE}/b/mlflow-sandbox-demo-dev-artifacts"
INSTANCE = f"{_cloud.SQL}/projects/mlflow-sandbox/instances/demo-dev"
NEW_PASSWORD = random.token_urlsafe(24)


@dataclass(frozen=True)
class Change:
    """A change by hand.

    make      changes the deployment
    read      returns the state, which the repair must restore
    reported  texts that the diff of the run must contain
    """

    make: Callable
    read: Callable
    reported: tuple[str, ...] = ()


def service(project):
    return f"{_cloud.RUN}/{project.region}/services/demo-dev"


def set_environment(project):
    body = project.service("demo-dev")
    (item,) = [
        item for item in body["template"]["containers"][0]["env"] if item["name"] == "MLFLOW_CORS_ALLOWED_ORIGINS"
    ]
    item["value"] = "https://elsewhere.example.com"
    # The name of a revision cannot be reused.
    body["template"].pop("revision", None)
    project.make(service(project), body, base=_cloud.RUN, method="PATCH")


def environment(project):
    return {item["name"]: item.get("value") for item in project.service("demo-dev")["template"]["containers"][0]["env"]}


def version_bucket(project):
    project.request(
        "PATCH", BUCKET, {"versioning": {"enabled": True}, "softDeletePolicy": {"retentionDurationSeconds": "0"}}
    )


def bucket(project):
    body = project.get(BUCKET)
    return body.get("versioning", {}).get("enabled", False), body["softDeletePolicy"]["retentionDurationSeconds"]


def remove_binding(project):
    policy = project.policy(BUCKET)
    policy["bindings"] = [item for item in policy["bindings"] if item["role"] != "roles/storage.objectUser"]
    project.request("PUT", f"{BUCKET}/iam", policy)


def add_invoker(project):
    project.grant(service(project), "roles/run.invoker", "user:bob@example.com")


def remove_access_to_password(project):
    url = f"{_cloud.SECRETS}/{project.home}/secrets/demo-dev-db-password"
    project.request("POST", f"{url}:setIamPolicy", {"policy": {"etag": project.policy(url)["etag"]}})


def set_flag(project):
    flags = {"settings": {"databaseFlags": [{"name": "log_min_duration_statement", "value": "500"}]}}
    project.make(INSTANCE, flags, base=project.sql_operations, method="PATCH")


def add_network(project):
    networks = [{"name": "all", "value": "0.0.0.0/0"}]
    body = {"settings": {"ipConfiguration": {"authorizedNetworks": networks}}}
    project.make(INSTANCE, body, base=project.sql_operations, method="PATCH")


def settings(project):
    return project.get(INSTANCE)["settings"]


def rename_account(project):
    url = f"{_cloud.IAM}/{project.home}/serviceAccounts/{project.email('demo-dev-client')}"
    body = {"serviceAccount": {"displayName": "Renamed by hand"}, "updateMask": "displayName"}
    project.request("PATCH", url, body)


def account(project):
    return project.resources()["account/demo-dev-client"]["displayName"]


def delete_migration(project):
    project.make(f"{_cloud.RUN}/{project.region}/jobs/demo-dev-migrate", None, base=_cloud.RUN, method="DELETE")


CHANGES = {
    "the environment of the service": Change(
        set_environment, lambda p: environment(p)["MLFLOW_CORS_ALLOWED_ORIGINS"], ("elsewhere.example.com",)
    ),
    "settings of the bucket": Change(version_bucket, bucket),
    "a binding on the bucket removed": Change(
        remove_binding, lambda p: p.bindings(BUCKET)["roles/storage.objectUser"], ("roles/storage.objectUser",)
    ),
    "an invoker added to the service": Change(add_invoker, lambda p: p.bindings(service(p)), ("user:bob@example.com",)),
    "the binding of the server on its password removed": Change(
        remove_access_to_password,
        lambda p: p.bindings(f"{_cloud.SECRETS}/{p.home}/secrets/demo-dev-db-password"),
        ("roles/secretmanager.secretAccessor",),
    ),
    "a flag of the database": Change(
        set_flag, lambda p: settings(p).get("databaseFlags", []), ("log_min_duration_statement",)
    ),
    "a network added to the database": Change(
        add_network, lambda p: settings(p)["ipConfiguration"].get("authorizedNetworks", []), ("0.0.0.0/0",)
    ),
    "the name of an account": Change(rename_account, account, ("Renamed by hand",)),
    "the migration job deleted": Change(
        delete_migration, lambda p: "job/demo-dev-migrate" in p.resources(), ("demo-dev-migrate",)
    ),
}


@pytest.fixture(scope="module")
def repaired(deployed, box, controller):
    """Make all changes and run deploy.yml; return the state before the changes and the run."""
    box.latency("instant")
    before = {name: change.read(deployed) for name, change in CHANGES.items()}
    for change in CHANGES.values():
        change.make(deployed)
    deployed.add_version("demo-dev-db-password", NEW_PASSWORD)
    return {"before": before, "run": controller.run(DEPLOY, "--diff", verbosity=4).check()}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_reported_and_reverted(repaired, deployed, name):
    change = CHANGES[name]
    assert change.read(deployed) == repaired["before"][name]
    for words in change.reported:
        assert any(words in line for line in repaired["run"].output.splitlines() if line.startswith(("+", "-"))), words


def test_a_rotated_password_is_applied_everywhere(repaired, deployed):
    deployed.connect("demo-dev", "mlflow", NEW_PASSWORD).close()
    versions = deployed.secret("demo-dev-database-url")["versions"]
    assert NEW_PASSWORD in versions[max(versions)][1].decode()
    (used,) = [
        item["valueSource"]["secretKeyRef"]["version"]
        for item in deployed.service("demo-dev")["template"]["containers"][0]["env"]
        if item["name"] == "DB_PASSWORD"
    ]
    assert used == "2"


def test_a_second_run_changes_nothing_and_mlflow_works(repaired, controller):
    assert controller.run(DEPLOY).check().changed == 0
    controller.run(VERIFY).check()
