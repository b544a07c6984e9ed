# SPDX-License-Identifier: Apache-2.0
"""Access to a project without the code under test: by Google's APIs and by database drivers."""

from __future__ import annotations

import base64
import functools
import json
import pathlib
import time

import psycopg2
import pymysql
from ansible_collections.mlplatform.gcp.tests.integration.conftest import is_done, wait_for

USAGE = "https://serviceusage.googleapis.com"
MANAGER = "https://cloudresourcemanager.googleapis.com"
IAM = "https://iam.googleapis.com/v1"
SECRETS = "https://secretmanager.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com/storage/v1"
SQL = "https://sqladmin.googleapis.com/v1"
REGISTRY = "https://artifactregistry.googleapis.com/v1"
BUILD = "https://cloudbuild.googleapis.com/v1"
RUN = "https://run.googleapis.com/v2"
APP_ENGINE = "https://appengine.googleapis.com/v1"
IAP = "https://iap.googleapis.com/v1"
REGION = "europe-west1"
DEPLOYER = "serviceAccount:deployer@mlflow-sandbox.iam.gserviceaccount.com"


class Cloud:
    """One project, read and changed with the credentials of its owner."""

    def __init__(self, sandbox, project: str, folder: pathlib.Path) -> None:
        self.api = sandbox.session()
        # The deployer belongs to another project, where the APIs may be disabled.
        self.api.headers["X-Goog-User-Project"] = project
        self.anonymous = sandbox.anonymous()
        self.sandbox = sandbox
        self.project = project
        #: Folder for files that tasks use; its variable in the playbooks is `{{ files }}`.
        self.folder = folder
        # Service Usage is enabled in every project.
        usage = self.request("GET", f"{USAGE}/v1/projects/{project}/services/serviceusage.googleapis.com")
        self.number = usage["name"].split("/")[1]
        #: Values that must not appear in any output.
        self.confidential: set[str] = set()

    # Any API

    def request(self, method: str, url: str, body=None, **more):
        """Send a request and return the JSON of the response; fail if its status is an error."""
        answer = self.api.request(method, url, json=body, **more)
        assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def get(self, url: str, **query):
        """Return the resource, or None if it does not exist."""
        answer = self.api.get(url, params=query)
        if answer.status_code == 404:
            return None
        assert answer.ok, f"GET {url}: {answer.status_code} {answer.text}"
        return answer.json()

    def make(self, url: str, body: dict, *, base: str = "", method: str = "POST", **query):
        """Create a resource; `base` is the address of the operations of a service that responds with an operation."""
        operation = self._send(lambda: self.api.request(method, url, json=body, params=query))
        if base and not is_done(operation):
            return wait_for(self.api, f"{base}/{operation['name']}")
        assert not operation.get("error"), operation
        return operation

    def _send(self, send):
        """Repeat a request until a new API or account is visible everywhere; return the JSON of the response."""
        deadline = time.monotonic() + 300
        while not (answer := send()).ok:
            passing = "SERVICE_DISABLED" in answer.text or "does not exist" in answer.text
            assert passing and time.monotonic() < deadline, answer.text
            time.sleep(0.5)
        return answer.json()

    # Names

    @property
    def home(self) -> str:
        return f"projects/{self.project}"

    @property
    def region(self) -> str:
        return f"projects/{self.project}/locations/{REGION}"

    @property
    def sql_operations(self) -> str:
        """Return the address of the operations of Cloud SQL."""
        return f"{SQL}/{self.home}/operations"

    def email(self, account: str) -> str:
        return f"{account}@{self.project}.iam.gserviceaccount.com"

    # Preparation of tests

    def enable(self, *services: str) -> None:
        names = [f"{service}.googleapis.com" for service in services]
        self.make(f"{USAGE}/v1/{self.home}/services:batchEnable", {"serviceIds": names}, base=f"{USAGE}/v1")

    def make_account(self, account: str) -> str:
        """Create a service account and return its email address."""
        return self.make(f"{IAM}/{self.home}/serviceAccounts", {"accountId": account})["email"]

    def make_key(self, email: str) -> bytes:
        """Create a key of a service account and return the key file."""
        key = self.request("POST", f"{IAM}/{self.home}/serviceAccounts/{email}/keys", {})
        return base64.b64decode(key["privateKeyData"])

    def make_secret(self, name: str, value: str) -> str:
        """Create a secret with a version and return its full resource name."""
        if self.get(f"{SECRETS}/{self.home}/secrets/{name}") is None:
            self.make(f"{SECRETS}/{self.home}/secrets", {"replication": {"automatic": {}}}, secretId=name)
        self.add_version(name, value)
        return f"{self.home}/secrets/{name}"

    def make_oauth_client(self, name: str, client_id: str, client_secret: str) -> None:
        """Create the secrets `NAME-id` and `NAME-secret` of an OAuth client."""
        self.make_secret(f"{name}-id", client_id)
        self.confidential.remove(client_id)  # users see it at sign-in
        self.make_secret(f"{name}-secret", client_secret)

    def add_version(self, name: str, value: str) -> None:
        self.confidential.add(value)
        data = base64.b64encode(value.encode()).decode()
        self.make(f"{SECRETS}/{self.home}/secrets/{name}:addVersion", {"payload": {"data": data}})

    def make_bucket(self, name: str) -> None:
        uniform = {"uniformBucketLevelAccess": {"enabled": True}}
        self.make(f"{STORAGE}/b", {"name": name, "location": REGION, "iamConfiguration": uniform}, project=self.project)

    def make_repository(self, name: str) -> None:
        self.make(f"{REGISTRY}/{self.region}/repositories", {"format": "DOCKER"}, base=REGISTRY, repositoryId=name)

    def grant(self, url: str, role: str, member: str) -> None:
        """Add a binding to a resource's policy."""
        policy = self.policy(url)
        policy.setdefault("bindings", []).append({"role": role, "members": [member]})
        if url.startswith(STORAGE):
            self._send(lambda: self.api.put(f"{url}/iam", json=policy))
        else:
            self._send(lambda: self.api.post(f"{url}:setIamPolicy", json={"policy": policy}))

    # Existing resources

    def policy(self, url: str) -> dict:
        """Return the policy of a resource, including conditions."""
        if url.startswith(STORAGE):
            return self.request("GET", f"{url}/iam?optionsRequestedPolicyVersion=3")
        if url.startswith((MANAGER, IAP)):
            return self.request("POST", f"{url}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        verb = "POST" if url.startswith(IAM) else "GET"
        return self.request(
            verb, f"{url}:getIamPolicy?options.requestedPolicyVersion=3", {} if verb == "POST" else None
        )

    def bindings(self, url: str) -> dict[str, list[str]]:
        """Return the sorted members of each role; `ROLE?TITLE` is a role with a condition of that title."""
        found = {}
        for binding in self.policy(url).get("bindings", []):
            condition = binding.get("condition")
            found[binding["role"] + (f"?{condition['title']}" if condition else "")] = sorted(binding["members"])
        return found

    def enabled(self) -> set[str]:
        """Return the short names of the enabled APIs."""
        found, page = set(), {}
        while True:
            page = self.get(
                f"{USAGE}/v1/{self.home}/services",
                filter="state:ENABLED",
                pageSize=200,
                pageToken=page.get("nextPageToken", ""),
            )
            found |= {service["config"]["name"].removesuffix(".googleapis.com") for service in page["services"]}
            if not page.get("nextPageToken"):
                return found

    def secret(self, name: str) -> dict | None:
        """Return a secret, its bindings, and state and payload of each version; an unreadable payload is None."""
        url = f"{SECRETS}/{self.home}/secrets/{name}"
        secret = self.get(url)
        if secret is None:
            return None
        versions = {}
        for version in self.get(f"{url}/versions").get("versions", []):
            number = int(version["name"].rsplit("/", 1)[-1])
            answer = self.api.get(f"{url}/versions/{number}:access")
            payload = base64.b64decode(answer.json()["payload"]["data"]) if answer.ok else None
            versions[number] = (version["state"], payload)
            if payload and len(payload) > 7:
                self.confidential.add(payload.decode(errors="replace"))
        return {"secret": secret, "versions": versions, "bindings": self.bindings(url)}

    def sql_port(self, instance: str) -> int:
        return _sql_port(self.sandbox, f"{self.project}:{REGION}:{instance}")

    def login(self, instance: str, user: str, password: str, database: str = "postgres"):
        """Return a connection to a database with an ordinary client."""
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.sql_port(instance),
            user=user,
            password=password,
            dbname=database,
            connect_timeout=60,
        )

    def can_login(self, instance: str, user: str, password: str) -> bool:
        try:
            self.login(instance, user, password).close()
        except psycopg2.OperationalError as error:
            assert "password authentication failed" in str(error), error
            return False
        return True

    def login_mysql(self, instance: str, user: str, password: str, database: str | None = None):
        """Return a connection to a database of MySQL with an ordinary client."""
        port = self.sql_port(instance)
        return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=database)

    def can_login_mysql(self, instance: str, user: str, password: str) -> bool:
        try:
            self.login_mysql(instance, user, password).close()
        except pymysql.err.OperationalError as error:
            assert "Access denied" in str(error), error
            return False
        return True

    def instances(self, service: str) -> dict[int, dict[str, str]]:
        """Return the environment of each process of the instances of a Cloud Run service, by the ID of the process."""
        found = {}
        for folder in pathlib.Path("/proc").iterdir():
            try:
                text = (folder / "environ").read_text(errors="replace") if folder.name.isdigit() else ""
            except OSError:
                continue  # the process has ended
            values = dict(item.partition("=")[::2] for item in text.split("\0"))
            if values.get("K_SERVICE") == service and str(self.sandbox.state) in values.get("SSL_CERT_FILE", ""):
                found[int(folder.name)] = values
        return found

    def instance_environment(self, service: str) -> dict[str, str]:
        """Return the environment of the process of an instance of a Cloud Run service."""
        found = self.instances(service)
        assert found, f"no instance of {service} runs"
        return found[min(found)]

    def page(self, url: str) -> tuple[int, str]:
        """Request a deployed service without credentials and return status and text."""
        answer = self.anonymous.get(url, timeout=120)
        return answer.status_code, answer.text


@functools.cache
def _sql_port(sandbox, connection: str) -> int:
    databases = json.loads(sandbox.run("status", "--json").stdout)["databases"]
    return next(item["port"] for item in databases if item["connection"] == connection)
