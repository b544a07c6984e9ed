# SPDX-License-Identifier: Apache-2.0
"""Cloud Logging: the entries of what Cloud Run, App Engine and Cloud Build run.

Filters follow cloud.google.com/logging/docs/view/logging-query-language: comparisons, their negation and combination,
lists of values, global searches and `log_id`.
"""

from __future__ import annotations

import base64
import heapq
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, filters
from gcp_sandbox.gateway.denials import IamFacts, worded
from gcp_sandbox.gateway.filters import COMPARE, Predicate, Restriction
from gcp_sandbox.gateway.service import Service, method
from gcp_sandbox.gateway.times import epoch

if TYPE_CHECKING:
    from gcp_sandbox.backends.platform import Platform
    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

PAGE, LONGEST_PAGE, LONGEST_FILTER = 50, 1000, 20_000

SEVERITIES = {
    "DEFAULT": 0,
    "DEBUG": 100,
    "INFO": 200,
    "NOTICE": 300,
    "WARNING": 400,
    "ERROR": 500,
    "CRITICAL": 600,
    "ALERT": 700,
    "EMERGENCY": 800,
}
TIMES = ("timestamp", "receiveTimestamp")
# Resources that an entry can belong to: projects/P with or without a view of its logs, organizations and folders.
RESOURCE = re.compile(
    r"(?P<kind>projects|organizations|folders|billingAccounts)/(?P<id>[^/]+)"
    r"(?P<view>/locations/[^/]+/buckets/[^/]+/views/[^/]+)?"
)

_PART = rf'(?:[\w/-]+|"{filters.LITERAL}")'
_PATH = rf"{_PART}(?:\.{_PART})*"
_OPERATORS = f"=~|!~|{filters.OPERATORS}"
_TOKEN = filters.tokens(
    _PATH,
    _OPERATORS,
    rf"""(?P<list>(?P<of>{_PATH})\s*(?P<sign>{_OPERATORS})\s*)(?=\()
       | (?P<function>\w+)\(\s*"(?P<argument>{filters.LITERAL})"\s*\)
       |""",
)
_COMMENT = re.compile(rf'("{filters.LITERAL}")|--[^\n]*')


class CloudLogging(Service):
    """entries.list."""

    name = "logging"
    versions = ("v2",)
    consumer = "caller"
    iam = IamFacts(denial=worded("Permission denied for all log views"))

    def __init__(self, sandbox: Platform) -> None:
        super().__init__(sandbox)
        self.sandbox: Platform = sandbox

    @method("entries.list", permission=None, transaction=False)
    def list_entries(self, call: Call) -> Json:
        size = call.body.get("pageSize", 0)
        if size < 0:
            raise errors.invalid("page_size must be non-negative")
        descending = self._descending(call.body.get("orderBy", ""))
        wanted = compile(call.body.get("filter", ""))
        projects = self._projects(call)
        after = _position(call.body.get("pageToken", ""))
        found = self._entries(projects, newest_first=descending, after=after)
        size = min(size or PAGE, LONGEST_PAGE)
        page: list[Json] = []
        place = after
        for place_of_entry, entry in found:
            if not wanted(entry):
                continue
            if len(page) == size:
                assert place is not None
                token = base64.urlsafe_b64encode("{}:{}".format(*place).encode()).decode()
                return {"entries": page, "nextPageToken": token}
            page.append(entry)
            place = place_of_entry
        return {"entries": page} if page else {}

    @staticmethod
    def _descending(order: str) -> bool:
        asked = " ".join(order.lower().split())
        if asked not in ("", "timestamp", "timestamp asc", "timestamp desc"):
            raise errors.invalid(f'Invalid order_by: {order!r}. Use "timestamp asc" or "timestamp desc".')
        return asked.endswith(" desc")

    def _projects(self, call: Call) -> list[str]:
        """Return the ids of the projects that are named, if the caller may read their logs.

        What belongs to an organization or a folder itself is nothing here.
        """
        named = call.body.get("resourceNames", []) + [f"projects/{id}" for id in call.body.get("projectIds", [])]
        if not named:
            raise errors.invalid("Must specify at least one resource name to query.")
        found = []
        for name in named:
            parsed = RESOURCE.fullmatch(name)
            if parsed is None:
                raise errors.invalid(
                    f"Invalid resource name {name!r}: use projects/PROJECT, organizations/ORGANIZATION, "
                    "folders/FOLDER or billingAccounts/ACCOUNT."
                )
            permission = "logging.views.access" if parsed["view"] else "logging.logEntries.list"
            kind, id = parsed["kind"], parsed["id"]
            if kind == "projects":
                id = call.project(id).id
                found.append(id)
            host = "cloudbilling" if kind == "billingAccounts" else "cloudresourcemanager"
            call.require(permission, f"//{host}.googleapis.com/{kind}/{id}")
        return list(dict.fromkeys(found))

    def _entries(
        self, projects: list[str], *, newest_first: bool, after: tuple[int, int] | None
    ) -> Iterator[tuple[tuple[int, int], Json]]:
        streams = [self.sandbox.logs.entries(id, newest_first=newest_first, after=after) for id in projects]
        return heapq.merge(*streams, key=lambda found: found[0], reverse=newest_first)


