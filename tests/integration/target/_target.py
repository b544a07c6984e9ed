# SPDX-License-Identifier: Apache-2.0
"""Runs of the playbooks as a user starts them, and access to the state of a sandbox.

The runs have a log file, a fact cache and a HOME of the tests, and a thread records the list of processes. The last
test module (test_secrecy.py) searches all of them for secrets.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
import yaml
from ansible_collections.mlplatform.gcp.tests.integration import conftest as base
from ansible_collections.mlplatform.gcp.tests.integration.modules import _cloud
from gcp_sandbox.config import Settings

ROOT = base.ROOT
IMAGES = pathlib.Path(__file__).parent / "images"
REGION = "europe-west1"
CREDENTIALS = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
MANAGED = {"managed-by": "mlplatform-gcp"}
#: The seed of everything random in the tests.
SEED = int(os.environ.get("ENDURANCE_SEED", "8"))
DEPLOY, DESTROY, PLAN, VERIFY = (f"playbooks/{name}.yml" for name in ("deploy", "destroy", "plan", "verify"))
RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=\d+\s+failed=(?P<failed>\d+)", re.M
)
FAILURE = re.compile(r"^(?:fatal|failed): \[(?P<host>[^\] ]+)[^\]]*\].*?=> ", re.M)


def report_plan(path: pathlib.Path) -> dict[str, str]:
    """Return environment variables that enable the callback that prints the plan of a run and writes it to a file."""
    return {"ANSIBLE_CALLBACKS_ENABLED": "mlplatform.gcp.plan", "MLPLATFORM_GCP_PLAN_JSON": str(path)}


@dataclass
class Play(base.Play):
    """A finished run with one play for several hosts."""

    def changes(self, host: str) -> int:
        """Return `changed` of a host in the recap."""
        return next(int(row["changed"]) for row in RECAP.finditer(self.output) if row["host"] == host)

    def failed(self, host: str) -> bool:
        return next(row["failed"] != "0" for row in RECAP.finditer(self.output) if row["host"] == host)

    def message(self, host: str) -> str:
        """Return the messages of the failed tasks of a host."""
        found = []
        for start in FAILURE.finditer(self.output):
            if start["host"] == host:
                result, _ = json.JSONDecoder().raw_decode(self.output, start.end())
                found += [
                    result.get("msg", str(result)),
                    *(item["msg"] for item in result.get("results", []) if item.get("failed")),
                ]
        return "\n".join(found)

    def check(self) -> Play:
        assert self.ok, self
        return self

    def __str__(self) -> str:
        """Return the status, the messages of failed tasks and the end of the output, which is long at -vvvv."""
        hosts = dict.fromkeys(start["host"] for start in FAILURE.finditer(self.output))
        messages = [f"{host}: {self.message(host)}" for host in hosts]
        tail = self.output.splitlines()[-15:]
        return "\n".join([f"exit status {self.status} after {self.seconds:.1f} s", *messages, *tail])


class Run:
    """A run in progress, in its own process group."""

    def __init__(self, command: list[str], env: Mapping[str, str], output: pathlib.Path):
        self._output = output
        self._started = time.monotonic()
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> Play:
        """Kill the run and all its forks with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float = 1200) -> Play:
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        seconds = time.monotonic() - self._started
        return Play(status, self._output.read_text(errors="replace"), seconds)


