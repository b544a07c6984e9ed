# SPDX-License-Identifier: Apache-2.0
"""Each write arrives once or is refused the second time, and counts as changed, when a proxy loses the answer to it."""

from __future__ import annotations

import base64

import pytest
import requests
from ansible_collections.mlplatform.gcp.plugins.module_utils import _credentials, _http
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.verbs import VERBS
from ansible_collections.mlplatform.gcp.plugins.modules import (
    cloud_run_job,
    image_build,
    secret,
    sql_instance,
    sql_user,
    storage_bucket,
)
from ansible_collections.mlplatform.gcp.tests.unit.plugins import _loopback
from ansible_collections.mlplatform.gcp.tests.unit.plugins._scripted import Failed

SECRETS = "/v1/projects/p/secrets"
JOB = "/v2/projects/p/locations/l/jobs/j"
BUILDS = "/v1/projects/p/locations/l/builds"
USERS = "/v1/projects/p/instances/i/users"
INSTANCES = "/v1/projects/p/instances"
DIGEST = "sha256:" + "1" * 64
MISSING = {"error": {"code": 404, "message": "not found"}}
TAKEN = {"error": {"code": 409, "message": "it exists"}}


class Apis:
    """The few methods that these modules call; ``state`` is what exists, by address."""

    def __init__(self):
        self.state = {}
        self.builds = []
        self.versions = []

    def answer(self, method, path, body):
        path, _mark, query = path.partition("?")
        handler = getattr(self, f"_{method.lower()}")
        return handler(path, requests.utils.unquote(query), body)

    def _get(self, path, query, body):
        if path == BUILDS:
            wanted = query.partition('tags="')[2].partition('"')[0].replace("+", " ")
            return 200, {"builds": [build for build in self.builds if wanted in build["tags"]]}
        if path.endswith("/versions/latest"):
            return (200, self.versions[-1][0]) if self.versions else (404, MISSING)
        if path.endswith(":access"):
            return 200, {"payload": {"data": self.versions[-1][1]}}
        return (200, self.state[path]) if path in self.state else (404, MISSING)

    def _post(self, path, query, body):
        if path == SECRETS:
            return self._create(f"{SECRETS}/s", dict(body, name="projects/1/secrets/s", etag="e"))
        if path.endswith(":addVersion"):
            number = len(self.versions) + 1
            version = {"name": f"projects/1/secrets/s/versions/{number}", "state": "ENABLED"}
            self.versions.append((version, body["payload"]["data"]))
            return 200, version
        if path == BUILDS:
            build = {"id": f"b{len(self.builds)}", "status": "SUCCESS", "tags": body["tags"], "logsBucket": "gs://b"}
            build["results"] = {"images": [{"name": body["images"][0], "digest": DIGEST}]}
            self.builds.append(build)
            self.state[f"{BUILDS}/{build['id']}"] = build
            return 200, {"name": "operations/1", "metadata": {"build": build}}
        if path.endswith("/o"):
            return 200, {"generation": "1"}
        if path == f"{JOB}:run":
            return self._execute()
        if path == USERS:  # as the service does it, a second create sets the password again
            self.state[f"{USERS}/{body['name']}"] = {"name": body["name"]}
            return 200, {"name": "o", "status": "DONE", "targetProject": "p"}
        if path == INSTANCES:
            status, _body = self._create(f"{INSTANCES}/i", dict(body, state="RUNNABLE"))
            return status, {"name": "o", "status": "DONE", "targetProject": "p"} if status == 200 else TAKEN
        if path == "/storage/v1/b":
            return self._create("/storage/v1/b/bkt", dict(body, metageneration="1"))
        raise AssertionError(f"POST {path}")

    def _patch(self, path, query, body):
        self.state[path] = dict(self.state[path], **body)
        return 200, self.state[path]

    def _create(self, path, body):
        if path in self.state:
            return 409, TAKEN
        self.state[path] = body
        return 200, body

    def _execute(self):
        name = f"{JOB[4:]}/executions/j-{len([path for path in self.state if '/executions/' in path])}"
        job = self.state[JOB]
        execution = {"name": name, "template": job["template"]["template"], "succeededCount": 1, "completionTime": "t"}
        self.state[f"/v2/{name}"] = execution
        self.state[JOB] = dict(job, latestCreatedExecution={"name": name})
        return 200, {"name": "operations/1", "done": True, "metadata": {"name": name}, "response": execution}


