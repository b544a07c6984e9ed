# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes of a run: collect the ``changes`` of results, merge them by resource, count them, write them as text.

An entry is what ``module_utils._plan.entry`` returns: ``kind``, ``name``, ``action``, ``fields``, ``implies``.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from urllib.parse import quote

from ansible import constants
from ansible_collections.mlplatform.gcp.plugins.module_utils._plan import HIDDEN

ACTIONS = ("create", "change", "delete", "adopt")
SIGNS = {"create": "+", "change": "~", "delete": "-", "adopt": "~"}
_WIDTH = 120
_PATH_WIDTH = 48
_VALUE_WIDTH = 100
# From so many elements on, a list of a new resource is written as the names of its elements.
_MANY = 5
_LABEL = re.compile(r"(?:^|\.)(?:labels|userLabels)\.(?P<key>.+)")
# An element of a list that is known by a key and not by its index.
_ELEMENT = re.compile(r"(?P<list>.+?)\[(?!\d+\])(?P<key>[^]]+)\].*")


# Collecting


def entries_of(result):
    """Return the entries of the result of a task or of one item of a loop. Anything malformed is left out."""
    entries = result.get("changes")
    return [entry for entry in entries if _well_formed(entry)] if isinstance(entries, list) else []


def reports_changes(result):
    """Return whether a result, or that of an item of its loop, is from a module that returns ``changes``."""
    items = result.get("results")
    parts = [result, *(items if isinstance(items, list) else [])]
    return any(isinstance(part, dict) and isinstance(part.get("changes"), list) for part in parts)


def _well_formed(item):
    return (
        isinstance(item, dict)
        and item.get("action") in ACTIONS
        and isinstance(item.get("kind"), str)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("fields"), list)
        and all(isinstance(field, dict) and isinstance(field.get("path"), str) for field in item["fields"])
        and isinstance(item.get("implies"), list)
    )


def merge(entries):
    """Return one entry a resource, in the order of their first appearance.

    A resource that is created and then given a value, bindings or an execution is one that is created. Of a field that
    changes twice the first ``before`` and the last ``after`` count.
    """
    merged = {}
    for entry in entries:
        key = (entry["kind"], entry["name"])
        known = merged.get(key)
        merged[key] = _merged(known, entry) if known else entry
    return list(merged.values())


def _merged(first, second):
    actions = (first["action"], second["action"])
    action = next((each for each in ("create", "adopt") if each in actions), "change")
    if second["action"] == "delete":
        action = "delete"
    fields = {field["path"]: field for field in first["fields"]}
    for field in second["fields"]:
        known = fields.get(field["path"])
        fields[field["path"]] = dict(field, before=known.get("before")) if known else field
    implies = list(dict.fromkeys([*first["implies"], *second["implies"]]))
    return dict(first, action=action, fields=list(fields.values()) if action != "delete" else [], implies=implies)


def count(entries):
    """Return ``{create: n, change: n, delete: n, adopt: n}`` of merged entries."""
    return {action: sum(entry["action"] == action for entry in entries) for action in ACTIONS}


# Keeping them for a later task. Results of tasks are not known to other tasks; every task runs in a fork of its own.


def record(host, entries, *, censored=False):
    """Keep the entries of a host for :func:`recorded`, until the end of the run.

    ``censored`` leaves out the fields, for a task with ``no_log``.
    """
    if not entries:
        return
    lines = [json.dumps(dict(entry, fields=[]) if censored else entry) + "\n" for entry in entries]
    path = _path(host)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(lines))


def recorded(host):
    """Return the merged entries of a host so far."""
    try:
        with open(_path(host), encoding="utf-8") as file:
            return merge(json.loads(line) for line in file)
    except FileNotFoundError:
        return []


def _path(host):
    # Ansible's own folder for temporary files of one run: readable by the user only, and removed at its end.
    return os.path.join(constants.DEFAULT_LOCAL_TMP, "mlplatform-gcp-changes", quote(host, safe=""))


# Text


def summary(counts, applied=False):
    """Return the line ``Plan: 20 to create, 1 to change, 0 to delete``; what is adopted is named if there is any."""
    shown = [action for action in ACTIONS if action != "adopt" or counts["adopt"]]
    if applied:
        done = {"create": "created", "change": "changed", "delete": "deleted", "adopt": "adopted"}
        return "Applied: " + ", ".join(f"{counts[action]} {done[action]}" for action in shown)
    return "Plan: " + ", ".join(f"{counts[action]} to {action}" for action in shown)


def short_name(name):
    """Return the ids of a full name, without project and location: ``instance/database``."""
    parts = name.split("/")
    if parts[0] not in ("projects", "apps", "b", "folders", "organizations") or len(parts) % 2:
        return name
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    ids = [value for kind, value in pairs if kind not in ("projects", "locations", "apps")]
    return "/".join(ids) or pairs[-1][1]


