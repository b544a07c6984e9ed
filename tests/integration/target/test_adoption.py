# SPDX-License-Identifier: Apache-2.0
"""Test the adoption of resources of the guides' Terraform: used, but neither changed nor replaced nor deleted.

tests/integration/clients/test_terraform.py runs Terraform itself; these tests send its requests.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
import sqlalchemy
import yaml
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from ansible_collections.mlplatform.gcp.tests.integration.target._guides import (
    ALPHANUMERIC,
    APPS,
    OAUTH_CLIENT,
    PASSWORD,
    SQL,
    AppEngineGuide,
    CloudRunGuide,
)
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, DESTROY, REGION, Project

pytestmark = pytest.mark.usefixtures("instant")

HOST = "adopted"


def everything(project: Project) -> dict[str, Any]:
    """Return all resources of a project from their APIs, with their contents and policies."""
    found = project.resources()
    if application := project.list(f"{APPS}/{project.project}", "id") and project.get(f"{APPS}/{project.project}"):
        found["application/default"] = application
    found["project"] = sorted(project.project_roles(f"@{project.project}.iam.gserviceaccount.com"))
    for name in [name for name in found if "/" in name]:
        kind, short = name.split("/")
        home = f"{_cloud.SECRETS}/{project.home}/secrets/{short}"
        if kind == "secret":
            found[f"{name}/value"] = project.secret(short)["versions"]
            found[f"{name}/policy"] = project.policy(home)
        elif kind == "instance":
            for key in ("databases", "users"):
                found[f"{name}/{key}"] = project.list(f"{SQL}/{project.home}/instances/{short}/{key}", "items")
        elif kind == "bucket":
            found[f"{name}/policy"] = project.policy(f"{_cloud.STORAGE}/b/{short}")
        elif kind == "account":
            url = f"{_cloud.IAM}/{project.home}/serviceAccounts/{project.email(short)}"
            found[f"{name}/policy"] = project.policy(url)
            found[f"{name}/keys"] = project.list(f"{url}/keys", "keys")
        elif kind == "repository":
            # The size grows with each image. A policy that was written has a version and another etag, even if empty.
            found[name].pop("sizeBytes", None)
            found[f"{name}/policy"] = project.bindings(f"{_cloud.REGISTRY}/{project.region}/repositories/{short}")
        elif kind == "application":
            versions = f"{APPS}/{project.project}/services/default/versions"
            listed = project.list(versions, "versions", view="FULL")
            found[f"{name}/versions"] = {version["id"]: version for version in listed}
        elif kind == "service":
            found[f"{name}/policy"] = project.policy(f"{_cloud.RUN}/{project.region}/services/{short}")
    return found


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Return the differences of two resources as lines of text."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys(), key=str)
        return [line for key in keys for line in differences(before.get(key), after.get(key), f"{path}.{key}")]
    return [] if before == after else [f"{path}: {before!r} -> {after!r}"]


def granted(policy: Any) -> set[tuple[str, str]]:
    """Return (role, member) of the bindings of a policy that `everything` returns."""
    if isinstance(policy, list):
        return {(role, member) for role, member, _ in policy}
    bindings = policy.get("bindings", []) if "etag" in policy else []
    return {(binding["role"], member) for binding in bindings for member in binding["members"]}


def storage_admin(project: Project) -> None:
    """Grant the deployer a role on the project, because the guide's bucket policy removes the rights of owners."""
    project.grant(f"{_cloud.MANAGER}/v3/{project.home}", "roles/storage.admin", _cloud.DEPLOYER)


