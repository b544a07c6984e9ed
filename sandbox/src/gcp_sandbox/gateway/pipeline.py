# SPDX-License-Identifier: Apache-2.0
"""From a request to its answer, in Google's order.

    route (404 page) -> faults -> credentials (401) -> API enabled (403 SERVICE_DISABLED) -> schema (400)
    -> permission (403) -> handler

Faults on request (faults.py) surround all that follows the route: a request meets them before it is processed, as at
Google's front ends, or once it is processed.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import logging
import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from gcp_sandbox.gateway import errors, media
from gcp_sandbox.gateway.call import Call
from gcp_sandbox.gateway.core import Core
from gcp_sandbox.gateway.discovery import DiscoveryMethod, Document, Match, known_apis, load_document
from gcp_sandbox.gateway.errors import ApiError
from gcp_sandbox.gateway.faults import Arrival, Drop, Fault
from gcp_sandbox.gateway.identity import ANONYMOUS, Principal
from gcp_sandbox.gateway.ingress import host_pattern
from gcp_sandbox.gateway.masks import BadMask, parse_fields, select
from gcp_sandbox.gateway.messages import Media, Request, Response
from gcp_sandbox.gateway.requestlog import Entry
from gcp_sandbox.gateway.schema import Checker, body_field, encode_enums, parse_body, unexpected
from gcp_sandbox.gateway.service import Handler, MethodSpec, RouteSpec, Service

log = logging.getLogger(__name__)

_PROJECT_IN_NAME = re.compile(r"^(?:[\w-]+/)*?projects/((?:[^/:]+\.[^/:]+:)?[^/:]+)")
_PROJECT_PARAMETERS = ("project", "projectId", "projectsId", "appsId")


@dataclass(frozen=True)
class Target:
    """Where a request goes: a service's discovery method (`match`, with `spec` where it is served), or a route."""

    service: Service
    handler: Handler | None
    params: dict[str, str]
    match: Match | None = None
    spec: MethodSpec | None = None
    route: RouteSpec | None = None

    @property
    def method(self) -> DiscoveryMethod | None:
        """The discovery method; None for a route."""
        return self.match.method if self.match else None

    @property
    def spool(self) -> bool:
        """Whether the body belongs into a file."""
        if self.route:
            return self.route.spool
        return self.match is not None and self.match.kind in ("upload", "resumable")

    @property
    def auth(self) -> str:
        """Which credentials it needs: "required", "optional" or "none", as in RouteSpec."""
        if self.route:
            return self.route.auth
        return "optional" if self.spec and self.spec.anonymous else "required"

    @property
    def transaction(self) -> bool:
        """Whether the handler runs in one store transaction."""
        spec = self.route or self.spec
        return spec is not None and spec.transaction

    @property
    def method_id(self) -> str:
        """Full discovery id, or verb and template of a route."""
        if self.match:
            return self.match.method.full_id
        return f"{self.route.verb} {self.route.template}" if self.route else ""


@dataclass
class _Served:
    """A service with everything needed to route to it."""

    service: Service
    documents: list[Document]
    exact: set[str]
    patterns: list[re.Pattern[str]]
    methods: dict[tuple[str, str], tuple[MethodSpec, Handler]]
    routes: list[tuple[RouteSpec, Handler, list[re.Pattern[str]]]]


class Host(Core, Protocol):
    """The parts of the sandbox that `Gateway` uses."""

    services: dict[str, Service]
    broken: dict[str, str]

    def mark_broken(self, name: str, error: Exception) -> None:
        """Record that a service cannot be used."""