class Controller:
    """The machine that runs the playbooks: starts runs and keeps their output, log, facts and home folder."""

    def __init__(self, box: Box, folder: pathlib.Path):
        self.box = box
        self.folder = folder
        self.home = folder / "home"
        self.facts = folder / "facts"
        self.log = folder / "ansible.log"
        self.outputs = folder / "outputs"
        for path in (self.home, self.facts, self.outputs):
            path.mkdir(parents=True)
        self.began = time.time()
        #: Confidential values, by name; see `collect`.
        self.confidential: dict[str, bytes] = {}
        #: The projects of these values, by ID.
        self.projects: dict[str, Project] = {}
        self.watcher = Watcher(str(folder.parent))
        self._runs = 0

    def start(
        self,
        playbook: str,
        *options: str,
        hosts: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str | None] | None = None,
        principal: str | None = None,
        verbosity: int = 0,
    ) -> Run:
        """Start ansible-playbook.

        :param hosts: variables of each host; by default the inventory of the sandbox.
        :param env: changes to the environment; None removes a variable.
        :param principal: the principal of the credentials in the environment; by default the deployer.
        :param verbosity: number of -v; 4 for a run that handles secrets or fails, so that the search for secrets covers
            the most detailed output.
        """
        self._runs += 1
        inventory = "inventories/sandbox"
        if hosts is not None:
            local = {"ansible_python_interpreter": sys.executable, "gcp_region": REGION}
            content = {"all": {"hosts": {name: local | dict(values) for name, values in hosts.items()}}}
            path = self.folder / f"inventory-{self._runs}.yml"
            path.write_text(yaml.safe_dump(content))
            inventory = str(path)
        environment = os.environ | base.BASE_ENV | self.box.env(principal) | self._environment() | (env or {})
        verbose = [f"-{'v' * verbosity}"] if verbosity else []
        return Run(
            ["ansible-playbook", "-i", inventory, playbook, *verbose, *options],
            {name: value for name, value in environment.items() if value is not None},
            self.outputs / f"{self._runs}.txt",
        )

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "ANSIBLE_LOG_PATH": str(self.log),
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.facts),
        }

    def run(self, playbook: str, *options: str, **more: Any) -> Play:
        play = self.start(playbook, *options, **more).wait()
        print(f"\n    {playbook} {' '.join(options)}: exit status {play.status} after {play.seconds:.1f} s", end="")
        return play

    def collect(self, project: Project) -> None:
        """Record the payloads of all secrets of a project; the search then includes secrets that are deleted later."""
        self.projects[project.project] = project
        for name in [name for name in project.resources() if name.startswith("secret/")]:
            for number, (_, payload) in project.secret(name.split("/")[1])["versions"].items():
                address = re.fullmatch(
                    rb"(?:postgresql\+psycopg2|mysql\+pymysql)://mlflow\w*:([^@]+)@.*", payload or b""
                )
                if address:
                    payload = address[1]
                # Addresses, user names and IDs of OAuth clients are not confidential.
                public = re.fullmatch(
                    rb"mlflow(_[a-z_]+)?|admin|gs://.*|.*\.apps\.googleusercontent\.com", payload or b""
                )
                # The payload of a blank secret is in every text.
                if payload and payload.strip() and not public:
                    self.confidential[f"{project.project} {name} version {number}"] = payload


class Watcher:
    """Record the command lines of processes ten times a second; `ps` shows them to all users of the machine.

    :param mark: text in the environment or the command line of each process of the tests: the folder of the tests.
    """

    def __init__(self, mark: str):
        self.seen: Counter[str] = Counter()
        self._mark = mark.encode()
        self._known: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            running = [name for name in os.listdir("/proc") if name.isdigit()]
            self._known = {pid: times for pid, times in self._known.items() if pid in running}
            for pid in running:
                # Read a process more than once: it starts with the command line of its parent.
                if self._known.get(pid, 0) < 5:
                    self._known[pid] = self._known.get(pid, 0) + 1
                    with contextlib.suppress(OSError):
                        self._record(pathlib.Path("/proc", pid))

    def _record(self, process: pathlib.Path) -> None:
        line = (process / "cmdline").read_bytes()
        if self._mark in line or self._mark in (process / "environ").read_bytes():
            self.seen[line.decode(errors="replace")] += 1


