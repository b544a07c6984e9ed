# SPDX-License-Identifier: Apache-2.0
"""Google's discovery documents: which request is which method. They come with google-api-python-client.

With the host known, a path is matched raw (still percent-encoded) against the templates of the few documents served
there. Where two templates match, as `x:getIamPolicy` and a plain get, the one with more literal characters wins.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_VARIABLE = re.compile(r"\{(\+?)(\w+)\}")
# What stands for "some characters" in the patterns of path parameters; the rest of a pattern is literal.
_WILD = re.compile(r"\[[^\]]*\][+*]?|\.[+*]|[()|?]")

# Parameters every Google API has, beside those that a document lists; a "$" may stand before any of them.
SYSTEM_PARAMETERS = frozenset(
    [
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "passwd",
        "pp",
        "prettyPrint",
        "quotaUser",
        "trace",
        "userIp",
        "uploadType",
        "upload_protocol",
        "upload_id",
        "xgafv",
        "httpMethod",
        "httpHeaders",
        "outputDefaults",
        "unique",
        "apiVersion",
    ]
)


@functools.cache
def documents_folder() -> Path:
    """Return where google-api-python-client keeps the documents; found without importing the library, which is slow."""
    spec = importlib.util.find_spec("googleapiclient")
    if spec is None or spec.origin is None:
        raise RuntimeError("google-api-python-client is not installed")
    return Path(spec.origin).parent / "discovery_cache" / "documents"


@functools.cache
def known_apis() -> frozenset[str]:
    """Return the names of all APIs Google publishes a document for ("compute", "run", ...)."""
    return frozenset(file.name.partition(".")[0] for file in documents_folder().glob("*.json"))


@dataclass(frozen=True)
class DiscoveryMethod:
    """A method of a document. `id` is without its first part: "projects.secrets.get"."""

    id: str
    full_id: str
    verb: str
    document: Document = field(repr=False)
    #: Discovery's own descriptions of path and query parameters, by name.
    parameters: dict[str, dict[str, Any]] = field(repr=False)
    request: str | None
    response: str | None
    #: OAuth scopes of which a token needs one.
    scopes: tuple[str, ...] = field(repr=False)
    supports_upload: bool
    supports_download: bool

    @property
    def version(self) -> str:
        return self.document.version


@dataclass(frozen=True)
class Match:
    """A request that a document describes. `kind` is "plain", "upload", "resumable" or "download"."""

    method: DiscoveryMethod
    params: dict[str, str]
    kind: str = "plain"


@dataclass(frozen=True)
class _Template:
    source: str
    weight: int
    method: DiscoveryMethod
    kind: str

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compiled when a request first gets this far: most templates never see one."""
        return re.compile(self.source)


@functools.cache
def load_document(name: str, version: str) -> Document:
    """Return the document, parsed once in a process; LookupError when Google publishes none."""
    return Document(name, version)


class Document:
    """A parsed discovery document and its routes."""

    def __init__(self, name: str, version: str) -> None:
        file = documents_folder() / f"{name}.{version}.json"
        if not file.exists():
            raise LookupError(f"Google publishes no discovery document {name}.{version}")
        self.name, self.version = name, version
        self._raw = json.loads(file.read_text())
        self.schemas: dict[str, dict[str, Any]] = self._raw.get("schemas", {})
        self.system_parameters = SYSTEM_PARAMETERS | {p.lstrip("$.") for p in self._raw.get("parameters", {})}
        self.methods: dict[str, DiscoveryMethod] = {}
        self._templates: dict[str, list[_Template]] = {}
        base = self._raw.get("servicePath", "")
        for raw in _walk(self._raw):
            self._add(raw, base)
        for templates in self._templates.values():
            templates.sort(key=lambda t: -t.weight)

    @property
    def title(self) -> str:
        return self._raw.get("title", self.name)

    @property
    def batch_path(self) -> str:
        """Path of the batch endpoint, e.g. "/batch/storage/v1"."""
        return "/" + self._raw.get("batchPath", "batch")

    def hosts(self) -> set[str]:
        """Host patterns ("*" for some characters) at which the document's API answers.

        Regional endpoints are both of `REGION-run.googleapis.com` and `run.REGION.rep.googleapis.com`.
        """
        hosts = {urlsplit(self._raw[key]).hostname or "" for key in ("rootUrl", "mtlsRootUrl") if self._raw.get(key)}
        short = self._raw["rootUrl"].removeprefix("https://").partition(".")[0]
        if short != "www":
            hosts |= {
                f"*-{short}.googleapis.com",
                f"{short}.*.rep.googleapis.com",
                f"{short}.*.rep.mtls.googleapis.com",
            }
        return hosts

    def match(self, verb: str, raw_path: str) -> Match | None:
        """Return which method a request is, or None."""
        for template in self._templates.get(verb, ()):
            found = template.pattern.fullmatch(raw_path)
            if found:
                params = {key: unquote(value) for key, value in found.groupdict().items()}
                return Match(template.method, params, template.kind)
        return None

    def _add(self, raw: dict[str, Any], base: str) -> None:
        upload = raw.get("mediaUpload", {}).get("protocols", {})
        method = DiscoveryMethod(
            id=raw["id"].partition(".")[2],
            full_id=raw["id"],
            verb=raw["httpMethod"],
            document=self,
            parameters=raw.get("parameters", {}),
            request=raw.get("request", {}).get("$ref"),
            response=raw.get("response", {}).get("$ref"),
            scopes=tuple(raw.get("scopes", ())),
            supports_upload=bool(upload),
            supports_download=bool(raw.get("supportsMediaDownload")),
        )
        # Several paths may lead to one id (run.v1 has the same method per namespace and per project): keep the first.
        self.methods.setdefault(method.id, method)
        path = f"/{base}{raw['path']}"
        self._template(path, method, "plain")
        if raw.get("useMediaDownloadService"):
            self._template(f"/download{path}", method, "download")
        for protocol, kind in (("simple", "upload"), ("resumable", "resumable")):
            if protocol in upload:
                self._template(upload[protocol]["path"], method, kind)

    def _template(self, path: str, method: DiscoveryMethod, kind: str) -> None:
        source, weight = _pattern(path, method.parameters)
        self._templates.setdefault(method.verb, []).append(_Template(source, weight, method, kind))


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node.get("methods", {}).values()
    for resource in node.get("resources", {}).values():
        yield from _walk(resource)


def _pattern(path: str, parameters: dict[str, dict[str, Any]]) -> tuple[str, int]:
    """Return a regular expression for a path template, and how many literal characters it has."""
    parts = _VARIABLE.split(path)
    out, weight = [re.escape(parts[0])], len(parts[0])
    for reserved, name, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        inner = "[^/]+"
        if reserved:
            inner = parameters.get(name, {}).get("pattern", ".+").removeprefix("^").removesuffix("$")
            weight += len(_WILD.sub("", inner))
        out += [f"(?P<{name}>{inner})", re.escape(literal)]
        weight += len(literal)
    return "".join(out), weight
