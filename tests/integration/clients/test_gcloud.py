# SPDX-License-Identifier: Apache-2.0
"""Test that unmodified gcloud reads resources that other clients created in the sandbox, and creates resources."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import (
    BUILD,
    IAM,
    MANAGER,
    REGION,
    REGISTRY,
    RUN,
    SECRETS,
    SQL,
    STORAGE,
    Cloud,
)

GCLOUD = shutil.which("gcloud")
pytestmark = pytest.mark.skipif(not GCLOUD, reason="gcloud is not installed on this machine")
APP_YAML = """
runtime: custom
env: flex
readiness_check: {path: /}
liveness_check: {path: /}
automatic_scaling: {min_num_instances: 1, max_num_instances: 2}
"""
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"


@pytest.fixture(scope="module")
def cloud(sandbox, make_project, tmp_path_factory):
    """Create a project with the resources that the gcloud commands read."""
    cloud = Cloud(sandbox, make_project(), tmp_path_factory.mktemp("gcloud"))
    apis = (
        "appengine appengineflex artifactregistry cloudbuild cloudresourcemanager compute iam iamcredentials iap run "
        "secretmanager sqladmin storage"
    )
    cloud.enable(*apis.split())
    cloud.make_account("reader")
    cloud.make_secret("word", "the value of the secret")
    cloud.make_bucket(f"{cloud.project}-objects")
    cloud.make_repository("images")
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/viewer", "user:alice@example.com")
    instance = {
        "name": "db",
        "region": REGION,
        "databaseVersion": "POSTGRES_16",
        "settings": {"edition": "ENTERPRISE", "tier": "db-f1-micro"},
    }
    cloud.make(f"{SQL}/{cloud.home}/instances", instance, base=cloud.sql_operations)
    service = {"template": {"containers": [{"image": HELLO, "env": [{"name": "A", "value": "b"}]}]}}
    cloud.make(f"{RUN}/{cloud.region}/services", service, base=RUN, serviceId="hello")
    return cloud


@pytest.fixture(scope="module")
def run(cloud, sandbox):
    """Run gcloud in the project as a principal and return its output."""
    home = cloud.folder / "home"
    home.mkdir()

    def run(*arguments: str, principal: str | None = None, fails: bool = False) -> str:
        env = {
            **os.environ,
            **sandbox.env(principal),
            "HOME": str(home),
            "CLOUDSDK_CORE_PROJECT": cloud.project,
            # the APIs are enabled in this project, but not in the project of the deployer
            "CLOUDSDK_BILLING_QUOTA_PROJECT": cloud.project,
        }
        done = subprocess.run([GCLOUD, *arguments], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert (done.returncode != 0) == fails, f"gcloud {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="module")
def run_json(run):
    """Run gcloud and return its JSON output."""
    return lambda *arguments, **more: json.loads(run(*arguments, "--format=json", **more))


def test_run_services(run_json, cloud):
    (listed,) = run_json("run", "services", "list")
    (regional,) = run_json("run", "services", "list", f"--region={REGION}")
    reported = run_json("run", "services", "describe", "hello", f"--region={REGION}")
    uri = cloud.get(f"{RUN}/{cloud.region}/services/hello")["uri"]
    assert listed["status"]["url"] == regional["status"]["url"] == reported["status"]["url"] == uri
    (container,) = reported["spec"]["template"]["spec"]["containers"]
    assert container["image"] == HELLO and container["env"] == [{"name": "A", "value": "b"}]
    ready = next(item for item in reported["status"]["conditions"] if item["type"] == "Ready")
    assert ready["status"] == "True"


def test_run_services_as_a_table(run):
    """The table needs fields that the JSON output does not need."""
    assert "hello" in run("run", "services", "list") and "https://" in run("run", "services", "list")
    assert "hello" in run("run", "revisions", "list", f"--region={REGION}")


def test_sql_instances(run_json, run, cloud):
    (listed,) = run_json("sql", "instances", "list")
    reported = run_json("sql", "instances", "describe", "db")
    assert listed["name"] == reported["name"] == "db"
    assert reported["connectionName"] == f"{cloud.project}:{REGION}:db"
    assert reported["state"] == "RUNNABLE"
    assert [item["name"] for item in run_json("sql", "databases", "list", "--instance=db")] == ["postgres"]
    run("sql", "databases", "create", "data", "--instance=db")
    assert cloud.get(f"{SQL}/{cloud.home}/instances/db/databases/data")
    run("sql", "instances", "patch", "db", "--database-flags=log_connections=on", "--quiet")
    flags = cloud.get(f"{SQL}/{cloud.home}/instances/db")["settings"]["databaseFlags"]
    assert flags == [{"name": "log_connections", "value": "on"}]


def test_objects(run, cloud, tmp_path):
    bucket = f"gs://{cloud.project}-objects"
    # large enough for gcloud to upload in parts and to download in slices
    (tmp_path / "up").write_bytes(os.urandom(20 << 20))
    run("storage", "cp", str(tmp_path / "up"), f"{bucket}/folder/object")
    assert run("storage", "ls").split() == [f"{bucket}/"]
    assert run("storage", "ls", bucket).split() == [f"{bucket}/folder/"]
    assert run("storage", "ls", "--recursive", f"{bucket}/**").split() == [f"{bucket}/folder/object"]
    run("storage", "cp", f"{bucket}/folder/object", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    found = cloud.get(f"{STORAGE}/b/{cloud.project}-objects/o")["items"]
    assert [(item["name"], item["size"]) for item in found] == [("folder/object", str(20 << 20))]
    run("storage", "rm", "--recursive", f"{bucket}/folder")
    assert "items" not in cloud.get(f"{STORAGE}/b/{cloud.project}-objects/o")


def test_secrets(run, run_json, cloud):
    assert run("secrets", "versions", "access", "latest", "--secret=word") == "the value of the secret"
    assert [item["name"].rsplit("/", 1)[-1] for item in run_json("secrets", "list")] == ["word"]
    cloud.grant(f"{SECRETS}/{cloud.home}/secrets/word", "roles/secretmanager.secretAccessor", "user:alice@example.com")
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/serviceusage.serviceUsageConsumer", "user:alice@example.com")
    assert run("secrets", "versions", "access", "1", "--secret=word", principal="bob@example.com", fails=True)
    seen = run("secrets", "versions", "access", "1", "--secret=word", principal="alice@example.com")
    assert seen == "the value of the secret"


def test_service_accounts_and_policies(run, run_json, cloud):
    accounts = {item["email"] for item in run_json("iam", "service-accounts", "list")}
    assert cloud.email("reader") in accounts
    policy = run_json("projects", "get-iam-policy", cloud.project)
    assert {"role": "roles/viewer", "members": ["user:alice@example.com"]} in policy["bindings"]
    member = f"--member=serviceAccount:{cloud.email('reader')}"
    run("projects", "add-iam-policy-binding", cloud.project, member, "--role=roles/browser", "--condition=None")
    bindings = cloud.bindings(f"{MANAGER}/v3/{cloud.home}")
    assert bindings["roles/browser"] == [f"serviceAccount:{cloud.email('reader')}"]
    assert bindings["roles/viewer"] == ["user:alice@example.com"]


def test_repositories_and_builds(run, run_json, cloud):
    (repository,) = run_json("artifacts", "repositories", "list")
    assert repository["name"] == f"{cloud.region}/repositories/images"
    place = f"{REGION}-docker.pkg.dev/{cloud.project}/images"
    assert run_json("artifacts", "docker", "images", "list", place) == []
    assert run_json("builds", "list", f"--region={REGION}") == []
    context = cloud.folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM python:3-slim\nENV A=b\n")
    member = f"serviceAccount:{cloud.make_account('image-builder')}"
    cloud.grant(f"{STORAGE}/b/{cloud.project}-objects", "roles/storage.admin", member)
    cloud.grant(f"{REGISTRY}/{cloud.region}/repositories/images", "roles/artifactregistry.writer", member)
    with contextlib.chdir(context):
        log = run(
            "builds",
            "submit",
            f"--tag={place}/app:v1",
            f"--region={REGION}",
            f"--gcs-source-staging-dir=gs://{cloud.project}-objects/source",
            f"--gcs-log-dir=gs://{cloud.project}-objects/log",
            f"--service-account={cloud.home}/serviceAccounts/{cloud.email('image-builder')}",
            "--quiet",
        )
    assert "ENV A=b" in log and "SUCCESS" in log
    (built,) = run_json("builds", "list", f"--region={REGION}")
    assert cloud.get(f"{BUILD}/{cloud.region}/builds/{built['id']}")["status"] == "SUCCESS"
    (image,) = run_json("artifacts", "docker", "images", "list", place, "--include-tags")
    assert image["package"] == f"{place}/app"
    assert image["version"] == built["results"]["images"][0]["digest"]


def test_app_engine(run, run_json, cloud, tmp_path):
    run("app", "create", "--region=europe-west")
    host = f"{cloud.project}.ew.r.appspot.com"
    shown = run_json("app", "describe")
    assert shown["locationId"] == "europe-west" and shown["defaultHostname"] == host
    (tmp_path / "app.yaml").write_text(APP_YAML)
    deploy = ("app", "deploy", str(tmp_path / "app.yaml"), f"--image-url={HELLO}:latest", "--quiet")
    run(*deploy, "--version=v1")
    run(*deploy, "--version=v2", "--no-promote")
    versions = {item["id"]: item for item in run_json("app", "versions", "list")}
    assert {id: item["traffic_split"] for id, item in versions.items()} == {"v1": 1.0, "v2": 0.0}
    assert versions["v1"]["environment"]["name"] == "FLEX"
    run("app", "services", "set-traffic", "default", "--splits=v1=0.25,v2=0.75", "--split-by=cookie", "--quiet")
    split = run_json("app", "services", "describe", "default")["split"]
    assert split == {"allocations": {"v1": 0.25, "v2": 0.75}, "shardBy": "COOKIE"}
    assert run("app", "browse", "--no-launch-browser").strip() == f"https://{host}"
    page = cloud.anonymous.get(f"https://v2-dot-{host}/")
    assert page.status_code == 200 and "<code>v2</code>" in page.text


def test_the_steps_of_the_cloud_run_guide(run, run_json, cloud, tmp_path):
    """Test the commands and settings of the Cloud Run guide without Terraform."""
    email = cloud.email("by-hand")
    run("iam", "service-accounts", "create", "by-hand", "--display-name=Service Account for Cloud Run running ML Flow")
    assert cloud.get(f"{IAM}/{cloud.home}/serviceAccounts/{email}")["displayName"].endswith("running ML Flow")

    run("artifacts", "repositories", "create", "by-hand", "--repository-format=docker", f"--location={REGION}")
    assert cloud.get(f"{REGISTRY}/{cloud.region}/repositories/by-hand")["format"] == "DOCKER"

    bucket = f"gs://{cloud.project}-by-hand"
    access = ("--uniform-bucket-level-access", "--public-access-prevention", f"--location={REGION}")
    run("storage", "buckets", "create", bucket, *access)
    configuration = cloud.get(f"{STORAGE}/b/{cloud.project}-by-hand")["iamConfiguration"]
    assert configuration["uniformBucketLevelAccess"]["enabled"]
    assert configuration["publicAccessPrevention"] == "enforced"

    (tmp_path / "payload").write_text("aB3!#$%&*()-_=+[]{}<>:?")
    run("secrets", "create", "mlflow_tracking_password", "--replication-policy=automatic")
    run("secrets", "versions", "add", "mlflow_tracking_password", f"--data-file={tmp_path / 'payload'}")
    found = cloud.secret("mlflow_tracking_password")
    assert found["secret"]["replication"] == {"automatic": {}}
    assert found["versions"] == {1: ("ENABLED", b"aB3!#$%&*()-_=+[]{}<>:?")}
    member = (f"--member=serviceAccount:{email}", "--role=roles/secretmanager.secretAccessor")
    run("secrets", "add-iam-policy-binding", "mlflow_tracking_password", *member)

    disk = ("--storage-type=HDD", "--storage-size=10", "--no-storage-auto-increase")
    server = ("--database-version=POSTGRES_14", "--tier=db-custom-1-3840", f"--region={REGION}")
    run("sql", "instances", "create", "by-hand", *server, *disk)
    reported = run_json("sql", "instances", "describe", "by-hand")
    assert (reported["state"], reported["databaseVersion"]) == ("RUNNABLE", "POSTGRES_14")
    settings = reported["settings"]
    assert (settings["tier"], settings["dataDiskType"], settings["storageAutoResize"]) == (
        "db-custom-1-3840",
        "PD_HDD",
        False,
    )


def test_a_service_is_deployed_updated_and_deleted(run, run_json, cloud):
    cloud.make_secret("handed", "to the service")
    service = f"{RUN}/{cloud.region}/services/by-hand"
    email = cloud.make_account("server-by-hand")
    member = f"serviceAccount:{email}"
    cloud.grant(f"{SECRETS}/{cloud.home}/secrets/handed", "roles/secretmanager.secretAccessor", member)
    region = f"--region={REGION}"
    run(
        "run",
        "deploy",
        "by-hand",
        region,
        f"--image={HELLO}",
        f"--service-account={email}",
        "--add-cloudsql-instances=db",
        "--set-env-vars=A=b",
        "--set-secrets=B=handed:latest",
        "--memory=1Gi",
        "--max-instances=10",
        "--allow-unauthenticated",
    )
    made = cloud.get(service)
    template, (container,) = made["template"], made["template"]["containers"]
    source = {"secretKeyRef": {"secret": "handed", "version": "latest"}}
    assert container["env"] == [{"name": "A", "value": "b"}, {"name": "B", "valueSource": source}]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert (template["scaling"]["maxInstanceCount"], template["serviceAccount"]) == (10, email)
    connections = [volume["cloudSqlInstance"]["instances"] for volume in template["volumes"]]
    assert connections == [[f"{cloud.project}:{REGION}:db"]]
    assert cloud.bindings(service) == {"roles/run.invoker": ["allUsers"]}
    assert cloud.anonymous.get(made["uri"]).ok

    run("run", "services", "update", "by-hand", region, "--update-env-vars=A=c")
    reported = run_json("run", "services", "describe", "by-hand", region)
    assert reported["status"]["latestReadyRevisionName"] != made["latestReadyRevision"].rpartition("/")[2]
    changed = cloud.get(service)["template"]
    assert changed["containers"][0]["env"] == [{"name": "A", "value": "c"}, {"name": "B", "valueSource": source}]
    assert changed["volumes"] == template["volumes"]
    run("run", "services", "delete", "by-hand", region, "--quiet")
    assert cloud.get(service) is None


def test_traffic_moves_after_a_deployment_with_a_named_revision(run, cloud):
    region = f"--region={REGION}"
    named = ("--revision-suffix=one", "--tag=blue", "--description=a page")
    run("run", "deploy", "named", region, f"--image={HELLO}", "--no-allow-unauthenticated", *named)
    made = cloud.get(f"{RUN}/{cloud.region}/services/named")
    run("run", "services", "update-traffic", "named", region, "--to-revisions=named-one=100")
    moved = cloud.get(f"{RUN}/{cloud.region}/services/named")
    assert {target.get("revision") for target in moved["traffic"]} == {"named-one"}
    assert moved["template"] == made["template"] and moved["latestCreatedRevision"] == made["latestCreatedRevision"]
    changed = ("run", "deploy", "named", region, f"--image={HELLO}", "--revision-suffix=one", "--set-env-vars=A=b")
    assert "already exists" in run(*changed, fails=True)
    run("beta", "run", "services", "update", "named", region, "--iap")
    number = cloud.get(f"{MANAGER}/v3/{cloud.home}")["name"].rpartition("/")[2]
    agent = f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
    assert agent in cloud.bindings(f"{RUN}/{cloud.region}/services/named")["roles/run.invoker"]


def test_jobs_and_their_logs(run, run_json, cloud):
    region, script = f"--region={REGION}", "echo to the log; echo $GREETING; exit $CODE"
    command = ("--command=/bin/sh", f"--args=-c,{script}", "--set-env-vars=GREETING=hello,CODE=0", "--max-retries=0")
    run("run", "jobs", "create", "by-hand", region, f"--image={HELLO}", *command)
    run("run", "jobs", "execute", "by-hand", region, "--wait")
    (execution,) = run_json("run", "jobs", "executions", "list", "--job=by-hand", region)
    assert execution["status"]["succeededCount"] == 1
    run("run", "jobs", "update", "by-hand", region, "--update-env-vars=GREETING=again")
    run("run", "jobs", "execute", "by-hand", region, "--wait", "--update-env-vars=CODE=3", fails=True)
    lines = [line.split(" ", 2)[2] for line in run("run", "jobs", "logs", "read", "by-hand", region).splitlines()]
    assert lines == ["to the log", "hello", "to the log", "again"]
    name = "run.googleapis.com/execution_name"
    found = f'resource.type="cloud_run_job" labels."{name}"="{execution["metadata"]["name"]}"'
    entries = run_json("logging", "read", found, "--order=asc")
    assert [entry["textPayload"] for entry in entries] == ["to the log", "hello"]
    run("run", "jobs", "delete", "by-hand", region, "--quiet")
    assert run_json("run", "jobs", "list", region) == []


def test_the_log_of_a_service(run, cloud):
    cloud.anonymous.get(cloud.get(f"{RUN}/{cloud.region}/services/hello")["uri"])
    assert "GET 403 https://" in run("run", "services", "logs", "read", "hello", f"--region={REGION}")


def test_builds_with_defaults(run, run_json, cloud):
    number = cloud.get(f"{MANAGER}/v3/{cloud.home}")["name"].rpartition("/")[2]
    member = f"serviceAccount:{number}-compute@developer.gserviceaccount.com"
    cloud.grant(f"{MANAGER}/v3/{cloud.home}", "roles/cloudbuild.builds.builder", member)
    cloud.make_repository("defaults")
    context = cloud.folder / "defaults"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM python:3-slim\nENV C=d\n")
    tag = f"--tag={REGION}-docker.pkg.dev/{cloud.project}/defaults/app"
    with contextlib.chdir(context):
        for more in ((), ("--default-buckets-behavior=regional-user-owned-bucket",)):
            assert "ENV C=d" in run("builds", "submit", tag, f"--region={REGION}", *more)
    newest = run_json("builds", "list", f"--region={REGION}", "--limit=1")[0]
    assert newest["logsBucket"] == f"gs://{number}-{REGION}-cloudbuild-logs"
    assert "DONE" in run("builds", "log", newest["id"], f"--region={REGION}")