class Box(base.Sandbox):
    """A sandbox with access to its stored state."""

    def __init__(self, state: pathlib.Path):
        super().__init__(state)
        self._envs: dict[str | None, dict[str, str]] = {}

    def env(self, principal: str | None = None) -> dict[str, str]:
        if principal not in self._envs:
            self._envs[principal] = super().env(principal)
        return self._envs[principal]

    def latency(self, profile: str) -> None:
        """Change the latency of operations; running services and operations continue."""
        if self.options != ("--latency", profile):
            self.options = ("--latency", profile)
            self.up()

    def kill(self) -> None:
        """Kill the daemon of the sandbox with SIGKILL, but not the processes that it has started."""
        os.kill(json.loads((self.state / "daemon.json").read_text())["pid"], signal.SIGKILL)

    # Faults

    @contextlib.contextmanager
    def faults(self, *rules: Mapping[str, Any]) -> Iterator[None]:
        """Apply rules for faults to all requests."""
        self._ask("PUT", "/faults", {"rules": rules})
        try:
            yield
        finally:
            self._ask("DELETE", "/faults")

    def met_faults(self) -> list[dict[str, Any]]:
        """Return each rule, and how many requests it `matched` and was `applied` to."""
        return self._ask("GET", "/faults")["rules"]

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request to the control socket, which takes less time than a command; fail if it is rejected."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(Settings.load(self.state).runtime / "control.sock"))
            connection.request(method, path, json.dumps(body))
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status == 200, found
            return found

    # Stored state

    def _read(self, file: str, query: str, *values: Any) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(f"file:{self.state / file}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    def everything(self) -> dict[tuple[str, str], str]:
        """Return all documents and objects that the sandbox stores."""
        # Google creates its own keys of an account at their first use, and renews them.
        query = "SELECT kind, name, body FROM document WHERE kind != 'iam.systemManagedKey'"
        rows = self._read("state.sqlite3", query)
        blobs = (self.state / "objects" / "blobs").rglob("*")
        files = {("blob", path.name): str(path.stat().st_size) for path in blobs if path.is_file()}
        return {(kind, name): body for kind, name, body in rows} | files

    def document(self, kind: str, name: str) -> dict[str, Any]:
        """Return a stored document."""
        ((body,),) = self._read("state.sqlite3", "SELECT body FROM document WHERE kind=? AND name=?", kind, name)
        return json.loads(body)

    def operations(self, project: str) -> list[Operation]:
        """Return all operations in a project, sorted by their start."""
        rows = self._read("state.sqlite3", "SELECT body FROM document WHERE kind='operation' AND parent=?", project)
        found = [Operation.of(json.loads(body)) for (body,) in rows]
        return sorted(found, key=lambda operation: operation.began)

    def alter(self, kind: str, name: str, **fields: Any) -> None:
        """Change a stored document: for a state that Google Cloud sets by itself and no API can set."""
        with contextlib.closing(sqlite3.connect(self.state / "state.sqlite3", timeout=10)) as db, db:
            (body,) = db.execute("SELECT body FROM document WHERE kind=? AND name=?", (kind, name)).fetchone()
            changed = json.dumps(json.loads(body) | fields)
            db.execute("UPDATE document SET body=? WHERE kind=? AND name=?", (changed, kind, name))

    @contextlib.contextmanager
    def copies(self, kind: str, name: str, number: int) -> Iterator[None]:
        """Store copies of a document under other names, as if other users had created them; delete them at the end."""
        with contextlib.closing(sqlite3.connect(self.state / "state.sqlite3", timeout=10)) as db:
            query = "SELECT body, parent FROM document WHERE kind=? AND name=?"
            body, parent = db.execute(query, (kind, name)).fetchone()
            last = name.rsplit("/", 1)[1]
            more = [f"-{serial}" for serial in range(number)]
            copies = [(kind, name + each, parent, body.replace(last, last + each)) for each in more]
            with db:
                db.executemany("INSERT INTO document (kind, name, parent, body) VALUES (?, ?, ?, ?)", copies)
            try:
                yield
            finally:
                with db:
                    db.executemany("DELETE FROM document WHERE kind=? AND name=?", [copy[:2] for copy in copies])

    def requests_since(self, since: float, method: str = "", where: str = "") -> list[tuple[float, str, str]]:
        """Return (time, method, path) of requests since a time.

        :param method: part of the method ID.
        :param where: part of the path.
        """
        query = "SELECT time, method, path FROM request WHERE time >= ? AND instr(method, ?) AND instr(path, ?)"
        return self._read("requests.sqlite3", f"{query} ORDER BY time", since, method, where)

    def await_request(self, since: float, method: str, where: str, run: Run, *, times: int = 1) -> None:
        """Wait until the sandbox has received the request; fail if the run ends before."""
        while len(self.requests_since(since, method, where)) < times:
            assert run.running, f"ended without {method}: {run.wait()}"
            time.sleep(0.02)


@dataclass(frozen=True)
class Operation:
    """A long-running operation in the state of the sandbox; times in seconds since the epoch."""

    service: str
    job: str
    target: str
    began: float
    ended: float

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Operation:
        began = _seconds(body["created"])
        ended = _seconds(body["ended"]) if body["ended"] else float("inf")
        return cls(body["service"], body["job"] or "", body["target"], began, ended)


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


class Project(_cloud.Cloud):
    """A project, read with the APIs and the database."""

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables of a host that is deployed in this project.

        The quota project is this one: the deployer belongs to another project, where the APIs may be disabled.
        """
        return {"gcp_project": self.project, "gcp_quota_project": self.project}

    def list(self, url: str, key: str, **query: Any) -> list[dict]:
        """Return all items of a list; empty if the API is not enabled."""
        answer = self.api.get(url, params=query)
        if answer.status_code == 403 and "SERVICE_DISABLED" in answer.text:
            return []
        assert answer.ok, f"GET {url}: {answer.status_code} {answer.text}"
        assert "nextPageToken" not in answer.json(), url
        return answer.json().get(key, [])

    def resources(self) -> dict[str, dict]:
        """Return the resources of all kinds that a deployment uses, by `KIND/NAME`; each has `labels`."""
        found = {}
        for instance in self.list(f"{_cloud.SQL}/{self.home}/instances", "items"):
            found[f"instance/{instance['name']}"] = instance | {"labels": instance["settings"].get("userLabels", {})}
        for bucket in self.list(f"{_cloud.STORAGE}/b", "items", project=self.project):
            found[f"bucket/{bucket['name']}"] = bucket
        for kind, url, key in (
            ("secret", f"{_cloud.SECRETS}/{self.home}/secrets", "secrets"),
            ("repository", f"{_cloud.REGISTRY}/{self.region}/repositories", "repositories"),
            ("service", f"{_cloud.RUN}/{self.region}/services", "services"),
            ("job", f"{_cloud.RUN}/{self.region}/jobs", "jobs"),
        ):
            for item in self.list(url, key, pageSize=100):
                found[f"{kind}/{item['name'].rsplit('/', 1)[-1]}"] = item
        for account in self.list(f"{_cloud.IAM}/{self.home}/serviceAccounts", "accounts", pageSize=100):
            labels = dict(re.findall(r"([\w-]+)=([\w-]+)", account.get("description", "")))
            found[f"account/{account['email'].split('@')[0]}"] = account | {"labels": labels}
        return found

    def owned(self, deployment: str) -> dict[str, dict]:
        """Return the resources with the labels of a deployment."""
        labels = MANAGED | {"mlflow-deployment": deployment}
        return {
            name: body for name, body in self.resources().items() if labels.items() <= body.get("labels", {}).items()
        }

    def project_roles(self, member: str = "") -> set[tuple[str, str, str]]:
        """Return (role, member, condition) of the bindings on the project with `member` in the name of the member."""
        policy = self.policy(f"{_cloud.MANAGER}/v3/{self.home}")
        return {
            (binding["role"], one, binding.get("condition", {}).get("expression", ""))
            for binding in policy.get("bindings", [])
            for one in binding["members"]
            if member in one
        }

    def connect(self, instance: str, user: str, password: str, database: str = "mlflow"):
        """Return a connection to the database, with the socket of an instance of a deployed service."""
        connection = f"{self.project}:{REGION}:{instance}"
        path = next(Settings.load(self.sandbox.state).runtime.rglob(f"{connection}/.s.PGSQL.5432"))
        return psycopg2.connect(host=str(path.parent), user=user, password=password, dbname=database)

    def service(self, name: str) -> dict:
        return self.request("GET", f"{_cloud.RUN}/{self.region}/services/{name}")

    def address(self, name: str) -> str:
        return f"https://{name}-{self.number}.{REGION}.run.app"

    def signed(self, account: str, audience: str) -> str:
        """Return a JWT signed by a service account, which Identity-Aware Proxy accepts."""
        email, now = self.email(account), int(time.time())
        claims = {"iss": email, "sub": email, "aud": audience, "iat": now, "exp": now + 600}
        return self.request("POST", f"{CREDENTIALS}/{email}:signJwt", {"payload": json.dumps(claims)})["signedJwt"]

    def identity_token(self, account: str, audience: str) -> str:
        """Return an identity token of a service account."""
        body = {"audience": audience, "includeEmail": True}
        return self.request("POST", f"{CREDENTIALS}/{self.email(account)}:generateIdToken", body)["token"]


def log_a_run(box: Box, address: str, account: str) -> tuple[str, str]:
    """Log a run with the example of the README; return the IDs of its experiment and of the run."""
    command = [sys.executable, "examples/log_a_run.py", address, account]
    done = subprocess.run([*box.command, "exec", "--", *command], cwd=ROOT, check=True, capture_output=True, text=True)
    *_, experiment, _, run = done.stdout.strip().splitlines()[-1].split("/")
    return experiment, run


def find_run(project: Project, address: str, account: str, run: str) -> dict:
    """Read a run from MLflow's API at an address behind Identity-Aware Proxy."""
    url = f"{address}/api/2.0/mlflow/runs/get?run_id={run}"
    token = project.signed(account, f"{address}/*")
    answer = project.anonymous.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    return answer.json()["run"]
