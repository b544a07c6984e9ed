# SPDX-License-Identifier: Apache-2.0
"""Steps for iam_bindings and iam_policy_info on each kind of resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import (
    IAM,
    IAP,
    MANAGER,
    REGION,
    REGISTRY,
    RUN,
    SECRETS,
    STORAGE,
    Cloud,
)
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information

ALICE, BOB, ADMIN = "user:alice@example.com", "user:bob@example.com", "user:admin@example.com"
WHEN = {"title": "for now", "expression": 'request.time < timestamp("2040-01-01T00:00:00Z")'}


@dataclass(frozen=True)
class Kind:
    """A kind of resource with a policy.

    name      the full resource name, as in the options of a task
    url       its URL in the API
    role      a role that can be granted on it
    make      creates the resource
    """

    title: str
    name: str
    url: Callable[[Cloud], str]
    role: str
    make: Callable[[Cloud], None] = lambda cloud: None


def _service(cloud):
    container = {"image": "us-docker.pkg.dev/cloudrun/container/hello"}
    body = {"template": {"containers": [container]}, "iapEnabled": True}
    cloud.make(f"{RUN}/{cloud.region}/services", body, base=RUN, serviceId="granted")


def _job(cloud):
    container = {"image": "us-docker.pkg.dev/cloudrun/container/job"}
    body = {"template": {"template": {"containers": [container]}}}
    cloud.make(f"{RUN}/{cloud.region}/jobs", body, base=RUN, jobId="granted")


_PLACE = f"locations/{REGION}"
KINDS = [
    Kind(
        "a project",
        "//cloudresourcemanager.googleapis.com/projects/{{ project }}",
        lambda cloud: f"{MANAGER}/v3/{cloud.home}",
        "roles/cloudsql.client",
    ),
    Kind(
        "a service account",
        "//iam.googleapis.com/projects/{{ project }}/serviceAccounts/granted@{{ project }}.iam.gserviceaccount.com",
        lambda cloud: f"{IAM}/{cloud.home}/serviceAccounts/{cloud.email('granted')}",
        "roles/iam.serviceAccountTokenCreator",
        lambda cloud: cloud.make_account("granted"),
    ),
    Kind(
        "a secret",
        "//secretmanager.googleapis.com/projects/{{ project }}/secrets/granted",
        lambda cloud: f"{SECRETS}/{cloud.home}/secrets/granted",
        "roles/secretmanager.secretAccessor",
        lambda cloud: cloud.make_secret("granted", "value-of-the-secret"),
    ),
    Kind(
        "a bucket",
        "//storage.googleapis.com/projects/_/buckets/{{ project }}-granted",
        lambda cloud: f"{STORAGE}/b/{cloud.project}-granted",
        "roles/storage.objectViewer",
        lambda cloud: cloud.make_bucket(f"{cloud.project}-granted"),
    ),
    Kind(
        "a repository",
        f"//artifactregistry.googleapis.com/projects/{{{{ project }}}}/{_PLACE}/repositories/granted",
        lambda cloud: f"{REGISTRY}/{cloud.region}/repositories/granted",
        "roles/artifactregistry.reader",
        lambda cloud: cloud.make_repository("granted"),
    ),
    Kind(
        "a Cloud Run service",
        f"//run.googleapis.com/projects/{{{{ project }}}}/{_PLACE}/services/granted",
        lambda cloud: f"{RUN}/{cloud.region}/services/granted",
        "roles/run.invoker",
        _service,
    ),
    Kind(
        "a Cloud Run job",
        f"//run.googleapis.com/projects/{{{{ project }}}}/{_PLACE}/jobs/granted",
        lambda cloud: f"{RUN}/{cloud.region}/jobs/granted",
        "roles/run.invoker",
        _job,
    ),
    Kind(
        "a service behind Identity-Aware Proxy",
        f"//iap.googleapis.com/projects/{{{{ number }}}}/iap_web/cloud_run-{REGION}/services/granted",
        lambda cloud: f"{IAP}/projects/{cloud.number}/iap_web/cloud_run-{REGION}/services/granted",
        "roles/iap.httpsResourceAccessor",
    ),
    *(
        Kind(
            f"{what} behind Identity-Aware Proxy",
            f"//iap.googleapis.com/projects/{{{{ number }}}}/iap_web/appengine-{{{{ project }}}}{path}",
            lambda cloud, path=path: f"{IAP}/projects/{cloud.number}/iap_web/appengine-{cloud.project}{path}",
            "roles/iap.httpsResourceAccessor",
        )
        for what, path in (
            ("an application", ""),
            ("a service of App Engine", "/services/default"),
            ("a version of App Engine", "/services/default/versions/v2"),
        )
    ),
]


def _binding(role, *members, **more):
    return {"role": role, "members": list(members), **more}


def _steps(kind):
    """Return steps that grant, change and revoke a role on one kind of resource; other bindings must not change."""

    def read(cloud):
        return cloud.bindings(kind.url(cloud))

    def prepare(cloud):
        kind.make(cloud)
        cloud.grant(kind.url(cloud), kind.role, ADMIN)

    def others(seen):
        return {role: members for role, members in seen.items() if role.split("?")[0] != kind.role}

    def granted(seen, result, cloud):
        assert seen[kind.role] == sorted([ADMIN, ALICE, BOB])
        assert seen[f"{kind.role}?for now"] == [ALICE]
        known = {item["role"] for item in result["resource"]["bindings"]}
        assert known == {role.split("?")[0] for role in seen}

    def exact(seen, result, cloud):
        assert seen[kind.role] == [BOB]
        assert seen[f"{kind.role}?for now"] == [ALICE]

    def taken(seen, result, cloud):
        assert kind.role not in seen
        assert seen[f"{kind.role}?for now"] == [ALICE]

    def anonymous(seen, result, cloud):
        assert seen == others(seen)

    def task(title, bindings, expect, **options):
        prepare = options.pop("prepare", None)
        options = {"resource": kind.name, "bindings": bindings, **options}
        return Step(f"{title} {kind.title}", "iam_bindings", options, read, expect, prepare=prepare)

    return [
        task(
            "Roles are granted on",
            # Google stores addresses in lower case
            [_binding(kind.role, "user:Alice@Example.com", BOB), _binding(kind.role, ALICE, condition=WHEN)],
            granted,
            prepare=prepare,
        ),
        task("A role has exactly one member on", [_binding(kind.role, BOB)], exact, authoritative=True),
        task("A member is removed from", [_binding(kind.role, BOB)], taken, state="absent"),
        task("A binding is removed from", [_binding(kind.role, condition=WHEN)], anonymous, state="absent"),
    ]


def _information(kind):
    return information(
        f"Read the policy of {kind.title}",
        "iam_policy_info",
        {"resource": kind.name},
        lambda cloud: cloud.policy(kind.url(cloud)),
        "policy",
    )


def _all_steps(kind):
    """Return all steps of a kind of resource; those of a secret with `both`."""
    found = [*_steps(kind), _information(kind)]
    return [both(step) for step in found] if kind.title == "a secret" else found


def _one_is_missing(seen, result, cloud):
    (line,) = result["differences"]
    assert line.startswith(f"{KINDS[2].role} is missing on ") and line.endswith(": user:carol@example.com")


STEPS = [
    *(step for kind in KINDS for step in _all_steps(kind)),
    Step(
        "A member that does not exist is rejected",
        "iam_bindings",
        {
            "resource": KINDS[2].name,
            "bindings": [_binding(KINDS[2].role, "serviceAccount:missing@{{ project }}.iam.gserviceaccount.com")],
        },
        lambda cloud: cloud.bindings(KINDS[2].url(cloud)),
        fails="service account missing@.* does not exist",
    ),
    both(
        Step(
            "A member that lacks a role is reported",
            "iam_bindings_info",
            {"grants": [{"resource": KINDS[2].name, "bindings": [_binding(KINDS[2].role, "user:carol@example.com")]}]},
            lambda cloud: cloud.bindings(KINDS[2].url(cloud)),
            _one_is_missing,
            changes=False,
        )
    ),
    Step(
        "An unsupported kind of resource is rejected",
        "iam_bindings",
        {"resource": "//pubsub.googleapis.com/projects/{{ project }}/topics/t", "bindings": [_binding("roles/x")]},
        lambda cloud: None,
        fails="is not the full resource name of a resource with a supported IAM policy",
    ),
]
