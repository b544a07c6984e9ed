# SPDX-License-Identifier: Apache-2.0
"""Cloud Build: a source archive in a bucket becomes an image in Artifact Registry, or a log says why not."""

from __future__ import annotations

import io
import tarfile
import time

import pytest
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.services.cloudbuild import filters
from gcp_sandbox.testing import Client

API = "https://cloudbuild.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com/storage/v1"
PROJECT = "mlflow-sandbox"
ACCOUNT = f"builder@{PROJECT}.iam.gserviceaccount.com"
IMAGE = f"europe-west1-docker.pkg.dev/{PROJECT}/repo/app:v1"
DOCKERFILE = (
    'FROM python:3-slim\nARG GREETING=hello\nENV GREETING=$GREETING\nCOPY app.py /app/\nCMD ["python", "/app/app.py"]\n'
)
PERMISSIONS = {
    "//storage.googleapis.com/projects/_/buckets/source": "roles/storage.objectViewer",
    "//storage.googleapis.com/projects/_/buckets/logs": "roles/storage.objectCreator",
    f"//artifactregistry.googleapis.com/projects/{PROJECT}/locations/europe-west1/repositories/repo": (
        "roles/artifactregistry.writer"
    ),
}


def archive(**files: str) -> bytes:
    """A .tar.gz of {name: text}; `Dockerfile` is the usual one unless given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in {"Dockerfile": DOCKERFILE, "app.py": "print('hi')\n", **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def prepare(sandbox: Sandbox) -> None:
    """What a deployment makes before it builds: account, buckets, repository, and the three grants on them."""
    project = sandbox.projects.get(PROJECT)
    apis = ["artifactregistry", "cloudbuild", "storage", "iam"]
    sandbox.enablement.enable(project, [f"{api}.googleapis.com" for api in apis], at_once=True)
    sandbox.identities.create_account(project, ACCOUNT)
    client = Client(sandbox)
    for bucket in ("source", "logs"):
        client.ok("POST", f"https://storage.googleapis.com/storage/v1/b?project={PROJECT}", {"name": bucket})
    registry = "https://artifactregistry.googleapis.com/v1"
    repositories = f"{registry}/projects/{PROJECT}/locations/europe-west1/repositories"
    client.done(client.ok("POST", f"{repositories}?repositoryId=repo", {"format": "DOCKER"}), registry)
    for resource, role in PERMISSIONS.items():
        sandbox.iam.add_binding(resource, role, f"serviceAccount:{ACCOUNT}")


@pytest.fixture
def ready(sandbox):
    prepare(sandbox)
    return sandbox


@pytest.fixture
def submit(ready, client):
    """Upload a source and start its build; returns the operation."""

    def start(content: bytes | None = None, url=f"{API}/projects/{PROJECT}/builds", status=200, **changes):
        data = archive() if content is None else content
        ready.objects.write("source", "context.tar.gz", data, "application/gzip")
        body = {
            "source": {"storageSource": {"bucket": "source", "object": "context.tar.gz"}},
            "steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["build", "-t", IMAGE, "."]}],
            "images": [IMAGE],
            "serviceAccount": f"projects/{PROJECT}/serviceAccounts/{ACCOUNT}",
            "logsBucket": "gs://logs",
            "options": {"logging": "GCS_ONLY"},
            **changes,
        }
        answer = client.post(url, {name: value for name, value in body.items() if value is not None})
        assert answer.status == status, answer.content
        return answer.json

    return start


@pytest.fixture
def build(submit, client):
    """The finished build and the operation of a source."""

    def run(*args, **more):
        op = client.done(submit(*args, **more), API)
        return op["metadata"]["build"], op

    return run


def log_of(sandbox, build):
    return sandbox.objects.read("logs", f"log-{build['id']}.txt").read_text()


def test_a_source_becomes_an_image(ready, client, build):
    built, op = build(tags=["mlflow"])
    assert op["name"].startswith(f"operations/build/{PROJECT}/")
    assert op["response"]["@type"].endswith("cloudbuild.v1.Build")
    assert built["status"] == "SUCCESS" and built["createTime"] <= built["startTime"] <= built["finishTime"]
    (pushed,) = built["results"]["images"]
    image = ready.images.resolve(IMAGE)
    assert pushed["name"] == IMAGE and pushed["digest"] == image.digest
    assert image.env["GREETING"] == "hello"
    assert [step["status"] for step in built["steps"]] == ["SUCCESS"]
    assert set(built["timing"]) == {"FETCHSOURCE", "BUILD", "PUSH"}
    generation = built["sourceProvenance"]["resolvedStorageSource"]["generation"]
    log = log_of(ready, built)
    for words in (
        "starting build",
        f"context.tar.gz#{generation}",
        "Step 1/5 : FROM python:3-slim",
        image.digest,
        "DONE",
    ):
        assert words in log
    assert client.ok("GET", f"{API}/projects/{PROJECT}/builds/{built['id']}") == built
    assert client.ok("GET", f"{API}/{built['name']}") == built


def test_the_same_source_is_the_same_image(build):
    digests = {build()[0]["results"]["images"][0]["digest"] for _ in range(2)}
    assert len(digests) == 1


def test_regional_builds_have_their_own_list(client, build):
    regional, op = build(url=f"{API}/projects/{PROJECT}/locations/europe-west1/builds")
    assert op["name"].startswith(f"projects/{PROJECT}/locations/europe-west1/operations/")
    assert "/locations/europe-west1/" in regional["name"]
    assert client.ok("GET", f"{API}/projects/{PROJECT}/builds") == {}
    for location in ("europe-west1", "-"):
        listed = client.ok("GET", f"{API}/projects/{PROJECT}/locations/{location}/builds")["builds"]
        assert [b["id"] for b in listed] == [regional["id"]]


def test_arguments_and_substitutions(ready, build):
    args = ["build", "--tag=$_IMAGE", "-f", "docker/Other", "--build-arg", "GREETING=${_WORD}", "--no-cache", "."]
    other = DOCKERFILE.replace("FROM", "FROM --platform=linux/amd64")
    built, _ = build(
        archive(**{"docker/Other": other}),
        steps=[{"name": "gcr.io/cloud-builders/docker", "args": args}],
        substitutions={"_IMAGE": IMAGE, "_WORD": "salut"},
        images=["$_IMAGE"],
    )
    assert built["images"] == [IMAGE]
    assert ready.images.resolve(IMAGE).env["GREETING"] == "salut"


def docker(*lines: str) -> list[dict]:
    return [{"name": "gcr.io/cloud-builders/docker", "args": line.split()} for line in lines]


def test_steps_share_their_images(ready, build):
    built, _ = build(
        archive(**{"second/Dockerfile": "FROM base\nENV GREETING=second\n"}),
        steps=docker("build -t base .", "build -t other second", f"tag other {IMAGE}"),
    )
    assert built["status"] == "SUCCESS"
    image = ready.images.resolve(IMAGE)
    assert image.env["GREETING"] == "second" and (image.root / "app" / "app.py").exists()
    assert "Step #1: Step 1/2 : FROM base" in log_of(ready, built)


def test_a_private_base_image_takes_permission(ready, build):
    build()
    private = f"us-docker.pkg.dev/{PROJECT}/private/base:v1"
    ready.images.tag(private, ready.images.resolve(IMAGE).digest)
    built, _ = build(archive(Dockerfile=f"FROM {private}\n"))
    assert built["status"] == "FAILURE"
    assert 'denied: Permission "artifactregistry.repositories.downloadArtifacts"' in log_of(ready, built)


@pytest.mark.parametrize("line", ["build -t x ../..", "build -t x /", "build -t x -f ../../../etc/hosts ."])
def test_nothing_outside_the_source_is_read(ready, build, line):
    built, _ = build(steps=docker(line), images=[])
    assert built["status"] == "FAILURE" and "unable to prepare context" in log_of(ready, built)


def test_list_by_filter(client, build):
    built, _ = build(tags=["a"])
    url = f"{API}/projects/{PROJECT}/builds?filter="
    assert client.ok("GET", f'{url}status="SUCCESS" AND tags="a"'.replace(" ", "%20"))["builds"][0]["id"] == built["id"]
    assert client.ok("GET", f'{url}status="FAILURE"') == {}
    assert client.get(f"{url}nonsense").status == 400


@pytest.mark.parametrize(
    "files,words",
    [
        ({"Dockerfile": "FROM python:3\nCOPY missing.txt /\n"}, "stat missing.txt: file does not exist"),
        ({"Dockerfile": "FROM python:3\nFLY away\n"}, "unknown instruction: FLY"),
        ({"Dockerfile": "FROM debian:12\n"}, "pull access denied for debian:12"),
        ({"Dockerfile": "FROM python:3\nRUN pip install -r nothing.txt\n"}, "Could not open requirements file"),
        ({".dockerignore": "app.py\n"}, "excluded by .dockerignore"),
    ],
)
def test_a_bad_context_fails_with_a_log_to_read(ready, build, files, words):
    built, op = build(archive(**files))
    assert built["status"] == "FAILURE"
    assert built["failureInfo"]["type"] == "USER_BUILD_STEP"
    assert 'build step 0 "gcr.io/cloud-builders/docker" failed' in built["statusDetail"]
    assert op["error"] == {"code": 2, "message": "Build failed; check build logs for details"}
    assert words in log_of(ready, built)
    assert ready.images.resolve(IMAGE) is None


def test_a_source_that_is_no_archive(build):
    built, _ = build(b"not a tar file")
    assert built["status"] == "FAILURE" and built["failureInfo"]["type"] == "FETCH_SOURCE_FAILED"


def test_an_image_that_no_step_built(build):
    built, _ = build(images=[IMAGE, f"{IMAGE}x"])
    assert built["failureInfo"]["type"] == "PUSH_IMAGE_NOT_FOUND"


def without(sandbox, part):
    """Revoke the grant on the resource with `part` in its name."""
    resource = next(name for name in PERMISSIONS if part in name)
    sandbox.iam.delete_policy(resource)


def test_the_source_must_be_readable_by_the_builds_account(ready, submit):
    without(ready, "buckets/source")
    error = submit(status=400)["error"]
    assert f"{ACCOUNT} does not have storage.objects.get access" in error["message"]


def test_the_source_must_exist(submit):
    source = {"storageSource": {"bucket": "source", "object": "other.tar.gz"}}
    assert "No such object: source/other.tar.gz" in submit(status=400, source=source)["error"]["message"]


def test_the_logs_bucket_must_be_writable_by_the_builds_account(ready, submit):
    without(ready, "buckets/logs")
    assert 'invalid bucket "logs"' in submit(status=400)["error"]["message"]


def test_pushing_takes_the_accounts_permission(ready, build):
    without(ready, "repositories/repo")
    built, _ = build()
    assert built["status"] == "FAILURE" and built["failureInfo"]["type"] == "PUSH_NOT_AUTHORIZED"
    assert "artifactregistry.repositories.uploadArtifacts" in log_of(ready, built)
    assert ready.images.resolve(IMAGE) is None


def test_the_defaults_of_gcloud_builds_submit(ready, client, build):
    """The default account of Compute Engine, and Google's bucket for the log, which an owner can read."""
    project = ready.projects.get(PROJECT)
    ready.enablement.enable(project, ["compute.googleapis.com"], at_once=True)
    account = f"{project.number}-compute@developer.gserviceaccount.com"
    ready.iam.add_binding(project.name, "roles/cloudbuild.builds.builder", f"serviceAccount:{account}")
    plain = {"serviceAccount": None, "logsBucket": None, "options": None}
    built, _ = build(**plain)
    assert built["status"] == "SUCCESS"
    assert built["serviceAccount"] == f"projects/{PROJECT}/serviceAccounts/{account}"
    assert built["logsBucket"] == f"gs://{project.number}.cloudbuild-logs.googleusercontent.com"
    assert "DONE" in read_log(client, built)

    for url, region in (
        (f"{API}/projects/{PROJECT}/locations/europe-west1/builds", "europe-west1"),
        (f"{API}/projects/{PROJECT}/builds", "us-central1"),
    ):
        options = {"defaultLogsBucketBehavior": "REGIONAL_USER_OWNED_BUCKET"}
        regional, _ = build(url=url, **{**plain, "options": options})
        bucket = f"{project.number}-{region}-cloudbuild-logs"
        assert regional["logsBucket"] == f"gs://{bucket}" and "DONE" in read_log(client, regional)
        assert client.ok("GET", f"{STORAGE}/b/{bucket}")["location"] == region.upper()
    listed = [item["name"] for item in client.ok("GET", f"{STORAGE}/b?project={PROJECT}")["items"]]
    assert bucket in listed and not any("googleusercontent" in name for name in listed)


