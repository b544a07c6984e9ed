# SPDX-License-Identifier: Apache-2.0
"""`make measure`: print what runs cost, side by side with another checkout if one is given.

Deploys the demonstration into a sandbox, lets every request take 50 ms, and measures in turn:

- a run that changes nothing: time on the clock, processor time and requests;
- `--check` of an inventory with 20 deployments that do not exist yet: the same for each deployment.

Prints the least, the median and the most of five runs, and with `--against` the ratio of the medians. Times depend on
the machine and are only printed. Exit status 1 where the run that changes nothing changed something, or sent more
requests than one for each resource and 10 more.

A resource is what a deployment has made that Google Cloud knows by a name of its own (an instance, a database, a
bucket, a secret, the latest version of a secret ...), and each policy with bindings of the deployment. All APIs count
as one, and so do all bindings of a policy. Google's APIs count them, not the collection.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPARE_REQUESTS = 10
DEPLOYMENTS = 20
OWNER = {"managed-by": "mlplatform-gcp", "mlflow-deployment": "demo"}
DEMONSTRATION = "inventories/sandbox"
PLAYBOOK = "playbooks/deploy.yml"


@dataclass(frozen=True)
class Run:
    """One run of a playbook.

    seconds     on the clock
    processor   seconds of processor time of ansible-playbook and all that it started
    requests    by service
    changed     the sum of `changed` in the recap
    """

    seconds: float
    processor: float
    requests: Counter[str]
    changed: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.processor:.1f} s of processor time, {self.requests.total()} requests, "
            f"changed={self.changed}"
        )


@dataclass(frozen=True)
class Spread:
    """The least, the median and the most of a figure of several runs."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return " ".join(f"{value:7.2f}" for value in (self.least, self.median, self.most))


#: Heading of a column and the figure of a run in it.
COLUMNS = {
    "seconds": lambda run: run.seconds,
    "processor seconds": lambda run: run.processor,
    "requests": lambda run: run.requests.total(),
}


def spreads(runs: Sequence[Run], share: int = 1) -> dict[str, Spread]:
    """Return the spread of each column of COLUMNS; `share` is how many deployments share a run."""
    return {name: Spread.of([figure(run) / share for run in runs]) for name, figure in COLUMNS.items()}


def table(title: str, measured: dict[str, Sequence[Run]], share: int = 1) -> str:
    """Return the figures of one or two checkouts, by name, as a table; with two, the ratios of first to second."""
    width = max(map(len, [title, *measured, "ratio of the medians"]))
    lines = [f"{title:{width}}" + "".join(f"  {name:>23}" for name in COLUMNS)]
    lines.append(" " * width + f"  {'least  median    most':>23}" * len(COLUMNS))
    found = {name: spreads(runs, share) for name, runs in measured.items()}
    for name, columns in found.items():
        lines.append(f"{name:{width}}" + "".join(f"  {columns[column]}" for column in COLUMNS))
    if len(found) == 2:
        ours, other = found.values()
        medians = (ratio(ours[column].median, other[column].median) for column in COLUMNS)
        lines.append(f"{'ratio of the medians':{width}}" + "".join(f"  {text:>15}        " for text in medians))
    return "\n".join(line.rstrip() for line in lines)


def ratio(ours: float, other: float) -> str:
    """Return how many times `other` `ours` is, or a dash where `other` is nothing."""
    return f"{ours / other:.2f}" if other else "-"


def problems(runs: Sequence[Run], resources: Counter[str]) -> list[str]:
    """Return what is wrong with runs that should change nothing."""
    budget = resources.total() + SPARE_REQUESTS
    found = []
    if any(run.changed for run in runs):
        found.append(f"changed={max(run.changed for run in runs)} where nothing was to change")
    if (most := max(run.requests.total() for run in runs)) > budget:
        services = ", ".join(f"{count} {name}" for name, count in runs[-1].requests.most_common())
        found.append(f"{most} requests for {resources.total()} resources: at most {budget} ({services})")
    return found


def inventory(project: str, deployments: int) -> dict:
    """Return an inventory with this many deployments, all in one project."""
    variables = {
        "gcp_project": project,
        "gcp_region": "europe-west1",
        "mlflow_access_members": ["user:alice@example.com"],
    }
    hosts = {f"team{number:02}": {} for number in range(1, deployments + 1)}
    return {"all": {"vars": variables, "hosts": hosts}}


