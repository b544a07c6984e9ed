# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A resource as data, and the service layer that reads, plans and applies it.

A module describes its resource once as a :class:`Resource`. :class:`Remote` is one such resource of one task; it is
the only place that decides what is sent.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _ownership, _plan
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import OperationKind

READY, PENDING, FAILED = "ready", "pending", "failed"
# How often a change is planned again because another client changed the resource meanwhile.
_CONFLICTS = 6
_BUSY_SECONDS = 5


@dataclass(frozen=True)
class Update:
    """How a resource is changed.

    style   ``mask``: PATCH with the changed fields and their names in ``updateMask``; ``merge``: PATCH with the
            changed fields, the service merges; ``put``: the whole resource; ``requests``: the ordered list ``requests``
    depth   how many keys deep a changed field is named; from there on it is sent whole
    wrap    (body, mask paths) -> body, for services that want an envelope; the mask is then not sent as a parameter
    rewrite (plan, body, mask paths) -> (body, mask paths), for what is compared as one field and sent as another
    method  where it is not the style's own
    query   more query parameters
    requests  the updates of the style ``requests``. Each is sent if one of its ``fields`` differs, and awaited before
            the next one: for services that change one thing at a time
    fields  of one of ``requests``: the dotted fields that it changes
    path    of one of ``requests``: what follows the resource's address, such as ``/setLabels``
    guard   of one of ``requests``: dotted field that guards against lost updates, such as ``labelFingerprint``
    permission  of one of ``requests``: the last part of its IAM permission, such as ``setLabels``
    """

    style: str = "mask"
    depth: int = 1
    wrap: Any = None
    rewrite: Any = None
    method: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    requests: tuple = ()
    fields: tuple = ()
    path: str = ""
    guard: str = ""
    permission: str = "update"


@dataclass(frozen=True)
class Inside:
    """The parent of a resource that may still be in creation, because a task started it without waiting.

    resource  its description
    names     its names -> the names of the resource in it
    refusal   regular expression of what the service says until then
    """

    resource: Any
    names: Mapping[str, str]
    refusal: str


@dataclass(frozen=True)
class Resource:
    """The description of a kind of resource. In paths and queries ``{name}`` stands for one of its names.

    kind          the word for messages, such as "secret"
    base          address of the API's version, such as ``https://secretmanager.googleapis.com/v1``
    path          of one resource below ``base``; the last placeholder is its id
    permission    prefix of its IAM permissions: ``.get``, ``.create``, ``.update`` and ``.delete`` follow
    create_path   what a create is posted to; by default ``path`` without its last segment
    create_id     query parameter that carries the id; without it the body does
    create_query  more query parameters of a create
    create_body   (names, body) -> body of a create
    unique        whether the service rejects a second create of the same name; if not, it is not sent twice
    read_query    query parameters of a read
    delete_query  query parameters of a delete
    update        how it is changed; None when it cannot be
    rules         how it is compared
    operation     kind of long-running operation that create, update and delete answer with; None when they do not
    direct        actions (``create``, ``update``, ``delete``) that answer with the resource all the same
    version       dotted field that guards against lost updates, such as ``etag``
    version_query send the guard in this query parameter; by default it is sent in the body, where it was
    delete_guard  query parameter that carries the guard of a delete
    state         body -> (READY, PENDING or FAILED, words)
    transient     regular expressions of refusals that the service takes back by itself after a while
    under_way     remote -> its operation in progress, or None; for kinds that cannot be read
                  while they are created
    inside        :class:`Inside` its parent, awaited if in creation; None if it has none
    explain       (remote, error) -> what a user should know about a failed operation, or an empty string
    implies       dotted field, ``create`` or ``delete`` -> what that change implies, such as "restart of the database"
    mark          how its owner is marked (``_ownership``); None for what belongs to its parent or to the whole project
    kept          dotted fields besides the mark that an adopted resource keeps, such as ``description``
    """

    kind: str
    base: str
    path: str
    permission: str = ""
    create_path: str = ""
    create_id: str = ""
    create_query: Mapping[str, str] = field(default_factory=dict)
    create_body: Any = None
    unique: bool = True
    read_query: Mapping[str, str] = field(default_factory=dict)
    delete_query: Mapping[str, str] = field(default_factory=dict)
    update: Any = field(default_factory=Update)
    rules: _plan.Rules = field(default_factory=_plan.Rules)
    operation: Any = None
    direct: tuple = ()
    version: str = ""
    version_query: str = ""
    delete_guard: str = ""
    state: Callable = lambda body: (READY, "")
    transient: tuple = ()
    under_way: Any = None
    inside: Any = None
    explain: Any = None
    implies: Mapping[str, str] = field(default_factory=dict)
    mark: Any = None
    kept: tuple = ()


