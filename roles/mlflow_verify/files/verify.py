# SPDX-License-Identifier: Apache-2.0
"""Use a deployed MLflow with its real client, as its users would and as others may not.

Reads what to check as JSON from stdin (the keys are those of `__mlflow_verify_input` in the role's vars), so that
nothing secret is on a command line or in the environment. Writes one JSON document:

    checks   [{name, ok, skipped, detail, seconds}], in the order in which they were made; what could not be checked
             here is `ok` as well as `skipped`, and `detail` says why
    changed  whether something stays behind in MLflow that was not there before

Exit status 0 when all checks passed, 1 when one failed, 2 when the input is unusable.
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

sys.dont_write_bytecode = True  # nothing is left beside an installed collection
from doors import DOORS, Failure, Google, Skipped, bearer, source_credentials  # noqa: E402  after the line above, or it leaves bytecode

MIB = 1024 * 1024
SMALL, LARGE = 1 * MIB, 40 * MIB
# An API call: the start page would do for a browser, but MLflow's own login leaves some pages open.
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"

# What MLflow's client signs in with.
LOGIN = tuple(f"MLFLOW_TRACKING_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4"))


class Report:
    def __init__(self):
        self.checks, self.changed = [], False

    @property
    def ok(self):
        return all(check["ok"] for check in self.checks)

    @contextlib.contextmanager
    def check(self, name):
        """Record a check. A failed one does not stop the others; what it needed may make those fail too."""
        started, entry = time.monotonic(), {"name": name, "ok": True, "skipped": False, "detail": ""}
        try:
            yield entry
        except Skipped as reason:
            entry.update(skipped=True, detail=str(reason))
        except Exception as error:  # whatever the client raises is the finding
            entry.update(ok=False, detail=explain(error))
        entry["seconds"] = round(time.monotonic() - started, 1)
        self.checks.append(entry)

    def as_json(self):
        return json.dumps({"checks": self.checks, "changed": self.changed})


def explain(error):
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
    return (kind + text)[:1200]


def knock(url, headers):
    """The server's answer to an API call, wherever it would lead."""
    return requests.get(url + PROBE, headers=headers, timeout=120, allow_redirects=False)


def wait_until_open(door, headers):
    """Wait until the server answers its authorised client, to whom it may just have been opened; what it answers.

    :param headers: a function that makes them.
    """
    while True:
        try:
            answer = knock(door.url, headers())
        except requests.RequestException as error:
            seen = explain(error)
        else:
            if answer.status_code in (200, 404):  # 404: MLflow says that the default experiment was deleted
                return str(answer.status_code)
            seen = f"{answer.status_code} {' '.join(answer.text.split())[:300]}"
        if time.monotonic() > door.google.deadline:
            raise Failure(
                f"{door.url} does not let its client in after {door.wanted['timeout']} s. The last answer was: {seen}. "
                "See the logs of the service, and who has the role to get in."
            )
        time.sleep(3)


def expect_refusal(url, headers, advice="Nobody but members may."):
    """Seen status of a request that must not get through."""
    answer = knock(url, headers)
    if answer.status_code in (401, 403):
        return f"{answer.status_code}"
    target = urlsplit(answer.headers.get("Location", "")).netloc
    if answer.status_code in (302, 303, 307) and target and target != urlsplit(url).netloc:
        return f"{answer.status_code}, sent to {target} to sign in"
    raise Failure(f"got through: {answer.status_code} {' '.join(answer.text.split())[:200]}. {advice}")


def try_ways(door, report):
    """Each way in for programs: those that have to work, and those that the server must not take."""
    for way in door.ways():
        if way.refused:
            with report.check(f"not taken here: {way.name}") as entry:
                entry["detail"] = expect_refusal(door.url, bearer(way.token()), f"{way.refused}.")
        else:
            with report.check(f"way in: {way.name}") as entry:
                token = way.token()
                entry["detail"] = wait_until_open(door, lambda token=token: bearer(token))


