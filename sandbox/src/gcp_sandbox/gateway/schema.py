# SPDX-License-Identifier: Apache-2.0
"""Checks requests against the schemas of a discovery document, with the error texts of Google's JSON parser.

The texts follow the recorded answers of Google's API front end ("Invalid JSON payload received. Unknown name ...").
They name fields by their proto names (snake_case); type names of messages and enums are not in the documents and are
put together from the service's name.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from gcp_sandbox.gateway import errors
from gcp_sandbox.gateway.discovery import DiscoveryMethod, Document
from gcp_sandbox.gateway.enums import enum_number, enum_value
from gcp_sandbox.gateway.errors import ApiError

_DROP = object()
_INTEGER_RANGE = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")
# Fields a client has to send back, although documents mark them read-only.
_KEPT = frozenset({"name", "etag"})


def snake(name: str) -> str:
    """`camelCase` -> `camel_case`, as a proto names its fields."""
    return re.sub(r"(?<!^)(?<!_)([A-Z])", lambda m: "_" + m[1].lower(), name).lower()


def camel(name: str) -> str:
    """`snake_case` -> `snakeCase`."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


@functools.lru_cache(maxsize=20000)
def _snake(name: str) -> str:
    return snake(name)


class Checker:
    """Checks values against one document's schemas. Violations gather in `violations` as (field, text)."""

    def __init__(self, document: Document, *, unknown: str = "reject", keep_nulls: bool = False) -> None:
        self._document = document
        self._unknown = unknown
        self._keep_nulls = keep_nulls
        self.violations: list[tuple[str, str]] = []

    def message(self, ref: str, value: Any, path: str = "") -> dict[str, Any]:
        """`value` as a dict in the shape of schema `ref`: camelCase names, numbers and times in canonical form."""
        if not isinstance(value, dict):
            if path:
                self._type_error(path, f"type.googleapis.com/{self._type_name(ref)}", value)
            else:
                text = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
                self.violations.append(("", text))
            return {}
        schema = self._document.schemas[ref]
        return self._object(schema, value, path, ref)

    def _object(self, schema: dict[str, Any], value: dict[str, Any], path: str, ref: str) -> dict[str, Any]:
        properties = schema.get("properties")
        extra = schema.get("additionalProperties")
        if properties is None:
            return self._map(extra, value, path, ref) if extra else {**value} if not self._document_knows(ref) else {}
        names = _names(self._document, ref) if ref in self._document.schemas else _by_snake(properties)
        out: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in properties else names.get(key)
            if name is None:
                self._unknown_name(key, path)
                continue
            child = properties[name]
            if child.get("readOnly") and name not in _KEPT:
                continue
            checked = self._value(child, item, _join(path, _snake(name)), f"{ref}.{name[:1].upper()}{name[1:]}")
            if checked is not _DROP:
                out[name] = checked
        return out

    def _document_knows(self, ref: str) -> bool:
        # A schema without properties is an empty message, except where it stands for "anything".
        return self._document.schemas.get(ref, {}).get("type") == "object"

    def _map(self, schema: dict[str, Any], value: dict[str, Any], path: str, ref: str) -> dict[str, Any]:
        out = {}
        for index, (key, item) in enumerate(value.items()):
            checked = self._value(schema, item, f"{path}[{index}].value", ref, in_map=True)
            if checked is not _DROP:
                out[key] = checked
        return out

    def _value(self, schema: dict[str, Any], value: Any, path: str, ref: str, *, in_map: bool = False) -> Any:
        if "$ref" in schema:
            target = schema["$ref"]
            resolved = self._document.schemas.get(target, {})
            if resolved.get("type") == "any":
                return value
            if value is None:
                return None if self._keep_nulls else _DROP
            if isinstance(value, list):
                return self._not_repeated(path)
            return self.message(target, value, path)
        kind = schema.get("type", "any")
        if kind == "any":
            return value
        if value is None:
            # In maps null is a value of its own only for free-form structures; elsewhere it means "not set".
            return None if self._keep_nulls else _DROP
        if kind == "array":
            return self._array(schema, value, path, ref)
        if isinstance(value, list):
            return self._not_repeated(path)
        if kind == "object":
            if not isinstance(value, dict):
                return self._type_error(path, f"type.googleapis.com/{self._type_name(ref)}", value)
            return self._object(schema, value, path, ref)
        return self._scalar(schema, kind, value, path, ref)

    def _array(self, schema: dict[str, Any], value: Any, path: str, ref: str) -> Any:
        # Google's parser takes a single value for a list of one.
        items = value if isinstance(value, list) else [value]
        checked = (self._value(schema["items"], item, f"{path}[{i}]", ref) for i, item in enumerate(items))
        return [item for item in checked if item is not _DROP]

    def _scalar(self, schema: dict[str, Any], kind: str, value: Any, path: str, ref: str) -> Any:
        form = schema.get("format")
        if "enum" in schema:
            return self._enum(schema, value, path, ref)
        if kind == "boolean":
            if isinstance(value, str) and value in ("true", "false"):
                return value == "true"
            return value if isinstance(value, bool) else self._type_error(path, "TYPE_BOOL", value)
        if kind == "integer" or form in ("int64", "uint64"):
            return self._integer(kind, form or "int32", value, path)
        if kind == "number":
            return self._number(form, value, path)
        if form in ("google-duration", "google-datetime", "date-time"):
            return self._time(form, value, path)
        if not isinstance(value, str):
            return self._type_error(path, "TYPE_BYTES" if form == "byte" else "TYPE_STRING", value)
        if form == "byte":
            return self._bytes(value, path)
        if form == "google-fieldmask":
            return canonical_mask(value)
        return value

    def _enum(self, schema: dict[str, Any], value: Any, path: str, ref: str) -> Any:
        if isinstance(value, str) and value in schema["enum"]:
            return value
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and value.lstrip("-").isdigit():
            number = int(value)
        name = enum_value(schema["enum"], number) if number is not None else None
        return name if name else self._type_error(path, f"type.googleapis.com/{self._type_name(ref)}", value)

    def _integer(self, kind: str, form: str, value: Any, path: str) -> Any:
        number: int | None = None
        exact = isinstance(value, int) and not isinstance(value, bool)
        exact = exact or (isinstance(value, float) and value.is_integer())
        if exact or (isinstance(value, str) and re.fullmatch(r"-?\d+", value)):
            number = int(value)
        low, high = _INTEGER_RANGE.get(form, _INTEGER_RANGE["int64"])
        if number is None or not low <= number <= high:
            return self._type_error(path, f"TYPE_{form.upper()}", value)
        return str(number) if kind == "string" else number

    def _number(self, form: str | None, value: Any, path: str) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        try:
            number = float(value) if isinstance(value, str) else None
        except ValueError:
            number = None
        if number is None or not math.isfinite(number):
            return self._type_error(path, "TYPE_FLOAT" if form == "float" else "TYPE_DOUBLE", value)
        return number

    def _time(self, form: str, value: Any, path: str) -> Any:
        name = camel(path.rpartition(".")[2])
        if form == "google-duration":
            kind, problem = "Duration", "Illegal duration format; duration must end with 's'"
            good = isinstance(value, str) and _DURATION.fullmatch(value)
        else:
            kind, problem = "Timestamp", "Invalid time format: Failed to parse input"
            good = isinstance(value, str) and _is_time(value)
        if good:
            return value
        if isinstance(value, str):
            problem = f'{problem}: "{value}"' if kind == "Timestamp" else problem
            text = f"Invalid value at '{path}' (type.googleapis.com/google.protobuf.{kind}), Field '{name}', {problem}"
            self.violations.append((path, text))
            return _DROP
        return self._type_error(path, f"type.googleapis.com/google.protobuf.{kind}", value)

    def _bytes(self, value: str, path: str) -> Any:
        try:
            padded = value + "=" * (-len(value) % 4)
            data = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            text = f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for \"{value}\""
            self.violations.append((path, text))
            return _DROP
        return base64.b64encode(data).decode()

    def _unknown_name(self, key: str, path: str) -> None:
        if self._unknown == "reject":
            at = f" at '{path}'" if path else ""
            self.violations.append(
                (path, f'Invalid JSON payload received. Unknown name "{key}"{at}: Cannot find field.')
            )

    def _not_repeated(self, path: str) -> Any:
        parent, _, name = path.rpartition(".")
        at = f" at '{parent}'" if parent else ""
        problem = "Proto field is not repeating, cannot start list."
        self.violations.append((parent, f'Invalid JSON payload received. Unknown name "{name}"{at}: {problem}'))
        return _DROP

    def _type_error(self, path: str, kind: str, value: Any) -> Any:
        shown = json.dumps(value) if not isinstance(value, dict | list) else "{...}"
        self.violations.append((path, f"Invalid value at '{path}' ({kind}), {shown}"))
        return _DROP

    def _type_name(self, ref: str) -> str:
        name = ref if ref.startswith("Google") else ref.replace("_", ".")
        return f"google.cloud.{self._document.name}.{self._document.version}.{name}"

    def raise_violations(self) -> None:
        """ApiError 400 with all violations, as Google reports them, if there are any."""
        if self.violations:
            raise invalid_argument(self.violations)

    def query(self, method: DiscoveryMethod, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Query parameters by name, typed; repeated ones as lists. System parameters keep their text."""
        names = _by_snake(method.parameters)
        out: dict[str, Any] = {}
        for key, text in pairs:
            name = key if key in method.parameters else names.get(key)
            schema = method.parameters.get(name) if name else None
            if schema is None or schema.get("location") != "query":
                bare = key.removeprefix("$").removeprefix(".")
                if key.startswith("$") or bare in self._document.system_parameters:
                    out[bare] = text
                elif self._unknown == "reject":
                    message = (
                        f'Invalid JSON payload received. Unknown name "{key}": Cannot bind query parameter. '
                        f"Field '{key}' could not be found in request message."
                    )
                    self.violations.append(("", message))
                continue
            checked = self._query_value(schema, text, _query_path(name or key))
            if checked is _DROP:
                continue
            if schema.get("repeated"):
                out.setdefault(name, []).append(checked)
            else:
                out[name] = checked
        return out

    def _query_value(self, schema: dict[str, Any], text: str, path: str) -> Any:
        if schema.get("type") == "boolean":
            # Python's clients send True and False.
            text = text.lower() or "true"
        return self._scalar(schema, schema.get("type", "string"), text, path, _pascal(path))


def invalid_argument(violations: list[tuple[str, str]]) -> ApiError:
    """400 with google.rpc.BadRequest; the message has one line a violation."""
    return errors.invalid(
        "\n".join(text for _, text in violations),
        reason=None,
        details=[errors.bad_request(*violations)],
        legacy_errors=[
            {"message": text, "domain": "global", "reason": "invalid", **({"location": field} if field else {})}
            for field, text in violations
        ],
    )


def parse_body(data: bytes) -> Any:
    """JSON of a request body ({} when empty); ApiError 400 in the parser's words."""
    if not data.strip():
        return {}
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise invalid_argument([("", "Invalid JSON payload received. Invalid UTF-8.")]) from error
    except json.JSONDecodeError as error:
        lines = error.doc.split("\n")
        line = lines[min(error.lineno, len(lines)) - 1]
        start = max(0, error.colno - 21)
        near, gap = line[start : error.colno + 19], " " * (error.colno - 1 - start)
        what = "Unexpected end of string" if error.pos >= len(error.doc.rstrip()) else "Unexpected token"
        text = f"Invalid JSON payload received. {what}.\n{near}\n{gap}^"
        raise invalid_argument([("", text)]) from error


def body_field(method: DiscoveryMethod) -> str:
    """Return the name of the request field that the body is bound to, "" where the body is the whole request.

    The documents do not say. Google's APIs bind the whole request to messages called `...Request`, and a field named
    like the resource otherwise (AIP-133, AIP-134).
    """
    ref = method.request or ""
    if not ref or ref.endswith("Request"):
        return ""
    return snake(re.sub(r"^Google(?:Cloud|Devtools|Iam|Api)?[A-Za-z]*?V\d+(?:(?:alpha|beta)\d*)?(?=[A-Z])", "", ref))


def encode_enums(document: Document, ref: str | None, value: Any) -> Any:
    """Return a response with enum values as numbers, for clients that ask for `enum-encoding=int`."""
    if ref is None or not isinstance(value, dict):
        return value
    return _encode(document, {"$ref": ref}, value)


def _encode(document: Document, schema: dict[str, Any], value: Any) -> Any:
    if "$ref" in schema:
        schema = document.schemas.get(schema["$ref"], {})
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        return {
            key: _encode(document, properties.get(key) or extra or {}, item) if properties.get(key) or extra else item
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_encode(document, schema.get("items", {}), item) for item in value]
    if isinstance(value, str) and "enum" in schema:
        number = enum_number(schema["enum"], value)
        return value if number is None else number
    return value


def unexpected(document: Document, ref: str | None, value: Any, path: str = "") -> list[str]:
    """Paths in a response that the schema does not have: a mistake of the service here, never of the client."""
    schema = document.schemas.get(ref or "", {})
    return list(_unexpected(document, schema, value, path)) if schema else []


def _unexpected(document: Document, schema: dict[str, Any], value: Any, path: str) -> Iterable[str]:
    if "$ref" in schema:
        schema = document.schemas.get(schema["$ref"], {})
    kind = schema.get("type", "any")
    if kind == "any" or value is None:
        return
    if kind == "array":
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for index, item in enumerate(value):
            yield from _unexpected(document, schema.get("items", {}), item, f"{path}[{index}]")
    elif kind == "object":
        if not isinstance(value, dict):
            yield f"{path} is not an object"
            return
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            if key in properties:
                yield from _unexpected(document, properties[key], item, f"{path}.{key}".lstrip("."))
            elif extra:
                yield from _unexpected(document, extra, item, f"{path}.{key}".lstrip("."))
            elif properties:
                yield f"{path}.{key}".lstrip(".") + " is not in the schema"
    else:
        expected = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}[kind]
        if not isinstance(value, expected) or (kind != "boolean" and isinstance(value, bool)):
            yield f"{path} is {type(value).__name__} and should be {kind}"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{path} has {value!r}, which the enum does not"


def canonical_mask(mask: str) -> str:
    """Return a field mask with camelCase names, as bodies have them after checking."""
    return ",".join(camel(path.strip()) for path in mask.split(",") if path.strip())


def _names(document: Document, ref: str) -> dict[str, str]:
    cache = document.__dict__.setdefault("_snake_names", {})
    if ref not in cache:
        cache[ref] = _by_snake(document.schemas[ref].get("properties", {}))
    return cache[ref]


def _by_snake(properties: dict[str, Any]) -> dict[str, str]:
    return {".".join(_snake(part) for part in name.split(".")): name for name in properties}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _query_path(name: str) -> str:
    return ".".join(_snake(part) for part in name.split("."))


def _pascal(path: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[._]", path))


def _is_time(text: str) -> bool:
    # RFC 3339 with a zone; Python takes at most microseconds, Google nanoseconds.
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", text)
    if not found:
        return False
    try:
        datetime.datetime.fromisoformat(found[1].upper())
    except ValueError:
        return False
    return True