def state_of(name, *, pending=(), failed=()):
    """Return a ``Resource.state`` that reads one enum field."""

    def state(body):
        value = body.get(name) or ""
        return (PENDING if value in pending else FAILED if value in failed else READY), value

    return state


@dataclass
class Result:
    """What became of a task, or of one of several things that it manages.

    ``changes`` lists what ``changed`` stands for, see :func:`_plan.entry`.
    """

    changed: bool = False
    diff: Any = None
    resource: Any = None
    operation: Any = None
    extra: dict = field(default_factory=dict)
    changes: list = field(default_factory=list)

    @classmethod
    def of(cls, kind, name, before, after, *, action="change", changed=None, title="", implies=()):
        """The result for what is compared by hand: ``before`` and ``after`` are the maps of its fields."""
        changed = before != after if changed is None else changed
        title = title or f"{kind} {name}"
        return cls(
            changed,
            {"before": before, "after": after, "before_header": title, "after_header": title},
            changes=[_plan.entry(kind, name, action, _plan.field_changes(before, after), implies)] if changed else [],
        )

    def add(self, other):
        """Take in what happened to something that belongs to this resource."""
        self.changed = self.changed or other.changed
        self.changes = self.changes + other.changes
        own = self.diff if isinstance(self.diff, list) else [self.diff] if self.diff else []
        more = other.diff if isinstance(other.diff, list) else [other.diff] if other.diff else []
        self.diff = own + more
        self.extra.update(other.extra)
        return self

    def as_dict(self):
        """The result of the task. ``diff`` lists only what changes."""
        result = dict(self.extra, changed=self.changed, changes=self.changes)
        diffs = self.diff if isinstance(self.diff, list) else [self.diff] if self.diff else []
        diffs = [item for item in diffs if item["before"] != item["after"]]
        result["diff"] = diffs[0] if len(diffs) == 1 else diffs if diffs else {"before": {}, "after": {}}
        if self.resource is not None:
            result["resource"] = self.resource
        if self.operation:
            result["operation"] = self.operation
        return result


class _Made(Exception):
    """An operation makes the resource, and can be joined.

    It is of another run, or of a request of this task without an answer (``repeated``).
    """

    def __init__(self, operation, repeated):
        super().__init__(operation["name"])
        self.operation = operation
        self.repeated = repeated