def test_the_account_makes_the_bucket_of_a_region(ready, submit):
    options = {"defaultLogsBucketBehavior": "REGIONAL_USER_OWNED_BUCKET"}
    refused = submit(status=400, logsBucket=None, options=options)["error"]["message"]
    assert "does not have access" in refused and ACCOUNT in refused
    assert not ready.objects.bucket(f"{ready.settings.project_number}-us-central1-cloudbuild-logs")


def read_log(client, build):
    name = build["logsBucket"].removeprefix("gs://")
    answer = client.get(f"{STORAGE}/b/{name}/o/log-{build['id']}.txt?alt=media")
    assert answer.status == 200, answer.content
    return answer.content.decode()


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"serviceAccount": None}, "enable compute.googleapis.com"),
        ({"logsBucket": None}, "build.logs_bucket"),
        ({"logsBucket": None, "options": {"logging": "GCS_ONLY"}}, "CLOUD_LOGGING_ONLY"),
        ({"steps": []}, "no build steps"),
        ({"images": ["$_NOWHERE"]}, '"_NOWHERE" is not matched in the substitution data'),
        ({"substitutions": {"_UNUSED": "x"}}, '"_UNUSED" in the substitution data is not matched in the template'),
        ({"timeout": "100000s"}, "timeout"),
    ],
)
def test_refused_when_created(submit, changes, words):
    assert words in submit(status=400, **changes)["error"]["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": [{"name": "gcr.io/cloud-builders/gcloud", "args": ["version"]}]},
        {"steps": [{"name": "gcr.io/cloud-builders/docker", "entrypoint": "bash", "args": ["-c", "true"]}]},
        {"options": {"logging": "GCS_ONLY", "pool": {"name": "projects/p/locations/l/workerPools/w"}}},
    ],
)
def test_what_the_sandbox_cannot_do_says_so(submit, changes):
    assert "gcp-sandbox does not implement" in submit(status=501, **changes)["error"]["message"]


