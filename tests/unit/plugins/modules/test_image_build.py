# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import pathlib
import tarfile

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils import _build_context, _container_engine, _module
from ansible_collections.mlplatform.gcp.plugins.modules import image_build
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

IMAGE = "europe-west1-docker.pkg.dev/p/r/mlflow:3.17-abc"
DIGEST = "sha256:" + "1" * 64
TAG = "https://artifactregistry.googleapis.com/v1/projects/p/locations/europe-west1/repositories/r/packages/mlflow/tags/3.17-abc"
BUILDS = "https://cloudbuild.googleapis.com/v1/projects/p/locations/europe-west1/builds"
STORAGE = "https://storage.googleapis.com"
MARK = "image-" + hashlib.sha256(IMAGE.encode()).hexdigest()[:32]
BUILD = {"id": "b1", "status": "QUEUED", "logsBucket": "gs://bkt"}
DONE = dict(BUILD, status="SUCCESS", results={"images": [{"name": IMAGE, "digest": DIGEST}]})


@pytest.fixture
def options(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print()\n")
    return {
        "image": IMAGE,
        "context": str(tmp_path),
        "location": "europe-west1",
        "source_bucket": "bkt",
        "service_account": "b@p.iam.gserviceaccount.com",
        "build_args": {"VERSION": "1"},
    }


def no_tag(cloud):
    cloud.expect_error("GET", TAG, 404, code="NOT_FOUND")


def nothing_under_way(cloud):
    no_tag(cloud)
    cloud.expect("GET", BUILDS, body={})


def uploaded(cloud):
    """The context is uploaded, and no other run has built the image meanwhile."""
    cloud.expect("POST", f"{STORAGE}/upload/storage/v1/b/bkt/o", body={"generation": "7"})
    no_build(cloud)


def no_build(cloud):
    cloud.expect("GET", BUILDS, body={})
    no_tag(cloud)


def test_an_image_that_is_there_is_one_request(cloud, options):
    cloud.expect(
        "GET", TAG, body={"name": "x", "version": f"projects/p/locations/l/repositories/r/packages/m/versions/{DIGEST}"}
    )
    result = cloud.run(image_build, **options)
    assert not result["changed"]
    assert result["image"] == f"europe-west1-docker.pkg.dev/p/r/mlflow@{DIGEST}"


def test_build(cloud, options):
    nothing_under_way(cloud)
    uploaded(cloud)
    cloud.expect("POST", BUILDS, body={"name": "operations/1", "metadata": {"build": BUILD}})
    cloud.expect("GET", f"{BUILDS}/b1", body=dict(BUILD, status="WORKING"))
    cloud.expect("GET", f"{BUILDS}/b1", body=DONE)
    result = cloud.run(image_build, **options)
    assert result["changed"]
    assert result["image"].endswith(DIGEST)
    upload, create = cloud.requests[2], cloud.requests[5]
    assert upload.query["ifGenerationMatch"] == "0"
    assert upload.query["name"] == f"source/{hashlib.sha256(upload.data).hexdigest()}.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(upload.data)) as tar:
        assert tar.getnames() == ["Dockerfile", "app/main.py"]
    assert create.body["source"]["storageSource"] == {
        "bucket": "bkt",
        "object": upload.query["name"],
        "generation": "7",
    }
    assert create.body["steps"][0]["args"] == [
        "build",
        "-t",
        IMAGE,
        "-f",
        "Dockerfile",
        "--build-arg",
        "VERSION=1",
        ".",
    ]
    assert create.body["serviceAccount"] == "projects/p/serviceAccounts/b@p.iam.gserviceaccount.com"
    assert MARK in create.body["tags"]


@pytest.mark.parametrize(
    "words",
    [
        'invalid bucket "bkt"; service account b@p.iam.gserviceaccount.com does not have access to it',
        "could not resolve source: b@p.iam.gserviceaccount.com does not have storage.objects.get access to the object",
    ],
)
def test_roles_that_were_granted_a_moment_ago_are_waited_for(cloud, options, words):
    nothing_under_way(cloud)
    uploaded(cloud)
    cloud.expect_error("POST", BUILDS, 400, code="INVALID_ARGUMENT", message=words)
    cloud.expect("POST", BUILDS, body={"name": "operations/1", "metadata": {"build": BUILD}})
    assert cloud.run(image_build, wait=False, **options)["operation"] == "b1"
    assert cloud.clock.slept == [0.25]


def test_another_refusal_is_not_waited_for(cloud, options):
    nothing_under_way(cloud)
    uploaded(cloud)
    cloud.expect_error("POST", BUILDS, 400, code="INVALID_ARGUMENT", message="invalid machine type")
    with pytest.raises(Failed, match="invalid machine type"):
        cloud.run(image_build, **options)
    assert cloud.clock.slept == []


def test_a_context_that_was_uploaded_before_is_used(cloud, options):
    nothing_under_way(cloud)
    cloud.expect_error("POST", f"{STORAGE}/upload/storage/v1/b/bkt/o", 412, legacy=True, reason="conditionNotMet")
    name = hashlib.sha256(_build_context.pack(options["context"], "Dockerfile")).hexdigest()
    cloud.expect("GET", f"{STORAGE}/storage/v1/b/bkt/o/source%2F{name}.tar.gz", body={"generation": "3"})
    no_build(cloud)
    cloud.expect("POST", BUILDS, body={"name": "operations/1", "metadata": {"build": BUILD}})
    result = cloud.run(image_build, wait=False, machine_type="E2_HIGHCPU_8", **options)
    assert result["operation"] == "b1"
    assert result["image"] == IMAGE
    assert cloud.requests[-1].body["options"]["machineType"] == "E2_HIGHCPU_8"


def test_the_build_of_an_earlier_task_is_joined(cloud, options):
    no_tag(cloud)
    cloud.expect("GET", f"{BUILDS}/b1", body=BUILD)
    cloud.expect("GET", f"{BUILDS}/b1", body=DONE)
    result = cloud.run(image_build, operation="b1", **options)
    assert not result["changed"]
    assert result["image"].endswith(DIGEST)


def test_the_build_of_another_run_is_joined(cloud, options):
    no_tag(cloud)
    cloud.expect("GET", BUILDS, body={"builds": [BUILD]})
    cloud.expect("GET", f"{BUILDS}/b1", body=DONE)
    assert not cloud.run(image_build, **options)["changed"]
    assert MARK in cloud.requests[1].query["filter"]


def test_a_build_that_another_run_has_started_meanwhile_is_joined(cloud, options):
    nothing_under_way(cloud)
    cloud.expect("POST", f"{STORAGE}/upload/storage/v1/b/bkt/o", body={"generation": "7"})
    cloud.expect("GET", BUILDS, body={"builds": [BUILD]})
    cloud.expect("GET", f"{BUILDS}/b1", body=DONE)
    assert not cloud.run(image_build, **options)["changed"]


def test_an_image_that_another_run_has_built_meanwhile_is_used(cloud, options):
    nothing_under_way(cloud)
    cloud.expect("POST", f"{STORAGE}/upload/storage/v1/b/bkt/o", body={"generation": "7"})
    cloud.expect("GET", BUILDS, body={})
    cloud.expect("GET", TAG, body={"name": "x", "version": f"projects/p/locations/l/repositories/r/versions/{DIGEST}"})
    result = cloud.run(image_build, **options)
    assert not result["changed"] and result["image"].endswith(DIGEST)


def test_a_build_that_failed_shows_the_end_of_its_log(cloud, options):
    no_tag(cloud)
    failed = dict(BUILD, status="FAILURE", failureInfo={"detail": "step 0 failed"})
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    log = "\n".join(f"line {n}" for n in range(100)) + "\nERROR: no such package"
    cloud.expect("GET", f"{STORAGE}/storage/v1/b/bkt/o/log-b1.txt", query={"alt": "media"}, body=log.encode())
    with pytest.raises(Failed) as failure:
        cloud.run(image_build, operation="b1", **options)
    message = failure.value.result["msg"]
    assert "ended with FAILURE: step 0 failed" in message
    assert "ERROR: no such package" in message
    assert "line 5\n" not in message


def test_a_build_that_failed_by_an_internal_error_can_be_repeated(cloud, options):
    no_tag(cloud)
    failed = dict(BUILD, status="INTERNAL_ERROR")
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect_error("GET", f"{STORAGE}/storage/v1/b/bkt/o/log-b1.txt", 404, legacy=True)
    with pytest.raises(Failed, match=r"INTERNAL_ERROR.*run the task again.*does not exist"):
        cloud.run(image_build, operation="b1", **options)


def test_a_log_that_is_not_there(cloud, options):
    no_tag(cloud)
    failed = dict(BUILD, status="TIMEOUT")
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect_error("GET", f"{STORAGE}/storage/v1/b/bkt/o/log-b1.txt", 404, legacy=True)
    with pytest.raises(Failed, match=r"TIMEOUT: no reason given.*does not exist"):
        cloud.run(image_build, operation="b1", **options)


def test_a_log_that_cannot_be_read_does_not_hide_the_failure(cloud, options):
    no_tag(cloud)
    failed = dict(BUILD, status="TIMEOUT")
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect("GET", f"{BUILDS}/b1", body=failed)
    cloud.expect_error("GET", f"{STORAGE}/storage/v1/b/bkt/o/log-b1.txt", 403, legacy=True)
    with pytest.raises(Failed, match=r"TIMEOUT: no reason given. Its log: gcloud storage cat gs://bkt/log-b1.txt"):
        cloud.run(image_build, operation="b1", **options)


def test_check_mode_starts_nothing(cloud, options):
    no_tag(cloud)
    result = cloud.run(image_build, True, **options)
    assert result["changed"]
    assert result["diff"]["after"]["build_args"] == {"VERSION": "1"}


def test_check_mode_on_an_empty_project(cloud, options):
    metadata = {"service": "artifactregistry.googleapis.com", "consumer": "projects/p"}
    cloud.expect_error("GET", TAG, 403, code="PERMISSION_DENIED", reason="SERVICE_DISABLED", metadata=metadata)
    cloud.expect("GET", "...services/artifactregistry.googleapis.com", body={"state": "DISABLED"})
    assert cloud.run(image_build, True, **options)["changed"]
    assert "is not enabled" in cloud.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "docker.io/x:1"}, "not an image of Artifact Registry with a tag"),
        ({"context": "/nonexistent"}, "is not a folder"),
        ({"dockerfile": "Containerfile"}, "has no Containerfile"),
    ],
)
def test_bad_options(cloud, options, change, message):
    if "image" not in change:
        nothing_under_way(cloud)
    with pytest.raises(Failed, match=message):
        cloud.run(image_build, **dict(options, **change))


