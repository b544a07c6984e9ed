# SPDX-License-Identifier: Apache-2.0
"""Test long operations: lines of progress, deadlines, and tasks and runs that join an operation in progress."""

from __future__ import annotations

import concurrent.futures
import re
from dataclasses import dataclass

import pytest
from ansible_collections.mlplatform.gcp.tests.integration.modules._cloud import (
    APP_ENGINE,
    MANAGER,
    REGION,
    REGISTRY,
    STORAGE,
    Cloud,
)

# Cloud SQL creates an instance in 5 minutes; with this latency in 19 s, so that the task prints one line of progress.
LATENCY = "scaled:16"
INSTANCE = {"region": REGION, "database_version": "POSTGRES_16", "tier": "db-f1-micro", "ipv4_enabled": True}
# Names of the results of the resources that two runs create at the same time.
MADE = ("bucket", "repository", "instance", "database")
# Number of resources that both runs create, so that their requests conflict.
SEVERAL = 6
ROLES = (
    ["roles/run.viewer", "roles/run.invoker", "roles/cloudsql.viewer"],
    ["roles/run.developer", "roles/cloudsql.client", "roles/browser"],
)
BUILDER = "builder@{{ project }}.iam.gserviceaccount.com"


@dataclass
class Stage:
    """A project in a sandbox with slow operations, and a function that runs playbooks there."""

    cloud: Cloud
    playbook: object
    folder: object

    def play(self, *tasks: dict, name: str, variables: dict | None = None):
        """Run tasks, each `{module: options}`, with a folder of this run."""
        folder = self.folder / name
        folder.mkdir()
        defaults = {"project": self.cloud.project}
        plays = [
            {
                "hosts": "all",
                "gather_facts": False,
                "module_defaults": {"group/mlplatform.gcp.gcp": defaults},
                "tasks": list(tasks),
            }
        ]
        known = {"project": self.cloud.project, "files": str(self.folder), **(variables or {})}
        return self.playbook(self.cloud.sandbox, folder, plays, known)


def task(module, **options):
    keywords = {key: options.pop(key) for key in ("register", "ignore_errors", "name", "loop") if key in options}
    if module == "sql_instance":
        options = {"name": keywords.pop("name"), **INSTANCE, **options}
    elif "name" in keywords:
        options = {"name": keywords.pop("name"), **options}
    return {f"mlplatform.gcp.{module}": options, **keywords}


def show(variable):
    return {"ansible.builtin.debug": {"msg": f"{variable}: {{{{ {variable} }}}}"}}


@pytest.fixture(scope="module")
def stage(another_sandbox, playbook, tmp_path_factory):
    sandbox = another_sandbox("--latency", LATENCY)
    folder = tmp_path_factory.mktemp("waiting")
    project = sandbox.env()["GOOGLE_CLOUD_PROJECT"]
    cloud = Cloud(sandbox, project, folder)
    cloud.enable("artifactregistry", "cloudbuild", "iam", "run", "secretmanager", "sqladmin", "storage")
    return Stage(cloud, playbook, folder)


@pytest.fixture(scope="module")
def started(stage):
    """Start an instance without waiting for it, then wait with a timeout that is too short."""
    return stage.play(
        task("sql_instance", name="db", wait=False, register="started"),
        show("started.operation"),
        task("sql_instance", name="db", wait=False, register="joined"),
        show("joined.operation"),
        show("joined.changed"),
        task("sql_instance", name="db", wait_timeout=2, ignore_errors=True),
        name="started",
    )


