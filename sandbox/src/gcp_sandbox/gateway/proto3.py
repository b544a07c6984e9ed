# SPDX-License-Identifier: Apache-2.0
"""How protocol buffers become JSON: what Google's newer APIs leave out of their answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def without_zeros(body: Any, *, maps: Collection[str] = (), presence: Collection[str] = ()) -> Any:
    """`body` as the API gives it back: false, 0, "" and empty lists are what an absent field means.

    :param maps: fields that are maps; their values are kept as they are; an empty map is left out.
    :param presence: fields that are kept with any value: `optional` in the API's .proto files, or members of a oneof.
    """
    if isinstance(body, list):
        return [without_zeros(item, maps=maps, presence=presence) for item in body]
    if not isinstance(body, dict):
        return body
    kept = {}
    for key, value in body.items():
        if key in maps:
            if value:
                kept[key] = value
        elif key in presence or value not in (None, False, 0, "", []):
            kept[key] = without_zeros(value, maps=maps, presence=presence)
    return kept
