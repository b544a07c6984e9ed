# SPDX-License-Identifier: Apache-2.0
"""The `filter` of list methods: restrictions joined by AND, OR, NOT and parentheses (https://google.aip.dev/160).

The grammar is the same for every service. A service passes a function that returns the predicate of one restriction:

    wanted = filters.compile(call.query.get("filter", ""), restriction, lambda rest: invalid(f"Invalid filter: {rest}"))
    found = [body for body in bodies if wanted(body)]
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gcp_sandbox.gateway.errors import ApiError

Predicate = Callable[[Mapping[str, Any]], bool]

WORDS = ("AND", "OR", "NOT")

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip

FIELD = r"[\w./-]+"
OPERATORS = "!=|>=|<=|=|:|<|>"
LITERAL = r"""(?:[^"\\]|\\.)*"""


def tokens(field: str = FIELD, operators: str = OPERATORS, more: str = "") -> re.Pattern[str]:
    """Return the pattern of a token.

    :param more: further kinds of terms, as alternatives of the pattern: a group `list` is a field and an operator in
        front of values in parentheses, `function` and `argument` are a call with one literal.
    """
    return re.compile(
        rf"""\s*(?:
            (?P<paren>[()])
          | (?P<word>AND|OR|NOT)\b(?!\s*[=!:<>])
          | (?P<minus>-)?(?:
                {more}
                (?P<field>{field})\s*(?P<operator>{operators})\s*
                (?:"(?P<quoted>{LITERAL})"|(?P<bare>[^\s()"=!<>][^\s()"]*))
              | "(?P<text>{LITERAL})"
              | (?P<plain>[^\s()"=!<>:]++)(?!\s*[=!<>:])
            )
        )""",
        re.VERBOSE,
    )


_TOKEN = tokens()


@dataclass(frozen=True)
class Restriction:
    """`field operator value`; a word by itself has no field and no operator."""

    field: str
    operator: str
    value: str
    quoted: bool = False


def compile(
    text: str,
    restriction: Callable[[Restriction], Predicate | None],
    error: Callable[[str], ApiError],
    *,
    words: Collection[str] = WORDS,
    or_first: bool = True,
    token: re.Pattern[str] = _TOKEN,
) -> Predicate:
    """Return whether a resource fits a filter; every resource fits an empty one.

    :param restriction: returns the predicate of a restriction; None for one that the service does not support.
    :param error: returns what is raised for the part of the text that cannot be read.
    :param words: those of `WORDS` that the service knows. Without AND there is one restriction only.
    :param or_first: OR binds more tightly than AND, as AIP-160 says.
    :param token: a pattern of `tokens()`, for a service with more forms of terms.
    """
    return _Parser(text, restriction, error, words, or_first, token).all() if text.strip() else lambda body: True


def value_at(body: Any, path: str, *, any_case: bool = False) -> Any:
    """Return the field at a dotted path; None where a part of it is missing."""
    for part in path.split("."):
        if not isinstance(body, Mapping):
            return None
        if any_case:
            part = next((key for key in body if key.lower() == part.lower()), part)
        body = body.get(part)
    return body


def wildcard(value: str, *, any_case: bool = False) -> re.Pattern[str]:
    """Return the pattern of a value in which `*` stands for any text."""
    return re.compile(re.escape(value).replace(r"\*", ".*"), re.DOTALL | (re.IGNORECASE if any_case else 0))


class _Parser:
    def __init__(
        self,
        text: str,
        restriction: Callable[[Restriction], Predicate | None],
        error: Callable[[str], ApiError],
        words: Collection[str],
        or_first: bool,
        token: re.Pattern[str],
    ) -> None:
        self._text, self._at = text.strip(), 0
        self._restriction, self._error, self._words, self._or_first = restriction, error, words, or_first
        self._token = token
        #: Field and operator in front of the parentheses around the terms that are read.
        self._of = ("", "")

    def all(self) -> Predicate:
        found = self._expression()
        if self._at < len(self._text):
            raise self._failure()
        return found

    def _failure(self) -> ApiError:
        return self._error(self._text[self._at :].strip())

    def _peek(self) -> re.Match[str] | None:
        return self._token.match(self._text, self._at)

    def _take(self, group: str, value: str) -> bool:
        """Step over the next token if it is this one."""
        token = self._peek()
        if token is None or token[group] != value or (group == "word" and value not in self._words):
            return False
        self._at = token.end()
        return True

    def _expression(self) -> Predicate:
        return self._both(self._either) if self._or_first else self._either(self._both)

    def _both(self, part: Callable[..., Predicate] | None = None) -> Predicate:
        parts = [part() if part else self._term()]
        while self._take("word", "AND") or self._juxtaposed():
            parts.append(part() if part else self._term())
        return lambda body: all(fits(body) for fits in parts)

    def _juxtaposed(self) -> bool:
        """Return whether another term follows without a word between, which means AND."""
        token = self._peek()
        return "AND" in self._words and token is not None and token["paren"] != ")" and token["word"] in (None, "NOT")

    def _either(self, part: Callable[..., Predicate] | None = None) -> Predicate:
        parts = [part() if part else self._term()]
        while self._take("word", "OR"):
            parts.append(part() if part else self._term())
        return lambda body: any(fits(body) for fits in parts)

    def _term(self) -> Predicate:
        if self._take("word", "NOT"):
            negated = self._term()
            return lambda body: not negated(body)
        if self._take("paren", "("):
            inner = self._expression()
            if not self._take("paren", ")"):
                raise self._failure()
            return inner
        token = self._peek()
        if token is None or token["paren"] or token["word"]:
            raise self._failure()
        if token.groupdict().get("list"):
            return self._values(token)
        found = self._restriction(self._read(token))
        if found is None or (token["minus"] and "NOT" not in self._words):
            raise self._failure()
        self._at = token.end()
        return (lambda body: not found(body)) if token["minus"] else found

    def _read(self, token: re.Match[str]) -> Restriction:
        """Return the restriction of a term; a function has the operator `()`."""
        if token.groupdict().get("function"):
            return Restriction(token["function"], "()", unquoted(token["argument"]), True)
        literal = token["quoted"] if token["field"] else token["text"]
        quoted = literal is not None
        value = unquoted(literal) if quoted else token["bare"] or token["plain"]
        field, sign = (token["field"], token["operator"]) if token["field"] else self._of
        return Restriction(field, sign, value, quoted)

    def _values(self, token: re.Match[str]) -> Predicate:
        """Return the predicate of `field = (a OR b)`."""
        self._at = token.end()
        outer, self._of = self._of, (token["of"], token["sign"])
        found = self._term()
        self._of = outer
        return (lambda body: not found(body)) if token["minus"] else found


def unquoted(literal: str) -> str:
    """Return the text of a literal without its quotation marks."""
    return re.sub(r"\\(.)", r"\1", literal)
