# SPDX-License-Identifier: Apache-2.0
"""Runs of the playbooks as a user starts them, and what a sandbox shows of itself from outside.

Every run here has a log file and a fact cache and a HOME of its own, while somebody looks at the list of processes all
the time: what the last module searches for secrets.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
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
MANAGED = {"managed-by": "mlplatform-gcp"}
DEPLOY, DESTROY, PLAN, VERIFY = (f"playbooks/{name}.yml" for name in ("deploy", "destroy", "plan", "verify"))
RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=\d+\s+failed=(?P<failed>\d+)", re.M
)
FAILURE = re.compile(r"^(?:fatal|failed): \[(?P<host>[^\] ]+)[^\]]*\].*?=> ", re.M)


def report_plan(path: pathlib.Path) -> dict[str, str]:
    """Return what enables the callback that prints the plan of a run and writes it to a file."""
    return {"ANSIBLE_CALLBACKS_ENABLED": "mlplatform.gcp.plan", "MLPLATFORM_GCP_PLAN_JSON": str(path)}


@dataclass
class Play(base.Play):
    """A finished run, at most one play over several hosts."""

    def changes(self, host: str) -> int:
        """`changed` of a host in the recap."""
        return next(int(row["changed"]) for row in RECAP.finditer(self.output) if row["host"] == host)

    def failed(self, host: str) -> bool:
        return next(row["failed"] != "0" for row in RECAP.finditer(self.output) if row["host"] == host)

    def message(self, host: str) -> str:
        """What the failed tasks of a host say, as people read it."""
        found = []
        for start in FAILURE.finditer(self.output):
            if start["host"] == host:
                result, _ = json.JSONDecoder().raw_decode(self.output, start.end())
                found += [result["msg"], *(item["msg"] for item in result.get("results", []) if item.get("failed"))]
        return "\n".join(found)

    def check(self) -> Play:
        assert self.ok, self
        return self

    def __str__(self) -> str:
        """What matters of an output at -vvvv."""
        hosts = dict.fromkeys(start["host"] for start in FAILURE.finditer(self.output))
        messages = [f"{host}: {self.message(host)}" for host in hosts]
        tail = self.output.splitlines()[-15:]
        return "\n".join([f"exit status {self.status} after {self.seconds:.1f} s", *messages, *tail])


class Run:
    """A run on its way, in a process group of its own."""

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
        """As `kill -9` does, with all forks."""
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
    """The machine that playbooks are run on: starts runs and keeps everything that they leave."""

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
        #: What is confidential, by name; see `collect`.
        self.confidential: dict[str, bytes] = {}
        #: The projects that it was collected from, by id.
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

        :param hosts: variables of each host; without it the inventory of the sandbox.
        :param env: changes to the environment; None removes a variable.
        :param principal: whose credentials are in the environment; by default the deployer's.
        :param verbosity: how many -v; 4 for what handles secrets or fails, so that their search has something to find.
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
        """Remember the payloads of all secrets of a project: they are searched for also when they are gone."""
        self.projects[project.project] = project
        for name in [name for name in project.resources() if name.startswith("secret/")]:
            for number, (_, payload) in project.secret(name.split("/")[1])["versions"].items():
                address = re.fullmatch(rb"(?:postgresql\+psycopg2|mysql\+pymysql)://mlflow:([^@]+)@.*", payload or b"")
                if address:
                    payload = address[1]
                # Where things are, who logs in and which OAuth client signs people in is no secret.
                public = payload in (b"mlflow", b"admin") or re.fullmatch(
                    rb"gs://.*|.*\.apps\.googleusercontent\.com", payload or b""
                )
                # A secret that is blank on purpose is in every text.
                if payload and payload.strip() and not public:
                    self.confidential[f"{project.project} {name} version {number}"] = payload


class Watcher:
    """Looks at the command lines of processes, ten times a second; `ps` shows the same to everybody.

    :param mark: what the environment or the command line of each of our processes has: the folder of the tests.
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
                # A process is looked at more than once: it begins with the command line of the one that forked it.
                if self._known.get(pid, 0) < 5:
                    self._known[pid] = self._known.get(pid, 0) + 1
                    with contextlib.suppress(OSError):
                        self._look(pathlib.Path("/proc", pid))

    def _look(self, process: pathlib.Path) -> None:
        line = (process / "cmdline").read_bytes()
        if self._mark in line or self._mark in (process / "environ").read_bytes():
            self.seen[line.decode(errors="replace")] += 1