class TestCloudRunGuide:
    @pytest.fixture(scope="class")
    def guide(self, new_project, controller, box):
        box.latency("instant")
        project = new_project()
        apis = "artifactregistry cloudresourcemanager iam iamcredentials run secretmanager sqladmin storage"
        project.enable(*apis.split())
        storage_admin(project)
        guide = CloudRunGuide(project)
        guide.make()
        controller.confidential["the password of the Cloud Run guide"] = PASSWORD.encode()
        return guide

    @pytest.fixture(scope="class")
    def before(self, guide):
        return everything(guide.project)

    @pytest.fixture(scope="class")
    def hosts(self, guide):
        return {HOST: guide.project.variables | guide.variables()}

    @pytest.fixture(scope="class")
    def planned(self, before, hosts, controller):
        return controller.run(DEPLOY, "--check", "--diff", hosts=hosts).check()

    @pytest.fixture(scope="class")
    def adopted(self, planned, hosts, controller):
        return controller.run(DEPLOY, hosts=hosts).check()

    def test_existing_resources_are_not_adopted_by_default(self, before, hosts, guide, controller):
        hosts = {HOST: hosts[HOST] | {"mlflow_adopt": False}}
        play = controller.run(DEPLOY, hosts=hosts)
        assert not play.ok
        refused = re.findall(r"(\w+ [\w-]+) exists, and was not created by this deployment", play.message(HOST))
        large = {"storage_bucket", "sql_instance", "artifact_repository", "cloud_run_service"}
        assert {name.split()[0] for name in refused} == large | {"secret", "service_account"}
        assert everything(guide.project) == before

    @pytest.fixture(scope="class")
    def after(self, adopted, guide):
        return everything(guide.project)

    def test_only_the_service_changes(self, before, after, guide):
        # the build pushes to the repository
        excepted = (f"service/{guide.service_name}", f"repository/{guide.repository_name}/policy")
        kept = [name for name in before if name not in excepted]
        found = differences({name: before[name] for name in kept}, {name: after.get(name) for name in kept})
        assert not found, "\n".join(found)
        build = f"serviceAccount:{guide.project.email('adopted-prod-build')}"
        assert (before[excepted[1]], after[excepted[1]]) == ({}, {"roles/artifactregistry.writer": [build]})

    def test_only_missing_resources_are_created(self, adopted, before, after, guide):
        made = {name for name in after.keys() - before.keys() if name.count("/") == 1}
        assert made == {
            "account/adopted-prod-build",
            f"bucket/{guide.name}-adopted-prod-build",
            "job/adopted-prod-migrate",
            "secret/adopted-prod-session-key",
        }

    def test_the_plan_has_the_same_number_of_changes(self, planned, adopted):
        assert planned.changed == adopted.changed > 0

    def test_the_only_warning_is_that_mlflow_has_no_keys_of_its_own(self, adopted):
        assert "[WARNING]: This deployment was made without encryption keys of its own" in adopted.output
        assert adopted.output.count("[WARNING]") == 1

    def test_the_service_is_the_same_with_a_new_revision(self, before, after, guide):
        was, now = (seen[f"service/{guide.service_name}"] for seen in (before, after))
        same = ("name", "uid", "createTime", "client", "uri", "urls", "ingress", "traffic")
        assert {key: now.get(key) for key in same} == {key: was.get(key) for key in same}
        assert now.get("labels", {}) == was.get("labels", {})
        assert re.search(r"-00002-\w+$", now["latestReadyRevision"])
        assert now["trafficStatuses"] == was["trafficStatuses"]

    def test_the_login_is_the_same_as_before(self, adopted, guide):
        url = f"{guide.project.address(guide.service_name)}/api/2.0/mlflow/experiments/search"
        for password, status in ((PASSWORD, 200), ("guessed-wrongly", 401)):
            login = (guide.database_name, password)
            answer = guide.project.anonymous.post(url, json={"max_results": 1}, auth=login, timeout=60)
            assert answer.status_code == status, answer.text

    def test_the_url_with_the_password_connects_to_the_database(self, adopted, guide):
        """The URL in the guide's secret contains special characters that are not quoted."""
        url = sqlalchemy.make_url(guide.payloads()["mlflow_database_url"])
        assert url.password == PASSWORD
        connection = guide.project.connect(guide.instance_name, url.username, url.password, url.database)
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM experiments")
            assert cursor.fetchone() == (1,)

    def test_a_second_run_changes_nothing(self, after, hosts, guide, controller):
        assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
        assert everything(guide.project) == after

    def test_adopted_resources_are_not_deleted(self, before, after, hosts, guide, controller):
        data = ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={HOST}")
        play = controller.run(DESTROY, *data, hosts=hosts).check()
        left = next(line for line in play.output.splitlines() if "Left alone" in line)
        reported = {
            "sql_instance": guide.instance_name,
            "storage_bucket": guide.bucket_name,
            "artifact_repository": guide.repository_name,
            "cloud_run_service": guide.service_name,
            "secret": "mlflow_tracking_password",
            "service_account": "cloudrun-mlflow-prod",
        }
        assert all(f"{kind}/{name}" in left for kind, name in reported.items()), left
        service = f"service/{guide.service_name}"
        found = differences(before | {service: after[service]}, everything(guide.project))
        assert not found, "\n".join(found)

    def test_bindings_of_the_deployments_accounts_are_removed(self, before, hosts, guide, small, controller):
        """Adopt only the data: the roles of the new accounts on them are revoked with the accounts."""
        ours = {name: value for name, value in hosts[HOST].items() if not name.endswith("_account")}
        ours |= small | {"mlflow_access": "iam", "mlflow_bucket_writer_role": "roles/storage.objectUser"}
        ours |= {"cloudrun_mlflow_service": "ours-prod", "mlflow_image_repository": "ours-prod"}
        seen = everything(guide.project)
        controller.run(DEPLOY, hosts={"ours": ours}).check()
        bucket = f"{_cloud.STORAGE}/b/{guide.bucket_name}"
        client, server = (f"serviceAccount:{guide.project.email(f'ours-prod-{name}')}" for name in ("client", "server"))
        assert guide.project.bindings(bucket)["roles/storage.objectUser"] == [client]
        assert server in guide.project.bindings(bucket)["roles/storage.objectViewer"]
        assert len(guide.project.owned("ours")) > 5
        controller.run(DESTROY, hosts={"ours": ours}).check()
        assert guide.project.owned("ours") == {}
        now = everything(guide.project)
        policies = (f"bucket/{guide.bucket_name}/policy", "secret/mlflow_tracking_password/policy")
        for policy in policies:
            assert now[policy]["bindings"] == before[policy]["bindings"]
        # after a write, the policy and the bucket have another etag
        for name in (*policies, f"bucket/{guide.bucket_name}"):
            seen.pop(name)
            now.pop(name)
        found = differences(seen, now)
        assert not found, "\n".join(found)


