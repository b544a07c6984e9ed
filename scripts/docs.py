# SPDX-License-Identifier: Apache-2.0
"""Build the pages of modules, plugins and roles into build/site/build/html."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"


def main() -> int:
    if SITE.exists():
        shutil.rmtree(SITE)
    SITE.mkdir(parents=True, mode=0o755)
    init = [
        "sphinx-init",
        "--lenient",
        "--use-current",
        "--squash-hierarchy",
        "--sphinx-theme",
        "alabaster",
        "--dest-dir",
        str(SITE),
        "mlplatform.gcp",
    ]
    subprocess.run(["antsibull-docs", *init], cwd=ROOT, check=True)
    subprocess.run(["bash", str(SITE / "build.sh")], cwd=SITE, check=True)
    index = SITE / "build" / "html" / "index.html"
    modules = sorted(p.stem for p in (ROOT / "plugins" / "modules").glob("*.py") if p.stem != "__init__")
    lost = [m for m in modules if not (index.parent / f"{m}_module.html").is_file()]
    if not index.is_file() or lost:
        print(f"no page for {lost or 'the collection'}", file=sys.stderr)
        return 1
    print(f"{index.relative_to(ROOT)}: {len(modules)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
