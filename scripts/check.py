# SPDX-License-Identifier: Apache-2.0
"""Run the project's checks and print how long each step took: python scripts/check.py PART...|all

`endurance` is the part that `all` leaves out: it takes hours.

The same steps by hand (`make lint`, `make unit`, ...) and in CI (`make test`). A failing step does not stop
the others; the table at the end names it and the exit status is 1.

`all` runs the steps side by side from one queue, the longest first. Steps wait for the sandbox much of the time, so
one more runs than the machine has processors. A step's output is printed when the step has ended.
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
from dataclasses import dataclass, field
from typing import IO

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = sys.executable
CACHE = ROOT / ".cache"
INTEGRATION = pathlib.Path("tests/integration")
#: The variable with the path of the file of figures, see tests/conftest.py.
FIGURES = "ENDURANCE_FIGURES"


@dataclass(frozen=True)
class Step:
    """One command.

    title     for the output; unique
    weight    minutes on a machine with two processors, roughly: the heaviest steps start first
    env       changes to the environment
    sandbox   run inside `gcp-sandbox exec`, with a sandbox of its own
    """

    title: str
    command: list[str]
    weight: float = 0.1
    env: dict[str, str] = field(default_factory=dict)
    sandbox: bool = False

    @property
    def folder(self) -> pathlib.Path:
        """For what the step keeps: no two steps write to the same files."""
        return CACHE / "check" / self.title.replace(" ", "-")


def pytest(title: str, *paths: object, weight: float, args: tuple[str, ...] = ()) -> Step:
    folder = Step(title, []).folder
    command = [PYTHON, "-m", "pytest", "-q", "--durations=10", "-o", f"cache_dir={folder}", *args, *map(str, paths)]
    return Step(title, command, weight, {"COVERAGE_FILE": str(folder / "coverage")})


def endurance(title: str, *paths: object) -> Step:
    """Return a step that runs what `make test` samples, and writes figures."""
    step = pytest(title, *paths, weight=60, args=("-s", "-m", "endurance or inputs"))
    return dataclasses.replace(step, env=step.env | {FIGURES: str(step.folder / "figures.json")})


def molecule(scenario: str, weight: float) -> Step:
    return Step(f"molecule {scenario}", ["molecule", "test", "--scenario-name", scenario], weight, sandbox=True)


# The tests of the targets in two halves that share no deployment. The search for secrets ends each.
SHARED_DEPLOYMENT = ("deploy", "interruption", "composition", "browser", "changes", "access", "destroy")
SECRECY = INTEGRATION / "target" / "test_secrecy.py"
ONE_DEPLOYMENT = [INTEGRATION / "target" / f"test_{name}.py" for name in SHARED_DEPLOYMENT]
OTHER_DEPLOYMENTS = [
    path
    for path in sorted(file.relative_to(ROOT) for file in (ROOT / INTEGRATION / "target").glob("test_*.py"))
    if path not in (*ONE_DEPLOYMENT, SECRECY)
]


def others(folder: str, *names: str) -> list[pathlib.Path]:
    """Return what has tests in a folder, but for what is named."""
    found = ((ROOT / folder) / name for name in sorted(os.listdir(ROOT / folder)) if name not in names)
    tested = (path for path in found if path.match("test_*.py") or any(path.rglob("test_*.py")))
    return [path.relative_to(ROOT) for path in tested]


PARTS: dict[str, list[Step]] = {
    "lint": [
        Step("ruff check", ["ruff", "check", "."]),
        Step("ruff format", ["ruff", "format", "--check", "."]),
        Step("yamllint", ["yamllint", "--strict", "."]),
        Step("ansible-lint", ["ansible-lint", "--offline", "--profile", "production"], 0.3),
        Step("ansible-test sanity", [PYTHON, "scripts/sanity.py"], 2),
        Step("antsibull-docs lint", [PYTHON, "scripts/docs_lint.py"]),
        Step("argument specs and defaults of the roles", [PYTHON, "scripts/role_specs.py", "--check"]),
        Step("pages of the roles", [PYTHON, "scripts/role_docs.py", "--check"]),
        Step("methods of the sandbox", [PYTHON, "scripts/sandbox_methods.py", "--check"]),
        Step("language", [PYTHON, "scripts/language.py"]),
        Step("changelog lint", ["antsibull-changelog", "lint"]),
    ],
    "unit": [
        pytest(
            "unit tests of the collection",
            *others("tests/unit", "image"),
            weight=2,
            args=("--cov", "--cov-config=pyproject.toml", "--cov-report=term:skip-covered", "--cov-fail-under=95"),
        ),
        # Real servers and databases, and nothing of plugins/.
        pytest("the image's entrypoint", "tests/unit/image", weight=3),
    ],
    "client-test": [
        pytest(
            "tests of mlflow-google-auth",
            "clients/python/tests",
            weight=1,
            args=("--cov", "--cov-config=clients/python/pyproject.toml", "--cov-fail-under=90"),
        )
    ],
    "sandbox-test": [pytest("tests of the sandbox", "sandbox/tests", weight=9)],
    "conformance": [pytest("recorded traffic", "tests/conformance", weight=1, args=("-s",))],
    "integration": [
        pytest("modules in a sandbox", INTEGRATION / "modules", weight=10),
        pytest("clients in a sandbox", *others("tests/integration", "modules", "target"), weight=8),
        pytest("one deployment in a sandbox", *ONE_DEPLOYMENT, SECRECY, weight=12),
        pytest("other deployments in a sandbox", *OTHER_DEPLOYMENTS, SECRECY, weight=17),
        pytest("kills and faults in a sandbox", "tests/endurance", weight=4),
    ],
    "molecule": [molecule("building_blocks", 1), molecule("cloudrun", 1.5), molecule("appengine", 1.5)],
    "docs": [Step("documentation pages", [PYTHON, "scripts/docs.py"], 0.3)],
    "build": [
        Step("collection build and galaxy-importer", [PYTHON, "scripts/build.py"], 0.5),
        Step("wheel of mlflow-google-auth", [PYTHON, "scripts/wheel.py"]),
    ],
}

# Parts that are not in `all`.
MORE: dict[str, list[Step]] = {
    "endurance": [
        endurance("kills, faults and lost requests", "tests/endurance"),
        endurance("each offset, grant and input", "tests/integration", "tests/unit"),
        Step("figures", [PYTHON, "scripts/endurance.py"]),
    ],
}


def environment(step: Step) -> dict[str, str]:
    env = os.environ | {"PATH": f"{pathlib.Path(PYTHON).parent}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0"}
    return env | step.env


@dataclass(frozen=True)
class Done:
    part: str
    step: Step
    status: int
    seconds: float


def run(part: str, step: Step, output: IO[bytes] | None = None) -> Done:
    """Run a step; what it prints goes to `output`, or where ours goes."""
    started = time.monotonic()
    sandbox = ["gcp-sandbox", "--state", str(step.folder / "sandbox")]
    streams = {
        "cwd": ROOT,
        "env": environment(step),
        "stdin": subprocess.DEVNULL,
        "stdout": output,
        "stderr": output,
    }
    step.folder.mkdir(parents=True, exist_ok=True)
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


def announce(step: Step) -> None:
    print(f"\n=== {step.title}\n$ {shlex.join(step.command)}", flush=True)


def one_by_one(parts: list[str]) -> list[Done]:
    found = []
    for part in parts:
        for step in (PARTS | MORE)[part]:
            announce(step)
            found.append(run(part, step))
    return found


def side_by_side(lanes: int) -> list[Done]:
    """Run all steps, `lanes` at a time, the heaviest first; in the order of PARTS."""
    lock = threading.Lock()

    def work(part: str, step: Step) -> Done:
        print(f"... {step.title}", flush=True)
        with tempfile.TemporaryFile() as output:
            done = run(part, step, output)
            output.seek(0)
            with lock:
                announce(step)
                sys.stdout.buffer.write(output.read())
                sys.stdout.flush()
        return done

    steps = [(part, step) for part, steps in PARTS.items() for step in steps]
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        heaviest = sorted(steps, key=lambda item: -item[1].weight)
        futures = {step.title: pool.submit(work, part, step) for part, step in heaviest}
        return [futures[step.title].result() for _, step in steps]


def main(names: list[str]) -> int:
    wanted = list(PARTS) if names == ["all"] else names
    unknown = [n for n in wanted if n not in PARTS | MORE]
    if unknown or not wanted:
        print(f"unknown part {unknown}: choose from {', '.join(PARTS | MORE)} or all", file=sys.stderr)
        return 2
    started = time.monotonic()
    lanes = (os.cpu_count() or 1) + 1
    results = side_by_side(lanes) if names == ["all"] else one_by_one(wanted)
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
