# SPDX-License-Identifier: Apache-2.0
"""Verify a deployed MLflow with MLflow's own client, and that it rejects unauthorized requests.

The input is JSON on stdin (the keys are those of `__mlflow_verify_input` in the role's vars), so no secret is on a
command line or in the environment. The output is one JSON document:

    checks   [{name, ok, skipped, result, detail, seconds}] in the order in which they ran; a check that this
             environment does not allow is `ok` and `skipped`, and `detail` has the reason
    lines    one line of text for each check
    changed  whether the verification left something in MLflow that did not exist before

Exit status 0 if all checks passed, 1 if one failed, 2 if the input is invalid.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import sys
import tempfile
import time
from urllib.parse import urlsplit

import google.auth
import google.auth.exceptions
import requests
from google.auth import credentials as auth_credentials

sys.dont_write_bytecode = True  # write nothing into the folder of an installed collection
from access import (  # noqa: E402  after the line above
    ACCESS_MODES,
    Failure,
    Google,
    Skipped,
    bearer,
    redacted,
    source_credentials,
)

MIB = 1024 * 1024
SMALL, LARGE = 1 * MIB, 40 * MIB
# An API call and not the start page: MLflow's own login leaves some pages public.
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"

# Variables from which MLflow's client reads credentials.
LOGIN = tuple(f"MLFLOW_TRACKING_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4"))


class Report:
    def __init__(self):
        self.checks, self.changed = [], False

    @property
    def ok(self):
        return all(check["ok"] for check in self.checks)

    @contextlib.contextmanager
    def check(self, name):
        """Record a check. A failed check does not stop the next ones."""
        started, entry = time.monotonic(), {"name": name, "ok": True, "skipped": False, "result": "", "detail": ""}
        try:
            yield entry
        except Skipped as reason:
            entry.update(skipped=True, detail=str(reason))
        except Exception as error:  # any exception of the client is a failed check
            entry.update(ok=False, detail=explain(error))
        entry["seconds"] = round(time.monotonic() - started, 1)
        self.checks.append(entry)

    def as_json(self):
        lines = [line(check) for check in self.checks]
        return json.dumps({"checks": self.checks, "lines": lines, "changed": self.changed})


def line(check):
    """Return a check as text, for example `ok: ID token rejected (401), as expected`."""
    status = "skipped" if check["skipped"] else "ok" if check["ok"] else "failed"
    text = f"{status}: {check['name']}"
    if check["result"]:
        text += f" {check['result']}"
    return text + (f": {check['detail']}" if check["detail"] else "")


def explain(error):
    text = " ".join(redacted(error).split())
    kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
    return (kind + text)[:1200]


def probe(url, headers):
    """Return the response to an API call; redirects are not followed."""
    return requests.get(url + PROBE, headers=headers, timeout=120, allow_redirects=False)


def wait_for_access(access, headers):
    """Wait until the server accepts its client, because a new policy takes effect after minutes.

    :param headers: a function that returns the headers.
    :return: the result of the check.
    """
    while True:
        try:
            answer = probe(access.url, headers())
        except requests.RequestException as error:
            seen = explain(error)
        else:
            if answer.status_code in (200, 404):  # 404: the default experiment was deleted in MLflow
                return f"accepted ({answer.status_code})"
            seen = f"{answer.status_code} {' '.join(answer.text.split())[:300]}"
        if time.monotonic() > access.google.deadline:
            raise Failure(
                f"{access.url} does not accept its client after {access.wanted['timeout']} s. The last response was: "
                f"{seen}. Read the logs of the service and check the members of its access policy."
            )
        time.sleep(3)


def expect_rejection(url, headers, advice="Only members must have access."):
    """Return the result of a request that the server must reject."""
    answer = probe(url, headers)
    seen = f"{answer.status_code}"
    target = urlsplit(answer.headers.get("Location", "")).netloc
    if answer.status_code in (302, 303, 307) and target and target != urlsplit(url).netloc:
        seen += f", redirected to {target}"
    elif answer.status_code not in (401, 403):
        raise Failure(f"accepted with {seen} {' '.join(answer.text.split())[:200]}. {advice}")
    return f"rejected ({seen}), as expected"


def check_token_sources(access, report):
    """Check the token sources of programs: those that must work, and those that the server must reject."""
    for source in access.token_sources():
        with report.check(source.name) as entry:
            token = source.token()
            if source.rejected:
                entry["result"] = expect_rejection(access.url, bearer(token), f"{source.rejected}.")
            else:
                entry["result"] = wait_for_access(access, lambda token=token: bearer(token))


def check_unauthorized(access, report):
    """Check that the server rejects unauthorized requests."""
    for name, headers in access.unauthorized():
        with report.check(name) as entry:
            entry["result"] = expect_rejection(access.url, headers())


def check_client(access, report, login):
    """Check MLflow's client with its own variables and with the package that renews tokens."""
    from mlflow import MlflowClient

    names = " and ".join(name for name in login if name.startswith("MLFLOW_TRACKING_"))
    with report.check(f"MLflow's client with {names}") as entry, environment(login):
        MlflowClient().search_experiments(max_results=1)
        entry["result"] = "accepted"
    if not access.supports_package():
        return
    with report.check("MLflow's client with the package mlflow-google-auth") as entry:
        try:
            import mlflow_google_auth
        except ImportError as error:
            raise Skipped("mlflow-google-auth is not installed for mlflow_verify_python") from error
        package = {
            "MLFLOW_TRACKING_AUTH": "google",
            "MLFLOW_GOOGLE_AUTH_MODE": "auto",
            "MLFLOW_GOOGLE_AUTH_IMPERSONATE": access.client,
        }
        with environment(package), default_credentials(access.google.credentials, access.wanted["project"]):
            MlflowClient().search_experiments(max_results=1)
        entry["result"] = f"{mlflow_google_auth.__version__} accepted"