class Sandbox:
    """A sandbox that is up, driven by the command line of a checkout, and its project as Google's APIs show it.

    :param root: the checkout, with its virtual environment in `.venv`.
    :param state: the sandbox's state folder.
    :param options: of `gcp-sandbox up`.
    """

    def __init__(self, root: pathlib.Path, state: pathlib.Path, *options: str) -> None:
        self.root = root
        self._bin = root / ".venv" / "bin"
        self._command = [str(self._bin / "gcp-sandbox"), "--state", str(state)]
        self.up(*options)
        self.environment = json.loads(self._ask("env", "--json"))
        self.project = self.environment["GCP_PROJECT"]

    def up(self, *options: str) -> None:
        subprocess.run([*self._command, "up", *options], cwd=self.root, check=True, stdout=subprocess.DEVNULL)

    def down(self) -> None:
        subprocess.run([*self._command, "down"], cwd=self.root, check=True, stdout=subprocess.DEVNULL)

    def _ask(self, *args: str) -> str:
        command = [*self._command, *args]
        return subprocess.run(command, cwd=self.root, check=True, stdout=subprocess.PIPE, text=True).stdout

    def playbook(self, inventory: str, *options: str) -> Run:
        """Run playbooks/deploy.yml."""
        command = ["ansible-playbook", "-i", inventory, PLAYBOOK, *options]
        path = f"{self._bin}:{os.environ['PATH']}"
        began, started = time.time(), time.monotonic()
        process = subprocess.Popen(
            [str(self._bin / command[0]), *command[1:]],
            cwd=self.root,
            env=os.environ | self.environment | {"PATH": path, "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process.stdout:
            output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{PLAYBOOK} failed:\n{output}")
        seen = map(json.loads, self._ask("requests", "--json", "--since", str(began)).splitlines())
        return Run(
            seconds,
            usage.ru_utime + usage.ru_stime,
            Counter(row["service"] for row in seen if row["agent"].startswith("mlplatform.gcp/")),
            sum(map(int, re.findall(r"changed=(\d+)", output))),
        )

    def resources(self) -> Counter[str]:
        """Return how many resources of each kind carry the labels of the deployment."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            return self._resources()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _resources(self) -> Counter[str]:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        session = AuthorizedSession(credentials)

        def ask(url: str, method: str = "GET") -> dict:
            answer = session.request(method, f"https://{url}", json={} if method == "POST" else None)
            answer.raise_for_status()
            return answer.json()

        def owned(url: str, key: str, labels=lambda item: item.get("labels", {})) -> list[dict]:
            return [item for item in ask(url).get(key, []) if OWNER.items() <= labels(item).items()]

        home = f"projects/{self.project}"
        number = ask(f"cloudresourcemanager.googleapis.com/v3/{home}")["name"].split("/")[-1]
        region = f"{home}/locations/europe-west1"
        sql, run = "sqladmin.googleapis.com/v1", "run.googleapis.com/v2"
        registry, storage = "artifactregistry.googleapis.com/v1", "storage.googleapis.com/storage/v1"
        secrets, iam = "secretmanager.googleapis.com/v1", "iam.googleapis.com/v1"

        found, policies = Counter(APIs=1), []
        instances = owned(f"{sql}/{home}/instances", "items", lambda item: item["settings"].get("userLabels", {}))
        for instance in instances:
            inside = f"{sql}/{home}/instances/{instance['name']}"
            # Every server has a database and a user of its own, `postgres`.
            for kind in ("databases", "users"):
                found[kind] = sum(item["name"] != "postgres" for item in ask(f"{inside}/{kind}")["items"])
        found["instances"] = len(instances)
        for kind, url, policy in (
            ("buckets", f"{storage}/b?project={self.project}", storage + "/b/{name}/iam"),
            ("secrets", f"{secrets}/{home}/secrets", secrets + "/{name}:getIamPolicy"),
            ("repositories", f"{registry}/{region}/repositories", registry + "/{name}:getIamPolicy"),
            ("services", f"{run}/{region}/services", run + "/{name}:getIamPolicy"),
            ("jobs", f"{run}/{region}/jobs", run + "/{name}:getIamPolicy"),
        ):
            items = owned(url, "items" if kind == "buckets" else kind)
            found[kind] = len(items)
            policies += [("GET", policy.format(**item)) for item in items]
            for item in items if kind == "repositories" else ():
                found["images"] = len(ask(f"{registry}/{item['name']}/dockerImages").get("dockerImages", []))
            if kind == "secrets":
                versions = [ask(f"{secrets}/{item['name']}/versions?filter=state:ENABLED") for item in items]
                found["versions of secrets"] = sum("versions" in answer for answer in versions)
            for item in items if kind == "services" else ():
                web = f"projects/{number}/iap_web/cloud_run-europe-west1/services/{item['name'].split('/')[-1]}"
                policies.append(("POST", f"iap.googleapis.com/v1/{web}:getIamPolicy"))
                found["service agents"] = int(item.get("iapEnabled", False))
        accounts = [
            account
            for account in ask(f"{iam}/{home}/serviceAccounts")["accounts"]
            if all(f"{key}={value}" in account.get("description", "") for key, value in OWNER.items())
        ]
        found["service accounts"] = len(accounts)
        policies += [("POST", f"{iam}/{account['name']}:getIamPolicy") for account in accounts]
        found["policies"] = sum("bindings" in ask(url, method) for method, url in policies)
        # The project's policy has bindings of others, too.
        policy = ask(f"cloudresourcemanager.googleapis.com/v3/{home}:getIamPolicy", "POST")
        found["policies"] += any(account["email"] in json.dumps(policy) for account in accounts)
        return found


def commit(root: pathlib.Path) -> str:
    command = ["git", "describe", "--always", "--dirty", "--tags"]
    return subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def checkout(place: str) -> pathlib.Path:
    """Return another checkout with a virtual environment: a folder, or a worktree of a tag or commit."""
    root = pathlib.Path(place).resolve()
    if not root.is_dir():
        command = ["git", "rev-parse", "--short", "--verify", f"{place}^{{commit}}"]
        found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if found.returncode:
            raise SystemExit(f"{place} is neither a folder nor a commit")
        root = ROOT / ".cache" / "measure" / found.stdout.strip()
        if not root.exists():
            subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
            subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, place], cwd=ROOT, check=True)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != str(ROOT / ".venv" / "bin"))
    subprocess.run(["make", "--silent", "venv"], cwd=root, check=True, env=os.environ | {"PATH": path})
    return root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="PATH_OR_REF", help="another checkout, or a tag or commit of this one")
    parser.add_argument("--rtt", default="50ms", help="time that each request takes (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind (default: %(default)s)")
    parser.add_argument(
        "--deployments", type=int, default=DEPLOYMENTS, help="how many are checked in one run (default: %(default)s)"
    )
    args = parser.parse_args()
    roots = [ROOT, *([checkout(args.against)] if args.against else [])]
    boxes: dict[str, Sandbox] = {}
    try:
        for number, root in enumerate(roots):
            name = f"{'this' if number == 0 else 'the other'}: {commit(root)}"
            boxes[name] = Sandbox(root, root / ".cache" / "measure" / "state", "--latency", "instant", "--rtt", "0ms")
            print(f"{name}: deployed: {boxes[name].playbook(DEMONSTRATION)}", flush=True)
            boxes[name].up("--latency", "instant", "--rtt", args.rtt)
        return compare(boxes, args.runs, args.deployments, args.rtt)
    finally:
        for box in boxes.values():
            box.down()


def compare(boxes: dict[str, Sandbox], runs: int, deployments: int, rtt: str) -> int:
    """Measure in turn and print; return the exit status."""
    unchanged: dict[str, list[Run]] = {name: [] for name in boxes}
    checked: dict[str, list[Run]] = {name: [] for name in boxes}
    resources = {name: box.resources() for name, box in boxes.items()}
    for number in range(1, runs + 1):
        for name, box in boxes.items():
            unchanged[name].append(box.playbook(DEMONSTRATION))
            print(f"{name}: run {number}: {unchanged[name][-1]}", flush=True)
    for number in range(1, runs + 1):
        for name, box in boxes.items():
            path = box.root / ".cache" / "measure" / "deployments.yml"
            path.write_text(yaml.safe_dump(inventory(box.project, deployments)))
            checked[name].append(box.playbook(str(path), "--check"))
            print(f"{name}: check {number}: {checked[name][-1]}", flush=True)
    print(f"\n{table(f'a run that changes nothing, {rtt} a request', unchanged)}")
    print(f"\n{table(f'--check of {deployments} deployments, each', checked, deployments)}\n")
    for name, found in resources.items():
        listed = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
        print(f"{name}: {found.total()} resources: {listed}")
    ours = next(iter(boxes))
    found = problems(unchanged[ours], resources[ours])
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
