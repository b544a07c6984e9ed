# SPDX-License-Identifier: Apache-2.0
"""Run `ansible-test sanity` on the collection: python scripts/sanity.py [OPTION...]

ansible-test wants a real folder named ansible_collections/NAMESPACE/NAME (it resolves links), so the files that
git knows, or would add, are copied there. It keeps a virtual environment for each of its tests in the home folder: a
home of its own in the user's cache folder leaves the user's alone, and all checkouts share what takes a minute to make.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
USER_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
HOME = USER_CACHE / "mlplatform-gcp" / "ansible-test"
PIP_VERSION = "24.2"
LEFT_OUT = ("sandbox/", "clients/", "scripts/", "tests/conformance/", "tests/integration/", "inventories/sandbox/")

# ansible-test downloads a bootstrap script of pip 24.2 from a site of its own unless it finds one in its cache; this
# one does the same with the wheel from the package index.
BOOTSTRAP = """\
import os, runpy, sys
wheel = {wheel!r}
sys.path.insert(0, wheel)
sys.argv = ["pip", "install", "--disable-pip-version-check", "--no-index", wheel]
runpy.run_module("pip", run_name="__main__")
"""


def prepare_pip() -> None:
    script = HOME / ".ansible" / "test" / "cache" / f"get_pip_{PIP_VERSION.replace('.', '_')}.py"
    if script.exists():
        return
    script.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            script.parent,
            f"pip=={PIP_VERSION}",
        ],
        check=True,
    )
    wheel = next(script.parent.glob(f"pip-{PIP_VERSION}-*.whl"))
    script.write_text(BOOTSTRAP.format(wheel=str(wheel)))


def copy_collection(target: pathlib.Path) -> int:
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    copied = 0
    for name in files:
        source = ROOT / name
        if not name or name.startswith(LEFT_OUT) or not source.is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)
        copied += 1
    return copied


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait while another checkout uses HOME: ansible-test makes its environments without a lock."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(options: list[str]) -> int:
    with one_at_a_time():
        prepare_pip()
        return check(options)


def check(options: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sanity-") as folder:
        collection = pathlib.Path(folder) / "ansible_collections" / "mlplatform" / "gcp"
        if not copy_collection(collection):
            print("no file to check: is this a git checkout?", file=sys.stderr)
            return 1
        # a repository of its own: ansible-test asks git for the files and skips everything when they are ignored
        for command in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *command], cwd=collection, check=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV"))}
        env |= {
            "HOME": str(HOME),
            "PIP_CACHE_DIR": str(USER_CACHE / "pip"),
            "PATH": f"{pathlib.Path(sys.executable).parent}:{env['PATH']}",
        }
        done = subprocess.run(
            ["ansible-test", "sanity", "--color", "no", "--python", version, *options],
            cwd=collection,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(done.stdout, end="")
        if "All targets skipped" in done.stdout or "Running sanity test" not in done.stdout:
            print("ansible-test ran no test", file=sys.stderr)
            return 1
        return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