@contextlib.contextmanager
def environment(values):
    """Set environment variables that are not set yet, and remove them afterwards."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


@contextlib.contextmanager
def default_credentials(credentials, project):
    """Return these credentials from google.auth.default, as with GOOGLE_APPLICATION_CREDENTIALS but without a file."""
    before = google.auth.default
    google.auth.default = lambda scopes=None, **_: (scoped(credentials, scopes), project)
    try:
        yield
    finally:
        google.auth.default = before


def scoped(credentials, scopes):
    return auth_credentials.with_scopes_if_required(credentials, scopes)


def seen_in(answer):
    return f"{answer.status_code} {' '.join(answer.text.split())[:200]}"


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Session:
    """The experiment of the verification in the deployed MLflow."""

    def __init__(self, name, report, folder, access):
        from mlflow import MlflowClient

        self.name, self.report, self.folder, self.access = name, report, pathlib.Path(folder), access
        self.client = MlflowClient()
        self.run, self.logged = None, {}

    def open(self):
        from mlflow.entities import LifecycleStage

        found = self.client.get_experiment_by_name(self.name)
        self.existed = found is not None and found.lifecycle_stage == LifecycleStage.ACTIVE
        if found is None:
            self.experiment = self.client.create_experiment(self.name)
        else:
            self.experiment = found.experiment_id
            if not self.existed:  # a deleted experiment keeps its name in MLflow
                self.client.restore_experiment(self.experiment)
        self.earlier = [r.info.run_id for r in self.client.search_runs([self.experiment])]
        self.run = self.client.create_run(self.experiment, run_name="verification").info.run_id

    def log(self):
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric("loss", 1 / (step + 1), now + step, step) for step in range(20)]
        self.client.log_batch(self.run, metrics=metrics, params=[Param("learning_rate", "0.01")])
        history = self.client.get_metric_history(self.run, "loss")
        if [m.value for m in history] != [m.value for m in metrics]:
            raise Failure(f"20 values were logged; MLflow returned {len(history)}, or different ones")
        if self.client.get_run(self.run).data.params != {"learning_rate": "0.01"}:
            raise Failure("MLflow did not return the logged parameter")

    def artifact(self, size):
        """Log random bytes, download them and compare."""
        name = f"{size // MIB}-mib.bin"
        path = self.folder / name
        with path.open("wb") as file:
            for _mib in range(size // MIB):
                file.write(os.urandom(MIB))
        self.client.log_artifact(self.run, str(path), "verify")
        back = self.client.download_artifacts(self.run, f"verify/{name}", str(self.folder / "back"))
        if digest(path) != digest(back):
            raise Failure(f"the downloaded {name} differs from the logged one")
        self.logged[f"verify/{name}"] = digest(path)
        path.unlink()

    def through_server(self, size, limit):
        """List and download an artifact as a browser does, with the rights of the server, and compare it.

        :param limit: MiB of a response with a length that reach a client, 0 for any number.
        :return: the result of the check.
        """
        name = f"verify/{size // MIB}-mib.bin"
        answer = self.get("/api/2.0/mlflow/artifacts/list", run_id=self.run, path="verify")
        if answer.status_code != 200:
            raise Failure(f"the list of artifacts: {seen_in(answer)}. The server must be able to read the bucket.")
        listed = {item["path"]: int(item.get("file_size") or 0) for item in answer.json().get("files", [])}
        if listed.get(name) != size:
            raise Failure(f"the list of artifacts has {listed}, and not {name} with {size} bytes")
        answer = self.get("/get-artifact", run_id=self.run, path=name)
        if 0 < limit * MIB < size and answer.status_code != 200:
            if answer.status_code < 500 or "error_code" in answer.text:  # from MLflow, not from the front end
                raise Failure(f"the download: {seen_in(answer)}")
            return f"not passed on ({answer.status_code}), as more than {limit} MiB are not"
        if answer.status_code != 200:
            raise Failure(f"the download: {seen_in(answer)}. The server must be able to read the bucket.")
        if hashlib.sha256(answer.content).hexdigest() != self.logged[name]:
            raise Failure(f"the downloaded {name} differs from the logged one")
        return "complete"

    def get(self, address, **query):
        return requests.get(self.access.url + address, params=query, headers=self.access.headers(), timeout=180)

    def too_large(self, size, limit):
        """Check that the front end rejects a proxied artifact that is above its limit."""
        try:
            self.artifact(size)
        except Failure:
            raise
        except Exception as error:  # the client wraps the response in one of several classes
            if "413" not in str(error):
                raise
            return
        raise Failure(f"accepted, although requests of more than {limit} MiB are rejected")

    def register(self):
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # it exists from an earlier run
            self.client.create_registered_model(self.name)
        source = f"{self.client.get_run(self.run).info.artifact_uri}/verify"
        version = self.client.create_model_version(self.name, source, self.run)
        found = self.client.get_model_version(self.name, version.version)
        if found.run_id != self.run or found.status != "READY":
            raise Failure(f"version {version.version} is {found.status}, of the run {found.run_id}")
        self.version = version.version

    def delete(self, run):
        """Delete a run with its artifacts. The API only marks the row as deleted; `mlflow gc` removes it."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(self.client.get_run(run).info.artifact_uri).delete_artifacts()
        self.client.delete_run(run)

    def close(self, keep):
        if keep:
            for run in self.earlier:
                self.delete(run)
            for old in self.client.search_model_versions(f"name='{self.name}'"):
                if old.run_id != self.run:
                    self.client.delete_model_version(self.name, old.version)
            self.client.set_terminated(self.run)
            self.report.changed = not self.existed
            return
        with contextlib.suppress(Exception):  # its creation may have failed
            self.client.delete_registered_model(self.name)
        for run in [*self.earlier, self.run]:
            self.delete(run)
        self.client.delete_experiment(self.experiment)
        self.report.changed = self.existed


