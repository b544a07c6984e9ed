# SPDX-License-Identifier: Apache-2.0
"""Build the collection's artifact into build/ and check it with galaxy-importer, as Galaxy does."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
MUST_HAVE = ("README.md", "meta/runtime.yml", "plugins/modules/", "roles/", "playbooks/deploy.yml")
MUST_NOT_HAVE = ("sandbox/", "clients/", "scripts/", ".venv/", ".sandbox/", ".cache/")


def main() -> int:
    BUILD.mkdir(exist_ok=True)
    for old in BUILD.glob("mlplatform-gcp-*.tar.gz"):
        old.unlink()
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(BUILD)], cwd=ROOT, check=True
    )
    (artifact,) = BUILD.glob("mlplatform-gcp-*.tar.gz")
    with tarfile.open(artifact) as tar:
        names = tar.getnames()
    missing = [m for m in MUST_HAVE if not any(n.startswith(m) for n in names)]
    unwanted = [n for n in names if n.startswith(MUST_NOT_HAVE)]
    if missing or unwanted:
        print(f"{artifact.name}: missing {missing}, not wanted {unwanted[:5]}", file=sys.stderr)
        return 1
    print(f"{artifact.name}: {len(names)} entries, {artifact.stat().st_size // 1024} KiB")
    done = subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", str(artifact)],
        cwd=BUILD,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, end="")
    if done.returncode or "Importer processing completed successfully" not in done.stdout:
        print("galaxy-importer does not accept the artifact", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
