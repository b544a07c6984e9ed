# SPDX-License-Identifier: Apache-2.0
"""Steps for cloud_run_service, cloud_run_service_info, cloud_run_job and iap_settings."""

from __future__ import annotations

import hashlib

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import IAP, REGION, RUN, SECRETS
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

HELLO, JOB = "us-docker.pkg.dev/cloudrun/container/hello", "us-docker.pkg.dev/cloudrun/container/job"
ACCOUNT = "server@{{ project }}.iam.gserviceaccount.com"
CLIENT = "12-abc.apps.googleusercontent.com"
TOKEN = "projects/{{ project }}/secrets/token"


# Services


def url(cloud):
    return f"{RUN}/{cloud.region}/services/hello"


def service(cloud):
    """Return the service and the response of its address."""
    found = cloud.get(url(cloud))
    if found is None:
        return None
    status, text = cloud.page(found["uri"])
    return {"service": found, "status": status, "running": "It's running!" in text}


def _service(title, expect=None, *, prepare=None, fails="", read=service, **options):
    options = {"name": "hello", "location": REGION, **options}
    return Step(title, "cloud_run_service", options, read, expect, prepare=prepare, fails=fails)


def prepare(cloud):
    """Create the service account of the service, and a secret that it can read."""
    email = cloud.make_account("server")
    name = cloud.make_secret("token", "value-of-the-token")
    cloud.grant(f"{SECRETS}/{name}", "roles/secretmanager.secretAccessor", f"serviceAccount:{email}")


def variables(seen):
    container = seen["service"]["template"]["containers"][0]
    return {item["name"]: item.get("value", item.get("valueSource")) for item in container["env"]}


def created(seen, result, cloud):
    found = seen["service"]
    template = found["template"]
    container = template["containers"][0]
    assert seen["running"] and seen["status"] == 200
    assert template["serviceAccount"] == cloud.email("server")
    assert (template["timeout"], template["maxInstanceRequestConcurrency"]) == ("60s", 20)
    assert template["scaling"] == {"minInstanceCount": 1, "maxInstanceCount": 2}
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert container["resources"]["startupCpuBoost"] is True
    assert container["startupProbe"]["httpGet"]["path"] == "/"
    assert container["startupProbe"]["failureThreshold"] == 10
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/secrets"}
    secret = {"secretKeyRef": {"secret": f"{cloud.home}/secrets/token", "version": "1"}}
    assert variables(seen) == {"PLAIN": "1", "SWITCH": "true", "TOKEN": secret}
    assert found["labels"] == {"managed-by": "mlplatform-gcp", "team": "ml"}
    assert result["resource"]["uri"] == found["uri"]


