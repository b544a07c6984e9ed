# SPDX-License-Identifier: Apache-2.0
"""Faults on request: the gateway answers some requests with errors, late, or not at all.

A document has rules and a seed:

    seed: 7
    rules:
      - {kind: "503", service: run, share: 0.2}
      - {kind: lost, writes_only: true, first: 1}

A request is compared with the rules in their order, and the first one that applies decides. Whether a rule with a
`share` applies follows from the seed, the rule, the method and how many requests of the method came before, so equal
requests in an equal order meet equal faults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import yaml

from gcp_sandbox.config import ConfigError
from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.discovery import DiscoveryMethod, load_document
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.messages import Request
from gcp_sandbox.gateway.operations import failing

KINDS = {
    "429": "answered with 429",
    "500": "answered with 500",
    "503": "answered with 503",
    "reset": "the connection is closed before the request is processed",
    "stall": "processed after `seconds`",
    "lost": "processed, then the connection is closed without an answer",
    "operation": "the operation that it starts fails",
}

#: Service -> method -> whether it starts an operation. A method is a discovery id, or verb and template of a route.
Known = Mapping[str, Mapping[str, bool]]

# Methods that change nothing although they are not sent with GET.
_READS = re.compile(r"(get|list|search|query|test|sign|wait|batchGet|generate(Access|Id)Token|token)")
# Fields of a query or a body that name what a request to a collection creates.
_NAMES = re.compile(r"name|id|serviceIds|(?!request)\w+Id")
_LONGEST_STALL = 600.0


class Declared(Protocol):
    """The parts of a service, or of its class, that rules can name (`service.Service`)."""

    name: str
    versions: tuple[str, ...]


class Drop(Exception):
    """Close the connection without an answer."""


class FaultError(ConfigError):
    """Rules that cannot be used; the message is for the user."""


@dataclass(frozen=True)
class Rule:
    """Which requests meet which fault.

    :param kind: one of `KINDS`.
    :param service: name of a service ("run"), all when empty.
    :param method: method id without or with the service ("projects.secrets.create"), a glob; all when empty.
    :param writes_only: leave out requests that change nothing.
    :param share: part of the matching requests, from 0 to 1.
    :param each: every N-th matching request.
    :param first: the first N requests of each method and resource. All requests without `share`, `each` and `first`.
    :param retry_after: seconds in the header Retry-After of a 429 or 503.
    :param seconds: how long a stalled request waits.
    """

    kind: str
    service: str = ""
    method: str = ""
    writes_only: bool = False
    share: float | None = None
    each: int | None = None
    first: int | None = None
    retry_after: int | None = None
    seconds: float | None = None

    def shown(self) -> dict[str, Any]:
        """Return the rule as it is written in a document."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value not in (None, "", False)}


