# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a variable and a role are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variable:
    """One variable of a role, or one key of a mapping.

    type         str, int, float, bool, list, dict or path
    default      None: no default, and the variable may be unset. Text with a template is evaluated by Ansible.
    elements     the type of a list's entries, or of a mapping's values
    options      the keys of a mapping, or of each mapping in a list
    replaces     older names of the same setting
    targets      the targets that read the variable; all of them if empty
    rule         name of the rule in ``rules`` that each value, or each entry of a list, has to satisfy
    """

    name: str
    type: str
    description: tuple[str, ...]
    default: Any = None
    elements: str | None = None
    choices: tuple[str, ...] = ()
    options: tuple[Variable, ...] = ()
    required: bool = False
    no_log: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    replaces: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    rule: str = ""

    @property
    def kind(self) -> str:
        """Return the type in words: "list of str"."""
        return self.type + (f" of {self.elements}" if self.elements else "")

    @property
    def hidden(self) -> bool:
        """Whether values hold credentials or payloads."""
        return bool(self.no_log) or any(option.hidden for option in self.options)

    @property
    def templated(self) -> bool:
        """Whether the default is a template, which only Ansible can evaluate."""
        return isinstance(self.default, str) and "{{" in self.default


@dataclass(frozen=True)
class EntryPoint:
    """A further ``tasks_from`` of a role."""

    name: str
    short_description: str
    description: tuple[str, ...]


@dataclass(frozen=True)
class RoleSpec:
    """One role.

    main         whether the role has the entry point ``main``. Ansible validates the argument spec of that entry point
                 with a task in each run, also of a role that only others depend on.
    registers    names of results that the role leaves for others
    target       the value of mlflow_target that this role carries out
    text         whether users set the variables, possibly as text, and preflight reads them. Ansible's own check of
                 types would stop at the first one that does not fit.
    """

    name: str
    short_description: str
    description: tuple[str, ...]
    variables: tuple[Variable, ...]
    entry_points: tuple[EntryPoint, ...] = ()
    main: bool = True
    registers: tuple[str, ...] = ()
    target: str = ""
    text: bool = False
