# SPDX-License-Identifier: Apache-2.0
"""Compute Engine v1: networks, subnetworks, global addresses, and operations on them."""

import ipaddress
import itertools
import threading
import time

import pytest
from gcp_sandbox.gateway.locations import REGIONS
from gcp_sandbox.sandbox import Sandbox

COMPUTE = "https://compute.googleapis.com/compute/v1"
LINK = "https://www.googleapis.com/compute/v1"
REGION = "europe-west1"


def enable(sandbox, *services):
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.enable(project, [f"{name}.googleapis.com" for name in services], at_once=True)
    return project


@pytest.fixture
def base(sandbox: Sandbox) -> str:
    """Return the address of the default project, which has Compute Engine."""
    return f"{COMPUTE}/projects/{enable(sandbox, 'compute').id}"


@pytest.fixture
def act(client):
    """Send a request and return its operation once it is done."""

    def act(method, url, body=None, **more):
        operation = client.ok(method, url, body, **more)
        deadline = time.monotonic() + 60
        while operation["status"] != "DONE":
            assert time.monotonic() < deadline, operation
            operation = client.ok("GET", operation["selfLink"].replace(LINK, COMPUTE))
        return operation

    return act


@pytest.fixture
def network(base, act):
    """Make a network in custom mode and return its link."""
    act("POST", f"{base}/global/networks", {"name": "ml", "autoCreateSubnetworks": False})
    return f"{base}/global/networks/ml".replace(COMPUTE, LINK)


def subnetwork(name="ml-run", block="10.8.0.0/26", **more):
    return {"name": name, "network": "global/networks/ml", "ipCidrRange": block, **more}


def message(answer):
    return answer.status, answer.reason, answer.json["error"]["message"]


def test_nothing_is_served_before_the_api_is_enabled(sandbox, client):
    answer = client.get(f"{COMPUTE}/projects/{sandbox.settings.project}/global/networks")
    assert answer.status == 403 and answer.json["error"]["details"][0]["reason"] == "SERVICE_DISABLED"


def test_a_project_gets_the_network_default_once_with_the_api(sandbox, client, base, act):
    found = client.ok("GET", f"{base}/global/networks/default")
    assert found["autoCreateSubnetworks"] is True and len(found["subnetworks"]) == len(REGIONS) - 2
    assert f"{LINK}/projects/{sandbox.settings.project}/regions/{REGION}/subnetworks/default" in found["subnetworks"]
    act("DELETE", f"{base}/global/networks/default")
    assert client.ok("GET", f"{base}/regions/{REGION}/subnetworks").get("items") is None
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.enablement.disable(project, ["compute.googleapis.com"])
    enable(sandbox, "compute")
    assert "items" not in client.ok("GET", f"{base}/global/networks")


@pytest.mark.parametrize("made", [True, False])
def test_the_network_default_can_be_switched_off(tmp_path, new_settings, made):
    with new_settings(tmp_path, default_network=made) as settings:
        sandbox = Sandbox(settings)
        sandbox.start()
        project = enable(sandbox, "compute")
        assert (
            sandbox.services["compute"].network(f"projects/{project.id}/global/networks/default") is not None
        ) == made
        sandbox.stop()


def test_ranges_of_auto_mode_are_googles_and_disjoint(client, base):
    answer = client.ok("GET", f"{base}/aggregated/subnetworks?maxResults=500")
    found = {scope: scoped["subnetworks"] for scope, scoped in answer["items"].items()}
    blocks = {scope: ipaddress.ip_network(items[0]["ipCidrRange"]) for scope, items in found.items()}
    assert str(blocks["regions/europe-west1"]) == "10.132.0.0/20"
    assert not [pair for pair in itertools.combinations(blocks.values(), 2) if pair[0].overlaps(pair[1])]
    assert all(block.subnet_of(ipaddress.ip_network("10.128.0.0/9")) for block in blocks.values())


