# SPDX-License-Identifier: Apache-2.0
"""Field masks: `?fields=` cuts a response down, `updateMask` says what a patch changes."""

from __future__ import annotations

import copy
from typing import Any

from gcp_sandbox.gateway.schema import camel


class BadMask(ValueError):
    """The mask cannot be parsed; the argument is the part that is wrong."""


def parse_fields(text: str) -> dict[str, Any]:
    """Return a tree of names from a partial-response selector: "items(id,owner/name)"; {} selects all below."""
    tree, rest = _selection(text.replace(" ", ""))
    if rest:
        raise BadMask(rest)
    return tree


def _selection(text: str) -> tuple[dict[str, Any], str]:
    tree: dict[str, Any] = {}
    while True:
        node, text = _path(text, tree)
        if text.startswith("("):
            inner, text = _selection(text[1:])
            if not text.startswith(")"):
                raise BadMask(text or "(")
            _merge(node, inner)
            text = text[1:]
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _path(text: str, tree: dict[str, Any]) -> tuple[dict[str, Any], str]:
    while True:
        end = next((i for i, c in enumerate(text) if c in "/.,()"), len(text))
        name, text = text[:end], text[end:]
        if not name:
            raise BadMask(text or "")
        tree = tree.setdefault(name if name == "*" else camel(name), {})
        if not text.startswith(("/", ".")):
            return tree, text
        text = text[1:]


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        _merge(into.setdefault(key, {}), value)


def select(value: Any, tree: dict[str, Any]) -> Any:
    """`value` with only what the tree names; lists are looked through."""
    if not tree:
        return value
    if isinstance(value, list):
        return [select(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        below = tree.get(key, tree.get("*"))
        if below is not None:
            out[key] = select(item, below)
    return out


def mask_paths(mask: str | None) -> list[list[str]]:
    """Paths of an update mask in camelCase: "labels,template.max_retries" -> [["labels"], ["template", "maxRetries"]].

    Names behind the first dot of a map (label keys) are converted too; masks do not reach into maps at Google either.
    """
    return [[camel(name) for name in path.strip().split(".")] for path in (mask or "").split(",") if path.strip()]


def merge_mask(existing: dict[str, Any], update: dict[str, Any], mask: str | None) -> dict[str, Any]:
    """`existing` with the fields that `mask` names taken from `update`; a named field that `update` lacks is cleared.

    Without a mask every field that `update` has is taken; "*" replaces everything.
    """
    if mask == "*":
        return copy.deepcopy(update)
    merged = copy.deepcopy(existing)
    for path in mask_paths(mask) or [[name] for name in update]:
        source: Any = update
        target: Any = merged
        for name in path[:-1]:
            source = source.get(name, {}) if isinstance(source, dict) else {}
            target = target.setdefault(name, {})
        if isinstance(source, dict) and path[-1] in source:
            target[path[-1]] = copy.deepcopy(source[path[-1]])
        else:
            target.pop(path[-1], None)
    return merged
