# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compute the difference between the desired and the existing resource: pure functions of two dictionaries.

Only fields that the task sets are compared. Google leaves out fields that have their type's zero value, so a missing
field equals ``0``, ``false``, ``""``, ``[]`` and ``{}``. Check mode, diff and ``changed`` all come from :class:`Plan`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import ImmutableFieldError

HIDDEN = "(not shown)"
_DURATION = re.compile(r"-?\d+(\.\d+)?s")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]00:00)")


@dataclass(frozen=True)
class Rules:
    """Rules for the comparison of a resource. Paths are dotted; indexes of lists do not appear in them.

    immutable   path -> the next step, a sentence for the error
    mutable     paths below an immutable one that can be changed all the same
    keyed       path of a list -> the field that identifies an element; order does not matter
    unordered   paths of unordered lists
    whole       paths of maps that are compared and sent whole: keys that the task leaves out are removed
    at_least    paths of numbers that are satisfied by more than the task asks for (a disk that has grown)
    presence    paths of messages where ``{}`` is a choice and differs from a missing field
    write_only  paths that are sent but never read back, and not shown
    may_omit      paths that the service may leave out of its response; then they count as equal
    hidden      paths that are compared like others, and not shown
    normalise   path -> function applied to both sides before they are compared
    merge       path of a list that differs -> (desired, existing) -> the list to send; without it, the desired one
    """

    immutable: Mapping[str, str] = field(default_factory=dict)
    mutable: tuple = ()
    keyed: Mapping[str, str] = field(default_factory=dict)
    unordered: tuple = ()
    whole: tuple = ()
    at_least: tuple = ()
    presence: tuple = ()
    write_only: tuple = ()
    may_omit: tuple = ()
    hidden: tuple = ()
    normalise: Mapping[str, Callable] = field(default_factory=dict)
    merge: Mapping[str, Callable] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One field that differs. ``path`` is a tuple of keys; lists are one field."""

    path: tuple
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """The change of a resource. ``existing`` is None if it does not exist, ``desired`` None if it must not exist."""

    desired: Any
    existing: Any
    changes: tuple
    rules: Rules

    @property
    def action(self):
        """``create``, ``update``, ``delete`` or an empty string."""
        if self.desired is None:
            return "delete" if self.existing is not None else ""
        if self.existing is None:
            return "create"
        return "update" if self.changes else ""

    @property
    def changed(self):
        return bool(self.action)

    @property
    def after(self):
        """Return the expected resource: the existing one merged with the fields of the task."""
        if self.desired is None:
            return None
        return _merged((), self.desired, self.existing or {}, self.rules)

    def changed_paths(self, depth):
        """Dotted paths of the changes, cut at ``depth`` keys, each once, in order."""
        return list(dict.fromkeys(".".join(change.path[:depth]) for change in self.changes))

    def patch(self, depth, nulls=False):
        """A body with the changed fields only. Each is sent whole from ``depth`` keys on, as the merge of both sides.

        ``nulls`` is for services that merge maps: keys to be removed are sent as null.
        """
        body, after = {}, self.after
        for path in dict.fromkeys(change.path[:depth] for change in self.changes):
            source, target = after, body
            for key in path[:-1]:
                source, target = source[key], target.setdefault(key, {})
            value = source[path[-1]]
            if nulls and _dotted(path) in self.rules.whole:
                value = dict(dict.fromkeys(value_at(self.existing, path) or {}), **value)
            target[path[-1]] = value
        return body

    def diff(self, title="", name=""):
        """The ``diff`` of a task's result: the fields that the task sets, before and after.

        ``title`` is the heading, ``name`` what is shown to come or go even where the task sets no field.
        """
        before, after = {}, {}
        if self.existing is not None:
            compared = self.existing if self.desired is None else _before((), self.desired, self.existing, self.rules)
            before = _shown((), compared, self.rules)
        if self.desired is not None:
            after = _shown((), self.desired, self.rules)
        if self.action == "create" and name:
            after = dict({"name": name}, **after)
        result = {"before": before, "after": after}
        if title:
            result.update(before_header=title, after_header=title)
        return result

    def record(self, kind, name, implies=None):
        """The ``changes`` of a task's result: a list of one :func:`entry`, or of none.

        ``implies`` maps a dotted path, ``create`` or ``delete`` to what that change implies.
        """
        if not self.changed:
            return []
        action, fields = self.action, []
        if action == "create":
            fields = _fields((), None, self.desired, self.rules)
        if action == "update":
            action = "change"
            fields = [item for change in self.changes for item in _changed_fields(change, self.rules)]
        return [entry(kind, name, action, fields, implied(action, fields, implies or {}))]


def entry(kind, name, action, fields, implies=()):
    """One element of a result's ``changes``: what happens to one resource.

    kind     such as ``bucket``
    name     full path of the resource; together with ``kind`` it identifies the resource in a run
    action   ``create``, ``change``, ``delete`` or ``adopt``
    fields   list of ``{path, before, after}``; None where the field is not set; empty for ``delete``
    implies  what the change implies, such as ``restart of the database``
    """
    return {"kind": kind, "name": name, "action": action, "fields": list(fields), "implies": list(implies)}


def field_changes(before, after):
    """The ``fields`` of an :func:`entry` from two maps that are compared without rules."""
    return _fields((), before, after, Rules())


def implied(action, fields, implies):
    """What a change implies, each text once. A path in ``implies`` covers the fields below it."""
    if action in ("create", "delete"):
        return [implies[action]] if action in implies else []
    paths = [re.sub(r"\[[^]]*\]", "", item["path"]) for item in fields]
    found = [
        text
        for rule, text in implies.items()
        if any(path == rule or path.startswith(rule + ".") or rule.startswith(path + ".") for path in paths)
    ]
    return list(dict.fromkeys(found))


def plan(desired, existing, rules=Rules(), *, name=""):
    """Compare. ``None`` inside ``desired`` means that the task does not set the field.

    Errors: :class:`ImmutableFieldError` when a field would have to change that cannot.
    """
    if desired is None or existing is None:
        return Plan(None if desired is None else prune(desired), existing, (), rules)
    desired = prune(desired)
    changes = tuple(_compare((), desired, existing, rules))
    _refuse_immutable(changes, rules, name)
    return Plan(desired, existing, changes, rules)


def prune(value):
    """A copy without the keys that are None, at any depth, and without the maps that held nothing else."""
    if isinstance(value, dict):
        pruned = {key: prune(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in pruned.items() if item != {} or value[key] == {}}
    if isinstance(value, (list, tuple)):
        return [prune(item) for item in value]
    return value


def _dotted(path):
    return ".".join(path)


def value_at(tree, path):
    """Return the value that a sequence of keys leads to; None where a key is missing."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _compare(path, desired, existing, rules):
    """Yield a :class:`Change` for each field of ``desired`` that ``existing`` does not agree with."""
    rule = _dotted(path)
    if rule in rules.write_only or (rule in rules.may_omit and existing is None):
        return
    if rule in rules.at_least:
        if existing is None or float(existing) < float(desired):
            yield Change(path, existing, desired)
    elif rule in rules.normalise:
        normal = rules.normalise[rule]
        if not _same(normal(desired), normal(existing) if existing is not None else None):
            yield Change(path, existing, desired)
    elif isinstance(desired, dict):
        yield from _compare_map(path, rule, desired, existing, rules)
    elif isinstance(desired, list):
        if not _same_list(path, rule, desired, existing or [], rules):
            yield Change(path, existing, desired)
    elif not _same(desired, existing):
        yield Change(path, existing, desired)