def changed(seen, result, cloud):
    found = seen["service"]
    assert seen["running"]
    assert variables(seen) == {"PLAIN": "2"}
    assert found["latestReadyRevision"] == found["latestCreatedRevision"] != ""
    assert found["generation"] == "2"
    assert found["labels"] == {"managed-by": "mlplatform-gcp", "team": "platform"}
    # not an option of the task: unchanged
    assert found["template"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


def behind_iap(seen, result, cloud):
    assert seen["service"]["iapEnabled"] is True and not seen["service"].get("invokerIamDisabled")
    # a request without sign-in is rejected
    assert seen["status"] != 200 or not seen["running"]


def still_serving(cloud):
    """Return the serving revision and whether its page is available."""
    found = service(cloud)
    return {name: found["service"][name] for name in ("uri", "latestReadyRevision")} | {"running": found["running"]}


def open_to_all(cloud):
    cloud.request("PATCH", f"{url(cloud)}?updateMask=iapEnabled,invokerIamDisabled", {"invokerIamDisabled": True})


def repaired(seen, result, cloud):
    assert seen["running"]
    assert seen["service"]["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert seen["service"]["template"]["containers"][0]["image"] == HELLO


# Jobs


def job(cloud):
    """Return the job and the number of successful tasks of each execution."""
    found = cloud.get(f"{RUN}/{cloud.region}/jobs/task")
    if found is None:
        return None
    executions = cloud.get(f"{RUN}/{cloud.region}/jobs/task/executions").get("executions", [])
    return {"job": found, "executions": {item["name"]: item.get("succeededCount", 0) for item in executions}}


def _job(title, expect=None, *, fails="", read=job, repeats=False, **options):
    options = {"name": "task", "location": REGION, **options}
    return Step(title, "cloud_run_job", options, read, expect, fails=fails, repeats=repeats)


def executed(seen, result, cloud):
    assert seen["executions"] == {result["execution"]: 2}
    template = seen["job"]["template"]
    assert template["taskCount"] == 2
    assert template["template"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]


def executed_anew(seen, result, cloud):
    assert seen["executions"][result["execution"]] == 2
    assert len(seen["executions"]) == 2
    assert seen["job"]["labels"] == {"managed-by": "mlplatform-gcp"}


def not_executed(seen, result, cloud):
    assert "execution" not in result
    assert seen["job"]["template"]["taskCount"] == 1


# Identity-Aware Proxy


def settings(cloud):
    return cloud.get(f"{IAP}/projects/{cloud.number}/iap_web/cloud_run-{REGION}/services/hello:iapSettings")


def _settings(title, expect, *, prepare=None, fails="", **options):
    resource = f"projects/{{{{ number }}}}/iap_web/cloud_run-{REGION}/services/hello"
    options = {"resource": resource, **options}
    return Step(title, "iap_settings", options, settings, expect, prepare=prepare, fails=fails)


def own_client(seen, result, cloud):
    oauth = seen["accessSettings"]["oauthSettings"]
    assert oauth["clientId"] == CLIENT
    assert oauth["clientSecretSha256"] == hashlib.sha256(b"GOCSPX-not-to-be-seen").hexdigest()
    assert oauth["loginHint"] == "example.com"
    assert seen["accessSettings"]["corsSettings"]["allowHttpOptions"] is True
    assert result["resource"]["name"] == seen["name"]


def rotated(seen, result, cloud):
    oauth = seen["accessSettings"]["oauthSettings"]
    assert oauth["clientSecretSha256"] == hashlib.sha256(b"GOCSPX-rotated").hexdigest()
    assert sorted(oauth["programmaticClients"]) == ["one.apps.googleusercontent.com", "two.apps.googleusercontent.com"]
    # not an option of the task: unchanged
    assert oauth["loginHint"] == "example.com"


OWN = {
    "oauth_client_id_secret": "projects/{{ project }}/secrets/client-id",
    "oauth_client_secret_secret": "projects/{{ project }}/secrets/client-secret",
}

STEPS = [
    both(
        _service(
            "A service is created",
            created,
            prepare=prepare,
            image=HELLO,
            env={"PLAIN": 1, "SWITCH": True},
            secret_env={"TOKEN": f"{TOKEN}/versions/1"},
            secret_volumes=[{"mount_path": "/secrets", "secret": TOKEN, "file": "token"}],
            service_account=ACCOUNT,
            cpu="1",
            memory="512Mi",
            startup_cpu_boost=True,
            min_instances=1,
            max_instances=2,
            concurrency=20,
            timeout=60,
            startup_probe={
                "http_get": {"path": "/"},
                "period_seconds": 1,
                "timeout_seconds": 1,
                "failure_threshold": 10,
            },
            ingress="INGRESS_TRAFFIC_ALL",
            invoker_iam_disabled=True,
            labels={"managed-by": "mlplatform-gcp", "team": "ml"},
        )
    ),
    both(
        _service(
            "Environment variables of a service are changed", changed, env={"PLAIN": 2}, labels={"team": "platform"}
        )
    ),
    both(
        information(
            "A service is found",
            "cloud_run_service_info",
            {"name": "hello", "location": REGION},
            lambda cloud: [cloud.get(url(cloud))],
        )
    ),
    information(
        "All services are found",
        "cloud_run_service_info",
        {"location": REGION},
        lambda cloud: cloud.get(f"{RUN}/{cloud.region}/services")["services"],
    ),
    _service("Identity-Aware Proxy is enabled for a service", behind_iap, iap_enabled=True, invoker_iam_disabled=False),
    both(
        _settings(
            "The proxy uses a custom OAuth client",
            own_client,
            prepare=lambda cloud: cloud.make_oauth_client("client", CLIENT, "GOCSPX-not-to-be-seen"),
            login_hint="example.com",
            cors_allow_http_options=True,
            **OWN,
        )
    ),
    both(
        _settings(
            "The proxy uses the new secret of its OAuth client",
            rotated,
            prepare=lambda cloud: cloud.add_version("client-secret", "GOCSPX-rotated"),
            programmatic_clients=["one.apps.googleusercontent.com", "two.apps.googleusercontent.com"],
            **OWN,
        )
    ),
    _service(
        "A revision that does not start does not replace the serving revision",
        prepare=open_to_all,
        read=still_serving,
        image=f"{REGION}-docker.pkg.dev/{{{{ project }}}}/nothing/here:1",
        fails="(?s)not found.*The revision that served before",
    ),
    _service("A service is repaired", repaired, image=HELLO),
    _service("A service without an image is not created", name="none", fails="To create it, set image"),
    both(_service("A service is deleted", lambda seen, result, cloud: same(seen, None), state="absent")),
    information(
        "No service is found",
        "cloud_run_service_info",
        {"name": "hello", "location": REGION},
        lambda cloud: [],
    ),
    both(
        _job(
            "A job is created and executed",
            executed,
            image=JOB,
            tasks=2,
            max_retries=0,
            env={"A": 1},
            execute="on_change",
        )
    ),
    both(
        _job(
            "A job is executed in each run",
            executed_anew,
            repeats=True,
            execute="always",
            labels={"managed-by": "mlplatform-gcp"},
        )
    ),
    _job("A job is changed", not_executed, tasks=1),
    _job(
        "A failed execution of a job is reported",
        read=lambda cloud: cloud.get(f"{RUN}/{cloud.region}/services"),
        command=["/bin/sh", "-c", "echo 'the frobnicator is not configured' >&2; exit 3"],
        max_retries=0,
        execute="on_change",
        fails="(?s)task.*The end of its output:\nthe frobnicator is not configured\nAll.*: gcloud logging read",
    ),
    both(_job("A job is deleted", lambda seen, result, cloud: same(seen, None), state="absent")),
]
