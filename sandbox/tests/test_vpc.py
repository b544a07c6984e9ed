# SPDX-License-Identifier: Apache-2.0
"""Private services access, and what Cloud SQL, Cloud Run and App Engine make of networks."""

import ipaddress

import psycopg2
import pytest
from gcp_sandbox.gateway.ports import Vpc
from gcp_sandbox.testing import Client
from gcp_sandbox.testing.vpc import COMPUTE, CONNECTIONS, REGION, Networks

SQL = "https://sqladmin.googleapis.com/v1"
BOB = "bob@example.com"


@pytest.fixture
def vpc(client) -> Networks:
    return Networks(client)


def listed(client, vpc, network="ml", **more):
    return client.ok("GET", f"{CONNECTIONS}?network={vpc.numbered(network)}", **more).get("connections", [])


# --- connections


def test_a_connection_gives_the_network_a_peering(client, vpc):
    vpc.make("ml")
    assert listed(client, vpc) == []
    done = vpc.connect("ml")
    connection = {key: value for key, value in done["response"].items() if key != "@type"}
    assert connection == {
        "network": vpc.numbered("ml"),
        "peering": "servicenetworking-googleapis-com",
        "reservedPeeringRanges": ["ml-services"],
        "service": "services/servicenetworking.googleapis.com",
    }
    assert listed(client, vpc) == [connection]
    peering = client.ok("GET", f"{vpc.base}/global/networks/ml")["peerings"][0]
    assert (peering["name"], peering["state"]) == ("servicenetworking-googleapis-com", "ACTIVE")


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (["none"], "Allocated IP range 'none' not found in network."),
        (["other"], "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection."),
    ],
)
def test_operations_on_connections_that_fail(client, vpc, ranges, said):
    vpc.make("ml")
    if "other" in ranges:
        vpc.connect("ml")
        vpc.reserve("ml", "other")
    assert vpc.connect("ml", *ranges)["error"] == {"code": 9, "message": said}


def test_ranges_are_replaced_by_a_patch(client, vpc):
    vpc.make("ml")
    vpc.connect("ml")
    vpc.reserve("ml", "other")
    body = {"network": vpc.numbered("ml"), "reservedPeeringRanges": ["other"]}
    url = f"{CONNECTIONS}/-?updateMask=reservedPeeringRanges"
    assert vpc.connected("PATCH", url, body)["error"]["code"] == 9
    assert "error" not in vpc.connected("PATCH", f"{url}&force=true", body)
    assert listed(client, vpc)[0]["reservedPeeringRanges"] == ["other"]


def test_a_patch_makes_a_connection_that_a_removed_peering_left(client, vpc):
    vpc.make("ml")
    vpc.connect("ml")
    vpc.act("POST", f"{vpc.base}/global/networks/ml/removePeering", {"name": "servicenetworking-googleapis-com"})
    assert listed(client, vpc) == []
    vpc.reserve("ml", "other")
    assert vpc.connect("ml", "other")["error"]["code"] == 9
    body = {"network": vpc.numbered("ml"), "reservedPeeringRanges": ["other"]}
    assert "error" not in vpc.connected("PATCH", f"{CONNECTIONS}/-?force=true", body)
    assert listed(client, vpc)[0]["reservedPeeringRanges"] == ["other"]


def test_a_connection_ends_with_its_network(client, vpc):
    vpc.make("ml")
    vpc.connect("ml")
    vpc.act("DELETE", f"{vpc.base}/global/addresses/ml-services")
    vpc.act("DELETE", f"{vpc.base}/regions/{REGION}/subnetworks/ml-run")
    vpc.act("DELETE", f"{vpc.base}/global/networks/ml")
    vpc.make("ml")
    assert listed(client, vpc) == []


def test_a_connection_that_is_used_stays(client, vpc, private_database):
    url, body = f"{CONNECTIONS}/servicenetworking-googleapis-com", {"consumerNetwork": vpc.numbered("ml")}
    error = vpc.connected("POST", url, body)["error"]
    assert error["code"] == 9 and "Producer services (e.g. CloudSQL" in error["message"]
    _sql(client, "DELETE", "/db")
    assert "error" not in vpc.connected("POST", url, body)
    assert listed(client, vpc) == [] and "peerings" not in client.ok("GET", f"{vpc.base}/global/networks/ml")


