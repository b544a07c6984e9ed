# SPDX-License-Identifier: Apache-2.0
"""Steps for app_engine_application, app_engine_version, app_engine_service, their info modules, and iap_access."""

from __future__ import annotations

import hashlib

from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import APP_ENGINE, IAP
from ansible_collections.mlplatform.gcp.tests.integration.modules._steps import Step, both, information, same

HELLO = "us-docker.pkg.dev/cloudrun/container/hello:latest"
ACCOUNT = "engine@{{ project }}.iam.gserviceaccount.com"
CLIENT, KEY, NEW_KEY = "34-ae.apps.googleusercontent.com", "GOCSPX-of-the-application", "GOCSPX-of-the-application-2"
ACCESSOR = "roles/iap.httpsResourceAccessor"
ALICE, BOB = "user:alice@example.com", "user:bob@example.com"


# The application


def url(cloud, path=""):
    return f"{APP_ENGINE}/apps/{cloud.project}{path}"


def application(cloud):
    return cloud.get(url(cloud))


def _application(title, expect=None, *, prepare=None, fails="", **options):
    return Step(title, "app_engine_application", options, application, expect, prepare=prepare, fails=fails)


def prepare(cloud):
    """Enable the APIs and create the service account of the versions."""
    cloud.enable("appengine", "appengineflex", "iap", "iam", "cloudresourcemanager", "secretmanager")
    cloud.make_account("engine")


def made(seen, result, cloud):
    assert seen["locationId"] == "europe-west"
    assert seen["featureSettings"]["splitHealthChecks"] is True
    assert seen["sslPolicy"] == "MODERN"
    assert result["resource"]["defaultHostname"] == seen["defaultHostname"]


def own_client(key):
    def expect(seen, result, cloud):
        digest = hashlib.sha256(key.encode()).hexdigest()
        assert seen["iap"] == {"enabled": True, "oauth2ClientId": CLIENT, "oauth2ClientSecretSha256": digest}

    return expect


OWN = {
    "oauth_client_id_secret": "projects/{{ project }}/secrets/app-client-id",
    "oauth_client_secret_secret": "projects/{{ project }}/secrets/app-client-secret",
}


def other_settings(seen, result, cloud):
    assert not seen.get("iap", {}).get("enabled")
    assert seen["sslPolicy"] == "DEFAULT"
    # not an option of the task: unchanged
    assert seen["featureSettings"]["splitHealthChecks"] is True


# Versions


def version(name, service="default"):
    """Return a function that reads a version and the response of its address."""

    def read(cloud):
        found = cloud.get(url(cloud, f"/services/{service}/versions/{name}"), view="FULL")
        if found is None:
            return None
        status, text = cloud.page(found["versionUrl"]) if found["servingStatus"] == "SERVING" else (0, "")
        return {"version": found, "status": status, "running": "It's running!" in text}

    return read


def _version(title, name, expect=None, *, prepare=None, fails="", read=None, service="default", **options):
    options = {"name": name, "service": service, **options}
    read = read or version(name, service)
    return Step(title, "app_engine_version", options, read, expect, prepare=prepare, fails=fails)


RUNS = {
    "image": HELLO,
    "service_account": ACCOUNT,
    "env_variables": {"PLAIN": 1, "SWITCH": True},
    "cpu": 1,
    "memory_gb": 2,
    "automatic_scaling": {"min_instances": 1, "max_instances": 2, "target_cpu_utilization": 0.75},
    "liveness_check": {"path": "/", "check_interval": 30, "initial_delay": 300},
    "readiness_check": {"path": "/", "check_interval": 1, "app_start_timeout": 60},
    "inbound_services": [],
}


