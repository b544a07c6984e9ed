# SPDX-License-Identifier: Apache-2.0
"""Log a run to a deployed MLflow server from Python: python examples/log_a_run.py URL SERVICE_ACCOUNT

SERVICE_ACCOUNT is the deployment's account for clients. Your own credentials (gcloud auth application-default login,
or a machine's) only need roles/iam.serviceAccountTokenCreator on it. Identity-Aware Proxy lets in a JWT that the
account has signed for the server's address; MLflow sends it as its tracking token. It lives for an hour.
"""

import json
import os
import sys
import tempfile
import time

import google.auth
import google.auth.transport.requests


def token_for(url: str, account: str) -> str:
    """A JWT for `url`, signed by the service account through the IAM Credentials API; no key file is needed."""
    credentials, _project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = google.auth.transport.requests.AuthorizedSession(credentials)
    now = int(time.time())
    claims = {"iss": account, "sub": account, "aud": f"{url}/*", "iat": now, "exp": now + 3600}
    answer = session.post(
        f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:signJwt",
        json={"payload": json.dumps(claims)},
    )
    if not answer.ok:
        raise SystemExit(f"{account} cannot sign: {answer.json()['error']['message']}")
    return answer.json()["signedJwt"]


def main(url: str, account: str) -> None:
    import mlflow

    os.environ["MLFLOW_TRACKING_TOKEN"] = token_for(url, account)
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("first-steps")
    with mlflow.start_run(run_name="hello") as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params({"learning_rate": 0.1, "depth": 3})
        for step in range(10):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        note = os.path.join(folder, "note.txt")
        with open(note, "w") as file:
            file.write("An artifact: it went to the bucket.\n")
        mlflow.log_artifact(note)
    print(f"{url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1].rstrip("/"), sys.argv[2])