def play_of_all_parts(guide: AppEngineGuide) -> dict[str, Any]:
    """Return a play that configures the resources of the App Engine guide, each with its module or role."""
    members = [
        f"serviceAccount:{guide.name}@appspot.gserviceaccount.com",
        f"serviceAccount:service-{guide.project.number}@gae-api-prod.google.com.iam.gserviceaccount.com",
    ]
    resources = [
        {"type": "sql_instance", "name": guide.instance_name},
        {"type": "storage_bucket", "name": guide.bucket_name, "location": "*"},
        {"type": "secret", "name": guide.secret_name},
    ]
    reading = [{"role": "roles/secretmanager.secretAccessor", "members": members}]
    password = {"name": guide.secret_name, "generate": {"length": 32}, "bindings": reading}
    check = {"path": "/", "timeout": 4, "success_threshold": 2}
    roles = {
        "preflight": {"preflight_resources": resources, "preflight_organization": False},
        "secrets": {
            "secrets_list": [password],
            "secrets_replication_locations": [REGION],
            "secrets_adopt": True,
        },
        "cloudsql": {
            "cloudsql_instance": guide.instance_name,
            "cloudsql_database_version": "MYSQL_8_0",
            "cloudsql_tier": "{{ mlflow_database_tier }}",
            "cloudsql_databases": [{"name": "mlflow"}],
            "cloudsql_users": [
                {"name": "mlflow", "password_secret": f"{guide.project.home}/secrets/{guide.secret_name}"}
            ],
            "cloudsql_keep_passwords": True,
            "cloudsql_clients": members,
            "cloudsql_clients_condition": False,
        },
        "bucket": {
            "bucket_name": guide.bucket_name,
            "bucket_location": "{{ mlflow_bucket_location }}",
            "bucket_bindings": [{"role": "roles/storage.objectAdmin", "members": members}],
        },
    }
    modules = {
        "app_engine_application": {
            "location": "europe-west",
            "iap_enabled": True,
            "oauth_client_id_secret": "{{ mlflow_oauth_client_id_secret }}",
            "oauth_client_secret_secret": "{{ mlflow_oauth_client_secret_secret }}",
        },
        "app_engine_version": {
            "name": "v1",
            "image": "us-docker.pkg.dev/cloudrun/container/hello:latest",
            "env_variables": guide.environment(),
            "cloudsql_instances": [guide.connection],
            "cpu": 1,
            "memory_gb": 2,
            "automatic_scaling": {"min_instances": 1, "max_instances": 4, "target_cpu_utilization": 0.75},
            "liveness_check": check | {"check_interval": 30, "failure_threshold": 4, "initial_delay": 300},
            "readiness_check": check | {"check_interval": 5, "failure_threshold": 2, "app_start_timeout": 300},
            "serving_status": "SERVING",
        },
        "app_engine_service": {"allocations": {"v1": 1}},
    }
    project = {"project": "{{ gcp_project }}", "quota_project": "{{ gcp_quota_project }}"}
    return {
        "hosts": "all",
        "gather_facts": False,
        "connection": "local",
        "module_defaults": {"group/mlplatform.gcp.gcp": project},
        "roles": [{"role": f"mlplatform.gcp.{name}", "vars": given} for name, given in roles.items()],
        "tasks": [{"name": name, f"mlplatform.gcp.{name}": given} for name, given in modules.items()],
    }