def test_the_caller_must_be_allowed_to_act_as_the_account(ready, client, submit):
    submit()
    ready.iam.add_binding(
        f"//cloudresourcemanager.googleapis.com/projects/{PROJECT}",
        "roles/cloudbuild.builds.editor",
        "user:bob@example.com",
    )
    body = {
        "steps": [{"name": "docker", "args": ["build", "."]}],
        "serviceAccount": f"projects/{PROJECT}/serviceAccounts/{ACCOUNT}",
        "options": {"logging": "NONE"},
    }
    url = f"{API}/projects/{PROJECT}/builds"
    answer = client.post(url, body, as_="bob@example.com")
    assert answer.status == 403 and "act as service account" in answer.json["error"]["message"]
    assert client.post(url, body, as_="alice@example.com").status == 403


def test_logs_without_a_bucket_are_in_cloud_logging_and_stay_with_the_sandbox(ready, build, client):
    built, _ = build(logsBucket=None, options={"logging": "CLOUD_LOGGING_ONLY"})
    assert built["status"] == "SUCCESS"
    names = {"resourceNames": [f"projects/{PROJECT}"], "pageSize": 1000}
    address, filter = "https://logging.googleapis.com/v2/entries:list", "resource.type=build resource.labels.build_id="
    entries = client.ok("POST", address, {**names, "filter": f"{filter}{built['id']}"})["entries"]
    assert entries[0]["logName"] == f"projects/{PROJECT}/logs/cloudbuild"
    assert [entry["textPayload"] for entry in entries][-1] == "DONE"
    silent, _ = build(logsBucket=None, options={"logging": "NONE"})
    assert client.ok("POST", address, {**names, "filter": f"{filter}{silent['id']}"}) == {}
    file = ready.settings.logs / f"cloudbuild-{built['id']}.log"
    assert "DONE" in file.read_text() and file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("latency", ["scaled:30"])