def title(entry):
    """Return the heading of an entry, such as ``+ bucket artifacts``."""
    more = " (adopt)" if entry["action"] == "adopt" else ""
    return f"{SIGNS[entry['action']]} {entry['kind']} {short_name(entry['name'])}{more}"


def brief(entry):
    """Return an entry on one line: its heading and the names of the fields that change."""
    paths = [field["path"] for field in entry["fields"]] if entry["action"] in ("change", "adopt") else []
    return f"{title(entry)}{': ' if paths else ''}{', '.join(paths)}"


def common_labels(entries):
    """Return the labels that several new resources have, ``{key: value}``."""
    seen = {}
    for entry in entries:
        if entry["action"] in ("create", "adopt"):
            for field in entry["fields"]:
                match = _LABEL.search(field["path"])
                if match and field["before"] is None:
                    pair = (match["key"], str(field["after"]))
                    seen[pair] = seen.get(pair, 0) + 1
    often = sorted((pair for pair, times in seen.items() if times > 1), key=lambda pair: seen[pair])
    return dict(often)


def describe(entry, labels=None, full=False):
    """Return the lines of an entry: its heading, the fields that count, and what it implies.

    ``labels`` are left out of new resources. ``full`` writes all fields with their whole values.
    """
    rows = entry["fields"] if full else _fields_that_count(entry, labels or {})
    width = min(_PATH_WIDTH, max((len(field["path"]) for field in rows), default=0))
    lines = [title(entry) if not full else f"{title(entry)}   {entry['name']}"]
    for field in rows:
        head = f"    {field['path']:<{width}}  "
        for text in _values(entry["action"], field, full):
            lines += textwrap.wrap(
                text,
                width=_WIDTH,
                initial_indent=head,
                subsequent_indent=" " * (len(head) + (2 if text[:2] in ("+ ", "- ") else 0)),
                break_long_words=False,
                break_on_hyphens=False,
            ) or [head.rstrip()]
            head = " " * len(head)
    return lines + [f"    => {text}" for text in entry["implies"]]


def _fields_that_count(entry, labels):
    """Return the fields without defaults, common labels and repetitions; of long lists the names of the elements."""
    if entry["action"] not in ("create", "adopt"):
        return entry["fields"]
    rows, lists = [], {}
    for field in entry["fields"]:
        label, element = _LABEL.search(field["path"]), _ELEMENT.fullmatch(field["path"])
        new = field["before"] is None
        if new and (
            (label and labels.get(label["key"]) == str(field["after"]))
            or _spells(field["after"], labels)
            or _repeats(field)
            or field["after"] in (False, 0, "", "0s", None, [], {})
        ):
            continue
        if element and new:
            keys = lists.setdefault(element["list"], [])
            if element["key"] not in keys:
                keys.append(element["key"])
        rows.append(field)
    return _fold_lists(rows, {path: keys for path, keys in lists.items() if len(keys) >= _MANY})


def _spells(value, labels):
    """Return whether a text is made of labels: what has no labels carries them in its description."""
    pairs = {f"{key}={text}" for key, text in labels.items()}
    return bool(pairs) and isinstance(value, str) and set(value.split()) == pairs


def _repeats(field):
    """Return whether a field is a name that stands in the heading or in its path."""
    path = re.sub(r"\[([^]]+)\]", r".\1", field["path"]).split(".")
    return field["path"] == "name" or (path[-1] in ("id", "name") and field["after"] == path[-2])


def _fold_lists(rows, lists):
    folded = []
    for field in rows:
        element = _ELEMENT.fullmatch(field["path"])
        path = element["list"] if element else ""
        if path not in lists:
            folded.append(field)
        elif lists[path]:
            folded.append({"path": path, "before": None, "after": lists[path]})
            lists[path] = []
    return folded


def _values(action, field, full):
    """Yield the texts of a field: its value, before and after, or what comes to a list and goes from it."""
    before, after = field.get("before"), field.get("after")
    if before == HIDDEN and after == HIDDEN:
        yield HIDDEN
    elif _is_plain_list(before, after) and action != "create":
        for sign, one, other in (("+", after, before), ("-", before, after)):
            items = [_text(item, full) for item in one or [] if item not in (other or [])]
            if items:
                yield f"{sign} {', '.join(items)}"
        if sorted(map(str, before or [])) == sorted(map(str, after or [])):
            yield f"{_text(before, full)} -> {_text(after, full)}"
    elif action == "create" or before == after:
        yield _text(after, full)
    else:
        yield f"{_text(before, full)} -> {_text(after, full)}"


def _is_plain_list(*values):
    lists = [value for value in values if value is not None]
    return bool(lists) and all(
        isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value) for value in lists
    )


def _text(value, full):
    if value is None:
        return "(not set)"
    if _is_plain_list(value) and value:
        return ", ".join(_text(item, full) for item in value)
    plain = isinstance(value, str) and value and value == value.strip() and value.isprintable()
    text = value if plain else json.dumps(value, ensure_ascii=False)
    return text if full or len(text) <= _VALUE_WIDTH else text[: _VALUE_WIDTH - 3] + "..."
