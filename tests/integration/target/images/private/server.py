# SPDX-License-Identifier: Apache-2.0
"""Respond with the name of the revision or version if the database answers; `migrate` succeeds if it does.

PostgreSQL answers a request for TLS before a login; MySQL greets every client.
"""

import http.server
import os
import socket
import struct
import sys

NAME = os.environ.get("K_REVISION") or os.environ.get("GAE_VERSION") or ""
SOCKET = f"/cloudsql/{os.environ['DB_INSTANCE_CONNECTION_NAME']}"
POSTGRESQL = os.environ["DB_TYPE"] == "postgresql"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def reached():
    """Return whether the database answers on its socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{SOCKET}/.s.PGSQL.5432" if POSTGRESQL else SOCKET)
        if POSTGRESQL:
            client.sendall(SSL_REQUEST)
        return client.recv(1) != b""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # Probes are about the server alone.
        self.send_response(200 if self.path == "/health" or reached() else 500)
        self.end_headers()
        self.wfile.write(NAME.encode())


if sys.argv[1:] == ["migrate"]:
    sys.exit(0 if reached() else "the database does not answer")
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
