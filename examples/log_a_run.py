# SPDX-License-Identifier: Apache-2.0
"""Log a run to a deployed MLflow server from Python: python examples/log_a_run.py URL SERVICE_ACCOUNT

SERVICE_ACCOUNT is the deployment's account for clients. Your credentials (gcloud auth application-default login, or the
service account of the machine) need roles/iam.serviceAccountTokenCreator on it. The package mlflow-google-auth
(clients/python) detects the access control of the server, and creates and renews the tokens of the account.
"""

import os
import sys
import tempfile

# MLflow's telemetry thread changes os.environ while requests reads it, which can fail with a KeyError.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow


def main(url: str, account: str) -> None:
    os.environ["MLFLOW_TRACKING_AUTH"] = "google"
    os.environ["MLFLOW_GOOGLE_AUTH_IMPERSONATE"] = account
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("first-steps")
    with mlflow.start_run(run_name="hello") as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params({"learning_rate": 0.1, "depth": 3})
        for step in range(10):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        note = os.path.join(folder, "note.txt")
        with open(note, "w") as file:
            file.write("An artifact in the bucket.\n")
        mlflow.log_artifact(note)
    print(f"{url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1].rstrip("/"), sys.argv[2])
