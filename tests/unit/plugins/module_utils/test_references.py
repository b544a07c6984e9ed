# SPDX-License-Identifier: Apache-2.0
"""Test what preflight reports of secrets and images that a variable refers to."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _survey
from ansible_collections.mlplatform.gcp.plugins.modules import preflight_info

SECRET = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s"
VERSION = "projects/p/secrets/s/versions/latest"
REGISTRY = "https://artifactregistry.googleapis.com/v1/projects/q/locations/europe-west1/repositories/r"
IMAGE = "europe-west1-docker.pkg.dev/q/r/team/mlflow"
TAG, DIGEST = f"{IMAGE}:1", f"{IMAGE}@sha256:{'a' * 64}"
AT_TAG = f"{REGISTRY}/packages/team%2Fmlflow/tags/1"
AT_DIGEST = f"{REGISTRY}/packages/team%2Fmlflow/versions/sha256:{'a' * 64}"
AGENT = "serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
BINDING = {"role": "roles/artifactregistry.reader", "members": [AGENT.format(number=1)]}


@pytest.fixture(autouse=True)
def _in_order(monkeypatch):
    """Ask one question after another: the script has an order."""
    monkeypatch.setattr(_survey, "SIDE_BY_SIDE", 1)


def ask(cloud, kind, name, *requests, enabled=True, **more):
    """Run preflight for one reference; ``requests`` are (address, status, body or error's message)."""
    apis = {
        "secret": "secretmanager",
        "secret_version": "secretmanager",
        "sql_flags": "sqladmin",
        "network": "compute",
        "subnetwork": "compute",
    }
    apis["crypto_key"] = "cloudkms"
    api = apis.get(kind, "artifactregistry")
    service = f"{api}.googleapis.com"
    state = {"name": f"projects/1/services/{service}", "state": "ENABLED" if enabled else "DISABLED"}
    cloud.expect("GET", "...services:batchGet", body={"services": [state]})
    active = {"name": "projects/1", "projectId": "p", "state": "ACTIVE", "parent": "organizations/9"}
    cloud.expect("GET", "...v3/projects/p", body=active)
    cloud.expect("GET", "...billingInfo", body={"billingEnabled": True})
    if not enabled:
        allowed = ["services.enable", "services.list", "operations.get"]
        granted = [f"serviceusage.{name}" for name in allowed]
        cloud.expect("POST", "...:testIamPermissions", body={"permissions": granted})
    for address, status, answer in requests:
        method = "POST" if "v3/projects" in address or address.endswith(":testIamPermissions") else "GET"
        if status == 200:
            cloud.expect(method, address, body=answer)
        else:
            code = {403: "PERMISSION_DENIED", 404: "NOT_FOUND"}[status]
            cloud.expect_error(method, address, status, code=code, message=answer)
    variable = {"secret_version": "mlflow_server_secret_env.TOKEN", "sql_flags": "cloudsql_flags"}
    variable |= {"network": "mlflow_network", "subnetwork": "mlflow_subnetwork"}
    asked = {"type": kind, "name": name, "referenced_by": variable.get(kind, "mlflow_image"), **more}
    return cloud.run(preflight_info, services=[service], resources=[asked])


AT_VERSION, VERSIONS = f"{SECRET}/versions/latest", f"{SECRET}/versions"
DISABLED = {"name": "projects/1/secrets/s/versions/3", "state": "DISABLED"}
MISSING = [
    ("secret_version", VERSION, [(AT_VERSION, 404, "Secret [s] not found")], ("gcloud secrets create s --project=p",)),
    (
        "secret_version",
        VERSION,
        [(AT_VERSION, 200, DISABLED), (VERSIONS, 200, {})],
        ("is DISABLED", "gcloud secrets versions enable 3 --secret=s --project=p"),
    ),
    (
        "secret_version",
        VERSION,
        [(AT_VERSION, 200, DISABLED), (VERSIONS, 403, "no")],
        ("is DISABLED", "gcloud secrets versions enable 3 --secret=s --project=p"),
    ),
    # A number stays what it is.
    (
        "secret_version",
        "projects/p/secrets/s/versions/3",
        [(f"{VERSIONS}/3", 200, DISABLED)],
        ("is DISABLED", "gcloud secrets versions enable 3 --secret=s --project=p"),
    ),
    (
        "secret_version",
        VERSION,
        [(AT_VERSION, 200, DISABLED | {"state": "DESTROYED"}), (VERSIONS, 200, {})],
        ("is DESTROYED", "gcloud secrets versions add s --project=p"),
    ),
    (
        "image_tag",
        TAG,
        [(AT_TAG, 404, "no such tag"), (REGISTRY, 200, {"mode": "STANDARD_REPOSITORY"})],
        ("no such tag", "Correct mlflow_image", "images list europe-west1-docker.pkg.dev/q/r"),
    ),
    ("image_tag", TAG, [(AT_TAG, 404, "nothing"), (REGISTRY, 404, "nothing")], ("does not exist: nothing",)),
    ("docker_image", DIGEST, [(AT_DIGEST, 404, "nothing"), (REGISTRY, 200, {})], ("does not exist: nothing",)),
]


@pytest.mark.parametrize(("kind", "name", "requests", "words"), MISSING)
def test_what_does_not_work_is_a_problem(cloud, kind, name, requests, words):
    (problem,) = ask(cloud, kind, name, *requests)["problems"]
    assert problem["check"] == "references"
    variable = "mlflow_server_secret_env.TOKEN" if kind == "secret_version" else "mlflow_image"
    assert problem["what"].startswith(f"{variable} refers to {name}, ")
    assert not [word for word in words if word not in f"{problem['what']} {problem['next']}"], problem
    assert cloud.warnings == []


@pytest.mark.parametrize(
    ("kind", "name", "requests", "words"),
    [
        ("secret_version", VERSION, [(AT_VERSION, 403, "no")], ("not readable: no", "roles/secretmanager.viewer")),
        (
            "image_tag",
            TAG,
            [(AT_TAG, 403, "no")],
            (
                "mlflow_image refers to",
                "gcloud artifacts repositories add-iam-policy-binding r --location=europe-west1 --project=q"
                " --member=serviceAccount:me@p.iam.gserviceaccount.com --role=roles/artifactregistry.reader",
            ),
        ),
        (
            "image_tag",
            TAG,
            [(AT_TAG, 404, "no such tag"), (REGISTRY, 200, {"mode": "REMOTE_REPOSITORY"})],
            ("REMOTE_REPOSITORY", "were pulled before"),
        ),
        ("image_tag", TAG, [(AT_TAG, 404, "no such tag"), (REGISTRY, 403, "no")], ("its repository is not readable",)),
    ],
)
def test_what_cannot_be_known_is_a_warning(cloud, kind, name, requests, words):
    assert ask(cloud, kind, name, *requests)["problems"] == []
    (warning,) = cloud.warnings
    assert not [word for word in words if word not in warning], warning


@pytest.mark.parametrize("state", ["DISABLED", "DESTROYED"])
def test_an_older_version_is_used_where_the_latest_is_not_enabled(cloud, state):
    enabled = [{"name": f"projects/1/secrets/s/versions/{number}", "state": "ENABLED"} for number in (1, 2)]
    requests = [(AT_VERSION, 200, DISABLED | {"state": state}), (VERSIONS, 200, {"versions": enabled})]
    report = ask(cloud, "secret_version", VERSION, *requests)
    assert report["problems"] == []
    assert report["resources"][0]["usable"] == "projects/p/secrets/s/versions/2"
    (warning,) = cloud.warnings
    assert f"the newest version is {state}: projects/p/secrets/s/versions/2 is used" in warning


OWN_POLICY = ("https://cloudresourcemanager.googleapis.com/v3/projects/q:getIamPolicy", 200)


POLICY, MAY = f"{REGISTRY}:getIamPolicy", f"{REGISTRY}:testIamPermissions"


@pytest.mark.parametrize(
    "policies",
    [
        [(POLICY, 200, {"bindings": [BINDING]})],
        [(POLICY, 200, {"bindings": [dict(BINDING, members=["allUsers"])]})],
        [(POLICY, 200, {}), (*OWN_POLICY, {"bindings": [BINDING]})],
        [(POLICY, 200, {"bindings": [dict(BINDING, role="projects/q/roles/custom")]})],
    ],
)
def test_what_pulls_the_image_has_a_role(cloud, policies):
    found = ask(cloud, "image_tag", TAG, (AT_TAG, 200, {"name": "t"}), *policies, readers=[AGENT])
    assert (found["problems"], cloud.warnings, found["resources"][0]["unread"]) == ([], [], [])


LACKING = [(POLICY, 200, {"bindings": [dict(BINDING, role="roles/run.invoker")]}), (*OWN_POLICY, {})]


def test_what_pulls_the_image_gets_the_role_where_the_deployer_may_grant_it(cloud):
    may = (MAY, 200, {"permissions": ["artifactregistry.repositories.setIamPolicy"]})
    found = ask(cloud, "image_tag", TAG, (AT_TAG, 200, {"name": "t"}), *LACKING, may, readers=[AGENT])
    assert (found["problems"], cloud.warnings) == ([], [])
    assert found["resources"][0]["unread"] == [AGENT.format(number=1)]


def test_where_the_deployer_may_not_grant_it_that_is_a_problem(cloud):
    found = ask(cloud, "image_tag", TAG, (AT_TAG, 200, {"name": "t"}), *LACKING, (MAY, 200, {}), readers=[AGENT])
    (problem,) = found["problems"]
    assert f"no role lets {AGENT.format(number=1)} read it, and the deployer may not grant one" in problem["what"]
    assert "--role=roles/artifactregistry.reader" in problem["next"]


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        (
            [
                (POLICY, 200, {"bindings": [dict(BINDING, members=["group:g@example.com"])]}),
                (*OWN_POLICY, {}),
                (MAY, 200, {}),
            ],
            "Unless a group",
        ),
        ([(POLICY, 200, {}), (OWN_POLICY[0], 403, "no"), (MAY, 403, "no")], "Unless a group"),
        ([(POLICY, 403, "no")], "it is not known whether"),
    ],
)
def test_where_a_role_may_be_granted_elsewhere_it_is_a_warning(cloud, policies, words):
    found = ask(cloud, "image_tag", TAG, (AT_TAG, 200, {"name": "t"}), *policies, readers=[AGENT])
    assert found["problems"] == []
    (warning,) = cloud.warnings
    assert words in warning and "--role=roles/artifactregistry.reader" in warning