class Remote:
    """One resource in the cloud, as one task sees it. ``names`` fill the placeholders of the resource's paths."""

    def __init__(self, task, resource, names):
        self.task = task
        self.resource = resource
        self.names = {key: str(value) for key, value in names.items() if value is not None}
        self.path = _fill(resource.path, self.names, encode=False)
        self.url = f"{resource.base}/{_fill(resource.path, self.names)}"
        self.title = f"{resource.kind} {self.path}"
        self.ownership = task.ownership
        # Relation of the resource to the task's owner in the last plan; see _ownership.
        self.relation = ""
        self.removing = False

    @property
    def id(self):
        return self.names[re.findall(r"\{(\w+)\}", self.resource.path)[-1]]

    @property
    def query(self):
        """The query parameters of a read."""
        return _fill_all(self.resource.read_query, self.names)

    def _permission(self, verb):
        return f"{self.resource.permission}.{verb}" if self.resource.permission else ""

    # Reading

    def read(self):
        """Return the resource, or None if it does not exist."""
        try:
            return self.task.client.get(self.url, query=self.query, permission=self._permission("get"))
        except _errors.NotFound:
            return None
        except _errors.ApiDisabled as error:
            if not self.task.check_mode:
                raise
            # An empty project: an earlier task would have enabled the API, and no resource exists before.
            self.task.assume_enabled(error)
            return None
        except _errors.InvalidRequest as error:
            outside = self._outside(error)
            if outside is None:
                raise
        if self.task.check_mode:
            return None
        remote, existing = outside
        remote.refuse_failed(remote.settle(existing))
        return self.read()

    def changing(self):
        """Announce a change that is no request to the resource: answers that earlier tasks kept count no longer."""
        self.task.client.changing(self.url)

    def changed(self):
        """Let later tasks read the resource again."""
        self.task.client.snapshot.forget(self.url)

    def parent(self):
        """The :class:`Remote` of what this is inside."""
        inside = self.resource.inside
        return self.task.remote(inside.resource, **{name: self.names[own] for name, own in inside.names.items()})

    def _outside(self, refusal):
        """Return the parent and its body if its creation is in progress and the cause of an error; else None."""
        inside = self.resource.inside
        if inside is None or not re.search(inside.refusal, refusal.text):
            return None
        remote = self.parent()
        existing = remote.read()
        return (remote, existing) if remote.is_pending(existing) else None

    def settle(self, existing):
        """Wait until no operation on the resource is in progress; return its body."""
        state = {"body": existing}

        def poll():
            body = state["body"]
            kind, words = self.resource.state(body) if body is not None else (READY, "")
            if kind == PENDING:
                state["body"] = self.read()
                body = state["body"]
                kind, words = self.resource.state(body) if body is not None else (READY, "")
            return body, words or "pending" if kind == PENDING else ""

        return self.task.waiter.until(poll, what=self.title)

    def is_pending(self, existing):
        return existing is not None and self.resource.state(existing)[0] == PENDING

    def refuse_failed(self, existing):
        """Errors: :class:`ResourceFailed` for a resource that will not recover by itself."""
        kind, words = self.resource.state(existing) if existing is not None else (READY, "")
        if kind == FAILED:
            raise _errors.ResourceFailed(
                f"{self.title} is in state {words} and does not leave it by itself.",
                "Read its logs in the console; then delete it (the same task with state: absent) and run again.",
                state=words,
            )

    # Planning and applying

    def plan(self, desired, existing):
        return _plan.plan(desired, existing, self.resource.rules, name=self.title)

    def owned_plan(self, desired, existing):
        """Plan as the task's owner: with its mark on a new resource, without what an adopted one keeps.

        ``desired`` is None for a resource that must not exist: an adopted one stays.
        Errors: :class:`NotOurs` for a resource of another owner.
        """
        mark, ownership = self.resource.mark, self.ownership
        self.relation = ownership.relation(self, existing)
        if self.relation is None and not getattr(mark, "lenient", False):
            ownership.refuse(self, existing)
        if desired is None:
            plan = self.plan({} if self.relation == _ownership.ADOPTED else None, existing)
        else:
            plan = self.plan(ownership.desired(self, desired, self.relation), existing)
        if self.relation is None and plan.changed:
            ownership.refuse(self, existing)
        return plan

    def owned_relation(self, *bodies):
        """Return what the resource is to the task's owner; its body may be given where the task has read it.

        Errors: :class:`NotOurs` for a resource of another owner.
        """
        if self.ownership.owner and self.resource.mark is not None:
            body = bodies[0] if bodies else self.read()
            self.relation = self.ownership.relation(self, body)
            if self.relation is None:
                self.ownership.refuse(self, body)
        return self.relation

    def result(self, plan, resource=None):
        """The :class:`Result` of a plan."""
        adopted = self.relation == _ownership.ADOPTED
        changes = plan.record(self.resource.kind, self.path, self.resource.implies)
        if adopted:
            changes = [dict(item, action="adopt") for item in changes]
        result = Result(plan.changed, plan.diff(self.title, self.path), resource, changes=changes)
        if self.relation:
            result.extra["relation"] = self.relation
        if adopted and self.removing:
            result.extra["msg"] = f"{self.title} is adopted, so it stays as it is."
        return result

    def ensure(self, desired, *, guard=None):
        """Make the resource agree with ``desired`` and return a :class:`Result`.

        A task with an ``owner`` marks what it creates and refuses what belongs to another owner.

        Joins operations in progress: of another run, of a resource that is being created or deleted, or of a
        concurrent create. ``guard(plan)`` may refuse a plan by raising. In check mode nothing is sent.
        """
        if self.task.params.get("use"):
            return self.used()
        first, attempt = None, 0
        while attempt < _CONFLICTS:
            existing = self.read()
            plan = self.owned_plan(desired, existing)
            if self.is_pending(existing) and not self.task.check_mode and (plan.changed or self.task.wait):
                existing = self.settle(existing)
                plan = self.owned_plan(desired, existing)
            self.refuse_failed(existing)
            if guard:
                guard(plan)
            if not plan.changed or self.task.check_mode:
                # After a conflict or a lost answer, a change of ours may be what made the plan empty.
                reported = first or plan
                return self.result(reported, plan.after)
            try:
                return self.apply(plan)
            except _Made as made:
                first = first or (plan if made.repeated else None)
                if not self.task.wait:
                    result = self.result(plan) if first else Result(False, {"before": {}, "after": {}})
                    return dataclasses.replace(result, resource=plan.after, operation=made.operation["name"])
                self.finish(Result(), made.operation, "creating")
                continue
            except _errors.Conflict as error:
                first, failure, pause = first or plan, error, self.task.client.clock.random() * 2**attempt
            except _errors.AlreadyExists as error:
                # The answer to the request that created it was lost.
                first = first or (plan if error.repeated else None)
                failure, pause = error, 2**attempt
                self._refuse_taken(error)
            self.task.waiter.pause(pause, self.title, "changed by another client at the same time")
            attempt += 1
        raise failure

    def used(self):
        """Return the :class:`Result` of a resource that is only used: neither compared nor changed.

        Errors: :class:`UserError` when it does not exist, :class:`GcpError` when it is in a failed state.
        """
        self.relation = _ownership.USED
        existing = self.read()
        if existing is None:
            raise _errors.UserError(
                f"{self.title} does not exist, and with use: true it is not created.",
                "Check its name and location, or set use: false (in the roles, mlflow_ownership) to have it created.",
            )
        self.refuse_failed(existing)
        if self.is_pending(existing) and self.task.wait and not self.task.check_mode:
            existing = self.settle(existing)
        result = Result(False, {"before": {}, "after": {}}, existing)
        result.extra["relation"] = self.relation
        return result

    def _refuse_taken(self, error):
        """Raise an error for a name that exists but is not readable: it has another owner."""
        try:
            if self.read() is not None:
                return
        except _errors.PermissionDenied:
            pass
        else:
            return  # just deleted, or not readable yet: the next attempt decides
        raise _errors.AlreadyExists(
            f"{self.title}: the name is taken by another owner: {error.text}",
            "Choose another name.",
            status=error.status,
            code=error.code,
            reason=error.reason,
            text=error.text,
            url=error.url,
        ) from error

    def ensure_absent(self, *, guard=None):
        """Delete the resource if it exists and return a :class:`Result`."""
        if self.task.params.get("use"):
            return Result(
                False, {"before": {}, "after": {}}, extra={"msg": f"{self.title} is only used, so it stays as it is."}
            )
        self.removing = True
        for attempt in range(_CONFLICTS):
            existing = self.read()
            if self.is_pending(existing) and not self.task.check_mode:
                existing = self.settle(existing)
            plan = self.owned_plan(None, existing)
            if guard and plan.changed:
                guard(plan)
            if not plan.changed or self.task.check_mode:
                return self.result(plan)
            try:
                return self.apply(plan)
            except _errors.NotFound:
                return self.result(plan)
            except _errors.Conflict as error:
                failure = error
            self.task.waiter.pause(self.task.client.clock.random() * 2**attempt, self.title, "changed at the same time")
        raise failure

    def apply(self, plan):
        """Send a plan and wait for it, unless the task does not want to wait. Return a :class:`Result`."""
        *earlier, (part, update) = self._requests(plan)
        for one, its_update in earlier:
            self._await(self._send_patiently(one, its_update), "updating")
        body = self._send_patiently(part, update)
        result = self.result(plan, plan.after)
        if self.resource.operation is None or plan.action in self.resource.direct:
            # IAM answers a patch with the changed fields only.
            result.resource = None if plan.desired is None else dict(plan.after, **body)
            return result
        if not self.task.wait:
            result.operation = body.get("name")
            return result
        self.finish(result, body, {"create": "creating", "update": "updating", "delete": "deleting"}[plan.action])
        return result

    def create_again(self, plan):
        """Create a resource that exists, for a service that then makes it anew. Return a :class:`Result`.

        It joins an operation that does so already.
        """
        try:
            return self.apply(plan)
        except _Made as made:
            result = self.result(plan, plan.after)
            self.finish(result, made.operation, "creating")
            return result

    def finish(self, result, operation, verb):
        """Wait for an operation on this resource and put the resource as it is then into ``result``."""
        last = self._await(operation, verb)
        if verb == "deleting":
            result.resource = None
            return
        result.resource = self.resource.operation.result(last) or self.read()
        self.refuse_failed(result.resource)

    def _await(self, operation, verb):
        """Wait for an operation on this resource and return its last body; None where the service has no operations."""
        kind = self.resource.operation
        if kind is None:
            return None
        try:
            return self.task.waiter.operation(self.task.client, kind, operation, what=f"{verb} {self.title}")
        except _errors.OperationFailed as error:
            more = self.resource.explain(self, error) if self.resource.explain else ""
            raise _errors.OperationFailed(error.message, more or error.hint, **error.facts) from error

    def _join(self, operation):
        """Wait until an operation of another run has ended, whatever its result is."""
        kind, state = self.resource.operation, {"body": operation}

        def poll():
            state["body"] = self.task.client.get(kind.url(state["body"]))
            return state["body"], "" if kind.done(state["body"]) else kind.status(state["body"])

        self.task.waiter.until(poll, what=self.title, operation=operation.get("name", ""))

    def _requests(self, plan):
        """Return a list of plans, each with the :class:`Update` by which it is sent: one, unless an update takes more.

        Errors: :class:`ImmutableFieldError` for a field that no request of the update changes.
        """
        update = self.resource.update
        if plan.action != "update" or update is None or not update.requests:
            return [(plan, update)]
        parts = [(_part(plan, request.fields), request) for request in update.requests]
        changed = {change for part, _request in parts for change in part.changed_paths(9)}
        self._refuse_update([path for path in plan.changed_paths(9) if path not in changed])
        return [(part, request) for part, request in parts if part.changes]

    def _refuse_update(self, paths):
        if paths:
            raise _errors.ImmutableFieldError(
                "{} cannot be changed; what differs: {}.".format(self.title, ", ".join(paths)),
                "Delete it (state: absent) and make it again.",
            )

    def _send_patiently(self, plan, update):
        """Send a plan, waiting while the resource is busy or a dependency of it is not known everywhere yet."""
        while True:
            try:
                return self.task.waiter.tolerate(
                    lambda: self._send(plan, update), self.resource.transient, what=self.title
                )
            except _errors.OperationInProgress as error:
                operation = self.resource.under_way(self) if self.resource.under_way else None
                if operation and plan.action == "create":
                    raise _Made(operation, error.repeated) from error
                if operation:
                    self._join(operation)
                    continue
                self.task.waiter.pause(_BUSY_SECONDS, self.title, f"busy: {error.text}")
                if plan.action == "create" and self.read() is not None:
                    # Another run was making it. Not every service refuses to make it once more over that.
                    raise self._exists(error.message, error.repeated, status=error.status, text=error.text) from error
            except _errors.ConnectionFailed as error:
                raise self._unanswered(plan.action, error) from error
            except _errors.ApiError as error:
                if plan.action == "create":  # the address is that of the collection
                    error.message = f"creating {self.title}: {error.message}"
                raise

    @staticmethod
    def _exists(message, repeated, **facts):
        error = _errors.AlreadyExists(message, **facts)
        error.repeated = repeated
        return error

    def _unanswered(self, action, error):
        """Return the error for a change without an answer, which may have been made."""
        verb, state = {
            "create": ("creating", "may exist"),
            "update": ("updating", "may be changed"),
            "delete": ("deleting", "may be deleted"),
        }[action]
        hint = f"{self.title} {state}. Run the task again: it reads it and continues from there. " * (
            error.sent or error.repeated
        )
        return _errors.ConnectionFailed(f"{verb} {self.title}: {error.message}", hint + _errors.NETWORK)

    def _made(self):
        """Raise :class:`AlreadyExists` if a create without an answer has made the resource."""
        if self.read() is not None:
            raise self._exists(f"{self.title} exists", True, status=409, text="exists", url=self.url)

    def _send(self, plan, update):
        client, resource = self.task.client, self.resource
        if plan.action == "delete":
            query = _fill_all(resource.delete_query, self.names)
            if resource.delete_guard:
                query[resource.delete_guard] = _plan.value_at(plan.existing, resource.version.split("."))
            return client.request("DELETE", self.url, query=query or None, permission=self._permission("delete"))
        if plan.action == "create":
            query = _fill_all(resource.create_query, self.names)
            if resource.create_id:
                query[resource.create_id] = self.id
            parent = resource.create_path or resource.path.rsplit("/", 1)[0]
            body = resource.create_body(self.names, plan.desired) if resource.create_body else plan.desired
            return client.post(
                f"{resource.base}/{_fill(parent, self.names)}",
                body,
                query or None,
                # The name is ours: if the first request arrived, the second one gets a conflict, and is joined.
                safe=resource.unique,
                made=None if resource.unique else self._made,
                permission=self._permission("create"),
                affects=self.url,
            )
        return self._send_update(plan, update)

    def _send_update(self, plan, update):
        resource = self.resource
        if update is None:
            self._refuse_update(plan.changed_paths(9))
        query = _fill_all(update.query, self.names)
        mask = plan.changed_paths(update.depth)
        body = plan.after if update.style == "put" else plan.patch(update.depth, nulls=update.style == "merge")
        if resource.version:
            guard = _plan.value_at(plan.existing, resource.version.split("."))
            if resource.version_query:
                query[resource.version_query] = guard
            elif guard is not None:
                _set_at(body, resource.version, guard)
        if update.guard:
            _set_at(body, update.guard, _plan.value_at(plan.existing, update.guard.split(".")))
        if update.rewrite:
            body, mask = update.rewrite(plan, body, mask)
        if update.wrap:
            body = update.wrap(body, mask)
        elif update.style == "mask":
            query["updateMask"] = ",".join(mask)
        method = update.method or ("PUT" if update.style == "put" else "PATCH")
        return self.task.client.request(
            method,
            self.url + update.path,
            query=query or None,
            body=body,
            # Also where it is a POST: it sets values.
            safe=True,
            permission=self._permission(update.permission),
        )


def _part(plan, fields):
    """Return the plan with the changes of these fields only."""
    changes = (change for change in plan.changes if any(_is_in(".".join(change.path), name) for name in fields))
    return dataclasses.replace(plan, changes=tuple(changes))


def _is_in(path, field_name):
    return path == field_name or path.startswith(field_name + ".")


def _fill(template, names, encode=True):
    """A template with the names filled in, quoted for a path unless ``encode`` is off."""

    def value(match):
        return quote(names[match.group(1)], safe="@:") if encode else names[match.group(1)]

    return re.sub(r"\{(\w+)\}", value, template)


def _fill_all(templates, names):
    return {key: _fill(value, names, encode=False) for key, value in templates.items()}


def _set_at(tree, dotted, value):
    *parents, last = dotted.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = value


__all__ = [
    "FAILED",
    "PENDING",
    "READY",
    "Inside",
    "OperationKind",
    "Remote",
    "Resource",
    "Result",
    "Update",
    "state_of",
]
