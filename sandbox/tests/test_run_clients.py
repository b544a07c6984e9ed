# SPDX-License-Identifier: Apache-2.0
"""Cloud Run over the network: unmodified google-cloud-run (REST), requests, the browser port, and kill -9."""

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import google.auth
import pytest
import requests
from gcp_sandbox.config import Settings
from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import run_v2
from google.oauth2 import id_token

APIS = [
    f"{api}.googleapis.com" for api in ("run", "iap", "iam", "iamcredentials", "secretmanager", "storage", "sqladmin")
]
HELLO, JOB = "gcr.io/cloudrun/hello", "us-docker.pkg.dev/cloudrun/container/job"


@pytest.fixture(scope="module")
def session(cloud):
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = AuthorizedSession(credentials)
    usage = "https://serviceusage.googleapis.com/v1"
    project = f"{usage}/projects/{os.environ['GOOGLE_CLOUD_PROJECT']}"
    operation = session.post(f"{project}/services:batchEnable", json={"serviceIds": APIS}).json()
    while not operation.get("done"):
        time.sleep(0.1)
        operation = session.get(f"{usage}/{operation['name']}").json()
    return session


@pytest.fixture(scope="module")
def parent(session):
    return f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/europe-west1"


@pytest.fixture(scope="module")
def services(session):
    return run_v2.ServicesClient(transport="rest")


def hello(**fields):
    container = run_v2.Container(image=HELLO, env=[run_v2.EnvVar(name="A", value="b")])
    return run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]), **fields)


def deploy(services, parent, name, **fields):
    return services.create_service(parent=parent, service=hello(**fields), service_id=name).result(60)


def test_services_and_revisions(services, parent):
    with pytest.raises(exceptions.NotFound):
        services.get_service(name=f"{parent}/services/client")
    service = deploy(services, parent, "client", invoker_iam_disabled=True)
    assert service.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert not service.reconciling and service.observed_generation == service.generation == 1
    assert requests.get(service.uri, timeout=30).status_code == 200
    with pytest.raises(exceptions.Conflict):
        services.create_service(parent=parent, service=hello(), service_id="client")
    service.template.containers[0].env[0].value = "c"
    updated = services.update_service(service=service).result(60)
    assert updated.generation == 2
    revisions = list(run_v2.RevisionsClient(transport="rest").list_revisions(parent=service.name))
    assert [revision.name for revision in revisions] == [updated.latest_ready_revision, service.latest_ready_revision]
    assert [item.name for item in services.list_services(parent=parent)] == [service.name]
    stale = run_v2.Service(service)
    with pytest.raises(exceptions.Conflict):
        services.update_service(service=stale)
    assert services.delete_service(name=service.name).result(60).name == service.name
    with pytest.raises(exceptions.NotFound):
        services.get_service(name=service.name)


def test_a_refused_service(services, parent):
    with pytest.raises(exceptions.BadRequest, match="service_id"):
        services.create_service(parent=parent, service=hello(), service_id="Not-A-Name")


def test_a_revision_that_fails(services, parent):
    service = hello()
    service.template.containers[0].image = "europe-west1-docker.pkg.dev/missing/nothing/here:1"
    operation = services.create_service(parent=parent, service=service, service_id="broken")
    with pytest.raises(exceptions.GoogleAPICallError, match="not found"):
        operation.result(60)
    assert services.get_service(name=f"{parent}/services/broken").terminal_condition.state.name == "CONDITION_FAILED"


def test_jobs_and_executions(session, parent):
    jobs = run_v2.JobsClient(transport="rest")
    task = run_v2.TaskTemplate(containers=[run_v2.Container(image=JOB)], max_retries=0)
    body = run_v2.Job(template=run_v2.ExecutionTemplate(template=task, task_count=2))
    job = jobs.create_job(parent=parent, job=body, job_id="client").result(60)
    execution = jobs.run_job(name=job.name).result(60)
    assert execution.succeeded_count == 2
    executions = run_v2.ExecutionsClient(transport="rest")
    assert executions.get_execution(name=execution.name).completion_time == execution.completion_time
    tasks = list(run_v2.TasksClient(transport="rest").list_tasks(parent=execution.name))
    assert [item.index for item in tasks] == [0, 1]
    assert jobs.get_job(name=job.name).latest_created_execution.completion_status.name == "EXECUTION_SUCCEEDED"
    jobs.delete_job(name=job.name).result(60)


