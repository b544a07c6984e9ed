# SPDX-License-Identifier: Apache-2.0
"""Test customer-managed encryption keys: which part has which, and what Google would refuse later."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.tests.unit.plugins.module_utils.deployment._deployments import (
    NUMBER,
    computed,
    deployed,
    report,
    resource,
    variables_of,
)


def key(location="europe-west1", project="security"):
    return f"projects/{project}/locations/{location}/keyRings/r/cryptoKeys/k"


KEY = key()
AGENTS = {
    "artifactregistry.googleapis.com": "gcp-sa-artifactregistry",
    "run.googleapis.com": "serverless-robot-prod",
    "secretmanager.googleapis.com": "gcp-sa-secretmanager",
    "sqladmin.googleapis.com": "gcp-sa-cloud-sql",
    "storage.googleapis.com": "gs-project-accounts",
}


def member(service, number="{number}"):
    return f"serviceAccount:service-{number}@{AGENTS[service]}.iam.gserviceaccount.com"


def asked(deployment):
    return [item for item in deployment.requirements.resources if item["type"] == "crypto_key"]


def test_without_a_key_nothing_is_asked_granted_or_set():
    deployment = deployed(found=report())
    assert asked(deployment) == [] and deployment.encryption.bindings == []
    assert "cloudkms.googleapis.com" not in deployment.requirements.services
    assert deployment.database.kms_key == deployment.bucket.kms_key == deployment.image.kms_key == ""
    assert deployment.secrets.kms_keys == [] and deployment.server["options"]["kms_key"] == ""


def test_one_key_encrypts_every_part():
    deployment = deployed(mlflow_kms_key=KEY)
    assert deployment.database.kms_key == deployment.bucket.kms_key == deployment.image.kms_key == KEY
    assert deployment.migration.kms_key == deployment.server["options"]["kms_key"] == KEY
    assert deployment.secrets.kms_keys == [KEY]
    assert [item["readers"] for item in asked(deployment)] == [[member(service) for service in sorted(AGENTS)]]


def test_the_api_is_enabled_for_keys_of_the_project_itself():
    own = deployed(mlflow_kms_key=key(project="mlflow-sandbox"))
    assert "cloudkms.googleapis.com" in own.requirements.services
    assert "cloudkms.googleapis.com" not in deployed(mlflow_kms_key=KEY).requirements.services


def test_agents_that_lack_the_role_are_granted_it():
    lacking = [member("run.googleapis.com", NUMBER), member("storage.googleapis.com", NUMBER)]
    found = report(resource("crypto_key", KEY, unread=lacking, grantable=True))
    encryption = deployed(found=found, mlflow_kms_key=KEY).encryption
    assert encryption.agents == ["run.googleapis.com", "storage.googleapis.com"]
    binding = {"role": "roles/cloudkms.cryptoKeyEncrypterDecrypter", "members": lacking}
    assert encryption.bindings == [{"key": f"//cloudkms.googleapis.com/{KEY}", "bindings": [binding]}]
    assert (
        deployed(
            found=report(resource("crypto_key", KEY, unread=[], grantable=False)), mlflow_kms_key=KEY
        ).encryption.agents
        == []
    )


def on_keys(deployment):
    """Return the grants on keys, each with its members."""
    grants = [item for item in deployment.grants if item["resource"].startswith("//cloudkms")]
    return {item["resource"].partition("//cloudkms.googleapis.com/")[2]: item for item in grants}


def test_the_verification_compares_the_rights_of_the_agents():
    other = key(project="other")
    deployment = deployed(found=report(), action="read", mlflow_kms_key=KEY, bucket_kms_key=other)
    found = on_keys(deployment)
    assert found.keys() == {KEY, other}
    role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    everything = [member(service, NUMBER) for service in sorted(AGENTS)]
    assert found[KEY]["bindings"] == [{"role": role, "members": everything}]
    assert found[other]["bindings"] == [{"role": role, "members": [member("storage.googleapis.com", NUMBER)]}]
    assert found[KEY]["above"] == [
        "//cloudkms.googleapis.com/projects/security/locations/europe-west1/keyRings/r",
        "//cloudresourcemanager.googleapis.com/projects/security",
    ]
    assert found[KEY]["exact"] is False
    assert on_keys(deployed(found=report(), action="read")) == {}


def test_the_verification_leaves_out_the_keys_of_what_may_be_adopted():
    given = {"cloudsql_kms_key": KEY, "mlflow_ownership": {"database": "adopted"}}
    assert on_keys(deployed(found=report(), action="read", **given)) == {}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"cloudsql_region": "europe-north1"}, "Set cloudsql_kms_key to a key in europe-north1."),
        ({"mlflow_bucket_location": "EU"}, "Set bucket_kms_key to a key in europe."),
        ({"mlflow_image_location": "europe-west4"}, "Set mlflow_image_kms_key to a key in europe-west4."),
        ({"secrets_replication_locations": ["europe-west4"]}, "Set secrets_kms_keys to a key in europe-west4."),
    ],
)
def test_a_key_is_where_its_part_is(variables, wanted):
    outcome = computed(mlflow_kms_key=KEY, **variables)
    assert [problem.next for problem in outcome.problems] == [wanted]


def test_each_part_can_have_a_key_of_its_own():
    own = {
        "mlflow_bucket_location": "EU",
        "bucket_kms_key": key("europe"),
        "secrets_replication_locations": ["europe-west1", "europe-west4"],
        "secrets_kms_keys": [KEY, key("europe-west4")],
    }
    deployment = deployed(mlflow_kms_key=KEY, **own)
    assert deployment.bucket.kms_key == key("europe")
    assert deployment.secrets.kms_keys == [KEY, key("europe-west4")]


@pytest.mark.parametrize("existing", ["", key(project="other")])
@pytest.mark.parametrize(
    ("kind", "variable"), [("sql_instance", "cloudsql_kms_key"), ("artifact_repository", "mlflow_image_kms_key")]
)
def test_what_cannot_change_its_key_is_refused(kind, variable, existing):
    found = report(resource(kind, "demo-dev", kms_key=existing))
    outcome = computed(found=found, **{variable: KEY})
    assert variables_of(outcome) == [variable]
    assert "cannot be changed" in outcome.problems[0].what
    assert variables_of(computed(found=report(resource(kind, "demo-dev", kms_key=KEY)), **{variable: KEY})) == []


def test_what_is_adopted_or_used_keeps_its_key():
    found = report(resource("sql_instance", "demo-dev", owned=False, kms_key=""))
    given = {"cloudsql_kms_key": KEY}
    assert asked(deployed(found=found, mlflow_ownership={"database": "adopted"}, **given)) == []
    assert asked(deployed(found=found, mlflow_ownership={"database": "used"}, **given)) == []


def test_app_engine_has_no_key():
    outcome = computed(mlflow_target="appengine", mlflow_kms_key=KEY)
    assert variables_of(outcome) == ["mlflow_kms_key"]
    assert "App Engine" in outcome.problems[0].what and "cloudsql_kms_key" in outcome.problems[0].next
    assert deployed(mlflow_target="appengine", cloudsql_kms_key=KEY).database.kms_key == KEY


@pytest.mark.parametrize("value", ["k", f"{KEY}/cryptoKeyVersions/1", f"//cloudkms.googleapis.com/{KEY}"])
def test_a_key_is_a_full_name(value):
    assert variables_of(computed(mlflow_kms_key=value)) == ["mlflow_kms_key"]


def test_a_removal_says_that_the_rights_stay():
    lines = computed(action="destroy", bucket_kms_key=KEY).deployment.removal["report"]
    assert [line for line in lines if line.startswith(f"Service agents keep the use of {KEY}")]
    assert not [line for line in computed(action="destroy").deployment.removal["report"] if "Service agents" in line]
