# SPDX-License-Identifier: Apache-2.0
"""The fields of a build that `builds.list` filters by."""

from __future__ import annotations

from gcp_sandbox.gateway import errors, filters
from gcp_sandbox.gateway.filters import Predicate, Restriction

# Names in a filter and the field of a build that they mean.
_TEXTS = {"status": "status", "build_id": "id", "id": "id", "service_account": "serviceAccount"}
_LISTS = {"tags": "tags", "images": "images"}
_TIMES = {"create_time": "createTime", "start_time": "startTime", "finish_time": "finishTime"}


def compile(text: str) -> Predicate:
    """Return whether a build fits the filter; ApiError 400 for a filter that cannot be read."""
    return filters.compile(text, _restriction, lambda rest: errors.invalid(f"invalid list filter: {rest!r}"))


def _restriction(term: Restriction) -> Predicate | None:
    """Return the predicate of a term; None for a field that cannot be filtered by, or not with this operator."""
    name, sign, value = term.field, term.operator, term.value
    if name in _LISTS and sign == "=":
        return lambda build: value in build.get(_LISTS[name], [])
    if sign in filters.COMPARE and (name in _TIMES or (name in _TEXTS and sign in ("=", "!="))):
        field, compare = (_TIMES | _TEXTS)[name], filters.COMPARE[sign]
        return lambda build: compare(build.get(field, ""), value)
    return None
