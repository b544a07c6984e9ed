# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the networks of a deployment: what follows from the variables, and what is missing in view of what exists."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment import _deployments as d

NETWORK = "projects/mlflow-sandbox/global/networks/default"
SUBNETWORK = "projects/mlflow-sandbox/regions/europe-west1/subnetworks/default"
SHARED = "projects/host-project/global/networks/shared"
SHARED_SUBNETWORK = "projects/host-project/regions/europe-west1/subnetworks/ml"
PRIVATE = {"cloudsql_private_network": "default", "cloudsql_ipv4_enabled": False}
APP = {"mlflow_target": "appengine"}
RUN_AGENT = "serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
FLEX_AGENT = "serviceAccount:service-{number}@gae-api-prod.google.com.iam.gserviceaccount.com"


def network(path=NETWORK, *, private_services=True):
    return d.resource("network", path, owned=False, private_services=private_services)


def subnetwork(path=SUBNETWORK, of=NETWORK, *, google=True):
    return d.resource("subnetwork", path, owned=False, network=of, private_google_access=google)


def asked(deployment):
    """Return (type, name) -> (variable, readers) of the networks that preflight reads."""
    return {
        (item["type"], item["name"]): (item["referenced_by"], item["readers"])
        for item in deployment.requirements.resources
        if item["type"] in ("network", "subnetwork")
    }


def test_a_deployment_without_a_network_states_and_asks_nothing():
    found = d.deployed(found=d.report())
    assert (found.migration.vpc_access, found.server["options"]["vpc_access"]) == (None, None)
    assert d.deployed(APP).server["options"]["network"] is None
    database = found.database
    assert (database.private_network, database.allocated_ip_range, database.ssl_mode) == ("", "", "")
    assert (database.private_path, database.psc_projects) == (None, [])
    assert asked(found) == {}
    assert not {"compute.googleapis.com", "servicenetworking.googleapis.com"} & set(found.requirements.services)
    assert not any(name.startswith("compute.") for name in found.requirements.permissions)


@pytest.mark.parametrize("target", [{}, APP])
def test_a_database_with_a_private_address_alone_takes_service_and_migration_into_its_network(target):
    found = d.deployed(target | PRIVATE, found=d.report(network(), subnetwork()))
    assert (found.database.private_network, found.database.ipv4_enabled) == (NETWORK, False)
    access = {"network": "default", "subnetwork": "default"}
    assert found.migration.vpc_access == access
    options = found.server["options"]
    assert options.get("vpc_access", access) == access
    assert options.get("network", {"name": "default"})["name"] == "default"
    assert asked(found) == {
        ("network", NETWORK): ("cloudsql_private_network", []),
        ("subnetwork", SUBNETWORK): ("cloudsql_private_network", []),
    }
    assert {"compute.googleapis.com", "servicenetworking.googleapis.com"} <= set(found.requirements.services)
    assert {"compute.networks.get", "compute.subnetworks.get"} <= set(found.requirements.permissions)


def test_a_private_address_beside_the_public_one_needs_no_network_of_the_server():
    found = d.deployed(cloudsql_private_network=SHARED, found=d.report(network(SHARED)))
    assert (found.database.private_network, found.migration.vpc_access) == (SHARED, None)
    assert asked(found) == {("network", SHARED): ("cloudsql_private_network", [])}
    assert "compute.networks.get" not in found.requirements.permissions, "the host project grants it"


@pytest.mark.parametrize(("target", "agents"), [({}, [RUN_AGENT]), (APP, [RUN_AGENT, FLEX_AGENT])])
def test_agents_need_a_role_on_a_subnetwork_of_a_shared_vpc(target, agents):
    found = d.deployed(target, mlflow_network=SHARED, mlflow_subnetwork="ml", mlflow_network_egress="ALL_TRAFFIC")
    access = {"network": SHARED, "subnetwork": SHARED_SUBNETWORK, "egress": "ALL_TRAFFIC"}
    assert found.migration.vpc_access == access
    assert asked(found)["subnetwork", SHARED_SUBNETWORK] == ("mlflow_subnetwork", agents)
    assert "servicenetworking.googleapis.com" not in found.requirements.services


