# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The values that users give, as text or as YAML, in the types that the variables are described with."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import variables as described
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import Variable
from ansible_collections.mlplatform.gcp.plugins.module_utils._values import text as text_of

_TRUE = frozenset(("yes", "true", "on", "y", "t", "1"))
_FALSE = frozenset(("no", "false", "off", "n", "f", "0"))
_INTEGER = re.compile(r"[+-]?[0-9]+(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_ASSIGNMENT = re.compile(r"([^\s:=]+)\s*=(.*)", re.DOTALL)
_PAIR = re.compile(r"([^\s:=]+)\s*:(?:\s+(.*))?", re.DOTALL)
# Rules of values that may be versions.
_VERSIONS = frozenset(("version", "tag", "build_args"))
# What Cloud SQL calls YAML's booleans.
_FLAG = ("off", "on")
# No setting of Google's is larger. Python refuses to print integers of thousands of digits.
_LARGEST = 2**53
# A document with anchors can expand to more nodes than fit in memory.
_MOST_NODES = 20_000
_DEEPEST = 40
_LONGEST_DOCUMENT = 100_000

# Name of each type, and how to write a value of it.
_EXPECTED = {
    "str": ("text", "Write it as text."),
    "path": ("a path", "Write it as text."),
    "int": ("a whole number", "Set it to a whole number."),
    "float": ("a number", "Set it to a number."),
    "bool": ("true or false", "Set it to true or false."),
    "list": ("a list", "Write it as a list, or as text: one entry a line, entries between commas, JSON or YAML."),
    "dict": ("a mapping", "Write it as a mapping, or as text: one NAME=VALUE a line, JSON or YAML."),
}


class Misfit(Exception):
    """A value that a type cannot take. ``what`` is the sentence after the variable's name, ``next`` the remedy."""

    def __init__(self, what: str, next: str):
        super().__init__(what)
        self.what, self.next = what, next


def read(variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem], list[Problem]]:
    """Return the value of every described variable, what does not fit, and the replaced names that are in use.

    A variable that is unset or has an invalid value has its default. One without a default, or with one that
    only Ansible can evaluate, has None, or "" where it is text.

    :param variables: everything that Ansible knows, templates evaluated; names that no role knows are ignored.
    """
    given = {str(name): value for name, value in variables.items() if isinstance(name, str) and not _unset(value)}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, variable in described.all_variables().items():
        values[name] = _value(variable, given.get(name), problems)
    deprecated = []
    for old, variable in described.replaced().items():
        target = described.target_of(old)
        if old not in given or (target and target != values["mlflow_target"]):
            continue
        deprecated.append(_deprecation(old, variable.name, variable.name in given))
        if variable.name not in given:
            values[variable.name] = _old_value(old, variable, given[old], problems)
    return values, problems, deprecated


def in_use(variables: Mapping[str, Any], target: str) -> dict[str, str]:
    """Return which older name a user has set in place of each variable."""
    return {
        variable.name: old
        for old, variable in described.replaced().items()
        if not _unset(variables.get(old))
        and _unset(variables.get(variable.name))
        and described.target_of(old) in ("", target)
    }


def _deprecation(old: str, new: str, both: bool) -> Problem:
    if both:
        return Problem(old, f"{old} is ignored, because {new}, which replaces it, is set as well.", f"Remove {old}.")
    return Problem(old, f"{old} is deprecated: {new} is the same setting on every target.", f"Rename it to {new}.")


def _is_a(value: Any, *names: str) -> bool:
    """Whether a value is of one of Jinja's or Ansible's own types, which are not imported for that."""
    return any(kind.__name__ in names for kind in type(value).__mro__)


def _unset(value: Any) -> bool:
    return value is None or _is_a(value, "Undefined", "Marker")


