# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How values of options are spelled in Google's JSON."""

from __future__ import annotations


def text(value):
    """A string where only strings are allowed: YAML's booleans become ``true`` and ``false``, as in a shell."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def texts(values):
    """A map of strings; None stays None."""
    return None if values is None else {str(key): text(value) for key, value in values.items()}


def seconds(value):
    """Google's spelling of a duration; None stays None."""
    return None if value is None else f"{value}s"