def test_cancel(ready, client, submit, settings):
    op = submit()
    id = op["metadata"]["build"]["id"]
    deadline = time.monotonic() + 60
    while client.ok("GET", f"{API}/projects/{PROJECT}/builds/{id}")["status"] == "QUEUED":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cancelled = client.ok("POST", f"{API}/projects/{PROJECT}/builds/{id}:cancel", {})
    assert cancelled["status"] == "CANCELLED"
    op = client.done(op, API)
    assert op["error"]["code"] == 1
    assert client.post(f"{API}/projects/{PROJECT}/builds/{id}:cancel", {}).status == 400


@pytest.mark.parametrize("latency", ["scaled:60"])
def test_a_build_takes_its_time(ready, client, submit, settings):
    started = time.monotonic()
    op = submit()
    assert not op.get("done")
    deadline = started + 60
    while ready.images.resolve(IMAGE) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert time.monotonic() - started >= 1.5  # the image does not exist before the build ends
    client.done(op, API)


@pytest.mark.parametrize("latency", ["scaled:30"])
def test_a_build_survives_the_sandbox(ready, submit, settings):
    op = submit()
    ready.stop()
    again = Sandbox(settings)
    again.start()
    try:
        built = Client(again).done(op, API)["metadata"]["build"]
        assert built["status"] == "SUCCESS"
        assert again.images.resolve(IMAGE).digest == built["results"]["images"][0]["digest"]
    finally:
        again.stop()


@pytest.mark.parametrize(
    "text,fits",
    [
        ("", True),
        ('status="WORKING"', True),
        ("status=WORKING", True),
        ('status!="WORKING"', False),
        ('tags="a" AND (status="QUEUED" OR status="WORKING")', True),
        ('tags="a" tags="b"', True),
        ('tags="c" OR tags="b"', True),
        ('tags="c" OR tags="b" AND status="QUEUED"', False),
        ('NOT (tags="a")', False),
        ('create_time>="2026-01-01T00:00:00Z" AND create_time<"2027-01-01T00:00:00Z"', True),
        ('build_id="x"', False),
    ],
)
def test_filters(text, fits):
    build = {"id": "1", "status": "WORKING", "tags": ["a", "b"], "createTime": "2026-06-01T00:00:00Z"}
    assert filters.compile(text)(build) is fits


@pytest.mark.parametrize("text", ["nonsense", 'status="A" AND', '(status="A"', 'colour="red"', 'status>"A"', ")"])
def test_filters_that_cannot_be_read(text):
    with pytest.raises(ApiError, match="invalid list filter"):
        filters.compile(text)