def _decrypted(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # Ansible's own, for a vault without its password
        raise Misfit(" cannot be decrypted.", "Give the password of its vault.") from error


def _old_value(old: str, variable: Variable, value: Any, problems: list[Problem]) -> Any:
    """Return the value of an older name in the unit of the newer one: NAME_gb is a number of GiB."""
    if not old.endswith("_gb"):
        return _value(variable, value, problems, old)
    amount = _value(Variable(old, "float", ()), value, problems)
    return _default(variable) if amount is None else f"{amount:.15g}Gi"


def _value(variable: Variable, given: Any, problems: list[Problem], name: str = "") -> Any:
    name = name or variable.name
    if _unset(given):
        return _default(variable)
    try:
        value = _convert(variable, _plain(given))
    except Misfit as misfit:
        problems.append(Problem(name, f"{name}{misfit.what}", misfit.next))
        return _default(variable)
    return _default(variable) if value is None else value


def _default(variable: Variable) -> Any:
    default = variable.default
    if isinstance(default, (list, dict)):
        return copy.deepcopy(default)
    return "" if variable.templated else default


# --- plain types ------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Return a value of any type as str, int, float, bool, None, list or dict with text as keys."""
    budget = [_MOST_NODES]

    def walk(value: Any, depth: int) -> Any:
        budget[0] -= 1
        if budget[0] < 0 or depth > _DEEPEST:
            raise Misfit(" has too many values, or values too deep inside others.", "Set a smaller value.")
        if isinstance(value, str):
            return str.__str__(value)
        if _is_a(value, "AnsibleVaultEncryptedUnicode", "EncryptedString"):
            return _decrypted(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Mapping):
            return {key(name): walk(item, depth + 1) for name, item in value.items() if not _unset(item)}
        if isinstance(value, (Sequence, Set)):
            return [walk(item, depth + 1) for item in value]
        raise Misfit(
            f" is an object of the type {type(value).__name__}, which is not a value.", "Set text, a number or a list."
        )

    def key(name: Any) -> str:
        if isinstance(name, (str, bool, int, float)):
            return text_of(walk(name, 0))
        raise Misfit(f" has a key that is not text: {shown(name)}.", "Write each key as text.")

    return walk(value, 0)


# --- one value --------------------------------------------------------------------------------------------------------


def _convert(variable: Variable, value: Any) -> Any:
    """Return `value`, which is plain, in the variable's type; None if it is empty text where text has no meaning."""
    return _CONVERTERS[variable.type](variable, value)


def _misfit(variable: Variable, value: Any) -> Misfit:
    at = "has a value that" if variable.hidden else f"is {shown(value)}, which"
    expected, next = _EXPECTED[variable.type]
    return Misfit(f" {at} is not {expected}.", next)


def _as_str(variable: Variable, value: Any) -> str:
    if isinstance(value, (list, dict)) or value is None or (isinstance(value, int) and abs(value) > _LARGEST):
        raise _misfit(variable, value)
    if isinstance(value, float) and variable.rule in _VERSIONS:
        what = f" is {shown(value)}, a number, and YAML reads {value:g} and {value:g}0 as the same number."
        raise Misfit(what, "Write it in quotes.")
    return value if variable.no_log and isinstance(value, str) else text_of(value).strip()


def _as_int(variable: Variable, value: Any) -> int | None:
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if not _INTEGER.fullmatch(value) or len(value) > 40:
            raise _misfit(variable, value)
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _misfit(variable, value)
    if abs(value) > _LARGEST:
        raise Misfit(" is too large a number for any setting.", "Set a smaller number.")
    return value


def _as_float(variable: Variable, value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if not _NUMBER.fullmatch(value) or len(value) > 40:
            raise _misfit(variable, value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _misfit(variable, value)
    if not abs(value) <= _LARGEST or math.isnan(value):
        raise Misfit(" is not a number that a setting can have.", "Set a smaller number.")
    return float(value)


def _as_bool(variable: Variable, value: Any) -> bool | None:
    text = value.strip().lower() if isinstance(value, str) else value
    if text == "":
        return None
    if isinstance(text, bool):
        return text
    if isinstance(text, str) and text in _TRUE | _FALSE:
        return text in _TRUE
    if isinstance(text, (int, float)) and text in (0, 1):
        return bool(text)
    raise _misfit(variable, value)


# --- lists ------------------------------------------------------------------------------------------------------------


def _as_list(variable: Variable, value: Any) -> list[Any]:
    if isinstance(value, str):
        value = _list_of_text(variable, value.strip())
    if not isinstance(value, list):
        raise _misfit(variable, value)
    entry = replace(variable, name="", type=variable.elements or "str", elements=None)
    return [_inside(entry, item, f"[{index}]") for index, item in enumerate(value)]


def _list_of_text(variable: Variable, text: str) -> Any:
    """Return the entries of a text: JSON, YAML, or one a line or between commas."""
    if not text:
        return []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if variable.elements == "dict" and len(lines) > 1 and all(line[0] == "{" for line in lines):
        return [_document(variable, line.rstrip(",")) for line in lines]
    if text[0] in "[{" or variable.elements == "dict":
        found = _document(variable, text)
        return [found] if isinstance(found, dict) and variable.elements == "dict" else found
    return [entry for line in lines for entry in map(_entry, line.split(",")) if entry]


def _entry(text: str) -> str:
    text = text.strip()
    if text.startswith("- "):
        text = text[2:].strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text


# --- mappings ---------------------------------------------------------------------------------------------------------


def _as_dict(variable: Variable, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _mapping_of_text(variable, value.strip())
    if not isinstance(value, dict):
        raise _misfit(variable, value)
    if variable.options:
        return _with_options(variable, value)
    if variable.elements is None:
        return value
    entry = replace(variable, name="", type=variable.elements, elements=None)
    if variable.rule == "flags":
        value = {key: _FLAG[item] if isinstance(item, bool) else item for key, item in value.items()}
    return {key: _inside(entry, item, f".{key}") for key, item in value.items()}


def _with_options(variable: Variable, value: dict[str, Any]) -> dict[str, Any]:
    known = {option.name: option for option in variable.options}
    strange = [key for key in value if key not in known]
    if strange:
        raise Misfit(f" has the key {shown(strange[0])}, which it does not know.", f"Use the keys {', '.join(known)}.")
    missing = [name for name, option in known.items() if option.required and value.get(name) in (None, "")]
    if missing:
        raise Misfit(f" lacks the key {missing[0]}.", f"Add {missing[0]}: {known[missing[0]].description[0]}")
    found = {key: _inside(known[key], item, f".{key}") for key, item in value.items()}
    return {key: item for key, item in found.items() if item is not None}


def _inside(variable: Variable, value: Any, at: str) -> Any:
    try:
        return _convert(variable, value)
    except Misfit as misfit:
        raise Misfit(f"{at}{misfit.what}", misfit.next) from None


def _mapping_of_text(variable: Variable, text: str) -> Any:
    """Return the mapping in a text: JSON, YAML, or NAME=VALUE one a line or between commas."""
    if not text:
        return {}
    if text[0] in "{[":
        return _document(variable, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and not _one_pair(lines[0]):
        lines = [part.strip() for part in text.split(",") if part.strip()]
    for form in (_ASSIGNMENT, _PAIR):
        found = [form.fullmatch(line) for line in lines]
        if all(found) and (form is _ASSIGNMENT or variable.elements == "str"):
            return {_entry(match[1]): _entry(match[2] or "") for match in found if match}
    return _document(variable, text)


def _one_pair(line: str) -> bool:
    """Whether the commas of a line belong to one value: a second entry would have its own name."""
    return not any(_ASSIGNMENT.fullmatch(part.strip()) or _PAIR.fullmatch(part.strip()) for part in line.split(",")[1:])


def _depth(text: str) -> int:
    """Return at most how deep brackets are inside others; those in quotes count as well."""
    changes = ((char in "[{") - (char in "]}") for char in text if char in "[]{}")
    return max(itertools.accumulate(changes), default=0)


def _document(variable: Variable, text: str) -> Any:
    """Return what a JSON or YAML document holds, in plain types."""
    # PyYAML takes minutes for deep and long text.
    if len(text) > _LONGEST_DOCUMENT or _depth(text) > _DEEPEST:
        raise Misfit(" is text that is too long, or has values too deep inside others.", "Set a smaller value.")
    with contextlib.suppress(ValueError):  # not JSON
        return _plain(json.loads(text))
    import yaml  # comes with Ansible; the pure parts of the model do not need it

    try:
        return _plain(yaml.safe_load(text))
    except Misfit:
        raise
    except Exception:  # PyYAML's constructors raise KeyError, IndexError and others for values that they cannot read
        raise _misfit(variable, text) from None


_CONVERTERS: Mapping[str, Callable[[Variable, Any], Any]] = {
    "str": _as_str,
    "path": _as_str,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "list": _as_list,
    "dict": _as_dict,
}
