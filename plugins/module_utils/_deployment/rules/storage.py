# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Cloud Storage takes.

Sources: https://cloud.google.com/storage/docs/lifecycle, https://cloud.google.com/storage/docs/soft-delete,
https://cloud.google.com/storage/docs/cross-origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, nearest

_DAY = 24 * 3600
# The last three are older names (https://cloud.google.com/storage/docs/storage-classes#legacy).
CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "REGIONAL", "MULTI_REGIONAL", "DURABLE_REDUCED_AVAILABILITY")
_ACTIONS = ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload")
_NUMBERS = ("age", "numNewerVersions", "daysSinceCustomTime", "daysSinceNoncurrentTime")
_DATES = ("createdBefore", "customTimeBefore", "noncurrentTimeBefore")
_LISTS = ("matchesStorageClass", "matchesPrefix", "matchesSuffix")


def _is_number(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31


# condition -> (whether it takes a value, what it takes)
_CONDITIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(_NUMBERS, (_is_number, "a number of 0 or more")),
    **dict.fromkeys(_DATES, (lambda item: isinstance(item, str), "a date such as 2026-11-27")),
    **dict.fromkeys(
        _LISTS,
        (lambda item: isinstance(item, list) and all(isinstance(entry, str) for entry in item), "a list of text"),
    ),
    "isLive": (lambda item: isinstance(item, bool), "true or false"),
    "matchesPattern": (lambda item: isinstance(item, str), "a regular expression"),
    # 64-bit integers are text in Google's JSON.
    **dict.fromkeys(
        ("sizeAboveBytes", "sizeBelowBytes"),
        (lambda item: _is_number(item) or (isinstance(item, str) and item.isdigit()), "a number of bytes"),
    ),
}
_CORS = {"origin": list, "method": list, "responseHeader": list, "maxAgeSeconds": int}


def soft_delete(value: Any) -> Fault | None:
    """0, or 7 to 90 days."""
    if value == 0 or 7 * _DAY <= value <= 90 * _DAY:
        return None
    return (
        "and Cloud Storage keeps deleted objects for 7 to 90 days",
        f"Set it to {7 * _DAY} to {90 * _DAY} seconds, or to 0 to disable soft delete.",
    )


def _unknown(key: str, known: tuple[str, ...], what: str) -> Fault:
    like_it = nearest(key, known)
    hint = f"Did you mean {like_it}? " if like_it else ""
    return f"and {shown(key)} is not {what} of the API", f"{hint}Use {', '.join(known)}."


def lifecycle(value: Any) -> Fault | None:
    """A rule of a lifecycle: an action and a condition that is not empty."""
    for key in value:
        if key not in ("action", "condition"):
            return _unknown(key, ("action", "condition"), "a part of a rule")
    action, condition = value.get("action"), value.get("condition")
    if not isinstance(action, dict) or not isinstance(condition, dict):
        return (
            "and a rule has an action and a condition, both mappings",
            "Write {action: {type: Delete}, condition: {age: 30}}, for example.",
        )
    return _action(action) or _condition(condition)


def _action(action: Mapping[str, Any]) -> Fault | None:
    kind = action.get("type")
    if kind not in _ACTIONS:
        return _unknown(str(kind), _ACTIONS, "a type of action")
    if kind == "SetStorageClass" and action.get("storageClass") not in CLASSES:
        return (
            f"and {shown(action.get('storageClass'))} is not a storage class",
            f"Set storageClass of the action to one of {', '.join(CLASSES[:4])}.",
        )
    strange = [key for key in action if key not in ("type", "storageClass")]
    return _unknown(strange[0], ("type", "storageClass"), "a part of an action") if strange else None


def _condition(condition: Mapping[str, Any]) -> Fault | None:
    if not condition:
        return "and a condition must not be empty", "Add a condition such as age: 30."
    for key, item in condition.items():
        if key not in _CONDITIONS:
            return _unknown(key, tuple(_CONDITIONS), "a condition")
        fits, expected = _CONDITIONS[key]
        if not fits(item):
            return f"and the condition {key} is {shown(item)}", f"Set {key} to {expected}."
    return None


def cors(value: Any) -> Fault | None:
    """A rule of CORS."""
    for key, item in value.items():
        if key not in _CORS:
            return _unknown(key, tuple(_CORS), "a part of a CORS rule")
        if isinstance(item, bool) or not isinstance(item, _CORS[key]) or (isinstance(item, int) and item < 0):
            expected = "a number of seconds" if _CORS[key] is int else "a list"
            return f"and {key} is {shown(item)}", f"Set {key} to {expected}."
    return None if value else ("and a CORS rule must not be empty", "Add origin and method, or remove the rule.")


RULES: Mapping[str, Rule] = {"soft_delete": soft_delete}
MAPPINGS: Mapping[str, Rule] = {"lifecycle": lifecycle, "cors": cors}