def _compare_map(path, rule, desired, existing, rules):
    if (rule in rules.presence and existing is None) or (existing is not None and not isinstance(existing, dict)):
        yield Change(path, existing, desired)
    elif rule in rules.whole:
        existing_map = existing or {}
        extra = set(existing_map) - set(desired)
        if extra or any(
            True for key in desired for _change in _compare((*path, key), desired[key], existing_map.get(key), rules)
        ):
            yield Change(path, existing, desired)
    else:
        for key in desired:
            yield from _compare((*path, key), desired[key], (existing or {}).get(key), rules)


def _covers(path, desired, existing, rules):
    """Whether ``existing`` agrees with all that ``desired`` sets."""
    return not any(True for _change in _compare(path, desired, existing, rules))


def _same_list(path, rule, desired, existing, rules):
    if not isinstance(existing, list) or len(desired) != len(existing):
        return False
    if rule in rules.keyed:
        key = rules.keyed[rule]
        known = {item.get(key): item for item in existing}
        return all(item.get(key) in known and _covers(path, item, known[item.get(key)], rules) for item in desired)
    if rule in rules.unordered:
        left = list(existing)
        for item in desired:
            match = next((index for index, other in enumerate(left) if _covers(path, item, other, rules)), None)
            if match is None:
                return False
            del left[match]
        return True
    # An element's own path is the list's: rules see through lists.
    return all(_covers(path, item, other, rules) for item, other in zip(desired, existing, strict=False))


def _same(desired, existing):
    """Whether two plain values mean the same in Google's JSON."""
    if existing is None:
        return (
            desired in ("", 0, "0", "0s", False, None)
            or (isinstance(desired, (dict, list)) and not desired)
            or str(desired).endswith("_UNSPECIFIED")
        )
    if isinstance(desired, bool) or isinstance(existing, bool):
        return desired is existing
    if (isinstance(desired, (int, float)) and isinstance(existing, str)) or (
        isinstance(desired, str) and isinstance(existing, (int, float))
    ):
        # 64-bit integers are strings in JSON.
        return str(desired) == str(existing)
    if isinstance(desired, str) and isinstance(existing, str):
        if _DURATION.fullmatch(desired) and _DURATION.fullmatch(existing):
            return float(desired[:-1]) == float(existing[:-1])
        if _TIMESTAMP.fullmatch(desired) and _TIMESTAMP.fullmatch(existing):
            return _timestamp(desired) == _timestamp(existing)
    return desired == existing


def _timestamp(text):
    whole, _dot, fraction = re.sub(r"(Z|[+-]00:00)$", "", text).partition(".")
    return whole, fraction.rstrip("0")


