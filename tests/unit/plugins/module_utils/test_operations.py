# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import (
    Waiter,
    compute_operation,
    compute_under_way,
    container_operation,
    container_under_way,
    long_running,
    sql_operation,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import Rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import (
    PENDING,
    Resource,
    Update,
    state_of,
)

BASE = "https://run.googleapis.com/v2"
KIND = long_running(BASE)
SQL = sql_operation("https://sqladmin.googleapis.com/sql/v1")


@pytest.fixture
def waiter(cloud):
    return Waiter(cloud.clock, 60, cloud.progress.append)


def test_an_operation_that_is_done_costs_nothing(cloud, waiter):
    body = {"name": "operations/1", "done": True, "response": {"@type": "t", "name": "x"}}
    assert waiter.operation(cloud.client, KIND, body, what="creating x") is body
    assert KIND.result(body) == {"name": "x"}
    assert KIND.status(body) == "done"
    assert cloud.clock.slept == []


def test_polls_until_done(cloud, waiter):
    cloud.expect("GET", f"{BASE}/operations/1", body={"name": "operations/1"})
    cloud.expect("GET", f"{BASE}/operations/1", body={"name": "operations/1", "done": True})
    last = waiter.operation(cloud.client, KIND, {"name": "operations/1"}, what="creating x")
    assert last["done"] and KIND.result(last) is None
    cloud.done()


@pytest.mark.parametrize(
    ("error", "words"), [({"code": 9, "message": "no room"}, "no room"), ({"code": 9}, "error code 9")]
)
def test_failure_is_reported(cloud, waiter, error, words):
    with pytest.raises(_errors.OperationFailed, match=f"creating x failed: {words}") as raised:
        waiter.operation(cloud.client, KIND, {"name": "o", "done": True, "error": error}, what="creating x")
    assert raised.value.facts["operation"] == "o"


@pytest.mark.parametrize(
    ("error", "internal"),
    [
        ({"code": 13, "message": "broke"}, True),
        ({"code": 14}, True),
        ({"code": 9, "message": "no room"}, False),
        ({"errors": [{"code": "INTERNAL_ERROR", "message": "broke"}]}, True),
        ({"errors": [{"code": "ERROR_RDBMS", "message": "no room"}]}, False),
    ],
)
def test_the_error_of_an_internal_failure_says_what_to_do(cloud, waiter, error, internal):
    kind, body = KIND, {"name": "o", "done": True, "error": error}
    if "errors" in error:
        kind, body = SQL, {"name": "o", "targetProject": "p", "status": "DONE", "error": error}
    with pytest.raises(_errors.OperationFailed) as raised:
        waiter.operation(cloud.client, kind, body, what="creating x")
    assert ("run the task again" in str(raised.value)) is internal


def test_deadline_tells_the_last_status(cloud, waiter):
    polls = []

    def poll():
        polls.append(cloud.clock.now())
        return None, "PENDING_CREATE"

    with pytest.raises(
        _errors.OperationTimeout, match=r"creating x: not finished after wait_timeout=60 s; last status: PENDING_CREATE"
    ):
        waiter.until(poll, what="creating x", operation="o")
    assert polls[-1] == pytest.approx(1060)
    assert waiter.left <= 0
    assert len(polls) < 50


def test_progress_every_quarter_of_a_minute(cloud, waiter):
    answers = iter(["RUNNING"] * 1000)

    def poll():
        return "value", "" if cloud.clock.now() > 1050 else next(answers)

    assert waiter.until(poll, what="creating x") == "value"
    assert len(cloud.progress) == 3
    assert cloud.progress[0].startswith("creating x: RUNNING, 1")
    waiter = Waiter(cloud.clock, 600, cloud.progress.append)
    began = cloud.clock.now()
    waiter.until(lambda: (None, "" if cloud.clock.now() - began > 80 else "RUNNING"), what="y")
    assert cloud.progress[-1].startswith("y: RUNNING, 1m")


def test_one_deadline_for_everything(cloud, waiter):
    began = cloud.clock.now()
    waiter.until(lambda: (1, "" if cloud.clock.now() - began > 50 else "x"), what="a")
    with pytest.raises(_errors.OperationTimeout):
        waiter.until(lambda: (1, "busy"), what="b")
    assert cloud.clock.now() - began <= 61
    with pytest.raises(_errors.OperationTimeout):
        waiter.pause(1, "c", "busy")