def test_the_same_files_make_the_same_archive(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o755)
        (folder / "Dockerfile").write_text("FROM x\n")
        (folder / "notes.md").write_text(name)
        (folder / ".dockerignore").write_text("# comment\n*.md\n")
    assert _build_context.pack(str(tmp_path / "a"), "Dockerfile") == _build_context.pack(
        str(tmp_path / "b"), "Dockerfile"
    )


def test_an_exception_in_dockerignore_sends_everything(tmp_path):
    (tmp_path / ".dockerignore").write_text("*\n!Dockerfile\n")
    assert _build_context._ignored(str(tmp_path)) == []


ENGINE = """\
#!/bin/sh
echo "$@" >> "$ENGINE_LOG"
case "$1" in
  login) cat > "$ENGINE_LOG.stdin"; echo "$DOCKER_CONFIG" > "$ENGINE_LOG.config"; touch "$DOCKER_CONFIG/config.json" ;;
esac
[ "$1" != "$ENGINE_FAILS" ] || { echo "the engine says no"; exit 3; }
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A container engine that only records its commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "podman").write_text(ENGINE)
    (folder / "podman").chmod(0o755)
    log = tmp_path / "engine.log"
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("ENGINE_LOG", str(log))
    return log


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setattr(_module.Task, "access_token", lambda self: "ya29.token")
    return "ya29.token"


def local(options):
    needless = ("location", "source_bucket", "service_account")
    return dict({key: value for key, value in options.items() if key not in needless}, engine="podman")


def test_an_engine_of_the_machine_builds_and_pushes(cloud, options, engine, token):
    no_tag(cloud)
    cloud.expect("GET", TAG, body={"version": f"x/{DIGEST}"})
    result = cloud.run(image_build, **local(options))
    assert result["changed"]
    assert result["image"].endswith(DIGEST)
    context = options["context"]
    assert engine.read_text().splitlines() == [
        f"build --tag {IMAGE} --file {context}/Dockerfile --build-arg VERSION=1 {context}",
        "login --username oauth2accesstoken --password-stdin https://europe-west1-docker.pkg.dev",
        f"push {IMAGE}",
    ]


def test_the_token_reaches_the_engine_by_its_input_alone_and_is_gone_afterwards(cloud, options, engine, token):
    no_tag(cloud)
    cloud.expect("GET", TAG, body={"version": f"x/{DIGEST}"})
    cloud.run(image_build, **local(options))
    assert token not in engine.read_text()
    assert engine.with_suffix(".log.stdin").read_text() == token
    config = engine.with_suffix(".log.config").read_text().strip()
    assert config and not pathlib.Path(config).exists()


@pytest.mark.parametrize("step", ["build", "login", "push"])
def test_an_engine_that_fails_is_quoted(cloud, options, engine, token, monkeypatch, step):
    monkeypatch.setenv("ENGINE_FAILS", step)
    no_tag(cloud)
    with pytest.raises(Failed, match=r"with podman failed \(exit status 3\)[^$]*the engine says no"):
        cloud.run(image_build, **local(options))


def test_an_engine_that_is_not_there(cloud, options, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    no_tag(cloud)
    with pytest.raises(Failed, match=r"podman is not installed on this machine"):
        cloud.run(image_build, **local(options))


def test_check_mode_does_not_start_the_engine(cloud, options, engine):
    no_tag(cloud)
    assert cloud.run(image_build, True, **local(options))["changed"]
    assert not engine.exists()


def test_an_engine_that_takes_too_long(cloud, options, engine, token):
    pathlib.Path(engine.parent / "bin" / "podman").write_text("#!/bin/sh\nexec sleep 30\n")
    no_tag(cloud)
    with pytest.raises(Failed, match="not finished after 1 s"):
        cloud.run(image_build, **dict(local(options), timeout=1))


def test_the_lock_is_renewed_while_an_engine_runs(cloud, options, engine, token, monkeypatch):
    kept = []

    def keep(task):
        kept.append(task)

    monkeypatch.setattr(_container_engine, "_KEEP_SECONDS", 0.01)
    monkeypatch.setattr(_module.Task, "keep_lock", keep)
    pathlib.Path(engine.parent / "bin" / "podman").write_text("#!/bin/sh\nexec sleep 0.2\n")
    no_tag(cloud)
    cloud.expect("GET", TAG, body={"version": f"x/{DIGEST}"})
    cloud.run(image_build, **local(options))
    assert kept


def test_a_registry_that_is_disabled_fails_outside_check_mode(cloud, options):
    cloud.expect_disabled(TAG, "artifactregistry.googleapis.com")
    with pytest.raises(Failed, match=r"The API artifactregistry\.googleapis\.com is not enabled"):
        cloud.run(image_build, **options)
