# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The type of a rule, and shared rules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import shown

# Why a value does not work, as the rest of a sentence that begins with the value, and what to do.
Fault = tuple[str, str]
# Python 3.9 evaluates aliases, and has no `|` of types: the text is for type checkers.
Rule = Callable[[Any], "Fault | None"]


def like(pattern: str, why: str, next: str) -> Rule:
    """Return a rule for text that has to match a pattern as a whole."""
    compiled = re.compile(pattern)

    def rule(value: Any) -> Fault | None:
        return None if compiled.fullmatch(value) else (why, next)

    return rule


def nearest(value: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like a value, whatever its case; None if none is alike."""
    words = {word.lower(): word for word in known}
    found = difflib.get_close_matches(value.lower(), words, n=1, cutoff=0.6)
    return words[found[0]] if found else None


def name_rule(pattern: str, most: int, least: int, what: str, letters: str) -> Rule:
    """Return a rule for a name that reports a wrong length and a wrong character separately.

    :param what: the thing with its article, "a bucket".
    :param letters: which characters it takes.
    """
    compiled = re.compile(pattern)

    def rule(value: Any) -> Fault | None:
        if len(value) > most:
            return (
                f"which has {len(value)} characters, and the name of {what} has at most {most}",
                f"Use at most {most} characters.",
            )
        if compiled.fullmatch(value):
            return None
        wrong = re.search(r"[^a-z0-9-]", value)
        if wrong:
            return f"and {shown(wrong[0])} cannot be part of the name of {what}", f"Use {letters}."
        if len(value) < least:
            return f"which is too short for the name of {what}", f"Use {least} to {most} characters."
        return f"which cannot be the name of {what}", f"Use {letters}."

    return rule