def test_sql_operations(cloud, waiter):
    body = {"name": "op1", "targetProject": "p", "status": "PENDING"}
    url = "https://sqladmin.googleapis.com/sql/v1/projects/p/operations/op1"
    cloud.expect("GET", url, body=dict(body, status="RUNNING"))
    failed = dict(body, status="DONE", error={"errors": [{"code": "INTERNAL", "message": "broke"}, {}]})
    cloud.expect("GET", url, body=failed)
    with pytest.raises(_errors.OperationFailed, match="INTERNAL: broke; ERROR:"):
        waiter.operation(cloud.client, SQL, body, what="creating x")
    assert SQL.status({}) == "unknown"
    assert SQL.result(body) is None
    assert SQL.error({"status": "DONE"}) == ""


# Compute Engine and Google Kubernetes Engine. The bodies have the shapes of traffic recorded from the services.

COMPUTE = "https://compute.googleapis.com/compute/v1"
LINK = "https://www.googleapis.com/compute/v1"
GKE = "https://container.googleapis.com/v1"
NETWORK = Resource(
    kind="network",
    base=COMPUTE,
    path="projects/{project}/global/networks/{name}",
    permission="compute.networks",
    create_body=lambda names, body: dict(body, name=names["name"]),
    update=Update(style="merge", depth=2),
    operation=compute_operation(COMPUTE),
    under_way=compute_under_way,
    rules=Rules(immutable={"autoCreateSubnetworks": "Use another name."}),
)
SET_LABELS = Update(
    style="merge",
    method="POST",
    fields=("labels",),
    path="/setLabels",
    guard="labelFingerprint",
    permission="setLabels",
)
ADDRESS = Resource(
    kind="address",
    base=COMPUTE,
    path="projects/{project}/regions/{region}/addresses/{name}",
    permission="compute.addresses",
    create_body=lambda names, body: dict(body, name=names["name"]),
    # An address itself cannot be changed, apart from its labels.
    update=Update(style="requests", requests=(SET_LABELS,)),
    operation=compute_operation(COMPUTE),
    under_way=compute_under_way,
)
INSTANCE = Resource(
    kind="instance",
    base=COMPUTE,
    path="projects/{project}/zones/{zone}/instances/{name}",
    permission="compute.instances",
    create_body=lambda names, body: dict(body, name=names["name"]),
    update=Update(
        style="requests",
        requests=(
            Update(
                style="merge",
                method="POST",
                fields=("metadata",),
                path="/setMetadata",
                guard="metadata.fingerprint",
                wrap=lambda body, mask: body["metadata"],
                permission="setMetadata",
            ),
            SET_LABELS,
        ),
    ),
    operation=compute_operation(COMPUTE),
    under_way=compute_under_way,
    state=state_of("status", pending=("PROVISIONING", "STAGING", "STOPPING")),
    rules=Rules(keyed={"metadata.items": "key"}),
)


def desired_update(field, wanted):
    """A request of GKE's general update, which accepts one kind of change at a time."""
    return Update(
        style="merge",
        method="PUT",
        fields=(field,),
        wrap=lambda body, mask: {"update": {wanted: body[field]}},
    )


CLUSTER = Resource(
    kind="GKE cluster",
    base=GKE,
    path="projects/{project}/locations/{location}/clusters/{name}",
    permission="container.clusters",
    create_body=lambda names, body: {"cluster": dict(body, name=names["name"])},
    update=Update(
        style="requests",
        requests=(
            desired_update("addonsConfig", "desiredAddonsConfig"),
            desired_update("releaseChannel", "desiredReleaseChannel"),
            Update(
                style="merge",
                method="POST",
                fields=("resourceLabels",),
                path=":setResourceLabels",
                guard="labelFingerprint",
            ),
        ),
    ),
    operation=container_operation(GKE),
    under_way=container_under_way,
    state=state_of("status", pending=("PROVISIONING", "RECONCILING", "STOPPING"), failed=("ERROR",)),
)


