# SPDX-License-Identifier: Apache-2.0
"""Check the deployment with Google's APIs, and send an unauthorized request."""

import google.auth
import requests
from google.auth.transport.requests import AuthorizedSession

NAME = "molecule-dev"


def checks(project, region):
    credentials, _project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = AuthorizedSession(credentials)

    def ask(address):
        answer = session.get(f"https://{address}")
        answer.raise_for_status()
        return answer.json()

    application = ask(f"appengine.googleapis.com/v1/apps/{project}")
    service = f"appengine.googleapis.com/v1/apps/{project}/services/default"
    yield "application in the requested location", application["locationId"] == region.rstrip("1")
    yield "Identity-Aware Proxy is on", application["iap"]["enabled"]
    (version,) = ask(f"{service}/versions?view=FULL")["versions"]
    yield "all traffic goes to the version", ask(service)["split"]["allocations"] == {version["id"]: 1}
    yield "image with a digest", "@sha256:" in version["deployment"]["container"]["image"]
    yield "1 CPU and 2 GB", (version["resources"]["cpu"], version["resources"]["memoryGb"]) == (1, 2)
    scaling = version["automaticScaling"]
    yield "1 to 4 instances", (scaling["minTotalInstances"], scaling["maxTotalInstances"]) == (1, 4)
    yield "dedicated service account", version["serviceAccount"].startswith(f"{NAME}-server@")
    yield (
        "health checks at /health",
        {version[f"{kind}Check"]["path"] for kind in ("readiness", "liveness")} == {"/health"},
    )
    yield "password from a secret", "/secrets/" in version["envVariables"]["DB_PASSWORD_SECRET_NAME"]
    instance = ask(f"sqladmin.googleapis.com/v1/projects/{project}/instances/{NAME}")
    yield "MySQL 8.0", instance["databaseVersion"] == "MYSQL_8_0"
    yield "MySQL with binary logs", instance["settings"]["backupConfiguration"]["binaryLogEnabled"]
    bucket = ask(f"storage.googleapis.com/storage/v1/b/{project}-{NAME}-artifacts")
    yield "bucket in the EU", bucket["location"] == "EU"
    secret = ask(f"secretmanager.googleapis.com/v1/projects/{project}/secrets/{NAME}-db-password")
    replicas = secret["replication"]["userManaged"]["replicas"]
    yield "password only in the region", [replica["location"] for replica in replicas] == [region]
    answer = requests.get(f"https://{application['defaultHostname']}/", allow_redirects=False, timeout=60)
    yield (
        "an unauthorized request is redirected to the sign-in page",
        answer.status_code == 302 and "accounts.google.com" in answer.headers["Location"],
    )
