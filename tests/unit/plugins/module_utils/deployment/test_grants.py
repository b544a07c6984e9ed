# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles that a deployment grants, and the rights that follow the image that is used."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d

SERVER = "serviceAccount:demo-dev-server@mlflow-sandbox.iam.gserviceaccount.com"
CLIENT = "serviceAccount:demo-dev-client@mlflow-sandbox.iam.gserviceaccount.com"
REGISTRY = "//artifactregistry.googleapis.com/projects/{}/locations/europe/repositories/ml"
IMAGE = "europe-docker.pkg.dev/{}/ml/mlflow:stable"
DIGEST = f"sha256:{'a' * 64}"
AGENT = f"serviceAccount:service-{d.NUMBER}@serverless-robot-prod.iam.gserviceaccount.com"


def found(project, *unread, kind="image_tag", **facts):
    """Return a report with a custom image."""
    return d.report(d.resource(kind, IMAGE.format(project), unread=list(unread), owned=False, **facts))


def granted(deployment):
    """Return {(resource, role): (members, exact)} of the roles that a deployment grants."""
    return {
        (item["resource"].split("/", 2)[2], binding["role"]): (binding["members"], item["exact"])
        for item in deployment.grants
        for binding in item["bindings"]
    }


def test_every_kind_of_grant_is_listed_and_access_is_exact():
    grants = granted(d.deployed(found=d.report()))
    roles = {role for _resource, role in grants}
    assert roles == {
        "roles/cloudsql.client",
        "roles/storage.objectViewer",
        "roles/storage.objectUser",
        "roles/storage.admin",
        "roles/secretmanager.secretAccessor",
        "roles/artifactregistry.writer",
        "roles/iam.serviceAccountTokenCreator",
        "roles/run.invoker",
        "roles/iap.httpsResourceAccessor",
    }
    exact = {role for (_resource, role), (_members, exact) in grants.items() if exact}
    assert exact == {"roles/run.invoker", "roles/iap.httpsResourceAccessor"}


def test_without_identity_aware_proxy_the_invokers_are_the_members():
    grants = granted(d.deployed(found=d.report(), mlflow_access="iam"))
    ((members, exact),) = [value for (_resource, role), value in grants.items() if role == "roles/run.invoker"]
    assert (members, exact) == (["user:alice@example.com", CLIENT], True)
    assert "roles/iap.httpsResourceAccessor" not in {role for _resource, role in grants}


def test_the_right_of_the_one_that_verifies_is_proved_by_use():
    impersonation = "roles/iam.serviceAccountTokenCreator"

    def listed(*members):
        grants = granted(d.deployed(found=d.report(), mlflow_impersonators=list(members)))
        return next(value for (_resource, role), value in grants.items() if role == impersonation)

    assert listed("deployer", "user:alice@example.com") == (["user:alice@example.com"], False)
    assert listed("user:alice@example.com") == (["user:alice@example.com"], True)


def test_instances_of_app_engine_write_logs_and_pull_the_image():
    grants = granted(d.deployed(found=d.report(), mlflow_target="appengine"))
    roles = {role for (_resource, role), (members, _exact) in grants.items() if members == [SERVER]}
    assert {"roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/artifactregistry.reader"} <= roles


def test_a_tag_is_used_by_the_digest_that_it_stands_for():
    moved = d.deployed(found=found("other", digest=DIGEST), mlflow_image=IMAGE.format("other"))
    assert moved.server["image"] == f"europe-docker.pkg.dev/other/ml/mlflow@{DIGEST}" == moved.image.reference
    unknown = d.deployed(found=d.report(), mlflow_image=IMAGE.format("other"))
    assert unknown.server["image"] == IMAGE.format("other")


def test_a_tag_that_moved_is_another_version_of_app_engine():
    names = {
        d.deployed(
            found=found("other", digest=digest), mlflow_target="appengine", mlflow_image=IMAGE.format("other")
        ).server["options"]["version"]
        for digest in (DIGEST, DIGEST.replace("a", "b"))
    }
    assert len(names) == 2


@pytest.mark.parametrize("kind", ["image_tag", "docker_image"])
@pytest.mark.parametrize("target", ["cloudrun", "appengine"])
def test_what_lacks_the_right_to_pull_a_custom_image_gets_it(target, kind):
    name = IMAGE.format("other") if kind == "image_tag" else f"europe-docker.pkg.dev/other/ml/mlflow@{DIGEST}"
    report = d.report(d.resource(kind, name, unread=[AGENT], owned=False))
    deployment = d.deployed(found=report, mlflow_target=target, mlflow_image=name)
    reading = [{"role": "roles/artifactregistry.reader", "members": [AGENT]}]
    assert deployment.referenced == [{"resource": REGISTRY.format("other"), "bindings": reading}]
    assert {"resource": REGISTRY.format("other"), "exact": False, "bindings": reading} in deployment.grants
    assert d.deployed(found=found("other"), mlflow_target=target, mlflow_image=IMAGE.format("other")).referenced == []


def test_an_image_of_its_own_needs_no_further_grant_on_cloud_run():
    assert d.deployed(found=d.report()).referenced == []


def test_the_account_loses_its_role_on_a_repository_of_the_project():
    account = d.resource("service_account", "demo-dev-server")
    given = {"mlflow_target": "appengine", "action": "destroy", "found": d.report(account)}
    reading = [{"role": "roles/artifactregistry.reader", "members": [SERVER]}]
    own = d.deployed(**given, mlflow_image=IMAGE.format("mlflow-sandbox")).removal["repository_access"]
    assert own == [{"resource": REGISTRY.format("mlflow-sandbox"), "bindings": reading}]
    assert d.deployed(**given, mlflow_image=IMAGE.format("other")).removal["repository_access"] == []
    assert (
        d.deployed(**given | {"found": d.report()}, mlflow_image=IMAGE.format("mlflow-sandbox")).removal[
            "repository_access"
        ]
        == []
    )
