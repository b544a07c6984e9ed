# SPDX-License-Identifier: Apache-2.0
"""Check the deployment with Cloud Run's client, and send an unauthorized request."""

import requests
from google.cloud import run_v2

NAME = "molecule-dev"


def checks(project, region):
    name = f"projects/{project}/locations/{region}/services/{NAME}"
    service = run_v2.ServicesClient(transport="rest").get_service(name=name)
    container = service.template.containers[0]
    yield "service is ready", service.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    yield "Identity-Aware Proxy is on", service.iap_enabled
    yield "image with a digest", "@sha256:" in container.image
    yield "2 GiB", container.resources.limits["memory"] == "2Gi"
    yield "at most 10 instances", service.template.scaling.max_instance_count == 10
    yield "dedicated service account", service.template.service_account.startswith(f"{NAME}-server@")
    secret = {item.name for item in container.env if item.value_source.secret_key_ref.secret}
    yield "password from a secret", "DB_PASSWORD" in secret
    jobs = run_v2.JobsClient(transport="rest").list_jobs(parent=f"projects/{project}/locations/{region}")
    (job,) = [item for item in jobs if item.name.split("/")[-1].startswith(NAME)]
    executions = list(run_v2.ExecutionsClient(transport="rest").list_executions(parent=job.name))
    yield "schema was migrated once", [item.succeeded_count for item in executions] == [1]
    answer = requests.get(service.uri, allow_redirects=False, timeout=60)
    yield (
        "an unauthorized request is redirected to the sign-in page",
        answer.status_code == 302 and "accounts.google.com" in answer.headers["Location"],
    )
