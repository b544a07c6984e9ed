# SPDX-License-Identifier: Apache-2.0
"""Use a deployed MLflow with its real client, as its users would and as others may not.

Reads what to check as JSON from stdin (the keys are those of `__mlflow_verify_input` in the role's vars), so that
nothing secret is on a command line or in the environment. Writes one JSON document:

    checks   [{name, ok, detail, seconds}], in the order in which they were made
    changed  whether something stays behind in MLflow that was not there before

Exit status 0 when all checks passed, 1 when one failed, 2 when the input is unusable.
"""

import base64
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
import google.auth.jwt
import requests
from google.auth import credentials as auth_credentials
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import credentials as oauth2_credentials
from google.oauth2 import service_account

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
SECRETS = "https://secretmanager.googleapis.com/v1"
MIB = 1024 * 1024
SMALL, LARGE = 1 * MIB, 40 * MIB
# An API call: the start page would do for a browser, but MLflow's own login leaves some pages open.
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"


class Failure(Exception):
    """A check that did not pass; the text says what was seen and what to do."""


def source_credentials(wanted):
    """Google credentials as the modules of the collection choose them. `wanted` is `credentials` of the input."""
    if wanted.get("access_token"):
        found = oauth2_credentials.Credentials(wanted["access_token"])
    elif wanted.get("service_account_contents"):
        contents = wanted["service_account_contents"]
        info = json.loads(contents) if isinstance(contents, str) else contents
        found = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    elif path := wanted.get("service_account_file") or os.environ.get("GCP_SERVICE_ACCOUNT_FILE"):
        found = service_account.Credentials.from_service_account_file(os.path.expanduser(path), scopes=SCOPES)
    else:
        found, _project = google.auth.default(scopes=SCOPES)
    if target := wanted.get("impersonate_service_account"):
        found = impersonated_credentials.Credentials(found, target_principal=target, target_scopes=SCOPES)
    return found


class Google:
    """Google Cloud as the one who runs this sees it."""

    def __init__(self, credentials, deadline):
        self.credentials, self.deadline = credentials, deadline
        self.session = AuthorizedSession(credentials)

    def call(self, method, url, what, **kwargs):
        answer = self.session.request(method, url, timeout=60, **kwargs)
        if answer.ok:
            return answer.json()
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text[:300]
        raise Failure(f"{what}: {answer.status_code} {message}")

    def as_account(self, account, verb, body):
        hint = (
            f"Cannot act as {account}. Whoever runs this needs roles/iam.serviceAccountTokenCreator on it "
            "(mlflow_impersonators), which roles/owner does not include"
        )
        while True:
            try:
                return self.call("POST", f"{IAM}/{account}:{verb}", hint, json=body)
            except Failure as failure:
                if ": 403 " not in str(failure) or time.monotonic() > self.deadline:
                    raise
                time.sleep(3)

    def signed(self, account, audience):
        """A JWT of a service account, which Identity-Aware Proxy takes for the resource `audience`."""
        payload = json.dumps(claims(account, audience))
        return self.as_account(account, "signJwt", {"payload": payload})["signedJwt"]

    def identity(self, account, audience):
        """An identity token of a service account, which Cloud Run takes for the service `audience`."""
        return self.as_account(account, "generateIdToken", {"audience": audience, "includeEmail": True})["token"]

    def own_signed(self, audience):
        """The same as `signed` for the caller's own account, or None where the caller holds no key."""
        signer, email = getattr(self.credentials, "signer", None), getattr(self.credentials, "signer_email", None)
        if isinstance(self.credentials, service_account.Credentials) and signer and email:
            return google.auth.jwt.encode(signer, claims(email, audience)).decode()
        return None

    def secret(self, name):
        version = name if "/versions/" in name else f"{name}/versions/latest"
        answer = self.call("GET", f"{SECRETS}/{version}:access", f"Cannot read the secret {name}")
        return base64.b64decode(answer["payload"]["data"]).decode()

    def acting_as(self, account):
        return impersonated_credentials.Credentials(self.credentials, target_principal=account, target_scopes=SCOPES)


def claims(email, audience):
    now = int(time.time())
    return {"iss": email, "sub": email, "email": email, "aud": audience, "iat": now, "exp": now + 3000}


