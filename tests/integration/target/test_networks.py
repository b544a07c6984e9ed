# SPDX-License-Identifier: Apache-2.0
"""Test databases without a public address: the networks that they need, and the way of the server to them.

Where MLflow itself is not needed, an image connects to the socket of the database, in the migration and for each
request.
"""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.conftest import wait_for
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, IMAGES, REGION, VERIFY

pytestmark = pytest.mark.usefixtures("instant")

COMPUTE = "https://compute.googleapis.com/compute/v1"
NETWORKING = "https://servicenetworking.googleapis.com/v1"
APPS = "https://appengine.googleapis.com/v1/apps"
QUICK = {"mlflow_image_context": str(IMAGES / "private")}
PRIVATE = {
    "cloudsql_ipv4_enabled": False,
    "cloudsql_private_network": "ml",
}


class Networks:
    """The networks of a project, through Google's APIs."""

    def __init__(self, project):
        self.project = project
        self.base = f"{COMPUTE}/{project.home}"
        apis = ["compute.googleapis.com", "servicenetworking.googleapis.com"]
        project.make(
            f"{_cloud.USAGE}/v1/{project.home}/services:batchEnable", {"serviceIds": apis}, base=f"{_cloud.USAGE}/v1"
        )

    def act(self, method, url, body=None):
        """Send a request to Compute Engine and wait for its operation."""
        operation = self.project.request(method, url, body)
        return wait_for(self.project.api, operation["selfLink"].replace("www.googleapis.com", "compute.googleapis.com"))

    def make(self, name, block="10.8.0.0/26"):
        """Make a network in custom mode with the subnetwork NAME-run."""
        self.act("POST", f"{self.base}/global/networks", {"name": name, "autoCreateSubnetworks": False})
        body = {"name": f"{name}-run", "network": f"global/networks/{name}", "ipCidrRange": block}
        self.act("POST", f"{self.base}/regions/{REGION}/subnetworks", body)

    def connect(self, name):
        """Reserve a range of a network and connect it to Google's services; return the range."""
        body = {"name": f"google-managed-services-{name}", "addressType": "INTERNAL", "purpose": "VPC_PEERING"}
        body |= {"network": f"global/networks/{name}", "prefixLength": 20}
        self.act("POST", f"{self.base}/global/addresses", body)
        network = f"projects/{self.project.number}/global/networks/{name}"
        connection = {"network": network, "reservedPeeringRanges": [body["name"]]}
        self.project.make(
            f"{NETWORKING}/services/servicenetworking.googleapis.com/connections", connection, base=NETWORKING
        )
        found = self.project.get(f"{self.base}/global/addresses/{body['name']}")
        return ipaddress.ip_network(f"{found['address']}/{found['prefixLength']}")


def addresses(project, instance):
    return project.resources()[f"instance/{instance}"]["ipAddresses"]


def data(name):
    return ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={name}")


class TestCloudRun:
    """A network in custom mode, in the project of the deployments: `run` of MLflow, `quick` of the image here."""

    @pytest.fixture(scope="class")
    def project(self, new_project):
        return new_project()

    @pytest.fixture(scope="class")
    def networks(self, project):
        return Networks(project)

    @pytest.fixture(scope="class")
    def hosts(self, project):
        variables = PRIVATE | project.variables | {"mlflow_access": "iam", "mlflow_subnetwork": "ml-run"}
        return {"run": variables, "quick": variables | QUICK}

    @pytest.fixture(scope="class")
    def refused(self, networks, project, hosts, box, controller):
        """Run the deployment without a network, then without a connection; return the messages."""
        box.latency("instant")
        lost = {"lost": hosts["quick"] | {"cloudsql_private_network": "", "mlflow_subnetwork": ""}}
        nothing = controller.run(DEPLOY, hosts=hosts | lost)
        networks.make("ml")
        unconnected = controller.run(DEPLOY, hosts=hosts)
        assert not [name for name in project.resources() if not name.startswith("account/")]
        messages = {"no network": nothing.message("run"), "no variable": nothing.message("lost")}
        return messages | {"no connection": unconnected.message("run")}

    @pytest.fixture(scope="class")
    def deployed(self, refused, networks, project, hosts, controller):
        """Deploy in the connected network; return the range of its connection."""
        block = networks.connect("ml")
        controller.run(DEPLOY, hosts=hosts, verbosity=4).check()
        controller.collect(project)
        return block

    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            ("no network", "projects/{project}/global/networks/ml"),
            ("no network", "cloudsql_private_network"),
            ("no variable", "Set cloudsql_private_network to a network with private services access"),
            ("no connection", "has no private services access"),
            ("no connection", "gcloud services vpc-peerings connect --service=servicenetworking.googleapis.com"),
        ],
    )
    def test_preflight_names_what_is_missing(self, refused, project, missing, said):
        assert said.format(project=project.project) in refused[missing]

    def test_the_database_has_a_private_address_alone(self, deployed, project):
        (found,) = addresses(project, "run-dev")
        assert found["type"] == "PRIVATE" and ipaddress.ip_address(found["ipAddress"]) in deployed

    def test_the_server_and_the_migration_have_access_to_the_network(self, deployed, project):
        interface = [{"network": "ml", "subnetwork": "ml-run"}]
        assert project.service("run-dev")["template"]["vpcAccess"]["networkInterfaces"] == interface
        job = project.resources()["job/run-dev-migrate"]
        assert job["template"]["template"]["vpcAccess"]["networkInterfaces"] == interface

    def test_a_second_run_changes_nothing_and_the_verification_passes(self, deployed, hosts, controller):
        assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
        controller.run(VERIFY, hosts={"run": hosts["run"]}).check()

    def test_a_server_outside_of_the_network_does_not_reach_the_database(self, deployed, project):
        address = project.address("quick-dev")
        headers = {"Authorization": f"Bearer {project.identity_token('quick-dev-client', address)}"}

        def status():
            return project.anonymous.get(address, headers=headers, timeout=60).status_code

        assert status() == 200
        service = project.service("quick-dev")
        url = f"{_cloud.RUN}/{service['name']}?updateMask=template"
        access = service["template"].pop("vpcAccess")
        template = {key: value for key, value in service["template"].items() if key != "revision"}
        project.make(url, {"template": template}, base=_cloud.RUN, method="PATCH")
        assert status() == 500
        project.make(url, {"template": template | {"vpcAccess": access}}, base=_cloud.RUN, method="PATCH")
        assert status() == 200

    def test_a_removal_leaves_the_network(self, deployed, networks, project, hosts, controller):
        for name in hosts:
            controller.run(DESTROY, *data(name), hosts={name: hosts[name]}).check()
            assert not project.owned(name)
        assert project.get(f"{networks.base}/global/networks/ml")["peerings"][0]["state"] == "ACTIVE"


