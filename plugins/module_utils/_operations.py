# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait with one loop and one hard deadline, and describe Google's kinds of long-running operations as data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors

PROGRESS_SECONDS = 15
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
# How long a refusal that ends by itself is tolerated. A change of a policy is "usually" seen everywhere
# within two minutes: https://cloud.google.com/iam/docs/access-change-propagation
_TRANSIENT_SECONDS = 240
_TRANSIENT_PAUSE = 5.0


@dataclass(frozen=True)
class OperationKind:
    """How a service reports what takes time.

    ``url``     absolute address of an operation's body
    ``done``    body -> whether it ended
    ``error``   body -> message of the failure, or an empty string
    ``status``  body -> status text
    ``result``  body -> the resource, if the operation carries it
    """

    url: Callable
    done: Callable
    error: Callable
    status: Callable
    result: Callable = lambda body: None


def long_running(base, status=None, url=None):
    """google.longrunning operations under ``base``, such as ``https://run.googleapis.com/v2``.

    ``status`` takes the body and returns a status text; ``url`` overrides the address of an operation.
    """

    def error(body):
        problem = body.get("error") or {}
        return problem.get("message") or ("error code {}".format(problem["code"]) if problem.get("code") else "")

    def result(body):
        response = {key: value for key, value in (body.get("response") or {}).items() if key != "@type"}
        return response or None

    return OperationKind(
        url=url or (lambda body: "{}/{}".format(base, body["name"])),
        done=lambda body: bool(body.get("done")),
        error=error,
        status=status or (lambda body: "done" if body.get("done") else "running"),
        result=result,
    )


def _listed_errors(body):
    """Return the message of an operation with a list of errors, or an empty string."""
    problems = (body.get("error") or {}).get("errors") or []
    return "; ".join("{}: {}".format(item.get("code", "ERROR"), item.get("message", "")) for item in problems)


def _is_internal(body):
    """Return whether an operation failed for no reason of the user's: INTERNAL and UNAVAILABLE of google.rpc.Code."""
    error = body.get("error") or {}
    codes = [error.get("code"), *(item.get("code") for item in error.get("errors") or [])]
    return any(code in (13, 14, "INTERNAL_ERROR") for code in codes)


def _is_done(body):
    return body.get("status") == "DONE"


def sql_operation(base):
    """Cloud SQL's operations; ``base`` is ``https://sqladmin.googleapis.com/sql/v1``."""
    return OperationKind(
        url=lambda body: "{}/projects/{}/operations/{}".format(base, body["targetProject"], body["name"]),
        done=_is_done,
        error=_listed_errors,
        status=lambda body: body.get("status", "unknown"),
    )


def compute_operation(base):
    """Compute Engine's operations: global, regional and zonal; ``base`` is ``https://compute.googleapis.com/compute/v1``.

    Their ``selfLink`` has the scope (``global``, ``regions/R``, ``zones/Z``) and names another host than ``base``.
    """

    def error(body):
        failed = body.get("httpErrorStatusCode")
        return _listed_errors(body) or (f"{failed} {body.get('httpErrorMessage', '')}".strip() if failed else "")

    def status(body):
        return "{}, {} %".format(body.get("status", "unknown"), body.get("progress") or 0)

    return OperationKind(
        url=lambda body: "{}/projects/{}".format(base, body["selfLink"].split("/projects/", 1)[1]),
        done=_is_done,
        error=error,
        status=status,
    )


def container_operation(base):
    """Operations of Google Kubernetes Engine; ``base`` is ``https://container.googleapis.com/v1``.

    ``selfLink`` has the number of the project. Of a zonal cluster it is the address of an older API with ``zones``.
    """

    def url(body):
        project = body["selfLink"].split("/projects/", 1)[1].split("/", 1)[0]
        location = body.get("location") or body["zone"]
        return f"{base}/projects/{project}/locations/{location}/operations/{body['name']}"

    def error(body):
        problem = body.get("error") or {}
        # statusMessage is what clusters of older versions return instead.
        return problem.get("message") or (body.get("statusMessage") or "" if _is_done(body) else "")

    def status(body):
        return ", ".join(text for text in (body.get("status", "unknown"), body.get("detail")) if text)

    return OperationKind(url=url, done=_is_done, error=error, status=status)


def compute_under_way(remote):
    """Return the operation that is in progress on a resource of Compute Engine, or None (``Resource.under_way``)."""
    scope, _slash, _id = remote.url.rpartition("/")
    page = remote.task.client.get(
        f"{scope.rpartition('/')[0]}/operations",
        {"filter": 'status != "DONE"'},
        permission=f"compute.{_compute_scope(remote.path)}Operations.list",
    )
    return _first(page.get("items"), lambda operation: operation.get("targetLink", "").endswith(f"/{remote.path}"))