def test_rights_come_from_the_project_of_the_network(sandbox, client, vpc):
    vpc.make("ml")
    vpc.reserve("ml")
    body = {"network": vpc.numbered("ml"), "reservedPeeringRanges": ["ml-services"]}
    assert client.get(f"{CONNECTIONS}?network={vpc.numbered('ml')}", as_=BOB).status == 403
    sandbox.iam.add_binding(vpc.project.name, "roles/editor", f"user:{BOB}")
    assert listed(client, vpc, as_=BOB) == []
    assert client.post(CONNECTIONS, body, as_=BOB).status == 403
    sandbox.iam.add_binding(vpc.project.name, "roles/compute.networkAdmin", f"user:{BOB}")
    assert client.post(CONNECTIONS, body, as_=BOB).status == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"network": "ml"}, 400),
        ({"reservedPeeringRanges": []}, 400),
        ({"network": "projects/%s/global/networks/x"}, 404),
    ],
)
def test_connections_that_are_refused(client, vpc, change, status):
    vpc.make("ml")
    body = {"network": vpc.numbered("ml"), "reservedPeeringRanges": ["ml-services"], **change}
    body["network"] = body["network"].replace("%s", vpc.project.number)
    assert client.post(CONNECTIONS, body).status == status


# --- Cloud SQL


def _instance(network="ml", **more):
    ip = {"ipv4Enabled": False, "privateNetwork": f"projects/mlflow-sandbox/global/networks/{network}", **more}
    settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE", "ipConfiguration": ip}
    return {"name": "db", "databaseVersion": "POSTGRES_16", "region": REGION, "settings": settings}


def _sql(client: Client, method, path="", body=None):
    """Send a request about instances and return its operation once it is done."""
    base = f"{SQL}/projects/mlflow-sandbox"
    operation = client.ok(method, f"{base}/instances{path}", body)
    name = f"sqladmin/{operation['name']}".partition("/")[2]
    found = client.sandbox.operations.get("sqladmin", name)
    client.sandbox.operations.wait(found, 120)
    return client.ok("GET", f"{base}/operations/{name}")


@pytest.fixture
def private_database(sandbox, client, vpc):
    """Make the instance `db`, which has an address in the network `ml` alone."""
    sandbox.enablement.enable(vpc.project, ["sqladmin.googleapis.com"], at_once=True)
    vpc.make("ml")
    vpc.connect("ml")
    assert "error" not in _sql(client, "POST", "", _instance())
    return client.ok("GET", f"{SQL}/projects/mlflow-sandbox/instances/db")


def test_a_private_address_is_in_the_reserved_range(sandbox, client, vpc, private_database):
    (found,) = private_database["ipAddresses"]
    (block,) = sandbox.ports.get(Vpc).reserved("projects/mlflow-sandbox/global/networks/ml").values()
    assert found["type"] == "PRIVATE" and ipaddress.ip_address(found["ipAddress"]) in block
    _sql(client, "PATCH", "/db", {"settings": {"userLabels": {"a": "b"}}})
    _sql(client, "POST", "", {**_instance(), "name": "other"})
    url = f"{SQL}/projects/mlflow-sandbox/instances"
    assert client.ok("GET", f"{url}/db")["ipAddresses"] == [found]
    assert client.ok("GET", f"{url}/other")["ipAddresses"][0]["ipAddress"] != found["ipAddress"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("nothing", "SERVICE_NETWORKING_NOT_ENABLED"),
        ("apis", "NETWORK_NOT_FOUND"),
        ("network", "NETWORK_NOT_PEERED"),
    ],
)
def test_instances_need_a_connected_network(sandbox, client, make, reason):
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.enable(project, ["sqladmin.googleapis.com"], at_once=True)
    vpc = Networks(client) if make != "nothing" else None
    if make == "network":
        vpc.make("ml")
    answer = client.post(f"{SQL}/projects/mlflow-sandbox/instances", _instance())
    said = f"Invalid request: Incorrect Service Networking config for instance: mlflow-sandbox:db:{reason}."
    assert (answer.status, answer.reason, answer.json["error"]["message"]) == (400, "invalid", said)
    assert client.get(f"{SQL}/projects/mlflow-sandbox/instances/db").status == 404


def test_a_private_network_is_added_and_stays(sandbox, client, vpc):
    sandbox.enablement.enable(vpc.project, ["sqladmin.googleapis.com"], at_once=True)
    body = _instance()
    body["settings"]["ipConfiguration"] = {"ipv4Enabled": True}
    _sql(client, "POST", "", body)
    url = f"{SQL}/projects/mlflow-sandbox/instances/db"
    private = {"settings": {"ipConfiguration": _instance()["settings"]["ipConfiguration"]}}
    assert client.patch(url, private).status == 400
    vpc.make("ml")
    vpc.connect("ml")
    _sql(client, "PATCH", "/db", private)
    assert [entry["type"] for entry in client.ok("GET", url)["ipAddresses"]] == ["PRIVATE"]
    removed = {"settings": {"ipConfiguration": {"ipv4Enabled": True, "privateNetwork": None}}}
    assert "cannot be removed" in client.patch(url, removed).json["error"]["message"]


