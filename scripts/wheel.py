# SPDX-License-Identifier: Apache-2.0
"""Build the wheel of clients/python into build/ and load from it what MLflow loads."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
# Run with the wheel unpacked in front of everything else.
CHECK = """
import importlib.metadata, pathlib, sys
home = pathlib.Path(sys.argv[1]).resolve()
about = importlib.metadata.distribution("mlflow-google-auth")
assert pathlib.Path(about.locate_file("")).resolve() == home, f"{about.locate_file('')} is in front of the wheel"
needs = sorted(need.partition(">")[0] for need in about.requires)
assert needs == ["google-auth", "requests"], f"depends on {needs}"
assert about.metadata["Requires-Python"] == ">=3.10", about.metadata["Requires-Python"]
assert about.metadata["License"] == "Apache-2.0"
groups = {"mlflow.request_header_provider": "google", "mlflow.request_auth_provider": "google",
          "console_scripts": "mlflow-google-auth"}
for group, name in groups.items():
    found = about.entry_points.select(group=group, name=name)
    assert len(found) == 1, f"entry point {name} of {group}"
    loaded = next(iter(found)).load()
    assert pathlib.Path(sys.modules[loaded.__module__].__file__).resolve().is_relative_to(home), loaded.__module__
    print(f"{group}: {loaded.__module__}.{loaded.__qualname__}")
"""


def main() -> int:
    BUILD.mkdir(exist_ok=True)
    for old in BUILD.glob("mlflow_google_auth-*"):
        old.unlink()
    subprocess.run(["uv", "build", "--quiet", "--out-dir", str(BUILD), "clients/python"], cwd=ROOT, check=True)
    (BUILD / ".gitignore").unlink(missing_ok=True)  # uv's; the folder is ignored already
    (wheel,) = BUILD.glob("mlflow_google_auth-*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size // 1024} KiB")
    with tempfile.TemporaryDirectory() as folder:
        install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--target", folder]
        subprocess.run([*install, str(wheel)], check=True)
        env = os.environ | {"PYTHONPATH": folder}
        return subprocess.run([sys.executable, "-c", CHECK, folder], cwd=folder, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