def test_the_network_of_app_engine_makes_another_version():
    plain = d.deployed(APP).server["options"]
    inside = d.deployed(APP, mlflow_network="ml", appengine_mlflow_instance_ip_mode="INTERNAL").server["options"]
    assert inside["network"] == {"name": "ml", "subnetwork": "ml", "instance_ip_mode": "INTERNAL"}
    assert inside["version"] != plain["version"]
    shared = d.deployed(APP, mlflow_network=SHARED, mlflow_subnetwork=SHARED_SUBNETWORK).server["options"]
    assert shared["network"] == {"name": SHARED, "subnetwork": "ml"}
    mode = d.deployed(APP, appengine_mlflow_instance_ip_mode="EXTERNAL").server["options"]["network"]
    assert mode == {"name": "default", "instance_ip_mode": "EXTERNAL"}


def instance(**facts):
    return d.resource("sql_instance", "demo-dev", version="POSTGRES_16", **facts)


def test_an_adopted_instance_keeps_its_private_network():
    there = d.report(instance(public_address=False, private_network=NETWORK))
    found = d.deployed(found=there, cloudsql_ipv4_enabled=False, mlflow_adopt=True)
    assert found.database.private_network == "", "it is not stated"
    assert found.migration.vpc_access["network"] == found.server["options"]["vpc_access"]["network"] == "default"


def test_the_network_of_a_used_instance_is_that_of_the_server():
    there = d.report(instance(public_address=False, private_network=SHARED))
    found = d.deployed(found=there, mlflow_ownership={"database": "used"}, mlflow_subnetwork="", mlflow_network="")
    assert found.migration.vpc_access == {
        "network": SHARED,
        "subnetwork": "projects/host-project/regions/europe-west1/subnetworks/shared",
    }


CLOSED = {"mlflow_network": "default", "mlflow_network_egress": "ALL_TRAFFIC"}
MISSING = [
    ({"cloudsql_ipv4_enabled": False}, (), "cloudsql_ipv4_enabled", ("no address in a VPC network", "private_network")),
    (
        {"mlflow_ownership": {"database": "used"}},
        (instance(public_address=False),),
        "mlflow_database_instance",
        ("neither a public address nor one in a VPC network",),
    ),
    (
        PRIVATE,
        (network(private_services=False), subnetwork()),
        "cloudsql_private_network",
        (
            "no private services access",
            "gcloud compute addresses create google-managed-services-default --global --purpose=VPC_PEERING",
            "gcloud services vpc-peerings connect --service=servicenetworking.googleapis.com"
            " --ranges=google-managed-services-default --network=default --project=mlflow-sandbox",
        ),
    ),
    (
        PRIVATE | {"cloudsql_allocated_ip_range": "ml-range"},
        (network(private_services=False),),
        "cloudsql_private_network",
        ("create ml-range", "--ranges=ml-range"),
    ),
    (
        PRIVATE | {"mlflow_network": "other"},
        (network(),),
        "mlflow_network",
        ("networks/other", "networks/default alone", "Leave mlflow_network out"),
    ),
    (
        {"mlflow_network": "default", "mlflow_subnetwork": "default"},
        (subnetwork(of="projects/mlflow-sandbox/global/networks/other"),),
        "mlflow_subnetwork",
        ("belongs to projects/mlflow-sandbox/global/networks/other",),
    ),
    (CLOSED, (subnetwork(google=False),), "mlflow_network_egress", ("no Private Google Access", "--enable-private-ip")),
    (
        APP | {"mlflow_network": "default", "appengine_mlflow_instance_ip_mode": "INTERNAL"},
        (subnetwork(google=False),),
        "appengine_mlflow_instance_ip_mode",
        ("no Private Google Access",),
    ),
]


@pytest.mark.parametrize(("given", "resources", "variable", "words"), MISSING)
def test_what_is_missing_is_a_problem_with_the_way_out(given, resources, variable, words):
    outcome = d.computed(given, found=d.report(*resources))
    assert d.variables_of(outcome) == [variable]
    message = f"{outcome.problems[0].what}\n{outcome.problems[0].next}"
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize("given", [given for given, *_rest in MISSING])
def test_nothing_is_missing_before_it_was_read(given):
    assert d.computed(given).problems == []


def test_an_instance_that_is_in_the_network_needs_no_connection_any_more():
    there = (network(private_services=False), subnetwork(), instance(public_address=False, private_network=NETWORK))
    d.deployed(PRIVATE, found=d.report(*there))
