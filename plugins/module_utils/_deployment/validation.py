# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the values of variables with the rules of Google's services. Pure.

``check`` applies to each variable what its description says (choices, limits, pattern, rule), and then what the
services say about values that do not go together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import variables as described
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem, shown
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import (
    access,
    appengine,
    cloudrun,
    cloudsql,
    deployment,
    network,
    places,
    server,
    storage,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import (
    names as name_rules,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.kinds import Fault, Rule, nearest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import Variable

# Rules for what is not a mapping, and rules for mappings as a whole.
RULES: Mapping[str, Rule] = {
    name: rule
    for module in (access, appengine, cloudrun, cloudsql, name_rules, network, places, server, storage)
    for name, rule in module.RULES.items()
}
MAPPINGS: Mapping[str, Rule] = {
    name: rule for module in (access, cloudsql, name_rules, server, storage) for name, rule in module.MAPPINGS.items()
}

# Without these nothing can be deployed, and their defaults come from the environment or the inventory.
_NEEDED = ("gcp_project", "gcp_region", "mlflow_name")
# The longest policy: https://cloud.google.com/iam/quotas#limits
_MOST_ENTRIES = 1500
# The payload of a secret: https://cloud.google.com/secret-manager/quotas
_LONGEST_TEXT = 65536
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check(
    values: Mapping[str, Any],
    derived: Mapping[str, str],
    target: str,
    names: Mapping[str, str] | None = None,
    more: Iterable[Problem] = (),
) -> list[Problem]:
    """Return what is wrong with the values of a deployment, the variables in the order of their description.

    :param values: of ``values.read``.
    :param derived: by variable, what is used where it is empty.
    :param target: the value of mlflow_target; variables that it does not read are not checked.
    :param names: of ``values.in_use``: the older name that a user has set for a variable.
    :param more: what the target says about its values together.
    """
    alone = [
        problem
        for variable in described.all_variables().values()
        for problem in _alone(variable, values, derived, target)
    ]
    wrong = {problem.variable for problem in alone}
    if wrong.intersection(_NEEDED):
        # Names that are derived from a wrong name are wrong, too.
        follows = {name for name in derived if name not in _NEEDED and not values.get(name)}
        alone = [problem for problem in alone if problem.variable not in follows]
    # A value that is wrong by itself is not reported again for what it does not fit.
    together = [problem for problem in (*_together(values, derived), *more) if problem.variable not in wrong]
    found = dict.fromkeys((*alone, *together))
    return [_as_set(problem, names or {}) for problem in found]


def _together(values: Mapping[str, Any], derived: Mapping[str, str]) -> Iterator[Problem]:
    yield from deployment.check(values, derived)
    yield from server.check(values)
    yield from cloudsql.check(values, derived)
    yield from cloudrun.check_job(values)
    yield from network.check(values)


def _as_set(problem: Problem, names: Mapping[str, str]) -> Problem:
    """Return the problem with the names that the user has set."""
    what, next = problem.what, problem.next
    for new, old in names.items():
        if not re.search(rf"\b{new}\b", f"{what} {next}"):
            continue  # only a problem of memory may lose its unit
        what, next = (re.sub(rf"\b{new}\b", old, text) for text in (what, next))
        if old.endswith("_gb"):  # a number of GiB
            what, next = (re.sub(r"(?<=\d)Gi\b", "", text) for text in (what, next))
    return Problem(names.get(problem.variable, problem.variable), what, next)


# --- one variable -----------------------------------------------------------------------------------------------------


def _alone(variable: Variable, values: Mapping[str, Any], derived: Mapping[str, str], target: str) -> Iterator[Problem]:
    name = variable.name
    if variable.targets and target not in variable.targets:
        return
    value = values.get(name)
    if value == variable.default and value is not None and name not in derived:
        return  # a test checks the defaults
    if value in (None, "") and derived.get(name):
        # The name that everything is derived from is checked by itself.
        if fault := _fault(variable, derived[name]):
            yield Problem(
                name,
                f"{name} is {shown(derived[name])}, {fault[0]}. It is derived from mlflow_name.",
                f"Choose another mlflow_name, or set {name}. {fault[1]}",
            )
        return
    if value is None or (value == "" and _may_be_empty(variable)):
        return
    for at, fault, wrong in _faults(variable, value, ""):
        yield Problem(name, f"{name}{at} is {wrong}, {fault[0]}.", fault[1])


def _may_be_empty(variable: Variable) -> bool:
    return variable.name not in _NEEDED and (variable.default == "" or variable.templated or variable.required)


def _faults(variable: Variable, value: Any, at: str) -> Iterator[tuple[str, Fault, str]]:
    """Yield where in a value something is wrong, what, and that part of the value as text."""
    hidden = "a hidden value" if variable.no_log or any(option.no_log for option in variable.options) else ""
    if isinstance(value, list):
        if len(value) > _MOST_ENTRIES:
            fault = f"and a list has at most {_MOST_ENTRIES} entries", "Use fewer; a group stands for many members."
            yield at, fault, f"a list of {len(value)}"
            return
        for index, item in enumerate(value):
            yield from _faults(variable, item, f"{at}[{index}]")
        return
    if isinstance(value, dict):
        if fault := _mapping_fault(variable, value):
            yield at, fault, hidden or shown(value)
            return
        for key, item in value.items():
            option = next((option for option in variable.options if option.name == key), None)
            if option is not None and item is not None:
                yield from _faults(option, item, f"{at}.{key}")
            elif variable.elements and not variable.options and variable.rule in RULES:
                yield from _faults(Variable(key, variable.elements, (), rule=variable.rule), item, f"{at}.{key}")
        return
    if fault := _fault(variable, value):
        yield at, fault, hidden or shown(value)


def _mapping_fault(variable: Variable, value: dict[str, Any]) -> Fault | None:
    if variable.rule in MAPPINGS:
        return MAPPINGS[variable.rule](value)
    return None


def _fault(variable: Variable, value: Any) -> Fault | None:
    """Return what is wrong with a value that is neither a list nor a mapping."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            return f"which has {len(value)} characters", f"Use at most {_LONGEST_TEXT}."
        # Keys are kept in lines.
        if _CONTROL.search(value) and not variable.no_log and variable.name != "template":
            return "which has a control character", "Remove it; text of a variable is one line."
    if variable.choices and value not in variable.choices:
        like_it = nearest(value, variable.choices)
        hint = f"Did you mean {like_it}? " if like_it else ""
        *most, last = variable.choices
        listed = f"{', '.join(most)} or {last}" if most else last
        return "which is not one of its values", f"{hint}Set it to {listed}."
    if variable.minimum is not None and value < variable.minimum:
        return (
            f"which is less than the minimum of {variable.minimum:g}",
            f"Set it to {variable.minimum:g} to {variable.maximum:g}.",
        )
    if variable.maximum is not None and value > variable.maximum:
        return (
            f"which is more than the maximum of {variable.maximum:g}",
            f"Set it to {variable.minimum:g} to {variable.maximum:g}.",
        )
    if variable.pattern and not re.fullmatch(variable.pattern, value):
        return "which does not have the required form", f"{variable.description[0]} It matches {variable.pattern}."
    if variable.rule in RULES:
        return RULES[variable.rule](value)
    return None