def test_a_network_is_made_changed_and_deleted(client, base, act, network):
    url = f"{base}/global/networks/ml"
    found = client.ok("GET", url)
    assert found["selfLink"] == network and found["routingConfig"]["routingMode"] == "REGIONAL"
    assert client.ok("GET", f"{base}/global/networks/{found['id']}") == found
    assert found["selfLinkWithId"].endswith(f"/{found['id']}") and "subnetworks" not in found
    done = act("PATCH", url, {"routingConfig": {"routingMode": "GLOBAL"}})
    assert (done["operationType"], done["targetLink"], done["progress"]) == ("updateNetwork", network, 100)
    changed = client.ok("GET", url)
    assert changed["routingConfig"] == {"routingMode": "GLOBAL", "bgpBestPathSelectionMode": "LEGACY"}
    assert client.patch(url, {"autoCreateSubnetworks": True}).status == 400
    act("DELETE", url)
    path = network.removeprefix(f"{LINK}/")
    assert message(client.get(url)) == (404, "notFound", f"The resource '{path}' was not found")


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        ({"autoCreateSubnetworks": False}, "required", "Required field 'resource.name' not specified"),
        ({"name": "Ml", "autoCreateSubnetworks": False}, "invalid", "Must be a match of regex"),
        ({"name": "ml"}, "invalid", "Legacy networks"),
        ({"name": "ml", "autoCreateSubnetworks": False, "mtu": 100}, "invalid", "'resource.mtu'"),
    ],
)
def test_networks_that_are_refused(client, base, body, reason, said):
    code, found, text = message(client.post(f"{base}/global/networks", body))
    assert (code, found) == (400, reason) and said in text


def test_a_network_cannot_be_made_twice(client, base, network):
    answer = client.post(f"{base}/global/networks", {"name": "ml", "autoCreateSubnetworks": False})
    path = network.removeprefix(f"{LINK}/")
    assert message(answer) == (409, "alreadyExists", f"The resource '{path}' already exists")


def test_a_network_that_is_used_stays(client, base, act, network):
    act("POST", f"{base}/regions/{REGION}/subnetworks", subnetwork())
    code, reason, text = message(client.delete(f"{base}/global/networks/ml"))
    assert (code, reason) == (400, "resourceInUseByAnotherResource")
    assert text.endswith(
        f"is already being used by 'projects/{base.rpartition('/')[2]}/regions/{REGION}/subnetworks/ml-run'"
    )
    act("DELETE", f"{base}/regions/{REGION}/subnetworks/ml-run")
    act("DELETE", f"{base}/global/networks/ml")


@pytest.mark.parametrize("latency", ["scaled:10"])
def test_a_resource_that_changes_is_not_ready(client, base, network):
    client.ok("PATCH", f"{base}/global/networks/ml", {"routingConfig": {"routingMode": "GLOBAL"}})
    answer = client.patch(f"{base}/global/networks/ml", {"routingConfig": {"routingMode": "REGIONAL"}})
    assert answer.reason == "resourceNotReady"
    client.ok("POST", f"{base}/global/networks", {"name": "other", "autoCreateSubnetworks": False})
    again = client.post(f"{base}/global/networks", {"name": "other", "autoCreateSubnetworks": False})
    assert again.reason == "alreadyExists"


def test_auto_mode_ends_with_a_switch(client, base, act):
    automatic = f"{base}/regions/{REGION}/subnetworks/default"
    code, reason, text = message(client.delete(automatic))
    assert (code, reason) == (400, "invalidResourceUsage")
    assert text == "Invalid resource usage: 'Cannot delete auto subnetwork from an auto subnet mode network.'."
    act("POST", f"{base}/global/networks/default/switchToCustomMode")
    act("DELETE", automatic)
    assert client.get(automatic).status == 404