def _compute_scope(path):
    return {"global": "global", "regions": "region", "zones": "zone"}[path.split("/")[2]]


def container_under_way(remote):
    """Return the operation that is in progress on a cluster or in it, or None (``Resource.under_way``).

    A cluster accepts one operation at a time: also one on a node pool keeps others waiting.
    """
    names, base = remote.names, remote.resource.base
    page = remote.task.client.get(
        f"{base}/projects/{names['project']}/locations/{names['location']}/operations",
        permission="container.operations.list",
    )
    cluster = re.compile(r".*/clusters/{}(/.*)?".format(re.escape(names.get("cluster") or names["name"])))
    return _first(page.get("operations"), lambda operation: cluster.fullmatch(operation.get("targetLink", "")))


def _first(operations, matches):
    return next((item for item in operations or [] if not _is_done(item) and matches(item)), None)


class Waiter:
    """Wait within one task: one hard deadline for all that the task waits for, and progress lines.

    ``keep`` is called before each pause.
    """

    def __init__(self, clock, seconds, progress, keep=lambda: None):
        self._clock = clock
        self._seconds = seconds
        self._progress = progress
        self._keep = keep
        self._started = clock.now()

    @property
    def left(self):
        return self._started + self._seconds - self._clock.now()

    def pause(self, seconds, what, status):
        """Sleep once, or fail when the deadline is reached. For loops that are not :meth:`until`."""
        if self.left <= 0:
            raise self.timeout(what, status)
        self._sleep(min(seconds, max(self.left, 0.01)))

    def _sleep(self, seconds):
        self._keep()
        self._clock.sleep(seconds)

    def tolerate(self, send, refusals, *, what):
        """Return what ``send()`` returns, and call it again while it raises one of the ``refusals``.

        ``refusals`` are regular expressions of messages of the service for states that end by themselves.
        Errors: those of ``send``; :class:`OperationTimeout`.
        """
        began = reported = self._clock.now()
        pause = _FIRST_PAUSE
        while True:
            try:
                return send()
            except _errors.ApiError as error:
                known = any(re.search(pattern, error.text) for pattern in refusals)
                now = self._clock.now()
                if not known or now - began >= _TRANSIENT_SECONDS:
                    raise
                if now - reported >= PROGRESS_SECONDS:
                    reported = now
                    self._progress(f"{what}: {error.text}, {_spell(now - began)}")
                self.pause(pause, what, error.text)
                pause = min(2 * pause, _TRANSIENT_PAUSE)

    def timeout(self, what, status, operation=""):
        return _errors.OperationTimeout(
            f"{what}: not finished after wait_timeout={self._seconds} s; last status: {status}",
            "It continues in the cloud: run the task again to join it, or set a longer wait_timeout.",
            operation=operation,
        )

    def until(self, poll, *, what, operation=""):
        """Call ``poll() -> (value, status)`` until ``status`` is empty and return the value.

        Pauses grow with the time already spent, so waiting adds at most a tenth to what takes long.
        Errors: :class:`OperationTimeout` with the last status.
        """
        began = reported = self._clock.now()
        while True:
            value, status = poll()
            if not status:
                return value
            now = self._clock.now()
            if now - reported >= PROGRESS_SECONDS:
                reported = now
                self._progress(f"{what}: {status}, {_spell(now - began)}")
            if self.left <= 0:
                raise self.timeout(what, status, operation)
            pause = min(max(_FIRST_PAUSE, (now - began) / 10), _LONGEST_PAUSE)
            self._sleep(min(pause, max(self.left, 0.01)))

    def operation(self, client, kind, body, *, what, permission=""):
        """Wait for an operation and return its last body.

        Errors: :class:`OperationFailed` with the service's message, :class:`OperationTimeout`.
        """
        state = {"body": body}

        def poll():
            if not kind.done(state["body"]):
                state["body"] = client.get(kind.url(state["body"]), permission=permission)
            return state["body"], "" if kind.done(state["body"]) else kind.status(state["body"])

        if not kind.done(body):
            # Pause before the first poll: what takes time is not done at once.
            self._sleep(_FIRST_PAUSE)
        last = self.until(poll, what=what, operation=body.get("name", ""))
        problem = kind.error(last)
        if problem:
            raise _errors.OperationFailed(
                f"{what} failed: {problem}",
                _errors.INTERNAL if _is_internal(last) else "",
                operation=last.get("name", ""),
                error=last.get("error"),
            )
        return last


def _spell(seconds):
    """``75`` -> ``1m15s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