class TestAppEngineGuide:
    @pytest.fixture(scope="class")
    def guide(self, new_project, controller, box):
        box.latency("instant")
        project = new_project()
        apis = "appengine appengineflex cloudresourcemanager iam iap secretmanager sqladmin storage"
        project.enable(*apis.split())
        for name in OAUTH_CLIENT:
            project.make_secret(name, f"{name}-of-the-guide")
        guide = AppEngineGuide(project)
        guide.make()
        controller.confidential["the password of the App Engine guide"] = ALPHANUMERIC.encode()
        return guide

    @pytest.fixture(scope="class")
    def hosts(self, guide, small):
        return {HOST: small | guide.project.variables | guide.variables()}

    @pytest.fixture(scope="class")
    def before(self, guide):
        return everything(guide.project)

    @pytest.fixture(scope="class")
    def began(self, before):
        return time.time()

    @pytest.fixture(scope="class")
    def adopted(self, began, hosts, controller):
        return controller.run(DEPLOY, hosts=hosts).check()

    @pytest.fixture(scope="class")
    def after(self, adopted, guide):
        return everything(guide.project)

    def test_each_module_and_role_finds_no_change(self, before, hosts, guide, controller):
        """Use the modules and roles without the playbooks, with the bindings and the version of the guide."""
        path = controller.folder / "all-parts.yml"
        path.write_text(yaml.safe_dump([play_of_all_parts(guide)], sort_keys=False))
        play = controller.run(str(path), hosts=hosts, verbosity=1).check()
        assert play.changed == 0
        assert len(re.findall(rf"^ok: \[{HOST}\]", play.output, re.M)) > 10
        found = differences(before, everything(guide.project))
        assert not found, "\n".join(found)

    def test_a_deployment_does_not_change_the_guides_resources(self, before, after, guide):
        """It only grants its own account the roles that the guide grants to the default account."""
        then, now = dict(before), {name: after[name] for name in before}
        for name in before:
            if name == "project" or name.endswith("/policy"):
                assert granted(then.pop(name)) <= granted(now.pop(name)), name
        versions = (seen.pop("application/default/versions") for seen in (then, now))
        assert differences(*({"v1": seen["v1"]} for seen in versions)) == []
        # after a write of its policy, a resource has another etag
        written = ("etag", "metageneration", "updated")
        for seen in (then, now):
            bucket = seen[f"bucket/{guide.bucket_name}"]
            seen[f"bucket/{guide.bucket_name}"] = {name: bucket[name] for name in bucket if name not in written}
        found = differences(then, now)
        assert not found, "\n".join(found)

    def test_no_request_changes_the_guides_resources(self, adopted, began, box, guide):
        """Search the log of requests, which also contains requests without an effect."""
        policies = (":setIamPolicy", "/iam")
        written = [
            (entry["verb"], entry["path"])
            for entry in box.requests("--since", str(began))
            if entry["verb"] in ("PATCH", "PUT", "DELETE") and not entry["path"].endswith(policies)
        ]
        # The service receives a version, and the deployment has its own secrets and its lock.
        own = (f"/apps/{guide.name}/services/default", f"/{HOST}-dev-", f"/o/.mlplatform%2F{HOST}-dev.lock")
        assert [(verb, path) for verb, path in written if not any(name in path for name in own)] == []

    def test_a_second_run_changes_nothing(self, after, hosts, guide, controller):
        assert controller.run(DEPLOY, hosts=hosts).check().changed == 0
        assert everything(guide.project) == after

    def test_adopted_resources_are_not_deleted(self, before, after, hosts, guide, controller):
        data = ("-e", "mlflow_destroy_data=true", "-e", f"mlflow_destroy_confirm={HOST}")
        play = controller.run(DESTROY, *data, hosts=hosts).check()
        left = next(line for line in play.output.splitlines() if "Left alone" in line)
        reported = {
            "sql_instance": guide.instance_name,
            "storage_bucket": guide.bucket_name,
            "secret": guide.secret_name,
        }
        assert all(f"{kind}/{name}" in left for kind, name in reported.items()), left
        now = everything(guide.project)
        assert now.keys() == before.keys()
        bucket = f"bucket/{guide.bucket_name}"
        for name in before:
            if name.endswith("/policy") or name == "project":
                assert granted(now[name]) == granted(before[name]), name
            elif name == "application/default/versions":
                assert now[name]["v1"] == before[name]["v1"]
            elif name not in ("application/default", bucket):  # access was restricted; the policy was written
                assert differences(before[name], now[name]) == [], name