def test_a_subnetwork_has_googles_defaults(client, base, act, network):
    url = f"{base}/regions/{REGION}/subnetworks"
    done = act("POST", url, subnetwork(secondaryIpRanges=[{"rangeName": "pods", "ipCidrRange": "10.9.0.0/16"}]))
    assert done["region"] == f"{base}/regions/{REGION}".replace(COMPUTE, LINK)
    found = client.ok("GET", f"{url}/ml-run")
    wanted = {
        "gatewayAddress": "10.8.0.1",
        "network": network,
        "privateIpGoogleAccess": False,
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
        "state": "READY",
    }
    assert {key: found[key] for key in wanted} == wanted
    assert client.ok("GET", f"{base}/global/networks/ml")["subnetworks"] == [found["selfLink"]]
    act("POST", f"{url}/ml-run/setPrivateIpGoogleAccess", {"privateIpGoogleAccess": True})
    changed = client.ok("GET", f"{url}/ml-run")
    assert changed["privateIpGoogleAccess"] is True and changed["fingerprint"] != found["fingerprint"]
    listed = client.ok("GET", f"{url}?filter=name%3Dml-run")["items"]
    assert listed == [changed] and "items" not in client.ok("GET", f"{url}?filter=name+eq+other")


def test_a_patch_of_a_subnetwork_needs_its_fingerprint(client, base, act, network):
    url = f"{base}/regions/{REGION}/subnetworks/ml-run"
    act("POST", url.rpartition("/")[0], subnetwork())
    change = {"logConfig": {"enable": True}}
    assert client.patch(url, change).reason == "required"
    assert message(client.patch(url, {**change, "fingerprint": "AAAAAAAAAAA="}))[:2] == (412, "conditionNotMet")
    found = client.ok("GET", url)
    act("PATCH", url, {**change, "fingerprint": found["fingerprint"]})
    assert client.ok("GET", url)["logConfig"] == {"enable": True}
    assert client.patch(url, {**change, "fingerprint": found["fingerprint"]}).status == 412


def test_the_range_of_a_subnetwork_grows(client, base, act, network):
    url = f"{base}/regions/{REGION}/subnetworks/ml-run"
    act("POST", url.rpartition("/")[0], subnetwork())
    assert client.post(f"{url}/expandIpCidrRange", {"ipCidrRange": "10.8.0.0/27"}).reason == "invalid"
    act("POST", f"{url}/expandIpCidrRange", {"ipCidrRange": "10.8.0.0/24"})
    assert client.ok("GET", url)["ipCidrRange"] == "10.8.0.0/24"


def test_an_overlap_ends_the_operation_with_an_error(client, base, act, network):
    act("POST", f"{base}/regions/{REGION}/subnetworks", subnetwork())
    done = act("POST", f"{base}/regions/us-east1/subnetworks", subnetwork("other", "10.8.0.0/24"))
    assert done["httpErrorStatusCode"] == 400
    said = f"Invalid IPCidrRange: 10.8.0.0/24 conflicts with existing subnetwork 'ml-run' in region '{REGION}'."
    assert done["error"]["errors"][0]["message"] == said
    assert client.get(f"{base}/regions/us-east1/subnetworks/other").status == 404


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"network": "global/networks/none"}, "notFound"),
        ({"network": ""}, "required"),
        ({"ipCidrRange": "10.8.0.1/26"}, "invalid"),
        ({"ipCidrRange": "10.8.0.0/30"}, "invalid"),
        ({"purpose": "REGIONAL_MANAGED_PROXY"}, "invalid"),
        ({"role": "ACTIVE"}, "invalid"),
        ({"stackType": "IPV4_IPV6"}, "required"),
        ({"stackType": "IPV4_IPV6", "ipv6AccessType": "INTERNAL"}, "invalid"),
        ({"ipv6AccessType": "INTERNAL"}, "invalid"),
    ],
)
def test_subnetworks_that_are_refused(client, base, network, more, reason):
    assert client.post(f"{base}/regions/{REGION}/subnetworks", subnetwork(**more)).reason == reason


def test_a_region_must_exist(client, base):
    code, reason, text = message(client.get(f"{base}/regions/europe-west99/subnetworks"))
    assert (code, reason, text) == (
        400,
        "invalid",
        "Invalid value for field 'region': 'europe-west99'. Unknown region.",
    )


