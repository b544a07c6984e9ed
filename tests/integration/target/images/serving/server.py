# SPDX-License-Identifier: Apache-2.0
"""Respond to requests below MLFLOW_STATIC_PREFIX with the name of the revision or version; `migrate` does nothing."""

import http.server
import os
import sys

PREFIX = os.environ.get("MLFLOW_STATIC_PREFIX", "")
NAME = os.environ.get("K_REVISION") or os.environ.get("GAE_VERSION") or ""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path.startswith(PREFIX)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(NAME.encode() if found else b"not found")


if sys.argv[1:] == ["migrate"]:
    print("the schema is up to date")
else:
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