def _position(token: str) -> tuple[int, int] | None:
    """Return the place of the last entry of the page before."""
    if not token:
        return None
    try:
        moment, id = base64.urlsafe_b64decode(token.encode()).decode().split(":")
        return int(moment), int(id)
    except ValueError as error:
        raise errors.invalid("page_token doesn't match arguments from the request") from error


def compile(text: str) -> Predicate:
    """Return whether an entry fits a filter; ApiError 400 for one that cannot be read."""
    if len(text) > LONGEST_FILTER:
        raise errors.invalid(f"Filter is too long: {len(text)} characters. The maximum is {LONGEST_FILTER}.")
    bare = _COMMENT.sub(lambda found: found[1] or "", text)
    return filters.compile(bare, _restriction, _unparseable, token=_TOKEN)


def _unparseable(rest: str) -> errors.ApiError:
    return errors.invalid(f"Unparseable filter: syntax error at {rest!r}")


def _restriction(term: Restriction) -> Predicate | None:
    """Return the predicate of a term; ApiError 501 for a function that is not served."""
    if term.operator == "()":
        if term.field != "log_id":
            raise errors.unimplemented(f"the function {term.field} in filters of Cloud Logging")
        ending = f"/logs/{term.value.replace('/', '%2F')}"
        return lambda entry: entry["logName"].endswith(ending)
    if not term.field:
        return lambda entry: any(_has(value, term.value) for value in _leaves(entry))
    path = [filters.unquoted(part.strip('"')) for part in re.findall(_PART, term.field)]
    compare = _comparison(path, term)
    return None if compare is None else lambda entry: compare(_at(entry, path))


def _comparison(path: list[str], term: Restriction) -> Any:
    """Return a function of the field's value; None for a value that the field cannot have."""
    sign, value = term.operator, term.value
    if sign in ("=~", "!~"):
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise errors.invalid(f"Unparseable filter: regular expressions must be valid: {error}") from error
        matches = sign == "=~"
        return lambda found: isinstance(found, str) and (pattern.search(found) is not None) == matches
    if sign == ":":
        if value == "*" and not term.quoted:
            return lambda found: found is not None
        return lambda found: any(_has(leaf, value) for leaf in _leaves(found))
    compare = COMPARE[sign]
    if path == ["severity"]:
        level = SEVERITIES.get(value.upper(), int(value) if value.isdigit() else None)
        return None if level is None else lambda found: compare(SEVERITIES[found or "DEFAULT"], level)
    if path[0] in TIMES:
        try:
            moment = epoch(value)
        except ValueError:
            return None
        return lambda found: found is not None and compare(epoch(found), moment)
    return lambda found: _fits(found, compare, value)


def _fits(found: Any, compare: Any, value: str) -> bool:
    """Compare a field with a value; a comparison with a field that an entry does not have is false."""
    if isinstance(found, list):
        return any(_fits(item, compare, value) for item in found)
    if isinstance(found, bool):
        return compare(str(found).lower(), value.lower())
    if isinstance(found, int | float):
        try:
            return compare(float(found), float(value))
        except ValueError:
            return False
    return isinstance(found, str) and compare(found.lower(), value.lower())


def _at(entry: Json, path: list[str]) -> Any:
    """Return the field at a path; None where an entry does not have it."""
    found: Any = entry
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def _has(leaf: Any, value: str) -> bool:
    return value.lower() in str(leaf).lower()