def test_an_identity_token_of_the_deployer_gets_in(services, session, parent):
    service = deploy(services, parent, "private")
    assert requests.get(service.uri, timeout=30).status_code == 403
    email = session.credentials.service_account_email
    policy = {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{email}"]}]}
    url = f"https://run.googleapis.com/v2/{service.name}:setIamPolicy"
    assert session.post(url, json={"policy": policy}).status_code == 200
    token = id_token.fetch_id_token(Request(), service.uri)
    assert requests.get(service.uri, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code == 200


def test_a_browser_without_a_proxy_signs_in_at_the_browser_port(cloud, services, session, parent):
    service = deploy(services, parent, "guarded", iap_enabled=True)
    number = service.urls[0].partition("guarded-")[2].partition(".")[0]
    usage = f"https://serviceusage.googleapis.com/v1beta1/projects/{number}/services/iap.googleapis.com"
    session.post(f"{usage}:generateServiceIdentity").raise_for_status()
    agent = f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
    grants = (
        (f"https://run.googleapis.com/v2/{service.name}", "roles/run.invoker", agent),
        (
            f"https://iap.googleapis.com/v1/projects/{number}/iap_web/cloud_run-europe-west1/services/guarded",
            "roles/iap.httpsResourceAccessor",
            "user:alice@example.com",
        ),
    )
    for url, role, member in grants:
        policy = {"bindings": [{"role": role, "members": [member]}]}
        session.post(f"{url}:setIamPolicy", json={"policy": policy}).raise_for_status()
    port = cloud.status["ports"]["browser"]
    cookies = {}

    def ask(method, url, **more):
        """As a browser does it: names below localhost are this machine."""
        parts = urlsplit(url)
        assert parts.hostname.endswith(".localhost") and parts.port == port
        headers = {"Host": parts.netloc, "Accept": "text/html", "Cookie": cookies.get(parts.hostname, "")}
        with requests.Session() as plain:
            plain.trust_env = False
            local = parts._replace(netloc=f"127.0.0.1:{port}").geturl()
            answer = plain.request(method, local, headers=headers, allow_redirects=False, timeout=30, **more)
        if answer.cookies:
            jar = dict(part.split("=", 1) for part in cookies.get(parts.hostname, "").split("; ") if part)
            jar.update(answer.cookies.get_dict())
            cookies[parts.hostname] = "; ".join(f"{name}={value}" for name, value in jar.items())
        if answer.status_code == 302:
            return ask("GET", urljoin(url, answer.headers["Location"]))
        return url, answer

    url, page = ask("GET", f"http://guarded.localhost:{port}/runs?x=1")
    assert "Sandbox sign-in" in page.text
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    url, page = ask("POST", url, data={**fields, "email": "alice@example.com"})
    assert url == f"http://guarded.localhost:{port}/runs?x=1"
    assert page.status_code == 200 and "It's running!" in page.text


def test_instances_outlive_the_daemon_and_are_taken_over(cloud, services, parent):
    service = deploy(services, parent, "durable", invoker_iam_disabled=True)
    assert requests.get(service.uri, timeout=30).status_code == 200
    before = containers()
    cloud.kill()
    assert containers() == before
    cloud.up()
    assert requests.get(service.uri, timeout=30).status_code == 200
    assert containers() == before
    assert services.get_service(name=service.name).terminal_condition.state.name == "CONDITION_SUCCEEDED"


def test_a_service_reads_what_its_account_was_granted(cloud, services, session, parent):
    """Asked from here with what the process has: its environment and its metadata server."""
    project = os.environ["GOOGLE_CLOUD_PROJECT"]
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    email = session.post(accounts, json={"accountId": "reader"}).json()["email"]
    secret = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets"
    made = session.post(f"{secret}?secretId=word", json={"replication": {"automatic": {}}})
    made.raise_for_status()
    session.post(f"{secret}/word:addVersion", json={"payload": {"data": "b3Blbg=="}}).raise_for_status()
    storage = "https://storage.googleapis.com/storage/v1/b"
    uniform = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
    session.post(f"{storage}?project={project}", json={"name": "shelf", **uniform}).raise_for_status()
    upload = "https://storage.googleapis.com/upload/storage/v1/b/shelf/o?uploadType=media&name=book"
    session.post(upload, data=b"text").raise_for_status()

    template = run_v2.RevisionTemplate(containers=[run_v2.Container(image=HELLO)], service_account=email)
    service = run_v2.Service(template=template, invoker_iam_disabled=True)
    created = services.create_service(parent=parent, service=service, service_id="reading").result(60)
    assert requests.get(created.uri, timeout=30).status_code == 200
    process = next(iter(containers("reading")))
    pairs = Path(f"/proc/{process}/environ").read_text().split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if pair)
    server = f"http://{environment['GCE_METADATA_HOST']}/computeMetadata/v1/instance/service-accounts/default"
    with requests.Session() as inside:
        inside.trust_env = False
        inside.headers["Metadata-Flavor"] = "Google"
        assert inside.get(f"{server}/email", timeout=10).text == email
        token = inside.get(f"{server}/token", timeout=10).json()["access_token"]
    with requests.Session() as inside:
        inside.trust_env = False
        inside.proxies, inside.verify = {"https": environment["HTTPS_PROXY"]}, environment["REQUESTS_CA_BUNDLE"]
        inside.headers["Authorization"] = f"Bearer {token}"
        reads = (f"{secret}/word/versions/latest:access", f"{storage}/shelf/o/book?alt=media")
        assert [inside.get(url, timeout=30).status_code for url in reads] == [403, 403]
        for url, role in (
            (f"{secret}/word:setIamPolicy", "roles/secretmanager.secretAccessor"),
            (f"{storage}/shelf/iam", "roles/storage.objectViewer"),
        ):
            policy = {"bindings": [{"role": role, "members": [f"serviceAccount:{email}"]}]}
            if url.endswith("/iam"):
                session.put(url, json=policy).raise_for_status()
            else:
                session.post(url, json={"policy": policy}).raise_for_status()
        answers = [inside.get(url, timeout=30) for url in reads]
        assert answers[0].json()["payload"]["data"] == "b3Blbg==" and answers[1].content == b"text"


def test_the_log_of_a_service_is_shown(cloud, services, parent):
    service = deploy(services, parent, "talking", invoker_iam_disabled=True)
    for path in ("first", "second"):
        requests.get(f"{service.uri}/{path}", timeout=30)
    shown = cloud.run("logs", "talking")
    assert "GET /first" in shown and "GET /second" in shown
    last = cloud.run("logs", "talking", "-n", "1")
    assert len(last.splitlines()) == 1 and "/second" in last
    following = subprocess.Popen(
        [*cloud.command, "logs", "talking", "-f", "-n", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        seen = ""
        while "/third" not in seen:
            assert time.monotonic() < deadline
            requests.get(f"{service.uri}/third", timeout=30)
            if select.select([following.stdout], [], [], 0.5)[0]:
                seen += following.stdout.readline()
    finally:
        following.kill()
        following.communicate()


def test_requests_to_services_are_listed_as_ingress(cloud, services, parent):
    service = deploy(services, parent, "counted", invoker_iam_disabled=True)
    since = str(time.time())
    for _ in range(2):
        requests.get(service.uri, timeout=30)
    assert cloud.run("requests", "--service", "ingress", "--since", since, "--count") == "2\n"
    assert "run.app" in cloud.run("requests", "--service", "ingress", "--since", "5m")


def test_everything_listens_on_this_machine_only(cloud, services, session, parent):
    """The cloud, an instance of a service with its metadata server, and a database that is open to all addresses."""
    service = deploy(services, parent, "listening", invoker_iam_disabled=True)
    assert requests.get(service.uri, timeout=30).status_code == 200
    project = os.environ["GOOGLE_CLOUD_PROJECT"]
    instances = f"https://sqladmin.googleapis.com/v1/projects/{project}/instances"
    everybody = {"authorizedNetworks": [{"value": "0.0.0.0/0"}]}
    settings = {"tier": "db-f1-micro", "ipConfiguration": everybody}
    body = {"name": "db", "region": "europe-west1", "databaseVersion": "POSTGRES_15", "settings": settings}
    session.post(instances, json=body).raise_for_status()
    while session.get(f"{instances}/db").json().get("state") != "RUNNABLE":
        time.sleep(0.2)
    (database,) = cloud.status["databases"]
    known = {*cloud.status["ports"].values(), database["port"]}
    addresses = listening(cloud.status["state"], known)
    assert known <= {port for _, port in addresses}
    assert len(addresses) >= len(known) + 2, "an instance and its metadata server"
    assert {address for address, _ in addresses} == {"127.0.0.1"}


def containers(service="durable"):
    """Process ids of everything that runs as an instance of a service."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue
        if f"K_SERVICE={service}\0".encode() in environment:
            found.add(int(folder.name))
    return found


def listening(state, ports):
    """(address, port) of the listening TCP sockets that a sandbox's processes hold or that have one of the ports."""
    found = {}
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                # words of 32 bits in the byte order of the machine
                packed = b"".join(
                    int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)
                )
                found[f"socket:[{fields[9]}]"] = (socket.inet_ntop(family, packed), int(port, 16))
    names = (state, str(Settings(state=Path(state)).runtime))
    held = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            about = (folder / "cmdline").read_text() + (folder / "environ").read_text()
            if folder.name != str(os.getpid()) and any(name in about for name in names):
                held.update(os.readlink(descriptor) for descriptor in (folder / "fd").iterdir())
    return {where for name, where in found.items() if name in held or where[1] in ports}
