# SPDX-License-Identifier: Apache-2.0
"""Respond to each request with the name of the revision or version; `migrate` does nothing."""

import http.server
import os
import sys

NAME = os.environ.get("K_REVISION") or os.environ.get("GAE_VERSION") or ""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(NAME.encode())


if sys.argv[1:] == ["migrate"]:
    print("the schema is up to date")
else:
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