class Box(base.Sandbox):
    """A sandbox of which the tests see everything that it keeps."""

    def __init__(self, state: pathlib.Path):
        super().__init__(state)
        self._envs: dict[str | None, dict[str, str]] = {}

    def env(self, principal: str | None = None) -> dict[str, str]:
        if principal not in self._envs:
            self._envs[principal] = super().env(principal)
        return self._envs[principal]

    def latency(self, profile: str) -> None:
        """Let operations take another time; what runs goes on."""
        if self.options != ("--latency", profile):
            self.options = ("--latency", profile)
            self.up()

    def kill(self) -> None:
        """`kill -9` of the sandbox itself, without what it has started."""
        os.kill(json.loads((self.state / "daemon.json").read_text())["pid"], signal.SIGKILL)

    # What it keeps

    def _read(self, file: str, query: str, *values: Any) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(f"file:{self.state / file}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    def everything(self) -> dict[tuple[str, str], str]:
        """All that the sandbox knows, and all objects in it."""
        # Google makes its own keys for an account when they are first needed, and renews them.
        query = "SELECT kind, name, body FROM document WHERE kind != 'iam.systemManagedKey'"
        rows = self._read("state.sqlite3", query)
        blobs = (self.state / "objects" / "blobs").rglob("*")
        files = {("blob", path.name): str(path.stat().st_size) for path in blobs if path.is_file()}
        return {(kind, name): body for kind, name, body in rows} | files

    def operations(self, project: str) -> list[Operation]:
        """All operations in a project, in the order of their beginning."""
        rows = self._read("state.sqlite3", "SELECT body FROM document WHERE kind='operation' AND parent=?", project)
        found = [Operation.of(json.loads(body)) for (body,) in rows]
        return sorted(found, key=lambda operation: operation.began)

    def alter(self, kind: str, name: str, **fields: Any) -> None:
        """Change what the sandbox keeps behind its back: what Google Cloud does by itself and no API can ask for."""
        with contextlib.closing(sqlite3.connect(self.state / "state.sqlite3", timeout=10)) as db, db:
            (body,) = db.execute("SELECT body FROM document WHERE kind=? AND name=?", (kind, name)).fetchone()
            changed = json.dumps(json.loads(body) | fields)
            db.execute("UPDATE document SET body=? WHERE kind=? AND name=?", (changed, kind, name))

    @contextlib.contextmanager
    def copies(self, kind: str, name: str, number: int) -> Iterator[None]:
        """Let there be more of what the sandbox keeps for a while, under other names, as if others had made them."""
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

    def asked(self, since: float, method: str = "", where: str = "") -> list[tuple[float, str, str]]:
        """(time, method, path) of the requests since a time whose method id contains `method`, the path `where`."""
        query = "SELECT time, method, path FROM request WHERE time >= ? AND instr(method, ?) AND instr(path, ?)"
        return self._read("requests.sqlite3", f"{query} ORDER BY time", since, method, where)

    def await_request(self, since: float, method: str, where: str, run: Run, *, times: int = 1) -> None:
        """Return as soon as it was asked for; fails when the run ends before."""
        while len(self.asked(since, method, where)) < times:
            assert run.running, f"ended without {method}: {run.wait()}"
            time.sleep(0.02)


@dataclass(frozen=True)
class Operation:
    """A long-running operation as the sandbox has recorded it; times in seconds since the epoch."""

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
    """A project seen from outside, as a whole."""

    @property
    def variables(self) -> dict[str, str]:
        """What a host needs to be deployed into this project. The deployer belongs to another project, whose APIs would
        have to be enabled as well if requests were counted there."""
        return {"gcp_project": self.project, "gcp_quota_project": self.project}

    def list(self, url: str, key: str, **query: Any) -> list[dict]:
        """Everything at an address; nothing where the API is not enabled."""
        answer = self.api.get(url, params=query)
        if answer.status_code == 403 and "SERVICE_DISABLED" in answer.text:
            return []
        assert answer.ok, f"GET {url}: {answer.status_code} {answer.text}"
        assert "nextPageToken" not in answer.json(), url
        return answer.json().get(key, [])

    def resources(self) -> dict[str, dict]:
        """Everything that a deployment can be made of, `KIND/NAME` to its representation, with `labels` for all."""
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
        """The resources that carry the labels of a deployment."""
        labels = MANAGED | {"mlflow-deployment": deployment}
        return {
            name: body for name, body in self.resources().items() if labels.items() <= body.get("labels", {}).items()
        }

    def project_roles(self, member: str = "") -> set[tuple[str, str, str]]:
        """(role, member, condition) on the project, of the members whose name contains `member`."""
        policy = self.policy(f"{_cloud.MANAGER}/v3/{self.home}")
        return {
            (binding["role"], one, binding.get("condition", {}).get("expression", ""))
            for binding in policy.get("bindings", [])
            for one in binding["members"]
            if member in one
        }

    def connect(self, instance: str, user: str, password: str, database: str = "mlflow"):
        """A connection to the database through the socket that an instance of a deployed service has."""
        connection = f"{self.project}:{REGION}:{instance}"
        socket = next(Settings.load(self.sandbox.state).runtime.rglob(f"{connection}/.s.PGSQL.5432"))
        return psycopg2.connect(host=str(socket.parent), user=user, password=password, dbname=database)

    def service(self, name: str) -> dict:
        return self.ask("GET", f"{_cloud.RUN}/{self.region}/services/{name}")

    def address(self, name: str) -> str:
        return f"https://{name}-{self.number}.{REGION}.run.app"

    def signed(self, account: str, audience: str) -> str:
        """A JWT that a service account has signed, with which a program passes Identity-Aware Proxy."""
        email, now = self.email(account), int(time.time())
        claims = {"iss": email, "sub": email, "aud": audience, "iat": now, "exp": now + 600}
        url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:signJwt"
        return self.ask("POST", url, {"payload": json.dumps(claims)})["signedJwt"]


def log_a_run(box: Box, address: str, account: str) -> tuple[str, str]:
    """Log a run to the server at an address as the README says; the ids of its experiment and of itself."""
    command = [sys.executable, "examples/log_a_run.py", address, account]
    done = subprocess.run([*box.command, "exec", "--", *command], cwd=ROOT, check=True, capture_output=True, text=True)
    *_, experiment, _, run = done.stdout.strip().splitlines()[-1].split("/")
    return experiment, run


def find_run(project: Project, address: str, account: str, run: str) -> dict:
    """The run as MLflow's API has it at an address behind Identity-Aware Proxy."""
    url = f"{address}/api/2.0/mlflow/runs/get?run_id={run}"
    token = project.signed(account, f"{address}/*")
    answer = project.anonymous.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    return answer.json()["run"]
