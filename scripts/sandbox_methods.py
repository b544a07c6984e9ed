# SPDX-License-Identifier: Apache-2.0
"""Write the methods that the sandbox serves into docs/sandbox.md: python scripts/sandbox_methods.py [--check]

--check writes nothing: exit status 1 when the page is out of date.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import tempfile

from gcp_sandbox.config import Settings
from gcp_sandbox.gateway.pipeline import Gateway
from gcp_sandbox.sandbox import Sandbox

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "sandbox.md"
BEGIN, END = "<!-- methods, written by scripts/sandbox_methods.py -->", "<!-- end of methods -->"


def served() -> dict[str, dict[str, set[str]]]:
    """Return the method ids that each version of each service serves."""
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(Settings(state=pathlib.Path(folder) / "sandbox"))
        try:
            gateway = Gateway(sandbox)
            if sandbox.broken:
                sys.exit(f"parts of the sandbox could not be loaded: {sandbox.broken}")
            return {
                name: {version: set(gateway.method_specs(name, version)) for version in service.versions}
                for name, service in sorted(sandbox.services.items())
                if service.versions
            }
        finally:
            sandbox.requests.close()
            sandbox.store.close()
            shutil.rmtree(sandbox.settings.runtime)


def table(services: dict[str, dict[str, set[str]]]) -> str:
    """Return the table: a row for each collection of a service and the versions that serve the same methods of it."""
    rows = ["| service | version | collection | methods |", "|---|---|---|---|"]
    for service, versions in services.items():
        found: dict[tuple[str, str], list[str]] = {}
        for version, ids in versions.items():
            collections: dict[str, list[str]] = {}
            for id in sorted(ids):
                collection, _, verb = id.rpartition(".")
                collections.setdefault(collection, []).append(verb)
            for collection, verbs in collections.items():
                found.setdefault((collection, ", ".join(f"`{verb}`" for verb in verbs)), []).append(version)
        for (collection, verbs), served_by in sorted(found.items()):
            where = f"`{collection}`" if collection else "none"
            rows.append(f"| `{service}` | {', '.join(sorted(served_by))} | {where} | {verbs} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the text of docs/sandbox.md with the current table."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.relative_to(ROOT)} lacks the lines {BEGIN!r} and {END!r}, which the table stands between")
    return f"{head}{BEGIN}\n\n{table(served())}\n\n{END}{tail}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the page is out of date")
    options = parser.parse_args(arguments)
    before = PAGE.read_text()
    after = page(before)
    if options.check and after != before:
        print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/sandbox_methods.py")
        return 1
    if not options.check:
        PAGE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
