# SPDX-License-Identifier: Apache-2.0
"""Asks a sandbox in the same process, without sockets or tokens: for the sandbox's own tests.

client = Client(sandbox)                       # acts as the deployer, owner of the default project
answer = client.post("https://secretmanager.googleapis.com/v1/projects/p/secrets?secretId=s", {"replication": ...})
assert answer.status == 200 and answer.json["name"] == ...
client.get(url, as_="bob@example.com")         # as another user; as_=None is without credentials
client.ok("GET", url)                          # the JSON, and an AssertionError unless the status is 2xx
client.done(operation, "https://run.googleapis.com/v2/")   # wait for a google.longrunning operation
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from gcp_sandbox.gateway.messages import Headers, Request, chunks
from gcp_sandbox.sandbox import Sandbox

_DEPLOYER = "deployer"


@dataclass
class Answer:
    """A response: status, headers (lower-case names), content."""

    status: int
    headers: dict[str, str]
    content: bytes

    @cached_property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def reason(self) -> str:
        """The first reason that the error gives in either shape, "" when there is none."""
        error = self.json.get("error", {})
        for entry in [*error.get("errors", ()), *error.get("details", ())]:
            if entry.get("reason"):
                return entry["reason"]
        return ""


class Client:
    """Requests straight into the gateway; the pipeline is the same as for those from the network."""

    def __init__(self, sandbox: Sandbox, as_: str | None = _DEPLOYER) -> None:
        self.sandbox = sandbox
        deployer = ".".join(reversed(sandbox.settings.project.split(":")))
        self.email = f"deployer@{deployer}.iam.gserviceaccount.com" if as_ == _DEPLOYER else as_

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        as_: str | None = "",
    ) -> Answer:
        """Send a request; `body` is JSON or bytes, `as_` an e-mail, None for no credentials, "" for the client's."""
        parts = urlsplit(url)
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"host": parts.netloc, "content-type": "application/json", **(headers or {})}
        email = self.email if as_ == "" else as_
        if email:
            sent["authorization"] = f"Bearer {self.sandbox.identities.mint_access_token(email)}"
        response = self.sandbox.gateway.answer(
            Request(
                method=method,
                host=parts.hostname or "",
                raw_path=parts.path or "/",
                query_string=parts.query,
                headers=Headers(sent),
                body=content,
                size=len(content),
            )
        )
        return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, b"".join(chunks(response)))

    def get(self, url: str, **more: Any) -> Answer:
        return self.request("GET", url, **more)

    def post(self, url: str, body: Any = None, **more: Any) -> Answer:
        return self.request("POST", url, {} if body is None else body, **more)

    def patch(self, url: str, body: Any, **more: Any) -> Answer:
        return self.request("PATCH", url, body, **more)

    def put(self, url: str, body: Any, **more: Any) -> Answer:
        return self.request("PUT", url, body, **more)

    def delete(self, url: str, **more: Any) -> Answer:
        return self.request("DELETE", url, **more)

    def ok(self, method: str, url: str, body: Any = None, **more: Any) -> Any:
        """Return the JSON of a successful answer."""
        answer = self.request(method, url, body, **more)
        assert 200 <= answer.status < 300, f"{method} {url}: {answer.status} {answer.content.decode(errors='replace')}"
        return json.loads(answer.content) if answer.content else None

    def done(self, operation: dict[str, Any], base: str, timeout: float = 120.0) -> dict[str, Any]:
        """Return the operation (google.longrunning) once it is done; `base` is the API's address with its version."""
        deadline = time.monotonic() + timeout
        while not operation.get("done"):
            assert time.monotonic() < deadline, f"{operation['name']} is not done after {timeout} s"
            time.sleep(0.02)
            operation = self.ok("GET", f"{base.rstrip('/')}/{operation['name']}")
        return operation
