# SPDX-License-Identifier: Apache-2.0
"""Check the resources of the building-block roles with Google's clients."""

import google.auth
from google.api_core.exceptions import NotFound
from google.auth.transport.requests import AuthorizedSession
from google.cloud import secretmanager_v1, storage

NAME = "blocks-dev"


def bindings(policy):
    return {(item["role"], member) for item in policy.get("bindings") or [] for member in item["members"]}


def found(session, url):
    answer = session.get(url)
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return answer.json()


def present(project, session):
    bucket = storage.Client(project=project).get_bucket(f"{project}-{NAME}-artifacts")
    yield "bucket in the region", bucket.location == "EUROPE-WEST1"
    yield "uniform access", bucket.iam_configuration.uniform_bucket_level_access_enabled
    yield "no public access", bucket.iam_configuration.public_access_prevention == "enforced"
    yield "labels of the deployment", bucket.labels.get("mlflow-deployment") == "blocks"
    readers = {
        (item["role"], member)
        for item in bucket.get_iam_policy(requested_policy_version=3).bindings
        for member in item["members"]
    }
    yield "alice reads the bucket", ("roles/storage.objectViewer", "user:alice@example.com") in readers

    secrets = secretmanager_v1.SecretManagerServiceClient(transport="rest")
    payload = secrets.access_secret_version(name=f"projects/{project}/secrets/{NAME}-db-password/versions/latest")
    yield "a generated password of 32 characters", len(payload.payload.data) == 32
    versions = list(secrets.list_secret_versions(parent=f"projects/{project}/secrets/{NAME}-db-password"))
    yield "one version of it", len(versions) == 1

    account = f"{NAME}-client@{project}.iam.gserviceaccount.com"
    url = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts/{account}"
    policy = session.post(f"{url}:getIamPolicy", json={}).json()
    yield (
        "alice may act as the clients' account",
        (("roles/iam.serviceAccountTokenCreator", "user:alice@example.com") in bindings(policy)),
    )
    keys = session.get(f"{url}/keys?keyTypes=USER_MANAGED").json()
    yield "the account has no key", not keys.get("keys")

    base = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances/{NAME}"
    instance = found(session, base)
    yield "instance runs", instance["state"] == "RUNNABLE"
    yield "edition is sent", instance["settings"]["edition"] == "ENTERPRISE"
    yield "a development instance is not protected", not instance["settings"].get("deletionProtectionEnabled")
    yield "database", found(session, f"{base}/databases/mlflow")["charset"] == "UTF8"
    yield "user", found(session, f"{base}/users/mlflow")["name"] == "mlflow"


def absent(project, session):
    yield "no bucket", storage.Client(project=project).lookup_bucket(f"{project}-{NAME}-artifacts") is None
    secrets = secretmanager_v1.SecretManagerServiceClient(transport="rest")
    try:
        secrets.get_secret(name=f"projects/{project}/secrets/{NAME}-db-password")
        yield "no secret", False
    except NotFound:
        yield "no secret", True
    account = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts/{NAME}-client@{project}.iam.gserviceaccount.com"
    yield "no service account", found(session, account) is None
    yield (
        "no instance",
        found(session, f"https://sqladmin.googleapis.com/v1/projects/{project}/instances/{NAME}") is None,
    )


def checks(project, state):
    credentials, _project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    yield from {"present": present, "absent": absent}[state](project, AuthorizedSession(credentials))