@pytest.fixture(scope="module")
def pair(stage, started):
    """Create the same resources in two runs at the same time; both join the operation of the instance `db`."""
    tasks = [
        task("storage_bucket", name="{{ project }}-both", location=REGION, register="bucket"),
        task("secret", name="both-{{ item }}", generate={}, loop=list(range(SEVERAL))),
        task(
            "iam_bindings",
            resource="//cloudresourcemanager.googleapis.com/projects/{{ project }}",
            bindings=[{"role": "{{ item[0] }}", "members": ["user:{{ item[1] }}@example.com"]}],
            loop="{{ roles | product(['alice', 'bob']) }}",
        ),
        task("artifact_repository", name="both", location=REGION, register="repository"),
        task("sql_instance", name="both", wait="{{ waits }}", register="instance"),
        task("sql_database", name="data", instance="both", register="database"),
        task("sql_instance", name="db", register="joined"),
        show("joined.changed"),
        show("joined.resource.state"),
        *(show(f"{name}.changed") for name in MADE),
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = []
        for waits, roles in zip((True, False), ROLES, strict=True):
            variables = {"waits": waits, "roles": roles}
            runs.append(pool.submit(stage.play, *tasks, name=f"waits-{waits}", variables=variables))
        return [run.result() for run in runs]


def shown(play, variable):
    found = re.findall(rf'"msg": "{re.escape(variable)}: (.*)"', play.output)
    assert found, str(play)
    return found[-1]


def test_a_task_that_does_not_wait_returns_the_operation(started):
    assert shown(started, "started.operation")
    assert shown(started, "joined.operation") == shown(started, "started.operation")
    assert shown(started, "joined.changed") == "False"


def test_a_timeout_reports_the_last_status_and_the_next_step(started):
    assert started.ok
    reported = " ".join(started.output.split())
    assert "not finished after wait_timeout=2 s; last status: PENDING_CREATE" in reported, str(started)
    assert "run the task again to join it" in reported, str(started)


def test_two_runs_at_the_same_time_create_each_resource_once(pair, stage):
    for play in pair:
        play.check()
        assert shown(play, "joined.changed") == "False"
        assert shown(play, "joined.resource.state") == "RUNNABLE"
    # Only the run that created a resource reports a change.
    for name in MADE:
        reported = [shown(play, f"{name}.changed") for play in pair]
        assert sorted(reported) == ["False", "True"], f"{name}: {reported}"
    for number in range(SEVERAL):
        assert list(stage.cloud.secret(f"both-{number}")["versions"]) == [1]
    granted = stage.cloud.bindings(f"{MANAGER}/v3/{stage.cloud.home}")
    for role in ROLES[0] + ROLES[1]:
        assert granted[role] == ["user:alice@example.com", "user:bob@example.com"]


def test_a_line_of_progress_has_resource_state_and_duration(pair, stage):
    """The line is also printed while a database waits for its instance."""
    line = rf"^ *(?:creating )?Cloud SQL instance projects/{stage.cloud.project}/instances/both: (\w+), (\d+)s$"
    for play in pair:
        reported = re.findall(line, play.output, re.M)
        assert reported, str(play)
        state, seconds = reported[0]
        assert state in ("PENDING_CREATE", "RUNNING", "PENDING")
        assert int(seconds) >= 15


def test_a_later_task_joins_operations_in_progress(stage):
    """A first run starts an image build, a service and a job; a second run joins their operations."""
    cloud = stage.cloud
    context = stage.folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM python:3-slim\nCMD ["python", "-m", "http.server", "8080"]\n')
    cloud.make_bucket(f"{cloud.project}-build")
    cloud.make_repository("images")
    member = f"serviceAccount:{cloud.make_account('builder')}"
    cloud.grant(f"{STORAGE}/b/{cloud.project}-build", "roles/storage.admin", member)
    repository = f"{REGISTRY}/{cloud.region}/repositories/images"
    cloud.grant(repository, "roles/artifactregistry.writer", member)
    build = task(
        "image_build",
        image=f"{REGION}-docker.pkg.dev/{{{{ project }}}}/images/app:v1",
        context="{{ files }}/context",
        location=REGION,
        source_bucket="{{ project }}-build",
        service_account=BUILDER,
    )
    hello = "us-docker.pkg.dev/cloudrun/container"
    service = task("cloud_run_service", name="late", location=REGION, image=f"{hello}/hello")
    job = task("cloud_run_job", name="late", location=REGION, image=f"{hello}/job", max_retries=0, execute="on_change")

    def variant(original, name, **more):
        ((module, options),) = original.items()
        return {module: {**options, **more}, "register": name}

    first = stage.play(
        variant(build, "build", wait=False),
        variant(service, "service", wait=False),
        variant(job, "job", wait=False),
        show("build.operation"),
        show("service.operation"),
        show("job.operation"),
        variant(build, "again", wait=False),
        show("again.operation"),
        show("again.changed"),
        variant(service, "service", wait=True),
        show("service.changed"),
        show("service.resource.terminalCondition.state"),
        name="first",
    )
    first.check()
    for name in ("build", "service", "job"):
        assert shown(first, f"{name}.operation"), str(first)
    assert shown(first, "again.operation") == shown(first, "build.operation")
    assert shown(first, "again.changed") == "False"
    assert shown(first, "service.changed") == "False"
    assert shown(first, "service.resource.terminalCondition.state") == "CONDITION_SUCCEEDED"

    second = stage.play(
        variant(build, "build", operation=shown(first, "build.operation")),
        variant(job, "job"),
        variant(job, "again"),
        show("build.image"),
        show("build.changed"),
        show("again.changed"),
        name="second",
    )
    second.check()
    assert shown(second, "build.changed") == "False"
    assert "@sha256:" in shown(second, "build.image")
    assert shown(second, "again.changed") == "False"


def test_two_runs_at_the_same_time_deploy_to_app_engine_once(stage):
    """An application or a version cannot be read during its creation."""
    stage.cloud.enable("appengine", "appengineflex")
    version = {"image": "us-docker.pkg.dev/cloudrun/container/hello:latest", "manual_scaling": {"instances": 1}}
    tasks = [
        task("app_engine_application", location=REGION, register="application"),
        task("app_engine_version", name="v1", wait="{{ waits }}", register="version", **version),
        show("version.operation | default('')"),
        task("app_engine_version", name="v1", register="joined", **version),
        show("joined.resource.servingStatus"),
        *(show(f"{name}.changed") for name in ("application", "version", "joined")),
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        started = [
            pool.submit(stage.play, *tasks, name=f"engine-{waits}", variables={"waits": waits})
            for waits in (True, False)
        ]
        plays = [run.result() for run in started]
    for play in plays:
        play.check()
        assert shown(play, "joined.changed") == "False"
        assert shown(play, "joined.resource.servingStatus") == "SERVING"
    for name in ("application", "version"):
        assert sorted(shown(play, f"{name}.changed") for play in plays) == ["False", "True"], name
    # The run that does not wait returns the operation that it started or found in progress.
    assert shown(plays[1], "version.operation | default('')").startswith("apps/")
    operations = stage.cloud.get(f"{APP_ENGINE}/apps/{stage.cloud.project}/operations")["operations"]
    assert len(operations) == 2