def test_what_works_is_neither_a_problem_nor_a_warning(cloud):
    body = {"name": "projects/1/secrets/s/versions/3", "state": "ENABLED"}
    result = ask(cloud, "secret_version", VERSION, (AT_VERSION, 200, body))
    assert (result["problems"], cloud.warnings, result["unanswered"]) == ([], [], [])
    assert result["resources"][0]["state"] == "ENABLED" and result["resources"][0]["relation"] == "shared"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("eleven char", "is shorter than 12 characters"),
        ("password1234", "is a well-known default"),
        ("twelve chars", ""),
        # A character is not a byte.
        ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 11, "is shorter than 12 characters"),
        (None, ""),
    ],
)
def test_a_value_that_cannot_be_used_is_a_problem_and_is_not_shown(cloud, value, words):
    body = {"name": "projects/1/secrets/s/versions/3", "state": "ENABLED"}
    requests = [(AT_VERSION, 200, body), (f"{SECRET.replace('/p/', '/1/')}/versions/3:access", 403, "no")]
    if value is not None:
        payload = {"payload": {"data": base64.b64encode(value.encode()).decode()}}
        requests[1] = (requests[1][0], 200, payload)
    required = {"minimum_length": 12, "rejected_values": ["password1234"]}
    problems = ask(cloud, "secret_version", VERSION, *requests, **required)["problems"]
    assert cloud.warnings == []
    assert [problem["check"] for problem in problems] == ["references"] * bool(words)
    if words:
        (problem,) = problems
        assert f"its value {words}." in problem["what"]
        assert "gcloud secrets versions add s --project=p" in problem["next"]
        assert problem["next"].endswith("or set mlflow_server_secret_env.TOKEN to another secret.")
        assert value not in str(problem)