@dataclass(frozen=True)
class Rules:
    """A document: rules in the order in which they are tried, and the seed."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0


# -- reading documents ------------------------------------------------------------------------------------------------


def read(argument: str) -> Any:
    """Return the document that a command line names: JSON in the argument itself, or a JSON or YAML file.

    :raises FaultError: with a message for the user.
    """
    inline = argument.lstrip().startswith(("{", "["))
    where = "the rules" if inline else argument
    try:
        return yaml.safe_load(argument if inline else Path(argument).read_text())
    except OSError as error:
        raise FaultError(
            f"{argument} cannot be read: {error.strerror}. Name a JSON or YAML file, or write the rules in JSON."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise FaultError(
            f"{where}: neither JSON nor YAML ({words}). Write a list of rules, see docs/sandbox.md."
        ) from None


def parse(document: Any, known: Known) -> Rules:
    """Return checked rules. `document` is a list of rules, or a mapping with `rules` and perhaps `seed`.

    :raises FaultError: names the rule, the field, and what to write.
    """
    if isinstance(document, list):
        document = {"rules": document}
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list):
        raise FaultError("the document has no list of rules. Write {rules: [{kind: ...}, ...]}.")
    if unknown := sorted(set(map(str, document)) - {"rules", "seed"}):
        raise FaultError(f"the document has no field {unknown[0]!r}. Write rules and seed only.")
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FaultError(f"seed is {seed!r}. Write a whole number.")
    return Rules(tuple(_rule(raw, f"rule {n}", known) for n, raw in enumerate(document["rules"], 1)), seed)


def known_methods(services: Iterable[Declared | type[Declared]]) -> Known:
    """Return what rules can name: methods of the discovery documents of the services, and their routes."""
    known: dict[str, dict[str, bool]] = {}
    for service in services:
        methods = known.setdefault(service.name, {})
        for version in service.versions:
            for found in load_document(service.name, version).methods.values():
                methods[found.id] = methods.get(found.id, False) or _starts_operation(found)
        made = service if isinstance(service, type) else type(service)
        for name in dir(made):
            for spec in getattr(getattr(made, name, None), "_routes", ()):
                methods[f"{spec.verb} {spec.template}"] = False
    return known


def _starts_operation(method: DiscoveryMethod) -> bool:
    head, _, _ = method.id.rpartition(".")
    return bool(method.response) and method.response.endswith("Operation") and not head.endswith("operations")


def _rule(raw: Any, where: str, known: Known) -> Rule:
    if not isinstance(raw, dict):
        raise FaultError(f"{where} is {raw!r}. Write a mapping such as {{kind: lost, writes_only: true}}.")
    fields = [one.name for one in dataclasses.fields(Rule)]
    if unknown := [str(key) for key in raw if key not in fields]:
        raise FaultError(f"{where} has an unknown field {unknown[0]!r}. Fields are {', '.join(fields)}.")
    kind = str(raw.get("kind", ""))
    if kind not in KINDS:
        raise FaultError(f"{where}: kind is {raw.get('kind')!r}. Write one of {', '.join(KINDS)}.")
    values = {key: value for key, value in raw.items() if value is not None and key != "kind"}
    _check_types(values, where)
    _check_numbers(values, kind, where)
    values["service"] = values.get("service", "").removesuffix(".googleapis.com")
    rule = Rule(kind, **values)
    _check_names(rule, where, known)
    return rule


def _check_types(values: Mapping[str, Any], where: str) -> None:
    for name, types, text in (
        ("service", str, "the name of a service, such as run"),
        ("method", str, "a method, such as projects.secrets.create or *.create"),
        ("writes_only", bool, "true or false"),
        ("share", (int, float), "a number from 0 to 1"),
        ("each", int, "a whole number from 1"),
        ("first", int, "a whole number from 1"),
        ("retry_after", int, "whole seconds"),
        ("seconds", (int, float), "seconds"),
    ):
        value = values.get(name)
        if name in values and (not isinstance(value, types) or (isinstance(value, bool) and types is not bool)):
            raise FaultError(f"{where}: {name} is {value!r}. Write {text}.")


def _check_numbers(values: Mapping[str, Any], kind: str, where: str) -> None:
    chosen = [name for name in ("share", "each", "first") if name in values]
    if len(chosen) > 1:
        raise FaultError(f"{where} has {' and '.join(chosen)}. Write one of them.")
    for name, low, high in (("share", 0, 1), ("each", 1, None), ("first", 1, None), ("retry_after", 0, None)):
        value = values.get(name)
        if value is not None and (value < low or (high is not None and value > high)):
            text = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise FaultError(f"{where}: {name} is {value}. Write a number {text}.")
    if "retry_after" in values and kind not in ("429", "503"):
        raise FaultError(f"{where}: retry_after has no effect on {kind}. Use it with 429 or 503.")
    if ("seconds" in values) != (kind == "stall"):
        problem = "needs seconds, how long a request waits" if kind == "stall" else f"has seconds, but is of {kind}"
        raise FaultError(f"{where} {problem}. Write seconds with kind stall, and only there.")
    if not 0 < values.get("seconds", 1) <= _LONGEST_STALL:
        raise FaultError(f"{where}: seconds is {values['seconds']}. Write more than 0 and at most {_LONGEST_STALL:g}.")


def _check_names(rule: Rule, where: str, known: Known) -> None:
    if rule.service and rule.service not in known:
        raise FaultError(f"{where}: the sandbox has no service {rule.service!r}. It has {', '.join(sorted(known))}.")
    services = [rule.service] if rule.service else list(known)
    found = [
        starts
        for service in services
        for id, starts in known[service].items()
        if not rule.method or _names_method(rule.method, service, id)
    ]
    of = f" of {rule.service}" if rule.service else ""
    named = f" named {rule.method!r}" if rule.method else ""
    if not found:
        raise FaultError(
            f"{where}: no method{of} is named {rule.method!r}. docs/sandbox.md lists the methods, such as "
            "projects.secrets.create; * stands for any characters."
        )
    if rule.kind == "operation" and not any(found):
        raise FaultError(
            f"{where}: no method{of}{named} starts an operation. Name one that does, such as "
            "instances.insert of sqladmin, or use another kind."
        )


def _names_method(pattern: str, service: str, id: str) -> bool:
    return fnmatchcase(id, pattern) or fnmatchcase(f"{service}.{id}", pattern)


# -- applying rules ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """A request at the gateway. `method` is the discovery id without the service, or verb and template of a route."""

    service: str
    error_style: str
    method: str
    request: Request

    @property
    def writes(self) -> bool:
        """Return whether the method changes something."""
        last = re.split(r"[./:]", self.method)[-1]
        return self.request.method not in ("GET", "HEAD") and not _READS.match(last)

    @property
    def resource(self) -> str:
        """Return what names the resource: the path, and in a request to a collection what it creates there."""
        pairs = [pair for pair in parse_qsl(self.request.query_string) if _NAMES.fullmatch(pair[0])]
        with contextlib.suppress(ValueError):  # an upload, or no body
            body = json.loads(self.request.body)
            if isinstance(body, dict) and self.request.method == "POST":
                pairs += [(key, str(value)) for key, value in body.items() if _NAMES.fullmatch(key)]
        return json.dumps([unquote(self.request.raw_path), *sorted(pairs)])


@dataclass
class _Active:
    """A rule in use, with what it has seen."""

    rule: Rule
    number: int
    matched: int = 0
    applied: int = 0
    of_method: Counter[str] = field(default_factory=Counter)
    of_resource: Counter[tuple[str, str]] = field(default_factory=Counter)

    def matches(self, arrival: Arrival) -> bool:
        rule = self.rule
        return (
            rule.service in ("", arrival.service)
            and (not rule.method or _names_method(rule.method, arrival.service, arrival.method))
            and (arrival.writes or not rule.writes_only)
        )

    def chosen(self, arrival: Arrival, seed: int) -> bool:
        """Count a request that matches, and return whether the rule applies to it."""
        rule = self.rule
        self.matched += 1
        self.of_method[arrival.method] += 1
        if rule.each is not None:
            return self.matched % rule.each == 0
        if rule.first is not None:
            return self.of_resource[arrival.method, arrival.resource] < rule.first
        text = f"{seed}/{self.number}/{arrival.service}.{arrival.method}/{self.of_method[arrival.method]}"
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        return rule.share is None or drawn < rule.share


class Fault:
    """What happens to one request."""

    def __init__(self, rule: Rule, apply: Callable[[], None], stopping: threading.Event, style: str) -> None:
        self._rule = rule
        self._apply = apply
        self._stopping = stopping
        self._style = style
        #: The kind as the request log shows it; empty until the fault has an effect.
        self.seen = ""
        if rule.kind != "operation":
            self._note()

    def _note(self) -> None:
        self.seen = self._rule.kind
        self._apply()

    def before(self) -> None:
        """Happen before the request is processed: raise an ApiError or `Drop`, or wait."""
        rule = self._rule
        if rule.kind == "reset":
            raise Drop
        if rule.kind == "stall" and self._stopping.wait(rule.seconds):
            raise Drop
        if rule.kind in ("429", "500", "503"):
            raise _error(int(rule.kind), rule.retry_after, self._style)

    def during(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the request is processed: its first operation fails."""
        return failing(self._strike) if self._rule.kind == "operation" else contextlib.nullcontext()

    def after(self) -> None:
        """Happen once the request is processed, whatever the answer: raise `Drop`."""
        if self._rule.kind == "lost":
            raise Drop

    def _strike(self) -> bool:
        first = not self.seen
        if first:
            self._note()
        return first