class Door:
    """One way of controlling access: how an authorised program gets in, and who must not."""

    def __init__(self, google_cloud, wanted):
        self.google, self.wanted = google_cloud, wanted
        self.url, self.client = wanted["url"], wanted["client_account"]

    def enter(self):
        """Environment of MLflow's client that lets it in."""
        return {"MLFLOW_TRACKING_TOKEN": self.token(self.audience)}

    def headers(self):
        return {"Authorization": f"Bearer {self.token(self.audience)}"}

    def strangers(self):
        """[(who, headers)], none of whom may get in."""
        elsewhere = self.audience.replace(urlsplit(self.url).netloc, "elsewhere.example.com")
        yield "a caller without credentials", {}
        yield (
            f"{self.client} with a token for another address",
            {"Authorization": f"Bearer {self.token(elsewhere)}"},
        )


class Iap(Door):
    @property
    def audience(self):
        return f"{self.url}/*"

    def token(self, audience):
        return self.google.signed(self.client, audience)

    def strangers(self):
        yield from super().strangers()
        email = getattr(self.google.credentials, "signer_email", None)
        if f"serviceAccount:{email}" not in self.wanted["members"] and (own := self.google.own_signed(self.audience)):
            yield f"{email}, who is not among the members", {"Authorization": f"Bearer {own}"}


class Iam(Door):
    @property
    def audience(self):
        return self.url

    def token(self, audience):
        return self.google.identity(self.client, audience)


class Password(Door):
    def login(self):
        return self.google.secret(self.wanted["username_secret"]), self.google.secret(self.wanted["password_secret"])

    def enter(self):
        name, password = self.login()
        return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}

    def headers(self):
        return {"Authorization": basic(*self.login())}

    def strangers(self):
        yield "a caller without credentials", {}
        yield "a caller with a wrong password", {"Authorization": basic(self.login()[0], "not-the-password")}


DOORS = {"iap": Iap, "iam": Iam, "password": Password}


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class Report:
    def __init__(self):
        self.checks, self.changed = [], False

    @property
    def ok(self):
        return all(check["ok"] for check in self.checks)

    @contextlib.contextmanager
    def check(self, name):
        """Record a check. A failed one does not stop the others; what it needed may make those fail too."""
        started, entry = time.monotonic(), {"name": name, "ok": True, "detail": ""}
        try:
            yield entry
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


def wait_until_open(door):
    """Wait until the server answers its authorised client, to whom it may just have been opened."""
    while True:
        try:
            answer = requests.get(door.url + PROBE, headers=door.headers(), timeout=120, allow_redirects=False)
        except requests.RequestException as error:
            seen = explain(error)
        else:
            if answer.status_code in (200, 404):  # 404: MLflow says that the default experiment was deleted
                return
            seen = f"{answer.status_code} {' '.join(answer.text.split())[:300]}"
        if time.monotonic() > door.google.deadline:
            raise Failure(
                f"{door.url} does not let its client in after {door.wanted['timeout']} s. The last answer was: {seen}. "
                "See the logs of the service, and who has the role to get in."
            )
        time.sleep(3)


def expect_refusal(url, headers):
    """Seen status of a request that must not get through."""
    answer = requests.get(url + PROBE, headers=headers, timeout=120, allow_redirects=False)
    if answer.status_code in (401, 403):
        return f"{answer.status_code}"
    target = urlsplit(answer.headers.get("Location", "")).netloc
    if answer.status_code in (302, 303, 307) and target and target != urlsplit(url).netloc:
        return f"{answer.status_code}, sent to {target} to sign in"
    raise Failure(f"got through: {answer.status_code} {' '.join(answer.text.split())[:200]}. Nobody but members may.")


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
        wait_until_open(door)
    if not opened["ok"]:
        return
    for who, headers in door.strangers():
        with report.check(f"refused: {who}") as entry:
            entry["detail"] = expect_refusal(door.url, headers)

    os.environ.update(
        door.enter(),
        MLFLOW_TRACKING_URI=door.url,
        MLFLOW_REGISTRY_URI=door.url,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="3",
        MLFLOW_HTTP_REQUEST_TIMEOUT="180",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    )
    direct = wanted["artifacts"] == "direct"
    if direct:
        # What `gcloud auth application-default login --impersonate-service-account` does for a user, without a file.
        client = google_cloud.acting_as(wanted["client_account"])
        google.auth.default = lambda scopes=None, **_: (scoped(client, scopes), wanted["project"])

    # An experiment remembers how its artifacts travel, so each way has one of its own.
    experiment = wanted["experiment"] if direct else f"{wanted['experiment']}-proxied"
    with tempfile.TemporaryDirectory(prefix="mlflow-verify-") as folder:
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


def scoped(credentials, scopes):
    return auth_credentials.with_scopes_if_required(credentials, scopes)


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
            report.checks.append({"name": "credentials", "ok": False, "detail": explain(error), "seconds": 0})
    print(report.as_json())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