def try_strangers(door, report):
    """Everybody whom the server has to refuse."""
    for who, headers in door.strangers():
        with report.check(f"refused: {who}") as entry:
            entry["detail"] = expect_refusal(door.url, headers())


def try_mlflow(door, report, login):
    """The ways in that MLflow's client has: its own variables, and the package that renews tokens by itself."""
    from mlflow import MlflowClient

    names = " and ".join(name for name in login if name.startswith("MLFLOW_TRACKING_"))
    with report.check(f"way in: MLflow's client with {names}"), environment(login):
        MlflowClient().search_experiments(max_results=1)
    if not door.packages():
        return
    with report.check("way in: MLflow's client with the package mlflow-google-auth") as entry:
        try:
            import mlflow_google_auth
        except ImportError as error:
            raise Skipped("mlflow-google-auth is not installed for mlflow_verify_python") from error
        entry["detail"] = f"version {mlflow_google_auth.__version__}"
        package = {
            "MLFLOW_TRACKING_AUTH": "google",
            "MLFLOW_GOOGLE_AUTH_MODE": "auto",
            "MLFLOW_GOOGLE_AUTH_IMPERSONATE": door.client,
        }
        with environment(package), default_credentials(door.google.credentials, door.wanted["project"]):
            MlflowClient().search_experiments(max_results=1)


@contextlib.contextmanager
def environment(values):
    """Variables that hold for a while. Nothing of them is there before."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


@contextlib.contextmanager
def default_credentials(credentials, project):
    """Let google.auth.default find these: what GOOGLE_APPLICATION_CREDENTIALS does for a user, without a file."""
    before = google.auth.default
    google.auth.default = lambda scopes=None, **_: (scoped(credentials, scopes), project)
    try:
        yield
    finally:
        google.auth.default = before


def scoped(credentials, scopes):
    return auth_credentials.with_scopes_if_required(credentials, scopes)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Session:
    """An experiment of our own in the deployed MLflow, and what is done in it."""

    def __init__(self, name, report, folder):
        from mlflow import MlflowClient

        self.name, self.report, self.folder = name, report, pathlib.Path(folder)
        self.client = MlflowClient()
        self.run = None

    def open(self):
        from mlflow.entities import LifecycleStage

        found = self.client.get_experiment_by_name(self.name)
        self.existed = found is not None and found.lifecycle_stage == LifecycleStage.ACTIVE
        if found is None:
            self.experiment = self.client.create_experiment(self.name)
        else:
            self.experiment = found.experiment_id
            if not self.existed:  # the API deletes an experiment only for show, and keeps its name
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
            raise Failure(f"20 values were logged, {len(history)} came back, or others")
        if self.client.get_run(self.run).data.params != {"learning_rate": "0.01"}:
            raise Failure("the parameter that was logged did not come back")

    def artifact(self, size):
        """Log random bytes, fetch them again and compare."""
        name = f"{size // MIB}-mib.bin"
        path = self.folder / name
        with path.open("wb") as file:
            for _mib in range(size // MIB):
                file.write(os.urandom(MIB))
        self.client.log_artifact(self.run, str(path), "verify")
        back = self.client.download_artifacts(self.run, f"verify/{name}", str(self.folder / "back"))
        if digest(path) != digest(back):
            raise Failure(f"what came back of {name} is not what was logged")
        path.unlink()

    def too_large(self, size):
        """With artifacts proxied, Cloud Run refuses what is larger than 32 MiB."""
        try:
            self.artifact(size)
        except Failure:
            raise
        except Exception as error:  # the client wraps the answer in one of several classes
            if "413" not in str(error):
                raise
            return
        raise Failure("it was accepted, which Cloud Run does not do with more than 32 MiB over HTTP/1")

    def register(self):
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # there from an earlier run
            self.client.create_registered_model(self.name)
        source = f"{self.client.get_run(self.run).info.artifact_uri}/verify"
        version = self.client.create_model_version(self.name, source, self.run)
        found = self.client.get_model_version(self.name, version.version)
        if found.run_id != self.run or found.status != "READY":
            raise Failure(f"version {version.version} is {found.status}, of the run {found.run_id}")
        self.version = version.version

    def forget(self, run):
        """Delete a run with its artifacts, as far as the API goes: a row marked as deleted stays until `mlflow gc`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(self.client.get_run(run).info.artifact_uri).delete_artifacts()
        self.client.delete_run(run)

    def close(self, keep):
        if keep:
            for run in self.earlier:
                self.forget(run)
            for old in self.client.search_model_versions(f"name='{self.name}'"):
                if old.run_id != self.run:
                    self.client.delete_model_version(self.name, old.version)
            self.client.set_terminated(self.run)
            self.report.changed = not self.existed
            return
        with contextlib.suppress(Exception):  # it may be what failed
            self.client.delete_registered_model(self.name)
        for run in [*self.earlier, self.run]:
            self.forget(run)
        self.client.delete_experiment(self.experiment)
        self.report.changed = self.existed


