# SPDX-License-Identifier: Apache-2.0
"""The language of Dockerfiles and .dockerignore files, as far as it can be read without running anything.

What the instructions do is in images.py. The rules are those of docs.docker.com/reference/dockerfile and
docs.docker.com/build/concepts/context/#dockerignore-files.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


class BuildError(Exception):
    """A build that cannot go on; the message is the last line of its log, in Docker's words where it has some."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, its --flags, the rest of its text, and where it stands."""

    name: str
    flags: Mapping[str, str]
    text: str
    line: int
    source: str

    def words(self, expand: Callable[[str], str] = lambda text: text) -> list[str]:
        """Return the arguments, from the JSON form or split at spaces as a shell does."""
        listed = self.exec_form()
        return [expand(word) for word in listed] if listed is not None else split(expand(self.text), self)

    def exec_form(self) -> list[str] | None:
        """Return the arguments of the JSON form, None for the shell form."""
        if not self.text.startswith("["):
            return None
        try:
            value = json.loads(self.text)
        except ValueError:
            return None
        return value if all(isinstance(item, str) for item in value) else None


def split(text: str, instruction: Instruction) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BuildError(f"dockerfile parse error on line {instruction.line}: {error}") from error


def parse(text: str) -> list[Instruction]:
    """Return the instructions in order.

    Raises BuildError for an empty file, an unknown instruction and what BuildKit alone understands (here-documents).
    """
    found: list[Instruction] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        # Comment lines and empty lines may stand inside a continued instruction.
        if not stripped or stripped.startswith("#"):
            continue
        start = start or number
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        found.append(_instruction(pending + stripped, start))
        pending, start = "", 0
    if pending:
        found.append(_instruction(pending.strip(), start))
    if not found:
        raise BuildError("the Dockerfile cannot be empty")
    return found


def _instruction(source: str, line: int) -> Instruction:
    name, _, rest = source.partition(" ")
    name = name.upper()
    if name not in INSTRUCTIONS:
        raise BuildError(f"dockerfile parse error on line {line}: unknown instruction: {name}")
    flags: dict[str, str] = {}
    rest = rest.strip()
    while found := re.match(r"--([a-z-]+)(?:=(\S+))?\s+", rest):
        flags[found[1]] = found[2] or "true"
        rest = rest[found.end() :]
    if not rest:
        raise BuildError(f"dockerfile parse error on line {line}: {name} requires at least one argument")
    if name in ("RUN", "COPY", "ADD") and re.search(r"(^|\s)<<-?[\"']?\w", rest):
        raise BuildError(f"line {line}: here-documents are not understood by the sandbox; use separate instructions")
    return Instruction(name, flags, rest, line, source)


def assignments(instruction: Instruction, expand: Callable[[str], str]) -> dict[str, str]:
    """`A=1 B="2 3"`, and the old form `A 1` of ENV and LABEL."""
    first = instruction.text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise BuildError(f"line {instruction.line}: {instruction.name} must have two arguments")
        return {first[0]: expand(first[1])}
    # Values are expanded before quotes are taken off, so that single quotes can protect a dollar sign.
    pairs = [word.partition("=") for word in split(expand(instruction.text), instruction)]
    bad = next((name for name, equals, _ in pairs if not equals), None)
    if bad:
        raise BuildError(f"line {instruction.line}: can't find = in {bad!r}. Must be of the form: name=value")
    return {name: value for name, _, value in pairs}


_VARIABLE = re.compile(r"\\\$|'[^']*'|\$(?:(\w+)|\{(\w+)(?:(:[-+])([^}]*))?\})")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with $X, ${X}, ${X:-default} and ${X:+other} replaced; what is unknown is empty."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "\\$":
            return "$"
        name = found[1] or found[2]
        if name is None:  # in single quotes
            return found[0]
        known = variables.get(name, "")
        if found[3] == ":-":
            return known or found[4]
        if found[3] == ":+":
            return found[4] if known else ""
        return known

    return _VARIABLE.sub(value, text)


class Ignore:
    """A .dockerignore file: which paths of the context (relative, with slashes) a build does not see."""

    def __init__(self, text: str = "") -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines():
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            exception = pattern.startswith("!")
            pattern = pattern.lstrip("!").strip().strip("/")
            if pattern and pattern != ".":
                self._rules.append((exception, re.compile(glob(str(PurePosixPath(pattern))))))

    def __call__(self, path: str) -> bool:
        """Return whether `path` is left out. The last rule that fits it, or a folder it is in, decides."""
        pure = PurePosixPath(path)
        candidates = [path, *(str(parent) for parent in pure.parents if str(parent) != ".")]
        left_out = False
        for exception, rule in self._rules:
            if any(rule.fullmatch(candidate) for candidate in candidates):
                left_out = not exception
        return left_out


def glob(pattern: str) -> str:
    """Return a regular expression for Go's path patterns: * and ? stop at slashes, ** does not, [...] is a class."""
    out, rest = "", pattern
    while rest:
        if found := re.match(r"\*\*/?", rest):
            out += "(?:.*/)?" if found[0].endswith("/") else ".*"
        elif found := re.match(r"\*", rest):
            out += "[^/]*"
        elif found := re.match(r"\?", rest):
            out += "[^/]"
        elif found := re.match(r"\[\^?[^\]]+\]", rest):
            out += found[0]
        else:
            found = re.match(r"\\?(.)", rest, re.S)
            assert found
            out += re.escape(found[1])
        rest = rest[found.end() :]
    return out


def commands(text: str, instruction: Instruction) -> list[list[str]]:
    """Return the simple commands of a shell line joined by && and ;, each as its words."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="&;|()<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    try:
        for token in lexer:
            if token in ("&&", ";", "||"):
                found.append([])
            else:
                found[-1].append(token)
    except ValueError as error:
        raise BuildError(f"line {instruction.line}: {error}") from error
    return [words for words in found if words]