@pytest.fixture
def remote(cloud):
    def make(resource, name, wait=True, **names):
        return cloud.task({"project": "p", "wait": wait}).remote(resource, name=name, **names)

    return make


def compute(scope, target, kind="insert", **more):
    """An operation of Compute Engine on a resource of a scope such as ``zones/z``."""
    body = {
        "id": "1234567890123456789",
        "insertTime": "2026-11-27T10:00:00.000-07:00",
        "kind": "compute#operation",
        "name": "operation-1",
        "operationType": kind,
        "progress": 0,
        "selfLink": f"{LINK}/projects/p/{scope}/operations/operation-1",
        "status": "RUNNING",
        "targetLink": f"{LINK}/projects/p/{scope}/{target}",
        "user": "me@p.iam.gserviceaccount.com",
    }
    if scope != "global":
        body[scope.split("/")[0].removesuffix("s")] = f"{LINK}/projects/p/{scope}"
    return dict(body, **more)


def ended(operation, **more):
    return dict(operation, status="DONE", progress=100, endTime="2026-11-27T10:00:09.000-07:00", **more)


def test_a_network_is_inserted_by_a_global_operation(cloud, remote):
    url = f"{COMPUTE}/projects/p/global/networks/n"
    operation = compute("global", "networks/n")
    cloud.expect_error("GET", url, 404, reason="notFound", legacy=True)
    cloud.expect(
        "POST",
        f"{COMPUTE}/projects/p/global/networks",
        sent={"name": "n", "autoCreateSubnetworks": False, "routingConfig": {"routingMode": "REGIONAL"}},
        body=operation,
    )
    cloud.expect("GET", f"{COMPUTE}/projects/p/global/operations/operation-1", body=dict(operation, progress=40))
    cloud.expect("GET", f"{COMPUTE}/projects/p/global/operations/operation-1", body=ended(operation))
    cloud.expect("GET", url, body={"kind": "compute#network", "name": "n", "selfLink": f"{LINK}/projects/p/global/n"})
    result = remote(NETWORK, "n").ensure({"autoCreateSubnetworks": False, "routingConfig": {"routingMode": "REGIONAL"}})
    assert result.changed and result.resource["kind"] == "compute#network"
    cloud.done()


def test_a_regional_address_gets_labels_with_their_fingerprint(cloud, remote):
    url = f"{COMPUTE}/projects/p/regions/europe-west1/addresses/a"
    operation = compute("regions/europe-west1", "addresses/a", "setLabels")
    address = {"name": "a", "status": "RESERVED", "labels": {"team": "ml"}, "labelFingerprint": "42WmSpB8rSM="}
    cloud.expect("GET", url, body=address)
    cloud.expect(
        "POST",
        f"{url}/setLabels",
        sent={"labels": {"team": "ml", "env": "prod"}, "labelFingerprint": "42WmSpB8rSM="},
        body=operation,
    )
    cloud.expect("GET", f"{COMPUTE}/projects/p/regions/europe-west1/operations/operation-1", body=ended(operation))
    cloud.expect("GET", url, body=dict(address, labels={"team": "ml", "env": "prod"}, labelFingerprint="new"))
    result = remote(ADDRESS, "a", region="europe-west1").ensure({"labels": {"env": "prod"}})
    assert result.resource["labelFingerprint"] == "new"
    assert result.diff["before"] == {"labels": {}} and result.diff["after"] == {"labels": {"env": "prod"}}
    cloud.done()


def test_what_no_request_changes_is_refused_before_the_first_one(cloud, remote):
    address = {"name": "a", "networkTier": "STANDARD", "labels": {}, "labelFingerprint": "x"}
    cloud.expect("GET", f"{COMPUTE}/projects/p/regions/r1/addresses/a", body=address)
    with pytest.raises(_errors.ImmutableFieldError, match=r"/a cannot be changed; what differs: networkTier\."):
        remote(ADDRESS, "a", region="r1").ensure({"networkTier": "PREMIUM", "labels": {"a": "b"}})
    cloud.done()


