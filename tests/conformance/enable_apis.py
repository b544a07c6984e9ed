# SPDX-License-Identifier: Apache-2.0
"""Enable the named services in the environment's project, as the project was set up before the recordings."""

import os
import sys
import time

import google.auth
import google.auth.transport.requests

credentials, _project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = google.auth.transport.requests.AuthorizedSession(credentials)
project = os.environ["GOOGLE_CLOUD_PROJECT"]
base = "https://serviceusage.googleapis.com/v1"
names = [f"{name}.googleapis.com" for name in (*sys.argv[1:], "cloudbilling", "compute")]
answer = session.post(f"{base}/projects/{project}/services:batchEnable", json={"serviceIds": names})
answer.raise_for_status()
operation = answer.json()
deadline = time.monotonic() + 120
while not operation.get("done") and time.monotonic() < deadline:
    time.sleep(0.1)
    operation = session.get(f"{base}/{operation['name']}").json()
if "error" in operation or not operation.get("done"):
    sys.exit(f"the services were not enabled: {operation}")