def _error(status: int, retry_after: int | None, style: str) -> ApiError:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 429:
        text = "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'."
        if style == "legacy":
            return errors.resource_exhausted(text, reason="rateLimitExceeded", domain="usageLimits", headers=headers)
        return errors.resource_exhausted(text, details=[errors.error_info("RATE_LIMIT_EXCEEDED")], headers=headers)
    if status == 503:
        return errors.unavailable(headers=headers)
    return ApiError(500, "Internal error encountered.")


class Faults:
    """The rules that a sandbox applies, until they are cleared or it stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._seed = 0
        self._active: list[_Active] = []
        self._since = 0.0

    def set(self, rules: Rules) -> None:
        """Replace all rules; counting starts again."""
        with self._lock:
            self._seed, self._since = rules.seed, time.time()
            self._active = [_Active(rule, number) for number, rule in enumerate(rules.rules, 1)]

    def clear(self) -> None:
        """Remove all rules."""
        self.set(Rules())

    def stop(self) -> None:
        """End what is stalled."""
        self._stopping.set()

    def show(self) -> dict[str, Any]:
        """Return the seed and the rules, each with how many requests it matched and was applied to."""
        with self._lock:
            rules = [
                {"rule": active.rule.shown(), "matched": active.matched, "applied": active.applied}
                for active in self._active
            ]
            return {"seed": self._seed, "since": self._since, "rules": rules}

    def meet(self, arrival: Arrival) -> Fault | None:
        """Return the fault that a request meets, if any."""
        if not self._active:
            return None
        with self._lock:
            for active in self._active:
                if active.matches(arrival) and active.chosen(arrival, self._seed):
                    break
            else:
                return None
        return Fault(active.rule, lambda: self._applied(active, arrival), self._stopping, arrival.error_style)

    def _applied(self, active: _Active, arrival: Arrival) -> None:
        with self._lock:
            active.applied += 1
            active.of_resource[arrival.method, arrival.resource] += 1