def runs(seen, result, cloud):
    found = seen["version"]
    assert seen["running"] and seen["status"] == 200
    assert (found["runtime"], found["env"], found["servingStatus"]) == ("custom", "flexible", "SERVING")
    assert found["deployment"]["container"]["image"] == HELLO
    assert found["serviceAccount"] == cloud.email("engine")
    assert found["envVariables"] == {"PLAIN": "1", "SWITCH": "true"}
    assert found["resources"] == {"cpu": 1, "memoryGb": 2}
    assert found["automaticScaling"]["cpuUtilization"] == {"targetUtilization": 0.75}
    assert found["readinessCheck"]["appStartTimeout"] == "60s"
    assert result["resource"]["versionUrl"] == found["versionUrl"]


def scaled(seen, result, cloud):
    scaling = seen["version"]["automaticScaling"]
    assert (scaling["minTotalInstances"], scaling["maxTotalInstances"]) == (1, 3)
    # not an option of the task: unchanged
    assert scaling["cpuUtilization"] == {"targetUtilization": 0.75}


def stopped(seen, result, cloud):
    assert seen["version"]["servingStatus"] == "STOPPED"
    assert cloud.get(url(cloud, "/services/default/versions/v1/instances")) == {}


# The request body that Google's Terraform provider sends for the version of the App Engine guide

GUIDE = {"DB_NAME": "mlflow", "DB_USERNAME": "mlflow", "GCS_BACKEND": "gs://abc-mlflow-dev-europe-west1"}


def by_terraform(cloud):
    """Create the version of google_app_engine_flexible_app_version."""
    body = {
        "id": "guide",
        "env": "flex",
        "runtime": "custom",
        "servingStatus": "SERVING",
        "inboundServices": [],
        "deployment": {"container": {"image": HELLO}},
        "envVariables": GUIDE,
        "betaSettings": {"cloud_sql_instances": f"{cloud.project}:europe-west1:abc"},
        "resources": {"cpu": 1, "memoryGb": 2},
        "automaticScaling": {
            "coolDownPeriod": "120s",
            "cpuUtilization": {"targetUtilization": 0.75},
            "maxTotalInstances": 4,
            "minTotalInstances": 1,
        },
    }
    check = {"path": "/", "successThreshold": 2, "timeout": "4s"}
    body["livenessCheck"] = {**check, "failureThreshold": 4, "checkInterval": "30s", "initialDelay": "300s"}
    body["readinessCheck"] = {**check, "failureThreshold": 2, "checkInterval": "5s", "appStartTimeout": "300s"}
    cloud.make(url(cloud, "/services/default/versions"), body, base=APP_ENGINE)


def adopted(seen, result, cloud):
    assert seen["version"]["envVariables"] == GUIDE
    assert result["resource"]["createTime"] == seen["version"]["createTime"]


# Traffic


def traffic(cloud):
    """Return the split of requests and the response of the application's address."""
    found = cloud.get(url(cloud, "/services/default"))
    status, text = cloud.page(f"https://{application(cloud)['defaultHostname']}")
    return {"service": found, "status": status, "running": "It's running!" in text}


def _service(title, expect=None, *, prepare=None, fails="", read=traffic, **options):
    return Step(title, "app_engine_service", options, read, expect, prepare=prepare, fails=fails)


def split(shares, shard_by=None):
    def expect(seen, result, cloud):
        assert seen["running"]
        assert seen["service"]["split"]["allocations"] == shares
        assert shard_by is None or seen["service"]["split"]["shardBy"] == shard_by

    return expect


def internal(seen, result, cloud):
    assert seen["service"]["networkSettings"] == {"ingressTrafficAllowed": "INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY"}
    assert seen["service"]["labels"] == {"team": "ml"}
    assert not seen["running"]


def no_traffic(seen, result, cloud):
    runs(seen, result, cloud)
    assert cloud.get(url(cloud, "/services/default"))["split"] == {"allocations": {"v1": 1}}


def another_service(cloud):
    return cloud.get(url(cloud, "/services/mlflow"))


# Access


def access(cloud):
    return cloud.bindings(f"{IAP}/projects/{cloud.number}/iap_web/appengine-{cloud.project}")


def _access(title, expect=None, *, fails="", **options):
    return Step(title, "iap_access", {"type": "app_engine", **options}, access, expect, fails=fails)


