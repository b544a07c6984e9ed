# SPDX-License-Identifier: Apache-2.0
"""Steps for project_services, service_identity, project_info and preflight_info."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAM, MANAGER
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, same

# The APIs that the other steps use, more than the 20 of one request.
WANTED = """
artifactregistry cloudbilling cloudbuild cloudfunctions cloudkms cloudresourcemanager cloudscheduler cloudtasks compute
container dns eventarc iam iamcredentials iap pubsub run secretmanager servicenetworking sqladmin storage workflows
"""
SERVICES = [f"{name}.googleapis.com" for name in WANTED.split()]


def enabled(seen, result, cloud):
    assert set(WANTED.split()) <= seen
    assert result["resource"] == {"project": cloud.project, "services": sorted(SERVICES)}


def agent(cloud):
    """Return whether a policy accepts the service agent of Identity-Aware Proxy as a member."""
    member = f"serviceAccount:service-{cloud.number}@gcp-sa-iap.iam.gserviceaccount.com"
    url = f"{MANAGER}/v3/{cloud.home}"
    policy = cloud.policy(url)
    attempt = {**policy, "bindings": [*policy["bindings"], {"role": "roles/browser", "members": [member]}]}
    answer = cloud.api.post(f"{url}:setIamPolicy", json={"policy": attempt})
    if answer.ok:
        cloud.request("POST", f"{url}:setIamPolicy", {"policy": {**policy, "etag": answer.json()["etag"]}})
    else:
        assert "does not exist" in answer.text, answer.text
    return answer.ok


def has_agent(seen, result, cloud):
    assert seen
    assert result["email"] == f"service-{cloud.number}@gcp-sa-iap.iam.gserviceaccount.com"
    assert result["member"] == f"serviceAccount:{result['email']}"


def described(seen, result, cloud):
    assert result["resource"] == seen
    assert result["number"] == cloud.number


def before_preflight(cloud):
    email = cloud.make_account("was-here")
    cloud.request("POST", f"{IAM}/{cloud.home}/serviceAccounts/{email}:disable", {})


def warned(seen, result, cloud):
    problems = {item["check"]: item for item in result["problems"]}
    assert set(problems) == {"taken", "state"}, result["problems"]
    assert "was-here" in problems["state"]["what"] and problems["state"]["next"]
    assert result["project"]["number"] == cloud.number
    assert result["caller"]["email"].startswith("deployer@")
    assert result["services"] == {"enabled": ["run.googleapis.com"], "disabled": ["appengine.googleapis.com"]}
    assert [item["exists"] for item in result["resources"]] == [True, False]


STEPS = [
    both(
        Step(
            "APIs are enabled",
            "project_services",
            {"services": SERVICES},
            lambda cloud: cloud.enabled(),
            enabled,
        )
    ),
    both(
        Step(
            "One more API is enabled",
            "project_services",
            {"services": ["appengine.googleapis.com", "run.googleapis.com"]},
            lambda cloud: cloud.enabled(),
            lambda seen, result, cloud: same({"appengine", "run"} - seen, set()),
        )
    ),
    Step(
        "An API with dependent APIs is not disabled without them",
        "project_services",
        {"services": ["pubsub.googleapis.com"], "state": "absent"},
        lambda cloud: cloud.enabled(),
        fails="depended on by .*run.googleapis.com",
    ),
    both(
        Step(
            "An API is disabled",
            "project_services",
            {"services": ["appengine.googleapis.com"], "state": "absent"},
            lambda cloud: cloud.enabled(),
            lambda seen, result, cloud: same("appengine" in seen, False),
        )
    ),
    Step(
        "An API is disabled with its dependent APIs",
        "project_services",
        {"services": ["compute.googleapis.com"], "state": "absent", "disable_dependents": True},
        lambda cloud: cloud.enabled(),
        lambda seen, result, cloud: same({"compute", "container", "servicenetworking"} & seen, set()),
    ),
    both(
        Step(
            "Identity-Aware Proxy has a service agent",
            "service_identity",
            {"service": "iap.googleapis.com"},
            agent,
            has_agent,
            changes=False,
        )
    ),
    both(
        Step(
            "A project is described",
            "project_info",
            {},
            lambda cloud: cloud.get(f"{MANAGER}/v3/{cloud.home}"),
            described,
            changes=False,
        )
    ),
    both(
        Step(
            "Preflight reports problems",
            "preflight_info",
            {
                "region": "europe-west1",
                "services": ["run.googleapis.com", "appengine.googleapis.com"],
                "permissions": ["run.services.create", "cloudsql.instances.create"],
                "resources": [
                    {"type": "service_account", "name": "was-here"},
                    {"type": "storage_bucket", "name": "{{ project }}-not-here"},
                ],
                "owner_labels": {"managed-by": "mlplatform-gcp"},
                "organization_required": True,
            },
            lambda cloud: cloud.get(f"{IAM}/{cloud.home}/serviceAccounts"),
            warned,
            prepare=before_preflight,
            changes=False,
        )
    ),
]
