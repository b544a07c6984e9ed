# SPDX-License-Identifier: Apache-2.0
"""For the sandbox's own tests of what is deployed: a small image, and a client for deployed applications."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from gcp_sandbox.network.app import App
from gcp_sandbox.sandbox import Sandbox
from gcp_sandbox.testing import Client

Json = dict[str, Any]

# Shows its environment and requests; behaves as its environment and the requested paths say.
PROGRAM = """
import http.server, json, os, socket, struct, sys, time
from urllib.parse import parse_qs, urlsplit

if os.environ.get("EXIT"):
    print("exiting", flush=True)
    sys.exit(int(os.environ["EXIT"]))
if "task" in sys.argv:
    print(json.dumps({"args": sys.argv[1:], "env": dict(os.environ)}), flush=True)
    time.sleep(float(os.environ.get("SLEEP", "0")))
    failures = int(os.environ.get("FAIL_UNTIL", "0"))
    sys.exit(1 if int(os.environ["CLOUD_RUN_TASK_ATTEMPT"]) < failures else 0)
time.sleep(float(os.environ.get("DELAY", "0")))
healthy = True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global healthy
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        received = 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                received += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        while received < length:
            received += len(self.rfile.read(min(1 << 20, length - received)))
        status, body = 200, b""
        if url.path == "/env":
            body = json.dumps(dict(os.environ)).encode()
        elif url.path == "/headers":
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        elif url.path == "/pid":
            body = str(os.getpid()).encode()
        elif url.path == "/sleep":
            time.sleep(float(query["seconds"]))
        elif url.path == "/file":
            body = open(query["path"], "rb").read()
        elif url.path == "/postgres":
            with socket.socket(socket.AF_UNIX) as server:
                server.settimeout(60)
                server.connect(f"{query['folder']}/.s.PGSQL.5432")
                server.sendall(struct.pack("!ii", 8, 80877103))  # SSLRequest: a server answers S or N
                try:
                    body = server.recv(1)
                except ConnectionResetError:
                    body = b""
        elif url.path == "/greeting":  # what a server says first, as MySQL's does
            with socket.socket(socket.AF_UNIX) as server:
                server.settimeout(60)
                server.connect(query["path"])
                body = server.recv(200)
        elif url.path == "/big":
            body = b"x" * int(query["size"])
        elif url.path == "/sick":
            healthy = False
        elif url.path == "/health":
            status = 200 if healthy and not os.environ.get("UNHEALTHY") else 500
        elif url.path == "/exit":
            os._exit(3)
        else:
            body = f"{self.command} {self.path} {received}".encode()
        self.send_response(status)
        if "stream" in query:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 1 << 20):
                piece = body[start : start + (1 << 20)]
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET


print("listening", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""

DOCKERFILE = 'FROM python:3.11-slim\nCOPY program.py /srv/program.py\nENTRYPOINT ["python", "/srv/program.py"]\n'


class Web:
    """Asks hosts that the sandbox serves, without a network; one event loop for all requests, as in the daemon."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._app = App(sandbox)
        transport = httpx.ASGITransport(app=self._app, client=("203.0.113.7", 4711))
        self._client = httpx.AsyncClient(transport=transport, timeout=60)

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        """Send one request; redirects are not followed, cookies are not kept."""
        self._client.cookies.clear()
        return asyncio.run_coroutine_threadsafe(self._client.request(method, url, **more), self._loop).result(90)

    def close(self) -> None:
        """End the loop."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._app.close()


class Workbench:
    """A project with APIs enabled, a service account and an image, and requests to what is deployed from it.

    :param apis: to enable, as "run".
    """

    def __init__(self, sandbox: Sandbox, apis: Iterable[str]) -> None:
        self.sandbox = sandbox
        self.api = Client(sandbox)
        self.web = Web(sandbox)
        self.project = sandbox.projects.get(sandbox.settings.project)
        self.account = f"server@{self.project.id}.iam.gserviceaccount.com"
        hosts = [f"{name}.googleapis.com" for name in apis]
        with sandbox.store.transaction():
            sandbox.enablement.enable(self.project, hosts, at_once=True)
            sandbox.identities.service_enabled(self.project, hosts)
            if sandbox.identities.account(self.account) is None:
                sandbox.identities.create_account(self.project, self.account)
        self.image = f"europe-west1-docker.pkg.dev/{self.project.id}/images/program:1"

    def make_image(self, folder: Path) -> None:
        """Build the image and push it under `self.image`."""
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / "program.py").write_text(PROGRAM)
        self.sandbox.images.tag(self.image, self.sandbox.images.build(folder).digest)

    def create_account(self, account_id: str) -> str:
        """Create a service account in the project and return its address."""
        email = f"{account_id}@{self.project.id}.iam.gserviceaccount.com"
        self.sandbox.identities.create_account(self.project, email)
        return email

    def close(self) -> None:
        """End the client."""
        self.web.close()

    def get(self, url: str, **more: Any) -> httpx.Response:
        return self.web.request("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.web.request("POST", url, **more)
