# SPDX-License-Identifier: Apache-2.0
"""The base of a service module: a `Service` subclass with methods that carry `@method`, `@route` and `@job`.

class SecretManager(Service):
    name = "secretmanager"
    versions = ("v1",)

    @method("projects.secrets.get", permission="secretmanager.secrets.get", on="{name}")
    def get(self, call):
        ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway.denials import IamFacts

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call
    from gcp_sandbox.gateway.core import Core

Handler = Callable[..., Any]


@dataclass(frozen=True)
class MethodSpec:
    """How the gateway treats a discovery method; made by `@method`, or by a mixin that declares methods in bulk.

    :param id: discovery id without the first part ("projects.secrets.get").
    :param permission: checked before the handler runs; None where the handler checks for itself or nothing is needed.
    :param on: what the permission is checked on. A template over the path parameters that gives a relative name
        ("{parent}", "projects/{project}/instances/{instance}") below //<service>.googleapis.com/, a full name
        ("//..."), or a function of the call.
    :param also: further permissions, checked on the same resource.
    :param transaction: run the handler in one store transaction.
    :param only: the versions it serves; all when empty.
    :param anonymous: let callers without credentials through to the permission check.
    :param ignores: query parameters that the document does not have and the service takes without a word.
    """

    id: str
    permission: str | None
    on: str | Callable[[Call], str] | None = None
    transaction: bool = True
    only: tuple[str, ...] = ()
    anonymous: bool = False
    ignores: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class RouteSpec:
    """An endpoint that no discovery document describes; made by `@route`.

    :param auth: "required" (401 without credentials), "optional", or "none" (credentials are ignored).
    :param spool: the body arrives as `call.media`, a file, instead of `call.raw`.
    """

    verb: str
    pattern: re.Pattern[str]
    template: str
    hosts: tuple[str, ...]
    auth: str = "required"
    spool: bool = False
    transaction: bool = False


@dataclass(frozen=True)
class JobSpec:
    """The work of operations; made by `@job`.

    :param settles: where an operation is to fail on request (`op.fault`), the job runs all the same: it calls
        `op.strike()`, and leaves its resource as Google does after such a failure. Other jobs do not run then.
    """

    name: str
    settles: bool = False


def method(
    id: str,
    *,
    permission: str | None,
    on: str | Callable[[Call], str] | None = None,
    transaction: bool = True,
    only: Iterable[str] = (),
    anonymous: bool = False,
    ignores: Iterable[str] = (),
    also: Iterable[str] = (),
) -> Callable[[Handler], Handler]:
    """Serve a discovery method (see MethodSpec). May be stacked to serve several ids by one function."""
    if permission is not None and on is None:
        raise TypeError(f"{id}: a permission needs `on`, the resource it is checked on")
    spec = MethodSpec(id, permission, on, transaction, tuple(only), anonymous, tuple(ignores), tuple(also))
    return _mark("_methods", spec)


def route(
    verb: str,
    template: str,
    *,
    hosts: Iterable[str] = (),
    auth: str = "required",
    spool: bool = False,
    transaction: bool = False,
) -> Callable[[Handler], Handler]:
    """Serve a path outside the discovery documents.

    `{x}` matches one segment, `{x+}` any rest; both are percent-decoded into `call.params`. `hosts` default to all of
    the service's; "*" stands for one or more characters of a host name.
    """
    spec = RouteSpec(verb, compile_path(template), template, tuple(hosts), auth, spool, transaction)
    return _mark("_routes", spec)


def job(name: str, *, settles: bool = False) -> Callable[[Handler], Handler]:
    """Mark a method `(self, op) -> dict | None` as the work behind operations started with `job=name`.

    It runs in a thread of its own, outside any transaction, possibly again after a crash: write it idempotently. Its
    return value is the operation's response; an ApiError raised becomes the operation's error. `settles` as in JobSpec.
    """
    return _mark("_jobs", JobSpec(name, settles))


def _mark(attribute: str, spec: Any) -> Callable[[Handler], Handler]:
    def wrap(fn: Handler) -> Handler:
        setattr(fn, attribute, [*getattr(fn, attribute, ()), spec])
        return fn

    return wrap


def compile_path(template: str) -> re.Pattern[str]:
    """Return a pattern over the raw (encoded) path from a `@route` template."""
    parts = re.split(r"\{(\w+)(\+?)\}", template)
    out = [re.escape(parts[0])]
    for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        out.append(f"(?P<{name}>{'.*' if rest else '[^/]+'})")
        out.append(re.escape(literal))
    return re.compile("".join(out))


class Service:
    """A Google service. Instantiated once, at start; its handlers run in threads."""

    #: Name of the discovery document and label in the request log.
    name: str = ""
    #: Versions of the discovery document that are served; () for a service that has only routes.
    versions: tuple[str, ...] = ("v1",)
    #: Hosts beyond those of the documents (rootUrl, mtls, regional); "*" stands for one or more characters.
    hosts: tuple[str, ...] = ()
    #: "rpc": google.rpc.Status; "legacy": the list of errors with domain and reason.
    error_style: str = "rpc"
    #: The API that must be enabled in the consumer's project; "" derives <name>.googleapis.com, None means no check.
    api: str | None = ""
    #: The project that must have the API enabled: that of the "resource" named in the path, or the "caller"'s.
    consumer: str = "resource"
    #: First part of the path that a bad field of a body is named by (`at 'secret.ttl'`) where the method's request is
    #: the resource itself. None: the snake_case name of the resource's schema.
    body_field: str | None = None
    #: Facts about its resources that IAM uses: errors, types in conditions, permissions that roles.toml lacks.
    iam: IamFacts = IamFacts()
    #: What happens to names in a body or query that the schema does not have: "reject" or "ignore".
    unknown_fields: str = "reject"
    #: Keep JSON nulls of a body: PATCH of the storage API clears a field with null, other services drop it.
    keep_nulls: bool = False

    def __init__(self, sandbox: Core) -> None:
        self.sandbox = sandbox
        self.store = sandbox.store

    def start(self) -> None:
        """Called once backends run and before requests arrive."""

    def stop(self) -> None:
        """Called after the last request."""

    def extra_methods(self, ids: frozenset[str]) -> Iterator[tuple[MethodSpec, Handler]]:
        """Methods declared in bulk: mixins override this and chain with super(). `ids` are all the documents have.

        What the class declares with `@method` wins over what comes from here.
        """
        return iter(())

    @property
    def api_name(self) -> str | None:
        """Host name under which the API is enabled and named in errors, e.g. "sqladmin.googleapis.com"."""
        return f"{self.name}.googleapis.com" if self.api == "" else self.api

    def marked(self, attribute: str) -> Iterator[tuple[Any, Handler]]:
        """Return (spec, bound function) of everything a decorator marked, overridden functions once."""
        for name in dir(type(self)):
            fn = getattr(type(self), name, None)
            for spec in getattr(fn, attribute, ()):
                yield spec, getattr(self, name)
