# SPDX-License-Identifier: Apache-2.0
"""The filter of `builds.list`: terms joined by AND and OR, in parentheses (google.aip.dev/160).

OR binds more tightly than AND, as AIP-160 has it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from gcp_sandbox.gateway import errors

Predicate = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<paren>[()])|(?P<word>AND|OR|NOT)\b|(?P<field>\w+)\s*(?P<operator>=|!=|>=|<=|>|<)\s*"
    r'(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s()"]+)))'
)
# Names in a filter and the field of a build that they mean.
_TEXTS = {"status": "status", "build_id": "id", "id": "id", "service_account": "serviceAccount"}
_LISTS = {"tags": "tags", "images": "images"}
_TIMES = {"create_time": "createTime", "start_time": "startTime", "finish_time": "finishTime"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def compile(text: str) -> Predicate:
    """Whether a build fits the filter; everything fits an empty one. ApiError 400 for what cannot be read."""
    return _Parser(text).all() if text.strip() else lambda build: True


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text.strip(), 0

    def all(self) -> Predicate:
        found = self.conjunction()
        if self.at < len(self.text):
            raise self.error()
        return found

    def error(self) -> errors.ApiError:
        return errors.invalid(f"invalid list filter: {self.text[self.at :]!r}")

    def peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.at)

    def take(self, **wanted: str) -> bool:
        """Step over the next token if it is this one."""
        token = self.peek()
        if token and all(token[group] == value for group, value in wanted.items()):
            self.at = token.end()
            return True
        return False

    def conjunction(self) -> Predicate:
        parts = [self.disjunction()]
        # Two terms side by side are joined by AND too.
        while self.take(word="AND") or ((token := self.peek()) and (token["field"] or token["paren"] == "(")):
            parts.append(self.disjunction())
        return lambda build: all(part(build) for part in parts)

    def disjunction(self) -> Predicate:
        parts = [self.term()]
        while self.take(word="OR"):
            parts.append(self.term())
        return lambda build: any(part(build) for part in parts)

    def term(self) -> Predicate:
        if self.take(word="NOT"):
            negated = self.term()
            return lambda build: not negated(build)
        if self.take(paren="("):
            inner = self.conjunction()
            if not self.take(paren=")"):
                raise self.error()
            return inner
        token = self.peek()
        if token is None or not token["field"]:
            raise self.error()
        value = token["quoted"] if token["quoted"] is not None else token["bare"]
        found = _restriction(token["field"], token["operator"], value)
        if found is None:
            raise self.error()
        self.at = token.end()
        return found


def _restriction(name: str, sign: str, value: str) -> Predicate | None:
    """One term; None for a field that cannot be filtered by, or not with this operator."""
    if name in _LISTS and sign == "=":
        return lambda build: value in build.get(_LISTS[name], [])
    if name in _TIMES or (name in _TEXTS and sign in ("=", "!=")):
        field, compare = (_TIMES | _TEXTS)[name], _COMPARE[sign]
        return lambda build: compare(build.get(field, ""), value)
    return None
