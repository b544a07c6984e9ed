# SPDX-License-Identifier: Apache-2.0
"""A cloud that answers a script: every request must be the next one expected, and all of them must be made."""

from __future__ import annotations

import json
from types import SimpleNamespace

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlplatform.gcp.plugins.module_utils._http import Client
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import Task, execute


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.time = 1000.0
        self.slept = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    def random(self):
        return 0.5


class Response:
    def __init__(self, status, body, headers):
        self.status_code = status
        self.content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        self.headers = headers

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        return json.loads(self.content)


class Failed(Exception):
    """The module failed; ``result`` is what Ansible would show."""

    def __init__(self, result):
        super().__init__(result["msg"])
        self.result = result


class Cloud:
    def __init__(self):
        self.script = []
        self.requests = []
        self.clock = Clock()
        self.progress = []
        self.warnings = []
        self.client = Client(
            SimpleNamespace(email="me@p.iam.gserviceaccount.com"), project="p", session=self, clock=self.clock
        )

    def expect(self, method, url, *, status=200, body=None, query=None, sent=None, headers=None, error=None):
        """The next request: ``url`` may start with ``...`` for anything. ``query`` and ``sent`` are compared if given.

        ``body`` is answered; ``error`` is an exception raised instead.
        """
        self.script.append(
            SimpleNamespace(
                method=method,
                url=url,
                status=status,
                body=body,
                query=query,
                sent=sent,
                headers=headers or {},
                error=error,
            )
        )

    def expect_error(
        self, method, url, status, *, reason="", code="", message="it went wrong", legacy=False, metadata=None, **more
    ):
        """The next request is answered with an error, in google.rpc's shape or the legacy one."""
        error = {"code": status, "message": message}
        if legacy:
            error["errors"] = [{"domain": "global", "reason": reason, "message": message}]
        else:
            error["status"] = code
            if reason:
                kind = "type.googleapis.com/google.rpc.ErrorInfo"
                error["details"] = [{"@type": kind, "reason": reason, "metadata": metadata or {}}]
        self.expect(method, url, status=status, body={"error": error}, **more)

    def expect_disabled(self, url, service):
        """The next request is a GET that is refused because its API is disabled, as Service Usage confirms."""
        metadata = {"service": service, "consumer": "projects/p"}
        self.expect_error("GET", url, 403, code="PERMISSION_DENIED", reason="SERVICE_DISABLED", metadata=metadata)
        usage = f"https://serviceusage.googleapis.com/v1/projects/p/services/{service}"
        self.expect("GET", usage, body={"state": "DISABLED"})

    def request(self, method, url, params=None, json=None, data=None, headers=None, timeout=None, **_more):
        """What ``requests.Session`` would do."""
        assert timeout, "a request without a deadline"
        self.requests.append(
            SimpleNamespace(method=method, url=url, query=params, body=json, data=data, headers=headers)
        )
        asked = f"{method} {url} {params or ''}"
        assert self.script, f"unexpected request: {asked}"
        step = self.script.pop(0)
        wanted = f"{step.method} {step.url}"
        assert method == step.method, f"{asked} instead of {wanted}"
        fits = url.endswith(step.url[3:]) if step.url.startswith("...") else url == step.url
        assert fits, f"{asked} instead of {wanted}"
        if step.query is not None:
            assert (params or {}) == step.query
        if step.sent is not None:
            assert (data if json is None else json) == step.sent
        if step.error:
            raise step.error
        return Response(step.status, step.body, step.headers)

    def task(self, params, check_mode=False):
        return Task(
            params, check_mode=check_mode, warn=self.warnings.append, progress=self.progress.append, client=self.client
        )

    def run(self, module, check_mode=False, **options):
        """Run a module as Ansible would; ``project`` is ``p`` unless given. Errors: :class:`Failed`."""
        options.setdefault("project", "p")
        checked = ArgumentSpecValidator(dict(module.OPTIONS.arguments), **module.OPTIONS.rules()).validate(options)
        assert not checked.error_messages, checked.error_messages
        good, result = execute(module.run, self.task(checked.validated_parameters, check_mode))
        self.done()
        if not good:
            raise Failed(result)
        json.dumps(result)
        if not module.__name__.endswith("_info"):
            assert bool(result["changes"]) == result["changed"], "changes and changed must agree"
        return result

    def done(self):
        left = [f"{step.method} {step.url}" for step in self.script]
        assert not left, f"requests that were expected and not made: {left}"