def exactly(*members):
    def expect(seen, result, cloud):
        assert seen.get(ACCESSOR, []) == sorted(members)
        assert result["protects"] == f"projects/{cloud.number}/iap_web/appengine-{cloud.project}"
        assert result["enabled"] is False

    return expect


def surveyed(seen, result, cloud):
    assert [problem["check"] for problem in result["problems"]] == ["location", "taken", "principals"]
    found = {item["type"]: item for item in result["resources"]}
    assert found["app_engine_application"]["services"] == ["default", "mlflow"]
    assert found["app_engine_application"]["versions"] == 3
    assert found["app_engine_application"]["iap_enabled"] is False
    assert found["app_engine_version"]["owned"] is True


STEPS = [
    both(
        _application(
            "An application is created",
            made,
            prepare=prepare,
            location="europe-west1",
            split_health_checks=True,
            ssl_policy="MODERN",
        )
    ),
    both(
        information("The application is found", "app_engine_application_info", {}, lambda cloud: [application(cloud)])
    ),
    both(
        _application(
            "The application uses a custom OAuth client",
            own_client(KEY),
            prepare=lambda cloud: cloud.make_oauth_client("app-client", CLIENT, KEY),
            location="europe-west",
            iap_enabled=True,
            **OWN,
        )
    ),
    both(
        _application(
            "The application uses the new secret of its OAuth client",
            own_client(NEW_KEY),
            prepare=lambda cloud: cloud.add_version("app-client-secret", NEW_KEY),
            **OWN,
        )
    ),
    _application(
        "The application uses the managed OAuth client again",
        lambda seen, result, cloud: same(seen["iap"], {"enabled": True}),
        managed_oauth_client=True,
    ),
    both(_application("The application is public", other_settings, iap_enabled=False, ssl_policy="DEFAULT")),
    _application(
        "An application is not moved",
        location="us-central1",
        fails='"europe-west" to "us-central".*neither be moved nor deleted',
    ),
    _application("An application is not deleted", state="absent", fails="cannot be deleted.*USER_DISABLED"),
    _application(
        "The secret of an OAuth client must exist",
        iap_enabled=True,
        oauth_client_id_secret="projects/{{ project }}/secrets/app-client-id",
        oauth_client_secret_secret="projects/{{ project }}/secrets/missing",
        fails="oauth_client_secret_secret: projects/.*/secrets/missing/versions/latest does not exist",
    ),
    both(_version("A first version runs", "v1", runs, **RUNS)),
    both(_version("A second version runs and receives no requests", "v2", no_traffic, **RUNS)),
    both(
        information(
            "A version is found",
            "app_engine_version_info",
            {"name": "v1"},
            lambda cloud: [cloud.get(url(cloud, "/services/default/versions/v1"), view="FULL")],
        )
    ),
    information(
        "All versions are found",
        "app_engine_version_info",
        {},
        lambda cloud: cloud.get(url(cloud, "/services/default/versions"), view="FULL")["versions"],
    ),
    both(
        _service(
            "Requests are split",
            split({"v1": 0.875, "v2": 0.125}, "COOKIE"),
            allocations={"v1": 0.875, "v2": 0.125},
            shard_by="COOKIE",
        )
    ),
    both(_service("All requests go to the second version", split({"v2": 1}), allocations={"v2": 1})),
    _service(
        "Shares with another sum than 1 are rejected",
        allocations={"v1": 0.5, "v2": 0.4},
        shard_by="IP",
        fails="sum to 0.9 and not to 1",
    ),
    both(_version("A version has more instances", "v2", scaled, automatic_scaling={"max_instances": 3})),
    _version(
        "Environment variables of a version cannot be changed",
        "v2",
        **{**RUNS, "automatic_scaling": {"max_instances": 3}, "env_variables": {"PLAIN": 2}},
        fails="envVariables cannot be changed.*deploy another one under another name",
    ),
    _version("A version that receives requests is not deleted", "v2", state="absent", fails="gets 1 of the requests"),
    both(_version("A version is stopped", "v1", stopped, serving_status="STOPPED")),
    _service(
        "A stopped version cannot receive requests",
        allocations={"v1": 1},
        fails="Version v1 .* is STOPPED, so it cannot get requests",
    ),
    _version(
        "A version is started again",
        "v1",
        lambda seen, result, cloud: same(seen["running"], True),
        serving_status="SERVING",
    ),
    _version(
        "A version that does not start does not replace the serving version",
        "v3",
        read=traffic,
        **{**RUNS, "image": "europe-west1-docker.pkg.dev/{{ project }}/nothing/here:1"},
        fails="(?s)pull.*The traffic did not change.*gcloud app logs read",
    ),
    _version(
        "A version in the standard environment is rejected",
        "v3",
        **{**RUNS, "env": "standard"},
        fails="The standard environment runs no containers",
    ),
    _version("A new version needs an image", "v3", serving_status="STOPPED", fails="To create it, set image"),
    both(
        _service(
            "A service is reachable from internal networks only",
            internal,
            ingress="INGRESS_TRAFFIC_ALLOWED_INTERNAL_ONLY",
            labels={"team": "ml"},
        )
    ),
    both(
        _version(
            "A version of another service runs",
            "v1",
            lambda seen, result, cloud: same(seen["running"], True),
            service="mlflow",
            **{**RUNS, "env_variables": {"MLFLOW_DEPLOYMENT": "demo"}},
        )
    ),
    Step(
        "The preflight reads App Engine",
        "preflight_info",
        {
            "region": "us-central1",
            "resources": [
                {"type": "app_engine_application", "name": "{{ project }}"},
                {"type": "app_engine_service", "name": "default"},
                {"type": "app_engine_service", "name": "mlflow"},
                {"type": "app_engine_version", "name": "mlflow/v1"},
            ],
            "owner_labels": {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo"},
            "principals": ["serviceAccount:missing@{{ project }}.iam.gserviceaccount.com", ALICE],
        },
        application,
        surveyed,
        changes=False,
    ),
    both(
        information(
            "Services are found",
            "app_engine_service_info",
            {},
            lambda cloud: cloud.get(url(cloud, "/services"))["services"],
        )
    ),
    both(
        _service(
            "A service of App Engine is deleted",
            lambda seen, result, cloud: same(seen, None),
            read=another_service,
            name="mlflow",
            state="absent",
        )
    ),
    _service("The service default is not deleted", state="absent", fails="The service default cannot be deleted"),
    _service(
        "A service that does not exist cannot receive requests",
        read=another_service,
        name="mlflow",
        allocations={"v1": 1},
        fails="It comes with its first version",
    ),
    both(_version("A version is deleted", "v1", lambda seen, result, cloud: same(seen, None), state="absent")),
    Step(
        "A version that the guide's Terraform created is not changed",
        "app_engine_version",
        {
            "name": "guide",
            "image": HELLO,
            "env_variables": GUIDE,
            "cloudsql_instances": ["{{ project }}:europe-west1:abc"],
            "cpu": 1,
            "memory_gb": 2,
            "automatic_scaling": {"min_instances": 1, "max_instances": 4, "target_cpu_utilization": 0.75},
            "liveness_check": {"path": "/"},
            "readiness_check": {"path": "/"},
            "inbound_services": [],
            "serving_status": "SERVING",
        },
        version("guide"),
        adopted,
        prepare=by_terraform,
        changes=False,
    ),
    both(_access("Two users have access", exactly(ALICE, BOB), members=[ALICE, "user:Bob@example.com"])),
    both(_access("Only one of them has access", exactly(BOB), members=[BOB])),
    _access(
        "A group that does not exist is rejected",
        members=["group:group@nowhere.invalid"],
        fails="There is no group group@nowhere.invalid to have a role on .*appengine-",
    ),
    both(_access("No user has access any more", exactly(), state="absent")),
]
