# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How values of options are spelled in Google's JSON."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import UserError

# Options of modules that are maps of strings in the API. A test requires that each option of the type dict is among
# them or has suboptions.
MAPS = (
    "annotations",
    "beta_settings",
    "build_args",
    "env",
    "env_variables",
    "flags",
    "labels",
    "owner",
    "owner_labels",
    "secret_env",
    "template_secrets",
)
# How a map spells booleans, where not as true and false. Cloud SQL takes these for its flags.
_BOOLEANS = {"flags": ("off", "on")}


def text(value, booleans=("false", "true")):
    """Return a value of YAML as the text that its user wrote: ``true``, ``4711``, ``0.00001``, ``2026-11-27``."""
    if isinstance(value, bool):
        return booleans[value]
    if isinstance(value, float):
        return format(Decimal(repr(float(value))), "f")
    return value.isoformat() if isinstance(value, date) else str(value)


def with_texts(params):
    """Return the options of a module with text as keys and values of each map of :data:`MAPS`, in lists as well.

    A key without a value is left out. Errors: :class:`UserError` for a value that is no text, such as a list.
    """
    return {name: _texts(name, value) for name, value in params.items()}


def _texts(option, value):
    if isinstance(value, list):
        return [with_texts(item) if isinstance(item, dict) else item for item in value]
    if option not in MAPS or not isinstance(value, dict):
        return value
    given = {text(key): item for key, item in value.items() if item is not None}
    for key, item in given.items():
        if isinstance(item, (list, tuple, dict)):
            found = "a mapping" if isinstance(item, dict) else "a list"
            raise UserError(f"{option}.{key} is {found}, and its value must be text.", "Write it in quotes.")
    return {key: text(item, _BOOLEANS.get(option, ("false", "true"))) for key, item in given.items()}


def seconds(value):
    """Google's spelling of a duration; None stays None."""
    return None if value is None else f"{value}s"