def test_the_value_of_a_secret_is_that_of_the_version_that_it_records(cloud):
    body = {"name": "projects/1/secrets/s", "annotations": {"mlplatform-gcp-version": "2"}}
    answer = {"payload": {"data": base64.b64encode(b"short").decode()}}
    reads = [(SECRET, 200, body), (f"{SECRET.replace('/p/', '/1/')}/versions/2:access", 200, answer)]
    required = {"referenced_by": None, "named_by": "mlflow_login_password_secret", "adopt": True}
    problems = ask(cloud, "secret", "s", *reads, **required, minimum_length=6)["problems"]
    assert [problem["what"] for problem in problems] == ["The value of secret s is shorter than 6 characters."]
    assert problems[0]["next"].endswith("or set mlflow_login_password_secret to another secret.")


@pytest.mark.parametrize(
    ("value", "fits"),
    [("GOCSPX-a_b\n", True), (" GOCSPX-a", False), ("GOCSPX-a b", False), ("GOCSPX\ta", False)],
)
def test_a_value_that_must_be_one_word(cloud, value, fits):
    answer = {"payload": {"data": base64.b64encode(value.encode()).decode()}}
    body = {"name": "projects/1/secrets/s/versions/3", "state": "ENABLED"}
    reads = [(AT_VERSION, 200, body), (f"{SECRET.replace('/p/', '/1/')}/versions/3:access", 200, answer)]
    problems = ask(cloud, "secret_version", VERSION, *reads, one_word=True)["problems"]
    assert len(problems) == (not fits)
    assert all("its value contains white space" in problem["what"] for problem in problems)


