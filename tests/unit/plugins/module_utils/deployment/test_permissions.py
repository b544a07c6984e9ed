# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import itertools
import json
import pathlib

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import model
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.permissions import (
    ACTIONS,
    ON_BUCKETS,
    OWNER,
    Table,
    missing,
    needed,
    rows,
    to_test,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS as REGISTRY

TARGETS = {name: target.permissions for name, target in REGISTRY.items()}
CLOUD_RUN, APP_ENGINE = TARGETS["cloudrun"], TARGETS["appengine"]
EVERYTHING = {
    "iap": True,
    "login": True,
    "custom_client": True,
    "custom_image": True,
    "creates_application": True,
    "network": True,
    "quota_project": True,
    "retires": tuple(TARGETS.values()),
}
CASES = [pytest.param(action, table, id=f"{action}-{name}") for action in ACTIONS for name, table in TARGETS.items()]
# The data do not have them.
UNKNOWN_METHODS = ("sql.", "iap.", "serviceusage.services.generateServiceIdentity")


@functools.cache
def real(name: str):
    file = pathlib.Path(__file__).resolve().parents[6] / "shared" / "iam" / name
    if not file.is_file():
        pytest.skip(f"../shared/iam/{name} does not exist: Google's roles and methods are compared where it is")
    return json.loads(file.read_text())


@pytest.mark.parametrize(("action", "target"), CASES)
def test_every_method_needs_its_permission(action, target):
    methods = real("methods.json")
    wrong = {
        method: permission
        for permission, method in rows(action, target, **EVERYTHING).items()
        if method and not method.startswith(UNKNOWN_METHODS) and permission not in methods.get(method, ())
    }
    assert wrong == {}


@pytest.mark.parametrize(("action", "target"), CASES)
def test_an_owner_of_the_project_lacks_only_what_buckets_grant(action, target):
    owner = set(real("roles.json")["roles/owner"]["permissions"])
    assert set(needed(action, target, **EVERYTHING)) - owner <= ON_BUCKETS
    assert owner.isdisjoint(ON_BUCKETS)
    assert OWNER in owner


def test_an_update_needs_what_the_method_reads():
    """Some methods need a second permission, for example ``get`` for a patch."""
    methods = real("methods.json")
    optional = {"run.jobs.runWithOverrides", "storage.objects.getIamPolicy", "storage.objects.delete"}
    for action, target in itertools.product(ACTIONS, TARGETS.values()):
        found = rows(action, target, **EVERYTHING)
        also = {name for method in found.values() for name in methods.get(method, ()) if method}
        assert also - set(found) <= optional, (action, target)


@pytest.mark.parametrize(("action", "target"), CASES)
def test_the_order_is_that_of_the_alphabet(action, target):
    found = needed(action, target)
    assert list(found) == sorted(set(found))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(
    ("choices", "permission"),
    [
        ({"builds": True}, "cloudbuild.builds.create"),
        ({"iap": True}, "iap.webServices.setIamPolicy"),
        ({"enables": True}, "serviceusage.services.enable"),
        ({"creates_application": True}, "appengine.applications.create"),
        ({"custom_image": True}, "artifactregistry.tags.get"),
        ({"network": True}, "compute.subnetworks.get"),
        ({"quota_project": True}, "serviceusage.services.use"),
        ({"database": "cloudsql"}, "cloudsql.instances.create"),
        ({"migration": "cloud_run_job"}, "run.jobs.run"),
        ({"secrets": "secret_manager"}, "secretmanager.secrets.create"),
        ({"artifacts": "gcs"}, "storage.buckets.create"),
    ],
)
def test_a_choice_adds_its_permissions(target, choices, permission):
    nothing = {"builds": False, "enables": False, "database": "", "migration": "", "secrets": "", "artifacts": ""}
    assert permission not in needed("deploy", target, **nothing)
    assert permission in needed("deploy", target, **(nothing | choices))


def test_an_own_client_of_a_service_on_cloud_run_is_a_setting_of_the_proxy():
    assert "iap.webServices.updateSettings" in needed("deploy", CLOUD_RUN, iap=True, custom_client=True)
    assert "iap.webServices.updateSettings" not in needed("deploy", CLOUD_RUN, iap=True)
    assert "iap.webServices.updateSettings" not in needed("deploy", APP_ENGINE, iap=True, custom_client=True)


@pytest.mark.parametrize("choice", ["login", "custom_client"])
def test_verification_reads_secrets_only_for_a_login_or_an_own_client(choice):
    reads = "secretmanager.versions.access"
    assert reads not in needed("verify", CLOUD_RUN, iap=True)
    assert reads in needed("verify", CLOUD_RUN, iap=True, **{choice: True})


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_only_the_removal_of_data_deletes_data(target):
    data = {"cloudsql.instances.delete", "secretmanager.secrets.delete"}
    assert data.isdisjoint(needed("destroy", target))
    assert data <= set(needed("destroy_data", target))
    assert set(needed("destroy", target)) < set(needed("destroy_data", target))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_but_a_removal_deletes(target):
    deleted = {name for name in needed("deploy", target, **EVERYTHING | {"retires": ()}) if name.endswith(".delete")}
    assert deleted <= {"appengine.versions.delete"}  # older versions
    assert not [
        name
        for name in needed("verify", target, **EVERYTHING)
        if not name.endswith((".get", ".list", ".access", ".use", ".getIamPolicy"))
    ]


def test_a_change_of_the_target_removes_the_other_server():
    assert "appengine.versions.list" not in needed("deploy", CLOUD_RUN)
    assert "appengine.versions.list" in needed("deploy", CLOUD_RUN, retires=[APP_ENGINE])
    assert "run.services.delete" in needed("deploy", APP_ENGINE, retires=[CLOUD_RUN])
    assert "appengine.versions.list" not in needed("verify", CLOUD_RUN, retires=[APP_ENGINE])


def test_a_container_engine_of_the_controller_pushes_the_image():
    local, cloud = (set(needed("deploy", CLOUD_RUN, engine=engine)) for engine in ("podman", "cloud_build"))
    assert local - cloud == {"artifactregistry.repositories.uploadArtifacts"}
    assert cloud - local == {
        "cloudbuild.builds.create",
        "cloudbuild.builds.get",
        "cloudbuild.builds.list",
        "storage.objects.create",
        "storage.objects.get",
    }


def test_a_target_brings_a_table_of_its_own():
    table = Table(
        deploy={"container.clusters.get": ""}, retire={"container.clusters.delete": ""}, client={"compute.x.get": ""}
    )
    assert "container.clusters.get" in needed("deploy", table)
    assert "run.services.create" not in needed("deploy", table)
    assert "container.clusters.delete" in needed("deploy", CLOUD_RUN, retires=[table])
    assert "compute.x.get" in needed("deploy", table, iap=True, custom_client=True)
    assert "compute.x.get" not in needed("deploy", table, custom_client=True)
    assert "compute.networks.get" in needed("deploy", table, extra=["compute.networks.get"])


def test_an_unknown_action_is_an_error():
    with pytest.raises(ValueError, match="'undeploy' is not one of deploy, verify"):
        needed("undeploy", CLOUD_RUN)


def test_what_buckets_grant_is_not_missing_to_an_owner():
    wanted = ["storage.buckets.create", "storage.buckets.get", "run.services.get"]
    assert to_test(wanted) == tuple(sorted([*wanted, OWNER]))
    assert missing(wanted, {OWNER, "storage.buckets.create"}) == ("run.services.get",)
    assert missing(wanted, {"storage.buckets.create"}) == ("run.services.get", "storage.buckets.get")
    assert missing(wanted, set(wanted)) == ()


def test_an_owner_is_looked_for_only_where_it_matters():
    assert to_test(["run.services.get"]) == ("run.services.get",)


SECRETS = "projects/my-project/secrets"
USUAL = {"gcp_project": "my-project", "gcp_region": "europe-west1", "mlflow_name": "demo"}


@pytest.mark.parametrize(
    ("model_action", "variables", "action"),
    [
        ("deploy", {}, "deploy"),
        ("read", {}, "verify"),
        ("destroy", {}, "destroy"),
        ("destroy", {"mlflow_destroy_data": True, "mlflow_destroy_confirm": "demo"}, "destroy_data"),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_deployment_with_default_values_needs_what_the_page_lists(target, model_action, variables, action):
    computed = model.compute(USUAL | variables | {"mlflow_target": target}, model.Observed(), action=model_action)
    assert computed.problems == []
    wanted = needed(action, TARGETS[target], iap=True, enables=False)
    assert computed.deployment.requirements.permissions == list(wanted)


@pytest.mark.parametrize(
    ("variables", "choices"),
    [
        ({"mlflow_image": "europe-west1-docker.pkg.dev/p/r/i@sha256:" + "0" * 64}, {"builds": False}),
        ({"mlflow_image_engine": "podman"}, {"engine": "podman"}),
        ({"mlflow_access": "iam"}, {"iap": False}),
        ({"mlflow_access": "password", "mlflow_access_password_accepted": True}, {"iap": False, "login": True}),
        (
            {"mlflow_oauth_client_id_secret": f"{SECRETS}/id", "mlflow_oauth_client_secret_secret": f"{SECRETS}/key"},
            {"custom_client": True},
        ),
    ],
)
def test_the_variables_of_a_deployment_choose_its_permissions(variables, choices):
    computed = model.compute(USUAL | variables, model.Observed())
    assert computed.problems == []
    wanted = needed("deploy", CLOUD_RUN, **{"iap": True, "enables": False} | choices)
    assert computed.deployment.requirements.permissions == list(wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_a_playbook_that_reads_asks_for_the_server_and_whether_it_has_keys_alone(target):
    given = USUAL | {"mlflow_target": target}
    found = model.compute(given, model.Observed(), action="read").deployment.requirements.resources
    assert {resource["type"].split("_")[0] for resource in found} == {
        "secret",
        {"cloudrun": "cloud", "appengine": "app"}[target],
    }
    assert not any(resource.get("read") for resource in found)


@pytest.mark.parametrize("action", ["read", "destroy"])
def test_only_a_deployment_needs_apis_to_be_enabled(action):
    deploy = model.compute(USUAL, model.Observed()).deployment.requirements
    other = model.compute(USUAL, model.Observed(), action=action).deployment.requirements
    assert other.services == []
    assert set(deploy.services) <= set(other.other_services)