def test_a_zonal_instance_that_has_no_room(cloud, remote):
    scope = "zones/europe-west1-b"
    operation = compute(scope, "instances/i")
    cloud.expect_error("GET", f"{COMPUTE}/projects/p/{scope}/instances/i", 404, reason="notFound", legacy=True)
    cloud.expect("POST", f"{COMPUTE}/projects/p/{scope}/instances", body=operation)
    message = "The zone 'projects/p/zones/europe-west1-b' does not have enough resources available."
    cloud.expect(
        "GET",
        f"{COMPUTE}/projects/p/{scope}/operations/operation-1",
        body=ended(
            operation,
            error={"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": message}]},
            httpErrorStatusCode=503,
            httpErrorMessage="SERVICE UNAVAILABLE",
        ),
    )
    with pytest.raises(
        _errors.OperationFailed, match=r"creating instance .*failed: ZONE_RESOURCE_POOL_EXHAUSTED: The zone"
    ):
        remote(INSTANCE, "i", zone="europe-west1-b").ensure({"machineType": f"{scope}/machineTypes/e2-small"})
    cloud.done()


def test_a_stale_fingerprint_is_read_again(cloud, remote):
    """An instance takes two requests, each with its own guard. Another run changes the labels in between."""
    scope, url = "zones/z", f"{COMPUTE}/projects/p/zones/z/instances/i"
    metadata = {"kind": "compute#metadata", "fingerprint": "m1", "items": [{"key": "a", "value": "1"}]}
    wanted = [{"key": "a", "value": "2"}]
    body = {"name": "i", "status": "RUNNING", "labels": {}, "labelFingerprint": "l1", "metadata": metadata}
    cloud.expect("GET", url, body=body)
    operation = compute(scope, "instances/i", "setMetadata")
    cloud.expect("POST", f"{url}/setMetadata", sent=dict(metadata, items=wanted), body=operation)
    cloud.expect("GET", f"{COMPUTE}/projects/p/zones/z/operations/operation-1", body=ended(operation))
    cloud.expect_error(
        "POST",
        f"{url}/setLabels",
        412,
        reason="conditionNotMet",
        legacy=True,
        sent={"labels": {"a": "b"}, "labelFingerprint": "l1"},
        message="Labels fingerprint either invalid or resource labels have changed",
    )
    now = dict(body, metadata=dict(metadata, items=wanted, fingerprint="m2"), labels={"x": "y"}, labelFingerprint="l2")
    cloud.expect("GET", url, body=now)
    last = compute(scope, "instances/i", "setLabels")
    cloud.expect("POST", f"{url}/setLabels", sent={"labels": {"x": "y", "a": "b"}, "labelFingerprint": "l2"}, body=last)
    cloud.expect("GET", f"{COMPUTE}/projects/p/zones/z/operations/operation-1", body=ended(last))
    cloud.expect("GET", url, body=now)
    assert remote(INSTANCE, "i", zone="z").ensure({"metadata": {"items": wanted}, "labels": {"a": "b"}}).changed
    cloud.done()


def test_a_busy_resource_of_compute_is_waited_for(cloud, remote):
    """Another run's operation on the same network is found by its target and joined."""
    url = f"{COMPUTE}/projects/p/global/networks/n"
    other = dict(compute("global", "networks/n", "update"), name="operation-0")
    other["selfLink"] = f"{LINK}/projects/p/global/operations/operation-0"
    mine = compute("global", "networks/n", "patch")
    cloud.expect("GET", url, body={"name": "n", "routingConfig": {"routingMode": "REGIONAL"}})
    cloud.expect_error("PATCH", url, 400, reason="resourceNotReady", legacy=True, message="The resource is not ready")
    cloud.expect(
        "GET",
        f"{COMPUTE}/projects/p/global/operations",
        query={"filter": 'status != "DONE"'},
        body={"items": [compute("global", "networks/other"), other]},
    )
    cloud.expect("GET", f"{COMPUTE}/projects/p/global/operations/operation-0", body=ended(other))
    cloud.expect("PATCH", url, body=mine)
    cloud.expect("GET", f"{COMPUTE}/projects/p/global/operations/operation-1", body=ended(mine))
    cloud.expect("GET", url, body={"name": "n", "routingConfig": {"routingMode": "GLOBAL"}})
    assert remote(NETWORK, "n").ensure({"routingConfig": {"routingMode": "GLOBAL"}}).changed
    cloud.done()


