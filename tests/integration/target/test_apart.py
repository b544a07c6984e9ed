# SPDX-License-Identifier: Apache-2.0
"""Test a deployment on each target with each resource in a location of its own, and with values that YAML reads as
numbers and booleans, with an environment and labels of any form that Google takes, and below a path.
"""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY

pytestmark = pytest.mark.usefixtures("instant")

PLACES = {
    "cloudsql_region": "europe-north1",
    "cloudsql_backup_location": "europe-west4",
    "mlflow_image_location": "europe-west4",
    "mlflow_bucket_location": "EUR4",
    "secrets_replication_locations": ["europe-west3", "europe-west4"],
    "mlflow_labels": {"cost-center": 4711, "audited": True, "équipe": "機械学習"},
    # The image answers with 404 to every request that is not below this path.
    "mlflow_server_env": {"RATIO": 0.00001, "STRICT": True, "MLFLOW_STATIC_PREFIX": "/ml/flow"},
}


@pytest.fixture(scope="module")
def project(new_project):
    return new_project()


@pytest.fixture(scope="module")
def hosts(project, small):
    common = small | project.variables | PLACES | {"mlflow_access_members": ["user:alice@example.com"]}
    engine = {
        "mlflow_target": "appengine",
        "appengine_mlflow_location": "europe-west3",
        "mlflow_env": "eu-2",
    }
    return {"apart": common, "engine": common | engine | {"cloudsql_flags": {"general_log": True}}}


@pytest.mark.parametrize("name", ["apart-dev", "engine-eu-2"])
def test_each_resource_is_where_its_variable_says(deployed_resources, project, name):
    instance = deployed_resources[f"instance/{name}"]
    assert instance["region"] == "europe-north1"
    assert instance["settings"]["backupConfiguration"]["location"] == "europe-west4"
    assert deployed_resources[f"bucket/{project.project}-{name}-artifacts"]["location"] == "EUR4"
    replicas = deployed_resources[f"secret/{name}-db-password"]["replication"]["userManaged"]["replicas"]
    assert [item["location"] for item in replicas] == ["europe-west3", "europe-west4"]
    repository = f"{_cloud.REGISTRY}/{project.home}/locations/europe-west4/repositories/{name}"
    assert project.list(f"{repository}/dockerImages", "dockerImages")
    assert deployed_resources[f"job/{name}-migrate"]["name"].split("/")[3] == "europe-west1"


def test_values_of_labels_environment_and_flags_are_text(deployed_resources):
    service = deployed_resources["service/apart-dev"]
    assert (service["labels"]["cost-center"], service["labels"]["audited"]) == ("4711", "true")
    assert service["labels"]["équipe"] == "機械学習"
    environment = {item["name"]: item.get("value") for item in service["template"]["containers"][0]["env"]}
    assert (environment["RATIO"], environment["STRICT"]) == ("0.00001", "true")
    flags = {
        item["name"]: item["value"] for item in deployed_resources["instance/engine-eu-2"]["settings"]["databaseFlags"]
    }
    assert flags["general_log"] == "on"


def test_probes_ask_below_the_path_of_the_server(deployed_resources, project):
    (container,) = deployed_resources["service/apart-dev"]["template"]["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/ml/flow/health"
    versions = f"https://appengine.googleapis.com/v1/apps/{project.project}/services/default/versions"
    (version,) = project.list(versions, "versions", view="FULL")
    for check in ("readinessCheck", "livenessCheck"):
        assert version[check]["path"] == "/ml/flow/health"


def test_a_second_run_changes_nothing(deployed_resources, hosts, controller):
    assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


def test_a_removal_finds_everything(deployed_resources, project, hosts, controller):
    for name in hosts:
        options = ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={name}")
        controller.run(DESTROY, *options, hosts={name: hosts[name]}).check()
        assert project.owned(name) == {}
