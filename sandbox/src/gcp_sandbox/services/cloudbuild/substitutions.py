# SPDX-License-Identifier: Apache-2.0
"""$NAME in a build's fields (cloud.google.com/build/docs/configuring-builds/substitute-variable-values)."""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.gateway import errors

_KEY = re.compile(r"_[A-Z0-9_]+")
_VARIABLE = re.compile(r"\$\$|\$(?:\{(\w+)\}|([A-Z_][A-Z0-9_]*))")
#: Known to Cloud Build, empty in a build that no trigger started.
_OF_TRIGGERS = ("TRIGGER_NAME", "COMMIT_SHA", "REVISION_ID", "SHORT_SHA", "REPO_NAME", "BRANCH_NAME", "TAG_NAME")


def apply(build: dict[str, Any], known: dict[str, str], *, loose: bool) -> dict[str, Any]:
    """Return the build with variables replaced in its steps, images, tags and logs bucket.

    :param known: what Cloud Build defines: PROJECT_ID, BUILD_ID, ...
    :param loose: ALLOW_LOOSE: neither an unknown nor an unused variable is an error.
    :raises ApiError: 400 in Cloud Build's words.
    """
    given = build.get("substitutions", {})
    for key in given:
        if not _KEY.fullmatch(key) and key not in _OF_TRIGGERS:
            raise errors.invalid(
                f'invalid value for "build.substitutions": key "{key}" must start with an underscore and contain only '
                "uppercase letters, numbers and underscores"
            )
    values = {**dict.fromkeys(_OF_TRIGGERS, ""), **known, **given}
    used: set[str] = set()

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name = found[1] or found[2]
        if name not in values:
            if loose:
                return "" if name.startswith("_") else found[0]
            if name.startswith("_"):
                raise errors.invalid(f'key in the template "{name}" is not matched in the substitution data')
            raise errors.invalid(f'invalid value for "build": "{name}" is not a valid built-in substitution')
        used.add(name)
        return values[name]

    def replace(item: Any) -> Any:
        if isinstance(item, str):
            return _VARIABLE.sub(value, item)
        if isinstance(item, list):
            return [replace(each) for each in item]
        if isinstance(item, dict):
            return {name: replace(each) for name, each in item.items()}
        return item

    fields = ("steps", "images", "tags", "logsBucket", "artifacts", "serviceAccount", "options")
    replaced = {name: replace(build[name]) for name in fields if name in build}
    unused = [key for key in given if key not in used and key not in _OF_TRIGGERS]
    if unused and not loose:
        raise errors.invalid(f'key "{unused[0]}" in the substitution data is not matched in the template')
    return {**build, **replaced}
