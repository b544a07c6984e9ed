# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A problem of a deployment, in three parts."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """variable  the name that the user sets, or "" where no variable is at fault
    what      which value of the variable is wrong, and why
    next      what to do
    """

    variable: str
    what: str
    next: str


def shown(value, limit=120):
    """Return a value of any type as short text on one line."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=lambda other: f"<{type(other).__name__}>")
    except (TypeError, ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listed(problems, title):
    """Return problems as a numbered list below a title, each with the next step."""
    lines = [title]
    for number, problem in enumerate(problems, 1):
        lines += [f"{number}. {problem.what}", f"   -> {problem.next}"]
    return "\n".join(lines)