def test_a_disabled_api_leaves_the_question_open(cloud):
    result = ask(cloud, "secret_version", VERSION, enabled=False)
    assert (result["problems"], cloud.warnings, result["unanswered"]) == ([], [], ["references"])


def test_an_api_that_the_deployment_does_not_need_can_be_disabled(cloud):
    cloud.expect("GET", "...services:batchGet", body={"services": []})
    cloud.expect("GET", "...v3/projects/p", body={"name": "projects/1", "projectId": "p", "state": "ACTIVE"})
    cloud.expect("GET", "...billingInfo", body={"billingEnabled": True})
    cloud.expect_disabled(AT_TAG, "artifactregistry.googleapis.com")
    asked = {"type": "image_tag", "name": TAG, "referenced_by": "mlflow_image"}
    assert cloud.run(preflight_info, resources=[asked])["problems"] == []
    (warning,) = cloud.warnings
    assert "gcloud services enable artifactregistry.googleapis.com" in warning


def test_the_flags_of_a_version(cloud):
    items = [{"name": "jit", "type": "BOOLEAN"}, {"name": "n", "type": "INTEGER", "minValue": "1", "maxValue": "2"}]
    body = {"items": items}
    result = ask(cloud, "sql_flags", "POSTGRES_16", ("https://sqladmin.googleapis.com/v1/flags", 200, body))
    assert cloud.requests[-1].query == {"databaseVersion": "POSTGRES_16"}
    assert result["problems"] == []
    assert result["resources"][0]["flags"]["n"]["maxValue"] == "2"


def test_a_version_without_a_variable_is_a_resource_like_any_other(cloud):
    body = {"name": "projects/1/secrets/s/versions/3", "state": "DESTROYED"}
    (problem,) = ask(cloud, "secret_version", VERSION, (AT_VERSION, 200, body), referenced_by=None)["problems"]
    assert problem["check"] == "state" and "Add a version" in problem["next"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("secret_version", "s"),
        ("docker_image", TAG),
        ("image_tag", f"{TAG}@sha256:{'a' * 64}"),
        ("docker_image", "ghcr.io/a/b@sha256:0"),
    ],
)
def test_what_cannot_be_a_name_is_not_read(cloud, kind, name):
    result = ask(cloud, kind, name)
    assert result["resources"] == [] and result["problems"] == []


COMPUTE = "https://compute.googleapis.com/compute/v1"
NETWORK, SUBNETWORK = "projects/host/global/networks/n", "projects/host/regions/europe-west1/subnetworks/s"
PLACED = {"network": f"https://www.googleapis.com/compute/v1/{NETWORK}", "privateIpGoogleAccess": True}


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("network", NETWORK, ("mlflow_network refers to", "gcloud compute networks create n --project=host")),
        (
            "subnetwork",
            SUBNETWORK,
            ("mlflow_subnetwork refers to", "subnets create s --project=host --region=europe-w"),
        ),
    ],
)
def test_a_network_that_does_not_exist_is_a_problem(cloud, kind, name, words):
    (problem,) = ask(cloud, kind, name, (f"{COMPUTE}/{name}", 404, "The resource was not found"))["problems"]
    assert not [word for word in words if word not in f"{problem['what']} {problem['next']}"], problem


def test_facts_of_networks(cloud):
    peering = {"name": "servicenetworking-googleapis-com", "state": "ACTIVE"}
    for peerings, connected in (([peering], True), ([peering | {"state": "INACTIVE"}], False), (None, False)):
        body = {"name": "n"} | ({"peerings": peerings} if peerings else {})
        (found,) = ask(cloud, "network", NETWORK, (f"{COMPUTE}/{NETWORK}", 200, body))["resources"]
        assert found["private_services"] is connected
    (found,) = ask(cloud, "subnetwork", SUBNETWORK, (f"{COMPUTE}/{SUBNETWORK}", 200, PLACED))["resources"]
    assert (found["network"], found["private_google_access"]) == (NETWORK, True)


