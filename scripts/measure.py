# SPDX-License-Identifier: Apache-2.0
"""`make measure`: what a run that changes nothing costs, in requests and in seconds.

Deploys the demonstration into the sandbox, then runs the same playbook again, counting the requests that the sandbox
saw. The budget: one request a resource plus 10, 6 s. Exit status 1 when it is exceeded or when something changed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
SPARE_REQUESTS = 10
SECONDS = 6.0


def sandbox(*args: str, state: str | None, capture: bool = True) -> str:
    command = [str(BIN / "gcp-sandbox"), *(["--state", state] if state else []), *args]
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout or ''}")
    return done.stdout or ""


def resource_of(request: dict) -> str:
    """The resource that a request names: host and path, with a policy or a version apart from its parent."""
    return f"{request['host']}{request['path'].split('?')[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", help="the sandbox's state folder (default: the demonstration's)")
    parser.add_argument("--runs", type=int, default=3, help="how many runs that change nothing; the median counts")
    parser.add_argument("--inventory", default="inventories/sandbox")
    args = parser.parse_args()
    play = ("exec", "--", "ansible-playbook", "-i", args.inventory, "playbooks/deploy.yml")

    sandbox("up", state=args.state, capture=False)
    print("deploying", flush=True)
    sandbox(*play, state=args.state)
    rows = []
    for _ in range(args.runs):
        sandbox("requests", "--clear", state=args.state)
        started = time.monotonic()
        output = sandbox(*play, state=args.state)
        seconds = time.monotonic() - started
        changed = sum(map(int, re.findall(r"changed=(\d+)", output)))
        seen = json.loads(sandbox("requests", "--json", state=args.state))
        rows.append((seconds, len(seen), len({resource_of(r) for r in seen}), changed))
        print(
            f"run: {seconds:.1f} s, {rows[-1][1]} requests for {rows[-1][2]} resources, changed={changed}", flush=True
        )
    seconds, count, resources, changed = sorted(rows)[len(rows) // 2]
    budget = resources + SPARE_REQUESTS
    print(f"median: {seconds:.1f} s (at most {SECONDS:.0f}), {count} requests (at most {budget}), changed={changed}")
    return 0 if seconds <= SECONDS and count <= budget and not any(r[3] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