def gke(number, kind, target="clusters/c", **more):
    """An operation of Google Kubernetes Engine in a zone, as the v1 API returns it: with the project's number."""
    base = "https://container.googleapis.com/v1/projects/123456789012/zones/europe-west1-b"
    body = {
        "name": f"operation-{number}",
        "operationType": kind,
        "selfLink": f"{base}/operations/operation-{number}",
        "startTime": "2026-11-27T10:00:00.123456Z",
        "status": "RUNNING",
        "targetLink": f"{base}/{target}",
        "zone": "europe-west1-b",
    }
    return dict(body, **more)


ZONE = f"{GKE}/projects/p/locations/europe-west1-b"
# Operations are polled with the project's number that the operation itself names.
POLL = f"{GKE}/projects/123456789012/locations/europe-west1-b/operations"
RUNNING = {
    "name": "c",
    "status": "RUNNING",
    "resourceLabels": {"team": "ml"},
    "labelFingerprint": "abcdef0123A=",
    "releaseChannel": {"channel": "REGULAR"},
    "addonsConfig": {"gcePersistentDiskCsiDriverConfig": {"enabled": True}},
}


def test_a_cluster_is_created(cloud, remote):
    operation = gke(1, "CREATE_CLUSTER")
    cloud.expect_error("GET", f"{ZONE}/clusters/c", 404, code="NOT_FOUND")
    cloud.expect(
        "POST",
        f"{ZONE}/clusters",
        sent={"cluster": {"name": "c", "releaseChannel": {"channel": "REGULAR"}, "initialNodeCount": 1}},
        body=operation,
    )
    metrics = {"metrics": [{"name": "CLUSTER_DEPLOYING", "intValue": "8"}]}
    for _again in range(40):
        cloud.expect("GET", f"{POLL}/operation-1", body=dict(operation, progress=metrics, detail="deploying"))
    cloud.expect("GET", f"{POLL}/operation-1", body=dict(operation, status="DONE"))
    cloud.expect("GET", f"{ZONE}/clusters/c", body=RUNNING)
    result = remote(CLUSTER, "c", location="europe-west1-b").ensure(
        {"releaseChannel": {"channel": "REGULAR"}, "initialNodeCount": 1}
    )
    assert result.changed and result.resource == RUNNING
    assert cloud.progress[0].startswith("creating GKE cluster projects/p/locations/europe-west1-b/clusters/c: RUNNING,")
    cloud.done()


WANTED = {
    "addonsConfig": {"gcsFuseCsiDriverConfig": {"enabled": True}},
    "releaseChannel": {"channel": "STABLE"},
    "resourceLabels": {"env": "prod"},
}


def test_an_update_of_a_cluster_takes_three_requests_and_joins_an_operation(cloud, remote):
    """Before the second request another run's operation on a node pool has started: it is awaited, then it is sent."""
    url = f"{ZONE}/clusters/c"
    cloud.expect("GET", url, body=RUNNING)
    first = gke(1, "UPDATE_CLUSTER")
    addons = {"gcePersistentDiskCsiDriverConfig": {"enabled": True}, "gcsFuseCsiDriverConfig": {"enabled": True}}
    cloud.expect("PUT", url, sent={"update": {"desiredAddonsConfig": addons}}, body=first)
    cloud.expect("GET", f"{POLL}/operation-1", body=dict(first, status="DONE"))
    channel = {"update": {"desiredReleaseChannel": {"channel": "STABLE"}}}
    cloud.expect_error(
        "PUT",
        url,
        400,
        code="FAILED_PRECONDITION",
        sent=channel,
        message="Cluster is running incompatible operation operation-7.",
    )
    other = gke(7, "SET_NODE_POOL_SIZE", "clusters/c/nodePools/default-pool")
    cloud.expect(
        "GET",
        f"{ZONE}/operations",
        body={"operations": [dict(first, status="DONE"), gke(6, "UPDATE_CLUSTER", "clusters/c2"), other]},
    )
    cloud.expect("GET", f"{POLL}/operation-7", body=other)
    # Its result belongs to another run.
    cloud.expect("GET", f"{POLL}/operation-7", body=dict(other, status="DONE", statusMessage="no quota"))
    second = gke(2, "UPDATE_CLUSTER")
    cloud.expect("PUT", url, sent=channel, body=second)
    cloud.expect("GET", f"{POLL}/operation-2", body=dict(second, status="DONE"))
    third = gke(3, "SET_LABELS")
    cloud.expect(
        "POST",
        f"{url}:setResourceLabels",
        sent={"resourceLabels": {"team": "ml", "env": "prod"}, "labelFingerprint": "abcdef0123A="},
        body=third,
    )
    cloud.expect("GET", f"{POLL}/operation-3", body=dict(third, status="DONE"))
    cloud.expect("GET", url, body=dict(RUNNING, **WANTED))
    result = remote(CLUSTER, "c", location="europe-west1-b").ensure(WANTED)
    assert result.changed and set(result.diff["after"]) == set(WANTED)
    cloud.done()