def test_a_range_that_is_not_connected_is_refused(sandbox, client, vpc, private_database):
    vpc.reserve("ml", "other")
    body = {**_instance(allocatedIpRange="other"), "name": "second"}
    answer = client.post(f"{SQL}/projects/mlflow-sandbox/instances", body)
    assert answer.status == 400 and "'other' not found" in answer.json["error"]["message"]


def test_private_service_connect_has_an_attachment_and_a_name(client, vpc, private_database):
    psc = {"pscEnabled": True, "allowedConsumerProjects": ["mlflow-sandbox"]}
    _sql(client, "PATCH", "/db", {"settings": {"ipConfiguration": {"pscConfig": psc}}})
    found = client.ok("GET", f"{SQL}/projects/mlflow-sandbox/instances/db")
    assert "/serviceAttachments/" in found["pscServiceAttachmentLink"] and found["dnsName"].endswith(".sql.goog.")


# --- Cloud Run


def access(network="ml", subnetwork="ml-run"):
    interface = {"network": network, "subnetwork": subnetwork}
    return {"vpcAccess": {"networkInterfaces": [{key: value for key, value in interface.items() if value}]}}


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        (access("none"), "The resource 'projects/mlflow-sandbox/global/networks/none' was not found"),
        (access(subnetwork="no"), f"'projects/mlflow-sandbox/regions/{REGION}/subnetworks/no' was not found"),
        (access(subnetwork=""), f"'projects/mlflow-sandbox/regions/{REGION}/subnetworks/ml' was not found"),
        (access(subnetwork="default"), "does not belong to the network 'projects/mlflow-sandbox/global/networks/ml'"),
    ],
)
def test_cloud_run_refuses_networks_that_do_not_exist(run, vpc, interface, said):
    vpc.make("ml")
    answer = run.create("hello", run.service(template=interface))
    assert answer.status == 400 and said in answer.json["error"]["message"]
    assert run.create("fine", run.service(template=access())).status == 200


def test_another_projects_subnetwork_needs_a_role_of_the_agent(sandbox, client, run, vpc):
    project = sandbox.projects.create("shared-host", "2026-01-01T00:00:00Z")
    sandbox.iam.add_binding(project.name, "roles/owner", f"serviceAccount:{client.email}")
    host = Networks(client, project)
    path = host.make("ml")
    subnetwork = f"projects/shared-host/regions/{REGION}/subnetworks/ml-run"
    body = run.service(template=access(path, subnetwork))
    agent = sandbox.identities.service_agent(vpc.project, "run")["email"]
    refused = run.create("hello", body)
    assert refused.status == 400 and agent in refused.json["error"]["message"]
    binding = {"role": "roles/compute.networkUser", "members": [f"serviceAccount:{agent}"]}
    client.ok("POST", f"{COMPUTE}/{subnetwork}/setIamPolicy", {"policy": {"bindings": [binding]}})
    assert run.create("hello", body).status == 200


@pytest.mark.parametrize(("network", "reached"), [("ml", True), ("other", False), ("", False)])
def test_a_socket_reaches_a_private_address_from_its_network_alone(sandbox, client, private_database, network, reached):
    principal = sandbox.identities.service_account(client.email)
    path = f"projects/mlflow-sandbox/global/networks/{network}" if network else ""
    said = []
    folder = sandbox.settings.runtime / "test"
    mount = sandbox.sql.mount(private_database["connectionName"], folder, lambda: principal, said.append, path)
    try:
        connect = psycopg2.connect(host=str(mount.path.parent), user="postgres", password="x", dbname="postgres")
        connect.close()
    except psycopg2.OperationalError as error:
        answered = str(error)
    finally:
        mount.close()
    # The server refuses the password; the proxy hangs up.
    assert ("password authentication failed" in answered) == reached
    assert any("has no public address" in line for line in said) != reached


# --- App Engine


@pytest.mark.parametrize(
    ("network", "path"),
    [
        ({}, "global/networks/default"),
        ({"name": "none"}, "global/networks/none"),
        ({"name": "ml"}, f"regions/{REGION}/subnetworks/ml"),
    ],
)
def test_app_engine_needs_a_network(engine, vpc, network, path):
    vpc.make("ml")
    vpc.act("DELETE", f"{vpc.base}/global/networks/default")
    engine.create_application()
    error = engine.finish(engine.create("v1", network=network))["error"]
    assert error["code"] == 5 and error["message"].startswith("An internal error occurred while processing task")
    assert error["message"].endswith(f"The resource 'projects/mlflow-sandbox/{path}' was not found")
    assert engine.ask("GET", "/services/default").status == 404
    engine.deploy("v1", network={"name": "ml", "subnetworkName": "ml-run"})
    assert engine.fetch("/health").status_code == 200