@pytest.fixture
def apis():
    return Apis()


@pytest.fixture
def server(cloud, apis, tmp_path, monkeypatch):
    """Google's APIs behind a proxy; ``cloud.run`` runs a module against them."""
    server = _loopback.Server(tmp_path, apis.answer)
    proxy = _loopback.Proxy(server, "tunnel")
    for name in ("https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.bundle))
    cloud.client = _http.Client(_credentials.from_params({"access_token": "t"}), project="p", clock=cloud.clock)
    yield server
    proxy.close()
    server.close()


@pytest.fixture
def build(tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM x\n")
    return {
        "image": "l-docker.pkg.dev/p/r/mlflow:1",
        "context": str(tmp_path / "context"),
        "location": "l",
        "source_bucket": "b",
        "service_account": "b@p.iam.gserviceaccount.com",
    }


STALLED = requests.exceptions.ReadTimeout("Read timed out.")
EXECUTE = {"name": "j", "location": "l", "image": "i@sha256:1"}
RUNNABLE = {"name": JOB[4:], "template": {"template": {"containers": [{"image": "i@sha256:1"}]}}}


def test_a_version_of_a_secret(cloud, apis, server):
    server.lose = ":addVersion"
    result = cloud.run(secret, name="s", payload="correct horse")
    assert result["changed"] and result["version"].endswith("/versions/1")
    assert server.writes().count(f"POST {SECRETS}/s:addVersion") == 1 and len(apis.versions) == 1


def test_a_version_that_was_not_added_is_added(cloud, apis, server):
    """The newest version has another value, so the request did not arrive: an earlier part of its way lost it."""
    apis.state[f"{SECRETS}/s"] = {"name": "projects/1/secrets/s", "etag": "e"}
    apis.versions.append(({"name": "projects/1/secrets/s/versions/1", "state": "ENABLED"}, encoded("old")))
    answer = apis.answer

    def lost(method, path, body):
        if path.endswith(":addVersion") and len(server.writes()) == 1:
            return 503, {}
        return answer(method, path, body)

    server.answer = lost
    result = cloud.run(secret, name="s", payload="correct horse")
    assert result["version"].endswith("/versions/2") and len(apis.versions) == 2


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_a_build(cloud, apis, server, build):
    server.lose = f"POST {BUILDS}"
    result = cloud.run(image_build, **build)
    assert result["changed"] and result["build"] == "b0" and result["image"].endswith(DIGEST)
    assert server.writes().count(f"POST {BUILDS}") == 1 and len(apis.builds) == 1


@pytest.mark.parametrize("execute", ["on_change", "always"])
def test_an_execution_of_a_job(cloud, apis, server, execute):
    apis.state[JOB] = RUNNABLE
    server.lose = f"POST {JOB}:run"
    result = cloud.run(cloud_run_job, execute=execute, **EXECUTE)
    assert result["changed"] and result["execution"].endswith("/j-0")
    assert server.writes() == [f"POST {JOB}:run"]


def test_an_execution_of_before_is_not_taken_for_the_lost_one(cloud, apis, server):
    apis.state[JOB] = RUNNABLE
    apis._execute()
    server.lose = f"POST {JOB}:run"
    result = cloud.run(cloud_run_job, execute="always", **EXECUTE)
    assert result["execution"].endswith("/j-1") and server.writes() == [f"POST {JOB}:run"]


def test_a_user(cloud, apis, server):
    apis.state[f"{SECRETS}/s"] = {"name": "projects/1/secrets/s", "etag": "e"}
    apis.versions.append(({"name": "projects/1/secrets/s/versions/1", "state": "ENABLED"}, encoded("pw")))
    server.lose = f"POST {USERS}"
    result = cloud.run(sql_user, name="u", instance="i", password_secret="projects/p/secrets/s")
    assert result["changed"] and result["changes"][0]["action"] == "create"
    assert server.writes().count(f"POST {USERS}") == 1
    assert not [line for line in server.writes() if line.startswith("PUT")]


@pytest.mark.parametrize(
    ("module", "options", "line"),
    [
        (secret, {"name": "s"}, f"POST {SECRETS}"),
        (storage_bucket, {"name": "bkt", "location": "eu"}, "POST /storage/v1/b"),
        (
            sql_instance,
            {"name": "i", "database_version": "POSTGRES_16", "region": "r", "tier": "t"},
            f"POST {INSTANCES}",
        ),
    ],
)
def test_a_create_that_finds_its_own_earlier_success_counts_as_changed(cloud, server, module, options, line):
    """The name is the mark: the service refuses a second resource of the same name."""
    server.lose = line
    result = cloud.run(module, **options)
    assert server.writes() == [line, line]
    assert result["changed"] and result["changes"][0]["action"] == "create" and result["diff"]["before"] == {}
    assert not cloud.run(module, **options)["changed"]


def test_a_create_of_another_run_does_not_count(cloud):
    url = "https://storage.googleapis.com/storage/v1/b"
    cloud.expect_error("GET", f"{url}/bkt", 404)
    cloud.expect_error("POST", url, 409)
    for _again in range(2):
        cloud.expect("GET", f"{url}/bkt", body={"name": "bkt", "location": "EU", "metageneration": "1"})
    assert not cloud.run(storage_bucket, name="bkt", location="eu")["changed"]


@pytest.mark.parametrize(
    ("state", "existing", "words"),
    [
        ("present", False, r"creating secret {0}: .*Read timed out.*secret {0} may exist\. Run the task again"),
        ("present", True, r"updating secret {0}: .*may be changed\. Run the task again"),
        ("absent", True, r"deleting secret {0}: .*may be deleted\. Run the task again"),
    ],
)
def test_a_stalled_change_names_the_resource_and_the_next_step(cloud, state, existing, words):
    url = f"https://secretmanager.googleapis.com{SECRETS}"
    method = "POST" if not existing else "DELETE" if state == "absent" else "PATCH"
    if existing:
        cloud.expect("GET", f"{url}/s", body={"name": "projects/1/secrets/s", "etag": "e"})
    else:
        cloud.expect_error("GET", f"{url}/s", 404)
    for _again in range(_http.ATTEMPTS):
        cloud.expect(method, f"{url}/s" if existing else url, error=STALLED)
    with pytest.raises(Failed, match=words.format("projects/p/secrets/s")):
        cloud.run(secret, name="s", state=state, labels={"a": "b"})


def test_a_create_that_was_never_sent_does_not_exist(cloud):
    url = "https://storage.googleapis.com/storage/v1/b"
    cloud.expect_error("GET", f"{url}/bkt", 404)
    for _again in range(_http.ATTEMPTS):
        cloud.expect("POST", url, error=requests.exceptions.ConnectTimeout("timed out"))
    with pytest.raises(Failed, match="creating bucket b/bkt") as failure:
        cloud.run(storage_bucket, name="bkt", location="eu")
    assert "may exist" not in str(failure.value)


def test_a_create_that_was_sent_once_may_exist(cloud):
    url = "https://storage.googleapis.com/storage/v1/b"
    cloud.expect_error("GET", f"{url}/bkt", 404)
    cloud.expect("POST", url, error=STALLED)
    for _again in range(_http.ATTEMPTS - 1):
        cloud.expect("POST", url, error=requests.exceptions.ConnectTimeout("timed out"))
    with pytest.raises(Failed, match=r"bucket b/bkt may exist\. Run the task again"):
        cloud.run(storage_bucket, name="bkt", location="eu")


def test_these_are_the_methods_that_must_not_be_sent_twice():
    """A method that is added to them needs a function ``made`` and a test here."""
    assert {name for name, verb in VERBS.items() if verb.method == "POST" and not verb.repeatable} == {
        "cloudbuild.projects.locations.builds.create",
        "run.projects.locations.jobs.run",
        "secretmanager.projects.secrets.addVersion",
    }