def verify(wanted, report):
    if wanted["access"] not in DOORS:
        raise SystemExit(f"mlflow_verify_access is {wanted['access']!r}; it must be one of {', '.join(DOORS)}.")
    # A policy that was just set takes effect after minutes (https://cloud.google.com/iam/docs/access-change-propagation).
    deadline = time.monotonic() + wanted["timeout"]
    google_cloud = Google(source_credentials(wanted["credentials"]), deadline)
    door = DOORS[wanted["access"]](google_cloud, wanted)

    with report.check(f"the client gets in at {door.url}") as opened:
        wait_until_open(door, door.headers)
    if not opened["ok"]:
        return
    try_ways(door, report)
    try_strangers(door, report)

    # Only what is checked may let the client in, and nothing that the user has set.
    for name in [name for name in os.environ if name in LOGIN or name.startswith("MLFLOW_GOOGLE_AUTH_")]:
        del os.environ[name]
    os.environ.update(
        MLFLOW_TRACKING_URI=door.url,
        MLFLOW_REGISTRY_URI=door.url,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="3",
        MLFLOW_HTTP_REQUEST_TIMEOUT="180",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    )
    login = door.enter() | {"MLFLOW_GOOGLE_AUTH_MODE": "off"}
    try_mlflow(door, report, login)

    direct = wanted["artifacts"] == "direct"
    # An experiment remembers how its artifacts travel, so each way has one of its own.
    experiment = wanted["experiment"] if direct else f"{wanted['experiment']}-proxied"
    # What `gcloud auth application-default login --impersonate-service-account` does for a user.
    client = google_cloud.acting_as(wanted["client_account"])
    lent = default_credentials(client, wanted["project"]) if direct else contextlib.nullcontext()
    with environment(login), lent, tempfile.TemporaryDirectory(prefix="mlflow-verify-") as folder:
        use(Session(experiment, report, folder), report, direct=direct, keep=wanted["keep"])


def use(session, report, *, direct, keep):
    with report.check("experiment and run") as opened:
        session.open()
    if not opened["ok"]:
        return
    with report.check("metrics and parameters"):
        session.log()
    with report.check("an artifact of 1 MiB, up and down"):
        session.artifact(SMALL)
    if direct:
        with report.check("an artifact of 40 MiB, up and down"):
            session.artifact(LARGE)
    else:
        with report.check("an artifact of 40 MiB is refused, as Cloud Run takes 32 MiB through the server"):
            session.too_large(LARGE)
    with report.check("registered model and its version"):
        session.register()
    with report.check("one run is kept" if keep else "nothing is left behind"):
        session.close(keep)


def main():
    try:
        wanted = json.load(sys.stdin)
    except ValueError as error:
        print(f"The input is not JSON: {error}", file=sys.stderr)
        return 2
    report = Report()
    # The document is all of stdout: MLflow prints where runs can be seen.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            verify(wanted, report)
        except (Failure, google.auth.exceptions.GoogleAuthError, OSError) as error:
            report.checks.append(
                {"name": "credentials", "ok": False, "skipped": False, "detail": explain(error), "seconds": 0}
            )
    print(report.as_json())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