@pytest.mark.parametrize("granted", [True, False])
def test_an_agent_without_a_role_on_a_shared_subnetwork_is_a_warning_with_the_command(cloud, granted):
    binding = {"role": "roles/compute.networkUser", "members": [AGENT.format(number=1)] if granted else []}
    requests = [
        (f"{COMPUTE}/{SUBNETWORK}", 200, PLACED),
        (f"{COMPUTE}/{SUBNETWORK}/getIamPolicy", 200, {"bindings": [binding]}),
    ]
    if not granted:
        requests.append(("...v3/projects/host:getIamPolicy", 200, {}))
    assert ask(cloud, "subnetwork", SUBNETWORK, *requests, readers=[AGENT])["problems"] == []
    if granted:
        assert cloud.warnings == []
        return
    (warning,) = cloud.warnings
    assert "no role lets serviceAccount:service-1@serverless-robot-prod" in warning
    assert "subnets add-iam-policy-binding s --project=host --region=europe-west1 --member=serviceAccount" in warning
    assert "--role=roles/compute.networkUser" in warning


KEY = "projects/k/locations/europe-west1/keyRings/r/cryptoKeys/k"
AT_KEY = f"https://cloudkms.googleapis.com/v1/{KEY}"
ENABLED_KEY = {"name": KEY, "primary": {"name": f"{KEY}/cryptoKeyVersions/2", "state": "ENABLED"}}
SQL_AGENT = "serviceAccount:service-1@gcp-sa-cloud-sql.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (404, "CryptoKey not found.", "gcloud kms keys create k --keyring=r --location=europe-west1 --project=k"),
        (200, {"name": KEY}, "gcloud kms keys versions create --primary --key=k"),
        *(
            (200, {"name": KEY, "primary": {"name": f"{KEY}/cryptoKeyVersions/2", "state": state}}, command)
            for state, command in (
                ("DISABLED", "gcloud kms keys versions enable 2 --key=k"),
                ("DESTROY_SCHEDULED", "gcloud kms keys versions restore 2 --key=k"),
                ("DESTROYED", "gcloud kms keys versions create --primary --key=k"),
            )
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_a_problem(cloud, status, answer, expected):
    problem = ask(cloud, "crypto_key", KEY, (AT_KEY, status, answer))["problems"][0]
    assert problem["check"] == "references" and expected in problem["next"]


@pytest.mark.parametrize("allowed", [True, False])
def test_agents_that_lack_a_role_on_a_key(cloud, allowed):
    granted = {"permissions": ["cloudkms.cryptoKeys.setIamPolicy"]} if allowed else {}
    requests = [
        (AT_KEY, 200, ENABLED_KEY),
        (f"{AT_KEY}:getIamPolicy", 200, {}),
        (f"{AT_KEY.partition('/cryptoKeys')[0]}:getIamPolicy", 403, "Permission denied"),
        (f"{AT_KEY}:testIamPermissions", 200, granted),
    ]
    result = ask(cloud, "crypto_key", KEY, *requests, readers=[SQL_AGENT.replace("-1@", "-{number}@")])
    assert result["problems"] == []
    (found,) = result["resources"]
    assert (found["unread"], found["grantable"]) == ([SQL_AGENT], allowed)
    assert len(cloud.warnings) == (not allowed)
    if not allowed:
        assert "gcloud kms keys add-iam-policy-binding k --keyring=r" in cloud.warnings[0]


def test_a_role_on_the_key_ring_is_enough(cloud):
    binding = {"role": "roles/cloudkms.cryptoKeyEncrypterDecrypter", "members": [SQL_AGENT]}
    requests = [
        (AT_KEY, 200, ENABLED_KEY),
        (f"{AT_KEY}:getIamPolicy", 200, {}),
        (f"{AT_KEY.partition('/cryptoKeys')[0]}:getIamPolicy", 200, {"bindings": [binding]}),
    ]
    result = ask(cloud, "crypto_key", KEY, *requests, readers=[SQL_AGENT])
    assert result["resources"][0]["unread"] == [] and cloud.warnings == []
