# SPDX-License-Identifier: Apache-2.0
"""A server with TLS and a proxy on this machine, for connections that real libraries make."""

from __future__ import annotations

import contextlib
import http.server
import json
import select
import socket
import ssl
import threading

import trustme


class Server:
    """Keeps what arrives as ``METHOD /path`` and answers it with what ``answer(method, path, body)`` returns.

    Through the :class:`Proxy` it is each host of Google's APIs. ``lose`` is the end of a line: the proxy loses the
    first answer to it.
    """

    def __init__(self, folder, answer=lambda method, path, body: (200, {"ok": True})):
        self.arrived = []
        self.headers = []
        self.lose = ""
        self.losing = False
        handler = type("Handler", (_Handler,), {"server_of": self})
        self.answer = answer
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "*.googleapis.com").configure_cert(context)
        self.bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.bundle)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = self._server.server_port
        self.url = f"https://localhost:{self.port}/"

    def writes(self):
        return [line for line in self.arrived if not line.startswith("GET ")]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server_of
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path.partition('?')[0]}"
        server.arrived.append(line)
        server.headers.append(dict(self.headers))
        sent = json.loads(content) if self.headers.get("Content-Type") == "application/json" else {}
        status, body = server.answer(self.command, self.path, sent)
        if server.lose and line.endswith(server.lose):
            server.lose, server.losing = "", True
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *args):
        """Keep the test's output clean."""


class Proxy:
    """A proxy in front of a server. It follows a plan of one word a connection; the last word is for all later ones.

    tunnel   forward both ways, and close the connection instead of forwarding an answer that the server loses
    refuse   answer CONNECT with 502
    hang up  close the connection instead of answering CONNECT
    """

    def __init__(self, server, *plan):
        self._server = server
        self._plan = list(plan)
        self.asked = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            how = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
            threading.Thread(target=self._handle, args=(client, how), daemon=True).start()

    def _handle(self, client, how):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.asked.append(head.decode())
            if how == "refuse":
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            elif how == "tunnel":
                with socket.create_connection(("127.0.0.1", self._server.port)) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._forward(client, server)

    def _forward(self, client, server):
        while True:
            for side in select.select([client, server], [], [])[0]:
                data = side.recv(65536)
                if side is server and self._server.losing:
                    self._server.losing = False
                    return
                if not data:
                    return
                (server if side is client else client).sendall(data)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