def _merged(path, desired, existing, rules):
    """``existing`` with the fields of ``desired`` over it; lists and whole maps are replaced where they differ."""
    if isinstance(desired, dict) and _dotted(path) not in rules.whole:
        merged = dict(existing) if isinstance(existing, dict) else {}
        for key, value in desired.items():
            merged[key] = _merged((*path, key), value, merged.get(key), rules)
        return merged
    if existing is not None and _covers(path, desired, existing, rules) and _dotted(path) not in rules.write_only:
        return copy.deepcopy(existing)
    if _dotted(path) in rules.merge and existing:
        return rules.merge[_dotted(path)](copy.deepcopy(desired), copy.deepcopy(existing))
    return copy.deepcopy(desired)


def _before(path, desired, existing, rules):
    """The part of ``existing`` that ``desired`` speaks about, in its words where both mean the same."""
    if _covers(path, desired, existing, rules):
        return desired
    if isinstance(desired, dict) and isinstance(existing, dict) and _dotted(path) not in rules.whole:
        known = {
            key: value for key, value in desired.items() if key in existing or _covers((*path, key), value, None, rules)
        }
        return {key: _before((*path, key), value, existing.get(key), rules) for key, value in known.items()}
    if isinstance(desired, list) and isinstance(existing, list):
        return [_before_element(path, item, desired, index, rules) for index, item in enumerate(existing)]
    return existing


def _before_element(path, item, desired, index, rules):
    """An element of a list that differs, cut to the fields that the task sets on its counterpart."""
    key = rules.keyed.get(_dotted(path))
    if key:
        wanted = next((other for other in desired if other.get(key) == item.get(key)), None)
    else:
        wanted = desired[index] if index < len(desired) else None
    if not isinstance(wanted, dict) or not isinstance(item, dict):
        return item
    return {
        name: _before((*path, name), value, item.get(name), rules)
        for name, value in wanted.items()
        if name in item or _covers((*path, name), value, None, rules)
    }


def _shown(path, value, rules):
    """A copy fit to be shown: write-only and hidden fields without their values."""
    if _dotted(path) in rules.write_only or _dotted(path) in rules.hidden:
        return HIDDEN
    if isinstance(value, dict):
        return {key: _shown((*path, key), item, rules) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(path, item, rules) for item in value]
    return value


def _changed_fields(change, rules):
    """The fields of one change: the parts of a list or map that differ, or the change itself."""
    before = None if change.before is None else _before(change.path, change.after, change.before, rules)
    label = _dotted(change.path)
    return _fields(change.path, before, change.after, rules, label) or [
        _field(change.path, label, change.before, change.after, rules)
    ]


def _fields(path, before, after, rules, label=""):
    """What differs between two values, as a list of ``{path, before, after}``.

    ``label`` is the path as it is shown, where an element of a list has its key or index in brackets.
    """
    if before == after:
        return []
    rule = _dotted(path)
    maps = [value for value in (before, after) if value is not None]
    if rule in rules.write_only or rule in rules.hidden:
        return [_field(path, label, before, after, rules)]
    if all(isinstance(value, dict) for value in maps) and any(maps):
        keys = dict.fromkeys(key for value in maps for key in value)
        parts = [(".".join(filter(None, (label, key))), (*path, key), key) for key in keys]
        return [
            item
            for name, below, key in parts
            for item in _fields(below, (before or {}).get(key), (after or {}).get(key), rules, name)
        ]
    if rule not in rules.unordered and all(_is_list_of_maps(value) for value in maps) and any(maps):
        old, new = _by_key(rule, before, rules), _by_key(rule, after, rules)
        return [
            item
            for key in dict.fromkeys([*old, *new])
            for item in _fields(path, old.get(key), new.get(key), rules, f"{label}[{key}]")
        ]
    return [_field(path, label, before, after, rules)]


def _field(path, label, before, after, rules):
    shown = [None if value is None else _shown(path, value, rules) for value in (before, after)]
    return {"path": label, "before": shown[0], "after": shown[1]}


def _is_list_of_maps(value):
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _by_key(rule, items, rules):
    """Return the elements of a list by their key or index. A key is not among the fields, unless it is the only one."""
    key = rules.keyed.get(rule)
    if not key:
        return dict(enumerate(items or []))
    return {item.get(key): {name: item[name] for name in item if name != key} or item for item in items or []}


def _refuse_immutable(changes, rules, name):
    refused = []
    for change in changes:
        dotted = _dotted(change.path)
        if dotted in rules.mutable:
            continue
        for path, way_out in rules.immutable.items():
            if dotted == path or dotted.startswith(path + "."):
                refused.append((dotted, change.before, change.after, way_out))
    if not refused:
        return
    lines = [
        f"{path} cannot be changed from {json.dumps(before, sort_keys=True)} to {json.dumps(after, sort_keys=True)}"
        for path, before, after, _way_out in refused
    ]
    raise ImmutableFieldError(
        "{}{}.".format(f"{name}: " if name else "", "; ".join(lines)),
        " ".join(dict.fromkeys(way_out for *_fields, way_out in refused if way_out)),
        fields=[path for path, *_rest in refused],
    )