class Gateway:
    """All services of a sandbox behind one function, `answer`."""

    def __init__(self, sandbox: Host) -> None:
        self.sandbox = sandbox
        self._served = []
        for service in sandbox.services.values():
            try:
                self._served.append(_serve(service))
            except Exception as error:
                sandbox.mark_broken(service.name, error)
        self._by_host: dict[str, list[_Served]] = {}
        self._reported: set[str] = set()

    def document(self, service: str, version: str) -> Document:
        """Return a loaded discovery document."""
        for served in self._served:
            for document in served.documents:
                if (served.service.name, document.version) == (service, version):
                    return document
        raise LookupError(f"{service}.{version}")

    def method_specs(self, service: str, version: str) -> dict[str, MethodSpec]:
        """Return the methods of a discovery document that are implemented, by id."""
        return {
            id: spec
            for served in self._served
            if served.service.name == service
            for (of, id), (spec, _) in served.methods.items()
            if of == version
        }

    # -- routing ------------------------------------------------------------------------------------------------

    def route(self, method: str, host: str, raw_path: str) -> Target | None:
        """Return where a request goes; None when no document and no route knows it. ApiError 501 for unserved hosts."""
        candidates = self._candidates(host)
        if not candidates:
            raise self._unserved(host)
        for raw in dict.fromkeys((raw_path, unquote(raw_path))):
            for served in candidates:
                if target := _match(served, method, host, raw):
                    return target
        return None

    def _candidates(self, host: str) -> list[_Served]:
        found = self._by_host.get(host)
        if found is None:
            found = [
                served
                for served in self._served
                if host in served.exact or any(p.fullmatch(host) for p in served.patterns)
            ]
            if len(self._by_host) < 4096:
                self._by_host[host] = found
        return found

    def _unserved(self, host: str) -> ApiError:
        name = host.partition(".")[0]
        for short in (name, name.rpartition("-")[2]):
            if reason := self.sandbox.broken.get(short):
                return errors.unimplemented(f"{short}, which could not be loaded: {reason}")
            if short in known_apis():
                return errors.unimplemented(f"{short}.googleapis.com")
        return errors.unimplemented(host)

    # -- answering ----------------------------------------------------------------------------------------------

    def answer(self, request: Request, target: Target | None = None, caller: Principal | None = None) -> Response:
        """Return the answer to a request, its content encoded: `json` is rendered into `body`.

        Blocks, so it belongs in a thread. `target` saves routing again; `caller` replaces credentials, for tests and
        for parts of the sandbox that act for a principal.

        :raises Drop: the connection is to be closed without an answer.
        """
        started = time.time()
        progress = _Progress()
        response = Response(0)
        try:
            target = target or self.route(request.method, request.host, request.raw_path)
            fault = progress.fault = self._fault(request, target)
            if fault:
                fault.before()
            response = self._processed(request, target, caller, progress)
            if fault:
                fault.after()
        except Drop:
            self._log(request, target, response, progress, started)
            raise
        except ApiError as error:
            response = self.error(error, target.service if target else None)
        response.headers.setdefault("Date", formatdate(usegmt=True))
        response.headers.setdefault("Server", "ESF")
        self._log(request, target, response, progress, started)
        return response

    def _fault(self, request: Request, target: Target | None) -> Fault | None:
        if target is None:
            return None
        name = target.method.id if target.method else target.method_id
        return self.sandbox.faults.meet(Arrival(target.service.name, target.service.error_style, name, request))

    def _processed(
        self, request: Request, target: Target | None, caller: Principal | None, progress: _Progress
    ) -> Response:
        """Return the answer to a request that meets no fault before it is processed."""
        if target is None:
            return not_found_page(request)
        try:
            with progress.fault.during() if progress.fault else contextlib.nullcontext():
                return self._answer(request, target, caller, progress)
        except ApiError as error:
            return self.error(error, target.service)
        except Drop:
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.url.partition("?")[0])
            error = ApiError(500, "Internal error encountered.", details=[errors.error_info("GCP_SANDBOX_BUG")])
            return self.error(error, target.service)
        finally:
            progress.clean()

    def _log(
        self, request: Request, target: Target | None, response: Response, progress: _Progress, started: float
    ) -> None:
        self.sandbox.requests.add(
            Entry(
                time=started,
                service=target.service.name if target else request.host.partition(".")[0],
                method=target.method_id if target else "",
                verb=request.method,
                host=request.host,
                path=request.raw_path,
                status=response.status,
                ms=(time.time() - started) * 1000,
                caller=getattr(progress.caller, "email", "") or "",
                agent=request.headers.get("user-agent", "")[:200],
                fault=progress.fault.seen if progress.fault else "",
            )
        )

    def _answer(self, request: Request, target: Target, caller: Principal | None, progress: _Progress) -> Response:
        pairs = parse_qsl(request.query_string, keep_blank_values=True)
        who = progress.caller = caller or self._authenticate(request, target, dict(pairs))
        method = target.method
        if target.handler is None:
            assert method
            raise errors.unimplemented(f"{method.full_id} ({method.version})")
        if who.anonymous and target.auth == "required":
            raise _credentials_missing(target, request)
        call = Call(
            sandbox=self.sandbox,
            service=target.service,
            method_id=target.method_id,
            http_method=request.method,
            host=request.host,
            path=unquote(request.raw_path),
            url=request.url,
            params=target.params,
            query=dict(pairs),
            body={},
            headers=request.headers,
            caller=who,
            version=method.version if method else "",
            raw=request.body,
            request=request,
        )
        fields = None
        if method:
            self.sandbox.identities.require_scope(who, method.scopes, request.host, method.full_id)
            self._require_api(call)
            fields = self._check(call, target, request, pairs, progress)
        elif target.spool:
            call.media = progress.media = self._spooled(request)
        return self._render(call, method, self._run(call, target), fields)

    def _authenticate(self, request: Request, target: Target, query: dict[str, str]) -> Principal:
        if target.auth == "none":
            return ANONYMOUS
        return self.sandbox.identities.authenticate(request.headers, query)

    def _run(self, call: Call, target: Target) -> Any:
        assert target.handler
        with self.sandbox.store.transaction() if target.transaction else contextlib.nullcontext():
            if target.spec and target.spec.permission is not None:
                for permission in (target.spec.permission, *target.spec.also):
                    call.require(permission, _resource(target.spec, call))
            return target.handler(call)

    # -- checks -------------------------------------------------------------------------------------------------

    def _require_api(self, call: Call) -> None:
        """Check that the consumer's project exists, that the caller may use it, and that it has the API enabled.

        The consumer is the quota project that the request names, or the resource's project, or the caller's own
        (https://cloud.google.com/docs/quotas/set-quota-project).
        """
        api = call.service.api_name
        if api is None or call.caller.anonymous:
            return
        quota = call.headers.get("x-goog-user-project") or call.query.get("$userProject")
        named = quota
        if not named and call.service.consumer == "resource":
            named = _project_of(call.params) or call.query.get("project")
        if not named:
            email = call.caller.email or ""
            own = call.sandbox.identities.project_of(email) if email.endswith(".iam.gserviceaccount.com") else None
            named = own.id if own else call.sandbox.settings.project
        if named == "-":
            return
        project = call.project(named)
        if quota and not self.sandbox.iam.allowed(call.caller, project.name, "serviceusage.services.use"):
            raise _quota_project_denied(quota, api)
        call.sandbox.enablement.require(project, api)

    def _check(
        self, call: Call, target: Target, request: Request, pairs: list[tuple[str, str]], progress: _Progress
    ) -> dict[str, Any] | None:
        assert target.match
        discovered, service = target.match.method, target.service
        checker = Checker(discovered.document, unknown=service.unknown_fields, keep_nulls=service.keep_nulls)
        ignored = target.spec.ignores if target.spec else ()
        call.query = checker.query(discovered, [pair for pair in pairs if pair[0] not in ignored])
        checker.raise_violations()
        for name, schema in discovered.parameters.items():
            if schema.get("required") and schema.get("location") == "query" and name not in call.query:
                raise errors.invalid(f"Required parameter: {name}", reason="required", location=name)
        if call.query.get("alt") == "media" and not discovered.supports_download:
            raise errors.invalid("alt=media is not supported by this method.", reason="invalidAltValue", location="alt")
        raw: Any = {}
        if target.match.kind in ("upload", "resumable"):
            call.media = progress.media = self._upload(call, request)
            raw = call.media.metadata
        elif discovered.request:
            raw = parse_body(request.body)
        if discovered.request:
            named = body_field(discovered)
            if named and service.body_field is not None:
                named = service.body_field
            elif not named and isinstance(raw, dict):
                # The whole request is the body: what stands in the path may stand there as well, and the path wins.
                raw = {key: value for key, value in raw.items() if key not in call.params}
            call.body = checker.message(discovered.request, raw, named)
            checker.raise_violations()
            if call.media:
                call.media.metadata = call.body
        return self._fields(call, discovered)

    def _fields(self, call: Call, discovered: DiscoveryMethod) -> dict[str, Any] | None:
        text = call.query.get("fields")
        if not text or text == "*":
            return None
        try:
            tree = parse_fields(text)
            if call.query.get("alt") != "media":
                _known_fields(discovered.document, discovered.response, tree, "")
            return tree
        except BadMask as error:
            part = str(error)
            if call.service.error_style == "legacy":
                message = f"Invalid field selection {part}"
                raise errors.invalid(message, reason="invalidParameter", location="fields") from error
            text = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{part}'."
            raise errors.invalid(details=[errors.bad_request((part, text))]) from error

    def _upload(self, call: Call, request: Request) -> Media:
        kind = call.query.get("uploadType") or request.headers.get("x-goog-upload-protocol")
        content_type = request.headers.get("content-type")
        if kind == "multipart":
            return media.multipart(self._spooled(request).path, content_type or "", self.sandbox.settings.spool)
        spooled = self._spooled(request)
        if kind == "resumable":
            # The body that starts a resumable upload is the metadata; the file follows to the session's address.
            metadata = parse_body(spooled.path.read_bytes())
            content_type = request.headers.get("x-upload-content-type")
            return Media(spooled.path, 0, content_type, metadata)
        return spooled

    def _spooled(self, request: Request) -> Media:
        if request.file is None:
            request.file = self.sandbox.settings.spool / f"body-{next(_serial)}-{time.time_ns()}"
            request.file.write_bytes(request.body)
            request.size = len(request.body)
        return media.simple(request.file, request.size, request.headers.get("content-type"))

    # -- rendering ----------------------------------------------------------------------------------------------

    def _render(
        self, call: Call, discovered: DiscoveryMethod | None, result: Any, fields: dict[str, Any] | None
    ) -> Response:
        response = result if isinstance(result, Response) else Response(json=result)
        if discovered is None or response.json is None:
            return _encode(response, pretty=True)
        if response.status < 400:
            self._compare(discovered, response.json)
            # Clients write "$alt=json;enum-encoding=int".
            if "enum-encoding=int" in call.query.get("alt", ""):
                response.json = encode_enums(discovered.document, discovered.response, response.json)
            if fields is not None:
                response.json = select(response.json, fields)
        return _encode(response, pretty=call.query.get("prettyPrint", "true") not in ("false", "0"))

    def _compare(self, discovered: DiscoveryMethod, answer: Any) -> None:
        for text in unexpected(discovered.document, discovered.response, answer):
            key = f"{discovered.full_id} ({discovered.version}): {re.sub(r'[0-9]+', 'N', text)}"
            if key not in self._reported:
                self._reported.add(key)
                log.warning("answer of %s does not fit its schema: %s", discovered.full_id, text)

    @staticmethod
    def error(error: ApiError, service: Service | None) -> Response:
        """Return an error as the service renders it."""
        style = service.error_style if service else "rpc"
        headers = dict(error.headers)
        if error.code == 401:
            headers.setdefault("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"')
        return _encode(Response(error.code, headers, json=error.render(style)), pretty=True)


class _Progress:
    """The state of an answer, for the log and for cleaning up."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.caller: Any = None
        self.media: Media | None = None

    def clean(self) -> None:
        if self.media:
            self.media.path.unlink(missing_ok=True)


_serial = itertools.count()


def _serve(service: Service) -> _Served:
    documents = [load_document(service.name, version) for version in service.versions]
    names = set(service.hosts).union(*(document.hosts() for document in documents))
    methods: dict[tuple[str, str], tuple[MethodSpec, Handler]] = {}
    ids = frozenset(id for document in documents for id in document.methods)
    declared = [(spec, handler) for spec, handler in service.marked("_methods")]
    known = {(document.version, id) for document in documents for id in document.methods}
    for spec, handler in itertools.chain(service.extra_methods(ids), declared):
        versions = [v for v in (spec.only or service.versions) if (v, spec.id) in known]
        if not versions:
            raise LookupError(f"{service.name}: no version served has a method {spec.id!r}")
        methods.update({(version, spec.id): (spec, handler) for version in versions})
    routes = []
    for spec, handler in service.marked("_routes"):
        routes.append((spec, handler, [host_pattern(host) for host in spec.hosts or sorted(names)]))
        names.update(spec.hosts)
    return _Served(
        service,
        documents,
        {name for name in names if "*" not in name},
        [host_pattern(name) for name in names if "*" in name],
        methods,
        routes,
    )


def _match(served: _Served, method: str, host: str, raw_path: str) -> Target | None:
    # A route is written for what the documents leave out, so it goes first.
    for verb in (method, "GET") if method == "HEAD" else (method,):
        for spec, handler, hosts in served.routes:
            if spec.verb in (verb, "*") and any(p.fullmatch(host) for p in hosts):
                found = spec.pattern.fullmatch(raw_path)
                if found:
                    params = {key: unquote(value) for key, value in found.groupdict().items()}
                    return Target(served.service, handler, params, route=spec)
        for document in served.documents:
            if match := document.match(verb, raw_path):
                spec, handler = served.methods.get((document.version, match.method.id), (None, None))
                return Target(served.service, handler, match.params, match=match, spec=spec)
    return None


def _project_of(params: dict[str, str]) -> str | None:
    for name in _PROJECT_PARAMETERS:
        if name in params:
            return params[name]
    for value in params.values():
        if found := _PROJECT_IN_NAME.match(value):
            return found[1]
    return None


def _resource(spec: MethodSpec, call: Call) -> str:
    assert spec.on is not None
    name = spec.on(call) if callable(spec.on) else spec.on.format(**call.params)
    return name if name.startswith("//") else f"//{call.service.name}.googleapis.com/{name}"


def _credentials_missing(target: Target, request: Request) -> ApiError:
    error = target.service.sandbox.identities.missing(request.host, target.method_id if target.match else "")
    error.legacy_errors = [
        {
            "message": "Login Required.",
            "domain": "global",
            "reason": "required",
            "location": "Authorization",
            "locationType": "header",
        }
    ]
    return error


def _quota_project_denied(project: str, api: str) -> ApiError:
    url = f"https://console.developers.google.com/iam-admin/iam/project?project={project}"
    return errors.permission_denied(
        f"Caller does not have required permission to use project {project}. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use "
        f"permission, by visiting {url} and then retry. Propagation of the new permission may take a few minutes.",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Google developer console IAM admin", "url": url}],
            },
            errors.error_info("USER_PROJECT_DENIED", service=api, consumer=f"projects/{project}"),
        ],
    )


def _known_fields(document: Document, ref: str | None, tree: dict[str, Any], path: str) -> None:
    """BadMask for a name that the response's schema does not have."""
    schema = document.schemas.get(ref or "", {})
    for name, below in tree.items():
        _known_field(document, schema, name, below, f"{path}.{name}".lstrip("."))


def _known_field(document: Document, schema: dict[str, Any], name: str, below: dict[str, Any], path: str) -> None:
    properties = schema.get("properties")
    if properties is None or name == "*":
        return
    if name not in properties:
        raise BadMask(path)
    child = properties[name]
    while child.get("type") == "array":
        child = child["items"]
    resolved = document.schemas.get(child["$ref"], {}) if "$ref" in child else child
    for inner, further in below.items():
        _known_field(document, resolved, inner, further, f"{path}.{inner}")


def _encode(response: Response, *, pretty: bool) -> Response:
    if response.json is not None:
        text = json.dumps(response.json, indent=2 if pretty else None, ensure_ascii=False)
        response.body = text.encode() + (b"\n" if pretty else b"")
        response.headers.setdefault("Content-Type", "application/json; charset=UTF-8")
        response.json = None
    return response


def not_found_page(request: Request) -> Response:
    """Return the page Google's front end sends for a path that no API has."""
    url = html.escape(request.raw_path)
    page = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n"
        '  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">\n'
        "  <title>Error 404 (Not Found)!!1</title>\n"
        "  <p><b>404.</b> <ins>That&rsquo;s an error.</ins>\n"
        f"  <p>The requested URL <code>{url}</code> was not found on this server."
        "  <ins>That&rsquo;s all we know.</ins>\n"
    )
    return Response(404, {"Content-Type": "text/html; charset=UTF-8"}, body=page.encode())
