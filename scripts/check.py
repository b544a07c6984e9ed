# SPDX-License-Identifier: Apache-2.0
"""Run the project's checks and say how long each step took: python scripts/check.py PART...|all

The same steps by hand (`make lint`, `make unit`, ...) and in CI (`make test`). A failing step does not stop
the others; the table at the end names it and the exit status is 1.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = sys.executable
SANDBOX_STATE = ROOT / ".cache" / "check-sandbox"


@dataclass
class Step:
    title: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    again: bool = False  # what fails is run once more by itself: it says which tests depend on the machine's speed
    sandbox: bool = False  # run inside `gcp-sandbox exec`, with a sandbox of its own


def pytest(title: str, *paths: str, args: tuple[str, ...] = (), again: bool = False) -> Step:
    cache = f"cache_dir={ROOT / '.cache' / 'pytest' / paths[0].replace('/', '-')}"
    return Step(title, [PYTHON, "-m", "pytest", "-q", "--durations=10", "-o", cache, *args, *paths], again=again)


PARTS: dict[str, list[Step]] = {
    "lint": [
        Step("ruff check", ["ruff", "check", "."]),
        Step("ruff format", ["ruff", "format", "--check", "."]),
        Step("yamllint", ["yamllint", "--strict", "."]),
        Step("ansible-lint", ["ansible-lint", "--offline", "--profile", "production"]),
        Step("ansible-test sanity", [PYTHON, "scripts/sanity.py"]),
        Step(
            "antsibull-docs lint",
            [
                "antsibull-docs",
                "lint-collection-docs",
                "--plugin-docs",
                "--validate-collection-refs=self",
                "--skip-rstcheck",
                ".",
            ],
        ),
        Step("defaults, argument specs and pages of the roles", [PYTHON, "scripts/role_docs.py", "--check"]),
        Step("changelog lint", ["antsibull-changelog", "lint"]),
    ],
    "unit": [
        pytest(
            "unit tests of the collection",
            "tests/unit",
            args=("--cov", "--cov-config=pyproject.toml", "--cov-report=term:skip-covered", "--cov-fail-under=90"),
        )
    ],
    "client-test": [
        pytest(
            "tests of mlflow-google-auth",
            "clients/python/tests",
            args=("--cov", "--cov-config=clients/python/pyproject.toml", "--cov-fail-under=90"),
            again=True,
        )
    ],
    "sandbox-test": [pytest("tests of the sandbox", "sandbox/tests", again=True)],
    "conformance": [pytest("recorded traffic", "tests/conformance", args=("-s",))],
    "integration": [pytest("modules and roles in a sandbox", "tests/integration", again=True)],
    "molecule": [Step("molecule", ["molecule", "test", "--all"], sandbox=True)],
    "docs": [Step("documentation pages", [PYTHON, "scripts/docs.py"])],
    "build": [
        Step("collection build and galaxy-importer", [PYTHON, "scripts/build.py"]),
        Step("wheel of mlflow-google-auth", [PYTHON, "scripts/wheel.py"]),
    ],
}


def environment(step: Step) -> dict[str, str]:
    env = os.environ | {"PATH": f"{pathlib.Path(PYTHON).parent}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0"}
    return env | step.env


def run(step: Step) -> tuple[int, float]:
    print(f"\n=== {step.title}\n$ {shlex.join(step.command)}", flush=True)
    started = time.monotonic()
    sandbox = ["gcp-sandbox", "--state", str(SANDBOX_STATE)]
    env = environment(step)
    command = step.command
    if step.sandbox:
        subprocess.run([*sandbox, "reset"], cwd=ROOT, env=env, check=True)
        subprocess.run([*sandbox, "up", "--latency", "instant"], cwd=ROOT, env=env, check=True)
        command = [*sandbox, "exec", "--", *command]
    try:
        status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
        if status == 1 and step.again:
            print(f"\n=== {step.title}: what failed, once more by itself", flush=True)
            command = [*command, "--last-failed", "--last-failed-no-failures", "none"]
            status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
    finally:
        if step.sandbox:
            subprocess.run([*sandbox, "down"], cwd=ROOT, env=env, check=True)
    return status, time.monotonic() - started


def main(names: list[str]) -> int:
    wanted = list(PARTS) if names == ["all"] else names
    unknown = [n for n in wanted if n not in PARTS]
    if unknown or not wanted:
        print(f"unknown part {unknown}: choose from {', '.join(PARTS)} or all", file=sys.stderr)
        return 2
    results = [(part, step.title, *run(step)) for part in wanted for step in PARTS[part]]
    width = max(len(title) for _, title, _, _ in results)
    print("\n=== where the time went")
    for part, title, status, seconds in results:
        print(f"{part:13} {title:{width}} {seconds:7.1f} s  {'ok' if status == 0 else f'FAILED ({status})'}")
    print(f"{'':13} {'all':{width}} {sum(r[3] for r in results):7.1f} s")
    failed = sum(r[2] != 0 for r in results)
    print(f"\n{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