def test_not_waiting_starts_the_last_request_only_after_the_others(cloud, remote):
    url = f"{ZONE}/clusters/c"
    cloud.expect("GET", url, body=RUNNING)
    first, last = gke(1, "UPDATE_CLUSTER"), gke(2, "SET_LABELS")
    cloud.expect("PUT", url, body=first)
    cloud.expect("GET", f"{POLL}/operation-1", body=dict(first, status="DONE"))
    cloud.expect("POST", f"{url}:setResourceLabels", body=last)
    wanted = {name: WANTED[name] for name in ("releaseChannel", "resourceLabels")}
    result = remote(CLUSTER, "c", wait=False, location="europe-west1-b").ensure(wanted)
    assert result.operation == "operation-2"
    cloud.done()


def test_a_request_that_fails_ends_the_update(cloud, remote):
    url = f"{ZONE}/clusters/c"
    cloud.expect("GET", url, body=RUNNING)
    first = gke(1, "UPDATE_CLUSTER")
    cloud.expect("PUT", url, body=first)
    error = {"code": 8, "message": "Insufficient regional quota to satisfy request."}
    cloud.expect("GET", f"{POLL}/operation-1", body=dict(first, status="DONE", error=error))
    with pytest.raises(_errors.OperationFailed, match=r"updating GKE cluster .*Insufficient regional quota"):
        remote(CLUSTER, "c", location="europe-west1-b").ensure(WANTED)
    cloud.done()


def test_a_cluster_that_another_run_creates_is_joined(cloud, remote):
    url = f"{ZONE}/clusters/c"
    cloud.expect_error("GET", url, 404, code="NOT_FOUND")
    cloud.expect_error("POST", f"{ZONE}/clusters", 409, code="ALREADY_EXISTS", message="Already exists: clusters/c.")
    cloud.expect("GET", url, body=dict(RUNNING, status="PROVISIONING"))  # the name is this project's
    cloud.expect("GET", url, body=dict(RUNNING, status="PROVISIONING"))
    cloud.expect("GET", url, body=dict(RUNNING, status="PROVISIONING"))
    cloud.expect("GET", url, body=RUNNING)
    result = remote(CLUSTER, "c", location="europe-west1-b").ensure({"resourceLabels": {"team": "ml"}})
    assert not result.changed and CLUSTER.state({"status": "PROVISIONING"})[0] == PENDING
    cloud.done()


def test_operations_without_the_newer_fields(cloud):
    kind = container_operation(GKE)
    assert kind.error({"status": "DONE", "statusMessage": "no room"}) == "no room"
    assert kind.error({"status": "RUNNING", "statusMessage": "still going"}) == ""
    regional = {"selfLink": f"{GKE}/projects/1/locations/europe-west1/operations/o", "name": "o"}
    assert kind.url(dict(regional, location="europe-west1")) == f"{GKE}/projects/1/locations/europe-west1/operations/o"
    compute_kind = compute_operation(COMPUTE)
    assert compute_kind.error({"httpErrorStatusCode": 409, "httpErrorMessage": "CONFLICT"}) == "409 CONFLICT"
    assert compute_kind.error({"status": "DONE"}) == ""
    assert compute_kind.status({"status": "PENDING"}) == "PENDING, 0 %"
