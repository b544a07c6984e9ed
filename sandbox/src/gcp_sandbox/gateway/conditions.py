# SPDX-License-Identifier: Apache-2.0
"""Conditions of role bindings: the part of the Common Expression Language that IAM documents.

Attributes: resource.name, resource.type, resource.service, request.time, api.getAttribute(name, default).
Source: cloud.google.com/iam/docs/conditions-attribute-reference. Macros (`exists`, `all`), maps and user-defined
functions are not part of it.
"""

from __future__ import annotations

import ast
import datetime
import operator
import re
import zoneinfo
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

Evaluate = Callable[[Mapping[str, Any]], Any]

TOKEN = re.compile(
    r"""\s*(?:(?P<string>[rR]?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<op>\|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]))"""
)
COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda a, b: a in b,
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv, "%": operator.mod}
UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 0.001, "us": 1e-6, "ns": 1e-9}


class InvalidExpression(ValueError):
    """The expression cannot be compiled; the message says where."""


def evaluate(expression: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether the condition holds. An evaluation error counts as false, as IAM treats it.

    :param attributes: nested: {"resource": {"name": ...}, "request": {"time": datetime}, "api": {...}}.
    """
    try:
        return _compile(expression)(attributes) is True
    except (InvalidExpression, TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError):
        return False


def check(expression: str) -> None:
    """Raise InvalidExpression unless the expression compiles and names only attributes that there are."""
    _compile(expression)


@lru_cache(maxsize=512)
def _compile(expression: str) -> Evaluate:
    return _Parser(expression).parse()


class _Parser:
    """Recursive descent over CEL's grammar; each rule returns a function of the attributes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = TOKEN.match(text, position)
            if match is None:
                raise InvalidExpression(f"Syntax error: token recognition error at: '{text[position:].strip()[:1]}'")
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()
        self.at = 0

    def parse(self) -> Evaluate:
        result = self.ternary()
        if self.at < len(self.tokens):
            raise InvalidExpression(f"Syntax error: extraneous input '{self.tokens[self.at][1]}'")
        return result

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise InvalidExpression("Syntax error: mismatched input '<EOF>'")
        kind, value = self.tokens[self.at]
        if expected and (value != expected or kind == "string"):
            raise InvalidExpression(f"Syntax error: mismatched input '{value}' expecting '{expected}'")
        self.at += 1
        return kind, value

    def accept(self, *values: str) -> str:
        if self.at < len(self.tokens):
            kind, value = self.tokens[self.at]
            if kind != "string" and value in values:
                self.at += 1
                return value
        return ""

    def ternary(self) -> Evaluate:
        test = self.either()
        if not self.accept("?"):
            return test
        yes = self.ternary()
        self.take(":")
        no = self.ternary()
        return lambda env: yes(env) if test(env) else no(env)

    def either(self) -> Evaluate:
        left = self.both()
        while self.accept("||"):
            left = self._or(left, self.both())
        return left

    @staticmethod
    def _or(left: Evaluate, right: Evaluate) -> Evaluate:
        def run(env: Mapping[str, Any]) -> bool:
            # CEL: an error on one side does not matter when the other side decides.
            try:
                if left(env):
                    return True
            except (TypeError, ValueError, KeyError, AttributeError):
                if right(env) is True:
                    return True
                raise
            return right(env)

        return run

    def both(self) -> Evaluate:
        left = self.comparison()
        while self.accept("&&"):
            left = self._and(left, self.comparison())
        return left

    @staticmethod
    def _and(left: Evaluate, right: Evaluate) -> Evaluate:
        return lambda env: left(env) and right(env)

    def comparison(self) -> Evaluate:
        left = self.sum(self.product)
        while sign := self.accept(*COMPARE):
            left = self._binary(COMPARE[sign], left, self.sum(self.product))
        return left

    def sum(self, below: Callable[[], Evaluate]) -> Evaluate:
        left = below()
        while sign := self.accept("+", "-"):
            left = self._binary(ARITHMETIC[sign], left, below())
        return left

    def product(self) -> Evaluate:
        left = self.unary()
        while sign := self.accept("*", "/", "%"):
            left = self._binary(ARITHMETIC[sign], left, self.unary())
        return left

    @staticmethod
    def _binary(fn: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
        return lambda env: fn(left(env), right(env))

    def unary(self) -> Evaluate:
        if self.accept("!"):
            inner = self.unary()
            return lambda env: not inner(env)
        if self.accept("-"):
            inner = self.unary()
            return lambda env: -inner(env)
        return self.member()

    def member(self) -> Evaluate:
        value = self.primary()
        while self.accept("."):
            _, name = self.take()
            value = (
                self._call(METHODS, name, [value, *self.arguments()]) if self.accept("(") else self._field(value, name)
            )
        return value

    @staticmethod
    def _field(value: Evaluate, name: str) -> Evaluate:
        return lambda env: value(env)[name]

    def primary(self) -> Evaluate:
        kind, text = self.take()
        if kind == "string":
            literal = text[2:-1] if text[0] in "rR" else ast.literal_eval(text)
            return lambda env: literal
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return lambda env: number
        if text == "(":
            inner = self.ternary()
            self.take(")")
            return inner
        if text == "[":
            items = self.items("]")
            return lambda env: [item(env) for item in items]
        if kind != "name":
            raise InvalidExpression(f"Syntax error: mismatched input '{text}'")
        if text in ("true", "false"):
            return lambda env: text == "true"
        if self.accept("("):
            return self._call(FUNCTIONS, text, self.arguments())
        if text not in ROOTS:
            raise InvalidExpression(f"undeclared reference to '{text}' (in container '')")
        if text != "api" and (self.peek() != "." or self.tokens[self.at + 1][1] not in ROOTS[text]):
            name = self.tokens[self.at + 1][1] if self.peek() == "." and self.at + 1 < len(self.tokens) else text
            raise InvalidExpression(f"undefined field '{name}'")
        return lambda env: env[text]

    def arguments(self) -> list[Evaluate]:
        return self.items(")")

    def items(self, end: str) -> list[Evaluate]:
        found: list[Evaluate] = []
        while not self.accept(end):
            if found:
                self.take(",")
            found.append(self.ternary())
        return found

    @staticmethod
    def _call(table: Mapping[str, Callable[..., Any]], name: str, arguments: list[Evaluate]) -> Evaluate:
        fn = table.get(name)
        if fn is None:
            raise InvalidExpression(f"undeclared reference to '{name}' (in container '')")
        return lambda env: fn(*[argument(env) for argument in arguments])


def _duration(text: str) -> datetime.timedelta:
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", text)
    if "".join(a + b for a, b in parts) != text.lstrip("-"):
        raise ValueError(text)
    seconds = sum(float(amount) * UNITS[unit] for amount, unit in parts)
    return datetime.timedelta(seconds=-seconds if text.startswith("-") else seconds)


def _extract(text: str, template: str) -> str:
    """`resource.name.extract('projects/{p}/x')`: what stands between the literal parts; "" when they do not occur."""
    before, _, rest = template.partition("{")
    after = rest.partition("}")[2]
    start = text.find(before)
    if start < 0:
        return ""
    start += len(before)
    end = text.find(after, start) if after else len(text)
    return text[start:end] if end >= 0 else ""


def _at(getter: Callable[[datetime.datetime], int]) -> Callable[..., int]:
    def run(moment: datetime.datetime, zone: str = "UTC") -> int:
        return getter(moment.astimezone(zoneinfo.ZoneInfo(zone)))

    return run


#: Attributes by root; `api` has functions only.
ROOTS = {"resource": ("name", "type", "service"), "request": ("time", "auth", "path", "host"), "api": ()}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "timestamp": lambda text: datetime.datetime.fromisoformat(text),
    "duration": _duration,
    "size": len,
    "string": str,
    "int": int,
}

METHODS: dict[str, Callable[..., Any]] = {
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "contains": lambda text, part: part in text,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "extract": _extract,
    "size": len,
    "getAttribute": lambda api, name, default: api.get(name, default),
    "hasOnly": lambda items, allowed: set(items) <= set(allowed),
    "getFullYear": _at(lambda t: t.year),
    "getMonth": _at(lambda t: t.month - 1),
    "getDate": _at(lambda t: t.day),
    "getDayOfMonth": _at(lambda t: t.day - 1),
    "getDayOfWeek": _at(lambda t: t.isoweekday() % 7),
    "getDayOfYear": _at(lambda t: t.timetuple().tm_yday - 1),
    "getHours": _at(lambda t: t.hour),
    "getMinutes": _at(lambda t: t.minute),
    "getSeconds": _at(lambda t: t.second),
}
