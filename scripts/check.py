# SPDX-License-Identifier: Apache-2.0
"""Run the project's checks and say how long each step took: python scripts/check.py PART...|all

The same steps by hand (`make lint`, `make unit`, ...) and in CI (`make test`). A failing step does not stop
the others; the table at the end names it and the exit status is 1.

`all` runs two lanes side by side, one for each of two cores: much of the time something waits for something else. A
step's output is shown when it has ended. Tests that depend on the machine's speed are run once more by themselves at
the end where they failed.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO

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
        Step("language", [PYTHON, "scripts/language.py"]),
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

# What `all` runs side by side: the integration tests take as long as everything else.
LANES = (("integration",), tuple(part for part in PARTS if part != "integration"))


def environment(step: Step) -> dict[str, str]:
    env = os.environ | {"PATH": f"{pathlib.Path(PYTHON).parent}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0"}
    return env | step.env


@dataclass
class Done:
    part: str
    step: Step
    status: int
    seconds: float


def run(part: str, step: Step, output: IO[bytes] | None = None) -> Done:
    """Run a step; what it prints goes to `output`, or where ours goes."""
    started = time.monotonic()
    sandbox = ["gcp-sandbox", "--state", str(SANDBOX_STATE)]
    env = environment(step)
    streams = {"cwd": ROOT, "env": env, "stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
    command = step.command
    if step.sandbox:
        subprocess.run([*sandbox, "reset"], check=True, **streams)
        subprocess.run([*sandbox, "up", "--latency", "instant"], check=True, **streams)
        command = [*sandbox, "exec", "--", *command]
    try:
        status = subprocess.run(command, **streams).returncode
    finally:
        if step.sandbox:
            subprocess.run([*sandbox, "down"], check=True, **streams)
    return Done(part, step, status, time.monotonic() - started)


def announce(step: Step, what: str = "") -> None:
    print(f"\n=== {step.title}{what}\n$ {shlex.join(step.command)}", flush=True)


def one_by_one(parts: list[str]) -> list[Done]:
    found = []
    for part in parts:
        for step in PARTS[part]:
            announce(step)
            found.append(run(part, step))
    return found


def side_by_side() -> list[Done]:
    """All parts, a thread a lane."""
    lock = threading.Lock()

    def lane(parts: Iterable[str]) -> list[Done]:
        found = []
        for part in parts:
            for step in PARTS[part]:
                print(f"... {step.title}", flush=True)
                with tempfile.TemporaryFile() as output:
                    found.append(run(part, step, output))
                    output.seek(0)
                    with lock:
                        announce(step)
                        sys.stdout.buffer.write(output.read())
                        sys.stdout.flush()
        return found

    with concurrent.futures.ThreadPoolExecutor(len(LANES)) as pool:
        return [done for found in pool.map(lane, LANES) for done in found]


def once_more(done: Done) -> Done:
    """Run by themselves the tests that failed, if they depend on the machine's speed."""
    if done.status != 1 or not done.step.again:
        return done
    command = [*done.step.command, "--last-failed", "--last-failed-no-failures", "none"]
    step = dataclasses.replace(done.step, command=command)
    announce(step, ": what failed, once more by itself")
    again = run(done.part, step)
    return dataclasses.replace(done, status=again.status, seconds=done.seconds + again.seconds)


def main(names: list[str]) -> int:
    wanted = list(PARTS) if names == ["all"] else names
    unknown = [n for n in wanted if n not in PARTS]
    if unknown or not wanted:
        print(f"unknown part {unknown}: choose from {', '.join(PARTS)} or all", file=sys.stderr)
        return 2
    started = time.monotonic()
    found = side_by_side() if names == ["all"] else one_by_one(wanted)
    results = [once_more(done) for done in found]
    width = max(len(done.step.title) for done in results)
    print("\n=== where the time went")
    for done in results:
        word = "ok" if done.status == 0 else f"FAILED ({done.status})"
        print(f"{done.part:13} {done.step.title:{width}} {done.seconds:7.1f} s  {word}")
    print(f"{'':13} {'all':{width}} {time.monotonic() - started:7.1f} s")
    failed = sum(done.status != 0 for done in results)
    print(f"\n{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
