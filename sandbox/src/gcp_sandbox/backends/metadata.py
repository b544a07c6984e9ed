# SPDX-License-Identifier: Apache-2.0
"""The metadata server of a running instance: how a container learns where it runs and gets its account's tokens.

One small HTTP server for each instance, at GCE_METADATA_HOST of its environment. Sources on cloud.google.com:
run/docs/container-contract#metadata-server, compute/docs/metadata/predefined-metadata-keys.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

from gcp_sandbox.gateway.identity import CLOUD_PLATFORM, EMAIL_SCOPE

if TYPE_CHECKING:
    from gcp_sandbox.gateway.identity import Identities
    from gcp_sandbox.gateway.projects import Projects

ROOT = "/computeMetadata/v1/"
SCOPES = (CLOUD_PLATFORM, EMAIL_SCOPE, "openid")


class Host(Protocol):
    """The parts of the sandbox that a metadata server uses."""

    projects: Projects
    identities: Identities


class MetadataServer:
    """The metadata server of one instance, on 127.0.0.1.

    :param email: the instance's service account, or a function that returns it each time.
    :param project: project id.
    :param region: "europe-west1".
    :param port: 0 for any; an instance that outlives the sandbox needs the port it was started with.
    """

    def __init__(
        self,
        sandbox: Host,
        *,
        email: str | Callable[[], str],
        project: str,
        region: str,
        port: int = 0,
        instance_id: str = "",
    ) -> None:
        self.sandbox = sandbox
        self.project = project
        self.region = region
        self.port = port
        self.instance_id = instance_id or secrets.token_hex(48)
        self._email = email if callable(email) else lambda: email
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Listen, and return the port. OSError when a given port is taken."""
        server = _Server(("127.0.0.1", self.port), _Handler)
        server.metadata = self
        self._server = server
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, name=f"metadata-{self.port}", daemon=True).start()
        return self.port

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str | dict[str, Any]]:
        """Return (status, text or JSON) of a path below the root; 404 for an unknown path."""
        email = self._email()
        tree = self._tree(email)
        parts = [part for part in path.split("/") if part]
        if parts[:2] == ["instance", "service-accounts"] and len(parts) == 4 and parts[2] in ("default", email):
            if parts[3] == "token":
                return self._token(email, query)
            if parts[3] == "identity":
                return self._identity(email, query)
        node: Any = tree
        for part in parts:
            if not isinstance(node, dict) or part not in node:
                return HTTPStatus.NOT_FOUND, "Not Found"
            node = node[part]
        if isinstance(node, dict):
            if query.get("recursive", "").lower() == "true":
                return HTTPStatus.OK, node
            return HTTPStatus.OK, "".join(
                f"{key}/\n" if isinstance(value, dict) else f"{key}\n" for key, value in node.items()
            )
        if isinstance(node, list):
            return HTTPStatus.OK, "\n".join(node) + "\n"
        return HTTPStatus.OK, str(node)

    def _tree(self, email: str) -> dict[str, Any]:
        project = self.sandbox.projects.get(self.project)
        number = project.number if project else "0"
        account = {"aliases": ["default"], "email": email, "scopes": list(SCOPES)}
        return {
            "instance": {
                "id": self.instance_id,
                "region": f"projects/{number}/regions/{self.region}",
                "service-accounts": {"default": account, email: account},
                "zone": f"projects/{number}/zones/{self.region}-1",
            },
            "project": {"numeric-project-id": int(number), "project-id": self.project},
            "universe": {"universe-domain": "googleapis.com"},
        }

    def _token(self, email: str, query: dict[str, str]) -> tuple[int, str | dict[str, Any]]:
        account = self.sandbox.identities.account(email)
        if account is None or account.get("disabled"):
            return HTTPStatus.NOT_FOUND, f"The service account {email} does not exist or is disabled."
        scopes = query["scopes"].split(",") if query.get("scopes") else SCOPES
        token = self.sandbox.identities.mint_access_token(email, scopes)
        left = self.sandbox.identities.granted_lifetime() - 1
        return HTTPStatus.OK, {"access_token": token, "expires_in": left, "token_type": "Bearer"}

    def _identity(self, email: str, query: dict[str, str]) -> tuple[int, str | dict[str, Any]]:
        if not query.get("audience"):
            return HTTPStatus.BAD_REQUEST, "non-empty audience parameter required"
        account = self.sandbox.identities.account(email)
        if account is None or account.get("disabled"):
            return HTTPStatus.NOT_FOUND, f"The service account {email} does not exist or is disabled."
        return HTTPStatus.OK, self.sandbox.identities.mint_id_token(email, query["audience"])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    metadata: MetadataServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer one request; the two header checks keep a browser or a proxy from being made to fetch tokens."""
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/":
            self._send(HTTPStatus.OK, "computeMetadata/\n")
        elif not url.path.startswith(ROOT):
            self._send(HTTPStatus.NOT_FOUND, "Not Found")
        elif self.headers.get("Metadata-Flavor", "").lower() != "google":
            self._send(HTTPStatus.FORBIDDEN, 'Missing required header "Metadata-Flavor": "Google".')
        elif self.headers.get("X-Forwarded-For"):
            self._send(HTTPStatus.FORBIDDEN, "Request must not contain an X-Forwarded-For header.")
        else:
            self._send(*self.server.metadata.answer(url.path.removeprefix(ROOT), query))

    def _send(self, status: int, content: str | dict[str, Any]) -> None:
        is_json = isinstance(content, dict)
        body = (json.dumps(content) if is_json else content).encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if is_json else "application/text")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "Metadata Server for VM"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: paths carry audiences, and every instance asks every few minutes."""
