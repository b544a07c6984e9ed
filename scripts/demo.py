# SPDX-License-Identifier: Apache-2.0
"""`make demo`: deploy MLflow into the sandbox with the collection, verify it, and print how to use it.

Each step is an ordinary command, printed before it runs, so that you can repeat it by hand. The script starts before
the virtual environment exists, so it imports only the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
INVENTORY = "inventories/sandbox"
HOST = "demo"
DEFAULT = "cloudrun"


@dataclass(frozen=True)
class Deployment:
    """The demonstration's deployment: its name, the status of the sandbox, and Ansible's variables."""

    name: str
    sandbox: dict
    variables: dict


@dataclass(frozen=True)
class Target:
    """What differs between targets at the end of the demonstration.

    label     name of the server in the sandbox: its browser address and its key in the sandbox's status
    address   address of the server, the one that the playbooks print
    log       argument of `gcp-sandbox logs`
    """

    label: Callable[[Deployment], str]
    address: Callable[[Deployment, str], str]
    log: Callable[[Deployment], str]


def _cloud_run_address(deployment: Deployment, _url: str) -> str:
    # The service has two addresses; the sandbox's status has the other one.
    number, region = deployment.sandbox["project_number"], deployment.variables["gcp_region"]
    return f"https://{deployment.name}-{number}.{region}.run.app"


TARGETS = {
    "cloudrun": Target(label=lambda d: d.name, address=_cloud_run_address, log=lambda d: d.name),
    "appengine": Target(label=lambda d: d.sandbox["project"], address=lambda _d, url: url, log=lambda _d: "default"),
}


def again(target: str) -> str:
    """Return the command that runs the demonstration of a target."""
    return "make demo" if target == DEFAULT else f"make demo target={target}"


def step(text: str, *command: str, hint: str) -> None:
    """Run a command and print its duration; exit with its status if it fails."""
    print(f"\n==> {text}\n    $ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
    if status:
        print(f"\nThis step failed with exit status {status}. {hint}", file=sys.stderr)
        raise SystemExit(status)
    print(f"    ({time.monotonic() - started:.1f} s)", flush=True)


def output(*command: str) -> dict:
    """Return the JSON that a command prints."""
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def closing(target: str, deployment: Deployment, seconds: float) -> str:
    """Return the closing text: the address of the server and the commands to use it."""
    how = TARGETS[target]
    label = how.label(deployment)
    url = how.address(deployment, deployment.sandbox["deployed"][label])
    project = deployment.sandbox["project"]
    members = ", ".join(m.partition(":")[2] for m in deployment.variables.get("mlflow_access_members", []))
    command, python = BIN.relative_to(ROOT) / "gcp-sandbox", BIN.relative_to(ROOT) / "python"
    return f"""
MLflow is deployed at {url} ({seconds:.0f} s).

Browser          http://{label}.localhost:{deployment.sandbox["ports"]["browser"]}/
                 This is the same server: a browser has no access to the sandbox's network.
Sign in as       {members or "no user has access: set mlflow_access_members"}
                 Other users are rejected, for example bob@example.com.
Log a run        {command} exec -- {python} examples/log_a_run.py \\
                   {url} {deployment.name}-client@{project}.iam.gserviceaccount.com
Inspect          {command} status
                 {command} requests --table
                 {command} logs {how.log(deployment)}
Change           edit {INVENTORY}, then run `{again(target)}` again
Stop             make down     (keeps the data; `make clean` deletes it)
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=DEFAULT, help="mlflow_target of the deployment")
    target = parser.parse_args(arguments).target
    if target not in TARGETS:
        print(f"Unknown target {target!r}. Use target={' or target='.join(TARGETS)}.", file=sys.stderr)
        return 2
    started = time.monotonic()
    play = ("gcp-sandbox", "exec", "--", "ansible-playbook", "-i", INVENTORY, "-e", f"mlflow_target={target}")
    command = BIN.relative_to(ROOT) / "gcp-sandbox"
    hint = f"The reason is in the lines above. Run `{again(target)}` again to continue."
    details = f"{hint}\nFor details run\n    {command} status\n    {command} requests --table"

    step("Install the packages", "make", "--no-print-directory", "venv", hint=hint)
    step("Start the sandbox, a local Google Cloud", "gcp-sandbox", "up", hint=details)
    step(f"Deploy MLflow with the collection, target {target}", *play, "playbooks/deploy.yml", hint=details)
    step(
        "Log a run with MLflow's client, and send unauthorized requests",
        *play,
        "-e",
        "mlflow_verify_keep=true",
        "playbooks/verify.yml",
        hint=details,
    )
    variables = output("ansible-inventory", "-i", INVENTORY, "--host", HOST)
    deployment = Deployment(
        f"{HOST}-{variables.get('mlflow_env', 'dev')}", output("gcp-sandbox", "status", "--json"), variables
    )
    print(closing(target, deployment, time.monotonic() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main())
