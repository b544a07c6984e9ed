# SPDX-License-Identifier: Apache-2.0
"""Print the figures of the last `make endurance`: python scripts/endurance.py [--update]

--update writes them into docs/reliability.md. Exit status 1 if a figure shows a loss, or if a part has not run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import check  # noqa: E402 - scripts/ is no package

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures, written by scripts/endurance.py -->", "<!-- end of figures -->"
#: A figure -> another one that must be equal to it, or None.
COUNTED = {
    "kills": "kills survived",
    "faults": "faults survived",
    "pairs of simultaneous runs": "pairs that are one run",
    "grants removed": "removals noticed",
    "inputs tried": None,
    "calls acknowledged": None,
    "requests lost": None,
}


def collected(paths: Sequence[pathlib.Path]) -> Counter[str]:
    """Return the sums of the figures that runs of pytest have written."""
    totals: Counter[str] = Counter()
    for path in paths:
        if not path.exists():
            sys.exit(f"{path.relative_to(ROOT)} is missing: run `make endurance`")
        totals.update(json.loads(path.read_text())["totals"])
    return totals


def rows(totals: Counter[str]) -> list[tuple[str, str]]:
    """Return the name and the value of each figure that tests have reported."""
    counted = [(name, same) for name, same in COUNTED.items() if name in totals]
    return [
        (same or name, f"{totals[same]:,} of {totals[name]:,}" if same else f"{totals[name]:,}")
        for name, same in counted
    ]


def losses(totals: Counter[str]) -> list[str]:
    """Return the figures that show a loss."""
    found = [f"{same}: {totals[same]} of {totals[name]}" for name, same in COUNTED.items() if same]
    missed = [text for text in found if len({*text.partition(": ")[2].split(" of ")}) > 1]
    return missed + ([f"requests lost: {totals['requests lost']}"] if totals["requests lost"] else [])


def page(text: str, totals: Counter[str], day: datetime.date, seed: str) -> str:
    """Return the text of docs/reliability.md with the figures."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.relative_to(ROOT)} lacks the lines {BEGIN!r} and {END!r}, which the figures stand between")
    table = [f"Run of {day:%d %B %Y}, `ENDURANCE_SEED={seed}`:", "", "| figure | value |", "|---|---|"]
    table += [f"| {name} | {value} |" for name, value in rows(totals)]
    return "\n".join([f"{head}{BEGIN}", "", *table, "", f"{END}{tail}"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the figures into docs/reliability.md")
    options = parser.parse_args(arguments)
    steps = [step for step in check.MORE["endurance"] if check.FIGURES in step.env]
    totals = collected([pathlib.Path(step.env[check.FIGURES]) for step in steps])
    seed = os.environ.get("ENDURANCE_SEED", "8")
    print(f"ENDURANCE_SEED={seed}")
    for name, value in rows(totals):
        print(f"{name:26} {value}")
    if options.update:
        PAGE.write_text(page(PAGE.read_text(), totals, datetime.datetime.now(datetime.UTC).date(), seed))
    for text in losses(totals):
        print(f"LOST {text}")
    return 1 if losses(totals) else 0


if __name__ == "__main__":
    sys.exit(main())