class TestSharedVpc:
    """A network of another project."""

    def test_preflight_names_the_agent_that_has_no_role(self, new_project, box, controller):
        host, project = new_project(), new_project()
        networks = Networks(host)
        networks.make("ml")
        networks.connect("ml")
        subnetwork = f"projects/{host.project}/regions/{REGION}/subnetworks/ml-run"
        shared = {"mlflow_subnetwork": subnetwork, "mlflow_access": "iam"}
        shared["cloudsql_private_network"] = f"projects/{host.project}/global/networks/ml"
        hosts = {"shared": PRIVATE | QUICK | project.variables | shared}
        agent = f"service-{project.number}@serverless-robot-prod.iam.gserviceaccount.com"
        play = controller.run(DEPLOY, hosts=hosts)
        assert play.failed("shared") and agent in play.output and "roles/compute.networkUser" in play.output
        binding = {"role": "roles/compute.networkUser", "members": [f"serviceAccount:{agent}"]}
        host.request("POST", f"{COMPUTE}/{subnetwork}/setIamPolicy", {"policy": {"bindings": [binding]}})
        play = controller.run(DEPLOY, hosts=hosts).check()
        assert "roles/compute.networkUser" not in play.output
        found = addresses(project, "shared-dev")
        assert [entry["type"] for entry in found] == ["PRIVATE"]
        assert controller.run(DEPLOY, hosts=hosts).check().changed == 0


class TestAppEngine:
    """A project without the network `default`."""

    @pytest.fixture(scope="class")
    def project(self, new_project):
        return new_project()

    @pytest.fixture(scope="class")
    def networks(self, project):
        networks = Networks(project)
        networks.act("DELETE", f"{networks.base}/global/networks/default")
        networks.make("ml")
        networks.connect("ml")
        return networks

    @pytest.fixture(scope="class")
    def hosts(self, project):
        more = {"mlflow_target": "appengine", "mlflow_network": "ml", "mlflow_subnetwork": "ml-run"}
        return {"ae": PRIVATE | QUICK | project.variables | more}

    @pytest.fixture(scope="class")
    def deployed(self, networks, project, hosts, box, controller):
        box.latency("instant")
        controller.run(DEPLOY, hosts=hosts, verbosity=4).check()
        controller.collect(project)
        return project

    def test_the_version_and_the_migration_are_in_the_network(self, deployed):
        url = f"{APPS}/{deployed.project}/services/default/versions"
        (version,) = deployed.list(url, "versions", view="FULL")
        assert (version["network"]["name"], version["network"]["subnetworkName"]) == ("ml", "ml-run")
        assert [entry["type"] for entry in addresses(deployed, "ae-dev")] == ["PRIVATE"]
        job = deployed.resources()["job/ae-dev-migrate"]
        interface = [{"network": "ml", "subnetwork": "ml-run"}]
        assert job["template"]["template"]["vpcAccess"]["networkInterfaces"] == interface

    def test_the_application_reaches_the_database(self, deployed):
        host = deployed.get(f"{APPS}/{deployed.project}")["defaultHostname"]
        token = deployed.signed("ae-dev-client", f"https://{host}/*")
        answer = deployed.anonymous.get(f"https://{host}/", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        assert answer.status_code == 200

    def test_a_second_run_changes_nothing(self, deployed, hosts, controller):
        assert controller.run(DEPLOY, hosts=hosts).check().changed == 0

    def test_a_removal_leaves_the_network(self, deployed, networks, hosts, controller):
        controller.run(DESTROY, *data("ae"), hosts=hosts).check()
        assert "instance/ae-dev" not in deployed.resources()
        assert deployed.get(f"{networks.base}/global/networks/ml") is not None