def verify(wanted, report):
    if wanted["access"] not in ACCESS_MODES:
        raise SystemExit(f"mlflow_verify_access is {wanted['access']!r}; it must be one of {', '.join(ACCESS_MODES)}.")
    # A new policy takes effect after minutes (https://cloud.google.com/iam/docs/access-change-propagation).
    deadline = time.monotonic() + wanted["timeout"]
    google_cloud = Google(
        source_credentials({key: value for key, value in wanted["credentials"].items() if value}), deadline
    )
    access = ACCESS_MODES[wanted["access"]](google_cloud, wanted)

    with report.check(f"client of {access.url}") as opened:
        opened["result"] = wait_for_access(access, access.headers)
    if not opened["ok"]:
        return
    check_token_sources(access, report)
    check_unauthorized(access, report)

    # The checks must not pass with credentials from the user's environment.
    for name in [name for name in os.environ if name in LOGIN or name.startswith("MLFLOW_GOOGLE_AUTH_")]:
        del os.environ[name]
    os.environ.update(
        MLFLOW_TRACKING_URI=access.url,
        MLFLOW_REGISTRY_URI=access.url,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="3",
        MLFLOW_HTTP_REQUEST_TIMEOUT="180",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    )
    login = access.client_environment() | {"MLFLOW_GOOGLE_AUTH_MODE": "off"}
    check_client(access, report, login)

    direct = wanted["artifacts"] == "direct"
    # An experiment keeps the artifact location that it was created with, so each mode has its own experiment.
    experiment = wanted["experiment"] if direct else f"{wanted['experiment']}-proxied"
    # The credentials that `gcloud auth application-default login --impersonate-service-account` writes for a user.
    client = google_cloud.acting_as(wanted["client_account"])
    artifacts = default_credentials(client, wanted["project"]) if direct else contextlib.nullcontext()
    with environment(login), artifacts, tempfile.TemporaryDirectory(prefix="mlflow-verify-") as folder:
        session = Session(experiment, report, folder, access)
        limits = wanted["request_mib"], wanted["response_mib"]
        use(session, report, direct=direct, limits=limits, keep=wanted["keep"])


def use(session, report, *, direct, limits, keep):
    request, response = limits
    with report.check("experiment and run") as opened:
        session.open()
    if not opened["ok"]:
        return
    with report.check("metrics and parameters"):
        session.log()
    with report.check("upload and download of 1 MiB"):
        session.artifact(SMALL)
    with report.check("list and download of 1 MiB through the server") as entry:
        entry["result"] = session.through_server(SMALL, 0)
    if direct or not 0 < request * MIB < LARGE:
        with report.check("upload and download of 40 MiB"):
            session.artifact(LARGE)
        with report.check("download of 40 MiB through the server") as entry:
            entry["result"] = session.through_server(LARGE, response)
    else:
        with report.check("upload of 40 MiB through the server") as entry:
            session.too_large(LARGE, request)
            entry["result"] = "rejected (413), as expected"
    with report.check("registered model and version"):
        session.register()
    with report.check("cleanup: one run kept" if keep else "cleanup: everything deleted"):
        session.close(keep)


def main():
    try:
        wanted = json.load(sys.stdin)
    except ValueError as error:
        print(f"The input is not JSON: {error}", file=sys.stderr)
        return 2
    report = Report()
    # Only the document goes to stdout: MLflow prints the addresses of runs.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            verify(wanted, report)
        except (Failure, google.auth.exceptions.GoogleAuthError, OSError) as error:
            with report.check("credentials"):
                raise error
    print(report.as_json())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
