# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting: one loop with one hard deadline, and what Google's kinds of long-running operations look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors

PROGRESS_SECONDS = 15
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
# How long a refusal that a service takes back by itself is tolerated. A change of a policy is "usually" seen everywhere
# within two minutes: https://cloud.google.com/iam/docs/access-change-propagation
_TRANSIENT_SECONDS = 240
_TRANSIENT_PAUSE = 5.0


@dataclass(frozen=True)
class OperationKind:
    """How a service reports what takes time.

    ``url``     absolute address of an operation's body
    ``done``    body -> whether it ended
    ``error``   body -> message of the failure, or an empty string
    ``status``  body -> a word for people
    ``result``  body -> the resource, if the operation carries it
    """

    url: Callable
    done: Callable
    error: Callable
    status: Callable
    result: Callable = lambda body: None


def long_running(base, status=None, url=None):
    """google.longrunning operations under ``base``, such as ``https://run.googleapis.com/v2``.

    ``status`` takes the body and gives a word for people; ``url`` overrides the address of an operation.
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


def sql_operation(base):
    """Cloud SQL's operations; ``base`` is ``https://sqladmin.googleapis.com/sql/v1``."""

    def error(body):
        problems = (body.get("error") or {}).get("errors") or []
        return "; ".join("{}: {}".format(item.get("code", "ERROR"), item.get("message", "")) for item in problems)

    return OperationKind(
        url=lambda body: "{}/projects/{}/operations/{}".format(base, body["targetProject"], body["name"]),
        done=lambda body: body.get("status") == "DONE",
        error=error,
        status=lambda body: body.get("status", "unknown"),
    )


class Waiter:
    """Waits within one task: a hard deadline for all that the task waits for, and a line now and then."""

    def __init__(self, clock, seconds, progress):
        self._clock = clock
        self._seconds = seconds
        self._progress = progress
        self._started = clock.now()

    @property
    def left(self):
        return self._started + self._seconds - self._clock.now()

    def pause(self, seconds, what, status):
        """Sleep once, or fail when the deadline is reached. For loops that are not :meth:`until`."""
        if self.left <= 0:
            raise self.timeout(what, status)
        self._clock.sleep(min(seconds, max(self.left, 0.01)))

    def tolerate(self, send, refusals, *, what):
        """Return what ``send()`` returns, which is called again while it raises what the service takes back by itself.

        ``refusals`` are regular expressions of the service's words.
        Errors: those of ``send``; :class:`OperationTimeout`.
        """
        began = told = self._clock.now()
        pause = _FIRST_PAUSE
        while True:
            try:
                return send()
            except _errors.ApiError as error:
                known = any(re.search(pattern, error.text) for pattern in refusals)
                now = self._clock.now()
                if not known or now - began >= _TRANSIENT_SECONDS:
                    raise
                if now - told >= PROGRESS_SECONDS:
                    told = now
                    self._progress(f"{what}: {error.text}, {_spell(now - began)}")
                self.pause(pause, what, error.text)
                pause = min(2 * pause, _TRANSIENT_PAUSE)

    def timeout(self, what, status, operation=""):
        return _errors.OperationTimeout(
            f"{what}: not finished after wait_timeout={self._seconds} s; last status: {status}",
            "It goes on in the cloud: run the task again to join it, or give it a longer wait_timeout.",
            operation=operation,
        )

    def until(self, poll, *, what, operation=""):
        """Call ``poll() -> (value, status)`` until ``status`` is empty and return the value.

        Pauses grow with the time already spent, so waiting adds at most a tenth to what takes long.
        Errors: :class:`OperationTimeout` with the last status.
        """
        began = told = self._clock.now()
        while True:
            value, status = poll()
            if not status:
                return value
            now = self._clock.now()
            if now - told >= PROGRESS_SECONDS:
                told = now
                self._progress(f"{what}: {status}, {_spell(now - began)}")
            if self.left <= 0:
                raise self.timeout(what, status, operation)
            pause = min(max(_FIRST_PAUSE, (now - began) / 10), _LONGEST_PAUSE)
            self._clock.sleep(min(pause, max(self.left, 0.01)))

    def operation(self, client, kind, body, *, what, permission=""):
        """Wait for an operation and return its last body.

        Errors: :class:`OperationFailed` with the service's words, :class:`OperationTimeout`.
        """
        state = {"body": body}

        def poll():
            if not kind.done(state["body"]):
                state["body"] = client.get(kind.url(state["body"]), permission=permission)
            return state["body"], "" if kind.done(state["body"]) else kind.status(state["body"])

        if not kind.done(body):
            # The first look comes after a pause: nothing that takes time is done at once.
            self._clock.sleep(_FIRST_PAUSE)
        last = self.until(poll, what=what, operation=body.get("name", ""))
        problem = kind.error(last)
        if problem:
            raise _errors.OperationFailed(
                f"{what} failed: {problem}", operation=last.get("name", ""), error=last.get("error")
            )
        return last


def _spell(seconds):
    """``75`` -> ``1m15s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
