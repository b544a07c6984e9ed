# SPDX-License-Identifier: Apache-2.0
"""`make demo`: start the sandbox, deploy MLflow into it with the collection, verify it, and say how to use it.

Each step is an ordinary command, printed before it runs, so that it can be repeated by hand.
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
INVENTORY = "inventories/sandbox"
HOST = "demo"


def step(text: str, *command: str) -> None:
    print(f"\n==> {text}\n    $ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
    if status:
        print(
            f"\nThat failed (exit status {status}). The reason is in the lines above; more is shown by\n"
            f"    {BIN.relative_to(ROOT)}/gcp-sandbox status\n"
            f"    {BIN.relative_to(ROOT)}/gcp-sandbox requests --table\n"
            "Running `make demo` again goes on from where it stopped.",
            file=sys.stderr,
        )
        raise SystemExit(status)
    print(f"    ({time.monotonic() - started:.1f} s)", flush=True)


def status() -> dict:
    done = subprocess.run(
        [BIN / "gcp-sandbox", "status", "--json"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def host_variables() -> dict:
    """The demonstration's variables, as Ansible sees them."""
    done = subprocess.run(
        [BIN / "ansible-inventory", "-i", INVENTORY, "--host", HOST],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cloudrun", help="how MLflow runs: mlflow_target of the inventory")
    args = parser.parse_args()
    started = time.monotonic()
    play = ("gcp-sandbox", "exec", "--", "ansible-playbook", "-i", INVENTORY, "-e", f"mlflow_target={args.target}")

    step("Starting the sandbox, a local Google Cloud", "gcp-sandbox", "up")
    step(f"Deploying MLflow with the collection, target {args.target}", *play, "playbooks/deploy.yml")
    step(
        "Logging a run with MLflow's own client, and asking as somebody who may not",
        *play,
        "-e",
        "mlflow_verify_keep=true",
        "playbooks/verify.yml",
    )
    here = status()
    variables = host_variables()
    deployment = f"{HOST}-{variables.get('mlflow_env', 'dev')}"
    # App Engine's front door is named after the project, and its log after the service.
    door, log = (here["project"], "default") if args.target == "appengine" else (deployment, deployment)
    if door not in here["deployed"]:
        print(f"The sandbox runs no {door}, but {', '.join(here['deployed']) or 'nothing'}.", file=sys.stderr)
        return 1
    url = here["deployed"][door]
    client = f"{deployment}-client@{here['project']}.iam.gserviceaccount.com"
    members = ", ".join(member.partition(":")[2] for member in variables.get("mlflow_access_members", []))
    command, python = BIN.relative_to(ROOT) / "gcp-sandbox", BIN.relative_to(ROOT) / "python"
    print(f"""
MLflow runs ({time.monotonic() - started:.0f} s).

Open             http://{door}.localhost:{here["ports"]["door"]}/
Sign in as       {members or "nobody yet: set mlflow_access_members"}
                 Everybody else is refused: try bob@example.com.
Log a run        {command} exec -- {python} examples/log_a_run.py \\
                   {url} {client}
Look inside      {command} status
                 {command} requests --table
                 {command} logs {log}
Change it        edit {INVENTORY}, then `make demo` again
Stop it          make down     (data stay; `make clean` removes everything)
""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