def test_a_subnetwork_of_proxies_has_a_role(client, base, act, network):
    body = subnetwork("proxies", purpose="REGIONAL_MANAGED_PROXY", role="ACTIVE")
    act("POST", f"{base}/regions/{REGION}/subnetworks", body)
    assert client.ok("GET", f"{base}/regions/{REGION}/subnetworks/proxies")["purpose"] == "REGIONAL_MANAGED_PROXY"


def test_a_subnetwork_gets_an_ipv6_range_of_the_network(client, base, act, network):
    act("PATCH", f"{base}/global/networks/ml", {"enableUlaInternalIpv6": True})
    block = ipaddress.ip_network(client.ok("GET", f"{base}/global/networks/ml")["internalIpv6Range"])
    body = subnetwork(stackType="IPV4_IPV6", ipv6AccessType="INTERNAL")
    act("POST", f"{base}/regions/{REGION}/subnetworks", body)
    found = client.ok("GET", f"{base}/regions/{REGION}/subnetworks/ml-run")
    assert ipaddress.ip_network(found["internalIpv6Prefix"]).subnet_of(block)


def reserve(**more):
    return {"name": "peered", "addressType": "INTERNAL", "purpose": "VPC_PEERING", "prefixLength": 20, **more}


def test_a_range_for_peering_is_free(client, base, act, network):
    act("POST", f"{base}/regions/{REGION}/subnetworks", subnetwork(block="10.0.0.0/10"))
    act("POST", f"{base}/global/addresses", reserve(network=network))
    found = client.ok("GET", f"{base}/global/addresses/peered")
    block = ipaddress.ip_network(f"{found['address']}/{found['prefixLength']}")
    assert block.is_private and not block.overlaps(ipaddress.ip_network("10.0.0.0/10"))
    assert (found["network"], found["status"]) == (network, "RESERVED")
    answer = client.post(f"{base}/global/addresses", reserve(name="b", network=network, address=found["address"]))
    assert answer.status == 400 and "'resource.address'" in answer.json["error"]["message"]
    assert client.delete(f"{base}/global/networks/ml").status == 400
    act("DELETE", f"{base}/global/addresses/peered")
    assert client.get(f"{base}/global/addresses/peered").status == 404


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "required"),
        ({"network": "global/networks/none"}, "notFound"),
        ({"network": "global/networks/ml", "prefixLength": 30}, "invalid"),
        ({"network": "global/networks/ml", "addressType": "EXTERNAL"}, "invalid"),
    ],
)
def test_addresses_that_are_refused(client, base, network, more, reason):
    assert client.post(f"{base}/global/addresses", reserve(**more)).reason == reason


def test_labels_of_an_address_need_their_fingerprint(client, base, act):
    act("POST", f"{base}/global/addresses", {"name": "front", "labels": {"a": "b"}})
    found = client.ok("GET", f"{base}/global/addresses/front")
    assert found["addressType"] == "EXTERNAL" and ipaddress.ip_address(found["address"])
    url = f"{base}/global/addresses/front/setLabels"
    stale = client.post(url, {"labels": {}, "labelFingerprint": "AAAAAAAAAAA="})
    assert message(stale)[:2] == (412, "conditionNotMet")
    done = client.ok("POST", url, {"labels": {"c": "d"}, "labelFingerprint": found["labelFingerprint"]})
    assert done["status"] == "DONE"
    assert client.ok("GET", f"{base}/global/addresses/front")["labels"] == {"c": "d"}


def test_operations_are_listed_waited_for_and_deleted(client, base, act, network):
    done = act("PATCH", f"{base}/global/networks/ml", {"routingConfig": {"routingMode": "GLOBAL"}})
    url = f"{base}/global/operations/{done['name']}"
    assert client.ok("POST", f"{url}/wait")["status"] == "DONE"
    assert client.ok("GET", f"{base}/global/operations/{done['id']}") == client.ok("GET", url)
    assert done["name"] in [op["name"] for op in client.ok("GET", f"{base}/global/operations")["items"]]
    assert client.get(f"{base}/regions/{REGION}/operations/{done['name']}").status == 404
    assert client.delete(url).status in (200, 204)
    assert client.get(url).reason == "notFound"


@pytest.mark.parametrize("latency", ["scaled:20"])
def test_waiting_returns_when_the_operation_ends(client, base):
    operation = client.ok("POST", f"{base}/global/networks", {"name": "slow", "autoCreateSubnetworks": False})
    assert operation["status"] == "RUNNING" and client.get(f"{base}/global/networks/slow").status == 404
    waited = []
    url = f"{base}/global/operations/{operation['name']}/wait"
    waiting = threading.Thread(target=lambda: waited.append(client.ok("POST", url)))
    waiting.start()
    waiting.join(60)
    assert waited[0]["status"] == "DONE" and client.get(f"{base}/global/networks/slow").status == 200


def test_permissions_come_from_the_project_or_the_subnetwork(sandbox, client, base, act, network):
    url = f"{base}/regions/{REGION}/subnetworks/ml-run"
    act("POST", url.rpartition("/")[0], subnetwork())
    path = url.removeprefix(f"{COMPUTE}/")
    bob = "bob@example.com"
    answer = client.get(url, as_=bob)
    assert message(answer) == (403, "forbidden", f"Required 'compute.subnetworks.get' permission for '{path}'")
    bindings = [{"role": "roles/compute.networkUser", "members": [f"user:{bob}"]}]
    policy = client.ok("POST", f"{url}/setIamPolicy", {"policy": {"bindings": bindings}})
    assert client.ok("GET", f"{url}/getIamPolicy") == policy and policy["bindings"] == bindings
    assert client.get(url, as_=bob).status == 200
    assert client.get(f"{base}/global/networks/ml", as_=bob).status == 403
    assert client.delete(url, as_=bob).status == 403
    asked = {"permissions": ["compute.subnetworks.use", "compute.subnetworks.delete"]}
    held = client.ok("POST", f"{url}/testIamPermissions", asked, as_=bob)
    assert held == {"permissions": ["compute.subnetworks.use"]}
    assert client.post(f"{base}/global/addresses", reserve(network=network), as_=bob).status == 403


def test_a_subnetwork_needs_the_right_to_change_its_network(sandbox, client, base, network):
    project = sandbox.projects.get(sandbox.settings.project)
    sandbox.iam.add_binding(project.name, "roles/compute.networkUser", "user:bob@example.com")
    assert client.post(f"{base}/regions/{REGION}/subnetworks", subnetwork(), as_="bob@example.com").status == 403
    sandbox.iam.add_binding(project.name, "roles/compute.networkAdmin", "user:bob@example.com")
    assert client.post(f"{base}/regions/{REGION}/subnetworks", subnetwork(), as_="bob@example.com").status == 200


def test_all_scopes_are_listed_on_request(client, base):
    items = client.ok("GET", f"{base}/aggregated/subnetworks?includeAllScopes=true")["items"]
    assert items["zones/europe-west1-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    assert items[f"regions/{REGION}"]["subnetworks"][0]["name"] == "default"


def test_a_network_has_a_route_to_the_internet_and_to_each_subnetwork(client, base, act, network):
    act("POST", f"{base}/regions/{REGION}/subnetworks", subnetwork())
    found = client.ok("GET", f"{base}/global/routes?filter=network+eq+%22.*%2Fml%22")["items"]
    assert sorted((route["destRange"], route["priority"]) for route in found) == [
        ("0.0.0.0/0", 1000),
        ("10.8.0.0/26", 0),
    ]
    assert client.ok("GET", f"{base}/global/routes/{found[0]['name']}") == found[0]


def test_what_is_not_served_says_so(client, base):
    answer = client.get(f"{base}/zones/europe-west1-b/instances")
    assert answer.status == 501 and "compute.instances.list" in answer.json["error"]["message"]
